"""Which files of a folder are manifests: .krmignore, hidden ones, folders that are built."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from krm_sops.builds.ignore import is_ignored, read
from krm_sops.builds.kustomization import find
from krm_sops.builds.manifests import manifests
from krm_sops.errors import ConfigError, LimitError, PolicyError
from krm_sops.limits import FUNCTION

if TYPE_CHECKING:
    from pathlib import Path

PATTERNS = [
    *("a", "a/", "/a", "b/a", "*.yaml", "!x.yaml", "a/*", "a/**", "**/a", "a/**/b", "?.yaml", "[ab].yaml", "[!a].yaml"),
    *("[a-c]x", "# no", "", "  ", r"\#x", r"\!x", "a*b*c", "b", "*", "**", "x.yaml ", "/b/*.yaml", "[", "a[", "[]a]"),
]
PATHS = [
    *("a", "b/a", "b/c/a", "a/x.yaml", "x.yaml", "b/x.yaml", "a/c/b", "a/b", "bx", "#x", "!x", "aXbXc", "b/a/x.yaml"),
    "c/b/d.yaml",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mean_what_git_takes_them_for(tmp_path: Path, pattern: str):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text(f"{pattern}\n")
    rules = read(f"{pattern}\n", "f")
    for path in PATHS:
        parts = path.split("/")
        ours = any(is_ignored(rules, parts[: at + 1], is_folder=at + 1 < len(parts)) for at in range(len(parts)))
        git = subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=tmp_path, check=False).returncode
        assert ours is (git == 0), path


def test_the_last_rule_decides():
    rules = read("*.yaml\n!keep.yaml\n", "f")
    assert is_ignored(rules, ("a.yaml",), is_folder=False)
    assert not is_ignored(rules, ("keep.yaml",), is_folder=False)


def test_no_pattern_takes_long():
    """S22: 50 stars against a long name."""
    rules = read("*a" * 450 + "b\n" + "**/a/" * 180 + "b\n", "f")
    assert not is_ignored(rules, ("a" * 5000,), is_folder=False)
    assert not is_ignored(rules, ("a",) * 2000, is_folder=False)
    with pytest.raises(LimitError, match="line 1"):
        read("a" * 1001, "f")


def tree(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return str(folder)


def found(root: str, folder: str = ".") -> list[str]:
    return [one.path + "/" * one.is_build for one in manifests(root, folder, FUNCTION)]


def test_files_in_order_and_folders_that_are_built(tmp_path):
    root = tree(tmp_path, "b.yaml", "a/z.yml", "a/k/kustomization.yaml", "a/k/x.yaml", "c.json", "d.txt", ".git/x.yaml")
    assert found(root) == ["a/k/", "a/z.yml", "b.yaml", "c.json"]


def test_krmignore_holds_from_its_folder_on(tmp_path):
    root = tree(tmp_path, "a.yaml", "b/a.yaml", "b/c.yaml", "d/e.yaml")
    (tmp_path / ".krmignore").write_text("/d\n")
    (tmp_path / "b" / ".krmignore").write_text("a.yaml\n")
    assert found(root) == ["a.yaml", "b/c.yaml"]


def test_links_to_folders_are_not_followed(tmp_path):
    root = tree(tmp_path, "a/x.yaml", "b/y.yaml")
    (tmp_path / "b" / "loop").symlink_to("..")
    (tmp_path / "b" / "z.yaml").symlink_to("../a/x.yaml")
    assert found(root) == ["a/x.yaml", "b/y.yaml", "b/z.yaml"]


def test_several_kustomizations_in_a_folder_are_an_error(tmp_path):
    """As in kustomize and Flux: which one would count?"""
    root = tree(tmp_path, "a/kustomization.yaml", "a/Kustomization")
    with pytest.raises(ConfigError, match="several"):
        find(root, "a")


def test_an_ignore_file_that_leads_out_is_refused(tmp_path):
    """S2."""
    (tmp_path / "out").write_text("*\n")
    root = tree(tmp_path / "repo", "a.yaml")
    (tmp_path / "repo" / ".krmignore").symlink_to("../out")
    with pytest.raises(PolicyError):
        found(root)


def test_too_deep_is_an_error(tmp_path):
    """S23."""
    root = tree(tmp_path, "/".join("a" * 20) + "/x.yaml")
    with pytest.raises(LimitError, match="depth"):
        manifests(root, ".", FUNCTION.changed({"depth": 10}))


def test_an_ignored_kustomization_builds_nothing(tmp_path):
    inner = tmp_path / "app"
    inner.mkdir()
    for name in ("a.yaml", "kustomization.yaml"):
        (inner / name).write_text("")
    assert [found.is_build for found in manifests(str(tmp_path), ".", FUNCTION)] == [True]
    (inner / ".krmignore").write_text("kustomization.yaml\n")
    assert [found.path for found in manifests(str(tmp_path), ".", FUNCTION)] == ["app/a.yaml"]
