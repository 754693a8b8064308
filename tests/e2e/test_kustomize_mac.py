"""What kustomize does to an item, and what is still verified then (S8, S9): the real kustomize, base and overlays."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.clients import Clients
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

UNSORTED = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "namespace": "shop", "labels": {"tier": "database"}},
    "type": "Opaque",
    "stringData": {"user": "plain-of-user", "password": "plain-of-password", "host": "plain-of-host"},
}
DECRYPT = """\
apiVersion: krm-sops.dev/v1alpha1
kind: SopsDecrypt
metadata:
  name: decrypt
  annotations:
    config.kubernetes.io/function: "exec: {path: krm-sops}"
spec: {mac: MODE}
"""
LISTED = "transformers: [decrypt.yaml]\n"
ORIGINS = "buildMetadata: [originAnnotations]\n"
CHANGES = """\
namespace: prod
namePrefix: eu-
nameSuffix: -one
labels: [{pairs: {team: a}}]
commonAnnotations: {owner: b}
patches:
- patch: |
    apiVersion: v1
    kind: Secret
    metadata: {name: db, namespace: shop, labels: {tier: new}}
"""
REORDERED, IN_FILE, UNVERIFIED = "in another order", "in its file", "not at all"


class Build:
    def __init__(self, clients: Clients, root: Path) -> None:
        self.clients = clients
        self.root = root
        (root / ".git").mkdir(parents=True)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, mode: str, folder: str) -> CompletedProcess[str]:
        for path in self.root.rglob("decrypt.yaml"):
            path.write_text(DECRYPT.replace("MODE", mode))
        flags = ("--enable-alpha-plugins", "--enable-exec")
        return self.clients.run("kustomize", "build", *flags, self.root / folder, SOPS_AGE_KEY=made.IDENTITY)

    def verified(self, folder: str = ".") -> str:
        """How the MAC was verified: only `auto` takes another order, `strict` a file too; the rest is a warning."""
        auto, strict = self.run("auto", folder), self.run("strict", folder)
        assert auto.returncode == 0, auto.stderr
        assert "plain-of-password" in auto.stdout
        if auto.stderr:
            assert "krm-sops: warning: Secret/" in auto.stderr
            assert "its MAC cannot be verified here" in auto.stderr
        if strict.returncode == 0:
            assert (strict.stdout, strict.stderr, auto.stderr) == (auto.stdout, "", "")
            return IN_FILE
        assert "krm-sops: error: " in strict.stderr
        assert "MAC mismatch" in strict.stderr
        assert "plain-of" not in strict.stdout + strict.stderr
        return UNVERIFIED if auto.stderr else REORDERED


@pytest.fixture
def build(tmp_path) -> Build:
    clients = Clients(tmp_path)
    clients.need("kustomize")
    return Build(clients, tmp_path / "repository")


def secret(plain: dict[str, Any] = UNSORTED, **options: Any) -> str:
    return made.yaml(made.encrypted(plain, **options))


def test_an_unsorted_secret_is_verified_in_the_order_of_its_file(build):
    """S8"""
    build.write(
        {"kustomization.yaml": "resources: [secret.yaml]\n" + LISTED, "decrypt.yaml": "", "secret.yaml": secret()}
    )
    assert build.verified() == REORDERED


def test_what_kustomize_changed_is_verified_in_the_file(build):
    """S9"""
    build.write(
        {
            "kustomization.yaml": "resources: [secret.yaml]\n" + LISTED + CHANGES,
            "decrypt.yaml": "",
            "secret.yaml": secret(),
        }
    )
    assert build.verified() == UNVERIFIED
    build.write({"kustomization.yaml": "resources: [secret.yaml]\n" + LISTED + CHANGES + ORIGINS})
    assert build.verified() == IN_FILE
    done = build.run("strict", ".")
    assert "name: eu-db-one" in done.stdout
    assert "tier: new" in done.stdout
    assert "plain-of-host" in done.stdout


LAYOUTS = {
    "all in the overlay": {
        "overlays/prod/kustomization.yaml": "resources: [secret.yaml]\n" + LISTED + CHANGES + ORIGINS,
        "overlays/prod/decrypt.yaml": "",
        "overlays/prod/secret.yaml": secret(),
    },
    "the secret in a base": {
        "base/kustomization.yaml": "resources: [secret.yaml]\n",
        "base/secret.yaml": secret(),
        "overlays/prod/kustomization.yaml": "resources: [../../base]\n" + LISTED + CHANGES + ORIGINS,
        "overlays/prod/decrypt.yaml": "",
    },
    "the transformer in the base too": {
        "base/kustomization.yaml": "resources: [secrets/db.yaml]\n" + LISTED,
        "base/secrets/db.yaml": secret(),
        "base/decrypt.yaml": "",
        "overlays/prod/kustomization.yaml": "resources: [../../base]\n" + CHANGES + ORIGINS,
    },
    "a base of a base": {
        "apps/shop/base/kustomization.yaml": "resources: [secret.yaml]\nnamespace: elsewhere\n",
        "apps/shop/base/secret.yaml": secret(),
        "apps/shop/test/kustomization.yaml": "resources: [../base]\nnameSuffix: -test\n",
        "overlays/prod/kustomization.yaml": "resources: [../../apps/shop/test]\nnamespace: prod\n" + LISTED + ORIGINS,
        "overlays/prod/decrypt.yaml": "",
    },
    "the transformer in a component, the secret in a base": {
        "components/decrypt/kustomization.yaml": (
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n" + LISTED
        ),
        "components/decrypt/decrypt.yaml": "",
        "base/kustomization.yaml": "resources: [secret.yaml]\nnamespace: elsewhere\n",
        "base/secret.yaml": secret(),
        "overlays/prod/kustomization.yaml": (
            "resources: [../../base]\ncomponents: [../../components/decrypt]\n" + ORIGINS
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_file_is_found_from_wherever_kustomize_starts_the_function(name, build):
    """S9"""
    build.write(LAYOUTS[name])
    assert build.verified("overlays/prod") == IN_FILE


def test_several_documents_of_one_file_under_one_mac_are_verified_together(build):
    """S9"""
    first, second = (copy.deepcopy(UNSORTED) for _ in range(2))
    second["metadata"]["name"] = "other"
    block = made.encrypted(first, mac=made.mac_of({"a": first, "b": second}))["sops"]
    texts = [made.yaml({**made.values_encrypted(plain), "sops": block}) for plain in (first, second)]
    build.write({"decrypt.yaml": "", "secret.yaml": "---\n".join(texts)})
    build.write({"kustomization.yaml": "resources: [secret.yaml]\nnamespace: prod\n" + LISTED + ORIGINS})
    assert build.verified() == IN_FILE
    build.write({"secret.yaml": "---\n".join(texts[::-1])})
    assert build.verified() == UNVERIFIED


OLD = made.enc("plain-of-an-older-user", "stringData:user:")
PATCHES = {
    "an old ciphertext put back": f'[{{"op": "replace", "path": "/stringData/user", "value": "{OLD}"}}]',
    "a value taken out": '[{"op": "remove", "path": "/stringData/host"}]',
    "another type": '[{"op": "replace", "path": "/type", "value": "Other"}]',
    "one more field": '[{"op": "add", "path": "/immutable", "value": true}]',
    "an empty mapping more": '[{"op": "add", "path": "/data", "value": {}}]',
}


@pytest.mark.parametrize("name", PATCHES)
def test_what_kustomize_has_no_business_with_is_not_verified(name, build):
    """S8, S9"""
    patch = f"patches: [{{target: {{kind: Secret}}, patch: '{PATCHES[name]}'}}]\n"
    build.write({"kustomization.yaml": "resources: [secret.yaml]\n" + LISTED + ORIGINS + patch, "decrypt.yaml": ""})
    build.write({"secret.yaml": secret()})
    assert build.verified() == (REORDERED if name == "an empty mapping more" else UNVERIFIED)


CHANGED = {
    "a name": ('"db"', '"other"'),
    "a type": ('"Opaque"', '"Other"'),
    "an old ciphertext put back": (made.enc("plain-of-user", "stringData:user:"), OLD),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_file_that_was_changed_after_encryption_proves_nothing(name, build):
    """S9: the file itself has to verify."""
    text = secret().replace(*CHANGED[name])
    build.write({"kustomization.yaml": "resources: [secret.yaml]\n" + LISTED + ORIGINS, "decrypt.yaml": ""})
    build.write({"secret.yaml": text})
    assert build.verified() == UNVERIFIED


def test_another_kind_leaves_verified_or_not_at_all(build):
    """S7 to S9"""
    plain = {**UNSORTED, "apiVersion": "example.com/v1", "kind": "Database"}
    build.write(
        {"kustomization.yaml": "resources: [secret.yaml]\n" + LISTED, "decrypt.yaml": "", "secret.yaml": secret(plain)}
    )
    assert build.verified() == REORDERED
    build.write({"kustomization.yaml": "resources: [secret.yaml]\nnamespace: prod\n" + LISTED + ORIGINS})
    assert build.verified() == IN_FILE
    build.write({"kustomization.yaml": "resources: [secret.yaml]\nnamespace: prod\n" + LISTED})
    done = build.run("auto", ".")
    assert done.returncode != 0
    assert "krm-sops: error: Database/prod/db: MAC mismatch" in done.stderr
    assert "plain-of" not in done.stdout + done.stderr


BY_HAND = """\
# who needs it
apiVersion: v1
kind: Secret
metadata:
    name: db # the name
    labels:
        app: shop
        tier: database
stringData:
    # changes often
    user: plain-of-user
    password: plain-of-password # long
    lines: |
        plain-of-line
        another
type: Opaque
---
apiVersion: v1
kind: Secret
metadata:
    name: other
data:
    z: cGxhaW4=
    a: cGxhaW4=
"""


@pytest.mark.parametrize("only_encrypted", [False, True])
def test_what_the_real_sops_encrypted_comments_and_documents_and_all(only_encrypted, build):
    """S8, S9"""
    build.clients.need("sops")
    build.write({"plain.yaml": BY_HAND, "decrypt.yaml": ""})
    rule = {"age": made.RECIPIENT, "encrypted_regex": "^(data|stringData)$", "mac_only_encrypted": only_encrypted}
    build.write({".sops.yaml": made.yaml({"creation_rules": [rule]})})
    done = build.clients.run("sops", "encrypt", "plain.yaml", cwd=build.root)
    assert done.returncode == 0, done.stderr
    assert "#ENC[" in done.stdout
    build.write({"secret.yaml": done.stdout})
    build.write({"kustomization.yaml": "resources: [secret.yaml]\nnamePrefix: eu-\n" + LISTED + ORIGINS})
    assert build.verified() == IN_FILE
    build.write({"kustomization.yaml": "resources: [secret.yaml]\nnamePrefix: eu-\n" + LISTED})
    assert build.verified() == (REORDERED if only_encrypted else UNVERIFIED)
    build.write({"kustomization.yaml": "resources: [secret.yaml]\n" + LISTED})
    assert build.verified() == REORDERED
