"""OpenPGP messages: what opens, and what is refused before and after the private key."""

from __future__ import annotations

import bz2
import os
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.decrepit.ciphers import algorithms as old
from cryptography.hazmat.primitives.ciphers import algorithms
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import KeyUnavailable, KrmSopsError, WrongKey
from krm_sops.pgp.algorithms import SessionKey
from krm_sops.pgp.encrypted import read_encrypted
from krm_sops.pgp.keys import SecretKey, read_ring
from krm_sops.pgp.message import Message
from krm_sops.pgp.packets import OpenPgpError, packets
from tests.pgp_encoder import (
    DATA_KEY,
    P256,
    WILDCARD,
    EcdhKey,
    RsaKey,
    armor,
    checksum,
    literal,
    message,
    mpi,
    ocb,
    old_packet,
    packet,
    partial_packet,
    seipd1,
    seipd2,
)

VECTORS = sorted((Path(__file__).parent.parent / "vectors/pgp").glob("*.msg"))
RSA = RsaKey()
ECDH = EcdhKey()
NIST = EcdhKey(P256)
SESSION = bytes(range(32))
MARKER = packet(10, b"PGP")
PADDING = packet(21, os.urandom(20))
SIGNATURE = packet(2, b"\x04" + bytes(50))
ONE_PASS = packet(4, b"\x03" + bytes(12))


def nobody(key: SecretKey) -> list[bytes]:
    return []


def opened(text: bytes, *keys: bytes, passphrases: Any = nobody) -> bytes:
    ring = [key for data in keys for key in read_ring(data)]
    return Message.read(text).open(ring, passphrases)


def failure(text: bytes, *keys: bytes) -> tuple[type[BaseException], str]:
    with pytest.raises((KeyUnavailable, WrongKey)) as caught:
        opened(text, *keys)
    return type(caught.value), str(caught.value)


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 15


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_what_another_implementation_encrypted_opens(path: Path) -> None:
    def given_later(key: SecretKey) -> list[bytes]:
        return [b"no", b"correct horse"]

    ring = path.with_suffix(".asc").read_bytes()
    if path.stem.endswith("eax"):
        with pytest.raises(OpenPgpError, match="EAX is not supported"):
            opened(path.read_bytes(), ring)
    else:
        assert opened(path.read_bytes(), ring, passphrases=given_later) == bytes(range(32))


def test_the_ocb_packet_of_the_librepgp_draft_opens() -> None:
    """draft-koch-librepgp, appendix "Complete OCB encrypted packet sequence": session key, packet and content."""
    sample = bytes.fromhex(
        "d4490107020e5ed2bc1e470abe8f1d644c7a6c8a567b0f7701196611a154ba9c2574cd056284a8ef68035c"
        "623d93cc708a43211bb6eaf2b27f7c18d571bcd83b20add3a08b73af15b9a098"
    )
    ((tag, body),) = packets(sample)
    session = SessionKey(7, bytes.fromhex("d1f01ba30e130aa7d2582c16e050ae44"))
    clear = read_encrypted(tag, body).open(session)
    assert clear is not None
    assert clear.endswith(b"Hello, world!\n")


@pytest.mark.parametrize("key", [RSA, ECDH, NIST], ids=["RSA", "Curve25519", "P-256"])
@pytest.mark.parametrize("recipient", [None, WILDCARD], ids=["named", "hidden"])
def test_a_message_opens_with_its_key_named_or_hidden(key: Any, recipient: bytes | None) -> None:
    other = EcdhKey().armored()
    assert opened(message(key, recipient=recipient), other, key.armored()) == DATA_KEY


@pytest.mark.parametrize("tag", [5, 7])
def test_primary_keys_open_messages_as_subkeys_do(tag: int) -> None:
    """Keys are chosen by id alone: there is no signature, flag or date in these rings."""
    assert opened(message(RSA), RSA.armored(tag=tag)) == DATA_KEY


@pytest.mark.parametrize(
    ("number", "algorithm", "octets", "block"),
    [
        (2, old.TripleDES, 24, 8),
        (3, old.CAST5, 16, 8),
        (7, algorithms.AES, 16, 16),
        (8, algorithms.AES, 24, 16),
        (9, algorithms.AES, 32, 16),
        (11, old.Camellia, 16, 16),
        (12, old.Camellia, 24, 16),
        (13, old.Camellia, 32, 16),
    ],
)
def test_every_cipher_that_cryptography_offers_opens(number: int, algorithm: Any, octets: int, block: int) -> None:
    session = os.urandom(octets)
    data = seipd1(session, literal(), algorithm=algorithm, block=block)
    assert opened(armor("MESSAGE", RSA.pkesk(session, number) + data), RSA.armored()) == DATA_KEY


@pytest.mark.parametrize(
    "inside",
    [
        literal(),
        literal(form=b"u", name=b"key.bin"),
        old_packet(11, literal()[6:]),
        old_packet(11, literal()[6:], indeterminate=True),
        partial_packet(11, literal()[6:], 3),
        packet(8, b"\0" + literal()),
        packet(8, b"\1" + zlib.compress(literal())[2:-4]),
        packet(8, b"\2" + zlib.compress(literal())),
        packet(8, b"\3" + bz2.compress(literal())),
        old_packet(8, b"\2" + zlib.compress(literal()), indeterminate=True),
        MARKER + ONE_PASS + literal() + SIGNATURE + PADDING,
        packet(8, b"\2" + zlib.compress(ONE_PASS + literal() + SIGNATURE)),
    ],
    ids=lambda value: value if isinstance(value, str) else "packets",
)
def test_the_literal_is_found_however_it_is_packed(inside: bytes) -> None:
    assert opened(message(RSA, inside), RSA.armored()) == DATA_KEY


def test_line_ends_of_a_text_literal_stay_as_they_are() -> None:
    """gpg drops the carriage returns here, and so changes a data key that holds them; bytes are bytes."""
    text = b"\r\n".ljust(32, b"\r")
    assert opened(message(RSA, literal(text, b"t")), RSA.armored()) == text


def test_packets_of_the_message_come_in_either_format() -> None:
    pkesk, data = RSA.pkesk(SESSION), seipd1(SESSION, literal())
    for text in (
        MARKER + pkesk + data + PADDING,
        old_packet(1, pkesk[6:]) + data,
        pkesk + partial_packet(18, data[6:], 5),
        pkesk + b"\xd2" + bytes((len(data) - 6,)) + data[6:],
    ):
        assert opened(text, RSA.packet()) == DATA_KEY


def test_armor_is_read_as_leniently_as_others_read_it() -> None:
    plain = message(ECDH)
    key = ECDH.armored()
    body = plain.decode()
    lines = body.splitlines()
    for text in (
        body.replace("\n", "\r\n"),
        "\ufeff" + body,
        f"some text\n{body}more text",
        "\n".join("  " + line + " " for line in lines),
        body.replace("-----\n\n", "-----\nVersion: GnuPG v2\nComment: a: b\n\n", 1),
        "\n".join([*lines[:-1], "=AAAA", lines[-1]]),
    ):
        assert opened(text.encode(), key) == DATA_KEY


def test_a_message_for_several_recipients_opens_with_any_of_them() -> None:
    text = armor("MESSAGE", RSA.pkesk(SESSION) + ECDH.pkesk(SESSION) + NIST.pkesk(SESSION) + seipd1(SESSION, literal()))
    for key in (RSA, ECDH, NIST):
        assert opened(text, key.armored()) == DATA_KEY


def test_a_broken_recipient_does_not_hide_a_good_one() -> None:
    text = armor("MESSAGE", RSA.raw(12345) + ECDH.pkesk(SESSION) + seipd1(SESSION, literal()))
    assert opened(text, RSA.armored(), ECDH.armored()) == DATA_KEY


def v6_pkesk(key: Any, session: bytes) -> bytes:
    wrapped = key.wrap(session + checksum(session))
    return packet(1, b"\6\x15\4" + key.fingerprint + bytes((key.algorithm,)) + wrapped)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 128, 200])
def test_chunked_data_opens_at_every_boundary(length: int) -> None:
    inside = literal(os.urandom(length))
    expected = inside[12:]
    for key in (RSA, ECDH):
        assert opened(key.pkesk(SESSION) + ocb(SESSION, inside), key.packet()) == expected
        for aead in (2, 3):
            assert opened(v6_pkesk(key, SESSION) + seipd2(SESSION, inside, aead), key.packet()) == expected


# Refused before any private key is used


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (RSA.pkesk(SESSION) + packet(9, seipd1(SESSION, literal())[7:]), "no integrity protection"),
        (packet(3, b"\4\x09\x03\x08" + bytes(9)) + seipd1(SESSION, literal()), "with a passphrase"),
        (RSA.pkesk(SESSION) + packet(3, b"\4\x09\0\x08") + seipd1(SESSION, literal()), "with a passphrase"),
        (literal(), "not encrypted"),
        (ONE_PASS + literal() + SIGNATURE, "not encrypted"),
        (packet(8, b"\0" + literal()), "not encrypted"),
        (RSA.pkesk(SESSION), "without encrypted data"),
        (seipd1(SESSION, literal()), "without recipients"),
        (b"", "without encrypted data"),
        (RSA.pkesk(SESSION) + seipd1(SESSION, literal()) + literal(), "follows the encrypted data"),
        (RSA.pkesk(SESSION) + seipd1(SESSION, literal()) * 2, "follows the encrypted data"),
        (RSA.pkesk(SESSION) * 17 + seipd1(SESSION, literal()), "more than 16 recipients"),
        (RSA.pkesk(SESSION) + seipd1(SESSION, literal(bytes(1 << 18))), "holds no data key"),
        (partial_packet(1, RSA.pkesk(SESSION)[6:], 4) + seipd1(SESSION, literal()), "partial length"),
        (RSA.pkesk(SESSION)[:-9] + seipd1(SESSION, literal()), "."),
        (RSA.pkesk(SESSION) + packet(18, b"\3" + bytes(60)), "type 18, version 3"),
        (RSA.pkesk(SESSION) + packet(18, b""), "in the middle"),
        (RSA.pkesk(SESSION) + packet(20, b"\1\x09\1\0" + bytes(60)), "EAX is not supported"),
        (RSA.pkesk(SESSION) + packet(20, b"\1\x0b\2\0" + bytes(60)), "only AES is"),
        (RSA.pkesk(SESSION) + packet(20, b"\1\x09\2\x11" + bytes(60)), "in chunks of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "packets",
)
def test_s20_what_is_no_encrypted_message_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(OpenPgpError, match=reason):
        opened(armor("MESSAGE", content), RSA.armored())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nothing",
        b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n",
        b"-----BEGIN PGP MESSAGE-----\n\nA*AA\n-----END PGP MESSAGE-----\n",
        RSA.armored(),
        message(RSA) + message(RSA),
    ],
    ids=lambda value: value if isinstance(value, str) else "packets",
)
def test_what_is_not_one_armored_message_is_refused(text: bytes) -> None:
    with pytest.raises(OpenPgpError):
        opened(text, RSA.armored())


# Wrong keys


def test_a_message_for_others_says_for_whom_and_how_many_keys_are_at_hand() -> None:
    kind, text = failure(message(RSA), ECDH.armored(), NIST.armored())
    assert kind is WrongKey
    assert text == f"no secret key for {RSA.key_id.hex().upper()} (2 at hand)"


def test_a_hidden_recipient_that_no_key_opens_is_a_wrong_key() -> None:
    kind, text = failure(message(RSA, recipient=WILDCARD), RsaKey(1).armored(), ECDH.armored())
    assert (kind, text) == (WrongKey, "no secret key for an anonymous recipient (2 at hand)")


# S19: one answer for everything that fails after the private key


def broken_for(key: Any) -> dict[str, bytes]:
    good = seipd1(SESSION, literal())
    right = bytes((9,)) + SESSION + checksum(SESSION)
    found = {
        "checksum": key.pkesk(SESSION, payload=right[:-1] + bytes((right[-1] ^ 1,))) + good,
        "algorithm": key.pkesk(SESSION, 99) + good,
        "length": key.pkesk(SESSION[:-1], 9) + good,
        "empty": key.pkesk(SESSION, payload=b"\x09") + good,
        "another session key": key.pkesk(bytes(32)) + good,
        "another cipher": key.pkesk(SESSION, 13) + good,
        "no data": key.pkesk(SESSION) + packet(18, b"\1"),
        "wrong digest": key.pkesk(SESSION) + seipd1(SESSION, literal(), mdc=bytes(20)),
        "no digest": key.pkesk(SESSION) + packet(18, seipd1(SESSION, literal())[6:-22]),
        "ocb": key.pkesk(SESSION) + ocb(SESSION, literal())[:-1] + b"?",
        "ocb with another cipher": key.pkesk(SESSION, 13) + ocb(SESSION, literal()),
        "ocb truncated": key.pkesk(SESSION) + packet(20, ocb(SESSION, literal(bytes(64)))[6:-40]),
        "ocb without tags": key.pkesk(SESSION) + packet(20, ocb(SESSION, literal())[6:25]),
        "seipd2": v6_pkesk(key, SESSION) + seipd2(SESSION, literal())[:-1] + b"?",
        "seipd2 another session": v6_pkesk(key, bytes(32)) + seipd2(SESSION, literal()),
        "seipd2 session of another length": v6_pkesk(key, SESSION[:16]) + seipd2(SESSION, literal()),
        "seipd2 checksum": packet(
            1, b"\6\x15\4" + key.fingerprint + bytes((key.algorithm,)) + key.wrap(SESSION + b"??")
        )
        + seipd2(SESSION, literal()),
    }
    for place in range(8, len(good), 9):
        found[f"bit {place}"] = key.pkesk(SESSION) + good[:place] + bytes((good[place] ^ 4,)) + good[place + 1 :]
    return found


def broken_rsa() -> dict[str, bytes]:
    good = seipd1(SESSION, literal())
    n = RSA.numbers.public_numbers.n
    too_large = packet(1, b"\3" + RSA.key_id + b"\1" + mpi(n + 1))
    too_long = packet(1, b"\3" + RSA.key_id + b"\1" + mpi(n << 64))
    padded = int.from_bytes(b"\2" + b"\1" * 218 + b"\0\x09" + SESSION + checksum(SESSION), "big")
    return {
        "padding": RSA.raw(12345) + good,
        "padding of a signature": RSA.raw(padded - (1 << (8 * 254))) + good,
        "zero": packet(1, b"\3" + RSA.key_id + b"\1\0\0") + good,
        "larger than the modulus": too_large + good,
        "longer than the modulus": too_long + good,
    }


def broken_ecdh(key: Any) -> dict[str, bytes]:
    good = seipd1(SESSION, literal())
    payload = b"\x09" + SESSION + checksum(SESSION)

    def with_fields(wrapped: bytes) -> bytes:
        return packet(1, b"\3" + key.key_id + b"\x12" + wrapped) + good

    wrapped = key.wrap(payload)
    points = [b"\x40" + bytes(32), b"\x40" + b"\1" + bytes(31), b"\x40" + bytes(31), b"\1"]
    points += [b"\4" + bytes(63) + b"\1", b"\4" + b"\1" * 64, b"\4" + b"\xff" * 64, b"\2" + bytes(31) + b"\5"]
    found = {
        f"point {point[:3].hex()} {len(point)}": with_fields(key.wrap(payload, ephemeral_point=point))
        for point in points
    }
    found["key wrap"] = with_fields(wrapped[:-1] + bytes((wrapped[-1] ^ 1,)))
    for pad in (b"\0" * 5, b"\x09" * 5, b"\1\2\3\4\5", b"\xff" * 5):
        found[f"padding {pad.hex()}"] = with_fields(key.wrap(payload, pad=pad))
    return found


@pytest.mark.parametrize(
    ("key", "cases"),
    [
        (RSA, broken_for(RSA) | broken_rsa()),
        (ECDH, broken_for(ECDH) | broken_ecdh(ECDH)),
        (NIST, broken_for(NIST) | broken_ecdh(NIST)),
    ],
    ids=["RSA", "Curve25519", "P-256"],
)
def test_s19_all_failures_after_the_private_key_read_the_same(key: Any, cases: dict[str, bytes]) -> None:
    name = key.key_id.hex().upper()
    expected = (KeyUnavailable, f"the message does not open with secret key {name}: damaged, or not made for it")
    answers = {case: failure(content, key.packet()) for case, content in cases.items()}
    assert {case: answer for case, answer in answers.items() if answer != expected} == {}


def test_a_session_key_packet_of_another_algorithm_than_its_key_is_not_tried() -> None:
    wrapped = packet(1, b"\3" + RSA.key_id + b"\x12" + ECDH.wrap(b"\x09" + SESSION + checksum(SESSION)))
    assert failure(wrapped + seipd1(SESSION, literal()), RSA.packet())[0] is KeyUnavailable


def test_session_key_packets_of_unknown_versions_are_passed_over() -> None:
    unknown = packet(1, b"\2" + RSA.pkesk(SESSION)[7:])
    good = seipd1(SESSION, literal())
    assert opened(unknown + RSA.pkesk(SESSION) + good, RSA.packet()) == DATA_KEY
    assert failure(unknown + good, RSA.packet())[0] is WrongKey


def test_session_key_packets_belong_to_one_version_of_encrypted_data() -> None:
    """A version 3 session key with version 2 data, or the other way round, is a downgrade (RFC 9580, 10.3.2)."""
    for content in (
        RSA.pkesk(SESSION) + seipd2(SESSION, literal()),
        v6_pkesk(RSA, SESSION) + seipd1(SESSION, literal()),
        v6_pkesk(RSA, SESSION) + ocb(SESSION, literal()),
    ):
        assert failure(content, RSA.packet()) == (WrongKey, "no secret key for its data (1 at hand)")


def test_chunks_cannot_be_dropped_or_swapped() -> None:
    whole = ocb(SESSION, literal(bytes(128)))[6:]
    head, chunks, last = whole[:19], [whole[19:99], whole[99:179], whole[179:-16]], whole[-16:]
    for order in ([0, 1], [1, 0, 2], [0, 1, 2, 2], []):
        content = RSA.pkesk(SESSION) + packet(20, head + b"".join(chunks[at] for at in order) + last)
        assert failure(content, RSA.packet())[0] is KeyUnavailable
    assert opened(RSA.pkesk(SESSION) + packet(20, head + b"".join(chunks) + last), RSA.packet()) == bytes(128)


# S20: after the integrity check


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        (b"", "no literal"),
        (SIGNATURE, "no literal"),
        (literal() + literal(), "more than one literal"),
        (literal() + packet(8, b"\0" + literal()), "more than one literal"),
        (packet(8, b"\0" + packet(8, b"\0" + literal())), "compression in compression"),
        (packet(8, b"\2" + zlib.compress(packet(8, b"\2" + zlib.compress(literal())))), "compression in compression"),
        (seipd1(SESSION, literal()), "packet of type 18"),
        (RSA.pkesk(SESSION) + seipd1(SESSION, literal()), "packet of type 1 "),
        (packet(8, b"\x04" + literal()), "compression 4"),
        (packet(8, b"\2" + literal()), "compressed data .* damaged"),
        (packet(8, b"\3" + literal()), "compressed data .* damaged"),
        (packet(8, b""), "in the middle"),
        (packet(8, b"\2" + zlib.compress(literal())[:20]), "in the middle|no literal"),
        (literal(bytes(4097)), "more than 4096 bytes"),
        (packet(8, b"\2" + zlib.compress(literal(bytes(1 << 20)))), "more than 4096 bytes"),
        (b"\x12garbage", "wrong byte"),
        (packet(11, b"b\xffx"), "in the middle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "packets",
)
def test_s20_what_is_not_one_short_literal_is_refused(inside: bytes, reason: str) -> None:
    with pytest.raises(KeyUnavailable, match=reason):
        opened(message(RSA, inside), RSA.armored())


def test_s20_a_compression_bomb_costs_no_memory() -> None:
    squeeze = bz2.BZ2Compressor()
    zeros = bytes(1 << 20)
    bomb = b"".join(squeeze.compress(zeros) for _ in range(100)) + squeeze.flush()
    text = message(RSA, packet(8, b"\3" + bomb))
    ring = read_ring(RSA.armored())
    tracemalloc.start()
    try:
        with pytest.raises(KeyUnavailable, match="more than 4096 bytes"):
            Message.read(text).open(ring, nobody)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# Laws

GOOD = RSA.pkesk(SESSION) + ECDH.pkesk(SESSION) + seipd1(SESSION, literal())
RING = RSA.packet() + ECDH.packet()


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_an_error_of_ours(data: bytes) -> None:
    for text in (data, armor("MESSAGE", data), GOOD[:3] + data):
        with pytest.raises(KrmSopsError):
            opened(text, RSA.packet())


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_gives_the_same_content_or_an_error_of_ours(place: int, value: int) -> None:
    with suppress(KrmSopsError):
        assert opened(GOOD[:place] + bytes((value,)) + GOOD[place + 1 :], RING) == DATA_KEY


@given(st.integers(0, len(RING) - 1), st.integers(0, 255))
def test_one_changed_byte_of_a_ring_gives_the_same_content_or_an_error_of_ours(place: int, value: int) -> None:
    with suppress(KrmSopsError):
        assert opened(GOOD, RING[:place] + bytes((value,)) + RING[place + 1 :]) == DATA_KEY
