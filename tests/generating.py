"""Folders with encrypted files for generators, and the function run in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

    from krm_sops.krm.results import Result

FUNCTION_ANNOTATION = {"config.kubernetes.io/function": "exec: {path: krm-sops}"}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db"},
    "stringData": {"user": "plain-of-user", "password": "plain-of-password"},
}
KEYS = {"SOPS_AGE_KEY": made.IDENTITY}
"""The environment in which the files made here open."""


def binary(content: str | bytes) -> str:
    """Any content, as sops encrypts what has no format."""
    return json.dumps(made.encrypted({"data": content}))


def put(path: Path, content: Any) -> None:
    """content: an object, encrypted as YAML; a text, encrypted as a file without a format; bytes, as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(binary(content))
    else:
        path.write_text(made.yaml(made.encrypted(content)))


def own(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "krm-sops.dev/v1alpha1",
        "kind": "SopsGenerator",
        "metadata": {"name": "g", "annotations": FUNCTION_ANNOTATION},
        "spec": spec,
    }


def ksops(**fields: Any) -> dict[str, Any]:
    metadata = {"name": "g", "annotations": FUNCTION_ANNOTATION}
    return {"apiVersion": "viaduct.ai/v1", "kind": "ksops", "metadata": metadata, **fields}


def sops_secret_generator(**fields: Any) -> dict[str, Any]:
    metadata = {"name": "g", "annotations": FUNCTION_ANNOTATION} | fields.pop("metadata", {})
    return {"apiVersion": "goabout.com/v1beta1", "kind": "SopsSecretGenerator", "metadata": metadata, **fields}


def secret(**fields: Any) -> dict[str, Any]:
    """An element of secretFrom or configMapFrom."""
    return {"metadata": {"name": "made"}, **fields}


def generate(config: dict[str, Any], *items: Any) -> tuple[list[dict[str, Any]], list[Result], int]:
    """As kustomize runs a generator, in the working folder: the items that leave, what is said, the exit status."""
    text = made.resource_list(*items, config=config)
    output, results, status = run(text.encode(), Host(env=KEYS), FUNCTION)
    return yaml.safe_load(output)["items"], results, status


def generated(config: dict[str, Any]) -> list[dict[str, Any]]:
    """What a config that is all right generates."""
    items, results, status = generate(config, config)
    assert (status, [result.line() for result in results]) == (0, [])
    return items


def refused(config: dict[str, Any]) -> str:
    """Why a config is refused, which says so once."""
    items, results, status = generate(config, config)
    assert status == 1
    assert items in ([config], [])  # it is left out where a key may stand in the wrong place of it
    assert [result.severity for result in results] == ["error"], [result.line() for result in results]
    return results[0].line()
