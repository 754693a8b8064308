"""However large, deep or repetitive an input is: an answer within seconds, in bounded memory, and a reason (S23).

Each case runs in a process of its own with a ceiling on its address space and CPU time.
"""

from __future__ import annotations

import copy
import json
import resource
from typing import TYPE_CHECKING

import pytest

from krm_sops.errors import LimitError
from krm_sops.limits import Limits
from tests.security import made

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.security.conftest import Program

MEBIBYTE = 1 << 20
CPU_SECONDS = 20
"""Generous: the slowest case takes four on a slow machine."""
HEAD = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
LAUGHS = 'a0: &a0 ["ha", "ha", "ha", "ha", "ha", "ha", "ha", "ha", "ha", "ha"]\n' + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


def bounded(megabytes: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * MEBIBYTE, megabytes * MEBIBYTE))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))

    return limit


def refuses(done: subprocess.CompletedProcess[bytes], word: str) -> None:
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "Traceback" not in said
    assert "internal error" not in said
    assert "out of memory" not in said
    assert said.startswith("krm-sops: error: ")
    assert word in said
    assert b"plain-of" not in done.stdout


NODES, DEPTH, KEYS, SIZE = "nodes", "nested deeper", "key entries", "bytes"
AS_JSON = {"kind": "ResourceList", "functionConfig": made.KEY_SECRET}
DEEP = "[" * 100_000
DEAD = [{"arn": f"arn:aws:kms:eu-west-1:111122223333:key/{number}", "enc": "x"} for number in range(10_000)]
GROUPS = [{"kms": DEAD[number : number + 10]} for number in range(0, 10_000, 10)]
MERGING = "b0: &b0 {a: b}\n" + "".join(f"b{n}: &b{n} {{<<: [*b{n - 1}, *b{n - 1}]}}\n" for n in range(1, 40))


def listed(**added: object) -> str:
    return json.dumps({**AS_JSON, "items": [{**made.encrypted(), **added}]})


def with_item(extra: str) -> str:
    """An item with more in it, in YAML; its MAC would not fit, but that is asked later."""
    more = "extra:\n" + "".join(f"  {line}\n" for line in extra.splitlines())
    return made.resource_list(more + made.yaml(made.encrypted()))


def items(text: str) -> str:
    return f"{HEAD}items:\n{text}"


STREAMS: dict[str, tuple[Callable[[], str], str]] = {
    "billion laughs in an item": (lambda: with_item(LAUGHS), NODES),
    "billion laughs before the items": (lambda: LAUGHS + made.resource_list(made.encrypted()), NODES),
    "billion laughs in the config": (
        lambda: (
            made.resource_list(made.encrypted(), config=None) + "functionConfig:\n  " + LAUGHS.replace("\n", "\n  ")
        ),
        NODES,
    ),
    "billion laughs by merging": (lambda: with_item(MERGING), NODES),
    "a long list of ones": (lambda: with_item("a: [" + "1," * (5 * MEBIBYTE // 2) + "]"), NODES),
    "a long list of ones, read exactly": (lambda: "# é\n--- \n" + with_item("a: [" + "1," * 300_000 + "]"), NODES),
    "a long list of ones in JSON": (lambda: listed(a=[1] * 300_000), NODES),
    "one long string": (lambda: made.resource_list({**made.encrypted(), "a": "x" * 6 * MEBIBYTE}), SIZE),
    "one long string in JSON": (lambda: listed(a="x" * 6 * MEBIBYTE), SIZE),
    "deep lists": (lambda: with_item(f"a: {DEEP}"), DEPTH),
    "deep lists that are closed": (lambda: with_item(f"a: {'[' * 900 + ']' * 900}"), DEPTH),
    "deep block lists": (lambda: with_item("- " * 2000 + "x"), DEPTH),
    "deep mappings": (lambda: with_item("\n".join(" " * level + "a:" for level in range(1500))), DEPTH),
    "deep JSON": (lambda: '{"kind": "ResourceList", "items": ' + DEEP, DEPTH),
    "deep JSON, closed": (lambda: '{"kind": "ResourceList", "items": ' + DEEP + "]" * 100_000 + "}", DEPTH),
    "deep objects in JSON": (lambda: '{"items": [' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "]}", DEPTH),
    "only brackets": (lambda: DEEP, DEPTH),
    "only braces": (lambda: "{" * 100_000, DEPTH),
    "a deep value in JSON": (lambda: listed(a=json.loads("[" * 900 + "]" * 900)), DEPTH),
    "10,000 dead KMS entries": (lambda: made.resource_list(made.encrypted(kms=DEAD)), KEYS),
    "10,000 dead KMS entries in groups": (
        lambda: made.resource_list(made.encrypted(age=None, key_groups=GROUPS)),
        KEYS,
    ),
    "101 age entries": (lambda: made.resource_list(made.encrypted(age=[{"recipient": "x", "enc": "x"}] * 101)), KEYS),
    "a mapping of 200,001 keys": (
        lambda: made.resource_list({**made.encrypted(), "a": {f"k{number}": "x" for number in range(200_001)}}),
        NODES,
    ),
    "too many nodes in a run": (lambda: items(("- sops:\n    a: [" + "1," * 20_000 + "]\n  b: c\n") * 60), NODES),
    "very many small items": (lambda: items("- sops: {a: b}\n  c: d\n" * 400_000), NODES),
    "very many small items with quotes behind": (
        lambda: items("- sops: {a: b}\n  c: d\n" * 20_000 + "- a: '" + "''" * 5_000_000 + "'\n  b: c\n"),
        "sops",
    ),
    "64 MiB and a byte": (lambda: items("#" + "x" * (64 * MEBIBYTE)), "64 MiB"),
    "64 MiB of nothing": (lambda: " " * (64 * MEBIBYTE), "nothing on stdin"),
    "60 MiB of one line": (lambda: "a" * (60 * MEBIBYTE), "no mapping"),
    "60 MiB of spaces": (lambda: items("- a: b\n  sops:" + " " * (60 * MEBIBYTE) + "x\n"), SIZE),
    "long digits": (lambda: with_item("a: " + "1" * 4 * MEBIBYTE), "MAC"),
    "long digits in JSON": (lambda: listed(a=7).replace(": 7", ": " + "7" * 4 * MEBIBYTE), "MAC"),
    "long hexadecimal digits": (lambda: with_item("a: 0x" + "f" * 4 * MEBIBYTE), "MAC"),
    "many aliases": (lambda: with_item("a: &a x\nb: [" + "*a," * 250_000 + "]"), NODES),
    "many anchors": (lambda: with_item("b: [" + ",".join(f"&a{n} x" for n in range(250_000)) + "]"), NODES),
    "many comments": (lambda: with_item("#ENC[x\n" * 700_000 + "a: b"), SIZE),
}


@pytest.mark.parametrize("name", STREAMS)
def test_no_stream_costs_more_than_it_may(program: Program, name: str):
    """S23: function mode."""
    stream, word = STREAMS[name]
    refuses(program(stdin=stream(), preexec_fn=bounded(768)), word)


def files() -> dict[str, tuple[str, str]]:
    """Name -> file name and text: what the sops verbs get, which have no limit on size."""
    deep = 20_000
    document = made.yaml(made.encrypted())
    return {
        "deep flow lists": ("x.yaml", "a: " + "[" * deep + "]" * deep + "\n" + document),
        "deep flow lists, open": ("x.yaml", "a: " + "[" * deep),
        "deep flow mappings": ("x.yaml", "a: " + "{a: " * deep + "}" * deep + "\n" + document),
        "deep block lists": ("x.yaml", "a:\n  " + "- " * deep + "x\n" + document),
        "deep block mappings": ("x.yaml", "\n".join(" " * level + "a:" for level in range(1500)) + "\n" + document),
        "deep complex keys": ("x.yaml", "? " * 5000 + "a\n" + document),
        "deep JSON": ("x.json", '{"a": ' + "[" * deep + "]" * deep + "}"),
        "deep JSON objects": ("x.json", '{"a": ' * deep + "1" + "}" * deep),
        "deep JSON, open": ("x.json", '{"a": ' + "[" * deep),
        "deep dotenv": ("x.env", "a=b\nsops" + "__list_0__map_a" * deep + "=x\n"),
        "deep ini": ("x.ini", "[a]\nb = c\n[sops]\n" + "a__list_0" * deep + " = x\n"),
        "deep binary": ("x.bin", '{"data": ' + "[" * deep),
        "billion laughs": ("x.yaml", LAUGHS + document),
        "deep in the metadata": ("x.json", '{"sops": {"age": ' + "[" * deep + "]" * deep + "}}"),
    }


@pytest.mark.parametrize("verb", ["decrypt", "filestatus", "explain"])
def test_no_file_brings_a_verb_down(program: Program, tmp_path, verb):
    """S23: a clear error, never a RecursionError, whatever the format."""
    for name, (file, text) in files().items():
        path = tmp_path / file
        path.write_text(text)
        done = program(verb, path, env={"SOPS_AGE_KEY": made.IDENTITY}, preexec_fn=bounded(1500))
        said = done.stderr.decode() + (done.stdout.decode() if verb == "explain" else "")
        assert "Traceback" not in said, name
        assert "internal error" not in said, name
        assert "out of memory" not in said, name
        assert done.returncode in ((0, 1) if verb != "decrypt" else (1, 51, 128)), (name, said)
        assert said.count("\n") <= 3 or verb == "explain", name
        assert b"plain-of" not in done.stdout


def test_what_is_just_within_the_limits_is_done():
    """S23, the other way round: the limits cut off nothing that they do not name."""
    nested = json.loads("[" * 90 + "]" * 90)
    for plain in (
        {**made.PLAIN, "extra": ["x"] * 190_000},
        {**made.PLAIN, "extra": nested},
        {**made.PLAIN, "extra": "x" * (5 * MEBIBYTE - 10_000)},
        {**made.PLAIN, "extra": {f"k{number}": "x" for number in range(90_000)}},
    ):
        assert made.function(made.resource_list(made.encrypted(plain)))[2] == 0
    keys = [{"arn": f"arn:aws:kms:eu-west-1:111122223333:key/{number}", "enc": "x"} for number in range(99)]
    assert made.function(made.resource_list(made.encrypted(kms=keys)))[2] == 0


def test_many_items_that_are_decrypted_count_once_each():
    """S23: of a list that is read as a whole, each item is a part of the run and not the whole of it."""
    document = made.encrypted()
    stream = {"kind": "ResourceList", "functionConfig": made.KEY_SECRET, "items": [document] * 300}
    limits = Limits(run_nodes=20_000)
    output, _, status = made.function(json.dumps(stream), limits=limits)
    assert status == 0
    assert output.count("plain-of-password") == 300
    assert made.function(json.dumps({**stream, "items": [document] * 1200}), limits=Limits(run_nodes=40_000))[2] == 0


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(depth=2), "nested deeper"),
        (Limits(document_nodes=10), "nodes"),
        (Limits(run_nodes=20), "more than 20 "),
        (Limits(document_bytes=200), "bytes"),
        (Limits(key_entries=0), "key entries"),
        (Limits(input_bytes=10), "input"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_limit_is_named_when_it_is_met(limits, word, as_json):
    """S23"""
    stream = {"kind": "ResourceList", "functionConfig": made.KEY_SECRET, "items": [copy.deepcopy(made.encrypted())]}
    text = json.dumps(stream) if as_json else made.resource_list(made.encrypted())
    try:
        output, results, status = made.function(text, limits=limits)
    except LimitError as error:
        said = error.message
    else:
        assert status == 1
        assert [result.reason for result in results] == ["LimitExceeded"]
        assert "plain-of" not in output
        said = results[0].message
    assert word in said
