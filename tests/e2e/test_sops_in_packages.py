"""Files of the real sops, as the real kpt and kustomize hand them over: several documents a file, files in values."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.clients import Clients
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

MANY = """\
# about the first
apiVersion: v1
kind: Secret
metadata:
  name: one
  namespace: z
stringData:
  # before b
  b: bee
  a: aye # behind a
---
# about the second
apiVersion: v1
kind: ConfigMap
metadata:
  name: two
data:
  x: "1"
  a: |
    several
    lines
---
apiVersion: example.com/v1
kind: Other
metadata:
  name: three
spec:
  list: [1, true, 2.5, null, ""]
"""
CONFIG = """\
apiVersion: krm-sops.dev/v1alpha1
kind: SopsDecrypt
metadata:
  name: decrypt
  annotations:
    config.kubernetes.io/local-config: "true"
spec: {allowPlaintext: true}
"""
KPTFILE = """\
apiVersion: kpt.dev/v1
kind: Kptfile
metadata:
  name: package
pipeline:
  mutators:
  - exec: krm-sops
    configPath: decrypt.yaml
"""
RULES = {
    "a regex": "encrypted_regex: ^(data|stringData|spec)$",
    "the encrypted values' MAC only": "encrypted_regex: ^(data|stringData|spec)$, mac_only_encrypted: true",
    "a comment": "encrypted_comment_regex: ^ (before|behind)",
}


class World:
    def __init__(self, folder: Path) -> None:
        self.clients = Clients(folder)
        self.clients.need("sops")
        self.folder = folder
        self.env = {"SOPS_AGE_KEY": made.IDENTITY}

    def sops(self, path: Path, *flags: str, rule: str = "") -> str:
        """The file encrypted.  rule: fields of a creation rule in flow style, without its braces."""
        config = self.folder / "rules.yaml"
        config.write_text(f"creation_rules: [{{age: {made.RECIPIENT}, {rule}}}]\n")
        done = self.clients.run("sops", "--config", config, "encrypt", *flags, path, **self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def package(self) -> Path:
        package = self.folder / "package"
        package.mkdir()
        (package / "decrypt.yaml").write_text(CONFIG)
        (package / "Kptfile").write_text(KPTFILE)
        return package

    def kpt(self, how: str, package: Path) -> tuple[list[dict[str, object]], str]:
        """What it makes of the package's other files; stderr."""
        if how == "render":
            argv = ["kpt", "fn", "render", package, "--allow-exec", "-o", "unwrap"]
        else:
            argv = ["kpt", "fn", "eval", package, "--exec", "krm-sops", "--fn-config", package / "decrypt.yaml"]
            argv += ["-o", "unwrap"]
        done = self.clients.run(*argv, cwd=self.folder, **self.env)
        assert done.returncode == 0, done.stderr + done.stdout
        ours = ("Kptfile", "SopsDecrypt")
        return [item for item in yaml.safe_load_all(done.stdout) if item["kind"] not in ours], done.stderr


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["render", "eval"])
def test_kpt_hands_over_several_documents_of_a_file(world, how, rule):
    """S29."""
    package = world.package()
    path = package / "many.yaml"
    path.write_text(MANY)
    path.write_text(world.sops(path, rule=RULES[rule]))
    found, stderr = world.kpt(how, package)
    assert found == list(yaml.safe_load_all(MANY))
    assert "krm-sops: " not in stderr


@pytest.mark.parametrize("how", ["render", "eval"])
def test_kpt_tells_that_a_document_was_taken_out(world, how):
    """S29."""
    package = world.package()
    path = package / "many.yaml"
    path.write_text(MANY)
    documents = world.sops(path, rule=RULES["a regex"]).split("\n---\n")
    for left_out in range(3):
        path.write_text("\n---\n".join(documents[:left_out] + documents[left_out + 1 :]))
        with pytest.raises(AssertionError, match="MAC mismatch"):
            world.kpt(how, package)


def test_documents_encrypted_on_their_own_in_one_file(world):
    """As getsops/sops#2224 makes them: `cat` of several encrypted files."""
    package = world.package()
    parts = []
    for number, text in enumerate(MANY.split("---\n")):
        path = world.folder / f"{number}.yaml"
        path.write_text(text)
        parts.append(world.sops(path, rule=RULES["a regex"]))
    (package / "many.yaml").write_text("---\n".join(parts))
    assert world.kpt("render", package)[0] == list(yaml.safe_load_all(MANY))


FILES = {
    "values.yaml": b"# a comment\ndatabase:\n    user: admin\n    ports:\n        - 1\n        - 2\n",
    "values.json": b'{\n\t"user": "admin",\n\t"n": 1.5\n}\n',
    ".dockerconfigjson": b'{\n\t"auths": {\n\t\t"registry.example": {\n\t\t\t"auth": "YTpi"\n\t\t}\n\t}\n}\n',
    "app.env": b"USER=admin\n# a comment\nPASSWORD=p=q\n",
    "app.ini": b"[server]\nport = 80\nhost = x\n",
    "tls.p12": b"\x00\x01\xff binary",
    "text.txt": b"text\n",
}
TYPES = {".dockerconfigjson": ("--input-type", "json", "--output-type", "json")}


@pytest.mark.parametrize("client", ["kpt", "kustomize"])
def test_files_of_every_format_in_a_secret(world, client):
    """As `kubectl create secret --from-file` or a secretGenerator puts them there."""
    data = {}
    for name, content in FILES.items():
        path = world.folder / name
        path.write_bytes(content)
        data[name] = b64encode(world.sops(path, *TYPES.get(name, ())).encode()).decode()
    data["binary.json"] = data["text.txt"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "files"}, "data": data}
    package = world.package()
    (package / "secret.yaml").write_text(yaml.safe_dump(secret, sort_keys=False))
    if client == "kpt":
        (found,), stderr = world.kpt("render", package)
        assert "krm-sops: " not in stderr
    else:
        config = CONFIG.replace('local-config: "true"', 'function: "exec: {path: krm-sops}"')
        (package / "decrypt.yaml").write_text(config)
        listed = "resources: [secret.yaml]\ntransformers: [decrypt.yaml]\nnamespace: other\n"
        (package / "kustomization.yaml").write_text(listed)
        flags = ("--enable-alpha-plugins", "--enable-exec")
        done = world.clients.run("kustomize", "build", *flags, package, **world.env)
        assert (done.returncode, done.stderr) == (0, "")
        found = yaml.safe_load(done.stdout)
    values = {name: b64decode(value) for name, value in found["data"].items()}
    assert values == {**FILES, "binary.json": FILES["text.txt"]}


def test_what_a_secret_generator_made_of_encrypted_files(world):
    """As people have it for Flux. The name's hash is over the plaintext, since kustomize hashes last."""
    names = []
    for content in (b"a: strong\n", b"a: other\n"):
        package = world.folder / f"package{len(names)}"
        package.mkdir()
        plain = world.folder / "values.yaml"
        plain.write_bytes(content)
        (package / "values.yaml").write_text(world.sops(plain))
        (package / "decrypt.yaml").write_text(
            CONFIG.replace('local-config: "true"', 'function: "exec: {path: krm-sops}"')
        )
        generator = "secretGenerator: [{name: files, files: [values.yaml, app.yaml=values.yaml]}]\n"
        (package / "kustomization.yaml").write_text(generator + "transformers: [decrypt.yaml]\n")
        flags = ("--enable-alpha-plugins", "--enable-exec")
        built = [world.clients.run("kustomize", "build", *flags, package, **world.env) for _ in range(2)]
        assert (built[0].returncode, built[0].stderr, built[0].stdout) == (0, "", built[1].stdout)
        found = yaml.safe_load(built[0].stdout)
        assert {b64decode(value) for value in found["data"].values()} == {content}
        names.append(found["metadata"]["name"])
    assert names[0] != names[1]
    assert all(name.startswith("files-") for name in names)
