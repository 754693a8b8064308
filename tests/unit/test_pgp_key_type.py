"""The key type `pgp`: where its keys come from, and what it says when they do not open."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable, KrmSopsError, WrongKey
from krm_sops.host import Host
from krm_sops.keys.pgp import PgpKey
from tests.pgp_encoder import DATA_KEY, EcdhKey, Key, RsaKey, armor, literal, message, packet, seipd1

RSA = RsaKey()
ECDH = EcdhKey()
PASSPHRASE = b"correct horse"
FINGERPRINT = RSA.fingerprint.hex().upper()
EMPTY = Host(env={}, files={})


def lock(which: Key) -> bytes:
    return which.armored(protection=which.locked(b"\0\x08", hashlib.sha256(PASSPHRASE).digest()))


def key(text: bytes, fingerprint: str = FINGERPRINT) -> PgpKey:
    return PgpKey.from_fields({"fp": fingerprint, "enc": text.decode(), "created_at": "2026-01-01T00:00:00Z"})


def entry(data: bytes, name: str = "team.asc") -> KeyEntry:
    return KeyEntry("pgp", name, data, "Secret/sops-keys")


def credentials(*rings: bytes, host: Host = EMPTY, ambient: str = "auto") -> Credentials:
    return Credentials(host, [entry(ring) for ring in rings], ambient)


def refusal(which: PgpKey, given: Credentials) -> KrmSopsError:
    with pytest.raises((WrongKey, KeyUnavailable)) as caught:
        which.unwrap(given)
    return caught.value


def test_entries_open_data_keys() -> None:
    given = credentials(ECDH.armored(), RSA.armored())
    assert key(message(RSA)).unwrap(given) == DATA_KEY
    assert key(message(ECDH)).unwrap(given) == DATA_KEY


def test_entries_of_other_key_types_are_not_read() -> None:
    given = Credentials(EMPTY, [KeyEntry("age", "a.agekey", RSA.armored(), "x")])
    assert isinstance(refusal(key(message(RSA)), given), WrongKey)


def test_a_ring_is_read_once_per_scope() -> None:
    class Counting(Host):
        reads = 0

        def read(self, path: str, limit: int = 16 << 20) -> bytes:
            self.reads += 1
            return super().read(path, limit)

    host = Counting(env={"HOME": "/h"}, files={"/h/.gnupg/secring.gpg": RSA.packet()})
    given = credentials(host=host)
    for _ in range(3):
        assert key(message(RSA)).unwrap(given) == DATA_KEY
    assert host.reads == 1


@pytest.mark.parametrize(
    "fingerprint",
    [FINGERPRINT, FINGERPRINT.lower(), FINGERPRINT[-16:] + "!", "AB" * 32, "A B" * 8],
    ids=["as gpg prints", "lower case", "subkey", "version 6", "spaces"],
)
def test_s20_fingerprints_as_sops_writes_them(fingerprint: str) -> None:
    which = key(message(RSA), fingerprint)
    assert which.identity == fingerprint.replace(" ", "")
    assert which.unwrap(credentials(RSA.armored())) == DATA_KEY


@pytest.mark.parametrize(
    "fingerprint",
    ["", "a@x", "--output=x", "AB" * 4, "AB" * 33, FINGERPRINT + "!!", "AB" * 8 + "\n"],
    ids=range(7),
)
def test_s20_other_fingerprints_are_refused(fingerprint: str) -> None:
    assert "no fingerprint" in str(refusal(key(message(RSA), fingerprint), credentials(RSA.armored())))


def test_fields_may_be_missing_but_then_nothing_opens() -> None:
    assert isinstance(refusal(PgpKey.from_fields({}), credentials(RSA.armored())), KeyUnavailable)
    assert isinstance(refusal(PgpKey.from_fields({"fp": FINGERPRINT}), credentials(RSA.armored())), KeyUnavailable)


def test_text_that_is_no_text_is_refused() -> None:
    which = PgpKey(FINGERPRINT, "\ud800" + message(RSA).decode().replace("=", "\udfff", 1))
    assert isinstance(refusal(which, credentials(RSA.armored())), KeyUnavailable)


def test_without_any_key_the_hint_says_where_to_put_one() -> None:
    error = refusal(key(message(RSA)), credentials())
    assert isinstance(error, WrongKey)
    assert str(error) == "no OpenPGP secret key at hand"
    for place in ("*.asc", "--key-file", "GNUPGHOME"):
        assert place in error.hint


def test_a_message_for_others_names_them() -> None:
    error = refusal(key(message(RSA)), credentials(ECDH.armored()))
    assert isinstance(error, WrongKey)
    assert str(error) == f"no secret key for {RSA.key_id.hex().upper()} (1 at hand)"


def test_an_unreadable_entry_matters_only_when_nothing_else_opens() -> None:
    assert key(message(RSA)).unwrap(credentials(b"garbage", RSA.armored())) == DATA_KEY
    error = refusal(key(message(RSA)), credentials(b"garbage\n\x1b[31m", ECDH.armored()))
    assert isinstance(error, KeyUnavailable)
    assert str(error).startswith(
        f"no secret key for {RSA.key_id.hex().upper()} (1 at hand); team.asc (Secret/sops-keys): no"
    )
    assert "garbage" not in str(error)


def test_an_entry_of_public_keys_only_says_so() -> None:
    public = armor("PUBLIC KEY BLOCK", packet(6, RSA.head()))
    assert "no secret key for decryption in it" in str(refusal(key(message(RSA)), credentials(public)))


def test_s33_names_of_entries_are_escaped() -> None:
    given = Credentials(EMPTY, [entry(b"?", "a\n::add-mask::\u202e.asc")])
    assert str(refusal(key(message(RSA)), given)).isprintable()


# Passphrases


def locked_host(*replies: str) -> tuple[Host, list[str]]:
    prompts: list[str] = []
    left = list(replies)

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return left.pop(0) if left else ""

    return Host(env={}, files={}, ask=ask), prompts


def test_a_person_is_asked_once_for_keys_that_share_a_passphrase() -> None:
    host, prompts = locked_host("wrong", PASSPHRASE.decode())
    given = credentials(lock(RSA), lock(ECDH), host=host)
    for which in (RSA, ECDH, RSA):
        assert key(message(which)).unwrap(given) == DATA_KEY
    assert prompts == [f"passphrase of OpenPGP key {RSA.key_id.hex().upper()}: "] * 2


def test_after_three_wrong_answers_or_none_it_is_over() -> None:
    for replies, asked in ((["x", "y", "z", PASSPHRASE.decode()], 3), ([], 1)):
        host, prompts = locked_host(*replies)
        given = credentials(lock(RSA), host=host)
        for _ in range(2):
            assert "protected by a passphrase" in str(refusal(key(message(RSA)), given))
        assert len(prompts) == asked


def test_where_nobody_can_be_asked_the_error_says_that_there_is_a_passphrase() -> None:
    error = refusal(key(message(RSA)), credentials(lock(RSA)))
    assert isinstance(error, KeyUnavailable)
    assert "protected by a passphrase" in str(error)
    assert "no passphrase" in error.hint


# Ambient keys


def gnupg(home: str = "/g") -> Host:
    return Host(env={"GNUPGHOME": home}, files={"/g/secring.gpg": RSA.packet()})


def test_the_legacy_ring_is_ambient() -> None:
    text = message(RSA)
    assert key(text).unwrap(credentials(host=gnupg())) == DATA_KEY
    assert key(text).unwrap(credentials(ECDH.armored(), host=gnupg(), ambient="always")) == DATA_KEY
    assert str(refusal(key(text), credentials(ECDH.armored(), host=gnupg()))).endswith("(1 at hand)")
    assert str(refusal(key(text), credentials(host=gnupg(), ambient="never"))) == "no OpenPGP secret key at hand"
    assert str(refusal(key(text), credentials(host=gnupg("/elsewhere")))) == "no OpenPGP secret key at hand"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Stands for gpg: writes down how it was called, then prints what `reply` holds and exits as `status` says."""
    path = tmp_path / "gpg"
    path.write_text(
        '#!/bin/sh\ncd "${0%/*}"\nprintf "%s\\n" "$@" > argv\n/usr/bin/env > environment\n'
        '/bin/cat > stdin\n[ -f reply ] && /bin/cat reply\nexit "$(/bin/cat status)"\n'
    )
    path.chmod(0o700)
    (tmp_path / "status").write_text("0")
    (tmp_path / "reply").write_bytes(DATA_KEY)
    return path


def with_gpg(program: Path, **env: str) -> Host:
    surroundings = {
        "PATH": f".::{program.parent}",
        "HOME": "/nowhere",
        "SECRET": "x",
        "SOPS_AGE_KEY": "y",
        "LD_PRELOAD": "",
        **env,
    }
    return Host(env=surroundings, commands=True)


def test_s20_gpg_gets_the_checked_message_and_a_scrubbed_environment(program: Path) -> None:
    from krm_sops.pgp.armor import blocks

    text = b"trailing and leading text is not handed on\n" + message(RSA)
    assert key(text).unwrap(credentials(host=with_gpg(program, GNUPGHOME="/g", GPG_TTY="t"))) == DATA_KEY
    assert (program.parent / "stdin").read_bytes() == blocks(text)[0][1]
    argv = (program.parent / "argv").read_text().split("\n")
    assert {"--batch", "--max-output", "--decrypt", "no-auto-key-retrieve"} <= set(argv)
    names = {line.partition("=")[0] for line in (program.parent / "environment").read_text().splitlines()}
    assert {"PATH", "HOME", "GNUPGHOME", "GPG_TTY"} <= names
    assert not names & {"SECRET", "SOPS_AGE_KEY", "LD_PRELOAD"}
    assert f"PATH={program.parent}\n" in (program.parent / "environment").read_text()


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (b"", "0", "gave zero bytes"),
        (DATA_KEY, "2", r"could not decrypt it either \(exit status 2\)"),
        (bytes(5000), "0", "gave more than 4096 bytes"),
    ],
)
def test_s20_gpg_is_not_believed_blindly(program: Path, reply: bytes, status: str, reason: str) -> None:
    (program.parent / "reply").write_bytes(reply)
    (program.parent / "status").write_text(status)
    with pytest.raises(WrongKey, match=reason):
        key(message(RSA)).unwrap(credentials(host=with_gpg(program)))


def test_gpg_runs_only_where_commands_may_run(program: Path) -> None:
    quiet = Host(env={"PATH": str(program.parent)})
    never = credentials(host=with_gpg(program), ambient="never")
    handed_in = credentials(ECDH.armored(), host=with_gpg(program))
    for given in (credentials(host=quiet), never, handed_in):
        refusal(key(message(RSA)), given)
    assert not (program.parent / "argv").exists()


def test_s20_gpg_never_sees_what_has_no_integrity(program: Path) -> None:
    session = bytes(32)
    for text in (
        RSA.pkesk(session) + packet(9, seipd1(session, literal())[7:]),
        packet(3, b"\4\x09\0\x08") + seipd1(session, literal()),
        literal(),
    ):
        refusal(key(armor("MESSAGE", text)), credentials(host=with_gpg(program)))
    assert not (program.parent / "argv").exists()


def test_gpg_is_tried_for_what_is_not_supported_here(program: Path) -> None:
    eax = armor("MESSAGE", RSA.pkesk(bytes(32)) + packet(20, b"\1\x09\1\0" + bytes(60)))
    host = with_gpg(program)
    assert key(eax).unwrap(credentials(RSA.armored(), host=host, ambient="always")) == DATA_KEY


def test_s15_gpg_is_found_by_absolute_paths_only(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program.parent)
    for env in (
        {"PATH": "."},
        {"PATH": ""},
        {"PATH": "relative/bin"},
        {"SOPS_GPG_EXEC": "./gpg"},
        {"SOPS_GPG_EXEC": "bin/gpg"},
    ):
        error = refusal(key(message(RSA)), credentials(host=with_gpg(program, **env)))
        assert "was not found" in str(error)
    assert not (program.parent / "argv").exists()
    assert (
        key(message(RSA)).unwrap(credentials(host=with_gpg(program, PATH="", SOPS_GPG_EXEC=str(program)))) == DATA_KEY
    )
    named = with_gpg(program, SOPS_GPG_EXEC="gpg2")
    program.rename(program.parent / "gpg2")
    assert key(message(RSA)).unwrap(credentials(host=named)) == DATA_KEY


def test_a_gpg_that_cannot_be_started_or_hangs_is_an_error(program: Path) -> None:
    program.chmod(0o600)
    host = with_gpg(program, SOPS_GPG_EXEC=str(program))
    assert "could not be started" in str(refusal(key(message(RSA)), credentials(host=host)))

    class Slow(Host):
        def run(self, *args: object, **more: object) -> tuple[int, bytes]:
            raise TimeoutError("no answer within 30 s")

    slow = Slow(env={"PATH": str(program.parent), "SOPS_GPG_EXEC": "/x/gpg"}, commands=True)
    assert "no answer within 30 s" in str(refusal(key(message(RSA)), credentials(host=slow)))


def test_a_protected_key_of_ours_still_reads_as_unavailable_when_gpg_fails_too(program: Path) -> None:
    (program.parent / "status").write_text("2")
    host = with_gpg(program)
    error = refusal(key(message(RSA)), credentials(lock(RSA), host=host, ambient="always"))
    assert isinstance(error, KeyUnavailable)
    assert "protected by a passphrase; " in str(error)


def test_importing_the_key_type_imports_nothing_heavy() -> None:
    code = (
        "import sys, krm_sops.keys.pgp\n"
        "print([m for m in ('cryptography', 'hashlib', 'krm_sops.pgp', 're') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "[]\n"
