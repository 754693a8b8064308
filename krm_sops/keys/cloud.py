"""What the key types of the clouds share: several credentials tried in order, and a service's refusal in its words."""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from krm_sops.credentials import Credentials
    from krm_sops.http import Http, Response

    T = TypeVar("T")
    R = TypeVar("R")

_WORDS = {400: "refused", 401: "credentials refused", 403: "denied", 404: "not found", 429: "throttled"}


def kept(credentials: Credentials, name: str, load: Callable[[], T]) -> Callable[[], T]:
    """`load`, done once in a credential scope, also when it fails: 500 documents do not ask 500 times for a token."""

    def outcome() -> T | KeyUnavailable:
        try:
            return load()
        except KeyUnavailable as error:
            return error

    def given() -> T:
        found: T | KeyUnavailable = credentials.once(name, outcome)
        if isinstance(found, KeyUnavailable):
            raise KeyUnavailable(found.message, hint=found.hint)
        return found

    return given


def first_usable(sources: Sequence[tuple[str, Callable[[], T]]], call: Callable[[T], R], hint: str) -> R:
    """What `call` gives with the first credentials that it succeeds with.

    sources: where the credentials are from, and how to get them.  hint: for when there are none.
    Raises KeyUnavailable with the reason of each.
    """
    if not sources:
        raise KeyUnavailable("no credentials at hand", hint=hint)
    reasons: list[str] = []
    hints: list[str] = []
    for place, load in sources:
        try:
            return call(load())
        except KeyUnavailable as error:
            reasons.append(f"{error.message} (with {place})")
            hints.append(error.hint)
    raise KeyUnavailable("; ".join(reasons), hint=next(filter(None, hints), ""))


def post_json(http: Http, url: str, headers: Mapping[str, str], fields: Mapping[str, Any]) -> Response:
    import json

    body = json.dumps(fields, separators=(",", ":")).encode()
    return http.request("POST", url, {"Content-Type": "application/json", **headers}, body)


def post_form(http: Http, url: str, headers: Mapping[str, str], fields: Mapping[str, str]) -> Response:
    from urllib.parse import urlencode

    body = urlencode(fields).encode()
    return http.request("POST", url, {"Content-Type": "application/x-www-form-urlencoded", **headers}, body)


def refusal(what: str, response: Response, words: str, hint: str = "") -> KeyUnavailable:
    """what: who refused, to begin the message with.  words: the service's own; foreign text."""
    status = response.status
    cause = _WORDS.get(status) or ("redirected, which is not followed" if 300 <= status < 400 else "failed")
    said = response.without_secrets(words)
    return KeyUnavailable(f"{what}: {cause} (HTTP {status}{f', {shown(said)}' if said else ''})", hint=hint)


def mapping_in(data: bytes, what: str) -> dict[str, str]:
    """The texts of a YAML or JSON mapping in UTF-8 or UTF-16, by lower-case name (as Go matches them).

    Raises KeyUnavailable, which says nothing of the content.
    """
    from krm_sops.errors import KrmSopsError
    from krm_sops.limits import FUNCTION
    from krm_sops.tree import Branch
    from krm_sops.yamlio import read

    try:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        root = read(data.decode(encoding), FUNCTION, 100).root
    except (KrmSopsError, ValueError):
        root = None
    if not isinstance(root, Branch):
        raise KeyUnavailable(f"{what} is no YAML or JSON mapping")
    found = {}
    for entry in root.entries:
        if isinstance(entry.key, str) and isinstance(entry.value, (str, bool)):
            found[entry.key.lower()] = entry.value if isinstance(entry.value, str) else str(entry.value).lower()
    return found


def text_at(found: Mapping[str, Any], *path: str) -> str:
    """The text at a path of nested objects; "" where there is none."""
    value: Any = found
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def only(text: str, alphabet: str, longest: int) -> bool:
    """Whether `text` has 1 to `longest` characters, all of `alphabet`."""
    return 0 < len(text) <= longest and all(character in alphabet for character in text)


def base64_decoded(text: str, what: str) -> bytes:
    """Standard base64, line breaks allowed, never nothing. Raises KeyUnavailable."""
    from binascii import Error, a2b_base64

    letters = text.replace("\r", "").replace("\n", "")
    if not letters:
        raise KeyUnavailable(f"{what} is empty")
    try:
        if len(letters) % 4 == 0:
            return a2b_base64(letters.encode("ascii"), strict_mode=True)
    except (Error, UnicodeEncodeError):
        pass
    raise KeyUnavailable(f"{what} is no base64")


def base64_encoded(data: bytes) -> str:
    from binascii import b2a_base64

    return b2a_base64(data, newline=False).decode("ascii")


def base64url_decoded(text: str, what: str) -> bytes:
    """base64url without padding. Raises KeyUnavailable."""
    if "+" in text or "/" in text or "=" in text:
        raise KeyUnavailable(f"{what} is no base64url")
    return base64_decoded(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), what)


def base64url_encoded(data: bytes) -> str:
    return base64_encoded(data).rstrip("=").replace("+", "-").replace("/", "_")


def jwt(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A JSON Web Token (RFC 7519). sign: the signature of the ASCII text before it."""
    import json

    parts = (base64url_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    signed = ".".join(parts)
    return f"{signed}.{base64url_encoded(sign(signed.encode('ascii')))}"
