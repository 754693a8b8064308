"""Imports point up the module map of docs/architecture.md only, and siblings never import each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import krm_sops

PACKAGE = Path(krm_sops.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
del MODULES[""]
LIBRARIES = {
    "cryptography.hazmat.bindings": {"primitives", "pgp.algorithms"},  # the latter asks for OpenSSL's version
    "yaml": {"leanyaml"},
    "re2": {"selection"},
}
"""What only these modules may import."""


def rows(title: str) -> list[list[str]]:
    """The cells of the first table below the line that begins with `title`, without its head."""
    lines = PAGE.read_text().partition("\n" + title)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


ORDER = [name for first, *_ in rows("## Module map") for name in re.findall("`([^`]+)`", first)]
PAIRS = [(one.strip("`"), other.strip("`")) for one, other, *_ in rows("Pairs that never import")]


def place(module: str) -> str:
    """The name in the map that a module belongs to."""
    top, dot, _ = module.partition(".")
    return f"{top}/" if dot or MODULES[top].name == "__init__.py" else top


def imported(module: str) -> set[str]:
    """Every module that this one imports, at any depth of its code, for running or for types; ours without package."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{module}: a relative import"
            assert not node.level, f"{module}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name.removeprefix("krm_sops.") in MODULES else node.module for name in names)
    return {name.removeprefix("krm_sops.") for name in found}


def test_the_map_has_every_module_once_and_no_other():
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == {place(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up_the_map(module):
    here = place(module)
    for name in imported(module) & MODULES.keys():
        there = place(name)
        assert there == here or ORDER.index(there) < ORDER.index(here), f"{module} imports {name}"


def test_the_pairs_are_those_that_must_stay_apart():
    assert {("stores/", "keys/"), ("document", "krm/")} <= set(PAIRS)
    assert {name for pair in PAIRS for name in pair} <= set(ORDER)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_siblings_never_import_each_other(one, other):
    for module in MODULES:
        if place(module) in (one, other):
            forbidden = other if place(module) == one else one
            named = {name for name in imported(module) & MODULES.keys() if place(name) == forbidden}
            assert not named, f"{module} imports {named}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_where_it_should_be_only(library):
    knowing = {
        module
        for module in MODULES
        if any(name == library or name.startswith(library + ".") for name in imported(module))
    }
    assert knowing == LIBRARIES[library]
