"""``krm-sops provision``: specifications, each source type, what is kept and renewed, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import ConfigError, KrmSopsError
from krm_sops.host import Host
from krm_sops.krm.config import Fields
from krm_sops.provision import OF_OPSOPS, SOURCES
from krm_sops.provision.base import Ending, Run
from krm_sops.provision.commands import environment
from krm_sops.provision.made import ALPHABETS
from krm_sops.provision.spec import Specification, sops_nix
from krm_sops.tree import Branch, Entry
from tests.agefile import IDENTITY, recipient_of

ROOT = Path(__file__).resolve().parents[2]
RECIPIENT = recipient_of(IDENTITY)
COUNTING = "#!/bin/sh\necho run >>runs\nprintf 'value %s' \"$*\"\n"


def run(folder: Path, *arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", "provision", *arguments],
        cwd=folder,
        input=given,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder), "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def spec(secrets: dict[str, Any]) -> str:
    return json.dumps({"secrets": secrets})


def process(*argv: str, **fields: Any) -> dict[str, Any]:
    return {"type": "process", "value": {"command": argv[0], "arguments": list(argv[1:]), **fields}}


def program(folder: Path, name: str, text: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)


def clear(folder: Path, secrets: dict[str, Any], *arguments: str, **env: str) -> Any:
    done = run(folder, *arguments, "-", given=spec(secrets), **env)
    assert (done.returncode, done.stderr) == (0, "")
    return yaml.safe_load(done.stdout)


def refused(folder: Path, secrets: Any, *arguments: str, **env: str) -> str:
    done = run(folder, *arguments, "-", given=secrets if isinstance(secrets, str) else spec(secrets), **env)
    assert done.returncode != 0
    assert done.stdout == ""
    return done.stderr


def decrypted(folder: Path, name: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "krm_sops", "decrypt", "--key-file", "keys.txt", "--output-type", "json", name],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    program(tmp_path, "counting", COUNTING)
    (tmp_path / "keys.txt").write_text(IDENTITY + "\n")
    (tmp_path / "spec.json").write_text(
        spec({"a": process("counting", "one"), "b": {"c": {"type": "random"}, "d": process("counting", "two")}})
    )
    return tmp_path


def provisioned(folder: Path, *arguments: str, name: str = "out.enc.yaml") -> bytes:
    done = run(folder, "--age", RECIPIENT, "--key-file", "keys.txt", "-o", name, *arguments, "spec.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return (folder / name).read_bytes()


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines()) if (folder / "runs").exists() else 0


# Specifications


def test_keys_are_sorted_and_a_mapping_with_a_text_under_type_is_a_source():
    raw = b"secrets:\n  b: {type: {type: random}}\n  a: &a {type: random}\n  '1': *a\n  2: {<<: *a}\n"
    found = Specification(raw)
    assert [secret.path for secret in found.secrets] == [("1",), ("2",), ("a",), ("b", "type")]
    assert found.ignored == []


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("a: 1", "under `secrets`"),
        ("secrets: [a]", "under `secrets`"),
        ("secrets: {type: random, value: {}}", "under `secrets`"),
        ("[", "no YAML"),
        ("secrets: {}\n---\nsecrets: {}", "one document, not 2"),
        ("secrets: {a: {}, a: {}}", "'a' already defined"),
        ("secrets: {1: {}, '1': {}}", "'1' already defined"),
        ("secrets: {a: {b: text}}", "a/b: here must be a mapping"),
        ("secrets: {a: {b: }}", "a/b: here must be a mapping"),
        ("secrets: {a: {type: vault, value: {}}}", "a: there is no source type 'vault'"),
        ("secrets: {a: {type: process, value: {arguments: [a]}}}", "a (process): value.command is needed"),
        ("secrets: {a: {type: process, value: {command: a, arguments: [1]}}}", "value.arguments must be a list of s"),
        ("secrets: {a: {type: process, value: {command: a, strip: up}}}", "value.strip is 'up'; allowed: left, right"),
        ("secrets: {a: {type: process, value: {command: a, trailingNewline: cr}}}", "allowed: lf, crlf"),
        ("secrets: {a: {type: script}}", "a (script): value.content is needed"),
        ("secrets: {a: {type: op, value: {vault: v, item: i}}}", "value.field is needed"),
        ("secrets: {a: {type: op-read, value: {uri: --output=x}}}", "must begin with op://"),
        ("secrets: {a: {type: random, value: {size: 1}}}", "value has no field 'size'; allowed: length"),
        ("secrets: {a: {type: random, value: {length: 0}}}", "value.length must be from 1 to"),
        ("secrets: {a: {type: random, value: {characters: aa}}}", "value.characters needs two or more"),
        ("secrets: {a: {type: random, value: {characters: ab, alphabet: hex}}}", "exclude each other"),
        ("secrets: {a: {type: ssh-keypair, value: {algorithm: dsa}}}", "allowed: ed25519, rsa"),
        ("secrets: {a: {type: sops, value: {file: f, path: []}}}", "value.path is needed"),
        ("secrets: {a: {type: plugin, value: {command: c, parameters: [1]}}}", "value.parameters must be a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(raw, why):
    with pytest.raises(ConfigError, match=re.escape(why)):
        Specification(raw.encode())


def test_fields_that_opsops_passes_over_are_passed_over_with_a_warning(folder):
    given_ = {"secrets": {"a": {**process("printf", "x", stripped="both"), "note": 1}}, "owner": "me"}
    done = run(folder, "-", given=json.dumps(given_))
    assert (done.returncode, done.stdout) == (0, "a: x\n")
    assert [line.rpartition("field ")[2].split()[0] for line in done.stderr.splitlines()] == [
        "'owner'",
        "'note'",
        "'stripped'",
    ]


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_canonical_source_is_canonical_again(name):
    needed = {
        "process": {"command": "c"},
        "script": {"content": "c"},
        "op": {"vault": "v", "item": "i", "field": "f"},
        "op-read": {"uri": "op://a/b"},
        "plugin": {"command": "c"},
        "env": {"name": "N"},
        "file": {"path": "p"},
        "sops": {"file": "f", "path": "a/b"},
    }.get(name, {})
    once = Specification(spec({"a": {"type": name, "value": needed}}).encode()).canonical()
    value = once.get("secrets").get("a").get("value")
    assert value.keys() == sorted(value.keys())
    assert set(value.keys()) <= set(SOURCES[name].fields)
    if name in OF_OPSOPS:
        assert set(SOURCES[name].fields) - set(value.keys()) <= {"passEnvironment"}
    again = SOURCES[name](Fields(value, "value", SOURCES[name].fields)).canonical()
    assert again == {key: value.get(key) for key in value.keys()}  # noqa: SIM118


def test_the_snippet_is_sorted_by_line_and_escaped_for_nix():
    secrets = Specification(
        spec({'q"${x}\\': {"type": "random"}, "a": {"k": {"type": "age-keypair"}}}).encode()
    ).secrets
    assert sops_nix(secrets) == '"a/k/private" = {};\n"a/k/public" = {};\n"q\\"\\${x}\\\\" = {};\n'
    assert sops_nix(secrets[:1], "p").splitlines()[0] == '"p/a/k/private" = { key = "a/k/private"; };'


# Sources


@given(st.text(alphabet=" \t\n\v\f\r\x1c\x85\xa0\u2003\u2028\u3000ab"), st.sampled_from(["left", "right", "both"]))
def test_strip_removes_what_haskell_calls_space_and_then_the_newline_comes(text, strip):
    fields = Branch([Entry("strip", strip), Entry("trailingNewline", "crlf")])
    found = Ending(Fields(fields, "value", Ending.FIELDS)).applied(text)
    assert found.endswith("\r\n")
    spaces = " \t\n\v\f\r\xa0\u2003\u3000"
    expected = text.lstrip(spaces) if strip != "right" else text
    assert found[:-2] == (expected.rstrip(spaces) if strip != "left" else expected)


def test_process_script_and_plugin_give_what_they_print(folder):
    asked = {"command": "cat", "parameters": {"n": 1, "list": ["ü", True, None]}}
    found = clear(
        folder,
        {
            "p": process("printf", "%s-%s", "a b", "$HOME"),
            "s": {"type": "script", "value": {"content": 'printf "%s|" "$0"; cat <<X\n "in"\nX', "strip": "both"}},
            "o": {"type": "script", "value": {"interpreter": "cat", "arguments": ["-", "-"], "content": " x "}},
            "g": {"q": {"type": "plugin", "value": asked}},
            "e": process("sh", "-c", 'printf %s "$A"', environment={"A": "of spec"}),
        },
        A="of caller",
    )
    assert found["p"] == "a b-$HOME"
    assert found["s"] == 'bash| "in"'
    assert found["o"] == " x "
    assert found["e"] == "of spec"
    assert json.loads(found["g"]["q"]) == {"version": 1, "path": ["g", "q"], "parameters": asked["parameters"]}


def test_more_than_a_pipe_holds_goes_in_and_out(folder):
    content = "x" * 300_000
    assert clear(folder, {"a": {"type": "script", "value": {"interpreter": "cat", "content": content}}}) == {
        "a": content
    }


def test_programs_see_few_variables_and_those_that_are_named():
    env = {"PATH": "/a::b:./c:/d", "HOME": "/h", "LC_ALL": "C", "SOPS_AGE_KEY": "k", "OP_TOKEN": "t", "BASH_ENV": "x"}
    run_ = Run(Host(env={**env, "AWS_A": "1", "MINE": "2"}), "", lambda _: Branch(), passed=["MINE"])
    usual = {"PATH": "/a:/d", "HOME": "/h", "LC_ALL": "C", "MINE": "2"}
    assert environment(run_, []) == usual
    assert environment(run_, ["OP_*", "AWS_A"]) == usual | {"OP_TOKEN": "t", "AWS_A": "1"}


def test_op_alone_sees_its_variables(folder):
    program(folder, "op", '#!/bin/sh\nprintf "%s" "$OP_SERVICE_ACCOUNT_TOKEN"\n')
    shell = 'printf "%s" "${OP_SERVICE_ACCOUNT_TOKEN-unset}"'
    secrets = {
        "a": {"type": "op-read", "value": {"uri": "op://v/i/f"}},
        "b": process("sh", "-c", shell),
        "c": process("sh", "-c", shell, passEnvironment=["OP_*"]),
    }
    assert clear(folder, secrets, OP_SERVICE_ACCOUNT_TOKEN="t") == {"a": "t", "b": "unset", "c": "t"}
    assert clear(folder, secrets, "--pass-env", "OP_*", OP_SERVICE_ACCOUNT_TOKEN="t")["b"] == "t"


def test_variable_file_and_another_sops_file_are_taken(folder):
    provisioned(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "f.txt").write_text(" text\n")
    (folder / "sub" / "spec.yaml").write_text(
        spec(
            {
                "e": {"type": "env", "value": {"name": "E", "strip": "right"}},
                "f": {"type": "file", "value": {"path": "f.txt", "strip": "both"}},
                "s": {"type": "sops", "value": {"file": "../out.enc.yaml", "path": "b/d"}},
                "t": {"type": "sops", "value": {"file": "../out.enc.yaml", "path": ["a"]}},
            }
        )
    )
    done = run(folder, "--key-file", "keys.txt", "sub/spec.yaml", E=" v ")
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout) == {"e": " v", "f": "text", "s": "value two", "t": "value one"}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"type": "env", "value": {"name": "NONE"}}, "x/y (env): the variable NONE is not set"),
        ({"type": "file", "value": {"path": "none"}}, "x/y (file): cannot read none: No such file"),
        ({"type": "file", "value": {"path": "bytes"}}, "x/y (file): bytes is no UTF-8"),
        ({"type": "sops", "value": {"file": "none", "path": "a"}}, "x/y (sops): cannot"),
        ({"type": "sops", "value": {"file": "out.enc.yaml", "path": "b"}}, "x/y (sops): out.enc.yaml has no single"),
        ({"type": "sops", "value": {"file": "out.enc.yaml", "path": "a/z"}}, "x/y (sops): out.enc.yaml has no single"),
        (process("no-such-program"), "x/y (process): no-such-program is not on PATH"),
        (process("./bytes"), "x/y (process): ./bytes could not be started: Permission denied"),
        (process("sh", "-c", "exit 4"), "x/y (process): sh ended with exit status 4"),
        (process("sh", "-c", "kill -9 $$"), "x/y (process): sh was ended by signal 9"),
        (process("cat", "bytes"), "x/y (process): what cat prints is no UTF-8"),
        (process("head", "-c", "2000000", "/dev/zero"), "x/y (process): it printed more than 1048576 bytes"),
        (process("echo", "a\0b"), "x/y (process): echo could not be started: a NUL"),
    ],
)
def test_what_fails_is_told_with_its_path_and_nothing_is_written(folder, source, why):
    provisioned(folder)
    (folder / "bytes").write_bytes(b"\xff\xfe")
    assert why in refused(folder, {"a": process("printf", "x"), "x": {"y": source}}, "--key-file", "keys.txt")


def test_a_damaged_sops_file_is_no_source(folder):
    raw = provisioned(folder)
    (folder / "out.enc.yaml").write_bytes(re.sub(rb"(?<=^a: ENC\[AES256_GCM,data:)....", b"AAAA", raw))
    source = {"type": "sops", "value": {"file": "out.enc.yaml", "path": "b/d"}}
    assert "x (sops): " in refused(folder, {"x": source}, "--key-file", "keys.txt")


def made(name: str, **fields: Any) -> Any:
    node = Branch([Entry(key, value) for key, value in fields.items()])
    source = SOURCES[name](Fields(node, "value", SOURCES[name].fields))
    return source.make(Run(Host(env={}, files={}), "", lambda _: Branch()), ("a",))


def test_the_page_lists_every_source_type_and_field():
    rows = [line.split(" | ") for line in (ROOT / "docs" / "provision.md").read_text().splitlines()]
    listed = {row[0].strip("| `"): set(re.findall("`([a-zA-Z]+)`", row[1])) for row in rows if row[0].startswith("| `")}
    for name in SOURCES:
        assert set(SOURCES[name].fields) - {*Ending.FIELDS, "passEnvironment"} <= listed[name]
    shared = [name for name in SOURCES if set(Ending.FIELDS) <= set(SOURCES[name].fields)]
    assert set(SOURCES) - set(shared) == {"random", "age-keypair", "ssh-keypair"}


@given(st.integers(1, 200), st.sampled_from(sorted(ALPHABETS)))
def test_a_random_text_has_its_length_and_alphabet(length, alphabet):
    found = made("random", length=length, alphabet=alphabet)
    assert len(found) == length
    assert set(found) <= set(ALPHABETS[alphabet])


def test_random_texts_use_their_whole_alphabet_and_differ():
    assert set(made("random", length=4096, characters="aü€")) == set("aü€")
    assert len({made("random") for _ in range(50)}) == 50
    assert all(len(set(alphabet)) == len(alphabet) for alphabet in ALPHABETS.values())


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa"])
def test_an_ssh_key_pair_is_one(algorithm):
    pair = made("ssh-keypair", algorithm=algorithm, comment="deploy@x")
    private = load_ssh_private_key(pair.get("private").encode(), None)
    assert pair.get("public").endswith(" deploy@x")
    assert load_ssh_public_key(pair.get("public").encode()) == private.public_key()


def test_an_age_key_pair_is_one():
    pair = made("age-keypair")
    assert recipient_of(pair.get("private")) == pair.get("public")


# Files


def test_what_is_there_is_kept_and_the_file_stays_byte_for_byte(folder):
    first = provisioned(folder)
    assert runs(folder) == 2
    assert set(decrypted(folder, "out.enc.yaml")["b"]) == {"c", "d"}
    assert provisioned(folder) == first
    (folder / "keys.txt").unlink()  # nothing to do needs no key
    done = run(folder, "-o", "out.enc.yaml", "spec.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "out.enc.yaml").read_bytes() == first
    assert runs(folder) == 2


def test_what_is_missing_is_added_and_other_ciphertexts_stay(folder):
    provisioned(folder)
    before = (folder / "out.enc.yaml").read_text().splitlines()
    wanted = json.loads((folder / "spec.json").read_text())["secrets"]
    wanted["b"]["e"] = process("counting", "three")
    (folder / "spec.json").write_text(spec(wanted))
    provisioned(folder)
    assert runs(folder) == 3
    after = (folder / "out.enc.yaml").read_text().splitlines()
    kept = before[: before.index("sops:")]
    assert next(line for line in after if line not in kept).startswith("    e: ENC[")
    assert set(kept) < set(after)


def test_renew_makes_a_secret_or_all_below_a_path_anew(folder):
    provisioned(folder)
    before = decrypted(folder, "out.enc.yaml")
    provisioned(folder, "--renew", "b/c")
    after = decrypted(folder, "out.enc.yaml")
    assert runs(folder) == 2
    assert before["b"]["c"] != after["b"]["c"]
    provisioned(folder, "--renew", '["b"]', "--renew", "a")
    assert runs(folder) == 4
    assert decrypted(folder, "out.enc.yaml")["b"]["c"] != after["b"]["c"]


def test_renewing_what_comes_out_the_same_leaves_the_file_as_it_is(folder):
    first = provisioned(folder)
    assert provisioned(folder, "--renew", "a") == first
    assert runs(folder) == 3


def test_values_without_a_source_stay_in_the_file(folder):
    provisioned(folder)
    (folder / "spec.json").write_text(spec({"new": {"type": "random"}}))
    provisioned(folder)
    assert set(decrypted(folder, "out.enc.yaml")) == {"a", "b", "new"}


@pytest.mark.parametrize("name", ["x.json", "x.env", "x.ini"])
def test_other_formats_are_written_and_completed(folder, name):
    secrets: dict[str, Any] = {"a": process("printf", "1")}
    (folder / "spec.json").write_text(spec({"s": secrets} if name == "x.ini" else secrets))
    provisioned(folder, name=name)
    secrets["b"] = {"type": "random"}
    (folder / "spec.json").write_text(spec({"s": secrets} if name == "x.ini" else secrets))
    first = provisioned(folder, name=name)
    assert provisioned(folder, name=name) == first
    found = decrypted(folder, name)
    assert set(found["s"] if name == "x.ini" else found) == {"a", "b"}


def test_a_creation_rule_says_for_whom_and_without_any_nothing_runs(folder):
    assert "no keys provided" in run(folder, "-o", "x.enc.yaml", "spec.json").stderr
    rule = f"creation_rules: [{{path_regex: 'x\\.enc\\.yaml$', encrypted_regex: '^b$', age: {RECIPIENT}}}]"
    (folder / ".sops.yaml").write_text(rule)
    assert "no matching creation rules" in run(folder, "-o", "y.yaml", "spec.json").stderr
    assert runs(folder) == 0
    done = run(folder, "-o", "x.enc.yaml", "spec.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "x.enc.yaml").read_text().startswith("a: value one\nb:\n    c: ENC[")
    done = run(folder, "--filename-override", "x.enc.yaml", "spec.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a: value one\nb:\n    c: ENC[")
    done = run(folder, "spec.json")  # a rule alone does not encrypt what goes to stdout
    assert "ENC[" not in done.stdout


def test_recipients_alone_encrypt_to_stdout(folder):
    (folder / "x.yaml").write_text(run(folder, "--age", RECIPIENT, "spec.json").stdout)
    assert decrypted(folder, "x.yaml")["a"] == "value one"


def test_other_keys_for_a_file_that_is_there_are_a_warning(folder):
    first = provisioned(folder)
    other = recipient_of("AGE-SECRET-KEY-1C0FGEHGH24A3K85GHPTZL7H6SULTAX0JSA0XE03VVUYYH0N0LZFQ0J237N")
    done = run(folder, "--age", other, "-o", "out.enc.yaml", "spec.json")
    assert done.returncode == 0
    assert "warning: out.enc.yaml keeps the keys that it has" in done.stderr
    assert (folder / "out.enc.yaml").read_bytes() == first


@pytest.mark.parametrize(
    ("secrets", "arguments", "why"),
    [
        ({"a": {"x": {"type": "random"}}}, [], "a: the file has a value where the specification has more keys"),
        ({"b": {"type": "random"}}, [], "b: the file has more keys or a list where the specification has a secret"),
        ({"a": {"type": "random"}}, ["--renew", "z"], "--renew: the specification has no secret at z"),
        ({"a": {"type": "random"}}, ["--renew", "a/b"], "--renew: the specification has no secret at a/b"),
        ({"a": {"type": "random"}}, ["--renew", "[0]"], "is no path of a specification"),
        ({"sops": {"x": {"type": "random"}}}, [], "the key sops at the top is kept for sops' metadata"),
        ({"n": {"type": "random"}}, ["--key-file", "other.txt"], "no key could unwrap the data key"),
    ],
)
def test_what_does_not_fit_the_file_is_refused_before_anything_runs(folder, secrets, arguments, why):
    first = provisioned(folder)
    (folder / "other.txt").write_text("AGE-SECRET-KEY-1C0FGEHGH24A3K85GHPTZL7H6SULTAX0JSA0XE03VVUYYH0N0LZFQ0J237N\n")
    given_ = {**secrets, "zz": process("counting")}
    assert why in refused(folder, given_, "-o", "out.enc.yaml", *arguments)
    assert runs(folder) == 2
    assert (folder / "out.enc.yaml").read_bytes() == first


def test_half_a_key_pair_is_never_overwritten_unasked(folder):
    (folder / "spec.json").write_text(spec({"k": {"private": process("printf", "mine")}}))
    provisioned(folder)
    (folder / "spec.json").write_text(spec({"k": {"type": "age-keypair"}}))
    assert "k: of private and public the file has only one" in run(folder, "-o", "out.enc.yaml", "spec.json").stderr
    provisioned(folder, "--renew", "k")
    found = decrypted(folder, "out.enc.yaml")["k"]
    assert recipient_of(found["private"]) == found["public"]


def test_a_file_that_is_not_encrypted_is_left_alone(folder):
    (folder / "plain.yaml").write_text("a: 1\n")
    done = run(folder, "--age", RECIPIENT, "-o", "plain.yaml", "spec.json")
    assert done.returncode == 1
    assert "plain.yaml is there, and not encrypted" in done.stderr
    assert (folder / "plain.yaml").read_text() == "a: 1\n"
    assert runs(folder) == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-o", "-"], "--output needs a file"),
        (["--renew", "a"], "--renew needs --output"),
        (["--list", "--dry-run"], "cannot use both"),
        (["--format", "yaml", "--list"], "--format is one of table, json"),
        (["--prefix", "p"], "--prefix is for the snippet"),
        (["-o", "x.bin", "--age", RECIPIENT], "x.bin would be one value"),
        (["--output-type", "binary"], "--output-type is one of yaml"),
        (["--input", "spec.json"], "one specification is needed"),
    ],
)
def test_flags_that_do_not_fit_are_refused(folder, arguments, why):
    done = run(folder, *arguments, "spec.json")
    assert done.returncode != 0
    assert why in done.stderr
    assert runs(folder) == 0


# What would run, and where everything comes from


def test_dry_run_and_list_start_nothing(folder):
    done = run(folder, "--dry-run", "spec.json")
    assert done.stdout == (
        "secret  action  type     from\n"
        "a       make    process  counting one\n"
        "b/c     make    random   32 of alphanumeric\n"
        "b/d     make    process  counting two\n"
    )
    assert run(folder, "--list", "spec.json").stdout.splitlines()[1] == "a       process  counting one"
    assert runs(folder) == 0


def test_with_a_file_the_list_says_what_is_kept_and_what_has_no_source(folder):
    provisioned(folder)
    (folder / "spec.json").write_text(spec({"a": process("counting"), "n": {"type": "age-keypair"}}))
    listed = run(folder, "--list", "-o", "out.enc.yaml", "--renew", "a", "spec.json").stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["a", "renew", "process"],
        ["n", "make", "age-keypair"],
        ["b/c", "keep", "-"],
        ["b/d", "keep", "-"],
    ]
    found = json.loads(run(folder, "--dry-run", "--format", "json", "-o", "out.enc.yaml", "spec.json").stdout)
    assert found["withoutSource"] == [["b", "c"], ["b", "d"]]
    assert found["secrets"][1] == {
        "path": ["n"],
        "places": [["n", "private"], ["n", "public"]],
        "type": "age-keypair",
        "from": "a new X25519 key",
        "action": "make",
    }
    assert runs(folder) == 2


def test_an_empty_value_is_a_warning(folder):
    done = run(folder, "-", given=spec({"a": {"b": process("true")}}))
    assert (done.returncode, yaml.safe_load(done.stdout)) == (0, {"a": {"b": ""}})
    assert done.stderr == "krm-sops: warning: a/b (process): the value is empty\n"


def test_the_policy_can_forbid_the_programs():
    host = Host(env={"PATH": "/bin:/usr/bin"}, commands=("gpg",))
    node = Branch([Entry("command", "true")])
    source = SOURCES["process"](Fields(node, "value", ("command",)))
    with pytest.raises(KrmSopsError, match="the operator's policy does not list provision under executables"):
        source.make(Run(host, "", lambda _: Branch()), ("a",))
    host.commands = ("provision",)
    assert source.make(Run(host, "", lambda _: Branch()), ("a",)) == ""
