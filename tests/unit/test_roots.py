"""Files below one root: what may be read, and what leads out of it (S2)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from krm_sops.errors import PolicyError
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import Policy
from krm_sops.roots import read_below, relative, source_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "base" / "inner").mkdir(parents=True)
    (root / "base" / "file").write_bytes(b"content")
    (tmp_path / "key").write_bytes(b"key of somebody else")
    return root


def policy(root: str = "") -> Policy:
    found = Policy(FUNCTION)
    found.root = root
    found.origins["root"] = "--root"
    return found


@pytest.mark.parametrize("path", ["base/file", "./base//file", "base/inner/../file"])
def test_what_is_below_is_read(root, path):
    assert read_below(str(root), path, 100) == b"content"


@pytest.mark.parametrize("path", ["../key", "base/../../key", "base/inner/../../../key", "/../key"])
def test_dots_do_not_lead_out(root, path):
    with pytest.raises(PolicyError, match="leads out of"):
        read_below(str(root), path, 100)


@pytest.mark.parametrize("target", ["../key", "/etc/passwd", "{outside}/key"])
@pytest.mark.parametrize("place", ["link", "base/link"])
def test_links_do_not_lead_out(root, tmp_path, target, place):
    (root / place).symlink_to(
        target.format(outside=tmp_path) if target[0] != "." else "../" * place.count("/") + target
    )
    with pytest.raises(PolicyError, match="leads out of"):
        read_below(str(root), place, 100)


def test_a_folder_that_is_a_link_does_not_lead_out(root, tmp_path):
    (root / "out").symlink_to("..")
    with pytest.raises(PolicyError, match="leads out of"):
        read_below(str(root), "out/key", 100)


@pytest.mark.parametrize("target", ["base", "{root}/base", "base/inner/.."])
def test_links_inside_are_followed_unless_none_may_be(root, target):
    (root / "link").symlink_to(target.format(root=root))
    assert read_below(str(root), "link/file", 100) == b"content"
    with pytest.raises(OSError, match="symbolic links"):
        read_below(str(root), "link/file", 100, follow=False)


def test_a_circle_of_links_ends(root):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        read_below(str(root), "one", 100)


def test_only_regular_files_are_read_and_only_so_much(root):
    os.mkfifo(root / "pipe")
    (root / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "base"):
        with pytest.raises(OSError, match="regular"):
            read_below(str(root), name, 100)
    with pytest.raises(PolicyError):
        read_below(str(root), "zero", 100)
    with pytest.raises(OSError, match="large"):
        read_below(str(root), "base/file", 3)


def test_a_path_is_told_from_the_root(root):
    assert relative(str(root), "../file", str(root / "base" / "inner")) == "base/file"
    assert relative(str(root), str(root / "base")) == "base"
    for path in ("../../../key", "/etc/passwd", str(root) + "-other/file"):
        with pytest.raises(PolicyError, match="leads out of"):
            relative(str(root), path, str(root / "base" / "inner"))


def test_the_root_is_the_repository_or_where_one_stands(root):
    inner = root / "base" / "inner"
    assert source_root(Host(env={}), policy(), str(inner)) == str(inner)
    (root / ".git").write_text("gitdir: elsewhere")  # of a worktree
    assert source_root(Host(env={}), policy(), str(inner)) == str(root)


@pytest.mark.parametrize(
    ("source_path", "found"),
    [("base/inner", ""), ("inner", "base"), (".", "base/inner"), ("../../x", "base/inner"), ("/", "base/inner")],
)
def test_argo_cd_says_where_its_checkout_begins(root, source_path, found):
    env = {"ARGOCD_APP_SOURCE_PATH": source_path}
    assert Path(source_root(Host(env=env), policy(), str(root / "base" / "inner"))) == root / found


@pytest.mark.parametrize("name", ["ARGOCD_CMP_WORKDIR", "TMPDIR"])
def test_argo_cd_hands_over_each_checkout_in_a_folder_of_its_own(tmp_path, name):
    """Perhaps without what is above some folder of the repository, so that the application's path does not tell."""
    inner = tmp_path / "_cmp_server" / "1234" / "overlays" / "prod"
    inner.mkdir(parents=True)
    env = {name: str(tmp_path), "ARGOCD_APP_SOURCE_PATH": "clusters/overlays/prod"}
    for start in (inner, inner.parent, tmp_path / "_cmp_server" / "1234"):
        assert source_root(Host(env=env, files={}), policy(), str(start)) == str(tmp_path / "_cmp_server" / "1234")


def test_the_operators_root_comes_first(root):
    (root / "base" / ".git").mkdir()
    assert source_root(Host(env={}), policy(str(root)), str(root / "base" / "inner")) == str(root)
    with pytest.raises(PolicyError, match="is not below the root"):
        source_root(Host(env={}), policy(str(root / "base")), str(root))
