"""Items: what they are called, and edits that change a value, a comment, an annotation, and nothing else."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from krm_sops.errors import InputError
from krm_sops.krm.item import Item, cut_entry, edited, is_injected, refuse_duplicates
from krm_sops.limits import FUNCTION
from krm_sops.stores.json import read_source
from krm_sops.tree import Branch
from krm_sops.yamlio import read
from tests.security import made
from tests.streams import INJECTED, VALUES

TEXTS = [value for value in VALUES if isinstance(value, str)]
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=40) | st.text(" \t\n\r-#:'\"\\ab\x85\u2028", max_size=12)


def item_of(text: str) -> Item:
    """The first element of a list, or a mapping."""
    source = read(text, FUNCTION, 10_000)
    root = source.root[0] if isinstance(source.root, list) else source.root
    assert isinstance(root, Branch)
    return Item(source, root)


def json_item(tree: Any) -> Item:
    source = read_source(json.dumps(tree), FUNCTION, 10_000)
    assert isinstance(source.root, Branch)
    return Item(source, source.root)


def result(item: Item) -> str:
    return edited(item.source.text, item.edits)


CONTEXTS = {
    "block mapping": "a: OLD\nz: 1\n",
    "block mapping, at the end": "z: 1\na: OLD",
    "block mapping, an empty line below": "a: OLD\n\n\nz: 1\n",
    "block mapping, a comment behind": "a: OLD # it's\nz: 1\n",
    "block mapping, a comment below": "a: OLD\n# it's\n  # deeper\nz: 1\n",
    "nested mapping": "x:\n    y:\n        a: OLD\n    # foot\nz: 1\n",
    "mapping in a list": "x:\n- a: OLD\n  b: 1\n- c\nz: 1\n",
    "list": "x:\n- OLD\n- c\nz: 1\n",
    "list, deeper": "x:\n    - OLD # c\n    - c\nz: 1\n",
    "list, deeper, without comment": "x:\n    - OLD\n\n    - c\nz: 1\n",
    "list in a list": "x:\n- - OLD\n  - c\nz: 1\n",
    "flow mapping": "x: {a: OLD, b: 1}\nz: 1\n",
    "flow list": "x: [OLD, b]\nz: 1\n",
    "flow over lines": "x: {b: 1, # c\n  a: OLD, # c\n  c: 1}\nz: 1\n",
    "explicit key": "? a\n: OLD\nz: 1\n",
    "value on its own line": "a:\n    OLD\nz: 1\n",
    "tagged": "a: !!str OLD\nz: 1\n",
    "tagged mapping": "x: !!map\n  a: OLD\nz: 1\n",
    "tagged list": "x: !!seq\n  - OLD\nz: 1\n",
    "double-quoted": 'a: "OLD"\nz: 1\n',
    "single-quoted": "a: 'OLD' # c\nz: 1\n",
    "literal": "a: |-\n  OLD\nz: 1\n",
    "folded": "a: >\n  OLD\n\nz: 1\n",
    "literal, empty lines below": "a: |+\n  OLD\n\n\nz: 1\n",
    "CRLF": "x:\r\n  a: OLD\r\n  b: 1\r\nz: 1\r\n",
}


def found(node: Any) -> Any:
    """What stands where OLD stood: the only scalar that is neither a one nor a letter; None where it is gone."""
    if isinstance(node, dict):
        return found(node["a"] if "a" in node else node["x"] if "x" in node else node["y"])
    return found(node[0]) if isinstance(node, list) else node


def put(text: str, value: Any, *, quoted: bool) -> str:
    item = item_of(text)
    leaf = next(at for at, span in enumerate(item.source.spans) if span and "OLD" in text[span.start : span.end])
    item.put(leaf, value, quoted=quoted, path=("a",))
    return result(item)


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_text_survives_in_every_context(context: str, quoted: bool) -> None:
    """A text reads back as itself, in YAML 1.1 and 1.2, and everything else stays."""
    text = CONTEXTS[context]
    for value in TEXTS:
        spelled = put(text, value, quoted=quoted)
        assert found(yaml.safe_load(spelled)) == value, repr(value)
        assert found(as_plain(read(spelled, FUNCTION, 10_000).root)) == value, repr(value)
        if "\n" not in value:
            assert spelled.count("\n") <= text.count("\n")
        for part in text.split("OLD"):
            for line in part.split("\n")[1:-1]:
                assert line in spelled


def as_plain(node: Any) -> Any:
    if isinstance(node, Branch):
        return {entry.key: as_plain(entry.value) for entry in node.entries}
    return [as_plain(element) for element in node] if isinstance(node, list) else node


@settings(deadline=None, max_examples=300)
@given(value=ANY_TEXT, context=st.sampled_from(sorted(CONTEXTS)), quoted=st.booleans())
@example(value="\n \n", context="block mapping, an empty line below", quoted=True)
def test_any_text_survives(value: str, context: str, quoted: bool) -> None:
    """The same for texts that nobody thought of."""
    spelled = put(CONTEXTS[context], value, quoted=quoted)
    assert found(yaml.safe_load(spelled)) == value
    assert found(as_plain(read(spelled, FUNCTION, 10_000).root)) == value


@settings(deadline=None, max_examples=200)
@given(ANY_TEXT)
@example("\x7f\x85\u2028\ufeff\ufffe😀")
def test_any_text_survives_in_json(value: str) -> None:
    """JSON stays JSON, and reads the same for those who read it as YAML."""
    item = json_item({"a": "OLD", "b": [1]})
    item.put(0, value, quoted=True, path=("a",))
    assert json.loads(result(item)) == {"a": value, "b": [1]}
    assert yaml.load(result(item), Loader=yaml.CSafeLoader) == {"a": value, "b": [1]}


@pytest.mark.parametrize("context", CONTEXTS)
def test_bytes_that_are_no_text_are_refused(context: str) -> None:
    """No Kubernetes object can hold what is no UTF-8."""
    with pytest.raises(InputError, match="no UTF-8"):
        put(CONTEXTS[context], "\udcff\udcfe" * 60, quoted=True)
    with pytest.raises(InputError, match="no UTF-8"):
        json_item({"a": "OLD"}).put(0, "\udcff", quoted=True, path=("a",))


@pytest.mark.parametrize("text", ["a: &x OLD\nb: *x\n", "a: &m\n  b: OLD\nc: *m\n", "- &i\n  a: OLD\n  b: c\n- *i\n"])
def test_what_an_alias_may_repeat_is_not_replaced(text: str) -> None:
    """The plaintext would appear wherever the alias stands."""
    with pytest.raises(InputError, match="anchor or alias"):
        put(text, "x", quoted=True)


# Names and annotations


def test_the_injected_annotations_are_those_of_kpt_and_kustomize() -> None:
    """What kpt was seen to add is known, what people write is not taken for it."""
    assert all(map(is_injected, INJECTED))
    assert is_injected("internal.config.kubernetes.io/package-path")
    assert not is_injected("config.kubernetes.io/local-config")
    assert not is_injected("config.kubernetes.io/depends-on")
    assert not is_injected("example.com/internal.config.kubernetes.io/path")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("metadata: {annotations: {config.k8s.io/id: '1', a: b}}", [0]),
        ("a: b\nmetadata:\n  name: x\n  annotations:\n    a: b\n    config.k8s.io/id: '1'\n", [3]),
        ("metadata: {annotations: {config.k8s.io/id: 'ENC[x]', a: b}}", []),
        ("metadata: {annotations: {config.k8s.io/id: {x: y}}}", []),
        ("metadata: {annotations: text}", []),
        ("metadata: {annotations: {}}", []),
        ("spec: &s {config.k8s.io/id: '1'}\nmetadata: {annotations: *s}", []),
        ("metadata: {spec: &s {config.k8s.io/id: '1'}, annotations: *s}", []),
        ("x: &m {annotations: {config.k8s.io/id: '1'}}\nmetadata: *m", []),
    ],
)
def test_only_annotations_where_they_belong_are_detached(text: str, numbers: list[int]) -> None:
    """S6: an alias cannot make values of another place count as injected annotations."""
    assert item_of(text).injected_leaves() == numbers


def test_an_item_says_where_it_is() -> None:
    """File and index, then kind/namespace/name; foreign text is escaped and cut."""
    text = "kind: Secret\nmetadata: {name: x, namespace: ns, annotations: {config.kubernetes.io/path: f.yaml, %s}}\n"
    assert str(item_of(text % "a: b")) == "f.yaml: Secret/ns/x"
    assert str(item_of(text % "internal.config.kubernetes.io/index: '2'")) == "f.yaml[2]: Secret/ns/x"
    assert str(item_of("a: b")) == "object"
    assert "\x1b" not in str(item_of('kind: "\\e[1m"\nmetadata: {name: "a\\nb"}'))
    assert len(str(item_of(f"kind: {'k' * 999}"))) < 100


KEY = "config.kubernetes.io/local-config"


@pytest.mark.parametrize(
    "text",
    [
        "- metadata:\n    name: x\n",
        "- metadata:\n    name: x\n    annotations:\n      a: b\n",
        "- metadata:\n    # head\n    annotations:\n      # head\n      a: b # c\n    name: x\n",
        "- metadata:\n    annotations: {}\n    name: x\n",
        "- metadata:\n    name: x\n    annotations:\n",
        "- metadata:\n    name: x\n    annotations: # none\n",
        "- metadata:\n    name: x\n    annotations: null",
        "- metadata: {name: x}\n",
        "- metadata: {name: x, annotations: {a: b}}\n",
        "- metadata: {annotations: {}, name: x}\n",
        '- {"metadata": {"name": "x"}}\n',
        f"- metadata:\n    name: x\n    annotations:\n      {KEY}: 'false'\n      a: b\n",
        f"- metadata:\n    name: x\n    annotations:\n      {KEY}: true\n",
        f"- metadata:\n    name: x\n    annotations:\n      {KEY}: |\n        no\n      a: b\n",
        f"- metadata: {{name: x, annotations: {{{KEY}: no}}}}\n",
        "- metadata: !!map\n    name: x\n",
        "- metadata:\n    ? name\n    : x\n",
        "- metadata:\n    annotations: !!map\n      ? a\n      : b\n    name: x\n",
    ],
)
def test_an_annotation_is_set_whatever_stands_there(text: str) -> None:
    """It is there once, as a string; nothing else changes; and once is enough."""
    before = yaml.safe_load(text)[0]
    item = item_of(text)
    item.annotate(KEY, "true")
    item.annotate("another", "1")
    (after,) = yaml.safe_load(result(item))
    given = before["metadata"].get("annotations") or {}
    assert after["metadata"]["annotations"] == {**given, KEY: "true", "another": "1"}
    assert result(item).count("annotations") == 1
    assert after["metadata"]["name"] == "x"
    again = item_of(result(item))
    again.annotate(KEY, "true")
    assert again.edits == []


@pytest.mark.parametrize(
    "tree", [{"name": "x"}, {"name": "x", "annotations": {"a": "b"}}, {"annotations": {}}, {"annotations": None}]
)
def test_an_annotation_is_set_in_json(tree: dict[str, Any]) -> None:
    item = json_item({"metadata": {**tree, "z": 1}})
    item.annotate(KEY, "true")
    item.annotate("another", "1")
    after = json.loads(result(item))["metadata"]
    assert after == {**tree, "z": 1, "annotations": {**(tree.get("annotations") or {}), KEY: "true", "another": "1"}}
    assert result(item).count("annotations") == 1


@pytest.mark.parametrize(
    "text",
    [
        "x: &m {name: y}\nmetadata: *m",
        "metadata: {labels: &l {a: b}, annotations: *l}",
        "metadata: {annotations: text}",
        "metadata: {}",
    ],
)
def test_an_annotation_is_not_set_where_it_would_change_something_else(text: str) -> None:
    with pytest.raises(InputError):
        item_of(text).annotate(KEY, "true")


# Cutting an entry


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a: b\nsops:\n  x: y\nc: d\n", "a: b\nc: d\n"),
        ("a: b\nsops:\n  x: y\n", "a: b\n"),
        ("a: b\nsops:\n  x: y", "a: b\n"),
        ("sops:\n  x: y\na: b\n", "a: b\n"),
        (
            "a: b\n# about it\nsops: # here\n  x: y # there\n  # inside\n # below\n# not of it\nc: d\n",
            "a: b\n# about it\n# not of it\nc: d\n",
        ),
        ("a: b\nsops: {x: y} # z\nc: d\n", "a: b\nc: d\n"),
        ("a: b\nsops:\n- x\n- y\nc: d\n", "a: b\nc: d\n"),
        ("a: b\nsops: |+\n  x\n\nc: d\n", "a: b\n\nc: d\n"),
        ("? a\n: b\n? sops\n: x: y\n? c\n: d\n", "? a\n: b\n? c\n: d\n"),
        ("? sops # ?\n: x: y\nc: d\n", "c: d\n"),
        ("?\n  # ?\n  sops\n:\n  x: y\nc: d\n", "c: d\n"),
        ("- sops:\n    x: y\n  # c?\n  c: d\n", "- # c?\n  c: d\n"),
        ("- sops:\n    x: y\n\n  c: d\n", "- c: d\n"),
        ("- sops: {x: y} # z\n  c: d\n", "- c: d\n"),
        ("- ? sops\n  : x: y\n  c: d\n", "- c: d\n"),
        ("- # head\n  sops:\n    x: y\n  c: d\n", "- # head\n  c: d\n"),
        ("-\n  sops: 1\n  c: d\n", "-\n  c: d\n"),
        ("- !!map\n  sops: 1\n  c: d\n", "- !!map\n  c: d\n"),
        ("- sops: 1\n", "- {}\n"),
        ("- c: d\n  sops: 1\n- e: f\n", "- c: d\n- e: f\n"),
        ("{a: b, sops: {x: y}, c: d}", "{a: b, c: d}"),
        ("{sops: {x: y}, c: d}", "{c: d}"),
        ("{a: b, sops: {x: y}}", "{a: b}"),
        ("{a: b, sops: {x: y}, }", "{a: b, }"),
        ("{sops: {x: y}}", "{}"),
        ("{a: b,\n # c\n ? sops : 1,\n c: d}", "{a: b,\n c: d}"),
        ("a: b\r\nsops:\r\n  x: y\r\nc: d\r\n", "a: b\r\nc: d\r\n"),
        ("sops: 1\n\n\n# end\n", "{}\n\n# end\n"),
    ],
)
def test_an_entry_goes_with_its_lines_and_no_others(text: str, left: str) -> None:
    item = item_of(text)
    item.cut("sops")
    assert result(item) == left


@settings(deadline=None, max_examples=200)
@given(
    st.permutations(["a: b", "sops:\n  x: y\n  # in", "# c", "", "'d': |+\n  e\n\n", "f:\n- g", "h: {i: j}"]),
    st.booleans(),
)
def test_what_is_left_reads_as_before(parts: list[str], in_list: bool) -> None:
    """Whatever stands around it, the other entries keep their values."""
    text = "\n".join(parts) + "\n"
    if in_list:
        text = "- " + textwrap.indent(text, "  ")[2:] if parts[0] else "-" + textwrap.indent(text, "  ")
    before = yaml.safe_load(text)
    item = item_of(text)
    item.cut("sops")
    after = yaml.safe_load(result(item))
    for tree in (before[0], after[0]) if in_list else (before, after):
        tree.pop("sops", None)
        tree["d"] = tree["d"].rstrip("\n")  # empty lines below a block that keeps them are its own
    assert after == before


def test_a_cut_of_the_config_leaves_its_neighbours() -> None:
    text = "a: 1\nconfig:\n  x: y\nb: 2\n"
    source = read(text, FUNCTION, 100)
    start, stop = cut_entry(text, source.places[id(source.root)], 1)
    assert text[:start] + text[stop:] == "a: 1\nb: 2\n"


# Comments


def test_comments_are_replaced_where_they_stand_and_nowhere_else() -> None:
    """Not in values, not in other items; the same comment twice is replaced twice, in order."""
    old = "ENC[AES256_GCM,data:x,type:comment]"
    other = f"- a: b #{old}\n"
    mine = f'- #{old}\n  note: "#{old}"\n  text: |\n    #{old}\n  a: b #{old}\n  #{old}\n'
    source = read(other + mine + other, FUNCTION, 1000)
    assert isinstance(source.root, list)
    item = Item(source, source.root[1])  # type: ignore[arg-type]
    for new in (" one", "two", " three 😀"):
        item.put_comment(old, new, ())
    wanted = f'- # one\n  note: "#{old}"\n  text: |\n    #{old}\n  a: b #two\n  # three 😀\n'
    assert result(item) == other + wanted + other
    with pytest.raises(InputError, match="cannot stand there"):
        item.put_comment(old, "four", ())


@pytest.mark.parametrize("new", ["a\nb", "a\rb", "a\x85b", "a\u2028b", "\x00", "\x07", "\ufeff", "\udcff"])
def test_a_comment_cannot_become_more_than_a_comment(new: str) -> None:
    """S32: its plaintext is foreign text, and a line break in it would be YAML."""
    with pytest.raises(InputError, match="cannot stand there"):
        item_of("a: b #ENC[x]\n").put_comment("ENC[x]", new, ())
    with pytest.raises(InputError, match="cannot stand there"):
        item_of("a:\n- ENC[x]\n- c\n").put_list_comment(0, new, ())


def test_a_list_element_becomes_a_comment() -> None:
    item = item_of("a:\n  - b\n  - ENC[x] # more\n  - c\n")
    item.put_list_comment(1, " text", ())
    assert result(item) == "a:\n  - b\n  # text # more\n  - c\n"
    for text in ("a: [b, ENC[x]]\n".replace("ENC[x]", '"ENC[x]"'), "a: !!seq\n- b\n- ENC[x]\n"):
        with pytest.raises(InputError, match="cannot stand there"):
            item_of(text).put_list_comment(1, " text", ())


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("- a: b\n  c: d\n- e: f\n", "  a: b\n  c: d\n"),
        ("# above\n- # head\n  a: b\n  # foot\n# below\n- e: f\n", "  # head\n  a: b\n  # foot\n"),
        ("-\n  # head\n\n  a: b - c\n\n  # foot\n\n- e: f\n", " \n  # head\n\n  a: b - c\n\n  # foot\n"),
        ("- {a: b, c: d}\n- e: f\n", "{a: b, c: d}"),
        ("  -   a: b\n      c: d\n  # of the list\n      # foot\n  - e: f\n", "      a: b\n      c: d\n"),
    ],
)
def test_an_item_as_a_document_of_its_own_keeps_its_comments(text: str, own: str) -> None:
    """Without the dash, with what is indented like it, without what belongs to its neighbours."""
    assert item_of(text).own_text() == own
    assert yaml.safe_load(own) == yaml.safe_load(text)[0]


def test_duplicate_keys_are_refused_at_any_depth() -> None:
    """S17: also in lists of lists, and in JSON; equal texts under different types are different keys."""
    for text in ("a: 1\na: 2", "x:\n- - b: {c: 1, c: 2}", '{"a": 1, "\\x61": 2}'):
        with pytest.raises(InputError, match="occurs twice"):
            refuse_duplicates(read(text, FUNCTION, 100).root)
    refuse_duplicates(read("a: {b: 1}\nb: {b: 1}\nc: [{b: 1}, {b: 1}]", FUNCTION, 100).root)


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_text_fields_leave_as_strings_in_every_yaml(kind: str) -> None:
    """Encrypted or not, quoted or not: stringData and ConfigMap.data hold strings for YAML 1.1 and 1.2."""
    field = {"Secret": "stringData", "ConfigMap": "data"}[kind]
    values = {f"k{at}": value for at, value in enumerate(VALUES)}
    plain = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, field: values}
    for spelled in (made.yaml(made.encrypted(plain)), json.dumps(made.encrypted(plain)) + "\n"):
        output, _, status = made.function(made.resource_list(spelled))
        assert status == 0
        (after,) = yaml.load(output, Loader=yaml.CSafeLoader)["items"]
        wanted = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
        assert {
            key: value.lower() if value in ("True", "False") else value for key, value in after[field].items()
        } == wanted


@pytest.mark.parametrize(
    "spelled", ["yes", "12:30:45", "0o7", "1e3", "8080", "true", "2024-01-01", "!!int 5", "1_000", "0x10"]
)
def test_text_fields_that_were_not_encrypted_leave_as_strings_too(spelled: str) -> None:
    plain = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x"},
        "data": {"a": "secret"},
        "binaryData": {},
    }
    document = made.encrypted(plain, encrypted_regex="^a$", mac_only_encrypted=True, mac=None)
    document["sops"]["mac"] = made.enc(only_encrypted_mac("secret"), made.MODIFIED)
    text = made.yaml(document).replace("\ndata:\n", f"\ndata:\n  port: {spelled}\n", 1)
    output, _, status = made.function(made.resource_list(text))
    assert status == 0
    after = yaml.safe_load(output)["items"][0]["data"]
    assert after == {"port": spelled.removeprefix("!!int "), "a": "secret"}


def only_encrypted_mac(*values: str) -> str:
    import hashlib

    return hashlib.sha512(made.ONLY_ENCRYPTED_SEED + "".join(values).encode()).hexdigest().upper()
