"""Whatever is changed in an encrypted document: it is refused, or what comes out is what was encrypted (S6, S10).

What the SOPS format leaves open is listed in NOT_COVERED and ONLY_ENCRYPTED_ALSO, each with its reason, and the lists
are held to be complete: nothing else comes through, and everything on them does.
"""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.cipher import DataKey
from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import DataKeyError, IntegrityError, KrmSopsError, MacMismatch, NoMetadata
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Thing",
    "metadata": {"name": "db", "namespace": "prod", "labels": {"tier": "gold", "zone": "a"}},
    "clear": {"count": 12, "flag": True, "hosts": ["h1", "h2"], "nothing": None, "blank": ""},
    "spec": {
        "user": "plain-of-user",
        "password": "plain-of-password",
        "port": 5432,
        "ratio": 0.5,
        "flag": True,
        "hosts": ["alpha", "beta", "alpha"],
        "nothing": None,
        "blank": "",
        "nested": {"user": "plain-of-nested"},
    },
}
NOT_COVERED = {
    "name of a clear key": "the MAC covers values; only ciphertexts are bound to their path",
    "path of a clear value": "the same; it may even move, as long as the order of all values stays",
    "name of a key above nothing secret": "the same, for a key above null or an empty string",
    "null": "contributes nothing to the MAC",
    "empty string": "the same; sops stores it as it is, without a tag",
    "empty collection": "it has no values",
    "shape of clear values": "a collection around a value adds no value",
    "list around a secret value": "the same; positions in lists are not part of the path",
    "type of a clear value": '12 and "12", True and "True" are the same bytes',
    "type word": "it is outside of the tag: 5432 as str is the same bytes as 5432 as int",
    "bytes between clear neighbours": "the values are not delimited: ab+c is a+bc",
    "order of what is the same": "the swapped values are equal, or contribute nothing",
}
ONLY_ENCRYPTED_ALSO = {
    "clear value": "mac_only_encrypted: the MAC covers what is encrypted, on the wish of whoever encrypted it",
    "order of clear values": "the same",
    "clear value added": "the same",
    "clear value removed": "the same",
}


class Change:
    """One altered document. kind: what it tries, as the lists above call it."""

    def __init__(self, kind: str, what: str, document: dict[str, Any]) -> None:
        self.kind = kind
        self.what = what
        self.document = document

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


Path = tuple[Any, ...]


def at(node: Any, path: Path) -> Any:
    for step in path:
        node = node[step]
    return node


def positions(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything below `node`, collections before what is in them; without the ``sops`` block."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if path or key != "sops":
            yield (*path, key), value
            if isinstance(value, (dict, list)):
                yield from positions(value, (*path, key))


def with_value(document: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    new = copy.deepcopy(document)
    at(new, path[:-1])[path[-1]] = value
    return new


def with_entries(document: dict[str, Any], path: Path, entries: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The collection at `path` with these entries, in this order."""
    new = copy.deepcopy(document)
    collection, entries = at(new, path), copy.deepcopy(entries)
    collection.clear()
    if isinstance(collection, dict):
        collection.update(entries)
    else:
        collection.extend(value for _, value in entries)
    if not path and "sops" not in new:
        new["sops"] = copy.deepcopy(document["sops"])
    return new


def entries_of(document: dict[str, Any], path: Path) -> list[tuple[Any, Any]]:
    collection = at(document, path)
    return list(collection.items()) if isinstance(collection, dict) else list(enumerate(collection))


def is_secret(path: Path, value: Any) -> bool:
    return path[0] == "spec" and value not in (None, "")


def is_nothing(value: Any) -> bool:
    return value in (None, "") or value == {} or value == []


def holds_nothing(value: Any) -> bool:
    inner = [value] if not isinstance(value, (dict, list)) else [leaf for _, leaf in made.leaves(value)]
    return all(map(is_nothing, inner))


def nothing_word(value: Any) -> str:
    return "null" if value is None else "empty string" if value == "" else "empty collection"


def changes(document: dict[str, Any]) -> Iterator[Change]:
    yield from changed_values(document)
    yield from changed_structure(document)
    yield from swaps(document)
    yield from changed_metadata(document)


def changed_values(document: dict[str, Any]) -> Iterator[Change]:
    foreign = made.enc("foreign", "spec:foreign:")
    for path, value in positions(document):
        what = ".".join(map(str, path))
        if isinstance(value, (dict, list)):
            continue
        if is_secret(path, value):
            for new in ("other", "", None, 7, True, foreign, {"x": value}, {}, []):
                yield Change("secret value", f"{what} to {new!r:.20}", with_value(document, path, new))
            yield Change("list around a secret value", what, with_value(document, path, [value]))
            for word in ("str", "int", "float", "bool", "time", "bytes", "comment", "", "Str", "int "):
                old = value.rpartition(",type:")[2][:-1]
                if word != old:
                    new = value[: -len(old) - 1] + word + "]"
                    yield Change("type word", f"{what} to {word}", with_value(document, path, new))
            continue
        kind = "clear value" if path[0] != "spec" else "secret value"
        if is_nothing(value):
            for new in (None, "", {}, []):
                if new != value:
                    yield Change(nothing_word(value), f"{what} to {new!r}", with_value(document, path, new))
            for new in ("x", 1, foreign):
                yield Change(kind, f"{what} to {new!r:.20}", with_value(document, path, new))
            continue
        texts = [str(value)] if not isinstance(value, str) else []
        for new in (*texts, [value], {"x": value}):
            word = "type of a clear value" if isinstance(new, str) else "shape of clear values"
            yield Change(word, f"{what} to {new!r}", with_value(document, path, new))
        for new in ("other", f"{value} ", "", None, -1, not value, {}, [], foreign):
            if new != value:
                yield Change(kind, f"{what} to {new!r:.20}", with_value(document, path, new))
    for one, two, moved in (("name", "namespace", ("d", "bprod")), ("name", "namespace", ("dbp", "rod"))):
        new = with_value(with_value(document, ("metadata", one), moved[0]), ("metadata", two), moved[1])
        yield Change("bytes between clear neighbours", f"{one} and {two}", new)


def changed_structure(document: dict[str, Any]) -> Iterator[Change]:
    for path, value in positions(document):
        what = ".".join(map(str, path))
        place, key = path[:-1], path[-1]
        entries = entries_of(document, place)
        number = [name for name, _ in entries].index(key)
        clear = path[0] != "spec"
        gone = entries[:number] + entries[number + 1 :]
        kind = nothing_word(value) if is_nothing(value) else "clear value removed" if clear else "removed"
        yield Change(kind, f"{what} removed", with_entries(document, place, gone))
        if isinstance(at(document, place), dict):
            kind = "name of a clear key" if clear else "name of a key above nothing secret"
            kind = kind if clear or holds_nothing(value) else "renamed"
            for name in ("other", f"{key}_unencrypted", f"{key}:x", key.upper(), "", "spec"):
                if name not in dict(entries):
                    crossing = name == "spec" and not place
                    renamed = [*entries[:number], (name, value), *entries[number + 1 :]]
                    yield Change(
                        "renamed" if crossing else kind, f"{what} to {name!r}", with_entries(document, place, renamed)
                    )
            twice = [*entries[: number + 1], ("copy", value), *entries[number + 1 :]]
        else:
            twice = [*entries[: number + 1], *entries[number:]]
        copied = clear or not place  # a copy of all of spec is in a clear place
        kind = nothing_word(value) if is_nothing(value) else "clear value added" if copied else "doubled"
        yield Change(kind, f"{what} doubled", with_entries(document, place, twice))
        for target, collection in positions(document):
            inside = target[: len(path)] == path or target == place
            if isinstance(collection, dict) and isinstance(key, str) and not inside and key not in collection:
                moved = with_entries(document, place, gone)
                at(moved, target)[key] = copy.deepcopy(value)
                kind = "moved"
                if holds_nothing(value):
                    kind = nothing_word(value) if is_nothing(value) else "null"
                elif clear and target[0] != "spec":
                    kind = "path of a clear value"
                yield Change(kind, f"{what} to {'.'.join(target)}", moved)
        if isinstance(value, dict):
            kind = "clear value added" if clear else "added"
            for new in ("x", 1, made.enc("x", "x:")):
                yield Change(kind, f"{what}.added: {new!r:.20}", with_value(document, (*path, "added"), new))
            for nothing in (None, "", {}, []):
                new_document = with_value(document, (*path, "added"), nothing)
                yield Change(nothing_word(nothing), f"{what}.added: {nothing!r}", new_document)


def swaps(document: dict[str, Any]) -> Iterator[Change]:
    found = [(path, value) for path, value in positions(document) if not isinstance(value, (dict, list))]
    for (one, first), (two, second) in combinations(found, 2):
        clear = one[0] != "spec" and two[0] != "spec"
        kind = "order of clear values" if clear else "swapped"
        if is_nothing(first) and is_nothing(second):
            kind = "order of what is the same"
        elif clear and (is_nothing(first) or is_nothing(second)):
            kind = "null"  # a value moves to a neighbouring key
        new = with_value(with_value(document, one, second), two, first)
        yield Change(kind, f"{'.'.join(map(str, one))} and {'.'.join(map(str, two))}", new)
    for path, value in [((), document), *positions(document)]:
        if isinstance(value, (dict, list)):
            entries = [entry for entry in entries_of(document, path) if entry[0] != "sops"]
            for number in range(len(entries) - 1):
                turned = list(entries)
                turned[number : number + 2] = turned[number + 1], turned[number]
                pair = [entry[1] for entry in turned[number : number + 2]]
                kind = "order of clear values" if path[:1] != ("spec",) else "turned"
                if any(map(holds_nothing, pair)) or pair[0] == pair[1]:
                    kind = "order of what is the same"
                yield Change(
                    kind, f"entries of {'.'.join(map(str, path))} at {number}", with_entries(document, path, turned)
                )


def changed_metadata(document: dict[str, Any]) -> Iterator[Change]:
    block = document["sops"]

    def put(kind: str, **fields: Any) -> Change:
        new = copy.deepcopy(document)
        for name, value in fields.items():
            if value is ...:
                del new["sops"][name]
            else:
                new["sops"][name] = value
        return Change(kind, f"sops with {fields!r:.80}", new)

    for value in (..., "", None, "x", 1, True, [], {}, made.enc("", made.MODIFIED), made.enc("0" * 128, made.MODIFIED)):
        yield put("mac", mac=value)
    for word in ("int", "float", "bool", "time", "comment", "bytes", "x"):
        yield put("mac", mac=block["mac"].replace("type:str", f"type:{word}"))
    yield put("mac", mac=block["mac"].lower())
    yield put("mac", mac=document["spec"]["user"])
    for value in (..., "", None, "2026-01-31T12:00:01Z", "2026-01-31", "x", 1):
        yield put("lastmodified", lastmodified=value)
    for value in ("2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00-00:30"):
        yield put("lastmodified", lastmodified=value)
    for rule in ("", "^(data)$", "^(spec|clear)$", "^(spec|metadata)$", "x", "spec.", ".*", "(", "^spec$|clear"):
        yield put("selection", encrypted_regex=rule)
    yield put("selection", encrypted_regex=...)
    for field in ("unencrypted_regex", "encrypted_suffix", "unencrypted_suffix", "encrypted_comment_regex"):
        for rule in ("spec", "^spec$", "c", "nothing"):
            yield put("selection", **{field: rule})
            yield put("selection", encrypted_regex=..., **{field: rule})
    yield put("mac_only_encrypted", mac_only_encrypted=not block.get("mac_only_encrypted", False))
    for value in ("3.0.0", "99.0.0"):
        yield put("version", version=value)
    for value in (2, -1, "x"):
        yield put("shamir_threshold", shamir_threshold=value)
    yield put("recipient", age=[{"recipient": "age1other", "enc": made.WRAPPED}])
    yield put("keys", age=[])
    yield put("keys", age=...)
    yield put("keys", age=[{"recipient": made.RECIPIENT, "enc": ""}])
    yield put("keys", age=[{"recipient": made.RECIPIENT, "enc": made.agefile.enc(made.IDENTITY, bytes(32))}])
    yield put("keys", age=[{"recipient": made.RECIPIENT, "enc": made.agefile.enc(made.IDENTITY, made.DATA_KEY[:16])}])
    group = {"age": [{"recipient": made.RECIPIENT, "enc": made.WRAPPED}]}
    yield put("keys", age=..., key_groups=[group, group])
    yield put("keys", age=..., key_groups=[group, group], shamir_threshold=1)


def as_data(node: Any) -> Any:
    if isinstance(node, Branch):
        return {str(entry.key): as_data(entry.value) for entry in node.entries if not isinstance(entry.key, Comment)}
    return [as_data(element) for element in node] if isinstance(node, list) else node


def from_file(format_: str, text: str) -> Any:
    """What the decrypt verb makes of a file. Raises KrmSopsError."""
    branches, block = STORES[format_].read(text.encode())
    if block is None:
        raise NoMetadata
    metadata = Metadata.from_branch(block, FUNCTION.key_entries)
    entry = KeyEntry("age", "test.agekey", made.IDENTITY.encode(), "test")
    data_key = recover(metadata, Credentials(Host(env={}, files={}), [entry], "never"))
    plain, _ = EncryptedDocument(branches, metadata).decrypt(data_key)
    return as_data(plain[0])


def from_function(text: str, load: Any) -> Any:
    """What the function makes of an item. Raises KrmSopsError."""
    output, results, status = made.function(text)
    if status:
        assert results
        assert "plain-of" not in output
        raise KrmSopsError(results[0].message)
    return load(output)["items"][0]


def yaml_file(document: dict[str, Any]) -> Any:
    return from_file("yaml", made.yaml(document))


def json_file(document: dict[str, Any]) -> Any:
    return from_file("json", json.dumps(document))


def yaml_item(document: dict[str, Any]) -> Any:
    return from_function(made.resource_list(document), yaml.safe_load)


def json_item(document: dict[str, Any]) -> Any:
    listed = {"kind": "ResourceList", "items": [document], "functionConfig": made.KEY_SECRET}
    return from_function(json.dumps(listed), json.loads)


def same(one: Any, two: Any) -> bool:
    """Equal with the types and the order of keys."""
    return json.dumps(one) == json.dumps(two)


def promise(plain: dict[str, Any], *, only_encrypted: bool) -> tuple[list[tuple[Path, bytes]], bytes]:
    """What the format promises: the secret values at their paths, and the bytes of all values in their order."""
    found = list(made.leaves(plain))
    secret = [(path, covered(value)) for path, value in found if is_secret(path, value)]
    whole = [value for path, value in found if value is not None and (path[0] == "spec" or not only_encrypted)]
    return secret, b"".join(map(covered, whole))


def covered(value: Any) -> bytes:
    """The bytes that the MAC covers; a float that is a whole number has no point in them."""
    return made.spelled(value)[0].removesuffix(".0" if isinstance(value, float) else "").encode()


READERS = (yaml_file, json_file, yaml_item, json_item)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("only_encrypted", [False, True])
def test_every_change_is_refused_or_without_effect_or_listed(reader, only_encrypted):
    """S6, S10"""
    options = {"mac_only_encrypted": True} if only_encrypted else {}
    document = made.encrypted(PLAIN, **options)
    assert same(reader(document), PLAIN)
    listed = NOT_COVERED | (ONLY_ENCRYPTED_ALSO if only_encrypted else {})
    wrong, seen = [], set()
    for change in changes(document):
        try:
            plain = reader(change.document)
        except KrmSopsError:
            continue
        if same(plain, PLAIN):
            continue
        seen.add(change.kind)
        kept = promise(plain, only_encrypted=only_encrypted) == promise(PLAIN, only_encrypted=only_encrypted)
        if change.kind not in listed or not kept:
            wrong.append(str(change))
    assert not wrong
    assert seen == listed.keys(), "the list is longer than the truth"


def flipped(text: str, part: str) -> Iterator[str]:
    """An ``ENC[…]`` text with each bit of one of its parts turned."""
    begin = text.index(part + ":") + len(part) + 1
    end = text.index(",", begin)
    raw = b64decode(text[begin:end])
    for bit in range(8 * len(raw)):
        turned = bytearray(raw)
        turned[bit // 8] ^= 1 << bit % 8
        yield text[:begin] + b64encode(turned).decode() + text[end:]


def test_every_bit_of_every_ciphertext_iv_and_tag_counts():
    """S6"""
    document = made.encrypted(PLAIN)
    metadata = document.pop("sops")
    data_key = DataKey(made.DATA_KEY)

    def read(tree: dict[str, Any], mac: str) -> None:
        branch = STORES["json"].read(json.dumps(tree).encode())[0][0]
        block = STORES["json"].read(json.dumps({**metadata, "mac": mac}).encode())[0][0]
        EncryptedDocument([branch], Metadata.from_branch(block, 1)).decrypt(data_key)

    read(document, metadata["mac"])
    for path, value in positions(document):
        if isinstance(value, str) and value.startswith("ENC["):
            for part in ("data", "iv", "tag"):
                for turned in flipped(value, part):
                    with pytest.raises(IntegrityError):
                        read(with_value(document, path, turned), metadata["mac"])
    for part in ("data", "iv", "tag"):
        for turned in flipped(metadata["mac"], part):
            with pytest.raises(MacMismatch):
                read(document, turned)


def test_every_character_of_the_wrapped_key_counts():
    """A changed armor opens nothing, or the same key: the last line's length may be spelled in two ways."""
    document = made.encrypted(PLAIN)
    opened = 0
    for number, character in enumerate(made.WRAPPED):
        altered = made.WRAPPED[:number] + ("A" if character != "A" else "B") + made.WRAPPED[number + 1 :]
        document["sops"]["age"][0]["enc"] = altered
        try:
            assert same(json_file(document), PLAIN)
            opened += 1
        except DataKeyError:
            pass
    assert not opened


def test_every_byte_of_an_item_counts_unless_the_format_says_otherwise():
    """S6: one bit of each byte of the text, whatever it means there."""
    document = made.encrypted(made.PLAIN)
    text = made.resource_list(document)
    begin, end = text.index("- apiVersion"), text.index("functionConfig")

    def of(plain: Any) -> tuple[list[tuple[Path, bytes]], bytes]:
        found = list(made.leaves(plain))
        secret = [(path, str(value).encode()) for path, value in found if path[0] == "stringData" and value]
        return secret, "".join(made.spelled(value)[0] for _, value in found if value is not None).encode()

    for place in range(begin, end):
        for bit in (0, 1) if place % 2 else (4, 5):
            raw = bytearray(text.encode())
            raw[place] ^= 1 << bit
            try:
                output, results, status = made.function(bytes(raw))
            except KrmSopsError:
                continue
            if status:
                assert results
                assert "plain-of" not in output
                continue
            if "plain-of" not in output:
                assert output.encode().startswith(raw[:end])  # no longer a SOPS document: it passes as it came
                assert [result.severity for result in results] == ["warning"]  # but not without a word
                continue
            item = yaml.safe_load(output)["items"][0]
            assert of(item) == of(made.PLAIN), (place, bit, text[place - 10 : place + 10])


COMMENTED = f"""\
apiVersion: v1
kind: Secret
metadata:
  name: db
stringData:
  #{made.enc(" plain-of-comment", "stringData:", "comment")}
  user: {made.enc("plain-of-user", "stringData:user:")}
  # clear comment
  password: {made.enc("plain-of-password", "stringData:password:")}
"""


def test_comments_are_not_covered_but_never_tell_more_than_they_hold():
    """S6: a comment may go, move or be forged; an encrypted one opens where it was encrypted, or not at all."""
    plain = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db"},
        "stringData": {"user": "plain-of-user", "password": "plain-of-password"},
    }
    block = made.yaml({"sops": made.encrypted(plain)["sops"]})
    comment = made.enc(" plain-of-comment", "stringData:", "comment")
    moved = COMMENTED.replace(f"  #{comment}\n", "").replace("apiVersion", f"#{comment}\napiVersion")
    inside = COMMENTED.replace(f"  #{comment}\n", "").replace("  name:", f"  #{comment}\n  name:")
    altered = COMMENTED.replace(comment, comment.replace("data:", "data:AAAA"))
    as_value = COMMENTED.replace(f"  #{comment}\n", f"  comment: {comment}\n")
    retyped = COMMENTED.replace("type:comment", "type:int")
    for text, tells in (
        (COMMENTED, True),
        (COMMENTED.replace(f"  #{comment}\n", ""), False),
        (COMMENTED.replace("clear comment", "forged comment"), True),
        (moved, False),
        (inside, False),
        (altered, False),
        (retyped, False),
    ):
        output, results, status = made.function(made.resource_list(text + block))
        assert status == 0, results[0].line()
        assert yaml.safe_load(output)["items"][0] == plain
        assert ("plain-of-comment" in output) == tells
        assert not any("plain-of" in result.line() for result in results)
    output, results, status = made.function(made.resource_list(as_value + block))
    assert status == 1
    assert "plain-of" not in output
