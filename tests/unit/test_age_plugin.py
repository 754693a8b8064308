"""The client's side of age-plugin's identity-v1, against fakes: small programs that follow or break the protocol."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from krm_sops.age import IdentityError, bech32
from krm_sops.age.format import Stanza
from krm_sops.age.plugin import PluginIdentity
from krm_sops.host import Host
from krm_sops.keys.age_programs import plugin_starter
from tests.agefile import FILE_KEY, b64

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = bech32.encode("AGE-PLUGIN-FAKE-", b"data").upper()
STANZAS = [Stanza("X25519", ["abc"], bytes(32)), Stanza("fake.example", [], b"")]
PRELUDE = """
import os, sys
def received():
    lines = [sys.stdin.readline()]
    while True:
        lines.append(sys.stdin.readline())
        if len(lines[-1]) < 65:
            return "".join(lines)
def say(head, body=""):
    print("-> " + head + "\\n" + body, flush=True)
first = []
while not first or first[-1] != "-> done\\n\\n":
    first.append(received())
"""
GIVE = f"say('file-key 0', {b64(FILE_KEY)!r}); assert received() == '-> ok\\n\\n'\n"


@pytest.fixture
def fake(tmp_path: Path) -> Any:
    """Installs a fake `age-plugin-fake` with this script, and gives an identity that reaches it."""

    def install(script: str, ask: Any = None, patience: float = 60.0, **env: str) -> PluginIdentity:
        program = tmp_path / "age-plugin-fake"
        program.write_text(f"#!{sys.executable} -I\n{PRELUDE}{textwrap.dedent(script)}")
        program.chmod(0o755)
        host = Host(env={"PATH": f"relative:.::{tmp_path}", **env}, files={})
        return PluginIdentity(IDENTITY, plugin_starter(host), ask, patience)

    return install


def test_a_plugin_is_told_everything_and_gives_the_file_key(fake: Any, tmp_path: Path) -> None:
    script = f"open({str(tmp_path / 'seen')!r}, 'w').write(repr((sys.argv[1:], first)))\n{GIVE}say('done')"
    assert fake(script).unwrap(STANZAS) == FILE_KEY
    arguments, messages = eval((tmp_path / "seen").read_text())
    assert arguments == ["--age-plugin=identity-v1"]
    assert messages == [
        f"-> add-identity {IDENTITY}\n\n",
        f"-> recipient-stanza 0 X25519 abc\n{b64(bytes(32))}\n",
        "-> recipient-stanza 0 fake.example\n\n",
        "-> done\n\n",
    ]


def test_a_plugin_without_a_file_key_is_no_match(fake: Any) -> None:
    assert fake("say('done')").unwrap(STANZAS) is None


def test_s15_a_plugin_runs_in_a_private_folder_with_a_scrubbed_environment(fake: Any, tmp_path: Path) -> None:
    seen_by_it = "(os.getcwd(), oct(os.stat('.').st_mode), dict(os.environ))"
    script = f"open({str(tmp_path / 'seen')!r}, 'w').write(repr({seen_by_it}))\n"
    env = {"SOPS_AGE_KEY": "secret", "LD_PRELOAD": "/x.so", "PYTHONPATH": "/x", "BASH_ENV": "/x", "HOME": "/home/me"}
    fake(script + "say('done')", **env).unwrap(STANZAS)
    folder, mode, seen = eval((tmp_path / "seen").read_text())
    assert folder != os.getcwd()
    assert not os.path.exists(folder)
    assert mode.endswith("700")
    assert {"HOME", "PATH"} <= set(seen)
    assert not set(seen) & (set(env) - {"HOME"})


def test_a_plugin_may_ask_a_person(fake: Any) -> None:
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "1234" if "PIN" in prompt else "2"

    script = f"""
    say('request-secret', {b64(b"PIN please")!r}); assert received() == '-> ok\\n{b64(b"1234")}\\n'
    say('request-public', {b64(b"PIN of whom")!r}); assert received() == '-> ok\\n{b64(b"1234")}\\n'
    say('confirm {b64(b"Yes")} {b64(b"No")}', {b64(b"Go on?")!r}); assert received() == '-> ok no\\n\\n'
    say('msg', {b64(b"Touch it")!r}); assert received() == '-> fail\\n\\n'
    say('joint-oil'); assert received() == '-> unsupported\\n\\n'
    {GIVE}
    """
    assert fake(textwrap.dedent(script) + "say('done')", ask).unwrap(STANZAS) == FILE_KEY
    assert prompts == [
        "age-plugin-fake: PIN please: ",
        "age-plugin-fake: PIN of whom: ",
        "age-plugin-fake: Go on? (1 for Yes, 2 for No): ",
    ]


def test_without_anybody_to_ask_every_request_fails_and_the_plugin_goes_on(fake: Any) -> None:
    script = f"""
    say('request-secret', {b64(b"PIN")!r}); assert received() == '-> fail\\n\\n'
    say('confirm {b64(b"Yes")}', {b64(b"Go on?")!r}); assert received() == '-> fail\\n\\n'
    {GIVE}
    """
    assert fake(textwrap.dedent(script) + "say('done')").unwrap(STANZAS) == FILE_KEY


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (f"say('error internal', {b64(b'no device' + bytes([27]))!r})", r"age-plugin-fake: no device\\x1b$"),
        ("say('file-key 1', 'QQ')", "malformed or second file key"),
        ("say('file-key 0', 'QQ')", "malformed or second file key"),
        (GIVE + f"say('file-key 0', {b64(FILE_KEY)!r}); say('done')", "malformed or second file key"),
        ("say('confirm')", "malformed confirmation"),
        ("say('confirm !')", "malformed confirmation"),
        ("", "went away"),
        ("sys.exit(1)", "went away"),
        ("print('nonsense', flush=True)", "failed: age header"),
        ("say('x', 'QR')", "failed: age header"),
        ("print('-> x', flush=True)", "went away"),
        ("sys.stdout.write('x' * 2_000_000); sys.stdout.flush()", "went away|failed"),
    ],
)
def test_a_plugin_that_fails_or_breaks_the_protocol_is_an_identity_error(fake: Any, script: str, why: str) -> None:
    with pytest.raises(IdentityError, match=why):
        fake(script, lambda _: "x").unwrap(STANZAS)


def test_a_plugin_that_hangs_is_ended(fake: Any) -> None:
    with pytest.raises(IdentityError, match="no answer within"):
        fake("import time; time.sleep(60)", patience=0.3).unwrap(STANZAS)


def test_a_plugin_that_never_reads_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "age-plugin-fake"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    identity = PluginIdentity(IDENTITY, plugin_starter(Host(env={"PATH": f"{tmp_path}:/bin:/usr/bin"})), None, 0.3)
    with pytest.raises(IdentityError, match="went away"):
        identity.unwrap([Stanza("large", [], bytes(1 << 20))])


def test_a_plugin_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    program = tmp_path / "age-plugin-fake"
    program.write_text("#!/nowhere/interpreter\n")
    program.chmod(0o755)
    identity = PluginIdentity(IDENTITY, plugin_starter(Host(env={"PATH": str(tmp_path)})), None)
    with pytest.raises(IdentityError, match="failed: No such file"):
        identity.unwrap(STANZAS)


def test_s15_a_plugin_is_never_taken_from_the_working_folder(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(f"open({str(tmp_path / 'marker')!r}, 'w'); say('done')")
    monkeypatch.chdir(tmp_path)
    for search in ("", ".", ":", "./", f"../{tmp_path.name}"):
        identity = PluginIdentity(IDENTITY, plugin_starter(Host(env={"PATH": search})), None)
        with pytest.raises(IdentityError, match="not on PATH"):
            identity.unwrap(STANZAS)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["../../X", "..", "/BIN/SH", "X/Y", "X.Y", "X_Y", "X+Y", ""])
def test_s15_a_hostile_name_starts_nothing(name: str) -> None:
    started = []
    with pytest.raises(IdentityError, match="only have a-z, 0-9 and hyphens"):
        PluginIdentity(bech32.encode(f"AGE-PLUGIN-{name}-", b"").upper(), lambda *a: started.append(a), None)
    assert started == []


def test_a_recipient_of_a_plugin_names_it() -> None:
    identity = PluginIdentity(IDENTITY, None, None)
    assert identity.opener_for(bech32.encode("age1fake", b"key")) is not None
    assert identity.opener_for(bech32.encode("age1faker", b"key")) is None
    assert identity.label == "age-plugin-fake"
