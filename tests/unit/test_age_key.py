"""AgeKey: where identities come from, in which order they are tried, and what is said when none opens."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.age import bech32
from krm_sops.age.ssh_ed25519 import age_identity
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import DataKeyError, KeyUnavailable, WrongKey
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.keys.age import AgeKey
from tests.agefile import (
    FILE_KEY,
    IDENTITY,
    OTHER_IDENTITY,
    armor,
    b64,
    enc,
    for_recipient,
    make,
    protected,
    recipient_of,
)

if TYPE_CHECKING:
    from pathlib import Path

DATA_KEY = bytes(range(32))
ME, OTHER = recipient_of(IDENTITY), recipient_of(OTHER_IDENTITY)
MINE = enc(IDENTITY, DATA_KEY)
HOME_KEYS = "/home/me/.config/sops/age/keys.txt"
SSH_SEED = bytes(range(32))
SSH_FILE = Ed25519PrivateKey.from_private_bytes(SSH_SEED).private_bytes(
    Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
)
SSH_NATIVE = armor(make([for_recipient(age_identity(SSH_SEED).recipient)], DATA_KEY)).decode()


def key(text: str = MINE, recipient: str = ME) -> AgeKey:
    return AgeKey.from_fields({"recipient": recipient, "enc": text})


def entry(data: str | bytes, origin: str = "functionConfig Secret/k", name: str = "my.agekey") -> KeyEntry:
    return KeyEntry("age", name, data if isinstance(data, bytes) else data.encode(), origin)


def ambient(env: dict[str, str] | None = None, files: dict[str, str | bytes] | None = None, **host: Any) -> Credentials:
    contents = {path: data if isinstance(data, bytes) else data.encode() for path, data in (files or {}).items()}
    return Credentials(Host(env={"HOME": "/home/me", **(env or {})}, files=contents, **host))


def given_keys(*entries: KeyEntry, mode: str = "auto", env: dict[str, str] | None = None) -> Credentials:
    return Credentials(Host(env=env or {}, files={}), entries, mode)


def test_it_is_the_registered_key_type() -> None:
    assert KEY_TYPES["age"] is AgeKey
    assert AgeKey.section == "age"
    assert key().identity == ME
    assert key().enc == MINE


def test_fields_that_are_missing_fail_only_when_the_key_is_used() -> None:
    with pytest.raises(KeyUnavailable, match="age armor"):
        AgeKey.from_fields({}).unwrap(given_keys(entry(IDENTITY)))


@given(st.binary(max_size=64))
def test_unwrapping_gives_what_was_wrapped(part: bytes) -> None:
    assert key(enc(IDENTITY, part)).unwrap(given_keys(entry(IDENTITY))) == part


@pytest.mark.parametrize("recipient", [ME, OTHER, "", "nonsense", "ssh-ed25519 AAAA", bech32.encode("age1pq", b"x")])
def test_the_recipient_is_only_a_hint(recipient: str) -> None:
    assert key(recipient=recipient).unwrap(given_keys(entry(f"{OTHER_IDENTITY}\n{IDENTITY}"))) == DATA_KEY


def test_identities_are_parsed_once_for_a_scope() -> None:
    class Counting(KeyEntry):
        reads = 0

        @property
        def data(self) -> bytes:  # type: ignore[override]
            Counting.reads += 1
            return IDENTITY.encode()

        @data.setter
        def data(self, _: bytes) -> None: ...

    credentials = given_keys(Counting("age", "k", b"", "test"))
    for _ in range(3):
        key().unwrap(credentials)
    assert Counting.reads == 1


@pytest.mark.parametrize(
    ("env", "files"),
    [
        ({"SOPS_AGE_KEY": IDENTITY}, {}),
        ({"SOPS_AGE_KEY": f"# comment\n{OTHER_IDENTITY} {IDENTITY}\n"}, {}),
        ({"SOPS_AGE_KEY_FILE": "/k"}, {"/k": f"# created: now\n{IDENTITY}\n"}),
        ({}, {HOME_KEYS: IDENTITY}),
        ({"XDG_CONFIG_HOME": "/config"}, {"/config/sops/age/keys.txt": IDENTITY}),
        ({"SOPS_AGE_KEY": OTHER_IDENTITY, "SOPS_AGE_KEY_FILE": "/missing"}, {HOME_KEYS: IDENTITY}),
        ({"SOPS_AGE_KEY": "nonsense"}, {HOME_KEYS: IDENTITY}),
        ({"SOPS_AGE_KEY_FILE": "", "SOPS_AGE_SSH_PRIVATE_KEY_FILE": ""}, {HOME_KEYS: IDENTITY}),
        ({"SOPS_AGE_SSH_PRIVATE_KEY_FILE": "/k"}, {"/k": IDENTITY}),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="the configuration folder is another one on macOS")
def test_every_source_of_sops_is_read_and_broken_ones_do_not_matter(env: dict[str, str], files: Any) -> None:
    assert key().unwrap(ambient(env, files)) == DATA_KEY


@pytest.mark.parametrize(
    ("env", "path"),
    [({"SOPS_AGE_SSH_PRIVATE_KEY_FILE": "/k"}, "/k"), ({}, "/home/me/.ssh/id_ed25519"), ({}, "/home/me/.ssh/id_rsa")],
)
def test_ssh_keys_are_found_where_sops_finds_them(env: dict[str, str], path: str) -> None:
    recipient = age_identity(SSH_SEED).recipient
    assert key(SSH_NATIVE, recipient).unwrap(ambient(env, {path: SSH_FILE})) == DATA_KEY


def test_ssh_keys_are_not_touched_where_an_age_key_opens() -> None:
    class Watched(Host):
        def read(self, path: str, limit: int = 0) -> bytes:
            assert ".ssh" not in path
            return super().read(path)

    host = Watched(env={"HOME": "/home/me"}, files={HOME_KEYS: IDENTITY.encode()})
    assert key().unwrap(Credentials(host)) == DATA_KEY


def test_an_ssh_key_may_be_handed_in() -> None:
    credentials = given_keys(entry(SSH_FILE, name="host.sshkey"))
    assert key(SSH_NATIVE, "").unwrap(credentials) == DATA_KEY


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_ambient_keys_are_not_tried_beside_handed_in_ones(mode: str) -> None:
    credentials = given_keys(entry(OTHER_IDENTITY), mode=mode, env={"SOPS_AGE_KEY": IDENTITY})
    with pytest.raises(WrongKey):
        key().unwrap(credentials)


def test_ambient_always_means_both() -> None:
    assert key().unwrap(given_keys(entry(OTHER_IDENTITY), mode="always", env={"SOPS_AGE_KEY": IDENTITY})) == DATA_KEY


def test_ambient_never_reads_nothing_at_all() -> None:
    class Untouchable(Host):
        def read(self, path: str, limit: int = 0) -> bytes:
            raise AssertionError(path)

    host = Untouchable(env={"HOME": "/home/me", "SOPS_AGE_KEY": IDENTITY, "SOPS_AGE_KEY_CMD": "true"}, commands=True)
    with pytest.raises(WrongKey, match="no age identity at hand"):
        key().unwrap(Credentials(host, (), "never"))


def failing(credentials: Credentials, text: str = MINE, recipient: str = ME) -> DataKeyError:
    with pytest.raises(DataKeyError) as caught:
        key(text, recipient).unwrap(credentials)
    assert "\n" not in caught.value.message
    for secret in (IDENTITY, OTHER_IDENTITY):
        assert secret[20:40] not in caught.value.message + caught.value.hint
    return caught.value


def test_without_any_identity_the_hint_says_where_to_put_one() -> None:
    error = failing(ambient())
    assert type(error) is WrongKey
    assert error.message == "no age identity at hand"
    for way in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "*.agekey", "--key-file"):
        assert way in error.hint


def test_a_wrong_key_says_which_identities_were_tried_by_what_is_public() -> None:
    third = bech32.encode("AGE-SECRET-KEY-", bytes(32)).upper()
    error = failing(given_keys(entry(f"{OTHER_IDENTITY}\n{third}")))
    assert type(error) is WrongKey
    assert error.message == (
        f"none of 2 identities matches ({recipient_of(OTHER_IDENTITY)} from functionConfig Secret/k (my.agekey), "
        f"{recipient_of(third)} from functionConfig Secret/k (my.agekey))"
    )


def test_a_wrong_key_lists_only_so_many() -> None:
    many = "\n".join(bech32.encode("AGE-SECRET-KEY-", bytes([n]) * 32).upper() for n in range(8))
    assert failing(given_keys(entry(many))).message.endswith(", and 3 more)")


def test_one_identity_is_not_called_several() -> None:
    error = failing(given_keys(entry(OTHER_IDENTITY, "--key-file key.txt", "key.txt")))
    who = recipient_of(OTHER_IDENTITY)
    assert error.message == f"the only identity does not match ({who} from --key-file key.txt)"


def test_a_source_that_could_not_be_used_is_told_with_the_reason() -> None:
    error = failing(ambient({"SOPS_AGE_KEY_FILE": "/x", "SOPS_AGE_KEY": f"{OTHER_IDENTITY} oops"}))
    assert type(error) is KeyUnavailable
    assert error.message == (
        "SOPS_AGE_KEY: line 1: unknown type of identity; "
        "SOPS_AGE_KEY_FILE /x: No such file or directory; no age identity at hand"
    )
    assert "SOPS_AGE_KEY_FILE" in error.hint


def test_an_unreadable_file_is_told_even_if_nobody_named_it() -> None:
    class Locked(Host):
        def read(self, path: str, limit: int = 0) -> bytes:
            raise PermissionError(13, "Permission denied", path)

    error = failing(Credentials(Locked(env={"HOME": "/home/me"}, files={})))
    assert "/home/me/.ssh/id_rsa: Permission denied" in error.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "age armor"),
        ("nonsense", "age armor"),
        (MINE + "x", "age armor"),
        (MINE + MINE, "age armor"),
        (make([for_recipient(ME)], DATA_KEY).decode("latin-1"), "age armor"),
        (armor(b"").decode(), "age header: empty"),
        (enc(IDENTITY, DATA_KEY, mac_key=bytes(16)), "MAC does not match"),
        (armor(make([for_recipient(ME)], DATA_KEY)[:-1]).decode(), "altered or cut off"),
        (enc(IDENTITY, bytes(64 * 1024 + 1)), "more than 65536 bytes"),
        (armor(make([for_recipient(ME, FILE_KEY * 2)], DATA_KEY)).decode(), "no file key of 16 bytes"),
        ("\udcff" + MINE, "age armor"),
        (chr(0xD800) + MINE, "age armor"),
        ("\u00a0" + MINE, "age armor"),
    ],
)
def test_an_enc_that_is_broken_is_ours_but_failed(text: str, why: str) -> None:
    error = failing(given_keys(entry(IDENTITY)), text)
    assert type(error) is KeyUnavailable
    assert why in error.message


def test_s21_a_passphrase_never_opens_a_data_key() -> None:
    credentials = Credentials(Host(env={}, files={}, ask=lambda _: "secret"), [entry(IDENTITY)])
    assert type(failing(credentials, armor(protected(DATA_KEY)).decode())) is WrongKey


def test_a_protected_identity_file_opens_with_its_passphrase_and_is_asked_for_last() -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "secret"

    files: dict[str, str | bytes] = {"/k": armor(protected(IDENTITY.encode())), HOME_KEYS: OTHER_IDENTITY}
    credentials = ambient({"SOPS_AGE_KEY_FILE": "/k", "XDG_CONFIG_HOME": "/home/me/.config"}, files, ask=ask)
    assert key(enc(OTHER_IDENTITY, DATA_KEY), OTHER).unwrap(credentials) == DATA_KEY
    assert prompts == []
    assert key().unwrap(credentials) == DATA_KEY
    assert key().unwrap(credentials) == DATA_KEY
    assert prompts == ["Enter passphrase for identity 'SOPS_AGE_KEY_FILE /k': "]


def test_a_protected_identity_file_without_anybody_to_ask_says_so() -> None:
    error = failing(ambient({"SOPS_AGE_KEY_FILE": "/k"}, {"/k": protected(IDENTITY.encode())}))
    assert type(error) is KeyUnavailable
    assert (
        "SOPS_AGE_KEY_FILE /k: the identity file is protected by a passphrase, and there is nobody to ask"
        in error.message
    )


@pytest.mark.parametrize(
    ("origin", "person", "limit"),
    [
        ("functionConfig Secret/k", True, 18),
        ("--key-file k", False, 18),
        ("--key-file k", True, 22),
    ],
)
def test_s21_the_work_factor_depends_on_who_chose_the_file(origin: str, person: bool, limit: int) -> None:
    for work in (limit + 1, 30):
        host = Host(env={}, files={}, ask=(lambda _: pytest.fail("asked")) if person else None)
        data = protected(IDENTITY.encode(), work=str(work))
        error = failing(Credentials(host, [entry(data, origin)]))
        assert f"work factor {work} is more than {limit}" in error.message


PLUGIN = bech32.encode("AGE-PLUGIN-FAKE-", b"").upper()


@pytest.mark.parametrize("variable", ["SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD"])
def test_s15_commands_are_ignored_and_mentioned_where_they_are_not_allowed(variable: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    error = failing(ambient({variable: f"/usr/bin/touch {marker}"}))
    assert f"{variable} is set, but commands run in the sops verbs only" in error.message
    assert not marker.exists()


def test_s15_plugins_are_not_started_where_they_are_not_allowed() -> None:
    error = failing(given_keys(entry(PLUGIN)))
    assert type(error) is KeyUnavailable
    assert "age-plugin-fake is not started here" in error.message


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def with_commands(env: dict[str, str], folder: Path, **host: Any) -> Credentials:
    return ambient({"PATH": f".:relative:{folder}:/usr/bin:/bin", **env}, commands=True, **host)


@pytest.mark.parametrize(
    ("command", "arguments"), [("{}", 0), ("give-key", 0), ("give-key 'two words' # $(touch marker)", 4)]
)
def test_a_command_prints_the_key_for_the_recipient_it_is_told(tmp_path: Path, command: str, arguments: int) -> None:
    seen = tmp_path / "seen"
    path = script(tmp_path, "give-key", f'echo "$SOPS_AGE_RECIPIENT|$SOPS_AGE_KEY|$#" >> {seen}\necho {IDENTITY}')
    env = {"SOPS_AGE_KEY_CMD": command.format(path), "SOPS_AGE_KEY": OTHER_IDENTITY}
    credentials = with_commands(env, tmp_path)
    for _ in range(2):
        assert key().unwrap(credentials) == DATA_KEY
    assert key(recipient="").unwrap(credentials) == DATA_KEY
    assert seen.read_text() == f"{ME}||{arguments}\n||{arguments}\n"


def test_a_command_may_print_an_ssh_key(tmp_path: Path) -> None:
    (tmp_path / "id").write_bytes(SSH_FILE)
    credentials = with_commands({"SOPS_AGE_SSH_PRIVATE_KEY_CMD": f"cat {tmp_path / 'id'}"}, tmp_path)
    assert key(SSH_NATIVE, "").unwrap(credentials) == DATA_KEY


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "the command is empty"),
        ("  ", "the command is empty"),
        ("'open", "No closing quotation"),
        ("no-such-program-anywhere", "is not on PATH"),
        ("/no/such/program", "No such file or directory"),
        ("false", "exit status 1"),
        ("true", "holds no identity"),
        ("echo nonsense", "line 1: unknown type of identity"),
    ],
)
def test_a_command_that_fails_is_told_with_the_reason(tmp_path: Path, command: str, why: str) -> None:
    error = failing(with_commands({"SOPS_AGE_KEY_CMD": command}, tmp_path))
    assert type(error) is KeyUnavailable
    assert "SOPS_AGE_KEY_CMD: " in error.message
    assert why in error.message


def test_s15_a_command_is_never_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "give-key", f"touch {tmp_path / 'marker'}")
    monkeypatch.chdir(tmp_path)
    host = Host(env={"PATH": ":.:./:", "SOPS_AGE_KEY_CMD": "give-key"}, files={}, commands=True)
    assert "give-key is not on PATH" in failing(Credentials(host)).message
    assert not (tmp_path / "marker").exists()


def test_a_plugin_is_started_last_and_only_once_for_a_failure(tmp_path: Path) -> None:
    """A fake plugin that counts its starts and then fails."""
    script(tmp_path, "age-plugin-fake", f"echo started >> {tmp_path / 'starts'}")
    credentials = with_commands({"SOPS_AGE_KEY": f"{PLUGIN} {OTHER_IDENTITY}"}, tmp_path)
    assert key(enc(OTHER_IDENTITY, DATA_KEY), "").unwrap(credentials) == DATA_KEY
    assert not (tmp_path / "starts").exists()
    error = failing(credentials, recipient=bech32.encode("age1fake", b""))
    assert error.message.count("age-plugin-fake went away") == 1
    assert (tmp_path / "starts").read_text() == "started\n"


def test_a_fake_plugin_opens_a_data_key(tmp_path: Path) -> None:
    body = b64(FILE_KEY)
    script(tmp_path, "age-plugin-fake", f"printf -- '-> file-key 0\\n{body}\\n-> done\\n\\n'; cat > /dev/null")
    assert key().unwrap(with_commands({"SOPS_AGE_KEY": PLUGIN}, tmp_path)) == DATA_KEY


def test_the_failure_of_one_identity_gives_the_next_its_turn() -> None:
    credentials = given_keys(entry(f"{PLUGIN}\n{OTHER_IDENTITY}"), entry(protected(IDENTITY.encode())), entry(IDENTITY))
    assert key().unwrap(credentials) == DATA_KEY


def test_foreign_names_cannot_break_the_line() -> None:
    error = failing(given_keys(entry("oops", "functionConfig Secret/a\n\x1b[31mb", "x\u202e.agekey")))
    assert error.message.isprintable()
    error = failing(ambient({"SOPS_AGE_KEY_FILE": "/x\n::add-mask::" + "y" * 500}))
    assert error.message.isprintable()
    assert len(error.message) < 400


BANNED = (
    "re enum typing functools json base64 argparse logging subprocess dataclasses hashlib hmac struct shlex threading"
    " tempfile cryptography.exceptions cryptography.hazmat.primitives"
)


def test_unwrapping_for_an_x25519_identity_imports_nothing_expensive() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "from krm_sops.keys.age import AgeKey\n"
        "from krm_sops.credentials import Credentials, KeyEntry\n"
        "from krm_sops.host import Host\n"
        f"entry = KeyEntry('age', 'k.agekey', {IDENTITY.encode()!r}, 'test')\n"
        f"key = AgeKey.from_fields({{'recipient': {ME!r}, 'enc': {MINE!r}}})\n"
        "assert len(key.unwrap(Credentials(Host(env={}), [entry]))) == 32\n"
        f"print(sorted(set({BANNED!r}.split()) & (set(sys.modules) - before)))\n"
    )
    path = [folder for folder in sys.path if folder]
    lines = f"import sys; sys.path[:0] = {path!r}\n{program}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", lines], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "[]\n"
