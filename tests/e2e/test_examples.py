"""Every folder of examples/, run by its own run.sh with the real client; and what the same clients must refuse.

UPDATE=1 rewrites the expected outputs.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import yaml

from tests.e2e.clients import EXAMPLES, IMAGE, KEY, PASSWORD, WRONG_KEY, Clients, contents, copy, files, kpt_package
from tests.e2e.test_image import image  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

NAMES = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir())
STAGE = "krm-sops.dev/stage"
ALLOWED = "  allowPlaintext: true\n"
ORDINARY = EXAMPLES / "kpt-exec" / "database.enc.yaml"  # its MAC covers everything, its keys are not sorted


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


class Client:
    """One way to run one example; changes: for `copy`, so that it starts the image under test."""

    def __init__(self, example: str, clients: Clients, request: pytest.FixtureRequest) -> None:
        need_clients(example, clients)
        self.example = example
        self.clients = clients
        self.changes = image_of(example, request)

    def render(self, package: Path, *flags: str | Path) -> CompletedProcess[str]:
        keys = {"SOPS_AGE_KEY_FILE": str(package / "key.txt")}
        return self.clients.run("kpt", "fn", "render", package, "--allow-exec", *flags, **keys)

    def build(self, folder: Path) -> CompletedProcess[str]:
        return self.clients.run("sh", folder / "run.sh")


@pytest.fixture(params=["kpt-exec", "kpt-container"])
def kpt(request, clients) -> Client:
    return Client(request.param, clients, request)


@pytest.fixture(params=["kustomize-exec", "kustomize-container"])
def kustomize(request, clients) -> Client:
    return Client(request.param, clients, request)


def image_of(name: str, request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    """What `copy` has to replace so that the example starts the image under test."""
    if any(IMAGE in file.read_text() for file in files(EXAMPLES / name) if file.suffix != ".md"):
        return [(IMAGE, request.getfixturevalue("image"))]
    return []


def need_clients(name: str, clients: Clients) -> None:
    script = (EXAMPLES / name / "run.sh").read_text()
    clients.need(*re.findall(r"\b(kpt|kubectl|kustomize) (?:fn|kustomize|build)\b", script))


def assert_refused(done: CompletedProcess[str], why: str) -> None:
    """Failed, for this reason, said by the function itself; nothing decrypted anywhere in the output."""
    said = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "krm-sops: error: " in said
    assert why in said, said
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_example_writes_what_is_expected_and_nothing_else(name, clients, request, tmp_path):
    need_clients(name, clients)
    changes = image_of(name, request)
    example = copy(name, tmp_path, *changes)
    before = contents(example)
    done = clients.run("sh", example / "run.sh")
    assert done.returncode == 0, done.stderr
    output = done.stdout
    for ours, tested in changes:
        output = output.replace(tested, ours)
    if os.environ.get("UPDATE") == "1":
        (EXAMPLES / name / "expected.yaml").write_text(output)
    assert output == (EXAMPLES / name / "expected.yaml").read_text()
    assert "krm-sops: " not in done.stderr
    assert contents(example) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_example_with_a_wrong_key_fails_and_says_why(name, clients, request, tmp_path):
    need_clients(name, clients)
    example = copy(name, tmp_path, (KEY, WRONG_KEY), *image_of(name, request))
    before = contents(example)
    assert_refused(clients.run("sh", example / "run.sh"), "no key could unwrap the data key")
    assert contents(example) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_complete_and_says_that_its_key_is_public(name):
    folder = EXAMPLES / name
    assert len((folder / "README.md").read_text().splitlines()) <= 20
    assert "ENC[AES256_GCM," not in (folder / "expected.yaml").read_text()
    for file in files(folder):
        if KEY in file.read_text():
            assert "throw-away key" in file.read_text() or file.name == "expected.yaml"


def test_a_package_can_begin_with_a_specification_alone(clients, tmp_path):
    """Provision makes the encrypted Secret; what the pipeline puts into a template and into stages comes from it."""
    clients.need("kpt")
    example = copy("kpt-end-to-end", tmp_path)
    (example / "shop-secrets" / "database.enc.yaml").unlink()
    done = clients.run("sh", example / "run.sh")
    assert done.returncode == 0, done.stderr
    items = [item for item in yaml.safe_load_all(done.stdout) if STAGE in item["metadata"].get("annotations", {})]
    staged = [(item["metadata"]["annotations"][STAGE], item["metadata"]["name"]) for item in items]
    assert staged == [("secrets", "database"), ("secrets", "shop-config"), ("app", "shop")]
    made, filled = items[0]["stringData"], items[1]["stringData"]
    committed = yaml.safe_load_all((EXAMPLES / "kpt-end-to-end" / "expected.yaml").read_text())
    assert made["password"] not in str(list(committed))
    assert filled["database.url"] == f"postgres://{made['user']}:{quote(made['password'], safe='')}@db/shop"
    assert json.loads(filled["config.json"])["session"]["key"] == made["session-key"]


def test_a_package_with_a_plain_secret_is_found_before_it_is_rendered(clients, tmp_path):
    clients.need("kpt")
    example = copy("kpt-end-to-end", tmp_path)
    plain = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: plain\nstringData:\n  password: " + PASSWORD
    (example / "shop-secrets" / "plain.yaml").write_text(plain + "\n")
    done = clients.run("sh", example / "run.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert "shop-secrets/plain.yaml:6: PlainSecret" in done.stderr
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize("flags", [(), ("-o", "unwrap")], ids=["in place", "unwrap"])
def test_kpt_render_without_allowplaintext_is_refused_and_leaves_the_package_alone(kpt, flags, tmp_path):
    package = kpt_package(kpt.example, tmp_path, (ALLOWED, "  allowPlaintext: false\n"), *kpt.changes)
    before = contents(package)
    assert_refused(kpt.render(package, *flags), "would write this item's plaintext into the package")
    assert contents(package) == before


def test_kpt_render_with_allowplaintext_writes_plaintext_to_another_folder_only(kpt, tmp_path):
    package = kpt_package(kpt.example, tmp_path, *kpt.changes)
    before = contents(package)
    done = kpt.render(package, "-o", tmp_path / "rendered")
    assert done.returncode == 0, done.stderr
    assert PASSWORD in (tmp_path / "rendered" / "database.enc.yaml").read_text()
    assert contents(package) == before


def test_kpt_render_tells_the_reason_in_its_results(kpt, tmp_path):
    package = kpt_package(kpt.example, tmp_path, (KEY, WRONG_KEY), *kpt.changes)
    done = kpt.render(package, "-o", "unwrap", "--results-dir", tmp_path / "results")
    assert done.returncode != 0
    results = (tmp_path / "results" / "results.yaml").read_text()
    assert "reason: NoUsableKey" in results
    assert "path: database.enc.yaml" in results


def test_kpt_eval_of_an_executable_writes_what_render_writes(clients, tmp_path):
    package = kpt_package("kpt-exec", tmp_path)
    done = clients.run(
        *("kpt", "fn", "eval", package, "--exec", "krm-sops", "--fn-config", package / "decrypt.yaml", "-o", "unwrap"),
        SOPS_AGE_KEY_FILE=str(package / "key.txt"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (EXAMPLES / "kpt-exec" / "expected.yaml").read_text()


def test_kpt_eval_of_a_container_takes_keys_from_a_mounted_folder(clients, request, tmp_path):
    package = kpt_package("kpt-exec", tmp_path)
    keys = tmp_path / "keys"
    keys.mkdir()
    (package / "key.txt").rename(keys / "key.agekey")
    clients.need("kpt")
    done = clients.run(
        *("kpt", "fn", "eval", package, "--image", request.getfixturevalue("image")),
        *("--mount", f"type=bind,src={keys},dst=/keys", "-o", "unwrap", "--", "mac=strict"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (EXAMPLES / "kpt-exec" / "expected.yaml").read_text()


def test_kpt_eval_of_a_container_takes_a_key_secret_as_its_config(clients, request, tmp_path):
    package = kpt_package("kpt-container", tmp_path)
    clients.need("kpt")
    done = clients.run(
        *("kpt", "fn", "eval", package, "--image", request.getfixturevalue("image")),
        *("--fn-config", package / "key.yaml", "-o", "unwrap"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (EXAMPLES / "kpt-container" / "expected.yaml").read_text()


def test_kpt_fn_doc_shows_the_help(clients, request):
    clients.need("kpt")
    done = clients.run("kpt", "fn", "doc", "--image", request.getfixturevalue("image"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") + "\n" == clients.run("krm-sops", "--help").stdout


def test_kustomize_decrypts_an_ordinary_secret_and_warns_where_its_mac_cannot_be_verified(kustomize, tmp_path):
    folder = copy(kustomize.example, tmp_path, ("mac: strict", "mac: auto"), *kustomize.changes)
    (folder / "database.enc.yaml").write_bytes(ORDINARY.read_bytes())
    done = kustomize.build(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"password: {PASSWORD}" in done.stdout
    with (folder / "kustomization.yaml").open("a") as file:
        file.write("commonLabels: {team: shop}\n")
    done = kustomize.build(folder)
    assert done.returncode == 0, done.stderr
    assert f"password: {PASSWORD}" in done.stdout
    assert "ENC[" not in done.stdout
    assert "krm-sops: warning: Secret/shop/database: " in done.stderr
    assert "its MAC cannot be verified here" in done.stderr
    assert "krm-sops: hint: " in done.stderr
    assert "mac_only_encrypted" in done.stderr


def test_kustomize_takes_the_key_from_a_secret_among_the_resources_and_it_does_not_leave(kustomize, tmp_path):
    shop = ("  name: decrypt\n", "  name: decrypt\n  namespace: shop\n")
    reference = ("spec:\n  mac", "spec:\n  decryption: {secretRef: {name: sops-keys}}\n  mac")
    listed = ("  - config.yaml\n", "  - config.yaml\n  - key.yaml\n")
    folder = copy(kustomize.example, tmp_path, shop, reference, listed, *kustomize.changes)
    for key in (*folder.glob("key.txt"), *folder.glob("keys/*")):
        key.write_text("# none\n")
    key_secret = (EXAMPLES / "kpt-container" / "key.yaml").read_text()
    (folder / "key.yaml").write_text(
        key_secret.replace("  name: sops-keys\n", "  name: sops-keys\n  namespace: shop\n")
    )
    done = kustomize.build(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (EXAMPLES / kustomize.example / "expected.yaml").read_text()


def test_kustomize_with_mac_strict_refuses_an_ordinary_secret(kustomize, tmp_path):
    folder = copy(kustomize.example, tmp_path, *kustomize.changes)
    (folder / "database.enc.yaml").write_bytes(ORDINARY.read_bytes())
    assert_refused(kustomize.build(folder), "Secret/shop/database: MAC mismatch")


def test_kustomize_refuses_another_kind_whose_mac_cannot_be_verified(kustomize, clients, tmp_path):
    folder = copy(kustomize.example, tmp_path, ("mac: strict", "mac: auto"), *kustomize.changes)
    (folder / ".sops.yaml").unlink()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("EUR", PASSWORD))
    recipient = re.findall(r"age1\w+", (EXAMPLES / kustomize.example / ".sops.yaml").read_text())[0]
    encrypted = clients.run("sops", "encrypt", "--in-place", "--encrypted-regex", "^data$", "--age", recipient, config)
    assert encrypted.returncode == 0, encrypted.stderr
    assert_refused(kustomize.build(folder), "ConfigMap/shop/shop: MAC mismatch")


def test_kustomize_without_enable_exec_skips_the_function_silently(clients, tmp_path):
    """What docs/kustomize.md warns of. Should this ever fail: good, and the page can be shorter."""
    clients.need("kustomize")
    example = copy("kustomize-exec", tmp_path)
    for argv in (["kustomize", "build"], ["kubectl", "kustomize"]):
        done = clients.run(*argv, "--enable-alpha-plugins", example)
        assert (done.returncode, done.stderr) == (0, "")
        assert "password: ENC[AES256_GCM," in done.stdout
