"""Certificates made here, good ones and broken ones: which key may be encrypted to, and what is not believed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable, KrmSopsError
from krm_sops.host import Host
from krm_sops.keys.pgp import PgpKey
from krm_sops.pgp.algorithms import ALGORITHMS
from krm_sops.pgp.armor import armored, blocks
from krm_sops.pgp.packets import Fields, OpenPgpError, mpi, packet
from krm_sops.pgp.public import Certificate, read_certificates
from tests.pgp_encoder import EcdhKey, RsaKey

NOW = 2_000_000_000
DAY = 86400
ED25519 = bytes.fromhex("2b06010401da470f01")
DATA_KEY = bytes(range(32))


def subpacket(kind: int, content: bytes) -> bytes:
    return bytes((len(content) + 1, kind)) + content


def moment(seconds: int) -> bytes:
    return seconds.to_bytes(4, "big")


class Owner:
    """A primary key for signatures, and what it signs."""

    def __init__(self, created: int = NOW - 100 * DAY) -> None:
        self._private = Ed25519PrivateKey.generate()
        point = b"\x40" + self._private.public_key().public_bytes_raw()
        self.body = b"\x04" + moment(created) + b"\x16" + bytes((len(ED25519),)) + ED25519 + mpi(point)
        self.fingerprint = hashlib.sha1(self.covered(self.body)).digest()

    @staticmethod
    def covered(body: bytes) -> bytes:
        return b"\x99" + len(body).to_bytes(2, "big") + body

    def signature(
        self, kind: int, covered: bytes, *hashed: bytes, made: int = NOW - 50 * DAY, hash_: str = "sha256"
    ) -> bytes:
        issuer = subpacket(33, b"\x04" + self.fingerprint)
        area = b"".join([subpacket(2, moment(made)), issuer, *hashed])
        number = {"sha256": 8, "md5": 1, "sha1": 2}[hash_]
        head = bytes((4, kind, 22, number)) + len(area).to_bytes(2, "big") + area
        trailer = b"\x04\xff" + len(head).to_bytes(4, "big")
        digest = hashlib.new(hash_, self.covered(self.body) + covered + head + trailer).digest()
        signed = self._private.sign(digest)
        return packet(2, head + b"\0\0" + digest[:2] + mpi(signed[:32]) + mpi(signed[32:]))

    def user(self, *hashed: bytes, name: bytes = b"me", **how: Any) -> bytes:
        covered = b"\xb4" + len(name).to_bytes(4, "big") + name
        return packet(13, name) + self.signature(0x13, covered, *hashed, **how)

    def subkey(self, body: bytes, *hashed: bytes, kind: int = 0x18, **how: Any) -> bytes:
        flags = () if hashed else (subpacket(27, b"\x0c"),)
        return packet(14, body) + self.signature(kind, self.covered(body), *flags, *hashed, **how)

    def primary(self) -> bytes:
        return packet(6, self.body)

    @property
    def name(self) -> str:
        return self.fingerprint.hex().upper()


def encryption_key(created: int = NOW - 90 * DAY, secret: EcdhKey | None = None) -> bytes:
    return b"\x04" + moment(created) + b"\x12" + (secret or EcdhKey()).public()


def chosen(owner: Owner, *parts: bytes, exact: str = "", now: int = NOW) -> bytes:
    """The body of the key that is chosen."""
    (certificate,) = read_certificates(owner.primary() + b"".join(parts))
    return certificate.recipient(exact or owner.name, now, exact=bool(exact)).key.body


def refusal(owner: Owner, *parts: bytes) -> str:
    with pytest.raises(OpenPgpError) as caught:
        chosen(owner, *parts)
    return caught.value.message


def test_a_bound_subkey_is_chosen() -> None:
    owner, body = Owner(), encryption_key()
    assert chosen(owner, owner.user(), owner.subkey(body)) == body


def test_flags_that_are_not_stated_are_those_of_the_algorithm() -> None:
    owner, body = Owner(), encryption_key()
    assert chosen(owner, owner.user(), owner.subkey(body, subpacket(30, b"\x01"))) == body


def test_the_newest_signature_of_a_subkey_counts() -> None:
    owner, body = Owner(), encryption_key()
    old = owner.subkey(body, subpacket(9, moment(DAY)), made=NOW - 60 * DAY)
    new = owner.signature(0x18, owner.covered(body), subpacket(27, b"\x04"), made=NOW - 40 * DAY)
    assert chosen(owner, owner.user(), old, new) == body
    assert "has expired" in refusal(owner, owner.user(), old)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"hashed": (subpacket(27, b"\x02"),)}, "may not be used for encryption"),
        ({"hashed": (subpacket(9, moment(DAY)),)}, "has expired"),
        ({"hashed": (subpacket(3, moment(DAY)),)}, "has expired"),
        ({"kind": 0x28}, "was revoked"),
        ({"hashed": (subpacket(0x80 | 100, b"x"),)}, "is not bound"),
        ({"hash_": "md5"}, "is not bound"),
    ],
)
def test_a_subkey_that_may_not_be_encrypted_to(how: dict[str, Any], said: str) -> None:
    owner = Owner()
    hashed = how.pop("hashed", ())
    assert said in refusal(owner, owner.user(), owner.subkey(encryption_key(), *hashed, **how))


def test_a_revocation_counts_whenever_it_was_made() -> None:
    owner, body = Owner(), encryption_key()
    revoked = owner.signature(0x28, owner.covered(body), made=NOW - 80 * DAY)
    assert "was revoked" in refusal(owner, owner.user(), owner.subkey(body), revoked)


def test_a_subkey_of_the_future_is_refused() -> None:
    owner = Owner()
    assert "in the future" in refusal(owner, owner.user(), owner.subkey(encryption_key(NOW + DAY)))


def test_a_subkey_without_the_owners_signature_is_refused() -> None:
    """Anybody could have put it there to read what is encrypted."""
    owner, stranger, body = Owner(), Owner(), encryption_key()
    assert "is not bound" in refusal(owner, owner.user(), packet(14, body))
    assert "is not bound" in refusal(owner, owner.user(), stranger.subkey(body))
    other = encryption_key()
    moved = owner.subkey(other).replace(packet(14, other), packet(14, body))
    assert "is not bound" in refusal(owner, owner.user(), moved)


def test_each_changed_byte_of_what_a_signature_says_is_noticed() -> None:
    owner, body = Owner(), encryption_key()
    good = owner.subkey(body)
    said = range(len(packet(14, body)) + 2, good.index(subpacket(27, b"\x0c")) + 3)
    for at in said:
        bad = bytearray(good)
        bad[at] ^= 1
        refusal(owner, owner.user(), bytes(bad))


def test_a_key_without_a_user_id_of_its_own_is_refused() -> None:
    owner, stranger = Owner(), Owner()
    subkey = owner.subkey(encryption_key())
    assert "no user id" in refusal(owner, subkey)
    assert "no user id" in refusal(owner, stranger.user(), subkey)
    assert "no user id" in refusal(owner, owner.user(subpacket(3, moment(DAY))), subkey)
    covered = b"\xb4" + (2).to_bytes(4, "big") + b"me"
    revoked = owner.signature(0x30, covered, made=NOW - DAY)
    assert "no user id" in refusal(owner, owner.user(), revoked, subkey)


def test_a_direct_signature_stands_in_for_a_user_id() -> None:
    owner, body = Owner(), encryption_key()
    assert chosen(owner, owner.signature(0x1F, b""), owner.subkey(body)) == body


def test_a_revoked_key_is_refused_also_by_a_designated_revoker() -> None:
    owner, revoker = Owner(), Owner()
    rest = owner.user() + owner.subkey(encryption_key())
    assert "was revoked" in refusal(owner, owner.signature(0x20, b""), rest)
    named = owner.signature(0x1F, b"", subpacket(12, b"\x80\x16" + revoker.fingerprint))
    assert "was revoked" in refusal(owner, named, revoker.signature(0x20, owner.covered(owner.body)), rest)
    assert chosen(owner, revoker.signature(0x20, b""), rest), "a stranger revokes nothing"


def test_an_expired_key_is_refused_whatever_its_subkeys_say() -> None:
    owner = Owner()
    subkey = owner.subkey(encryption_key())
    assert "has expired" in refusal(owner, owner.user(subpacket(9, moment(DAY))), subkey)
    direct = owner.signature(0x1F, b"", subpacket(9, moment(DAY)))
    assert "has expired" in refusal(owner, direct, owner.user(), subkey)


def test_an_exact_key_is_the_one_that_was_named() -> None:
    owner, old, new = Owner(), encryption_key(NOW - 90 * DAY), encryption_key(NOW - 10 * DAY)
    parts = (owner.user(), owner.subkey(old), owner.subkey(new))
    name = hashlib.sha1(owner.covered(old)).hexdigest().upper()
    assert chosen(owner, *parts) == new
    assert chosen(owner, *parts, exact=name) == old
    assert chosen(owner, *parts, exact=name[-16:]) == old
    with pytest.raises(OpenPgpError, match="is for signatures"):
        chosen(owner, *parts, exact=owner.name)


def keybox(*certificates: bytes) -> bytes:
    """A header, an empty blob, and one for each certificate."""
    header = bytes((0, 0, 0, 32, 1, 1, 0, 2)) + b"KBXf" + bytes(20)
    found = header + bytes((0, 0, 0, 8, 0, 0, 0, 0))
    for content in certificates:
        head = bytes((2, 1, 0, 0)) + (20).to_bytes(4, "big") + len(content).to_bytes(4, "big") + bytes(4)
        found += (len(head) + 4 + len(content)).to_bytes(4, "big") + head + content
    return found


def test_a_keybox_is_read_past_what_cannot_be() -> None:
    first, second = Owner(), Owner()
    parts = [owner.primary() + owner.user() + owner.subkey(encryption_key()) for owner in (first, second)]
    found = read_certificates(keybox(parts[0], b"\x99damaged", parts[1]))
    assert [certificate.primary.name for certificate in found] == [first.name, second.name]
    with pytest.raises(OpenPgpError, match="keybox is damaged"):
        read_certificates(keybox(parts[0])[:-1])


def test_keys_of_other_versions_are_passed_over() -> None:
    owner = Owner()
    other = packet(6, b"\x06" + owner.body[1:]) + owner.user()
    found = read_certificates(other + owner.primary() + owner.user() + packet(14, b"\x03" + encryption_key()[1:]))
    assert [certificate.primary.name for certificate in found] == [owner.name]


CERTIFICATE = Owner()
RING = CERTIFICATE.primary() + CERTIFICATE.user() + CERTIFICATE.subkey(encryption_key())


@given(st.integers(0, len(RING) - 1), st.binary(min_size=1, max_size=3), st.booleans())
def test_any_bytes_give_a_key_or_an_error(at: int, noise: bytes, boxed: bool) -> None:
    data = RING[:at] + noise + RING[at + len(noise) :]
    try:
        for certificate in read_certificates(keybox(data) if boxed else data):
            assert isinstance(certificate, Certificate)
            certificate.recipient(certificate.primary.name, NOW, exact=False)
    except KrmSopsError:
        pass


@given(st.binary(max_size=300))
def test_armor_is_read_as_it_was_written(data: bytes) -> None:
    text = armored("MESSAGE", data)
    assert blocks(text.encode()) == [("MESSAGE", data)]
    assert max(map(len, text.split("\n"))) <= 64


@pytest.mark.parametrize("number", [25, 26])
def test_keys_of_the_newer_algorithms_open_what_is_wrapped_for_them(number: int) -> None:
    private: Any = X25519PrivateKey.generate() if number == 25 else X448PrivateKey.generate()
    algorithm = ALGORITHMS[number](Fields(private.public_key().public_bytes_raw()))
    wrapped = algorithm.wrap(DATA_KEY, 9, b"")
    opened = algorithm.open(algorithm.load(Fields(private.private_bytes_raw())), Fields(wrapped), 3, b"")
    assert (opened.cipher, opened.key) == (9, DATA_KEY)


def test_a_key_that_is_no_point_or_too_small_is_refused() -> None:
    for body, said in (
        (encryption_key()[:-36] + bytes(32) + b"\x03\x01\x08\x07", "no point of the curve"),
        (b"\x04" + moment(0) + b"\x01" + mpi(b"\xff" * 64) + mpi(b"\x03"), "bits, less than"),
        (b"\x04" + moment(0) + b"\x19" + bytes(32), "low order"),
        (encryption_key().replace(b"\x03\x01\x08\x07", b"\x03\x01\x02\x07"), "key derivation"),
    ):
        fields = Fields(body[6:])
        algorithm = ALGORITHMS[body[5]](fields)
        with pytest.raises(OpenPgpError, match=said):
            algorithm.wrap(DATA_KEY, 9, bytes(20))


@pytest.mark.parametrize("secret", [EcdhKey(), RsaKey()], ids=["ecdh", "rsa"])
def test_what_is_wrapped_for_a_key_file_opens_with_its_secret_key(secret: Any) -> None:
    owner = Owner(1_000_000_000)
    body = secret.head()
    ring = owner.primary() + owner.user(made=1_000_000_001) + owner.subkey(body, made=1_000_000_001)
    given_public = Credentials(Host(env={}, files={}), [KeyEntry("pgp", "a.asc", ring, "test")])
    key = PgpKey(owner.name, "").wrap(DATA_KEY, given_public)
    given_secret = Credentials(Host(env={}, files={}), [KeyEntry("pgp", "a.asc", secret.armored(), "test")])
    assert key.unwrap(given_secret) == DATA_KEY
    assert key.fields() == {"fp": owner.name, "enc": key.enc, "created_at": key.created_at}


def test_a_key_that_is_not_at_hand_says_how_to_get_it() -> None:
    with pytest.raises(KeyUnavailable, match="not at hand") as caught:
        PgpKey("F" * 40, "").wrap(DATA_KEY, Credentials(Host(env={}, files={})))
    assert "gpg --import" in caught.value.hint


def test_keyrings_are_read_only_where_ambient_keys_may_be() -> None:
    owner = Owner(1_000_000_000)
    secret = EcdhKey()
    ring = owner.primary() + owner.user(made=1_000_000_001) + owner.subkey(secret.head(), made=1_000_000_001)
    host = Host(env={"HOME": "/home/me"}, files={"/home/me/.gnupg/pubring.kbx": keybox(ring)})
    assert PgpKey(owner.name, "").wrap(DATA_KEY, Credentials(host)).enc
    with pytest.raises(KeyUnavailable, match="not at hand"):
        PgpKey(owner.name, "").wrap(DATA_KEY, Credentials(host, ambient="never"))
