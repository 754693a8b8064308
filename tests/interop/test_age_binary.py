"""Against the real age and sops: what they wrap, we unwrap; what they refuse, we refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from krm_sops.age import AgeError, bech32
from krm_sops.age.format import dearmor, decrypt
from krm_sops.age.hybrid import HybridIdentity
from krm_sops.age.identities import Reader
from krm_sops.age.plugin import PluginIdentity
from krm_sops.age.ssh_ed25519 import age_recipient
from krm_sops.age.x25519 import X25519Identity
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import DataKeyError, WrongKey
from krm_sops.host import Host
from krm_sops.keys.age import AgeKey
from krm_sops.keys.age_programs import plugin_starter
from tests.agefile import FILE_KEY, IDENTITY, armor, for_recipient, make, recipient_of, stanza

if TYPE_CHECKING:
    from pathlib import Path

PATH = os.environ.get("PATH", "") + ":" + os.path.expanduser("~/go/bin")
DATA_KEY = bytes(range(32))


def tool(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"no {name}")
    return found


def run(name: str, *arguments: str, stdin: bytes = b"", **env: str) -> bytes:
    command = [tool(name), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True, env={"PATH": PATH, **env}).stdout


def keygen(*arguments: str) -> tuple[str, str]:
    """An identity file and its recipient."""
    text = run("age-keygen", *arguments).decode()
    return text, run("age-keygen", "-y", stdin=text.encode()).decode().strip()


def wrap(recipient: str, *more: str) -> str:
    others = [argument for other in more for argument in ("-r", other)]
    return run("age", "-a", "-r", recipient, *others, stdin=DATA_KEY).decode()


def unwrap(recipient: str, enc: str, identity: bytes | str, **host: Any) -> bytes:
    data = identity if isinstance(identity, bytes) else identity.encode()
    credentials = Credentials(Host(env={}, files={}, **host), [KeyEntry("age", "k.agekey", data, "test")])
    return AgeKey.from_fields({"recipient": recipient, "enc": enc}).unwrap(credentials)


@pytest.mark.parametrize("arguments", [[], ["-pq"]], ids=["x25519", "post-quantum"])
def test_a_native_identity_opens_what_age_wraps(arguments: list[str]) -> None:
    identity, recipient = keygen(*arguments)
    other, other_recipient = keygen(*arguments)
    assert unwrap(recipient, wrap(recipient), identity) == DATA_KEY
    assert unwrap("", wrap(other_recipient, recipient), identity) == DATA_KEY
    with pytest.raises(WrongKey):
        unwrap(recipient, wrap(recipient), other)


@pytest.mark.parametrize(("arguments", "kind"), [([], X25519Identity), (["-pq"], HybridIdentity)])
def test_recipients_are_derived_as_age_derives_them(arguments: list[str], kind: Any) -> None:
    text, recipient = keygen(*arguments)
    assert kind.parse(text.splitlines()[-1]).recipient == recipient


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_payloads_of_any_size_are_read_as_age_writes_them(size: int) -> None:
    text, recipient = keygen()
    content = os.urandom(size)
    raw = run("age", "-r", recipient, stdin=content)
    assert decrypt(raw, Reader().read(text.encode(), "test"), 1 << 20) == content


SSH_KEYS = {
    "ssh-ed25519": Ed25519PrivateKey.generate(),
    "ssh-rsa": generate_private_key(65537, 3072),
}


def ssh_line(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@pytest.mark.parametrize("kind", SSH_KEYS)
def test_an_ssh_key_opens_what_age_wraps(kind: str) -> None:
    key = SSH_KEYS[kind]
    line = ssh_line(key) + " me@host"
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert unwrap(line, wrap(line), data) == DATA_KEY
    assert unwrap("", wrap(line), data) == DATA_KEY
    with pytest.raises(WrongKey):
        unwrap(line, wrap(line), keygen()[0])


@pytest.mark.parametrize("kind", SSH_KEYS)
def test_a_protected_ssh_key_opens_what_age_wraps(kind: str) -> None:
    pytest.importorskip("bcrypt")
    key = SSH_KEYS[kind]
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"secret"))
    assert unwrap("", wrap(ssh_line(key)), data, ask=lambda _: "secret") == DATA_KEY


@pytest.mark.parametrize("passphrase", ["", "secret"], ids=["plain", "protected"])
@pytest.mark.parametrize(
    "options",
    [["-t", "ed25519"], ["-t", "rsa"], ["-t", "rsa", "-m", "PEM"], ["-t", "rsa", "-m", "PKCS8"]],
    ids=["ed25519", "rsa", "rsa-pem", "rsa-pkcs8"],
)
def test_a_key_that_ssh_keygen_writes_is_read(options: list[str], passphrase: str, tmp_path: Path) -> None:
    if passphrase and "-m" not in options:
        pytest.importorskip("bcrypt")
    path = tmp_path / "id"
    run("ssh-keygen", "-q", *options, "-C", "me@host", "-N", passphrase, "-f", str(path))
    line = (tmp_path / "id.pub").read_text().strip()
    host = Host(env={"SOPS_AGE_SSH_PRIVATE_KEY_FILE": str(path)}, ask=(lambda _: passphrase) if passphrase else None)
    assert AgeKey.from_fields({"recipient": line, "enc": wrap(line)}).unwrap(Credentials(host)) == DATA_KEY


def test_an_ssh_key_opens_what_age_wraps_for_its_native_recipient() -> None:
    key = SSH_KEYS["ssh-ed25519"]
    recipient = age_recipient(key.public_key().public_bytes_raw())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert unwrap(recipient, wrap(recipient), data) == DATA_KEY


def with_passphrase(content: bytes, *options: str, work: str = "10") -> bytes:
    tool("age-plugin-batchpass")
    env = {"AGE_PASSPHRASE": "secret", "AGE_PASSPHRASE_WORK_FACTOR": work}
    return run("age", "-e", "-j", "batchpass", *options, stdin=content, **env)


@pytest.mark.parametrize("options", [[], ["-a"]], ids=["binary", "armored"])
def test_an_identity_file_that_age_protects_is_opened(options: list[str]) -> None:
    text, recipient = keygen()
    data = with_passphrase(text.encode(), *options)
    assert unwrap(recipient, wrap(recipient), data, ask=lambda _: "secret") == DATA_KEY
    with pytest.raises(DataKeyError, match="wrong passphrase"):
        unwrap(recipient, wrap(recipient), data, ask=lambda _: "other")
    with pytest.raises(DataKeyError, match="nobody to ask"):
        unwrap(recipient, wrap(recipient), data)


def test_a_real_plugin_is_talked_to() -> None:
    """age-plugin-batchpass: it sees an scrypt stanza and answers with the file key."""
    raw = with_passphrase(DATA_KEY)
    identity = bech32.encode("AGE-PLUGIN-BATCHPASS-", b"").upper()
    host = Host(env={"PATH": PATH, "AGE_PASSPHRASE": "secret"})
    assert decrypt(raw, [PluginIdentity(identity, plugin_starter(host), None)], 100) == DATA_KEY
    wrong = Host(env={"PATH": PATH, "AGE_PASSPHRASE": "other"})
    with pytest.raises(AgeError):
        decrypt(raw, [PluginIdentity(identity, plugin_starter(wrong), None)], 100)


def test_s15_a_hostile_plugin_name_starts_nothing(tmp_path: Path) -> None:
    """A fake program lies where the name points to from a folder on PATH."""
    (tmp_path / "bin" / "age-plugin-..").mkdir(parents=True)
    program = tmp_path / "x"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'marker'}\n")
    program.chmod(0o755)
    identity = bech32.encode("AGE-PLUGIN-../../X-", b"").upper()
    host = {"env": {"PATH": f"{tmp_path / 'bin'}:{PATH}"}, "commands": True}
    credentials = Credentials(Host(files={}, **host), [KeyEntry("age", "k", identity.encode(), "test")])  # type: ignore[arg-type]
    enc = armor(make([for_recipient(recipient_of(IDENTITY))], DATA_KEY)).decode()
    with pytest.raises(DataKeyError, match="only have a-z, 0-9 and hyphens"):
        AgeKey.from_fields({"recipient": "", "enc": enc}).unwrap(credentials)
    assert not (tmp_path / "marker").exists()


GOOD = armor(make([for_recipient(recipient_of(IDENTITY))], DATA_KEY)).decode()
MINE = for_recipient(recipient_of(IDENTITY))


@pytest.mark.parametrize(
    ("enc", "accepted"),
    [
        (GOOD, True),
        ("\n\n" + GOOD + "\n \t\n", True),
        (GOOD.replace("\n", "\r\n"), True),
        (armor(make([stanza("grease", ["a", "b"], bytes(48)), MINE], DATA_KEY)).decode(), True),
        (armor(make([MINE], b"")).decode(), True),
        (GOOD + "x", False),
        (" " + GOOD, False),
        (GOOD.rstrip() + " \n", False),
        (GOOD.replace("\n", "\n\n", 1), False),
        (GOOD.replace("=", ""), False),
        (armor(make([MINE], DATA_KEY, mac_key=bytes(16))).decode(), False),
        (armor(make([for_recipient(recipient_of(IDENTITY), FILE_KEY * 2)], DATA_KEY)).decode(), False),
        (armor(make([stanza("X25519", ["QQ=="], bytes(32)), MINE], DATA_KEY)).decode(), False),
        (armor(make([MINE], DATA_KEY)[:-1]).decode(), False),
    ],
)
def test_sops_and_age_key_agree_on_what_is_an_age_file(enc: str, accepted: bool, tmp_path: Path) -> None:
    """Only whether it opens is compared: `age` for an armored file is what sops runs on `enc`."""
    (tmp_path / "key").write_text(IDENTITY + "\n")
    command = [tool("age"), "-d", "-i", str(tmp_path / "key")]
    theirs = subprocess.run(command, input=enc.encode(), capture_output=True, check=False)
    try:
        ours: bytes | None = unwrap(recipient_of(IDENTITY), enc, IDENTITY)
    except DataKeyError:
        ours = None
    assert (theirs.returncode == 0, ours is not None) == (accepted, accepted)
    if accepted:
        assert ours == theirs.stdout


@pytest.mark.parametrize("arguments", [[], ["-pq"]], ids=["x25519", "post-quantum"])
def test_a_document_that_sops_encrypts_has_a_data_key_of_32_bytes(arguments: list[str], tmp_path: Path) -> None:
    import json

    identity, recipient = keygen(*arguments)
    (tmp_path / "plain.json").write_text('{"a": "b"}')
    encrypted = run("sops", "encrypt", "--age", recipient, str(tmp_path / "plain.json"), HOME=str(tmp_path))
    (entry,) = json.loads(encrypted)["sops"]["age"]
    assert len(unwrap(entry["recipient"], entry["enc"], identity)) == 32


def test_dearmored_output_of_age_is_its_binary_output() -> None:
    _, recipient = keygen()
    assert dearmor(wrap(recipient).encode()).startswith(b"age-encryption.org/v1\n-> X25519 ")
