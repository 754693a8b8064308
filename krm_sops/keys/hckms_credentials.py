"""Access to Huawei Cloud: where the access key comes from, and how it signs a request.

The order is that of Huawei's SDK: environment, profile file, metadata service. Flux knows no entry for it, so nothing
is taken in-band.

Source of the signature: huaweicloud-sdk-go-v3, core/auth/signer; API Gateway, "AK/SK signing", SDK-HMAC-SHA256.
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, shown
from krm_sops.keys.cloud import kept, only, refusal, text_at
from krm_sops.keys.hckms import CREDENTIALS_HINT, domain, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.http import Response

_ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_METADATA = "http://169.254.169.254"
_TOKEN_SECONDS = "21600"  # noqa: S105 (how long)


class AccessKey:
    """token: of temporary credentials, or "".  project: "" where it is to be asked for."""

    __slots__ = ("access", "project", "secret", "token")

    def __init__(self, access: str, secret: str, token: str, project: str) -> None:
        self.access = access
        self.secret = secret
        self.token = token
        self.project = project

    def __repr__(self) -> str:
        return "AccessKey(…)"


def sources(credentials: Credentials) -> list[tuple[str, Callable[[], AccessKey]]]:
    """The ambient credentials, which are one: the first that is set."""
    if not credentials.ambient_for("hckms"):
        return []
    place, load = credentials.once("hckms source", lambda: _ambient(credentials.host))
    return [(place, kept(credentials, "hckms key", load))]


def _ambient(host: Host) -> tuple[str, Callable[[], AccessKey]]:
    env = host.env
    if env.get("HUAWEICLOUD_SDK_AK") and env.get("HUAWEICLOUD_SDK_SK"):
        return "HUAWEICLOUD_SDK_AK", lambda: _from_environment(env)
    path, needed = _profile_path(host)
    if path:
        try:
            data = host.read(path)
        except (OSError, ValueError) as error:
            if needed:
                why = getattr(error, "strerror", None) or "no usable path"
                raise KeyUnavailable(
                    f"the file that HUAWEICLOUD_SDK_CREDENTIALS_FILE names cannot be read ({why})",
                    hint="a container sees only what is mounted into it",
                ) from None
        else:
            return shown(path), lambda: _from_profile(data, shown(path))
    return "the metadata service", lambda: _from_metadata_service(host)


def _from_environment(env: Mapping[str, str]) -> AccessKey:
    names = ("AK", "SK", "SECURITY_TOKEN", "PROJECT_ID")
    return AccessKey(*(env.get(f"HUAWEICLOUD_SDK_{name}", "").strip() for name in names))


def _profile_path(host: Host) -> tuple[str, bool]:
    """The profile file, and whether somebody named it."""
    given = host.env.get("HUAWEICLOUD_SDK_CREDENTIALS_FILE")
    home = host.home()
    return (given, True) if given else (f"{home}/.huaweicloud/credentials" if home else "", False)


def _from_profile(data: bytes, place: str) -> AccessKey:
    """The section ``[basic]`` of an INI file."""
    from configparser import ConfigParser, Error

    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(data.decode("utf-8-sig"))
        section = dict(parser["basic"])
    except (Error, KeyError, ValueError):
        section = {}
    if not section.get("ak") or not section.get("sk"):
        raise KeyUnavailable(f"{place} has no section [basic] with ak and sk")
    return AccessKey(*(section.get(name, "") for name in ("ak", "sk", "security_token", "project_id")))


def _from_metadata_service(host: Host) -> AccessKey:
    """The temporary key of the agency that the server has; its second version wants a token first."""
    http = host.http
    ttl = {"X-Metadata-Token-Ttl-Seconds": _TOKEN_SECONDS}
    try:
        response = http.request("PUT", f"{_METADATA}/meta-data/latest/api/token", ttl, local=True)
        headers = {"X-Metadata-Token": response.body.decode("ascii", "replace")} if response.status == 200 else {}
        response = http.request("GET", f"{_METADATA}/openstack/latest/securitykey", headers, local=True)
        found = response.json()
        access, secret, token = (text_at(found, "credential", name) for name in ("access", "secret", "securitytoken"))
        if response.status != 200 or not access or not secret:
            raise refusal("the metadata service", response, "")
    except KeyUnavailable as error:
        raise KeyUnavailable(
            f"no Huawei Cloud credentials are set, and {error.message}", hint=CREDENTIALS_HINT
        ) from None
    return AccessKey(access, secret, token, host.env.get("HUAWEICLOUD_SDK_PROJECT_ID", ""))


def project_of(key: AccessKey, region: str, credentials: Credentials) -> str:
    """The project that the credentials name, or else the only one they have in the region. Raises KeyUnavailable."""
    host = credentials.host
    project = key.project or kept(credentials, f"hckms project {region}", lambda: _asked_project(host, key, region))()
    if not only(project, _ALNUM, 64):
        raise KeyUnavailable("the project id is none", hint="HUAWEICLOUD_SDK_PROJECT_ID holds letters and digits")
    return project


def _asked_project(host: Host, key: AccessKey, region: str) -> str:
    given = host.env.get("HUAWEICLOUD_SDK_IAM_ENDPOINT", "").rstrip("/")
    base = (given if not given or "://" in given else f"https://{given}") or f"https://iam.{domain(region)}"
    response = signed_request(host, key, "GET", base, "/v3/projects", query=f"name={region}")
    found = response.json()
    hint = "set HUAWEICLOUD_SDK_PROJECT_ID"
    if response.status != 200:
        raise refusal("Huawei Cloud IAM, asked for the project", response, words_of(found), hint)
    projects = found.get("projects")
    ids = [text_at(one, "id") for one in projects if isinstance(one, dict)] if isinstance(projects, list) else []
    if len(ids) != 1:
        raise KeyUnavailable(f"the credentials have {len(ids)} projects in {region} instead of one", hint=hint)
    return ids[0]


def signed_request(
    host: Host,
    key: AccessKey,
    method: str,
    base: str,
    path: str,
    *,
    query: str = "",
    project: str = "",
    fields: Mapping[str, str] | None = None,
) -> Response:
    """base: ``https://host``.  path and query: nothing in them needs escaping.  fields: the JSON body."""
    import json
    from time import gmtime, strftime

    body = json.dumps(fields, separators=(",", ":")).encode() if fields else b""
    signed = {"Host": base.partition("://")[2], "X-Sdk-Date": strftime("%Y%m%dT%H%M%SZ", gmtime())}
    if project:
        signed["X-Project-Id"] = project
    if key.token:
        signed["X-Security-Token"] = key.token
    headers = {name: value for name, value in signed.items() if name != "Host"}
    headers["Authorization"] = authorization(key, method, path, query, signed, body)
    if fields:
        headers["Content-Type"] = "application/json;charset=UTF-8"
    return host.http.request(method, f"{base}{path}{f'?{query}' if query else ''}", headers, body)


def authorization(key: AccessKey, method: str, path: str, query: str, signed: Mapping[str, str], body: bytes) -> str:
    """The Authorization header. signed: the headers that it vouches for, X-Sdk-Date among them."""
    from hashlib import sha256
    from hmac import digest

    lower = sorted((name.lower(), value.strip()) for name, value in signed.items())
    names = ";".join(name for name, _ in lower)
    lines = [
        method,
        path if path.endswith("/") else f"{path}/",
        query,
        *(f"{name}:{value}" for name, value in lower),
        "",
        names,
        sha256(body).hexdigest(),
    ]
    request = sha256("\n".join(lines).encode()).hexdigest()
    text = f"SDK-HMAC-SHA256\n{signed['X-Sdk-Date']}\n{request}"
    signature = digest(key.secret.encode(), text.encode(), "sha256").hex()
    return f"SDK-HMAC-SHA256 Access={key.access}, SignedHeaders={names}, Signature={signature}"
