"""Where `publish` puts encrypted files: one object into a bucket of Amazon S3 or Google Cloud Storage.

A `.sops.yaml` names the bucket and the object, so both are matched whole and encoded (S14); the region, and another
address than the cloud's own, come from the operator's environment only: AWS_REGION, AWS_ENDPOINT_URL_S3,
AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST.

Differs from sops: names are those that both clouds give out today, and no redirect to another region is followed.
Source: Amazon S3 API reference, PutObject; Cloud Storage JSON API reference, objects.insert with uploadType=media.
"""

from __future__ import annotations

import re
from hashlib import sha256
from time import gmtime, strftime
from urllib.parse import quote

from krm_sops.errors import ConfigError, KeyUnavailable, shown
from krm_sops.keys import aws_credentials, gcp_credentials
from krm_sops.keys.aws_api import DENIED, PARTITIONS, Place, chosen_url, element, hint_for, said, signature
from krm_sops.keys.cloud import base64_encoded, first_usable, refusal, text_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.http import Response
    from krm_sops.keys.aws_api import AwsKeys

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_LONGEST = 1024
"""Bytes of an object's name, in both clouds."""
_BUCKETS = {
    "s3": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "gcs": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
}
_TYPE = {"Content-Type": "application/octet-stream"}
_GOOGLE_HINT = (
    "set GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_CREDENTIALS or GOOGLE_OAUTH_ACCESS_TOKEN; on Google Cloud let the "
    "workload have an identity"
)
_GOOGLE_HINTS = {
    401: "the credentials have expired or were revoked",
    403: "give the identity the role roles/storage.objectUser on this bucket",
    404: "there is no such bucket, or the identity may not see it",
}


def put(kind: str, bucket: str, name: str, content: bytes, credentials: Credentials) -> None:
    """kind: "s3" or "gcs".  What is there under this name is replaced. Raises ConfigError, KeyUnavailable."""
    check(kind, bucket, name)
    if kind == "s3":
        _put_s3(bucket, name, content, credentials)
    else:
        _put_gcs(bucket, name, content, credentials)


def check(kind: str, bucket: str, name: str) -> None:
    """Raises ConfigError for what is no bucket's name, or no object's that every server takes for the same one."""
    if _BUCKETS[kind].fullmatch(bucket) is None or ".." in bucket:
        raise ConfigError(f"{shown(bucket)!r} is no name of a bucket", hint=f"it is what {kind}_bucket says")
    if not {".", ".."}.isdisjoint(name.split("/")):
        raise ConfigError(f"{shown(name)!r} cannot be an object's name: . or .. is a part of it")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{shown(name)!r} cannot be an object's name: it is no UTF-8") from None
    if length > _LONGEST:
        raise ConfigError(
            f"{shown(name, 80)!r} cannot be an object's name: it has {length} bytes, not at most {_LONGEST}"
        )


def _put_s3(bucket: str, name: str, content: bytes, credentials: Credentials) -> None:
    place = _place(credentials.host)
    url = _s3_url(bucket, name, place, credentials.host.env)

    def call(keys: AwsKeys) -> None:
        digest = sha256(content)
        headers = {
            **_TYPE,
            "X-Amz-Checksum-Sha256": base64_encoded(digest.digest()),  # a bucket that locks its objects wants one
            "X-Amz-Content-Sha256": digest.hexdigest(),
        }
        now = strftime("%Y%m%dT%H%M%SZ", gmtime())
        headers |= signature(url, headers, content, keys, "s3", place.region, now, "PUT")
        response = credentials.host.http.request("PUT", url, headers, content)
        if response.status != 200:
            raise _s3_refusal(response, bucket, place, keys)

    first_usable(aws_credentials.sources(credentials, place, ""), call, aws_credentials.NO_KEYS_HINT)


def _s3_url(bucket: str, name: str, place: Place, env: Mapping[str, str]) -> str:
    """The bucket is in the host, as AWS wants it; in the path where the operator names the host, or TLS needs it so."""
    url = place.url("s3", env).rstrip("/")
    path = quote(name, safe="/-_.~")
    if chosen_url("s3", env) or "." in bucket:
        return f"{url}/{bucket}/{path}"
    return f"{url.replace('https://', f'https://{bucket}.', 1)}/{path}"


def _s3_refusal(response: Response, bucket: str, place: Place, keys: AwsKeys) -> KeyUnavailable:
    text = response.body.decode("utf-8", "replace")
    code = element(text, "Code") or f"HTTP {response.status}"
    other = response.headers.get("x-amz-bucket-region") or element(text, "Region")
    if other and other != place.region:
        return KeyUnavailable(
            f"S3: the bucket {bucket} is in the region {shown(other, 40)}, not in {place.region}",
            hint="set AWS_REGION to the bucket's region; redirects are not followed",
        )
    hint = "" if code == "SlowDown" else hint_for(code)
    if code in DENIED:
        hint = "the identity needs s3:PutObject, and kms:GenerateDataKey where the bucket has a key of its own"
    elif code == "NoSuchBucket":
        hint = "s3_bucket names the bucket; AWS_REGION and AWS_ENDPOINT_URL_S3 say where it is looked for"
    words = said(code, response.without_secrets(element(text, "Message")), keys)
    return KeyUnavailable(f"S3: {words} (bucket {bucket}, region {place.region})", hint=hint)


def _place(host: Host) -> Place:
    """The operator's region, as the AWS SDK for Go finds it. Raises ConfigError."""
    region = host.env.get("AWS_REGION") or host.env.get("AWS_DEFAULT_REGION") or _region_of_profile(host)
    if not region:
        raise ConfigError("no AWS region is set", hint="set AWS_REGION, or region in the profile of ~/.aws/config")
    for partition, (pattern, _) in PARTITIONS.items():
        if re.fullmatch(pattern, region):
            return Place(partition, region)
    raise ConfigError(f"{shown(region, 60)!r} is no AWS region", hint="AWS_REGION, or the profile, says it")


def _region_of_profile(host: Host) -> str:
    """`region` of the shared config file, or ""."""
    from configparser import Error, RawConfigParser

    profile = host.env.get("AWS_PROFILE") or host.env.get("AWS_DEFAULT_PROFILE") or "default"
    path = host.env.get("AWS_CONFIG_FILE") or f"{host.home() or ''}/.aws/config"
    parser = RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(host.read(path).decode())
    except (OSError, ValueError, Error):
        return ""
    sections = (f"profile {profile}", profile) if profile == "default" else (f"profile {profile}",)
    return next((found for name in sections if (found := parser.get(name, "region", fallback="").strip())), "")


def _put_gcs(bucket: str, name: str, content: bytes, credentials: Credentials) -> None:
    host = credentials.host
    emulator = host.env.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    url = f"{_origin(emulator)}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"

    def call(headers: Mapping[str, str]) -> None:
        response = host.http.request("POST", url, {**_TYPE, **headers}, content)
        if response.status != 200:
            words = text_at(response.json(), "error", "message")
            raise refusal(f"Cloud Storage, bucket {bucket}", response, words, _GOOGLE_HINTS.get(response.status, ""))

    if emulator:  # which gets no token, as from Google's libraries
        call({})
        return
    first_usable(gcp_credentials.sources(credentials, SCOPE), call, _GOOGLE_HINT)


def _origin(emulator: str) -> str:
    """Google's, or that of STORAGE_EMULATOR_HOST. Raises ConfigError."""
    if not emulator:
        return "https://storage.googleapis.com"
    url = emulator if "://" in emulator else f"http://{emulator}"
    if url.count("/") != 2:
        raise ConfigError(f"STORAGE_EMULATOR_HOST {shown(emulator)} is no host, host:port or http://host")
    return url
