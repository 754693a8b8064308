"""The init container and the systemd unit of deploy/materialize, as their files say."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.clients import EXAMPLES, KEY, PASSWORD, ROOT, Clients
from tests.e2e.test_image import image, podman  # noqa: F401 - a fixture

DEPLOY = ROOT / "deploy" / "materialize"
POD = yaml.safe_load((DEPLOY / "pod.yaml").read_text())
UNIT = DEPLOY / "krm-sops-secrets.service"
ENCRYPTED = EXAMPLES / "kustomize-template" / "secrets.enc.yaml"


def command_of_the_unit() -> str:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser["Service"]["ExecStart"]


def test_the_init_container_writes_for_the_application_only(image, tmp_path):  # noqa: F811
    (container,) = POD["spec"]["initContainers"]
    security = POD["spec"]["securityContext"]
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    flags = ["--rm", "--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
    flags += ["--security-opt", "no-new-privileges", "--user", user]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "shop.agekey").write_text(KEY)
    (tmp_path / "encrypted").mkdir()
    shutil.copy(ENCRYPTED, tmp_path / "encrypted")
    for name in ("keys", "encrypted"):
        flags += ["--volume", f"{tmp_path / name}:{mounts[name]}:ro"]
    memory = Path("/dev/shm") / f"krm-sops-test-{os.getpid()}"
    memory.mkdir()
    memory.chmod(0o777)  # as an emptyDir is
    try:
        podman("run", *flags, "--volume", f"{memory}:{mounts['secrets']}", image, *container["args"])
        link = memory / "values"
        assert (link / "database" / "password").read_text() == PASSWORD
        found = (link / "database" / "password").stat()
        assert (found.st_uid, found.st_mode & 0o777) == (security["runAsUser"], 0o400)
        assert os.readlink(link) == "values.d/1"
    finally:
        shutil.rmtree(memory)


def test_nothing_but_the_init_container_sees_the_key():
    (container,) = POD["spec"]["containers"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["secrets"]
    (secrets,) = (volume for volume in POD["spec"]["volumes"] if volume["name"] == "secrets")
    assert secrets["emptyDir"]["medium"] == "Memory"


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/krm-sops", shutil.which("true") or "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_of_the_unit_with_a_host_key(tmp_path):
    """An SSH host key opens what is encrypted for the age recipient that ssh-to-age makes of it."""
    clients = Clients(tmp_path)
    clients.need("ssh-keygen", "sops")
    clients.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "host")
    recipient = clients.run("krm-sops", "keygen", "-y", tmp_path / "host").stdout.split()[-1]
    assert recipient.startswith("age1")
    plain = tmp_path / "plain.yaml"
    plain.write_text("database:\n  password: secret\n")
    done = clients.run("sops", "encrypt", "--age", recipient, "--output", tmp_path / "s.enc.yaml", plain, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    memory = Path("/dev/shm") / f"krm-sops-test-{os.getpid()}"
    memory.mkdir()
    try:
        words = shlex.split(command_of_the_unit())
        changes = {
            "/usr/local/bin/krm-sops": "krm-sops",
            "/etc/shop/secrets.enc.yaml": str(tmp_path / "s.enc.yaml"),
            "/run/shop/secrets": f"{memory}/secrets",
            "/etc/ssh/ssh_host_ed25519_key": str(tmp_path / "host"),
            "shop": str(os.geteuid()),
        }
        for number in (1, 2):
            done = clients.run(*[changes.get(word, word) for word in words])
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            assert os.readlink(memory / "secrets") == f"secrets.d/{number}"
        assert (memory / "secrets" / "database" / "password").read_text() == "secret"
    finally:
        shutil.rmtree(memory)
