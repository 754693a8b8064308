"""A fake internet on one loopback port, so that real sockets, TLS and HTTP are used without leaving the machine.

It is an HTTP proxy that ends every tunnel at a TLS server of its own, with a certificate for the host that was asked
for; what comes through is noted and answered by the fake service of that host. Plain requests (to a metadata service)
are answered by the fake for ``127.0.0.1``.
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self


class Seen:
    """One request as it came over the wire. headers: by lower-case name."""

    def __init__(self, host: str, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.host = host
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"Seen({self.method} {self.host}{self.path})"


class Answer:
    def __init__(self, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = headers


class Internet:
    """services: host -> what answers there; "*" answers for all others. tunnels: each host:port that was asked for."""

    def __init__(self, folder: Path) -> None:
        self.services: dict[str, Callable[[Seen], Answer]] = {}
        self.requests: list[Seen] = []
        self.tunnels: list[str] = []
        self.connections = 0
        self._authority = Authority(folder)
        internet = self

        class Handler(_Handler):
            owner = internet

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def env(self) -> dict[str, str]:
        """What makes a client go through here and believe it."""
        return {"HTTPS_PROXY": f"http://127.0.0.1:{self.port}", "SSL_CERT_FILE": str(self._authority.file)}

    def tls_for(self, host: str) -> ssl.SSLContext:
        return self._authority.context_for(host)

    def answer(self, seen: Seen) -> Answer:
        self.requests.append(seen)
        service = self.services.get(seen.host) or self.services.get("*")
        return service(seen) if service else Answer(404, {"error": "nobody answers for this host"})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Authority:
    """A certificate authority of the moment, its certificate in a file."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._folder = folder
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "krm-sops test authority")])
        certificate = self._certificate(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context_for(self, host: str) -> ssl.SSLContext:
        with self._lock:
            if host not in self._contexts:
                key = ec.generate_private_key(ec.SECP256R1())
                name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake")])
                leaf = self._certificate(name, key, x509.SubjectAlternativeName([x509.DNSName(host)]))
                file = self._folder / f"{len(self._contexts)}.pem"
                file.write_bytes(
                    key.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                    + leaf.public_bytes(serialization.Encoding.PEM)
                )
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(file)
                self._contexts[host] = context
            return self._contexts[host]

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - day,
            not_valid_after=now + day,
        )
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass  # clients that hang up in the middle are what some tests are about


class _Handler(BaseHTTPRequestHandler):
    owner: Internet
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tunnel = "127.0.0.1"

    def setup(self) -> None:
        super().setup()
        self.owner.connections += 1

    def do_CONNECT(self) -> None:
        self.owner.tunnels.append(self.path)
        self.tunnel = self.path.rpartition(":")[0]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.connection = self.owner.tls_for(self.tunnel).wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def _serve(self) -> None:
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.owner.answer(Seen(self.tunnel, self.command, self.path, headers, body))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


class Raw:
    """A server that says these bytes, one of `answers` for each request, and then hangs up; b"" is silence."""

    def __init__(self, *answers: bytes, keep: bool = False) -> None:
        """keep: further requests on one connection get the next answer, instead of the end of the connection."""
        self.received: list[bytes] = []
        self.connections = 0
        self._answers = list(answers)
        self._keep = keep
        self._done = threading.Event()
        raw = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                raw.connections += 1
                raw.serve(self.request)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def serve(self, sock: socket.socket) -> None:
        while self._answers:
            received = sock.recv(65536)
            if not received:
                return
            self.received.append(received)
            answer = self._answers.pop(0)
            if not answer:
                self._done.wait()
                return
            sock.sendall(answer)
            if not self._keep:
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def closed_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found: int = sock.getsockname()[1]
        return found
