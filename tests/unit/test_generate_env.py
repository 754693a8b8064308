"""Envs files in the dialects of their tools. The expectations for ksops were read off the real one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import InputError
from krm_sops.functions.generate_env import is_key, pairs
from krm_sops.tree import Branch, Entry

GODOTENV = [
    ("A=1\nB=2", {"A": "1", "B": "2"}),
    ("\n# comment\n  A=1  \n\t\n", {"A": "1"}),
    ("export A=1\nexport\tB=2\nexports=3\nexport=4\n", {"A": "1", "B": "2", "exports": "3", "export": "4"}),
    ("A = 1\nB: 2\nC:3\nD.E_F=4\n", {"A": "1", "B": "2", "C": "3", "D.E_F": "4"}),
    ("A=\nB=''\nC=\"\"\nD=", {"A": "", "B": "", "C": "", "D": ""}),
    ("A=one # two\nB=one#two\nC=one #two #three\nD=#x\n", {"A": "one", "B": "one#two", "C": "one #two", "D": "#x"}),
    ("A='one # $X \\n two'\n", {"A": "one # $X \\n two"}),
    ('A="one\\ntwo\\rthree\\tfour\\"five\\\\."\n', {"A": 'one\ntwo\rthreetfour"five\\.'}),
    ("A='one\ntwo' # more\nB=\"three\nfour\"\n", {"A": "one\ntwo", "B": "three\nfour"}),
    ("A=one\r\nB=two\r\n", {"A": "one", "B": "two"}),
    ("A=pa=ss:word\nB=a'b\"c\n", {"A": "pa=ss:word", "B": "a'b\"c"}),
    ("A=1\nA=2\n", {"A": "2"}),
    ("A=日本 é\n", {"A": "日本 é"}),
]


def read(dialect: str, text: str) -> dict[str, str]:
    return dict(pairs(dialect, "binary", [Branch([Entry("data", text)])]))


@pytest.mark.parametrize("dialect", ["godotenv", "dotenv"])
@pytest.mark.parametrize(("text", "wanted"), GODOTENV)
def test_dotenv_as_ksops_reads_it(dialect, text, wanted):
    assert read(dialect, text) == wanted


def test_only_ksops_puts_values_in_the_place_of_variables():
    text = 'A=x\nB=$A-${A}-$B-$(A)-$a-$\nC=\'$A\'\nD="$A"\nE=\\$A\nF="\\$A"\n'
    as_ksops = {"A": "x", "B": "x-x--x)-$a-$", "C": "$A", "D": "x", "E": "$A", "F": "$A"}
    assert read("godotenv", text) == as_ksops
    assert read("dotenv", text) == as_ksops | {"B": "$A-${A}-$B-$(A)-$a-$", "D": "$A"}


@pytest.mark.parametrize("dialect", ["godotenv", "dotenv"])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nsecret\n", 2),
        ("secret", 1),
        ("=secret\n", 1),
        ("A-B=secret\n", 1),
        ("A=1\nB='secret\n", 2),
        ("A 'b'", 1),
        ("é=secret", 1),
    ],
)
def test_a_line_that_is_none_is_named_by_its_number_only(dialect, text, line):
    with pytest.raises(InputError) as caught:
        read(dialect, text)
    assert f"line {line} " in caught.value.message
    assert "secret" not in caught.value.message


def test_values_of_sops_secret_generator_are_what_stands_behind_the_sign():
    text = "\ufeffA='1'\n  B= x # y \nexport C=$A\n#D=1\n\nE=a=b\r\n"
    assert read("lines", text) == {"A": "'1'", "B": " x # y ", "export C": "$A", "E": "a=b"}
    with pytest.raises(InputError, match="line 2 is neither"):
        read("lines", "A=1\nsecret\n")


@pytest.mark.parametrize("format_", ["yaml", "json"])
@pytest.mark.parametrize("dialect", ["dotenv", "lines"])
def test_flat_yaml_and_json_are_names_and_values(dialect, format_):
    branch = Branch([Entry("A", "1"), Entry("B", "two words"), Entry("C", None)])
    assert pairs(dialect, format_, [branch]) == [("A", "1"), ("B", "two words"), ("C", "")]
    with pytest.raises(InputError, match="a mapping or list"):
        pairs(dialect, format_, [Branch([Entry("A", Branch())])])


def test_numbers_are_texts_in_yaml_and_refused_in_json_of_sops_secret_generator():
    branch = Branch([Entry("A", 1), Entry("B", True), Entry("C", 1.5)])
    assert pairs("lines", "yaml", [branch]) == [("A", "1"), ("B", "true"), ("C", "1.5")]
    with pytest.raises(InputError, match="no string"):
        pairs("lines", "json", [branch])


def test_ini_is_refused_but_for_ksops_which_reads_lines():
    section = Branch([Entry("s", Branch([Entry("A", "1")]))])
    for dialect in ("dotenv", "lines"):
        with pytest.raises(InputError, match="INI"):
            pairs(dialect, "ini", [section])
    with pytest.raises(InputError, match="line 1"):
        pairs("godotenv", "ini", [section])


@pytest.mark.parametrize("name", ["a", "tls.crt", "A_B-c.0", "x" * 253])
def test_what_kubernetes_takes_for_a_key(name):
    assert is_key(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "a\n", "x" * 254])
def test_what_it_does_not(name):
    assert not is_key(name)


@given(
    st.text(st.sampled_from("A=:\"'\\$#{}( \n\r\t\x85é\udcff"), max_size=30),
    st.sampled_from(["godotenv", "dotenv", "lines"]),
)
def test_any_text_is_names_and_values_or_a_line_that_is_none(text, dialect):
    try:
        found = pairs(dialect, "binary", [Branch([Entry("data", text)])])
    except InputError as error:
        found = []
        said = error.message
    else:
        said = "line "
    assert "line " in said
    assert all(isinstance(part, str) for pair in found for part in pair)
