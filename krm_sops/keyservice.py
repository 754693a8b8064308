"""A client of sops' key service: a key stays on another host, which unwraps data keys with it.

gRPC over HTTP/2 without TLS, one call a connection. HTTP/2 is h2's (the extra `keyservice`); the few protobuf messages
are written here.

What a service is asked is public (which key, and the wrapped data key), but its answer is a data key in the clear. So
without the operator's explicit word on the command line it is on this machine: loopback, or a socket of our own or
root's (S33). Differs from sops, which takes any address from SOPS_KEYSERVICE too.

Source: getsops/sops 3.13, keyservice/keyservice.proto; grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KeyUnavailable, WrongKey, shown
from krm_sops.keys.wrapped import with_enc
from krm_sops.tree import to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from socket import socket
    from typing import Any, TypeVar

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey

    T = TypeVar("T")

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""A person may be asked for a PIN or, with ``sops keyservice --prompt``, for permission."""
LARGEST_REQUEST = 65_000
"""What fits HTTP/2's first window, many times what a wrapped data key needs."""
_LARGEST_ANSWER = 4096
_STRUCTURED = {
    "kms": (1, ("arn", "role", "context", "aws_profile")),
    "azure_kv": (4, ("vault_url", "name", "version")),
    "hc_vault": (5, ("vault_address", "engine_path", "key_name")),
}
_NAMED = {"pgp": 2, "gcp_kms": 3, "age": 6, "hckms": 7}
"""Key type -> its number in the message Key, and which attributes of ours are its fields 1, 2, … in that order.

Those in `_NAMED` have one field, what sops prints as the key's identity.
"""
_STATUSES = {"4": "timed out", "5": "not found", "7": "denied", "12": "not a key service", "14": "unavailable"}


class KeyService:
    """address: ``tcp://host:port`` or ``unix:///path``; shown in messages."""

    __slots__ = ("_path", "_seconds", "_tcp", "address", "remote")

    def __init__(self, address: str, *, by_hand: bool, seconds: float = ANSWER_SECONDS) -> None:
        """by_hand: whether the operator wrote it on the command line.  seconds: how long an answer may take.

        Raises ConfigError for an address that is none, and for one that needs the operator's word.
        """
        self.address = shown(address)
        self._seconds = seconds
        self._path = ""
        self._tcp = ("", 0)
        scheme, mark, rest = address.partition("://")
        if mark and scheme == "unix" and rest.startswith("/") and "\0" not in rest:
            self._path = rest
        elif mark and scheme == "tcp":
            self._tcp = host_and_port(rest)
        if not self._path and not self._tcp[1]:
            raise ConfigError(f"{self.address!r} is no address of a key service: tcp://host:port or unix:///path")
        self.remote = not self._path and not is_loopback(self._tcp[0])
        if not by_hand:
            self._check_local()

    def decrypt(self, key: MasterKey) -> bytes:
        """The data key, or share, that `key.enc` wraps; any length. Raises KeyUnavailable."""
        return self._call("/KeyService/Decrypt", key, to_bytes(key.enc))

    def encrypt(self, key: MasterKey, part: bytes) -> str:
        """`part`, wrapped by `key`: what becomes its `enc`. Raises KeyUnavailable."""
        return self._call("/KeyService/Encrypt", key, part).decode("utf-8", "replace")

    def _check_local(self) -> None:
        hint = "name it with --keyservice on the command line if you mean it"
        if self.remote:
            raise ConfigError(f"SOPS_KEYSERVICE: {self.address} is on another host", hint=hint)
        if self._path and not _is_own_socket(self._path):
            raise ConfigError(f"SOPS_KEYSERVICE: {self.address} is no socket of yours or root's", hint=hint)

    def _call(self, method: str, key: MasterKey, data: bytes) -> bytes:
        request = field(1, _key_message(key)) + field(2, data)
        if len(request) > LARGEST_REQUEST:
            raise KeyUnavailable(f"{len(request)} bytes are too many to ask a key service")
        try:
            import h2.connection  # noqa: F401
        except ImportError:
            raise KeyUnavailable(
                "key services need the package h2", hint="pip install 'krm-sops[keyservice]'"
            ) from None
        try:
            with self._connected() as sock:
                sock.settimeout(self._seconds)
                answer = _Exchange(sock, self._seconds).call(method, self._tcp[0] or "localhost", request)
        except TimeoutError:
            raise KeyUnavailable(f"{self.address}: no answer within {self._seconds:g} s") from None
        except OSError as error:
            why = (error.strerror or "the connection was cut").lower()
            raise KeyUnavailable(
                f"{self.address} is unreachable: {why}", hint=f"start it there: sops keyservice, at {self.address}"
            ) from None
        except _Refused as error:
            raise KeyUnavailable(f"{self.address}: {error}") from None
        return answer

    def _connected(self) -> socket:
        """Raises OSError."""
        import socket

        if not self._path:
            return socket.create_connection(self._tcp, min(CONNECT_SECONDS, self._seconds))
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(min(CONNECT_SECONDS, self._seconds))
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        return sock


def served(key: MasterKey, services: Sequence[KeyService], *, local: bool) -> MasterKey:
    """The key, to be tried here, if `local`, and then by each service: sops' order."""
    from typing import cast

    return cast("MasterKey", _ServedKey(key, services, local))  # no class of a section, but all that `recover` asks for


class _ServedKey:
    __slots__ = ("_key", "_local", "_services", "section")

    def __init__(self, key: MasterKey, services: Sequence[KeyService], local: bool) -> None:
        self._key = key
        self._services = services
        self._local = local
        self.section = key.section

    def fields(self) -> dict[str, str]:
        return self._key.fields()

    @property
    def identity(self) -> str:
        return self._key.identity

    @property
    def enc(self) -> str:
        return self._key.enc

    def wrap(self, part: bytes, credentials: Credentials) -> MasterKey:
        """The key itself, around `part`. See keys/base.py."""

        def ask(service: KeyService) -> MasterKey:
            if self._key.fields().get("version") == "":
                raise KeyUnavailable("a key service does not tell which version of the key it takes: name one")
            return with_enc(self._key, service.encrypt(self._key, part))

        return self._first(lambda: self._key.wrap(part, credentials), ask)

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        return self._first(lambda: self._key.unwrap(credentials), lambda service: service.decrypt(self._key))

    def _first(self, here: Callable[[], T], there: Callable[[KeyService], T]) -> T:
        """What is done here, or by the first service that can."""
        failed: list[WrongKey | KeyUnavailable] = []
        if self._local:
            try:
                return here()
            except (WrongKey, KeyUnavailable) as error:
                failed.append(error)
        for service in self._services:
            try:
                return there(service)
            except KeyUnavailable as error:
                failed.append(error)
        if not failed:
            raise KeyUnavailable("there is neither a local key service nor another one")
        raise KeyUnavailable(
            "; ".join(error.message for error in failed),
            hint=next(filter(None, (e.hint for e in reversed(failed))), ""),
        )


def host_and_port(text: str) -> tuple[str, int]:
    """("", 0) where it is none."""
    host, _, port = text.removesuffix("/").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    plain = host.isascii() and host.isprintable() and not any(mark in host for mark in " /@?#%[]\\")
    if not host or not plain or not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        return "", 0
    return host, int(port)


def is_loopback(host: str) -> bool:
    labels = host.split(".")
    return host in ("localhost", "::1") or (labels[0] == "127" and len(labels) == 4 and all(map(str.isdigit, labels)))


def _is_own_socket(path: str) -> bool:
    import os
    import stat

    try:
        found = os.stat(path)
    except OSError:
        return True  # it cannot be reached either, which says more
    return stat.S_ISSOCK(found.st_mode) and found.st_uid in (0, os.geteuid())


class _Refused(Exception):
    """The service answered, but not with what was asked for."""


class _Exchange:
    """One gRPC call over a fresh connection. Raises OSError, _Refused."""

    def __init__(self, sock: socket, seconds: float) -> None:
        from time import monotonic

        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self._sock = sock
        self._now = monotonic
        self._deadline = monotonic() + seconds
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._headers: dict[str, str] = {}
        self._body = b""

    def call(self, method: str, authority: str, request: bytes) -> bytes:
        """The bytes field 1 of the answer."""
        from h2.exceptions import ProtocolError

        try:
            self._send(method, authority, request)
            while not self._ended(self._received()):
                self._sock.sendall(self._http.data_to_send())
        except (ProtocolError, UnicodeDecodeError):
            raise _Refused("what it answers is no gRPC") from None
        return self._answer()

    def _send(self, method: str, authority: str, request: bytes) -> None:
        http = self._http
        http.initiate_connection()
        stream = http.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": f"[{authority}]" if ":" in authority else authority,
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "krm-sops",
        }
        http.send_headers(stream, list(headers.items()))
        message = b"\0" + len(request).to_bytes(4, "big") + request
        size = http.max_outbound_frame_size
        for start in range(0, len(message), size):
            http.send_data(stream, message[start : start + size], end_stream=start + size >= len(message))
        self._sock.sendall(http.data_to_send())

    def _received(self) -> list[Any]:
        left = self._deadline - self._now()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionError
        events: list[Any] = self._http.receive_data(data)
        return events

    def _ended(self, events: list[Any]) -> bool:
        from h2 import events as kinds

        for event in events:
            if isinstance(event, (kinds.ResponseReceived, kinds.TrailersReceived)):
                headers: Any = event.headers
                self._headers |= dict(headers)
            elif isinstance(event, kinds.DataReceived):
                self._body += event.data or b""
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                if len(self._body) > _LARGEST_ANSWER:
                    raise _Refused("its answer is too large")
            elif isinstance(event, kinds.StreamEnded):
                return True
            elif isinstance(event, (kinds.StreamReset, kinds.ConnectionTerminated)):
                raise _Refused("it broke the call off")
        return False

    def _answer(self) -> bytes:
        status = self._headers.get("grpc-status", "")
        if not status:
            raise _Refused(f"what it answers is no gRPC (HTTP {shown(self._headers.get(':status', '?'), 20)})")
        if status != "0":
            from urllib.parse import unquote

            words = " ".join(unquote(self._headers.get("grpc-message", "")).split())
            what = _STATUSES.get(status, "failed")
            raise _Refused(f"{what} (gRPC {shown(status, 20)}{f', {shown(words)}' if words else ''})")
        if self._body[:1] != b"\0" or int.from_bytes(self._body[1:5], "big") != len(self._body) - 5:
            raise _Refused("its answer is no single uncompressed message")
        try:
            return next((data for number, data in fields_of(self._body[5:]) if number == 1), b"")
        except (IndexError, ValueError):
            raise _Refused("its answer is no protobuf message") from None


def _key_message(key: MasterKey) -> bytes:
    """The message Key. Raises KeyUnavailable for a type that key services do not know."""
    if key.section in _NAMED:
        return field(_NAMED[key.section], field(1, to_bytes(key.identity)), empty=True)
    if key.section not in _STRUCTURED:
        raise KeyUnavailable(f"key services know no {shown(key.section, 40)} keys")
    number, names = _STRUCTURED[key.section]
    message = b""
    for position, name in enumerate(names, 1):
        value = getattr(key, name)
        if isinstance(value, str):
            message += field(position, to_bytes(value))
        else:  # the encryption context: an entry of a map is a message of its own
            for one, other in value.items():
                message += field(position, field(1, to_bytes(one)) + field(2, to_bytes(other)), empty=True)
    return field(number, message, empty=True)


def key_of(message: bytes, enc: str) -> MasterKey:
    """The key of a message Key, around a data key or around none.

    Raises ConfigError for another message, MetadataError for a key that cannot be one, IndexError, ValueError.
    """
    from krm_sops.keys import KEY_TYPES

    for number, content in fields_of(message):
        texts = {f"{at}": text.decode() for at, text in fields_of(content)}
        for section, own in _NAMED.items():
            if number == own:
                name = {"pgp": "fp", "gcp_kms": "resource_id", "age": "recipient", "hckms": "key_id"}[section]
                return KEY_TYPES[section].from_fields({name: texts.get("1", ""), "enc": enc})
        for section, (own, names) in _STRUCTURED.items():
            if number == own:
                found = {name: texts.get(f"{at}", "") for at, name in enumerate(names, 1) if name != "context"}
                if section == "kms":
                    found |= _context(content)
                return KEY_TYPES[section].from_fields({**found, "enc": enc})
    raise ConfigError("the request names no key of a type that is known")


def _context(content: bytes) -> dict[str, str]:
    """The encryption context of a KmsKey, as fields of a metadata entry."""
    found = {}
    for number, entry in fields_of(content):
        if number == 3:
            pair = dict(fields_of(entry))
            found[f"context.{pair.get(1, b'').decode()}"] = pair.get(2, b"").decode()
    return found


def field(number: int, data: bytes, *, empty: bool = False) -> bytes:
    """A protobuf field of length and bytes. Proto3 leaves out what is empty, but not which alternative was chosen."""
    return bytes([number << 3 | 2]) + _varint(len(data)) + data if data or empty else b""


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def fields_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field. Raises IndexError, ValueError for what is no message."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while shift < 64:
            byte = message[at]
            at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
        raise ValueError

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            varint()
            continue
        length = varint() if kind == 2 else {1: 8, 5: 4}.get(kind, len(message))
        data = message[at : at + length]
        at += length
        if at > len(message) or not number:
            raise ValueError
        yield number, data
