"""StageSets and the packages around them, as trees; run by the function in this process."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from tests.security import made

PATH = "internal.config.kubernetes.io/path"
STAGE = "krm-sops.dev/stage"
WAVE = "argocd.argoproj.io/sync-wave"
DEPENDS_ON = "config.kubernetes.io/depends-on"
Object = dict[str, Any]


def at(file: str, item: Object, **notes: str) -> Object:
    """A copy of the object that says which file it comes from."""
    found = copy.deepcopy(item)
    annotations = found["metadata"].setdefault("annotations", {})
    annotations.update({name: value for name, value in notes.items() if value} | {PATH: file})
    return found


def config_map(name: str, namespace: str = "shop", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data or {"a": "b"},
    }


def secret(name: str = "db", namespace: str = "shop", **values: str) -> Object:
    """Encrypted for the key of `made`."""
    plain = {**made.PLAIN, "metadata": {"name": name, "namespace": namespace}}
    return made.encrypted({**plain, "stringData": values} if values else plain)


def key_secret(namespace: str = "shop", identity: str = made.IDENTITY, name: str = "sops-keys") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"test.agekey": identity},
    }


def stage_set(
    *stages: Object | str, name: str = "shop", namespace: str = "shop", emit: str = "", **spec: Any
) -> Object:
    """stages: or names, which are those of their sources too.  spec: `decryption=None` leaves it out."""
    fields = {"decryption": {"provider": "sops", "secretRef": {"name": "sops-keys"}}, **spec}
    fields["stages"] = [
        {"name": stage, "sourceRef": {"name": stage}} if isinstance(stage, str) else stage for stage in stages
    ]
    notes = {"krm-sops.dev/allow-plaintext": "true"} | ({"krm-sops.dev/emit": emit} if emit else {})
    return {
        "apiVersion": "stages.metio.wtf/v1",
        "kind": "StageSet",
        "metadata": {"name": name, "namespace": namespace, "annotations": notes},
        "spec": {field: value for field, value in fields.items() if value is not None},
    }


class Outcome:
    """What the function made of a list: items without the StageSets, `results`, `status`."""

    def __init__(self, *items: Object, config: Object | None = None, host: Host | None = None) -> None:
        if config is None:
            config = next(item for item in items if item["kind"] == "StageSet")
        self.given = made.resource_list(*items, config=config)
        raw, self.results, self.status = run(self.given.encode(), host or Host(env={}, files={}), FUNCTION)
        self.text = raw.decode()
        self.everything = yaml.safe_load(self.text)["items"]
        self.items = [item for item in self.everything if item["kind"] != "StageSet"]

    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.items]

    def item(self, name: str) -> Object:
        return next(item for item in self.items if item["metadata"]["name"] == name)

    def note(self, name: str, annotation: str) -> str | None:
        return self.item(name)["metadata"].get("annotations", {}).get(annotation)

    def errors(self) -> list[str]:
        return [f"{result.reason}: {result.line()}" for result in self.results if result.severity == "error"]

    def infos(self) -> list[str]:
        return [result.line() for result in self.results if result.severity == "info"]
