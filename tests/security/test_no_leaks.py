"""Nothing that is said, raised or shown holds a plaintext or a key (S10), whatever is wrong with the input."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.age.identities import Reader
from krm_sops.cipher import DataKey, decrypt_value
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import EncryptedValueError, KrmSopsError
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Entry, Timestamp
from krm_sops.verbs.flags import UsageError
from tests.pgp_encoder import EcdhKey
from tests.security import made
from tests.security.test_tampering import PLAIN, changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.conftest import Program

PGP = EcdhKey().armored().decode()
PGP_LINE = PGP.splitlines()[4]
KEYS = [
    key.encode() for key in (made.IDENTITY, made.IDENTITY[15:], made.OTHER_IDENTITY, made.OTHER_IDENTITY[15:], PGP_LINE)
]
KEYS += [made.DATA_KEY, made.DATA_KEY[:16]]
PLAINTEXTS: dict[str, bytes] = {
    "str": b"plain-of-the-text",
    "int": b"471147114711",
    "float": b"47.1147114711",
    "bool": b"True",
    "time": b"2047-11-14T21:59:43Z",
    "bytes": b"\xff\xfeplain-of-bytes\xc3",
    "key": made.OTHER_IDENTITY.encode(),
}
WORDS = (
    "str",
    "int",
    "float",
    "bool",
    "time",
    "bytes",
    "comment",
    "",
    "STR",
    "x" * 300,
    "str]\n",
    "\x1b[31m",
    "a,type:int",
)


def forms(secret: bytes) -> Iterator[bytes]:
    """A secret as itself, in base64 at each alignment, in hexadecimal, and as Python would quote it."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield repr(secret)[2:-1].encode()
    for shift in range(3):
        yield b64encode(b"x" * shift + secret)[4 if shift else 0 : -4]


SPELLED = [form for secret in [*KEYS, *(p for p in PLAINTEXTS.values() if len(p) > 4)] for form in forms(secret)]


def check(*said: object) -> None:
    for one in said:
        text = one if isinstance(one, bytes) else str(one).encode("utf-8", "surrogateescape")
        for number, form in enumerate(SPELLED):
            if form in text:
                pytest.fail(f"secret number {number} was said", pytrace=False)


def told(error: BaseException | None) -> Iterator[object]:
    """All that an exception carries, and those that it hides behind itself."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        if isinstance(error, UnicodeError):
            yield repr(error.object)  # type: ignore[attr-defined]
        yield from getattr(error, "__notes__", ())
        if error.__cause__ is not None and error.__cause__ is not error.__context__:
            yield from told(error.__cause__)
        error = error.__context__


def function(text: str | bytes, env: dict[str, str] | None = None) -> int:
    """Run the function and look at all it says; its exit status. A success has plaintext on stdout, nowhere else."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    try:
        output, results, status = run(raw, Host(env=env or {}, files={}), FUNCTION)
    except KrmSopsError as error:
        check(*told(error))
        return error.exit_status
    for result in results:
        check(result.line(), result.hint, repr(result), repr(result.fields()))
    if status:
        assert results
    if status or b"ENC[" in output:
        check(output)
    return status


def document_of(plain: bytes, word: str) -> dict[str, Any]:
    """A document whose MAC fits, and of which one value may be of the wrong type."""
    document = made.encrypted(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"k": plain}}
    )
    document["stringData"]["k"] = made.enc(plain, "stringData:k:", word)
    return document


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("of", PLAINTEXTS)
def test_no_type_word_makes_a_value_tell_its_plaintext(of, word):
    """S10: the type is outside of the tag, so whoever can write the file chooses the parser."""
    with pytest.raises(KrmSopsError) as caught:  # noqa: PT012
        value = decrypt_value(made.enc(PLAINTEXTS[of], "a:", word), DataKey(made.DATA_KEY), b"a:", ("a",))
        check(repr(value) if isinstance(value, Comment) else "")
        raise EncryptedValueError("nothing was refused")
    check(*told(caught.value))
    document = document_of(PLAINTEXTS[of], word)
    function(made.resource_list(document))
    function(json.dumps({"kind": "ResourceList", "items": [document], "functionConfig": made.KEY_SECRET}))


def test_a_wrong_type_word_looks_like_a_wrong_mac():
    """S10: else whoever may change the word could ask, one by one, what the value looks like."""
    other = document_of(b"other", "str")["sops"]["mac"]
    said = set()
    for of, plain in PLAINTEXTS.items():
        for word in ("str", "int", "float", "bool", "time"):
            document = document_of(plain, word)
            document["sops"]["mac"] = other
            _, results, status = made.function(made.resource_list(document))
            assert status == 1, of
            said.add((results[0].line(), results[0].reason, results[0].field, results[0].hint))
    assert len(said) == 1
    assert said.pop()[1] == "MacMismatch"


@pytest.mark.parametrize("of", PLAINTEXTS)
def test_every_format_refuses_or_writes_what_is_no_text(of):
    """S10, for the stores: bytes that are no UTF-8 have no spelling everywhere."""
    document = document_of(PLAINTEXTS[of], "str")
    document["sops"]["mac"] = made.mac_of(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"k": PLAINTEXTS[of]}}
    )
    branches, block = STORES["json"].read(json.dumps(document).encode())
    assert block is not None
    plain, _ = EncryptedDocument(branches, Metadata.from_branch(block, 9)).decrypt(DataKey(made.DATA_KEY))
    check(repr(plain), repr(plain[0].entries))
    for store in STORES:
        try:
            STORES[store].write_plain(plain)
        except (KrmSopsError, UnicodeError) as error:
            if isinstance(error, KrmSopsError):
                check(*told(error))


def test_no_tampered_document_tells_anything():
    """S10"""
    for change in changes(made.encrypted(PLAIN)):
        function(made.resource_list(change.document))


def with_key(key: str) -> Iterator[dict[str, Any] | str]:
    """functionConfigs in which a key stands where it should, nearly where it should, and where it should not."""
    meta = {"name": "sops-keys"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
    for name in ("a.agekey", "a.asc", "a.sshkey", "age.key", "sops.vault-token", key):
        yield {**secret, "stringData": {name: key}}
        yield {**secret, "data": {name: key}}
        yield {**secret, "data": {name: b64encode(key.encode()).decode()}}
        yield {**secret, "data": {name: b64encode(key.encode()).decode()[:-3]}}
        yield {**secret, "stringData": {name: {key: key}}}
        yield {**secret, "stringData": {name: [key]}}
        yield {**secret, "stringData": {name: "sops " + key}}
    yield {**secret, "stringData": key}
    yield {**secret, "stringData": [key]}
    yield {**secret, "metadata": {"name": key, "annotations": {key: key}}}
    yield {**secret, "metadata": key}
    for kind in ("ConfigMap", "Secrets", "SopsDecrypt", key):
        yield {"apiVersion": "v1", "kind": kind, "metadata": meta, "data": {"a.agekey": key}}
        yield {"apiVersion": key, "kind": kind, "metadata": meta, "data": {"mac": key, "secretRef": key}}
    for field in ("mac", "ambient", "strict", "secretRef", "allowPlaintext", key):
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {field: key}}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {field: {key: key}}}
    decrypt = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": meta}
    for spec in (
        key,
        [key],
        {key: key},
        {"keys": key},
        {"keys": [key]},
        {"keys": {key: key}},
        {"keys": [{"value": key}]},
        {"keys": [{"value": [key]}]},
        {"keys": [{"env": key}]},
        {"keys": [{"file": key}]},
        {"keys": [{"file": f"./{key}"}]},
        {"keys": [{"value": key, "env": key}]},
        {"keys": [{key: key}]},
        {"keys": [{"value": key}], "mac": "string"},
        {"keys": [{"value": key}], "decryption": {"secretRef": {"name": "absent"}}},
        {"mac": key},
        {"ambient": key},
        {"strict": key},
        {"decryption": key},
        {"decryption": {"provider": key}},
        {"decryption": {"secretRef": key}},
        {"decryption": {"secretRef": {"name": key}}},
        {"decryption": {"secretRef": {"name": "x", key: key}}},
        {"selectors": key},
        {"selectors": [{"kind": [key]}]},
        {"selectors": [{key: key}]},
        {"exclude": [{"labels": key}]},
        {"include": [key]},
        {"keepOriginal": key},
    ):
        yield {**decrypt, "spec": spec}
    yield {**decrypt, key: key}


BROKEN = {
    "another": made.OTHER_IDENTITY,
    "its last character changed": made.OTHER_IDENTITY[:-1] + "A",
    "too short": made.OTHER_IDENTITY[:-9],
    "twice": made.OTHER_IDENTITY * 2,
    "lower case": made.OTHER_IDENTITY.lower(),
    "on two lines": made.OTHER_IDENTITY[:40] + "\n" + made.OTHER_IDENTITY[40:],
    "with a control character": made.OTHER_IDENTITY + "\x1b[31m",
    "openpgp": PGP,
    "half of openpgp": PGP[: len(PGP) // 2],
    "openpgp without its head": PGP_LINE + "\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_no_misplaced_or_broken_key_is_told(what):
    """S10, S11: in every place of every kind of functionConfig, and in the environment."""
    key = BROKEN[what]
    parts = [part for part in (key, *key.split("\n")) if len(part) > 20]
    known = len(SPELLED)
    SPELLED.extend(form for part in parts for form in forms(part.encode()))
    try:
        item = made.encrypted()
        for config in with_key(key):
            function(
                made.resource_list(item, config=config)
            )  # where the name is a namespace too, nothing is its to open
            function(json.dumps({"kind": "ResourceList", "functionConfig": config, "items": [item]}))
        function(made.resource_list(item, config={**made.KEY_SECRET, "metadata": {"name": "x", "namespace": key}}))
        assert function(made.resource_list(item, config=key))
        for name in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY_CMD", "KRM_SOPS_KEY_DIR", "HOME", "GNUPGHOME"):
            assert function(made.resource_list(item, config=None), env={name: key})
    finally:
        del SPELLED[known:]


def test_no_truncated_input_is_told():
    """S10: the input ends anywhere, before or behind the key."""
    for config_first in (True, False):
        text = made.resource_list(made.encrypted(), config_first=config_first)
        for end in range(0, len(text), 23):
            function(text[:end])
            function(text[:end] + "\x00")
            function(text[:end].encode() + b"\xff\xfe" + text[end:].encode())
    as_json = json.dumps({"kind": "ResourceList", "functionConfig": made.KEY_SECRET, "items": [made.encrypted()]})
    for end in range(0, len(as_json), 23):
        function(as_json[:end])


def test_nothing_shows_what_it_holds():
    """S10: the reprs that a traceback, a debugger or a failing assertion would print."""
    text = PLAINTEXTS["str"].decode()
    host = Host(env={"SOPS_AGE_KEY": made.IDENTITY}, files={"/k": made.IDENTITY.encode()})
    entry = KeyEntry("age", "a.agekey", made.IDENTITY.encode(), "test")
    credentials = Credentials(host, [entry])
    branches, block = STORES["json"].read(json.dumps(made.encrypted()).encode())
    assert block is not None
    metadata = Metadata.from_branch(block, 9)
    data_key = recover(metadata, credentials)
    document = EncryptedDocument(branches, metadata)
    (identity,) = Reader().read(made.IDENTITY.encode(), "x")
    for thing in (
        data_key,
        entry,
        credentials,
        host,
        identity,
        document,
        document.open(data_key),
        metadata,
        Comment(text),
        Timestamp(text),
        Entry(text, text),
        Branch([Entry(text, text)]),
        [Branch([Entry(text, text)]), Comment(text)],
        {"x": [Entry(text, data_key), entry]},
    ):
        check(repr(thing), str(thing), f"{thing}")
    check(*told(UsageError("x")))


def program_cases() -> Iterator[tuple[str, str | bytes]]:
    item = made.encrypted()
    yield (
        "wrong key",
        made.resource_list(item, config={**made.KEY_SECRET, "stringData": {"a.agekey": made.OTHER_IDENTITY}}),
    )
    for what in ("int", "bytes"):
        yield f"wrong type {what}", made.resource_list(document_of(PLAINTEXTS["str"], what.replace("bytes", "time")))

    as_json = {
        "kind": "ResourceList",
        "functionConfig": made.KEY_SECRET,
        "items": [document_of(PLAINTEXTS["bytes"], "str")],
    }
    yield "no text in JSON", json.dumps(as_json)
    for number, config in enumerate(with_key(made.OTHER_IDENTITY)):
        if number % 6 == 0:
            yield f"config {number}", made.resource_list(item, config=config)
    yield "cut short", made.resource_list(item, config_first=True)[:-400]
    yield "not UTF-8", made.resource_list(item, config_first=True).encode() + b"\xff"
    yield "no ResourceList", yaml.safe_dump(made.KEY_SECRET)
    yield "only a key", made.IDENTITY


def test_the_program_tells_nothing(program: Program):
    """S10, S11: the same from outside, everything that leaves the process."""
    for what, stdin in program_cases():
        done = program(stdin=stdin)
        assert done.returncode == 1, what
        assert done.stderr.startswith(b"krm-sops: "), what
        assert b"internal error" not in done.stderr, what
        check(done.stdout, done.stderr)


def test_the_verbs_tell_nothing(program: Program, tmp_path):
    """S10: broken keys, keys as file names, flags and values, a wrong type, a wrong MAC."""
    good, keys = tmp_path / "good.yaml", tmp_path / "keys.txt"
    good.write_text(made.yaml(made.encrypted()))
    keys.write_text(made.OTHER_IDENTITY)
    mistyped = tmp_path / "mistyped.json"
    mistyped.write_text(json.dumps(document_of(PLAINTEXTS["str"], "int")))
    plain = tmp_path / "keys.yaml"
    plain.write_text(made.yaml({**made.KEY_SECRET, "stringData": {made.IDENTITY: made.IDENTITY}}) + "a: [")
    own = tmp_path / "own.txt"
    own.write_text(made.IDENTITY)
    for arguments, env in (
        (("decrypt", "--key-file", keys, good), {}),
        (("decrypt", "--key-file", made.IDENTITY, good), {}),
        (("decrypt", made.IDENTITY), {}),
        (("decrypt", f"--{made.IDENTITY}", good), {}),
        (("decrypt", "--ambient", made.IDENTITY, good), {}),
        (("decrypt", "--in-place=" + made.IDENTITY, good), {}),
        (("decrypt", "--extract", made.IDENTITY, "--key-file", own, good), {}),
        (("decrypt", "--key-file", own, mistyped), {}),
        (("decrypt", "--key-file", own, "--ignore-mac", mistyped), {}),
        (("decrypt", plain), {}),
        (("filestatus", plain), {}),
        (("filestatus", made.IDENTITY), {}),
        (("explain", plain, made.IDENTITY), {}),
        (("explain", "--key-file", keys, good), {}),
        ((made.IDENTITY,), {}),
        (("decrypt", good), {"SOPS_AGE_KEY": made.OTHER_IDENTITY}),
        (("decrypt", good), {"SOPS_AGE_KEY": made.OTHER_IDENTITY + "X"}),
        (("decrypt", good), {"SOPS_AGE_KEY_FILE": made.OTHER_IDENTITY}),
        (("decrypt", good), {"SOPS_AGE_KEY_CMD": f"printf {made.OTHER_IDENTITY}"}),
        (("decrypt", good), {"SOPS_AGE_KEY_CMD": made.OTHER_IDENTITY}),
        (("decrypt", good), {"KRM_SOPS_KEY_DIR": made.OTHER_IDENTITY}),
        (("decrypt", good), {"KRM_SOPS_KEY_DIR": f"{{{made.OTHER_IDENTITY}}}"}),
    ):
        done = program(*arguments, env=env)
        check(done.stderr, done.stdout)
        assert b"Traceback" not in done.stderr
        assert b"internal error" not in done.stderr
