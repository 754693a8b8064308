"""docs/migrate.md: its commands, run in repositories of those who move over, beside the tools that they leave."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.e2e.clients import Clients
from tests.security import made

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "migrate.md").read_text()
SECRET = made.yaml(made.encrypted())
FUNCTION = "  annotations:\n    config.kubernetes.io/function: |\n      exec:\n        path: %s\n"
GENERATOR = "apiVersion: %s\nkind: %s\nmetadata:\n  name: secrets\n%s"
KSOPS = GENERATOR % ("viaduct.ai/v1", "ksops", "%s") + "files: [./secret.enc.yaml]\n"
SOPS_SECRET_GENERATOR = GENERATOR % ("goabout.com/v1beta1", "SopsSecretGenerator", "%s") + "files: [values.enc.yaml]\n"
PASSWORD = made.PLAIN["stringData"]["password"]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(title: str) -> list[str]:
    """The lines of a section's shell blocks."""
    found = re.findall(r"^ *```(?:ba)?sh\n(.*?)^ *```$", section(title), re.DOTALL | re.MULTILINE)
    return [line.strip() for block in found for line in block.splitlines()]


def files(title: str) -> dict[str, str]:
    """The section's YAML blocks, by the names that stand above them."""
    found = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", section(title), re.DOTALL | re.MULTILINE)
    return dict(found)


class Repository:
    """A repository, and the programs that its owner has."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.clients = Clients(folder)
        self.root = folder / "repository"
        (self.root / ".git").mkdir(parents=True)
        (folder / "age.agekey").write_text(made.IDENTITY)
        self.env = {"SOPS_AGE_KEY_FILE": str(folder / "age.agekey"), "XDG_CONFIG_HOME": str(folder / "config")}

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def give_name(self, name: str) -> None:
        """What `install --as` does."""
        program = Path(self.clients.path.split(":")[0], "krm-sops")
        other = program.with_name(name)
        other.write_text(program.read_text().replace("-m krm_sops", f"-c '{_AS % name}'"))
        other.chmod(0o755)

    def run(self, line: str, **env: str) -> str:
        self.clients.need(*(word for word in ("kustomize", "kubectl", "helm") if line.startswith(word)))
        done = self.clients.run("bash", "-c", f"set -eo pipefail; {line}", cwd=self.root, **{**self.env, **env})
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert "ENC[" not in done.stdout
        return done.stdout


_AS = 'import sys; from krm_sops.cli import main_and_exit; main_and_exit(["%s", *sys.argv[1:]])'


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "owner")


def secrets(output: str) -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one.get("stringData", {}) for one in yaml.safe_load_all(output)}


def as_before(repository: Repository, name: str, line: str) -> str:
    """What the tool itself gives, where it is installed."""
    theirs = shutil.which(name, path=repository.clients.path)
    if theirs is None:
        pytest.skip(f"{name} is not installed")
    return repository.run(line)


@pytest.mark.parametrize(
    ("title", "name", "config"),
    [("From ksops", "ksops", KSOPS), ("From SopsSecretGenerator", "SopsSecretGenerator", SOPS_SECRET_GENERATOR)],
)
def test_a_generators_repository_builds_the_same(repository, title, name, config):
    values = made.yaml(made.encrypted({"data": {"a": "plain-a"}}))
    repository.write(
        {"secret.enc.yaml": SECRET, "values.enc.yaml": values, "kustomization.yaml": "generators: [g.yaml]\n"}
    )
    repository.write({"g.yaml": config % (FUNCTION % name)})
    build, *others = commands(title)
    assert build.startswith("kustomize build ")
    before = as_before(repository, name, build)
    repository.give_name(name)
    assert repository.run(build) == before
    for line in others:
        if line.startswith("krm-sops render"):
            is_masked = "--mask" in line
            found = repository.run(line)
            assert ("***" in found) == is_masked
            assert is_masked or list(yaml.safe_load_all(found)) == list(yaml.safe_load_all(before))


def test_an_exec_plugin_of_ksops_builds_under_kubectl(repository):
    repository.write({"secret.enc.yaml": SECRET, "kustomization.yaml": "generators: [g.yaml]\n", "g.yaml": KSOPS % ""})
    link, build = (line for line in commands("From ksops") if "plugins" in line and "exec" not in line)
    repository.give_name("ksops")
    repository.run(link)
    assert secrets(repository.run(build))["db"]["password"] == PASSWORD


def test_what_flux_applies_is_previewed(repository):
    repository.write(
        {
            "age.agekey": made.IDENTITY,
            "apps/base/kustomization.yaml": "resources: [secret.yaml]\n",
            "apps/base/secret.yaml": SECRET,
            "apps/production/kustomization.yaml": (
                "namespace: shop\nresources: [../base]\nsecretGenerator: [{name: env, envs: [some.env]}]\n"
            ),
            "apps/production/some.env": "",
        }
    )
    source = repository.root / "plain.env"
    source.write_text("TOKEN=of-the-generator\n")
    recipient = made.RECIPIENT
    encrypted = repository.clients.run("krm-sops", "encrypt", "--age", recipient, source, cwd=repository.root)
    assert encrypted.returncode == 0, encrypted.stderr
    repository.write({"apps/production/some.env": encrypted.stdout})
    plain, masked, check, explain = (repository.run(line, SOPS_AGE_KEY_FILE="") for line in commands("From Flux"))
    assert PASSWORD in plain
    assert "b2YtdGhlLWdlbmVyYXRvcg==" in plain
    assert PASSWORD not in masked
    assert "***" in masked
    assert check.endswith("nothing found\n")
    assert "opens with a key at hand" in explain


OPERATORS = {"isindir.github.com/v1alpha3": "secretTemplates", "addons.projectcapsule.dev/v1alpha1": "secrets"}


def sops_secret(version: str) -> str:
    template = {"name": "db", "stringData": {"password": PASSWORD}}
    metadata = {"name": "source", "namespace": "team"}
    spec = {OPERATORS[version]: [template]}
    return made.yaml(made.encrypted({"apiVersion": version, "kind": "SopsSecret", "metadata": metadata, "spec": spec}))


def check_secret(output: str) -> None:
    (secret,) = (one for one in yaml.safe_load_all(output) if one["kind"] == "Secret")
    assert secret == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "team"},
        "type": "Opaque",
        "stringData": {"password": PASSWORD},
    }


@pytest.mark.parametrize("version", OPERATORS)
def test_a_sops_secret_becomes_secrets(repository, version):
    title = "From a SopsSecret operator"
    repository.write({**files(title), "sopssecret.yaml": sops_secret(version)})
    for line in commands(title):
        check_secret(repository.run(line))
    masked = repository.run("krm-sops render --mask .")
    assert PASSWORD not in masked
    assert "***" in masked


@pytest.mark.parametrize("version", OPERATORS)
def test_a_sops_secret_becomes_secrets_in_a_kpt_pipeline(repository, version):
    repository.clients.need("kpt")
    config = files("From a SopsSecret operator")["decrypt.yaml"]
    config = config.replace("config.kubernetes.io/function: |", 'config.kubernetes.io/local-config: "true"')
    config = config.replace("      exec:\n        path: krm-sops\n", "") + "  allowPlaintext: true\n"
    pipeline = "pipeline: {mutators: [{exec: krm-sops, configPath: decrypt.yaml}]}\n"
    repository.write(
        {
            "decrypt.yaml": config,
            "sopssecret.yaml": sops_secret(version),
            "Kptfile": "apiVersion: kpt.dev/v1\nkind: Kptfile\nmetadata: {name: package}\n" + pipeline,
        }
    )
    check_secret(repository.run("kpt fn render --allow-exec -o unwrap ."))


def test_helm_takes_values_from_a_pipe_and_charts_may_hold_encrypted_manifests(repository):
    chart = "apiVersion: v2\nname: shop\nversion: 0.1.0\n"
    template = (
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\nstringData:\n  password: {{ .Values.data.password }}\n"
    )
    repository.write(
        {
            "chart/Chart.yaml": chart,
            "chart/templates/secret.yaml": template,
            "chart-of-secrets/Chart.yaml": chart,
            "chart-of-secrets/templates/secret.yaml": SECRET,
            "secrets.yaml": made.yaml(made.encrypted({"data": {"password": PASSWORD}})),
        }
    )
    for line in commands("From helm-secrets"):
        assert secrets(repository.run(line))["db"]["password"] == PASSWORD
