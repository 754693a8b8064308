"""`publish` into Google Cloud Storage, as a fake plays it that checks the wire (`fakes/clouds.py`): over real sockets
and TLS to Google's host name; and the real sops beside it, where the fake is an emulator on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import ConfigError, KeyUnavailable
from krm_sops.verbs import buckets
from tests.agefile import IDENTITY, OTHER_IDENTITY, recipient_of
from tests.interop.fakes.clouds import FakeGoogle, FakeStorage, jwt
from tests.interop.fakes.internet import Answer, Internet
from tests.interop.programs import link
from tests.interop.test_cloud_fakes import internet, scope
from tests.unit.test_gcp_kms import IMPERSONATION

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["internet", "scope"]

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
BUCKET = FakeStorage.bucket
PLAIN = "data:\n    password: secret\nkind: Secret\n"
NAME = "a/b c+ü%&=?.yaml"


def put(credentials: Credentials, bucket: str = BUCKET, name: str = NAME) -> None:
    buckets.put("gcs", bucket, name, b"content", credentials)


# over the wire


def test_the_request_is_that_of_the_reference(internet: Internet, scope: Callable[..., Credentials]) -> None:
    """POST /upload/storage/v1/b/BUCKET/o?uploadType=media&name=OBJECT, as objects.insert is documented."""
    google = FakeGoogle(internet)
    storage = FakeStorage(internet, google)
    put(scope({"GOOGLE_CREDENTIALS": json.dumps(google.account)}))
    assert storage.objects == {NAME: b"content"}
    (seen,) = internet.requests
    assert (seen.method, seen.host) == ("POST", "storage.googleapis.com")
    name = "a%2Fb%20c%2B%C3%BC%25%26%3D%3F.yaml"
    assert seen.path == f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
    sent = {name: value for name, value in seen.headers.items() if name not in ("authorization", "host", "user-agent")}
    assert sent == {"content-type": "application/octet-stream", "content-length": "7"}
    claims = jwt(seen.headers["authorization"].removeprefix("Bearer "))[1]
    assert claims["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"


@pytest.mark.parametrize("way", ["entry", "token", "metadata"])
def test_every_way_in(internet: Internet, scope: Callable[..., Credentials], way: str) -> None:
    google = FakeGoogle(internet)
    storage = FakeStorage(internet, google)
    entry = KeyEntry("gcp_kms", "sops.gcp-kms", json.dumps(google.account).encode(), "Secret/keys")
    env = {
        "entry": {},
        "token": {"GOOGLE_OAUTH_ACCESS_TOKEN": google.token},
        "metadata": {"GCE_METADATA_HOST": google.metadata_host},
    }[way]
    put(scope(env, entries=(entry,) if way == "entry" else ()))
    assert storage.objects == {NAME: b"content"}


def test_who_acts_for_another_asks_for_no_more_than_storage(
    internet: Internet, scope: Callable[..., Credentials]
) -> None:
    """The token of the other account is for storage; to get it takes the scope for everything."""
    google = FakeGoogle(internet)
    storage = FakeStorage(internet, google)
    asked: list[Any] = []

    def impersonate(seen: Any) -> Answer:
        asked.append((seen.json()["scope"], jwt(seen.headers["authorization"].removeprefix("Bearer "))[1]["scope"]))
        return Answer(200, {"accessToken": google.token, "expireTime": "2099-01-01T00:00:00Z"})

    internet.services["iamcredentials.googleapis.com"] = impersonate
    given = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": IMPERSONATION,
        "source_credentials": google.account,
    }
    put(scope({"GOOGLE_CREDENTIALS": json.dumps(given)}))
    assert asked == [([buckets.SCOPE], "https://www.googleapis.com/auth/cloud-platform")]
    assert storage.objects == {NAME: b"content"}


def test_refusals_are_in_the_words_of_the_service_without_the_token(
    internet: Internet, scope: Callable[..., Credentials]
) -> None:
    google = FakeGoogle(internet)
    FakeStorage(internet, google)
    with pytest.raises(
        KeyUnavailable, match=r"bucket another: not found .HTTP 404, The specified bucket does not exist"
    ):
        put(scope({"GOOGLE_OAUTH_ACCESS_TOKEN": google.token}), "another")
    wrong = "a-wrong-token-of-google"
    with pytest.raises(KeyUnavailable, match="HTTP 401"):
        put(scope({"GOOGLE_OAUTH_ACCESS_TOKEN": wrong}))
    internet.services["storage.googleapis.com"] = lambda seen: Answer(403, {"error": {"message": f"{wrong} may not"}})
    with pytest.raises(KeyUnavailable) as caught:
        put(scope({"GOOGLE_OAUTH_ACCESS_TOKEN": wrong}))
    assert wrong not in caught.value.message
    assert "roles/storage.objectUser" in caught.value.hint


def test_a_redirect_is_not_followed(internet: Internet, scope: Callable[..., Credentials]) -> None:
    internet.services["storage.googleapis.com"] = lambda seen: Answer(308, Location="https://evil.example/")
    with pytest.raises(KeyUnavailable, match="redirected, which is not followed"):
        put(scope({"GOOGLE_OAUTH_ACCESS_TOKEN": "t" * 20}))
    assert internet.tunnels == ["storage.googleapis.com:443"]


@pytest.mark.parametrize(
    ("bucket", "name"),
    [
        *[(bucket, "a") for bucket in ("", "ab", "a/b", "a?b", "a#b", "Upper", "a" * 223, "a..b", "a%2fb", "-ab")],
        *[("bucket", name) for name in ("../a", "a/../b", "./a", "a/.", "\udcff", "x" * 1025)],
    ],
)
def test_s14_what_a_server_could_take_for_something_else_is_refused_before_it_is_asked(
    internet: Internet, scope: Callable[..., Credentials], bucket: str, name: str
) -> None:
    with pytest.raises(ConfigError):
        put(scope({"GOOGLE_OAUTH_ACCESS_TOKEN": "t" * 20}), bucket, name)
    assert internet.tunnels == []


@pytest.mark.parametrize("address", ["127.0.0.1:1/x", "http://127.0.0.1:1/a/b", "http://example.com"])
def test_an_emulator_is_an_origin_on_loopback_or_behind_tls(scope: Callable[..., Credentials], address: str) -> None:
    with pytest.raises((ConfigError, KeyUnavailable), match=r"STORAGE_EMULATOR_HOST|only https"):
        put(scope({"STORAGE_EMULATOR_HOST": address}))


def test_an_emulator_gets_no_token(internet: Internet, scope: Callable[..., Credentials]) -> None:
    storage = FakeStorage(internet)
    env = {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{internet.port}", "GOOGLE_OAUTH_ACCESS_TOKEN": "t" * 20}
    put(scope(env))
    assert storage.objects == {NAME: b"content"}
    assert "authorization" not in internet.requests[0].headers


# the program, and sops


@pytest.mark.parametrize(
    "program",
    ["", pytest.param(SOPS, marks=pytest.mark.skipif(SOPS is None, reason="sops is not installed"))],
    ids=["ours", "sops"],
)
@pytest.mark.parametrize("recreated", [False, True])
def test_a_file_arrives(internet: Internet, tmp_path: Path, program: str, recreated: bool) -> None:
    storage = FakeStorage(internet)
    mine = link(tmp_path, "krm-sops")
    work = tmp_path / "work"
    work.mkdir()
    env = {"PATH": PATH, "HOME": str(tmp_path), "SOPS_AGE_KEY": IDENTITY}
    env["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{internet.port}"

    def run(*argv: str | Path) -> str:
        done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, input="y\n")
        assert done.returncode == 0, done.stderr
        return done.stdout

    (work / "a.yaml").write_text(PLAIN)
    run(mine, "encrypt", "-i", "a.yaml", "--age", recipient_of(IDENTITY))
    rule = f", recreation_rule: {{age: {recipient_of(OTHER_IDENTITY)}}}" if recreated else ""
    (work / ".sops.yaml").write_text(f"destination_rules: [{{gcs_bucket: {BUCKET}, gcs_prefix: in/ü/{rule}}}]\n")
    said = run(program or mine, "publish", "a.yaml")
    assert said.endswith(f"uploading {work}/a.yaml to gcs://{BUCKET}/in/ü/a.yaml ? (y/n): ")
    (content,) = storage.objects.values()
    assert set(storage.objects) == {"in/ü/a.yaml"}
    assert (content == (work / "a.yaml").read_bytes()) is not recreated
    (work / "b.yaml").write_bytes(content)
    env["SOPS_AGE_KEY"] = OTHER_IDENTITY if recreated else IDENTITY
    assert run(mine, "decrypt", "b.yaml") == PLAIN
