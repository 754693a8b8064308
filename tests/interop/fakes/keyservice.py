"""A fake of sops' key service: real sockets and HTTP/2 (h2's server side), and whatever answer a test wants."""

from __future__ import annotations

import threading
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


class Asked:
    """One call. message: the protobuf bytes, without gRPC's frame."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.path = headers[":path"]
        self.frame = body[:5]
        self.message = body[5:]


class Reply:
    """trailers: the gRPC status and message; None is a body with nothing after it."""

    def __init__(self, message: bytes | None, trailers: dict[str, str] | None = None, **headers: str) -> None:
        self.body = None if message is None else b"\0" + len(message).to_bytes(4, "big") + message
        self.trailers = {"grpc-status": "0"} if trailers is None else trailers
        self.headers = {":status": "200", "content-type": "application/grpc", **headers}


def plaintext(data: bytes) -> Reply:
    """What a Decrypt that succeeds answers; with `ciphertext` at the same place, an Encrypt too. Up to 127 bytes."""
    return Reply(b"\x0a" + bytes([len(data)]) + data)


class FakeKeyService:
    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        fake = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                _serve(self.request, lambda asked: fake.asked.append(asked) or answer(asked))  # type: ignore[func-returns-value]

        class Server(ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _serve(sock: Any, answer: Callable[[Asked], Reply]) -> None:
    http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    http.initiate_connection()
    sock.sendall(http.data_to_send())
    headers: dict[int, dict[str, str]] = {}
    bodies: dict[int, bytes] = {}
    while data := sock.recv(65536):
        for event in http.receive_data(data):
            if isinstance(event, RequestReceived):
                headers[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
                bodies[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                bodies[event.stream_id] += event.data
                http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                stream = event.stream_id
                _reply(http, stream, answer(Asked(headers[stream], bodies[stream])))
        sock.sendall(http.data_to_send())


def _reply(http: H2Connection, stream: int, reply: Reply) -> None:
    if reply.body is None:
        http.send_headers(stream, [*reply.headers.items(), *reply.trailers.items()], end_stream=True)
        return
    http.send_headers(stream, list(reply.headers.items()))
    size = http.max_outbound_frame_size
    for start in range(0, len(reply.body), size):
        http.send_data(stream, reply.body[start : start + size])
    if reply.trailers:
        http.send_headers(stream, list(reply.trailers.items()), end_stream=True)
    else:
        http.end_stream(stream)
