"""The gate against those who want to pass it: S11, S17, S22, S23, S27, S28, S33."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from krm_sops.errors import KrmSopsError
from krm_sops.functions import run
from krm_sops.gate import DECRYPTED, ENCRYPTED
from krm_sops.gate.judge import Gate
from krm_sops.host import Host
from krm_sops.krm.resourcelist import NotPlainError, ResourceList
from krm_sops.limits import FUNCTION
from tests.security import made
from tests.streams import Maker

CHECK = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsCheck", "metadata": {"name": "check"}}
GOOD = made.yaml(made.encrypted())
PLAIN = made.yaml(made.PLAIN)
LEFT = "StillEncrypted"
SPELLINGS = {
    "plain": GOOD,
    "escaped block": GOOD.replace("sops:", '"\\x73ops":'),
    "escaped block, unicode": GOOD.replace("sops:", '"\\u0073\\U0000006fps":'),
    "quoted block": GOOD.replace("sops:", "'sops':"),
    "question mark": GOOD.replace("sops:", "? sops\n:"),
    "tagged block": GOOD.replace("sops:", "!!str sops:"),
    "anchored block": GOOD.replace("sops:", "&a sops:"),
    "flow style": json.dumps(made.encrypted()) + "\n",
    "escaped value": GOOD.replace('"ENC[AES256_GCM', '"ENC\\x5bAES256_GCM'),
    "escaped value, unicode": GOOD.replace('"ENC[', '"\\u0045NC['),
    "binary value": GOOD.replace(
        f'"{made.encrypted()["stringData"]["user"]}"',
        "!!binary " + b64encode(made.encrypted()["stringData"]["user"].encode()).decode(),
    ),
    "anchored value": GOOD.replace('user: "', 'user: &u "'),
}


def spec(expect: str, **more: Any) -> dict[str, Any]:
    return {**CHECK, "spec": {"expect": expect, **more}}


def function(*items: Any, expect: str, **more: Any) -> list[tuple[str, str]]:
    """(reason, field) of what SopsCheck finds."""
    given = made.resource_list(*items, config=spec(expect, **more), config_first=True)
    output, results, status = made.function(given)
    assert status == int(bool(results))
    assert given[given.index("items:") :] in output
    assert results or output == given
    return [(result.reason, result.field) for result in results]


def rules(text: str | bytes, expect: str, name: str = "s.yaml", **more: Any) -> list[str]:
    gate = Gate(expect, FUNCTION, **more)
    gate.file(text.encode() if isinstance(text, str) else text, name)
    return [finding.rule for finding in gate.findings]


# S17


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_however_ciphertext_is_spelled_function_and_gate_agree_that_it_is_there(text):
    """S17: what the function decrypts, on its fast and its exact way, is what `check` and SopsCheck find."""
    given = made.resource_list(text)
    for exact in (False, True):
        try:
            (item,) = ResourceList(given.encode(), FUNCTION, exact=exact).encrypted()
        except NotPlainError:
            assert not exact
            continue
        assert item.name == "db"
    assert rules(text, DECRYPTED) == ["StillEncrypted"]
    assert rules(text, ENCRYPTED) == []
    assert [reason for reason, _ in function(text, expect=DECRYPTED)] == ["StillEncrypted"]
    assert function(text, expect=ENCRYPTED) == []


def test_an_item_that_is_an_alias_of_another_is_looked_at():
    """S17."""
    block = GOOD.replace("\n", "\n  ").rstrip(" ")
    given = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n- &a\n  " + block
    given += "- *a\nfunctionConfig:\n" + "".join(f"  {line}\n" for line in made.yaml(spec(DECRYPTED)).splitlines())
    results = made.function(given)[1]
    assert [result.reason for result in results] == ["StillEncrypted"] * 2


def test_duplicate_keys_are_found_whatever_they_hide():
    """S17: readers differ in which of two equal keys counts."""
    twice = PLAIN.replace('kind: "Secret"', 'kind: "ConfigMap"\n"k\\x69nd": "Secret"')
    assert "InvalidDocument" in rules(twice, ENCRYPTED)
    assert "InvalidDocument" in rules(GOOD + "stringData: {}\n", ENCRYPTED)
    assert "InvalidDocument" in rules(json.dumps(made.PLAIN)[:-1] + ', "kind": "ConfigMap"}', ENCRYPTED, "s.json")


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r", "\u2028", "\x85"])
def test_a_document_behind_any_line_break_is_looked_at(break_):
    """S17."""
    text = f"a: 1{break_}---{break_}" + "{kind: Secret, apiVersion: v1, stringData: {a: b}}"
    assert set(rules(text, ENCRYPTED)) & {"PlainSecret", "InvalidDocument"}


# S28


@pytest.mark.parametrize("name", ["krm-sops.dev/decrypt", "kustomize.toolkit.fluxcd.io/decrypt"])
def test_what_opted_out_counts_as_encrypted_unless_a_flag_says_otherwise(name):
    """S28."""
    disabled = made.encrypted({**made.PLAIN, "metadata": {"name": "db", "annotations": {name: "Disabled"}}})
    text = made.yaml(disabled)
    assert rules(text, DECRYPTED) == ["StillEncrypted"]
    assert rules(text, DECRYPTED, allow_disabled=True) == []
    assert rules(f"{GOOD}---\n{text}", DECRYPTED, allow_disabled=True) == ["StillEncrypted"]
    assert [reason for reason, _ in function(disabled, expect=DECRYPTED)] == ["StillEncrypted"]
    assert function(disabled, expect=DECRYPTED, allowDisabled=True) == []
    inner = {**made.PLAIN, "metadata": disabled["metadata"], "stringData": {"a": GOOD}}
    assert rules(made.yaml(inner), DECRYPTED) == ["StillEncrypted"]
    assert rules(made.yaml(inner), DECRYPTED, allow_disabled=True) == []


def test_a_flag_for_ciphertext_is_none_for_keys_and_marks():
    """S28."""
    annotations = {"krm-sops.dev/decrypt": "disabled", "krm-sops.dev/masked": "true"}
    text = made.yaml({**made.KEY_SECRET, "metadata": {"name": "a", "annotations": annotations}})
    assert rules(text, DECRYPTED, allow_disabled=True) == ["Masked", "PrivateKey"]


# S11


def test_a_key_is_found_under_kpt_in_every_item_and_the_config_file():
    """S11."""
    kptfile = {
        "apiVersion": "kpt.dev/v1",
        "kind": "Kptfile",
        "metadata": {"name": "a", "annotations": {"x": made.IDENTITY}},
    }
    config = {**CHECK, "kind": "SopsDecrypt", "spec": {"keys": [{"value": made.IDENTITY}]}}
    assert function(kptfile, config, expect=ENCRYPTED) == [
        ("PrivateKey", "metadata.annotations.x"),
        ("PrivateKey", "spec.keys[0].value"),
    ]
    comment = f"# {made.IDENTITY}\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  # {made.IDENTITY}\n"
    assert ("PrivateKey", "") in function(comment.partition("\n")[2], expect=ENCRYPTED)


def test_nothing_that_is_found_is_quoted(program, tmp_path):
    """S11: no report holds a key or a value; names that are keys are not shown."""
    text = PLAIN + f"{made.IDENTITY}: {made.OTHER_IDENTITY}\n# {made.OTHER_IDENTITY}\nstringData2:\n- {made.IDENTITY}\n"
    text = text.replace('"db"', made.IDENTITY)
    (tmp_path / "s.yaml").write_text(text + "stringDat: {a: plain-of-other}\n")
    for format_ in ("text", "json", "sarif"):
        done = program("check", "--format", format_, cwd=tmp_path)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert b"PrivateKey" in said
        for secret in (made.IDENTITY, made.OTHER_IDENTITY, "plain-of"):
            assert secret.encode() not in said


# S22, S23


def test_patterns_of_documents_reach_no_backtracking_engine(program, tmp_path):
    """S22."""
    block = {"encrypted_regex": "(a+)+$", "stringData": None}
    text = made.yaml(made.encrypted(encrypted_regex=block["encrypted_regex"]))
    (tmp_path / "s.yaml").write_text(text.replace("user:", "a" * 5000 + "b:"))
    assert program("check", "--limit", "run_seconds=5", cwd=tmp_path).returncode == 1


def test_what_grows_without_end_is_a_finding(program, tmp_path):
    """S23: aliases, embedded documents, depth, text that looks like the beginning of many keys."""
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (tmp_path / "laughs.yaml").write_text(laughs)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    embedded = json.dumps({"sops": [1] * 200})
    many = {**made.PLAIN, "stringData": {f"k{n}": embedded for n in range(6000)}}
    (tmp_path / "many.yaml").write_text(made.yaml(many))
    (tmp_path / "marks.txt").write_text("-----BEGIN PRIVATE KEY-----" * 20_000 + "AGE-PLUGIN-" * 20_000)
    (tmp_path / "headers.txt").write_text("-----BEGIN PRIVATE KEY-----" + "a: b\n" * 50_000)
    done = program("check", "--format", "json", cwd=tmp_path)
    told = {(one["file"], one["rule"]) for one in json.loads(done.stdout)["findings"]}
    assert {("laughs.yaml", "LimitExceeded"), ("deep.json", "LimitExceeded"), ("many.yaml", "LimitExceeded")} <= told
    assert done.stderr.startswith(b"krm-sops: error: ")


@pytest.mark.parametrize(
    "line", [b"QUdFLVNFQ1JFVC1LRVkt", b"A" * 76 + b"\n", b"kind: Secret # QUJD\n", b"LS0tLS1CRUdJ\\n"]
)
def test_fifty_megabytes_that_look_like_base64_are_judged(line):
    """S23: each character is looked at a few times, whatever it stands beside."""
    assert set(rules(line * (50_000_000 // len(line)), ENCRYPTED, "notes")) <= {"LimitExceeded"}


def test_a_run_ends_at_its_time(program, tmp_path):
    """S23."""
    (tmp_path / "a.yaml").write_text("a: [" + "[1, 2, 3], " * 200_000 + "1]\n")
    done = program("check", "--limit", "run_seconds=1", "--limit", "run_nodes=10000000", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the run took more than 1 s (the limit run_seconds)" in done.stderr


# S27


@pytest.mark.parametrize("expect", [ENCRYPTED, DECRYPTED])
def test_a_masked_object_passes_no_gate(expect):
    """S27: not as an item, not in a List, not in a value."""
    masked = {**made.PLAIN, "metadata": {"name": "a", "annotations": {"krm-sops.dev/masked": "true"}}, "stringData": {}}
    assert [reason for reason, _ in function(masked, expect=expect)] == ["Masked"]
    assert rules(made.yaml({"apiVersion": "v1", "kind": "List", "items": [masked]}), expect) == ["Masked"]
    assert rules(made.yaml({"a": made.yaml(masked)}), expect) == ["Masked"]


# S33

NAMES = [
    "<script><img src=x onerror=alert(1)>.yaml",
    "\x1b[31mred.yaml",
    "a\n::add-mask::b.yaml",
    "::add-mask::b.yaml",
    "\u202egnp.yaml",
    "[click](https:evil).yaml",
    "sp ace%20.yaml",
    b"\xff\xfe.yaml".decode("utf-8", "surrogateescape"),
    "x" * 240 + ".yaml",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("format_", ["text", "json", "sarif"])
def test_names_of_files_and_objects_are_harmless_in_every_report(program, tmp_path, name, format_):
    """S33."""
    evil = PLAIN.replace('"db"', json.dumps(name.encode("utf-8", "replace").decode())).replace("user", "::warning::u")
    (tmp_path / name).write_text(evil)
    done = program("check", "--format", format_, cwd=tmp_path)
    assert done.returncode == 1
    text = (done.stdout + done.stderr).decode("utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not any(line.startswith("::") for line in text.splitlines())
    if format_ == "text":
        assert len(text.splitlines()) == 3
        return
    assert text.isascii()
    assert "<" not in text
    told = json.loads(done.stdout)
    if format_ == "json":
        assert told["findings"][0]["file"].startswith(
            name[:1].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        )
        return
    result = told["runs"][0]["results"][0]
    assert "](" not in result["message"]["text"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert set(uri) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%._-~/")


# The function


def test_the_function_needs_expect_and_takes_no_unknown_field():
    for config, text in (
        ({**CHECK}, "spec.expect is missing; allowed: encrypted, decrypted"),
        (spec("plain"), "spec.expect is 'plain'; allowed: encrypted, decrypted"),
        (spec(DECRYPTED, allow=True), "spec has no field 'allow'; allowed: expect, allowDisabled"),
        (spec(DECRYPTED, allowDisabled="yes"), "spec.allowDisabled must be true or false"),
    ):
        _, results, status = made.function(made.resource_list(made.PLAIN, config=config))
        assert (status, [(result.reason, result.message) for result in results]) == (1, [("InvalidConfig", text)])


def test_the_function_finds_what_the_verb_finds():
    items = [made.encrypted(), made.PLAIN, made.KEY_SECRET]
    for expect in (ENCRYPTED, DECRYPTED):
        gate = Gate(expect, FUNCTION)
        gate.file("---\n".join(map(made.yaml, items)).encode(), "s.yaml")
        told = [(finding.rule, finding.field) for finding in gate.findings]
        assert function(*items, expect=expect) == told
        assert told


def test_the_function_reads_no_key_and_no_file():
    """Not even where the environment and the key folder have some."""
    given = made.resource_list(made.encrypted(), config=spec(ENCRYPTED)).encode()
    host = Host(env={"SOPS_AGE_KEY_FILE": "/absent", "KRM_SOPS_KEY_DIR": "/absent"}, files={})
    assert run(given, host, FUNCTION) == (given, [], 0)


def test_on_random_streams_the_gate_finds_every_item_that_the_function_would_decrypt():
    """S17."""
    encrypted = 0
    for seed in range(400):
        try:
            given = ResourceList(Maker(seed).stream(), FUNCTION, exact=True)
            items = given.encrypted()
        except KrmSopsError:
            continue
        found = {id(item) for item, finding in Gate(DECRYPTED, FUNCTION).items(given.items) if finding.rule == LEFT}
        assert {id(item) for item in items} <= found, seed
        encrypted += len(items)
    assert encrypted > 100
