"""functions/: one page and one metadata.yaml per function, as kpt's catalog has them, and what they say is true.

UPDATE=1 rewrites the help text in the pages.
"""

from __future__ import annotations

import os
import re
from textwrap import indent
from typing import TYPE_CHECKING

import pytest
import yaml

from krm_sops.cli import HELP
from krm_sops.functions import check, decrypt, encrypt, generate_plan, run, template_plan
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.stages import spec
from tests.e2e.clients import EXAMPLES, IMAGE, KEY, PASSWORD, ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = [folder for folder in sorted((ROOT / "functions").iterdir()) if folder.is_dir()]
PAGES = [*(folder / "README.md" for folder in FOLDERS), ROOT / "docs" / "kpt.md", ROOT / "docs" / "kustomize.md"]
DECRYPTING = ("ConfigMap", "Secret", "SopsDecrypt")
FIELDS = {
    "sops-decrypt": decrypt._SPEC,
    "sops-check": check.SPEC,
    "sops-encrypt": encrypt.SPEC,
    "sops-generator": generate_plan.SPEC,
    "sops-template": template_plan.SPEC,
    "stageset": (*spec.SPEC, *spec.CONTROLLERS),
}
"""By the folder of the function: the fields of its config's spec."""


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def configs(page: Path, *kinds: str) -> list[str]:
    """The functionConfigs of these kinds that a page shows."""
    return [block for block in fenced(page.read_text(), "yaml") if yaml.safe_load(block).get("kind") in kinds]


def stream(config: str, *items: str) -> bytes:
    text = (
        "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nfunctionConfig:\n" + indent(config, "  ") + "items:\n"
    )
    return (text + "".join("- " + indent(item, "  ").lstrip() for item in items)).encode()


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request) -> Path:
    return request.param


def test_the_metadata_is_complete_and_points_at_what_exists(folder):
    metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert set(metadata) == {"image", "description", "tags", "sourceURL", "examplePackageURLs", "license"}
    assert metadata["image"] == IMAGE
    assert set(metadata["tags"]) <= {"mutator", "validator", "generator"}
    assert ROOT / metadata["sourceURL"] == folder
    assert all((ROOT / example / "run.sh").is_file() for example in metadata["examplePackageURLs"])
    assert f'image.licenses="{metadata["license"]}"' in (ROOT / "Dockerfile").read_text()


def test_the_image_is_the_one_that_make_builds_and_no_page_or_example_names_another():
    tag = re.search(r"build --tag (\S+)", (ROOT / "Makefile").read_text())
    assert tag
    assert tag[1] in (IMAGE, IMAGE.removeprefix("localhost/"))  # where podman puts a name without a registry
    documents = [*PAGES, *EXAMPLES.glob("*/*.yaml"), *EXAMPLES.glob("*/Kptfile.example"), *EXAMPLES.glob("**/*.md")]
    text = "\n".join(file.read_text() for file in documents)
    assert set(re.findall(r"image:? (\S*krm-sops[^\s`]*)", text)) == {IMAGE}


def test_the_page_has_the_parts_that_mdtogo_reads(folder):
    marks = re.findall(r"<!--mdtogo(:\w+)?-->", (folder / "README.md").read_text())
    assert marks == [":Short", "", ":Long", "", ":Examples", ""]


def test_the_page_lists_the_fields_of_the_config(folder):
    cells = re.findall(r"^\| (`.*?) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert {re.split(r"\W", name)[0] for cell in cells for name in re.findall("`(.*?)`", cell)} == set(
        FIELDS[folder.name]
    )


def test_the_page_shows_the_help(folder):
    page = folder / "README.md"
    text = page.read_text()
    shown = fenced(text, "text")[-1]
    if os.environ.get("UPDATE") == "1":
        page.write_text(text.replace(shown, HELP))
        shown = HELP
    assert shown == HELP


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_config_on_a_page_decrypts(page):
    found = configs(page, *DECRYPTING)
    assert found or page.parent.name not in ("sops-decrypt", "docs")
    for config in found:
        namespace = yaml.safe_load(config)["metadata"].get("namespace", "")
        key_secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-keys", "namespace": namespace}}
        items = [(EXAMPLES / "hello" / "secret.enc.yaml").read_text()]
        items.append(yaml.safe_dump(key_secret | {"stringData": {"shop.agekey": KEY}}))
        host = Host(env={"SHOP_AGE_KEY": KEY}, files={"/keys/shop.agekey": KEY.encode()})
        output, results, status = run(stream(config.replace("AGE-SECRET-KEY-1...", KEY), *items), host, FUNCTION)
        assert (status, [result.line() for result in results]) == (0, []), config
        assert PASSWORD in output.decode()


def test_every_config_of_the_gate_on_a_page_is_one():
    item = (EXAMPLES / "hello" / "secret.enc.yaml").read_text()
    found = configs(ROOT / "functions" / "sops-check" / "README.md", "SopsCheck")
    found += configs(ROOT / "docs" / "check.md", "SopsCheck")
    for config in found:
        results = run(stream(config, item), Host(env={}, files={}), FUNCTION)[1]
        expected = ["StillEncrypted"] if "expect: decrypted" in config else []
        assert [result.reason for result in results] == expected
    assert len(found) == 3


def test_every_config_of_a_generator_on_a_page_generates(monkeypatch):
    monkeypatch.chdir(EXAMPLES / "kustomize-generator")
    found = configs(ROOT / "functions" / "sops-generator" / "README.md", "SopsGenerator")
    found += configs(ROOT / "docs" / "generators.md", "SopsGenerator")
    for config in found:
        output, results, status = run(stream(config), Host(env={"SOPS_AGE_KEY": KEY}), FUNCTION)
        assert (status, [result.line() for result in results]) == (0, [])
        assert [item["metadata"]["name"] for item in yaml.safe_load(output)["items"]] == ["database", "settings"]
    assert len(found) == 2


def test_the_config_of_sops_encrypt_on_its_page_encrypts():
    [config] = configs(ROOT / "functions" / "sops-encrypt" / "README.md", "SopsEncrypt")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "stringData": {"a": PASSWORD}}
    secret["metadata"]["annotations"] = {"internal.config.kubernetes.io/path": "secret_made.yaml"}
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-keys"}, "stringData": {"a.agekey": KEY}}
    host = Host(env={}, files={})
    output, results, status = run(stream(config, yaml.safe_dump(secret), yaml.safe_dump(keys)), host, FUNCTION)
    assert (status, [result.line() for result in results]) == (0, [])
    assert PASSWORD not in output.decode()


def test_every_config_of_a_template_on_a_page_renders(monkeypatch):
    monkeypatch.chdir(EXAMPLES / "kustomize-template")
    found = configs(ROOT / "functions" / "sops-template" / "README.md", "SopsTemplate")
    found += configs(ROOT / "docs" / "templates.md", "SopsTemplate")
    for config in found:
        output, results, status = run(stream(config), Host(env={"SOPS_AGE_KEY": KEY}), FUNCTION)
        assert (status, [result.line() for result in results]) == (0, [])
        assert [item["metadata"]["name"] for item in yaml.safe_load(output)["items"]] == ["shop-config"]
    assert len(found) == 2
