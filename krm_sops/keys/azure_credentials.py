"""Access to Azure Key Vault: what `sops.azure-kv` holds, or what the operator's environment offers, as headers.

In-band a service principal proves itself by its own secret or certificate, at one of Microsoft's login hosts. A client
id alone names a managed identity of the machine, which is ambient power (S13). Ambient: the part of Azure's default
chain that is for deployments: environment, workload identity, managed identity.
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, shown
from krm_sops.keys.azure_kv import CLOUDS, CREDENTIALS_HINT
from krm_sops.keys.cloud import (
    base64_decoded,
    base64_encoded,
    base64url_encoded,
    jwt,
    kept,
    mapping_in,
    only,
    post_form,
    refusal,
    text_at,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from krm_sops.credentials import Credentials, KeyEntry
    from krm_sops.host import Host
    from krm_sops.http import Response

    Headers = dict[str, str]
    Source = tuple[str, Callable[[], Headers]]

LOGIN_HOSTS = (*dict.fromkeys(CLOUDS.values()), "login.partner.microsoftonline.cn", "login.windows.net")
_ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 600
_ENTRY_HINT = (
    "sops.azure-kv holds tenantId, clientId and clientSecret or clientCertificate; or tenant, appId and password"
)
_IMDS = "http://169.254.169.254"


def sources(credentials: Credentials, suffix: str) -> list[Source]:
    """The credentials to try in order, each loaded once in a credential scope. The ambient ones are one: the first.

    suffix: what the vault's host ends in; tokens are good for all vaults of one suffix.
    """
    found: list[Source] = []
    for number, entry in enumerate(credentials.entries_for("azure_kv")):
        place = shown(f"{entry.name} of {entry.origin}")
        load = _of_entry(entry, suffix, credentials)
        found.append((place, kept(credentials, f"azure entry {number} {suffix}", load)))
    if credentials.ambient_for("azure_kv"):
        place, load = _ambient(credentials.host, suffix)
        found.append((place, kept(credentials, f"azure ambient {suffix}", load)))
    return found


class _Client:
    """An application at Entra ID. Raises KeyUnavailable for a tenant that could change the address."""

    def __init__(self, tenant: str, client_id: str, authority: str, suffix: str) -> None:
        if not only(tenant, _ALNUM + ".-", 255) or ".." in tenant or tenant[0] == ".":
            raise KeyUnavailable("the tenant is neither an id nor a domain name")
        self.client_id = client_id
        self.scope = f"https://{suffix}/.default"
        self.token_url = f"https://{authority}/{tenant}/oauth2/v2.0/token"


def _of_entry(entry: KeyEntry, suffix: str, credentials: Credentials) -> Callable[[], Headers]:
    def load() -> Headers:
        found = mapping_in(entry.data, "sops.azure-kv")
        host = credentials.host
        authority = _in_band_authority(found.get("authorityhost", "")) or CLOUDS[suffix]
        tenant, client_id = found.get("tenantid", ""), found.get("clientid", "")
        if tenant and client_id and found.get("clientsecret"):
            return _with_secret(_Client(tenant, client_id, authority, suffix), found["clientsecret"], host)
        if tenant and client_id and found.get("clientcertificate"):
            text, password = found["clientcertificate"], found.get("clientcertificatepassword", "")
            what = "sops.azure-kv: clientCertificate"
            data = text.encode() if "-----BEGIN" in text else base64_decoded(text, f"{what}, which is no PEM,")
            send_chain = found.get("clientcertificatesendchain") == "true"
            client = _Client(tenant, client_id, authority, suffix)
            return _with_certificate(client, data, password, send_chain, host, what)
        if found.get("tenant") and found.get("appid") and found.get("password"):
            return _with_secret(_Client(found["tenant"], found["appid"], authority, suffix), found["password"], host)
        if not client_id:
            raise KeyUnavailable("sops.azure-kv holds no usable credentials", hint=_ENTRY_HINT)
        if not credentials.ambient_for("azure_kv"):
            raise KeyUnavailable(
                "sops.azure-kv names a managed identity of this machine, and no secret of its own",
                hint="that is ambient power: ask for it with `ambient: always`, or leave the entry out",
            )
        return _managed_identity(host, suffix, client_id)

    return load


def _in_band_authority(given: str) -> str:
    """The login host; "" for none given. Raises KeyUnavailable for one that is not Microsoft's."""
    host = given.strip().lower().removeprefix("https://").removesuffix("/")
    if host and host not in LOGIN_HOSTS:
        raise KeyUnavailable(
            "sops.azure-kv: authorityHost is none of Microsoft's login hosts",
            hint="one of " + ", ".join(f"https://{known}" for known in LOGIN_HOSTS),
        )
    return host


def _ambient(host: Host, suffix: str) -> Source:
    """The first that is set up, in the order of Azure's DefaultAzureCredential."""
    env = host.env
    tenant, client_id = env.get("AZURE_TENANT_ID", ""), env.get("AZURE_CLIENT_ID", "")
    if not (tenant and client_id):
        return "managed identity", lambda: _managed_identity(host, suffix, client_id)
    secret = env.get("AZURE_CLIENT_SECRET")
    if secret:
        return "AZURE_CLIENT_SECRET", lambda: _with_secret(_ambient_client(host, suffix), secret, host)
    path = env.get("AZURE_CLIENT_CERTIFICATE_PATH")
    if path:
        return "AZURE_CLIENT_CERTIFICATE_PATH", lambda: _with_certificate(
            _ambient_client(host, suffix),
            _read(host, path, "AZURE_CLIENT_CERTIFICATE_PATH"),
            env.get("AZURE_CLIENT_CERTIFICATE_PASSWORD", ""),
            env.get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "").lower() in ("1", "true"),
            host,
            "AZURE_CLIENT_CERTIFICATE_PATH",
        )
    path = env.get("AZURE_FEDERATED_TOKEN_FILE")
    if path:
        return "AZURE_FEDERATED_TOKEN_FILE", lambda: _with_assertion(
            _ambient_client(host, suffix),
            _read(host, path, "AZURE_FEDERATED_TOKEN_FILE").decode("ascii", "replace").strip(),
            host,
        )
    return "managed identity", lambda: _managed_identity(host, suffix, client_id)


def _ambient_client(host: Host, suffix: str) -> _Client:
    given = host.env.get("AZURE_AUTHORITY_HOST", "").strip()
    authority = given.removeprefix("https://").removesuffix("/") or CLOUDS[suffix]
    if "/" in authority:
        raise KeyUnavailable("AZURE_AUTHORITY_HOST is no https:// URL of a host")
    return _Client(host.env["AZURE_TENANT_ID"], host.env["AZURE_CLIENT_ID"], authority, suffix)


def _read(host: Host, path: str, variable: str) -> bytes:
    try:
        return host.read(path)
    except (OSError, ValueError) as error:
        raise KeyUnavailable(
            f"the file that {variable} names cannot be read ({getattr(error, 'strerror', None) or 'no usable path'})",
            hint="a container sees only what is mounted into it",
        ) from None


def _with_secret(client: _Client, secret: str, host: Host) -> Headers:
    return _login(client, {"client_secret": secret}, host)


def _with_assertion(client: _Client, assertion: str, host: Host) -> Headers:
    return _login(client, {"client_assertion_type": _ASSERTION, "client_assertion": assertion}, host)


def _login(client: _Client, proof: Mapping[str, str], host: Host) -> Headers:
    """OAuth's client credentials grant (RFC 6749, section 4.4; RFC 7523 for assertions)."""
    fields = {
        "client_id": client.client_id,
        "scope": client.scope,
        "grant_type": "client_credentials",
        **proof,
    }
    response = post_form(host.http, client.token_url, {}, fields)
    return _bearer(
        response, "the login at Entra ID", "look at the tenant, the client id, and whether its secret expired"
    )


def _with_certificate(client: _Client, data: bytes, password: str, send_chain: bool, host: Host, what: str) -> Headers:
    return _with_assertion(client, certificate_assertion(client, data, password, send_chain, what), host)


def certificate_assertion(client: _Client, data: bytes, password: str, send_chain: bool, what: str) -> str:
    """What proves that we hold the certificate's key.

    data: PEM, or PKCS#12.  send_chain: certificates go along, for trust by subject name and issuer.
    Source: Microsoft identity platform, application authentication certificate credentials.
    """
    from os import urandom
    from time import time

    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    key, certificates = _key_and_certificates(data, password, what)
    header: dict[str, Any] = {
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": base64url_encoded(certificates[0].fingerprint(SHA256())),
    }
    if send_chain:
        header["x5c"] = [base64_encoded(certificate.public_bytes(Encoding.DER)) for certificate in certificates]
    now = int(time())
    claims = {
        "aud": client.token_url,
        "iss": client.client_id,
        "sub": client.client_id,
        "jti": urandom(16).hex(),
        "nbf": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    padding = PSS(MGF1(SHA256()), SHA256.digest_size)
    return jwt(header, claims, lambda text: bytes(key.sign(text, padding, SHA256())))


def _key_and_certificates(data: bytes, password: str, what: str) -> tuple[Any, list[Any]]:
    """The RSA key and its certificate first of all. Raises KeyUnavailable."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
    from cryptography.x509 import load_pem_x509_certificates

    secret = password.encode() or None
    try:
        if b"-----BEGIN" in data:
            given = secret if b"ENCRYPTED" in data else None
            try:
                key: Any = load_pem_private_key(data, given)
            except ValueError:  # PKCS#1 under the label of PKCS#8, which Go takes, too
                key = load_pem_private_key(data.replace(b" PRIVATE KEY", b" RSA PRIVATE KEY"), given)
            certificates: list[Any] = list(load_pem_x509_certificates(data))
        else:
            store = load_pkcs12(data, secret)
            key = store.key
            certificates = [held.certificate for held in (store.cert, *store.additional_certs) if held]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnavailable(
            f"{what} holds no certificate and key as PEM or PKCS#12, or the password is another"
        ) from None
    public = key.public_key() if isinstance(key, RSAPrivateKey) else None
    own = [certificate for certificate in certificates if certificate.public_key() == public]
    if not own:
        raise KeyUnavailable(f"{what} holds no RSA key with its certificate")
    return key, [own[0], *(certificate for certificate in certificates if certificate is not own[0])]


def _managed_identity(host: Host, suffix: str, client_id: str) -> Headers:
    """The identity of App Service and Container Apps, or of the machine.

    client_id: which, where there are several; "" for the machine's own.
    """
    from urllib.parse import urlencode

    env = host.env
    query = {"resource": f"https://{suffix}", **({"client_id": client_id} if client_id else {})}
    endpoint, secret = env.get("IDENTITY_ENDPOINT"), env.get("IDENTITY_HEADER")
    if endpoint and secret:
        url = f"{endpoint}?{urlencode({'api-version': '2019-08-01', **query})}"
        headers = {"X-IDENTITY-HEADER": secret}
    else:
        base = (env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or _IMDS).rstrip("/")
        url = f"{base}/metadata/identity/oauth2/token?{urlencode({'api-version': '2018-02-01', **query})}"
        headers = {"Metadata": "true"}
    try:
        response = host.http.request("GET", url, headers, local=True)
        return _bearer(response, "the managed identity")
    except KeyUnavailable as error:
        raise KeyUnavailable(
            f"no secret, certificate or federated token is set, and {error.message}", hint=CREDENTIALS_HINT
        ) from None


def _bearer(response: Response, who: str, hint: str = "") -> Headers:
    found = response.json()
    token = text_at(found, "access_token")
    if response.status != 200 or not token:
        words = text_at(found, "error_description") or text_at(found, "error") or text_at(found, "message")
        if response.status == 200:
            words = "no token in the answer"
        raise refusal(who, response, words.splitlines()[0] if words else "", hint)
    return {"Authorization": f"Bearer {token}"}
