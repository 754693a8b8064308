"""Scalars are spelled and read as Go does it."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.tree import Comment, Timestamp
from krm_sops.values import go_float, json_float, mac_bytes, parse_plain, short_float, timestamp, to_text

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors/stores/go_scalars.json").read_text())


def float_of(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    return value


def parsed(text: str, word: str) -> Any:
    """The value, or None where it is refused."""
    try:
        return parse_plain(text.encode(), word)
    except ValueError:
        return None


def test_floats_are_spelled_as_go_spells_them() -> None:
    for bits, positional, short, text, json_text in VECTORS["floats"]:
        value = float_of(bits)
        assert (go_float(value), short_float(value, "e"), to_text(value)) == (positional, short, text), bits
        if json_text:
            assert json_float(value) == json_text
        else:
            with pytest.raises(ValueError, match="no such number"):
                json_float(value)


def test_floats_are_read_as_go_reads_them() -> None:
    for text, bits in VECTORS["parse_float"]:
        value = parsed(text, "float")
        if not bits:
            assert value is None, text
        elif math.isnan(float_of(bits)):
            assert math.isnan(value), text
        else:
            assert struct.pack(">d", value).hex() == bits, text


def test_integers_are_read_as_go_reads_them() -> None:
    for text, expected in VECTORS["parse_int"]:
        value = parsed(text, "int")
        assert ("" if value is None else str(value)) == expected, text[:40]


def test_booleans_are_read_as_go_reads_them() -> None:
    for text, expected in VECTORS["parse_bool"]:
        value = parsed(text, "bool")
        assert ("" if value is None else to_text(value)) == expected, text


def test_times_are_read_and_spelled_as_go_does() -> None:
    for text, expected in VECTORS["parse_time"]:
        value = parsed(text, "time")
        assert ("" if value is None else f"{mac_bytes(value).decode()}|{to_text(value)}") == expected, text


@pytest.mark.parametrize("text", ["2001-12-14T1:59:43Z", "2001-12-14T21:59:43,5Z", "2001-12-14T21:59:43+24:00"])
def test_a_time_that_is_no_rfc_3339_is_refused_even_where_go_takes_it(text: str) -> None:
    assert timestamp(text.encode()) is None


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        ("", b""),
        ("naïve ☃", "naïve ☃".encode()),
        ("\udcff", b"\xff"),
        (True, b"True"),
        (False, b"False"),
        (-(1 << 63), b"-9223372036854775808"),
        (1e21, b"1000000000000000000000"),
        (-0.0, b"-0"),
        (Timestamp("2001-12-14T21:59:43.1-05:00"), b"2001-12-14T21:59:43.1-05:00"),
    ],
)
def test_the_mac_covers_these_bytes(value: Any, raw: bytes) -> None:
    assert mac_bytes(value) == raw


def test_text_types_take_any_bytes() -> None:
    assert parse_plain(b"\xff\x00", "str") == "\udcff\x00"
    assert parse_plain(b"\xff", "bytes") == "\udcff"
    assert parse_plain(b" c", "comment") == Comment(" c")


@pytest.mark.parametrize(("value", "text"), [(None, "<nil>"), (True, "true"), (False, "false"), (7, "7"), ("x", "x")])
def test_other_texts(value: Any, text: str) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize("word", ["int", "float", "bool", "time", "str] junk", "", "uint"])
def test_a_refusal_holds_no_plaintext_and_no_context(word: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_plain(b"hunter2", word)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@given(st.binary(max_size=40), st.sampled_from(["int", "float", "bool", "time", "str", "comment", "x"]))
def test_any_plaintext_gives_a_value_or_a_value_error(raw: bytes, word: str) -> None:
    contexts = []
    try:
        parse_plain(raw, word)
    except ValueError as error:
        contexts.append(error.__context__)
    assert contexts in ([], [None])


@given(st.floats(allow_nan=False))
def test_what_is_written_is_read_back(x: float) -> None:
    value = parsed(go_float(x), "float")
    if math.isinf(x):
        assert value == x
    else:
        assert isinstance(value, float)
        assert struct.pack(">d", value) == struct.pack(">d", x)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_64_bit_integer_is_read_back(x: int) -> None:
    assert parsed(str(x), "int") == x
