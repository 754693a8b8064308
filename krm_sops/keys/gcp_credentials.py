"""Access to Google Cloud: what `sops.gcp-kms` holds, or what the operator's environment offers, as headers of a call.

In-band only a service account's own key counts (S13): every other kind of credential JSON names addresses, files or
identities to borrow, which is the operator's to do. A service account signs its own token for the service, as Google's
libraries do for KMS (https://google.aip.dev/auth/4111), so that its key is sent nowhere and no token is fetched.
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, shown
from krm_sops.keys.cloud import jwt, kept, post_form, post_json, refusal, text_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from krm_sops.credentials import Credentials, KeyEntry
    from krm_sops.host import Host
    from krm_sops.http import Response

    Headers = dict[str, str]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TOKEN_URIS = (
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v3/token",
    "https://www.googleapis.com/oauth2/v4/token",
)
_TOKEN_SECONDS = 3600
_FORMAT_HINT = "sops.gcp-kms holds the JSON key file of a service account, as Google gave it"


def sources(credentials: Credentials, scope: str = SCOPE) -> list[tuple[str, Callable[[], Headers]]]:
    """The credentials to try in order, each loaded once in a credential scope. The ambient ones are one: the first.

    scope: what a token is for, where one is asked for or signed.
    """
    found: list[tuple[str, Callable[[], Headers]]] = []
    for number, entry in enumerate(credentials.entries_for("gcp_kms")):
        place = shown(f"{entry.name} of {entry.origin}")
        name = f"gcp entry {number} {scope}"
        found.append((place, kept(credentials, name, lambda entry=entry: _in_band(entry, scope))))  # type: ignore[misc]
    if credentials.ambient_for("gcp_kms"):
        place, load = credentials.once(f"gcp ambient source {scope}", lambda: _ambient(credentials.host, scope))
        found.append((place, kept(credentials, f"gcp ambient {scope}", load)))
    return found


def _in_band(entry: KeyEntry, scope: str) -> Headers:
    found = _object(entry.data, "sops.gcp-kms")
    kind = text_at(found, "type")
    if kind != "service_account":
        raise KeyUnavailable(
            f"sops.gcp-kms holds credentials of the type {shown(kind or 'none', 40)}; only service_account is taken",
            hint="other types borrow what is the operator's: set them as GOOGLE_APPLICATION_CREDENTIALS",
        )
    if found.get("token_uri", _TOKEN_URIS[0]) not in _TOKEN_URIS:
        raise KeyUnavailable("sops.gcp-kms: token_uri is not Google's", hint=_FORMAT_HINT)
    return service_account(found, "sops.gcp-kms", scope=scope)


def _ambient(host: Host, scope: str) -> tuple[str, Callable[[], Headers]]:
    """The first that is set, in sops' order and then Google's (application default credentials)."""
    env = host.env
    given = env.get("GOOGLE_CREDENTIALS")
    if given:
        return "GOOGLE_CREDENTIALS", lambda: _from_json(_file_or_text(host, given), "GOOGLE_CREDENTIALS", host, scope)
    token = env.get("GOOGLE_OAUTH_ACCESS_TOKEN")
    if token:
        return "GOOGLE_OAUTH_ACCESS_TOKEN", lambda: _bearer(token)
    path = env.get("GOOGLE_APPLICATION_CREDENTIALS")
    if path:
        place = f"GOOGLE_APPLICATION_CREDENTIALS {shown(path)}"
        return place, lambda: _from_json(_read(host, path, place), place, host, scope)
    folder = env.get("CLOUDSDK_CONFIG") or (f"{host.home()}/.config/gcloud" if host.home() else "")
    if folder:
        path = f"{folder}/application_default_credentials.json"
        try:
            data = host.read(path)
        except OSError:
            pass
        else:
            return shown(path), lambda: _from_json(data, shown(path), host, scope)
    return "the metadata server", lambda: _from_metadata_server(host)


def _file_or_text(host: Host, given: str) -> bytes:
    if given.lstrip().startswith("{"):
        return given.encode()
    return _read(host, given, "GOOGLE_CREDENTIALS")


def _read(host: Host, path: str, place: str) -> bytes:
    try:
        return host.read(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no usable path"
        raise KeyUnavailable(
            f"the file that {place.partition(' ')[0]} names cannot be read ({why})",
            hint="a container sees only what is mounted into it",
        ) from None


def _object(data: bytes, place: str) -> dict[str, Any]:
    import json

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise KeyUnavailable(f"{place} holds no JSON object", hint=_FORMAT_HINT)
    return found


def _from_json(data: bytes, place: str, host: Host, scope: str) -> Headers:
    """Credentials of any type that needs no program; the operator's own, so the addresses in them are, too."""
    found = _object(data, place)
    kind = text_at(found, "type")
    if kind == "service_account":
        headers = service_account(found, place, scope=scope)
    elif kind == "authorized_user":
        headers = _authorized_user(found, host)
    elif kind == "impersonated_service_account":
        import json

        inner = json.dumps(found.get("source_credentials")).encode()
        source = _from_json(inner, f"{place}, source_credentials", host, SCOPE)  # to act for another takes all of it
        headers = _impersonated(found, source, host, scope)
    elif kind == "external_account":
        acts = text_at(found, "service_account_impersonation_url")
        headers = _external_account(found, host, SCOPE if acts else scope)
        if acts:
            headers = _impersonated(found, headers, host, scope)
    else:
        raise KeyUnavailable(f"{place} holds credentials of the type {shown(kind or 'none', 40)}, which is not known")
    project = host.env.get("GOOGLE_CLOUD_QUOTA_PROJECT") or text_at(found, "quota_project_id")
    return {**headers, "X-Goog-User-Project": project} if project else headers


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def service_account(found: Mapping[str, Any], place: str, now: int | None = None, scope: str = SCOPE) -> Headers:
    """now: seconds since 1970; None is now. Raises KeyUnavailable."""
    from time import time

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    email, key_id = text_at(found, "client_email"), text_at(found, "private_key_id")
    try:
        key = load_pem_private_key(text_at(found, "private_key").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey) or not email:
        raise KeyUnavailable(f"{place} lacks a client_email or a private_key that is RSA in PEM", hint=_FORMAT_HINT)
    signer = key
    issued = int(time()) if now is None else now
    header = {"alg": "RS256", "typ": "JWT", **({"kid": key_id} if key_id else {})}
    claims = {"iss": email, "sub": email, "iat": issued, "exp": issued + _TOKEN_SECONDS, "scope": scope}
    return _bearer(jwt(header, claims, lambda text: signer.sign(text, PKCS1v15(), SHA256())))


def _authorized_user(found: Mapping[str, Any], host: Host) -> Headers:
    """A person's login with gcloud (RFC 6749, section 6)."""
    fields = {name: text_at(found, name) for name in ("client_id", "client_secret", "refresh_token")}
    response = post_form(host.http, _TOKEN_URIS[0], {}, {"grant_type": "refresh_token", **fields})
    return _bearer(_token(response, "access_token", "Google's login", "gcloud auth application-default login again"))


def _external_account(found: Mapping[str, Any], host: Host, scope: str) -> Headers:
    """Workload identity federation: another issuer's token for Google's (RFC 8693)."""
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": text_at(found, "audience"),
        "scope": scope,
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": text_at(found, "subject_token_type"),
        "subject_token": _subject_token(found, host),
    }
    response = post_form(host.http, text_at(found, "token_url"), {}, fields)
    return _bearer(_token(response, "access_token", "Google's token exchange"))


def _subject_token(found: Mapping[str, Any], host: Host) -> str:
    source = found.get("credential_source")
    path, url = text_at(found, "credential_source", "file"), text_at(found, "credential_source", "url")
    if not isinstance(source, dict) or source.get("environment_id") or not (path or url):
        raise KeyUnavailable(
            "external_account credentials are taken with a file or url as credential_source, not from AWS, programs "
            "or certificates",
            hint="exchange the token before, and set GOOGLE_OAUTH_ACCESS_TOKEN",
        )
    if path:
        data = _read(host, path, "credential_source")
    else:
        given = source.get("headers")
        headers = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
        response = host.http.request("GET", url, headers, local=url.startswith("http://"))
        if response.status != 200:
            raise refusal("the credential_source", response, "")
        data = response.body
    if text_at(source, "format", "type") == "json":
        token = text_at(_object(data, "the credential_source"), text_at(source, "format", "subject_token_field_name"))
    else:
        token = data.decode("ascii", "replace").strip()
    if not token:
        raise KeyUnavailable("the credential_source holds no token")
    return token


def _impersonated(found: Mapping[str, Any], headers: Headers, host: Host, scope: str) -> Headers:
    """The token of the service account that `headers` may act for."""
    fields = {"scope": [scope], "lifetime": f"{_TOKEN_SECONDS}s"}
    delegates = found.get("delegates")
    if delegates:
        fields["delegates"] = delegates
    response = post_json(host.http, text_at(found, "service_account_impersonation_url"), headers, fields)
    hint = "give the caller roles/iam.serviceAccountTokenCreator on the service account"
    return _bearer(_token(response, "accessToken", "impersonation of the service account", hint))


def _from_metadata_server(host: Host) -> Headers:
    """On Compute Engine, Cloud Run, GKE (workload identity): the attached service account's token."""
    server = host.env.get("GCE_METADATA_HOST") or "metadata.google.internal"
    url = f"http://{server}/computeMetadata/v1/instance/service-accounts/default/token"
    try:
        response = host.http.request("GET", url, {"Metadata-Flavor": "Google"}, local=True)
        if response.headers.get("metadata-flavor") != "Google":
            raise KeyUnavailable("what answers for the metadata server is none")
        return _bearer(_token(response, "access_token", "the metadata server"))
    except KeyUnavailable as error:
        from krm_sops.keys.gcp_kms import CREDENTIALS_HINT

        raise KeyUnavailable(f"no Google credentials are set, and {error.message}", hint=CREDENTIALS_HINT) from None


def _token(response: Response, name: str, who: str, hint: str = "") -> str:
    found = response.json()
    token = text_at(found, name)
    if response.status != 200 or not token:
        words = (
            text_at(found, "error_description")
            or text_at(found, "error", "message")
            or text_at(found, "error")
            or ("" if response.status != 200 else "no token in the answer")
        )
        raise refusal(who, response, words, hint)
    return token
