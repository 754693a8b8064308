"""The real sops and krm-sops change copies of the same file by the same command: the same exit status, the same file.

Files are compared without what is random in them; then by what sops decrypts them to, and by which of the ciphertexts
that were there before are still there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from krm_sops.age import keygen

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(SOPS is None, reason="sops is not installed")

PLAIN = {
    "a.yaml": """\
# first
kind: Secret
data:
    password: b # inline
    plain_unencrypted: c
    # secret
    nested: [1, 2.5, true, null, "", {x: y}]
when: 2020-01-02T03:04:05Z
""",
    "many.yaml": "a: b\n# note\nlist:\n    - one\n    - two\n---\nc: d\n---\ne: {f: 1}\n",
    "rule.yaml": "data:\n    a: b\n    c: d\nclear: e\n",
    "a.json": '{"a": {"b": "c", "n": 1.5}, "l": ["x", {"y": "z"}]}',
    "a.env": "A=b\n# c\nB_unencrypted=d\n",
    "a.ini": "[s]\na = b\n; note\nc = d\n",
    "a.bin": "text\nof any kind\n",
    "plain.yaml": "a: b\n",
    "empty.yaml": "",
    "wrong.yaml": "a: [\n",
}
FILES = [name for name in PLAIN if name not in ("plain.yaml", "empty.yaml", "wrong.yaml")]
RANDOM = (
    (re.compile(r"ENC\[AES256_GCM,data:[^,]*,iv:[^,]*,tag:[^,]*,"), "ENC["),
    (re.compile(r"-----BEGIN AGE.*?-----END", re.DOTALL), "ARMOR"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
)
CIPHERTEXT = re.compile(r"ENC\[[^]]{1,200}\]")
"""Of a value: a MAC is longer, and may be what it was within the same second."""
EDITOR = """\
import sys
path = sys.argv[-1]
with open(path) as file:
    text = file.read()
for old, new in zip(sys.argv[1:-1:2], sys.argv[2:-1:2]):
    text = text.replace(old, new)
with open(path, "w") as file:
    file.write(text)
"""


class World:
    """made: a folder with encrypted files.  Commands run in a copy of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = folder / "made"
        self.made.mkdir()
        self.words = {}
        with (folder / "keys.txt").open("w") as file:
            for number in (1, 2, 3):
                recipient, identity = keygen.generate()
                self.words[f"AGE{number}"] = recipient
                file.write(identity + "\n")
        editor = folder / "editor.py"
        editor.write_text(EDITOR)
        self.words["EDITOR"] = f"{sys.executable} {editor}"
        self.env = {
            "PATH": PATH,
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "SOPS_AGE_KEY_FILE": str(folder / "keys.txt"),
        }
        for name, text in PLAIN.items():
            (self.made / name).write_text(text)
        for name in FILES:
            rule = ["--encrypted-regex", "^data$", "--mac-only-encrypted"] if name == "rule.yaml" else []
            first = [flag for flag in rule if flag.startswith("--mac")]
            rest = [flag for flag in rule if not flag.startswith("--mac")]
            self.sops(self.made, *first, "encrypt", "-i", "--age", self.words["AGE1"], *rest, name)
        groups = ", ".join(f"{{age: [{self.words[f'AGE{number}']}]}}" for number in (1, 2, 3))
        (self.made / "c.yaml").write_text(f"creation_rules: [{{shamir_threshold: 2, key_groups: [{groups}]}}]\n")
        (self.made / "groups.yaml").write_text(PLAIN["a.yaml"])
        self.sops(self.made, "--config", "c.yaml", "encrypt", "-i", "groups.yaml")

    def sops(self, where: Path, *arguments: str) -> str:
        done = subprocess.run(
            [str(SOPS), *arguments], cwd=where, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace(name, value)
        return text

    def both(self, arguments: Sequence[str], rules: str, edit: str, given: str) -> tuple[Done, Done]:
        words = [self.filled(word) for word in arguments]
        first = [word for word in words if word.startswith(("--config=", "--indent="))]
        rest = [word for word in words if word not in first]
        ours = [rest[0], *first, *rest[1:]]
        done = []
        for name, argv in (("sops", [str(SOPS), *first, *rest]), ("krm", [sys.executable, "-m", "krm_sops", *ours])):
            where = self.folder / name
            shutil.rmtree(where, ignore_errors=True)
            shutil.copytree(self.made, where)
            if rules:
                (where / ".sops.yaml").write_text(self.filled(rules))
            env = {**self.env, "PWD": str(where)}
            if edit:
                env["SOPS_EDITOR"] = self.filled(edit)
            run = subprocess.run(argv, cwd=where, env=env, input=given, capture_output=True, text=True, check=False)
            done.append(Done(where, run))
        return done[0], done[1]


class Done:
    def __init__(self, where: Path, run: subprocess.CompletedProcess[str]) -> None:
        self.where = where
        self.status = run.returncode
        self.said = run.stderr
        self.stdout = without_random(run.stdout)
        self.files = {path.name: path.read_text() for path in where.iterdir() if path.is_file()}


def without_random(text: str) -> str:
    for pattern, word in RANDOM:
        text = pattern.sub(word, text)
    return text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("verbs"))


def same(
    world: World,
    command: Sequence[str],
    *,
    status: int = 0,
    words: str = "",
    rules: str = "",
    edit: str = "",
    given: str = "",
    moves: bool = False,
) -> tuple[Done, Done]:
    """words: what both must say.  moves: elements of a list, or documents, move: then only sops keeps ciphertexts."""
    theirs, ours = world.both(command, rules, edit, given)
    told = f"sops: {theirs.status} {theirs.said}\nkrm-sops: {ours.status} {ours.said}"
    assert theirs.status == ours.status == status, told
    assert theirs.stdout == ours.stdout
    assert theirs.files.keys() == ours.files.keys()
    before = {path.name: path.read_text() for path in world.made.iterdir()}
    for name, text in theirs.files.items():
        assert without_random(text) == without_random(ours.files[name]), name
        if "ENC[" in text and name in before:
            known = set(CIPHERTEXT.findall(before[name]))
            kept = [known.intersection(CIPHERTEXT.findall(changed)) for changed in (text, ours.files[name])]
            assert kept[1] <= kept[0] if moves else kept[1] == kept[0], name
        if text != before.get(name) and "ENC[" in text:
            plain = [world.sops(done.where, "decrypt", name) for done in (theirs, ours)]
            assert plain[0] == plain[1], name
    if words:
        assert words in theirs.said
        assert words in ours.said
    return theirs, ours


SET = {
    "a value": ["set", "a.yaml", '["data"]["password"]', '"other"'],
    "quotes of the other kind": ["set", "a.yaml", "['data']['password']", '"other"'],
    "a clear value": ["set", "a.yaml", '["data"]["plain_unencrypted"]', '"other"'],
    "an integer becomes a float": ["set", "a.yaml", '["kind"]', "5"],
    "a float": ["set", "a.yaml", '["kind"]', "5.25"],
    "a large number": ["set", "a.yaml", '["kind"]', "12345678901234567890"],
    "a boolean": ["set", "a.yaml", '["kind"]', "true"],
    "null": ["set", "a.yaml", '["kind"]', "null"],
    "an empty text": ["set", "a.yaml", '["kind"]', '""'],
    "escapes and a half surrogate": ["set", "a.yaml", '["kind"]', r'"\u00e4\n\ud83d\ude00\ud800x"'],
    "an object": ["set", "a.yaml", '["data"]["new"]', '{"b": [1, 2.5, "x"], "a": {"n": null}}'],
    "an empty object": ["set", "a.yaml", '["data"]["new"]', "{}"],
    "a new key": ["set", "a.yaml", '["new"]', '"x"'],
    "parents that are not there": ["set", "a.yaml", '["new"]["deep"][0]["k"]', '"x"'],
    "a list element": ["set", "a.yaml", '["data"]["nested"][1]', '"x"'],
    "in a list element": ["set", "a.yaml", '["data"]["nested"][5]["x"]', '"z"'],
    "behind a list": ["set", "a.yaml", '["data"]["nested"][9]', '"x"'],
    "an object behind a list": ["set", "a.yaml", '["data"]["nested"][9]["a"]["b"]', '"x"'],
    "a mapping in the place of a value": ["set", "a.yaml", '["kind"]["deep"]', '"x"'],
    "a list in the place of a value": ["set", "a.yaml", '["kind"][3]', '"x"'],
    "a rule": ["set", "rule.yaml", '["data"]["c"]', '"x"'],
    "outside of a rule": ["set", "rule.yaml", '["clear"]', '"x"'],
    "the first of several documents": ["set", "many.yaml", '["list"][1]', '"x"'],
    "JSON": ["set", "a.json", '["a"]["b"]', '{"x": [1, "y"]}'],
    "dotenv": ["set", "a.env", '["A"]', '"x y"'],
    "dotenv, a new key": ["set", "a.env", '["NEW"]', '"x"'],
    "INI": ["set", "a.ini", '["s"]["a"]', '"x"'],
    "INI, a new section": ["set", "a.ini", '["t"]["a"]', '"x"'],
    "binary": ["set", "a.bin", '["data"]', '"x"'],
    "key groups": ["set", "groups.yaml", '["kind"]', '"x"'],
    "another indent": ["set", "--indent=2", "a.yaml", '["kind"]', '"x"'],
    "another format": ["set", "--output-type", "json", "rule.yaml", '["clear"]', '"x"'],
    "flags behind": ["set", "a.yaml", '["kind"]', '"x"', "--idempotent", "--ignore-mac"],
}


@pytest.mark.parametrize("command", SET.values(), ids=SET)
def test_set(world: World, command: list[str]) -> None:
    theirs, _ = same(world, command)
    assert theirs.files != {path.name: path.read_text() for path in world.made.iterdir()}


def test_set_from_a_file_and_from_stdin(world: World) -> None:
    same(world, ["set", "--value-file", "plain.yaml", '["kind"]', "x"], status=1)
    same(world, ["set", "--value-stdin", "a.yaml", '["kind"]'], given='{"a": "b"}\n')
    same(world, ["set", "--value-stdin", "a.yaml", '["kind"]'], given="\n", status=7)
    same(world, ["set", "--value-stdin", "a.yaml", '["kind"]', '"x"'], status=100)
    same(world, ["set", "--value-stdin", "--value-file", "a.yaml", '["kind"]', '"x"'], status=1)
    same(world, ["set", "--value-file", "a.yaml", '["kind"]', "none"], status=1)


def test_set_idempotent_writes_nothing_where_nothing_changes(world: World) -> None:
    for value in ('"Secret"',):
        theirs, ours = same(world, ["set", "--idempotent", "a.yaml", '["kind"]', value])
        assert theirs.files["a.yaml"] == ours.files["a.yaml"] == (world.made / "a.yaml").read_text()
    for value in ('"secret"', "true"):
        theirs, ours = same(world, ["set", "--idempotent", "a.yaml", '["kind"]', value])
        assert ours.files["a.yaml"] != (world.made / "a.yaml").read_text()
    same(world, ["set", "--idempotent", "a.yaml", '["data"]["nested"][0]', "1"])


def test_set_without_idempotent_leaves_what_does_not_change(world: World) -> None:
    """Differs from sops, which makes a new MAC."""
    theirs, ours = world.both(["set", "a.yaml", '["kind"]', '"Secret"'], "", "", "")
    assert theirs.status == ours.status == 0
    assert ours.files["a.yaml"] == (world.made / "a.yaml").read_text()


UNSET = {
    "a value": ["unset", "a.yaml", '["data"]["password"]'],
    "a branch": ["unset", "a.yaml", '["data"]'],
    "a list element": ["unset", "a.yaml", '["data"]["nested"][0]'],
    "in a list": ["unset", "a.yaml", '["data"]["nested"][5]["x"]'],
    "of the first document": ["unset", "many.yaml", '["a"]'],
    "JSON": ["unset", "a.json", '["l"][1]["y"]'],
    "dotenv": ["unset", "a.env", '["A"]'],
    "INI": ["unset", "a.ini", '["s"]["c"]'],
    "idempotent": ["unset", "--idempotent", "a.yaml", '["kind"]'],
}


@pytest.mark.parametrize("command", UNSET.values(), ids=UNSET)
def test_unset(world: World, command: list[str]) -> None:
    same(world, command, moves=command[-1].endswith("[0]"))


REFUSED = {
    "a bad path": (["set", "a.yaml", "kind", '"x"'], 7, "nvalid set index format"),
    "a path without its end": (["set", "a.yaml", '["kind"', '"x"'], 7, ""),
    "no JSON": (["set", "a.yaml", '["kind"]', "x"], 7, "not valid JSON"),
    "two values": (["set", "a.yaml", '["kind"]', "1 2"], 7, ""),
    "NaN": (["set", "a.yaml", '["kind"]', "NaN"], 7, ""),
    "an infinite number": (["set", "a.yaml", '["kind"]', "1e999"], 7, ""),
    "a list": (["set", "a.yaml", '["kind"]', "[1]"], 7, ""),
    "the metadata": (["set", "a.yaml", '["sops"]["mac"]', '"x"'], 203, ""),
    "no value": (["set", "a.yaml", '["kind"]'], 100, ""),
    "no such file": (["set", "none.yaml", '["kind"]', '"x"'], 2, ""),
    "a plain file": (["set", "plain.yaml", '["kind"]', '"x"'], 1, "sops metadata not found"),
    "an empty file": (["set", "empty.yaml", '["kind"]', '"x"'], 1, "sops metadata not found"),
    "a broken file": (["set", "wrong.yaml", '["kind"]', '"x"'], 1, ""),
    "deep in dotenv": (["set", "a.env", '["A"]["b"]', '"x"'], 4, ""),
    "unset: no such key": (["unset", "a.yaml", '["none"]'], 1, "Key not found: none"),
    "unset: no such element": (["unset", "a.yaml", '["data"]["nested"][9]'], 1, "Index 9 out of bounds"),
    "unset: below a value": (["unset", "--idempotent", "a.yaml", '["kind"]["a"]'], 1, "Unsupported type"),
    "unset: a bad path": (["unset", "a.yaml", "kind"], 7, ""),
    "unset: a value too much": (["unset", "a.yaml", '["kind"]', '"x"'], 100, ""),
    "rotate: no file": (["rotate"], 100, "no file specified"),
    "rotate: no such file": (["rotate", "none.yaml"], 2, ""),
    "rotate: keys for no file": (["rotate", "--add-age", "AGE2", "none.yaml"], 49, "cannot add or remove keys"),
    "rotate: two targets": (["rotate", "-i", "--output", "x", "a.yaml"], 8, "both --output and --in-place"),
    "rotate: no key left": (["rotate", "-i", "--rm-age", "AGE1", "a.yaml"], 1, "empty key group provided"),
    "rotate: no key left in a group": (["rotate", "-i", "--rm-age", "AGE2", "groups.yaml"], 1, ""),
    "rotate: a bad recipient": (["rotate", "-i", "--add-age", "age1x", "a.yaml"], 1, ""),
    "rotate: a plain file": (["rotate", "-i", "plain.yaml"], 1, "sops metadata not found"),
    "rotate: a key type twice": (["rotate", "--decryption-order", "age,age", "a.yaml"], 112, ""),
    "updatekeys: no config": (["updatekeys", "-y", "a.yaml"], 1, "config file not found"),
    "groups add: a name": (["groups", "add", "-f", "a.yaml", "--age", "AGE2", "x"], 1, "no positional arguments"),
    "groups add: no file": (["groups", "add", "--age", "AGE2"], 2, ""),
    "groups delete: no number": (["groups", "delete", "-f", "groups.yaml"], 1, "exactly one positional argument"),
    "groups delete: a word": (["groups", "delete", "-f", "groups.yaml", "x"], 1, ""),
    "groups delete: a plain file": (["groups", "delete", "-f", "plain.yaml", "0"], 1, "sops metadata not found"),
    "edit: no file": (["edit"], 100, "no file specified"),
    "edit: a plain file": (["edit", "plain.yaml"], 1, "sops metadata not found"),
    "edit: no rule": (["edit", "new.yaml"], 1, "no keys provided"),
}


@pytest.mark.parametrize(("command", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_what_both_refuse(world: World, command: list[str], status: int, words: str) -> None:
    theirs, ours = same(world, command, status=status, edit="false")
    if words:
        assert words in theirs.said
        assert words.lower() in ours.said.lower()
    assert ours.files == {path.name: path.read_text() for path in world.made.iterdir()}


ROTATE = {
    **{name: ["rotate", "-i", name] for name in (*FILES, "groups.yaml")},
    "to stdout": ["rotate", "a.yaml"],
    "to a file": ["rotate", "--output", "new.yaml", "a.yaml"],
    "add": ["rotate", "-i", "--add-age", "AGE2,AGE3", "a.yaml"],
    "add and remove": ["rotate", "-i", "--add-age", "AGE2", "--rm-age", "AGE1", "a.yaml"],
    "remove one that is not there": ["rotate", "-i", "--rm-age", "AGE3", "a.yaml"],
    "add to the first group": ["rotate", "-i", "--add-age", "AGE2", "groups.yaml"],
    "another format": ["rotate", "--output-type", "json", "rule.yaml"],
    "another name": ["rotate", "--filename-override", "x.json", "a.json"],
}


@pytest.mark.parametrize("command", ROTATE.values(), ids=ROTATE)
def test_rotate(world: World, command: list[str]) -> None:
    theirs, ours = same(world, command)
    if "-i" in command:
        before = (world.made / command[-1]).read_text()
        for done in (theirs, ours):
            assert not set(CIPHERTEXT.findall(before)).intersection(CIPHERTEXT.findall(done.files[command[-1]]))


ONE = "creation_rules: [{age: AGE1}]"
TWO = "creation_rules: [{age: 'AGE1,AGE2'}]"
OTHER = "creation_rules: [{age: 'AGE2'}]"
TWO_GROUPS = "creation_rules: [{key_groups: [{age: [AGE1]}, {age: [AGE2]}]}]"
FOUR_GROUPS = (
    "creation_rules: [{shamir_threshold: 3, key_groups: "
    "[{age: [AGE1]}, {age: [AGE2]}, {age: [AGE3]}, {age: [AGE1, AGE3]}]}]"
)
UPDATE = {
    "in step": ("a.yaml", ONE),
    "a new one": ("a.yaml", TWO),
    "another one": ("a.yaml", OTHER),
    "other groups": ("groups.yaml", TWO_GROUPS),
    "more groups": ("groups.yaml", FOUR_GROUPS),
    "from groups to one": ("groups.yaml", ONE),
    "from one to groups": ("a.yaml", TWO_GROUPS),
    "JSON": ("a.json", TWO),
    "dotenv": ("a.env", TWO),
    "INI": ("a.ini", TWO),
    "binary": ("a.bin", TWO),
    "several documents": ("many.yaml", TWO),
    "with a rule": ("rule.yaml", TWO),
}


@pytest.mark.parametrize(("name", "rules"), UPDATE.values(), ids=UPDATE)
def test_updatekeys(world: World, name: str, rules: str) -> None:
    _, ours = same(world, ["updatekeys", "-y", name], rules=rules, words="Syncing keys for file")
    assert (" already up to date" in ours.said) is (rules == ONE and name == "a.yaml")


def test_updatekeys_asks(world: World) -> None:
    same(world, ["updatekeys", "a.yaml"], rules=TWO, given="y\n", words="synced with new keys")
    same(world, ["updatekeys", "a.yaml"], rules=TWO, given="x\ny\n", words="synced with new keys")
    same(world, ["updatekeys", "a.yaml"], rules=TWO, given="n\n", words="left unchanged")
    same(world, ["updatekeys", "a.yaml"], rules=TWO, status=1)


def test_updatekeys_refuses_as_sops_does(world: World) -> None:
    same(world, ["updatekeys", "-y"], rules=ONE, status=100, words="no file specified")
    same(world, ["updatekeys", "-y", "none.yaml"], rules=ONE, status=1)
    same(
        world, ["updatekeys", "-y", "a.yaml"], rules="stores: {}", status=1, words="does not contain any creation rule"
    )
    unmatched = "creation_rules: [{path_regex: x, age: AGE1}]"
    same(world, ["updatekeys", "-y", "a.yaml"], rules=unmatched, status=1, words="no matching creation rules found")
    same(world, ["updatekeys", "-y", "plain.yaml"], rules=ONE, status=1, words="sops metadata not found")
    same(world, ["updatekeys", "-y", "--input-type", "json", "a.yaml"], rules=ONE, status=1)


def test_updatekeys_of_many_files_goes_on_after_one_that_fails(world: World) -> None:
    theirs, ours = world.both(["updatekeys", "-y", "a.yaml", "plain.yaml", "a.json"], TWO, "", "")
    assert theirs.status == ours.status == 1
    assert "failed updating 1 key(s)" in theirs.said
    assert "failed updating 1 key(s)" in ours.said
    for name, text in theirs.files.items():
        assert without_random(text) == without_random(ours.files[name])
        assert (world.words["AGE2"] in text) is (name in ("a.yaml", "a.json", ".sops.yaml", "c.yaml", "groups.yaml"))


GROUPS = {
    "add": ["groups", "add", "-i", "-f", "a.yaml", "--age", "AGE2"],
    "add, two keys": ["groups", "add", "-i", "-f", "a.yaml", "--age", "AGE2", "--age", "AGE3"],
    "add to groups": ["groups", "add", "-i", "-f", "groups.yaml", "--age", "AGE1"],
    "add, threshold": [
        "groups",
        "add",
        "-i",
        "-f",
        "groups.yaml",
        "--age",
        "AGE1",
        "--shamir-secret-sharing-threshold",
        "4",
    ],
    "add, to stdout": ["groups", "add", "-f", "a.json", "--age", "AGE2"],
    "delete": ["groups", "delete", "-i", "-f", "groups.yaml", "1"],
    "delete, threshold": ["groups", "delete", "-i", "-f", "groups.yaml", "0", "--shamir-secret-sharing-threshold", "2"],
    "delete, to stdout": ["groups", "delete", "-f", "groups.yaml", "2"],
}


@pytest.mark.parametrize("command", GROUPS.values(), ids=GROUPS)
def test_groups(world: World, command: list[str]) -> None:
    same(world, command)


EDITS = {
    "a value": ("a.yaml", "EDITOR ': b' ': other'"),
    "a comment": ("a.yaml", "EDITOR '# secret' '# other'"),
    "a clear value": ("a.yaml", "EDITOR 'd: c' 'd: other'"),
    "a key": ("a.yaml", "EDITOR 'password:' 'pass:'"),
    "a new document": ("many.yaml", "EDITOR 'c: d' 'c: d\n---\nnew: x'"),
    "a rule": ("rule.yaml", "EDITOR 'a: b' 'a: b2' 'clear: e' 'clear: e2'"),
    "JSON": ("a.json", "EDITOR '\"z\"' '[1, 2]'"),
    "dotenv": ("a.env", "EDITOR 'A=b' 'A=b\nC=d'"),
    "INI": ("a.ini", "EDITOR 'a = b' 'a = x'"),
    "binary": ("a.bin", "EDITOR any some"),
    "key groups": ("groups.yaml", "EDITOR Secret Other"),
}


@pytest.mark.parametrize(("name", "edit"), EDITS.values(), ids=EDITS)
def test_edit(world: World, name: str, edit: str) -> None:
    theirs, _ = same(world, ["edit", name], edit=edit, moves=name == "many.yaml")
    assert theirs.files[name] != (world.made / name).read_text()


@pytest.mark.parametrize("name", ["new.yaml", "new.json", "new.env", "new.ini", "new.bin", "new"])
def test_edit_of_a_file_that_is_not_there_begins_with_the_example(world: World, name: str) -> None:
    same(world, ["edit", name], rules=TWO, edit="EDITOR you they")
    same(world, ["edit", "--age", "AGE3", name], edit="EDITOR you they")
    same(world, ["edit", name], rules=TWO, edit="cat", status=200, words="File has not changed, exiting.")


def test_edit_ends_as_the_editor_does(world: World) -> None:
    for edit, status in (
        ("cat", 200),
        ("EDITOR x x", 200),
        ("false", 201),
        ("/none/at/all", 201),
        ("none-at-all", 201),
    ):
        same(world, ["edit", "a.yaml"], edit=edit, status=status)
    same(world, ["edit", "a.yaml"], edit="'unclosed", status=201, words="invalid $SOPS_EDITOR")


def test_a_broken_edit_comes_again(world: World) -> None:
    """The second time the editor leaves what is right, since it finds what it left."""
    for edit in ("EDITOR ': [' ': x' ': Secret' ': ['", "EDITOR 'sops:' 'other:' 'kind:' 'sops:'"):
        theirs, ours = same(world, ["edit", "a.yaml"], edit=edit, given="\n\n\n\n", words="ress enter to return")
        assert theirs.files.keys() == ours.files.keys()


def test_what_was_edited_with_keys_shown_counts(world: World) -> None:
    """Differs from sops, which drops it."""
    key = "'sops:\n    age:\n' 'sops:\n    age:\n        - recipient: AGE2\n'"
    edit = f"EDITOR Secret Other {key} ' _unencrypted' ' _clear'"
    theirs, ours = world.both(["edit", "-s", "a.yaml"], "", edit, "")
    assert theirs.status == ours.status == 0, ours.said
    assert "kind: Secret" in world.sops(theirs.where, "decrypt", "a.yaml")
    (world.folder / "second.txt").write_text((world.folder / "keys.txt").read_text().splitlines()[1])
    env = {**world.env, "SOPS_AGE_KEY_FILE": str(world.folder / "second.txt")}
    done = subprocess.run(
        [str(SOPS), "decrypt", "a.yaml"], cwd=ours.where, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "kind: Other" in done.stdout
    assert "plain_unencrypted: ENC[" in ours.files["a.yaml"]


def test_a_file_with_a_broken_mac_is_changed_only_by_force(world: World) -> None:
    whole = (world.made / "a.yaml").read_text()
    try:
        (world.made / "a.yaml").write_text(whole.replace("plain_unencrypted: c", "plain_unencrypted: x"))
        same(world, ["set", "a.yaml", '["kind"]', '"x"'], status=51)
        same(world, ["set", "--ignore-mac", "a.yaml", '["kind"]', '"x"'])
        same(world, ["edit", "a.yaml"], edit="EDITOR Secret Other", status=51)
        same(world, ["edit", "--ignore-mac", "a.yaml"], edit="EDITOR Secret Other")
        same(world, ["rotate", "-i", "a.yaml"], status=51)
        same(world, ["set", "--ignore-mac", "a.yaml", '["kind"]', '"Secret"'])
    finally:
        (world.made / "a.yaml").write_text(whole)
