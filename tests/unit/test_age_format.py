"""The age file: armor, header, payload; what is taken, and what is refused (S21)."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.age import AgeError, ArmorError, HeaderError, MacError, NoMatch, PayloadError
from krm_sops.age.format import File, Stanza, dearmor, decrypt, from_base64, to_base64
from krm_sops.age.x25519 import X25519Identity
from tests.agefile import FILE_KEY, IDENTITY, OTHER_IDENTITY, armor, b64, for_recipient, make, recipient_of, stanza

ME = X25519Identity.parse(IDENTITY)
MINE = for_recipient(recipient_of(IDENTITY))
FILE = make([MINE], b"data")
LINES = armor(FILE).decode().splitlines(keepends=True)


@given(st.binary(max_size=400), st.sampled_from(["\n", "\r\n"]))
def test_armor_gives_back_what_it_holds(raw: bytes, end: str) -> None:
    assert dearmor(armor(raw, end)) == raw


@given(st.binary(max_size=300))
def test_unpadded_base64_gives_back_what_it_holds(raw: bytes) -> None:
    assert to_base64(raw) == b64(raw)
    assert from_base64(b64(raw)) == raw


@given(
    st.binary(max_size=300) | st.builds(lambda at, byte: FILE[:at] + byte + FILE[at:], st.integers(0, 250), st.binary())
)
def test_any_bytes_give_a_result_or_an_age_error(raw: bytes) -> None:
    for attempt in (lambda: decrypt(raw, [ME], 100), lambda: dearmor(raw)):
        with contextlib.suppress(AgeError):
            attempt()


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "QUI=\n", "QU\nI", "QUI ", "Q-I", "é"])
def test_base64_with_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        from_base64(text)


@pytest.mark.parametrize(
    "text",
    [
        "".join(LINES),
        "".join(LINES).rstrip("\n"),
        "".join(LINES).replace("\n", "\r\n").rstrip("\n"),
        "\n \t\n\r\n" + "".join(LINES) + "\n  \n\t",
        "\n" * 1024 + "".join(LINES),
        LINES[0] + "".join(LINES[1:]).replace("\n", "\r\n"),
    ],
)
def test_armor_may_have_either_line_end_and_white_space_around_it(text: str) -> None:
    assert decrypt(dearmor(text.encode()), [ME], 100) == b"data"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        " " + "".join(LINES),
        "".join(LINES).rstrip() + " \n",
        "".join(LINES).rstrip() + "\rx",
        "".join(LINES) + "x",
        "".join(LINES) + "".join(LINES),
        "x\n" + "".join(LINES),
        "\n" * 1025 + "".join(LINES),
        "".join(LINES) + "\n" * 1024,
        LINES[0],
        LINES[0].rstrip(),
        "".join(LINES[:-1]),
        "".join(LINES[1:]),
        "".join(LINES).lower(),
        "".join(LINES).replace("BEGIN AGE", "BEGIN  AGE"),
        "".join([LINES[0], "\n", *LINES[1:]]),
        "".join([*LINES[:-1], "\n", LINES[-1]]),
        "".join([LINES[0], "Comment: x\n", "\n", *LINES[1:]]),
        "".join([LINES[0], LINES[1][:60] + "\n", LINES[1][60:], *LINES[2:]]),
        "".join([LINES[0], LINES[1].rstrip() + LINES[2], *LINES[3:]]),
        "".join([LINES[0], " " + LINES[1], *LINES[2:]]),
        "".join([LINES[0], LINES[1].replace("\n", " \n"), *LINES[2:]]),
        "".join([LINES[0], LINES[1].replace("\n", "\r\r\n"), *LINES[2:]]),
        "".join([LINES[0], LINES[1][:63] + "=\n", *LINES[2:]]),
        "".join([LINES[0], LINES[1][:63] + "-\n", *LINES[2:]]),
        "".join([*LINES[:-2], LINES[-2].rstrip().rstrip("=") + "\n", LINES[-1]]).replace("\n-", "A\n-"),
        f"{LINES[0]}QQ\n{LINES[-1]}",
        f"{LINES[0]}QR==\n{LINES[-1]}",
        f"{LINES[0]}QQ==QQ==\n{LINES[-1]}",
    ],
)
def test_any_other_armor_is_refused(text: str) -> None:
    with pytest.raises(ArmorError):
        dearmor(text.encode())


HEAD = FILE[: FILE.index(b"\n---") + 1].decode()
MAC_LINE = FILE[len(HEAD) :].partition(b"\n")[0].decode() + "\n"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "age-encryption.org/v1",
        "age-encryption.org/v2\n" + HEAD.partition("\n")[2] + MAC_LINE,
        "AGE-SECRET-KEY-1\n",
        HEAD,
        HEAD + MAC_LINE.rstrip("\n"),
        "age-encryption.org/v1\n" + MAC_LINE,
        HEAD.replace("\n", "\r\n") + MAC_LINE,
        HEAD + MAC_LINE.replace(" ", "  "),
        HEAD + MAC_LINE.replace(" ", ""),
        HEAD + MAC_LINE.replace("\n", " \n"),
        HEAD + "---\n",
        HEAD + f"--- {b64(bytes(31))}\n",
        HEAD + f"--- {b64(bytes(32))[:-1]}B\n",
        HEAD + f"---- {b64(bytes(32))}\n",
        HEAD.replace("-> ", "->"),
        HEAD.replace("X25519 ", "X25519  ") + MAC_LINE,
        HEAD.replace("X25519 ", "X25519\t") + MAC_LINE,
        HEAD.replace("X25519 ", "X\u00e9 ") + MAC_LINE,
        "age-encryption.org/v1\n-> \n\n" + MAC_LINE,
        "age-encryption.org/v1\n->\n\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\n" + "A" * 64 + "\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\n" + "A" * 65 + "\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\nQR\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\nQQ==\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\nA A\n" + MAC_LINE,
        "age-encryption.org/v1\n" + "-> x\n\n" * 1025 + MAC_LINE,
        "age-encryption.org/v1\n-> x" + " y" * 130 + "\n\n" + MAC_LINE,
        "age-encryption.org/v1\n-> x\n" + ("A" * 64 + "\n") * 33000 + "\n" + MAC_LINE,
    ],
)
def test_a_malformed_header_is_refused(raw: str) -> None:
    with pytest.raises(HeaderError):
        File(raw.encode() + bytes(32))


@pytest.mark.parametrize(
    "stanzas",
    [
        [stanza("X25519", [], bytes(32))],
        [stanza("X25519", [b64(bytes(31) + b"\1"), "x"], bytes(32))],
        [stanza("X25519", [b64(bytes(33))], bytes(32))],
        [stanza("X25519", [b64(b"\t" * 32) + "="], bytes(32))],
        [stanza("X25519", [b64(bytes(32))], bytes(32))],
        [stanza("X25519", [b64(b"\t" * 32)], bytes(33))],
        [stanza("X25519", [b64(b"\t" * 32)], b"")],
        [MINE, stanza("scrypt", [b64(bytes(16)), "10"], bytes(32))],
    ],
    ids=["no share", "extra argument", "long share", "padded share", "low order", "long body", "no body", "scrypt"],
)
def test_a_malformed_stanza_is_refused_whoever_it_is_for(stanzas: list[str]) -> None:
    with pytest.raises(HeaderError):
        decrypt(make(stanzas, b"data"), [ME], 100)


def test_unknown_stanzas_are_passed_over() -> None:
    grease = stanza("joint-oil.example", ["a", "!"], bytes(100))
    assert decrypt(make([grease, MINE, grease], b"data"), [ME], 100) == b"data"


def test_an_entry_for_two_recipients_opens_for_either() -> None:
    other = for_recipient(recipient_of(OTHER_IDENTITY))
    for identity in (IDENTITY, OTHER_IDENTITY):
        assert decrypt(make([other, MINE], b"data"), [X25519Identity.parse(identity)], 100) == b"data"


def test_who_is_no_recipient_is_told_so() -> None:
    with pytest.raises(NoMatch):
        decrypt(FILE, [X25519Identity.parse(OTHER_IDENTITY)], 100)


def test_the_mac_is_checked_before_the_payload() -> None:
    with pytest.raises(MacError):
        decrypt(make([MINE], b"data", mac_key=bytes(16))[:-20], [ME], 100)


def test_a_stanza_added_later_breaks_the_mac() -> None:
    added = FILE.replace(b"\n-> X25519", b"\n-> other\n\n-> X25519")
    assert [s.type for s in File(added).stanzas] == ["other", "X25519"]
    with pytest.raises(MacError):
        decrypt(added, [ME], 100)


def test_a_file_without_a_nonce_is_refused() -> None:
    raw = make([MINE], b"data")
    with pytest.raises(HeaderError, match="nothing follows"):
        decrypt(raw[: raw.index(b"\n", raw.index(b"\n---") + 1) + 16], [ME], 100)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072])
def test_a_payload_of_any_size_comes_back_whole(size: int) -> None:
    assert decrypt(make([MINE], b"x" * size), [ME], size) == b"x" * size


@pytest.mark.parametrize("size", [0, 1, 65536, 65537])
def test_a_payload_that_was_cut_extended_or_altered_is_refused(size: int) -> None:
    raw = make([MINE], b"x" * size)
    start = raw.index(b"\n", raw.index(b"\n---") + 1) + 17
    flipped = raw[:-1] + bytes([raw[-1] ^ 1])
    for bad in (raw[:-1], raw[:start], raw[: start + 15], raw + b"\0", raw + raw[start:], flipped):
        with pytest.raises(PayloadError):
            decrypt(bad, [ME], 1 << 20)


def test_a_first_chunk_alone_is_no_payload() -> None:
    raw = make([MINE], b"x" * 65537)
    with pytest.raises(PayloadError):
        decrypt(raw[:-17], [ME], 1 << 20)


def test_a_payload_over_the_limit_is_refused_before_it_is_decrypted() -> None:
    with pytest.raises(PayloadError, match="more than 3 bytes"):
        decrypt(make([MINE], b"data"), [ME], 3)


texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=10)


@given(texts, st.lists(texts, max_size=5), st.binary(max_size=200))
def test_a_stanza_is_read_as_it_was_written(kind: str, args: list[str], body: bytes) -> None:
    written = Stanza(kind, args, body).write()
    assert written.decode() == stanza(kind, args, body)
    lines = iter(written.split(b"\n"))
    read = Stanza.read(next(lines), lines.__next__)
    assert (read.type, read.args, read.body) == (kind, tuple(args), body)
    assert list(lines) == [b""]


@pytest.mark.parametrize("call", [lambda: decrypt(b"AGE-SECRET-KEY-1SECRET\n", [ME], 1), lambda: dearmor(b"SECRET")])
def test_messages_quote_nothing_of_what_they_refuse(call: Any) -> None:
    with pytest.raises(AgeError) as caught:
        call()
    assert not re.search("SECRET", str(caught.value))


def test_the_file_key_of_another_length_is_refused_before_it_is_opened() -> None:
    with pytest.raises(HeaderError, match="no file key of 16 bytes"):
        decrypt(make([for_recipient(recipient_of(IDENTITY), FILE_KEY + b"LONGER")], b"data"), [ME], 100)
