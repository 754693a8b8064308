"""StageSets: which item is in which stage, in which order items leave, and how each engine is told."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from krm_sops.krm.resourcelist import NotPlainError, ResourceList
from krm_sops.limits import FUNCTION
from tests.security import made
from tests.stagesets import DEPENDS_ON, STAGE, WAVE, Outcome, at, config_map, key_secret, secret, stage_set

KEY = at("key.yaml", key_secret())


def package(*items, **fields):
    """A package of two stages, with what the StageSet says besides."""
    return [at("stageset.yaml", stage_set("secrets", "app", **fields)), *items]


APP, DB = at("app/app.yaml", config_map("app")), at("secrets/db.yaml", secret())


# Order


def test_items_leave_in_the_order_of_their_stages_decrypted_and_say_their_stage():
    done = Outcome(*package(APP, DB, KEY))
    assert (done.status, done.errors()) == (0, [])
    assert done.names() == ["sops-keys", "db", "app"]
    assert [done.note(name, STAGE) for name in done.names()] == [None, "secrets", "app"]
    assert done.item("db")["stringData"] == made.PLAIN["stringData"]


def test_what_is_not_annotated_keeps_its_bytes_wherever_it_goes():
    odd = "apiVersion: v1 # first\nkind:   ConfigMap\nmetadata: {name: odd}\ndata: {b: '1',\n  a: x}\n"
    first, *rest = package(APP, DB, KEY)
    text = made.resource_list(first, odd, *rest, config=first)
    given = ResourceList(text.encode(), FUNCTION, exact=True)
    assert odd.replace("\n", "\n  ").strip() in given.write(order=given.items[::-1]).decode()


def test_items_in_no_stage_come_first_in_their_order_and_are_told():
    loose = [at(f"other/{name}.yaml", config_map(name)) for name in "yxz"]
    done = Outcome(*package(APP, loose[0], DB, loose[1], KEY, loose[2]))
    assert done.names() == ["y", "x", "sops-keys", "z", "db", "app"]
    told = [result.item.name for result in done.results if result.reason == "InNoStage"]
    assert told == ["y", "x", "z"]
    assert all(STAGE not in item["metadata"]["annotations"] for item in done.items[:4])


def test_a_config_that_does_not_say_its_file_is_the_stageset_of_the_package():
    given = package(APP, DB, KEY)
    done = Outcome(*given, config=stage_set("secrets", "app"))
    assert (done.errors(), done.names()) == ([], ["sops-keys", "db", "app"])
    assert "is there twice" in Outcome(*given, config=stage_set("app")).errors()[0]


def test_a_package_without_anything_to_decrypt_is_ordered_as_well():
    done = Outcome(*package(APP, at("secrets/c.yaml", config_map("c")), decryption=None))
    assert done.names() == ["c", "app"]


def test_sources_stand_beside_the_stageset_or_where_its_annotation_says():
    inner = [at("deploy/stageset.yaml", stage_set("secrets", "app"))]
    done = Outcome(*inner, at("deploy/app/a.yaml", config_map("app")), at("secrets/db.yaml", secret()), KEY)
    assert done.names() == ["sops-keys", "db", "app"]
    named = at(
        "stageset.yaml", stage_set("secrets", "app"), **{"krm-sops.dev/sources": "app=out/rendered, secrets=./s"}
    )
    done = Outcome(named, at("out/rendered/a.yaml", config_map("app")), at("s/db.yaml", secret()), KEY)
    assert done.names() == ["sops-keys", "db", "app"]


def test_items_of_a_package_below_count_from_there():
    """As kpt says it: paths from their own packages, and where those are."""
    package_path = "internal.config.kubernetes.io/package-path"
    top, inner = {package_path: "/p"}, {package_path: "/p/app"}
    config = at("stageset.yaml", stage_set("secrets", "app", decryption=None), **top)
    done = Outcome(
        config,
        at("rendered.yaml", config_map("a"), **inner),
        at("secrets/x.yaml", config_map("b"), **inner),
        at("secrets/x.yaml", config_map("c"), **top),
        at("secrets/x.yaml", config_map("d"), **{package_path: "/q"}),
    )
    assert done.errors() == []
    assert [done.note(name, STAGE) for name in "abcd"] == ["app", "app", "secrets", None]


def test_the_path_of_a_stage_is_below_its_source():
    stages = [{"name": name, "sourceRef": {"name": "all"}, "path": f"./{name}/"} for name in ("one", "two")]
    done = Outcome(
        at("stageset.yaml", stage_set(*stages, decryption=None)),
        *(at(f"all/{name}/x/c.yaml", config_map(name)) for name in ("two", "one", "three")),
    )
    assert done.names() == ["three", "one", "two"]
    assert "three: is in no stage" in done.infos()[0]


def test_stagesets_wait_for_those_that_they_depend_on():
    sets = [
        at("c.yaml", stage_set("c", name="c", dependsOn=[{"name": "b"}], emit="argocd", decryption=None)),
        at("a.yaml", stage_set("a1", "a2", name="a", emit="argocd", decryption=None)),
        at("b.yaml", stage_set("b", name="b", dependsOn=[{"name": "a"}], emit="argocd", decryption=None)),
        at("d.yaml", stage_set("d", name="d", emit="argocd", decryption=None)),
    ]
    done = Outcome(*sets, *(at(f"{name}/x.yaml", config_map(name)) for name in ("d", "c", "b", "a2", "a1")))
    assert done.errors() == []
    assert done.names() == ["a1", "a2", "b", "c", "d"]
    assert [done.note(name, WAVE) for name in done.names()] == ["10", "20", "30", "40", "10"]


def test_a_stageset_that_is_waited_for_and_is_not_here_is_told():
    done = Outcome(*package(APP, DB, KEY, dependsOn=[{"name": "base", "namespace": "infra"}]))
    assert done.status == 0
    assert any("infra/base is not here" in line for line in done.infos())


# Engines


def test_sync_waves_are_the_stage_times_a_step_plus_the_own_wave_and_hooks_are_left_alone():
    done = Outcome(
        *package(
            at("app/a.yaml", config_map("a"), **{WAVE: "3"}),
            at("app/b.yaml", config_map("b"), **{WAVE: "-2"}),
            at("app/hook.yaml", config_map("hook"), **{"argocd.argoproj.io/hook": "PreSync", WAVE: "1"}),
            DB,
            KEY,
            emit="argocd",
        )
    )
    assert [done.note(name, WAVE) for name in ("db", "a", "b", "hook")] == ["10", "23", "18", "1"]


def test_the_step_grows_until_no_two_stages_overlap():
    waves = {"a": "7", "b": "-6", "c": "0"}
    items = [at(f"app/{name}.yaml", config_map(name), **{WAVE: wave}) for name, wave in waves.items()]
    done = Outcome(*package(*items, DB, KEY, emit="argocd"))
    assert [done.note(name, WAVE) for name in ("db", "a", "b", "c")] == ["100", "207", "194", "200"]


@pytest.mark.parametrize("emit", ["argocd", "kpt", "flux", ""])
def test_what_was_rendered_in_place_renders_to_the_same_again(emit):
    items = [at("app/a.yaml", config_map("a"), **{WAVE: "3", DEPENDS_ON: "/Namespace/x"}), APP, KEY]
    items.append(at("secrets/c.yaml", config_map("c")))
    once = Outcome(*package(*items, emit=emit))
    assert once.errors() == []
    for item in once.everything:
        item["metadata"].setdefault("annotations", {}).setdefault(
            "internal.config.kubernetes.io/path", "shop/made.yaml"
        )
    twice = Outcome(*once.everything)
    assert (twice.status, twice.errors()) == (0, [])
    for item in twice.everything:
        item["metadata"]["annotations"].setdefault("internal.config.kubernetes.io/path", "shop/made.yaml")
    assert {str(item) for item in map(plain, twice.everything)} == {str(item) for item in map(plain, once.everything)}


def plain(item):
    return {
        **item,
        "metadata": {**item["metadata"], "annotations": dict(sorted(item["metadata"]["annotations"].items()))},
    }


def reference(text):
    """As cli-utils splits it: the group, the kind, the name and the namespace, if any."""
    fields = text.strip().split("/")
    assert len(fields) in (3, 5), text
    if len(fields) == 3:
        return fields[0], fields[1], fields[2], ""
    assert fields[1] == "namespaces"
    return fields[0], fields[3], fields[4], fields[2]


def test_kpt_is_told_by_one_barrier_for_each_stage():
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
    done = Outcome(*package(APP, DB, KEY, at("secrets/r.yaml", role), emit="kpt"))
    assert done.errors() == []
    barriers = [item for item in done.items if item["metadata"]["name"].startswith("krm-sops-stage-")]
    assert [reference(part)[1:3] for part in barriers[0]["metadata"]["annotations"][DEPENDS_ON].split(",")] == [
        ("Secret", "db"),
        ("ClusterRole", "r"),
    ]
    assert done.note("app", DEPENDS_ON) == "/namespaces/shop/ConfigMap/krm-sops-stage-shop-secrets"
    assert done.note("db", DEPENDS_ON) is None


def test_edges_grow_with_items_not_with_their_pairs():
    items = [at(f"{stage}/{n}.yaml", config_map(f"{stage}{n}")) for stage in ("secrets", "app") for n in range(60)]
    done = Outcome(*package(*items, emit="kpt", decryption=None))
    edges = [
        part for item in done.items for part in item["metadata"]["annotations"].get(DEPENDS_ON, "").split(",") if part
    ]
    assert len(edges) == 180
    assert all(map(reference, edges))


def test_a_barrier_that_would_not_fit_into_an_annotation_is_an_error():
    items = [at(f"app/{n}.yaml", config_map(f"{n:0200d}")) for n in range(1200)]
    done = Outcome(*package(*items, at("secrets/c.yaml", config_map("c")), emit="kpt", decryption=None))
    assert done.status == 1
    assert done.errors()[0].startswith("LimitExceeded: ")
    assert "256 KiB" in done.errors()[0]


def test_a_barrier_stands_in_a_namespace_that_is_there_by_then():
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"}}
    done = Outcome(*package(at("app/n.yaml", namespace), APP, at("secrets/crd.yaml", crd), emit="kpt", decryption=None))
    assert done.errors() == []
    assert done.item("krm-sops-stage-shop-secrets")["metadata"]["namespace"] == "default"
    assert done.item("krm-sops-stage-shop-app")["metadata"]["namespace"] == "shop"
    done = Outcome(*package(at("app/n.yaml", namespace), DB, KEY, emit="kpt"))
    assert "its namespace is made after that" in done.errors()[0]
    crd["spec"] = {"group": "example.com", "names": {"kind": "Backup"}}
    backup = {"apiVersion": "example.com/v1", "kind": "Backup", "metadata": {"name": "b", "namespace": "shop"}}
    done = Outcome(*package(at("app/c.yaml", crd), at("secrets/b.yaml", backup), emit="kpt", decryption=None))
    assert "its definition is made after that" in done.errors()[0]


def test_flux_gets_a_kustomization_for_each_stage_and_items_stay_encrypted():
    first = {
        "name": "secrets",
        "sourceRef": {"kind": "GitRepository", "name": "secrets"},
        "path": "./x",
        "prune": False,
    }
    second = {
        "name": "app",
        "sourceRef": {"apiVersion": "jaas.metio.wtf/v1", "kind": "JsonnetSnippet", "name": "app"},
        "timeout": "3m",
        "patches": [{"patch": "x"}],
        "postBuild": {"substitute": {"a": "b"}},
    }
    whole = stage_set(first, second, emit="flux", interval="1h", serviceAccountName="deployer")
    encrypted = at("secrets/x/db.yaml", secret())
    done = Outcome(at("stageset.yaml", whole), APP, encrypted, KEY)
    assert done.errors() == []
    assert done.item("db") == encrypted
    made_of = {item["metadata"]["name"]: item for item in done.items if item["kind"] == "Kustomization"}
    assert list(made_of) == ["shop-secrets", "shop-app"]
    assert made_of["shop-secrets"]["spec"] == {
        "interval": "1h",
        "path": "./x",
        "prune": False,
        "wait": True,
        "sourceRef": {"kind": "GitRepository", "name": "secrets"},
        "serviceAccountName": "deployer",
        "decryption": whole["spec"]["decryption"],
    }
    assert made_of["shop-app"]["spec"]["dependsOn"] == [{"name": "shop-secrets"}]
    assert {name: made_of["shop-app"]["spec"][name] for name in ("timeout", "patches", "postBuild")} == {
        name: second[name] for name in ("timeout", "patches", "postBuild")
    }
    assert made_of["shop-app"]["spec"]["sourceRef"] == {"kind": "ExternalArtifact", "name": "app"}
    assert [result.severity for result in done.results if "sourceRef" in result.field] == ["warning"]


# Fields


def test_fields_for_the_controller_are_told_once_each_as_info():
    stage = {"sourceRef": {"name": "app"}, "readyChecks": {}, "timeout": "1m", "actions": {"pre": []}}
    stages = [{"name": name, **stage, "path": name} for name in ("a", "b")]
    spec = stage_set(*stages, decryption=None, interval="5m", updateWindows=[], rollbackOnFailure=True)
    done = Outcome(at("s.yaml", spec), at("app/a/x.yaml", config_map("a")), at("app/b/x.yaml", config_map("b")))
    told = sorted(result.field for result in done.results if result.severity == "info")
    assert told == [
        *("spec.interval", "spec.rollbackOnFailure", "spec.stages[].actions", "spec.stages[].readyChecks"),
        *("spec.stages[].timeout", "spec.updateWindows"),
    ]


def test_an_unknown_field_is_a_warning():
    done = Outcome(*package(APP, DB, KEY, dependOn=[]))
    assert [(r.severity, r.field) for r in done.results if r.severity != "info"] == [("warning", "spec.dependOn")]


CYCLE = [
    at(f"{name}.yaml", stage_set(name, name=name, dependsOn=[{"name": on}], decryption=None))
    for name, on in (("a", "b"), ("b", "c"), ("c", "a"))
]
TWO_STAGES = [
    {"name": "one", "sourceRef": {"name": "app"}},
    {"name": "two", "sourceRef": {"name": "app"}, "path": "in"},
]
REFUSED = {
    "a name that is no name": (
        [at("s.yaml", stage_set("app", name="../../x")), APP],
        "metadata.name is '../../x'",
        "metadata.name",
    ),
    "no stages": ([at("s.yaml", stage_set())], "s.yaml: StageSet/shop/shop: spec.stages must be", "spec.stages"),
    "a stage without a name": (
        [at("s.yaml", stage_set({"sourceRef": {"name": "app"}}))],
        "spec.stages[0].name is ''",
        "spec.stages[0].name",
    ),
    "a stage's name": (
        [at("s.yaml", stage_set({"name": "A/b", "sourceRef": {"name": "app"}}))],
        "spec.stages[0].name is 'A/b'",
        "spec.stages[0].name",
    ),
    "a repeated name": (
        [at("s.yaml", stage_set("app", "app"))],
        "spec.stages[1].name repeats 'app', the name of spec.stages[0]",
        "spec.stages[1].name",
    ),
    "a source without a name": (
        [at("s.yaml", stage_set({"name": "a", "sourceRef": {}}))],
        "spec.stages[0].sourceRef needs a name",
        "spec.stages[0].sourceRef",
    ),
    "an unknown source": (
        [at("s.yaml", stage_set("secrets", "nothing")), APP, DB, KEY],
        "spec.stages[1].sourceRef.name: unknown source 'nothing'",
        "spec.stages[1].sourceRef.name",
    ),
    "a source that no stage has": (
        [at("s.yaml", stage_set("app"), **{"krm-sops.dev/sources": "other=x"}), APP],
        "unknown source 'other'",
        "metadata.annotations.krm-sops.dev/sources",
    ),
    "a source outside": (
        [at("s.yaml", stage_set("app"), **{"krm-sops.dev/sources": "app=/etc"}), APP],
        "no path in the package",
        "metadata.annotations.krm-sops.dev/sources",
    ),
    "a stage without a manifest": (
        [at("s.yaml", stage_set({"name": "a", "sourceRef": {"name": "app"}, "path": "x"})), APP],
        "the stage a has no manifest file below ./app/x",
        "spec.stages[0].path",
    ),
    "a path that leads out": (
        [at("s.yaml", stage_set({"name": "a", "sourceRef": {"name": "app"}, "path": "../secrets"})), APP, DB],
        "spec.stages[0].path leads out of its source",
        "spec.stages[0].path",
    ),
    "an item in two stages": (
        [at("s.yaml", stage_set(*TWO_STAGES, decryption=None)), at("app/in/x.yaml", config_map("x"))],
        "app/in/x.yaml: ConfigMap/shop/x is in two stages: shop/shop: stage one and shop/shop: stage two",
        "spec.stages[1].path",
    ),
    "a cycle": (
        [*CYCLE, at("a/x.yaml", config_map("x"))],
        "the StageSets wait for each other: shop/a -> shop/b -> shop/c -> shop/a",
        "spec.dependsOn",
    ),
    "itself": (
        [at("s.yaml", stage_set("app", dependsOn=[{"name": "shop"}])), APP],
        "shop/shop -> shop/shop",
        "spec.dependsOn",
    ),
    "the same twice": (
        [at("s.yaml", stage_set("app")), at("t.yaml", stage_set("app")), APP],
        "t.yaml: StageSet/shop/shop: metadata.name: the StageSet shop/shop is there twice",
        "metadata.name",
    ),
    "another provider": (
        [at("s.yaml", stage_set("app", decryption={"provider": "vault"})), APP],
        "spec.decryption.provider is 'vault'",
        "spec.decryption.provider",
    ),
    "an engine that is none": (
        [at("s.yaml", stage_set("app", emit="helm")), APP],
        "krm-sops.dev/emit is 'helm'; allowed: argocd, kpt, flux",
        "metadata.annotations.krm-sops.dev/emit",
    ),
    "a wave that is no number": (
        [at("s.yaml", stage_set("app", emit="argocd")), at("app/a.yaml", config_map("a"), **{WAVE: "x"})],
        "is 'x', no whole number",
        f"metadata.annotations.{WAVE}",
    ),
    "no key Secret": ([at("s.yaml", stage_set("secrets")), DB], "secretRef: no Secret of the name 'sops-keys'", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_an_error_with_file_and_field_and_nothing_changes(name):
    items, message, field = REFUSED[name]
    done = Outcome(*items)
    assert done.status == 1
    assert message in done.errors()[0]
    wrong = next(result for result in done.results if result.severity == "error")
    assert wrong.field == field
    assert wrong.item.file.endswith(".yaml")
    kept = [item for item in items if item["metadata"]["name"] != "sops-keys"]
    assert [item for item in done.everything if "app/" not in str(item["metadata"].get("x"))] == kept


def test_without_any_file_the_error_says_how_to_get_them():
    done = Outcome(stage_set("app", decryption=None), config_map("a"))
    assert "do not say which files" in done.errors()[0]
    assert "originAnnotations" in next(result.hint for result in done.results if result.is_error)


def test_under_kustomize_origins_say_the_stage_and_are_asked_for():
    config = stage_set("app", emit="argocd", decryption=None)
    config["metadata"]["annotations"]["config.kubernetes.io/function"] = "exec: {path: krm-sops}"
    named = config_map("a")
    named["metadata"]["annotations"] = {"config.kubernetes.io/origin": "path: app/a.yaml\n"}
    generated = config_map("b")
    generated["metadata"]["annotations"] = {
        "config.kubernetes.io/origin": "configuredIn: app/kustomization.yaml\nconfiguredBy:\n  kind: X\n"
    }
    done = Outcome(named, generated, config=config)
    assert (done.errors(), done.note("a", STAGE), done.note("b", WAVE)) == ([], "app", "10")
    done = Outcome(named, config_map("c"), config=config)
    assert "c: does not say which file it comes from" in done.errors()[0]


# Laws


NAMES = st.sampled_from("abcdef")


@st.composite
def packages(draw):
    """StageSets that depend on each other without a cycle, and items in and out of their stages."""
    count = draw(st.integers(1, 4))
    sets, folders = [], []
    for number in range(count):
        stages = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
        depends = draw(st.lists(st.integers(0, number - 1), unique=True)) if number else []
        named = [{"name": stage, "sourceRef": {"name": f"s{number}"}, "path": stage} for stage in stages]
        spec = stage_set(*named, name=f"set{number}", dependsOn=[{"name": f"set{n}"} for n in depends], decryption=None)
        spec["metadata"]["annotations"]["krm-sops.dev/emit"] = draw(st.sampled_from(["argocd", "kpt"]))
        sets.append((spec, depends))
        folders += [f"s{number}/{stage}" for stage in stages]
    if len({spec["metadata"]["annotations"]["krm-sops.dev/emit"] for spec, _ in sets}) > 1:
        for spec, _ in sets:
            spec["metadata"]["annotations"]["krm-sops.dev/emit"] = "argocd"
    files = folders + draw(st.lists(st.sampled_from([*folders, "elsewhere", "s0"]), max_size=8))
    items = [at(f"{file}/{at_}.yaml", config_map(f"i{at_}")) for at_, file in enumerate(files)]
    objects = [at(f"{spec['metadata']['name']}.yaml", spec) for spec, _ in sets] + items
    return sets, draw(st.permutations(objects))


@settings(max_examples=60, deadline=None)
@given(packages())
def test_the_order_is_a_topological_order_and_each_item_is_in_one_stage_or_told(package):
    sets, objects = package
    done = Outcome(*objects)
    assert done.errors() == []
    places = {}
    for position, item in enumerate(done.items):
        file = item["metadata"]["annotations"].get("internal.config.kubernetes.io/path", "")
        match = re.fullmatch(r"s(\d)/(\w)/\d+\.yaml", file)
        if match and STAGE in item["metadata"]["annotations"]:
            assert item["metadata"]["annotations"][STAGE] == match[2]
            places.setdefault((int(match[1]), match[2]), []).append((position, item))
        elif file:
            name = item["metadata"]["name"]
            assert any(
                result.item.name == name and result.reason == "InNoStage" for result in done.results if result.item
            )
    for number, (spec, depends) in enumerate(sets):
        names = [stage["name"] for stage in spec["spec"]["stages"]]
        pairs = [((number, one), (number, other)) for one, other in pairwise(names)]
        pairs += [((n, sets[n][0]["spec"]["stages"][-1]["name"]), (number, names[0])) for n in depends]
        for one, other in pairs:
            assert max(places[one])[0] < min(places[other])[0]
            if spec["metadata"]["annotations"]["krm-sops.dev/emit"] == "argocd":
                assert max(wave(item) for _, item in places[one]) < min(wave(item) for _, item in places[other])
    assert sorted(item["metadata"]["name"] for item in objects if item["kind"] != "StageSet") == sorted(
        name for name in done.names() if not name.startswith("krm-sops-stage-")
    )


def wave(item):
    return int(item["metadata"]["annotations"][WAVE])


# The list in another order


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("style", ["block", "indented", "flow", "json"])
def test_a_list_is_written_in_another_order(style, exact):
    items = [config_map(name) for name in "abc"]
    whole = {"apiVersion": "config.kubernetes.io/v1", "kind": "ResourceList", "items": items}
    text = {
        "block": lambda: yaml.safe_dump(whole),
        "indented": lambda: (
            "items:\n"
            + re.sub("^", "  ", yaml.safe_dump(items), flags=re.MULTILINE).rstrip(" ")
            + "kind: ResourceList\n"
        ),
        "flow": lambda: yaml.safe_dump(whole, default_flow_style=True),
        "json": lambda: __import__("json").dumps(whole),
    }[style]()
    list_ = ResourceList(text.encode(), FUNCTION, exact=exact)
    if not exact and style == "block":
        with pytest.raises(NotPlainError):  # the fast reader hands over to the exact one
            list_.items  # noqa: B018
        with pytest.raises(NotPlainError):
            list_.write(order=[])
        return
    given_items = list_.items
    given_items[0].annotate("x", "y")
    order = [given_items[2], given_items[0], given_items[1]]
    out = yaml.safe_load(list_.write(order=order))["items"]
    assert [item["metadata"]["name"] for item in out] == ["c", "a", "b"]
    assert out[1]["metadata"]["annotations"] == {"x": "y"}


def test_items_that_share_an_anchor_cannot_change_places():
    text = "kind: ResourceList\nitems:\n- &a {kind: A, metadata: {name: a}}\n- {kind: B, metadata: {name: b}, x: *a}\n"
    list_ = ResourceList(text.encode(), FUNCTION, exact=True)
    assert list_.write(order=list_.items) == text.encode()
    with pytest.raises(Exception, match="an alias repeats what stands in another item"):
        list_.write(order=list_.items[::-1])
