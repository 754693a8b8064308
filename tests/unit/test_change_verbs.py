"""The verbs that change encrypted files, in processes of their own, without sops; tests/interop has it beside them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from krm_sops.errors import ConfigError
from krm_sops.keys.azure_kv import AzureKeyVaultKey
from krm_sops.recipients import differences, is_same_key
from krm_sops.verbs import files
from krm_sops.verbs.render import write_folder
from tests.agefile import IDENTITY, OTHER_IDENTITY, recipient_of
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
RECIPIENT, OTHER = recipient_of(IDENTITY), recipient_of(OTHER_IDENTITY)
PLAIN = {"user": "plain-of-user", "password": "plain-of-password"}
EDITOR = """\
import os, sys
old, new, path = sys.argv[1:]
with open(path) as file:
    text = file.read()
folder = os.path.dirname(path)
with open(os.path.join(os.environ["HOME"], "seen"), "a") as seen:
    seen.write(f"{os.stat(folder).st_mode & 0o777:o} {os.stat(path).st_mode & 0o777:o} {folder}\\n")
with open(path, "w") as file:
    file.write(text.replace(old, new))
"""


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "krm_sops", *arguments]


def environment(folder: Path, **env: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "SOPS_AGE_KEY": IDENTITY,
        "XDG_RUNTIME_DIR": str(folder),
        **env,
    }


def run(folder: Path, *arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(*arguments),
        cwd=folder,
        input=given,
        env=environment(folder, **env),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def edit(folder: Path, old: str, new: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return run(folder, "edit", *arguments, given=given, SOPS_EDITOR=f"{sys.executable} {folder}/ed.py '{old}' '{new}'")


def decrypted(folder: Path, name: str, *arguments: str, **env: str) -> str:
    done = run(folder, "decrypt", *arguments, name, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(made.yaml(made.document(PLAIN)))
    (tmp_path / "ed.py").write_text(EDITOR)
    return tmp_path


@pytest.fixture
def tree(folder: Path) -> Path:
    """Three encrypted files in folders, and some that are none."""
    (folder / ".sops.yaml").write_text(f"creation_rules: [{{age: {RECIPIENT}}}]\n")
    for name in ("x/b.yaml", "x/y/c.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((folder / "a.yaml").read_text())
    (folder / "x/plain.yaml").write_text("a: b\n")
    (folder / "x/README.md").write_text("It looks like ENC[AES256_GCM,data:…]\n")
    (folder / "x/link.yaml").symlink_to("b.yaml")
    (folder / ".git").mkdir()
    (folder / ".git/d.yaml").write_text((folder / "a.yaml").read_text())
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


# edit


def test_the_plain_text_is_edited_in_a_private_folder_which_is_gone_afterwards(folder: Path) -> None:
    (folder / "a.yaml").chmod(0o640)
    before = (folder / "a.yaml").read_text()
    assert edit(folder, "plain-of-user", "other", "a.yaml").returncode == 0
    modes, where = (folder / "seen").read_text().rsplit(" ", 1)
    assert modes == "700 600"
    assert not Path(where.strip()).exists()
    assert (folder / "a.yaml").stat().st_mode & 0o777 == 0o640
    assert decrypted(folder, "a.yaml") == "user: other\npassword: plain-of-password\n"
    kept = re.search(r"^password: .*", before, re.MULTILINE)
    assert kept is not None
    assert kept[0].replace('"', "") in (folder / "a.yaml").read_text()


def test_a_broken_edit_is_kept_encrypted_where_nobody_can_mend_it(folder: Path) -> None:
    """Contract 6: no plain text is left, and nothing is lost; the file itself stays as it was."""
    before = (folder / "a.yaml").read_text()
    for number, name in enumerate(("a.yaml.rejected", "a.yaml.rejected.1")):
        done = edit(folder, "plain-of-user", f"[{number}", "a.yaml")
        assert done.returncode == 1
        assert f"it is kept in {name}" in done.stderr
        assert "plain-of" not in done.stderr
        assert "plain-of" not in (folder / name).read_text()
        assert decrypted(folder, name) == f"user: [{number}\npassword: plain-of-password\n"
    assert (folder / "a.yaml").read_text() == before
    assert not [where for where in (folder / "seen").read_text().split() if where[0] == "/" and Path(where).exists()]


def test_a_broken_edit_is_offered_again_and_forgotten_once_it_is_mended(folder: Path) -> None:
    (folder / "second.sh").write_text(
        f'#!/bin/sh\nif grep -q plain-of-user "$1"; then {sys.executable} {folder}/ed.py plain-of-user "[" "$1"\n'
        f'else test -e {folder}/a.yaml.rejected && {sys.executable} {folder}/ed.py "[" mended "$1"; fi\n'
    )
    done = run(folder, "edit", "a.yaml", given="\n", SOPS_EDITOR=f"/bin/sh {folder}/second.sh")
    assert done.returncode == 0, done.stderr
    assert "press enter" in done.stderr.lower()
    assert decrypted(folder, "a.yaml") == "user: mended\npassword: plain-of-password\n"
    assert not (folder / "a.yaml.rejected").exists()


@pytest.mark.parametrize("text", ["sops: {}\n", "a: [\n", "a: \x01\n", "{1: 2}\n"])
def test_what_cannot_be_encrypted_is_kept_too(folder: Path, text: str) -> None:
    (folder / "text").write_text(text)
    before = (folder / "a.yaml").read_text()
    done = run(folder, "edit", "a.yaml", SOPS_EDITOR=f"cp {folder}/text")
    assert done.returncode not in (0, 200, 201)
    assert (folder / "a.yaml").read_text() == before
    assert decrypted(folder, "a.yaml.rejected") == text


def test_an_edit_that_cannot_be_written_is_kept_too(folder: Path) -> None:
    """Beside the file, or where temporary files go if that does not work either."""
    before = (folder / "a.yaml").read_text()
    (folder / "x").mkdir()
    (folder / "x/b.yaml").write_text(before)
    (folder / "block.sh").write_text(
        f'{sys.executable} {folder}/ed.py plain-of-user changed "$1"; rm {folder}/x/b.yaml; mkdir {folder}/x/b.yaml\n'
    )
    done = run(folder, "edit", "x/b.yaml", SOPS_EDITOR=f"/bin/sh {folder}/block.sh")
    assert done.returncode == 3
    assert decrypted(folder, "x/b.yaml.rejected") == "user: changed\npassword: plain-of-password\n"
    long = f"{'l' * 245}.yaml"
    (folder / long).write_text(before)
    (folder / "tmp").mkdir()
    arguments = {"SOPS_EDITOR": f"{sys.executable} {folder}/ed.py plain-of-user [", "TMPDIR": f"{folder}/tmp"}
    assert run(folder, "edit", long, **arguments).returncode == 1
    (kept,) = (folder / "tmp").iterdir()
    assert decrypted(folder, f"tmp/{kept.name}") == "user: [\npassword: plain-of-password\n"


def test_what_somebody_else_wrote_meanwhile_is_not_written_over(folder: Path) -> None:
    """Neither by an edit, which is kept, nor by a verb that had read the file before."""
    (folder / "other.sh").write_text(
        f'{sys.executable} {folder}/ed.py plain-of-user changed "$1"\n'
        f"{sys.executable} -m krm_sops set a.yaml '[\"password\"]' '\"x\"'\n"
    )
    done = run(folder, "edit", "a.yaml", given="\n\n", SOPS_EDITOR=f"/bin/sh {folder}/other.sh")
    assert done.returncode == 3
    assert "a.yaml was changed meanwhile" in done.stderr
    assert decrypted(folder, "a.yaml") == "user: plain-of-user\npassword: x\n"
    assert decrypted(folder, "a.yaml.rejected") == "user: changed\npassword: plain-of-password\n"


def test_a_file_that_somebody_else_made_meanwhile_is_not_written_over(tree: Path) -> None:
    done = run(tree, "edit", "new.yaml", SOPS_EDITOR=f"/bin/sh -c 'echo a: b > \"$1\"; echo c > {tree}/new.yaml' -")
    assert done.returncode == 3
    assert (tree / "new.yaml").read_text() == "c\n"
    assert decrypted(tree, "new.yaml.rejected") == "a: b\n"


def test_a_verb_writes_only_over_what_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at right before the file is replaced: rewritten, replaced, removed. What it wrote itself is no change."""
    path = tmp_path / "a.yaml"
    changes = (
        lambda: path.write_text("other"),
        lambda: ((tmp_path / "b").write_text("old"), (tmp_path / "b").replace(path)),
        path.unlink,
    )
    for change in changes:
        path.write_text("old")
        assert files.read(str(path)) == b"old"
        change()
        with pytest.raises(files.FileChanged, match="was changed meanwhile") as caught:
            files.write(str(path), b"new")
        assert caught.value.exit_status == 3
        assert not path.exists() or path.read_text() != "new"
    path.write_text("old")
    files.read(str(path))
    for text in (b"new", b"newer"):
        files.write(str(path), text)
        assert path.read_bytes() == text
    assert [found.name for found in tmp_path.iterdir()] == ["a.yaml"]


def test_a_read_only_file_is_replaced_and_a_hard_link_to_it_is_not(tmp_path: Path) -> None:
    path, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    path.write_text("old")
    path.chmod(0o444)
    other.hardlink_to(path)
    files.write(str(path), b"new")
    assert (path.read_text(), other.read_text()) == ("new", "old")
    assert path.stat().st_mode & 0o777 == 0o444


def test_links_lead_anywhere_in_their_repository_but_not_into_git(tmp_path: Path) -> None:
    """S33"""
    inside, outside = tmp_path / "repository", tmp_path / "outside.yaml"
    for name in (".git/hooks", "common", "d"):
        (inside / name).mkdir(parents=True)
    for path in (inside / "common/x.yaml", inside / ".git/hooks/pre-commit", outside):
        path.write_text("old")
    (inside / "d/in.yaml").symlink_to("../common/x.yaml")
    files.write(str(inside / "d/in.yaml"), b"new")
    assert (inside / "common/x.yaml").read_text() == "new"
    for number, target in enumerate(("../../outside.yaml", "../.git/hooks/pre-commit", str(outside))):
        link = inside / f"d/{number}.yaml"
        link.symlink_to(target)
        for refused in (
            lambda link=link: files.write(str(link), b"new"),
            lambda link=link: files.refuse_unwritable(str(link)),
        ):
            with pytest.raises(files.FileError, match="is a link that leads out of its repository"):
                refused()
        assert link.read_text() == "old"


def test_a_folder_is_written_beside_what_other_runs_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the same temporary name is another run's, and stays."""
    monkeypatch.setattr(os, "urandom", bytes)
    left = tmp_path / f".out.{'00' * 8}.tmp"
    left.mkdir()
    (left / "a.yaml").write_text("of another run")
    with pytest.raises(ConfigError, match="cannot write"):
        write_folder(str(tmp_path / "out"), {"a.yaml": "x"})
    assert (left / "a.yaml").read_text() == "of another run"
    monkeypatch.undo()
    write_folder(str(tmp_path / "out"), {"a.yaml": "x"})
    assert (tmp_path / "out/a.yaml").read_text() == "x"


def test_what_a_killed_run_left_is_passed_over_by_folders_but_not_by_check(tree: Path) -> None:
    """S33: it may be plain."""
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: plain-of-a}\n"
    (tree / "x/.krm-sops-0123456789abcdef.tmp").write_text(secret)
    done = run(tree, "check", "x")
    assert done.returncode != 0
    assert ".krm-sops-0123456789abcdef.tmp" in done.stdout + done.stderr
    assert run(tree, "rotate", "-i", "x").returncode == 0
    assert (tree / "x/.krm-sops-0123456789abcdef.tmp").read_text() == secret


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_owner_is_refused_before_the_editor_starts(folder: Path) -> None:
    """Whoever may not give files away would make it their own; nothing is left beside it."""
    os.chown(folder / "a.yaml", 4711, 4711)
    before = texts(folder)
    code = (
        "import os, sys; from krm_sops.cli import main\n"
        "def refuse(*_): raise PermissionError(1, 'Operation not permitted')\n"
        "os.fchown = refuse; sys.exit(main(['', *sys.argv[1:]]))"
    )
    for arguments in (("edit", "a.yaml"), ("set", "a.yaml", '["user"]', '"x"')):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            env=environment(folder, EDITOR=f"touch {folder}/started"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 3
        assert "it belongs to user 4711 and group 4711" in done.stderr
        assert texts(folder) == before
    assert edit(folder, "plain-of-user", "changed", "a.yaml").returncode == 0
    assert (folder / "a.yaml").stat().st_uid == 4711


def test_a_file_is_written_whatever_its_name_and_what_a_killed_run_left(folder: Path) -> None:
    """In a container every run has the same process id."""
    long = f"{'l' * 250}.yaml"
    (folder / long).write_text((folder / "a.yaml").read_text())
    code = "import os, sys; os.getpid = lambda: 1; from krm_sops.cli import main; sys.exit(main(['', *sys.argv[1:]]))"
    (folder / ".a.yaml.1.tmp").write_text("")
    for name in (long, "a.yaml"):
        command = [sys.executable, "-c", code, "set", name, '["user"]', '"changed"']
        subprocess.run(command, cwd=folder, env=environment(folder), check=True, timeout=60)
        assert decrypted(folder, name).startswith("user: changed\n")


def test_a_signal_ends_the_editor_and_removes_the_plain_text(folder: Path) -> None:
    (folder / "wait.sh").write_text('echo "$1" > "$HOME/path.new"; mv "$HOME/path.new" "$HOME/path"; exec sleep 60\n')
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGXCPU):
        (folder / "path").unlink(missing_ok=True)
        before = (folder / "a.yaml").read_text()
        with subprocess.Popen(
            argv("edit", "a.yaml"),
            cwd=folder,
            env=environment(folder, EDITOR=f"/bin/sh {folder}/wait.sh"),
            stderr=subprocess.PIPE,
        ) as process:
            while not (folder / "path").exists():
                assert process.poll() is None
            path = Path((folder / "path").read_text().strip())
            assert "plain-of-user" in path.read_text()
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        assert not path.parent.exists()
        assert (folder / "a.yaml").read_text() == before


def test_what_cannot_be_written_is_said_before_somebody_edits(folder: Path) -> None:
    done = edit(folder, "a", "b", "none/new.yaml", "--age", RECIPIENT)
    assert done.returncode == 3
    assert not (folder / "seen").exists()


def test_an_editor_is_not_taken_from_the_working_folder(folder: Path) -> None:
    """S15."""
    (folder / "vim").write_text("#!/bin/sh\ntouch ran\n")
    (folder / "vim").chmod(0o755)
    for env in ({"PATH": "."}, {"PATH": "", "EDITOR": "vim"}):
        assert run(folder, "edit", "a.yaml", **env).returncode == 201
    assert not (folder / "ran").exists()


def test_keys_that_are_edited_get_or_lose_the_data_key(folder: Path) -> None:
    (folder / "keys.sh").write_text(f'sed -i "s/{RECIPIENT}/{OTHER}/; /enc: /,/END AGE/d" "$1"\n')
    done = run(folder, "edit", "-s", "a.yaml", EDITOR=f"/bin/sh {folder}/keys.sh")
    assert done.returncode == 0, done.stderr
    assert run(folder, "decrypt", "a.yaml").returncode == 128
    assert "plain-of-user" in decrypted(folder, "a.yaml", SOPS_AGE_KEY=OTHER_IDENTITY)
    done = run(folder, "edit", "-s", "a.yaml", EDITOR=f"sed -i /{OTHER}/d", SOPS_AGE_KEY=OTHER_IDENTITY)
    assert done.returncode != 0
    assert "plain-of-user" in decrypted(folder, "a.yaml", SOPS_AGE_KEY=OTHER_IDENTITY)


# set, unset


def test_a_step_of_the_wrong_kind_is_an_error(folder: Path) -> None:
    """sops crashes, or sets nothing."""
    before = (folder / "a.yaml").read_text()
    for path in ("[0]", '["user"][-1]', '[""]["a"][', "[]", ""):
        assert run(folder, "set", "a.yaml", path, '"x"').returncode in (1, 7), path
    assert (folder / "a.yaml").read_text() == before
    assert run(folder, "set", "a.yaml", '["list"][0]', '"x"').returncode == 0
    assert run(folder, "set", "a.yaml", '["list"]["key"]', '"x"').returncode == 1
    assert run(folder, "unset", "a.yaml", '["list"]["key"]', "--idempotent").returncode == 1
    assert decrypted(folder, "a.yaml", "--extract", '["list"]') == "- x\n"


def test_the_format_of_the_input_stays(folder: Path) -> None:
    (folder / "secret").write_text((folder / "a.yaml").read_text())
    assert run(folder, "set", "--input-type", "yaml", "secret", '["new"]', '"x"').returncode == 0
    assert (folder / "secret").read_text().startswith("user: ENC[")


def test_a_format_that_the_name_does_not_say_is_told(folder: Path) -> None:
    done = run(folder, "set", "--output-type", "dotenv", "a.yaml", '["user"]', '"x"')
    if done.returncode:  # a list cannot stand in dotenv
        run(folder, "unset", "a.yaml", '["list"]')
        done = run(folder, "set", "--output-type", "dotenv", "a.yaml", '["user"]', '"x"')
    assert done.returncode == 0, done.stderr
    assert "--input-type dotenv opens it" in done.stderr
    assert decrypted(folder, "a.yaml", "--input-type", "dotenv", "--output-type", "dotenv").splitlines()[0] == "user=x"


def test_no_document_is_lost(folder: Path) -> None:
    (folder / "m.yaml").write_text("a: b\n---\nc: d\n")
    assert run(folder, "encrypt", "-i", "--age", RECIPIENT, "m.yaml").returncode == 0
    assert run(folder, "set", "m.yaml", '["a"]', '"x"').returncode == 0
    assert run(folder, "rotate", "-i", "--add-age", OTHER, "m.yaml").returncode == 0
    for wanted in ("json", "dotenv", "ini"):
        assert run(folder, "rotate", "--output-type", wanted, "m.yaml").returncode == 4
    assert decrypted(folder, "m.yaml") == "a: x\n---\nc: d\n"


# groups


def test_groups_that_would_leave_a_file_without_keys_are_refused(folder: Path) -> None:
    before = (folder / "a.yaml").read_text()
    for arguments in (
        ["add", "--age", "age1x"],
        ["add"],
        ["add", "--age", OTHER, "--shamir-secret-sharing-threshold", "3"],
        ["delete", "0"],
        ["delete", "7"],
    ):
        done = run(folder, "groups", arguments[0], "-i", "-f", "a.yaml", *arguments[1:])
        assert done.returncode == 1, arguments
        assert "internal error" not in done.stderr
    assert (folder / "a.yaml").read_text() == before


# rotate, updatekeys: many files


def test_folders_are_searched_for_encrypted_files(tree: Path) -> None:
    before = texts(tree)
    (tree / "x/b.yaml").chmod(0o600)
    done = run(tree, "rotate", "-i", ".")
    assert (done.returncode, done.stderr) == (0, "krm-sops: 3 rotated\n")
    after = texts(tree)
    assert {name for name in before if before[name] != after[name]} == {
        "a.yaml",
        "x/b.yaml",
        "x/link.yaml",
        "x/y/c.yaml",
    }
    assert (tree / "x/link.yaml").is_symlink()
    assert (tree / "x/b.yaml").stat().st_mode & 0o777 == 0o600
    for name in ("a.yaml", "x/b.yaml", "x/y/c.yaml"):
        assert decrypted(tree, name) == "user: plain-of-user\npassword: plain-of-password\n"
    assert run(tree, "rotate", "-i", "x/**/c.yaml").returncode == 0
    assert run(tree, "rotate", "-i", "x/*.none").returncode == 100
    assert run(tree, "rotate", "x").returncode == 8
    assert run(tree, "rotate", "-i", ".git").returncode == 0  # named, so it is meant
    assert run(tree, "updatekeys", "-y", "x").stderr == "krm-sops: 2 already up to date\n"
    assert texts(tree)["x/b.yaml"] == (tree / "x/link.yaml").read_text()


def test_what_a_killed_run_left_does_not_stop_the_next_one(tree: Path) -> None:
    (tree / ".sops.yaml").write_text(f"creation_rules: [{{path_regex: json$, age: {RECIPIENT}}}]\n")
    (tree / "j").mkdir()
    (tree / "j/a.json").write_text(decrypted(tree, "a.yaml", "--output-type", "json"))
    assert run(tree, "encrypt", "-i", "j/a.json").returncode == 0
    (tree / "j/.krm-sops-0123456789abcdef.tmp").write_text((tree / "j/a.json").read_text())
    done = run(tree, "rotate", "-i", "j")
    assert (done.returncode, done.stderr) == (0, "krm-sops: 1 rotated\n")


def test_one_bad_file_does_not_stop_the_others(tree: Path) -> None:
    (tree / "x/a-bad.yaml").write_text((tree / "a.yaml").read_text().replace("user:", "user: ["))
    (tree / "x/a-bad.json").write_text('{"a": "ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]", "sops": {"age": []}}')
    done = run(tree, "rotate", "-i", "x", "a.yaml")
    assert done.returncode == 1
    assert "error: x/a-bad.yaml" in done.stderr
    assert "error: x/a-bad.json" in done.stderr
    assert "3 rotated" in done.stderr
    assert "failed rotating 2 file(s)" in done.stderr
    since = re.search(r"go on with --older-than (\S+)", done.stderr)
    assert since is not None
    again = run(tree, "rotate", "-i", "x", "--older-than", since[1])
    assert "2 encrypted since" in again.stderr
    assert "1 encrypted since" in run(tree, "rotate", "-i", "a.yaml", "--older-than", since[1]).stderr
    assert run(tree, "rotate", "-i", "x", "--older-than", "yesterday").returncode == 1
    assert run(tree, "updatekeys", "-y", "x", "--older-than", since[1]).returncode == 1


def test_updatekeys_brings_what_is_not_in_step_in_step(tree: Path) -> None:
    (tree / ".sops.yaml").write_text(f"creation_rules: [{{age: '{RECIPIENT},{OTHER}'}}]\n")
    before = texts(tree)
    assert run(tree, "updatekeys", "-y", "x/b.yaml").returncode == 0
    done = run(tree, "updatekeys", "-y", ".")
    assert done.returncode == 0
    assert done.stderr == "krm-sops: 2 synced with new keys, 1 already up to date\n"
    assert done.stdout.count(f"+++ {OTHER}") == 2
    for name in ("a.yaml", "x/b.yaml", "x/y/c.yaml"):
        assert "plain-of-user" in decrypted(tree, name, SOPS_AGE_KEY=OTHER_IDENTITY)
        assert set(re.findall(r"ENC\[[^]]*", texts(tree)[name])) == set(re.findall(r"ENC\[[^]]*", before[name]))
    again = texts(tree)
    assert run(tree, "updatekeys", "-y", ".").stderr == "krm-sops: 3 already up to date\n"
    assert texts(tree) == again
    asked = run(tree, "updatekeys", "--rotate", ".", given="y\nn\ny\n")
    assert asked.returncode == 0
    assert "2 synced with new keys, 1 left unchanged" in asked.stderr


def test_updatekeys_rotate_takes_a_new_data_key_for_the_new_keys(tree: Path) -> None:
    (tree / ".sops.yaml").write_text(f"creation_rules: [{{age: {OTHER}}}]\n")
    before = texts(tree)
    done = run(tree, "updatekeys", "--yes", "--rotate", "a.yaml", "x")
    assert done.returncode == 0, done.stderr
    for name in ("a.yaml", "x/b.yaml", "x/y/c.yaml"):
        assert run(tree, "decrypt", name).returncode == 128
        assert "plain-of-user" in decrypted(tree, name, SOPS_AGE_KEY=OTHER_IDENTITY)
        assert not set(re.findall(r"ENC\[[^]]*", texts(tree)[name])) & set(re.findall(r"ENC\[[^]]*", before[name]))


def test_an_azure_key_without_a_version_stands_for_any(tree: Path) -> None:
    url = "https://v.vault.azure.net/keys/k"
    (wanted,) = AzureKeyVaultKey.from_list(url, {})
    (stated,) = AzureKeyVaultKey.from_list(f"{url}/1234", {})
    (other,) = AzureKeyVaultKey.from_list(f"{url}2/1234", {})
    assert is_same_key(wanted, stated)
    assert not is_same_key(wanted, other)
    (found,) = differences([[stated]], [[wanted]])
    assert (found.common, found.added, found.removed) == ([wanted], [], [])


class _Vault(BaseHTTPRequestHandler):
    """Answers only when three calls are there at once."""

    together = threading.Barrier(3, timeout=60)

    def do_PUT(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "plaintext" in request:
            self.together.wait()
            data = {"ciphertext": "vault:v1:" + request["plaintext"]}
        else:
            data = {"plaintext": request["ciphertext"].removeprefix("vault:v1:")}
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def vault() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Vault) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_services_are_asked_for_several_files_at_once(tree: Path, vault: str) -> None:
    address = f"{vault}/v1/transit/keys/k"
    (tree / ".sops.yaml").write_text(f"creation_rules: [{{age: {RECIPIENT}, hc_vault_transit_uri: {address}}}]\n")
    for name in ("a.yaml", "x/b.yaml", "x/y/c.yaml"):
        branch = json.loads(json.dumps(made.document(PLAIN)))
        wrapped = {"vault_address": vault, "engine_path": "transit", "key_name": "k", "enc": "vault:v1:x"}
        branch["sops"]["hc_vault"] = [{**wrapped, "created_at": "2026-01-01T00:00:00Z"}]
        (tree / name).write_text(made.yaml(branch))
    done = run(tree, "rotate", "-i", ".", VAULT_ADDR=vault, VAULT_TOKEN="t")
    assert (done.returncode, done.stderr) == (0, "krm-sops: 3 rotated\n")
    for name in ("a.yaml", "x/b.yaml", "x/y/c.yaml"):
        opened = decrypted(tree, name, SOPS_AGE_KEY="", VAULT_ADDR=vault, VAULT_TOKEN="t")
        assert "plain-of-user" in opened


def test_a_run_that_is_stopped_says_how_to_go_on(tree: Path) -> None:
    """S33: and every file is the old or the new one, without others beside it."""
    for number in range(60):
        (tree / f"x/{number}.yaml").write_text((tree / "a.yaml").read_text())
    names = set(texts(tree))
    before = texts(tree)
    with subprocess.Popen(
        argv("rotate", "-i", "x"), cwd=tree, env=environment(tree), stderr=subprocess.PIPE, text=True
    ) as process:
        while texts(tree) == before:
            assert process.poll() is None
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert set(texts(tree)) == names
    if process.returncode == 0:
        return  # it was done before the signal came
    since = re.search(r"files were written; go on with --older-than (\S+)", said)
    assert since is not None, said
    done = run(tree, "rotate", "-i", "x", "--older-than", since[1])
    assert done.returncode == 0
    assert all(before[name] != text for name, text in texts(tree).items() if re.fullmatch(r"x/\d+\.yaml", name))


def test_a_key_that_is_not_there_to_remove_is_told(folder: Path) -> None:
    done = run(folder, "rotate", "-i", "--rm-age", OTHER, "a.yaml")
    assert done.returncode == 0
    assert f"there is no key {OTHER} to remove" in done.stderr


def test_new_keys_are_ready_before_anybody_writes_something(folder: Path) -> None:
    done = edit(folder, "a", "b", "new.yaml", "--pgp", "F" * 40)
    assert done.returncode == 1
    assert not (folder / "seen").exists()
