"""SopsTemplate behind SopsDecrypt, under the real kustomize and kpt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.clients import Clients, contents
from tests.generating import FUNCTION_ANNOTATION, put
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "namespace": "shop"},
    "stringData": {"password": 'p"${x}: <SOPS:db/password>', "user": "app"},
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "template": {
            "metadata": {"annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "config"}}]}]},
        }
    },
}
TARGET = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "shop"},
    "data": {"user": "it is <SOPS:db/user>", "other": "1"},
}
TEXTS = {"json": '{"p": <SOPS:db/password:json>}', "plain": "<SOPS:db/password>"}
WANTED = {"json": '{"p": "p\\"${x}: \\u003cSOPS:db/password\\u003e"}', "plain": SECRET["stringData"]["password"]}


def config(kind: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": kind.lower(), "namespace": "shop", "annotations": FUNCTION_ANNOTATION}
    return {"apiVersion": "krm-sops.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def sops_template(**spec: Any) -> dict[str, Any]:
    return config(
        "SopsTemplate",
        secrets=[{"secret": "db"}],
        templates=[{"metadata": {"name": "config"}, "stringData": TEXTS}],
        items=[{"kind": "ConfigMap", "name": "settings"}],
        allowConfigMap=True,
        **spec,
    )


def write(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        put(folder / f"{name}.yaml", yaml.safe_dump(content, sort_keys=False).encode())


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def package(tmp_path) -> Path:
    folder = tmp_path / "repo" / "app"
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    put(folder / "db.yaml", SECRET)
    write(folder, web=DEPLOYMENT, settings=TARGET)
    return folder


def by_name(text: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in yaml.safe_load_all(text)}


def assert_rendered(found: dict[str, dict[str, Any]]) -> None:
    assert found["config"]["stringData"] == WANTED
    assert found["db"]["stringData"] == SECRET["stringData"]
    assert found["settings"]["data"] == {"user": "it is app", "other": "1"}


def test_kustomize(clients, package):
    write(package, decrypt=config("SopsDecrypt"), template=sops_template())
    resources = {
        "resources": ["db.yaml", "web.yaml", "settings.yaml"],
        "transformers": ["decrypt.yaml", "template.yaml"],
    }
    write(package, kustomization={**resources, "buildMetadata": ["originAnnotations"]})
    done = clients.run(
        "kustomize", "build", "--enable-alpha-plugins", "--enable-exec", package, SOPS_AGE_KEY=made.IDENTITY
    )
    assert done.returncode == 0, done.stderr
    found = by_name(done.stdout)
    assert_rendered(found)
    assert found["web"]["spec"]["template"]["metadata"]["annotations"] == {"a": "b"}


def test_kustomize_with_a_file_restarts_what_reads_the_result(clients, package):
    put(package / "s.yaml", yaml.safe_dump(made.document({"pin": "1234"})).encode())
    templates = [{"metadata": {"name": "config"}, "stringData": {"pin": "<SOPS:pin>"}}]
    write(package, template=config("SopsTemplate", secrets=[{"file": "s.yaml"}], templates=templates))
    write(package, kustomization={"resources": ["web.yaml"], "transformers": ["template.yaml"]})
    flags = ("--enable-alpha-plugins", "--enable-exec")
    outputs = [clients.run("kustomize", "build", *flags, package, SOPS_AGE_KEY=made.IDENTITY) for _ in range(2)]
    assert [(done.returncode, done.stderr) for done in outputs] == [(0, "")] * 2
    assert outputs[0].stdout == outputs[1].stdout
    annotations = by_name(outputs[0].stdout)["web"]["spec"]["template"]["metadata"]["annotations"]
    assert set(annotations) == {"a", "krm-sops.dev/checksum-sopstemplate"}


def kpt_package(folder: Path, **template: Any) -> None:
    for made_config in (config("SopsDecrypt", allowPlaintext=True), sops_template(**template)):
        del made_config["metadata"]["annotations"]  # which is kustomize's
        write(folder, **{"decrypt" if made_config["kind"] == "SopsDecrypt" else "template": made_config})
    pipeline = [{"exec": "krm-sops", "configPath": f"{name}.yaml"} for name in ("decrypt", "template")]
    file = {
        "apiVersion": "kpt.dev/v1",
        "kind": "Kptfile",
        "metadata": {"name": "app"},
        "pipeline": {"mutators": pipeline},
    }
    (folder / "Kptfile").write_text(yaml.safe_dump(file, sort_keys=False))


def test_kpt_with_an_output_elsewhere(clients, package):
    clients.need("kpt")
    kpt_package(package, allowPlaintext=True)
    before = contents(package)
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", "-o", "unwrap", SOPS_AGE_KEY=made.IDENTITY)
    assert done.returncode == 0, done.stderr
    assert_rendered(by_name(done.stdout))
    assert contents(package) == before


def test_kpt_in_place_is_refused(clients, package):
    clients.need("kpt")
    kpt_package(package)
    before = contents(package)
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", "-o", "unwrap", SOPS_AGE_KEY=made.IDENTITY)
    assert done.returncode != 0
    assert "plaintext into the package" in " ".join(done.stderr.split())
    assert 'p"${x}' not in done.stdout
    assert contents(package) == before
