"""Folders of secret files: which names they may have, who may read them, and what replaces what."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from krm_sops.errors import ConfigError, InputError, KrmSopsError, PolicyError
from krm_sops.generations import Access, replace, tree_of

TREE = {"a": b"1", "b": {"c": b"2", "empty": {}}}


def mode(path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_files_become_a_tree():
    files = [(("a",), b"1"), (("b", "c"), b"2"), (("b", "empty"), None), (("b", "empty"), None)]
    assert tree_of(files) == TREE


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256, "a b", "\u00e4", "a\n", "~x", "*"])
def test_other_names_are_refused(name):
    """S30"""
    for names in ((name,), (name, "x"), ("x", name)):
        with pytest.raises(InputError, match="cannot be the name of a file"):
            tree_of([(names, b"")])


@pytest.mark.parametrize("names", [["A", "a"], ["key", "KEY"], ["A/x", "a/y"], ["d/Q", "d/q"]])
def test_names_that_differ_in_case_only_are_refused(names):
    """S30"""
    with pytest.raises(InputError, match="in another case"):
        tree_of([(tuple(name.split("/")), b"") for name in names])


@pytest.mark.parametrize("names", [["a", "a"], ["a", "a/b"], ["a/b", "a"]])
def test_two_of_one_name_are_refused(names):
    with pytest.raises(InputError, match="of one name"):
        tree_of([(tuple(name.split("/")), b"") for name in names])


def test_the_link_shows_one_generation_after_the_other(tmp_path):
    link = tmp_path / "d"
    assert replace(str(link), TREE, Access(0o400)) == 1
    assert os.readlink(link) == "d.d/1"
    assert (link / "b" / "c").read_bytes() == b"2"
    assert list((link / "b" / "empty").iterdir()) == []
    assert replace(f"{link}/", {"x": b"y"}, Access(0o400)) == 2
    assert [path.name for path in link.iterdir()] == ["x"]
    assert [path.name for path in (tmp_path / "d.d").iterdir()] == ["2"]
    assert sorted(os.listdir(tmp_path)) == ["d", "d.d"]


def test_generations_are_kept_as_asked(tmp_path):
    for keep, left in ((0, "1"), (0, "12"), (0, "123"), (2, "34"), (1, "5")):
        replace(str(tmp_path / "d"), TREE, Access(0o400), keep=keep)
        assert sorted(os.listdir(tmp_path / "d.d")) == list(left)


@pytest.mark.parametrize(("files", "folders"), [(0o400, 0o700), (0o440, 0o750), (0o444, 0o755), (0o700, 0o700)])
def test_modes(tmp_path, files, folders):
    previous = os.umask(0o077)
    try:
        replace(str(tmp_path / "d"), TREE, Access(files))
    finally:
        os.umask(previous)
    assert {mode(tmp_path / "d" / "a"), mode(tmp_path / "d" / "b" / "c")} == {files}
    assert {mode(tmp_path / "d.d"), mode(tmp_path / "d.d" / "1"), mode(tmp_path / "d.d" / "1" / "b")} == {folders}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group(tmp_path):
    replace(str(tmp_path / "d"), TREE, Access(0o440, 12, 34))
    found = os.stat(tmp_path / "d" / "b" / "c")
    assert (found.st_uid, found.st_gid, mode(tmp_path / "d" / "b" / "c")) == (12, 34, 0o440)
    folder = os.stat(tmp_path / "d" / "b")
    assert (folder.st_uid, folder.st_gid, mode(tmp_path / "d" / "b")) == (0, 34, 0o751)


@pytest.mark.parametrize("there", ["file", "folder", "link", "foreign"])
def test_anything_else_at_its_place_stays(tmp_path, there):
    """S30: no link but our own is followed or replaced."""
    target = tmp_path / "d"
    if there == "file":
        target.write_text("x")
    elif there == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "elsewhere" if there == "link" else "d.d/../1")
    with pytest.raises(ConfigError, match="no link to a generation"):
        replace(str(target), TREE, Access(0o400))
    assert sorted(os.listdir(tmp_path)) == ["d"]


def test_a_store_that_is_a_link_or_open_to_others_is_refused(tmp_path):
    """S30"""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "d.d").symlink_to("elsewhere")
    with pytest.raises(KrmSopsError, match="cannot replace"):
        replace(str(tmp_path / "d"), TREE, Access(0o400))
    (tmp_path / "e.d").mkdir()
    (tmp_path / "e.d").chmod(0o777)
    with pytest.raises(PolicyError, match="others may write to it"):
        replace(str(tmp_path / "e"), TREE, Access(0o400))
    assert os.listdir(tmp_path / "elsewhere") == os.listdir(tmp_path / "e.d") == []


def test_a_link_that_waits_in_the_store_is_not_followed(tmp_path):
    """S30: what an earlier run left, or somebody put there, is cleared and not written through."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("x")
    (tmp_path / "d.d").mkdir(0o700)
    (tmp_path / "d.d" / "incoming").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KrmSopsError, match="cannot replace"):
        replace(str(tmp_path / "d"), TREE, Access(0o400))
    assert os.listdir(tmp_path / "elsewhere") == ["kept"]


def test_what_fails_changes_nothing(tmp_path):
    link = tmp_path / "d"
    replace(str(link), TREE, Access(0o400))
    with pytest.raises(KrmSopsError, match=r"cannot replace .*: File name too long"):
        replace(str(link), {"x": b"y", "z" * 256: b""}, Access(0o400))
    assert (os.readlink(link), os.listdir(tmp_path / "d.d")) == ("d.d/1", ["1"])


def test_only_memory_where_told(tmp_path):
    on_disk = tmp_path / "d"
    types = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if any(line[line.index("-") + 1] == "tmpfs" and str(tmp_path).startswith(line[4] + "/") for line in types):
        pytest.skip("temporary files are in memory here")
    with pytest.raises(PolicyError, match="would be on a disk"):
        replace(str(on_disk), TREE, Access(0o400), tmpfs_only=True)
    assert not on_disk.is_symlink()
