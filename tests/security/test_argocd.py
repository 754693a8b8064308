"""S4: what the sidecar's policy, as deploy/argocd ships it, holds against whoever writes repositories and Applications.

The AAD of a value is only a key path: whoever has a file rendered under a key can paste another team's ciphertext into
it. So the keys that are there are those of the Application's project.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import krm_sops
from krm_sops.limits import FUNCTION
from krm_sops.policyfile import PolicyFile
from tests.security.test_authority import (
    A_KEY,
    B_KEY,
    decrypt,
    document,
    function,
    key_secret,
    opened,
    reasons,
    referring,
)

if TYPE_CHECKING:
    from krm_sops.krm.results import Result

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy" / "argocd"
POLICY = (DEPLOY / "sidecar" / "policy.yaml").read_text()
KEYS = {"/keys/a/team.agekey": A_KEY.encode(), "/keys/b/team.agekey": B_KEY.encode()}
PROJECT = "ARGOCD_APP_PROJECT_NAME"


def rendered(
    project: str, *items: Any, env: dict[str, str] | None = None, files: dict[str, bytes] | None = None, **options: Any
) -> tuple[dict[str, Any], list[Result], int]:
    """An application of a project, under the shipped policy, with the keys of projects a and b."""
    given = {PROJECT: project} if project else {}
    return function(*items, policy=POLICY, env=given | (env or {}), files={**KEYS, **(files or {})}, **options)


def test_the_shipped_policy_is_the_one_that_the_rule_asks_for():
    found = PolicyFile(POLICY.encode(), "policy.yaml", FUNCTION)
    assert (found.mac, found.ambient, found.key_sources) == ("strict", "never", ["folder"])
    assert found.key_folder == "/keys/{ARGOCD_APP_PROJECT_NAME}"
    assert found.root is None


def test_a_projects_application_is_rendered_with_its_projects_keys():
    for project, identity in (("a", A_KEY), ("b", B_KEY)):
        output, results, status = rendered(project, document(identity=identity))
        assert (opened(output), results, status) == ([True], [], 0)


def test_another_projects_file_does_not_open():
    output, results, status = rendered("b", document(identity=A_KEY))
    assert (opened(output), reasons(results), status) == ([False], [("error", "NoUsableKey")], 1)


def test_ciphertext_pasted_into_a_file_of_ones_own_does_not_open():
    """Its wrapped data key comes along, or the data key is another one."""
    stolen, own = document(identity=A_KEY), document(identity=B_KEY)
    mixed = copy.deepcopy(own)
    mixed["sops"]["age"] += stolen["sops"]["age"]
    mixed["stringData"]["password"] = stolen["stringData"]["password"].replace(
        "ENC[AES256_GCM,data:", "ENC[AES256_GCM,data:AA"
    )
    output, _, status = rendered("b", mixed)
    assert (opened(output), status) == ([False], 1)


@pytest.mark.parametrize("project", ["../a", "b/../a", "a/", "/keys/a", "..", ".", "", "a\0"])
def test_a_project_name_that_is_no_folder_name_is_refused(project):
    output, results, status = rendered(project, document())
    assert (opened(output), reasons(results), status) == ([False], [("error", "InvalidConfig")], 1)
    assert "which is not set to one path component" in results[0].message


def test_a_project_without_keys_is_told_so():
    output, results, status = rendered("c", document())
    assert (opened(output), reasons(results), status) == ([False], [("error", "InvalidConfig")], 1)
    assert results[0].message.startswith("the key folder /keys/c cannot be listed")


def test_no_key_of_a_repository_counts():
    """Else its author could have chosen one that opens what was encrypted for somebody else."""
    given = (
        {"config": referring()},
        {"config": key_secret(A_KEY)},
        {"config": decrypt(keys=[{"file": "/keys/a/team.agekey"}])},
        {"config": decrypt(keys=[{"value": A_KEY}])},
        {"config": decrypt(keys=[{"env": "SOME_KEY"}]), "env": {"SOME_KEY": A_KEY}},
    )
    for options in given:
        output, results, status = rendered("b", document(), key_secret(A_KEY), **options)
        assert (opened(output), status) == ([False], 1)
        assert "PolicyDenied" in {result.reason for result in results}


def test_no_ambient_key_counts():
    files = {"/keys/a/ambient.txt": A_KEY.encode()}
    for env in ({"SOPS_AGE_KEY": A_KEY}, {"SOPS_AGE_KEY_FILE": "/keys/a/ambient.txt"}):
        output, results, status = rendered("b", document(), env=env, files=files)
        assert (opened(output), reasons(results), status) == ([False], [("error", "NoUsableKey")], 1)
    _, results, _ = rendered("b", document(), config=decrypt(ambient="always"))
    assert reasons(results) == [("error", "PolicyDenied")]


def test_a_mac_is_checked_strictly_whatever_the_repository_asks_for():
    changed = document()
    changed["metadata"]["labels"] = {"added": "later"}
    for config in (None, decrypt(mac="auto")):
        output, results, status = rendered("a", changed, config=config)
        assert (opened(output), reasons(results), status) == ([False], [("error", "MacMismatch")], 1)
    _, results, _ = rendered("a", changed, config=decrypt(mac="tags"))
    assert reasons(results) == [("error", "PolicyDenied")]


def test_parameters_and_variables_of_an_application_change_nothing():
    """Argo CD names them PARAM_… and ARGOCD_ENV_…: each name that the program reads, with such a prefix."""
    sources = Path(krm_sops.__file__).parent.rglob("*.py")
    names = sorted(
        {name for file in sources for name in re.findall(r"[\"']([A-Z][A-Z0-9]*_[A-Z0-9_]+)[\"']", file.read_text())}
    )
    assert {"KRM_SOPS_KEY_DIR", "SOPS_AGE_KEY", "ARGOCD_APP_SOURCE_PATH"} <= set(names)
    values = {"KRM_SOPS_KEY_DIR": "/keys/a", "SOPS_AGE_KEY": A_KEY, PROJECT: "a"}
    env = {
        f"{prefix}{name}": values.get(name, "/keys/a")
        for prefix in ("PARAM_", "ARGOCD_ENV_", "PARAM_ARGOCD_APP_")
        for name in [*names, PROJECT, "MAC", "ROOT", "KEYS", "KEY_FILE", "AMBIENT", "POLICY"]
    }
    before = rendered("b", document())
    after = rendered("b", document(), env=env | {"ARGOCD_APP_PARAMETERS": '[{"name": "mac", "string": "tags"}]'})
    assert (after[0], after[2]) == (before[0], before[2])
    assert reasons(after[1]) == reasons(before[1]) == [("error", "NoUsableKey")]


def test_the_key_folder_of_the_environment_does_not_replace_the_policys():
    _, results, status = rendered("b", document(), env={"KRM_SOPS_KEY_DIR": "/keys/a"})
    assert (reasons(results), status) == ([("error", "PolicyDenied")], 1)


def test_the_plugin_gives_applications_nothing_to_choose_and_sends_commands_nothing_of_theirs():
    plugin = yaml.safe_load((DEPLOY / "sidecar" / "plugin.yaml").read_text())["spec"]
    assert plugin["parameters"] == {"static": []}
    assert plugin["discover"]["find"]["args"] == ["explain", "--list", "."]
    assert plugin["generate"]["args"] == ["render", "."]
    assert plugin["generate"]["command"] == plugin["discover"]["find"]["command"]
    assert "init" not in plugin
    assert "$" not in str(plugin)
