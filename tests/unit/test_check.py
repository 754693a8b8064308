"""``krm-sops check``: which files it looks at, its three reports, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from krm_sops.gate import RULES, Finding
from krm_sops.verbs.reports import REPORTS
from tests.security import made

ROOT = Path(__file__).resolve().parent.parent.parent
PLAIN, GOOD = made.yaml(made.PLAIN), made.yaml(made.encrypted())
RULE = "creation_rules:\n- path_regex: {}\n  age: " + made.RECIPIENT + "\n"


def check(*arguments: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", "check", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def found(*arguments: str, cwd: Path, given: str = "") -> list[tuple[str, str]]:
    """(file, rule) of all findings."""
    done = check("--format", "json", *arguments, cwd=cwd, given=given)
    told = json.loads(done.stdout)["findings"]
    assert done.returncode == any(one["severity"] == "error" for one in told), done.stderr
    return [(one["file"], one["rule"]) for one in told]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "plain.yaml").write_text(PLAIN)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "apps" / "shop").mkdir(parents=True)
    (tmp_path / "apps" / "shop" / "plain.yaml").write_text(PLAIN)
    return tmp_path


def test_a_clean_folder_exits_0_with_a_count_and_an_empty_stderr(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "image.png").write_bytes(bytes(range(256)))
    done = check(cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 files checked, nothing found\n", "")


def test_a_finding_is_one_line_with_file_line_and_rule_then_the_hint(folder):
    done = check(cwd=folder)
    first, hint = done.stdout.splitlines()
    assert first == (
        "apps/shop/plain.yaml:8: PlainSecret: Secret/prod/db: stringData.user: a Secret with 2 values in plain text"
    )
    assert hint == f"hint: PlainSecret: {RULES['PlainSecret'][1]}"
    assert (done.returncode, done.stderr) == (1, "krm-sops: error: 1 finding\n")


def test_folders_are_searched_without_git_and_links(folder):
    (folder / "link.yaml").symlink_to("apps/shop/plain.yaml")
    (folder / "out").symlink_to("/etc")
    (folder / "loop").symlink_to(".")
    assert found(cwd=folder) == [("apps/shop/plain.yaml", "PlainSecret")]
    assert found("apps", "good.yaml", cwd=folder) == [("apps/shop/plain.yaml", "PlainSecret")]
    assert found(str(folder / "apps"), cwd=folder) == [(f"{folder}/apps/shop/plain.yaml", "PlainSecret")]
    assert found("link.yaml", cwd=folder) == [("link.yaml", "PlainSecret")]


@pytest.mark.parametrize("glob", ["apps", "apps/", "shop", "apps/*", "*/plain.yaml", "plain.*", "*.yaml"])
def test_exclude_leaves_files_and_folders_out(folder, glob):
    assert found("--exclude", glob, cwd=folder) == []
    assert found("--exclude", glob, "apps/shop/plain.yaml", cwd=folder) == []


def test_exclude_matches_whole_names(folder):
    assert found("--exclude", "lain.yaml", "--exclude", "app", "--exclude", "hop/*", cwd=folder)


def test_a_link_that_leads_out_is_not_followed(folder):
    """S2."""
    (folder / "out.yaml").symlink_to("/etc/hostname")
    done = check("out.yaml", cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "leads out of" in done.stderr


def test_what_is_not_there_or_no_file_is_an_error(folder):
    done = check("absent.yaml", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "non-existent file absent.yaml" in done.stderr
    os.mkfifo(folder / "pipe.yaml")
    assert found("pipe.yaml", cwd=folder) == [("pipe.yaml", "InvalidDocument")]
    assert ("pipe.yaml", "InvalidDocument") not in found(cwd=folder)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--expect", "plain"], "--expect is one of encrypted, decrypted"),
        (["--format", "xml"], "--format is one of text, json, sarif"),
        (["--limit", "depth"], "--limit needs NAME=NUMBER"),
        (["--nope"], "unknown flag '--nope'"),
    ],
)
def test_wrong_flags_are_refused(tmp_path, arguments, text):
    done = check(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr


# stdin


def test_a_stream_is_expected_to_be_decrypted_and_a_path_to_be_encrypted(folder):
    assert found("-", cwd=folder, given=PLAIN) == []
    assert found("-", cwd=folder, given=f"{PLAIN}---\n{GOOD}") == [("stdin", "StillEncrypted")]
    assert found("--expect", "encrypted", "-", cwd=folder, given=PLAIN) == [("stdin", "PlainSecret")]
    assert found("--expect=decrypted", "good.yaml", cwd=folder) == [("good.yaml", "StillEncrypted")]
    assert found("-", "apps", cwd=folder, given=GOOD) == [
        ("stdin", "StillEncrypted"),
        ("apps/shop/plain.yaml", "PlainSecret"),
    ]


def test_an_empty_stream_is_a_finding(tmp_path):
    """What failed before a pipe leaves nothing, and the shell does not tell."""
    assert found("-", cwd=tmp_path) == found("-", cwd=tmp_path, given=" \n") == [("stdin", "InvalidDocument")]
    for nothing in ("# a comment\n", "---\n# a comment\n---\n", "null\n", "\ufeff\n"):
        assert found("-", cwd=tmp_path, given=nothing) == [("stdin", "InvalidDocument")]
    assert found("-", cwd=tmp_path, given="# a comment\n---\na: 1\n") == []


def test_a_resourcelist_on_stdin_is_looked_into(tmp_path):
    assert found("-", cwd=tmp_path, given=made.resource_list(made.encrypted(), made.PLAIN, config=None)) == [
        ("stdin", "StillEncrypted")
    ]


# Limits


def test_files_beyond_the_limits_are_findings(tmp_path):
    """S23."""
    (tmp_path / "a.yaml").write_text("a: 1\n" * 100)
    (tmp_path / "a.bin").write_text("x" * 3_000_000 + made.IDENTITY + "x" * 100)
    (tmp_path / "b.bin").write_text("x" * ((1 << 20) - 20) + made.IDENTITY)
    limit = ["--limit", "input_bytes=400"]
    assert found(*limit, cwd=tmp_path) == [
        ("a.bin", "PrivateKey"),
        ("a.yaml", "LimitExceeded"),
        ("b.bin", "PrivateKey"),
    ]
    assert found(*limit, "-", cwd=tmp_path, given="a: 1\n" * 100) == [("stdin", "LimitExceeded")]


# .sops.yaml and kustomizations


def test_what_sops_yaml_wants_encrypted_is_looked_for_from_the_file_upwards(folder):
    (folder / ".sops.yaml").write_text(RULE.format(r"^apps/.*\.txt$"))
    (folder / "apps" / "a.txt").write_text("text")
    (folder / "a.txt").write_text("text")
    (folder / "apps" / "shop" / "a.txt").write_text("text")
    (folder / "apps" / "shop" / ".sops.yaml").write_text(RULE.format("other"))
    wrong = [("apps/a.txt", "NotEncrypted"), ("apps/shop/plain.yaml", "PlainSecret")]
    assert found(cwd=folder) == wrong
    assert found("apps", cwd=folder) == wrong
    assert found("shop", "a.txt", cwd=folder / "apps") == [
        ("shop/plain.yaml", "PlainSecret"),
        ("a.txt", "NotEncrypted"),
    ]
    assert found("--expect", "decrypted", cwd=folder) == [("good.yaml", "StillEncrypted")]


def test_a_rule_without_path_regex_names_no_file(folder):
    (folder / ".sops.yaml").write_text(f"creation_rules:\n- age: {made.RECIPIENT}\n")
    (folder / "a.txt").write_text("text")
    assert found(cwd=folder) == [("apps/shop/plain.yaml", "PlainSecret")]


@pytest.mark.parametrize(
    "text",
    [
        "creation_rules: 5\n",
        RULE.format("'('"),
        RULE.format("'.*'") + "  encrypted_regex: '('\n",
        RULE.format("'.*'") + "  encrypted_regex: a\n  encrypted_suffix: b\n",
    ],
)
def test_rules_that_cannot_be_used_are_one_finding(tmp_path, text):
    (tmp_path / ".sops.yaml").write_text(text)
    (tmp_path / "a.yaml").write_text("a: 1\n")
    (tmp_path / "b.yaml").write_text("a: 1\n")
    assert found(cwd=tmp_path) == [(".sops.yaml", "InvalidDocument")]


def test_a_warning_counts_with_strict(tmp_path):
    (tmp_path / ".sops.yaml").write_text(RULE.format("a.yaml"))
    (tmp_path / "a.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nspec: {a: b}\n")
    done = check(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a.yaml:1: warning: NotEncrypted: Deployment: ")
    done = check("--strict", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "krm-sops: error: 1 finding\n")
    assert done.stdout.startswith("a.yaml:1: NotEncrypted: ")


def test_plain_files_that_a_secretgenerator_reads_are_warned_about(tmp_path):
    (tmp_path / "k").mkdir()
    files = "files: [a.yaml, plain.txt, absent, ../../out]\n  envs: [p.env]"
    (tmp_path / "k" / "kustomization.yaml").write_text(f"secretGenerator:\n- name: a\n  {files}\n")
    (tmp_path / "k" / "a.yaml").write_text(GOOD)
    (tmp_path / "k" / "plain.txt").write_text("plain")
    (tmp_path / "k" / "p.env").write_text("A=1\n")
    (tmp_path / ".git").mkdir()
    done = check(cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:-1] == [
        f"k/kustomization.yaml:{line}: warning: PlainSecret: makes a Secret of {name}, which is not encrypted"
        for line, name in ((3, "k/plain.txt"), (4, "k/p.env"))
    ]


def test_what_a_kustomization_reads_is_a_manifest_whatever_its_name(tmp_path):
    lists = "resources: [broken.txt, base/ok.txt, absent]\ntransformers: [list.conf]\n"
    (tmp_path / "kustomization.yaml").write_text(lists + "patches: [{path: merge.patch}]\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "ok.txt").write_text("a: b\n")
    (tmp_path / "broken.txt").write_text("a: [")
    (tmp_path / "list.conf").write_text("a: 'x: {apiVersion: v1, kind: Secret, data: {a: b}}'\n")
    (tmp_path / "merge.patch").write_text(PLAIN)
    broken, *wrong = [("broken.txt", "InvalidDocument"), ("list.conf", "PlainSecret"), ("merge.patch", "PlainSecret")]
    assert sorted(found(cwd=tmp_path)) == [broken, *wrong]
    assert sorted(found("merge.patch", "kustomization.yaml", "broken.txt", cwd=tmp_path)) == [broken, wrong[1]]
    assert found("broken.txt", "list.conf", cwd=tmp_path) == []
    assert sorted(found("--exclude", "broken.txt", cwd=tmp_path)) == wrong
    assert json.loads(check("--format", "json", cwd=tmp_path).stdout)["files"] == 5


@pytest.mark.parametrize("patch", ["- {op: add, path: /data/a, value: YQ==}", "kind: any\ndata: {a: YQ==}"])
def test_a_plain_value_that_a_file_gives_a_secret_as_a_patch_is_found(tmp_path, patch):
    target = "target: {kind: Secret, name: db}"
    transformer = f"apiVersion: builtin\nkind: PatchTransformer\nmetadata: {{name: t}}\npath: p.yaml\n{target}\n"
    for text in (
        f"patches: [{{path: p.yaml, {target}}}]",
        f"patchesJson6902: [{{{target}, path: p.yaml}}]",
        transformer,
    ):
        (tmp_path / "kustomization.yaml").write_text(text)
        (tmp_path / "p.yaml").write_text(patch)
        assert found(cwd=tmp_path) == [("p.yaml", "PlainSecret")]
        (tmp_path / "kustomization.yaml").write_text(text.replace("Secret", "ConfigMap"))
        assert found(cwd=tmp_path) == []
        (tmp_path / "p.yaml").write_text("- {op: add, path: /metadata/labels/a, value: b}\n")
        assert found(cwd=tmp_path) == []


# Reports


def test_json_has_all_that_is_known(folder):
    told = json.loads(check("--format", "json", cwd=folder).stdout)
    assert told == {
        "files": 2,
        "findings": [
            {
                "rule": "PlainSecret",
                "severity": "error",
                "message": "a Secret with 2 values in plain text",
                "hint": RULES["PlainSecret"][1],
                "file": "apps/shop/plain.yaml",
                "index": 0,
                "line": 8,
                "column": 3,
                "object": {"apiVersion": "v1", "kind": "Secret", "namespace": "prod", "name": "db"},
                "field": "stringData.user",
            }
        ],
    }


def test_sarif_has_what_code_scanning_needs(folder):
    told = json.loads(check("--format", "sarif", cwd=folder).stdout)
    assert told["version"] == "2.1.0"
    (run,) = told["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    assert all(rule["help"]["text"] and rule["shortDescription"]["text"] for rule in rules)
    (result,) = run["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "PlainSecret"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "apps/shop/plain.yaml"},
        "region": {"startLine": 8, "startColumn": 3},
    }
    outside = check("--format", "sarif", str(folder / "apps"), cwd=folder / ".git").stdout
    place = json.loads(outside)["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == f"file://{folder}/apps/shop/plain.yaml"


@pytest.mark.parametrize("name", list(REPORTS))
def test_every_report_can_be_without_findings(name):
    assert REPORTS[name]([], 3)


def test_a_finding_without_a_line_is_told():
    finding = Finding("LimitExceeded", "too large")
    finding.file = "a.yaml"
    assert REPORTS["text"]([finding], 1).startswith("a.yaml: LimitExceeded: too large\n")
    assert '"startLine": 1' in REPORTS["sarif"]([finding], 1)


# pre-commit


def test_the_hook_is_one_that_pre_commit_takes_and_starts_the_verb(folder):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert set(hook) == {"id", "name", "description", "entry", "language", "types"}
    assert (hook["language"], hook["types"]) == ("python", ["file"])
    program, *arguments = hook["entry"].split()
    assert f"krm_sops/bin/{program}" in (ROOT / "pyproject.toml").read_text()  # what pip puts on PATH
    done = check(*arguments[1:], "good.yaml", "apps/shop/plain.yaml", cwd=folder)
    assert arguments[0] == "check"
    assert (done.returncode, done.stdout.count("PlainSecret: Secret")) == (1, 1)
    assert hook["id"] in (ROOT / "docs" / "check.md").read_text()
