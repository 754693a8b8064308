"""What README and docs/ say is so: commands, quoted help, links, and every name they share with the code.

UPDATE=1 writes the quoted help texts again.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from krm_sops import __version__, errors
from krm_sops.cli import VERBS
from krm_sops.credentials import Credentials
from krm_sops.functions import FUNCTIONS, GROUP_VERSION, check, encrypt, generate_plan, template_plan
from krm_sops.functions.decrypt import Options
from krm_sops.gate import RULES
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.limits import FUNCTION, Limits
from krm_sops.stages import spec
from krm_sops.stores import STORES, format_for_path
from tests.security import made

ROOT = Path(__file__).resolve().parent.parent.parent
FLAGS = re.DOTALL | re.MULTILINE
SOURCES = sorted((ROOT / "krm_sops").rglob("*.py"))
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for folder in (ROOT, DOCS, ROOT / "examples", ROOT / "functions")
    for path in folder.glob("*.md" if folder == ROOT else "**/*.md")
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), FLAGS)


def table(page: Path, head: str) -> list[list[str]]:
    """The cells of the table whose first head cell is `head`, without its head."""
    lines = page.read_text().splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith(f"| {head} |")), None)
    assert start is not None, f"{page.name} has no table of {head}"
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


def names(page: Path, head: str) -> list[str]:
    """What the first cells of a table name."""
    return [name for first, *_ in table(page, head) for name in re.findall("`([^`]+)`", first)]


def program(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


# Commands


def readme_commands() -> list[str]:
    lines = "".join(blocks(README, "sh")).splitlines()
    return [line.split(" && ")[-1] for line in lines if line.split(" && ")[-1].startswith("krm-sops ")]


def test_the_readme_has_the_two_commands():
    first, second = blocks(README, "sh")[:2]
    assert first.startswith("pip install . && krm-sops decrypt ")
    assert second == "make check\n"
    assert re.search(r"^check:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", readme_commands())
def test_a_command_of_the_readme_works(line):
    done = program(*shlex.split(line)[1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_readme_shows_the_secret_before_and_after():
    line = shlex.split(readme_commands()[0])
    before, after = blocks(README, "yaml")[:2]
    shortened = ".*".join(re.escape(part) for part in before.split("…"))
    # Lines of the sops block are left out besides.
    shortened = shortened.replace("\n    mac:", "\n(?:    .*\n)*    mac:")
    assert re.fullmatch(shortened, (ROOT / line[-1]).read_text(), re.DOTALL)
    assert program(*line[1:]).stdout == after


def test_make_targets_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z0-9]+)", page.read_text()))
        named |= set(re.findall(r"^make ([a-z0-9]+)", "".join(blocks(page, "sh")), re.MULTILINE))
        assert named <= targets, page


# Help


def help_of(verb: str) -> str:
    """verb: "" for the program's own."""
    done = program(*([verb] if verb else []), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_commands_md_quotes_the_help_of_every_verb():
    page = DOCS / "commands.md"
    parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    verbs = ["", *(part.split("\n", 1)[0] for part in parts[1:])]
    assert sorted(verbs) == sorted(["", *VERBS])
    right = [
        re.sub(r"```text\n.*?^```", lambda _, verb=verb: f"```text\n{help_of(verb)}```", part, flags=FLAGS)
        for verb, part in zip(verbs, parts, strict=True)
    ]
    if os.environ.get("UPDATE"):
        page.write_text("## ".join(right))
    assert parts == right


def test_every_other_quoted_help_is_the_programs():
    for page in PAGES:
        for block in blocks(page, "text"):
            if block.startswith("krm-sops decrypts and encrypts SOPS documents") and page.name != "commands.md":
                assert block == help_of(""), page


# Links


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=FLAGS)
    heads = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_page_of_docs_is_linked():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if "://" not in target
    }
    missing = [page for page in DOCS.rglob("*.md") if page not in linked and page.parent not in linked]
    assert not missing


# Names that the docs share with the code


def test_functions_verbs_key_types_and_formats_are_those_of_the_registries():
    assert set(names(README, "functionConfig")) == {"v1", "ConfigMap", "Secret", GROUP_VERSION, *FUNCTIONS}
    assert sorted(names(README, "verb")) == sorted(VERBS)
    assert sorted(names(README, "key type")) == sorted(KEY_TYPES)
    assert names(README, "format") == list(STORES)
    for first, suffixes, _ in table(README, "format"):
        for suffix in re.findall(r"`\*(\.\w+)`", suffixes):
            assert format_for_path("x" + suffix) == first.strip("`")


def test_key_types_open_and_wrap_as_the_readme_says():
    """Without keys each refuses, but for want of a key or an address."""
    for first, state, _ in table(README, "key type"):
        key = KEY_TYPES[first.strip("`")]
        credentials = Credentials(Host(env={}, files={}), (), "never")
        with pytest.raises((errors.DataKeyError, errors.InputError)):
            key.from_fields({}).unwrap(credentials)
        with pytest.raises((errors.DataKeyError, errors.InputError)):
            key.from_fields({}).wrap(b"", credentials)
        assert state == "opens and wraps", first


def test_extras_are_those_that_pip_knows():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(names(README, "extra"))
    assert named == set(extras) - {"test", "interop-test", "dev", "fuzz"}
    assert set(re.findall("[a-z]+", extras["all"][0].partition("[")[2])) == named - {"all"}


def test_names_of_key_entries_are_those_of_the_key_types():
    told = {(name.removeprefix("*"), section.strip("`")) for name, section, _ in keys_table()}
    assert told == {(name, section) for section in KEY_TYPES for name in KEY_TYPES[section].entry_names}


def keys_table() -> list[tuple[str, str, str]]:
    return [(first.strip("`"), section, rest) for first, section, rest in table(DOCS / "keys.md", "name")]


@cache
def constants() -> str:
    """All texts in the code that are no docstrings."""
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
        ]
    return "\n".join(found)


VARIABLE = re.compile(r"\b(?:KRM_SOPS|SOPS)_[A-Z_]*[A-Z]\b")
NOT_OURS = {"KRM_SOPS_CORPUS", "SOPS_GCP_KMS_CLIENT_TYPE"}
"""Variables that only tests read, or that only sops does, as a page says."""


def test_variables_are_those_that_the_code_reads():
    read = set(VARIABLE.findall(constants()))
    named = {name for page in PAGES for name in VARIABLE.findall(page.read_text())} - NOT_OURS
    assert named == read


def flags_of(verb: str) -> set[str]:
    """Every flag that a verb takes, from what it says of one that it does not."""
    done = program(verb, "--no-such-flag")
    assert done.returncode == 1
    return set(re.findall(r"--([a-z][a-z-]*)", done.stderr.partition("hint: flags:")[2]))


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_help_of_a_verb_names_its_flags(verb):
    assert set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", help_of(verb), re.MULTILINE)) == flags_of(verb) - {"help"}


@each_page
def test_flags_behind_krm_sops_exist(page):
    text = "\n".join([*re.findall("`([^`\n]+)`", page.read_text()), *blocks(page, "sh")])
    for verb, rest in re.findall(r"^.*\bkrm-sops ([a-z-]+)((?: [^\n|;<>]*)?)", text, re.MULTILINE):
        if verb in VERBS:
            assert set(re.findall(r"(?<=\s)--([a-z-]+)", rest)) <= flags_of(verb)


def test_verbs_that_pages_name_exist():
    for page in PAGES:
        for verb in re.findall(r"`krm-sops ([a-z][a-z-]*)", page.read_text()):
            assert verb in VERBS, f"{page.name}: {verb}"


def modules() -> list[object]:
    named = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]
    return [importlib.import_module(name.removesuffix(".__init__")) for name in named if "__main__" not in name]


def calls(name: str) -> list[ast.Call]:
    return [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name
    ]


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(below) for below in kind.__subclasses__()))


def test_reasons_are_those_of_the_code():
    modules()
    words = {kind.reason for kind in subclasses(errors.KrmSopsError) if kind.__module__.startswith("krm_sops")}
    words |= {ast.literal_eval(call.args[1]) for call in calls("Result") if isinstance(call.args[1], ast.Constant)}
    words |= set(RULES)
    assert set(names(DOCS / "errors.md", "`tags.reason`")) - {"sops"} == words
    cells = r"^\| the service says \|.*?(?=\n\n)"  # words of key services
    pages = [re.sub(cells, "", page.read_text(), flags=FLAGS) for page in PAGES]
    told = {name for page in pages for name in re.findall(r"`((?:[A-Z][a-z]+){2,})`", page)}
    kinds = {*FUNCTIONS, "ConfigMap"}
    theirs = {"SopsSecret", "GlobalSopsSecret", "SopsProvider", "LoadRestrictionsNone"}  # of operators and kustomize
    classes = {kind.__name__ for module in modules() for kind in vars(module).values() if isinstance(kind, type)}
    assert told <= words | kinds | theirs | classes


def test_exit_statuses_of_the_verbs_are_those_of_the_code():
    modules()
    found = {0, *(kind.exit_status for kind in subclasses(errors.KrmSopsError))}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            handed = isinstance(node, ast.keyword) and node.arg in ("exit_status", "missing")
            if handed or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "error.exit_status"):
                found.add(ast.literal_eval(node.value))
    found |= {call.args[1].value for call in calls("FileError") if isinstance(call.args[1], ast.Constant)}
    page = (DOCS / "errors.md").read_text().partition("The verbs exit")[2]
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == sorted(found)


def test_limits_are_those_of_a_function():
    told = {first.strip("`"): int(number) for first, number, _ in table(DOCS / "errors.md", "limit")}
    assert told == vars(FUNCTION) == vars(Limits())


# functionconfig.md


def config_error(config: str) -> str:
    given = made.resource_list(made.PLAIN, config=None) + "functionConfig:\n" + config
    results = made.function(given)[1]
    assert [(result.severity, result.reason) for result in results] == [("error", "InvalidConfig")]
    return results[0].message


def allowed(config: str) -> list[str]:
    return config_error(config).partition("allowed: ")[2].split(", ")


SOPS_DECRYPT = f"  apiVersion: {GROUP_VERSION}\n  kind: SopsDecrypt\n  spec:\n"
SECTIONS = {
    "data.": "  apiVersion: v1\n  kind: ConfigMap\n  data: {x: y}\n",
    "spec.": SOPS_DECRYPT + "    x: y\n",
    "spec.decryption.": SOPS_DECRYPT + "    decryption: {x: y}\n",
    "spec.decryption.secretRef.": SOPS_DECRYPT + "    decryption: {secretRef: {x: y}}\n",
    "spec.keys[].": SOPS_DECRYPT + "    keys: [{x: y}]\n",
    "spec.selectors[].": SOPS_DECRYPT + "    selectors: [{x: y}]\n",
    "spec.exclude[].": SOPS_DECRYPT + "    exclude: [{x: y}]\n",
}


def test_fields_are_those_that_the_function_takes():
    page = DOCS / "functionconfig.md"
    told = set(re.findall(r"^\| `((?:data|spec)\.[^`]+)`", page.read_text(), re.MULTILINE))
    taken = {prefix + name for prefix, config in SECTIONS.items() for name in allowed(config)}
    inner = {prefix.rstrip(".").removesuffix("[]") for prefix in SECTIONS}
    assert told == taken - inner


def test_values_and_defaults_are_those_that_the_function_takes():
    defaults = Options(None)
    rows = table(DOCS / "functionconfig.md", "field")  # of the ConfigMap
    for name in ("mac", "ambient"):
        cells = next(cells for cells in rows if cells[0] == f"`data.{name}`")
        wrong = f"  apiVersion: v1\n  kind: ConfigMap\n  data: {{{name}: x}}\n"
        assert sorted(re.findall("`([^`]+)`", cells[1])) == sorted(allowed(wrong))
        assert cells[2] == f"`{getattr(defaults, name)}`"
        text = (DOCS / "functionconfig.md").read_text()
        assert f"| `spec.{name}` | {cells[1]} | {cells[2]} |" in text
    assert not defaults.strict
    assert not defaults.allow_plaintext


SPECS = {
    "SopsEncrypt": encrypt.SPEC,
    "SopsCheck": check.SPEC,
    "StageSet": (*spec.SPEC, *spec.CONTROLLERS),
    "SopsGenerator": generate_plan.SPEC,
    "SopsTemplate": template_plan.SPEC,
}


def test_each_field_of_the_other_kinds_is_named():
    sections = re.split(r"^## ", (DOCS / "functionconfig.md").read_text(), flags=re.MULTILINE)
    for kind, fields in SPECS.items():
        section = next(text for text in sections if f"`{kind}`" in text.split("\n", 1)[0])
        told = " ".join(re.findall("`([^`]+)`", section))
        assert set(fields) <= set(re.findall(r"\w+", told)), kind


CONFIGS = [block for name in ("functionconfig", "kpt") for block in blocks(DOCS / f"{name}.md", "yaml")]


@pytest.mark.parametrize("config", [config for config in CONFIGS if "# Kptfile" not in config])
def test_a_functionconfig_of_the_docs_is_accepted(config):
    given = made.resource_list({**made.PLAIN, "kind": "ConfigMap"}, config=None)
    given += "functionConfig:\n" + "".join(f"  {line}\n" for line in config.splitlines())
    _, results, status = made.function(given)
    assert (results, status) == ([], 0)


# The rest


def test_every_place_that_differs_from_sops_has_a_row():
    marked = {
        str(path.relative_to(ROOT / "krm_sops")): path.read_text().count("Differs from")
        for path in SOURCES
        if "Differs from" in path.read_text()
    }
    rows = [re.findall("`([^`]+)`", first) for first, *_ in table(DOCS / "sops-differences.md", "where")]
    told = {name for row in rows for name in row}
    assert told == set(marked)
    for name, count in marked.items():
        assert sum(name in row for row in rows) >= count, name


RULE = re.compile(r"(?:\bS|_s)([1-9][0-9]?)(?=\b|_)")


def test_every_security_rule_has_tests_that_name_it():
    rows = table(DOCS / "security-tests.md", "rule")
    assert [rule for rule, *_ in rows] == [f"S{number}" for number in range(1, 34)]
    for rule, _, places, tests in rows:
        for name in re.findall("`([^`]+)`", places):
            assert [*(ROOT / "krm_sops").glob(name), *ROOT.glob(name)], name
        assert tests, rule
        for name in re.findall("`([^`]+)`", tests):
            assert rule[1:] in RULE.findall((ROOT / "tests" / name).read_text()), f"{rule}: {name}"


def test_the_changelog_has_this_version():
    first = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1] == __version__


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert "Copyright 2026 The krm-sops authors" in text
    assert len(text.splitlines()) > 200


def test_decisions_are_numbered_and_fit_a_screen():
    pages = sorted((DOCS / "adr").glob("*.md"))
    assert [page.name[:5] for page in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    listed = re.findall(r"^- \[(\d{4}) .*\]\(adr/(.*)\)$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert listed == [(page.name[:4], page.name) for page in pages]
    for page in pages:
        text = page.read_text()
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## Question",
            "## Options",
            "## Choice",
            "## Cost",
        ], page.name
        assert len(text.splitlines()) <= 60, page.name
