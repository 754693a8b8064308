"""What the gpg of this machine encrypts opens without it, and with it where it may be asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable, WrongKey
from krm_sops.host import Host
from krm_sops.keys.pgp import PgpKey

if TYPE_CHECKING:
    from collections.abc import Iterator

GPG = shutil.which("gpg")
pytestmark = pytest.mark.skipif(GPG is None, reason="no gpg")

DATA_KEY = b"\r\n\0\x1a" + bytes(range(228, 256))
PASSPHRASE = "correct horse"
ALGORITHMS = ("rsa2048", "rsa4096", "cv25519", "nistp256", "nistp384", "nistp521", "brainpoolP256r1")


class Gnupg:
    def __init__(self, home: str) -> None:
        self.home = home
        self.env = {"GNUPGHOME": home, "PATH": os.environ["PATH"], "HOME": home, "LANG": "C"}
        self.fingerprints: dict[str, str] = {}

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        assert GPG is not None
        argv = [GPG, "--batch", "--quiet", "--trust-model", "always", "--pinentry-mode", "loopback", *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, env=self.env, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, algorithm: str, passphrase: str = "") -> str:
        """The fingerprint of a key whose encryption subkey has this algorithm; made on the first call."""
        name = f"{algorithm} {passphrase}"
        if name not in self.fingerprints:
            signing = "rsa2048" if algorithm.startswith("rsa") else "ed25519"
            with_passphrase = ("--passphrase", passphrase)
            self.run(*with_passphrase, "--quick-gen-key", f"{name} <{algorithm}@x>", signing, "sign,cert", "0")
            listing = self.run("--with-colons", "--list-keys", f"={name} <{algorithm}@x>").decode()
            primary = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
            self.run(*with_passphrase, "--quick-add-key", primary, algorithm, "encr", "0")
            self.fingerprints[name] = primary
        return self.fingerprints[name]

    def secret(self, fingerprint: str, *arguments: str) -> bytes:
        return self.run(*arguments, "--export-secret-keys", fingerprint)

    def encrypt(self, fingerprint: str, *arguments: str) -> PgpKey:
        recipient = () if "--hidden-recipient" in arguments else ("--recipient", fingerprint)
        enc = self.run("--armor", *recipient, *arguments, "--encrypt", stdin=DATA_KEY)
        return PgpKey.from_fields({"fp": fingerprint, "enc": enc.decode()})


@pytest.fixture(scope="module")
def gnupg() -> Iterator[Gnupg]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg") as home:  # short: the agent's socket is in it
        os.chmod(home, 0o700)
        (Path(home) / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
        made = Gnupg(home)
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], env=made.env, check=False, capture_output=True)


def credentials(*rings: bytes, host: Host | None = None) -> Credentials:
    return Credentials(host or Host(env={}, files={}), [KeyEntry("pgp", "key.asc", ring, "test") for ring in rings])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("hidden", [False, True], ids=["named", "hidden"])
@pytest.mark.parametrize("armored", [False, True], ids=["binary", "armored"])
def test_every_algorithm_opens(gnupg: Gnupg, algorithm: str, hidden: bool, armored: bool) -> None:
    fingerprint = gnupg.key(algorithm)
    ring = gnupg.secret(fingerprint, *(["--armor"] if armored else []))
    how = ("--hidden-recipient", fingerprint) if hidden else ()
    assert gnupg.encrypt(fingerprint, *how).unwrap(credentials(ring)) == DATA_KEY


@pytest.mark.parametrize(
    "options",
    [
        ("--compress-algo", "none"),
        ("--compress-algo", "zip"),
        ("--compress-algo", "zlib"),
        ("--compress-algo", "bzip2"),
        ("--cipher-algo", "3DES"),
        ("--cipher-algo", "CAST5"),
        ("--cipher-algo", "AES"),
        ("--cipher-algo", "AES192"),
        ("--cipher-algo", "CAMELLIA128"),
        ("--cipher-algo", "CAMELLIA192"),
        ("--cipher-algo", "CAMELLIA256"),
        ("--set-filename", "key.bin"),
        ("--for-your-eyes-only",),
        ("--no-emit-version", "--comment", "a: b"),
        ("--throw-keyids",),
        ("--force-mdc", "--disable-cipher-algo", "AES256"),
    ],
    ids=" ".join,
)
def test_every_way_to_encrypt_opens(gnupg: Gnupg, options: tuple[str, ...]) -> None:
    fingerprint = gnupg.key("cv25519")
    assert gnupg.encrypt(fingerprint, *options).unwrap(credentials(gnupg.secret(fingerprint))) == DATA_KEY


def test_a_signed_message_opens_whoever_signed_it(gnupg: Gnupg) -> None:
    fingerprint = gnupg.key("cv25519")
    signed = gnupg.encrypt(fingerprint, "--sign", "--local-user", gnupg.key("rsa2048"))
    assert signed.unwrap(credentials(gnupg.secret(fingerprint))) == DATA_KEY


def test_a_text_mode_message_gives_the_bytes_that_are_in_it(gnupg: Gnupg) -> None:
    """gpg itself would drop every carriage return of it again; sops never encrypts in this mode."""
    fingerprint = gnupg.key("cv25519")
    given = gnupg.encrypt(fingerprint, "--textmode").unwrap(credentials(gnupg.secret(fingerprint)))
    assert given.replace(b"\r", b"") == DATA_KEY.replace(b"\r", b"")


def test_several_recipients_and_rings_of_several_keys_open(gnupg: Gnupg) -> None:
    one, two, other = gnupg.key("rsa2048"), gnupg.key("cv25519"), gnupg.key("nistp256")
    both = gnupg.encrypt(one, "--recipient", two)
    ring = gnupg.secret(other, "--armor") + gnupg.run("--armor", "--export", one) + gnupg.secret(two, "--armor")
    assert both.unwrap(credentials(ring)) == DATA_KEY
    assert both.unwrap(credentials(gnupg.secret(one))) == DATA_KEY
    with pytest.raises(WrongKey, match="1 at hand"):
        both.unwrap(credentials(gnupg.secret(other)))


@pytest.mark.parametrize("algorithm", ["rsa2048", "cv25519", "nistp256"])
def test_a_protected_export_opens_with_its_passphrase(gnupg: Gnupg, algorithm: str) -> None:
    fingerprint = gnupg.key(algorithm, PASSPHRASE)
    ring = gnupg.secret(fingerprint, "--passphrase", PASSPHRASE)
    sealed = gnupg.encrypt(fingerprint)
    asked = credentials(ring, host=Host(env={}, files={}, ask=lambda prompt: PASSPHRASE))
    assert sealed.unwrap(asked) == DATA_KEY
    with pytest.raises(KeyUnavailable, match="protected by a passphrase"):
        sealed.unwrap(credentials(ring))


def test_an_export_of_subkeys_only_opens(gnupg: Gnupg) -> None:
    fingerprint = gnupg.key("cv25519")
    ring = gnupg.run("--export-secret-subkeys", fingerprint)
    assert gnupg.encrypt(fingerprint).unwrap(credentials(ring)) == DATA_KEY


def test_symmetric_and_unprotected_messages_are_refused(gnupg: Gnupg) -> None:
    fingerprint = gnupg.key("cv25519")
    given = credentials(gnupg.secret(fingerprint))
    with pytest.raises(KeyUnavailable, match="with a passphrase"):
        gnupg.encrypt(fingerprint, "--symmetric", "--passphrase", "x").unwrap(given)
    signed = gnupg.run("--armor", "--local-user", fingerprint, "--sign", stdin=DATA_KEY)
    for clear in (gnupg.run("--armor", "--store", stdin=DATA_KEY), signed):
        with pytest.raises(KeyUnavailable, match="not encrypted"):
            PgpKey(fingerprint, clear.decode()).unwrap(given)
    with pytest.raises(KeyUnavailable, match="no integrity protection"):
        gnupg.encrypt(fingerprint, "--rfc2440", "--cipher-algo", "3DES").unwrap(given)


def test_gpg_itself_is_asked_where_commands_may_run(gnupg: Gnupg) -> None:
    sealed = gnupg.encrypt(gnupg.key("cv25519"))
    env = {"GNUPGHOME": gnupg.home, "PATH": os.environ["PATH"]}
    assert sealed.unwrap(Credentials(Host(env=env, commands=True))) == DATA_KEY
    with pytest.raises(WrongKey, match="no OpenPGP secret key at hand"):
        sealed.unwrap(Credentials(Host(env=env)))


def test_gpg_that_has_no_key_fails_like_any_other_source(gnupg: Gnupg) -> None:
    sealed = gnupg.encrypt(gnupg.key("cv25519"))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg") as empty:
        env = {"GNUPGHOME": empty, "PATH": os.environ["PATH"]}
        with pytest.raises(WrongKey, match="could not decrypt it either"):
            sealed.unwrap(Credentials(Host(env=env, commands=True)))
        subprocess.run(["gpgconf", "--kill", "all"], env=env, check=False, capture_output=True)
