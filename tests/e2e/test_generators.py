"""Generators under the real kustomize and kpt: hash suffixes, references, overlays; what kpt must not write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.clients import IMAGE, Clients, contents
from tests.e2e.test_image import image  # noqa: F401 - a fixture
from tests.generating import SECRET, ksops, own, put, secret, sops_secret_generator
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

FLAGS = ("--enable-alpha-plugins", "--enable-exec")
NEEDS_HASH = {"kustomize.config.k8s.io/needs-hash": "true"}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "shop"},
    "spec": {"containers": [{"name": "shop", "envFrom": [{"secretRef": {"name": "db"}}]}]},
}


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


class Repository:
    def __init__(self, clients: Clients, root: Path) -> None:
        self.clients = clients
        self.root = root
        (root / ".git").mkdir(parents=True)

    def write(self, **files: Any) -> None:
        """files: names, in which ``__`` stands for a slash, to objects that are not encrypted. All are YAML."""
        for name, content in files.items():
            put(self.root / f"{name.replace('__', '/')}.yaml", yaml.safe_dump(content, sort_keys=False).encode())

    def run(self, folder: str = ".") -> CompletedProcess[str]:
        return self.clients.run("kustomize", "build", *FLAGS, self.root / folder, SOPS_AGE_KEY=made.IDENTITY)

    def built(self, folder: str = ".") -> dict[str, dict[str, Any]]:
        """The objects by their kind."""
        done = self.run(folder)
        assert (done.returncode, done.stderr) == (0, "")
        return {item["kind"]: item for item in yaml.safe_load_all(done.stdout)}


@pytest.fixture
def repository(clients, tmp_path) -> Repository:
    clients.need("kustomize")
    found = Repository(clients, tmp_path / "repo")
    put(found.root / "s.yaml", {**SECRET, "metadata": {"name": "db", "annotations": NEEDS_HASH}})
    return found


def test_the_name_has_a_hash_of_what_is_inside_and_references_follow(repository):
    repository.write(
        kustomization={"resources": ["pod.yaml"], "generators": ["g.yaml"]}, pod=POD, g=own(files=["s.yaml"])
    )
    first = repository.built()
    name = first["Secret"]["metadata"]["name"]
    assert name.startswith("db-")
    assert first["Pod"]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": name}}]
    assert first["Secret"]["stringData"] == SECRET["stringData"]
    assert "annotations" not in first["Secret"]["metadata"]
    changed = {**SECRET["stringData"], "password": "plain-of-another"}
    put(
        repository.root / "s.yaml",
        {**SECRET, "metadata": {"name": "db", "annotations": NEEDS_HASH}, "stringData": changed},
    )
    assert repository.built()["Secret"]["metadata"]["name"] not in (name, "db")


def test_an_overlay_changes_what_a_base_generates(repository):
    repository.write(
        base__kustomization={"resources": ["pod.yaml"], "generators": ["g.yaml"]},
        base__pod=POD,
        base__g=own(files=["../s.yaml"]),
        prod__kustomization={
            "resources": ["../base"],
            "namespace": "shop",
            "namePrefix": "eu-",
            "labels": [{"pairs": {"team": "a"}}],
            "patches": [{"path": "patch.yaml"}],
        },
        prod__patch={
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "db"},
            "stringData": {"user": "patched"},
        },
    )
    found = repository.built("prod")
    metadata = found["Secret"]["metadata"]
    assert metadata["name"].startswith("eu-db-")
    assert (metadata["namespace"], metadata["labels"]) == ("shop", {"team": "a"})
    assert found["Secret"]["stringData"] == {"user": "patched", "password": "plain-of-password"}
    assert found["Pod"]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": metadata["name"]}}]


@pytest.mark.parametrize(
    ("behavior", "left"), [("merge", {"old": "a2VwdA==", "text": "bmV3"}), ("replace", {"text": "bmV3"})]
)
def test_behavior_merges_with_what_is_there_or_takes_its_place(behavior, left, repository):
    put(repository.root / "text", "new")
    annotations = {"kustomize.config.k8s.io/behavior": behavior}
    there = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "data": {"old": "a2VwdA=="}}
    wanted = {"metadata": {"name": "made", "annotations": annotations}, "binaryFiles": ["../text"]}
    repository.write(
        base__kustomization={"resources": ["there.yaml"]},
        base__there=there,
        top__kustomization={"resources": ["../base"], "generators": ["g.yaml"]},
        top__g=own(secretFrom=[wanted]),
    )
    assert repository.built("top")["Secret"]["data"] == left


def test_a_config_map_and_wildcards(repository):
    put(repository.root / "conf" / "a.toml", "a")
    put(repository.root / "conf" / "b.toml", "b")
    repository.write(
        kustomization={"generators": ["g.yaml"]}, g=own(configMapFrom=[secret(files=["conf/*.toml"])], files=["?.yaml"])
    )
    (repository.root / "g.yaml").rename(repository.root / "generator.yaml")
    repository.write(kustomization={"generators": ["generator.yaml"]})
    found = repository.built()
    assert found["ConfigMap"]["data"] == {"a.toml": "a", "b.toml": "b"}
    assert found["Secret"]["stringData"] == SECRET["stringData"]


@pytest.mark.parametrize("kind", ["ksops", "SopsSecretGenerator"])
def test_a_repository_of_another_tool_builds_as_it_is(kind, repository, tmp_path):
    config = ksops(files=["s.yaml"]) if kind == "ksops" else sops_secret_generator(files=["s.yaml"])
    config["metadata"]["annotations"] = {"config.kubernetes.io/function": f"exec: {{path: {kind}}}"}
    repository.write(kustomization={"generators": ["g.yaml"]}, g=config)
    link = tmp_path / "bin" / kind
    link.parent.mkdir()
    link.symlink_to(tmp_path / "start")
    (tmp_path / "start").write_text('#!/bin/sh\nexec krm-sops "$@"\n')
    (tmp_path / "start").chmod(0o755)
    path = f"{link.parent}:{repository.clients.path}"
    done = repository.clients.run("kustomize", "build", *FLAGS, repository.root, SOPS_AGE_KEY=made.IDENTITY, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout)["kind"] == "Secret"


def test_what_is_wrong_is_told_with_config_field_and_file(repository):
    repository.write(
        kustomization={"generators": ["g.yaml"]},
        g=own(files=["s.yaml", "none.yaml"], secretFrom=[secret(envs=["s.yaml"])]),
    )
    done = repository.run()
    assert (done.returncode, done.stdout) == (1, "")
    line = "krm-sops: error: SopsGenerator/g: spec.files[1]: cannot read none.yaml: no such file or directory\n"
    assert line in done.stderr


@pytest.fixture
def package(clients, tmp_path) -> Path:
    clients.need("kpt")
    folder = tmp_path / "repo" / "pkg"
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    put(folder / "files" / "s.yaml", SECRET)
    pipeline = {"mutators": [{"exec": "krm-sops", "configPath": "deep/g.yaml"}]}
    kptfile = {"apiVersion": "kpt.dev/v1", "kind": "Kptfile", "metadata": {"name": "pkg"}, "pipeline": pipeline}
    put(folder / "Kptfile", yaml.safe_dump(kptfile).encode())
    put(folder / ".krmignore", b"files\n")
    config = own(files=["../files/*.yaml"])
    del config["metadata"]["annotations"]
    put(folder / "deep" / "g.yaml", yaml.safe_dump(config).encode())
    return folder


def test_kpt_render_does_not_write_plaintext_into_the_package(clients, package):
    before = contents(package)
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", SOPS_AGE_KEY=made.IDENTITY)
    assert done.returncode != 0
    assert "kpt fn render would write the generated plaintext into the package" in " ".join(done.stderr.split())
    assert contents(package) == before


def test_kpt_render_elsewhere_adds_what_is_generated_and_keeps_the_package(clients, package, tmp_path):
    config = package / "deep" / "g.yaml"
    config.write_text(config.read_text() + "  allowPlaintext: true\n")
    before = contents(package)
    done = clients.run(
        *("kpt", "fn", "render", package, "--allow-exec", "-o", tmp_path / "out"), SOPS_AGE_KEY=made.IDENTITY
    )
    assert done.returncode == 0, done.stderr
    assert "plain-of" not in done.stderr
    assert contents(package) == before
    (found,) = (tmp_path / "out").rglob("secret_db.yaml")
    assert yaml.safe_load(found.read_text())["stringData"] == SECRET["stringData"]
    assert (tmp_path / "out" / "deep" / "g.yaml").read_text() == config.read_text()


def test_kpt_eval_reads_from_where_it_was_started(clients, package):
    argv = ("kpt", "fn", "eval", ".", "--exec", "krm-sops", "--fn-config", "deep/g.yaml", "-o", "unwrap")
    done = clients.run(*argv, cwd=package, SOPS_AGE_KEY=made.IDENTITY)
    assert done.returncode != 0
    assert "cannot list ../files/" in " ".join(done.stderr.split())
    config = package / "deep" / "g.yaml"
    config.write_text(config.read_text().replace("../files/", "files/"))
    done = clients.run(*argv, cwd=package, SOPS_AGE_KEY=made.IDENTITY)
    assert done.returncode == 0, done.stderr
    assert [item["kind"] for item in yaml.safe_load_all(done.stdout)] == ["Kptfile", "SopsGenerator", "Secret"]


def test_a_container_says_that_it_sees_no_files(clients, request, repository):
    clients.need("kubectl")
    config = own(files=["s.yaml"])
    config["metadata"]["annotations"] = {"config.kubernetes.io/function": f"container: {{image: {IMAGE}}}"}
    repository.write(kustomization={"generators": ["g.yaml"]}, g=config)
    tested = request.getfixturevalue("image")
    file = repository.root / "g.yaml"
    file.write_text(file.read_text().replace(IMAGE, tested))
    done = clients.run("kubectl", "kustomize", "--enable-alpha-plugins", repository.root)
    assert done.returncode != 0
    assert "a container sees no files" in " ".join(done.stderr.split())
