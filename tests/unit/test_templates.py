"""Placeholders: how they are spelled, what takes their places, and which are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import subprocess
from urllib.parse import unquote_to_bytes

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import ConfigError, InputError
from krm_sops.stores import STORES
from krm_sops.templates import FORMS, Filling, Source, filled_file, named_values
from krm_sops.tree import Branch, Comment, Entry, Timestamp

VALUES = {"db/user": "app", "db/port": 5432, "on": True, "none": None, "at": Timestamp("2026-01-31T12:00:00Z")}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def filled(text: str, values=VALUES):
    return Filling([Source("file", values)]).scalar(text)


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        filled(text)
    return caught.value.message


def test_a_placeholder_gives_way_to_its_value_and_nothing_else_changes():
    assert filled("a <SOPS:db/user> b $<SOPS:db/user>> <SOP <S") == "a app b $app> <SOP <S"
    assert filled("no placeholder: ${x} {{ y }}") == "no placeholder: ${x} {{ y }}"


def test_the_placeholders_of_sops_nix():
    assert filled(f"a <SOPS:{digest('db/user')}:PLACEHOLDER> b") == "a app b"


def test_a_value_that_is_all_of_a_scalar_keeps_its_type():
    assert filled("<SOPS:db/port>") == 5432
    assert filled("<SOPS:on>") is True
    assert filled("<SOPS:none>") is None
    assert filled(":<SOPS:db/port>:<SOPS:on>:<SOPS:none>:<SOPS:at>") == ":5432:true::2026-01-31T12:00:00Z"
    assert filled("<SOPS:db/port:json>") == '"5432"'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<SOPS:other>", "no secret has the name 'other'"),
        ("<SOPS:db>", "no secret has the name 'db'"),
        (f"<SOPS:{digest('other')}:PLACEHOLDER>", "no secret has a name with the digest"),
        (f"<SOPS:{digest('db/user').upper()}:PLACEHOLDER>", "no secret has a name with the digest"),
        ("<SOPS:db/user:PLACEHOLDER>", "no secret has a name with the digest"),
        ("<SOPS:db/user:xml>", "asks for no known form"),
        ("<SOPS:db/user:json:base64>", "asks for no known form"),
        ("<SOPS:db/user:>", "asks for no known form"),
        ("<SOPS:>", "without a name"),
        ("<SOPS: db/user>", "without a name"),
        ("<SOPS:db user>", "without a name"),
        ("<SOPS:db/user", "without an end"),
        ("<SOPS:<SOPS:db/user>>", "without a name"),
        ('{"user": "<SOPS:db/user:json>"}', "brings its own"),
        ("echo '<SOPS:db/user:shell>'", "brings its own"),
    ],
)
def test_what_is_no_placeholder_of_ours_is_an_error(text, why):
    assert why in refused(text)


def test_what_follows_a_broken_placeholder_is_not_quoted():
    assert "hunter2" not in refused("<SOPS:?hunter2 and more>")


def test_two_sources_may_not_name_a_value_alike():
    with pytest.raises(ConfigError, match="b: 'x' is already the name of a value of a"):
        Filling([Source("a", {"x": "1"}), Source("b", {"x": "2"})])


def test_a_source_that_nothing_names_is_an_error_and_of_a_strict_one_each_value():
    used, strict, unused = (
        Source("a", {"x": "1", "y": "2"}),
        Source("b", {"z": "1", "w": "2"}, strict=True),
        Source("c", {}),
    )
    Filling([used, strict, unused]).scalar("<SOPS:x><SOPS:z>")
    used.refuse_unused()
    with pytest.raises(ConfigError, match="b: no placeholder names 'w'"):
        strict.refuse_unused()
    with pytest.raises(ConfigError, match="c: no placeholder names any"):
        unused.refuse_unused()


# Forms


@given(TEXT)
def test_json_reads_the_same_value(text):
    assert json.loads("{" + f'"k": {FORMS["json"](text)}' + "}") == {"k": text}


@given(TEXT)
def test_yaml_reads_the_same_value_in_any_place(text):
    assert yaml.safe_load(f"a:\n- k: {FORMS['yaml'](text)}\n  l: [{FORMS['yaml'](text)}]\n") == {
        "a": [{"k": text, "l": [text]}]
    }


@given(TEXT.filter(lambda text: "\0" not in text))
def test_a_shell_reads_one_word(text):
    assert shlex.split(f"x={FORMS['shell'](text)}") == ["x=" + text]


@given(TEXT)
def test_a_url_reads_the_same_bytes_and_nothing_else(text):
    spelled = FORMS["url"](text)
    assert not set(spelled) & set(":/?#[]@!$&'()*+,;= \"<>\\^`{|}")
    assert unquote_to_bytes(spelled) == text.encode()


@given(st.binary())
def test_base64_takes_any_bytes(raw):
    assert base64.b64decode(FORMS["base64"](raw.decode("utf-8", "surrogateescape"))) == raw


def test_a_real_shell_reads_what_is_spelled_for_it_and_for_dotenv():
    for text in ("plain", "two words", "it's", '$HOME `id` \\n "x"', "a\nb'c", "", "#x", "\u00e4\U0001f600", "!x", "~"):
        for form in ("shell", "dotenv"):
            if form == "dotenv" and "\n" in text:
                continue  # of its readers, a shell alone knows no escape for a line break
            script = f'X={FORMS[form](text)}; printf %s "$X"'
            assert subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout == text.encode()


def test_dotenv_quotes_only_what_needs_it():
    assert [FORMS["dotenv"](text) for text in ("a/b=1", "a b", "it's", "a\nb$c`d")] == [
        "a/b=1",
        "'a b'",
        '"it\'s"',
        '"a\\nb\\$c\\`d"',
    ]


@pytest.mark.parametrize(
    ("form", "text"), [("shell", "a\0b"), ("dotenv", "a\0b"), ("json", "\udcff"), ("yaml", "\udcff")]
)
def test_a_value_that_a_form_cannot_hold_is_an_error_that_does_not_quote_it(form, text):
    with pytest.raises(ConfigError, match=f"cannot be spelled as {form}: it ") as caught:
        filled(f"<SOPS:x:{form}>", {"x": "secret" + text})
    assert "secret" not in caught.value.message


# Trees and files


def test_only_scalars_are_filled_and_a_placeholder_elsewhere_is_an_error():
    tree = Branch(
        [Entry(Comment(" c"), None), Entry("a", ["<SOPS:db/user>", 1, None, Branch([Entry("b", "<SOPS:on>")])])]
    )
    found = Filling([Source("file", VALUES)]).document(tree)
    assert found == Branch([Entry(Comment(" c"), None), Entry("a", ["app", 1, None, Branch([Entry("b", True)])])])
    for bad in (Branch([Entry("<SOPS:on>", 1)]), Branch([Entry(Comment("<SOPS:on>"), None)])):
        with pytest.raises(ConfigError, match="where none is resolved"):
            Filling([Source("file", VALUES)]).document(bad)


def test_names_are_paths():
    (tree,) = STORES["yaml"].read_plain(b"a:\n  b: 1 # c\n  # d\n  l: [x, {y: z}]\n2: q\n")
    assert named_values(tree) == {"a/b": 1, "a/l/0": "x", "a/l/1/y": "z", "2": "q"}
    assert named_values(tree, "pre")["pre/a/b"] == 1
    with pytest.raises(ConfigError, match="two values have the name 'a/b'"):
        named_values(Branch([Entry("a", Branch([Entry("b", "1")])), Entry("a/b", "2")]))


BREAKING = "x\"\n- y: [z]\n# '}"


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_value_cannot_leave_its_scalar_in_a_file_with_structure(form):
    template = b'{"a": "<SOPS:v>", "b": ["=<SOPS:v>"]}'
    raw = filled_file(template, form, Filling([Source("file", {"v": BREAKING})]))
    assert yaml.safe_load(raw) == {"a": BREAKING, "b": ["=" + BREAKING]}


def test_a_file_of_another_kind_is_one_scalar():
    assert filled_file(b"\xff <SOPS:v>\r\n", "text", Filling([Source("file", {"v": "\udc80"})])) == b"\xff \x80\r\n"


def test_a_template_that_is_encrypted_is_refused():
    with pytest.raises(ConfigError, match="encrypted itself"):
        filled_file(b"a: <SOPS:v>\nsops:\n  mac: x\n", "yaml", Filling([Source("file", {"v": "1"})]))


def test_bytes_that_a_format_cannot_hold_are_an_error_that_does_not_quote_them():
    with pytest.raises(InputError) as caught:
        filled_file(b'{"a": "<SOPS:v>"}', "dotenv", Filling([Source("file", {"v": "\ud800secret"})]))
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None
