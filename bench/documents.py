"""Make folders of manifests, some of them encrypted; then be the key service of those that need one.

    python -m bench.documents FOLDER

Makes FOLDER/<key type>-<items>-<encrypted>/ with a file for each resource and with kustomizations, FOLDER/large/ with
documents of 1 and 5 MB, and FOLDER/keys. Prints a line of JSON, the environment in which all of them open, and answers
for AWS KMS until stdin ends: each call after 50 ms, behind the proxy and TLS that the tests have.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench import generate
from bench.cases import PLAINTEXT, VALUES
from bench.services import Kms
from tests.interop.fakes.internet import Internet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Wrap = Callable[[bytes], str]

AGE = ((10, 1), (100, 10), (1000, 100), (5000, 1000))
FEWER = ((10, 1), (100, 10))
"""Items, and how many of them are encrypted. FEWER: where each document takes a peer a tenth of a second."""
LARGE = {"1mb": 5_600, "5mb": 28_000}
"""How many values make a document of that size."""

DOCUMENT = """\
apiVersion: v1
kind: Secret
metadata:
  name: {name}
  namespace: shop
stringData:
{values}
type: Opaque
sops:
{keys}
  encrypted_regex: ^(data|stringData)$
  lastmodified: "{modified}"
  mac: {mac}
  version: 3.13.3
"""
ANNOTATION = "config.kubernetes.io/function: 'exec: {path: %s}'"
GENERATORS = {
    "krm-sops": ("krm-sops.dev/v1alpha1", "SopsGenerator", "krm-sops", "spec:\n  files:\n%s"),
    "as-ksops": ("viaduct.ai/v1", "ksops", "krm-sops", "files:\n%s"),
    "ksops": ("viaduct.ai/v1", "ksops", "ksops", "files:\n%s"),
}
"""Folder of the kustomization -> apiVersion, kind and program of its generator, and its fields."""
CONFIG = """\
apiVersion: {version}
kind: {kind}
metadata:
  name: secrets
  annotations:
    {annotation}
"""
RESOURCE_LIST = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
DECRYPT = CONFIG.format(version="krm-sops.dev/v1alpha1", kind="SopsDecrypt", annotation="%s")


def secret(name: str, wrap: Wrap, values: int = VALUES) -> str:
    """A file as sops writes it. Its keys are in kustomize's order, so that its MAC verifies after a build."""
    data_key = os.urandom(32)
    plain = {f"value-{number:05}": PLAINTEXT + os.urandom(12).hex() for number in range(values)}
    mac = hashlib.sha512("".join(["v1", "Secret", name, "shop", *plain.values(), "Opaque"]).encode())
    lines = [f"  {key}: {generate.encrypted(data_key, text, f'stringData:{key}:')}" for key, text in plain.items()]
    return DOCUMENT.format(
        name=name,
        values="\n".join(lines),
        keys=textwrap.indent(textwrap.dedent(wrap(data_key)), "  "),
        modified=generate.MODIFIED,
        mac=generate.encrypted(data_key, mac.hexdigest().upper(), generate.MODIFIED),
    )


def deployment(name: str) -> str:
    text = generate.DEPLOYMENT.replace(generate.ANNOTATIONS, "").replace("- ", "  ", 1)
    return textwrap.dedent(text.format(name=name, team=0, digest=hashlib.sha256(name.encode()).hexdigest()))


def make(folder: Path, items: int, secrets: int, wrap: Wrap) -> None:
    """plain/ and secret/ have the files; beside them are folders for one program each, with the same files."""
    names: dict[str, list[str]] = {"plain": [], "secret": []}
    for kind in names:
        (folder / kind).mkdir(parents=True)
    for index in range(items):
        name = f"service-{index:04}"
        encrypted = (index + 1) * secrets // items > index * secrets // items
        kind, text = ("secret", secret(name, wrap)) if encrypted else ("plain", deployment(name))
        names[kind].append(f"{kind}/{name}.yaml")
        (folder / kind / f"{name}.yaml").write_text(text, encoding="ascii")
    every = sorted(names["plain"] + names["secret"])
    for program, (version, kind, path, fields) in GENERATORS.items():
        config = CONFIG.format(version=version, kind=kind, annotation=ANNOTATION % path)
        config += fields % "\n".join(f"  - {name}" for name in names["secret"]) + "\n"
        kustomization(copied(folder, program, every), names["plain"], "generators", config)
        given, config = f"{RESOURCE_LIST}items:\n-", textwrap.indent(config, "  ")
        (folder / program / "input.yaml").write_text(f"{given}{config[1:]}functionConfig:\n{config}")
    kustomization(copied(folder, "transformer", every), every, "transformers", DECRYPT % (ANNOTATION % "krm-sops"))
    kustomization(copied(folder, "resources", every), every)
    package(copied(folder, "package", every), folder.parent / "keys" / "bench.agekey")


def copied(folder: Path, program: str, files: list[str]) -> Path:
    for name in files:
        copy = folder / program / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.hardlink_to(folder / name)
    return folder / program


def kustomization(folder: Path, resources: list[str], field: str = "", config: str = "") -> None:
    text = "resources:\n" + "\n".join(f"- {name}" for name in resources) + "\n"
    (folder / "kustomization.yaml").write_text(text + (f"{field}: [config.yaml]\n" if field else ""))
    if config:
        (folder / "config.yaml").write_text(config)


def package(folder: Path, keys: Path) -> None:
    """For kpt, with one function; the pipeline has a place to put it in. The key is in there, as containers need it."""
    local = 'config.kubernetes.io/local-config: "true"'
    (folder / "decrypt.yaml").write_text(
        DECRYPT % local + "spec:\n  decryption:\n    secretRef:\n      name: bench\n  allowPlaintext: true\n"
    )
    key = textwrap.indent(keys.read_text(), "    ")
    (folder / "key.yaml").write_text(
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: bench\n  annotations:\n    {local}\n"
        f"stringData:\n  bench.agekey: |\n{key}"
    )

    (folder / "Kptfile").write_text(
        f"apiVersion: kpt.dev/v1\nkind: Kptfile\nmetadata:\n  name: bench\n  annotations:\n    {local}\n"
        "pipeline:\n  mutators:\n  - FUNCTION\n    configPath: decrypt.yaml\n"
    )


class Pgp:
    """A key pair of gpg, RSA-4096, in a home of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self.env = {**os.environ, "GNUPGHOME": str(home)}
        self.gpg("--passphrase", "", "--quick-generate-key", "bench", "rsa4096", "default", "never")
        self.gpg("--passphrase", "", "--quick-add-key", self.listed("fpr")[0], "rsa4096", "encr", "never")
        self.fingerprint = self.listed("fpr")[0]

    def gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        argv = ["gpg", "--batch", "--quiet", "--trust-model", "always", "--pinentry-mode", "loopback", *arguments]
        done = subprocess.run(argv, env=self.env, input=given, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"gpg {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout

    def listed(self, record: str) -> list[str]:
        lines = self.gpg("--with-colons", "--list-secret-keys").decode().splitlines()
        return [line.split(":")[9] for line in lines if line.startswith(f"{record}:")]

    def wrap(self, data_key: bytes) -> str:
        message = self.gpg("--armor", "--recipient", self.fingerprint, "--encrypt", given=data_key).decode()
        entry = textwrap.indent(message, " " * 8)
        return f"    pgp:\n    - created_at: {generate.MODIFIED!r}\n      enc: |\n{entry}      fp: {self.fingerprint}"


def age(keys: Path) -> Wrap:
    identity = X25519PrivateKey.generate()
    recipient = generate.bech32("age", generate.raw(identity))
    secret_key = generate.bech32("age-secret-key-", identity.private_bytes_raw()).upper()
    (keys / "bench.agekey").write_text(f"{secret_key}\n")

    def wrap(data_key: bytes) -> str:
        wrapped = textwrap.indent(generate.age_armored(data_key, identity), " " * 8)
        return generate.AGE.format(wrapped=wrapped, recipient=recipient)

    return wrap


def main(top: Path) -> None:
    keys, env = top / "keys", {"HOME": str(top)}
    keys.mkdir()
    by_age = age(keys)
    env["SOPS_AGE_KEY_FILE"] = str(keys / "bench.agekey")
    for items, secrets in AGE:
        make(top / f"age-{items}-{secrets}", items, secrets, by_age)
    (top / "large").mkdir()
    for name, values in LARGE.items():
        (top / "large" / f"{name}.yaml").write_text(secret(name, by_age, values), encoding="ascii")
    pgp = Pgp(top / "gnupg")
    env["GNUPGHOME"] = pgp.env["GNUPGHOME"]
    (keys / "bench.asc").write_bytes(pgp.gpg("--armor", "--export-secret-keys"))
    kms = Kms()
    for items, secrets in FEWER:
        make(top / f"pgp-{items}-{secrets}", items, secrets, pgp.wrap)
        make(top / f"kms-{items}-{secrets}", items, secrets, kms.wrap)
    with Internet(top) as internet:
        internet.services["kms.eu-west-1.amazonaws.com"] = kms.decrypt
        env |= {**internet.env, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "x"}
        print(json.dumps(env), flush=True)
        sys.stdin.read()
    subprocess.run(["gpgconf", "--kill", "all"], env=pgp.env, check=False)  # noqa: S607


if __name__ == "__main__":
    main(Path(sys.argv[1]))
