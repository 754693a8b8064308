"""age files and keys of other projects: C2SP's vectors, sops' own key tests, keys to parse and to convert."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import pytest

from krm_sops.age import AgeError, ArmorError, HeaderError, MacError, NoMatch, PayloadError
from krm_sops.age.format import File, dearmor, decrypt
from krm_sops.age.hybrid import PREFIX as HYBRID
from krm_sops.age.hybrid import HybridIdentity
from krm_sops.age.identities import Reader
from krm_sops.age.scrypt import ScryptIdentity
from krm_sops.age.ssh_ed25519 import SshEd25519Identity
from krm_sops.age.x25519 import X25519Identity
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import WrongKey
from krm_sops.host import Host
from krm_sops.keys.age import AgeKey
from tests.corpus import cases, needs_corpus, path

pytestmark = needs_corpus
LAYERS = {
    "header failure": HeaderError,
    "HMAC failure": MacError,
    "payload failure": PayloadError,
    "armor failure": ArmorError,
    "no match": NoMatch,
}
LARGE = 1 << 30


def by_id(*kinds: str, only_good: bool = False) -> Any:
    chosen = [case for case in cases(*kinds) if not (only_good and case.get("expect_error"))]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case["id"])


class Vector:
    """A vector of the C2SP test kit: header lines, an empty line, the age file."""

    def __init__(self, raw: bytes) -> None:
        header, _, self.file = raw.partition(b"\n\n")
        fields = [line.partition(": ")[::2] for line in header.decode().splitlines()]
        self.identities: list[Any] = []
        self.payload = ""
        self.armored = False
        for name, value in fields:
            if name == "expect":
                self.expect = value
            elif name == "payload":
                self.payload = value
            elif name == "identity":
                self.identities.append((HybridIdentity if value.startswith(HYBRID) else X25519Identity).parse(value))
            elif name == "passphrase":
                self.identities.append(ScryptIdentity(lambda value=value: value, 18))
            elif name == "armored":
                self.armored = True
            elif name == "compressed":
                self.file = zlib.decompress(self.file)

    def raw(self) -> bytes:
        return dearmor(self.file) if self.armored else self.file


@by_id("age-testkit")
def test_a_vector_fails_in_its_layer_or_gives_its_payload(case: dict[str, Any]) -> None:
    vector = Vector(path(case["file"]).read_bytes())
    if vector.expect == "success":
        payload = decrypt(vector.raw(), vector.identities, LARGE)
        assert hashlib.sha256(payload).hexdigest() == vector.payload
    else:
        with pytest.raises(AgeError) as caught:
            decrypt(vector.raw(), vector.identities, LARGE)
        assert type(caught.value) is LAYERS[vector.expect], caught.value


@by_id("age-testkit", only_good=True)
def test_what_is_accepted_has_one_spelling(case: dict[str, Any]) -> None:
    """Written again from what was parsed, a header is the same bytes: nothing in it is read in two ways."""
    vector = Vector(path(case["file"]).read_bytes())
    written = b"age-encryption.org/v1\n" + b"".join(stanza.write() for stanza in File(vector.raw()).stanzas) + b"---"
    assert vector.raw().startswith(written + b" ")


def credentials_of(case: dict[str, Any]) -> Credentials:
    passphrase = case.get("passphrase")
    entries = [KeyEntry("age", name, path(name).read_bytes(), "corpus") for name in case["key_files"]]
    return Credentials(Host(env={}, files={}, ask=(lambda _: passphrase) if passphrase else None), entries)


@by_id("age")
def test_a_data_key_of_sops_opens_with_its_identity_only(case: dict[str, Any]) -> None:
    key = AgeKey.from_fields({"recipient": "", "enc": path(case["file"]).read_text()})
    if case["expect_error"]:
        assert case["error_kind"] == "no_matching_key"
        with pytest.raises(WrongKey):
            key.unwrap(credentials_of(case))
    else:
        assert key.unwrap(credentials_of(case)) == case["expected_inline"].encode()


@by_id("key-parse")
def test_an_identity_file_parses(case: dict[str, Any]) -> None:
    (identity,) = Reader().read(path(case["file"]).read_bytes(), case["id"])
    expected = (case.get("expected_inline") or {}).get("recipient")
    if expected:
        assert isinstance(identity, HybridIdentity)
        assert identity.recipient == expected
    else:
        assert isinstance(identity, SshEd25519Identity)


@by_id("key-convert")
def test_an_ssh_key_converts_to_its_age_identity(case: dict[str, Any]) -> None:
    (identity,) = Reader().read(path(case["file"]).read_bytes(), case["id"])
    assert isinstance(identity, SshEd25519Identity)
    assert identity.age.secret() == case["expected_inline"]
