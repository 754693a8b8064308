"""StageSets under the real kpt and kustomize, as an Argo CD source, and by the verb; the repository's own pipeline."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.e2e.clients import EXAMPLES, KEY, PASSWORD, ROOT, WRONG_KEY, Clients, contents, copy, kpt_package

STAGE = "krm-sops.dev/stage"
WAVE = "argocd.argoproj.io/sync-wave"
EXEC = "exec: {path: krm-sops}"
DEPENDS_ON = "config.kubernetes.io/depends-on"
ORDERS = {
    "stages-secrets-first": [("secrets", "database"), ("app", "payments"), ("app", "payments")],
    "stages-crd-first": [
        *(("crds", "backups.example.com"), ("operator", "backups"), ("operator", "operator"), ("operator", "operator")),
        *(("backups", "bucket"), ("backups", "nightly")),
    ],
    "stages-five": [
        *(("base", "shop"), ("secrets", "database"), ("database", "database"), ("schema", "migrate")),
        *(("web", "web"), ("web", "web")),
    ],
}
"""What each example documents: stages and names, in order."""
NAMES = sorted(ORDERS)


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


def objects(text):
    return [document for document in yaml.safe_load_all(text) if document]


def note(item, name):
    return item["metadata"].get("annotations", {}).get(name)


def staged(items):
    return [(note(item, STAGE), item["metadata"]["name"]) for item in items if note(item, STAGE)]


def names(items):
    return [(note(item, STAGE), item["metadata"]["name"]) for item in items]


def identity(item):
    """What `depends-on` names: group, kind, name, namespace."""
    metadata = item["metadata"]
    group, _, _ = item["apiVersion"].rpartition("/")
    return group, item["kind"], metadata["name"], metadata.get("namespace", "")


def references(item):
    """As cli-utils, pkg/object/dependson, splits and checks them."""
    found = []
    for text in filter(None, (note(item, DEPENDS_ON) or "").split(",")):
        fields = text.strip().split("/")
        assert len(fields) in (3, 5), text
        assert len(fields) == 3 or fields[1] == "namespaces", text
        found.append((fields[0], fields[-2], fields[-1], fields[2] if len(fields) == 5 else ""))
        assert all(found[-1][1:3]), text
    assert len(set(found)) == len(found)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_kpt_renders_in_the_documented_order_and_what_is_waited_for_is_there(name, clients, tmp_path):
    package = kpt_package(name, tmp_path)
    before = contents(package)
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", "-o", "unwrap")
    assert done.returncode == 0, done.stderr
    items = objects(done.stdout)
    assert staged(items) == ORDERS[name]
    assert contents(package) == before
    deployed = {identity(item): item for item in items if note(item, "config.kubernetes.io/local-config") != "true"}
    order = {}
    while len(order) < len(deployed):  # as an engine would that applies what waits for nothing any more
        ready = [key for key, item in deployed.items() if key not in order and order.keys() >= set(references(item))]
        assert ready, "a cycle, or a reference to nothing"
        order |= dict.fromkeys(ready, len(order))
    stages = [stage for stage, _ in dict.fromkeys(ORDERS[name])]
    places = {stage: [order[key] for key, item in deployed.items() if note(item, STAGE) == stage] for stage in stages}
    for one, other in pairwise(stages):
        if one != other:
            assert max(places[one]) < min(places[other])


def argocd_order(items):
    """Argo CD's rule for what is no hook: by wave, 0 where there is none."""
    return sorted(items, key=lambda item: int(note(item, WAVE) or 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("client", ["kustomize", "render"])
def test_waves_sort_in_the_documented_order(name, client, clients, tmp_path):
    """`krm-sops render` is what the plugin for Argo CD starts."""
    clients.need("kustomize")
    folder = copy(name, tmp_path)
    flags = ("--enable-alpha-plugins", "--enable-exec")
    argv = ("kustomize", "build", *flags, folder) if client == "kustomize" else ("krm-sops", "render", folder)
    done = clients.run(*argv, cwd=folder)
    assert done.returncode == 0, done.stderr
    items = objects(done.stdout)
    stages = [stage for stage, _ in staged(argocd_order(items))]
    assert stages == [stage for stage, _ in ORDERS[name]]
    assert sorted(staged(items)) == sorted(ORDERS[name])
    assert PASSWORD in done.stdout
    assert "AGE-SECRET-KEY" not in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_build_leaves_in_the_documented_order_whatever_kustomize_makes_of_it(name, clients, tmp_path):
    clients.need("kustomize")
    folder = copy(name, tmp_path)
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed["resources"].reverse()
    for change in ({}, {"sortOptions": {"order": "legacy"}}):
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(listed | change))
        done = clients.run("krm-sops", "render", folder)
        assert (done.returncode, done.stderr) == (0, "")
        stages = [stage for stage, _ in staged(objects(done.stdout))]
        assert stages == [stage for stage, _ in ORDERS[name]]
    outside = clients.run("kustomize", "build", "--enable-alpha-plugins", "--enable-exec", folder, cwd=folder)
    assert sorted(map(str, objects(outside.stdout))) == sorted(map(str, objects(done.stdout)))


def test_what_is_renamed_after_its_stage_was_told_stays_in_it_and_what_is_new_comes_first(clients, tmp_path):
    """By hashes, at the end of a build; by a later transformer; made by one, so in no stage."""
    clients.need("kustomize")
    folder = copy("stages-secrets-first", tmp_path)
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    hashed = {"kustomize.config.k8s.io/needs-hash": "true"}
    config = {"kind": "ConfigMap", "metadata": {"name": "limits", "namespace": "payments", "annotations": hashed}}
    (folder / "payments-secrets" / "limits.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", **config}))
    prefix = {"apiVersion": "builtin", "kind": "PrefixTransformer", "metadata": {"name": "prefix"}, "prefix": "new-"}
    prefix["fieldSpecs"] = [{"path": "metadata/name", "kind": "Secret"}]
    (folder / "prefix.yaml").write_text(yaml.safe_dump(prefix))
    note = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsTemplate", "metadata": {"name": "note"}}
    note["metadata"] |= {"namespace": "payments", "annotations": {"config.kubernetes.io/function": EXEC}}
    made = {"metadata": {"name": "note"}, "stringData": {"user": "<SOPS:new-database/user>"}}
    note["spec"] = {"secrets": [{"secret": "database", "values": {"new-database/user": "user"}}], "templates": [made]}
    (folder / "note.yaml").write_text(yaml.safe_dump(note))
    listed["resources"].append("payments-secrets/limits.yaml")
    listed["transformers"] += ["note.yaml", "prefix.yaml"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(listed))
    done = clients.run("krm-sops", "render", folder)
    assert (done.returncode, done.stderr) == (0, "")
    found = [(note_of, name.partition("limits-")[0] or "limits") for note_of, name in names(objects(done.stdout))]
    assert found[0] == (None, "new-note")
    assert sorted(found[1:3]) == [("secrets", "limits"), ("secrets", "new-database")]
    assert found[3:] == [("app", "payments"), ("app", "payments")]


def test_only_a_stageset_of_the_kustomization_that_is_built_gives_the_order(clients, tmp_path):
    """What a base orders is for the kustomization above to order again."""
    clients.need("kustomize")
    folder = copy("stages-secrets-first", tmp_path)
    (folder / "base").mkdir()
    top = yaml.safe_load((folder / "kustomization.yaml").read_text())
    top["resources"] = ["payments-app/rendered.yaml", "base"]
    base = {"resources": ["payments-secrets/database.enc.yaml", "key.yaml"], "transformers": top.pop("transformers")}
    for name in ("payments-secrets", "argocd.yaml", "key.yaml"):
        (folder / name).rename(folder / "base" / name)
    config = yaml.safe_load((folder / "base" / "argocd.yaml").read_text())
    del config["spec"]["stages"][1]
    (folder / "base" / "argocd.yaml").write_text(yaml.safe_dump(config))
    (folder / "base" / "kustomization.yaml").write_text(yaml.safe_dump(base))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(top))
    done = clients.run("krm-sops", "render", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert [stage for stage, _ in names(objects(done.stdout))] == [None, None, "secrets"]


@pytest.mark.parametrize("name", NAMES)
def test_the_verb_renders_and_splits_in_the_documented_order(name, clients, tmp_path):
    folder = copy(name, tmp_path)
    done = clients.run("krm-sops", "stages", "render", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert staged(objects(done.stdout)) == ORDERS[name]
    assert "AGE-SECRET-KEY" not in done.stdout
    done = clients.run("krm-sops", "stages", "split", tmp_path / "out", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    parts = sorted((tmp_path / "out").iterdir())
    assert [part.name.partition("-")[2] for part in parts] == list(dict.fromkeys(stage for stage, _ in ORDERS[name]))
    found = [pair for part in parts for pair in staged(objects((part / "manifests.yaml").read_text()))]
    assert found == ORDERS[name]
    stage = ORDERS[name][-1][0]
    done = clients.run("krm-sops", "stages", "render", "--stage", stage, cwd=folder)
    assert staged(objects(done.stdout)) == [pair for pair in ORDERS[name] if pair[0] == stage]


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_needs_no_key(name, clients, tmp_path):
    folder = copy(name, tmp_path, (KEY, "gone"))
    stages = list(dict.fromkeys(stage for stage, _ in ORDERS[name]))
    plans = {}
    for form in ("table", "json", "mermaid", "svg"):
        done = clients.run("krm-sops", "stages", "plan", "--format", form, folder)
        assert (done.returncode, done.stderr) == (0, "")
        plans[form] = done.stdout
    assert [row.split()[1] for row in plans["table"].splitlines()[1:]] == stages
    plan = json.loads(plans["json"])
    assert [row["stage"] for row in plan["stages"]] == stages
    assert [row["waitsFor"] for row in plan["stages"]][1:] == [
        [{"stageSet": row["stageSet"], "stage": row["stage"]}] for row in plan["stages"][:-1]
    ]
    assert plans["mermaid"].count("-->") == len(stages) - 1
    drawing = ET.fromstring(plans["svg"])
    assert len(drawing.findall("{*}rect")) == len(stages)


def test_a_failure_writes_nothing(clients, tmp_path):
    folder = copy("stages-five", tmp_path, (KEY, WRONG_KEY))
    for arguments in (("render", folder), ("split", tmp_path / "out", folder)):
        done = clients.run("krm-sops", "stages", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no key could unwrap the data key" in done.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    done = clients.run("krm-sops", "stages", "split", tmp_path / "out", EXAMPLES / "stages-five")
    assert done.returncode == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_a_source_with_a_kustomization_is_built_under_the_stages_keys(clients, tmp_path):
    """A source that is itself rendered; its encrypted file goes into a secretGenerator, as under Flux."""
    clients.need("kustomize", "sops")
    folder = copy("stages-secrets-first", tmp_path)
    secrets = folder / "payments-secrets"
    recipient = yaml.safe_load((folder / ".sops.yaml").read_text())["creation_rules"][0]["age"]
    (folder / ".sops.yaml").unlink()
    (secrets / "plain.env").write_text("TOKEN=from-the-generator\n")
    done = clients.run("sops", "encrypt", "--age", recipient, "--output", "token.env", "plain.env", cwd=secrets)
    assert done.returncode == 0, done.stderr
    (secrets / "plain.env").unlink()
    (secrets / "kustomization.yaml").write_text(
        "namespace: payments\nresources: [database.enc.yaml]\nsecretGenerator:\n- name: token\n  envs: [token.env]\n"
    )
    (folder / ".krmignore").write_text("/kustomization.yaml\nargocd.yaml\nexpected.yaml\n")
    done = clients.run("krm-sops", "stages", "render", "--stage", "secrets", folder)
    assert done.returncode == 0, done.stderr
    items = objects(done.stdout)
    assert [(item["kind"], note(item, STAGE)) for item in items[:2]] == [("Secret", "secrets")] * 2
    assert items[0]["stringData"]["password"] == PASSWORD
    assert items[1]["data"] == {"TOKEN": "ZnJvbS10aGUtZ2VuZXJhdG9y"}
    plan = clients.run("krm-sops", "stages", "plan", folder)
    assert "built" in plan.stdout


def test_a_source_may_be_a_package_of_its_own_which_is_rendered_before(clients, tmp_path):
    clients.need("kpt")
    package = kpt_package("stages-secrets-first", tmp_path)
    inner = yaml.safe_load((package / "Kptfile").read_text())
    inner["pipeline"]["mutators"] = [{"exec": "sed s/registry.example/registry.internal/"}]
    (package / "payments-app" / "Kptfile").write_text(yaml.safe_dump(inner))
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", "-o", "unwrap")
    assert done.returncode == 0, done.stderr
    assert staged(objects(done.stdout)) == ORDERS["stages-secrets-first"]
    assert "registry.internal/payments" in done.stdout


def test_flux_emission_leaves_the_package_encrypted_and_can_be_rendered_in_place(clients, tmp_path):
    package = kpt_package("stages-secrets-first", tmp_path, ("emit: kpt", "emit: flux"))
    clients.need("kpt")
    done = clients.run("kpt", "fn", "render", package, "--allow-exec")
    assert done.returncode == 0, done.stderr
    name = "payments-secrets/database.enc.yaml"
    original = yaml.safe_load((EXAMPLES / "stages-secrets-first" / name).read_text())
    assert yaml.safe_load((package / name).read_text()) == original
    after = contents(package)
    done = clients.run("kpt", "fn", "render", package, "--allow-exec")
    assert done.returncode == 0, done.stderr
    assert contents(package) == after
    made = [item for file in package.rglob("*.yaml") for item in objects(file.read_text()) if "toolkit" in str(item)]
    assert [item["kind"] for item in made if item.get("apiVersion", "").startswith("kustomize.")] == [
        "Kustomization"
    ] * 2


def test_the_repositorys_own_pipeline_gives_the_documented_order(clients, tmp_path):
    clients.need("kpt")
    package = tmp_path / "repository"
    package.mkdir()
    for name in ("Kptfile", ".krmignore"):
        shutil.copy(ROOT / name, package / name)
    shutil.copytree(EXAMPLES, package / "examples")
    before = contents(package)
    done = clients.run("kpt", "fn", "render", package, "--allow-exec", "-o", "unwrap")
    assert done.returncode == 0, done.stderr
    assert staged(objects(done.stdout)) == ORDERS["stages-secrets-first"]
    done = clients.run("kpt", "fn", "render", package)
    assert done.returncode != 0
    assert "--allow-exec" in done.stderr
    assert contents(package) == before
