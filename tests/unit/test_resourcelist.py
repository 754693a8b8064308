"""ResourceLists: which reader takes a list, what each finds, what is written on success and on failure."""

from __future__ import annotations

import json
import textwrap
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.errors import LimitError, ResourceListError
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.krm.resourcelist import NotPlainError, ResourceList, _plain
from krm_sops.limits import FUNCTION, Limits
from tests.security import made

if TYPE_CHECKING:
    from krm_sops.krm.results import Result

HEAD = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
CONFIG_MAP = "- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: plain\n  data:\n    a: 'b'\n"
SECRET = "- " + textwrap.indent(made.yaml(made.encrypted()), "  ")[2:]
BAD = SECRET.replace("GCM,data:", "GCM,data:AAAA", 1).replace('name: "db"', 'name: "bad"')
KEY_ITEM = "- " + textwrap.indent(made.yaml(made.KEY_SECRET), "  ")[2:]
CONFIG = "functionConfig:\n" + textwrap.indent(made.yaml(made.KEY_SECRET), "  ")
REFERENCE = """\
functionConfig:
  apiVersion: v1
  kind: ConfigMap
  metadata:
    name: c
  data:
    secretRef: sops-keys
"""
BOM = "\ufeff"


def listed(*items: str, config: str = "", head: str = HEAD) -> str:
    return head + "items:\n" + "".join(items) + config


def is_fast(text: str) -> bool:
    """Whether the fast reader takes it, and keeps it when it is asked for items."""
    stream = _plain(text.encode("utf-8", "surrogateescape"), FUNCTION)
    try:
        return stream is not None and stream.with_key(b"sops") is not None
    except NotPlainError:
        return False


def both(text: str, env: dict[str, str] | None = None) -> tuple[str, list[Result], int]:
    """The function's answer, which must be the same from both readers."""
    output, results, status = made.function(text, env)
    if not text.lstrip().startswith("{"):
        exact, other, same = made.function(BOM + text.removeprefix(BOM), env)
        assert exact.removeprefix(BOM) == output.removeprefix(BOM)
        assert [one.line() for one in other] == [one.line() for one in results]
        assert same == status
    return output, results, status


def as_json(text: str, indent: int | None = None) -> str:
    return json.dumps(yaml.safe_load(text), indent=indent)


# Which reader


@pytest.mark.parametrize(
    "text",
    [
        listed(CONFIG_MAP),
        listed(CONFIG_MAP, SECRET, config=CONFIG),
        listed(SECRET, config=CONFIG, head=HEAD.replace("v1", "v1alpha1")),
        CONFIG + HEAD + "items:\n" + SECRET,
        "items:\n" + SECRET + HEAD,
        HEAD + "# comment\n\nitems:\n# above\n".replace("# above\n", "") + SECRET + "\n\n# below\n",
        listed(CONFIG_MAP.replace("'b'", "|\n      - sops:\n        x: 'y'\n")),
        listed("- # head\n  a: b\n  c: d\n", SECRET)[:-1],
        listed("- {a: b, sops: c}\n"),
    ],
)
def test_what_kpt_and_kustomize_write_takes_the_fast_way(text: str) -> None:
    assert is_fast(text)


@pytest.mark.parametrize(
    "text",
    [
        BOM + listed(CONFIG_MAP),
        as_json(listed(CONFIG_MAP)),
        "---\n" + listed(CONFIG_MAP) + "---\n",
        "%YAML 1.1\n---\n" + listed(CONFIG_MAP),
        listed(CONFIG_MAP) + "...\n",
        listed(CONFIG_MAP).replace("\n", "\r\n"),
        listed(CONFIG_MAP, "- a: b\r  sops: c\n"),
        listed(CONFIG_MAP, "- a: b\x85  sops: c\n"),
        listed(CONFIG_MAP, "- {a: b,\u2028sops: c}\n"),
        HEAD + "items:\n" + textwrap.indent(CONFIG_MAP, "  "),
        HEAD + "items: # all\n" + CONFIG_MAP,
        HEAD + '"items":\n' + CONFIG_MAP,
        HEAD + "items:\n# first\n" + CONFIG_MAP,
        HEAD + "items: []\n",
        HEAD + "items:\n",
        listed(CONFIG_MAP) + "results: []\n",
        listed(CONFIG_MAP) + "results:\n",
        listed(CONFIG_MAP) + '"functionConfig": {}\n',
        listed(CONFIG_MAP) + "functionConfig : {}\n",
        listed(CONFIG_MAP) + "? functionConfig\n: {}\n",
        listed(CONFIG_MAP) + "functionConfig: text\n",
        listed(CONFIG_MAP) + "functionConfig: {a: &x b, c: *x}\n",
        listed(CONFIG_MAP) + "unknown:\n- a: b\n  sops: c\n",
        listed(CONFIG_MAP) + "unknown: # c\n\n  # d\n- a: b\n  sops: c\n",
        listed(CONFIG_MAP) + "unknown:\n  &anchor\n- a: b\n  sops: c\n",
        listed(CONFIG_MAP) + "unknown: x\n",
        HEAD + "kind: ResourceList\nitems:\n" + CONFIG_MAP,
        HEAD + 'x: "\nitems:\n- a: b\n  sops: c"\nitems:\n' + CONFIG_MAP,
        HEAD + "functionConfig: {x: y,\nitems:\n- a: b}\n",
        listed("- a: b\n- sops: c\n"),
        listed("- a: {? w\n", "- a: b,\n  sops: c}\n"),
        listed('- a: "\n', "- a: b\n  sops: c\n", '- "\n'),
        listed("- a: '\n", "- a: b\n  sops: c\n", "- '\n"),
        listed("- a: b\n  <<: *sops\n"),
        listed("- a: b\n  ? [sops]\n  : c\n"),
        listed("- a: b\n  sops: 'open\n"),
        listed("- a: &x b\n  c: d\n", "- e: *x\n  sops: f\n"),
        HEAD + "items:\n-\n  a: b\n  sops: c\n",
    ],
)
def test_everything_else_takes_the_exact_way(text: str) -> None:
    """S17: layout, escapes, flow style, quotes: where the fast reader cannot be sure, it does not decide."""
    assert not is_fast(text)


@pytest.mark.parametrize(
    "key",
    [
        '"\\x73ops"',
        '"so\\u0070s"',
        "!!binary c29wcw==",
        "!!str sops",
        "'sops'",
        "&a sops",
        "? sops\n  ",
        '? "\\x73ops"\n  ',
        "?\n    sops\n  ",
        "? !!binary c29wcw==\n  ",
    ],
)
@pytest.mark.parametrize("head", ["", "a: b\n  ", "# it's\n  a: b\n  "])
def test_no_spelling_hides_a_sops_key(head: str, key: str) -> None:
    """S17: however the key is spelled, the item counts as encrypted, and is decrypted or refused."""
    text = listed(CONFIG_MAP, f"- {head}{key}: text\n  c: d\n")
    for exact in (False, True):
        try:
            found = ResourceList(text.encode(), FUNCTION, exact=exact).encrypted()
        except NotPlainError:
            continue
        assert len(found) == 1
    assert both(text)[2] == 1


@pytest.mark.parametrize(
    "item",
    [
        '- {a: b,\n  c: d, "\\x73ops": e}\n',
        '- # head\n  {a: b,\n  c: d, "\\x73ops": e}\n',
        "- !!map {a: b,\n  sops: d}\n",
        "- &x\n  a: b\n  ? sops\n",
        "- {a: b, sops}\n",
        "- a: &k sops\n  *k : e\n",
    ],
)
def test_no_layout_hides_a_sops_key(item: str) -> None:
    assert both(listed(CONFIG_MAP, item))[2] == 1


def test_sops_anywhere_else_is_left_alone() -> None:
    """In values, comments, deeper keys, longer words: nothing to decrypt, and nothing changes."""
    item = (
        CONFIG_MAP
        + "    sops: x\n    # sops:\n    text: |\n      sops:\n        mac: x\n  sops-keys: 1\n  krm-sops.dev: 1\n"
    )
    text = listed(item, "- a: b  # sops: c\n  d: sops\n", config=CONFIG)
    assert both(text)[0] == listed(item, "- a: b  # sops: c\n  d: sops\n")
    assert both(text)[2] == 0


# What is no list


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing on stdin"),
        (" \n\n", "nothing on stdin"),
        ("a: b", "no ResourceList"),
        ("- a", "no mapping"),
        ("kind: Secret\nsops: {}", "no ResourceList"),
        ("kind: ResourceList\nitems: text", "items is no list"),
        ("kind: ResourceList\nitems: [1]", r"items\[0\] is no object"),
        ("kind: ResourceList\nitems: [{}, [a]]", r"items\[1\] is no object"),
        ("kind: ResourceList\nitems: []\nresults: {}", "results is no list"),
        ("kind: ResourceList\nitems: []\nfunctionConfig: []", "functionConfig is no mapping"),
        ("kind: ResourceList\nitems: []\nitems: []", "occurs twice"),
        (
            "kind: ResourceList\nx: &x []\nitems: []\nresults: &y [{a: b}]\nz: *y\nitems2: *x\nkind2: [",
            "is no ResourceList: line",
        ),
        ("x: &x [{a: b}]\nkind: ResourceList\nitems: *x", "items is an alias"),
        ("kind: ResourceList\nitems: []\n---\na: b", "more than one document"),
        ("kind: ResourceList\nitems: [", "is no ResourceList: line"),
        ('{"kind": "ResourceList", "items": [1]}', r"items\[0\] is no object"),
        ('{"kind": "ResourceList", "items": [{}]', "is no ResourceList: line"),
        ("kind: ResourceList\nx: \udcff", "not UTF-8"),
        ("kind: ResourceList\nx: \x07", "control characters"),
    ],
)
def test_what_is_no_list_is_said_in_one_line(text: str, message: str) -> None:
    """There is no list to answer in, so it is raised: stderr, and an empty stdout."""
    with pytest.raises(ResourceListError, match=message) as caught:
        run(text.encode("utf-8", "surrogateescape"), Host(env={}, files={}), FUNCTION)
    assert "\n" not in str(caught.value)


def test_kind_list_is_taken_too() -> None:
    """kyaml takes `List` as well."""
    assert both(listed(CONFIG_MAP, SECRET, config=CONFIG, head="apiVersion: v1\nkind: List\n"))[2] == 0


def test_limits_hold_for_both_readers() -> None:
    """S23: bytes of input, depth, nodes after aliases are expanded; an item's depth counts from the item."""
    deep = "- a: b\n  sops: " + "[" * 99 + "]" * 99 + "\n"
    for exact in (False, True):
        assert ResourceList(listed(deep).encode(), FUNCTION, exact=exact).encrypted()
    deeper = listed(deep.replace("[]", "[[]]"))
    laughs = "- a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"  b{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 8)
    )
    for text, limits in (
        (deeper, FUNCTION),
        (listed(laughs + "  sops: {}\n"), FUNCTION),
        (listed(SECRET * 30), Limits(run_nodes=100)),
        (listed(CONFIG_MAP), Limits(input_bytes=10)),
    ):
        for one in (text, BOM + text):
            with pytest.raises(LimitError):
                made.function(one, limits=limits)


# Success


def test_untouched_items_leave_byte_for_byte() -> None:
    """Odd spellings, comments, blank lines, everything."""
    odd = "- # head\n  a:   'b'   # c\n\n  ? x\n  : !!str y\n  t: >-\n     folded\n\n     text\n  f: {a: b,\n   c: d}\n"
    odd += "# between\n\n"
    output, _, status = both(listed(odd, SECRET, odd, config=CONFIG))
    assert status == 0
    before, _, after = output.partition(made.yaml(made.PLAIN).splitlines()[0])
    assert before == listed(odd, "- ")
    assert after.endswith("\n" + odd)


def test_success_says_nothing_and_leaves_no_key() -> None:
    """S11, and no result: kpt shows what is in results."""
    output, results, status = both(listed(CONFIG_MAP, SECRET, config=CONFIG))
    assert (results, status) == ([], 0)
    assert made.IDENTITY not in output
    assert yaml.safe_load(output)["items"][1] == made.PLAIN
    assert both(output)[0] == output


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_stays_json(order: int, indent: int | None) -> None:
    whole = {
        "kind": "ResourceList",
        "items": [{"a": "b"}, made.encrypted({**made.PLAIN, "stringData": {"user": 'x"\x85\n'}})],
        "functionConfig": made.KEY_SECRET,
    }
    names = list(whole)
    text = json.dumps({name: whole[name] for name in names[order:] + names[:order]}, indent=indent)
    output, results, status = both(text)
    assert (results, status) == ([], 0)
    after = json.loads(output)
    assert after["items"] == [{"a": "b"}, {**made.PLAIN, "stringData": {"user": 'x"\x85\n'}}]
    assert "functionConfig" not in after
    assert yaml.safe_load(output) == after


# Failure


FORMS = ("block", "config first", "json", "json over lines", "flow")


def spelled(form: str, *items: str, config: str, results: str = "") -> str:
    text = config + listed(*items) + results if form == "config first" else listed(*items, config=config) + results
    if form.startswith("json"):
        return as_json(text, 2 if "lines" in form else None) + "\n"
    return "# flow\n" + as_json(text) + " # }\n" if form == "flow" else text


def without(text: str, *gone: str) -> str:
    for part in gone:
        assert part in text
        text = text.replace(part, "", 1)
    return text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "old",
    [
        "",
        "results: []\n",
        "results:\n- message: old\n",
        "results:\n  - message: old\n",
        "results: [{message: old}]\n",
        "results:\n",
    ],
)
def test_on_failure_items_leave_as_they_came(form: str, old: str) -> None:
    """Contract 6: every item, also those that could be decrypted; no key; old results kept, new ones behind them."""
    text = spelled(form, CONFIG_MAP, BAD, SECRET, config=CONFIG, results=old)
    output, results, status = both(text)
    assert status == 1
    assert made.IDENTITY not in output
    before, after = (yaml.load(one, Loader=yaml.CBaseLoader) for one in (text, output))
    assert after["items"] == before["items"]
    assert "functionConfig" not in after
    kept = before["results"] if isinstance(before.get("results"), list) else []
    assert after["results"][: len(kept)] == kept
    assert len(after["results"]) == len(kept) + len(results) == len(kept) + 1
    if form.startswith("json"):
        assert json.loads(output)["items"] == json.loads(text)["items"]
    if form in ("block", "config first"):
        assert CONFIG_MAP + BAD + SECRET in output
        assert output.startswith(HEAD)
    if not old and form == "block":
        assert output.startswith(listed(CONFIG_MAP, BAD, SECRET) + "results:\n- message: ")


def test_every_item_that_fails_is_reported() -> None:
    """Not only the first; each with reference, file, field and reason, as the specification names them."""
    path = '{"config.kubernetes.io/path": "a/b.yaml", "internal.config.kubernetes.io/index": "3"}'
    second = BAD.replace("    name:", f"    annotations: {path}\n    name:", 1)
    not_sops = "- apiVersion: v1\n  kind: Odd\n  metadata: {name: x}\n  sops: text\n"
    output, results, status = both(listed(BAD, SECRET, second, not_sops, config=CONFIG))
    assert status == 1
    assert [one.severity for one in results] == ["error"] * 3
    told = yaml.safe_load(output)["results"]
    reference = {"apiVersion": "v1", "kind": "Secret", "name": "bad", "namespace": "prod"}
    assert [one["resourceRef"] for one in told] == [
        reference,
        reference,
        {"apiVersion": "v1", "kind": "Odd", "name": "x"},
    ]
    assert [one["tags"]["reason"] for one in told] == ["TagMismatch", "TagMismatch", "InvalidDocument"]
    assert [one.get("field") for one in told] == [{"path": "stringData.user"}] * 2 + [None]
    assert [one.get("file") for one in told] == [None, {"path": "a/b.yaml", "index": 3}, None]
    assert all(one["severity"] == "error" and "\n" not in one["message"] for one in told)
    assert "annotate the item" in told[2]["message"]


@pytest.mark.parametrize("newline", ["", "\n", "\n\n# end\n", "\n...\n"])
@pytest.mark.parametrize("config", [CONFIG, REFERENCE])
def test_results_go_behind_whatever_ends_the_list(config: str, newline: str) -> None:
    """No final line break, comments, a document end: what is written reads back."""
    for parts in product((CONFIG_MAP + BAD + KEY_ITEM, KEY_ITEM + BAD), (False, True)):
        items, first = parts
        text = (config + HEAD + "items:\n" + items if first else HEAD + "items:\n" + items + config)[:-1] + newline
        output, results, status = both(text)
        assert status == 1
        after = yaml.safe_load(output)
        assert len(after["results"]) == len(results) > 0
        assert made.IDENTITY not in output
        assert len(after["items"]) == items.count("metadata:") - 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "items",
    [
        (KEY_ITEM, CONFIG_MAP, BAD),
        (CONFIG_MAP, KEY_ITEM, BAD),
        (BAD, CONFIG_MAP, KEY_ITEM),
        (BAD, KEY_ITEM, KEY_ITEM),
        (KEY_ITEM, KEY_ITEM, BAD),
        (KEY_ITEM, BAD, KEY_ITEM),
    ],
)
def test_key_secrets_are_left_out_of_what_fails(form: str, items: tuple[str, ...]) -> None:
    """S11: wherever they stand; the others stay as they came."""
    text = spelled(form, *items, config=REFERENCE)
    output, _, status = both(text)
    assert status == 1
    assert made.IDENTITY not in output
    kept = [
        item for item in yaml.load(text, Loader=yaml.CBaseLoader)["items"] if item["metadata"]["name"] != "sops-keys"
    ]
    assert yaml.load(output, Loader=yaml.CBaseLoader)["items"] == kept
    if form == "block":
        assert output.startswith(HEAD + "items:\n" + "".join(item for item in items if item != KEY_ITEM))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_but_key_secrets_leaves_an_empty_list(form: str) -> None:
    text = spelled(form, KEY_ITEM, KEY_ITEM, config=REFERENCE.replace("secretRef", "strict: maybe\n    secretRef"))
    output, _, status = both(text)
    assert status == 1
    assert yaml.safe_load(output)["items"] == []
    assert made.IDENTITY not in output


# Key Secrets


def key_secret(**metadata: Any) -> str:
    return (
        "- " + textwrap.indent(made.yaml({**made.KEY_SECRET, "metadata": {"name": "sops-keys", **metadata}}), "  ")[2:]
    )


def reference(namespace: str = "", kind: str = "ConfigMap") -> str:
    space = f"    namespace: {namespace}\n" if namespace else ""
    if kind == "ConfigMap":
        return REFERENCE.replace("    name: c\n", "    name: c\n" + space)
    return (
        "functionConfig:\n  apiVersion: krm-sops.dev/v1alpha1\n  kind: SopsDecrypt\n  metadata:\n    name: c\n"
        + space
        + "  spec:\n    decryption:\n      provider: sops\n      secretRef: {name: sops-keys}\n"
    )


@pytest.mark.parametrize("kind", ["ConfigMap", "SopsDecrypt"])
@pytest.mark.parametrize("form", FORMS)
def test_the_key_secret_stays_as_local_config(form: str, kind: str) -> None:
    """It opens the items, and stays in the list so that a package keeps its file, marked so that nothing deploys it."""
    text = spelled(form, CONFIG_MAP, SECRET, KEY_ITEM, config=reference(kind=kind))
    output, results, status = both(text)
    assert (results, status) == ([], 0)
    after = yaml.load(output, Loader=yaml.CBaseLoader)
    assert after["items"][1] == made.PLAIN
    annotations = {"config.kubernetes.io/local-config": "true"}
    assert after["items"][2] == {**made.KEY_SECRET, "metadata": {"name": "sops-keys", "annotations": annotations}}
    assert "functionConfig" in after
    assert both(output)[0] == output


@pytest.mark.parametrize(
    ("secrets", "namespace", "count"),
    [
        ([{}], "", 1),
        ([{"namespace": "a"}], "a", 1),
        ([{"namespace": "a"}], "", 0),
        ([{}], "a", 0),
        ([{"namespace": "default"}], "", 0),
        ([{"namespace": "a"}, {"namespace": "b"}], "b", 1),
        ([{}, {}], "", 2),
        ([], "", 0),
        (
            [{"name": "p-sops-keys", "annotations": {"internal.config.kubernetes.io/previousNames": "sops-keys,x"}}],
            "",
            1,
        ),
        ([{"annotations": {"internal.config.kubernetes.io/previousNames": "other,sops-keys"}}], "", 0),
        (
            [
                {
                    "namespace": "deep",
                    "annotations": {
                        "internal.config.kubernetes.io/previousNames": "sops-keys,sops-keys",
                        "internal.config.kubernetes.io/previousNamespaces": "default,deep",
                    },
                }
            ],
            "",
            1,
        ),
        ([{"namespace": "deep", "annotations": {"internal.config.kubernetes.io/previousNamespaces": "a"}}], "a", 1),
        ([{"namespace": "deep", "annotations": {"internal.config.kubernetes.io/previousNamespaces": "a"}}], "deep", 0),
    ],
)
def test_the_key_secret_is_found_by_its_original_name_and_namespace(
    secrets: list[dict[str, Any]], namespace: str, count: int
) -> None:
    """S12: none and two are errors, and kustomize's renaming does not matter."""
    plain = {**made.PLAIN, "metadata": {"name": "db", **({"namespace": namespace} if namespace else {})}}
    secret = "- " + textwrap.indent(made.yaml(made.encrypted(plain)), "  ")[2:]
    text = listed(secret, *(key_secret(**metadata) for metadata in secrets), config=reference(namespace))
    output, results, status = both(text)
    assert status == (count != 1)
    if count == 1:
        assert yaml.safe_load(output)["items"][0] == plain
    else:
        assert [one.reason for one in results] == ["InvalidConfig"]
        assert ("no Secret of the name" if count == 0 else f"{count} Secrets of the name") in results[0].message


@pytest.mark.parametrize(
    "name",
    [
        '"sops\\x2dkeys"',
        "!!str sops-keys",
        "!!binary c29wcy1rZXlz",
        "'sops-keys'",
        "&n sops-keys",
        '\n      "sops\\u002dkeys"',
    ],
)
def test_no_spelling_of_its_name_hides_a_key_secret(name: str) -> None:
    """A second one would be an error; so both readers must see it."""
    hidden = KEY_ITEM.replace('name: "sops-keys"', f"name: {name}")
    assert hidden != KEY_ITEM
    assert both(listed(SECRET, hidden, config=REFERENCE))[2] == 0
    assert both(listed(SECRET, hidden, KEY_ITEM, config=REFERENCE))[2] == 1


def test_other_kinds_of_that_name_are_no_key_secret() -> None:
    config_map = KEY_ITEM.replace('kind: "Secret"', 'kind: "ConfigMap"')
    assert config_map != KEY_ITEM
    assert both(listed(SECRET, config_map, KEY_ITEM, config=REFERENCE))[2] == 0


# kpt in place


IN_PLACE = '      "internal.config.kubernetes.io/package-path": "/work/pkg"\n'


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_kpt_does_not_write_plaintext_into_the_package(form: str, allowed: bool) -> None:
    """`kpt fn render` puts the package's path on items; only allowPlaintext lets plaintext leave then."""
    item = SECRET.replace("    name:", '    "annotations":\n' + IN_PLACE + "    name:", 1)
    config = REFERENCE + ("    allowPlaintext: 'true'\n" if allowed else "")
    output, results, status = both(spelled(form, item, KEY_ITEM, config=config))
    if allowed:
        assert (results, status) == ([], 0)
        assert yaml.load(output, Loader=yaml.CBaseLoader)["items"][0]["stringData"] == made.PLAIN["stringData"]
    else:
        assert status == 1
        assert [one.reason for one in results] == ["PlaintextInPlace"]
        assert "plain-of" not in output
        assert "allowPlaintext" in results[0].hint
        assert "ENC[AES256_GCM" in output


def test_under_kustomize_there_is_no_package_to_write_into() -> None:
    """The config says that kustomize runs us: its build never writes back."""
    item = SECRET.replace("    name:", '    "annotations":\n' + IN_PLACE + "    name:", 1)
    function = "    name: c\n    annotations:\n      config.kubernetes.io/function: 'exec: {path: krm-sops}'\n"
    assert both(listed(item, KEY_ITEM, config=REFERENCE.replace("    name: c\n", function)))[2] == 0


@pytest.mark.parametrize("item", ["- *c\n", "- a: b\n  c: *c\n", "- a: b\n  c: *n\n", "- {a: *c}\n"])
def test_nothing_is_left_out_that_something_else_repeats(item: str) -> None:
    """S11: the alias would dangle, or the key would stay; so there is an error, and no output."""
    config = CONFIG.replace("functionConfig:", "functionConfig: &c").replace('name: "', 'name: &n "')
    text = config + HEAD + "items:\n" + item + SECRET
    for one in (text, BOM + text):
        with pytest.raises(ResourceListError, match="an alias repeats"):
            made.function(one)


def test_aliases_within_what_is_left_out_do_no_harm() -> None:
    config = CONFIG.replace('name: "sops-keys"', "name: &n sops-keys\n    labels: {a: *n}")
    assert both(listed(CONFIG_MAP, SECRET, config=config))[2] == 0
    assert both(listed(CONFIG_MAP, BAD, config=config))[2] == 1
