"""Argo CD's plugin server, asked as its repo-server asks it: gRPC over a unix socket, by curl.

Source: argoproj/argo-cd 3.6, cmpserver/plugin/plugin.proto, util/cmp/stream.go; grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE = "plugin.ConfigManagementPluginService"
_CHUNK = 1024


class CallError(Exception):
    """The server's answer is an error: what Argo CD shows on the application's page."""


def match(socket: Path, checkout: Path, path: str, env: dict[str, str]) -> bool:
    """Whether the plugin takes an application. path: from the checkout."""
    return dict(_fields(_call(socket, "MatchRepository", _stream(checkout, path, env)))).get(1) == 1


def generate(socket: Path, checkout: Path, path: str, env: dict[str, str]) -> list[str]:
    """The manifests, each as JSON."""
    answer = _call(socket, "GenerateManifest", _stream(checkout, path, env))
    return [value.decode() for number, value in _fields(answer) if number == 1 and isinstance(value, bytes)]


def parameters(socket: Path, checkout: Path, path: str, env: dict[str, str]) -> list[bytes]:
    answer = _call(socket, "GetParametersAnnouncement", _stream(checkout, path, env))
    return [value for _, value in _fields(answer) if isinstance(value, bytes)]


def _stream(checkout: Path, path: str, env: dict[str, str]) -> bytes:
    """The messages of a call: what the application is, then a compressed archive in pieces."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for file in sorted(checkout.iterdir()):
            if file.name != ".git":
                tar.add(file, file.name)
    raw = archive.getvalue()
    about = _field(1, b"app") + _field(2, path.encode()) + _field(3, hashlib.sha256(raw).hexdigest().encode())
    about += _varint(4 << 3) + _varint(len(raw))
    for name, value in env.items():
        about += _field(5, _field(1, name.encode()) + _field(2, value.encode()))
    pieces = [raw[at : at + _CHUNK] for at in range(0, len(raw), _CHUNK)]
    return _framed(_field(1, about)) + b"".join(_framed(_field(2, _field(1, piece))) for piece in pieces)


def _call(socket: Path, method: str, messages: bytes) -> bytes:
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket", socket),
            *("--header", "content-type: application/grpc", "--header", "te: trailers", "--dump-header", "/dev/stderr"),
            *("--data-binary", "@-", f"http://localhost/{SERVICE}/{method}"),
        ],
        input=messages,
        capture_output=True,
        check=False,
        timeout=120,
    )
    heads = dict(line.split(": ", 1) for line in done.stderr.decode().splitlines() if ": " in line)
    if done.returncode or heads.get("grpc-status") != "0":
        raise CallError(unquote(heads.get("grpc-message", done.stderr.decode())))
    return done.stdout[5:]


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values: bytes, or an integer."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(message):
        tag = varint()
        size = varint()
        if tag & 7 == 0:
            yield tag >> 3, size
        else:
            yield tag >> 3, message[at : at + size]
            at += size
