"""The two readers of ResourceLists agree, and what leaves is what came in with ciphertext replaced: on random streams.

`STREAMS=30000` runs that many (default 10,000). A failure names a seed: `Maker(seed).stream()` is its input.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import yaml

from krm_sops.errors import KrmSopsError
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.krm.resourcelist import _plain
from krm_sops.limits import FUNCTION
from tests.security import made
from tests.streams import Maker

STREAMS = int(os.environ.get("STREAMS", "10000"))
PARTS = 8
BOM = b"\xef\xbb\xbf"
MAY_CHANGE = (b"-", b"annotations:", b"metadata:", b"? name", b"config.kubernetes.io/local-config:", b"# deeper")
NOT_YAML = ("the input is no ResourceList: ", "the input is not UTF-8")


def outcome(raw: bytes, *, exact: bool) -> tuple[bytes, list[tuple[str, ...]], int]:
    """What the function writes, what it says, and its status; no output where it finds no list to answer in.

    exact: behind a byte order mark, where the fast reader gives up at once.
    """
    try:
        output, results, status = run(BOM + raw.removeprefix(BOM) if exact else raw, Host(env={}, files={}), FUNCTION)
    except KrmSopsError as error:
        return b"", [(error.reason, str(error), error.hint)], 2
    if not raw.startswith(BOM):
        output = output.removeprefix(BOM)
    return output, [(one.severity, one.reason, one.line(), one.hint) for one in results], status


def pieces(raw: bytes) -> list[bytes]:
    return (b"\n" + raw).split(b"\n- ")


def texts(raw: bytes) -> Any:
    """All documents, every scalar as its text."""
    return list(yaml.load_all(raw, Loader=yaml.CBaseLoader))


def expected(node: Any, plain: dict[str, Any]) -> Any:
    """The same without ``sops`` blocks of encrypted items, and with plaintext for ciphertext."""
    if isinstance(node, dict):
        return {key: expected(value, plain) for key, value in node.items()}
    if isinstance(node, list):
        return [expected(value, plain) for value in node if not str(value).endswith(",type:comment]")]
    if isinstance(node, str) and node.rstrip("\n") in plain:
        value = plain[node.rstrip("\n")]
        return str(value).lower() if isinstance(value, bool) else str(value)
    return node


def as_read(text: str) -> str:
    """Booleans in string fields are spelled as sops spells them, elsewhere as YAML does."""
    return text.lower() if text in ("True", "False") else text


def lowered(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: lowered(value) for key, value in node.items()}
    return [lowered(value) for value in node] if isinstance(node, list) else as_read(node)


def check_plain(maker: Maker, raw: bytes, output: bytes) -> None:
    """The output is the input with plaintext in the place of ciphertext, and without the ``sops`` blocks."""
    (before,), (after,) = texts(raw), texts(output)
    for item in before.get("items") or ():
        if isinstance(item, dict):
            item.pop("sops", None)
            item.pop("c29wcw==", None)  # the same in base64
    for one in (before, after):
        for field in ("functionConfig", "results", "unknown"):
            one.pop(field, None)
        for item in one.get("items") or ():
            annotations = item.get("metadata", {}).get("annotations")
            if isinstance(annotations, dict):
                annotations.pop("config.kubernetes.io/local-config", None)
            if not annotations:
                item.get("metadata", {}).pop("annotations", None)
    assert lowered(after) == lowered(expected(before, maker.plain))


def check_lines(maker: Maker, raw: bytes, output: bytes) -> None:
    """Every line is still there, in order, other than ciphertext, ``sops`` blocks, functionConfig and results.

    Not looked at: lines with a dash and those in which a key Secret may get its annotation.
    """
    kept = iter(output.removeprefix(BOM).split(b"\n"))
    hidden = {line.strip().encode("utf-8", "surrogateescape") for line in maker.hidden}
    in_config = False
    for line in raw.removeprefix(BOM).split(b"\n"):
        bare = line.strip()
        if line[:1] not in b" \r#-":
            in_config = b"functionConfig" in line or (in_config and line.startswith(b":"))
        if (
            in_config
            or not bare
            or b"ENC[" in bare
            or bare in hidden
            or bare.startswith(MAY_CHANGE)
            or b"results" in bare
        ):
            continue
        assert any(line == other or is_first(other, line) for other in kept), f"{line!r} is lost"


def is_first(other: bytes, line: bytes) -> bool:
    """Whether a line now stands behind the dash of its item: what stood there was the ``sops`` block."""
    return other.lstrip(b" ").startswith(b"-") and other.lstrip(b" ")[1:].lstrip(b" ") == line.lstrip(b" ")


@pytest.mark.parametrize("part", range(PARTS))
def test_both_readers_agree(part: int) -> None:
    """Same bytes, same results, same status; where the exact reader finds no YAML, nothing invalid was touched."""
    seen: Counter[str] = Counter()
    for seed in range(part, STREAMS, PARTS):
        maker = Maker(seed)
        raw = maker.stream()
        fast, exact = outcome(raw, exact=False), outcome(raw, exact=True)
        is_fast = _plain(raw, FUNCTION) is not None
        if fast == exact:
            seen[f"{'fast' if is_fast else 'exact'} {exact[2]}"] += 1
            if exact[2] == 0:
                check_success(maker, seed, raw, fast[0])
            continue
        message = exact[1][0][1]
        assert is_fast, f"seed {seed}"
        assert exact[2] == 2, f"seed {seed}"
        assert message.startswith(NOT_YAML), f"seed {seed}: {message}"
        seen["invalid, unseen"] += 1
        if fast[2] == 0:  # the invalid piece is still there: the next reader sees it too
            assert outcome(fast[0], exact=True)[1][0][1].startswith(NOT_YAML), f"seed {seed}"
            unchanged = [piece for piece in pieces(raw) if b"ENC[" not in piece and b"sops" not in piece]
            assert all(piece.rstrip(b"\n") in fast[0] for piece in unchanged[1:]), f"seed {seed}"
    assert min(seen[kind] for kind in ("fast 0", "fast 1", "exact 0", "exact 1", "exact 2", "invalid, unseen")) > 0


def check_success(maker: Maker, seed: int, raw: bytes, output: bytes) -> None:
    try:
        readable = len(texts(raw)) == 1
    except (yaml.YAMLError, ValueError):
        readable = False  # PyYAML is stricter about some characters, and about collections as keys
    try:
        if readable:
            check_plain(maker, raw, output)
        if b"\0" not in raw:
            check_lines(maker, raw, output)
        again = outcome(output, exact=False)
        assert again[0] == output
        assert again[2] == 0
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from None


def test_streams_are_the_same_in_every_run() -> None:
    """A seed names a stream."""
    assert [Maker(seed).stream() for seed in range(20)] == [Maker(seed).stream() for seed in range(20)]
    assert made.IDENTITY.encode() in b"".join(Maker(seed).stream() for seed in range(20))
