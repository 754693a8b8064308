"""Formats: name -> implementation. A further one is a file in this folder and a line in each table."""

from __future__ import annotations

from krm_sops.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.stores.base import Store

STORES: Registry[Store] = Registry(
    yaml="krm_sops.stores.yaml:STORE",
    json="krm_sops.stores.json:STORE",
    dotenv="krm_sops.stores.dotenv:STORE",
    ini="krm_sops.stores.ini:STORE",
    binary="krm_sops.stores.binary:STORE",
)

_SUFFIXES = ((".yaml", "yaml"), (".yml", "yaml"), (".json", "json"), (".env", "dotenv"), (".ini", "ini"))


def format_for_path(path: str) -> str:
    """The format that sops takes a file name for: by suffix, else binary."""
    for suffix, name in _SUFFIXES:
        if path.endswith(suffix):
            return name
    return "binary"
