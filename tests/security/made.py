"""Encrypted documents made for the tests, value by value, so that each part can be falsified on its own.

An encoder written from the format's description: SOPS documents for one throw-away age identity.
"""

from __future__ import annotations

import copy
import hashlib
import json
import textwrap
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from tests import agefile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.krm.results import Result
    from krm_sops.limits import Limits

IDENTITY, OTHER_IDENTITY = agefile.IDENTITY, agefile.OTHER_IDENTITY
RECIPIENT = agefile.recipient_of(IDENTITY)
DATA_KEY = bytes(range(32))
WRAPPED = agefile.enc(IDENTITY, DATA_KEY)
MODIFIED = "2026-01-31T12:00:00Z"
ONLY_ENCRYPTED_SEED = bytes.fromhex("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")
SELECTED = ("data", "stringData", "spec")

KEY_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "sops-keys"},
    "stringData": {"test.agekey": IDENTITY},
}
PLAIN = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "namespace": "prod"},
    "type": "Opaque",
    "stringData": {"user": "plain-of-user", "password": "plain-of-password"},
}
"""What most tests encrypt."""


def iv_of(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def enc(plain: str | bytes, aad: str, word: str = "str") -> str:
    """One value; its IV follows from what it holds, so that documents are the same in every run."""
    raw = plain.encode() if isinstance(plain, str) else plain
    iv = iv_of(raw.hex(), aad)
    whole = AESGCM(DATA_KEY).encrypt(iv, raw, aad.encode())
    data, tag = b64encode(whole[:-16]).decode(), b64encode(whole[-16:]).decode()
    return f"ENC[AES256_GCM,data:{data},iv:{b64encode(iv).decode()},tag:{tag},type:{word}]"


def spelled(value: Any) -> tuple[str, str]:
    """The text that is encrypted and covered by the MAC, and the type word."""
    if isinstance(value, bool):
        return str(value), "bool"
    return str(value), type(value).__name__


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for element in node:
            yield from leaves(element, path)
    else:
        yield path, node


def mac_of(plain: dict[str, Any], *, only_encrypted: bool = False, modified: str = MODIFIED) -> str:
    covered = ONLY_ENCRYPTED_SEED if only_encrypted else b""
    for path, value in leaves(plain):
        if value is not None and not (only_encrypted and path[0] not in SELECTED):
            covered += value if isinstance(value, bytes) else spelled(value)[0].encode()
    return enc(hashlib.sha512(covered).hexdigest().upper(), modified)


def values_encrypted(node: Any, path: tuple[str, ...] = ()) -> Any:
    if isinstance(node, dict):
        return {
            key: values_encrypted(value, (*path, key)) if path or key in SELECTED else value
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [values_encrypted(element, path) for element in node]
    if node is None or node == "":
        return node
    text, word = (node, "str") if isinstance(node, bytes) else spelled(node)
    return enc(text, ":".join(path) + ":", word)


def encrypted(plain: dict[str, Any] = PLAIN, **options: Any) -> dict[str, Any]:
    """options: fields of the ``sops`` block that are added or replaced; None leaves one out."""
    only_encrypted = bool(options.get("mac_only_encrypted"))
    block = {
        "age": [{"recipient": RECIPIENT, "enc": WRAPPED}],
        "lastmodified": MODIFIED,
        "mac": mac_of(plain, only_encrypted=only_encrypted),
        "encrypted_regex": "^({})$".format("|".join(SELECTED)),
        "version": "3.13.3",
        **options,
    }
    given = {name: value for name, value in block.items() if value is not None}
    return {**copy.deepcopy(values_encrypted(plain)), "sops": given}


def document(plain: dict[str, Any], **options: Any) -> dict[str, Any]:
    """As `encrypted`, with every value encrypted: what sops makes of a file without a rule."""
    block = encrypted(plain, **{"encrypted_regex": None, **options})["sops"]
    return {**{key: values_encrypted(value, (key,)) for key, value in plain.items()}, "sops": block}


def yaml(node: Any) -> str:
    """Block style, strings in double quotes: what every reader takes the same way."""
    return "\n".join(_lines(node)) + "\n"


def _lines(node: Any) -> list[str]:
    lines = []
    for key, value in node.items() if isinstance(node, dict) else [(None, element) for element in node]:
        lead = "-" if key is None else f"{key if key.isalnum() else json.dumps(key)}:"
        if isinstance(value, (dict, list)) and value:
            inner = _lines(value)
            if key is None:
                lines += [f"- {inner[0]}", *("  " + line for line in inner[1:])]
            else:
                lines += [lead, *("  " + line for line in inner)]
        elif isinstance(value, str) and value.startswith("-----BEGIN"):
            lines += [f"{lead} |", *("  " + line for line in value.splitlines())]
        else:
            lines.append(f"{lead} {json.dumps(value)}")
    return lines


def resource_list(
    *items: dict[str, Any] | str, config: dict[str, Any] | None = KEY_SECRET, config_first: bool = False
) -> str:
    """items: trees, or texts in YAML."""
    head = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
    function = "functionConfig:\n" + textwrap.indent(yaml(config), "  ") if config else ""
    listed = "items:\n"
    for item in items:
        text = item if isinstance(item, str) else yaml(item)
        listed += "- " + textwrap.indent(text, "  ")[2:]
    return head + (function + listed if config_first else listed + function)


def function(
    text: str | bytes, env: dict[str, str] | None = None, limits: Limits = FUNCTION
) -> tuple[str, list[Result], int]:
    """The function in this process, with nothing around it."""
    raw = text if isinstance(text, bytes) else text.encode()
    output, results, status = run(raw, Host(env=env or {}, files={}), limits)
    return output.decode(), results, status
