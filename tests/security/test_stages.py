"""StageSets against those who write them, and against each other."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from krm_sops.host import Host
from krm_sops.verbs import stages
from tests.security import made
from tests.stagesets import Outcome, at, config_map, key_secret, secret, stage_set

IDENTITIES = {"a": made.IDENTITY, "b": made.OTHER_IDENTITY}


def two_tenants(order):
    """Two StageSets in two namespaces, with key Secrets of one name; B holds a copy of A's document."""
    found = {}
    for name, identity in IDENTITIES.items():
        found[f"set {name}"] = at(f"{name}.yaml", stage_set(f"src-{name}", name=name, namespace=name))
        found[f"key {name}"] = at(f"key-{name}.yaml", key_secret(name, identity))
    found["own"] = at("src-a/db.yaml", secret("db", "a"))
    found["copy"] = at("src-b/db.yaml", secret("db", "a"))
    return [found[name] for name in order]


ORDERS = [
    ("set a", "set b", "key a", "key b", "own", "copy"),
    ("set b", "set a", "key b", "key a", "copy", "own"),
    ("copy", "own", "key b", "set b", "set a", "key a"),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("config", ["set a", "set b"])
def test_key_secrets_of_one_name_in_two_namespaces_open_only_their_own(order, config):
    """S5, S12: in both orders, with the data key opened before by its owner."""
    items = two_tenants(order)
    done = Outcome(*items, config=items[order.index(config)])
    assert done.status == 1
    (wrong,) = [result for result in done.results if result.is_error]
    assert (wrong.reason, wrong.item.file) == ("NoUsableKey", "src-b/db.yaml")
    assert "plain-of-password" not in done.text
    assert made.IDENTITY not in done.text
    assert made.OTHER_IDENTITY not in done.text


@pytest.mark.parametrize("order", ORDERS)
def test_each_opens_what_is_its_own(order):
    """S12: the same package without the copy."""
    items = [item for name, item in zip(order, two_tenants(order), strict=True) if name != "copy"]
    items.append(at("src-b/x.yaml", config_map("x", "b")))
    done = Outcome(*items)
    assert (done.status, done.errors()) == (0, [])
    assert done.item("db")["stringData"] == made.PLAIN["stringData"]


def test_a_key_secret_of_another_namespace_is_none():
    """S12."""
    done = Outcome(at("s.yaml", stage_set("app")), at("app/db.yaml", secret()), at("key.yaml", key_secret("other")))
    assert "no Secret of the name 'sops-keys' in the namespace 'shop'" in done.errors()[0]
    assert made.IDENTITY not in done.text


def test_an_encrypted_item_outside_of_the_stages_is_not_opened():
    done = Outcome(
        at("s.yaml", stage_set("app")),
        at("app/c.yaml", config_map("c")),
        at("db.yaml", secret()),
        at("key.yaml", key_secret()),
    )
    assert done.status == 0
    assert done.item("db") == at("db.yaml", secret())


@pytest.mark.parametrize("broken", [{"stages": []}, {"stages": [{"name": "x", "sourceRef": {"name": "none"}}]}])
def test_no_key_leaves_on_a_failure_whatever_fails(broken):
    """S11."""
    whole = stage_set("app")
    whole["spec"].update(broken)
    whole["spec"]["decryption"]["secretRef"]["name"] = "other-keys"
    good = at("t.yaml", stage_set("app", name="other", namespace="team"))
    items = [good, at("s.yaml", whole), at("app/db.yaml", secret()), at("key.yaml", key_secret(name="other-keys"))]
    done = Outcome(*items, at("key2.yaml", key_secret("team", made.OTHER_IDENTITY)))
    assert done.status == 1
    assert made.IDENTITY not in done.text
    assert made.OTHER_IDENTITY not in done.text


def test_rendering_in_place_is_refused_unless_the_stageset_allows_it():
    whole = stage_set("app")
    del whole["metadata"]["annotations"]["krm-sops.dev/allow-plaintext"]
    notes = {"internal.config.kubernetes.io/package-path": "/pkg"}
    done = Outcome(at("s.yaml", whole), at("app/db.yaml", secret(), **notes), at("key.yaml", key_secret()))
    assert done.status == 1
    assert "plain-of-password" not in done.text
    assert [result.reason for result in done.results if result.is_error] == ["PlaintextInPlace"]
    assert any("krm-sops.dev/allow-plaintext" in result.hint for result in done.results)


PATCH = {"patch": "- op: add\n  path: /metadata/labels\n  value: {a: b}\n", "target": {"kind": "Secret"}}


def patched(*items, host=None, patches=(PATCH,), **build):
    stage = {"name": "app", "sourceRef": {"name": "app"}, "patches": list(patches), "postBuild": {"substitute": build}}
    return Outcome(at("s.yaml", stage_set(stage)), *items, at("key.yaml", key_secret()), host=host)


def test_a_function_starts_no_program_that_nobody_allowed():
    """S1, S15."""
    done = patched(at("app/db.yaml", secret()))
    (wrong,) = [result for result in done.results if result.is_error]
    assert wrong.reason == "PolicyDenied"
    assert "executables in the policy" in wrong.hint


@pytest.fixture
def kustomize(tmp_path):
    """A host that may start kustomize, and notes what it was given."""
    real = shutil.which("kustomize", path=os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin"))))
    if real is None:
        pytest.skip("kustomize is not installed")
    script = tmp_path / "kustomize"
    script.write_text(f'#!/bin/sh\ncat "$2"/*.yaml >>{tmp_path}/seen\nexec {real} "$@"\n')
    script.chmod(0o755)
    return Host(env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, files={}, commands=("kustomize",)), tmp_path / "seen"


@pytest.mark.parametrize(("allowed", "status"), [("[kustomize]", 0), ("[gpg]", 1), ("[]", 1)])
def test_the_policy_says_whether_kustomize_may_be_started(kustomize, allowed, status):
    """S1."""
    policy = {"/etc/krm-sops/policy.yaml": f"executables: {allowed}\n".encode()}
    for commands in (False, ("kustomize",)):  # of a function, of the verb
        host = Host(env=kustomize[0].env, files=policy, commands=commands)
        assert patched(at("app/db.yaml", secret()), host=host).status == status


def test_kustomize_applies_patches_and_sees_no_secret(kustomize):
    host, seen = kustomize
    plain = config_map("plain")
    plain_secret = {
        **plain,
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "shop"},
        "data": {"k": "c2VjcmV0"},
    }
    untouched = at("app/c.yaml", config_map("c", x="1"))
    done = patched(at("app/db.yaml", secret()), at("app/s.yaml", plain_secret), untouched, host=host)
    assert done.errors() == []
    for name in ("db", "s"):
        assert done.item(name)["metadata"]["labels"] == {"a": "b"}
    assert done.item("db")["stringData"] == made.PLAIN["stringData"]
    assert "sops" not in done.item("db")
    assert done.item("s")["data"] == {"k": "c2VjcmV0"}
    given = seen.read_text()
    assert "kind: Secret" in given
    assert not any(text in given for text in ("plain-of-password", "c2VjcmV0", "ENC["))


def test_variables_in_what_was_patched_are_values_too(kustomize):
    """S32: also where kustomize rewrote the item."""
    host, _ = kustomize
    patch = {"patch": '- op: add\n  path: /data/y\n  value: "${v}"\n', "target": {"kind": "ConfigMap"}}
    items = at("app/a.yaml", config_map("a", x="${v}")), at("app/db.yaml", secret(password="${v}"))
    done = patched(*items, host=host, patches=(patch, PATCH), v="1\nb: 2")
    assert done.errors() == []
    assert done.item("a")["data"] == {"x": "1\nb: 2", "y": "1\nb: 2"}
    assert done.item("db")["stringData"] == {"password": "${v}"}


@pytest.mark.parametrize(
    "patch",
    ["- op: remove\n  path: /nothing\n", "{kind: [", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: none}\n"],
)
def test_a_patch_that_fails_is_an_error_with_its_field(kustomize, patch):
    done = patched(
        at("app/a.yaml", config_map("a")),
        host=kustomize[0],
        patches=({"patch": patch, "target": {"kind": "ConfigMap"}} if patch[0] == "-" else {"patch": patch},),
    )
    (wrong,) = [result for result in done.results if result.is_error]
    assert (wrong.reason, wrong.field) == ("InvalidConfig", "spec.stages[0].patches")
    assert "kustomize failed" in wrong.message


def test_a_patch_may_take_an_item_away(kustomize):
    patch = {"patch": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n$patch: delete\n"}
    done = patched(
        at("app/a.yaml", config_map("a")), at("app/b.yaml", config_map("b")), host=kustomize[0], patches=(patch,)
    )
    assert done.errors() == []
    assert done.names() == ["sops-keys", "b"]


HOSTILE = '</text><script>alert(1)</script>"]; click s0 "javascript:x"\n\x1b[31m\u202e'


@pytest.mark.parametrize("form", sorted(stages.FORMATS))
def test_names_cannot_leave_their_place_in_a_picture(form, tmp_path, capfdbinary):
    """S33."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "x.yaml").write_text(made.yaml({**config_map(HOSTILE), "kind": HOSTILE}))
    source = {"kind": HOSTILE, "name": "app"}
    whole = stage_set({"name": "app", "sourceRef": source}, decryption=None)
    (tmp_path / "s.yaml").write_text(made.yaml(whole))
    assert stages.main(["plan", "--format", form, str(tmp_path)]) == 0
    out = capfdbinary.readouterr().out.decode()
    assert not any(text in out for text in ("\x1b", "\u202e"))
    if form in ("svg", "mermaid"):
        assert "<script" not in out
        assert '"]; click' not in out


# An earlier revision


def git(folder, *arguments):
    names = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Two revisions of a package; its key Secret is not in git."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "repository" / "deploy"
    (folder / "app").mkdir(parents=True)
    git(folder.parent, "init", "--quiet")
    (folder / "s.yaml").write_text(made.yaml(stage_set("app")))
    for number in (1, 2):
        (folder / "app" / "db.yaml").write_text(made.yaml(secret(password=f"revision-{number}")))
        git(folder.parent, "add", "--all")
        git(folder.parent, "commit", "--quiet", "--message", str(number))
    (folder / "key.yaml").write_text(made.yaml(key_secret()))
    monkeypatch.chdir(folder)
    return folder


def rendered(capfdbinary, *arguments):
    try:
        status = stages.main(["render", *arguments])
        said = ""
    except Exception as error:  # noqa: BLE001 - cli.main tells it
        status, said = 1, f"{type(error).__name__}: {error} "
    out, err = capfdbinary.readouterr()
    return status, out.decode(), said + err.decode()


def test_an_earlier_revision_is_decrypted_again(package, capfdbinary):
    status, out, err = rendered(capfdbinary, "--revision", "HEAD")
    assert (status, err) == (0, "")
    assert "revision-2" in out
    git(package, "tag", "before", "HEAD~1")
    status, out, _ = rendered(capfdbinary, "--revision", "before")
    assert status == 0
    assert "revision-1" in out
    assert made.IDENTITY not in out


def test_without_todays_key_an_earlier_revision_is_not_available(package, capfdbinary):
    """S31: also where git still has the key."""
    git(package, "add", "key.yaml")
    git(package, "commit", "--quiet", "--message", "key")
    (package / "key.yaml").unlink()
    status, out, err = rendered(capfdbinary, "--revision", "HEAD")
    assert (status, out) == (1, "")
    assert "PreviousRevisionUnavailable" in err
    (package / "key.yaml").write_text(made.yaml(key_secret(identity=made.OTHER_IDENTITY)))
    status, out, err = rendered(capfdbinary, "--revision", "HEAD")
    assert (status, out) == (1, "")
    assert "PreviousRevisionUnavailable" in err


@pytest.mark.parametrize("name", ["nothing", "HEAD.lock", "refs/heads/none", "0" * 40])
def test_a_revision_that_is_gone_is_not_available(package, capfdbinary, name):
    status, out, err = rendered(capfdbinary, "--revision", name)
    assert (status, out) == (1, "")
    assert "PreviousRevisionUnavailable" in err


@pytest.mark.parametrize("name", ["--output=x", "-h", "", "HEAD~1", "a b", "a:b", "$(x)", "HEAD@{1}", "a\n", "x" * 300])
def test_a_name_that_is_no_revision_is_refused_before_git_is_asked(package, capfdbinary, name, monkeypatch):
    """S31."""
    monkeypatch.setattr(Host, "run", lambda *_, **__: pytest.fail("git was started"))
    status, out, err = rendered(capfdbinary, f"--revision={name}")
    assert (status, out) == (1, "")
    assert "ConfigError: --revision is " in err


def test_neither_hooks_nor_filters_nor_a_repositorys_programs_run(package, capfdbinary, tmp_path):
    """S31, S15."""
    marker = tmp_path / "ran"
    hook = package.parent / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    for name in (
        "core.fsmonitor",
        "filter.x.smudge",
        "core.sshCommand",
        "core.pager",
        "diff.external",
        "core.gitProxy",
    ):
        git(package, "config", name, f"touch {marker}")
    git(package, "config", "alias.ls-tree", f"!touch {marker}")
    (package / ".gitattributes").write_text("*.yaml filter=x\n")
    status, out, _ = rendered(capfdbinary, "--revision", "HEAD")
    assert status == 0
    assert "revision-2" in out
    assert not marker.exists()


def test_links_of_a_revision_are_not_followed(package, capfdbinary, tmp_path):
    """S2, S31."""
    (tmp_path / "outside.yaml").write_text(made.yaml(config_map("outside")))
    (package / "app" / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    git(package, "add", "--all")
    git(package, "commit", "--quiet", "--message", "link")
    (package / "app" / "link.yaml").unlink()
    status, out, _ = rendered(capfdbinary, "--revision", "HEAD")
    assert status == 0
    assert "outside" not in out
