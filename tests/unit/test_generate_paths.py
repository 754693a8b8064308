"""Wildcards: which names fit, and that a pattern that is made to be slow is not."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import ConfigError, LimitError, PolicyError
from krm_sops.functions.files import Files
from krm_sops.functions.generate_paths import has_wildcards, matches, matching
from krm_sops.limits import FUNCTION

TREE = ("a.yaml", "b.yml", "[x].yaml", ".hidden.yaml", "one/c.yaml", "one/two/d.yaml", "one/.git/e.yaml", "z/f.txt")


@pytest.fixture
def files(tmp_path) -> Files:
    for name in TREE:
        path = tmp_path / "repo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "outside.yaml").touch()
    return Files(str(tmp_path / "repo"), str(tmp_path / "repo"), FUNCTION)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.yaml", ["[x].yaml", "a.yaml"]),
        ("./*.yaml", ["./[x].yaml", "./a.yaml"]),
        ("?.y*", ["a.yaml", "b.yml"]),
        ("[ab].y*", ["a.yaml", "b.yml"]),
        ("[!a].y*", ["b.yml"]),
        ("[a-c].yaml", ["a.yaml"]),
        ("[[]x].yaml", ["[x].yaml"]),
        (".h*", [".hidden.yaml"]),
        ("*/*.yaml", ["one/c.yaml"]),
        ("one/**/*.yaml", ["one/c.yaml", "one/two/d.yaml"]),
        ("**/d.yaml", ["one/two/d.yaml"]),
        ("**/*.yaml", ["[x].yaml", "a.yaml", "one/c.yaml", "one/two/d.yaml"]),
        ("one/**", ["one/c.yaml", "one/two/d.yaml"]),
        ("**/**/f.txt", ["z/f.txt"]),
        ("one/../*.yml", ["one/../b.yml"]),
    ],
)
def test_what_a_pattern_means(files, pattern, found):
    assert has_wildcards(pattern)
    assert matching(pattern, files) == found


@pytest.mark.parametrize("pattern", ["*.none", "a.yaml/*", "**/none/*", "*/a.yaml"])
def test_a_pattern_without_a_file_is_an_error(files, pattern):
    with pytest.raises(ConfigError):
        matching(pattern, files)


@pytest.mark.parametrize("pattern", ["../*.yaml", "/etc/*", "one/../../*"])
def test_a_pattern_does_not_lead_out(files, pattern):
    with pytest.raises(PolicyError):
        matching(pattern, files)


def test_links_to_folders_are_not_followed_by_two_stars_and_never_out(files, tmp_path):
    repo = tmp_path / "repo"
    (repo / "round").symlink_to(repo)
    assert matching("**/c.yaml", files) == ["one/c.yaml"]
    assert matching("round/one/*.yaml", files) == ["round/one/c.yaml"]
    (repo / "out").symlink_to(tmp_path)
    with pytest.raises(PolicyError):
        matching("out/*.yaml", files)


def test_the_names_that_are_looked_at_are_limited(files):
    files.limits = FUNCTION.changed({"run_nodes": 5})
    with pytest.raises(LimitError, match="run_nodes"):
        matching("**/*.yaml", files)


@given(st.text("ab*?[]!-", max_size=8), st.text("ab[]!-", max_size=8))
def test_names_fit_as_in_the_shell(pattern, name):
    if "[" not in pattern or "-" not in pattern:  # readers differ in what an empty range is
        assert matches(pattern, name) is fnmatchcase(name, pattern)


def test_a_pattern_of_many_stars_takes_no_time_to_speak_of():
    assert not matches("*a" * 100 + "b", "a" * 255)


def test_a_file_that_is_gone_is_no_match(files, tmp_path):
    os.unlink(tmp_path / "repo" / "a.yaml")
    assert Path(matching("?.y*", files)[0]).name == "b.yml"
