"""The Argo CD sidecar of deploy/argocd: its container as its manifest says, asked as Argo CD asks it.

The commands of its plugin are run by the real argocd-cmp-server where that is on PATH, else by an emulation: the same
container, environment, working folder, user, time limit and streams.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e import cmp
from tests.e2e.test_image import image as built  # noqa: F401 (a fixture)
from tests.security import made
from tests.security.test_authority import A_KEY, B_KEY, document

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy" / "argocd"
GO = Path(os.environ.get("GOBIN") or Path.home() / "go" / "bin")
PATH = f"{os.environ.get('PATH', os.defpath)}:{GO}"
SECONDS = 90  # ARGOCD_EXEC_TIMEOUT
PASSWORD = made.PLAIN["stringData"]["password"]


def read(*path: str) -> Any:
    return yaml.safe_load(DEPLOY.joinpath(*path).read_text())


CONTAINER = next(
    one
    for one in read("sidecar", "repo-server.yaml")["spec"]["template"]["spec"]["containers"]
    if one["name"] == "krm-sops"
)
PLUGIN = read("sidecar", "plugin.yaml")["spec"]


def program(name: str) -> Path:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(found)


def libraries(*programs: Path) -> set[str]:
    """What these programs load where they were built against a C library, unlike those in Argo CD's image."""
    found: set[str] = set()
    for path in programs:
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        found |= {word for word in listed.split() if word.startswith("/")}
    return found


class Failed(Exception):
    """What Argo CD shows where a command fails."""


class Sidecar:
    """The container, with a folder for each of its volumes; projects a and b have keys."""

    def __init__(self, image: str, folder: Path, server: Path | None) -> None:
        """server: argocd-cmp-server, None for the emulation."""
        self.image = image
        self.volumes = folder
        self.server = server
        for mount in CONTAINER["volumeMounts"]:
            (folder / mount["name"]).mkdir(exist_ok=True)
        for name in ("plugins", "krm-sops-tmp"):  # emptyDirs that it writes to
            (folder / name).chmod(0o777)
        self._config("krm-sops-plugin", "plugin.yaml", (DEPLOY / "sidecar" / "plugin.yaml").read_bytes())
        self._config("krm-sops-policy", "policy.yaml", (DEPLOY / "sidecar" / "policy.yaml").read_bytes())
        for project, identity in (("a", A_KEY), ("b", B_KEY)):
            (folder / f"krm-sops-keys-{project}").mkdir()
            self._config(f"krm-sops-keys-{project}", "team.agekey", identity.encode())
        kustomize = program("kustomize")
        shutil.copy(kustomize, folder / "krm-sops-tools")
        self.libraries = libraries(kustomize, *([server] if server else []))
        self.container = ""
        if server:
            shutil.copy(server, folder / "var-files" / "argocd-cmp-server")
            self.container = self._run("--detach", command=CONTAINER["command"]).strip()
            self._wait_for(folder / "plugins" / "krm-sops.sock")

    def _config(self, volume: str, name: str, content: bytes) -> None:
        """A file as Kubernetes mounts it: a link to a link to a folder."""
        data = self.volumes / volume / "..2026_01_01"
        data.mkdir()
        (data / name).write_bytes(content)
        (self.volumes / volume / "..data").symlink_to(data.name)
        (self.volumes / volume / name).symlink_to(f"..data/{name}")

    def _run(self, *options: str, command: list[str], env: dict[str, str] | None = None) -> str:
        context = CONTAINER["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["runAsNonRoot"]
        assert not context["allowPrivilegeEscalation"]
        argv = ["podman", "run", "--rm", "--network", "none", "--read-only", "--read-only-tmpfs=false"]
        argv += ["--security-opt", "no-new-privileges", "--user", f"{context['runAsUser']}:0", *options]
        argv += [f"--cap-drop={name}" for name in context["capabilities"]["drop"]]
        for name, value in ({one["name"]: one["value"] for one in CONTAINER["env"]} | (env or {})).items():
            argv += ["--env", f"{name}={value}"]
        for mount in CONTAINER["volumeMounts"]:
            is_key = mount["name"].startswith("krm-sops-keys-")
            for project in ("a", "b") if is_key else ("default",):
                name, path = (mount[field].replace("default", project) for field in ("name", "mountPath"))
                argv += ["--volume", f"{self.volumes / name}:{path}" + (":ro" if mount.get("readOnly") else "")]
        for path in self.libraries:
            argv += ["--volume", f"{path}:{path}:ro"]
        argv += ["--entrypoint", json.dumps(command), self.image]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS + 30, check=False)
        if done.returncode:
            raise Failed(done.stderr)
        return done.stdout

    def _wait_for(self, socket: Path) -> None:
        for _ in range(100):
            if socket.exists():
                return
            time.sleep(0.1)
        pytest.fail("argocd-cmp-server does not listen")

    def close(self) -> None:
        if self.container:
            subprocess.run(["podman", "rm", "--force", self.container], capture_output=True, check=True)

    def matches(self, checkout: Path, path: str, **env: str) -> bool:
        variables = environment(path, **env)
        del variables[
            "ARGOCD_APP_PROJECT_NAME"
        ]  # as where Argo CD looks at a repository before there is an application
        if self.server:
            return cmp.match(self.volumes / "plugins" / "krm-sops.sock", checkout, path, variables)
        return self._emulated(PLUGIN["discover"]["find"], checkout, path, variables) != ""

    def manifests(self, checkout: Path, path: str, **env: str) -> list[Any]:
        """Raises Failed."""
        variables = environment(path, **env)
        if self.server:
            try:
                given = cmp.generate(self.volumes / "plugins" / "krm-sops.sock", checkout, path, variables)
            except cmp.CallError as error:
                raise Failed(str(error)) from None
            return [json.loads(manifest) for manifest in given]
        found = list(yaml.safe_load_all(self._emulated(PLUGIN["generate"], checkout, path, variables)))
        assert all(isinstance(one, dict) and one["kind"] for one in found)
        return found

    def _emulated(self, command: dict[str, Any], checkout: Path, path: str, variables: dict[str, str]) -> str:
        work = self.volumes / "krm-sops-tmp" / "_cmp_server" / str(uuid.uuid4())
        shutil.copytree(checkout, work, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        inside = f"/tmp/_cmp_server/{work.name}/{path}"
        limit = ["--workdir", os.path.normpath(inside), "--timeout", str(SECONDS)]
        try:
            return self._run(*limit, command=[*command["command"], *command["args"]], env=variables)
        finally:
            shutil.rmtree(work)

    def left_behind(self) -> list[str]:
        """Files in its writable places."""
        return [str(file) for file in (self.volumes / "krm-sops-tmp").rglob("*") if not file.is_dir()]


def environment(path: str, project: str = "a", **more: str) -> dict[str, str]:
    """What Argo CD sets for an application. more: what its author adds."""
    about = {"NAME": "shop", "NAMESPACE": "shop", "PROJECT_NAME": project, "REVISION": "0" * 40, "SOURCE_PATH": path}
    about |= {"SOURCE_REPO_URL": "https://git.example/shop.git", "SOURCE_TARGET_REVISION": "main"}
    return {f"ARGOCD_APP_{name}": value for name, value in about.items()} | {"KUBE_VERSION": "1.32"} | more


@pytest.fixture(scope="module", params=["argocd-cmp-server", "emulation"])
def sidecar(request, built, tmp_path_factory) -> Iterator[Sidecar]:  # noqa: F811
    server = program("argocd-cmp-server") if request.param != "emulation" else None
    if server:
        program("curl")
    made = Sidecar(built, tmp_path_factory.mktemp("volumes"), server)
    yield made
    made.close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository: an application with a secret of each sort of build, and one without."""
    root = tmp_path / "checkout"
    secret, plain = made.yaml(document()), made.yaml({**made.PLAIN, "kind": "ConfigMap"})
    files = {
        "plain/configmap.yaml": plain,
        "folder/secret.yaml": secret,
        "folder/more/configmap.yaml": plain,
        "base/kustomization.yaml": "resources: [secret.yaml]\n",
        "base/secret.yaml": secret,
        "overlays/prod/kustomization.yaml": "namespace: shop\nnamePrefix: my-\nresources: [../../base]\n",
        "ksops/kustomization.yaml": "generators: [ksops.yaml]\n",
        "ksops/ksops.yaml": "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata:\n  name: secrets\n"
        "  annotations:\n    config.kubernetes.io/function: |\n      exec:\n        path: ksops\n"
        "files: [./secret.enc.yaml]\n",
        "ksops/secret.enc.yaml": secret,
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_an_application_is_ours_if_its_build_reads_something_encrypted(sidecar, checkout):
    assert {
        path: sidecar.matches(checkout, path) for path in ("plain", "folder", "base", "overlays/prod", "ksops", ".")
    } == {
        "plain": False,
        "folder": True,
        "base": True,
        "overlays/prod": True,
        "ksops": True,
        ".": True,
    }


@pytest.mark.parametrize(("path", "name"), [("folder", "db"), ("overlays/prod", "my-db"), ("ksops", "db")])
def test_manifests_arrive_decrypted_and_whole(sidecar, checkout, path, name):
    """A folder, a kustomization that changes what it has from its base, a repository of ksops as it is."""
    (secret,) = (one for one in sidecar.manifests(checkout, path) if one["kind"] == "Secret")
    assert secret["metadata"]["name"] == name
    assert secret["stringData"]["password"] == PASSWORD
    assert "sops" not in secret
    assert sidecar.left_behind() == []


def test_another_projects_file_does_not_open(sidecar, checkout):
    """S4"""
    for path in ("folder", "overlays/prod", "ksops"):
        with pytest.raises(Failed) as raised:
            sidecar.manifests(checkout, path, project="b")
        assert "no key could unwrap the data key" in str(raised.value)
        assert PASSWORD not in str(raised.value)
    assert sidecar.left_behind() == []


@pytest.mark.parametrize("project", ["../a", "b/../a", "..", ""])
def test_a_project_name_that_leads_elsewhere_is_refused(sidecar, checkout, project):
    """S4"""
    with pytest.raises(Failed, match="which is not set to one path component"):
        sidecar.manifests(checkout, "folder", project=project)


def test_what_an_applications_author_sets_changes_nothing(sidecar, checkout):
    """S4"""
    wishes = {"KRM_SOPS_KEY_DIR": "/keys/a", "SOPS_AGE_KEY": A_KEY, "ARGOCD_APP_PROJECT_NAME": "a", "MAC": "tags"}
    wanted = {f"{prefix}{name}": value for prefix in ("PARAM_", "ARGOCD_ENV_") for name, value in wishes.items()}
    wanted["ARGOCD_APP_PARAMETERS"] = json.dumps([{"name": name, "string": value} for name, value in wishes.items()])
    with pytest.raises(Failed, match="no key could unwrap the data key"):
        sidecar.manifests(checkout, "folder", project="b", **wanted)


def test_no_file_outside_of_the_checkout_is_read(sidecar, checkout):
    """S2: keys, the policy, what Argo CD handed to the plugin for somebody else."""
    reach = "configMapGenerator: [{name: a, files: [%s]}]\n"
    for path in ("/keys/a/team.agekey", "../../../../keys/a/team.agekey", "../../plugin.yaml", "/proc/self/environ"):
        (checkout / "folder" / "kustomization.yaml").write_text(reach % path + "resources: [secret.yaml]\n")
        with pytest.raises(Failed) as raised:
            sidecar.manifests(checkout, "folder")
        assert A_KEY not in str(raised.value)


def test_a_changed_file_is_refused(sidecar, checkout):
    """mac: strict"""
    secret = checkout / "folder" / "secret.yaml"
    secret.write_text(secret.read_text().replace('name: "db"', 'name: "other"'))
    with pytest.raises(Failed, match="MAC"):
        sidecar.manifests(checkout, "folder")


def test_an_application_without_an_object_fails_rather_than_be_pruned(sidecar, checkout):
    (checkout / "empty").mkdir()
    (checkout / "empty" / "README.md").write_text("nothing here")
    with pytest.raises(Failed, match="allow-empty"):
        sidecar.manifests(checkout, "empty")


def test_with_manifest_generate_paths_a_base_is_still_found(sidecar, checkout):
    """Then the archive begins at the common folder of those paths, and the application's path in it is shorter."""
    part = checkout / "part"
    part.mkdir()
    for name in ("base", "overlays"):
        shutil.move(checkout / name, part / name)
    manifests = sidecar.manifests(part, "overlays/prod", ARGOCD_APP_SOURCE_PATH="part/overlays/prod")
    assert [one["metadata"]["name"] for one in manifests] == ["my-db"]


def test_parameters_are_none(sidecar, checkout):
    if not sidecar.server:
        pytest.skip("asked of argocd-cmp-server only")
    socket = sidecar.volumes / "plugins" / "krm-sops.sock"
    assert cmp.parameters(socket, checkout, "folder", environment("folder")) == []


# The manifests as a whole

REPO_SERVER = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: argocd-repo-server}
spec:
  template:
    spec:
      initContainers: [{name: copyutil, image: "quay.io/argoproj/argocd:latest"}]
      containers: [{name: argocd-repo-server, image: "quay.io/argoproj/argocd:latest", env: []}]
      volumes: [{name: var-files, emptyDir: {}}, {name: plugins, emptyDir: {}}, {name: tmp, emptyDir: {}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm}
data: {url: "https://argocd.example"}
"""


def built_with(component: str, tmp_path: Path) -> dict[str, Any]:
    """What is in Argo CD's own kustomization with a component of ours, by kind and name without hash."""
    shutil.copytree(DEPLOY, tmp_path / "argocd")
    (tmp_path / "argo.yaml").write_text(REPO_SERVER)
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [argo.yaml]\ncomponents: [argocd/{component}]\n"
        "images: [{name: quay.io/argoproj/argocd, newTag: v3}, {name: localhost/krm-sops, newName: example/krm-sops}]\n"
    )
    done = subprocess.run([program("kustomize"), "build", tmp_path], capture_output=True, text=True, check=True)
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(done.stdout)}


@pytest.mark.parametrize("component", ["sidecar", "init-container"])
def test_the_manifests_fit_argo_cds_own(tmp_path, component):
    objects = built_with(component, tmp_path)
    pod = objects["Deployment/argocd-repo-server"]["spec"]["template"]["spec"]
    containers = pod["initContainers"] + pod["containers"]
    assert {one["image"] for one in containers} == {"quay.io/argoproj/argocd:v3", "example/krm-sops"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert len(volumes) == len(pod["volumes"])
    assert {mount["name"] for one in containers for mount in one.get("volumeMounts", [])} <= set(volumes)
    for volume in volumes.values():
        if "configMap" in volume:
            name = f"ConfigMap/{volume['configMap']['name']}"
            assert name != f"ConfigMap/{volume['name']}"  # it has a hash, so that a change restarts the pod
            (content,) = objects[name]["data"].values()
            assert content in [file.read_text() for file in (DEPLOY / component).iterdir()]
    for one in containers:
        if one["name"].startswith("krm-sops"):
            context = one["securityContext"]
            assert context["runAsUser"] == 999
            assert context["runAsNonRoot"]
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_in_the_repo_server_itself_kustomize_finds_ksops(built, checkout, tmp_path):  # noqa: F811
    """The init container fills the volume; then kustomize runs with the options that argocd-cm gives."""
    pod = read("init-container", "repo-server.yaml")["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    tools = tmp_path / "tools"
    tools.mkdir(mode=0o777)
    tools.chmod(0o777)
    argv = ["podman", "run", "--rm", "--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"]
    argv += ["--user", str(init["securityContext"]["runAsUser"]), "--volume", f"{tools}:/tools", built, *init["args"]]
    subprocess.run(argv, capture_output=True, check=True, timeout=SECONDS)
    assert pod["containers"][0]["env"][0]["value"].startswith("/tools/bin:")
    keys = tmp_path / "keys" / "a"
    keys.mkdir(parents=True)
    (keys / "team.agekey").write_text(A_KEY)
    options = read("init-container", "argocd-cm.yaml")["data"]["kustomize.buildOptions"].split()
    env = environment("ksops") | {
        "PATH": f"{tools}/bin:{os.defpath}",
        "KRM_SOPS_KEY_DIR": f"{tmp_path}/keys/{{ARGOCD_APP_PROJECT_NAME}}",
    }
    argv = [str(program("kustomize")), "build", *options, str(checkout / "ksops")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, cwd=checkout)
    assert PASSWORD in done.stdout, done.stderr
    again = subprocess.run(
        argv, capture_output=True, text=True, check=False, env=env | {"ARGOCD_APP_PROJECT_NAME": "b"}
    )
    assert (again.returncode, again.stdout) == (1, "")
