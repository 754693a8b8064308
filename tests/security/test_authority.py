"""What may be done is the operator's to say, and whose keys open what (S1, S4, S5, S12, S13, S23).

A repository brings the items and the functionConfig; the operator brings the policy, flags, the environment and files.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.age import bech32
from krm_sops.cli import HELP
from krm_sops.errors import LimitError, PolicyError
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import PATH, Flags, in_force
from krm_sops.verbs import function as function_verb
from krm_sops.verbs.explain import policy_lines
from krm_sops.verbs.flags import parse
from tests import agefile
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.krm.results import Result
    from krm_sops.limits import Limits

ROOT = Path(__file__).resolve().parent.parent.parent
A_KEY, B_KEY = made.IDENTITY, made.OTHER_IDENTITY
LOCAL = "config.kubernetes.io/local-config"
MOVED = "internal.config.kubernetes.io/previousNamespaces"
FROM_KUSTOMIZE = {"config.kubernetes.io/function": "exec:\n  path: krm-sops\n"}


class Elsewhere(Host):
    """The real file system, but for the policy's place."""

    def __init__(self, policy: Path, **options: Any) -> None:
        super().__init__(**{"env": {}, **options})
        self.policy = policy

    def read(self, path: str, limit: int = 1 << 24, *, follow: bool = True) -> bytes:
        return super().read(str(self.policy) if path == PATH else path, limit, follow=follow)


def flags(*arguments: str) -> Flags:
    return function_verb.read(parse(arguments, function_verb.FLAGS, {}))


def function(
    *items: Any,
    config: dict[str, Any] | None = None,
    policy: str | None = None,
    arguments: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    limits: Limits = FUNCTION,
) -> tuple[dict[str, Any], list[Result], int]:
    """The function under a policy and with flags; what comes out, as data."""
    known = {**(files or {}), **({PATH: policy.encode()} if policy is not None else {})}
    text = made.resource_list(*items, config=config)
    output, results, status = run(text.encode(), Host(env=env or {}, files=known), limits, flags(*arguments))
    return yaml.safe_load(output), results, status


def reasons(results: list[Result]) -> list[tuple[str, str]]:
    return [(result.severity, result.reason) for result in results]


def decrypt(namespace: str = "", **spec: Any) -> dict[str, Any]:
    metadata = {"name": "decrypt", **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": metadata, "spec": spec}


def referring(namespace: str = "", **spec: Any) -> dict[str, Any]:
    return decrypt(namespace, decryption={"provider": "sops", "secretRef": {"name": "sops-keys"}}, **spec)


def key_secret(identity: str, namespace: str = "", **metadata: Any) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {
        **made.KEY_SECRET,
        "metadata": {"name": "sops-keys", **place, **metadata},
        "stringData": {"k.agekey": identity},
    }


def wrapped_for(identity: str) -> list[dict[str, str]]:
    return [{"recipient": agefile.recipient_of(identity), "enc": agefile.enc(identity, made.DATA_KEY)}]


def document(
    namespace: str = "", identity: str = A_KEY, name: str = "db", *, only_encrypted: bool = False, **metadata: Any
) -> dict[str, Any]:
    """An encrypted Secret.  only_encrypted: what its MAC covers.  metadata: what is put on it after encryption."""
    place = {"namespace": namespace} if namespace else {}
    plain = {**made.PLAIN, "metadata": {"name": name, **place}}
    done = made.encrypted(plain, age=wrapped_for(identity), mac_only_encrypted=True if only_encrypted else None)
    done["metadata"] |= metadata
    return done


def moved(item: dict[str, Any], to: str) -> dict[str, Any]:
    """As kustomize's `namespace:` leaves an item: elsewhere, with a note of where it was."""
    metadata = item["metadata"]
    notes = {**metadata.get("annotations", {}), MOVED: metadata.get("namespace", "default")}
    return {**item, "metadata": {**metadata, "namespace": to, "annotations": notes}}


def is_plain(item: dict[str, Any]) -> bool:
    return "sops" not in item and item["stringData"]["password"] == "plain-of-password"


def opened(output: dict[str, Any]) -> list[bool]:
    return [is_plain(item) for item in output["items"] if item["metadata"]["name"] != "sops-keys"]


# S1: the operator's policy is a floor


STRICT = "mac: strict\nambient: never\n"
LAX = decrypt(mac="tags", ambient="always", keys=[{"file": "/repo/key.txt"}])


def test_a_config_that_asks_for_more_than_the_policy_allows_is_refused():
    """S1: each wish is named, with the line that it is in conflict with; the items leave as they came."""
    item = document()
    policy = STRICT + "keySources: [folder, secretRef]\n"
    output, results, status = function(item, config=LAX, policy=policy, files={"/repo/key.txt": A_KEY.encode()})
    assert status == 1
    assert output["items"] == [item]
    assert reasons(results) == [("error", "PolicyDenied")] * 3
    said = [result.message for result in results]
    assert "spec.mac asks for tags" in said[0]
    assert f"(mac: {PATH} line 1)" in said[0]
    assert "spec.ambient asks for always" in said[1]
    assert f"(ambient: {PATH} line 2)" in said[1]
    assert "spec.keys[0].file" in said[2]
    assert f"(keySources: {PATH} line 3)" in said[2]
    assert function(item, config=LAX, files={"/repo/key.txt": A_KEY.encode()})[2] == 0


TRACED = """
import sys
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import PATH

class Elsewhere(Host):
    def read(self, path, limit=1 << 24, *, follow=True):
        return super().read(sys.argv[1] if path == PATH else path, limit, follow=follow)

output, results, status = run(sys.stdin.buffer.read(), Elsewhere(env={"HOME": sys.argv[2]}), FUNCTION)
sys.stderr.write(" ".join(result.reason for result in results))
sys.exit(status)
"""


def traced(tmp_path: Path, policy: str | None, config: dict[str, Any]) -> tuple[int, str, str]:
    """Exit status, reasons, and every system call that opened a file or a connection."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    place, log = tmp_path / "policy.yaml", tmp_path / "calls"
    if policy is None:
        place.unlink(missing_ok=True)
    else:
        place.write_text(policy)
    argv = ["strace", "-f", "-e", "trace=open,openat,openat2,connect,execve", "-o", log, sys.executable, "-c", TRACED]
    done = subprocess.run(
        [*argv, str(place), str(tmp_path)],
        input=made.resource_list(document(), config=config),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "ptrace" in done.stderr or not log.exists():
        pytest.skip("strace may not trace here")
    return done.returncode, done.stderr, log.read_text()


def test_a_refused_key_file_is_never_opened(tmp_path):
    """S1, seen by the kernel: neither it nor any ambient place is opened, no program is started, nothing is called."""
    key = tmp_path / "key.txt"
    key.write_text(A_KEY)
    config = decrypt(mac="tags", ambient="always", keys=[{"file": str(key)}])
    status, said, calls = traced(tmp_path, None, config)
    assert (status, said) == (0, "MacUnverifiable") or status == 0
    assert f'"{key}"' in calls  # so the trace would show it
    for policy in (STRICT, STRICT + "keySources: [folder]\n", "readableRoots: [/etc/keys]\n", "mac: nonsense\n"):
        status, said, calls = traced(tmp_path, policy, config)
        assert status == 1
        assert set(said.split()) == {"PolicyDenied"}
        assert "key.txt" not in calls
        assert ".ssh" not in calls
        assert ".config/sops" not in calls
        assert "AF_INET" not in calls
        assert calls.count("execve(") == 1


@pytest.mark.parametrize(
    ("policy", "config", "said"),
    [
        ("mac: strict", decrypt(mac="tags"), "nothing laxer than strict"),
        ("mac: auto", decrypt(mac="tags"), "nothing laxer than auto"),
        ("mac: strict", {"apiVersion": "v1", "kind": "ConfigMap", "data": {"mac": "tags"}}, "data.mac asks for tags"),
        ("ambient: auto", decrypt(ambient="always"), "no more than auto"),
        ("keySources: [folder]", decrypt(ambient="always"), "no more than never"),
        ("keySources: [env]", decrypt(keys=[{"value": A_KEY}]), "only env"),
        ("keySources: [config]", decrypt(keys=[{"env": "SOME_KEY"}]), "only config"),
        ("keySources: [config]", decrypt(keys=[{"file": "/k"}]), "only config"),
        ("keySources: [config]", referring(), "only config"),
        ("keySources: []", made.KEY_SECRET, "only none"),
        ("readableRoots: []", decrypt(keys=[{"file": "/k"}]), "only files below none"),
        ("readableRoots: [/k]", decrypt(keys=[{"file": "/keys/a"}]), "only files below /k"),
        ("readableRoots: [/keys]", decrypt(keys=[{"file": "/keys/../k"}]), "only files below /keys"),
        ("readableRoots: [/keys]", decrypt(keys=[{"file": "/keys"}]), "only files below /keys"),
    ],
)
def test_every_line_of_the_policy_that_a_config_may_be_in_conflict_with(policy, config, said):
    """S1"""
    item, secret = document(), key_secret(A_KEY)
    files = {path: A_KEY.encode() for path in ("/k", "/keys/a", "/keys/b")}
    output, results, status = function(
        item, secret, config=config, policy=policy, files=files, env={"SOME_KEY": A_KEY, "SOPS_AGE_KEY": A_KEY}
    )
    assert status == 1
    assert reasons(results) == [("error", "PolicyDenied")]
    assert said in results[0].message
    assert f"{PATH} line 1" in results[0].message
    assert item in output["items"]


@pytest.mark.parametrize(
    ("policy", "config"),
    [
        ("mac: tags\nambient: always", decrypt(mac="tags", ambient="always", keys=[{"value": A_KEY}])),
        ("mac: auto", decrypt(mac="strict", keys=[{"value": A_KEY}])),
        ("mac: strict\nambient: never", decrypt(mac="auto", ambient="auto", keys=[{"value": A_KEY}])),
        ("ambient: auto", decrypt(ambient="never", keys=[{"value": A_KEY}])),
        ("keySources: [env]", decrypt(keys=[{"env": "SOME_KEY"}])),
        ("keySources: [secretRef]", referring()),
        ("keySources: [config]", made.KEY_SECRET),
        ("keySources: [file]\nreadableRoots: [/keys]", decrypt(keys=[{"file": "/keys/a"}])),
        ("readableRoots: [/x, /keys/]", decrypt(keys=[{"file": "/keys//./a"}])),
        ("keySources: [folder]", None),
        ("{}", made.KEY_SECRET),
    ],
)
def test_what_the_policy_allows_works(policy, config):
    """S1: tighter wishes are granted, and `auto`, which is the default, asks for nothing."""
    files = {"/keys/a": A_KEY.encode(), "/keys/k.agekey": A_KEY.encode()}
    output, results, status = function(
        document(), key_secret(A_KEY), config=config, policy=policy, files=files, env={"SOME_KEY": A_KEY}
    )
    assert status == 0, [result.line() for result in results]
    assert opened(output) == [True]


def test_the_policy_holds_where_the_config_is_silent():
    """S1: mac, ambient, strict and the key folder."""
    changed = {**document(), "type": "changed"}
    config = {**made.KEY_SECRET, "metadata": {"name": "sops-keys", "annotations": FROM_KUSTOMIZE}}
    assert reasons(function(changed, config=config)[1]) == [("warning", "MacUnverifiable")]
    assert reasons(function(changed, config=config, policy="mac: strict")[1]) == [("error", "MacMismatch")]
    assert reasons(function(changed, config=config, policy="strict: true")[1]) == [("error", "MacUnverifiable")]
    ambient = {"SOPS_AGE_KEY": A_KEY}
    assert function(document(), env=ambient)[2] == 0
    assert reasons(function(document(), env=ambient, policy="ambient: never")[1]) == [("error", "NoUsableKey")]
    assert reasons(function(document(), env=ambient, policy="keySources: [folder]")[1]) == [("error", "NoUsableKey")]
    files = {"/mine/k.agekey": A_KEY.encode(), "/keys/k.agekey": B_KEY.encode()}
    assert function(document(), files=files, policy="keyFolder: /mine")[2] == 0
    assert reasons(function(document(), files=files, policy="keySources: [env]")[1]) == [("error", "NoUsableKey")]


def test_the_environment_only_tightens():
    """S1: a repository may set variables of a function too; the key folder of the policy is not theirs to choose."""
    files = {"/theirs/k.agekey": A_KEY.encode(), "/mine/k.agekey": A_KEY.encode()}
    chosen = {"KRM_SOPS_KEY_DIR": "/theirs"}
    assert function(document(), files=files, env=chosen)[2] == 0
    _, results, status = function(document(), files=files, env=chosen, policy="keyFolder: /mine")
    assert status == 1
    assert reasons(results) == [("error", "PolicyDenied")]
    assert "/theirs" in results[0].message
    assert function(document(), files=files, env={"KRM_SOPS_KEY_DIR": "/mine/"}, policy="keyFolder: /mine")[2] == 0


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("", "an empty document"),
        ("# mac: strict\n", "an empty document"),
        ("- mac\n", "no mapping"),
        ("mac: strict\n}", "no YAML"),
        ("mac: strict\nmac: tags", "occurs twice"),
        ("macs: strict", "no field 'macs'"),
        ("mac: none", "policy.mac is 'none'"),
        ("mac:", "policy.mac is empty"),
        ("mac: [strict]", "policy.mac must be a string"),
        ("mac: strict\n---\nmac: tags", "no YAML"),
        ("ambient: no", "policy.ambient"),
        ("strict: sometimes", "policy.strict must be true or false"),
        ("keySources: folder", "policy.keySources must be a list"),
        ("keySources: [folders]", "policy.keySources has 'folders'"),
        ("keySources: [[folder]]", "policy.keySources must be a list of strings"),
        ("keyFolder: keys", "policy.keyFolder has 'keys'"),
        ("keyFolder: ''", "policy.keyFolder"),
        ("readableRoots: [keys]", "policy.readableRoots"),
        ("readableRoots: [/keys/../x]", "policy.readableRoots"),
        ("hosts: ['https://a/b']", "policy.hosts"),
        ("hosts: ['a:b']", "policy.hosts"),
        ("hosts: ['']", "policy.hosts"),
        ("hosts: ['*']", "policy.hosts"),
        ("hosts: ['ftp://a']", "policy.hosts"),
        ("hosts: ['https://user@a']", "policy.hosts"),
        ("vaults: [vault.example]", "policy.vaults"),
        ("vaults: ['https://*.example']", "policy.vaults"),
        ("executables: [/bin/sh]", "policy.executables"),
        ("executables: [age-plugin-]", "policy.executables"),
        ("executables: [age-plugin-../x]", "policy.executables"),
        ("limits: 5", "policy.limits must be a mapping"),
        ("limits: {size: 5}", "policy.limits has no field 'size'"),
        ("limits: {depth: '5'}", "policy.limits.depth must be a whole number"),
        ("limits: {depth: true}", "policy.limits.depth must be a whole number"),
        ("limits: {depth: 0}", "limit depth"),
        ("limits: {depth: 100000}", "limit depth"),
        ("limits: {depth: -1}", "limit depth"),
        ("limits: {depth: }", "policy.limits.depth is empty"),
        ("a: &a [x]\nmac: strict", "no field 'a'"),
        ("\x00", "no YAML"),
    ],
)
def test_a_policy_that_cannot_be_used_stops_everything(policy, said):
    """S1: fails closed, and names the field that is wrong."""
    item = document()
    output, results, status = function(item, config=made.KEY_SECRET, policy=policy)
    assert status == 1
    assert output["items"] == [item]
    assert "functionConfig" not in output
    assert reasons(results) == [("error", "PolicyDenied")]
    assert said in results[0].message
    assert PATH in results[0].message


def test_a_policy_that_cannot_be_read_stops_everything(tmp_path):
    """S1: too large, not UTF-8, a folder, a file of somebody else; only where there is none, there is none."""

    text = made.resource_list(document()).encode()
    for name, content in (("large", b"#" * (1 << 17)), ("latin", b"mac: strict # \xe9\n"), ("folder", None)):
        path = tmp_path / name
        path.mkdir() if content is None else path.write_bytes(content)
        assert reasons(run(text, Elsewhere(path), FUNCTION)[1]) == [("error", "PolicyDenied")]
    assert reasons(run(text, Elsewhere(tmp_path / "latin" / "below-a-file"), FUNCTION)[1]) == [
        ("error", "PolicyDenied")
    ]
    assert run(text, Elsewhere(tmp_path / "absent"), FUNCTION)[2] == 0


def test_a_stream_without_secrets_never_asks_for_the_policy():
    """The file is read when something encrypted is there, once."""

    class Counting(Host):
        asked: tuple[str, ...] = ()

        def read(self, path: str, limit: int = 1 << 24, *, follow: bool = True) -> bytes:
            self.asked += (path,)
            return super().read(path, limit, follow=follow)

    for item, config, times in (
        (made.PLAIN, None, 0),
        (made.PLAIN, made.KEY_SECRET, 0),
        (document(), made.KEY_SECRET, 1),
        (document(), None, 1),
    ):
        host = Counting(env={}, files={})
        run(made.resource_list(item, config=config).encode(), host, FUNCTION)
        assert host.asked.count(PATH) == times


def test_a_readable_root_cannot_be_left_by_a_link(tmp_path):
    """S1, S2: not by a link in the file's place, nor in a folder's, nor by dots; a link to within is fine."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for folder in (inside, outside):
        (folder / "key.txt").write_text(A_KEY)
    (inside / "file").symlink_to(outside / "key.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "near").symlink_to("key.txt")
    place = tmp_path / "policy.yaml"
    place.write_text(f"readableRoots: [{inside}]\n")

    for name, status in (
        ("key.txt", 0),
        ("near", 0),
        ("./near", 0),
        ("file", 1),
        ("folder/key.txt", 1),
        ("../outside/key.txt", 1),
        ("../inside/key.txt", 0),
    ):
        text = made.resource_list(document(), config=decrypt(keys=[{"file": f"{inside}/{name}"}]))
        _, results, found = run(text.encode(), Elsewhere(place), FUNCTION)
        assert found == status, name
        assert reasons(results) == [("error", "PolicyDenied")] * status
    with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
        Host(env={}).read(str(inside / "folder" / "key.txt"), follow=False)
    with pytest.raises(OSError, match="Too many levels"):
        Host(env={}).read(str(inside / "file"), follow=False)


def test_a_link_that_is_put_there_after_the_check_is_not_followed(tmp_path):
    """S2: what was looked at is what is opened."""
    inside, outside, place = tmp_path / "inside", tmp_path / "outside", tmp_path / "policy.yaml"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "key.txt").write_text(A_KEY)
    place.write_text(f"readableRoots: [{inside}]\n")

    class Swapped(Elsewhere):
        looks = 0

        def resolved(self, path: str) -> str:
            found = super().resolved(path)
            if path.endswith("key.txt"):
                self.looks += 1
                if self.looks == 2:  # the last look before the file is opened
                    (inside / "key.txt").unlink()
                    (inside / "key.txt").symlink_to(outside / "key.txt")
            return found

    text = made.resource_list(document(), config=decrypt(keys=[{"file": f"{inside}/key.txt"}]))
    host = Swapped(place)
    _, results, status = run(text.encode(), host, FUNCTION)
    assert host.looks == 2
    assert (status, reasons(results)) == (1, [("error", "InvalidConfig")])


# Flags


def test_flags_come_after_the_policy():
    """S1: the command line is the operator's; a config still only asks for less."""
    changed = {**document(), "type": "changed"}
    keys = [{"value": A_KEY}]
    assert (
        function(changed, config=decrypt(mac="tags", keys=keys), policy="mac: strict", arguments=("--mac", "tags"))[2]
        == 0
    )
    assert function(changed, config=decrypt(keys=keys), arguments=("--mac", "tags"))[2] == 0
    assert function(changed, config=decrypt(mac="strict", keys=keys), arguments=("--mac=tags",))[2] == 1
    _, results, _ = function(changed, config=decrypt(mac="tags", keys=keys), arguments=("--mac", "strict"))
    assert reasons(results) == [("error", "PolicyDenied")]
    assert "--mac strict" in results[0].message
    ambient = {"SOPS_AGE_KEY": A_KEY}
    assert function(document(), env=ambient, arguments=("--ambient", "never"))[2] == 1
    assert function(document(), env=ambient, policy="ambient: never", arguments=("--ambient", "auto"))[2] == 0
    _, results, _ = function(document(), config=decrypt(ambient="always"), env=ambient, arguments=("--ambient", "auto"))
    assert "--ambient auto" in results[0].message
    wrong = decrypt(keys=[{"value": B_KEY}])
    assert function(document(), config=wrong, env=ambient)[2] == 1
    assert function(document(), config=wrong, env=ambient, arguments=("--ambient", "always"))[2] == 0


def test_strict_makes_warnings_errors():
    config = {**made.KEY_SECRET, "metadata": {"name": "sops-keys", "annotations": FROM_KUSTOMIZE}}
    changed = {**document(), "type": "changed"}
    assert reasons(function(changed, config=config, arguments=("--strict",))[1]) == [("error", "MacUnverifiable")]


def test_key_files_of_the_operator_are_the_only_keys():
    """Contract 1: neither the config's keys, nor the folder, nor ambient ones, unless `--ambient always`."""
    files = {"/a": A_KEY.encode(), "/b": B_KEY.encode(), "/keys/k.agekey": A_KEY.encode()}
    ambient = {"SOPS_AGE_KEY": A_KEY}
    for config in (None, made.KEY_SECRET, decrypt(ambient="always", keys=[{"value": A_KEY}]), referring()):
        item, secret = document(), key_secret(A_KEY)
        given: dict[str, Any] = {"config": config, "files": files}
        assert function(item, secret, **given, arguments=("--key-file", "/a"))[2] == 0
        _, results, status = function(item, secret, **given, env=ambient, arguments=("--key-file", "/b"))
        assert status == 1
        assert reasons(results) == [("error", "NoUsableKey")]
        both = ("--key-file", "/b", "--key-file=/a")
        assert function(item, secret, **given, arguments=both)[2] == 0
        always = ("--key-file", "/b", "--ambient", "always")
        assert function(item, secret, **given, env=ambient, arguments=always)[2] == 0
    config = decrypt(keys=[{"value": B_KEY}, {"file": "/b"}])  # set aside, so not refused either
    policy = "keySources: []\nreadableRoots: []"
    assert function(document(), config=config, policy=policy, files=files, arguments=("--key-file", "/a"))[2] == 0
    _, results, status = function(document(), arguments=("--key-file", "/absent"))
    assert (status, reasons(results)) == (1, [("error", "InvalidConfig")])


def test_a_key_secret_stays_local_with_key_files_too():
    output, _, _ = function(
        document(), key_secret(A_KEY), config=referring(), files={"/a": A_KEY.encode()}, arguments=("--key-file", "/a")
    )
    assert output["items"][1]["metadata"]["annotations"] == {LOCAL: "true"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mac", "lax"),
        ("--mac="),
        ("--ambient", "sometimes"),
        ("--limit", "depth"),
        ("--limit", "depth=x"),
        ("--limit", "depth=-1"),
        ("--limit", "depth=0"),
        ("--limit", "depth=999999"),
        ("--limit", "size=5"),
        ("--max-remote-calls", "0"),
        ("--max-remote-calls", "many"),
        ("--unknown",),
        ("--strict", "file.yaml"),
        ("--strict=maybe",),
        ("--key-file",),
    ],
)
def test_a_flag_that_cannot_be_is_an_error_before_anything_is_read(program, arguments):
    """S1: nothing on stdout, one line on stderr that names the flag."""
    done = program(*([arguments] if isinstance(arguments, str) else arguments), stdin=made.resource_list(document()))
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"krm-sops: error: ")
    assert b"Traceback" not in done.stderr


def test_the_program_takes_flags(program, tmp_path):
    """As `exec: krm-sops --strict` and a sidecar's command give them."""
    key, other = tmp_path / "key.txt", tmp_path / "other.txt"
    key.write_text(A_KEY)
    other.write_text(B_KEY)
    given = made.resource_list(document(), config=None)
    usual = ("--strict", "--mac", "strict", "--max-remote-calls", "3", "--limit", "depth=50", "--limit=run_nodes=900")
    done = program(*usual, "--key-file", key, stdin=given)
    assert done.returncode == 0, done.stderr
    assert b"plain-of-password" in done.stdout
    assert done.stderr == b""
    done = program(*usual, "--key-file", other, stdin=given)
    assert done.returncode == 1
    assert b"--key-file" in done.stderr
    assert program("--ambient", "never", stdin=given, env={"SOPS_AGE_KEY": A_KEY}).returncode == 1
    assert program("--ambient", "always", stdin=given, env={"SOPS_AGE_KEY": A_KEY}).returncode == 0
    for ask in ("--help", "--strict --help"):
        done = program(*ask.split())
        assert done.returncode == 0
        assert b"--max-remote-calls" in done.stdout


# S23: limits are the operator's


def large() -> dict[str, dict[str, Any]]:
    """Limit -> a document that meets it where the limit is set to 60 (input_bytes and document_bytes: 900)."""
    plain = made.PLAIN
    deep: Any = "x"
    for _ in range(70):
        deep = [deep]
    return {
        "input_bytes": made.encrypted(plain),
        "document_bytes": made.encrypted(plain),
        "depth": made.encrypted({**plain, "status": deep}),
        "document_nodes": made.encrypted({**plain, "status": ["x"] * 70}),
        "run_nodes": made.encrypted({**plain, "status": ["x"] * 70}),
        "key_entries": made.encrypted(plain, age=wrapped_for(A_KEY) * 61),
    }


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", large())
def test_every_limit_is_an_option_and_its_error_names_it(name, as_json):
    """S23: by the policy and by a flag, downwards and upwards."""
    item = large()[name]
    text = (
        made.resource_list(item)
        if not as_json
        else json.dumps({"kind": "ResourceList", "functionConfig": made.KEY_SECRET, "items": [item]})
    )
    number = 900 if name.endswith("bytes") else 60

    def told(policy: str, *arguments: str, limits: Limits = FUNCTION) -> str:
        host = Host(env={}, files={PATH: policy.encode()} if policy else {})
        try:
            output, results, status = run(text.encode(), host, limits, flags(*arguments))
        except LimitError as error:
            return error.message
        if status == 0:
            assert b"plain-of-password" in output
            return ""
        assert reasons(results) == [("error", "LimitExceeded")]
        return results[0].message

    assert told("") == ""
    assert f"the limit {name}" in told(f"limits: {{{name}: {number}}}")
    assert f"the limit {name}" in told("", "--limit", f"{name}={number}")
    more = 300 if name == "depth" else number * 1000
    assert told(f"limits: {{{name}: {number}}}", "--limit", f"{name}={more}") == ""
    low = FUNCTION.changed({name: number})
    assert f"the limit {name}" in told("", limits=low)
    assert told(f"limits: {{{name}: {more}}}", limits=low) == ""


def test_the_time_of_a_run_is_an_option(program, tmp_path):
    """S23: the alarm says which limit it is; what passed before the policy was read counts."""
    with program.start(
        "--limit", "run_seconds=1", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as waiting:
        assert waiting.stderr is not None
        assert b"the limit run_seconds" in waiting.stderr.read()
        assert waiting.wait(60) == 1
    alarms: list[int] = []
    host = Host(
        env={}, files={PATH: b"limits: {run_seconds: 7, remote_calls: 3, call_seconds: 2}"}, set_alarm=alarms.append
    )
    assert run(made.resource_list(document()).encode(), host, FUNCTION)[2] == 0
    assert alarms == [7]
    assert (host.limits.remote_calls, host.limits.call_seconds, host.limits.retry_seconds) == (3, 2, 30)


def test_the_help_names_every_limit():
    assert all(name in HELP for name in vars(FUNCTION))


# S12: whose keys open what


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_two_namespaces_with_key_secrets_of_one_name_never_open_each_others(order):
    """S5, S12: each config opens its own; B holding a copy of A's document gets NoUsableKey, in every order."""
    mine, theirs = document("a"), document("b", B_KEY)
    listed = [mine, theirs, key_secret(A_KEY, "a"), key_secret(B_KEY, "b")]
    output, results, status = function(*[listed[at] for at in order], config=referring("a"))
    assert status == 0
    assert reasons(results) == [("warning", "OtherNamespace")]
    found = {item["metadata"]["namespace"]: item for item in output["items"] if item["metadata"]["name"] == "db"}
    assert is_plain(found["a"])
    assert found["b"] == theirs
    copied = [mine, document("b"), *listed[2:]]
    given = [copied[at] for at in order]
    for namespace, expected in (("a", 0), ("b", 1)):
        output, results, status = function(*given, config=referring(namespace))
        assert status == expected
        if expected:
            assert ("error", "NoUsableKey") in reasons(results)
            assert [item for item in output["items"] if item["metadata"]["name"] == "db"] == [
                item for item in given if item["metadata"]["name"] == "db"
            ]


def test_two_runs_in_one_process_share_no_opened_key():
    """S5: what A opened, B cannot take from a cache, in both orders."""
    a, b = made.KEY_SECRET, {**made.KEY_SECRET, "stringData": {"k.agekey": B_KEY}}
    item = document()
    for configs in ([a, b, a], [b, a, b]):
        for config in configs:
            _, results, status = function(item, config=config)
            assert status == (config is b)
            assert reasons(results) == [("error", "NoUsableKey")] * status


def test_twenty_threads_share_no_opened_key():
    """S5: half of them have A's key."""
    item = document()
    configs = [{**made.KEY_SECRET, "stringData": {"k.agekey": key}} for key in (A_KEY, B_KEY) * 10]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda config: function(item, config=config), configs))
    assert [status for _, _, status in answers] == [0, 1] * 10
    assert {tuple(reasons(results)) for _, results, status in answers if status} == {(("error", "NoUsableKey"),)}


def test_a_config_without_a_namespace_opens_everything():
    """S12: the common case."""
    items = [document("a"), document("b", name="other"), document("", name="third")]
    output, results, status = function(*items, key_secret(A_KEY), config=referring())
    assert (status, results) == (0, [])
    assert opened(output) == [True, True, True]


def test_a_config_with_a_namespace_opens_what_is_in_it_and_what_its_selectors_name():
    """S12: a selector that names no namespace stays within the config's own."""
    items = [document("a"), document("b", name="b"), document("default", name="c"), document("", name="d")]
    for selectors, expected in (
        (None, [True, False, False, False]),
        ([{"kind": "Secret"}], [True, False, False, False]),
        ([{"namespace": "b"}], [False, True, False, False]),
        ([{"namespace": "b"}, {"kind": "Secret"}], [True, True, False, False]),
        ([{"namespace": "b", "name": "other"}, {"kind": "Secret"}], [True, False, False, False]),
    ):
        spec = {"keys": [{"value": A_KEY}], **({"selectors": selectors} if selectors else {})}
        output, results, status = function(*items, config=decrypt("a", **spec))
        assert status == 0
        assert opened(output) == expected
        assert [item for item, is_open in zip(output["items"], expected, strict=True) if not is_open] == [
            item for item, is_open in zip(items, expected, strict=True) if not is_open
        ]
        assert {result.reason for result in results} <= {"OtherNamespace"}


def test_the_key_secret_as_config_opens_its_own_namespace_only():
    """S12: also a Secret and a ConfigMap as the config."""
    config = key_secret(A_KEY, "a")
    output, results, status = function(document("a"), document("b", name="b"), config=config)
    assert (status, opened(output)) == (0, [True, False])
    assert [(result.reason, result.item and result.item.name) for result in results] == [("OtherNamespace", "b")]
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a"}}
    ambient = {"SOPS_AGE_KEY": A_KEY}
    output, _, status = function(document("a"), document("b", name="b"), config=config_map, env=ambient)
    assert (status, opened(output)) == (0, [True, False])


def test_a_config_that_leaves_everything_for_its_namespace_says_so_aloud():
    """A warning, so that it is on stderr and an error with `strict`; nothing is opened on the way."""
    item = document("prod")
    output, results, status = function(item, config=key_secret(A_KEY, "flux-system"))
    assert (status, output["items"]) == (0, [item])
    assert reasons(results) == [("warning", "OtherNamespace")]
    assert "flux-system" in results[0].message
    for given in ({"policy": "strict: true"}, {"arguments": ("--strict",)}):
        _, results, status = function(item, config=key_secret(A_KEY, "flux-system"), **given)
        assert status == 1
        assert ("error", "OtherNamespace") in reasons(results)


def test_unset_is_not_default():
    """S12: for key Secrets and items, in both directions."""
    for of_config, of_item in (("default", ""), ("", "default")):
        item, secret = document(of_config), key_secret(A_KEY, of_item)
        _, results, status = function(item, secret, config=referring(of_config))
        assert (status, reasons(results)) == (1, [("error", "InvalidConfig")])
        assert "no Secret of the name" in results[0].message
    item, secret = document(""), key_secret(A_KEY, "default")
    output, results, status = function(item, secret, config=referring("default"))
    assert (status, output["items"][0]) == (0, item)
    # kustomize notes "default" for none: then it counts as none
    item, secret = moved(document("", only_encrypted=True), "prod"), moved(key_secret(A_KEY), "prod")
    assert function(item, secret, config=referring())[2] == 0
    item, secret = document("default"), moved(key_secret(A_KEY), "prod")
    assert reasons(function(item, secret, config=referring("default"))[1]) == [("error", "InvalidConfig")]


def test_two_key_secrets_that_could_be_meant_are_an_error_in_both_orders():
    """S12: also where one of them only pretends to come from there."""
    item = document("a")
    for other in (
        key_secret(A_KEY, "a"),
        key_secret(B_KEY, "a"),
        key_secret(B_KEY, "b", annotations={MOVED: "a"}),
        {
            **key_secret(B_KEY, "a"),
            "metadata": {
                "name": "x",
                "namespace": "a",
                "annotations": {"internal.config.kubernetes.io/previousNames": "sops-keys"},
            },
        },
    ):
        for secrets in ((key_secret(A_KEY, "a"), other), (other, key_secret(A_KEY, "a"))):
            _, results, status = function(item, *copy.deepcopy(secrets), config=referring("a"))
            assert (status, reasons(results)) == (1, [("error", "InvalidConfig")])
            assert "2 Secrets of the name" in results[0].message


def test_the_namespace_transformer_moves_items_and_key_secret_together():
    """S12: what was in the config's namespace, and moved along with the key Secret, still is in it."""
    secret = moved(key_secret(A_KEY, "a"), "prod")
    items = [
        moved(document("a", only_encrypted=True), "prod"),
        moved(document("b", name="b", only_encrypted=True), "prod"),
    ]
    for listed in ([*items, secret], [secret, *items]):
        output, results, status = function(*listed, config=referring("a"))
        assert status == 0
        assert opened(output) == [True, False]
        assert reasons(results) == [("warning", "OtherNamespace")]


def test_nobody_moves_anothers_items_into_a_namespace_of_ones_own():
    """S6, S12: B writes A's namespace into a file, kustomize moves it to B; or B forges the note. It stays closed."""
    secret = key_secret(A_KEY, "a")
    for item in (
        moved(document("a", name="stolen", only_encrypted=True), "b"),
        document("b", name="stolen", annotations={MOVED: "a"}),
    ):
        for listed in ([document("a"), item, secret], [secret, item, document("a")]):
            output, _, status = function(*listed, config=referring("a"))
            assert status == 0
            assert sorted(opened(output)) == [False, True]
            left = next(one for one in output["items"] if one["metadata"]["name"] == "stolen")
            assert left == item
    away = moved(secret, "prod")
    output, _, _ = function(moved(document("a", name="stolen", only_encrypted=True), "b"), away, config=referring("a"))
    assert opened(output) == [False]


def test_a_key_secret_that_is_encrypted_itself_opens_with_the_configs_other_keys():
    """S12: one level. It stays encrypted in the list, as the local configuration that it is."""
    plain = key_secret(A_KEY)
    secret = made.encrypted(plain, age=wrapped_for(B_KEY))
    in_base64 = made.encrypted(
        {
            **{k: v for k, v in plain.items() if k != "stringData"},
            "data": {"k.agekey": b64encode(A_KEY.encode()).decode()},
        },
        age=wrapped_for(B_KEY),
    )
    wholly = made.encrypted(plain, age=wrapped_for(B_KEY), encrypted_regex="^(data|stringData)$")
    for one in (secret, in_base64, wholly):
        for given in (
            {"config": referring(keys=[{"value": B_KEY}])},
            {"config": referring(), "env": {"SOPS_AGE_KEY": B_KEY}},
            {"config": referring(), "files": {"/keys/k.agekey": B_KEY.encode()}},
            {"config": referring(keys=[{"env": "K"}], ambient="never"), "env": {"K": B_KEY}},
        ):
            output, results, status = function(document(), one, **given)
            assert status == 0, [result.line() for result in results]
            assert opened(output) == [True]
            kept = output["items"][1]
            assert kept["metadata"].pop("annotations") == {LOCAL: "true"}
            assert kept == one
            again, _, status = function(
                document(), {**one, "metadata": {**one["metadata"], "annotations": {LOCAL: "true"}}}, **given
            )
            assert status == 0
            assert opened(again) == [True]
    _, results, status = function(
        document(), config={**secret, "metadata": {"name": "sops-keys"}}, env={"SOPS_AGE_KEY": B_KEY}
    )
    assert status == 0, [result.line() for result in results]


def test_a_key_secret_does_not_open_itself():
    """S12: no circles, of one or of two."""
    own = made.encrypted(key_secret(A_KEY), age=wrapped_for(A_KEY))
    _, results, status = function(document(), own, config=referring())
    assert (status, reasons(results)) == (1, [("error", "NoUsableKey")])
    assert results[0].item is not None
    assert results[0].item.name == "sops-keys"
    first = {**made.encrypted(key_secret(A_KEY), age=wrapped_for(B_KEY))}
    second = made.encrypted({**key_secret(B_KEY), "metadata": {"name": "more-keys"}}, age=wrapped_for(A_KEY))
    _, results, status = function(document(), first, second, config=referring())
    assert (status, reasons(results)) == (1, [("error", "NoUsableKey")])
    changed = {**first, "type": "changed"}
    _, results, status = function(document(), changed, config=referring(), env={"SOPS_AGE_KEY": B_KEY})
    assert (status, reasons(results)) == (1, [("error", "MacMismatch")])


# S4: the key folder by project


PROJECTS = {"/keys/a/k.agekey": A_KEY.encode(), "/keys/b/k.agekey": B_KEY.encode()}


@pytest.mark.parametrize("by", ["the variable", "the policy"])
def test_a_key_folder_by_project(by):
    """S4: project B with A's file has no key; a project that is a path is refused."""
    template = "/keys/{ARGOCD_APP_PROJECT_NAME}"
    env = {"KRM_SOPS_KEY_DIR": template} if by == "the variable" else {}
    policy = None if env else f"keyFolder: '{template}'\nambient: never"

    def of(project: str, item: dict[str, Any]) -> tuple[int, list[tuple[str, str]]]:
        given = {**env, "ARGOCD_APP_PROJECT_NAME": project}
        _, results, status = function(item, env=given, policy=policy, files=PROJECTS)
        return status, reasons(results)

    assert of("a", document()) == (0, [])
    assert of("b", document(identity=B_KEY)) == (0, [])
    assert of("b", document()) == (1, [("error", "NoUsableKey")])
    for project in ("../a", "", ".", "..", "a/b", "/a", "a\0", "absent", "a/"):
        assert of(project, document()) == (1, [("error", "InvalidConfig")])


def test_parameters_of_an_application_choose_nothing():
    """S4: variables of PARAM_ and ARGOCD_ENV_ are the application's, and are not looked at."""
    chosen = {
        f"{prefix}{name}": value
        for prefix in ("PARAM_", "ARGOCD_ENV_")
        for name, value in (
            ("KRM_SOPS_KEY_DIR", "/keys/a"),
            ("SOPS_AGE_KEY", A_KEY),
            ("SOPS_AGE_KEY_FILE", "/keys/a/k.agekey"),
            ("ARGOCD_APP_PROJECT_NAME", "a"),
            ("MAC", "tags"),
        )
    }
    env = {**chosen, "KRM_SOPS_KEY_DIR": "/keys/{ARGOCD_APP_PROJECT_NAME}", "ARGOCD_APP_PROJECT_NAME": "b"}
    _, results, _ = function(document(), env=env, files=PROJECTS)
    assert reasons(results) == [("error", "NoUsableKey")]


# S13: keys in band borrow nothing


@pytest.mark.parametrize("of", ["config", "secretRef", "env", "file", "folder"])
def test_with_a_key_in_band_no_ambient_key_of_its_type_is_used(of):
    """S13: a wrong one fails, unless the config asks for ambient keys as well."""
    files = {"/k": B_KEY.encode(), "/me/.config/sops/age/keys.txt": A_KEY.encode()}
    env = {"SOPS_AGE_KEY": A_KEY, "SOPS_AGE_KEY_FILE": "/a", "HOME": "/me", "WRONG": B_KEY}
    if of == "folder":
        files["/keys/k.agekey"] = B_KEY.encode()
    fields = {"config": "value", "env": "env", "file": "file"}
    values = {"config": B_KEY, "env": "WRONG", "file": "/k"}
    spec: dict[str, Any] = {"keys": [{fields[of]: values[of]}]} if of in fields else {}
    make = referring if of == "secretRef" else decrypt
    given: dict[str, Any] = {"env": env, "files": files}
    _, results, status = function(document(), key_secret(B_KEY), config=make(**spec), **given)
    assert (status, reasons(results)) == (1, [("error", "NoUsableKey")])
    assert "SOPS_AGE_KEY" not in results[0].message
    assert function(document(), key_secret(B_KEY), config=make(**spec, ambient="always"), **given)[2] == 0
    _, results, status = function(document(), key_secret(B_KEY), config=make(**spec, ambient="never"), **given)
    assert (status, reasons(results)) == (1, [("error", "NoUsableKey")])


def plugin_identity(name: str) -> str:
    return bech32.encode(f"age-plugin-{name}-", b"\x01\x02").upper()


def test_a_plugin_identity_in_band_starts_nothing_unless_the_policy_lists_it(tmp_path):
    """S13, S15: neither by default nor where another program is listed."""
    marker = tmp_path / "started"
    program = tmp_path / "age-plugin-mark"
    program.write_text(f"#!/bin/sh\n: > {marker}\n")
    program.chmod(0o755)
    place = tmp_path / "policy.yaml"

    text = made.resource_list(document(), config=decrypt(keys=[{"value": plugin_identity("mark")}])).encode()
    for policy, starts in (
        (None, False),
        ("{}", False),
        ("executables: []", False),
        ("executables: [gpg, age-plugin-other]", False),
        ("executables: [age-plugin-mark]", True),
    ):
        place.unlink(missing_ok=True)
        if policy:
            place.write_text(policy)
        marker.unlink(missing_ok=True)
        _, results, status = run(text, Elsewhere(place, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}), FUNCTION)
        assert (status, reasons(results)) == (1, [("error", "NoUsableKey")])
        assert marker.exists() == starts, policy


@pytest.mark.parametrize("variable", ["SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD"])
def test_a_command_runs_in_a_function_where_the_policy_lists_it_and_only_then(tmp_path, variable):
    """S15: and never with ambient keys off."""
    command = tmp_path / "give"
    command.write_text(f"#!/bin/sh\necho {A_KEY}\n")
    command.chmod(0o755)
    place = tmp_path / "policy.yaml"

    text = made.resource_list(document(), config=None).encode()
    for policy, expected in (
        ("{}", 1),
        ("executables: [gpg]", 1),
        (f"executables: [{variable}]", 0),
        (f"executables: [{variable}]\nambient: never", 1),
    ):
        place.write_text(policy)
        status = run(text, Elsewhere(place, env={variable: str(command), "PATH": "/usr/bin:/bin"}), FUNCTION)[2]
        assert status == expected, policy


# Hosts


def vault_document(address: str) -> dict[str, Any]:
    entry = {"vault_address": address, "engine_path": "transit", "key_name": "k", "enc": "vault:v1:AAAA"}
    return made.encrypted(age=None, hc_vault=[entry])


class Listener:
    """A port that counts who connects."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def was_called(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def server() -> Iterator[Listener]:
    listener = Listener()
    with listener.socket:
        yield listener


@pytest.mark.parametrize(
    ("policy", "called"),
    [
        ("{}", True),
        ("hosts: ['http://127.0.0.1:1']", False),
        ("hosts: ['https://127.0.0.1']", False),
        ("hosts: []", False),
        ("vaults: ['https://vault.example']", False),
        ("vaults: []", False),
        ("hosts: ['URL']", True),
        ("vaults: ['URL']", True),
        ("hosts: ['URL']\nvaults: ['URL']", True),
    ],
)
def test_only_hosts_that_the_policy_lists_are_called(server, policy, called):
    """S1, S3: whatever the document and the environment say; the answer names the line."""
    env = {"VAULT_ADDR": server.url, "VAULT_TOKEN": "token"}
    given = policy.replace("URL", server.url) + "\nlimits: {call_seconds: 1, retry_seconds: 1}\n"
    given = given.removeprefix("{}\n")
    _, results, status = function(vault_document(server.url), env=env, policy=given)
    assert (status, reasons(results)) == (1, [("error", "NoUsableKey")])
    assert server.was_called() == called
    if not called:
        field = policy.partition(":")[0]
        assert f"hosts: {PATH} line 1" in results[0].message or f"under {field}" in results[0].message


def test_a_vault_of_the_policy_needs_no_variable_and_a_variable_adds_none(server):
    """S1, S3: the environment only tightens."""
    quick = "limits: {call_seconds: 1, retry_seconds: 1}\n"
    for policy, env, called in (
        (f"vaults: ['{server.url}']\n", {}, True),
        (f"vaults: ['{server.url}']\n", {"SOPS_HC_VAULT_ALLOWLIST": "https://other.example"}, False),
        ("vaults: ['https://other.example']\n", {"SOPS_HC_VAULT_ALLOWLIST": "all"}, False),
        ("vaults: ['https://other.example']\n", {"SOPS_HC_VAULT_ALLOWLIST": server.url}, False),
        ("", {}, False),
    ):
        function(vault_document(server.url), env={**env, "VAULT_TOKEN": "t"}, policy=policy + quick)
        assert server.was_called() == called, (policy, env)


# explain --policy


def test_explain_says_what_is_in_force_and_where_each_line_comes_from(program):
    """S1"""
    done = program("explain", "--policy")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert all("default" in line for line in lines if line != "limits:")
    done = program("explain", "--policy", "--strict", "--mac", "strict", "--limit", "depth=7", "--key-file", "/k")
    said = done.stdout.decode()
    for line in (
        "mac: strict  # --mac strict",
        "strict: true  # --strict",
        "depth: 7  # --limit depth",
        "ambient: never  # --key-file",
        "/k",
    ):
        assert line in said


def test_what_explain_prints_is_a_policy_with_the_same_meaning():
    """Each field of the file comes out again."""
    text = """\
mac: strict
ambient: auto
strict: true
keySources: [folder, secretRef, ambient]
keyFolder: /keys/{ARGOCD_APP_PROJECT_NAME}
readableRoots: [/etc/keys]
hosts: [kms.eu-west-1.amazonaws.com, "*.vault.azure.net", "http://169.254.169.254", "https://[::1]:8200"]
vaults: ["https://vault.example:8200"]
executables: [gpg, age-plugin-yubikey, SOPS_AGE_KEY_CMD]
limits:
  depth: 50
  remote_calls: 5
"""
    policy = in_force(Host(files={PATH: text.encode()}), FUNCTION)
    again = in_force(Host(files={PATH: "\n".join(policy_lines(policy)).encode()}), FUNCTION)
    assert [line.partition("  #")[0] for line in policy_lines(again)] == [
        line.partition("  #")[0] for line in policy_lines(policy)
    ]
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip().partition(":")[0]
        if name != "limits":
            key = f"limits.{name}" if line.startswith(" ") else name
            assert policy.origins[key] == f"{PATH} line {number}"
    with pytest.raises(PolicyError):
        in_force(Host(files={PATH: b"mac: lax"}), FUNCTION)
