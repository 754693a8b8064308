"""The gate with the real clients: what catches a function that kustomize skipped silently, and what cannot.

docs/check.md says the same in a table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import KEY, PASSWORD, Clients, contents, copy, kpt_package
from tests.e2e.test_image import image  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

CHECK = """\
apiVersion: krm-sops.dev/v1alpha1
kind: SopsCheck
metadata:
  name: check
  annotations:
    config.kubernetes.io/function: |
      {}
spec:
  expect: {}
"""
EXEC = "exec: {path: krm-sops}"
LEFT = "StillEncrypted"


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


def kustomization(folder: Path, *, expect: str = "decrypted", how: str = EXEC, decrypts: bool = True) -> Path:
    """The example with SopsCheck as its last transformer."""
    example = copy("kustomize-exec", folder)
    (example / "check.yaml").write_text(CHECK.format(how, expect))
    file = example / "kustomization.yaml"
    text = file.read_text().replace("  - decrypt.yaml", "  - decrypt.yaml\n" * decrypts + "  - check.yaml")
    file.write_text(text)
    return example


def build(clients: Clients, example: Path, *flags: str) -> CompletedProcess[str]:
    key = {"SOPS_AGE_KEY_FILE": str(example / "key.txt")}
    return clients.run("kustomize", "build", "--enable-alpha-plugins", *flags, example, **key)


def check(clients: Clients, text: str, folder: Path) -> CompletedProcess[str]:
    (folder / "build.yaml").write_text(text)
    return clients.run("sh", "-c", "krm-sops check - <build.yaml", cwd=folder)


def test_a_function_that_kustomize_skipped_is_caught_by_check_behind_the_build(clients, tmp_path):
    example = copy("kustomize-exec", tmp_path)
    skipped = build(clients, example)
    assert (skipped.returncode, skipped.stderr) == (0, "")
    done = check(clients, skipped.stdout, tmp_path)
    assert done.returncode == 1
    assert re.match(r"stdin:\d+: StillEncrypted: Secret/shop/database: stringData\.", done.stdout)
    assert "--enable-exec" in done.stdout

    run = build(clients, example, "--enable-exec")
    assert PASSWORD in run.stdout
    done = check(clients, run.stdout, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 file checked, nothing found\n", "")


def test_a_failed_build_before_the_pipe_is_caught(clients, tmp_path):
    """The shell gives the status of `check`, which sees an empty stream."""
    clients.need("kustomize")
    done = clients.run("sh", "-c", "kustomize build absent | krm-sops check -", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("stdin: InvalidDocument: nothing came on stdin")


def test_sopscheck_lets_a_decrypted_build_pass_as_it_is(clients, tmp_path):
    with_check = build(clients, kustomization(tmp_path), "--enable-exec")
    assert (with_check.returncode, with_check.stderr) == (0, "")
    assert with_check.stdout == (copy("kustomize-exec", tmp_path / "as it was") / "expected.yaml").read_text()


def test_sopscheck_fails_a_build_in_which_something_is_still_encrypted(clients, tmp_path):
    done = build(clients, kustomization(tmp_path, decrypts=False), "--enable-exec")
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        "krm-sops: error: Secret/shop/database: stringData.password: 3 encrypted values and a sops block" in done.stderr
    )


def test_sopscheck_finds_a_plain_secret_where_everything_should_be_encrypted(clients, tmp_path):
    example = kustomization(tmp_path, expect="encrypted", decrypts=False)
    assert build(clients, example, "--enable-exec").returncode == 0
    (example / "app.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: plain-of-a}\n"
    )
    done = build(clients, example, "--enable-exec")
    assert done.returncode == 1
    assert "a Secret with a value in plain text" in done.stderr
    assert "plain-of-a" not in done.stdout + done.stderr


def test_sopscheck_as_an_executable_is_skipped_with_the_others(clients, tmp_path):
    done = build(clients, kustomization(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "ENC[AES256_GCM," in done.stdout


def test_sopscheck_in_a_container_catches_an_executable_that_was_skipped(clients, request, tmp_path):
    example = kustomization(tmp_path, how=f"container: {{image: {request.getfixturevalue('image')}}}")
    done = build(clients, example)
    assert done.returncode == 1
    assert "3 encrypted values and a sops block" in done.stderr


def test_sopscheck_as_a_legacy_plugin_catches_an_executable_that_was_skipped(clients, tmp_path):
    """Under kubectl, which has no --enable-exec, and without a container."""
    example = kustomization(tmp_path)
    config = (example / "check.yaml").read_text()
    (example / "check.yaml").write_text(re.sub(r"  annotations:\n.*\n.*\n", "", config))
    clients.need("kubectl", "krm-sops")
    made = clients.run("krm-sops", "install", "--legacy-plugins", tmp_path / "plugins")
    assert made.returncode == 0, made.stderr
    kubectl = ("kubectl", "kustomize", "--enable-alpha-plugins", example)
    done = clients.run(*kubectl, KUSTOMIZE_PLUGIN_HOME=str(tmp_path / "plugins"))
    assert done.returncode == 1
    assert "3 encrypted values and a sops block" in done.stderr


def test_under_validators_kustomize_fails_whatever_a_function_says(clients, tmp_path):
    """Why SopsCheck belongs under transformers."""
    example = kustomization(tmp_path)
    file = example / "kustomization.yaml"
    file.write_text(file.read_text().replace("  - check.yaml", "validators:\n  - check.yaml"))
    done = build(clients, example, "--enable-exec")
    assert done.returncode == 1
    assert "krm-sops" not in done.stderr


@pytest.mark.parametrize("role", ["validators", "mutators"])
def test_kpt_runs_sopscheck(clients, tmp_path, role):
    package = kpt_package("kpt-exec", tmp_path)
    (package / "check.yaml").write_text(
        re.sub(
            r"    config.kubernetes.io/function.*\n.*\n", '    config.kubernetes.io/local-config: "true"\n', CHECK
        ).format("decrypted")
    )
    kptfile = package / "Kptfile"
    decrypting = kptfile.read_text().rstrip("\n")
    gate = "    - exec: krm-sops\n      configPath: check.yaml\n"
    kptfile.write_text(decrypting + "\n" + ("  validators:\n" if role == "validators" else "") + gate)
    key = {"SOPS_AGE_KEY_FILE": str(package / "key.txt")}
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", "-o", tmp_path / "out", **key)
    assert done.returncode == 0, done.stderr
    assert PASSWORD in (tmp_path / "out" / "database.enc.yaml").read_text()

    kptfile.write_text(decrypting.partition("  mutators:")[0] + f"  {role}:\n{gate}")
    before = contents(package)
    results = ("--results-dir", str(tmp_path / "results"))
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", *results, **key)
    assert done.returncode == 1
    assert f"reason: {LEFT}" in (tmp_path / "results" / "results.yaml").read_text()
    assert contents(package) == before


def test_kpt_finds_a_key_in_the_package(clients, tmp_path):
    """S11: a key Secret in the package, of which kpt hands every file to the function."""
    package = kpt_package("kpt-container", tmp_path)
    (package / "check.yaml").write_text(CHECK.format(EXEC, "encrypted"))
    done = clients.run(
        *("kpt", "fn", "eval", package, "--exec", "krm-sops", "--fn-config", package / "check.yaml", "-o", "unwrap")
    )
    assert done.returncode == 1
    assert "an age secret key" in done.stderr
    assert KEY not in done.stdout + done.stderr
