"""AwsKmsKey: which address is asked, with whose keys, and what is said when none is good enough. No sockets here."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import recover
from krm_sops.errors import KeyUnavailable, NoUsableKey
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.keys.aws_api import PARTITIONS, AwsKeys, Place, signature
from krm_sops.keys.aws_credentials import session_name
from krm_sops.keys.aws_kms import AwsKmsKey
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Entry
from tests import corpus
from tests.interop.fakes.http import FakeHttp, as_http
from tests.interop.fakes.internet import Answer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

DATA_KEY = bytes(range(32))
ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLE = "arn:aws:iam::444455556666:role/sops"
KMS, STS = "kms.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"
SECRET, TOKEN = "wJalrXUtnFEMIexampleSECRETexampleEXAMPLEKEY", "FwoGZXIvYXdzEXAMPLETOKENexample=="
ENV = {"AWS_ACCESS_KEY_ID": "AKIDAMBIENT", "AWS_SECRET_ACCESS_KEY": SECRET}
STATIC = b"aws_access_key_id: AKIDINBAND\naws_secret_access_key: " + SECRET.encode() + b"\n"
ROLE_KEYS = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
  <Credentials><AccessKeyId>ASIDOFROLE</AccessKeyId><SecretAccessKey>role&amp;secret</SecretAccessKey>
  <SessionToken>role-token</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""


def key(arn: str = ARN, **fields: str) -> AwsKmsKey:
    given = {"arn": arn, "enc": b64encode(b"blob").decode(), "created_at": "2026-01-31T12:00:00Z"}
    return AwsKmsKey.from_fields({**given, **fields})


def opens(seen: Seen) -> Answer:
    return Answer(200, {"KeyId": ARN, "Plaintext": b64encode(DATA_KEY).decode()})


def refuses(code: str, words: str = "", status: int = 400) -> Callable[[Seen], Answer]:
    return lambda seen: Answer(status, {"__type": code, "message": words})


def assumes(seen: Seen) -> Answer:
    return Answer(200, ROLE_KEYS.encode())


def given(
    http: FakeHttp,
    *entries: bytes,
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    **more: Any,
) -> Credentials:
    host = Host(env=ENV if env is None else env, files=files or {}, http=as_http(http))
    return Credentials(host, [KeyEntry("kms", "sops.aws-kms", data, "Secret sops-keys") for data in entries], **more)


def failing(credentials: Credentials, wanted: AwsKmsKey | None = None) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        (wanted or key()).unwrap(credentials)
    text = f"{caught.value} {caught.value.hint}"
    assert "\n" not in text
    for secret in (SECRET, TOKEN, "role-token", "role&secret"):
        assert secret not in text
    return caught.value


# what is asked


def test_decrypt_is_asked_of_the_region_of_the_arn_whatever_the_environment_says():
    http = FakeHttp(**{KMS: opens})
    env = {**ENV, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    assert key().unwrap(given(http, env=env)) == DATA_KEY
    (seen,) = http.requests
    assert (seen.method, seen.host, seen.path) == ("POST", KMS, "/")
    assert seen.headers["content-type"] == "application/x-amz-json-1.1"
    assert seen.headers["x-amz-target"] == "TrentService.Decrypt"
    assert "/eu-west-1/kms/aws4_request," in seen.headers["authorization"]
    assert seen.json() == {"KeyId": ARN, "CiphertextBlob": b64encode(b"blob").decode()}


def test_the_encryption_context_goes_along_with_colons_and_commas():
    fields = {"context.aws:stack": "arn:aws:x,y", "context.b": ""}
    http = FakeHttp(**{KMS: opens})
    assert key(**fields).unwrap(given(http)) == DATA_KEY
    assert http.requests[0].json()["EncryptionContext"] == {"aws:stack": "arn:aws:x,y", "b": ""}


def test_metadata_gives_the_context_as_it_stands():
    block = Branch(
        [
            Entry("lastmodified", "2026-01-31T12:00:00Z"),
            Entry("kms", [Branch([Entry("arn", ARN), Entry("context", Branch([Entry("a:b", "c,d:e")]))])]),
        ]
    )
    (found,) = Metadata.from_branch(block, 10).keys()
    assert isinstance(found, AwsKmsKey)
    assert found.context == {"a:b": "c,d:e"}


@pytest.mark.parametrize(
    ("fields", "identity"),
    [
        ({}, ARN),
        ({"role": ROLE}, f"{ARN}+{ROLE}"),
        ({"context.b": "2", "context.a": "1"}, f"{ARN}|a:1,b:2"),
        ({"aws_profile": "p"}, f"{ARN}||p"),
        ({"role": ROLE, "context.a": "1", "aws_profile": "p"}, f"{ARN}+{ROLE}|a:1|p"),
    ],
)
def test_a_key_is_called_what_sops_calls_it(fields, identity):
    assert key(**fields).identity == identity


def test_wrap_gives_the_same_key_with_a_new_enc():
    http = FakeHttp(**{KMS: lambda seen: Answer(200, {"CiphertextBlob": b64encode(b"new blob").decode()})})
    before = key(role="", aws_profile="", **{"context.a": "1"})
    after = before.wrap(DATA_KEY, given(http))
    assert b64decode(after.enc) == b"new blob"
    assert (after.identity, after.created_at) == (before.identity, before.created_at)
    assert http.requests[0].headers["x-amz-target"] == "TrentService.Encrypt"
    assert b64decode(http.requests[0].json()["Plaintext"]) == DATA_KEY
    assert http.requests[0].json()["EncryptionContext"] == {"a": "1"}


def test_wrap_without_a_ciphertext_is_no_success():
    with pytest.raises(KeyUnavailable, match="without a CiphertextBlob"):
        key().wrap(DATA_KEY, given(FakeHttp(**{KMS: lambda seen: Answer(200, {})})))


def test_a_session_token_is_sent_and_signed():
    http = FakeHttp(**{KMS: opens})
    key().unwrap(given(http, env={**ENV, "AWS_SESSION_TOKEN": TOKEN}))
    assert http.requests[0].headers["x-amz-security-token"] == TOKEN
    assert "x-amz-security-token" in http.requests[0].headers["authorization"]


def test_signature_is_that_of_the_published_example():
    """AWS' signature test suite, post-vanilla."""
    keys = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")
    found = signature("https://example.amazonaws.com/", {}, b"", keys, "service", "us-east-1", "20150830T123600Z")
    assert found["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, "https://kms.us-gov-west-1.amazonaws.com/"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "https://kms-fips.us-gov-west-1.amazonaws.com/"),
        ({"AWS_ENDPOINT_URL": "https://all.example"}, "https://all.example"),
        ({"AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_KMS": "https://k.example"}, "https://k.example"),
        (
            {"AWS_ENDPOINT_URL": "https://all.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            "https://kms.us-gov-west-1.amazonaws.com/",
        ),
    ],
)
def test_only_the_environment_names_another_address(env, url):
    assert Place("aws-us-gov", "us-gov-west-1").url("kms", env) == url


def test_a_role_is_assumed_in_the_region_of_the_key_and_its_keys_sign():
    http = FakeHttp(**{STS: assumes, KMS: opens})
    assert key(role=ROLE).unwrap(given(http)) == DATA_KEY
    asked, used = http.requests
    form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
    assert form.pop("RoleSessionName").startswith("sops@")
    assert form == {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE}
    assert "Credential=AKIDAMBIENT/" in asked.headers["authorization"]
    assert "Credential=ASIDOFROLE/" in used.headers["authorization"]
    assert used.headers["x-amz-security-token"] == "role-token"


def test_a_role_is_assumed_once_for_many_keys_and_once_more_in_another_region():
    other = ARN.replace("eu-west-1", "us-east-2")
    http = FakeHttp(
        **{
            name.replace("eu-west-1", region): answer
            for name, answer in ((STS, assumes), (KMS, opens))
            for region in ("eu-west-1", "us-east-2")
        }
    )
    credentials = given(http)
    for arn in (ARN, ARN + "1", other, other + "1"):
        key(arn, role=ROLE).unwrap(credentials)
    assert sorted(seen.host.partition(".")[0] for seen in http.requests) == ["kms"] * 4 + ["sts"] * 2


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("argocd-repo-server-0", "sops@argocdreposerver0"),
        ("host.example_1", "sops@host.example_1"),
        ("h" * 80, "sops@" + "h" * 59),
        ("bad/name:ü'\n", "sops@badname"),
    ],
)
def test_the_session_is_named_as_sops_names_it(hostname, name):
    assert session_name(hostname) == name


# S14: what a document says is matched whole

EVIL = [
    "",
    "arn:aws:kms:aws-region-1:123456789011:key/x",
    "arn:aws:kms:eu-west-1.evil.example/:111122223333:key/x",
    "arn:aws:kms:evil.example/#:111122223333:key/x",
    "arn:aws:kms:x@evil:111122223333:key/x",
    "arn:aws:kms:127.0.0.1:111122223333:key/x",
    "arn:aws:kms:eu-west-1:8080:111122223333:key/x",
    "arn:aws:kms:cn-north-1:111122223333:key/x",
    "arn:aws:kms:us-gov-west-1:111122223333:key/x",
    "arn:aws-cn:kms:eu-west-1:111122223333:key/x",
    "arn:aws-evil:kms:eu-west-1:111122223333:key/x",
    "arn:aws:kms::111122223333:key/x",
    "arn:aws:kms:eu-west-1:111122223333:key/",
    "arn:aws:kms:eu-west-1:111122223333:key/x?y",
    "arn:aws:kms:eu-west-1:111122223333:key/../x",
    "arn:aws:kms:eu-west-1:1111:key/x",
    "arn:aws:kms:eu-west-1:١١١١٢٢٢٢٣٣٣٣:key/x",
    "arn:aws:kms:eu-west-1:111122223333:grant/x",
    "arn:aws:iam:eu-west-1:111122223333:key/x",
    ARN + "\n",
    " " + ARN,
    ARN + "\r\nHost: evil.example",
    ARN + "a" * 400,
]


@pytest.mark.parametrize("arn", EVIL, ids=range(len(EVIL)))
def test_s14_an_address_that_is_not_whole_is_refused_before_any_call(arn):
    http = FakeHttp()
    assert "is no" in failing(given(http, STATIC, ambient="always"), key(arn)).message
    assert not http.requests


@pytest.mark.parametrize("role", ["x", ROLE + "\n", "arn:aws:iam::44:role/x", ROLE + "&Action=x", "arn:aws:s3:::b"])
def test_s14_a_role_that_is_none_is_refused_before_any_call(role):
    http = FakeHttp(**{STS: assumes, KMS: opens})
    assert "is no ARN of an IAM role" in failing(given(http), key(role=role)).message
    assert not http.requests


@pytest.mark.parametrize("enc", ["", "?", "YQ=", "YQ==YQ==", "vault:v1:YQ==", "ü"])
def test_an_enc_that_is_no_base64_is_refused_before_any_call(enc):
    http = FakeHttp(**{KMS: opens})
    assert "its enc is" in failing(given(http), key(enc=enc)).message
    assert not http.requests


def test_every_partition_has_its_own_regions():
    regions = ["eu-west-1", "cn-north-1", "us-gov-east-1", "eusc-de-east-1", "us-iso-west-1", "us-isob-east-1"]
    regions += ["eu-isoe-west-1", "us-isof-south-1"]
    for region, partition in zip(regions, PARTITIONS, strict=True):
        assert Place.of_key(f"arn:{partition}:kms:{region}:111122223333:alias/a/b").region == region
        for other in PARTITIONS.keys() - {partition}:
            with pytest.raises(KeyUnavailable):
                Place.of_key(f"arn:{other}:kms:{region}:111122223333:key/a")


# whose keys


@pytest.mark.parametrize(
    "entry",
    [
        STATIC,
        b"\xef\xbb\xbf" + STATIC,
        STATIC + b"something: else\n",
        json.dumps({"aws_access_key_id": "AKIDINBAND", "aws_secret_access_key": SECRET}).encode(),
        STATIC + b'aws_session_token: ""\n',
    ],
)
def test_an_entry_in_yaml_or_json_is_enough(entry):
    http = FakeHttp(**{KMS: opens})
    assert key().unwrap(given(http, entry, env={})) == DATA_KEY
    assert "Credential=AKIDINBAND/" in http.requests[0].headers["authorization"]
    assert "x-amz-security-token" not in http.requests[0].headers


def test_an_entry_with_a_session_token():
    http = FakeHttp(**{KMS: opens})
    key().unwrap(given(http, STATIC + f"aws_session_token: {TOKEN}\n".encode()))
    assert http.requests[0].headers["x-amz-security-token"] == TOKEN


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (b"", "no YAML or JSON mapping"),
        (b"- a\n", "no YAML or JSON mapping"),
        (b"\xff\xfe", "no YAML or JSON mapping"),
        (f"{{{SECRET}".encode(), "no YAML or JSON mapping"),
        (b"aws_secret_access_key: " + SECRET.encode(), "has no aws_access_key_id"),
        (b"aws_access_key_id: AKID", "has no aws_secret_access_key"),
        (b"aws_access_key_id: AKID\naws_secret_access_key: 12345", "has no aws_secret_access_key, or it is no text"),
        (b"aws_access_key_id: AKID\naws_secret_access_key: {a: b}", "has no aws_secret_access_key, or it is no text"),
    ],
)
def test_a_broken_entry_is_told_without_its_content(entry, words):
    http = FakeHttp(**{KMS: opens})
    error = failing(given(http, entry))
    assert words in error.message
    assert "sops.aws-kms of Secret sops-keys" in error.message
    assert not http.requests


AMBIENT_POWER = {
    **ENV,
    "AWS_PROFILE": "admin",
    "AWS_ROLE_ARN": ROLE,
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
}


@pytest.mark.parametrize("fields", [{}, {"aws_profile": "admin"}])
def test_s13_an_entry_borrows_nothing_that_lies_around(fields):
    http = FakeHttp(**{KMS: refuses("AccessDeniedException", "no"), STS: assumes})
    failing(given(http, STATIC, env=AMBIENT_POWER, files={"/token": b"jwt"}), key(**fields))
    assert [seen.host for seen in http.requests] == [KMS]
    assert "Credential=AKIDINBAND/" in http.requests[0].headers["authorization"]


def test_s13_a_document_s_role_counts_as_ambient_beside_an_entry():
    http = FakeHttp(**{STS: assumes, KMS: opens})
    error = failing(given(http, STATIC, env=AMBIENT_POWER), key(role=ROLE))
    assert f"asks to assume the role {ROLE}" in error.message
    assert "ambient: always" in error.hint
    assert not http.requests
    key(role=ROLE).unwrap(given(http, STATIC, env=AMBIENT_POWER, ambient="always"))
    assert "Credential=AKIDINBAND/" in http.requests[0].headers["authorization"]


def test_ambient_never_with_no_entry_asks_nobody():
    http = FakeHttp(**{KMS: opens, STS: assumes})
    error = failing(given(http, env=AMBIENT_POWER, files={"/token": b"jwt"}, ambient="never"))
    assert "no credentials at hand" in error.message
    assert "sops.aws-kms" in error.hint
    assert not http.requests


def test_ambient_always_is_tried_after_the_entry_and_both_are_told():
    def by_key(seen: Seen) -> Answer:
        return refuses("AccessDeniedException", f"not for {seen.headers['authorization'][27:38]}")(seen)

    error = failing(given(FakeHttp(**{KMS: by_key}), STATIC, ambient="always"))
    first, second = error.message.split("; ")
    assert "AKIDINBAND" not in first  # an access key is not repeated either
    assert "sops.aws-kms of Secret sops-keys" in first
    assert "AWS_ACCESS_KEY_ID" in second


def test_the_second_entry_opens_what_the_first_may_not():
    def by_key(seen: Seen) -> Answer:
        return (opens if "AKIDOTHER" in seen.headers["authorization"] else refuses("AccessDeniedException"))(seen)

    http = FakeHttp(**{KMS: by_key})
    assert key().unwrap(given(http, STATIC, STATIC.replace(b"AKIDINBAND", b"AKIDOTHER"))) == DATA_KEY


def test_a_web_identity_is_exchanged_without_a_signature_and_once():
    http = FakeHttp(**{STS: assumes, KMS: opens})
    env = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_SESSION_NAME": "pod"}
    credentials = given(http, env=env, files={"/token": b"eyJ.jwt\n"})
    key().unwrap(credentials)
    key(enc="YQ==").unwrap(credentials)
    exchange, used, _ = http.requests
    assert "authorization" not in exchange.headers
    form = {name: values[0] for name, values in parse_qs(exchange.body.decode()).items()}
    assert form == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "pod",
        "WebIdentityToken": "eyJ.jwt",
    }
    assert "Credential=ASIDOFROLE/" in used.headers["authorization"]


def test_a_web_identity_that_is_refused_or_missing_is_told_without_its_token():
    said = b"<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>Token eyJ.jwt expired</Message></Error>"
    env = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    http = FakeHttp(**{STS: lambda seen: Answer(400, said)})
    error = failing(given(http, env=env, files={"/token": b"eyJ.jwt"}))
    assert "ExpiredTokenException: Token … expired" in error.message
    assert "AWS_WEB_IDENTITY_TOKEN_FILE /token: No such file" in failing(given(http, env=env)).message


def test_without_botocore_the_extra_is_named_and_static_keys_need_none():
    code = """
import sys
sys.modules["botocore"] = None
from krm_sops.credentials import Credentials
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.keys.aws_kms import AwsKmsKey
for profile in ("", "p"):
    key = AwsKmsKey(sys.argv[1], "", {}, profile, "", "YQ==")
    try:
        key.unwrap(Credentials(Host(env={}, files={})))
    except KeyUnavailable as error:
        print(error, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code, ARN], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'krm-sops[aws]'" in line for line in lines)


# what is said


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/u is not authorized to perform: kms:Decrypt",
            "kms:Decrypt",
        ),
        ("NotFoundException", "Key 'arn' does not exist", "gone, disabled or not in this region"),
        ("DisabledException", "arn is disabled.", "gone, disabled"),
        ("KMSInvalidStateException", "arn is pending deletion.", "gone, disabled"),
        ("ThrottlingException", "You have exceeded the rate", "quota"),
        ("ExpiredTokenException", "The security token included in the request is expired", "log in again"),
        ("UnrecognizedClientException", "The security token included in the request is invalid", "AWS does not know"),
        ("InvalidSignatureException", "Signature expired", "clock"),
        ("InvalidCiphertextException", "", "encryption context"),
        ("SomethingNewException", "as the service says", ""),
    ],
)
def test_a_refusal_is_told_in_the_service_s_words_with_region_and_hint(code, words, hint):
    error = failing(given(FakeHttp(**{KMS: refuses("com.amazonaws.kms#" + code, words)})))
    assert f"{code}: {words}" in error.message
    assert "(region eu-west-1)" in error.message
    assert "(with AWS_ACCESS_KEY_ID)" in error.message
    assert hint in error.hint


def test_a_role_that_is_refused_is_told_as_such_and_asked_for_once():
    said = (
        f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>User: u is not authorized: {ROLE}</Message></Error>"
    )
    http = FakeHttp(**{STS: lambda seen: Answer(403, said.encode())})
    credentials = given(http)
    for enc in ("YQ==", "Yg=="):
        error = failing(credentials, key(role=ROLE, enc=enc))
        assert f"the role cannot be assumed: AccessDenied: User: u is not authorized: {ROLE}" in error.message
        assert "sts:AssumeRole" in error.hint
    assert len(http.requests) == 1


def test_what_a_service_repeats_of_keys_and_requests_is_left_out():
    words = f"The signature does not match {TOKEN} {SECRET} AKIDAMBIENT\n\nThe canonical string: {TOKEN}"
    http = FakeHttp(**{KMS: refuses("SignatureDoesNotMatch", words, 403)})
    error = failing(given(http, env={**ENV, "AWS_SESSION_TOKEN": TOKEN}))
    assert "does not match" in error.message
    assert "canonical" not in error.message
    assert "AKIDAMBIENT" not in error.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"__type": 1}', b"\xff", b"null"])
@pytest.mark.parametrize("status", [200, 302, 403, 500])
def test_an_answer_that_is_none_of_kms_is_a_failure_in_one_line(status, body):
    failing(given(FakeHttp(**{KMS: lambda seen: Answer(status, body)})))


@pytest.mark.parametrize("plaintext", ["", "?", 5, None, ["x"], "YQ"])
def test_a_plaintext_that_is_no_base64_is_a_failure(plaintext):
    failing(given(FakeHttp(**{KMS: lambda seen: Answer(200, {"Plaintext": plaintext})})))


def test_sts_without_credentials_is_a_failure():
    http = FakeHttp(**{STS: lambda seen: Answer(200, b"<Credentials></Credentials>"), KMS: opens})
    assert "answered without credentials" in failing(given(http), key(role=ROLE)).message


def test_the_context_that_old_sops_wrote_is_tried_when_the_right_one_fails():
    """Before 3.3 sops gave all entries of a context the value of one of them."""

    def old(seen: Seen) -> Answer:
        right = seen.json()["EncryptionContext"] == {"a": "2", "b": "2"}
        return (opens if right else refuses("InvalidCiphertextException"))(seen)

    http = FakeHttp(**{KMS: old})
    assert key(**{"context.a": "1", "context.b": "2"}).unwrap(given(http)) == DATA_KEY
    assert len(http.requests) == 3
    http.requests.clear()
    failing(given(http), key(**{"context.a": "1", "context.b": "1"}))
    assert len(http.requests) == 1


# in a document


def metadata(*keys: AwsKmsKey) -> Metadata:
    entries = [
        Branch([Entry("arn", one.arn), Entry("role", one.role), Entry("enc", one.enc), Entry("created_at", "x")])
        for one in keys
    ]
    return Metadata.from_branch(Branch([Entry("lastmodified", "2026-01-31T12:00:00Z"), Entry("kms", entries)]), 100)


def test_a_document_tells_every_key_with_arn_role_and_cause():
    http = FakeHttp(**{KMS: refuses("AccessDeniedException", "not yours"), STS: assumes})
    with pytest.raises(NoUsableKey) as caught:
        recover(metadata(key(role=ROLE), key(EVIL[1])), given(http))
    first, second = caught.value.attempts
    assert first.startswith(f"kms {ARN}+{ROLE}: AccessDeniedException: not yours")
    assert "is no region of the partition" in second


def test_a_key_that_failed_is_not_asked_again_in_its_scope():
    http = FakeHttp(**{KMS: refuses("AccessDeniedException")})
    credentials = given(http)
    for _ in range(3):
        with pytest.raises(NoUsableKey):
            recover(metadata(key()), credentials)
    assert len(http.requests) == 1
    with pytest.raises(NoUsableKey):
        recover(metadata(key()), given(http))
    assert len(http.requests) == 2


def test_the_registry_names_this_class():
    assert KEY_TYPES["kms"] is AwsKmsKey


@corpus.needs_corpus
@pytest.mark.parametrize(
    "case",
    [case for case in corpus.cases("document") if case.get("key_type") == "aws-kms"],
    ids=lambda case: case["id"],
)
def test_a_peer_s_kms_document_cannot_be_opened_and_says_why(case):
    _, block = STORES[case["format"]].read(corpus.path(case["file"]).read_bytes())
    assert block is not None
    http = FakeHttp()
    with pytest.raises(NoUsableKey) as caught:
        recover(Metadata.from_branch(block, FUNCTION.key_entries), given(http))
    reasons = ("is unreachable", "is no ARN", "is no region", "no AWS")
    assert any(reason in attempt for attempt in caught.value.attempts for reason in reasons)
    assert all(seen.host.endswith(".amazonaws.com") for seen in http.requests)
