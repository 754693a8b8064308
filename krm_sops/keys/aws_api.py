"""The two AWS services that a KMS key needs, called without an SDK: signed requests, answers, errors in their words.

What a document says decides where a request goes, so it is matched whole, and the region must be one of the partition
that the ARN names (S14). Another address comes from the operator's environment only: AWS_ENDPOINT_URL_KMS,
AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL, AWS_USE_FIPS_ENDPOINT. `verbs/buckets.py` signs what it sends to S3 here, too.
Source: AWS, "Signature Version 4 for API requests"; the API references of KMS and STS.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from hmac import digest
from time import gmtime, strftime
from urllib.parse import quote, urlencode, urlsplit

from krm_sops.errors import KeyUnavailable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from krm_sops.host import Host
    from krm_sops.http import Response

PARTITIONS = {
    "aws": (r"(?!cn-)[a-z]{2}-[a-z]+-[0-9]{1,2}", "amazonaws.com"),
    "aws-cn": (r"cn-[a-z]+-[0-9]{1,2}", "amazonaws.com.cn"),
    "aws-us-gov": (r"us-gov-[a-z]+-[0-9]{1,2}", "amazonaws.com"),
    "aws-eusc": (r"eusc-[a-z]{2}-[a-z]+-[0-9]{1,2}", "amazonaws.eu"),
    "aws-iso": (r"us-iso-[a-z]+-[0-9]{1,2}", "c2s.ic.gov"),
    "aws-iso-b": (r"us-isob-[a-z]+-[0-9]{1,2}", "sc2s.sgov.gov"),
    "aws-iso-e": (r"eu-isoe-[a-z]+-[0-9]{1,2}", "cloud.adc-e.uk"),
    "aws-iso-f": (r"us-isof-[a-z]+-[0-9]{1,2}", "csp.hci.ic.gov"),
}
"""What each partition's regions look like, and where its services are."""
_KEY_ARN = re.compile(r"arn:(aws[a-z-]*):kms:([a-z0-9-]+):[0-9]{12}:(?:key|alias)/[A-Za-z0-9:/_-]{1,256}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}")

_THROTTLING = (b"Throttl", b"TooManyRequests", b"RequestLimitExceeded", b"PriorRequestNotComplete", b"SlowDown")
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_UNKNOWN = (
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "IncompleteSignature",
    "MissingAuthenticationToken",
)
_BAD_SIGNATURE = ("InvalidSignatureException", "SignatureDoesNotMatch")
WRONG_CONTEXT = "InvalidCiphertextException"
_GONE = ("NotFoundException", "DisabledException", "KMSInvalidStateException")


class AwsError(KeyUnavailable):
    """What a service answered instead of what was asked. code: its name for it, or "HTTP 403"."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class AwsKeys:
    """What signs requests. token: of a session, or ""."""

    __slots__ = ("access", "secret", "token")

    def __init__(self, access: str, secret: str, token: str) -> None:
        self.access = access
        self.secret = secret
        self.token = token


class Place:
    """A region of a partition."""

    __slots__ = ("partition", "region")

    def __init__(self, partition: str, region: str) -> None:
        self.partition = partition
        self.region = region

    @classmethod
    def of_key(cls, arn: str) -> Place:
        """Raises KeyUnavailable for an ARN that is no KMS key's or alias'."""
        match = _KEY_ARN.fullmatch(arn)
        if match is None or match[1] not in PARTITIONS:
            raise KeyUnavailable(f"{shown(arn)!r} is no ARN of a KMS key or alias")
        if not re.fullmatch(PARTITIONS[match[1]][0], match[2]):
            raise KeyUnavailable(f"{match[2]!r} is no region of the partition {match[1]}")
        return cls(match[1], match[2])

    def url(self, service: str, env: Mapping[str, str]) -> str:
        """service: "kms", "sts" or "s3"."""
        chosen = chosen_url(service, env)
        if chosen:
            return chosen
        fips = env.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true"
        if fips and (service, self.partition) != ("sts", "aws-us-gov"):  # there the usual one is
            service += "-fips"
        return f"https://{service}.{self.region}.{PARTITIONS[self.partition][1]}/"


def chosen_url(service: str, env: Mapping[str, str]) -> str:
    """The address of a service that the operator's environment names, or ""."""
    if env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ""
    return env.get(f"AWS_ENDPOINT_URL_{service.upper()}") or env.get("AWS_ENDPOINT_URL") or ""


def check_role(arn: str) -> None:
    """Raises KeyUnavailable for what is no ARN of an IAM role."""
    if _ROLE_ARN.fullmatch(arn) is None:
        raise KeyUnavailable(f"{shown(arn)!r} is no ARN of an IAM role")


def kms(host: Host, place: Place, keys: AwsKeys, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What KMS answers to "Encrypt" or "Decrypt"; binary values are base64 both ways.

    Raises AwsError, and KeyUnavailable where no answer comes.
    """
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"TrentService.{operation}"}
    response = _post(host, place, "kms", headers, json.dumps(arguments).encode(), keys)
    found = response.json()
    if response.status != 200:
        name = str(found.get("__type") or response.headers.get("x-amzn-errortype") or "")
        words = found.get("message") or found.get("Message") or ""
        raise _refusal(response.status, name.rpartition("#")[2].partition(":")[0], str(words), place, keys)
    return found


def sts(host: Host, place: Place, keys: AwsKeys | None, action: str, arguments: Mapping[str, str]) -> AwsKeys:
    """The keys that STS gives out. keys: None for a request that is not signed.

    Raises AwsError, and KeyUnavailable where no answer comes.
    """
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    body = urlencode({"Action": action, "Version": "2011-06-15", **arguments}).encode()
    response = _post(host, place, "sts", headers, body, keys)
    text = response.body.decode("utf-8", "replace")
    if response.status != 200:
        secret = keys or AwsKeys("", "", arguments["WebIdentityToken"])
        raise _refusal(response.status, element(text, "Code"), element(text, "Message"), place, secret)
    given = [element(text, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    if not all(given):
        raise KeyUnavailable(f"STS in {place.region} answered without credentials")
    return AwsKeys(*given)


def _post(
    host: Host, place: Place, service: str, headers: dict[str, str], body: bytes, keys: AwsKeys | None
) -> Response:
    url = place.url(service, host.env)
    if keys is not None:
        now = strftime("%Y%m%dT%H%M%SZ", gmtime())
        headers |= signature(url, headers, body, keys, service, place.region, now)
    return host.http.request("POST", url, headers, body, passing=_is_throttled)


def _is_throttled(response: Response) -> bool:
    """AWS says so with 400, by a name in the body."""
    return response.status == 400 and any(name in response.body[:4096] for name in _THROTTLING)


def signature(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    keys: AwsKeys,
    service: str,
    region: str,
    now: str,
    method: str = "POST",
) -> dict[str, str]:
    """The headers that sign a request. now: ``20261231T235959Z``."""
    parts = urlsplit(url)
    path = parts.path or "/"
    if service != "s3":  # which alone signs a path as it is sent, not encoded once more
        path = quote(path, safe="/-_.~")
    added = {"X-Amz-Date": now}
    if keys.token:
        added["X-Amz-Security-Token"] = keys.token
    lines = {name.lower(): value.strip() for name, value in {**headers, **added, "Host": parts.netloc}.items()}
    names = ";".join(sorted(lines))
    request = "\n".join(
        [
            *(method, path, parts.query),
            *(f"{name}:{lines[name]}" for name in sorted(lines)),
            *("", names, sha256(body).hexdigest()),
        ]
    )
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + keys.secret.encode()
    for part in (*scope.split("/"), text):
        key = digest(key, part.encode(), "sha256")
    added["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    )
    return added


def element(text: str, name: str) -> str:
    """The content of the first XML element of this name; these answers have no attributes, comments or CDATA."""
    content = text.partition(f"<{name}>")[2].partition(f"</{name}>")[0].strip()
    for escape, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        content = content.replace(escape, character)
    return content


def _refusal(status: int, code: str, words: str, place: Place, keys: AwsKeys) -> AwsError:
    code = code or f"HTTP {status}"
    return AwsError(code, f"{said(code, words, keys)} (region {place.region})", hint=hint_for(code))


def said(code: str, words: str, keys: AwsKeys) -> str:
    """An error as the service puts it: the first line only (the next ones quote the request that was signed)."""
    line = words.strip().split("\n", 1)[0]
    for secret in (keys.secret, keys.token, keys.access):
        if secret:
            line = line.replace(secret, "…")
    if not line:
        line = "it was wrapped by another key or with another encryption context" if code == WRONG_CONTEXT else ""
    return shown(f"{code}: {line}" if line else code, 300)


def hint_for(code: str) -> str:
    if code in DENIED:
        return "the identity needs kms:Decrypt on the key, and sts:AssumeRole on the role if the document names one"
    if code in _EXPIRED:
        return "the AWS session is over: log in again, or hand in fresh keys"
    if code in _UNKNOWN:
        return "AWS does not know this access key: is it complete, current and of this partition?"
    if code in _BAD_SIGNATURE:
        return "the secret access key does not belong to the access key, or the clock of this machine is wrong"
    if code.encode().startswith(_THROTTLING):
        return "the account's request quota of KMS is used up; try later, or open fewer documents at once"
    if code in _GONE:
        return "the key, or its alias, is gone, disabled or not in this region; another key of the document may open it"
    if code == WRONG_CONTEXT:
        return "the encryption context in the sops block must be the one it was encrypted with"
    return ""
