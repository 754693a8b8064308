"""YAML streams: documents found and left as they are, read only where it matters (S17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import InputError, LimitError, ResourceListError
from krm_sops.krm.stream import Allowance, Stream
from krm_sops.limits import FUNCTION
from krm_sops.tree import Branch, Entry

PLAIN = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def stream(text: str, file: str = "f.yaml", **limits: int) -> Stream:
    found = Stream(FUNCTION.changed(limits))
    found.add(text.encode(), file)
    return found


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a: 1\n", "a: 1\n"),
        ("a: 1", "a: 1\n"),
        ("---\na: 1\n---\nb: 2\n", "a: 1\n---\nb: 2\n"),
        ("%YAML 1.2\n---\na: 1\n...\n---\n# only a comment\n", "a: 1\n"),
        ("--- {a: 1}\n--- # why\nb: 2\n", "--- {a: 1}\n---\n# why\nb: 2\n"),
        ("a: 1\r\n---\r\nb: 1\r\n", "a: 1\r\n---\nb: 1\r\n"),
        ("a: |+\n  x\n\n\n---\nb: 1\n", "a: |+\n  x\n\n\n---\nb: 1\n"),
        ("a: '\n  --- b\n  '\n", "a: '\n  --- b\n  '\n"),
        ("a: |\n  ---\n", "a: |\n  ---\n"),
        ("---a: 1\n", "---a: 1\n"),
        ('{"a": 1}\n---\n{"b": 2}\n', '{"a": 1}\n---\n{"b": 2}\n'),
        ("\ufeffa: 1\n", "a: 1\n"),
        ("", ""),
        ("\n---\n\n---\n# c\n", ""),
    ],
)
@pytest.mark.parametrize("is_read", [False, True])
def test_documents_leave_byte_for_byte(given, written, is_read):
    found = stream(given)
    if is_read:
        found.items  # noqa: B018
    assert found.write() == written


def test_documents_know_their_file_and_number():
    found = stream(f"{PLAIN}---\n# c\n---\n{PLAIN}")
    assert [item.at for item in found.items] == [("f.yaml", 0), ("f.yaml", 2)]
    assert str(found.items[1]) == "f.yaml[2]: ConfigMap/a"


@pytest.mark.parametrize(
    "key",
    [
        *("sops", '"sops"', "'sops'", '"\\x73ops"', '"so\\u0070s"', "!!str sops", "? sops\n"),
        "!!binary c29wcw==",
    ],
)
def test_a_top_level_sops_is_found_however_it_is_spelled(key):
    """S17: escapes, tags, odd keys."""
    text = f"{PLAIN}{key}: {{mac: x}}\n"
    assert [item.name for item in stream(f"{PLAIN}---\n{text}").encrypted()] == ["a"]


def test_an_alias_as_a_key_is_found():
    text = f"{PLAIN}x: &k sops\n*k : {{mac: x}}\n"
    assert len(stream(text).encrypted()) == 1
    assert len(stream('{"apiVersion": "v1", "\\u0073ops": {"mac": ""}, "kind": "Secret"}').encrypted()) == 1


def test_what_is_of_no_interest_is_not_parsed():
    """It leaves as it came, and whoever reads it next will say what is wrong."""
    found = stream(PLAIN + "broken: [\n")
    assert found.encrypted() == found.of_kind("Secret") == found.named("db") == found.holding(b"ENC[") == []
    assert not found.documents[0].is_read
    assert found.write() == PLAIN + "broken: [\n"
    with pytest.raises(InputError, match=r"f\.yaml: .*line"):
        found.items  # noqa: B018


@pytest.mark.parametrize("text", ["a: [\n", PLAIN + "{{ if .Values.x }}\n", PLAIN + "a: 1\u2028---\u2028b: [\n"])
def test_what_may_be_something_else_is_parsed_at_once(text):
    """Templates, and line breaks that only some readers know."""
    with pytest.raises(InputError):
        stream(text)


def test_lists_are_taken_apart_only_where_an_element_goes():
    text = "apiVersion: v1\nkind: List\nitems:\n- a: 1 # one\n  # two\n- {b: 2}\n-   c: |\n      x\n"
    found = stream(text)
    assert found.write() == text
    first, second, third = found.items
    assert found.write(without=[second]) == "a: 1 # one\n# two\n---\nc: |\n  x\n"
    third.replacement = [Branch([Entry("d", 4)]), Branch([Entry("e", 5)])]
    assert found.write(without=[first]) == "{b: 2}\n---\nd: 4\n---\ne: 5\n"
    assert found.write(without=found.items) == ""


def test_a_resource_list_becomes_a_stream():
    text = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n- a: 1\n- b: 2\n"
    assert stream(text).write() == "a: 1\n---\nb: 2\n"


def test_an_alias_into_another_element_is_refused_when_they_part():
    found = stream("apiVersion: v1\nkind: List\nitems:\n- a: &x 1\n- b: *x\n")
    assert "*x" in found.write()
    with pytest.raises(ResourceListError, match="alias"):
        found.write(without=[found.items[0]])


def test_only_some_documents_are_written():
    found = stream("a: 1\n", "a.yaml")
    other = found.add(b"b: 1\n", "b.yaml")
    assert found.write(other) == "b: 1\n"
    assert found.write(added=[Branch([Entry("c", 1)])]) == "a: 1\n---\nb: 1\n---\nc: 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", r"f\.yaml is no object"),
        ("a: 1\n---\n5\n", r"f\.yaml: document 2 is no object"),
        ("kind: List\nitems: [1]\n", "no object"),
        ("%TAG ! tag:example.com,2000:\n---\na: !x 1\n", "directive"),
    ],
)
def test_what_is_no_manifest_is_an_error_that_names_the_file(text, message):
    with pytest.raises(ResourceListError, match=message):
        stream(text)


def test_no_utf_8_is_an_error():
    with pytest.raises(ResourceListError, match=r"f: no UTF-8 \(byte 3\)"):
        Stream(FUNCTION).add(b"a: \xff", "f")


@pytest.mark.parametrize(
    "text",
    [
        PLAIN + "data: {k: 'BIG'}\n",
        "# of a ConfigMapList\n" + PLAIN + "data: {k: 'BIG'}\n",
        f"{PLAIN}---\n{PLAIN}data: {{k: 'ÄÄÄÄ'}}\n".replace("ÄÄÄÄ", "Ä" * 60),
        "apiVersion: v1\nkind: List\nitems:\n- " + (PLAIN + "data: {k: 'BIG'}").replace("\n", "\n  ") + "\n",
        '{"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "BIG"}}',
    ],
)
def test_no_object_is_larger_than_a_document_may_be(text):
    """Also one that nobody looks into; a List is not one object."""
    with pytest.raises(LimitError, match="document_bytes"):
        stream(text.replace("BIG", "x" * 120), document_bytes=140)


@pytest.mark.parametrize(
    "text", [PLAIN, "apiVersion: v1\nkind: List\nitems:\n" + 5 * ("- " + PLAIN.replace("\n", "\n  ").rstrip() + "\n")]
)
def test_what_is_large_in_sum_is_not_too_large(text):
    assert stream(text, document_bytes=100).write() == text


def test_limits_hold_for_all_files_together():
    """S23."""
    limits = FUNCTION.changed({"run_nodes": 5, "input_bytes": 20})
    shared = Allowance(limits)
    Stream(limits, allowance=shared).add(b"a: 1\n")
    other = Stream(limits, allowance=shared)
    with pytest.raises(LimitError, match="run_nodes"):
        other.add(b"a: [1,1,1,1]\n")
    with pytest.raises(LimitError, match="input_bytes"):
        other.add(b"#" * 20)


@given(
    st.lists(st.sampled_from(["a: 1\n", "---\n", "...\n", "# c\n", "%YAML 1.1\n", "--- |\n", " x\n", "\n", "- b\n"]))
)
def test_reading_changes_nothing_of_what_is_written(lines):
    text = "".join(lines)
    found = Stream(FUNCTION)
    try:
        found.documents += found.parse(text.encode())
        before = found.write()
        found.items  # noqa: B018
    except (InputError, ResourceListError):
        return
    assert found.write() == before or "a: 1" not in before
