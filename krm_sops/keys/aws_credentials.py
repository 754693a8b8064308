"""Where the keys that sign AWS requests come from.

An entry `sops.aws-kms` is used with nothing else: no profile, environment, file or metadata server adds to it, and
no role that a document names is assumed with it unless ambient credentials are allowed too (S13).

Ambient: the environment and a web identity (IRSA) are read here; files, SSO, processes, container and instance
metadata by botocore, the optional extra `aws`. The order is that of the AWS SDK for Go, which sops uses.
"""

from __future__ import annotations

import os

from krm_sops.errors import KeyUnavailable, KrmSopsError, shown
from krm_sops.keys.aws_api import AwsError, AwsKeys, hint_for, said, sts
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from krm_sops.credentials import Credentials, KeyEntry
    from krm_sops.host import Host
    from krm_sops.keys.aws_api import Place

FIELDS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
EXTRA = "pip install 'krm-sops[aws]'"
NO_KEYS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or AWS_WEB_IDENTITY_TOKEN_FILE where the function "
    "runs (a container sees only what it is given), or add a sops.aws-kms entry to the key Secret"
)
_SECONDS = 10


def sources(credentials: Credentials, place: Place, profile: str) -> list[tuple[str, Callable[[], AwsKeys]]]:
    """Where keys may come from, and how to get them, which may raise KeyUnavailable.

    profile: the document's, which counts as ambient (S13).
    """
    found = [_from_entry(credentials, number) for number in range(len(credentials.entries_for("kms")))]
    if credentials.ambient_for("kms"):
        name, load = _ambient(credentials.host, place, profile)
        found.append((name, lambda: _kept(credentials, f"aws ambient {place.region} {profile}", load)))
    return found


def assumed(credentials: Credentials, place: Place, keys: AwsKeys, role: str) -> AwsKeys:
    """The role's keys; assumed once for a region and the keys that do it. Raises KeyUnavailable."""

    def load() -> AwsKeys:
        arguments = {"RoleArn": role, "RoleSessionName": session_name(os.uname().nodename)}
        try:
            return sts(credentials.host, place, keys, "AssumeRole", arguments)
        except AwsError as error:
            raise KeyUnavailable(f"the role cannot be assumed: {error.message}", hint=error.hint) from None

    return _kept(credentials, f"aws role {place.region} {role} {keys.access}", load)


def session_name(hostname: str) -> str:
    """Source: getsops/sops 3.13, kms/keysource.go, stsSessionName (its range ``@-_`` has no hyphen)."""
    name = f"sops@{hostname}"
    return "".join(c for c in name if (c.isascii() and c.isalnum()) or c in "=,." or "@" <= c <= "_")[:64]


def _kept(credentials: Credentials, name: str, load: Callable[[], AwsKeys]) -> AwsKeys:
    """What `load` gives, or why it failed, found out once in a credential scope: 500 documents ask only once."""

    def outcome() -> AwsKeys | KeyUnavailable:
        try:
            return load()
        except KeyUnavailable as error:
            return error

    found = credentials.once(name, outcome)
    if isinstance(found, KeyUnavailable):
        raise KeyUnavailable(found.message, hint=found.hint)
    assert isinstance(found, AwsKeys)
    return found


def _from_entry(credentials: Credentials, number: int) -> tuple[str, Callable[[], AwsKeys]]:
    entry = credentials.entries_for("kms")[number]
    name = shown(f"{entry.name} of {entry.origin}")
    return name, lambda: _kept(credentials, f"aws entry {number}", lambda: _static(entry))


def _static(entry: KeyEntry) -> AwsKeys:
    from krm_sops.limits import FUNCTION
    from krm_sops.yamlio import read

    try:
        root = read(entry.data.decode("utf-8-sig"), FUNCTION, 100).root
    except (KrmSopsError, ValueError):  # not said why: it could quote the entry
        root = None
    if not isinstance(root, Branch):
        raise KeyUnavailable("the entry is no YAML or JSON mapping", hint=f"it holds {', '.join(FIELDS)}")
    values = [root.get(name) for name in FIELDS]
    for name, value in zip(FIELDS, values, strict=True):
        optional = name == "aws_session_token" and value is None
        if not optional and (not isinstance(value, str) or (not value and name != "aws_session_token")):
            raise KeyUnavailable(f"the entry has no {name}, or it is no text", hint="put it in quotes")
    return AwsKeys(*(str(value or "").strip() for value in values))


def _ambient(host: Host, place: Place, profile: str) -> tuple[str, Callable[[], AwsKeys]]:
    env = host.env
    if profile:
        return f"the AWS profile {shown(profile, 80)}", lambda: _botocore(host, place, profile)
    access, secret = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
    if access and secret:
        token = env.get("AWS_SESSION_TOKEN") or env.get("AWS_SECURITY_TOKEN") or ""
        return "AWS_ACCESS_KEY_ID", lambda: AwsKeys(access, secret, token)
    if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN") and not env.get("AWS_PROFILE"):
        return "AWS_WEB_IDENTITY_TOKEN_FILE", lambda: _web_identity(host, place)
    return "ambient credentials", lambda: _botocore(host, place, "")


def _web_identity(host: Host, place: Place) -> AwsKeys:
    env = host.env
    path, role = env["AWS_WEB_IDENTITY_TOKEN_FILE"], env["AWS_ROLE_ARN"]
    try:
        token = host.read(path, 1 << 16).decode().strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise KeyUnavailable(
            f"AWS_WEB_IDENTITY_TOKEN_FILE {shown(path)}: {why}", hint="mount the service account's token there"
        ) from None
    name = env.get("AWS_ROLE_SESSION_NAME") or session_name(os.uname().nodename)
    arguments = {"RoleArn": role, "RoleSessionName": name, "WebIdentityToken": token}
    return sts(host, place, None, "AssumeRoleWithWebIdentity", arguments)


def _botocore(host: Host, place: Place, profile: str) -> AwsKeys:
    """The rest of the chain, as botocore finds it in this process' own environment and files."""
    if host.check_service is not None:
        raise KeyUnavailable(
            "no AWS keys in the environment, and botocore is not asked: it would call hosts of its own choice, but the "
            "operator's policy lists those that may be called",
            hint=NO_KEYS_HINT,
        )
    try:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session
    except ImportError:
        raise KeyUnavailable(
            "no AWS keys in the environment, and botocore, which reads AWS profiles, SSO, and container and instance "
            f"metadata, is not installed ({EXTRA})",
            hint=NO_KEYS_HINT,
        ) from None
    if host.env != os.environ:  # botocore knows no other environment than the process'
        raise KeyUnavailable("no AWS credentials at hand", hint=NO_KEYS_HINT)
    try:
        session: Any = Session(profile=profile or None)
        session.set_config_variable("region", place.region)
        session.set_default_client_config(
            Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2})
        )
        chosen = session.get_credentials()
        if chosen is None:
            raise KeyUnavailable("no AWS credentials at hand", hint=NO_KEYS_HINT)
        frozen = chosen.get_frozen_credentials()
    except ClientError as error:
        refused: Mapping[str, Any] = error.response.get("Error", {})
        code = str(refused.get("Code", ""))
        words = said(code, str(refused.get("Message", "")), AwsKeys("", "", ""))
        raise KeyUnavailable(f"AWS gives no credentials: {words}", hint=hint_for(code)) from None
    except BotoCoreError as error:
        line = shown(str(error).strip().split("\n", 1)[0])
        raise KeyUnavailable(f"no AWS credentials: {line}", hint=NO_KEYS_HINT) from None
    except (OSError, ValueError, KeyError, TypeError) as error:  # of a broken file, or an answer without its fields
        raise KeyUnavailable(f"no AWS credentials: {type(error).__name__} while botocore looked for them") from None
    return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token or "")
