"""S16: before a data key is wrapped again for many files, who gets it is compared with the creation rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from krm_sops.age import keygen
from tests.agefile import OTHER_IDENTITY, recipient_of
from tests.security import made
from tests.unit.test_change_verbs import RECIPIENT, run

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

ATTACKER = recipient_of(OTHER_IDENTITY)
RULE = f"creation_rules: [{{path_regex: ^f/, age: {RECIPIENT}, encrypted_regex: '^(data|stringData|spec)$'}}]\n"
JUNK = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".sops.yaml").write_text(RULE)
    (tmp_path / "f").mkdir()
    return tmp_path


def put(folder: Path, **options: Any) -> str:
    document = made.encrypted(**options)
    (folder / "f/a.yaml").write_text(made.yaml(document))
    return (folder / "f/a.yaml").read_text()


def added() -> list[dict[str, str]]:
    return [{"recipient": RECIPIENT, "enc": made.WRAPPED}, {"recipient": ATTACKER, "enc": JUNK}]


def groups(*members: list[dict[str, str]]) -> dict[str, Any]:
    return {"age": None, "key_groups": [{"age": group} for group in members], "shamir_threshold": 1}


CHANGES: dict[str, dict[str, Any]] = {
    "an added recipient": {"age": added()},
    "another group, lower threshold": groups(added()[:1], added()[1:]),
    "a narrowed regex": {"encrypted_regex": "^none$"},
    "another rule": {"encrypted_regex": None, "unencrypted_suffix": "_unencrypted"},
    "a MAC over less": {"mac_only_encrypted": True},
}


def opens(folder: Path) -> bool:
    """Whether the attacker can read it."""
    return run(folder, "decrypt", "--ignore-mac", "f/a.yaml", SOPS_AGE_KEY=OTHER_IDENTITY).returncode == 0


@pytest.mark.parametrize("options", CHANGES.values(), ids=CHANGES)
def test_s16_rotating_a_folder_is_refused_where_a_file_says_otherwise_than_its_rule(
    folder: Path, options: dict[str, Any]
) -> None:
    text = put(folder, **options)
    for names in (["f"], ["f/*.yaml"], ["f/a.yaml", "f/a.yaml"]):
        done = run(folder, "rotate", "-i", *names)
        assert done.returncode == 1
        assert "differs from its creation rule" in done.stderr
        assert (folder / "f/a.yaml").read_text() == text
    assert not opens(folder)


def test_s16_what_a_rule_says_is_rotated_and_the_removed_recipient_is_out(folder: Path) -> None:
    put(folder)
    assert run(folder, "rotate", "-i", "f").returncode == 0
    put(folder, age=added())
    done = run(folder, "updatekeys", "--yes", "--rotate", "f")
    assert done.returncode == 0
    assert f"--- {ATTACKER}" in done.stdout
    assert ATTACKER not in (folder / "f/a.yaml").read_text()
    assert not opens(folder)


def test_s16_without_a_rule_nobody_said_who_may_read_it(folder: Path) -> None:
    text = put(folder, age=added())
    (folder / ".sops.yaml").write_text("creation_rules: [{path_regex: ^g/, age: " + RECIPIENT + "}]\n")
    assert "no creation rule" in run(folder, "rotate", "-i", "f").stderr
    (folder / ".sops.yaml").unlink()
    assert "no creation rule" in run(folder, "rotate", "-i", "f").stderr
    assert (folder / "f/a.yaml").read_text() == text


@pytest.mark.parametrize("name", ["a narrowed regex", "another rule", "a MAC over less"])
def test_s16_updatekeys_of_a_folder_refuses_another_selection(folder: Path, name: str) -> None:
    text = put(folder, **CHANGES[name])
    for more in ([], ["--rotate"]):
        done = run(folder, "updatekeys", "--yes", *more, "f")
        assert done.returncode == 1
        assert "differs from its creation rule" in done.stderr
    assert (folder / "f/a.yaml").read_text() == text


def test_s16_updatekeys_of_a_folder_takes_the_threshold_of_the_rule(folder: Path) -> None:
    rule = f"creation_rules: [{{shamir_threshold: 2, key_groups: [{{age: [{RECIPIENT}]}}, {{age: [{ATTACKER}]}}]}}]\n"
    (folder / "f/a.yaml").write_text("a: b\n")
    (folder / ".sops.yaml").write_text(rule)
    assert run(folder, "encrypt", "-i", "f/a.yaml").returncode == 0
    text = (folder / "f/a.yaml").read_text().replace("shamir_threshold: 2", "shamir_threshold: 1")
    (folder / "f/a.yaml").write_text(text)
    both = {"SOPS_AGE_KEY": f"{made.IDENTITY}\n{OTHER_IDENTITY}"}
    assert run(folder, "rotate", "-i", "f", **both).returncode == 1
    assert run(folder, "updatekeys", "--yes", "f", **both).returncode == 0
    assert "shamir_threshold: 2" in (folder / "f/a.yaml").read_text()
    assert not opens(folder)


def test_s16_a_single_file_warns(folder: Path) -> None:
    put(folder, age=added())
    done = run(folder, "rotate", "f/a.yaml")
    assert done.returncode == 0
    assert re.search(f"warning: .*it is also for {ATTACKER}", done.stderr)
    done = run(folder, "rotate", "--rm-age", ATTACKER, "f/a.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    done = run(folder, "groups", "add", "-f", "f/a.yaml", "--age", keygen.generate()[0])
    assert f"warning: f/a.yaml differs from its creation rule: it is also for {ATTACKER}" in done.stderr
    put(folder, encrypted_regex="^none$")
    done = run(folder, "updatekeys", "--yes", "f/a.yaml")
    assert done.returncode == 0
    assert "its values are encrypted by encrypted_regex '^none$'" in done.stderr
    put(folder)
    assert run(folder, "rotate", "f/a.yaml").stderr == ""
    done = run(folder, "rotate", "--add-age", ATTACKER, "f/a.yaml")
    assert (done.returncode, done.stderr) == (0, "")
