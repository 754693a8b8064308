"""SopsDecrypt, whatever stands between, SopsEncrypt: what kpt does with a package, in one process."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Callable

    from krm_sops.krm.results import Result

HEAD = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n"
RULE = {"age": made.RECIPIENT, "encrypted_regex": "^(data|stringData|spec)$"}


def config(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "krm-sops.dev/v1alpha1", "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec}


def decrypting(**spec: Any) -> dict[str, Any]:
    return config("SopsDecrypt", **{"keepOriginal": True, "keys": [{"env": "KEY"}], **spec})


def encrypting(**spec: Any) -> dict[str, Any]:
    return config("SopsEncrypt", **{"keys": [{"env": "KEY"}], **spec})


def items_of(*documents: str) -> str:
    """Documents as items of a list."""
    return "".join("- " + textwrap.indent(text, "  ", str.strip)[2:] for text in documents)


def call(items: str, function: dict[str, Any], key: str = made.IDENTITY) -> tuple[str, list[Result], int]:
    """One function. The items that it gives, with whatever stands behind them where it fails."""
    raw = HEAD + items + "functionConfig:\n" + textwrap.indent(made.yaml(function), "  ")
    output, results, status = run(raw.encode(), Host(env={"KEY": key}, files={}), FUNCTION)
    return output.decode().removeprefix(HEAD).split("\nfunctionConfig:")[0] + "\n", results, status


def decrypted(items: str, **spec: Any) -> str:
    found, results, status = call(items, decrypting(**spec))
    assert status == 0, [result.line() for result in results]
    return found


def encrypted(items: str, **spec: Any) -> str:
    found, results, status = call(items, encrypting(**spec))
    assert status == 0, [result.line() for result in results]
    return found


def refused(items: str, reason: str, key: str = made.IDENTITY, **spec: Any) -> Result:
    """The one error of a SopsEncrypt."""
    _, results, status = call(items, encrypting(**spec), key)
    assert status == 1
    errors = [result for result in results if result.is_error]
    assert [error.reason for error in errors] == [reason], [error.line() for error in errors]
    return errors[0]


def rendered(items: str, change: Callable[[str], str] = str, **spec: Any) -> str:
    """The whole pipeline."""
    return encrypted(change(decrypted(items)), **spec)
