"""SSH keys as age identities: every file format, protected or not, and the native identity of an Ed25519 key."""

from __future__ import annotations

import base64
import hashlib
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.age import HeaderError, IdentityError, NoMatch
from krm_sops.age.format import File, decrypt
from krm_sops.age.identities import Reader
from krm_sops.age.ssh_ed25519 import SshEd25519Identity, age_identity, age_recipient, fingerprint, montgomery
from krm_sops.age.ssh_key import SshKeyFile
from tests.agefile import FILE_KEY, ChaCha20Poly1305, b64, for_recipient, hkdf, make, stanza

ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.generate_private_key(65537, 2048)
PROTECTED = BestAvailableEncryption(b"secret")
try:
    import bcrypt
except ImportError:
    bcrypt = None  # type: ignore[assignment]
needs_bcrypt = pytest.mark.skipif(bcrypt is None, reason="no bcrypt")


def file_of(key: Any, form: PrivateFormat, protection: Any = None) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, form, protection or NoEncryption()))


def line_of(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def blob_of(key: Any) -> bytes:
    return base64.b64decode(line_of(key).split()[1])


def for_ed25519(key: Any = ED25519, share_of: bytes = b"\7" * 32, tag: str = "") -> str:
    label = b"age-encryption.org/v1/ssh-ed25519"
    blob = blob_of(key)
    public = montgomery(key.public_key().public_bytes_raw())
    ephemeral = X25519PrivateKey.from_private_bytes(share_of)
    share = ephemeral.public_key().public_bytes_raw()
    secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    tweak = X25519PrivateKey.from_private_bytes(hkdf(b"", blob, label))
    secret = tweak.exchange(X25519PublicKey.from_public_bytes(secret))
    body = ChaCha20Poly1305(hkdf(secret, share + public, label)).encrypt(bytes(12), FILE_KEY, None)
    return stanza("ssh-ed25519", [tag or fingerprint(blob), b64(share)], body)


def for_rsa(key: Any = RSA, file_key: bytes = FILE_KEY) -> str:
    padding = OAEP(MGF1(SHA256()), SHA256(), b"age-encryption.org/v1/ssh-rsa")
    return stanza("ssh-rsa", [fingerprint(blob_of(key))], key.public_key().encrypt(file_key, padding))


def read(data: bytes, ask: Any = None, public: bytes = b"") -> Any:
    (identity,) = Reader(ask).read(data, "id", (lambda: public) if public else None)
    return identity


PLAIN_FILES = [
    pytest.param(file_of(ED25519, PrivateFormat.OpenSSH), for_ed25519(), ED25519, id="ed25519 openssh"),
    pytest.param(file_of(ED25519, PrivateFormat.PKCS8), for_ed25519(), ED25519, id="ed25519 pkcs8"),
    pytest.param(file_of(RSA, PrivateFormat.OpenSSH), for_rsa(), RSA, id="rsa openssh"),
    pytest.param(file_of(RSA, PrivateFormat.PKCS8), for_rsa(), RSA, id="rsa pkcs8"),
    pytest.param(file_of(RSA, PrivateFormat.TraditionalOpenSSL), for_rsa(), RSA, id="rsa pkcs1"),
]


@pytest.mark.parametrize(("data", "wrapped", "key"), PLAIN_FILES)
def test_a_plain_key_opens_what_is_for_it(data: bytes, wrapped: str, key: Any) -> None:
    identity = read(data)
    assert not identity.costly
    assert decrypt(make([wrapped], b"data"), [identity], 100) == b"data"
    opener = identity.opener_for(line_of(key) + " somebody@host")
    assert opener is not None
    assert identity.opener_for("ssh-ed25519 AAAA") is None
    assert identity.label == f"{line_of(key).split()[0]} SHA256:{b64(hashlib.sha256(blob_of(key)).digest())}"


@pytest.mark.parametrize(("data", "wrapped", "key"), PLAIN_FILES)
def test_a_key_does_not_open_what_is_for_another(data: bytes, wrapped: str, key: Any) -> None:
    other_ed = ed25519.Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    stanzas = [
        for_ed25519(other_ed),
        stanza("ssh-rsa", ["AAAAAA"], bytes(256)),
        for_recipient(age_identity(b"\2" * 32).recipient),
    ]
    with pytest.raises(NoMatch):
        decrypt(make(stanzas, b"data"), [read(data)], 100)


def test_an_ed25519_key_is_also_the_native_identity_of_ssh_to_age() -> None:
    """sops-nix encrypts for the age recipient of a host key, and decrypts with that SSH key."""
    identity = read(file_of(ED25519, PrivateFormat.OpenSSH))
    recipient = age_recipient(ED25519.public_key().public_bytes_raw())
    wrapped = make([for_recipient(recipient)], b"data")
    assert decrypt(wrapped, [identity], 100) == b"data"
    assert identity.opener_for(recipient) is not None


@given(st.binary(min_size=32, max_size=32))
def test_public_and_private_conversion_agree(seed: bytes) -> None:
    point = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert age_recipient(point) == age_identity(seed).recipient


def test_the_neutral_point_converts_to_zero() -> None:
    assert montgomery((1).to_bytes(32, "little")) == bytes(32)


PROTECTED_FILES = [
    pytest.param(
        file_of(ED25519, PrivateFormat.OpenSSH, PROTECTED) if bcrypt else b"",
        for_ed25519(),
        ED25519,
        marks=needs_bcrypt,
        id="ed25519 openssh",
    ),
    pytest.param(
        file_of(RSA, PrivateFormat.OpenSSH, PROTECTED) if bcrypt else b"",
        for_rsa(),
        RSA,
        marks=needs_bcrypt,
        id="rsa openssh",
    ),
    pytest.param(file_of(RSA, PrivateFormat.PKCS8, PROTECTED), for_rsa(), RSA, id="rsa pkcs8"),
    pytest.param(file_of(RSA, PrivateFormat.TraditionalOpenSSL, PROTECTED), for_rsa(), RSA, id="rsa pkcs1"),
    pytest.param(file_of(ED25519, PrivateFormat.PKCS8, PROTECTED), for_ed25519(), ED25519, id="ed25519 pkcs8"),
]


@pytest.mark.parametrize(("data", "wrapped", "key"), PROTECTED_FILES)
def test_a_protected_key_asks_once_and_only_where_it_is_the_one(data: bytes, wrapped: str, key: Any) -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "secret"

    identity = read(data, ask, line_of(key).encode())
    assert identity.costly
    assert identity.unwrap([]) is None
    assert identity.opener_for(line_of(key)) is not None
    assert prompts == []
    for _ in range(2):
        assert decrypt(make([wrapped], b"data"), [identity], 100) == b"data"
    assert prompts == ["Enter passphrase for id: "]


@pytest.mark.parametrize(("data", "wrapped", "key"), PROTECTED_FILES)
def test_a_wrong_passphrase_is_one_failure(data: bytes, wrapped: str, key: Any) -> None:
    asked = []
    identity = read(data, lambda prompt: asked.append(prompt) or "wrong", line_of(key).encode())
    for _ in range(2):
        with pytest.raises(IdentityError, match="wrong passphrase"):
            decrypt(make([wrapped], b"data"), [identity], 100)
    assert len(asked) == 1


@pytest.mark.parametrize(("data", "wrapped", "key"), PROTECTED_FILES)
def test_without_anybody_to_ask_a_protected_key_says_so(data: bytes, wrapped: str, key: Any) -> None:
    with pytest.raises(IdentityError, match="nobody to ask"):
        decrypt(make([wrapped], b"data"), [read(data, None, line_of(key).encode())], 100)


@needs_bcrypt
def test_a_protected_ed25519_key_unlocks_for_its_native_recipient_only() -> None:
    identity = read(file_of(ED25519, PrivateFormat.OpenSSH, PROTECTED), lambda _: "secret")
    mine = age_recipient(ED25519.public_key().public_bytes_raw())
    assert identity.opener_for(age_identity(b"\2" * 32).recipient) is None
    opener = identity.opener_for(mine)
    assert isinstance(identity, SshKeyFile)
    assert opener is not None
    assert opener(File(make([for_recipient(mine)], b"data")).stanzas) == FILE_KEY


def test_without_bcrypt_a_protected_openssh_key_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    identity = SshKeyFile(b"-----BEGIN OPENSSH PRIVATE KEY-----", blob_of(ED25519), "id", lambda _: "x", protected=True)
    with pytest.raises(IdentityError, match="needs the Python package bcrypt") as caught:
        decrypt(make([for_ed25519()], b"data"), [identity], 100)
    assert "krm-sops[ssh]" in caught.value.hint


def test_a_protected_pem_file_needs_its_public_half_beside_it() -> None:
    data = file_of(RSA, PrivateFormat.PKCS8, PROTECTED)
    for public in (b"", b"ssh-rsa", b"ssh-rsa !"):
        with pytest.raises(IdentityError, match=r"no \.pub file") as caught:
            read(data, lambda _: "secret", public)
        assert "ssh-keygen" in caught.value.hint


def test_a_public_half_of_another_key_is_noticed() -> None:
    other = rsa.generate_private_key(65537, 2048)
    identity = read(file_of(other, PrivateFormat.PKCS8, PROTECTED), lambda _: "secret", line_of(RSA).encode())
    with pytest.raises(IdentityError, match="is not the one"):
        decrypt(make([for_rsa()], b"data"), [identity], 100)


OPENSSH = file_of(ED25519, PrivateFormat.OpenSSH)


@pytest.mark.parametrize(
    "data",
    [
        file_of(ec.generate_private_key(ec.SECP256R1()), PrivateFormat.OpenSSH),
        OPENSSH.replace(b"b3BlbnNz", b"B3BlbnNz"),
        OPENSSH[: len(OPENSSH) // 2],
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nA\n-----END OPENSSH PRIVATE KEY-----\n",
    ],
    ids=["ecdsa", "magic", "cut", "empty", "base64"],
)
def test_a_file_that_is_no_usable_openssh_key_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(IdentityError, match=r"malformed OpenSSH|cannot be used"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        file_of(ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\n",
    ],
    ids=["ecdsa", "content", "cut"],
)
def test_a_pem_file_that_is_no_usable_key_is_refused_when_needed(data: bytes) -> None:
    identity = read(data)
    for _ in range(2):
        with pytest.raises(IdentityError, match=r"malformed SSH|other than Ed25519 and RSA"):
            identity.unwrap([])


@given(st.integers(0, len(OPENSSH) - 1), st.integers(0, 255))
def test_any_damage_to_a_key_file_is_an_identity_error_or_harmless(at: int, byte: int) -> None:
    data = OPENSSH[:at] + bytes([byte]) + OPENSSH[at + 1 :]
    try:
        identity = read(data)
        identity.unwrap([])
    except IdentityError:
        return
    assert isinstance(identity, (SshEd25519Identity, SshKeyFile))


@pytest.mark.parametrize(
    "bad",
    [
        stanza("ssh-ed25519", ["AAAAAA"], bytes(32)),
        stanza("ssh-ed25519", ["AAAAAA", b64(bytes(31))], bytes(32)),
        stanza("ssh-ed25519", ["AAAAAA", b64(bytes(32)) + "="], bytes(32)),
        stanza("ssh-ed25519", [fingerprint(blob_of(ED25519)), b64(bytes(32))], bytes(32)),
    ],
    ids=["arguments", "short share", "padded share", "low order"],
)
def test_a_malformed_ed25519_stanza_is_refused(bad: str) -> None:
    with pytest.raises(HeaderError):
        decrypt(make([bad], b"data"), [read(OPENSSH)], 100)


def test_a_stanza_with_the_same_short_fingerprint_is_passed_over() -> None:
    """Four bytes may be equal by chance: the key's own stanza behind it still opens."""
    other = ed25519.Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    alike = for_ed25519(other, tag=fingerprint(blob_of(ED25519)))
    longer = stanza("ssh-ed25519", [fingerprint(blob_of(ED25519)), b64(b"\t" * 32)], bytes(40))
    assert decrypt(make([alike, longer, for_ed25519()], b"data"), [read(OPENSSH)], 100) == b"data"
    alike = stanza("ssh-rsa", [fingerprint(blob_of(RSA))], bytes(range(256)))
    wrong_size = for_rsa(file_key=b"short")
    rsa_file = file_of(RSA, PrivateFormat.PKCS8)
    assert decrypt(make([alike, wrong_size, for_rsa()], b"data"), [read(rsa_file)], 100) == b"data"


@pytest.mark.parametrize("args", [[], ["AAAAAA", "x"]])
def test_a_malformed_rsa_stanza_is_refused(args: list[str]) -> None:
    with pytest.raises(HeaderError):
        decrypt(make([stanza("ssh-rsa", args, bytes(256))], b"data"), [read(file_of(RSA, PrivateFormat.PKCS8))], 100)
