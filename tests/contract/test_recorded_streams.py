"""What kpt and kustomize really send: decrypted where it stands, and nothing else changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.krm.resourcelist import ResourceList, _plain
from krm_sops.limits import FUNCTION
from tests.agefile import IDENTITY, OTHER_IDENTITY

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "krm"
STREAMS = sorted(path.name for path in VECTORS.glob("*.yaml") if not path.name.endswith(".out.yaml"))


def function(raw: bytes, identity: str = IDENTITY) -> tuple[bytes, list[str], int]:
    output, results, status = run(raw, Host(env={"SOPS_AGE_KEY": identity}, files={}), FUNCTION)
    return output, [one.line() for one in results], status


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_is_decrypted_where_it_stands(name: str) -> None:
    """By both readers, byte for byte as recorded; once more changes nothing."""
    raw = (VECTORS / name).read_bytes()
    output, said, status = function(raw)
    recorded = VECTORS / name.replace(".yaml", ".out.yaml")
    if os.environ.get("UPDATE"):
        recorded.write_bytes(output)
    assert (said, status) == ([], 0)
    assert output.decode() == recorded.read_text()
    assert b"ENC[" not in output
    assert function(b"\xef\xbb\xbf" + raw)[0].removeprefix(b"\xef\xbb\xbf") == output
    assert function(output) == (output, [], 0)


@pytest.mark.parametrize("name", STREAMS)
def test_it_takes_the_fast_way(name: str) -> None:
    """These are the layouts that the fast reader is for."""
    raw = (VECTORS / name).read_bytes()
    assert _plain(raw, FUNCTION) is not None
    found = ResourceList(raw, FUNCTION).encrypted()
    exact = ResourceList(raw, FUNCTION, exact=True).encrypted()
    assert [str(item) for item in found] == [str(item) for item in exact]
    assert found


@pytest.mark.parametrize("name", STREAMS)
def test_without_its_key_every_item_leaves_as_it_came(name: str) -> None:
    """All of them are reported; only a key Secret is left out."""
    raw = (VECTORS / name).read_bytes().replace(IDENTITY.encode(), OTHER_IDENTITY.encode())
    output, said, status = function(raw, OTHER_IDENTITY)
    assert status == 1
    assert len(said) == len(ResourceList(raw, FUNCTION).encrypted())
    before, after = (yaml.load(text, Loader=yaml.CBaseLoader) for text in (raw, output))
    assert after["items"] == [item for item in before["items"] if "a.agekey" not in item.get("stringData", {})]
    assert OTHER_IDENTITY.encode() not in output
