"""What we encrypt to OpenPGP public keys, the real gpg and sops open; and we choose the subkey that gpg chooses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.keys.pgp import PgpKey
from krm_sops.pgp.armor import blocks
from krm_sops.pgp.packets import PKESK, packet, packets
from tests.interop.test_age_binary import run
from tests.interop.test_gpg import ALGORITHMS, GPG, PASSPHRASE, Gnupg

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(GPG is None, reason="no gpg")

DATA_KEY = bytes(range(32))
NOW = int(time.time())
DAY = 86400


@pytest.fixture(scope="module")
def gnupg() -> Iterator[Gnupg]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg") as home:  # short: the agent's socket is in it
        os.chmod(home, 0o700)
        (Path(home) / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
        made = Gnupg(home)
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], env=made.env, check=False, capture_output=True)


def from_keyring(gnupg: Gnupg, **host: object) -> Credentials:
    return Credentials(Host(env=gnupg.env, **host))  # type: ignore[arg-type]


def from_file(data: bytes, **host: object) -> Credentials:
    return Credentials(Host(env={}, files={}, **host), [KeyEntry("pgp", "key.asc", data, "test")])  # type: ignore[arg-type]


def wrapped(fingerprint: str, credentials: Credentials) -> PgpKey:
    return PgpKey(fingerprint, "").wrap(DATA_KEY, credentials)


def recipient_of(enc: str) -> str:
    """The id of the key that a message is for."""
    (_, content), *_ = blocks(enc.encode())
    return next(body[1:9].hex().upper() for tag, body in packets(content) if tag == PKESK)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_gpg_opens_what_we_wrap_for_a_key_of_its_keyring(gnupg: Gnupg, algorithm: str) -> None:
    """pubring.kbx is read without gpg."""
    key = wrapped(gnupg.key(algorithm), from_keyring(gnupg))
    assert gnupg.run("--decrypt", stdin=key.enc.encode()) == DATA_KEY
    assert not key.enc.endswith("\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", key.created_at)


@pytest.mark.parametrize("how", ["armored", "binary", "secret"])
def test_a_key_file_is_as_good_as_a_keyring(gnupg: Gnupg, how: str) -> None:
    fingerprint = gnupg.key("cv25519")
    if how == "secret":
        data = gnupg.secret(fingerprint, "--armor")
    else:
        data = gnupg.run(*(["--armor"] if how == "armored" else []), "--export", fingerprint)
    for spelled in (fingerprint, fingerprint.lower(), fingerprint[-16:], " ".join(re.findall("....", fingerprint))):
        key = PgpKey.from_list(spelled, {})[0].wrap(DATA_KEY, from_file(data))
        assert gnupg.run("--decrypt", stdin=key.enc.encode()) == DATA_KEY


def test_the_old_keyring_is_read(gnupg: Gnupg, tmp_path: Path) -> None:
    fingerprint = gnupg.key("rsa2048")
    (tmp_path / "pubring.gpg").write_bytes(gnupg.run("--export"))
    key = wrapped(fingerprint, Credentials(Host(env={"GNUPGHOME": str(tmp_path)})))
    assert gnupg.run("--decrypt", stdin=key.enc.encode()) == DATA_KEY


def test_sops_opens_it(gnupg: Gnupg, tmp_path: Path) -> None:
    fingerprint = gnupg.key("cv25519")
    plain = tmp_path / "plain.json"
    plain.write_text('{"a": "b"}')
    env = {"GNUPGHOME": gnupg.home, "HOME": gnupg.home}
    document = json.loads(run("sops", "encrypt", "--pgp", fingerprint, str(plain), **env))
    entry = document["sops"]["pgp"][0]
    data_key = PgpKey.from_fields(entry).unwrap(from_file(gnupg.secret(fingerprint)))
    ours = PgpKey(fingerprint, "").wrap(data_key, from_keyring(gnupg))
    assert set(ours.fields()) == set(entry)
    document["sops"]["pgp"] = [ours.fields()]
    plain.write_text(json.dumps(document))
    assert json.loads(run("sops", "decrypt", str(plain), **env)) == {"a": "b"}


class Made:
    """A key whose parts were made at times of our choosing."""

    def __init__(self, gnupg: Gnupg, name: str, *, new: bool = True) -> None:
        self.gnupg = gnupg
        if new:
            self._at(NOW - 30 * DAY, "--quick-gen-key", name, "ed25519", "sign,cert", "0")
        listing = gnupg.run("--with-colons", "--list-keys", f"={name}").decode()
        self.fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))

    def _at(self, moment: int, *arguments: str, stdin: bytes = b"") -> bytes:
        passphrase = ("--passphrase", "")
        return self.gnupg.run(f"--faked-system-time={moment}!", *passphrase, *arguments, stdin=stdin)

    def subkey(self, days_ago: int, usage: str = "encr", expires: str = "0", algorithm: str = "cv25519") -> str:
        moment = NOW - days_ago * DAY
        self._at(moment, "--quick-add-key", self.fingerprint, algorithm, usage, expires)
        return self._subkeys()[-1]

    def _subkeys(self) -> list[str]:
        listing = self.gnupg.run("--with-colons", "--list-keys", self.fingerprint).decode()
        return [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr")]

    def edit(self, *commands: str) -> None:
        script = "\n".join([*commands, "save", ""]).encode()
        assert GPG is not None
        argv = [GPG, "--no-tty", "--command-fd", "0", "--status-fd", "2", "--yes", "--edit-key", self.fingerprint]
        done = subprocess.run(argv, input=script, capture_output=True, env=self.gnupg.env, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def chosen_by_gpg(self, fingerprint: str = "") -> str | None:
        """The id of the key that gpg encrypts to; None where it refuses."""
        assert GPG is not None
        argv = [
            GPG,
            "--batch",
            "--trust-model",
            "always",
            "-r",
            fingerprint or self.fingerprint,
            "--armor",
            "--encrypt",
        ]
        done = subprocess.run(argv, input=b"x", capture_output=True, env=self.gnupg.env, check=False)
        return recipient_of(done.stdout.decode()) if done.returncode == 0 else None

    def chosen_by_us(self, fingerprint: str = "") -> str | None:
        given = from_file(self.gnupg.run("--export", self.fingerprint))
        keyring = from_keyring(self.gnupg)
        found = []
        for credentials in (given, keyring):
            try:
                found.append(recipient_of(wrapped(fingerprint or self.fingerprint, credentials).enc))
            except KeyUnavailable:
                found.append("")
        assert found[0] == found[1]
        return found[0] or None


PRIMARIES = ("rsa2048", "dsa2048", "nistp256", "nistp521", "brainpoolP384r1", "secp256k1")


@pytest.mark.parametrize("algorithm", PRIMARIES)
def test_signatures_of_every_algorithm_are_checked(gnupg: Gnupg, algorithm: str) -> None:
    name = f"signed with {algorithm}"
    gnupg.run("--passphrase", "", "--quick-gen-key", name, algorithm, "sign,cert", "0")
    made = Made(gnupg, name, new=False)
    gnupg.run("--passphrase", "", "--quick-add-key", made.fingerprint, "cv25519", "encr", "0")
    assert made.chosen_by_us() == made.chosen_by_gpg() is not None


@pytest.mark.parametrize("digest", ["SHA1", "SHA224", "SHA384", "SHA512"])
def test_signatures_over_every_digest_are_checked(gnupg: Gnupg, digest: str) -> None:
    name = f"digest {digest}"
    options = (f"--cert-digest-algo={digest}", "--passphrase", "")
    gnupg.run(*options, "--quick-gen-key", name, "rsa2048", "sign,cert", "0")
    made = Made(gnupg, name, new=False)
    gnupg.run(*options, "--quick-add-key", made.fingerprint, "cv25519", "encr", "0")
    assert made.chosen_by_us() == made.chosen_by_gpg() is not None


def test_of_several_subkeys_the_newest_that_may_encrypt(gnupg: Gnupg) -> None:
    made = Made(gnupg, "several")
    made.subkey(20)
    newest = made.subkey(5, algorithm="nistp256")
    made.subkey(10)
    made.subkey(3, usage="sign", algorithm="ed25519")
    assert made.chosen_by_us() == made.chosen_by_gpg() == newest[-16:]


def test_an_expired_subkey_is_passed_over(gnupg: Gnupg) -> None:
    made = Made(gnupg, "expired subkey")
    lasting = made.subkey(20)
    made.subkey(9, expires="2d")
    assert made.chosen_by_us() == made.chosen_by_gpg() == lasting[-16:]


def test_a_revoked_subkey_is_passed_over(gnupg: Gnupg) -> None:
    made = Made(gnupg, "revoked subkey")
    old = made.subkey(20)
    made.subkey(9)
    made.edit("key 2", "revkey", "y", "0", "", "y")
    assert made.chosen_by_us() == made.chosen_by_gpg() == old[-16:]


def test_an_expiry_that_was_changed_later_counts(gnupg: Gnupg) -> None:
    made = Made(gnupg, "prolonged")
    first = made.subkey(20, expires="2d")
    assert made.chosen_by_us() is made.chosen_by_gpg() is None
    made._at(NOW - DAY, "--quick-set-expire", made.fingerprint, "1y", first)
    assert made.chosen_by_us() == made.chosen_by_gpg() == first[-16:]


def test_an_exclamation_mark_means_this_very_key(gnupg: Gnupg) -> None:
    made = Made(gnupg, "exact")
    old, new = made.subkey(20), made.subkey(5)
    signing = made.subkey(3, usage="sign", algorithm="ed25519")
    for fingerprint, expected in ((old + "!", old), (new + "!", new), (old, new), (old[-16:] + "!", old)):
        assert made.chosen_by_us(fingerprint) == made.chosen_by_gpg(fingerprint) == expected[-16:]
    for fingerprint in (signing, made.fingerprint):
        assert made.chosen_by_us(fingerprint + "!") is made.chosen_by_gpg(fingerprint + "!") is None


def test_a_key_without_a_subkey_for_it_is_refused(gnupg: Gnupg) -> None:
    made = Made(gnupg, "signing only")
    made.subkey(3, usage="sign", algorithm="ed25519")
    assert made.chosen_by_us() is made.chosen_by_gpg() is None


def test_a_primary_key_that_may_encrypt_is_used(gnupg: Gnupg) -> None:
    wanted = b"%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: cert,encrypt\nName-Real: alone\n%commit\n"
    gnupg.run("--generate-key", stdin=wanted)
    made = Made(gnupg, "alone", new=False)
    assert made.chosen_by_us() == made.chosen_by_gpg() is not None


def test_an_expired_key_is_refused(gnupg: Gnupg) -> None:
    made = Made(gnupg, "expired key")
    made.subkey(20)
    made._at(NOW - 10 * DAY, "--quick-set-expire", made.fingerprint, "2d")
    assert made.chosen_by_us() is made.chosen_by_gpg() is None
    with pytest.raises(KeyUnavailable, match="has expired"):
        wrapped(made.fingerprint, from_keyring(gnupg))


def test_a_revoked_key_is_refused(gnupg: Gnupg) -> None:
    made = Made(gnupg, "revoked key")
    made.subkey(20)
    certificate = (Path(gnupg.home) / "openpgp-revocs.d" / f"{made.fingerprint}.rev").read_text()
    gnupg.run("--import", stdin=certificate.replace(":-----BEGIN", "-----BEGIN").encode())
    assert made.chosen_by_us() is made.chosen_by_gpg() is None
    with pytest.raises(KeyUnavailable, match="was revoked"):
        wrapped(made.fingerprint, from_keyring(gnupg))


def test_a_key_with_one_good_user_id_left_is_used(gnupg: Gnupg) -> None:
    made = Made(gnupg, "another name")
    made.subkey(20)
    made._at(NOW - DAY, "--quick-add-uid", made.fingerprint, "first name")
    made._at(NOW, "--quick-revoke-uid", made.fingerprint, "another name")
    assert made.chosen_by_us() == made.chosen_by_gpg() is not None


def test_a_subkey_that_somebody_else_added_is_not_believed(gnupg: Gnupg) -> None:
    """A key file is only as good as its signatures: without this check its author could read the secret."""
    ours, theirs = Made(gnupg, "ours"), Made(gnupg, "theirs")
    own = ours.subkey(20)
    theirs.subkey(1)
    mixed = gnupg.run("--export", ours.fingerprint)
    stolen = [(tag, body) for tag, body in packets(gnupg.run("--export", theirs.fingerprint)) if tag in (14, 2)][-2:]
    mixed += b"".join(packet(tag, body) for tag, body in stolen)
    assert recipient_of(wrapped(ours.fingerprint, from_file(mixed)).enc) == own[-16:]
    only_stolen = b"".join(packet(tag, body) for tag, body in [*list(packets(mixed))[:3], *stolen])
    with pytest.raises(KeyUnavailable, match="not bound to it"):
        wrapped(ours.fingerprint, from_file(only_stolen))


def test_gpg_is_asked_where_its_keyring_is_not_to_be_read(gnupg: Gnupg, tmp_path: Path) -> None:
    fingerprint = gnupg.key("cv25519")
    program = tmp_path / "elsewhere"
    program.write_text(f'#!/bin/sh\nexport GNUPGHOME={gnupg.home}\nexec {GPG} "$@"\n')
    program.chmod(0o755)
    env = {"SOPS_GPG_EXEC": str(program), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    key = wrapped(fingerprint, Credentials(Host(env=env, commands=True)))
    assert gnupg.run("--decrypt", stdin=key.enc.encode()) == DATA_KEY
    assert not key.enc.endswith("\n")
    with pytest.raises(KeyUnavailable, match="not at hand"):
        wrapped(fingerprint, Credentials(Host(env=env)))
    with pytest.raises(KeyUnavailable, match=r"not at hand.*could not encrypt to it either"):
        wrapped("F" * 40, Credentials(Host(env=env, commands=True)))


@pytest.mark.parametrize("fingerprint", ["", "abc", "--output", "x@example.com", "F" * 65, "!" + "F" * 40])
def test_s20_what_is_no_fingerprint_never_reaches_gpg(fingerprint: str) -> None:
    with pytest.raises(KeyUnavailable, match="is no fingerprint"):
        wrapped(fingerprint, Credentials(Host(env={"SOPS_GPG_EXEC": "/bin/false"}, files={}, commands=True)))


def test_a_key_behind_a_passphrase_needs_none_to_encrypt_to(gnupg: Gnupg) -> None:
    key = wrapped(gnupg.key("cv25519", PASSPHRASE), from_keyring(gnupg))
    assert gnupg.run("--passphrase", PASSPHRASE, "--decrypt", stdin=key.enc.encode()) == DATA_KEY
