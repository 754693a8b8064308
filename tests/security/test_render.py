"""render: nothing outside of the repository is read (S2), private copies stay private (S24), masks hide all (S27)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from base64 import b64encode
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krm_sops.cipher import DataKey
from krm_sops.encryption import encrypted_file
from krm_sops.keys.age import AgeKey
from krm_sops.metadata import Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Entry
from tests.e2e.clients import Clients
from tests.security import made

if TYPE_CHECKING:
    from krm_sops.tree import Node

KEY_BYTES = "AGE-SECRET-KEY-"
MEMORY = Path("/dev/shm")


class Repository:
    """A repository beside a key, and `render` over it."""

    def __init__(self, folder: Path, clients: Clients) -> None:
        self.clients = clients
        self.root = folder / "repo"
        (self.root / ".git").mkdir(parents=True)
        self.key = folder / "keys" / "test.agekey"
        self.key.parent.mkdir()
        self.key.write_text(made.IDENTITY + "\n")

    def write(self, files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def render(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.clients.run("krm-sops", "render", "--key-file", str(self.key), *arguments, cwd=self.root, **env)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    clients = Clients(tmp_path)
    clients.need("kustomize")
    return Repository(tmp_path, clients)


# S2: what a kustomization may name

PLUGIN = "apiVersion: {}\nkind: {}\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: '{}'\n"
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
HOSTILE = {
    "an absolute file": "configMapGenerator: [{name: a, files: [KEY]}]",
    "an absolute file with a key": "configMapGenerator: [{name: a, files: [k=KEY]}]",
    "a file above": "configMapGenerator: [{name: a, files: [../../keys/test.agekey]}]",
    "a file above, by a detour": "configMapGenerator: [{name: a, files: [x/../../../keys/test.agekey]}]",
    "envs above": "secretGenerator: [{name: a, envs: [../../keys/test.agekey]}]",
    "env absolute": "secretGenerator: [{name: a, env: KEY}]",
    "/proc": "configMapGenerator: [{name: a, files: [/proc/self/environ]}]",
    "a link": "configMapGenerator: [{name: a, files: [link]}]",
    "a file below a linked folder": "configMapGenerator: [{name: a, files: [folder/test.agekey]}]",
    "a linked manifest": "resources: [link]",
    "a linked base": "resources: [folder]",
    "a FIFO": "resources: [fifo]",
    "a folder above": "resources: [../../keys]",
    "a component above": "components: [../../keys]",
    "a base above": "bases: [../../keys]",
    "git::ext::": "resources: ['git::ext::sh -c touch% MARKER']",
    "git over ssh": "resources: ['git@github.com:a/b.git']",
    "https": "resources: ['https://127.0.0.1:9/x.yaml']",
    "a short GitHub address": "resources: [github.com/a/b]",
    "a component elsewhere": "components: ['https://127.0.0.1:9/a?ref=main']",
    "a patch elsewhere": "resources: [a.yaml]\npatches: [{path: 'https://127.0.0.1:9/x.yaml'}]",
    "a patch above": "resources: [a.yaml]\npatches: [{path: ../../keys/test.agekey}]",
    "an old patch above": "resources: [a.yaml]\npatchesStrategicMerge: [../../keys/test.agekey]",
    "an old JSON patch above": (
        "resources: [a.yaml]\npatchesJson6902: [{target: {version: v1, kind: ConfigMap, name: a}, path: KEY}]"
    ),
    "crds above": "crds: [../../keys/test.agekey]",
    "configurations above": "configurations: [KEY]",
    "openapi above": "openapi: {path: ../../keys/test.agekey}",
    "replacements above": "resources: [a.yaml]\nreplacements: [{path: ../../keys/test.agekey}]",
    "a transformer above": "resources: [a.yaml]\ntransformers: [../../keys/test.agekey]",
    "a generator above": "generators: [KEY]",
    "a folder of transformers": "resources: [a.yaml]\ntransformers: [functions]",
    "a built-in generator": "generators: [builtin.yaml]",
    "a built-in generator inline": (
        "generators:\n- |\n  apiVersion: builtin\n  kind: ConfigMapGenerator\n  metadata: {name: a}\n  files: [KEY]\n"
    ),
    "helm": "helmCharts: [{name: a, repo: 'https://127.0.0.1:9', version: '1'}]",
    "helm as a generator": (
        "generators:\n- |\n  {apiVersion: builtin, kind: HelmChartInflationGenerator, metadata: {name: a}, name: x}\n\n"
    ),
    "another's executable": "generators: [exec.yaml]",
    "another's container": "generators: [container.yaml]",
    "another's function inside of a list": "generators: [list.yaml]",
    "a legacy plugin": "generators: [legacy.yaml]",
    "a field in other letters": "ConfigMapGenerator: [{name: a, files: [KEY]}]",
    "a field in letters that fold": "reſources: [/etc/passwd]",
    "an inner field in other letters": "configMapGenerator: [{name: a, Files: [KEY]}]",
    "a field twice": "resources: [a.yaml]\nresources: [KEY]",
    "a second document": "resources: [a.yaml]\n---\nresources: [KEY]",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_outside_of_the_repository_is_read_or_started(repository: Repository, case: str):
    """S2: exit status 1, no output, no byte of a key, and nothing of the repository's choice is started."""
    marker = repository.root.parent / "marker"
    home = repository.root.parent / "home"
    script = repository.root / "app" / "evil"
    start = f"exec: {{path: {script}}}"
    kustomization = HOSTILE[case].replace("KEY", str(repository.key)).replace("MARKER", str(marker))
    legacy = home / ".config" / "kustomize" / "plugin" / "evil.example" / "v1" / "evil" / "Evil"
    repository.write(
        {
            "app/kustomization.yaml": kustomization,
            "app/a.yaml": MANIFEST,
            "app/evil": f"#!/bin/sh\ntouch {marker}\n",
            "app/exec.yaml": PLUGIN.format("evil.example/v1", "Evil", start),
            "app/container.yaml": PLUGIN.format("evil.example/v1", "Evil", "container: {image: evil}"),
            "app/legacy.yaml": "apiVersion: evil.example/v1\nkind: Evil\nmetadata: {name: x}\n",
            "app/list.yaml": "apiVersion: v1\nkind: List\nitems:\n- "
            + PLUGIN.format("evil.example/v1", "Evil", start).replace("\n", "\n  "),
            "app/functions/kustomization.yaml": "resources: [../exec.yaml]",
            "app/builtin.yaml": (
                f"apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {{name: a}}\nfiles: [k={repository.key}]\n"
            ),
        }
    )
    script.chmod(0o755)
    legacy.parent.mkdir(parents=True)
    legacy.write_text(script.read_text())
    legacy.chmod(0o755)
    (repository.root / "app" / "link").symlink_to(repository.key)
    (repository.root / "app" / "folder").symlink_to(repository.key.parent)
    os.mkfifo(repository.root / "app" / "fifo")
    done = repository.render("app", HOME=str(home))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("krm-sops: error: ")
    assert KEY_BYTES not in done.stderr
    assert not marker.exists()


def test_a_link_that_is_swapped_during_the_run_leads_nowhere(repository: Repository):
    """S2: whatever it points to at the moment, what is read lies in the repository, or the run fails."""
    repository.write({"app/kustomization.yaml": "configMapGenerator: [{name: a, files: [link]}]", "app/inside": "fine"})
    link, other = repository.root / "app" / "link", repository.root / "app" / "other"
    link.symlink_to("inside")
    over = Event()

    def swap() -> None:
        targets = [repository.key, Path("inside")]
        while not over.is_set():
            targets.reverse()
            other.symlink_to(targets[0])
            other.rename(link)

    thread = Thread(target=swap)
    thread.start()
    try:
        for _ in range(15):
            done = repository.render("app")
            assert KEY_BYTES not in done.stdout + done.stderr
            assert done.returncode or "fine" in done.stdout
    finally:
        over.set()
        thread.join()


def test_a_folder_with_the_name_of_a_repository_elsewhere_is_a_folder(repository: Repository):
    """S2: kustomize would rather fetch it. An address is refused; below the own folder, it is a name like any other."""
    name = "gitlab.com/a/b.git"
    repository.write({f"{name}/kustomization.yaml": "resources: [a.yaml]", f"{name}/a.yaml": MANIFEST})
    repository.write({"kustomization.yaml": f"resources: [{name}]"})
    done = repository.render(".")
    assert "name: a" in done.stdout, done.stderr


def test_inside_of_the_repository_files_and_links_are_free(repository: Repository):
    """S2: what Flux builds, with no restriction but the root, and kustomize itself would not."""
    repository.write(
        {
            "app/kustomization.yaml": (
                "resources: [../shared/a.yaml, linked]\nconfigMapGenerator: [{name: g, files: [../shared/text, t]}]\n"
                "generatorOptions: {disableNameSuffixHash: true}\n"
            ),
            "shared/a.yaml": MANIFEST,
            "shared/text": "of text",
            "base/kustomization.yaml": "resources: [b.yaml]",
            "base/b.yaml": MANIFEST.replace("name: a", "name: b"),
        }
    )
    (repository.root / "app" / "linked").symlink_to("../base")
    (repository.root / "app" / "t").symlink_to("../shared/text")
    done = repository.render("app")
    assert done.stderr == ""
    assert "name: a\n" in done.stdout
    assert "name: b\n" in done.stdout
    assert done.stdout.count("of text") == 2
    assert "t: of text" in done.stdout


def test_a_narrower_root_holds(repository: Repository):
    """S1, S2: --root."""
    repository.write({"app/kustomization.yaml": "resources: [../a.yaml]", "a.yaml": MANIFEST})
    assert repository.render("app").returncode == 0
    done = repository.render("--root", "app", "app")
    assert (done.returncode, done.stdout) == (1, "")
    assert "leads out of" in done.stderr
    assert repository.render("--root", "app", "a.yaml").returncode == 1


@pytest.mark.parametrize("path", ["KEY", "../../keys/test.agekey", "link", "/proc/self/environ"])
def test_a_config_in_a_build_names_no_key_outside_of_the_repository(repository: Repository, path: str):
    """S2: neither the key folder nor /proc is read for `spec.keys[].file`, in generators and transformers alike."""
    trace = repository.root.parent / "trace"
    repository.clients.need("strace")
    head = "apiVersion: krm-sops.dev/v1alpha1\nkind: {}\nmetadata: {{name: f}}\n"
    spec = f"spec: {{keys: [{{file: {path.replace('KEY', str(repository.key))}}}]"
    repository.write(
        {
            "a/kustomization.yaml": "resources: [s.yaml]\ntransformers: [f.yaml]\n",
            "a/f.yaml": head.format("SopsDecrypt") + spec + "}\n",
            "a/s.yaml": made.yaml(made.encrypted()),
            "b/kustomization.yaml": "generators: [f.yaml]\n",
            "b/f.yaml": head.format("SopsGenerator") + spec + ", files: [../a/s.yaml]}\n",
        }
    )
    for folder in ("a", "b"):
        (repository.root / folder / "link").symlink_to(repository.key)
        command = ("strace", "-fqqe", "trace=open,openat", "-o", str(trace), "krm-sops", "render")
        done = repository.clients.run(*command, "--ambient", "never", folder, cwd=repository.root)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no read of a build leaves that" in done.stderr
        opened = trace.read_text()
        assert "kustomization.yaml" in opened
        assert "test.agekey" not in opened
        assert '"/proc/self/environ"' not in opened


def test_a_config_in_a_build_names_keys_of_the_repository(repository: Repository):
    """As test keys are: relative to the kustomization, links inside of the repository included."""
    config = "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsDecrypt\nmetadata: {name: f}\n"
    repository.write(
        {
            "app/kustomization.yaml": "resources: [s.yaml]\ntransformers: [f.yaml]\n",
            "app/f.yaml": config + "spec: {keys: [{file: link}]}\n",
            "app/s.yaml": made.yaml(made.encrypted()),
            "test.agekey": made.IDENTITY + "\n",
        }
    )
    (repository.root / "app" / "link").symlink_to("../test.agekey")
    done = repository.clients.run("krm-sops", "render", "--ambient", "never", "app", cwd=repository.root)
    assert "plain-of-password" in done.stdout, done.stderr


@pytest.mark.parametrize("address", ["file://{}//?ref=main", "git::{}//?ref=main", "git::file://{}//?ref=main"])
def test_remote_is_not_what_lies_elsewhere_on_this_machine(repository: Repository, address: str):
    """S2: --allow-remote opens the network to a repository, not other repositories here."""
    repository.clients.need("git")
    other = repository.root.parent / "other"
    other.mkdir()
    (other / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    (other / "a.yaml").write_text(MANIFEST.replace("name: a", "name: of-another"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], cwd=other, check=True)
    repository.write({"app/kustomization.yaml": f"resources: ['{address.format(other)}']\n"})
    done = repository.render("--allow-remote", "--root", ".", "app")
    assert (done.returncode, done.stdout) == (1, "")
    assert "of-another" not in done.stderr


def test_files_of_a_folder_do_not_lead_out_either(repository: Repository):
    """S2."""
    repository.write({"a/a.yaml": MANIFEST})
    (repository.root / "a" / "b.yaml").symlink_to(repository.key)
    done = repository.render("a")
    assert (done.returncode, done.stdout) == (1, "")
    assert KEY_BYTES not in done.stderr


# S24: private copies


def selected(**options: Any) -> Metadata:
    rule, pattern = options.get("rule", ("unencrypted_suffix", "_unencrypted"))
    return Metadata(
        lastmodified="",
        mac="",
        version="3.13.3",
        key_groups=[[AgeKey(made.RECIPIENT, made.WRAPPED)]],
        threshold=0,
        mac_only_encrypted=bool(options.get("mac_only_encrypted")),
        selection=Selection(rule, pattern),
    )


def sealed(format_: str, branch: Branch, **options: Any) -> bytes:
    return encrypted_file([branch], selected(**options), DataKey(made.DATA_KEY), STORES[format_], now=made.MODIFIED)


def tree(node: Any) -> Node:
    if isinstance(node, dict):
        return Branch(Entry(key, tree(value)) for key, value in node.items())
    return [tree(element) for element in node] if isinstance(node, list) else node


INPUTS: dict[str, str | bytes] = {
    "app/kustomization.yaml": (
        "resources: [secret.yaml]\n"
        "secretGenerator:\n"
        "- {name: made, files: [f=file.bin], envs: [app.env]}\n"
        "configMapGenerator:\n"
        "- {name: map, files: [f=file.bin], envs: [app.env]}\n"
        "patches: [{path: patch.yaml}]\n"
        "generatorOptions: {disableNameSuffixHash: true}\n"
    ),
    "app/secret.yaml": made.yaml(made.encrypted()),
    "app/file.bin": sealed("binary", Branch([Entry("data", "plain-of-file")])),
    "app/app.env": sealed("dotenv", Branch([Entry("TOKEN", "plain-of-env")])),
    "app/patch.yaml": sealed(
        "yaml",
        tree({**made.PLAIN, "metadata": {"name": "made"}, "stringData": {"patched": "plain-of-patch"}, "type": None}),  # type: ignore[arg-type]
        rule=("encrypted_regex", "^stringData$"),
    ),
}


def private_folders() -> set[str]:
    found: set[str] = set()
    for place in (MEMORY, Path("/tmp"), Path(os.environ.get("TMPDIR", "/tmp"))):
        found |= {str(path) for path in place.glob("krm-sops-*") if path.is_dir()} if place.is_dir() else set()
    return found


def left_behind(before: set[str]) -> set[str]:
    """Folders that are there now and stay: those of tests that run at the same time go."""
    found = private_folders() - before
    deadline = time.monotonic() + 60
    while found and time.monotonic() < deadline:
        time.sleep(0.2)
        found &= private_folders()
    return found


def test_only_what_flux_decrypts_is_decrypted(repository: Repository):
    """S24: the same file in a secret and a config map generator: the ConfigMap keeps the ciphertext."""
    repository.write(INPUTS)
    done = repository.render("app")
    assert done.returncode == 0, done.stderr
    found = {document.partition("\n  name: ")[2].split("\n")[0]: document for document in done.stdout.split("---\n")}
    assert b64encode(b"plain-of-file").decode() in found["made"]
    assert b64encode(b"plain-of-env").decode() in found["made"]
    assert "plain-of-patch" in found["made"]
    assert "plain-of-password" in found["db"]
    assert "plain-of" not in found["map"]
    assert found["map"].count("ENC[AES256_GCM") > 1


LOOK = """\
#!/bin/sh
exec >&2
id -u
pwd
echo "environment: $(cat /proc/self/environ | tr '\\0' ' ')"
cd "$2/.." && find . -printf '%M %p\\n'
grep -r . . | grep -v sops
exit 1
"""


def test_what_an_external_program_is_given(repository: Repository):
    """S24: a folder for nobody else, in memory; names that nobody can guess; no variable but what is needed."""
    repository.write(INPUTS)
    log = repository.root.parent / "log"
    fake = repository.root.parent / "bin" / "kustomize"
    fake.write_text(LOOK.replace("exec >&2", f"exec >>{log}"))
    fake.chmod(0o755)
    before = private_folders()
    done = repository.render("app", SOPS_AGE_KEY=made.OTHER_IDENTITY, SECRET_OF_MINE="x")
    assert (done.returncode, done.stdout) == (1, "")
    said = log.read_text()
    environment = next(line for line in said.splitlines() if line.startswith("environment: "))
    assert {pair.partition("=")[0] for pair in environment.split()[1:]} <= {
        *("HOME", "XDG_CONFIG_HOME", "TMPDIR", "KUBECONFIG", "PWD", "OLDPWD", "SHLVL", "_")
    }
    modes = [line.split(" ", 1) for line in said.splitlines() if line.startswith(("d", "-", "l")) and " ./" in line]
    assert {mode for mode, _ in modes} == {"drwx------", "-rw-------"}
    plain = [line for line in said.splitlines() if "plain-of" in line]
    assert len(plain) == 3
    names = [line.removeprefix("./").split(":")[0].rpartition("/")[2] for line in plain]
    assert all(len(name) == 32 and int(name, 16) for name in names)
    assert "plain-of-password" not in said  # that one is decrypted after the build
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        assert str(MEMORY) in said
    assert not left_behind(before)


SLOW = "#!/bin/sh\nsleep 0.2\necho 'a: 1' > ../source/late; sleep 0.2\n"


def test_no_signal_leaves_a_private_copy_behind(repository: Repository):
    """S24: SIGTERM, SIGINT and SIGHUP at 50 points of a run."""
    repository.write(INPUTS)
    fake = repository.root.parent / "bin" / "kustomize"
    fake.write_text(SLOW)
    fake.chmod(0o755)
    before = private_folders()
    ended = []
    for point in range(50):
        with subprocess.Popen(
            [repository.root.parent / "bin" / "krm-sops", "render", "--key-file", repository.key, "app"],
            cwd=repository.root,
            env=repository.clients.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as child:
            time.sleep(0.05 + point * 0.009)
            child.send_signal((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[point % 3])
            assert b"plain-of" not in child.communicate(timeout=60)[1]
        ended.append(child.returncode)
    assert not left_behind(before)
    assert len([status for status in ended if status not in (0, 1)]) > 10, ended


def test_a_signal_while_kustomize_is_waited_for_ends_both(repository: Repository):
    """S24: it has closed its streams and goes on; nothing waits for it twice, and its folder goes."""
    repository.write(INPUTS)
    marker = repository.root.parent / "marker"
    fake = repository.root.parent / "bin" / "kustomize"
    fake.write_text(f"#!/bin/sh\nexec >&- 2>&-\npwd >{marker}\nexec sleep 100\n")
    fake.chmod(0o755)
    with subprocess.Popen(
        [repository.root.parent / "bin" / "krm-sops", "render", "--key-file", repository.key, "app"],
        cwd=repository.root,
        env=repository.clients.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        while not (marker.exists() and marker.read_text()):
            time.sleep(0.05)
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        try:
            assert child.communicate(timeout=60)[0] == b""
        finally:
            child.kill()
    assert child.returncode
    assert not Path(marker.read_text().strip()).exists()


def test_what_kustomize_says_of_a_plaintext_is_not_repeated(repository: Repository):
    """S24: its message quotes a patch that it cannot use; without the plaintext, it says nothing of it."""
    repository.write(INPUTS)
    broken = sealed("yaml", tree({"not": "plain-of-patch", "a": ["plain-of-list"]}))  # type: ignore[arg-type]
    repository.write({"app/patch.yaml": broken})
    done = repository.render("app")
    assert (done.returncode, done.stdout) == (1, "")
    assert "plain-of" not in done.stderr
    assert "kustomize failed" in done.stderr
    repository.write(
        {
            "app/kustomization.yaml": "generators: [g.yaml]\npatches: [{path: b.yaml, target: {kind: Secret}}]\n",
            "app/g.yaml": "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata: {name: g}\nfiles: [secret.yaml]\n",
            "app/b.yaml": "- {op: test, path: /stringData/user, value: x}\n",
        }
    )
    generated = repository.render("app")
    assert (generated.returncode, generated.stdout) == (1, "")
    assert "plain-of" not in generated.stderr
    assert "kustomize failed" in generated.stderr
    assert "krm-sops-" not in done.stderr + generated.stderr  # the private folder's name differs from run to run


# S27: masks


def mask(repository: Repository, files: dict[str, str | bytes], *paths: str) -> tuple[int, str, str]:
    repository.write(files)
    done = repository.render("--mask", *paths)
    return done.returncode, done.stdout, done.stderr


SECRETS = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=30)
    | st.integers(-(2**60), 2**60)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False),
    min_size=8,
    max_size=8,
)


def with_secrets(values: list[Any]) -> dict[str, str | bytes]:
    """The same documents, whatever is secret in them."""
    texts = [str(value).replace("\n", " ").replace("\r", " ").strip() or "x" for value in values]
    inner = sealed("json", tree({"a": values[0], "list": [values[1]]}))  # type: ignore[arg-type]
    binary = sealed("binary", Branch([Entry("data", texts[2])]))
    secret = tree({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}})
    assert isinstance(secret, Branch)
    secret.entries.append(
        Entry(
            "stringData",
            Branch([Entry("a", values[3]), Entry(Comment(f" {texts[4]}"), None), Entry("b", texts[5])]),
        )
    )
    custom = tree({"apiVersion": "x.example/v1", "kind": "X", "metadata": {"name": "two"}, "spec": {"l": [values[6]]}})
    assert isinstance(custom, Branch)
    regex = {"rule": ("encrypted_regex", "^(stringData|spec)$")}
    holder = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "three"},
        "data": {"in.json": b64encode(inner).decode(), "bin": b64encode(binary).decode()},
    }
    patch = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "stringData": {"p": texts[7]}}
    return {
        "one.yaml": sealed("yaml", secret, **regex),
        "two.yaml": sealed("yaml", custom, **regex),
        "three.yaml": made.yaml(holder),
        "env.env": sealed("dotenv", Branch([Entry(Comment(texts[0]), None), Entry("TOKEN", texts[1])])),
        "file.json": inner,
        "file": binary,
        "patch.yaml": sealed("yaml", tree(patch), **regex),  # type: ignore[arg-type]
        "kustomization.yaml": (
            "resources: [one.yaml, two.yaml, three.yaml]\nsecretGenerator:\n"
            "- {name: made, files: [file.json, file], envs: [env.env]}\npatches: [{path: patch.yaml}]\n"
        ),
    }


@settings(max_examples=12, deadline=None)
@given(values=SECRETS, others=SECRETS)
def test_documents_that_differ_in_secrets_only_look_alike(tmp_path_factory: Any, values: list[Any], others: list[Any]):
    """S27: byte-equal output and stderr: values of any type, comments, embedded documents, generated names."""
    folder = tmp_path_factory.mktemp("masked")
    repository = Repository(folder, Clients(folder))
    repository.clients.need("kustomize")
    plain = ("one.yaml", "two.yaml", "three.yaml")
    first, second = (
        (mask(repository, with_secrets(given), "."), mask(repository, {}, *plain)) for given in (values, others)
    )
    assert first == second
    built, files = first
    assert built[0] == files[0] == 0, built[2] + files[2]
    assert (built[2], files[2]) == ("", "")
    assert "ENC[" not in built[1] + files[1]
    assert built[1].count('krm-sops.dev/masked: "true"') + built[1].count('"krm-sops.dev/masked": "true"') == 4
    assert files[1].count('"krm-sops.dev/masked": "true"') == 3
    assert "# ***\n" in files[1] or "#***\n" in files[1]


def test_a_mask_is_base64_where_only_that_can_stand(repository: Repository):
    """S27."""
    repository.write(with_secrets(["a"] * 8))
    done = repository.render("--mask", "three.yaml", "one.yaml")
    assert 'in.json: "Kioq"' in done.stdout.replace('"in.json"', "in.json")
    assert 'a: "***"' in done.stdout


def test_functions_inside_of_a_build_are_masked_too(repository: Repository):
    """S27: transformers and generators of ours."""
    repository.write(with_secrets(["plain-of-x"] * 8))
    repository.write(
        {
            "kustomization.yaml": "resources: [one.yaml]\ntransformers: [t.yaml]\ngenerators: [g.yaml]\n",
            "t.yaml": "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsDecrypt\nmetadata: {name: t}\n",
            "g.yaml": (
                "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsGenerator\nmetadata: {name: g}\nspec:\n  secretFrom:\n"
                "  - metadata: {name: made}\n    files: [file.json]\n    envs: [env.env]\n"
            ),
        }
    )
    plain = repository.render(".")
    assert plain.stdout.count("plain-of-x") > 2, plain.stderr
    done = repository.render("--mask", ".")
    assert done.returncode == 0, done.stderr
    assert "plain-of" not in done.stdout + done.stderr
    assert done.stdout.count("krm-sops.dev/masked") == 2


def whole(name: str, values: list[str]) -> dict[str, str | bytes]:
    """Files that are encrypted as a whole, each with a kustomization that needs to know what is in it."""
    secret = (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{k: {b64encode(values[0].encode()).decode()}}}\n"
    )
    patch = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{k: {values[0]}, gone: null}}\n"
    operations = f"- {{op: add, path: /data, value: {{k: {values[0]}, l: [{values[1]}]}}}}\n"
    two = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": values[0]}}
    ksops = "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata: {name: g}\n"
    generator = {"kustomization.yaml": "generators: [g.yaml]\n"}
    target = {"target": "{kind: ConfigMap}"}
    patched = "resources: [a.yaml]\npatches: [{path: FILE}]\n"

    def binary(text: str) -> bytes:
        return sealed("binary", Branch([Entry("data", text)]))

    return {
        "envs of ksops": {
            **generator,
            "g.yaml": f"{ksops}secretFrom: [{{metadata: {{name: s}}, envs: [e.enc]}}]\n",
            "e.enc": binary(f"# {values[1]}\nK='{values[0]}'\nexport L={values[1]}\n"),
        },
        "files of ksops": {**generator, "g.yaml": f"{ksops}files: [e.enc]\n", "e.enc": binary(secret)},
        "a List of ksops": {
            **generator,
            "g.yaml": f"{ksops}files: [e.enc]\n",
            "e.enc": binary("kind: List\napiVersion: v1\nitems:\n- " + secret.replace("\n", "\n  ").rstrip() + "\n"),
        },
        "YAML of ksops": {
            **generator,
            "g.yaml": f"{ksops}files: [e.yaml]\n",
            "e.yaml": sealed("yaml", tree(two)),  # type: ignore[arg-type]
        },
        "a patch": {
            "kustomization.yaml": patched.replace("FILE", "p.yaml"),
            "a.yaml": MANIFEST,
            "p.yaml": sealed("yaml", tree({**two, "kind": "ConfigMap", "metadata": {"name": "a"}})),  # type: ignore[arg-type]
        },
        "a patch as binary": {
            "kustomization.yaml": patched.replace("FILE", "p.enc"),
            "a.yaml": MANIFEST,
            "p.enc": binary(patch),
        },
        "a JSON patch as binary": {
            "kustomization.yaml": patched.replace("FILE}", f"p.enc, target: {target['target']}}}"),
            "a.yaml": MANIFEST,
            "p.enc": binary(operations),
        },
        "a file": {"one.yaml": sealed("yaml", tree(two))},  # type: ignore[arg-type]
    }[name]  # type: ignore[return-value]


@pytest.mark.parametrize(
    "case",
    [
        *("envs of ksops", "files of ksops", "a List of ksops", "YAML of ksops"),
        *("a patch", "a patch as binary", "a JSON patch as binary", "a file"),
    ],
)
def test_what_builds_without_masks_builds_with_them(repository: Repository, case: str):
    """S27: of what is encrypted as a whole, kind and name and keys are shown, and no value, nor which one it was."""
    repository.write(whole(case, ["plain-of-one", "plain-of-two"]))
    plain = repository.render(".")
    assert plain.returncode == 0, plain.stderr
    assert "plain-of-one" in plain.stdout or b64encode(b"plain-of-one").decode() in plain.stdout
    done = repository.render("--mask", ".")
    assert (done.returncode, done.stderr) == (0, "")
    for hidden in ("plain-of", b64encode(b"plain-of-one").decode(), "ENC["):
        assert hidden not in done.stdout
    assert "***" in done.stdout or "Kioq" in done.stdout
    assert "krm-sops.dev/masked" in done.stdout
    (kind,) = {line for line in plain.stdout.splitlines() if line.startswith("kind: ")} or {""}
    assert kind.replace('"', "") in done.stdout.replace('"', "")
    assert "name: s\n" in done.stdout.replace('"', "") or "name: a\n" in done.stdout
    repository.write(whole(case, ["other", "x"]))
    assert repository.render("--mask", ".").stdout == done.stdout


def test_what_cannot_be_masked_is_said_and_not_shown(repository: Repository):
    """S27: encrypted as a text that is no YAML."""
    ksops = "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata: {name: g}\nfiles: [e.enc]\n"
    content = sealed("binary", Branch([Entry("data", "a: *plain-of-alias\nb: [\n")]))
    repository.write({"kustomization.yaml": "generators: [g.yaml]\n", "g.yaml": ksops, "e.enc": content})
    done = repository.render("--mask", ".")
    assert (done.returncode, done.stdout) == (1, "")
    assert "e.enc: it cannot be masked" in done.stderr
    assert "plain-of" not in done.stderr


def test_a_kind_among_values_is_a_value(repository: Repository):
    """S27: only of manifests and patches is it shown."""
    repository.write(
        {
            "kustomization.yaml": "generators: [g.yaml]\n",
            "g.yaml": (
                "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsGenerator\nmetadata: {name: g}\nspec:\n"
                "  secretFrom: [{metadata: {name: s}, envs: [e.yaml]}]\n"
            ),
            "e.yaml": sealed("yaml", tree({"kind": "plain-of-kind", "apiVersion": "plain-of-version"})),  # type: ignore[arg-type]
        }
    )
    done = repository.render("--mask", ".")
    assert done.returncode == 0, done.stderr
    assert "plain-of" not in done.stdout
    assert b64encode(b"plain-of-kind").decode() not in done.stdout


def test_an_error_is_the_same_masked_or_not(repository: Repository):
    """S27: a mask is no way to pass an altered document."""
    document = made.encrypted()
    document["stringData"]["user"] = document["stringData"]["password"]
    repository.write({"a.yaml": made.yaml(document)})
    assert repository.render("--mask", "a.yaml").stderr == repository.render("a.yaml").stderr != ""


# S28: what stays encrypted


def encrypted_list(repository: Repository, name: str) -> str:
    """As sops encrypts a List."""
    repository.clients.need("sops")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "cGxhaW4tb2YtbGlzdA=="}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "plain-of-map"}}
    repository.write({name: json.dumps({"apiVersion": "v1", "kind": "List", "items": [secret, config]})})
    encrypt = ("sops", "encrypt", "-i", "--age", made.RECIPIENT, "--encrypted-regex", "^data$", name)
    assert repository.clients.run(*encrypt, cwd=repository.root).returncode == 0
    return (repository.root / name).read_text()


@pytest.mark.parametrize("name", ["list.yaml", "list.json"])
def test_an_encrypted_list_never_leaves_as_ciphertext(repository: Repository, name: str):
    """S28: kustomize would take it apart, and drop what it is decrypted by. Without kustomize it is one document."""
    text = encrypted_list(repository, f"files/{name}")
    repository.write({"app/kustomization.yaml": f"resources: [{name}]\n", f"app/{name}": text})
    done = repository.render("app")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"app/{name}: an encrypted List" in done.stderr
    assert "krm-sops: hint: encrypt its objects" in done.stderr
    done = repository.render("files")
    assert (done.returncode, done.stderr) == (0, "")
    assert "plain-of-map" in done.stdout
    assert "cGxhaW4tb2YtbGlzdA==" in done.stdout
    assert "ENC[" not in done.stdout


def test_ciphertext_without_its_block_is_an_error(repository: Repository):
    """S28: what goes to a cluster is plaintext, or nothing: as a file, and in a build."""
    document = made.encrypted()
    del document["sops"]
    repository.write({"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": made.yaml(document)})
    for path in ("app", "app/a.yaml"):
        done = repository.render(path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "error: " in done.stderr
        assert "no sops block, so nothing can decrypt it" in done.stderr


# S6: what a build has sorted


ALTERED = {
    "the MAC removed": lambda document: document["sops"].pop("mac"),
    "an empty MAC": lambda document: document["sops"].update(mac=""),
    "a plain value changed": lambda document: document.update(type="example.com/x"),
    "an encrypted value removed": lambda document: document["stringData"].pop("user"),
}


@pytest.mark.parametrize("case", ALTERED)
def test_an_altered_document_does_not_pass_for_one_that_a_build_has_sorted(repository: Repository, case: str):
    """S6: its file is at hand and does not verify; also where kustomize has its share in the item, or in the block."""
    document = made.encrypted({**made.PLAIN, "type": "Opaque"})
    repository.write({"a/kustomization.yaml": "resources: [a.yaml]\nnamePrefix: p-\n", "a/a.yaml": made.yaml(document)})
    assert repository.render("--strict", "a").returncode == 0
    patch = "patches: [{target: {kind: Secret}, patch: '- {op: add, path: /immutable, value: true}'}]\n"
    repository.write({"b/kustomization.yaml": f"resources: [../a]\n{patch}"})
    assert "its MAC cannot be verified here" in repository.render("b").stderr
    ALTERED[case](document)
    repository.write({"a/a.yaml": made.yaml(document)})
    for path in ("a", "b"):
        done = repository.render(path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "MAC" in done.stderr


def test_a_document_without_a_file_of_its_own_must_verify_as_it_stands(repository: Repository):
    """S6: one that was written into a kustomization as a patch."""
    document = made.encrypted({**made.PLAIN, "type": "Opaque"})
    document["type"] = "example.com/x"
    patch = made.yaml(document).replace("\n", "\n    ")
    empty = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: NAMESPACE}\n"
    namespace = made.PLAIN["metadata"].get("namespace", "")
    repository.write(
        {
            "kustomization.yaml": f"resources: [a.yaml]\npatches:\n- patch: |\n    {patch}\n",
            "a.yaml": empty.replace(", namespace: NAMESPACE", f", namespace: {namespace}" if namespace else ""),
        }
    )
    done = repository.render(".")
    assert (done.returncode, done.stdout) == (1, "")
    assert "MAC mismatch" in done.stderr
