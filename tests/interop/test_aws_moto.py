"""AWS KMS and STS as moto's server plays them over a real socket; boto3 wraps, and the real sops where it is installed.

Requests leave for the real host names, through a proxy that ends TLS and hands them to moto (`fakes/internet.py`); what
boto3 and sops ask goes to moto directly. The chain of botocore runs in processes of its own, with their environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import open_ahead, open_key, recover
from krm_sops.errors import KeyUnavailable, NoUsableKey
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.http import Http
from krm_sops.keys.aws_api import PARTITIONS, AwsKeys, Place, signature
from krm_sops.keys.aws_kms import AwsKmsKey
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.tree import Branch, Entry
from tests.interop.fakes.internet import Answer, Internet, Seen
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (the extra interop-test)")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed (the extra interop-test)")

SOPS = shutil.which("sops", path=os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin"))))
ROOT = Path(__file__).resolve().parent.parent.parent
DATA_KEY = bytes(range(32))
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE00000TEST", "AWS_SECRET_ACCESS_KEY": "s" * 40}
REGION, OTHER_REGION, OTHER_ACCOUNT = "eu-west-1", "us-east-2", "111122223333"
ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/sops"


class Moto:
    """moto's server, and boto3 clients of it."""

    def __init__(self) -> None:
        self._server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.host, self.port = self._server.get_host_and_port()
        self.url = f"http://{self.host}:{self.port}"
        self.stop = self._server.stop

    def client(self, service: str, region: str = REGION, **keys: str) -> Any:
        keys = keys or {name.lower(): value for name, value in KEYS.items()}
        return boto3.client(service, region_name=region, endpoint_url=self.url, **keys)

    def role_client(self, service: str, region: str = REGION) -> Any:
        """As the role of the other account."""
        given = self.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
        return self.client(
            service,
            region,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )

    def answer(self, seen: Seen) -> Answer:
        """What moto says to a request that was meant for AWS."""
        connection = HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(seen.method, seen.path, seen.body, seen.headers)
            response = connection.getresponse()
            return Answer(response.status, response.read(), Content_Type=response.headers["Content-Type"])
        finally:
            connection.close()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    server = Moto()
    yield server
    server.stop()


@pytest.fixture
def internet(tmp_path: Path, moto: Moto) -> Iterator[Internet]:
    with Internet(tmp_path) as found:
        for region in (REGION, OTHER_REGION):
            for service in ("kms", "sts"):
                found.services[f"{service}.{region}.amazonaws.com"] = moto.answer
        yield found
        while CLIENTS:
            CLIENTS.pop().close()


CLIENTS: list[Http] = []
"""Those of a test: their connections are closed after it."""


def host_with(env: dict[str, str], *, files: dict[str, bytes] | None = None, **http: Any) -> Host:
    http.setdefault("pause", lambda seconds: None)
    CLIENTS.append(Http(env, **http))
    return Host(env=env, files={} if files is None else files, http=CLIENTS[-1])


def wrapped(
    client: Any, arn: str = "", context: dict[str, str] | None = None, part: bytes = DATA_KEY
) -> dict[str, str]:
    """Fields of a metadata entry, as boto3 and KMS make them."""
    arn = arn or client.create_key()["KeyMetadata"]["Arn"]
    blob = client.encrypt(KeyId=arn, Plaintext=part, EncryptionContext=context or {})["CiphertextBlob"]
    fields = {"arn": arn, "enc": b64encode(blob).decode(), "created_at": "2026-01-31T12:00:00Z", "aws_profile": ""}
    return {**fields, **{f"context.{name}": value for name, value in (context or {}).items()}}


def at_hand(internet: Internet, entry: bytes | None = None, *, env: dict[str, str] = KEYS, **http: Any) -> Credentials:
    entries = [KeyEntry("kms", "sops.aws-kms", entry, "Secret sops-keys")] if entry is not None else []
    return Credentials(host_with({**internet.env, **env}, **http), entries)


def unwrap(fields: dict[str, str], credentials: Credentials) -> bytes:
    return AwsKmsKey.from_fields(fields).unwrap(credentials)


def failing(fields: dict[str, str], credentials: Credentials) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        unwrap(fields, credentials)
    return caught.value


def asked(internet: Internet) -> list[str]:
    """``kms.eu-west-1 Decrypt`` and the like."""
    found = []
    for seen in internet.requests:
        operation = seen.headers.get("x-amz-target", "").rpartition(".")[2]
        form = seen.body.decode().partition("Action=")[2].partition("&")[0]
        found.append(f"{seen.host.removesuffix('.amazonaws.com')} {operation or form}")
    return found


def test_a_data_key_wrapped_by_boto3(moto: Moto, internet: Internet):
    assert unwrap(wrapped(moto.client("kms")), at_hand(internet)) == DATA_KEY
    assert asked(internet) == [f"kms.{REGION} Decrypt"]


def test_an_alias_in_the_place_of_the_key(moto: Moto, internet: Internet):
    client = moto.client("kms")
    key = client.create_key()["KeyMetadata"]
    name = f"alias/team-a/{key['KeyId'][:8]}"
    client.create_alias(AliasName=name, TargetKeyId=key["KeyId"])
    fields = wrapped(client, key["Arn"].partition(":key/")[0] + ":" + name)
    assert unwrap(fields, at_hand(internet)) == DATA_KEY


def test_what_is_wrapped_here_is_opened_by_boto3_and_here(moto: Moto, internet: Internet):
    client = moto.client("kms")
    fields = {"arn": client.create_key()["KeyMetadata"]["Arn"], "context.a:b": "c,d"}
    new = AwsKmsKey.from_fields(fields).wrap(DATA_KEY, at_hand(internet))
    opened = client.decrypt(KeyId=new.arn, CiphertextBlob=b64decode(new.enc), EncryptionContext={"a:b": "c,d"})
    assert opened["Plaintext"] == DATA_KEY
    assert new.unwrap(at_hand(internet)) == DATA_KEY


def test_a_context_opens_and_another_does_not(moto: Moto, internet: Internet):
    fields = wrapped(moto.client("kms"), context={"app": "arn:x:y", "env": "prod,eu"})
    assert unwrap(fields, at_hand(internet)) == DATA_KEY
    del fields["context.env"]
    error = failing(fields, at_hand(internet))
    assert "InvalidCiphertextException" in error.message
    assert "encryption context" in error.hint


def test_two_regions_each_at_its_own_address(moto: Moto, internet: Internet):
    credentials = at_hand(internet)
    for region in (REGION, OTHER_REGION):
        assert unwrap(wrapped(moto.client("kms", region)), credentials) == DATA_KEY
    assert asked(internet) == [f"kms.{REGION} Decrypt", f"kms.{OTHER_REGION} Decrypt"]


def test_two_accounts_the_second_by_a_role_that_is_assumed_once(moto: Moto, internet: Internet):
    ours = wrapped(moto.client("kms"))
    theirs = [{**wrapped(moto.role_client("kms")), "role": ROLE} for _ in range(2)]
    assert f":{OTHER_ACCOUNT}:" in theirs[0]["arn"]
    credentials = at_hand(internet)
    assert [unwrap(fields, credentials) for fields in (ours, *theirs)] == [DATA_KEY] * 3
    assert asked(internet).count(f"sts.{REGION} AssumeRole") == 1
    error = failing({**theirs[0], "role": ""}, at_hand(internet))
    assert "NotFoundException" in error.message


def test_a_web_identity_opens_the_other_account(moto: Moto, internet: Internet):
    env = {**internet.env, "AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"}
    host = host_with(env, files={"/var/run/token": b"eyJhbGciOi.eyJzdWIi.c2ln\n"})
    assert unwrap(wrapped(moto.role_client("kms")), Credentials(host)) == DATA_KEY
    assert asked(internet) == [f"sts.{REGION} AssumeRoleWithWebIdentity", f"kms.{REGION} Decrypt"]


# failures


def test_a_throttled_call_is_tried_again_until_it_is_served(moto: Moto, internet: Internet):
    fields = wrapped(moto.client("kms"))
    refusals = iter(["ThrottlingException", "Throttling", "RequestLimitExceeded"])

    def throttled(seen: Seen) -> Answer:
        code = next(refusals, None)
        return Answer(400, {"__type": code, "message": "Rate exceeded"}) if code else moto.answer(seen)

    internet.services[f"kms.{REGION}.amazonaws.com"] = throttled
    assert unwrap(fields, at_hand(internet)) == DATA_KEY
    assert len(internet.requests) == 4


def test_a_call_that_stays_throttled_ends_and_says_so(moto: Moto, internet: Internet):
    answer = Answer(400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
    internet.services[f"kms.{REGION}.amazonaws.com"] = lambda seen: answer
    error = failing(wrapped(moto.client("kms")), at_hand(internet))
    assert "ThrottlingException: Rate exceeded" in error.message
    assert 1 < len(internet.requests) < 10


def test_a_server_error_is_tried_again(moto: Moto, internet: Internet):
    fields = wrapped(moto.client("kms"))
    answers = [Answer(500, {"__type": "KMSInternalException"}), Answer(503, b"busy")]

    def flaky(seen: Seen) -> Answer:
        return answers.pop() if answers else moto.answer(seen)

    internet.services[f"kms.{REGION}.amazonaws.com"] = flaky
    assert unwrap(fields, at_hand(internet)) == DATA_KEY
    assert len(internet.requests) == 3


def test_a_denied_call_is_not_tried_again(moto: Moto, internet: Internet):
    words = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: kms:Decrypt"
    answer = Answer(400, {"__type": "AccessDeniedException", "Message": words})
    internet.services[f"kms.{REGION}.amazonaws.com"] = lambda seen: answer
    error = failing(wrapped(moto.client("kms")), at_hand(internet))
    assert f"AccessDeniedException: {words}" in error.message
    assert len(internet.requests) == 1


def test_a_key_that_is_not_there_says_so(moto: Moto, internet: Internet):
    fields = wrapped(moto.client("kms"))
    fields["arn"] = fields["arn"][:-12] + "0" * 12
    error = failing(fields, at_hand(internet))
    assert "NotFoundException: Key" in error.message
    assert "another key of the document may open it" in error.hint
    assert len(internet.requests) == 1


def test_a_hung_service_ends_by_itself_and_is_asked_no_more(moto: Moto, internet: Internet):
    """With the limits a hundredth of what they are; the second key finds out at once."""
    hang = threading.Event()
    internet.services[f"kms.{REGION}.amazonaws.com"] = lambda seen: Answer(200 if hang.wait(20) else 500)
    client = moto.client("kms")
    fields = [wrapped(client) for _ in range(2)]
    credentials = at_hand(internet, call_seconds=0.3, total_seconds=0.9)
    try:
        error = failing(fields[0], credentials)
        asked_before = len(internet.requests)
        failing(fields[1], credentials)
    finally:
        hang.set()
    assert "no answer within 0.3 s" in error.message
    assert "--network" in error.hint
    assert "--allow-network" in error.hint
    assert 1 <= asked_before <= 3
    assert len(internet.requests) == asked_before


# whose keys


def test_an_entry_opens_without_anything_around_it(moto: Moto, internet: Internet):
    text = "aws_access_key_id: {AWS_ACCESS_KEY_ID}\naws_secret_access_key: {AWS_SECRET_ACCESS_KEY}\n".format(**KEYS)
    assert unwrap(wrapped(moto.client("kms")), at_hand(internet, text.encode(), env={})) == DATA_KEY
    fields = {**wrapped(moto.role_client("kms")), "role": ROLE}
    assert "asks to assume the role" in failing(fields, at_hand(internet, text.encode(), env={})).message


CHAIN = """
import json, sys
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.keys.aws_kms import AwsKmsKey
fields, entry = json.loads(sys.argv[1]), sys.argv[2]
entries = [KeyEntry("kms", "sops.aws-kms", entry.encode(), "test")] if entry else []
try:
    sys.stdout.write(AwsKmsKey.from_fields(fields).unwrap(Credentials(Host(), entries)).hex())
except KeyUnavailable as error:
    sys.stdout.write(f"{error} | {error.hint}")
"""


class Platform:
    """A process' environment: a home folder with AWS files, and metadata services on loopback that answer."""

    def __init__(self, folder: Path, internet: Internet) -> None:
        self.folder = folder
        self.marker = folder / "process-was-run"
        self.internet = internet
        self.url = f"http://127.0.0.1:{internet.port}"
        internet.services["127.0.0.1"] = self.metadata
        self.env = {
            **internet.env,
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "AWS_CA_BUNDLE": internet.env["SSL_CERT_FILE"],
            "NO_PROXY": "127.0.0.1",
        }
        (folder / ".aws").mkdir(parents=True)

    def config(self, text: str) -> None:
        (self.folder / ".aws" / "config").write_text(text)

    def process(self) -> str:
        """A credential_process that gives keys and leaves a marker."""
        given = {"Version": 1, "AccessKeyId": KEYS["AWS_ACCESS_KEY_ID"], "SecretAccessKey": "p" * 40}
        script = self.folder / "process.py"
        script.write_text(f"open({str(self.marker)!r}, 'w')\nprint({json.dumps(given)!r})\n")
        return f"credential_process = {sys.executable} {script}\n"

    def metadata(self, seen: Seen) -> Answer:
        if seen.method == "PUT":
            return Answer(200, b"imds-token")
        if seen.path.endswith("/security-credentials/"):
            return Answer(200, b"instance-role")
        given = {"AccessKeyId": KEYS["AWS_ACCESS_KEY_ID"], "SecretAccessKey": "m" * 40, "Token": "metadata-token"}
        return Answer(200, {**given, "Code": "Success", "Expiration": "2099-01-01T00:00:00Z"})

    @property
    def asked_metadata(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.internet.requests if seen.host == "127.0.0.1"]

    def unwrap(self, fields: dict[str, str], entry: str = "", **env: str) -> str:
        """The data key in hexadecimal digits, or what went wrong and the hint."""
        argv = [sys.executable, "-c", CHAIN, json.dumps(fields), entry]
        done = subprocess.run(argv, env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False)
        assert not done.stderr
        return done.stdout


@pytest.fixture
def platform(tmp_path: Path, internet: Internet) -> Platform:
    return Platform(tmp_path / "home", internet)


def test_a_profile_of_the_shared_files(moto: Moto, platform: Platform):
    (platform.folder / ".aws" / "credentials").write_text(
        "[team]\naws_access_key_id = AKIAEXAMPLE00000TEAM\naws_secret_access_key = t\n"
    )
    fields = wrapped(moto.client("kms"))
    assert platform.unwrap(fields, AWS_PROFILE="team") == DATA_KEY.hex()
    assert platform.unwrap({**fields, "aws_profile": "team"}, **KEYS) == DATA_KEY.hex()
    used = [seen.headers["authorization"] for seen in platform.internet.requests if seen.host.startswith("kms")]
    assert all("Credential=AKIAEXAMPLE00000TEAM/" in line for line in used)
    assert not platform.asked_metadata


def test_a_profile_with_a_role_and_a_process(moto: Moto, platform: Platform):
    platform.config(f"[profile base]\n{platform.process()}[profile far]\nrole_arn = {ROLE}\nsource_profile = base\n")
    fields = wrapped(moto.role_client("kms"))
    assert platform.unwrap({**fields, "aws_profile": "far"}) == DATA_KEY.hex()
    assert platform.marker.exists()
    assert f"sts.{REGION} AssumeRole" in asked(platform.internet)


def test_a_profile_that_is_not_there(moto: Moto, platform: Platform):
    said = platform.unwrap({**wrapped(moto.client("kms")), "aws_profile": "nobody"})
    assert "The config profile (nobody) could not be found (with the AWS profile nobody)" in said


def test_the_cache_of_sso(moto: Moto, platform: Platform):
    from hashlib import sha1

    start = "https://example.awsapps.com/start"
    platform.config(
        f"[profile sso]\nsso_start_url = {start}\nsso_region = {REGION}\nsso_account_id = 123456789012\n"
        "sso_role_name = dev\n"
    )
    given = {"accessKeyId": KEYS["AWS_ACCESS_KEY_ID"], "secretAccessKey": "o" * 40, "sessionToken": "sso-session"}
    answer = Answer(200, {"roleCredentials": {**given, "expiration": 4070908800000}})
    platform.internet.services[f"portal.sso.{REGION}.amazonaws.com"] = lambda seen: answer
    cache = platform.folder / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    file = cache / f"{sha1(start.encode()).hexdigest()}.json"
    token = {"startUrl": start, "region": REGION, "accessToken": "sso-access-token"}
    file.write_text(json.dumps({**token, "expiresAt": "2099-01-01T00:00:00Z"}))
    fields = wrapped(moto.client("kms"))
    assert platform.unwrap(fields, AWS_PROFILE="sso") == DATA_KEY.hex()
    file.write_text(json.dumps({**token, "expiresAt": "2001-01-01T00:00:00Z"}))
    said = platform.unwrap(fields, AWS_PROFILE="sso")
    assert "expired" in said
    assert "sso-access-token" not in said


def test_instance_metadata(moto: Moto, platform: Platform):
    assert platform.unwrap(wrapped(moto.client("kms"))) == DATA_KEY.hex()
    assert platform.asked_metadata[0] == "PUT /latest/api/token"
    kms = platform.internet.requests[-1]
    assert kms.headers["x-amz-security-token"] == "metadata-token"


def test_container_metadata(moto: Moto, platform: Platform):
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{platform.url}/v1/credentials"}
    assert (
        platform.unwrap(wrapped(moto.client("kms")), **env, AWS_CONTAINER_AUTHORIZATION_TOKEN="pod") == DATA_KEY.hex()
    )
    assert platform.asked_metadata == ["GET /v1/credentials"]


def test_no_credentials_anywhere(moto: Moto, platform: Platform):
    said = platform.unwrap(wrapped(moto.client("kms")), AWS_EC2_METADATA_DISABLED="true")
    assert "no AWS credentials at hand" in said
    assert "AWS_ACCESS_KEY_ID" in said
    assert "sops.aws-kms" in said
    assert not platform.internet.requests


@pytest.mark.parametrize("profile", ["", "default", "other"])
def test_s13_an_entry_touches_no_process_profile_or_metadata_server(moto: Moto, platform: Platform, profile: str):
    process = platform.process()
    platform.config(f"[default]\n{process}[profile other]\n{process}")
    entry = "aws_access_key_id: {AWS_ACCESS_KEY_ID}\naws_secret_access_key: {AWS_SECRET_ACCESS_KEY}\n".format(**KEYS)
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{platform.url}/v1/credentials"}
    fields = {**wrapped(moto.client("kms")), "aws_profile": profile}
    assert platform.unwrap(fields, entry, AWS_PROFILE="other", **container) == DATA_KEY.hex()
    refused = {**fields, "arn": fields["arn"][:-12] + "0" * 12}
    assert "NotFoundException" in platform.unwrap(refused, entry, AWS_PROFILE="other", **container)
    assert not platform.marker.exists()
    assert not platform.asked_metadata
    assert set(platform.internet.tunnels) == {f"kms.{REGION}.amazonaws.com:443"}


# the same as the vendor's SDK


@pytest.mark.parametrize("token", ["", "a session's token/+="])
@pytest.mark.parametrize("service", ["kms", "sts"])
def test_signatures_are_those_of_botocore(service: str, token: str):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    url = "https://vpce.example:8443/some path/x%20y"
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Decrypt"}
    body = b'{"KeyId": "x"}'
    request = AWSRequest("POST", url, headers, body)
    SigV4Auth(BotoCredentials("AKID", "secret", token or None), service, REGION).add_auth(request)
    mine = signature(
        url, headers, body, AwsKeys("AKID", "secret", token), service, REGION, request.context["timestamp"]
    )
    assert mine == {name: request.headers[name] for name in mine}


def test_addresses_are_those_of_botocore():
    from botocore.session import Session

    data = Session().get_component("data_loader")
    regions = {found["id"]: found["regions"] for found in data.load_data("partitions")["partitions"]}
    assert set(PARTITIONS) == set(regions)
    for partition, names in regions.items():
        for region in names:
            if region.endswith("-global"):
                with pytest.raises(KeyUnavailable):
                    Place.of_key(f"arn:{partition}:kms:{region}:123456789012:key/a")
                continue
            place = Place.of_key(f"arn:{partition}:kms:{region}:123456789012:key/a")
            for service in ("kms", "sts"):
                for fips in (False, True):
                    env = {"AWS_USE_FIPS_ENDPOINT": "true"} if fips else {}
                    assert place.url(service, env).rstrip("/") == official(service, partition, region, fips)


def official(service: str, partition: str, region: str, fips: bool) -> str:
    """What botocore's endpoint rules say."""
    from botocore.endpoint_provider import EndpointProvider
    from botocore.session import Session

    loader = Session().get_component("data_loader")
    rules = loader.load_service_model(service, "endpoint-rule-set-1")
    provider = EndpointProvider(rules, loader.load_data("partitions"))
    parameters: dict[str, Any] = {"Region": region, "UseFIPS": fips, "UseDualStack": False}
    if service == "sts":
        parameters["UseGlobalEndpoint"] = False
    return str(provider.resolve_endpoint(**parameters).url)


# whole documents


def document(name: str, fields: dict[str, str]) -> dict[str, Any]:
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": f"of {name}"}}
    context = {key.partition(".")[2]: value for key, value in fields.items() if key.startswith("context.")}
    entry = {key: value for key, value in fields.items() if not key.startswith("context.")}
    return made.encrypted(plain, age=None, kms=[{**entry, "context": context} if context else entry])


def test_the_function_decrypts_with_the_key_secret_of_its_config(moto: Moto, internet: Internet):
    config = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "sops-keys"},
        "stringData": {"sops.aws-kms": json.dumps({name.lower(): value for name, value in KEYS.items()})},
    }
    fields = wrapped(moto.client("kms"), context={"app": "a:b"})
    given = made.resource_list(document("db", fields), config=config)
    output, results, status = run(given.encode(), host_with(internet.env), FUNCTION)
    assert (status, results) == (0, [])
    assert b"of db" in output
    assert b"ENC[" not in output


def metadata(fields: dict[str, str]) -> Metadata:
    entry = Branch([Entry(name, value) for name, value in fields.items()])
    return Metadata.from_branch(Branch([Entry("lastmodified", "2026-01-31T12:00:00Z"), Entry("kms", [entry])]), 100)


class Slow:
    """A service with a distance: 50 ms a call. peak: how many calls it had at the same time."""

    def __init__(self, answer: Callable[[Seen], Answer]) -> None:
        self.answer = answer
        self.calls = self.now = self.peak = 0
        self.lock = threading.Lock()

    def __call__(self, seen: Seen) -> Answer:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.peak = max(self.peak, self.now)
        time.sleep(0.05)
        with self.lock:
            self.now -= 1
        return self.answer(seen)


def test_500_documents_under_one_key(moto: Moto, internet: Internet):
    """Each data key is asked for once, at most 20 at a time, over few connections; documents keep their order."""
    client = moto.client("kms")
    arn = client.create_key()["KeyMetadata"]["Arn"]
    parts = [number.to_bytes(32, "big") for number in range(500)]
    blobs = [client.encrypt(KeyId=arn, Plaintext=part)["CiphertextBlob"] for part in parts]
    documents = [metadata({"arn": arn, "enc": b64encode(blob).decode()}) for blob in blobs]
    slow = internet.services[f"kms.{REGION}.amazonaws.com"] = Slow(moto.answer)
    credentials = at_hand(internet)
    open_ahead(documents, credentials)
    assert [open_key(key, credentials, 32) for one in documents for key in one.key_groups[0]] == parts
    assert slow.calls == 500
    assert 1 < slow.peak <= FUNCTION.remote_calls == 20
    assert internet.connections <= FUNCTION.remote_calls + 5


def test_the_operator_says_how_many_calls_there_are_at_once(moto: Moto, internet: Internet):
    documents = [metadata(wrapped(moto.client("kms"))) for _ in range(12)]
    slow = internet.services[f"kms.{REGION}.amazonaws.com"] = Slow(moto.answer)
    credentials = at_hand(internet)
    credentials.host.limits = FUNCTION.changed({"remote_calls": 3})
    open_ahead(documents, credentials)
    assert 1 < slow.peak <= 3


def test_a_data_key_that_occurs_often_is_asked_for_once(moto: Moto, internet: Internet):
    one = wrapped(moto.client("kms"))
    slow = internet.services[f"kms.{REGION}.amazonaws.com"] = Slow(moto.answer)
    open_ahead([metadata(one) for _ in range(100)], at_hand(internet))
    assert slow.calls == 1


def test_s5_another_scope_does_not_profit(moto: Moto, internet: Internet):
    one = [metadata(wrapped(moto.client("kms"))) for _ in range(2)]
    mine, theirs = at_hand(internet), Credentials(host_with(internet.env), ambient="never")
    open_ahead(one, mine)
    open_ahead(one, theirs)
    assert recover(one[0], mine)
    with pytest.raises(NoUsableKey, match="no credentials at hand"):
        recover(one[0], theirs)


def test_failures_come_in_the_order_of_the_documents(moto: Moto, internet: Internet):
    client = moto.client("kms")
    fields = [wrapped(client) for _ in range(12)]
    disabled = [fields[number]["arn"] for number in (3, 7)]

    def answer(seen: Seen) -> Answer:
        arn = seen.json()["KeyId"]
        return Answer(400, {"__type": "DisabledException", "message": arn}) if arn in disabled else moto.answer(seen)

    internet.services[f"kms.{REGION}.amazonaws.com"] = answer  # moto's Decrypt does not look whether a key is enabled
    given = made.resource_list(*(document(f"s{number}", one) for number, one in enumerate(fields)), config=None)
    output, results, status = run(given.encode(), host_with({**internet.env, **KEYS}), FUNCTION)
    assert status == 1
    assert [result.line().partition(":")[0].rpartition("/")[2] for result in results] == ["s3", "s7"]
    assert all("DisabledException" in result.line() for result in results)
    assert b"of s1" not in output
    assert len(internet.requests) == 12


# the real sops


@pytest.mark.skipif(SOPS is None, reason="sops is not installed")
def test_sops_encrypts_and_we_decrypt_and_the_other_way_round(moto: Moto, internet: Internet, tmp_path: Path):
    arn = moto.role_client("kms").create_key()["KeyMetadata"]["Arn"]
    plain = tmp_path / "secret.json"
    plain.write_text(json.dumps({"password": "of sops"}))
    env = {**KEYS, "AWS_ENDPOINT_URL": moto.url, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def sops(*arguments: str) -> dict[str, Any]:
        done = subprocess.run([SOPS or "", *arguments], env=env, capture_output=True, check=False, timeout=60)
        assert not done.returncode, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    keys = ["--kms", f"{arn}+{ROLE}", "--encryption-context", "app:a,env:b"]
    encrypted = sops("encrypt", *keys, str(plain))
    (entry,) = encrypted["sops"]["kms"]
    fields = {name: value for name, value in entry.items() if isinstance(value, str)}
    fields |= {f"context.{name}": value for name, value in entry["context"].items()}
    key = AwsKmsKey.from_fields(fields)
    assert key.identity == f"{arn}+{ROLE}|app:a,env:b"
    credentials = at_hand(internet)
    data_key = key.unwrap(credentials)
    assert len(data_key) == 32
    entry["enc"] = key.wrap(data_key, credentials).enc
    again = tmp_path / "again.json"
    again.write_text(json.dumps(encrypted))
    assert sops("decrypt", str(again)) == {"password": "of sops"}


@pytest.mark.skipif(SOPS is None, reason="sops is not installed")
def test_the_example_of_the_page_runs(tmp_path: Path):
    page = (ROOT / "docs" / "keys-aws.md").read_text()
    script = page.rpartition("```sh\n")[2].partition("```")[0]
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "krm-sops").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m krm_sops "$@"\n')
    (bin_ / "krm-sops").chmod(0o755)
    folders = [str(bin_), str(Path(sys.executable).parent), str(Path(SOPS or "").parent), os.environ["PATH"]]
    env = {"PATH": os.pathsep.join(folders), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "password: correct horse\n"), done.stderr
