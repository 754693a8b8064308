"""``krm-sops keyservice``: the keys of this machine, for programs that ask as sops asks a key service.

Whoever can ask can open every document of these keys. So it listens on loopback, where that is every user of the
machine, or on a socket with mode 0600, and nowhere else (S33). For another machine there is ssh, which can forward
either. Differs from sops, which listens where it is told, and gives its socket the mode that the umask leaves.

gRPC over HTTP/2 without TLS. HTTP/2 is h2's (the extra `keyservice`).
Source: getsops/sops 3.13, keyservice/server.go, keyservice.proto; grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from threading import Lock, Thread

from krm_sops import cli
from krm_sops.errors import KrmSopsError, shown
from krm_sops.keyservice import LARGEST_REQUEST, field, fields_of, host_and_port, is_loopback, key_of
from krm_sops.tree import to_bytes
from krm_sops.verbs import keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey

HELP = f"""\
krm-sops keyservice: open and wrap data keys for other programs, with the keys that are at hand here.

  --network NAME         tcp or unix; default: tcp
  --address ADDRESS      where to listen: 127.0.0.1:5000 (the default; loopback only), or the path of a new socket,
                         which only this user can open
  --prompt               ask on the terminal before every answer
  --verbose              tell every request
{KEY_HELP}
Example:
  krm-sops keyservice --network unix --address "$XDG_RUNTIME_DIR/sops.sock"
  sops --keyservice unix://$XDG_RUNTIME_DIR/sops.sock decrypt secret.enc.yaml
"""
FLAGS = {
    "network": VALUE,
    "address": VALUE,
    "prompt": SWITCH,
    "verbose": SWITCH,
    "help": SWITCH,
    **KEY_FLAGS,
}
_ADDRESS = "127.0.0.1:5000"
_MOST_AT_ONCE = 100
_IDLE_SECONDS = 3600.0
_UNKNOWN, _NOT_FOUND, _DENIED, _EXHAUSTED, _UNIMPLEMENTED = 2, 5, 7, 8, 12
"""Statuses of gRPC."""


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help", "net": "network", "addr": "address"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if given.names:
        raise UsageError(f"{shown(given.names[0], 60)!r}: keyservice takes flags only")
    try:
        import h2.connection  # noqa: F401
    except ImportError:
        raise KrmSopsError("key services need the package h2", hint="pip install 'krm-sops[keyservice]'") from None
    warnings: list[str] = []
    credentials = keys.credentials(given, warnings)
    for warning in warnings:
        cli.say(f"warning: {warning}")
    network = given.text("network", "tcp")
    server, path = _listening(network, given.text("address", _ADDRESS))
    _remove_at_the_end(path)
    host, port = ("", 0) if path else server.getsockname()[:2]
    cli.say(f"listening on {f'unix://{shown(path)}' if path else f'tcp://{host}:{port}'}")
    service = _Service(credentials, prompt=given.on("prompt"), verbose=given.on("verbose"))
    while True:
        connection, _ = server.accept()
        Thread(target=_Connection(connection, service).serve, daemon=True).start()


def _listening(network: str, address: str) -> tuple[socket.socket, str]:
    """path: of the socket, or "".  Raises UsageError, KrmSopsError."""
    try:
        if network == "unix":
            server = socket.socket(socket.AF_UNIX)
            mask = os.umask(0o177)
            try:
                server.bind(address)
            finally:
                os.umask(mask)
            server.listen(_MOST_AT_ONCE)
            return server, os.path.abspath(address)
        if network != "tcp":
            raise UsageError(f"--network is tcp or unix, not {shown(network, 40)!r}")
        host, port = host_and_port(address)
        if not is_loopback(host):
            what = f"--address {shown(address, 80)!r} is no address of this machine only"
            raise UsageError(what, hint="127.0.0.1:PORT, or a socket; ssh -R forwards either to another machine")
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not is_loopback(str(place[0])):
            raise UsageError(f"{shown(host, 80)} is another machine's address here")
        return socket.create_server(place, family=family, backlog=_MOST_AT_ONCE), ""
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "bad name"
        raise KrmSopsError(f"cannot listen on {shown(address, 80)!r}: {why}".lower()) from None


def _remove_at_the_end(path: str) -> None:
    """A service ends by a signal, and then all is well."""

    def end(_number: int, _frame: FrameType | None) -> None:
        if path:
            try:
                os.unlink(path)
            except OSError:
                pass
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)


class _Refused(Exception):
    """args: a status of gRPC, and words."""


class _Service:
    def __init__(self, credentials: Credentials, *, prompt: bool, verbose: bool) -> None:
        self._credentials = credentials
        self._prompt = prompt
        self._verbose = verbose
        self._one_at_a_time = Lock()

    def answer(self, method: str, request: bytes) -> bytes:
        """The message that answers one. Raises _Refused."""
        verb = {"/KeyService/Decrypt": "decrypt", "/KeyService/Encrypt": "encrypt"}.get(method)
        if verb is None:
            raise _Refused(_UNIMPLEMENTED, "unknown method")
        key, data = _read(request, verb)
        if self._verbose:
            cli.say(f"{verb} with {key.section} {shown(key.identity)}")
        if self._prompt:
            self._ask(key, verb)
        try:
            if verb == "decrypt":
                return field(1, key.unwrap(self._credentials))
            return field(1, to_bytes(key.wrap(data, self._credentials).enc))
        except KrmSopsError as error:
            raise _Refused(_UNKNOWN, error.message) from None

    def _ask(self, key: MasterKey, verb: str) -> None:
        with self._one_at_a_time:
            answer = ""
            while answer not in ("y", "n"):
                question = f"\nReceived {verb} request using {key.section} {shown(key.identity)}. Respond to request? "
                cli.write_out(f"{question}(y/n): ".encode())
                line = sys.stdin.readline()
                if not line:
                    raise _Refused(_DENIED, "Nobody is there to be asked")
                answer = line.strip()
        if answer == "n":
            raise _Refused(_DENIED, "Request rejected by user")


def _read(request: bytes, verb: str) -> tuple[MasterKey, bytes]:
    """The key of a request, and what it is to wrap. Raises _Refused."""
    try:
        content = dict(fields_of(request))
        data = content.get(2, b"")
        enc = data.decode("utf-8", "surrogateescape") if verb == "decrypt" else ""
        return key_of(content.get(1, b""), enc), data
    except (KrmSopsError, IndexError, ValueError) as error:
        why = error.message if isinstance(error, KrmSopsError) else "no message of a key service"
        raise _Refused(_NOT_FOUND, why) from None


class _Connection:
    """One client; its requests one after the other."""

    def __init__(self, sock: socket.socket, service: _Service) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self._sock = sock
        self._sock.settimeout(_IDLE_SECONDS)
        self._service = service
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._requests: dict[int, tuple[str, bytearray]] = {}

    def serve(self) -> None:
        from h2.exceptions import ProtocolError

        try:
            self._http.initiate_connection()
            self._flush()
            while data := self._sock.recv(65536):
                for event in self._http.receive_data(data):
                    self._handle(event)
                self._flush()
        except (OSError, ProtocolError, UnicodeDecodeError):
            pass
        finally:
            self._sock.close()

    def _flush(self) -> None:
        self._sock.sendall(self._http.data_to_send())

    def _handle(self, event: Any) -> None:
        from h2 import events as kinds

        if isinstance(event, kinds.RequestReceived):
            headers: Any = event.headers
            self._requests[event.stream_id] = dict(headers).get(":path", ""), bytearray()
            if len(self._requests) > _MOST_AT_ONCE:
                raise OSError
        elif isinstance(event, kinds.DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            if event.stream_id in self._requests:
                body = self._requests[event.stream_id][1]
                body += event.data or b""
                if len(body) > LARGEST_REQUEST + 5:
                    del self._requests[event.stream_id]
                    self._end(event.stream_id, _EXHAUSTED, "the request is too large")
        elif isinstance(event, kinds.StreamReset):
            self._requests.pop(event.stream_id, None)
        elif isinstance(event, kinds.StreamEnded) and event.stream_id in self._requests:
            self._answer(event.stream_id, *self._requests.pop(event.stream_id))

    def _answer(self, stream: int, method: str, body: bytearray) -> None:
        try:
            if body[:1] != b"\0" or int.from_bytes(body[1:5], "big") != len(body) - 5:
                raise _Refused(_UNIMPLEMENTED, "a request is one message that is not compressed")
            message = self._service.answer(method, bytes(body[5:]))
        except _Refused as refused:
            self._end(stream, *refused.args)
            return
        self._http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self._http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
        self._http.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    def _end(self, stream: int, status: int, words: str) -> None:
        from urllib.parse import quote

        headers = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", str(status)),
            ("grpc-message", quote(words, safe=" :,.;()'/-")),
        ]
        self._http.send_headers(stream, headers, end_stream=True)
