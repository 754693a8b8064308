"""This repository as a kpt package: rendering and fetching it trip over nothing in it, whatever else is added."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import PASSWORD, ROOT, Clients, contents

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    found = Clients(tmp_path_factory.mktemp("clients"))
    found.need("git", "kpt")
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A clone that also has what is not committed yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository")
    clone = tmp_path_factory.mktemp("clone") / "krm-sops"
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    git(clone, "init", "--quiet", "--initial-branch", "main")
    git(clone, "add", "--all")
    git(
        clone, "-c", "user.name=test", "-c", "user.email=test@example.invalid", "commit", "--quiet", "--message", "test"
    )
    return clone


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout


def test_the_repository_renders_and_stays_as_it_is(clients, repository):
    done = clients.run("kpt", "fn", "render", repository, "--allow-exec", "-o", "unwrap")
    assert done.returncode == 0, done.stderr
    assert PASSWORD in done.stdout
    assert git(repository, "status", "--porcelain") == ""


def test_rendered_to_stdout_the_repository_is_its_kptfile_and_one_example(clients, repository):
    done = clients.run("kpt", "fn", "render", repository, "--allow-exec", "-o", "unwrap")
    assert done.stdout.startswith((ROOT / "Kptfile").read_text())
    rest = done.stdout.removeprefix((ROOT / "Kptfile").read_text())
    example = (ROOT / "examples" / "stages-secrets-first" / "expected.yaml").read_text()
    assert rest == example[example.index("---\n") :]


def test_the_repository_can_be_fetched_and_what_was_fetched_renders(clients, repository, tmp_path):
    fetched = tmp_path / "fetched"
    done = clients.run("kpt", "pkg", "get", f"file://{repository}/.git", fetched)
    assert done.returncode == 0, done.stderr
    assert (fetched / "examples" / "hello" / "secret.enc.yaml").is_file()
    before = contents(fetched)
    done = clients.run("kpt", "fn", "render", fetched, "--allow-exec", "-o", "unwrap")
    assert done.returncode == 0, done.stderr
    assert PASSWORD in done.stdout
    assert contents(fetched) == before


def test_an_example_can_be_fetched_and_what_was_fetched_runs(clients, repository, tmp_path):
    """Although kpt writes a comment and an annotation of its own into every file that it fetches, encrypted or not."""
    done = clients.run("kpt", "pkg", "get", f"file://{repository}/.git/examples/kpt-exec", tmp_path / "shop")
    assert done.returncode == 0, done.stderr
    assert "upstream-identifier" in (tmp_path / "shop" / "database.enc.yaml").read_text()
    done = clients.run("sh", tmp_path / "shop" / "run.sh")
    assert done.returncode == 0, done.stderr
    assert f'password: "{PASSWORD}"' in done.stdout
    assert "ENC[" not in done.stdout


def test_no_folder_below_the_root_is_a_kpt_package(repository):
    """kpt would render it together with the root, whatever .krmignore says: plaintext into an example."""
    assert list(repository.rglob("Kptfile")) == [repository / "Kptfile"]
