"""A specification in the form of opsops's own example, with fakes of the programs that it names, beside real programs.

What is expected follows from opsops 0.0.9: README.md (render, normalize, snippet), src/Opsops/Render.hs (the arguments
of op; strip, then the newline), src/Opsops/Nix.hs. The specification and the values are our own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.agefile import IDENTITY, recipient_of

ROOT = Path(__file__).resolve().parents[2]
PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SPEC = """\
## An own specification, of the same form
secrets:
  shop:
    licence:
      type: "process"
      value:
        command: "licence-server"
        arguments: ["--customer", "4711"]
        strip: "both"
        trailingNewline: "crlf"
  forge:
    token:
      type: "script"
      value:
        content: 'printf "%s" "$(forge-cli auth token)"'
  example.net:
    password:
      type: "script"
      value:
        interpreter: "python3"
        content: |
          import os
          import sys

          sys.stdout.write("for " + os.environ["USER"])
  mail:
    user:
      type: "op"
      value:
        vault: "Team Vault"
        item: "q7mail"
        section: "SMTP"
        field: "username"
        newline: true
    password:
      type: "op"
      value:
        account: "ACCOUNT1"
        vault: "Team Vault"
        item: "q7mail"
        field: "password"
  metrics:
    token:
      type: "op-read"
      value:
        account: "ACCOUNT2"
        uri: "op://Team Vault/q8metrics/API Tokens/write-only"
"""
OP = """#!{python} -IS
import json, os, sys
known = {{
    ("read", "op://Team Vault/q7mail/SMTP/username"): "postmaster\\n",
    ("--account", "ACCOUNT1", "read", "--no-newline", "op://Team Vault/q7mail/password"): "mail password",
    ("--account", "ACCOUNT2", "read", "--no-newline", "op://Team Vault/q8metrics/API Tokens/write-only"): "a token",
}}
if os.environ.get("OP_SESSION") != "signed in" or not os.environ.get("HOME"):
    sys.exit("not signed in")
if tuple(sys.argv[1:]) not in known:
    sys.exit("no such item: " + json.dumps(sys.argv[1:]))
sys.stdout.write(known[tuple(sys.argv[1:])])
"""
CLEAR = {
    "example.net": {"password": "for alice"},
    "forge": {"token": "forge token"},
    "mail": {"password": "mail password", "user": "postmaster\n"},
    "metrics": {"token": "a token"},
    "shop": {"licence": "licence --customer 4711\r\n"},
}
CANONICAL = """\
secrets:
  example.net:
    password:
      type: script
      value:
        arguments: []
        content: |
          import os
          import sys

          sys.stdout.write("for " + os.environ["USER"])
        interpreter: python3
        strip: null
        trailingNewline: null
  forge:
    token:
      type: script
      value:
        arguments: []
        content: printf "%s" "$(forge-cli auth token)"
        interpreter: bash
        strip: null
        trailingNewline: null
  mail:
    password:
      type: op
      value:
        account: ACCOUNT1
        field: password
        item: q7mail
        newline: false
        section: null
        strip: null
        trailingNewline: null
        vault: Team Vault
    user:
      type: op
      value:
        account: null
        field: username
        item: q7mail
        newline: true
        section: SMTP
        strip: null
        trailingNewline: null
        vault: Team Vault
  metrics:
    token:
      type: op-read
      value:
        account: ACCOUNT2
        newline: false
        strip: null
        trailingNewline: null
        uri: op://Team Vault/q8metrics/API Tokens/write-only
  shop:
    licence:
      type: process
      value:
        arguments:
          - --customer
          - "4711"
        command: licence-server
        environment: {}
        strip: both
        trailingNewline: crlf
"""
SNIPPET = """\
"example.net/password" = {};
"forge/token" = {};
"mail/password" = {};
"mail/user" = {};
"metrics/token" = {};
"shop/licence" = {};
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    programs = {
        "op": OP.format(python=sys.executable),
        "licence-server": "#!/bin/sh\nprintf ' \\t licence %s\\n\\n' \"$*\"\n",
        "forge-cli": "#!/bin/sh\necho 'forge token'\n",
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "opsops.yaml").write_text(SPEC)
    (tmp_path / "key.txt").write_text(IDENTITY + "\n")
    return tmp_path


def run(folder: Path, *argv: str) -> str:
    env = {"PATH": f"{folder}/bin:{PATH}", "HOME": str(folder), "USER": "alice", "OP_SESSION": "signed in"}
    env |= {"PYTHONPATH": str(ROOT), "SOPS_AGE_KEY_FILE": str(folder / "key.txt")}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def provision(folder: Path, *arguments: str) -> str:
    return run(folder, sys.executable, "-m", "krm_sops", "provision", *arguments)


def test_a_specification_of_opsops_renders_as_opsops_does(folder):
    rendered = provision(folder, "--input", "opsops.yaml")
    assert yaml.safe_load(rendered) == CLEAR
    assert list(yaml.safe_load(rendered)) == sorted(CLEAR)
    assert rendered.startswith("example.net:\n  password: for alice\nforge:\n  token: forge token\n")


def test_it_is_normalized_as_opsops_does_and_stays_so(folder):
    assert provision(folder, "normalize", "opsops.yaml") == CANONICAL
    (folder / "opsops.yaml").write_text(CANONICAL)
    assert provision(folder, "normalize", "opsops.yaml") == CANONICAL
    assert yaml.safe_load(provision(folder, "opsops.yaml")) == CLEAR


def test_the_snippet_for_sops_nix_is_that_of_opsops(folder):
    assert provision(folder, "snippet", "sops-nix", "-i", "opsops.yaml") == SNIPPET
    prefixed = provision(folder, "snippet", "sops-nix", "opsops.yaml", "--prefix", "shop_1").splitlines()
    assert prefixed[0] == '"shop_1/example.net/password" = { key = "example.net/password"; };'
    assert prefixed[5] == '"shop_1/shop/licence" = { key = "shop/licence"; };'


def test_json_is_a_specification_too(folder):
    (folder / "opsops.json").write_text(json.dumps(yaml.safe_load(SPEC)))
    assert provision(folder, "normalize", "opsops.json") == CANONICAL


def test_the_real_sops_decrypts_what_was_provisioned(folder):
    if shutil.which("sops", path=PATH) is None:
        pytest.skip("sops is not installed")
    for name, load in {"a.enc.yaml": yaml.safe_load, "a.enc.json": json.loads}.items():
        provision(folder, "--age", recipient_of(IDENTITY), "-o", name, "opsops.yaml")
        assert load(run(folder, "sops", "decrypt", name)) == CLEAR


def test_what_the_real_sops_encrypted_is_completed(folder):
    if shutil.which("sops", path=PATH) is None:
        pytest.skip("sops is not installed")
    (folder / "a.enc.yaml").write_text("# ours\nforge:\n    # a comment\n    token: kept\nport: 8080\n")
    run(folder, "sops", "encrypt", "--age", recipient_of(IDENTITY), "-i", "a.enc.yaml")
    provision(folder, "-o", "a.enc.yaml", "opsops.yaml")
    whole = run(folder, "sops", "decrypt", "a.enc.yaml")
    assert yaml.safe_load(whole) == {**CLEAR, "forge": {"token": "kept"}, "port": 8080}
    assert whole.startswith("# ours\nforge:\n    # a comment\n    token: kept\nport: 8080\n")


def test_ssh_and_age_programs_take_the_key_pairs(folder):
    if None in (shutil.which("ssh-keygen"), shutil.which("age-keygen", path=PATH)):
        pytest.skip("ssh-keygen or age-keygen is not installed")
    pairs = {
        **{
            name: {"type": "ssh-keypair", "value": {"algorithm": name, "comment": "deploy"}}
            for name in ("ed25519", "rsa")
        },
        "age": {"type": "age-keypair"},
    }
    (folder / "pairs.json").write_text(json.dumps({"secrets": pairs}))
    made = yaml.safe_load(provision(folder, "pairs.json"))
    for name in ("ed25519", "rsa"):
        (folder / name).write_text(made[name]["private"])
        (folder / name).chmod(0o600)
        public = run(folder, "ssh-keygen", "-y", "-f", name)
        assert public.split()[:2] == made[name]["public"].split()[:2]
    (folder / "age").write_text(made["age"]["private"] + "\n")
    assert run(folder, "age-keygen", "-y", "age").strip() == made["age"]["public"]
