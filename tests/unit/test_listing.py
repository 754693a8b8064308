"""Which files are encrypted that a build reads: what decides whether krm-sops is to build a folder."""

from __future__ import annotations

import base64
import copy
from typing import TYPE_CHECKING

import pytest

from krm_sops import cli
from krm_sops.limits import FUNCTION
from krm_sops.verbs.listing import encrypted_files
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

SECRET = made.yaml(made.encrypted())
PLAIN = made.yaml(made.PLAIN)
KSOPS = "apiVersion: viaduct.ai/v1\nkind: ksops\nmetadata:\n  name: secrets\nfiles: [./secret.enc.yaml]\n"
DOTENV = "A=ENC[AES256_GCM,data:x]\nsops_mac=ENC[AES256_GCM,data:x]\nsops_version=3.13.3\n"


def tree(root: Path, **files: str) -> Path:
    """files: by their paths, with __ for a slash and _ for a dot."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def listed(root: Path, start: str = ".") -> list[str]:
    return encrypted_files(str(root), start, FUNCTION)


def test_manifests_of_a_folder_and_below_it_are_found_by_what_they_hold(tmp_path):
    tree(tmp_path, a_yaml=SECRET, b_yaml=PLAIN, c__d_yml=PLAIN + "---\n" + SECRET, c__readme_md=SECRET)
    assert listed(tmp_path) == ["a.yaml", "c/d.yml"]
    assert listed(tmp_path, "c") == ["c/d.yml"]
    assert listed(tmp_path, "a.yaml") == ["a.yaml"]
    assert listed(tmp_path, "b.yaml") == []


def test_the_word_alone_is_no_encryption(tmp_path):
    about = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: sops\ndata:\n  sops: 'mac: ENC[AES256_GCM,data:x]'\n"
    tree(tmp_path, a_yaml=about, b_yaml="sops: [\n")
    assert listed(tmp_path) == []


def test_what_is_decrypted_only_where_a_config_asks_for_it_does_not_count(tmp_path):
    operators = {**made.encrypted(), "apiVersion": "isindir.github.com/v1alpha3", "kind": "SopsSecret"}
    disabled = copy.deepcopy(made.encrypted())
    disabled["metadata"]["annotations"] = {"krm-sops.dev/decrypt": "disabled"}
    assert listed(tree(tmp_path, a_yaml=made.yaml(operators), b_yaml=made.yaml(disabled))) == []


def test_a_document_inside_of_a_secrets_data_is_found(tmp_path):
    inner = base64.b64encode(SECRET.encode()).decode()
    wrapped = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  config.yaml: {inner}\n"
    assert listed(tree(tmp_path, a_yaml=wrapped)) == ["a.yaml"]


def test_a_kustomization_leads_to_bases_components_and_inputs(tmp_path):
    tree(
        tmp_path,
        overlay__kustomization_yaml=(
            "resources: [../base, https://example.com/remote, missing.yaml]\n"
            "components: [../component]\n"
            "patches: [{path: patch.yaml}]\n"
            "secretGenerator: [{name: a, files: [key=../inputs/file.json], envs: [../inputs/some.env]}]\n"
        ),
        overlay__patch_yaml=SECRET,
        overlay__unused_yaml=SECRET,
        base__kustomization_yaml="resources: [secret.yaml, plain.yaml, ../base]\n",
        base__secret_yaml=SECRET,
        base__plain_yaml=PLAIN,
        component__kustomization_yaml="kind: Component\nresources: [more.yaml]\n",
        component__more_yaml=SECRET,
        inputs__file_json="{}",
        inputs__some_env=DOTENV,
    )
    found = ["base/secret.yaml", "component/more.yaml", "inputs/some.env", "overlay/patch.yaml"]
    assert listed(tmp_path, "overlay") == found
    assert listed(tmp_path, "component") == ["component/more.yaml"]


@pytest.mark.parametrize("field", ["generators", "transformers"])
def test_a_config_of_one_of_our_functions_is_enough(tmp_path, field):
    tree(tmp_path, file__kustomization_yaml=f"{field}: [ksops.yaml]\n", file__ksops_yaml=KSOPS)
    inline = "".join(f"    {line}\n" for line in KSOPS.splitlines())
    tree(tmp_path, inline__kustomization_yaml=f"{field}:\n  - |\n{inline}")
    assert listed(tmp_path, "file") == ["file/ksops.yaml"]
    assert listed(tmp_path, "inline") == ["inline/kustomization.yaml"]


@pytest.mark.parametrize("reference", ["../../secret.yaml", "/{root}/secret.yaml", "link.yaml", "folder"])
def test_nothing_outside_of_the_root_is_looked_at(tmp_path, reference):
    """S2"""
    tree(tmp_path, secret_yaml=SECRET)
    root = tmp_path / "root"
    given = reference.format(root=tmp_path).lstrip("/") if reference[0] != "/" else f"{tmp_path}/secret.yaml"
    tree(root, app__kustomization_yaml=f"resources: [{given}]\n")
    (root / "app" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (root / "app" / "folder").symlink_to(tmp_path)
    assert listed(root, "app") == []


def test_the_verb_names_files_from_the_working_folder_and_exits_0_where_there_is_none(tmp_path, monkeypatch, capfd):
    tree(tmp_path, app__kustomization_yaml="resources: [../base]\n", base__kustomization_yaml="resources: [a.yaml]\n")
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    for content, said in ((PLAIN, ""), (SECRET, "../base/a.yaml\n")):
        tree(tmp_path, base__a_yaml=content)
        assert cli.main(["krm-sops", "explain", "--list", "."]) == 0
        assert capfd.readouterr() == (said, "")
