"""What is fuzzed: one function a part, which takes any bytes and fails where the law is broken.

The law: any bytes give a result or one KrmSopsError, whose words are one line and hold nothing secret. Each target adds
what else must hold of its part. Nothing here needs atheris: tests/unit/test_fuzz_inputs.py replays inputs with it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
import time
from base64 import b64encode, encodebytes
from contextlib import contextmanager, suppress
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from krm_sops import templates
from krm_sops.age import bech32
from krm_sops.age.format import ARMOR_BEGIN, dearmor, decrypt
from krm_sops.age.identities import Reader
from krm_sops.age.recipients import parse
from krm_sops.builds import ignore as ignored
from krm_sops.cipher import DataKey
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.encryption import encrypted_file, is_same
from krm_sops.errors import KeyUnavailable, KrmSopsError
from krm_sops.functions import FUNCTIONS, FunctionError, function_for, group_version, run
from krm_sops.functions.origin import ORIGIN
from krm_sops.gate import EXPECTATIONS
from krm_sops.gate.judge import Gate
from krm_sops.host import Host
from krm_sops.http import _Connection
from krm_sops.keyservice import _Exchange, _Refused, key_of
from krm_sops.keysources import from_text
from krm_sops.krm.item import PATH
from krm_sops.krm.stream import Stream
from krm_sops.limits import FUNCTION
from krm_sops.metadata import VERSION, Metadata
from krm_sops.pgp.encrypting import encrypt
from krm_sops.pgp.keys import read_ring
from krm_sops.pgp.message import Message
from krm_sops.pgp.public import read_certificates
from krm_sops.policy import in_force
from krm_sops.policyfile import PolicyFile
from krm_sops.provision.spec import Specification, sops_nix
from krm_sops.rules import Rules
from krm_sops.selection import Selection
from krm_sops.stages.substitution import substituted
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Entry
from krm_sops.yamlcomments import read as read_with_comments
from krm_sops.yamlio import read_all
from tests import agefile, pgp_encoder
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from krm_sops.tree import Node

ROOT = Path(__file__).resolve().parents[1]
NOW = "2026-01-31T12:00:00Z"
ECDH = pgp_encoder.EcdhKey()
KEYS_AT_HAND = Reader().read(made.IDENTITY.encode(), "test")
MARKS = (made.IDENTITY[24:56], "plain-of-")
"""What must not be said: of the key at hand, and of the values in documents of tests/security/made.py."""
HEAD = b"apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
KEY = DataKey(made.DATA_KEY)
VALUES = {"user": "plain-of-user", "pass/word": "plain-of'\"\n$`", "number": 5, "on": True, "ratio": 1.5}
FINGERPRINT = "A" * 40


class Offline:
    """In the place of the network."""

    def request(self, *_: object, **__: object) -> object:
        raise KeyUnavailable("there is no network here")

    def close(self) -> None:
        pass


class Alone(Host):
    """A host with one key, where there are no other files, programs and services."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__(env={"SOPS_AGE_KEY": made.IDENTITY}, files=files or {}, http=Offline())

    def client(self, *_: object, **__: object) -> object:
        return Offline()


def said(text: str, data: bytes) -> None:
    """Refuse what no message may be. What `data` itself says outside of a key may be quoted."""
    assert text.isprintable(), f"unprintable: {text!r}"
    given = data.replace(made.IDENTITY.encode(), b"")
    for mark in MARKS:
        assert mark not in text or mark.encode() in given, f"a secret is told: {text!r}"


@contextmanager
def lawful(data: bytes) -> Iterator[None]:
    """What is raised inside is one of our errors, and harmless."""
    try:
        yield
    except KrmSopsError as error:
        said(error.message, data)
        said(error.hint, data)


def function(raw: bytes, data: bytes) -> tuple[bytes, list[tuple[str, str, str]], int]:
    """raw: a ResourceList that was made of `data`. As `functions.run`; nothing but status 2 where there is no list."""
    try:
        output, results, status = run(raw, Alone(), FUNCTION)
    except KrmSopsError as error:
        said(error.message, data)
        said(error.hint, data)
        return b"", [("error", error.message, error.hint)], 2
    for result in results:
        said(result.line(), data)
        said(result.hint, data)
    assert status == 0 or b"plain-of-" not in output or b"plain-of-" in raw, "a refused list leaves decrypted"
    return output, [(result.severity, result.line(), result.hint) for result in results], status


# ResourceLists and streams


def resource_list(data: bytes) -> None:
    with below_a_folder():
        function(data, data)


def readers(data: bytes) -> None:
    """The fast reader of lists does what the exact one does, or leaves what is invalid as it is."""
    bom = b"\xef\xbb\xbf"
    if data.startswith(bom):
        return
    with below_a_folder():
        fast, exact = function(data, data), function(bom + data, data)
    if exact[2] != 2:
        assert (fast[0], *fast[1:]) == (exact[0].removeprefix(bom), *exact[1:]), "two readers, two answers"


def in_stream(config: bytes, text: bytes, originals: Mapping[str, bytes] | None = None) -> None:
    stream = Stream(FUNCTION)
    stream.add(config)
    host = Alone()
    policy = in_force(host, FUNCTION)
    given = Stream(policy.limits, stream.items[0])
    given.from_kustomize = True
    given.originals = originals or {}
    given.add(text)
    try:
        answer = function_for(given.config)(given, host, policy)
    except FunctionError as error:
        answer = error.answer
    for result in answer.results:
        said(result.line(), config + text)
        said(result.hint, config + text)
    given.write(without=[*answer.key_items, *answer.consumed], added=answer.added, order=answer.order)


def stream(data: bytes) -> None:
    """Files of objects, and the stream that a plugin of kustomize gets."""
    config = made.yaml(made.KEY_SECRET).encode()
    with lawful(data), below_a_folder():
        in_stream(config, data)


def function_config(data: bytes) -> None:
    """The first byte: which kind, and whether it has a list or a stream. The others: its fields."""
    kinds = list(FUNCTIONS)
    number = data[0] if data else 0
    kind = kinds[number % len(kinds)]
    text = f"apiVersion: {group_version(kind)}\nkind: {kind}\n".encode() + data[1:]
    items = ITEMS
    with lawful(data), below_a_folder():
        if number // len(kinds) % 2:
            in_stream(text, b"---\n".join(item.encode() for item in items))
        else:
            config = b"functionConfig:\n" + b"".join(b"  " + line + b"\n" for line in text.split(b"\n"))
            function(made.resource_list(*items, config=None).encode() + config, data)


def original(data: bytes) -> None:
    """What SopsEncrypt takes for the state before decryption: the annotation, and a file that proves an item."""
    item = {**made.PLAIN, "metadata": {"name": "db", "annotations": {"krm-sops.dev/original": data.decode("latin-1")}}}
    config = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsEncrypt", "metadata": {"name": "x"}}
    with below_a_folder():
        function(made.resource_list(item, config=config).encode("utf-8", "replace"), data)


def origin(data: bytes) -> None:
    """The annotation that names an item's file, behind the last zero byte; before it, the file."""
    file, _, note = data.rpartition(b"\0")
    item = made.encrypted()
    item["metadata"]["annotations"] = {ORIGIN: note.decode("latin-1")}
    item["stringData"] = dict(reversed(item["stringData"].items()))
    with lawful(data):
        in_stream(made.yaml(made.KEY_SECRET).encode(), made.yaml(item).encode("utf-8", "replace"), {"a.yaml": file})


def values(data: bytes) -> None:
    """A decrypted value of any bytes in the place of its ciphertext, however that was written: it reads as that value.

    The first byte: how it was written, and the type word.
    """
    number = data[0] if data else 0
    value = data[1:]
    word = ("str", "str", "str", "bytes", "int", "float", "bool", "time")[number // 16 % 8]
    enc = made.enc(value, "stringData:k:", word)
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"k": value}}
    block = made.yaml({**made.encrypted()["sops"], "mac": made.mac_of(item)})
    ways = (enc, f'"{enc}"', f"'{enc}'", f"|-\n    {enc}", f">-\n    {enc}", f"!!str {enc}", f"&a {enc}", f"{enc} # c")
    field = f"\n  k: {ways[number % 8]}\n" if number % 16 < 8 else f" {{k: {enc!r}, l: }}\n"
    text = made.yaml({**item, "stringData": None}).replace("stringData: null\n", f"stringData:{field}")
    text += "sops:\n" + "".join(f"  {line}\n" for line in block.splitlines())
    output, _, status = function(made.resource_list(text).encode(), data)
    if status == 0 and word == "str":
        (source,) = read_all(output.decode(), FUNCTION, 10_000)
        assert isinstance(source.root, Branch)
        (found,) = source.root.get("items")
        read = found.get("stringData").get("k")
        assert read == value.decode("utf-8", "surrogateescape"), f"{value!r} is read as {read!r}"


def embedded(data: bytes) -> None:
    """A document in a value of a Secret and of a ConfigMap."""
    secret = {**made.PLAIN, "stringData": {"a.yaml": data.decode("latin-1")}}
    secret["data"] = {"b.env": b64encode(data).decode(), "c": b64encode(data).decode()}
    other = {**made.PLAIN, "kind": "ConfigMap", "stringData": None, "data": {"d.ini": data.decode("latin-1")}}
    config = {
        "apiVersion": "krm-sops.dev/v1alpha1",
        "kind": "SopsDecrypt",
        "metadata": {"name": "x"},
        "spec": {"include": ["configMaps"], "keys": [{"value": made.IDENTITY}]},
    }
    function(made.resource_list(secret, other, config=config).encode(), data)


# Formats


def store(name: str) -> Callable[[bytes], None]:
    """Files of one format: read as encrypted, decrypted, written; read as plain, written, read again."""

    def target(data: bytes) -> None:
        with lawful(data):
            branches, block = STORES[name].read(data, FUNCTION)
            if block is not None:
                metadata = Metadata.from_branch(block, FUNCTION.key_entries)
                plain, _ = EncryptedDocument(branches, metadata).decrypt(KEY, ignore_mac=True)
                STORES[name].write_plain(plain)
        with lawful(data):
            STORES[name].write_plain(STORES[name].read_plain(data, FUNCTION))

    return target


def round_trip(data: bytes) -> None:
    """The first two bytes: format and rule. The others: a file, which is the same after encryption and decryption."""
    number, rule = (*data[:2], 0, 0)[:2]
    names = list(STORES)
    store = STORES[names[number % len(names)]]
    selection = Selection(*RULES[rule % len(RULES)])
    metadata = Metadata(
        lastmodified="", mac="", version=VERSION, key_groups=[], threshold=0,
        mac_only_encrypted=bool(rule & 64), selection=selection,
    )  # fmt: skip
    with lawful(data):
        branches = store.read_plain(data[2:], FUNCTION)
        if not branches:
            return
        raw = encrypted_file(branches, metadata, KEY, store, now=NOW)
        encrypted, block = store.read(raw)
        assert block is not None
        about = Metadata.from_branch(block, FUNCTION.key_entries)
        plain, _ = EncryptedDocument(encrypted, about).decrypt(KEY)
        before, after = [bare(branch) for branch in branches], [bare(branch) for branch in plain]
        assert all(map(is_same, before, after)), f"{shape(before)} became {shape(after)}"


def bare(node: Node) -> Node:
    """Without comments."""
    if isinstance(node, Branch):
        return Branch(Entry(one.key, bare(one.value)) for one in node.entries if not isinstance(one.key, Comment))
    return [bare(one) for one in node if not isinstance(one, Comment)] if isinstance(node, list) else node


def shape(node: Node) -> object:
    """For a person to read."""
    if isinstance(node, Branch):
        return {repr(entry.key): shape(entry.value) for entry in node.entries}
    return [shape(one) for one in node] if isinstance(node, list) else node


def yaml_readers(data: bytes) -> None:
    """What both readers of YAML accept means the same to both."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    one = two = None
    with lawful(data):
        one = [source.root for source in read_all(text, FUNCTION, 10_000)]
    with lawful(data):
        two = read_with_comments(text, nodes=10_000)
    if one is not None and two is not None and len(one) == len(two):
        for left, right in zip(one, two, strict=True):
            if isinstance(left, Branch) and isinstance(right, Branch):
                assert is_same(left, bare(right)), f"{shape(left)} is not {shape(bare(right))}"


def spelled(data: bytes) -> bytes:
    """A text of which each byte chose a piece: most mutations of it are still YAML, or nearly."""
    return "".join(PIECES[byte % len(PIECES)] for byte in data).encode()


def yaml_pieces(data: bytes) -> None:
    """Both readers, and a round trip, of YAML made of pieces. The first byte: the rule."""
    text = spelled(data[1:])
    yaml_readers(text)
    round_trip(bytes([0, data[0] if data else 0]) + text)


def list_pieces(data: bytes) -> None:
    """An encrypted list with items made of pieces, for both readers of lists, as a stream, and at the gate."""
    text = spelled(data)
    item = b"\n- " + text.replace(b"\n", b"\n  ") + b"\n"
    whole = made.resource_list(made.encrypted()).encode()
    readers(whole.replace(b"items:\n", b"items:" + item, 1))
    stream(text)
    gate(b"\0" + text)


# Keys


def metadata(data: bytes) -> None:
    """A `sops` block in YAML: read, opened with the key at hand, written, read again."""
    with lawful(data):
        (branch,) = STORES["yaml"].read_plain(data, FUNCTION)[:1] or [Branch()]
        found = Metadata.from_branch(branch, FUNCTION.key_entries)
        with lawful(data):
            recover(found, Credentials(Alone(), [KeyEntry("age", "a", made.IDENTITY.encode(), "test")]))
        again = Metadata.from_branch(found.to_branch(), FUNCTION.key_entries)
        assert is_same(again.to_branch(), found.to_branch())


def age_file(data: bytes) -> None:
    with lawful(data):
        raw = dearmor(data) if data.lstrip().startswith(ARMOR_BEGIN) else data
        decrypt(raw, KEYS_AT_HAND, 1 << 20)
    with lawful(data):  # stanzas behind a MAC that fits
        decrypt(agefile.make([data.decode("latin-1")], b"x") if data.isascii() else b"", KEYS_AT_HAND, 1 << 20)
    with lawful(data):  # a body of any bytes
        body = agefile.stanza("X25519", [agefile.b64(data[:32])], data[32:64])
        decrypt(agefile.make([body], b"x"), KEYS_AT_HAND, 1 << 20)


def age_identities(data: bytes) -> None:
    texts = [data, *(bech32.encode(name, data).upper().encode() for name in ("age-secret-key-", "age-secret-key-pq-"))]
    texts.append(b"-----BEGIN OPENSSH PRIVATE KEY-----\n%s-----END OPENSSH PRIVATE KEY-----\n" % encodebytes(data))
    for text in texts:
        with lawful(data):
            found = Reader(lambda _: "secret", most_work=10).read(text, "test", words=True)
            decrypt(dearmor(made.WRAPPED.encode()), found, 1 << 20)
        with lawful(data):
            from_text(text, "a", "test")


def age_recipients(data: bytes) -> None:
    texts = [data.decode("utf-8", "replace"), bech32.encode("age", data), bech32.encode("age1pq", data)]
    texts += [f"{kind} {b64encode(data).decode()} c" for kind in ("ssh-ed25519", "ssh-rsa")]
    for text in texts:
        with lawful(data):
            for stanza in parse(text).wrap(bytes(16)):
                stanza.write()


@cache
def secret_keys() -> list:
    return [
        key
        for path in sorted((ROOT / "tests/vectors/pgp").glob("*.asc"))
        if "argon2" not in path.name
        for key in read_ring(path.read_bytes())
    ]


def pgp_message(data: bytes) -> None:
    with lawful(data):
        Message.read(data).open(secret_keys(), lambda _: [b"secret"])
    with lawful(data):  # what a message holds when it is open
        inside = pgp_encoder.message(ECDH, data)
        Message.read(inside).open(read_ring(ECDH.armored()), lambda _: [])


def pgp_keys(data: bytes) -> None:
    with lawful(data):
        read_ring(data)
    with lawful(data):
        for certificate in read_certificates(data)[:4]:
            said(certificate.primary.name, data)
            with lawful(data):
                encrypt(bytes(32), certificate.recipient(FINGERPRINT, 1_800_000_000, exact=False))


# Services


def key_service(data: bytes) -> None:
    """What a key service of sops answers, and what it is asked."""
    with answering(data) as sock, suppress(OSError, _Refused):
        _Exchange(sock, 5).call("/KeyService/Decrypt", "localhost", b"")
    with lawful(data), suppress(IndexError, ValueError):
        key_of(data, "enc")


def http(data: bytes) -> None:
    """What a service of a cloud answers."""
    with lawful(data), answering(data) as sock, suppress(OSError, HTTPException):
        answer = _Connection(sock).exchange("GET", b"GET / HTTP/1.1\r\n\r\n", time.monotonic() + 5)
        with suppress(ValueError):
            answer.json()


@contextmanager
def answering(data: bytes) -> Iterator[socket.socket]:
    """A connection over which this is answered, and no more."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(data)
        there.shutdown(socket.SHUT_WR)
        yield here


# Files beside them


def rules(data: bytes) -> None:
    with lawful(data):
        found = Rules(data, ".sops.yaml", "/p")
        for path in ("/p/a.yaml", "/p/secrets/b.env", "/q/c"):
            with lawful(data):
                found.rule_for(path, {"context.a": "b"})
            with lawful(data):
                found.wanted(path)
            with lawful(data):
                found.destination_for(path)


def policy(data: bytes) -> None:
    with lawful(data), suppress(UnicodeDecodeError):
        PolicyFile(data, "/policy.yaml", FUNCTION)


def gate(data: bytes) -> None:
    """The first byte: which expectation, and which format."""
    names = ("a.yaml", "a.json", "a.env", "a.ini", "a", "kustomization.yaml")
    number = data[0] if data else 0
    with lawful(data):
        found = Gate(EXPECTATIONS[number % 2], FUNCTION, allow_disabled=bool(number & 64))
        wanted = Selection("encrypted_regex", "^(data|stringData)$") if number & 128 else None
        found.file(data[1:], names[number // 2 % len(names)], wanted)
        for finding in found.findings:
            said(finding.message, data)
            said(finding.hint, data)


def template(data: bytes) -> None:
    """The first byte: which form of file. The others: a file with placeholders."""
    forms = ("text", *STORES)
    source = templates.Source("Secret/db", VALUES)
    with lawful(data):
        templates.filled_file(data[1:], forms[data[0] % len(forms) if data else 0], templates.Filling([source]))


def provision(data: bytes) -> None:
    with lawful(data):
        found = Specification(data)
        sops_nix(found.secrets, "prefix")
        for line in found.ignored:
            said(line, data)
        again = Specification(STORES["json"].write_plain([found.canonical()]))
        assert is_same(again.canonical(), found.canonical())


def substitution(data: bytes) -> None:
    """Flux' `${variable}` in the objects of a stage."""
    with lawful(data):
        substituted(data.decode("utf-8", "surrogateescape"), {"a": "b", "empty": "", "c": "${a}"})


def ignore(data: bytes) -> None:
    """`.gitignore` and `.krmignore`."""
    with lawful(data):
        found = ignored.read(data.decode("utf-8", "replace"), ".krmignore")
        for path in ("a", "secrets/b.env", "a/b/c/d/e/f.yaml", "x" * 200):
            ignored.is_ignored(found, path.split("/"), is_folder=False)


@cache
def folder() -> str:
    """A repository with encrypted files, for what a config may name."""
    found = tempfile.mkdtemp(prefix="fuzz-of-krm-sops-")
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    for name, content in FILES.items():
        path = Path(found, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    Path(found, ".git").mkdir(exist_ok=True)
    return found


@contextmanager
def below_a_folder() -> Iterator[None]:
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(folder())
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


FILES = {
    "key.txt": made.IDENTITY,
    "secret.yaml": made.yaml(made.encrypted()),
    "values.yaml": made.yaml(made.document({"user": "plain-of-user", "inner": {"password": "plain-of-password"}})),
    "flat.yaml": made.yaml(made.document({"user": "plain-of-user", "password": "plain-of-password"})),
    "secret.json": made.json.dumps(made.encrypted({"data": "plain-of-data"})),
    "a/plain.yaml": made.yaml(made.PLAIN),
    "a/t.tpl.yaml": "user: <SOPS:n>\n",
    ".sops.yaml": f"creation_rules:\n- age: {made.RECIPIENT}\n  encrypted_regex: ^(data|stringData)$\n",
}
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c", "namespace": "prod", "annotations": {PATH: "b/c.yaml"}},
}
ITEMS = [
    made.yaml(item)
    for item in (
        {
            **made.encrypted(),
            "metadata": {**made.PLAIN["metadata"], "annotations": {PATH: "a/x.yaml"}},
        },
        made.KEY_SECRET,
        {**made.PLAIN, "metadata": {"name": "plain", "namespace": "prod"}},
        {**CONFIG_MAP, "data": {"t": "<SOPS:plain/user> ${v}"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {}}},
    )
]
PIECES = (
    *("\n", "\n", "\n  ", "\n  ", "\n    ", "\n      ", " ", "  ", "\t", "\n\n", "\r\n", "\n---\n", "\n...\n"),
    *("a", "b", "sops", "x y", "1", "0x10", "1.50", "true", "~", "2024-01-01", "yes", "<<", "é", "\u2028", "\x85"),
    *(": ", ": ", ": ", ":", "- ", "- ", "-", "? ", "?", "&a ", "*a", "!!str ", "!!binary ", "! ", "!x ", "!!int "),
    *(
        "# c",
        "#",
        " # d\n",
        "\n# e\n",
        "\n  # f\n",
        "|",
        "|-",
        "|+2",
        ">",
        ">-\n",
        '"',
        "'",
        '"q"',
        "'q'",
        '"\\n\\x41"',
    ),
    *("{", "}", "[", "]", ", ", ",", "{a: b}", "[a]", "a: b\n", "a: &a\n  b: c\n", "<<: *a\n", "- a\n", "- b: c\n"),
    *("apiVersion: v1\n", "kind: Secret\n", "metadata:\n  name: db\n", "stringData:\n  k: plain\n", "enc", "clear"),
    *("ENC[AES256_GCM,data:", "items:\n", "annotations: ", "_unencrypted: "),
)
RULES = (
    ("unencrypted_suffix", "_unencrypted"),
    ("", ""),
    ("encrypted_suffix", "_secret"),
    ("unencrypted_regex", "^(a|note)"),
    ("encrypted_regex", "pass|data"),
    ("unencrypted_comment_regex", "clear"),
    ("encrypted_comment_regex", "enc"),
)
TARGETS: dict[str, Callable[[bytes], None]] = {
    "resource-list": resource_list,
    "readers": readers,
    "stream": stream,
    "function-config": function_config,
    "original": original,
    "origin": origin,
    "values": values,
    "embedded": embedded,
    **{f"store-{name}": store(name) for name in STORES},
    "round-trip": round_trip,
    "yaml-readers": yaml_readers,
    "yaml-pieces": yaml_pieces,
    "list-pieces": list_pieces,
    "metadata": metadata,
    "age-file": age_file,
    "age-identities": age_identities,
    "age-recipients": age_recipients,
    "pgp-message": pgp_message,
    "pgp-keys": pgp_keys,
    "key-service": key_service,
    "http": http,
    "rules": rules,
    "policy": policy,
    "gate": gate,
    "template": template,
    "provision": provision,
    "substitution": substitution,
    "ignore": ignore,
}
