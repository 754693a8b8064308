"""The merge driver under the real git: the MAC holds, unchanged ciphertexts stay, no plaintext in the work tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import agefile
from tests.e2e.clients import WRONG_KEY
from tests.interop.programs import link
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
ME = agefile.recipient_of(made.IDENTITY)
PLAIN = "# top\na: one\nb: two\nc: three\nd: four\ne: five\n"


class Repository:
    def __init__(self, folder: Path) -> None:
        programs = folder / "bin"
        programs.mkdir()
        link(programs, "krm-sops")
        self.folder = folder / "repo"
        self.folder.mkdir()
        self.path = self.folder / "x.enc.yaml"
        self.env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "SOPS_AGE_KEY": made.IDENTITY,
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.git("init", "-q", "-b", "main")
        for name, value in (
            ("user.email", "a@example.com"),
            ("user.name", "a"),
            ("merge.sops.driver", "krm-sops merge-driver %O %A %B %P"),
            ("diff.sops.textconv", "krm-sops decrypt"),
        ):
            self.git("config", name, value)
        (self.folder / ".gitattributes").write_text("*.enc.yaml merge=sops diff=sops\n")
        self.path.write_text(PLAIN)
        self.sops("encrypt", "--age", ME, "-i", "x.enc.yaml")
        self.commit("base")
        self.git("branch", "other")

    def git(self, *arguments: str, status: int = 0) -> str:
        return self._run("git", *arguments, status=status)

    def sops(self, *arguments: str, status: int = 0) -> str:
        return self._run("krm-sops", *arguments, status=status)

    def _run(self, *argv: str, status: int) -> str:
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "-qm", message)

    def sides(self, ours: list[tuple[str, ...]], theirs: list[tuple[str, ...]]) -> None:
        """Both sides' changes, ours on main and theirs on other."""
        for branch, changes in (("other", theirs), ("main", ours)):
            self.git("checkout", "-q", branch)
            for verb, *arguments in changes:
                self.sops(verb, *arguments)
            self.commit(branch)

    def plain(self) -> str:
        return self.sops("decrypt", "x.enc.yaml")

    def line(self, key: str) -> str:
        return next(line for line in self.path.read_text().splitlines() if line.startswith(f"{key}: "))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def changed(key: str, value: str) -> tuple[str, ...]:
    return ("set", "x.enc.yaml", f'["{key}"]', f'"{value}"')


def test_what_both_sides_changed_apart_is_merged_and_opens(repository: Repository) -> None:
    repository.sides([changed("a", "ours")], [changed("e", "theirs")])
    before = {key: repository.line(key) for key in "abcd"}
    repository.git("merge", "-q", "other", "-m", "merged")
    assert repository.plain() == PLAIN.replace("one", "ours").replace("five", "theirs")
    assert {key: repository.line(key) for key in "abcd"} == before


def test_a_difference_is_shown_in_plain_by_textconv(repository: Repository) -> None:
    repository.sides([changed("a", "ours")], [changed("e", "theirs")])
    shown = repository.git("diff", "other", "main", "--", "x.enc.yaml")
    assert {"-a: one", "+a: ours", "-e: theirs", "+e: five"} <= set(shown.splitlines())


def test_a_conflict_stands_in_ciphertext(repository: Repository) -> None:
    repository.sides([changed("b", "left-hand")], [changed("b", "right-hand")])
    repository.git("merge", "other", status=1)
    found = repository.path.read_text()
    assert "<<<<<<< ours" in found
    assert not [word for word in ("left-hand", "right-hand", "one", "five") if word in found]
    for file in repository.folder.iterdir():
        assert file.is_dir() or "-hand" not in file.read_text()
    lines, skip = [], False
    for line in found.splitlines(keepends=True):  # ours
        if line.startswith(("<<<<<<<", ">>>>>>>")):
            skip = False
        elif line.startswith("======="):
            skip = True
        elif not skip:
            lines.append(line)
    repository.path.write_text("".join(lines))
    repository.sops("rotate", "--ignore-mac", "-i", "x.enc.yaml")
    assert repository.plain() == PLAIN.replace("two", "left-hand")


def test_a_new_data_key_of_either_side_is_kept(repository: Repository) -> None:
    """A removed recipient must not get back in by a merge."""
    other = agefile.recipient_of(WRONG_KEY)
    repository.sops("rotate", "-i", "--add-age", other, "x.enc.yaml")
    repository.commit("two recipients")
    repository.git("branch", "-f", "other")
    repository.sides([changed("a", "ours")], [("rotate", "-i", "--rm-age", other, "x.enc.yaml")])
    repository.git("merge", "-q", "other", "-m", "merged")
    assert repository.plain() == PLAIN.replace("one", "ours")
    assert other not in repository.path.read_text()
    assert repository.line("c") in repository.git("show", "other:x.enc.yaml")


def test_a_version_that_was_tampered_with_is_a_conflict(repository: Repository) -> None:
    """S6: what has no MAC gets none by a merge."""
    repository.sides([changed("a", "ours")], [changed("e", "theirs")])
    repository.git("checkout", "-q", "other")
    text = repository.path.read_text()
    repository.path.write_text("".join(line for line in text.splitlines(True) if not line.startswith("c: ")))
    repository.commit("without c")
    repository.git("checkout", "-q", "main")
    repository.git("merge", "other", status=1)


def test_without_a_key_it_is_a_conflict_in_ciphertext(repository: Repository) -> None:
    repository.sides([changed("a", "ours")], [changed("e", "theirs")])
    repository.env["SOPS_AGE_KEY"] = WRONG_KEY
    repository.git("merge", "other", status=1)
    assert ">>>>>>> theirs" in repository.path.read_text()


def test_files_that_are_not_encrypted_are_merged_as_text(repository: Repository) -> None:
    plain = repository.folder / "y.enc.yaml"
    plain.write_text(PLAIN)
    repository.commit("plain")
    repository.git("branch", "-f", "other")
    for branch, old, new in (("other", "five", "5"), ("main", "one", "1")):
        repository.git("checkout", "-q", branch)
        plain.write_text(plain.read_text().replace(old, new))
        repository.commit(branch)
    repository.git("merge", "-q", "other", "-m", "merged")
    assert plain.read_text() == PLAIN.replace("five", "5").replace("one", "1")
