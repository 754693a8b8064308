"""Legacy exec plugins: plain `kubectl kustomize --enable-alpha-plugins`, no container engine, no `--enable-exec`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.errors import KrmSopsError
from krm_sops.functions import FUNCTIONS
from krm_sops.verbs.legacy import legacy_links
from tests.e2e.clients import ROOT, Clients
from tests.generating import SECRET, ksops, own, put, secret, sops_secret_generator
from tests.security import made
from tests.security.conftest import program  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

CLIENTS = [("kubectl", "kustomize"), ("kustomize", "build")]
NEEDS_HASH = {"kustomize.config.k8s.io/needs-hash": "true"}
DECRYPT = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": {"name": "d"}}


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


class Repository:
    """A kustomization, and a home in which the plugins are linked to the installed program."""

    def __init__(self, client: tuple[str, str], clients: Clients, root: Path, launcher: Path) -> None:
        self.client = client
        self.clients = clients
        self.root = root
        (root / ".git").mkdir(parents=True)
        self.home = root.parent / "config"
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.home)}
        environment.pop("KUSTOMIZE_PLUGIN_HOME", None)
        source = "import sys; from krm_sops.verbs.legacy import legacy_links; "
        source += f"sys.argv[0] = {str(launcher)!r}; legacy_links()"
        subprocess.run([sys.executable, "-c", source], env=environment, check=True)

    def write(self, **files: Any) -> None:
        for name, content in files.items():
            put(self.root / f"{name.replace('__', '/')}.yaml", yaml.safe_dump(content, sort_keys=False).encode())

    def run(self, folder: str = ".") -> CompletedProcess[str]:
        env = {"XDG_CONFIG_HOME": str(self.home), "SOPS_AGE_KEY": made.IDENTITY}
        return self.clients.run(*self.client, "--enable-alpha-plugins", self.root / folder, **env)

    def built(self, folder: str = ".") -> list[dict[str, Any]]:
        done = self.run(folder)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=CLIENTS, ids=lambda client: client[0])
def repository(request, clients, tmp_path, program) -> Repository:  # noqa: F811
    clients.need(request.param[0])
    return Repository(request.param, clients, tmp_path / "repo", program.path)


def plugin(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the annotation that would make it a KRM function."""
    return {**config, "metadata": {name: value for name, value in config["metadata"].items() if name != "annotations"}}


def document(name: str, **metadata: Any) -> dict[str, Any]:
    return {**SECRET, "metadata": {"name": name, **metadata}}


def test_a_transformer_decrypts_what_an_overlay_has_changed(repository):
    put(repository.root / "base" / "s.yaml", document("db"))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}
    repository.write(
        base__kustomization={"resources": ["s.yaml", "pod.yaml"]},
        base__pod=pod,
        prod__kustomization={
            "resources": ["../base"],
            "namespace": "shop",
            "namePrefix": "eu-",
            "labels": [{"pairs": {"team": "a"}}],
            "transformers": ["d.yaml"],
            "buildMetadata": ["originAnnotations"],
        },
        prod__d={**DECRYPT, "spec": {"mac": "strict"}},
    )
    found = {item["kind"]: item for item in repository.built("prod")}
    assert found["Secret"]["stringData"] == SECRET["stringData"]
    assert found["Secret"]["metadata"]["name"] == "eu-db"
    assert (found["Secret"]["metadata"]["namespace"], found["Secret"]["metadata"]["labels"]) == ("shop", {"team": "a"})
    assert found["Pod"]["metadata"]["name"] == "eu-p"


def test_a_key_secret_among_the_resources_opens_and_does_not_leave(repository):
    put(repository.root / "s.yaml", document("db"))
    repository.write(
        kustomization={"resources": ["s.yaml", "key.yaml"], "transformers": ["d.yaml"]},
        key=made.KEY_SECRET,
        d={**DECRYPT, "spec": {"decryption": {"secretRef": {"name": "sops-keys"}}, "ambient": "never"}},
    )
    assert [item["metadata"]["name"] for item in repository.built()] == ["db"]


def test_what_is_not_encrypted_passes_through(repository):
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c"},
            "data": {"a": "*x\n# y\n", "b": "---\nz\n"},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "eA=="}},
    ]
    repository.write(kustomization={"resources": ["c.yaml", "s.yaml"]}, c=items[0], s=items[1])
    without = repository.built()
    repository.write(
        kustomization={"resources": ["c.yaml", "s.yaml"], "transformers": ["d.yaml"]}, d={**DECRYPT, "spec": {}}
    )
    assert repository.built() == without == items


def test_a_generator_makes_secrets_with_a_hash_and_references_follow(repository):
    put(repository.root / "s.yaml", document("db", annotations=NEEDS_HASH))
    put(repository.root / "text", "t")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}
    pod["spec"]["containers"] = [{"name": "c", "envFrom": [{"secretRef": {"name": "db"}}]}]
    repository.write(
        kustomization={"resources": ["pod.yaml"], "generators": ["g.yaml"]},
        pod=pod,
        g=plugin(own(files=["s.yaml"], configMapFrom=[secret(files=["text"])])),
    )
    found = {item["kind"]: item for item in repository.built()}
    name = found["Secret"]["metadata"]["name"]
    assert name.startswith("db-")
    assert found["Pod"]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": name}}]
    assert found["ConfigMap"]["data"] == {"text": "t"}


@pytest.mark.parametrize("config", [ksops(files=["s.yaml"]), sops_secret_generator(files=["s.yaml"])])
def test_configs_of_other_tools_work_as_they_are(config, repository):
    put(repository.root / "s.yaml", document("db"))
    repository.write(kustomization={"generators": ["g.yaml"]}, g=plugin(config))
    assert [item["kind"] for item in repository.built()] == ["Secret"]


def test_paths_start_at_the_kustomization_that_lists_the_config(repository):
    put(repository.root / "secrets" / "s.yaml", document("db"))
    repository.write(
        base__kustomization={"generators": ["configs/g.yaml"]},
        base__configs__g=plugin(own(files=["../secrets/*.yaml"])),
        top__kustomization={"resources": ["../base"]},
    )
    assert [item["metadata"]["name"] for item in repository.built("top")] == ["db"]


@pytest.mark.parametrize("role", ["transformers", "generators"])
def test_a_failure_stops_the_build_and_says_why(role, repository):
    put(repository.root / "s.yaml", document("db"))
    text = (repository.root / "s.yaml").read_text()
    (repository.root / "s.yaml").write_text(text.replace("user: ", "usr: "))
    config = {**DECRYPT, "spec": {}} if role == "transformers" else plugin(own(files=["s.yaml"]))
    repository.write(
        kustomization={"resources": ["s.yaml"] if role == "transformers" else [], role: ["c.yaml"]}, c=config
    )
    done = repository.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "krm-sops: error: " in done.stderr
    assert "stringData.usr" in done.stderr
    assert "plain-of" not in done.stderr


def test_a_transformer_in_the_place_of_a_generator_is_refused(repository):
    repository.write(kustomization={"generators": ["d.yaml"]}, d={**DECRYPT, "spec": {}})
    done = repository.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "list it under transformers, not under generators" in done.stderr


# The links


def test_there_is_a_link_for_every_kind_where_kustomize_looks(tmp_path, monkeypatch):
    launcher = tmp_path / "krm-sops"
    launcher.touch()
    monkeypatch.setattr(sys, "argv", [str(launcher)])
    links = legacy_links(str(tmp_path / "plugin"))
    assert len(links) == len(list(FUNCTIONS))
    names = {os.path.relpath(link, tmp_path / "plugin") for link in links}
    assert {
        "krm-sops.dev/v1alpha1/sopsdecrypt/SopsDecrypt",
        "krm-sops.dev/v1alpha1/sopsgenerator/SopsGenerator",
        "viaduct.ai/v1/ksops/ksops",
        "goabout.com/v1beta1/sopssecretgenerator/SopsSecretGenerator",
    } <= names
    assert {os.path.realpath(link) for link in links} == {str(launcher)}
    assert legacy_links(str(tmp_path / "plugin")) == links  # once more


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({"HOME": "H"}, "H/.config/kustomize/plugin"),
        ({"HOME": "H", "XDG_CONFIG_HOME": "X"}, "X/kustomize/plugin"),
        ({"HOME": "H", "XDG_CONFIG_HOME": "X", "KUSTOMIZE_PLUGIN_HOME": "P"}, "P"),
    ],
)
def test_the_plugin_folder_is_kustomizes(env, place, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CONFIG_HOME", "KUSTOMIZE_PLUGIN_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    (tmp_path / "krm-sops").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "krm-sops")])
    assert all(link.startswith(str(tmp_path / place) + "/") for link in legacy_links())


def test_a_program_that_is_there_is_not_replaced(tmp_path, monkeypatch):
    other = tmp_path / "plugin" / "viaduct.ai" / "v1" / "ksops" / "ksops"
    put(other, b"the real one")
    (tmp_path / "krm-sops").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "krm-sops")])
    with pytest.raises(KrmSopsError, match="is there and no link"):
        legacy_links(str(tmp_path / "plugin"))
    assert other.read_bytes() == b"the real one"


@pytest.mark.parametrize("name", ["ksops", "SopsSecretGenerator"])
def test_started_under_the_name_of_another_tool(name, program, tmp_path):  # noqa: F811
    """Its two ways: a config's file as the argument, and a ResourceList on stdin."""
    (tmp_path / ".git").mkdir()
    put(tmp_path / "s.yaml", document("db"))
    config = ksops(files=["s.yaml"]) if name == "ksops" else sops_secret_generator(files=["s.yaml"])
    (tmp_path / "g.yaml").write_text(made.yaml(config))
    link = tmp_path / name
    link.symlink_to(program.path)
    options = {"cwd": tmp_path, "check": False, "capture_output": True}
    env = {**program.env, "SOPS_AGE_KEY": made.IDENTITY}
    by_file = subprocess.run([link, "g.yaml"], env=env, **options)
    assert (by_file.returncode, by_file.stderr) == (0, b"")
    (item,) = yaml.safe_load_all(by_file.stdout)
    assert item["kind"] == "Secret"
    for functionless in (None, config):
        given = made.resource_list(config, config=functionless).encode()
        by_list = subprocess.run([link], env=env, input=given, **options)
        assert (by_list.returncode, by_list.stderr) == (0, b"")
        assert yaml.safe_load(by_list.stdout)["items"] == [item]
    shown = subprocess.run([link, "--help"], env=env, **options)
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_ksops_install_leaves_a_program_of_that_name(tmp_path):
    """For init containers that call `ksops install DIR`."""
    start = "import sys; sys.argv[0] = 'ksops'; from krm_sops.cli import console; console()"
    ksops = [sys.executable, "-c", start, "install"]
    options = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([*ksops, tmp_path / "tools"], **options)
    assert done.returncode == 0, done.stderr
    moved = (tmp_path / "tools").rename(tmp_path / "moved")
    shown = subprocess.run([moved / "ksops", "--version"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("krm-sops ")
    for wrong in ([], ["--with-kustomize", tmp_path / "tools"]):
        assert subprocess.run([*ksops, *wrong], **options).returncode == 1
