"""What is said: one line each, in one style, and no foreign text that could do more in it than be read (S33)."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import krm_sops
from krm_sops.errors import KrmSopsError, printable, shown
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.conftest import Program

HOSTILE = {
    "terminal": "x\x1b[2J\x1b]0;title\x07\x9b31m",
    "bidi": "x\u202egnp.exe\u2066\u200f\ufeff",
    "newline": "x\n::add-mask::secret\r\n::set-env name=a::b",
    "line separators": "x\u2028::stop-commands::y\u2029z\x85w",
    "command first": "::add-mask::x",
    "nul": "x\x00y\x08\x08\x7f",
    "long": "n" * 10_000,
    "long and hostile": "\x1b[31m\n" * 3_000,
    "unassigned": "x\U000e0001\ue000\ufffe\U0010ffff",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "yaml": "x\n  password: y\n- kind: Secret",
    "format": "%s {0} {name!r} %n $(id) `id` ${PATH}",
}
LINE = re.compile(r"krm-sops: (error|warning|hint): \S.*")
LONGEST_LINE = 3000


def check_line(line: str) -> None:
    assert LINE.fullmatch(line), line[:300]
    assert line.isprintable(), line.encode("unicode_escape")[:300]
    assert len(line) < LONGEST_LINE, line[:300]
    assert "n" * 300 not in line


def check_stderr(raw: bytes, most: int = 6) -> None:
    lines = raw.decode().removesuffix("\n").split("\n")
    assert 1 <= len(lines) <= most, lines[:10]
    for line in lines:
        check_line(line)


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from texts(value)
    elif isinstance(node, list):
        for element in node:
            yield from texts(element)
    elif isinstance(node, str):
        yield node


def failing(name: str) -> Iterator[dict[str, Any]]:
    """ResourceLists that fail, each with the name in another place of the items, their metadata or the config."""
    document = made.encrypted()
    block = document["sops"]

    def listed(item: dict[str, Any], config: dict[str, Any] | None = made.KEY_SECRET) -> dict[str, Any]:
        return {"kind": "ResourceList", "items": [item], "functionConfig": config}

    path = {"internal.config.kubernetes.io/path": name, "internal.config.kubernetes.io/index": name}
    yield listed({**document, "metadata": {"name": name, "namespace": name, "annotations": path}})
    yield listed({**document, "kind": name, "apiVersion": name})
    yield listed({**document, "stringData": {name: "clear"}})
    yield listed({**document, "stringData": {name: {name: {name: "clear"}}}})
    yield listed({**document, "stringData": {name: made.enc("x", "y:")}})
    yield listed({**document, "stringData": {"k": made.enc("x", "stringData:k:", name.replace("]", ""))}})
    yield listed({**document, "stringData": {"k": f"ENC[{name}]"}})
    for field in ("mac", "lastmodified", "version", "encrypted_regex", "unencrypted_suffix", "shamir_threshold"):
        yield listed({**document, "sops": {**block, field: name}})
    yield listed({**document, "sops": {**block, "encrypted_regex": f"({name[:900]}"}})
    yield listed({**document, "sops": {**block, "mac_only_encrypted": name}})
    yield listed({**document, "sops": name})
    yield listed({**document, "sops": {**block, "age": name}})
    yield listed({**document, "sops": {**block, "age": [name]}})
    yield listed({**document, "sops": {**block, "age": [{"recipient": name, "enc": name}]}})
    yield listed({**document, "sops": {**block, "age": [{"recipient": name, "enc": made.WRAPPED}], "mac": ""}})
    yield listed({**document, "sops": {**block, "age": [], "pgp": [{"fp": name, "enc": name}]}})
    for section, field in (
        ("kms", "arn"),
        ("gcp_kms", "resource_id"),
        ("azure_kv", "vault_url"),
        ("hc_vault", "vault_address"),
        ("hckms", "key_id"),
    ):
        entry = {field: name, "enc": name, "role": name, "name": name, "engine_path": name, "key_name": name}
        yield listed({**document, "sops": {**block, "age": [], section: [entry]}})
    meta = {"name": name}
    yield listed(document, {"apiVersion": "v1", "kind": name, "metadata": meta})
    yield listed(document, {"apiVersion": name, "kind": "Secret", "metadata": meta})
    yield listed(document, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {name: name}})
    yield listed(document, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {f"{name}.agekey": name}})
    yield listed(
        document, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {f"{name}.asc": name}}
    )
    yield listed(
        document, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {name: made.OTHER_IDENTITY}}
    )
    for field in ("mac", "ambient", "strict", "secretRef", name):
        yield listed(document, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {field: name}})
    decrypt = {
        "apiVersion": "krm-sops.dev/v1alpha1",
        "kind": "SopsDecrypt",
        "metadata": {"name": name, "namespace": name},
    }
    for spec in (
        {name: name},
        {"mac": name},
        {"keys": [{"env": name}]},
        {"keys": [{"file": name}]},
        {"keys": [{"value": name}]},
        {"keys": [{name: name}]},
        {"decryption": {"provider": name}},
        {"decryption": {"secretRef": {"name": name}}},
        {"selectors": [{name: name}]},
    ):
        yield listed(document, {**decrypt, "spec": spec})
    yield listed(document, None) | {"kind": name}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_names_are_escaped_and_cut_in_every_message(what):
    """S33: results[] too, because whoever runs functions prints them."""
    for stream in failing(HOSTILE[what]):
        for text in (json.dumps(stream), made.resource_list(*stream["items"], config=stream["functionConfig"])):
            try:
                output, results, status = made.function(text)
            except KrmSopsError as error:
                check_line(f"krm-sops: error: {error.message}")
                continue
            for result in results:
                check_line(f"krm-sops: {result.severity}: {result.line()}".replace("info", "hint"))
                assert not result.hint or result.hint.isprintable()
            if status and text[0] == "{":
                told = list(texts(json.loads(output)["results"]))
            elif status:
                told = list(texts(yaml.safe_load("results:" + output.rpartition("\nresults:")[2])))
            else:
                continue
            assert told
            for one in told:
                assert one.isprintable(), one.encode("unicode_escape")[:300]
                assert len(one) < LONGEST_LINE


@pytest.mark.parametrize("what", HOSTILE)
def test_the_program_says_hostile_names_in_one_line_each(program: Program, what):
    """S33, from outside."""
    for number, stream in enumerate(failing(HOSTILE[what])):
        if number % 7 == list(HOSTILE).index(what) % 7:
            done = program(stdin=json.dumps(stream))
            if done.returncode:
                check_stderr(done.stderr)


@pytest.mark.parametrize("what", HOSTILE)
def test_the_verbs_say_hostile_names_in_one_line_each(program: Program, tmp_path: Path, what):
    """S33: files, flags, values, variables, and keys inside of documents."""
    name = HOSTILE[what].replace("\x00", "")
    file = tmp_path / (name.replace("/", "")[:100].encode("utf-8", "replace").decode("utf-8", "replace") + ".yaml")
    file.write_text(made.yaml(made.encrypted(version=name)))
    plain = tmp_path / "plain.yaml"
    plain.write_text(made.yaml({"a": {name: {name: "x"}}, "sops": {}}))
    good = tmp_path / "good.json"
    good.write_text(json.dumps({**made.encrypted(), "stringData": {name: "clear"}}))
    for arguments, env in (
        (("decrypt", file), {}),
        (("decrypt", file.name), {}),
        (("decrypt", name), {}),
        (("decrypt", "--key-file", name, good), {}),
        (("decrypt", f"--{name}", good), {}),
        (("decrypt", "--ambient", name, good), {}),
        (("decrypt", "--extract", name, good), {"SOPS_AGE_KEY": made.IDENTITY}),
        (("decrypt", "--extract", f'["{name}"]', good), {"SOPS_AGE_KEY": made.IDENTITY}),
        (("decrypt", good), {"SOPS_AGE_KEY": made.IDENTITY}),
        (("decrypt", good), {"SOPS_AGE_KEY": name}),
        (("decrypt", good), {"SOPS_AGE_KEY_FILE": name}),
        (("decrypt", good), {"SOPS_AGE_KEY_CMD": name}),
        (("decrypt", good), {"KRM_SOPS_KEY_DIR": name}),
        (("decrypt", good), {"SOPS_DECRYPTION_ORDER": f"{name},{name}"}),
        (("decrypt", plain), {}),
        (("filestatus", name), {}),
        (("filestatus", name, name), {}),
        ((name,), {}),
    ):
        done = program(*arguments, env=env, cwd=tmp_path)
        assert done.returncode, arguments[:2]
        assert done.stdout == b""
        check_stderr(done.stderr)
    done = program("explain", file.name, plain, name, cwd=tmp_path)
    for line in done.stdout.decode().removesuffix("\n").split("\n"):
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
        assert len(line) < LONGEST_LINE


def test_a_piece_of_foreign_text_is_printable_and_short():
    """S33"""
    for name in HOSTILE.values():
        assert shown(name).isprintable()
        assert len(shown(name)) <= 200 * 10 + 1
        assert printable(name).isprintable()
    assert shown("n" * 201) == "n" * 200 + "…"
    assert shown("né ☃") == "né ☃"
    assert shown("\x1b\n\u202e") == "\\x1b\\n\\u202e"
    assert shown("a\udcffb") == "a\\udcffb"
    assert shown(made.IDENTITY) == shown("x " + made.IDENTITY.lower()) == "(a private key)"


ERRORS = {
    *("KrmSopsError", "InputError", "StoreError", "MetadataError", "EncryptedValueError", "ResourceListError"),
    *("ConfigError", "PolicyError", "LimitError", "WrongKey", "KeyUnavailable", "NoUsableKey", "TagMismatch"),
    *(
        "MacMismatch",
        "MacUnverifiable",
        "FileError",
        "UsageError",
        "PathError",
        "IdentityError",
        "HeaderError",
        "AgeError",
    ),
    *("OpenPgpError", "MistypedError", "InPlaceError", "NoMatch"),
}
AS_SOPS_SAYS = (
    *("Could not run editor: {}", "File has not changed, exiting.", "Publication of {} canceled"),
    "can't operate on a directory without --recursive flag.",
    "Unsupported type: there is a single value where {} should lead on",
    "The config file {} does not contain any creation rule",
)
"""Words that scripts look for."""
PROPER = ("S3", "Vault", "Key Vault", "Cloud KMS", "Google", "Azure", "Huawei", "Secret", "Kubernetes", "Curve25519")


def starts_right(text: str) -> bool:
    """With a small letter, with none at all, or with a name that is spelled so: MAC, ElGamal, Vault."""
    word = text.split()[0]
    return not text[0].isupper() or sum(map(str.isupper, word)) > 1 or text.startswith(PROPER)


def said() -> Iterator[tuple[str, str, str]]:
    """Every message and hint that stands in the source: where, which of the two, and its text with {} for its parts."""
    for path in sorted(Path(krm_sops.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            where = f"{path.name}:{node.lineno}"
            position = 0 if called in ERRORS else 2 if called == "Result" else 1 if called == "MistypedError" else None
            if position is not None and len(node.args) > position:
                for text in literal(node.args[position]):
                    yield where, "message", text
            for keyword in node.keywords:
                if keyword.arg == "hint" and (called in ERRORS or called == "Result"):
                    for text in literal(keyword.value):
                        yield where, "hint", text


def literal(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
    elif isinstance(node, ast.IfExp):
        yield from literal(node.body)
        yield from literal(node.orelse)


def test_every_message_is_one_line_in_one_style():
    """Lower case, no full stop, no line break, not long; hints too."""
    found = [one for one in said() if one[2] and one[2] not in AS_SOPS_SAYS]
    assert len(found) > 150
    wrong = []
    for where, kind, text in found:
        ends_right = not text.endswith((".", "!", ":", " ")) or text.endswith(("…", "..."))
        if not (starts_right(text) and ends_right and "\n" not in text and len(text) < 320):
            wrong.append((where, kind, text))
    assert not wrong


def test_errors_that_a_person_can_mend_come_with_a_hint():
    """The next step stands on a line of its own, where there is one."""
    document = made.encrypted()
    package = {"internal.config.kubernetes.io/package-path": "/p", "internal.config.kubernetes.io/path": "a.yaml"}
    cases: list[tuple[str, str]] = [
        ("", "krm-sops --help"),
        (made.yaml(document), "krm-sops decrypt FILE"),
        (made.resource_list(document, config=None), "SOPS_AGE_KEY"),
        (made.resource_list(made.encrypted(mac=None)), "encrypt it again"),
        (made.resource_list({**document, "type": "changed"}), "restore the document"),
        (made.resource_list({**document, "stringData": {"k": "clear"}}), "without sops"),
        (made.resource_list({**document, "sops": "x"}), "krm-sops.dev/decrypt: disabled"),
        (made.resource_list(made.encrypted(encrypted_regex="(?=x)")), "lookaround"),
        (
            made.resource_list({**document, "metadata": {"name": "db", "namespace": "prod", "annotations": package}}),
            "-o",
        ),
        (
            made.resource_list(document, config={"apiVersion": "v1", "kind": "ConfigMap", "data": {"secretRef": "x"}}),
            "key Secret",
        ),
    ]
    for text, words in cases:
        try:
            _, results, status = made.function(text)
            assert status == 1
            hint = results[0].hint
        except KrmSopsError as error:
            hint = error.hint
        assert words in hint, (hint, text[:80])
