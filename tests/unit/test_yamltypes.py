"""Plain and tagged scalars, as go-yaml v3 types them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import StoreError
from krm_sops.tree import Timestamp, to_bytes
from krm_sops.yamltypes import float_yaml, resolve_plain, resolve_tagged

INTS = {
    "0": 0,
    "-0": 0,
    "+42": 42,
    "0777": 511,
    "00": 0,
    "-010": -8,
    "0o17": 15,
    "0O17": 15,
    "0x1F": 31,
    "-0XfF": -255,
    "0b101": 5,
    "0b-101": -5,
    "0o+7": 7,
    "1_000": 1000,
    "1__0_": 10,
    "0_x1F": 31,
    "9223372036854775807": 2**63 - 1,
    "-9223372036854775808": -(2**63),
    "18446744073709551615": 2**64 - 1,
    "0xFFFFFFFFFFFFFFFF": 2**64 - 1,
}
FLOATS = {
    "1.": 1.0,
    ".5": 0.5,
    "-.5": -0.5,
    "+1.5": 1.5,
    "1e3": 1000.0,
    "1E-7": 1e-7,
    "08": 8.0,
    "09.5": 9.5,
    "1_0.2_5": 10.25,
    ".5_0": 0.5,
    "18446744073709551616": 2.0**64,
    "-9223372036854775809": -(2.0**63),
    "1e-400": 0.0,
    ".inf": math.inf,
    "+.INF": math.inf,
    "-.Inf": -math.inf,
}
TIMES = {
    "2001-01-02": "2001-01-02T00:00:00Z",
    "2001-1-2": "2001-01-02T00:00:00Z",
    "0000-02-29": "0000-02-29T00:00:00Z",
    "2001-12-14T21:59:43.10-05:00": "2001-12-14T21:59:43.1-05:00",
    "2001-12-14t1:2:3Z": "2001-12-14T01:02:03Z",
    "2001-12-14   1:2:3": "2001-12-14T01:02:03Z",
    "2001-12-14 1:2:3,5": "2001-12-14T01:02:03.5Z",
    "2001-12-14T1:2:3.1234567899Z": "2001-12-14T01:02:03.123456789Z",
    "2001-12-14T1:2:3-00:00": "2001-12-14T01:02:03Z",
    "2001-12-14T1:2:3+24:60": "2001-12-14T01:02:03+25:00",
}
STRINGS = [
    *("yes", "No", "on", "OFF", "y", "n", "nULL", "tRUE", "none", "<<", "=", "~x", "tomato", "é", "None"),
    *("1:20", "190:20:30", "infinity", "inf", "nan", "0x", "0o8", "0b2", "1e", "1e400", "-1e400", "1.2.3", "0x1p3"),
    *("_1", "-", "+", ".", "..", ".e3", ".5_", "._5", "+inf", "٣", "1٣", "²"),
    *("2001-02-29", "2001-13-01", "2001-1-1-1", "20010-1-1", "2001-12-14 1:2:3 -5", "2001-12-14T1:2Z"),
    *("2001-12-14T1:2:3", "2001-12-14T1:2:3+0530", "2001-12-14T24:00:00Z", "2001-12-14T1:2:3z", "2001-12-14 1:2:3Z"),
    *("2001-12-14T1:2:3.Z", "9" * 400 + "x"),
]


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null_has_five_spellings(text: str) -> None:
    assert resolve_plain(text) is None


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False)])
def test_a_bool_is_spelled_in_three_cases(word: str, value: bool) -> None:
    for text in (word, word.title(), word.upper()):
        assert resolve_plain(text) is value


@pytest.mark.parametrize(("text", "value"), INTS.items())
def test_integers_are_read_in_every_base_and_within_64_bits(text: str, value: int) -> None:
    found = resolve_plain(text)
    assert type(found) is int
    assert found == value


@pytest.mark.parametrize(("text", "value"), FLOATS.items())
def test_floats_are_decimal(text: str, value: float) -> None:
    found = resolve_plain(text)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize(("text", "value"), TIMES.items())
def test_timestamps_are_normalised(text: str, value: str) -> None:
    assert resolve_plain(text) == Timestamp(value)
    assert resolve_tagged("!!timestamp", text) == Timestamp(value)


@pytest.mark.parametrize("text", STRINGS)
def test_everything_else_is_a_string(text: str) -> None:
    assert resolve_plain(text) == text


def test_not_a_number_and_the_sign_of_zero_survive() -> None:
    nan = resolve_plain(".NaN")
    assert isinstance(nan, float)
    assert math.isnan(nan)
    assert math.copysign(1, float(str(resolve_plain("-0.0")))) == -1


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        ("!!str", "12", "12"),
        ("!!str", "", ""),
        ("!!int", "0x10", 16),
        ("!!float", "1", 1.0),
        ("!!float", ".inf", math.inf),
        ("!!bool", "TRUE", True),
        ("!!null", "", None),
        ("!!null", "~", None),
        ("!!binary", "aGVs\nbG8=\r\n", "hello"),
        ("!!binary", "", ""),
        ("tag:yaml.org,2002:int", "5", 5),
        ("tag:yaml.org,2002:unheard_of", "5", "5"),
        ("!vault", "12", "12"),
        ("!vault", "", ""),
        ("!!merge", "<<", "<<"),
        ("!!seq", "x", "x"),
    ],
)
def test_a_tag_decides_and_an_unknown_one_means_string(tag: str, text: str, value: object) -> None:
    found = resolve_tagged(tag, text)
    assert found == value
    assert type(found) is type(value)


def test_binary_data_keep_their_bytes() -> None:
    found = resolve_tagged("!!binary", "gP8A")
    assert isinstance(found, str)
    assert to_bytes(found) == b"\x80\xff\x00"


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("!!int", "x"),
        ("!!int", "1.5"),
        ("!!int", ""),
        ("!!int", "99999999999999999999"),
        ("!!float", "x"),
        ("!!float", "1e400"),
        ("!!float", "18446744073709551615"),
        ("!!float", "2001-01-01"),
        ("!!bool", "yes"),
        ("!!bool", "1"),
        ("!!null", "x"),
        ("!!timestamp", "2001-02-30"),
        ("!!timestamp", "12"),
        ("!!binary", "hunter2"),
        ("!!binary", "aGk"),
        ("!!binary", "a Gk="),
        ("!!binary", "aGk=aGk="),
    ],
)
def test_a_text_that_does_not_fit_its_tag_is_refused_and_not_shown(tag: str, text: str) -> None:
    with pytest.raises(StoreError) as caught:
        resolve_tagged(tag, text)
    assert tag in str(caught.value)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (123456.5, "123456.5"),
        (1e6, "1e+06"),
        (123456789.5, "1.234567895e+08"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (5e-324, "5e-324"),
        (math.inf, ".inf"),
        (-math.inf, "-.inf"),
        (math.nan, ".nan"),
    ],
)
def test_floats_are_written_as_go_yaml_writes_them(number: float, text: str) -> None:
    assert float_yaml(number) == text


@given(st.floats(allow_nan=False))
def test_a_float_is_read_back_as_the_same_number(number: float) -> None:
    found = resolve_plain(float_yaml(number))
    assert isinstance(found, (int, float))
    assert found == number


@given(st.integers(-(2**63), 2**64 - 1))
def test_an_integer_is_read_back_as_the_same_number(number: int) -> None:
    assert resolve_plain(str(number)) == number


@given(st.text(max_size=20) | st.text("0123456789+-._:eExXobTZ ", max_size=20))
def test_any_text_has_a_type(text: str) -> None:
    assert isinstance(resolve_plain(text), (str, int, float, bool, Timestamp, type(None)))
