"""A thin HTTPS client for the services that keep keys: one call, one answer, nothing followed, nothing trusted.

One object serves a run and may be used from many threads. It speaks https (plain http on loopback, and to a machine's
own metadata service where the caller says so), never follows a redirect, and ends every wait: a call by
`call_seconds`, a call with its retries by `total_seconds`. Only the system's resolver keeps its own time.

From the environment, as the operator set it: SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, NO_PROXY (and their lower-case
forms). This module costs 30 ms to import, so key types reach it through `Host.http`, when they need it.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import ssl
import time
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from krm_sops.errors import KeyUnavailable, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LARGEST_BODY = 1 << 20
ATTEMPTS = 5
_PASSING_STATUSES = (429, 500, 502, 503, 504)
_LOCAL_SECONDS = 3.0
"""What a metadata service gets: it is near or absent, and where it is absent its address often swallows packets."""
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
NETWORK_HINT = (
    "a function has no network unless allowed: `network: true` and --network under kustomize, --allow-network under "
    "kpt; behind a proxy set HTTPS_PROXY"
)
_CA_HINT = "for a private authority set SSL_CERT_FILE to its certificates"


class Unreachable(KeyUnavailable):
    """No usable answer came. passing: a later try may do better."""

    def __init__(self, message: str, *, hint: str = "", passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing


class Response:
    """headers: by lower-case name, the last of a name.  secrets: what the request carried and no message may repeat."""

    __slots__ = ("body", "headers", "secrets", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"", secrets: Sequence[str] = ()) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.secrets = secrets

    def json(self) -> dict[str, Any]:
        """The object that the body is; an empty one where it is none, so that what misses can be named."""
        import json

        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def without_secrets(self, words: str) -> str:
        """What the service says, should it repeat the token that it was given."""
        for secret in self.secrets:
            words = words.replace(secret, "***")
        return words

    def __repr__(self) -> str:
        return f"Response({self.status}, …)"


class Http:
    def __init__(
        self,
        env: Mapping[str, str],
        *,
        call_seconds: float = 10.0,
        total_seconds: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
        verify: bool = True,
        check: Callable[[str, str, int], None] | None = None,
    ) -> None:
        """verify: False takes any certificate, which an operator may want of a service of his own.

        check: raises KeyUnavailable for a (scheme, host, port) that must not be called.
        """
        self._env = env
        self._check = check
        self._verify = verify
        self._call_seconds = call_seconds
        self._total_seconds = total_seconds
        self._pause = pause
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._dead: dict[tuple[str, str, int], tuple[float, Unreachable]] = {}
        self._context: ssl.SSLContext | None = None
        self._context_lock = Lock()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        local: bool = False,
        passing: Callable[[Response], bool] | None = None,
    ) -> Response:
        """Whatever status the service gives; throttling and 5xx only after some tries.

        local: a metadata service, at an address that the program or its operator knows: http will do, no proxy,
        little patience.
        passing: which answers, besides 429 and 5xx, a later try may better (AWS throttles with 400).
        Raises Unreachable; at once, for as long again, where an origin has just had all its tries (S23).
        """
        target = _Target(url, local)
        if self._check is not None:
            self._check(*target.origin)
        until, failure = self._dead.get(target.origin, (0.0, None))
        if failure is not None and time.monotonic() < until:
            raise Unreachable(failure.message, hint=failure.hint)
        request = _framed(method, target, headers or {}, body)
        end = time.monotonic() + self._total_seconds
        attempt = 0
        while True:
            attempt += 1
            failure, response = None, None
            try:
                response = self._once(method, target, request, end)
                wait = _asked_wait(response)
                again = response.status in _PASSING_STATUSES or (passing is not None and passing(response))
            except Unreachable as error:
                failure, wait = error, 0.0
                again = error.passing and not local
            wait = max(wait, 0.2 * 2**attempt * (0.5 + os.urandom(1)[0] / 510))
            if not again or attempt == ATTEMPTS or time.monotonic() + wait >= end:
                break
            self._pause(wait)
        if response is not None:
            given = [value for name, value in (headers or {}).items() if name != "Content-Type"]
            response.secrets = [word for value in given for word in value.split() if len(word) > 15]
            return response
        assert failure is not None
        self._dead[target.origin] = (time.monotonic() + self._total_seconds, failure)
        raise failure

    def close(self) -> None:
        """Close the connections that wait for a next call."""
        for idle in self._idle.values():
            while idle:
                connection = _pop(idle)
                if connection is not None:
                    connection.close()

    def _once(self, method: str, target: _Target, request: bytes, end: float) -> Response:
        seconds = _LOCAL_SECONDS if target.local else self._call_seconds
        deadline = min(end, time.monotonic() + seconds)
        idle = self._idle.setdefault(target.origin, [])
        try:
            response = None
            while idle and response is None:
                connection = _pop(idle)
                if connection is not None:
                    response = connection.try_again(method, request, deadline)
            if response is None:
                connection = self._connected(target, deadline)
                response = connection.exchange(method, request, deadline)
        except (OSError, HTTPException) as error:
            raise _explained(error, target, seconds) from None
        assert connection is not None
        if connection.reusable:
            idle.append(connection)
        return response

    def _connected(self, target: _Target, deadline: float) -> _Connection:
        proxy = None if target.local or target.loopback else self._proxy(target)
        if proxy is None:
            sock = self._dial(target.host, target.port, deadline)
        else:
            target.via = f" through the proxy {shown(proxy.host)}"
            sock = self._dial(proxy.host, proxy.port, deadline)
        try:
            if proxy is not None:
                proxy.open_tunnel(sock, target, deadline)
            if target.scheme == "https":
                sock.settimeout(_left(deadline))
                sock = self._tls().wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise
        return _Connection(sock)

    def _dial(self, host: str, port: int, deadline: float) -> socket.socket:
        """To the first address that answers; each gets a fair part of the time."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        problem: OSError = OSError(errno.EHOSTUNREACH, "no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(_left(deadline) / (len(found) - number))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                problem = error
            else:
                return sock
        raise problem

    def _proxy(self, target: _Target) -> _Proxy | None:
        url = self._env.get("HTTPS_PROXY") or self._env.get("https_proxy")
        if not url or _is_excepted(target, self._env.get("NO_PROXY") or self._env.get("no_proxy") or ""):
            return None
        return _Proxy(url)

    def _tls(self) -> ssl.SSLContext:
        with self._context_lock:
            if self._context is None:
                self._context = _context(self._env)
                self._context.check_hostname = self._verify
                self._context.verify_mode = ssl.CERT_REQUIRED if self._verify else ssl.CERT_NONE
            return self._context


class _Target:
    """Where a URL points: refused before any connection unless it is plainly one of ours. Raises KeyUnavailable."""

    __slots__ = ("authority", "host", "local", "loopback", "origin", "path", "port", "scheme", "via")

    def __init__(self, url: str, local: bool) -> None:
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise KeyUnavailable(f"{shown(url)} is no URL")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise KeyUnavailable(f"{shown(url)} is no URL") from None
        self.scheme = parts.scheme
        self.host = host
        self.local = local
        self.via = ""
        labels = host.split(".")
        self.loopback = host in ("localhost", "::1") or (
            labels[0] == "127" and len(labels) == 4 and all(map(str.isdigit, labels))
        )
        if not all(0 < len(label) < 64 for label in labels) or "@" in parts.netloc or parts.fragment:
            raise KeyUnavailable(f"{shown(url)} is no URL of a service")
        if self.scheme != "https" and not (self.scheme == "http" and (self.loopback or local)):
            raise KeyUnavailable(f"{shown(url)} is refused: only https is spoken, and http on loopback")
        self.port = port or (443 if self.scheme == "https" else 80)
        self.authority = parts.netloc
        self.origin = (self.scheme, host, self.port)
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class _Connection:
    """An open connection whose every wait ends at a deadline, however slowly the other side drips."""

    __slots__ = ("_sock", "reusable")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.reusable = False

    def try_again(self, method: str, request: bytes, deadline: float) -> Response | None:
        """The same over a connection that had been idle; None where the other side has given it up meanwhile."""
        try:
            return self.exchange(method, request, deadline)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return None

    def exchange(self, method: str, request: bytes, deadline: float) -> Response:
        """Raises OSError, HTTPException; the connection is closed then."""
        self.reusable = False
        try:
            self._sock.settimeout(_left(deadline))
            self._sock.sendall(request)
            with HTTPResponse(_Answer(self._sock, deadline), method=method) as answer:  # type: ignore[arg-type]
                answer.begin()
                if answer.length is not None and answer.length > LARGEST_BODY:
                    raise _TooLarge
                body = answer.read() if answer.length is not None else answer.read(LARGEST_BODY + 1)
                if len(body) > LARGEST_BODY:
                    raise _TooLarge
                headers = {name.lower(): value for name, value in answer.getheaders()}
                self.reusable = not answer.will_close
                return Response(answer.status, headers, body)
        finally:
            if not self.reusable:
                self.close()

    def close(self) -> None:
        self._sock.close()


class _TooLarge(HTTPException):
    pass


class _Answer(io.RawIOBase):
    """What HTTPResponse takes for a socket, and reads from."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 (always "rb")
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


class _Proxy:
    """The operator's HTTP proxy; name and password in its URL become its Authorization. Raises KeyUnavailable."""

    __slots__ = ("_authorization", "host", "port")

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http":
            raise KeyUnavailable("HTTPS_PROXY is no http:// URL of a proxy")  # not shown: it may hold a password
        self.host = host
        self.port = port
        self._authorization = ""
        if parts.username is not None:
            from binascii import b2a_base64

            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._authorization = f"Proxy-Authorization: Basic {b2a_base64(pair, newline=False).decode()}\r\n"

    def open_tunnel(self, sock: socket.socket, target: _Target, deadline: float) -> None:
        host = f"[{target.host}]" if ":" in target.host else target.host
        place = f"{host}:{target.port}"
        sock.settimeout(_left(deadline))
        sock.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{self._authorization}\r\n".encode("ascii"))
        with HTTPResponse(_Answer(sock, deadline), method="CONNECT") as answer:  # type: ignore[arg-type]
            answer.begin()
        if answer.status != 200:
            raise Unreachable(
                f"{shown(target.authority)} is unreachable{target.via}: it answered {answer.status}",
                hint="HTTPS_PROXY names the proxy, NO_PROXY the hosts that need none",
                passing=answer.status in _PASSING_STATUSES,
            )


def _framed(method: str, target: _Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """The request's bytes. Raises KeyUnavailable for a header that would break out of its line, without its value."""
    lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.authority}", "User-Agent: krm-sops"]
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise KeyUnavailable(f"what was given for the {name} header has characters that no header can carry")
        lines.append(f"{name}: {value}")
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _pop(idle: list[_Connection]) -> _Connection | None:
    try:
        return idle.pop()
    except IndexError:  # another thread was faster
        return None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _asked_wait(response: Response) -> float:
    """Seconds of Retry-After, as it stands on throttled answers; dates are left to the usual back-off."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0.0


def _explained(error: Exception, target: _Target, seconds: float) -> Exception:
    """An Unreachable in words that a person can act on."""
    hint, passing = NETWORK_HINT, True
    if isinstance(error, ssl.SSLCertVerificationError):
        why, hint, passing = f"its certificate is not trusted ({shown(error.verify_message, 100)})", _CA_HINT, False
    elif isinstance(error, ssl.SSLError):
        why, passing = f"TLS failed ({shown(error.reason or error.strerror or 'broken', 60)})", False
    elif isinstance(error, TimeoutError):
        name = "" if target.local else ", the limit call_seconds or retry_seconds"
        why = f"no answer within {seconds:g} s (timeout{name})"
    elif isinstance(error, socket.gaierror):
        why = f"its name cannot be resolved (DNS: {shown(error.strerror, 60)})"
        passing = error.errno == socket.EAI_AGAIN
    elif isinstance(error, (RemoteDisconnected, IncompleteRead)):
        why = "the connection was cut before the answer was complete"
    elif isinstance(error, _TooLarge):
        why, hint, passing = f"its answer has more than {LARGEST_BODY >> 20} MiB", "", False
    elif isinstance(error, HTTPException):
        why, hint, passing = "what it answers is no HTTP", "", False
    else:
        assert isinstance(error, OSError)
        why = (error.strerror or "connection failed").lower()
        passing = error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM)
    return Unreachable(f"{shown(target.authority)} is unreachable{target.via}: {why}", hint=hint, passing=passing)


def _is_excepted(target: _Target, exceptions: str) -> bool:
    """Whether NO_PROXY names the target: a host with all below it, ``host:port``, an address, a network, or ``*``."""
    for given in exceptions.lower().split(","):
        name, colon, port = given.strip().rpartition(":")
        if not colon or not port.isdigit() or ":" in name.strip("[]"):
            name, port = given.strip(), ""
        name = name.strip("[]").removeprefix("*.").removeprefix(".") if name != "*" else "*"
        if not name or (port and int(port) != target.port):
            continue
        if name == "*" or target.host == name or target.host.endswith("." + name) or _within(target.host, name):
            return True
    return False


def _within(host: str, network: str) -> bool:
    if "/" not in network:
        return False
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _context(env: Mapping[str, str]) -> ssl.SSLContext:
    """Raises KeyUnavailable where the operator names certificates that cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, folder = env.get("SSL_CERT_FILE"), env.get("SSL_CERT_DIR")
    if not file and not folder:
        file = next((path for path in _BUNDLES if os.path.isfile(path)), None)
        if file is None:
            context.load_default_certs()
            return context
    try:
        context.load_verify_locations(file or None, folder or None)
    except OSError as error:
        named = f"SSL_CERT_FILE {shown(file)}" if file else f"SSL_CERT_DIR {shown(folder)}"
        raise KeyUnavailable(f"{named} holds no certificates that can be read ({error.strerror})") from None
    return context
