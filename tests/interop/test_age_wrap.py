"""What we wrap for every type of age recipient, the real age and sops open, and we do ourselves."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from krm_sops.age import RecipientError, bech32, keygen
from krm_sops.age.encrypting import armored, encrypt
from krm_sops.age.recipients import parse
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.keys.age import AgeKey
from tests.interop.test_age_binary import PATH, run, tool

if TYPE_CHECKING:
    from pathlib import Path

DATA_KEY = bytes(range(32))
KINDS = ("x25519", "hybrid", "ssh-ed25519", "ssh-rsa")


def made(kind: str, folder: Path) -> tuple[str, Path]:
    """A recipient, and the file that holds its identity."""
    file = folder / "key"
    if kind.startswith("ssh"):
        argv = [
            "ssh-keygen",
            "-q",
            "-t",
            kind.removeprefix("ssh-"),
            "-N",
            "",
            "-C",
            "me@here, or there",
            "-f",
            str(file),
        ]
        tool("ssh-keygen")
        subprocess.run(argv, check=True)
        return file.with_suffix(".pub").read_text().strip(), file
    recipient, secret = keygen.generate(post_quantum=kind == "hybrid")
    file.write_text(secret + "\n")
    return recipient, file


def wrapped(recipient: str, **host: object) -> AgeKey:
    return AgeKey(recipient, "").wrap(DATA_KEY, Credentials(Host(env={}, files={}, **host)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_age_opens_what_we_wrap_and_so_do_we(kind: str, tmp_path: Path) -> None:
    recipient, file = made(kind, tmp_path)
    key = wrapped(recipient)
    assert key.fields() == {"recipient": recipient, "enc": key.enc}
    assert run("age", "-d", "-i", str(file), stdin=key.enc.encode()) == DATA_KEY
    entry = KeyEntry("age", "key", file.read_bytes(), "test")
    assert key.unwrap(Credentials(Host(env={}, files={}), [entry])) == DATA_KEY


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_spelled_as_sops_spells_it(kind: str, tmp_path: Path) -> None:
    """The same lines of the same lengths, the same stanza, an LF at the end."""
    recipient = made(kind, tmp_path)[0].replace(",", "")  # which separates recipients
    plain = tmp_path / "plain.json"
    plain.write_text("{}")
    theirs = run("sops", "encrypt", "--age", recipient, str(plain), HOME=str(tmp_path))
    entry = json.loads(theirs)["sops"]["age"][0]
    key = wrapped(recipient)
    assert entry["recipient"] == key.recipient
    assert [len(line) for line in entry["enc"].split("\n")] == [len(line) for line in key.enc.split("\n")]


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 131072])
def test_age_opens_files_of_any_length(size: int, tmp_path: Path) -> None:
    recipient, secret = keygen.generate()
    (tmp_path / "key").write_text(secret)
    file = encrypt(b"x" * size, parse(recipient))
    assert run("age", "-d", "-i", str(tmp_path / "key"), stdin=file) == b"x" * size
    assert run("age", "-d", "-i", str(tmp_path / "key"), stdin=armored(file)) == b"x" * size


def test_age_keygen_knows_our_keys() -> None:
    for post_quantum in (False, True):
        recipient, secret = keygen.generate(post_quantum=post_quantum)
        assert run("age-keygen", "-y", stdin=secret.encode()).decode().strip() == recipient


@pytest.mark.parametrize(
    "recipient",
    [
        *(
            "",
            "age1",
            "age1qqqq",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-dss AAAAB3NzaC1kc3MAAAA",
            "pgp:abc",
            "AGE1ABC",
        ),
        "age1pq1qqqqqq",
        "age1" + "q" * 58,
        # of low order: the secret would be all zero
        "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq3p5hh7",
        "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0",
        "age1Yubikey1qqqq",
    ],
)
def test_what_sops_refuses_as_a_recipient_we_refuse(recipient: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain.json"
    plain.write_text("{}")
    command = [tool("sops"), "encrypt", f"--age={recipient}", str(plain)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env={"PATH": PATH})
    assert done.returncode == 1
    credentials = Credentials(Host(env={}, files={}))
    with pytest.raises((RecipientError, KeyUnavailable)) as caught:
        [key.wrap(DATA_KEY, credentials) for key in AgeKey.from_list(recipient or ",", {})]
    assert "SECRET-KEY" not in str(caught.value)


def test_rsa_below_2048_bits_is_refused(tmp_path: Path) -> None:
    argv = [tool("ssh-keygen"), "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(tmp_path / "key")]
    if subprocess.run(argv, check=False, capture_output=True).returncode:
        pytest.skip("this ssh-keygen makes no small keys")
    with pytest.raises(RecipientError, match="1024 bits"):
        parse((tmp_path / "key.pub").read_text().strip())


def test_an_ssh_point_that_is_on_no_curve_is_refused() -> None:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes([2]) + bytes(31)
    with pytest.raises(RecipientError, match="no point"):
        parse("ssh-ed25519 " + base64.b64encode(blob).decode())


PLUGIN = """\
#!{python} -I
# Wraps to the file key in the clear, as a protocol test may.
import sys
def received():
    lines = [sys.stdin.readline()]
    while True:
        lines.append(sys.stdin.readline())
        if len(lines[-1]) < 65:
            return "".join(lines)
def say(head, body=""):
    print("-> " + head + "\\n" + body, flush=True)
got = []
while not got or got[-1] != "-> done\\n\\n":
    got.append(received())
if sys.argv[1] == "--age-plugin=recipient-v1":
    key = next(g for g in got if g.startswith("-> wrap-file-key")).split("\\n")[1]
    {script}
else:
    key = next(g for g in got if "clear" in g.split("\\n")[0]).split("\\n")[1]
    say("file-key 0", key); received()
say("done")
"""
WRAP = 'say("recipient-stanza 0 clear arg", key); received(); say("labels x"); received()'


def plugin(folder: Path, script: str) -> Host:
    program = folder / "age-plugin-clear"
    program.write_text(PLUGIN.format(python=sys.executable, script=script))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Host(env={"PATH": str(folder)}, files={}, commands=True)


def test_a_plugin_wraps_and_age_opens_with_the_same_plugin(tmp_path: Path) -> None:
    recipient = bech32.encode("age1clear", b"x")
    key = AgeKey(recipient, "").wrap(DATA_KEY, Credentials(plugin(tmp_path, WRAP)))
    (tmp_path / "id").write_text(bech32.encode("AGE-PLUGIN-CLEAR-", b"x").upper() + "\n")
    opened = run("age", "-d", "-i", str(tmp_path / "id"), stdin=key.enc.encode(), PATH=f"{tmp_path}:{PATH}")
    assert opened == DATA_KEY


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("say('error internal', 'Ym9vbQ'); received()", "boom"),
        ("pass", "without a stanza"),
        ("say('recipient-stanza 1 clear', key); received()", "malformed stanza"),
        ("say('recipient-stanza 0', key); received()", "malformed stanza"),
        ("sys.exit(3)", "went away"),
    ],
)
def test_a_plugin_that_fails_is_told(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(KeyUnavailable, match=said):
        AgeKey(bech32.encode("age1clear", b"x"), "").wrap(DATA_KEY, Credentials(plugin(tmp_path, script)))


def test_s15_no_plugin_is_started_where_programs_may_not_be() -> None:
    with pytest.raises(KeyUnavailable, match="in the sops verbs only"):
        wrapped(bech32.encode("age1clear", b"x"))
    for name in ("../../x", "a b", "x+y"):
        with pytest.raises(RecipientError):
            parse(bech32.encode(f"age1{name}", b"x"))
