"""The real sops and krm-sops encrypt by the same `.sops.yaml`, flags and variables: the same text but for the secrets.

What both refuse, they refuse with the same exit status and, where a script may look for it, the same words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS, AGE_KEYGEN, GPG = (shutil.which(name, path=PATH) for name in ("sops", "age-keygen", "gpg"))
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(None in (SOPS, AGE_KEYGEN, GPG), reason="sops, age or gpg is not installed")

DOCUMENT = """\
# first
kind: Secret
data:
    password: b # inline
    plain_unencrypted: c
    # secret
    nested: [1, 2.5, true, null, "", {x: y}]
password: 7
"""
SECRETS = (
    (re.compile(r"ENC\[AES256_GCM,data:[^,]*,iv:[^,]*,tag:[^,]*,"), "ENC["),
    (re.compile(r"-----BEGIN (AGE|PGP).*?-----END", re.DOTALL), "ARMOR"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"^( *)- ENC\[type:comment\]$", re.MULTILINE), r"\1- COMMENT"),
)


class World:
    """A folder with a project in it, and what is needed to encrypt there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.env = {"PATH": PATH, "HOME": str(folder), "GNUPGHOME": str(folder / "gnupg")}
        self.words: dict[str, str] = {}
        for number in (1, 2, 3):
            text = self.output("age-keygen").decode()
            self.words[f"AGE{number}"] = self.output("age-keygen", "-y", given=text.encode()).decode().strip()
            with (folder / "keys.txt").open("a") as file:
                file.write(text)
        (folder / "gnupg").mkdir(mode=0o700)
        for number in (1, 2):
            gpg = ("gpg", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback")
            self.output(*gpg, "--quick-generate-key", f"key{number} <k{number}@x>", "default", "default", "never")
            listed = self.output("gpg", "--list-keys", "--with-colons", f"k{number}@x").decode().splitlines()
            self.words[f"FP{number}"] = next(line for line in listed if line.startswith("fpr")).split(":")[9]

    def output(self, *argv: str, given: bytes = b"") -> bytes:
        return subprocess.run(argv, input=given, env=self.env, capture_output=True, check=True).stdout

    def filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace(name, value)
        return text.replace("PROJECT", str(self.project))

    def reset(self, files: Mapping[str, str]) -> None:
        shutil.rmtree(self.project, ignore_errors=True)
        (self.project / "secrets/deep").mkdir(parents=True)
        for name in ("a.yaml", "secrets/b.yaml", "secrets/deep/c.yaml"):
            (self.project / name).write_text(DOCUMENT)
        (self.project / "d.json").write_text('{"a": {"b": "c", "n": 1.5}, "l": ["x", {"y": "z"}]}')
        (self.project / "e.env").write_text("A=b\n# c\nB_unencrypted=d\n")
        (self.project / "f.ini").write_text("[s]\na = b\n")
        (self.project / "g.txt").write_text("text\n")
        for name, content in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.filled(content))

    def decrypted(self, text: str, name: str) -> bytes:
        """What sops makes of an encrypted document."""
        env = {**self.env, "SOPS_AGE_KEY_FILE": str(self.folder / "keys.txt")}
        argv = [str(SOPS), "decrypt", "--filename-override", name]
        done = subprocess.run(argv, input=text.encode(), cwd=self.folder, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def both(
        self, arguments: Sequence[str], *, cwd: str = ".", given: str = "", env: Mapping[str, str] | None = None
    ) -> tuple[Done, Done]:
        """sops' own global flags come before its verb; krm-sops takes them behind it as well."""
        words = [self.filled(word) for word in arguments]
        first = [word for word in words if word.startswith(GLOBAL)]
        rest = [word for word in words if not word.startswith(GLOBAL)]
        assert SOPS is not None
        where = os.path.normpath(self.project / cwd)
        environment = {**self.env, **{name: self.filled(value) for name, value in (env or {}).items()}}
        environment.setdefault("PWD", where)
        done = []
        ours = (sys.executable, "-m", "krm_sops", "encrypt", *words)
        for argv in ((SOPS, *first, "encrypt", *rest), ours):
            run = subprocess.run(
                argv,
                input=given.encode(),
                cwd=where,
                env={**environment, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=False,
            )
            done.append(Done(run.returncode, run.stdout.decode(), run.stderr.decode()))
        return done[0], done[1]


GLOBAL = ("--config=", "--indent=", "--mac-only-encrypted")


class Done:
    def __init__(self, status: int, text: str, said: str) -> None:
        self.status = status
        self.raw = text
        self.said = said
        for pattern, word in SECRETS:
            text = pattern.sub(word, text)
        self.text = text


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg") as folder:  # short: the agent's socket is in it
        made = World(Path(folder))
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], env=made.env, check=False, capture_output=True)


def same(world: World, *arguments: str, status: int = 0, words: str = "", **how: object) -> Done:
    """words: what both must say."""
    theirs, ours = world.both(arguments, **how)  # type: ignore[arg-type]
    told = f"sops: {theirs.status} {theirs.said}\nkrm-sops: {ours.status} {ours.said}"
    assert theirs.status == ours.status == status, told
    if not status:
        assert theirs.text == ours.text
    else:
        assert ours.text == ""
        assert ours.said.startswith("krm-sops: ")
        assert words.lower() in theirs.said.lower(), told
        assert words.lower() in ours.said.lower(), told
    return ours


def rule(text: str) -> str:
    """A configuration of one rule."""
    return "creation_rules:\n  - " + text.strip().replace("\n", "\n    ")


GROUPS = "age: AGE1\nunencrypted_suffix: _x\n"
GOOD_RULES = {
    "a string": rule("age: AGE1"),
    "a comma list": rule("age: ' AGE1, AGE2,,'"),
    "a folded comma list": rule("age: >-\n  AGE1,\n  AGE2"),
    "a list": rule("age: [AGE1, AGE2, AGE1]"),
    "a list of comma lists": rule("age: ['AGE1, AGE2', AGE3]"),
    "null": rule("age: AGE1\npgp: ~\nkms: null\nkey_groups: []"),
    "an empty string": rule("age: AGE1\npgp: ''"),
    "pgp": rule("pgp: FP1,FP2"),
    "pgp in a list": rule("pgp: [FP1, FP2]"),
    "pgp with spaces": rule("pgp: FP1 , FP2"),
    "age and pgp": rule("pgp: FP1\nage: AGE1"),
    "unknown fields": rule("age: AGE1\nwhatever: {a: [1]}\npath_regexp: ("),
    "first match wins": "creation_rules: [{path_regex: nothing, age: AGE2}, {age: AGE1}, {age: AGE3}]",
    "null rules": "creation_rules: [~, {age: AGE1}]",
    "anchors": "x: &x {age: AGE1, unencrypted_regex: ^kind$}\ncreation_rules: [*x]",
    "merge keys": "x: &x {age: AGE1, unencrypted_regex: ^kind$}\ncreation_rules: [{<<: *x, age: AGE2}]",
    "merge keys in a list": (
        "x: &x {age: AGE1}\ny: &y {age: AGE2, encrypted_suffix: d}\ncreation_rules: [{<<: [*x, *y]}]"
    ),
    "a second document": rule("age: AGE1") + "\n---\nnot: [read\n",
    "unencrypted_suffix": rule("age: AGE1\nunencrypted_suffix: d"),
    "encrypted_suffix": rule("age: AGE1\nencrypted_suffix: d"),
    "unencrypted_regex": rule("age: AGE1\nunencrypted_regex: ^(kind|password)$"),
    "encrypted_regex": rule("age: AGE1\nencrypted_regex: '(?i)^DATA$'"),
    "encrypted_comment_regex": rule("age: AGE1\nencrypted_comment_regex: secret"),
    "unencrypted_comment_regex": rule("age: AGE1\nunencrypted_comment_regex: secret"),
    "a number as a suffix": rule("age: AGE1\nencrypted_suffix: 0777"),
    "mac_only_encrypted": rule("age: AGE1\nmac_only_encrypted: true\nencrypted_regex: ^data$"),
    "mac_only_encrypted: yes": rule("age: AGE1\nmac_only_encrypted: yes"),
    "mac_only_encrypted: 'on'": rule("age: AGE1\nmac_only_encrypted: 'on'"),
    "mac_only_encrypted: off": rule("age: AGE1\nmac_only_encrypted: off"),
    "a threshold without groups": rule("age: AGE1\nshamir_threshold: 7"),
    "one group": rule("key_groups: [{age: [AGE1, AGE2], pgp: [FP1]}]"),
    "flat keys beside groups": rule("age: AGE3\nkey_groups: [{age: [AGE1]}]"),
    "two groups": rule("key_groups: [{age: [AGE1]}, {pgp: [FP1], age: [AGE2]}]"),
    "three groups": rule("shamir_threshold: 2\nkey_groups: [{age: [AGE1]}, {age: [AGE2]}, {pgp: [FP1]}]"),
    "a threshold with a fraction": rule("shamir_threshold: 2.7\nkey_groups: [{age: [AGE1]}, {age: [AGE2]}]"),
    "each key once in a group": rule("key_groups: [{age: [AGE1, AGE2, AGE1], pgp: [FP1, FP1]}, {age: [AGE1]}]"),
    "merge": rule("key_groups: [{merge: [{age: [AGE2]}, {pgp: [FP1], merge: [{age: [AGE3]}]}], age: [AGE1, AGE2]}]"),
    "comma lists in groups": rule("key_groups: [{age: ['AGE1, AGE2', AGE3, ~]}]"),
    "a null group": rule("key_groups: [~, {age: [AGE1]}]"),
    "stores": rule("age: AGE1") + "\nstores: {yaml: {indent: 2}, json: {indent: 3}, json_binary: {indent: 0}}",
    "stores of tabs": rule("age: AGE1") + "\nstores: {yaml: {indent: 0}, json: {indent: -1}, json_binary: {indent: 1}}",
    "stores without": rule("age: AGE1") + "\nstores: {yaml: , json: {}, other: 5}",
    "an error in the keys of another rule": rule("age: AGE1") + "\n  - age: 5\n    encrypted_regex: '('",
    "destination rules beside": rule("age: AGE1") + "\ndestination_rules: [{s3_bucket: x, path_regex: y}]",
}


@pytest.mark.parametrize("name", GOOD_RULES)
def test_rules_that_are_good(world: World, name: str) -> None:
    world.reset({".sops.yaml": GOOD_RULES[name]})
    theirs, ours = world.both(["secrets/b.yaml"])
    assert (theirs.status, theirs.text) == (ours.status, ours.text), theirs.said + ours.said
    assert world.decrypted(ours.raw, "b.yaml") == world.decrypted(theirs.raw, "b.yaml")
    same(world, "d.json")
    if name in ("a string", "stores", "stores of tabs", "three groups", "encrypted_suffix", "mac_only_encrypted"):
        for path in ("e.env", "f.ini", "g.txt"):
            same(world, path)


BAD_RULES = {
    "no rule matches": ("creation_rules: [{path_regex: nothing, age: AGE1}]", "no matching creation rules found"),
    "an empty list": ("creation_rules: []", "no matching creation rules found"),
    "no keys in the rule": (rule("unencrypted_suffix: x"), "empty key group provided"),
    "an empty group": (rule("key_groups: [{age: [AGE1]}, {}]"), "empty key group provided"),
    "no rules": ("stores: {}", "no creation rules, and no keys provided"),
    "null rules": ("creation_rules:", "no creation rules, and no keys provided"),
    "only comments": ("# nothing", "no creation rules, and no keys provided"),
    "an empty document": ("---", "no creation rules, and no keys provided"),
    "an empty file": ("", "no creation rules, and no keys provided"),
    "only destination rules": ("destination_rules: [{s3_bucket: x}]", "no creation rules, and no keys provided"),
    "a scalar": ("text", "could not unmarshal config file"),
    "a list": ("[a]", "could not unmarshal config file"),
    "broken YAML": ("creation_rules: [", "could not unmarshal config file"),
    "a tab": ("creation_rules:\n\t- age: AGE1", "could not unmarshal config file"),
    "duplicate keys": (rule("age: AGE1\nage: AGE2"), "could not unmarshal config file"),
    "rules that are a mapping": ("creation_rules: {age: AGE1}", "could not unmarshal config file"),
    "a rule that is a string": ("creation_rules: [AGE1]", "could not unmarshal config file"),
    "a bad path_regex": (rule("age: AGE1\npath_regex: '('"), "can not compile regexp"),
    "a path_regex of Perl": (rule("age: AGE1\npath_regex: '(?!x)'"), "can not compile regexp"),
    "two selections": (rule("age: AGE1\nencrypted_regex: a\nunencrypted_suffix: b"), "cannot use more than one of"),
    "two comment selections": (
        rule("age: AGE1\nencrypted_comment_regex: a\nunencrypted_comment_regex: b"),
        "cannot use more than one of",
    ),
    "a number as a key": (rule("age: 5"), "age key configuration"),
    "a number among keys": (rule("pgp: [FP1, 5]"), "expected string in list"),
    "null among keys": (rule("pgp: [FP1, ~]"), "expected string in list"),
    "a mapping as keys": (rule("age: {a: b}"), ""),
    "a threshold in quotes": (rule("age: AGE1\nshamir_threshold: '2'"), "could not unmarshal config file"),
    "no boolean": (rule("age: AGE1\nmac_only_encrypted: maybe"), "could not unmarshal config file"),
    "one as a boolean": (rule("age: AGE1\nmac_only_encrypted: 1"), "could not unmarshal config file"),
    "a list where a string is": (rule("age: AGE1\npath_regex: [a]"), "could not unmarshal config file"),
    "keys of a group as a string": (rule("key_groups: [{age: AGE1}]"), "could not unmarshal config file"),
    "groups that are a mapping": (rule("key_groups: {age: [AGE1]}"), "could not unmarshal config file"),
    "kms of a group as a string": (rule("key_groups: [{kms: [arn]}]"), "could not unmarshal config file"),
    "an error in another rule": (
        rule("age: AGE1") + "\n  - path_regex: {a: b}",
        "could not unmarshal config file",
    ),
    "a malformed recipient": (rule("age: age1abc"), "malformed"),
    "an unknown recipient": (rule("age: abc"), "unknown recipient type"),
    "an unknown recipient in a group": (rule("key_groups: [{age: [abc]}]"), "unknown recipient type"),
    "an unknown fingerprint": (rule("pgp: " + "F" * 40), "could not generate data key"),
    "a threshold of one": (rule("shamir_threshold: 1\nkey_groups: [{age: [AGE1]}, {age: [AGE2]}]"), "threshold"),
    "a threshold too large": (rule("shamir_threshold: 3\nkey_groups: [{age: [AGE1]}, {age: [AGE2]}]"), "threshold"),
    "an indent that is no number": (rule("age: AGE1") + "\nstores: {yaml: {indent: x}}", "could not unmarshal"),
    "stores that are a list": (rule("age: AGE1") + "\nstores: []", "could not unmarshal config file"),
    "an azure key that is none": (rule("azure_keyvault: http://x/keys/y/z"), "could not parse"),
    "a vault key that is none": (rule("hc_vault_transit_uri: vault.example.com/v1/transit/keys/x"), ""),
    "a vault key below a prefix": (rule("hc_vault_transit_uri: https://v/prefix/v1/transit/keys/x"), ""),
    "a vault key of another path": (rule("hc_vault_transit_uri: https://v/v1/x"), ""),
    "a huawei key that is none": (rule("hckms: [abc]"), "region:"),
}


@pytest.mark.parametrize("name", BAD_RULES)
def test_rules_that_are_not(world: World, name: str) -> None:
    config, words = BAD_RULES[name]
    world.reset({".sops.yaml": config})
    same(world, "secrets/b.yaml", status=1, words=words)


PATHS = [
    # path_regex, argument, folder it is called from, whether the rule matches
    ("^secrets/b", "secrets/b.yaml", "."),
    ("^secrets/b", "b.yaml", "secrets"),
    ("^secrets/b", "../secrets/./b.yaml", "secrets"),
    ("^b", "b.yaml", "secrets"),
    ("^secrets/deep/c", "deep/c.yaml", "secrets"),
    ("^PROJECT/secrets/", "PROJECT/secrets/b.yaml", "."),
    ("^secrets/", "PROJECT/secrets/b.yaml", "."),
    ("b.yaml$", "secrets/b.yaml", "."),
    ("B.YAML", "secrets/b.yaml", "."),
    ("(?i)B.YAML", "secrets/b.yaml", "."),
    ("[/]", "a.yaml", "."),
    ("^outside", "../outside.yaml", "."),
    ("/outside", "../outside.yaml", "."),
    ("^[^/]", "../outside.yaml", "."),
    ("^secrets/b", "../link/secrets/b.yaml", "."),
    ("link/secrets/b", "../link/secrets/b.yaml", "."),
    ("^secrets/b", "secrets/b.yaml", "../link"),
    ("^secrets/b", "b.yaml", "../link/secrets"),
    ("^b", "b.yaml", "../link/secrets"),
]


@pytest.mark.parametrize(("regex", "argument", "cwd"), PATHS)
def test_paths_are_matched_alike(world: World, regex: str, argument: str, cwd: str) -> None:
    world.reset({".sops.yaml": f"creation_rules: [{{path_regex: '{regex}', age: AGE1}}]", "../outside.yaml": "a: b\n"})
    link = world.folder / "link"
    if not link.is_symlink():
        link.symlink_to(world.project)
    theirs, ours = world.both([argument], cwd=cwd)
    assert theirs.status in (0, 1)
    assert (theirs.status, theirs.text) == (ours.status, ours.text), theirs.said + ours.said


def test_the_nearest_file_counts(world: World) -> None:
    world.reset({".sops.yaml": rule("age: AGE1"), "secrets/.sops.yaml": rule("age: AGE2")})
    assert world.words["AGE2"] in same(world, "b.yaml", cwd="secrets").text
    assert world.words["AGE2"] in same(world, "deep/c.yaml", cwd="secrets").text
    assert world.words["AGE2"] in same(world, "c.yaml", cwd="secrets/deep").text
    assert world.words["AGE1"] in same(world, "secrets/b.yaml").text


def test_a_file_of_the_other_name_is_not_read_but_told(world: World) -> None:
    world.reset({".sops.yml": rule("age: AGE1")})
    same(world, "a.yaml", status=1, words="the config file must be called")
    world.reset({".sops.yaml": rule("age: AGE1"), "secrets/.sops.yml": "["})
    assert "must be called" in same(world, "b.yaml", cwd="secrets").said


def test_a_named_configuration(world: World) -> None:
    world.reset({".sops.yaml": "[", "secrets/rules": "creation_rules: [{path_regex: ^b, age: AGE1}]"})
    same(world, "--config=secrets/rules", "secrets/b.yaml")
    same(world, "secrets/b.yaml", env={"SOPS_CONFIG": "secrets/rules"})
    same(world, "--config=secrets/rules", "a.yaml", status=1, words="no matching creation rules")
    same(world, "--config=absent", "a.yaml", status=1, words="could not read config file")
    same(world, "a.yaml", status=1, env={"SOPS_CONFIG": ""}, words="could not unmarshal")


CONFIG = rule("age: AGE1\nunencrypted_regex: ^kind$")
COMMANDS: list[tuple[str, list[str], dict[str, object]]] = [
    # configuration, arguments, what else: status, words, given, env
    (CONFIG, ["a.yaml"], {}),
    (CONFIG, ["--age=AGE2", "a.yaml"], {}),
    (CONFIG, ["a.yaml", "--age", "AGE2"], {}),
    (CONFIG, ["-a", "AGE2", "-p", "FP1", "a.yaml"], {}),
    (CONFIG, ["-age", "AGE2, AGE3", "a.yaml"], {}),
    (CONFIG, ["--age", "AGE2,", "a.yaml"], {"status": 1, "words": "unknown recipient type"}),
    (CONFIG, ["--pgp", "FP1, FP2", "a.yaml"], {}),
    (CONFIG, ["a.yaml"], {"env": {"SOPS_AGE_RECIPIENTS": "AGE2", "SOPS_PGP_FP": "FP2"}}),
    (CONFIG, ["--age=AGE3", "a.yaml"], {"env": {"SOPS_AGE_RECIPIENTS": "AGE2"}}),
    (CONFIG, ["--age=", "a.yaml"], {"env": {"SOPS_AGE_RECIPIENTS": "AGE2"}}),
    (CONFIG, ["a.yaml"], {"env": {"SOPS_AGE_RECIPIENTS": ""}}),
    (CONFIG, ["--unencrypted-regex=^data$", "a.yaml"], {}),
    (CONFIG, ["--encrypted-regex=^data$", "a.yaml"], {"status": 8, "words": "cannot use more than one of"}),
    ("", ["--age=AGE1", "a.yaml"], {}),
    ("", ["--age=AGE1", "--encrypted-regex=^data$", "a.yaml"], {}),
    ("", ["--age=AGE1", "--encrypted-suffix=a", "a.yaml"], {}),
    ("", ["--age=AGE1", "--unencrypted-suffix=a", "a.yaml"], {}),
    ("", ["--age=AGE1", "--unencrypted-suffix=", "a.yaml"], {}),
    ("", ["--age=AGE1", "--encrypted-regex=a", "--encrypted-suffix=b", "a.yaml"], {"status": 8}),
    ("", ["--age=AGE1", "--mac-only-encrypted", "--encrypted-regex=^data$", "a.yaml"], {}),
    ("", ["--age=AGE1", "--shamir-secret-sharing-threshold=3", "a.yaml"], {}),
    (
        rule("shamir_threshold: 3\nkey_groups: [{age: [AGE1]}, {age: [AGE2]}, {age: [AGE3]}]"),
        ["--shamir-secret-sharing-threshold", "2", "a.yaml"],
        {},
    ),
    ("", ["--age=AGE1", "--shamir-secret-sharing-threshold=x", "a.yaml"], {"status": 1}),
    ("", ["--age=AGE1", "--indent=2", "a.yaml"], {}),
    ("", ["--age=AGE1", "--indent=0", "a.yaml"], {}),
    ("", ["--age=AGE1", "--indent=7", "d.json"], {}),
    ("", ["--age=AGE1", "--indent=0", "d.json"], {}),
    ("", ["--age=AGE1", "--indent=-1", "d.json"], {}),
    ("", ["--age=AGE1", "--indent=-2", "d.json"], {"status": 4}),
    ("", ["--age=AGE1", "--indent=-1", "a.yaml"], {"status": 4}),
    ("", ["--age=AGE1", "--indent=2", "g.txt"], {}),
    ("", ["--age=AGE1", "--indent=2", "e.env"], {}),
    (rule("age: AGE1") + "\nstores: {json: {indent: 2}}", ["--indent=5", "d.json"], {}),
    ("", ["--age=AGE1", "--input-type=yaml", "g.txt"], {"status": 2}),
    ("", ["--age=AGE1", "--output-type=json", "e.env"], {}),
    ("", ["--age=AGE1", "--output-type=yaml", "g.txt"], {}),
    ("", ["--age=AGE1", "--input-type=binary", "a.yaml"], {}),
    ("", ["--age=AGE1", "--input-type=binary", "--output-type=binary", "a.yaml"], {}),
    ("", ["--age=AGE1", "--input-type=nonsense", "--output-type=nonsense", "d.json"], {}),
    ("", ["--age=AGE1", "--filename-override=x.json", "a.yaml"], {"status": 2}),
    ("", ["--age=AGE1", "--filename-override=x.yaml", "d.json"], {}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "a: b\n"}),
    ("", ["--age=AGE1", "--filename-override", "x.env"], {"given": "a=b\n"}),
    ("", ["--age=AGE1", "--filename-override", "x"], {"given": ""}),
    ("", ["--age=AGE1", "--filename-override", "x.env"], {"given": ""}),
    ("", ["--age=AGE1", "--filename-override", "x.ini"], {"given": ""}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "", "status": 92, "words": "completely empty"}),
    ("", ["--age=AGE1", "--filename-override", "x.json"], {"given": "", "status": 2}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "# only\n", "status": 2}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "[a]\n", "status": 2}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "a: b: c\n", "status": 2}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "a: b\n---\nc: d\n"}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "sops: b\n", "status": 203, "words": "already"}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "a: {sops: b}\n"}),
    ("", ["--age=AGE1", "--filename-override", "x.env"], {"given": "sops_a=b\n", "status": 203}),
    ("", ["--age=AGE1", "--filename-override", "x.env"], {"given": "sops=b\n"}),
    ("", ["--age=AGE1", "--filename-override", "x.ini"], {"given": "[sops]\na = b\n", "status": 203}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "1: b\n", "status": 23}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml"], {"given": "a: 18446744073709551615\n", "status": 23}),
    ("", ["--age=AGE1", "--filename-override", "x.yaml", "--output-type=env"], {"given": "a: {b: c}\n"}),
    (
        "",
        ["--age=AGE1", "--filename-override", "x.yaml", "--output-type=dotenv"],
        {"given": "a: {b: c}\n", "status": 4},
    ),
    (CONFIG, ["g.txt"], {}),
    ("", ["--age=AGE1", "--encrypted-suffix=x", "--encrypted-regex=y", "g.txt"], {}),
    ("", ["a.yaml"], {"status": 1, "words": "config file not found, or has no creation rules, and no keys provided"}),
    ("", [], {"status": 8, "words": "must specify --filename-override when reading from stdin"}),
    ("", ["--age=AGE1", "-i"], {"status": 8, "words": "cannot use --in-place when reading from stdin"}),
    ("", ["--age=AGE1", "-i", "--output", "x", "a.yaml"], {"status": 8, "words": "cannot operate on both --output"}),
    ("", ["--age=AGE1", "absent.yaml"], {"status": 100, "words": "cannot operate on non-existent file"}),
    ("", ["--age=AGE1", "secrets"], {"status": 2}),
    ("", ["--age=AGE1", "a.yaml", "d.json"], {}),
    ("", ["--age=AGE1", "--output=absent/x", "a.yaml"], {"status": 3}),
    ("", ["--no-such-flag", "a.yaml"], {"status": 1}),
    ("", ["--age"], {"status": 1}),
    ("", ["--in-place=maybe", "a.yaml"], {"status": 1}),
    ("", ["--kms=arn", "--encryption-context=a", "a.yaml"], {"status": 6, "words": "encryption context"}),
    ("", ["--age=AGE1", "--encryption-context=a:b:c", "a.yaml"], {"status": 6}),
    ("", ["--age=AGE1", "--encryption-context=a:b,c:d", "a.yaml"], {}),
    ("", ["--age=AGE1", "--enable-local-keyservice=false", "a.yaml"], {"status": 1}),
    ("", ["--azure-kv=https://v/key", "a.yaml"], {"status": 1, "words": "could not parse"}),
    ("", ["--hckms=abc", "a.yaml"], {"status": 1}),
    ("", ["--hc-vault-transit=vault", "a.yaml"], {"status": 1}),
]


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: " ".join(case[1])[:70])
def test_command_lines(world: World, case: tuple[str, list[str], dict[str, object]]) -> None:
    config, arguments, how = case
    world.reset({".sops.yaml": config} if config else {})
    same(world, *arguments, **how)  # type: ignore[arg-type]


def test_in_place_and_output_write_what_sops_then_decrypts(world: World) -> None:
    world.reset({".sops.yaml": CONFIG})
    (world.project / "a.yaml").chmod(0o640)
    _, ours = world.both(["--output", "out.yaml", "a.yaml"])
    assert (ours.status, ours.raw) == (0, "")
    env = {**world.env, "SOPS_AGE_KEY_FILE": str(world.folder / "keys.txt")}
    argv = [sys.executable, "-m", "krm_sops", "encrypt", "-i", "a.yaml"]
    subprocess.run(argv, cwd=world.project, env={**env, "PYTHONPATH": str(ROOT)}, check=True)
    assert (world.project / "a.yaml").stat().st_mode & 0o777 == 0o640
    for name in ("a.yaml", "out.yaml"):
        assert SOPS is not None
        done = subprocess.run([SOPS, "decrypt", name], cwd=world.project, env=env, capture_output=True, check=True)
        assert b"password: b\n" in done.stdout


def test_s22_an_invalid_regex_is_an_error_and_nothing_is_written(world: World) -> None:
    """sops takes it for one that never matches, and writes the secrets in the clear."""
    for config, arguments in (
        (rule("age: AGE1\nencrypted_regex: '('"), []),
        ("", ["--age=AGE1", "--encrypted-regex=("]),
    ):
        world.reset({".sops.yaml": config} if config else {})
        theirs, ours = world.both([*arguments, "a.yaml"])
        assert theirs.status == 0
        assert "password: b" in theirs.raw
        assert (ours.status, ours.raw) == (1, "")
        assert "does not compile" in ours.said
