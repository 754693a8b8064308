"""The `hc_vault` section: a data key encrypted by the transit engine of HashiCorp Vault or OpenBao.

A document says where its Vault is, and whoever writes a document may be hostile. So a token goes only to a server that
the operator named: in SOPS_HC_VAULT_ALLOWLIST where that is set, else in VAULT_ADDR or the file of KRM_SOPS_VAULT_LOGIN
(S3). Differs from sops, which by default sends its token wherever a document points.

Source: getsops/sops 3.13, hcvault/keysource.go; Vault's HTTP API, transit/encrypt and transit/decrypt.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KeyUnavailable, shown
from krm_sops.keys.cloud import base64_decoded, base64_encoded, first_usable, only, refusal, text_at
from krm_sops.keys.wrapped import with_enc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Self

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.http import Http
    from krm_sops.keys.base import MasterKey

_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_SEGMENT = _ALPHANUMERIC + "_.-"
_ADDRESS = _SEGMENT + ":/[]"
_PRINTABLE = "".join(map(chr, range(33, 127)))
_PORTS = {"https": 443, "http": 80}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_LOGIN = "KRM_SOPS_VAULT_LOGIN"
TOKEN_HINT = (
    "set VAULT_TOKEN, run `vault login`, add a sops.vault-token entry to the key Secret or key folder, or let the "
    f"workload log in (see {_LOGIN})"
)
_HINTS = {
    400: "the data key was wrapped by another key or version of it, or the key was deleted",
    403: "the token has expired or is of another Vault, or its policy lacks update on this path; see "
    "`vault token lookup`; for a namespace set VAULT_NAMESPACE",
    307: "it is a standby that does not forward: name the active server or the load balancer",
    404: "no transit engine is mounted there; for a namespace set VAULT_NAMESPACE",
    429: "the server takes no more calls for now: unwrap fewer documents at once",
    503: "unseal it, or set VAULT_ADDR to a server that is not",
}


class VaultKey:
    __slots__ = ("created_at", "enc", "engine_path", "key_name", "vault_address")

    section: ClassVar[str] = "hc_vault"
    entry_names: ClassVar[tuple[str, ...]] = ("sops.vault-token",)
    flag: ClassVar[str] = "hc-vault-transit"
    letter: ClassVar[str] = ""
    flag_help: ClassVar[str] = "keys of Vault's transit engine: https://HOST:PORT/v1/transit/keys/NAME"
    variable: ClassVar[str] = "SOPS_VAULT_URIS"
    rule_field: ClassVar[str] = "hc_vault_transit_uri"
    group_field: ClassVar[str] = "hc_vault"
    group_entry: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, vault_address: str, engine_path: str, key_name: str, enc: str = "", created_at: str = ""
    ) -> None:
        """engine_path: where transit is mounted, of one segment or more.  enc: ``vault:v1:…``, as transit gave it.

        None of them is checked before the key is used: another may open the document.
        """
        self.vault_address = vault_address
        self.engine_path = engine_path
        self.key_name = key_name
        self.enc = enc
        self.created_at = created_at

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(
            *(fields.get(name, "") for name in ("vault_address", "engine_path", "key_name", "enc", "created_at"))
        )

    def fields(self) -> dict[str, str]:
        return {
            "created_at": self.created_at,
            "enc": self.enc,
            "engine_path": self.engine_path,
            "key_name": self.key_name,
            "vault_address": self.vault_address,
        }

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:  # noqa: ARG003
        """See keys/base.py."""
        return [cls(*_parts(uri)) for uri in text.split(",") if uri]

    @property
    def identity(self) -> str:
        return f"{self.vault_address}/v1/{self.engine_path}/keys/{self.key_name}"

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        return base64_decoded(
            self._call(credentials, "decrypt", "ciphertext", self.enc, "plaintext"), "Vault: the plaintext it answers"
        )

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """The key with `part` in `enc`. Raises KeyUnavailable."""
        enc = self._call(credentials, "encrypt", "plaintext", base64_encoded(part), "ciphertext")
        return with_enc(self, enc)

    def _call(self, credentials: Credentials, verb: str, field: str, text: str, wanted: str) -> str:
        server = Server(self.vault_address, credentials)
        path = "/".join([checked_path(self.engine_path.strip("/")), verb, checked_path(self.key_name, 1)])

        def call(token: str) -> bytes:
            data = server.ask(path, {field: text}, token).get("data")
            found = text_at({"data": data}, "data", wanted)
            if not only(found, _PRINTABLE, 1 << 16):
                raise KeyUnavailable(f"Vault: its answer holds no {wanted}")
            return found.encode("ascii")

        return first_usable(tokens(credentials, server), call, TOKEN_HINT).decode("ascii")


def _parts(uri: str) -> tuple[str, str, str]:
    """Server, engine and key of ``https://HOST:PORT/v1/ENGINE/keys/NAME``. Raises ConfigError."""
    scheme, mark, rest = uri.partition("://")
    server, _, path = rest.partition("/")
    version, *engine = path.strip("/").split("/")
    if not (scheme and mark and server) or version[:1] != "v" or not version[1:].isdecimal() or len(engine) < 3:
        what = f"could not parse {shown(uri)!r} into a key of Vault"
        raise ConfigError(what, hint="it is like https://vault.example.com:8200/v1/transit/keys/NAME")
    return f"{scheme}://{server}", "/".join(engine[:-2]), engine[-1]


class Server:
    """One Vault, which the operator allows to be spoken to. Raises KeyUnavailable for any other (S3)."""

    __slots__ = ("_down", "_http", "_namespace", "address")

    def __init__(self, address: str, credentials: Credentials) -> None:
        host = credentials.host
        self.address = origin_of(address)
        if not self.address:
            raise KeyUnavailable(f"its address {shown(address)!r} is no https://host[:port]")
        _check_allowed(self.address, credentials)
        self._http: Http = credentials.once("hc_vault http", lambda: _http(host))
        self._namespace = host.env.get("VAULT_NAMESPACE", "")
        self._down: dict[str, KeyUnavailable] = credentials.once("hc_vault down", dict)

    def ask(self, path: str, fields: Mapping[str, Any] | None, token: str = "") -> dict[str, Any]:
        """The object that a write to `path` gives, or a read where there are no fields; empty where it gives none.

        Raises KeyUnavailable, without `token` and `fields`.

        A server that is sealed or in trouble, after some tries, is asked once in a credential scope.
        """
        import json

        if self.address in self._down:
            failed = self._down[self.address]
            raise KeyUnavailable(failed.message, hint=failed.hint)
        headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        method, body = ("GET", b"") if fields is None else ("PUT", json.dumps(fields).encode())
        response = self._http.request(method, f"{self.address}/v1/{path}", headers, body)
        answer = response.json()
        if response.status in (200, 204):
            return answer
        sent = fields or {}
        response.secrets = [s for s in (token, sent.get("jwt", ""), sent.get("plaintext", "")) if s]
        errors = answer.get("errors")
        words = "; ".join(error for error in errors if isinstance(error, str)) if isinstance(errors, list) else ""
        failure = refusal("Vault", response, " ".join(words.split()), _HINTS.get(response.status, ""))
        if response.status >= 500:
            self._down[self.address] = failure
        raise failure


def origin_of(address: str) -> str:
    """``scheme://host[:port]``, by which servers are compared: lower case, no default port; "" for anything else."""
    from urllib.parse import urlsplit

    if not only(address, _ADDRESS, 500):  # so no userinfo, query, fragment, percent-encoding
        return ""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host or port == 0 or parts.netloc.endswith(":") or parts.path not in ("", "/"):
        return ""
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, _PORTS.get(parts.scheme)) else "")


def checked_path(path: str, most: int = 20) -> str:
    """The same path. Raises KeyUnavailable unless it is made of plain names, `most` at most."""
    segments = path.split("/")
    if len(segments) > most or not all(only(name, _SEGMENT, 200) and name not in (".", "..") for name in segments):
        what = "a path in Vault" if most > 1 else "the name of a key"
        raise KeyUnavailable(f"{shown(path)!r} is not {what}: names have only letters, digits and _.-")
    return path


def _check_allowed(server: str, credentials: Credentials) -> None:
    env = credentials.host.env
    vaults = credentials.host.vaults
    if vaults is not None and server not in map(origin_of, vaults):
        raise KeyUnavailable(f"{shown(server)} is not allowed: the operator's policy does not list it under vaults")
    listed = env.get("SOPS_HC_VAULT_ALLOWLIST", "")
    if listed == "all" or (vaults is not None and not listed):
        return
    if listed:
        entries = [] if listed == "none" else [entry.strip(" ") for entry in listed.split(",")]
        if "" in entries:
            raise KeyUnavailable(f"SOPS_HC_VAULT_ALLOWLIST: entry {entries.index('') + 1} is empty")
        known = [origin_of(entry) for entry in entries]
        variable = "SOPS_HC_VAULT_ALLOWLIST"
    else:
        known = [origin_of(env.get("VAULT_ADDR", "").strip()), *logins(credentials)]
        variable = "VAULT_ADDR"
    if server not in known:
        raise KeyUnavailable(
            f"{shown(server)} is not allowed: a document chooses its server, and tokens go only where you say",
            hint=f"if this is your Vault, set {variable} to its https://host[:port]"
            + ("" if listed else ", or list several in SOPS_HC_VAULT_ALLOWLIST"),
        )


def logins(credentials: Credentials) -> Mapping[str, Any]:
    """Where the workload may log in, by server; read once for a credential scope."""
    path = credentials.host.env.get(_LOGIN, "")
    if not path:
        return {}
    from krm_sops.keys.vault_login import read

    found: Mapping[str, Any] = credentials.once("hc_vault logins", lambda: read(credentials.host, path))
    return found


def _http(host: Host) -> Http:
    """Raises KeyUnavailable."""
    env = host.env
    file, unverified = env.get("VAULT_CACERT", ""), env.get("VAULT_SKIP_VERIFY", "")
    if unverified not in ("", *_TRUE, *_FALSE):
        raise KeyUnavailable(f"VAULT_SKIP_VERIFY is {shown(unverified, 20)!r}, neither true nor false")
    if not file and unverified not in _TRUE:
        return host.http
    own = {**env, "SSL_CERT_FILE": file, "SSL_CERT_DIR": ""} if file else env
    return host.client(own, verify=unverified not in _TRUE)


def tokens(credentials: Credentials, server: Server) -> list[tuple[str, Callable[[], str]]]:
    """Tokens to try, each with where it is from: handed in; from logging in; ambient. Flux has the same order."""
    found: list[tuple[str, Callable[[], str]]] = []
    for entry in credentials.entries_for("hc_vault"):
        place = entry.origin if entry.origin.endswith(entry.name) else f"{entry.name} of {entry.origin}"
        found.append((shown(place), lambda data=entry.data: _token(data)))  # type: ignore[misc]
    if not credentials.ambient_for("hc_vault"):
        return found
    login = logins(credentials).get(server.address)
    if login is not None:
        name = f"hc_vault login {server.address}"
        found.append((login.label, lambda: credentials.once(name, lambda: login.token(server, credentials.host))))
    return found + _ambient_token(credentials.host)


def _ambient_token(host: Host) -> list[tuple[str, Callable[[], str]]]:
    given = host.env.get("VAULT_TOKEN")
    if given:
        return [("VAULT_TOKEN", lambda: _token(given.encode("utf-8", "replace")))]
    home = host.home()
    path = f"{home}/.vault-token"
    try:
        data = host.read(path, 1 << 16) if home else b""
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"

        def fail() -> str:
            raise KeyUnavailable(why)

        return [(shown(path), fail)]
    return [(shown(path), lambda: _token(data))] if home else []


def _token(data: bytes) -> str:
    """Raises KeyUnavailable, without a part of it."""
    text = data.strip().decode("ascii", "replace")
    if not text:
        raise KeyUnavailable("the token is empty")
    if not only(text, _PRINTABLE, 1 << 16):
        raise KeyUnavailable("the token has characters that no token has")
    return text


if TYPE_CHECKING:
    _: type[MasterKey] = VaultKey
