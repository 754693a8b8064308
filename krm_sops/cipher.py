"""One ``ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`` <-> one value.

Nothing that is raised here quotes what was decrypted: the type word is outside the authenticated data, so a parser
that complains about "its" text would print the plaintext (S10).
"""

from __future__ import annotations

from binascii import a2b_base64

from krm_sops.errors import EncryptedValueError, KrmSopsError, TagMismatch, shown
from krm_sops.primitives import AESGCM, is_invalid_tag
from krm_sops.values import parse_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.tree import Leaf

PREFIX = "ENC[AES256_GCM,data:"


class MistypedError(EncryptedValueError):
    """What was decrypted is not of the type that stands beside it."""


class DataKey:
    """The key of one document: 32 bytes. Its repr shows nothing.  raw: for those who wrap it again."""

    __slots__ = ("_aead", "raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise KrmSopsError(f"the unwrapped data key has {len(raw)} bytes instead of 32")
        self.raw = raw
        self._aead = AESGCM(raw)

    def open(self, iv: bytes, sealed: bytes, aad: bytes) -> bytes | None:
        """The plaintext; None where the tag does not fit.  sealed: ciphertext and its 16-byte tag."""
        try:
            plain: bytes = self._aead.decrypt(iv, sealed, aad)
        except Exception as error:
            if is_invalid_tag(error):
                return None
            raise
        return plain

    def seal(self, iv: bytes, plain: bytes, aad: bytes) -> bytes:
        """Ciphertext and its 16-byte tag.  iv: 32 bytes, never used for anything else under this key."""
        sealed: bytes = self._aead.encrypt(iv, plain, aad)
        return sealed


def decrypt_value(text: str, data_key: DataKey, aad: bytes, path: Sequence[str]) -> Leaf:
    """What `text` holds; the empty string stays empty.

    aad: ``":".join(path) + ":"`` as UTF-8, path being the mapping keys from the root; list positions do not count.
    Text behind the last ``]`` of the first line is ignored, as sops does.
    Raises EncryptedValueError (not this form), TagMismatch (altered, or moved from another path), MistypedError.
    Source: getsops/sops 3.13, aes/cipher.go.
    """
    if not text:
        return ""
    line_end = text.find("\n")
    end = text.rfind("]") if line_end < 0 else text.rfind("]", 0, line_end)
    type_at = text.rfind(",type:", 0, end)
    tag_at = text.rfind(",tag:", 0, type_at)
    iv_at = text.rfind(",iv:", 0, tag_at)
    if not text.startswith(PREFIX) or iv_at <= len(PREFIX) or tag_at <= iv_at + 4 or type_at <= tag_at + 5:
        raise EncryptedValueError("not a value that sops encrypted", path=path)
    try:
        iv = a2b_base64(text[iv_at + 4 : tag_at], strict_mode=True)
        tag = a2b_base64(text[tag_at + 5 : type_at], strict_mode=True)
        data = a2b_base64(text[len(PREFIX) : iv_at], strict_mode=True)
    except ValueError:
        raise EncryptedValueError("an encrypted value with broken base64", path=path) from None
    if len(tag) != 16 or not 8 <= len(iv) <= 128:
        raise EncryptedValueError(f"an encrypted value with a {len(iv)}-byte iv and {len(tag)}-byte tag", path=path)
    plain = data_key.open(iv, data + tag, aad)
    word = text[type_at + 6 : end]
    if plain is None:
        raise TagMismatch(
            "the value does not fit its tag: it was altered, or moved here from another path",
            path=path,
            hint="restore the value as it was encrypted, or encrypt the document again with sops",
        )
    try:
        return parse_plain(plain, word)
    except ValueError:
        pass
    raise MistypedError(f"the decrypted value is no {shown(word, 20)!r}: its type was altered", path=path)


def looks_encrypted(value: object) -> bool:
    return isinstance(value, str) and value.startswith("ENC[AES256_GCM,")
