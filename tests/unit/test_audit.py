"""``krm-sops audit``: what it says of encrypted files, and what makes it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from krm_sops.audit.documents import Recipient
from krm_sops.audit.names import names
from krm_sops.keys.age import AgeKey
from krm_sops.keys.pgp import PgpKey
from tests import agefile
from tests.security import made

ROOT = Path(__file__).resolve().parent.parent.parent
OTHER = agefile.recipient_of(agefile.OTHER_IDENTITY)
FINGERPRINT = "FBC7B9E2A4F9289AC0C1D4843D16CEE4A27381B4"
GOOD = made.yaml(made.encrypted())
RULES = f"""\
creation_rules:
- path_regex: \\.yaml$
  encrypted_regex: ^({"|".join(made.SELECTED)})$
  key_groups:
  - age:
    - {made.RECIPIENT}  # alice
"""


def audit(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", "audit", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def told(*arguments: str, cwd: Path, **env: str) -> Any:
    done = audit("--format", "json", *arguments, cwd=cwd, **env)
    assert done.stderr == ""
    return json.loads(done.stdout)


def kinds(*arguments: str, cwd: Path, **env: str) -> list[tuple[str, str]]:
    return [(one["file"], one["kind"]) for one in told(*arguments, cwd=cwd, **env)["findings"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".sops.yaml").write_text(RULES)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "plain.yaml").write_text(made.yaml(made.PLAIN))
    return tmp_path


def test_it_says_who_opens_what_and_names_them(folder):
    done = audit(cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "FILE       KEY SINCE   OPENED BY",
        "good.yaml  2026-01-31  alice",
        "",
        "RECIPIENT                    NAME   OPENS",
        f"age {made.RECIPIENT[:16]}…{made.RECIPIENT[-6:]}  alice  1 document",
        "",
    ]


def test_nothing_encrypted_is_said(tmp_path):
    assert audit(cwd=tmp_path).stdout == "no encrypted document found\n"


def test_no_value_is_told(folder):
    key = folder / "key"
    key.write_text(agefile.IDENTITY)
    for arguments in ([], ["--mac", "--key-file", str(key)], ["--recipient", "alice"]):
        for form in ("text", "json"):
            done = audit("--format", form, *arguments, cwd=folder)
            assert "plain-of" not in done.stdout + done.stderr
            assert "AGE-SECRET" not in done.stdout + done.stderr


# Drift, rules


def with_block(**options: Any) -> str:
    return made.yaml(made.encrypted(made.PLAIN, **options))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"age": [{"recipient": made.RECIPIENT, "enc": "x"}, {"recipient": OTHER, "enc": "x"}]}, f"also for {OTHER}"),
        ({"age": [{"recipient": OTHER, "enc": "x"}]}, f"not for {made.RECIPIENT}"),
        ({"encrypted_regex": "^password$"}, "encrypted_regex '^password$'"),
        ({"mac_only_encrypted": True}, "MAC covers encrypted values only"),
    ],
)
def test_what_differs_from_the_rule_is_drift(folder, options, text):
    """S16: an added recipient, another selection, a weaker MAC."""
    (folder / "good.yaml").write_text(with_block(**options))
    found = told(cwd=folder)
    messages = [one["message"] for one in found["findings"] if one["kind"] == "drift"]
    assert any(text in message for message in messages)
    assert len(messages) == len(found["documents"][0]["drift"])
    assert audit("--fail-on", "drift", cwd=folder).returncode == 1
    assert audit("--fail-on", "uncovered", cwd=folder).returncode == 0


def test_a_lowered_threshold_is_drift(folder):
    """S16."""
    groups = [[made.RECIPIENT], [OTHER], [FINGERPRINT]]
    lists = [
        {"age": [{"recipient": key, "enc": "x"} for key in group]}
        if group[0].startswith("age")
        else {"pgp": [{"fp": group[0], "enc": "x", "created_at": made.MODIFIED}]}
        for group in groups
    ]
    (folder / ".sops.yaml").write_text(
        "creation_rules:\n- encrypted_regex: ^(data|stringData|spec)$\n  shamir_threshold: 3\n  key_groups:\n"
        f"  - age: [{made.RECIPIENT}]\n  - age: [{OTHER}]\n  - pgp: [{FINGERPRINT}]\n"
    )
    for threshold, findings in ((3, []), (2, [("good.yaml", "drift")])):
        block = {"age": None, "key_groups": lists, "shamir_threshold": threshold}
        (folder / "good.yaml").write_text(with_block(**block))
        assert kinds(cwd=folder) == findings
        assert told(cwd=folder)["documents"][0]["groupsNeeded"] == threshold
    assert "2 of 3 groups: (" in audit(cwd=folder).stdout


def test_files_that_no_rule_is_for_are_uncovered(folder):
    (folder / "a.json").write_text(json.dumps(made.encrypted()))
    assert kinds(cwd=folder) == [("a.json", "uncovered")]
    (folder / ".sops.yaml").unlink()
    assert kinds(cwd=folder) == [("a.json", "uncovered"), ("good.yaml", "uncovered")]
    assert audit("--fail-on", "uncovered", cwd=folder).returncode == 1


def test_the_nearest_rules_count(folder):
    inner = folder / "apps"
    inner.mkdir()
    (inner / ".sops.yaml").write_text(RULES.replace(made.RECIPIENT, OTHER))
    (inner / "x.yaml").write_text(GOOD)
    assert kinds(cwd=folder) == [("apps/x.yaml", "drift")] * 2
    assert [one["file"] for one in told("good.yaml", cwd=folder)["documents"]] == ["good.yaml"]
    assert kinds("--exclude", "apps", cwd=folder) == []


def test_a_rule_that_leaves_secrets_plain_is_weak(folder):
    block = made.encrypted({**made.PLAIN, "data": {"a": "b"}})
    block["stringData"] = made.PLAIN["stringData"]
    block["sops"]["encrypted_regex"] = "^data$"
    (folder / "good.yaml").write_text(made.yaml(block))
    assert ("good.yaml", "weak") in kinds(cwd=folder)
    assert audit("--fail-on", "weak", cwd=folder).returncode == 1


# Age, MACs, what cannot be read


def test_the_age_of_a_data_key_is_at_least_that_of_its_first_wrapping(folder):
    def days_ago(days: int) -> str:
        return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

    old = {"fp": FINGERPRINT, "enc": "x", "created_at": days_ago(100)}
    for pgp, age in (([], 10), ([old], 100)):
        block = with_block(lastmodified=days_ago(10), mac=made.mac_of(made.PLAIN), pgp=pgp or None)
        (folder / "good.yaml").write_text(block)
        assert audit("--fail-on", f"age={age + 1}d", cwd=folder).returncode == 0
        done = audit("--fail-on", f"age={age - 1}d", cwd=folder)
        assert done.returncode == 1
        assert f"good.yaml: age: its data key is {age} days old, or older" in done.stdout


def test_macs_are_checked_with_the_keys_at_hand(folder):
    for name, identity in (("key", agefile.IDENTITY), ("other", agefile.OTHER_IDENTITY)):
        (folder / name).write_text(identity)
    flags = ("--mac", "--fail-on", "mac", "--key-file")
    assert [one["mac"] for one in told(*flags, "key", cwd=folder)["documents"]] == ["holds"]
    assert [one["mac"] for one in told(*flags, "other", cwd=folder)["documents"]] == ["unknown"]
    assert "no key at hand could check: 1 of 1" in audit(*flags, "other", cwd=folder).stdout
    (folder / "good.yaml").write_text(GOOD.replace("Opaque", "Other"))
    done = audit(*flags, "key", cwd=folder)
    assert done.returncode == 1
    assert "good.yaml: mac: " in done.stdout
    assert [one["mac"] for one in told(cwd=folder)["documents"]] == [None]


@pytest.mark.parametrize(
    "text",
    [
        "a: ENC[AES256_GCM,data:x]\nsops:\n  broken\n  yaml: [",
        "a: b\nsops: {mac: x, lastmodified: never, age: []}\n",
        "kind: Secret\napiVersion: v1\nsops:\n",
    ],
)
def test_what_cannot_be_read_is_said_and_fails_with_any_kind(folder, text):
    (folder / "bad.yaml").write_text(text)
    assert ("bad.yaml", "invalid") in kinds(cwd=folder)
    assert audit(cwd=folder).returncode == 0
    assert audit("--fail-on", "age=9999d", cwd=folder).returncode == 1


def test_documents_inside_of_values_are_found(folder):
    inner = b64encode(made.yaml(made.encrypted({"data": {"a": "b"}}, age=[{"recipient": OTHER, "enc": "x"}])).encode())
    outer = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"in.yaml": inner.decode()}}
    (folder / "outer.yaml").write_text(made.yaml(outer))
    found = told(cwd=folder)["documents"]
    assert [(one["file"], one["field"]) for one in found] == [("good.yaml", ""), ("outer.yaml", "data.in.yaml")]
    rows = told("--recipient", OTHER, cwd=folder)["values"][OTHER]
    assert [row["path"] for row in rows] == ["data.in.yaml: data.a"]


# One recipient


def test_values_of_one_recipient(folder):
    rows = told("--recipient", "alice", "--recipient", made.RECIPIENT, cwd=folder)["values"]
    assert list(rows) == ["alice", made.RECIPIENT]
    for some in rows.values():
        assert [(row["file"], row["path"]) for row in some] == [
            ("good.yaml", "stringData.user"),
            ("good.yaml", "stringData.password"),
        ]
    done = audit("--recipient", "mallory", cwd=folder)
    assert done.stdout == "mallory: 0 values in 0 files, 0 versions of them; 0 of these are there now\n"
    assert "is it spelled as in a sops block?" in done.stderr


SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"


@pytest.mark.parametrize(
    ("wanted", "key", "is_one"),
    [
        (OTHER, AgeKey(OTHER, ""), True),
        (OTHER, AgeKey(made.RECIPIENT, ""), False),
        (f"{SSH} me", AgeKey(f"{SSH} another comment", ""), True),
        (SSH, AgeKey(SSH[:-1] + "5", ""), False),
        ("FBC7 B9E2 A4F9 289A C0C1 D484 3D16 CEE4 A273 81B4", PgpKey.from_fields({"fp": FINGERPRINT}), True),
        ("0x3d16cee4a27381b4", PgpKey.from_fields({"fp": FINGERPRINT}), True),
        ("a27381b4", PgpKey.from_fields({"fp": FINGERPRINT}), False),
        ("ops", PgpKey.from_fields({"fp": FINGERPRINT}), True),
        ("op", PgpKey.from_fields({"fp": FINGERPRINT}), False),
    ],
)
def test_a_key_is_known_as_people_spell_it(wanted, key, is_one):
    assert Recipient(wanted, {FINGERPRINT.casefold(): "ops"}).is_(key) is is_one


def test_an_ssh_key_opens_what_is_for_its_native_recipient():
    from krm_sops.age.ssh_ed25519 import native_recipients

    assert Recipient(SSH, {}).is_(AgeKey(native_recipients(SSH)[0], ""))


@pytest.mark.parametrize(
    "text",
    [
        "keys:\n- &who KEY\n",
        "- age: KEY # who\n",
        "- age: 'KEY'   # who\n",
        '  - "KEY"\t# who\n',
        "# who\n- KEY\n",
        "age: [\n  KEY, # who\n]\n",
        "- &who KEY # not this\n",
        "- KEY\n- KEY # who\n",
    ],
)
def test_names_are_anchors_and_comments_beside_a_key(text):
    assert names(text.replace("KEY", OTHER).encode()).get(OTHER) == "who"


@pytest.mark.parametrize(
    "text", ["- KEY\n", "# who\n\n- KEY\n", "# who\nx: y\n- KEY\n", "- age: KEY,KEY2 # who\n", "# - KEY # who\n"]
)
def test_a_comment_about_something_else_is_no_name(text):
    text = text.replace("KEY2", made.RECIPIENT).replace("KEY", OTHER)
    assert OTHER not in names(text.encode())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--fail-on", "age"], "--fail-on is a comma list"),
        (["--fail-on", "age=1"], "--fail-on is a comma list"),
        (["--fail-on", "drift,nope"], "not 'nope'"),
        (["--fail-on", "mac"], "needs --mac"),
        (["--history"], "needs --recipient"),
        (["--recipient", "x", "--mac"], "run audit twice"),
        (["--recipient", "x", "--fail-on", "drift"], "run audit twice"),
        (["--format", "xml"], "--format is one of text, json"),
        (["absent"], "non-existent"),
        (["--recipient", "x", "--history"], "is no git repository"),
    ],
)
def test_wrong_flags_are_refused(tmp_path, arguments, text):
    done = audit(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert text in done.stderr
