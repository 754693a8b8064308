"""Folders for ksops and SopsSecretGenerator, built with the real tools and with ours: the same bytes come out.

The real tools are programs of their own names on PATH (or in Go's folder); what is absent is skipped by name.
Differences that are meant stand in docs/generators.md and are kept out of the folders here.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests import agefile
from tests.corpus import cases, needs_corpus
from tests.corpus import path as in_corpus
from tests.e2e.clients import ROOT, Clients
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = ("--enable-alpha-plugins", "--enable-exec")
NEEDS_HASH = {"kustomize.config.k8s.io/needs-hash": "true"}
TOOLS = {"ksops": "viaduct.ai/v1", "SopsSecretGenerator": "goabout.com/v1beta1"}
COUNT = 12
CHARACTERS = [
    *"abcXYZ019 _-./:=#$\"'\\{}()&*!|>%@`,[]~^?+<;",
    "é",
    "日",
    "$A",
    "${A}",
    "$(A)",
    "\\n",
    "\\$",
    " #",
    '""',
]


class Tools:
    """The real tools and ours, each in a folder to put first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.clients = Clients(folder)
        self.clients.need("kustomize", "sops")
        self.real, self.ours = folder / "real", folder / "ours"
        for place in (self.real, self.ours):
            place.mkdir()
        for name in TOOLS:
            found = shutil.which(name, path=self.clients.path)
            if found and _is_foreign(found):
                (self.real / name).symlink_to(found)
            start = f"import sys; sys.argv[0] = {name!r}; from krm_sops.cli import console; console()"
            ours = self.ours / name
            ours.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -c "{start}" "$@"\n')
            ours.chmod(0o755)

    def need(self, name: str) -> None:
        if not (self.real / name).exists():
            pytest.skip(f"the real {name} is not installed")

    def encrypt(self, path: Path, content: str | bytes, *flags: str) -> None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        argv = ("sops", "encrypt", "--age", agefile.recipient_of(made.IDENTITY), *flags, "--in-place", path)
        done = self.clients.run(*argv)
        assert done.returncode == 0, done.stderr

    def build(self, folder: Path, programs: Path, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{programs}:{self.clients.path}"
        keys = env or {"SOPS_AGE_KEY": made.IDENTITY}
        return self.clients.run("kustomize", "build", *FLAGS, folder, PATH=path, **keys)

    def assert_same(self, folder: Path, **env: str) -> None:
        theirs, ours = self.build(folder, self.real, **env), self.build(folder, self.ours, **env)
        assert ours.returncode == theirs.returncode, (theirs.stderr, ours.stderr)
        assert ours.stdout == theirs.stdout


def _is_foreign(program: str) -> bool:
    """Whether it is another program than this one under that name."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return not done.stdout.startswith("krm-sops")


@pytest.fixture(scope="module")
def tools(tmp_path_factory) -> Tools:
    return Tools(tmp_path_factory.mktemp("tools"))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "app").mkdir()
    return tmp_path / "repo" / "app"


def write(folder: Path, kind: str, **fields: Any) -> None:
    metadata = {"name": "g", "annotations": {"config.kubernetes.io/function": f"exec: {{path: {kind}}}"}}
    config = {"apiVersion": TOOLS[kind], "kind": kind, "metadata": metadata, **fields}
    (folder / "g.yaml").write_text(json.dumps(config))
    (folder / "kustomization.yaml").write_text("generators: [g.yaml]\n")


# Their own folders


@needs_corpus
@pytest.mark.parametrize("case", cases("krm-generator"), ids=lambda case: case["id"])
def test_a_published_folder_builds_to_what_its_own_test_expects(case, tools, tmp_path):
    folder, env = _published(case, tmp_path)
    done = tools.build(folder, tools.ours, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == in_corpus(case["expected"]).read_text()


@needs_corpus
@pytest.mark.parametrize("case", cases("krm-generator"), ids=lambda case: case["id"])
def test_a_published_folder_builds_as_with_its_own_tool(case, tools, tmp_path):
    tools.need(_kind(case))
    folder, env = _published(case, tmp_path)
    tools.assert_same(folder, **env)


def _published(case: dict[str, Any], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the case's folder, and the environment that has its keys."""
    if case["key_type"].startswith("pgp") and not shutil.which("gpg"):
        pytest.skip("gpg is not installed")
    folder = shutil.copytree(in_corpus(case["file"]).parent, tmp_path / "repo" / "app")
    (tmp_path / "repo" / ".git").mkdir()
    keys = b"".join(in_corpus(file).read_bytes() for file in case["key_files"])
    place = tmp_path / "keys"
    place.mkdir()
    if not case["key_type"].startswith("pgp"):
        (place / "k.agekey").write_bytes(keys)
        return folder, {"SOPS_AGE_KEY_FILE": str(place / "k.agekey")}
    (place / "k.asc").write_bytes(keys)
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    subprocess.run(["gpg", "--homedir", home, "--batch", "--import", place / "k.asc"], capture_output=True, check=True)
    return folder, {"GNUPGHOME": str(home), "KRM_SOPS_KEY_DIR": str(place)}  # a function does not start gpg


def _kind(case: dict[str, Any]) -> str:
    text = in_corpus(case["file"]).read_text()
    return next(kind for kind in TOOLS if f"kind: {kind}\n" in text)


# Folders made here


class Maker:
    """Random contents; number: the seed."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)

    def text(self) -> str:
        return "".join(self.random.choice(CHARACTERS) for _ in range(self.random.randrange(12)))

    def raw(self) -> bytes:
        return self.random.randbytes(self.random.randrange(1, 40))

    def envs(self) -> str:
        lines = []
        for name in ("A", "B", "C_1", "D.x"):
            value = self.text()
            style = self.random.randrange(4)
            if style == 0:
                value = '"' + value.replace('"', '\\"') + '"'
            elif style == 1:
                value = "'" + value.replace("'", "") + "'"
            lines.append(self.random.choice(["", "export ", "  "]) + name + self.random.choice(["=", " = "]) + value)
            if style == 2:
                lines.append(f"# {self.text()}")
        return "\n".join(lines) + "\n"

    def secrets(self) -> str:
        documents = []
        for number in range(self.random.randrange(1, 4)):
            metadata = {"name": f"s{number}", "annotations": NEEDS_HASH if self.random.random() < 0.5 else {}}
            values = {f"k{at}": self.text() for at in range(3)}
            documents.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
        return "\n---\n".join(map(json.dumps, documents))


@pytest.mark.parametrize("number", range(COUNT))
def test_ksops_and_ours_make_the_same(number, tools, folder):
    tools.need("ksops")
    make = Maker(number)
    tools.encrypt(folder / "a.env", make.envs())
    tools.encrypt(folder / "b.txt", make.text() + "\n")
    tools.encrypt(folder / "raw", make.raw())
    tools.encrypt(folder / "c.json", json.dumps({"x": make.text(), "n": {"y": [1, 2.5, True, None, make.text()]}}))
    tools.encrypt(folder / "d.ini", f"[s]\nk = {number}\n; c\nz=1\n")
    tools.encrypt(folder / "e.yaml", json.dumps({"k": make.text(), "l": [make.text(), {"m": make.text()}]}))
    tools.encrypt(folder / "m.yaml", make.secrets(), "--encrypted-regex", "^(data|stringData)$")
    tools.encrypt(
        folder.parent / "up.yaml", '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"up"},"data":{}}'
    )
    metadata = {"name": "x", "namespace": "q", "labels": {"a": "b"}, "annotations": {**NEEDS_HASH, "p": "q"}}
    wanted = {
        "metadata": metadata,
        "type": "Opaque",
        "files": ["b.txt", "./c.json", "ini=d.ini", "e.yaml"],
        "binaryFiles": ["raw", "again=e.yaml"],
        "envs": ["a.env"],
    }
    write(folder, "ksops", files=["m.yaml", "../up.yaml"], secretFrom=[wanted, {"metadata": {"name": "empty"}}])
    tools.assert_same(folder)


@pytest.mark.parametrize("number", range(COUNT))
def test_envs_in_lines_that_only_godotenv_could_love_come_out_the_same(number, tools, folder):
    """As a file without a format, so that quotes, line breaks and colons get through sops."""
    tools.need("ksops")
    make = Maker(1000 + number)
    text = "".join(
        make.envs().replace("=", make.random.choice(["=", ": ", " = "]), 1).replace(" #", make.random.choice("\n#"))
        for _ in range(2)
    )
    tools.encrypt(folder / "envs", text)
    write(folder, "ksops", secretFrom=[{"metadata": {"name": "x"}, "envs": ["envs"]}])
    tools.assert_same(folder)


@pytest.mark.parametrize("number", range(COUNT))
def test_sops_secret_generator_and_ours_make_the_same(number, tools, folder):
    tools.need("SopsSecretGenerator")
    make = Maker(2000 + number)
    tools.encrypt(folder / "b.txt", make.text() + "\n")
    tools.encrypt(folder / "raw", make.raw())
    tools.encrypt(folder / "a.env", "".join(f"{name}={make.text()}\n" for name in "ABC"))
    flat = {"q": 1, "r": True, "f": 1.5, "nothing": None, "text": make.text(), "big": 1e30}
    tools.encrypt(folder / "f.yaml", json.dumps(flat))
    tools.encrypt(folder / "f.json", json.dumps({"js": make.text(), "null": None}))
    write(
        folder,
        "SopsSecretGenerator",
        files=["b.txt", "bb=raw"],
        envs=["a.env", "f.yaml", "f.json"],
        disableNameSuffixHash=number % 2 == 0,
        **({"type": "Opaque"} if number % 3 else {}),
    )
    tools.assert_same(folder)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ksops", {}),
        ("ksops", {"files": ["absent.yaml"]}),
        ("ksops", {"files": ["plain.yaml"]}),
        ("ksops", {"secretFrom": [{"metadata": {"name": "x"}, "files": ["a=b=c"]}]}),
        ("ksops", {"secretFrom": [{"metadata": {}, "files": ["b.txt"]}]}),
        ("ksops", {"files": ["changed.yaml"]}),
        ("SopsSecretGenerator", {"files": ["a=b=c"]}),
        ("SopsSecretGenerator", {"files": ["=b.txt"]}),
        ("SopsSecretGenerator", {"envs": ["d.ini"]}),
        ("SopsSecretGenerator", {"envs": ["nested.yaml"]}),
        ("SopsSecretGenerator", {"files": ["plain.yaml"]}),
    ],
)
def test_what_the_tool_refuses_is_refused(kind, fields, tools, folder):
    tools.need(kind)
    tools.encrypt(folder / "b.txt", "b")
    tools.encrypt(folder / "d.ini", "[s]\na = 1\n")
    tools.encrypt(folder / "nested.yaml", '{"a": {"b": "c"}}')
    plain = '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"a": "b"}}'
    (folder / "plain.yaml").write_text(plain)
    tools.encrypt(folder / "changed.yaml", plain, "--encrypted-regex", "^stringData$")
    changed = (folder / "changed.yaml").read_text()
    (folder / "changed.yaml").write_text(changed.replace("name: x", "name: z"))
    write(folder, kind, **fields)
    assert tools.build(folder, tools.real).returncode == 1
    ours = tools.build(folder, tools.ours)
    assert (ours.returncode, ours.stdout) == (1, "")
    assert ours.stderr.count("krm-sops: error: ") == 1


def test_ksops_in_its_legacy_way_is_the_same(tools, folder, tmp_path):
    tools.need("ksops")
    tools.encrypt(folder / "m.yaml", Maker(1).secrets(), "--encrypted-regex", "^(data|stringData)$")
    (folder / "kustomization.yaml").write_text("generators: [g.yaml]\n")
    (folder / "g.yaml").write_text("{apiVersion: viaduct.ai/v1, kind: ksops, metadata: {name: g}, files: [m.yaml]}\n")
    outputs = []
    for programs in (tools.real, tools.ours):
        place = tmp_path / programs.name / "kustomize" / "plugin" / "viaduct.ai" / "v1" / "ksops"
        place.mkdir(parents=True)
        (place / "ksops").symlink_to(os.path.realpath(programs / "ksops"))
        env = {"XDG_CONFIG_HOME": str(tmp_path / programs.name), "SOPS_AGE_KEY": made.IDENTITY}
        done = tools.clients.run("kustomize", "build", "--enable-alpha-plugins", folder, **env)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
