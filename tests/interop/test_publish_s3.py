"""`publish` into S3, as moto's server plays it over a real socket: what boto3 finds there, and the real sops beside it.

The program gets moto's address by AWS_ENDPOINT_URL_S3, as boto3 and sops do. Requests to AWS' own host names go through
a proxy that ends TLS (`fakes/internet.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from krm_sops.errors import ConfigError, KeyUnavailable
from krm_sops.keys.aws_api import PARTITIONS, AwsKeys, Place, signature
from krm_sops.verbs import buckets
from tests.agefile import IDENTITY, OTHER_IDENTITY, recipient_of
from tests.interop.fakes.internet import Answer, Internet
from tests.interop.programs import link
from tests.interop.test_aws_moto import KEYS, REGION, Moto, at_hand, host_with, internet, moto, official

__all__ = ["internet", "moto"]

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
PLAIN = "data:\n    password: secret\nkind: Secret\n"
FOR_OTHER = f"recreation_rule: {{age: {recipient_of(OTHER_IDENTITY)}}}"


class Folder:
    """A folder with a `.sops.yaml`, an encrypted file, and a bucket of its own."""

    def __init__(self, folder: Path, moto: Moto, name: str) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.bucket = name
        self.client = moto.client("s3", "us-east-1")
        self.client.create_bucket(Bucket=name)
        self.env = {
            **KEYS,
            "PATH": PATH,
            "HOME": str(folder),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": moto.url,
            "SOPS_AGE_KEY": f"{IDENTITY}\n{OTHER_IDENTITY}",
        }
        self.mine = link(folder, "krm-sops")
        self.rules("s3_prefix: in/")
        (self.folder / "a.yaml").write_text(PLAIN)
        self.run("encrypt", "-i", "a.yaml", "--age", recipient_of(IDENTITY))

    def rules(self, *fields: str) -> None:
        rule = "".join(f", {field}" for field in fields)
        (self.folder / ".sops.yaml").write_text(f"destination_rules: [{{s3_bucket: {self.bucket}{rule}}}]\n")

    def run(self, *argv: str, answer: str = "", program: str | Path = "", status: int = 0) -> Any:
        done = subprocess.run(
            [program or self.mine, *argv],
            cwd=self.folder,
            env=self.env,
            input=answer,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket, which is empty after that."""
        found = {}
        for one in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            found[one["Key"]] = self.client.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read()
            self.client.delete_object(Bucket=self.bucket, Key=one["Key"])
        return found

    def only_for(self, identity: str, content: bytes, name: str = "b.yaml") -> str:
        """What one identity decrypts of it."""
        (self.folder / name).write_bytes(content)
        self.env["SOPS_AGE_KEY"] = identity
        return str(self.run("decrypt", name).stdout)


@pytest.fixture
def place(tmp_path: Path, moto: Moto, request: pytest.FixtureRequest) -> Folder:
    return Folder(tmp_path, moto, f"b-{abs(hash(request.node.name)) % 10**12}")


programs = pytest.mark.parametrize(
    "program",
    ["", pytest.param(SOPS, marks=pytest.mark.skipif(SOPS is None, reason="sops is not installed"))],
    ids=["ours", "sops"],
)
"""The claim holds for the real sops as well."""


@programs
def test_a_file_arrives_byte_for_byte(place: Folder, program: str) -> None:
    place.run("publish", "--yes", "a.yaml", program=program)
    assert place.objects() == {"in/a.yaml": (place.folder / "a.yaml").read_bytes()}


@programs
def test_with_a_recreation_rule_it_is_for_other_keys(place: Folder, program: str) -> None:
    place.rules(FOR_OTHER)
    said = place.run("publish", "--yes", "a.yaml", program=program).stdout
    assert "The following changes will be made to the file's key groups:\nGroup 1\n" in said
    assert f"+++ {recipient_of(OTHER_IDENTITY)}\n--- {recipient_of(IDENTITY)}\n" in said
    content = place.objects()["a.yaml"]
    assert recipient_of(IDENTITY).encode() not in content
    assert place.only_for(OTHER_IDENTITY, content) == PLAIN


@programs
@pytest.mark.parametrize(
    ("suffix", "clear"),
    [("unencrypted_suffix: nd", "kind: Secret"), ("encrypted_suffix: word", "kind: Secret"), ("", "")],
)
def test_the_suffixes_of_a_recreation_rule_count(place: Folder, program: str, suffix: str, clear: str) -> None:
    place.rules(f"recreation_rule: {{age: {recipient_of(OTHER_IDENTITY)}, {suffix}}}")
    place.run("publish", "--yes", "a.yaml", program=program)
    content = place.objects()["a.yaml"]
    assert (b"kind: Secret" in content) is bool(clear)
    assert b"secret" not in content
    assert place.only_for(OTHER_IDENTITY, content) == PLAIN


@programs
@pytest.mark.parametrize("field", ["encrypted_regex: ^data$", "unencrypted_regex: ^kind$", "mac_only_encrypted: true"])
def test_other_fields_of_a_recreation_rule_have_no_effect(place: Folder, program: str, field: str) -> None:
    place.rules(f"recreation_rule: {{age: {recipient_of(OTHER_IDENTITY)}, {field}}}")
    said = place.run("publish", "--yes", "a.yaml", program=program).stderr
    content = place.objects()["a.yaml"]
    assert b"kind: ENC[" in content
    assert field.partition(":")[0].encode() not in content
    if not program:
        assert f"{field.partition(':')[0]} is ignored in a recreation_rule" in said


@programs
def test_several_key_groups(place: Folder, program: str) -> None:
    groups = ", ".join(f"{{age: [{recipient_of(one)}]}}" for one in (IDENTITY, OTHER_IDENTITY))
    place.rules(f"recreation_rule: {{key_groups: [{groups}], shamir_threshold: 2}}")
    place.run("publish", "--yes", "a.yaml", program=program)
    content = place.objects()["a.yaml"]
    assert b"shamir_threshold: 2" in content
    assert place.only_for(f"{IDENTITY}\n{OTHER_IDENTITY}", content) == PLAIN
    place.env["SOPS_AGE_KEY"] = IDENTITY
    place.run("decrypt", "b.yaml", status=128)


@programs
def test_a_folder_keeps_its_paths(place: Folder, program: str) -> None:
    (place.folder / "top/sub dir").mkdir(parents=True)
    for name in ("top/one.yaml", "top/sub dir/zwei & ü+%.yaml"):
        shutil.copy(place.folder / "a.yaml", place.folder / name)
    place.rules("s3_prefix: in/", "path_regex: ^top/")
    place.run("publish", "--yes", "--recursive", "./top/", program=program)
    assert set(place.objects()) == {"in/one.yaml", "in/sub dir/zwei & ü+%.yaml"}
    place.run("publish", "--yes", "--recursive", "--omit-extensions", "top", program=program)
    assert set(place.objects()) == {"in/one", "in/sub dir/zwei & ü+%"}
    place.rules("omit_extensions: true")
    place.run("publish", "--yes", "--recursive", "top", program=program)
    assert set(place.objects()) == {"one", "sub dir/zwei & ü+%"}


@programs
def test_the_question_and_its_answers(place: Folder, program: str) -> None:
    asks = f"uploading {place.folder}/a.yaml to s3://{place.bucket}/in/a.yaml ? (y/n): "
    no = place.run("publish", "a.yaml", answer="n\n", program=program, status=1)
    assert no.stdout == asks
    assert f"Publication of {place.folder}/a.yaml canceled" in no.stderr
    assert place.objects() == {}
    maybe = place.run("publish", "a.yaml", answer="perhaps\ny\n", program=program)
    assert maybe.stdout == asks * 2
    assert set(place.objects()) == {"in/a.yaml"}
    place.run("publish", "a.yaml", program=program, status=1)
    many = place.run("publish", "--recursive", ".", answer="n\nn\n", program=program, status=1)
    assert many.stdout.count("canceled\n") == 0, "the first of them, .sops.yaml, is not encrypted"
    (place.folder / "d").mkdir()
    shutil.copy(place.folder / "a.yaml", place.folder / "d")
    many = place.run("publish", "--recursive", "d", answer="n\n", program=program)
    assert many.stdout.endswith(f"Publication of {place.folder}/d/a.yaml canceled\n")


@programs
@pytest.mark.parametrize(
    ("rules", "argv", "status", "words"),
    [
        (
            "destination_rules: [{s3_bucket: x, path_regex: b.yaml}]",
            "a.yaml",
            1,
            "no matching destination found in config",
        ),
        ("destination_rules: [{s3_prefix: x}]", "a.yaml", 1, "no destination configured for this file"),
        (
            "destination_rules: [{s3_bucket: x, gcs_bucket: y}]",
            "a.yaml",
            1,
            "error loading config: more than one destinations were found in a single destination rule",
        ),
        (
            "destination_rules: [{s3_bucket: x, recreation_rule: {encrypted_suffix: a, encrypted_regex: b}}]",
            "a.yaml",
            1,
            "error loading config: cannot use more than one of encrypted_suffix",
        ),
        ("", "", 100, "Error: no file specified|no file specified"),
        ("", ".", 1, "can't operate on a directory without --recursive flag."),
        ("", "nosuch.yaml", 1, ""),
        ("destination_rules: [{s3_bucket: xyz}]", "plain.yaml", 1, "sops metadata not found"),
        ("destination_rules: [{s3_bucket: no-such-bucket}]", "a.yaml", 1, "NoSuchBucket"),
    ],
)
def test_what_goes_wrong(place: Folder, program: str, rules: str, argv: str, status: int, words: str) -> None:
    (place.folder / "plain.yaml").write_text(PLAIN)
    if rules:
        (place.folder / ".sops.yaml").write_text(rules)
    done = place.run("publish", "--yes", *argv.split(), program=program, status=status)
    assert any(word in done.stderr for word in words.split("|"))


@programs
def test_without_a_key_that_opens_nothing_is_encrypted_anew(place: Folder, program: str) -> None:
    place.rules(FOR_OTHER)
    place.env["SOPS_AGE_KEY"] = OTHER_IDENTITY
    place.run("publish", "--yes", "a.yaml", program=program, status=128)
    assert place.objects() == {}


@programs
def test_without_a_region(place: Folder, program: str) -> None:
    del place.env["AWS_REGION"]
    assert "egion" in place.run("publish", "--yes", "a.yaml", program=program, status=1).stderr
    (Path(place.env["HOME"]) / ".aws").mkdir()
    (Path(place.env["HOME"]) / ".aws/config").write_text(
        "[default]\nregion = eu-west-1\ns3 =\n  x = y\n[profile p]\nregion = us-east-1\n"
    )
    place.env["AWS_PROFILE"] = "p"
    place.run("publish", "--yes", "a.yaml", program=program)
    assert set(place.objects()) == {"in/a.yaml"}


def test_a_binary_file_is_encrypted_whatever_suffix_the_rule_has(place: Folder) -> None:
    """sops would upload it in plain, since its one value is called data."""
    (place.folder / "a.bin").write_text("secret")
    place.run("encrypt", "-i", "a.bin", "--age", recipient_of(IDENTITY))
    place.rules(f"recreation_rule: {{age: {recipient_of(OTHER_IDENTITY)}, encrypted_suffix: _x}}")
    place.run("publish", "--yes", "a.bin")
    content = place.objects()["a.bin"]
    assert b"secret" not in content
    assert place.only_for(OTHER_IDENTITY, content, "b.bin") == "secret"


def test_a_value_that_a_reader_takes_for_plain_stays_plain_and_the_file_opens(place: Folder) -> None:
    """sops encrypts it, and then cannot open what it published."""
    (place.folder / "c.yaml").write_text("a_unencrypted: b\nc: d\n")
    place.run("encrypt", "-i", "c.yaml", "--age", recipient_of(IDENTITY))
    place.rules(FOR_OTHER)
    place.run("publish", "--yes", "c.yaml")
    assert place.only_for(OTHER_IDENTITY, place.objects()["c.yaml"]) == "a_unencrypted: b\nc: d\n"


def test_a_changed_file_is_not_encrypted_anew(place: Folder) -> None:
    """S6: the MAC is verified before."""
    place.rules(FOR_OTHER)
    lines = (place.folder / "a.yaml").read_text().splitlines(keepends=True)
    (place.folder / "a.yaml").write_text("".join(line for line in lines if not line.startswith("kind:")))
    place.run("publish", "--yes", "a.yaml", status=51)
    assert place.objects() == {}


def test_s3_the_vault_that_a_rule_names_is_refused_where_nobody_allows_it(place: Folder) -> None:
    """S3, the rule: there is no connection, and so the question is not asked either."""
    from tests.interop.fakes.internet import Raw

    with Raw() as server:
        rule = f"{{vault_path: x/, vault_address: {server.url.rstrip('/')}}}"
        (place.folder / ".sops.yaml").write_text(f"destination_rules: [{rule}]\n")
        place.env |= {"VAULT_TOKEN": "t" * 20, "VAULT_ADDR": "https://vault.example"}
        done = place.run("publish", "a.yaml", status=1)
        assert "SOPS_HC_VAULT_ALLOWLIST" in done.stderr
        assert done.stdout == ""
        assert server.connections == 0


# over the wire


def put(internet: Internet, bucket: str = "some-bucket", name: str = "a/b c+ü%.yaml", **env: str) -> None:
    known = {**internet.env, **KEYS, "AWS_REGION": REGION, **env}
    buckets.put("s3", bucket, name, b"content", at_hand(internet, env=known))


@pytest.mark.parametrize(
    ("bucket", "host", "path"),
    [
        ("some-bucket", f"some-bucket.s3.{REGION}.amazonaws.com", ""),
        ("some.bucket", f"s3.{REGION}.amazonaws.com", "/some.bucket"),  # for which no certificate is
    ],
)
def test_what_is_sent_to_aws(moto: Moto, internet: Internet, bucket: str, host: str, path: str) -> None:
    moto.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    internet.services[host] = moto.answer
    put(internet, bucket, AWS_SESSION_TOKEN="t" * 20)
    (seen,) = internet.requests
    assert (seen.method, seen.host, seen.path) == ("PUT", host, f"{path}/a/b%20c%2B%C3%BC%25.yaml")
    assert seen.headers["x-amz-security-token"] == "t" * 20
    signed = "content-type;host;x-amz-checksum-sha256;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    assert f"SignedHeaders={signed}, " in seen.headers["authorization"]
    assert f"/{REGION}/s3/aws4_request" in seen.headers["authorization"]
    found = moto.client("s3").get_object(Bucket=bucket, Key="a/b c+ü%.yaml", ChecksumMode="ENABLED")
    assert found["Body"].read() == b"content"


@pytest.mark.parametrize("token", ["", "a session's token/+="])
def test_signatures_are_those_of_botocore(token: str) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = "https://bucket.s3.eu-west-1.amazonaws.com/some%20path/x%2By//%C3%BC"
    request = AWSRequest("PUT", url, {"Content-Type": "application/octet-stream"}, b"content")
    S3SigV4Auth(Credentials("AKID", "secret", token or None), "s3", REGION).add_auth(request)
    assert request.context["timestamp"]
    headers = {name: request.headers[name] for name in ("Content-Type", "X-Amz-Content-SHA256")}
    keys = AwsKeys("AKID", "secret", token)
    mine = signature(url, headers, b"content", keys, "s3", REGION, request.context["timestamp"], "PUT")
    assert mine == {name: request.headers[name] for name in mine}


def test_addresses_are_those_of_botocore() -> None:
    from botocore.session import Session

    data = Session().get_component("data_loader")
    for found in data.load_data("partitions")["partitions"]:
        for region in found["regions"]:
            if not region.endswith("-global"):
                place = Place(found["id"], region)
                assert place.url("s3", {}).rstrip("/") == official("s3", found["id"], region, fips=False)
                assert found["id"] in PARTITIONS


@pytest.mark.parametrize(
    "answer",
    [
        Answer(
            301, b"<Error><Code>PermanentRedirect</Code><Message>no</Message></Error>", x_amz_bucket_region="us-east-2"
        ),
        Answer(
            400,
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>us-east-2</Region></Error>",
        ),
        Answer(
            307,
            b"<Error><Code>TemporaryRedirect</Code><Endpoint>evil.example</Endpoint></Error>",
            Location="https://evil.example/",
            x_amz_bucket_region="us-east-2",
        ),
    ],
)
def test_a_bucket_of_another_region_is_told_and_nothing_followed(internet: Internet, answer: Answer) -> None:
    internet.services["*"] = lambda seen: answer
    with pytest.raises(KeyUnavailable) as caught:
        put(internet)
    assert f"the bucket some-bucket is in the region us-east-2, not in {REGION}" in caught.value.message
    assert "AWS_REGION" in caught.value.hint
    assert len(internet.requests) == 1


def test_a_refusal_says_what_is_missing_and_no_key(internet: Internet) -> None:
    words = f"<Error><Code>AccessDenied</Code><Message>not {KEYS['AWS_ACCESS_KEY_ID']} \n x</Message></Error>"
    internet.services["*"] = lambda seen: Answer(403, words.encode())
    with pytest.raises(KeyUnavailable) as caught:
        put(internet)
    assert "S3: AccessDenied: not" in caught.value.message
    assert KEYS["AWS_ACCESS_KEY_ID"] not in caught.value.message
    assert "s3:PutObject" in caught.value.hint


def test_throttling_is_tried_again(internet: Internet) -> None:
    answers = [Answer(200), Answer(503, b"<Error><Code>SlowDown</Code></Error>")]
    internet.services["*"] = lambda seen: answers.pop()
    put(internet)
    assert len(internet.requests) == 2


@pytest.mark.parametrize(
    ("bucket", "name", "region"),
    [
        *[
            (bucket, "a", REGION)
            for bucket in ("", "ab", "x@evil", "a/b", "Upper", "a" * 64, "evil.example:1", "a..b", "-ab")
        ],
        *[("bucket", name, REGION) for name in ("../a", "a/../b", "./a", "a/.", "\udcff", "x" * 1025)],
        *[("bucket", "a", region) for region in ("", "evil/", "eu-west-1.evil", "eu-west-1\n", "x")],
    ],
)
def test_s14_what_a_server_could_take_for_something_else_is_refused_before_it_is_asked(
    internet: Internet, bucket: str, name: str, region: str
) -> None:
    with pytest.raises(ConfigError):
        put(internet, bucket, name, AWS_REGION=region)
    assert internet.tunnels == []


def test_no_credentials() -> None:
    from krm_sops.credentials import Credentials

    credentials = Credentials(host_with({"AWS_REGION": REGION}), (), "never")
    with pytest.raises(KeyUnavailable, match="no credentials at hand"):
        buckets.put("s3", "bucket", "a", b"", credentials)
