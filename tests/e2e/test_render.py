"""`render` with the real kustomize and kubectl: files, folders, streams, builds, folders of output."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.corpus import needs_corpus
from tests.corpus import path as corpus_path
from tests.e2e.clients import Clients
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

MAP = "# a comment\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n"
SECRET = made.yaml(made.encrypted())
OTHER = made.yaml(made.encrypted({**made.PLAIN, "metadata": {"name": "other", "namespace": "prod"}}))


class Folder:
    def __init__(self, folder: Path, clients: Clients) -> None:
        self.clients = clients
        self.root = folder / "work"
        self.root.mkdir()
        self.key = folder / "test.agekey"
        self.key.write_text(made.IDENTITY + "\n")

    def write(self, files: dict[str, str]) -> Folder:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self

    def render(self, *arguments: str | Path, stdin: str = "", **env: str) -> CompletedProcess[str]:
        return subprocess.run(
            ["krm-sops", "render", "--key-file", self.key, *arguments],
            input=stdin,
            cwd=self.root,
            env=self.clients.env | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def objects(self, *arguments: str, **env: str) -> dict[str, dict[str, Any]]:
        """By name. Fails where anything at all is said."""
        done = self.render(*arguments, **env)
        assert (done.returncode, done.stderr) == (0, "")
        return {found["metadata"]["name"]: found for found in yaml.safe_load_all(done.stdout)}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, Clients(tmp_path))


@pytest.fixture
def built(folder: Folder) -> Folder:
    folder.clients.need("kustomize")
    return folder


# Files, folders, streams


def test_a_folder_is_read_with_all_below_it(folder):
    folder.write(
        {
            "a/z.yaml": MAP,
            "a/secret.yaml": SECRET,
            "values.yaml": "# of a chart\n---\nreplicas: 1\n",
            ".sops.yaml": "creation_rules: []\n",
            ".git/x.yaml": MAP,
            "ignored/x.yaml": "not: [yaml\n",
            ".krmignore": "ignored/\n",
            "package.json": '{"name": "x"}',
        }
    )
    done = folder.render()
    assert (done.returncode, done.stderr) == (0, "")
    secret, plain = done.stdout.split("---\n")
    assert yaml.safe_load(secret) == made.PLAIN
    assert plain == MAP


def test_what_is_skipped_is_said_where_it_may_matter(folder):
    """A success says nothing on stderr; nothing at all is no success."""
    folder.write({"values.yaml": "replicas: 1\n"})
    done = folder.render()
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no object at all" in done.stderr
    assert "skipped as no Kubernetes objects: 1 files (values.yaml)" in done.stderr
    assert folder.render("--allow-empty").returncode == 0
    named = folder.render("values.yaml")
    assert named.returncode == 1
    assert "values.yaml: no Kubernetes object" in named.stderr


@pytest.mark.parametrize(
    "stream",
    [
        f"{SECRET}---\n{MAP}",
        f"---\n{SECRET}\n...\n---\n{MAP}---\n",
        made.resource_list(made.encrypted(), MAP, config=None),
        "apiVersion: v1\nkind: List\nitems:\n- " + SECRET.replace("\n", "\n  "),
    ],
    ids=["stream", "markers", "ResourceList", "List"],
)
def test_stdin(folder, stream):
    done = folder.render("-", stdin=stream)
    assert (done.returncode, done.stderr) == (0, "")
    found = list(yaml.safe_load_all(done.stdout))
    secret = found[0]["items"][0] if found[0]["kind"] == "List" else found[0]
    assert secret == made.PLAIN
    assert "List" in stream or done.stdout.endswith(MAP)


def test_a_resource_list_for_a_function_is_not_taken_apart(folder):
    done = folder.render("-", stdin=made.resource_list(made.encrypted()))
    assert (done.returncode, done.stdout) == (1, "")
    assert "without a verb" in done.stderr


def test_a_file_of_which_only_a_part_are_objects_is_an_error(folder):
    folder.write({"a.yaml": f"{MAP}---\nno: object\n"})
    done = folder.render()
    assert (done.returncode, done.stdout) == (1, "")
    assert "a.yaml: document 2: no Kubernetes object" in done.stderr


def test_what_nobody_deploys_is_left_out(folder):
    local = MAP.replace("{name: plain}", '{name: local, annotations: {config.kubernetes.io/local-config: "true"}}')
    folder.write({"a.yaml": f"{local}---\n{MAP}"})
    assert folder.render().stdout == MAP


def test_several_documents_with_one_mac_are_verified_together(folder):
    """As sops writes files of several documents; and refused when one is missing."""
    folder.clients.need("sops")
    env = folder.clients.env | {"SOPS_AGE_RECIPIENTS": made.RECIPIENT}
    (folder.root / "two.yaml").write_text(
        made.yaml(made.PLAIN) + "---\n" + made.yaml({**made.PLAIN, "metadata": {"name": "two"}})
    )
    encrypt = ["sops", "encrypt", "-i", "--encrypted-regex", "^stringData$", "two.yaml"]
    subprocess.run(encrypt, cwd=folder.root, env=env, check=True)
    done = folder.render("two.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("plain-of-password") == 2
    text = (folder.root / "two.yaml").read_text()
    (folder.root / "two.yaml").write_text(text.partition("\n---\n")[2])
    assert "MAC mismatch" in folder.render("two.yaml").stderr


# Many PATHs, and where they go


@pytest.fixture
def many(folder: Folder) -> Folder:
    return folder.write(
        {"good/a.yaml": SECRET, "good/b/c.yaml": MAP, "bad/a.yaml": SECRET.replace("data:", "data:A", 1), "x.yaml": MAP}
    )


def test_one_bad_path_and_nothing_is_written(many):
    for arguments in (("good", "bad"), ("bad", "good"), ("--keep-going", "bad", "good")):
        done = many.render(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        done = many.render("--output-dir", "out", *arguments[-2:])
        assert done.returncode == 1
        assert not (many.root / "out").exists()


def test_keep_going_tells_of_all_and_writes_what_is_good(many):
    many.write({"worse/a.yaml": "a: [\n"})
    first = many.render("bad", "worse", "good")
    assert "bad/a.yaml" in first.stderr
    assert "worse" not in first.stderr
    done = many.render("--keep-going", "--output-dir", "out", "bad", "worse", "good")
    assert done.returncode == 1
    assert "bad/a.yaml" in done.stderr
    assert "worse/a.yaml" in done.stderr
    assert sorted(str(path.relative_to(many.root / "out")) for path in (many.root / "out").rglob("*.yaml")) == [
        *("a.yaml", "b/c.yaml")
    ]


def test_a_folder_of_output(many):
    """Files keep their names, from the folder on that all PATHs share; nobody else may read them."""
    assert many.render("--output-dir", "out", "good", "x.yaml").returncode == 0
    out = many.root / "out"
    assert (out / "good" / "b" / "c.yaml").read_text() == (out / "x.yaml").read_text() == MAP
    assert yaml.safe_load((out / "good" / "a.yaml").read_text()) == made.PLAIN
    assert {path.stat().st_mode & 0o777 for path in [out, *out.rglob("*")]} == {0o700, 0o600}
    again = many.render("--output-dir", "out", "good")
    assert again.returncode == 1
    assert "new or empty" in again.stderr
    assert (out / "x.yaml").exists()
    (many.root / "empty").mkdir()
    assert many.render("--output-dir", "empty/", "good").returncode == 0
    assert (many.root / "empty" / "a.yaml").exists()
    assert not [name for name in os.listdir(many.root) if name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--enable-exec", "x.yaml"], "go together"),
        (["--output-dir", "", "x.yaml"], "needs the name"),
        (["-", "-"], "once"),
        (["missing.yaml"], "cannot read missing.yaml"),
        (["--mac", "lax"], "--mac is one of"),
    ],
)
def test_what_cannot_be_meant_is_an_error(many, arguments, message):
    done = many.render(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


# Builds

OVERLAY = {
    "base/kustomization.yaml": "resources: [secret.yaml, map.yaml]\n",
    "base/secret.yaml": SECRET,
    "base/map.yaml": MAP,
    "overlay/kustomization.yaml": (
        "resources: [../base]\nnamespace: eu\nnamePrefix: p-\nlabels: [{pairs: {team: a}}]\n"
        "patches:\n- target: {kind: ConfigMap}\n  patch: |\n    - {op: add, path: /data, value: {k: v}}\n"
    ),
}


@pytest.mark.parametrize("program", ["kustomize", "kubectl"])
def test_an_overlay_is_built_and_verified(folder, tmp_path, program):
    """The MAC counts as it was authored: no warning, also with --strict and --mac strict; untouched by annotations."""
    folder.clients.need(program)
    only = tmp_path / "only"
    only.mkdir()
    for name in (program, "sh", "env"):
        found = folder.clients.run("sh", "-c", f"command -v {name}").stdout.strip()
        (only / name).symlink_to(found)
    folder.write(OVERLAY)
    path = f"{tmp_path / 'bin'}:{only}"
    found = folder.objects("--strict", "--mac", "strict", "overlay", PATH=path)
    assert found["p-db"]["stringData"] == made.PLAIN["stringData"]
    assert found["p-db"]["metadata"] == {"name": "p-db", "namespace": "eu", "labels": {"team": "a"}}
    assert found["p-plain"]["data"] == {"k": "v"}


def test_without_kustomize_only_builds_fail(folder, tmp_path):
    folder.write({**OVERLAY, "x.yaml": MAP})
    env = {"PATH": f"{tmp_path / 'bin'}:/nonexistent"}
    done = subprocess.run(
        [tmp_path / "bin" / "krm-sops", "render", "overlay"],
        cwd=folder.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "neither kustomize nor kubectl is on PATH" in done.stderr


def test_any_kind_and_common_macs_are_verified_by_their_files(built):
    """What a transformer could not verify: kustomize has sorted it, and each MAC is of a whole file."""
    custom = {"apiVersion": "x.example/v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"z": "one", "a": "two"}}
    built.write({"x.yaml": made.yaml(made.encrypted(custom)), "kustomization.yaml": "resources: [x.yaml]\n"})
    assert built.objects()["x"]["spec"] == custom["spec"]


def test_the_kustomization_itself_may_be_named(built):
    built.write(OVERLAY)
    assert built.render("overlay/kustomization.yaml").stdout == built.render("overlay").stdout != ""


def test_a_patched_ciphertext_is_refused(built):
    """One encrypted value put elsewhere, and one replaced by plaintext."""
    for patch in (
        "{op: copy, from: /stringData/user, path: /stringData/password}",
        "{op: replace, path: /stringData/user, value: x}",
    ):
        patches = f"patches:\n- target: {{kind: Secret}}\n  patch: |\n    - {patch}\n"
        built.write(
            {
                **OVERLAY,
                "base/kustomization.yaml": f"resources: [secret.yaml]\n{patches}",
            }
        )
        done = built.render("base")
        assert (done.returncode, done.stdout) == (1, "")
        assert "stringData" in done.stderr


def test_a_folder_of_folders_is_rendered_as_flux_would(built):
    """A folder with a kustomization is one thing; what is beside it are files."""
    built.write({**OVERLAY, "apps/a.yaml": OTHER, "apps/deep/k/kustomization.yaml": "resources: [../../../base]\n"})
    assert set(built.objects("apps")) == {"other", "db", "plain"}
    assert built.render("--output-dir", "out", "apps").returncode == 0
    assert (built.root / "out" / "deep" / "k" / "manifests.yaml").exists()


def test_name_hashes_follow_the_plaintext(built):
    """As in Flux: what is generated from decrypted files is named by what is in them."""
    built.clients.need("sops", "kustomize")
    env = built.clients.env | {"SOPS_AGE_RECIPIENTS": made.RECIPIENT}
    kustomization = "secretGenerator: [{name: s, envs: [e.env], files: [key=f.txt, .dockerconfigjson=d.json]}]\n"
    texts = {"e.env": "TOKEN=abc\n", "f.txt": "of file", "d.json": '{"auths": {}}'}
    built.write({"plain/kustomization.yaml": kustomization, **{f"plain/{name}": text for name, text in texts.items()}})
    built.write({"app/kustomization.yaml": kustomization, **{f"app/{name}": text for name, text in texts.items()}})
    for name in texts:
        kind = [] if name != "d.json" else ["--input-type", "json"]
        subprocess.run(["sops", "encrypt", "-i", *kind, name], cwd=built.root / "app", env=env, check=True)
    ((name, found),) = built.objects("app").items()
    data = {key: b64decode(value).decode() for key, value in found["data"].items()}
    assert data == {"TOKEN": "abc", "key": "of file", ".dockerconfigjson": '{\n\t"auths": {}\n}\n'}
    built.write({"plain/d.json": data[".dockerconfigjson"]})
    assert name in built.objects("plain")
    masked = built.render("--mask", "app").stdout
    assert name not in masked
    assert yaml.safe_load(masked)["data"] == dict.fromkeys(data, "Kioq")


@pytest.mark.parametrize(
    "config",
    [
        "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsGenerator\nmetadata: {name: g}\nspec: {files: [../s.yaml]}\n",
        "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata: {name: g}\nfiles: [../s.yaml]\n",
        (
            "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata:\n  name: g\n  annotations:\n"
            "    config.kubernetes.io/function: |\n      exec: {path: ksops}\nfiles: [../s.yaml]\n"
        ),
    ],
    ids=["ours", "ksops as a legacy plugin", "ksops as an executable"],
)
def test_generators_run_inside(built, config):
    """No flag, no ksops on PATH; files are the repository's own, relative to the kustomization."""
    built.write(
        {"s.yaml": SECRET, "app/kustomization.yaml": "generators: [g.yaml]\nnamespace: eu\n", "app/g.yaml": config}
    )
    found = built.objects("app")
    assert found["db"]["stringData"] == made.PLAIN["stringData"]
    assert found["db"]["metadata"]["namespace"] == "eu"


def test_transformers_inside_know_the_files_too(built):
    """Strictly verified without originAnnotations: kustomize has sorted the items, their files are at hand."""
    custom = {"apiVersion": "x.example/v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"z": "one", "a": "two"}}
    config = "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsDecrypt\nmetadata: {name: d}\n"
    built.write(
        {
            "app/kustomization.yaml": "resources: [s.yaml, x.yaml]\ntransformers: [d.yaml]\nnamespace: eu\n",
            "app/s.yaml": SECRET,
            "app/x.yaml": made.yaml(made.encrypted(custom)),
            "app/d.yaml": config,
        }
    )
    found = built.objects("--strict", "--mac", "strict", "app")
    assert found["db"]["stringData"] == made.PLAIN["stringData"]
    assert found["x"]["spec"] == custom["spec"]
    built.write({"app/x.yaml": made.yaml(made.encrypted(custom)).replace('name: "x"', 'name: "y"')})
    assert built.render("--mac", "strict", "app").returncode == 1


def test_a_function_that_fails_says_why(built):
    built.write(
        {
            "kustomization.yaml": "resources: [s.yaml]\ntransformers: [t.yaml]\n",
            "s.yaml": SECRET,
            "t.yaml": "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsDecrypt\nmetadata: {name: t}\nspec: {wrong: 1}\n",
        }
    )
    done = built.render()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("krm-sops: error: SopsDecrypt/t: spec has no field 'wrong'")


def test_functions_of_others_run_where_the_operator_says_so(built):
    script = "#!/bin/sh\nprintf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: other}\\n'\n"
    config = (
        "apiVersion: x.example/v1\nkind: X\nmetadata:\n  name: x\n  annotations:\n"
        f"    config.kubernetes.io/function: |\n      exec: {{path: {built.root}/fn}}\n"
    )
    built.write({"kustomization.yaml": "generators: [x.yaml]\n", "x.yaml": config, "fn": script})
    (built.root / "fn").chmod(0o755)
    assert built.render().returncode == 1
    assert "other" in built.objects("--enable-alpha-plugins", "--enable-exec")


class _Git(BaseHTTPRequestHandler):
    """git's own server of one folder of repositories, over HTTP. folder: set by the test."""

    folder = ""

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "GIT_PROJECT_ROOT": self.folder,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        done = subprocess.run(
            ["git", "http-backend"], env=os.environ | environment, input=body, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


def test_remote_resources_come_where_the_operator_says_so(built, tmp_path):
    built.clients.need("git")
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "kustomization.yaml").write_text("resources: [m.yaml]\n")
    (remote / "m.yaml").write_text(MAP)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], cwd=remote, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Git", (_Git,), {"folder": str(tmp_path)}))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/remote/.git//?ref=main"
    built.write({"kustomization.yaml": f"resources: ['{address}', s.yaml]\n", "s.yaml": SECRET})
    try:
        assert "is remote" in built.render().stderr
        assert set(built.objects("--allow-remote")) == {"plain", "db"}
    finally:
        server.shutdown()
        server.server_close()


def test_the_users_own_origins_stay(built):
    built.write({**OVERLAY, "overlay/kustomization.yaml": "resources: [../base]\nbuildMetadata: [originAnnotations]\n"})
    origin = built.objects("overlay")["db"]["metadata"]["annotations"]["config.kubernetes.io/origin"]
    assert origin == "path: ../base/secret.yaml\n"


def test_output_is_the_same_in_every_run(built):
    built.write({**OVERLAY, "app/kustomization.yaml": "resources: [../x.yaml]\n", "x.yaml": OTHER})
    first, second = (built.render("overlay", "app").stdout for _ in range(2))
    assert first == second != ""


def test_no_private_name_leaves_in_an_annotation(built):
    """Whoever asks for buildMetadata gets what kustomize says, the same in every run."""
    config = "apiVersion: builtin\nkind: {}\nmetadata: {{name: {}}}\n{}\n"
    made_map = config.format("ConfigMapGenerator", "g", "literals: [a=b]")
    prefix = config.format("PrefixTransformer", "p", "prefix: x-\nfieldSpecs: [{path: metadata/name}]")
    inline = "\n".join(f"  {line}" for line in prefix.replace("name: p", "name: q").splitlines())
    built.write(
        {
            "app/kustomization.yaml": "resources: [base]\nbuildMetadata: [originAnnotations, transformerAnnotations]\n",
            "app/base/kustomization.yaml": f"generators: [sub/g.yaml]\ntransformers:\n- p.yaml\n- |\n{inline}\n",
            "app/base/sub/g.yaml": made_map,
            "app/base/p.yaml": prefix,
        }
    )
    by_kustomize = built.clients.run("kustomize", "build", str(built.root / "app")).stdout
    assert "configuredIn: base/sub/g.yaml" in by_kustomize
    assert built.render("app").stdout == by_kustomize


SPELLINGS = {
    "a merge key": (
        "resources: [d.yaml]\ncommonAnnotations: &a {x: one, q: two}\nlabels: [{pairs: {<<: *a, x: own}}]\n"
    ),
    "a merge key that comes later": (
        "resources: [d.yaml]\ncommonAnnotations: &a {x: one, q: two}\nlabels: [{pairs: {x: own, <<: *a}}]\n"
    ),
    "all of it merged": "<<: [{resources: [d.yaml]}, {namePrefix: p-, resources: []}]\n",
    "yes": "configMapGenerator: [{name: m, literals: [a=b]}]\ngeneratorOptions: {disableNameSuffixHash: yes}\n",
    "Off": "configMapGenerator: [{name: m, literals: [a=b], options: {disableNameSuffixHash: Off}}]\n",
    "an octal number": "resources: [d.yaml]\nreplicas: [{name: d, count: 010}]\n",
    "a new octal number": "resources: [d.yaml]\nreplicas: [{name: d, count: 0o10}]\n",
    "a number with underscores": "resources: [d.yaml]\nreplicas: [{name: d, count: 1_000}]\n",
    "a number with an exponent": "resources: [d.yaml]\nreplicas: [{name: d, count: 1e3}]\n",
    "a hexadecimal number": "resources: [d.yaml]\nreplicas: [{name: d, count: 0x1F}]\n",
    "no number": "resources: [d.yaml]\nreplicas: [{name: d, count: ~}]\n",
    "a day": "resources: [d.yaml]\ncommonAnnotations: {x: 2001-01-01, z: 12:30:45}\n",
    "an alias of a boolean": (
        "configMapGenerator: [{name: m, literals: [a=b], options: {immutable: &a y, disableNameSuffixHash: *a}}]\n"
    ),
    "a merge key in a plugin": (
        "resources: [d.yaml]\ntransformers:\n- |\n  apiVersion: builtin\n  kind: AnnotationsTransformer\n"
        "  metadata: {name: t, annotations: &a {x: one, q: w}}\n  annotations: {x: 2001-01-01, z: y, <<: *a}\n"
        "  fieldSpecs: [{path: metadata/annotations, create: true}]\n"
    ),
    "refused: a boolean as a label": "resources: [d.yaml]\ncommonLabels: {x: y}\n",
    "refused: a number as a label": "resources: [d.yaml]\ncommonLabels: {x: 010}\n",
    "refused: a boolean in an alias": "resources: [d.yaml]\ncommonLabels: {x: 'a'}\nnamePrefix: on\n",
    "refused: half a replica": "resources: [d.yaml]\nreplicas: [{name: d, count: .5}]\n",
    "refused: a merge of nothing": "resources: [d.yaml]\ncommonLabels: {<<: ~}\n",
    "refused: a key that is a boolean": "resources: [d.yaml]\ncommonAnnotations: {y: a}\n",
    "refused: a text for a boolean in a plugin": (
        "resources: [d.yaml]\ntransformers:\n- |\n  apiVersion: builtin\n  kind: AnnotationsTransformer\n"
        "  metadata: {name: t}\n  annotations: {x: a}\n  fieldSpecs: [{path: metadata/annotations, create: on}]\n"
    ),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_a_kustomization_means_what_it_means_to_kustomize(built, case):
    """YAML 1.1 and merge keys: the same output, or no output for both."""
    built.write(
        {
            "app/kustomization.yaml": SPELLINGS[case],
            "app/d.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 3}\n",
        }
    )
    by_kustomize = built.clients.run("kustomize", "build", str(built.root / "app"))
    done = built.render("app")
    assert done.stdout == by_kustomize.stdout, done.stderr
    assert bool(done.returncode) is bool(by_kustomize.returncode) is case.startswith("refused")


FLUX = {
    "kustomization.yaml": (
        "namePrefix: sops-\nresources: [algorithms, envs, files, inside]\ncomponents: [./component]\n"
    ),
    "algorithms/kustomization.yaml": "namePrefix: algo-\nresources: [age.yaml, age-pq.yaml, pgp.yaml]\n",
    "envs/kustomization.yaml": (
        "namePrefix: envs-\ngeneratorOptions: {disableNameSuffixHash: true}\n"
        "secretGenerator: [{name: secret, envs: [env.env]}]\n"
    ),
    "files/kustomization.yaml": (
        "namePrefix: files-\ngeneratorOptions: {disableNameSuffixHash: true}\n"
        "secretGenerator: [{name: secret, files: [key=file.txt]}]\n"
    ),
    "inside/kustomization.yaml": "namePrefix: inside-\nresources: [secret.yaml]\n",
    "component/kustomization.yaml": (
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        "generatorOptions: {disableNameSuffixHash: true}\nsecretGenerator: [{name: component, envs: [env.env]}]\n"
    ),
}


@needs_corpus
def test_what_flux_tests_with_its_own_files(built):
    """Each Secret that kustomize-controller's test looks up has the value that it expects."""
    data = corpus_path("flux-kustomize-controller/files/internal/controller/testdata/sops")
    built.write(FLUX)
    for name in ("algorithms/age.yaml", "algorithms/age-pq.yaml", "algorithms/pgp.yaml", "inside/secret.yaml"):
        built.write({name: (data / name).read_text()})
    built.write({"files/file.txt": (data / "files/file.txt").read_text()})
    for name in ("envs/env.env", "component/env.env"):
        built.write({name: (data / "envs/env.env").read_text()})
    keys = [
        argument
        for name in ("age.txt", "age-pq.txt", "pgp.asc")
        for argument in ("--key-file", corpus_path(f"flux-kustomize-controller/keys/{name}"))
    ]
    found = built.objects(*map(str, keys))
    names = ("algo-age", "algo-age-pq", "algo-pgp", "component", "envs-secret", "files-secret", "inside-secret")
    assert set(found) == {f"sops-{name}" for name in names}
    for secret in found.values():
        value = secret.get("stringData", {}).get("key") or b64decode(secret["data"]["key"]).decode()
        assert value == "value"
