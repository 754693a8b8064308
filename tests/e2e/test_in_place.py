"""`kpt fn render` in place, with SopsDecrypt, other functions, SopsEncrypt: only ciphertext is ever on disk."""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.clients import Clients, contents, files
from tests.e2e.test_image import image  # noqa: F401 - a fixture
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

SECRET = """\
# about it
apiVersion: v1
kind: Secret
metadata:
  name: db # its name
  labels: {app: shop}
stringData:
  # about the user
  user: plain-of-user # really
  password: 'plain-of-password'
  pem: |
    plain-of-pem
    and more
  number: "5"
type: Opaque
"""
OTHER = """\
apiVersion: example.com/v1
kind: Settings
metadata:
  name: settings
  namespace: shop
spec:
  list: [1, plain-of-list, 2.5, null, ""]
  on: true
"""
CONFIG = """\
apiVersion: krm-sops.dev/v1alpha1
kind: {kind}
metadata:
  name: {name}
  annotations:
    config.kubernetes.io/local-config: "true"
spec:
  decryption:
    secretRef:
      name: sops-keys
"""
RULES = f"""\
  creationRules:
  - path_regex: ^secret_
    encrypted_regex: ^(data|stringData)$
    age: {made.RECIPIENT}
"""
KEY_SECRET = f"""\
apiVersion: v1
kind: Secret
metadata:
  name: sops-keys
  annotations:
    config.kubernetes.io/local-config: "true"
stringData:
  test.agekey: {made.IDENTITY} # a throw-away key
"""
SETTER = f"""\
#!{sys.executable}
import sys
text = sys.stdin.read()
head, mark, rest = text.partition("\\nfunctionConfig:")
assert "ENC[AES256_GCM," not in head, "still encrypted"
{{body}}
sys.stdout.write(head + mark + rest)
"""
NEW = """\
head += '''
- apiVersion: v1
  kind: Secret
  metadata:
    name: made
  stringData:
    # about the token
    token: plain-of-token'''
"""
PLAINTEXT = re.compile(rb"plain-of-[a-z]+|about the (user|token)")


class Package:
    """A package that sops encrypted, and its pipeline. start: how functions are started, a line of the Kptfile."""

    def __init__(self, clients: Clients, folder: Path, start: str) -> None:
        self.clients = clients
        self.start = start
        self.root = folder / "package"
        self.env = {"SOPS_AGE_KEY": made.IDENTITY}
        (self.root / "shop").mkdir(parents=True)
        self.write("decrypt.yaml", CONFIG.format(kind="SopsDecrypt", name="decrypt") + "  keepOriginal: true\n")
        self.write("encrypt.yaml", CONFIG.format(kind="SopsEncrypt", name="encrypt") + RULES)
        self.write("key.yaml", KEY_SECRET)
        self.write("app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\ndata: {}\n")
        self.encrypt("db.yaml", SECRET)
        self.encrypt("shop/all.yaml", OTHER + "---\n" + OTHER.replace("name: settings", "name: more"))
        self.pipeline()
        self.render()  # kpt itself indents as it likes

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def encrypt(self, name: str, text: str) -> None:
        self.write(name, text)
        flags = ("--age", made.RECIPIENT, "--encrypted-regex", "^(data|stringData|spec)$")
        done = self.clients.run("sops", "encrypt", "--in-place", *flags, self.root / name, cwd=self.root)
        assert done.returncode == 0, done.stderr

    def pipeline(self, body: str = "") -> None:
        """body: what the function in the middle does with `head`, the text of the items."""
        setter = self.root.parent / "setter"
        setter.write_text(SETTER.replace("{body}", body))
        setter.chmod(0o755)
        functions = [f"{self.start}\n    configPath: decrypt.yaml", f"exec: {setter}"]
        functions.append(f"{self.start}\n    configPath: encrypt.yaml")
        listed = "".join(f"  - {function}\n" for function in functions)
        head = "apiVersion: kpt.dev/v1\nkind: Kptfile\nmetadata:\n  name: package\n"
        self.write("Kptfile", f"{head}pipeline:\n  mutators:\n{listed}")

    def render(self) -> CompletedProcess[str]:
        done = self.clients.run("kpt", "fn", "render", self.root, "--allow-exec", "--truncate-output=false")
        assert done.returncode == 0, done.stderr
        assert "plain-of-" not in done.stdout + done.stderr
        return done

    def refused(self) -> str:
        """What kpt says; the package is as it was."""
        before = contents(self.root)
        done = self.clients.run("kpt", "fn", "render", self.root, "--allow-exec", "--truncate-output=false")
        assert done.returncode != 0
        assert contents(self.root) == before
        assert "plain-of-" not in done.stdout + done.stderr
        return " ".join(done.stderr.split())

    def plain(self, name: str) -> list[dict[str, object]]:
        """As the real sops decrypts it."""
        done = self.clients.run("sops", "decrypt", self.root / name, cwd=self.root, **self.env)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    def assert_no_plaintext(self) -> None:
        for file in files(self.root):
            assert not PLAINTEXT.search(file.read_bytes()), file


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    clients = Clients(tmp_path_factory.mktemp("clients"))
    clients.need("kpt", "sops")
    return clients


@pytest.fixture(params=["executable", "container"])
def package(request, clients, tmp_path) -> Package:
    start = f"image: {request.getfixturevalue('image')}" if request.param == "container" else "exec: krm-sops"
    return Package(clients, tmp_path, start)


def without_status(all_contents: dict[Path, bytes]) -> dict[Path, bytes]:
    """Newer versions of kpt write down in the Kptfile how the render went."""
    return {path: text.split(b"\nstatus:")[0] for path, text in all_contents.items()}


def test_nothing_changes_where_no_function_changes_anything(package):
    before = contents(package.root)
    package.render()
    assert without_status(contents(package.root)) == without_status(before)
    package.assert_no_plaintext()


def test_what_a_function_changes_is_encrypted_and_nothing_else_moves(package):
    before = (package.root / "db.yaml").read_text()
    rest = {path: text for path, text in contents(package.root).items() if path.name in ("all.yaml", "key.yaml")}
    package.pipeline("head = head.replace('plain-of-user', 'admin')")
    package.render()
    after = (package.root / "db.yaml").read_text()
    added = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+")]
    names = {line[1:].split(":")[0].strip() for line in added}
    assert names - {"lastmodified"} == {"user", "mac"}  # in the same second, that moment is the same
    assert package.plain("db.yaml")[0]["stringData"]["user"] == "admin"
    assert package.plain("db.yaml")[0]["stringData"]["pem"] == "plain-of-pem\nand more\n"
    assert "admin" not in after
    assert {path: path.read_bytes() for path in rest} == rest
    package.assert_no_plaintext()


def test_a_document_of_a_file_with_several_changes_and_sops_reads_the_file(package):
    package.pipeline("head = head.replace('plain-of-list', 'another', 1)")
    package.render()
    assert [item["spec"]["list"][1] for item in package.plain("shop/all.yaml")] == ["another", "plain-of-list"]
    package.assert_no_plaintext()


def test_a_new_secret_is_encrypted_by_its_creation_rule_and_stays_as_it_is(package):
    package.pipeline(NEW)
    package.render()
    package.assert_no_plaintext()
    [secret] = package.plain("secret_made.yaml")
    assert secret["stringData"] == {"token": "plain-of-token"}
    package.pipeline()
    before = contents(package.root)
    package.render()
    assert contents(package.root) == before


def test_a_new_secret_without_a_rule_fails_and_nothing_is_written(package):
    package.pipeline(NEW.replace("name: made", "name: made\n    namespace: elsewhere"))
    assert "no creation rule matches 'elsewhere/secret_made.yaml'" in package.refused()


def test_a_function_that_fails_leaves_the_package_as_it_was(package):
    package.pipeline("sys.exit('broken')")
    assert "broken" in package.refused()


def test_a_function_that_takes_annotations_away_is_told_and_nothing_is_written(package):
    package.pipeline("head = '\\n'.join(x for x in head.split('\\n') if 'krm-sops.dev/original\"' not in x)")
    assert "is gone, so that it would stay plain" in package.refused()


def test_what_lost_its_annotation_and_was_moved_is_told_and_nothing_is_written(package):
    package.pipeline(
        "head = '\\n'.join(x for x in head.split('\\n') if 'krm-sops.dev/original\"' not in x)"
        ".replace('shop/all.yaml', 'zz.yaml')"
    )
    assert "document 1 of shop/all.yaml was decrypted and is gone" in package.refused()


def test_an_item_may_be_deleted(package):
    package.pipeline(
        "import yaml\nitems = yaml.safe_load(head)\n"
        "items['items'] = [item for item in items['items'] if item['metadata']['name'] != 'db']\n"
        "head = yaml.safe_dump(items).rstrip()"
    )
    package.render()
    assert not (package.root / "db.yaml").exists()
    package.assert_no_plaintext()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    configPath: encrypt.yaml\n", "    configPath: app.yaml\n"),
        ("    configPath: encrypt.yaml\n", "    configPath: encrypt.yaml\n    selectors:\n    - kind: Secret\n"),
        ("  name: package\n", "  name: package\n  annotations: {kpt.dev/save-on-render-failure: 'true'}\n"),
    ],
    ids=["no SopsEncrypt", "one that does not see everything", "saved on failure"],
)
def test_without_a_later_sopsencrypt_that_will_see_it_nothing_is_decrypted(clients, tmp_path, old, new):
    package = Package(clients, tmp_path, "exec: krm-sops")
    text = (package.root / "Kptfile").read_text()
    assert old in text
    package.write("Kptfile", text.replace(old, new))
    assert "would write this item's plaintext into the package" in package.refused()


def test_the_order_of_the_pipeline_counts(clients, tmp_path):
    package = Package(clients, tmp_path, "exec: krm-sops")
    lines = (package.root / "Kptfile").read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if "setter" not in line)
    text = text.replace("decrypt.yaml", "@").replace("encrypt.yaml", "decrypt.yaml").replace("@", "encrypt.yaml")
    package.write("Kptfile", text)
    assert "would write this item's plaintext into the package" in package.refused()


def test_subpackages_are_encrypted_by_the_pipeline_that_decrypted_them(clients, tmp_path):
    package = Package(clients, tmp_path, "exec: krm-sops")
    inner = package.root / "inner"
    inner.mkdir()
    for name in ("decrypt.yaml", "encrypt.yaml", "key.yaml", "db.yaml"):
        text = (package.root / name).read_text()
        (inner / name).write_text(text.replace("name: sops-keys", "name: inner-keys"))
    excluded = "  exclude:\n  - name: inner-keys\n"
    package.write("encrypt.yaml", (package.root / "encrypt.yaml").read_text() + excluded)
    (inner / "Kptfile").write_text((package.root / "Kptfile").read_text())
    before = contents(package.root)
    package.render()
    assert contents(package.root) == before
    package.assert_no_plaintext()
