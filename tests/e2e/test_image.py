"""The container image: what kpt, kustomize and Argo CD ask of it, and what is not in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.cases import PLAINTEXT, VALUES
from bench.generate import for_age

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "localhost/krm-sops:test"
LOCAL_BASE = "localhost/python:slim"  # used where it exists: a machine without a registry makes its own
MEGABYTES = 45


def podman(*arguments: str | Path, stdin: str = "", status: int = 0) -> str:
    done = subprocess.run(["podman", *arguments], input=stdin, capture_output=True, text=True, timeout=900)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def image() -> str:
    """Built from the checkout; podman reuses the layers of the last time."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    base = []
    if subprocess.run(["podman", "image", "exists", LOCAL_BASE]).returncode == 0:
        base = ["--build-arg", f"PYTHON_IMAGE={LOCAL_BASE}"]
    else:
        default = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG PYTHON"))
        pulled = subprocess.run(["podman", "pull", "--quiet", default.partition("=")[2]], capture_output=True)
        if pulled.returncode:
            pytest.skip(f"no base image: neither {LOCAL_BASE} nor a registry")
    podman("build", "--quiet", "--network", "host", *base, "--tag", NAME, ROOT)
    return NAME


@pytest.fixture(scope="module")
def files(image, tmp_path_factory) -> dict[str, int]:
    """Every file of the image, with its size."""
    folder = tmp_path_factory.mktemp("image")
    container = podman("create", image).strip()
    podman("export", "--output", folder / "root.tar", container)
    podman("rm", container)
    listed = subprocess.run(
        ["tar", "--list", "--verbose", "--file", folder / "root.tar"], capture_output=True, text=True, check=True
    )
    columns = [line.split(None, 5) for line in listed.stdout.splitlines()]
    return {column[5]: int(column[2]) for column in columns if column[0][0] == "-"}


def test_help_needs_no_input_and_no_network(image):
    """`kpt fn doc` starts an image like this."""
    assert "krm-sops" in podman("run", "--rm", "--network", "none", image, "--help")


@pytest.mark.parametrize("user", ["nobody", "999:999", "65532:65532", "12345:0"])
def test_it_decrypts_as_any_user_without_network_home_or_writable_root(image, user):
    shut = ["--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
    shut += ["--user", user, "--security-opt", "no-new-privileges"]
    output = podman("run", "--rm", "--interactive", *shut, image, stdin=for_age(4, 2))
    assert output.count(PLAINTEXT) == 2 * VALUES
    assert "ENC[" not in output


def test_a_stream_without_secrets_leaves_byte_for_byte(image):
    stream = for_age(4, 0)
    assert podman("run", "--rm", "--interactive", "--network", "none", image, stdin=stream) == stream


def test_what_is_no_resource_list_fails_with_one_line_and_no_output(image):
    done = subprocess.run(
        ["podman", "run", "--rm", "--interactive", "--network", "none", image], input=b"\0{", capture_output=True
    )
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"krm-sops: error: ")


def test_it_does_not_run_as_root_unless_told_to(image):
    config = json.loads(podman("image", "inspect", image))[0]["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"][0] == "/opt/krm-sops/lib/krm-sops"
    assert not config.get("Cmd")
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_is_small(files):
    assert sum(files.values()) <= MEGABYTES * 1_000_000


def test_it_holds_no_shell_no_sops_no_gpg_and_no_package_manager(files):
    names = {os.path.basename(name) for name in files}
    assert not names & {"sh", "bash", "dash", "busybox", "sops", "gpg", "gpg2", "age", "apt", "dpkg", "pip", "pip3"}
    assert [name for name in files if name.endswith("/bin/python")] == ["opt/krm-sops/bin/python"]


def test_all_python_in_it_is_compiled(files):
    assert not [name for name in files if name.endswith(".py")]
    assert any(name.endswith("/krm_sops/cli.pyc") for name in files)
    assert any(name.endswith("/encodings/utf_8.pyc") for name in files)


def test_scanners_see_what_it_is_made_of(files):
    assert "var/lib/dpkg/status.d/libc6" in files
    assert "usr/share/doc/libc6/copyright" in files
    assert any("/cryptography-" in name and name.endswith(".dist-info/METADATA") for name in files)
    assert any("/krm_sops-" in name and name.endswith(".dist-info/METADATA") for name in files)


def test_it_installs_itself_into_a_volume_without_a_shell_as_any_user(image, tmp_path):
    """What an init container of Argo CD's repo-server does."""
    tmp_path.chmod(0o777)  # an emptyDir
    shut = ["--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--user", "999:999"]
    podman("run", "--rm", *shut, "--volume", f"{tmp_path}:/dest", image, "install", "/dest", "--as", "ksops")
    for name in ("krm-sops", "ksops"):
        done = subprocess.run(
            [tmp_path / "bin" / name, "--strict"], input=for_age(4, 2), capture_output=True, text=True
        )
        assert done.stdout.count(PLAINTEXT) == 2 * VALUES, done.stderr
