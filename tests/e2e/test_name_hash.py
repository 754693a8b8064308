"""spec.needsHash under the real kustomize: the name carries a hash of the plaintext, and references follow it (S26)."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.clients import Clients
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

STRONG, OTHER = "Vb2nRkcQzJx7hTwLdF9sMgYpA4eUo3Xi", "kD8vTq1WnGz5rXy0LhJcSbPfE7mAuRo6"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - name: web
        envFrom: [{secretRef: {name: db}}]
        env: [{name: X, valueFrom: {secretKeyRef: {name: values, key: a.yaml}}}]
      volumes: [{name: c, configMap: {name: settings}}]
"""
DECRYPT = """\
apiVersion: krm-sops.dev/v1alpha1
kind: SopsDecrypt
metadata:
  name: decrypt
ANNOTATIONS
spec: {needsHash: true, include: [configMaps]}
"""
AS_FUNCTION = '  annotations: {config.kubernetes.io/function: "exec: {path: krm-sops}"}'


def items(value: str) -> list[dict[str, Any]]:
    """Encrypted, holding an encrypted document, and plain."""
    db = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": value}}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"token": value}}
    inner = b64encode(made.yaml(made.document({"token": value})).encode()).decode()
    values = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "values"}, "data": {"a.yaml": inner}}
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}, "stringData": {"a": "b"}}
    return [made.encrypted(item, mac_only_encrypted=True) for item in (db, settings)] + [values, plain]


@pytest.fixture
def clients(tmp_path) -> Clients:
    return Clients(tmp_path)


def built(clients: Clients, folder: Path, value: str, client: str) -> tuple[dict[str, str], str]:
    """The names of what was built, by the names before; stderr."""
    folder.mkdir()
    is_function = client == "kustomize exec"
    (folder / "decrypt.yaml").write_text(DECRYPT.replace("ANNOTATIONS\n", AS_FUNCTION + "\n" if is_function else ""))
    (folder / "all.yaml").write_text("---\n".join([made.yaml(item) for item in items(value)] + [DEPLOYMENT]))
    listed = "resources: [all.yaml]\ntransformers: [decrypt.yaml]\nnamePrefix: eu-\n"
    (folder / "kustomization.yaml").write_text(listed)
    env = {"SOPS_AGE_KEY": made.IDENTITY}
    if is_function:
        argv = ["kustomize", "build", "--enable-alpha-plugins", "--enable-exec"]
    else:
        argv = ["kustomize", "build"] if client == "kustomize legacy" else ["kubectl", "kustomize"]
        argv.append("--enable-alpha-plugins")
        plugin = folder / "plugins" / "kustomize/plugin/krm-sops.dev/v1alpha1/sopsdecrypt/SopsDecrypt"
        plugin.parent.mkdir(parents=True)
        plugin.symlink_to(folder.parent / "bin" / "krm-sops")
        env["XDG_CONFIG_HOME"] = str(folder / "plugins")
    done = clients.run(*argv, folder, **env)
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    assert not any("sops" in item for item in found)
    assert "needsHashSuffix" not in done.stdout
    pod = next(item for item in found if item["kind"] == "Deployment")["spec"]["template"]["spec"]
    referred = {
        "db": pod["containers"][0]["envFrom"][0]["secretRef"]["name"],
        "values": pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"],
        "settings": pod["volumes"][0]["configMap"]["name"],
    }
    names = {item["metadata"]["name"] for item in found}
    assert set(referred.values()) <= names
    assert "eu-plain" in names
    return referred, done.stderr


@pytest.mark.parametrize("client", ["kustomize exec", "kustomize legacy", "kubectl legacy"])
def test_names_follow_the_plaintext_and_references_follow_the_names(clients, tmp_path, client):
    first, stderr = built(clients, tmp_path / "a", STRONG, client)
    assert "guess" not in stderr
    assert all(name.startswith(f"eu-{before}-") for before, name in first.items())
    assert built(clients, tmp_path / "b", STRONG, client)[0] == first
    second, _ = built(clients, tmp_path / "c", OTHER, client)
    assert all(second[name] != first[name] for name in first)


def test_a_pin_gives_a_warning(clients, tmp_path):
    """S26: a bare hash of it is as good as the PIN."""
    _, stderr = built(clients, tmp_path / "a", "471105", "kustomize exec")
    lines = [line for line in stderr.splitlines() if "can guess" in line]
    assert [line.partition(": whoever")[0] for line in lines] == [
        "krm-sops: warning: Secret/eu-db",
        "krm-sops: warning: ConfigMap/eu-settings",
        "krm-sops: warning: Secret/eu-values",
    ]
    assert "471105" not in stderr
