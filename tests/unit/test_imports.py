"""What a start costs is what it imports, and where that leans on private parts, it has a way without them."""

from __future__ import annotations

import hmac
import json
import subprocess
import sys
from hashlib import sha256, sha512
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from krm_sops import leanyaml, primitives
from tests.generating import own
from tests.security import made

FOLDERS = [str(Path(find_spec(name).origin).parent.parent) for name in ("krm_sops", "cryptography", "yaml")]
SLOW = (
    *("re", "enum", "typing", "functools", "json", "base64", "argparse", "logging", "subprocess", "dataclasses"),
    *("email", "ssl", "yaml", "hashlib", "struct", "collections", "contextlib", "inspect", "threading", "signal"),
)
ALLOWED_OF_CRYPTOGRAPHY = (
    *("cryptography", "cryptography.__about__", "cryptography.hazmat"),
    *("cryptography.hazmat.bindings", "cryptography.hazmat.bindings._rust"),
)
START = f"""\
import sys
sys.path += {FOLDERS!r}
"""
FUNCTION = """
from krm_sops import cli
status = cli.main(["krm-sops"])
sys.stderr.write(" ".join(sorted(sys.modules)))
sys.exit(status)
"""
HIDE = """
import builtins
def guarded(name, globals=None, locals=None, fromlist=(), level=0, real=builtins.__import__):
    if IMPORTER in ("", (globals or {}).get("__name__")) and name.startswith(HIDDEN):
        raise ImportError("hidden: " + name)
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
"""


def hide(importer: str, *hidden: str) -> str:
    """Source that makes modules impossible to import. importer: for whom, "" for everyone."""
    return f"IMPORTER, HIDDEN = {importer!r}, {hidden!r}\n{HIDE}"


def started(source: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """As the installed program starts: no `site`, no environment."""
    argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", START + source]
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=120)


def function(given: str, before: str = "") -> tuple[str, set[str]]:
    """stdout of the function, and all modules that were there at its end."""
    done = started(before + FUNCTION, given)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.split())


ENCRYPTED = made.resource_list(made.encrypted())
DECRYPTED = made.function(ENCRYPTED)[0]


def test_an_age_secret_is_decrypted_without_the_slow_modules():
    output, modules = function(ENCRYPTED)
    assert output == DECRYPTED
    assert "plain-of-password" in output
    assert modules.isdisjoint(SLOW)
    extra = [name for name in modules if name.startswith("cryptography") and name not in ALLOWED_OF_CRYPTOGRAPHY]
    assert not extra


def test_without_an_encrypted_item_neither_cryptography_nor_yaml_is_touched():
    given = made.resource_list({**made.PLAIN, "kind": "ConfigMap"}, config=None)
    output, modules = function(given)
    assert output == given
    assert modules.isdisjoint(SLOW)
    foreign = [name for name in modules if name.partition(".")[0] in ("cryptography", "yaml", "re2", "_cffi_backend")]
    assert not foreign
    ours = {name for name in modules if name.startswith("krm_sops.")}
    assert not ours & {"krm_sops.cipher", "krm_sops.metadata", "krm_sops.document", "krm_sops.yamlio"}


def test_for_a_plain_secret_no_cryptography_is_touched():
    """Its values are read: they may be encrypted documents."""
    given = made.resource_list(made.PLAIN, config=None)
    output, modules = function(given)
    assert output == given
    assert modules.isdisjoint(SLOW)
    assert not [name for name in modules if name.partition(".")[0] in ("cryptography", "re2", "_cffi_backend")]
    assert not modules & {"krm_sops.cipher", "krm_sops.metadata", "krm_sops.document", "krm_sops.policy"}


def test_with_a_functionconfig_but_nothing_to_decrypt_no_cryptography_is_touched():
    output, modules = function(made.resource_list(made.PLAIN))
    assert "plain-of-password" in output
    assert modules.isdisjoint(SLOW)
    assert not [name for name in modules if name.partition(".")[0] in ("cryptography", "re2", "_cffi_backend")]


@pytest.mark.parametrize("verb", ["decrypt", "render"])
def test_a_verb_that_decrypts_a_file_starts_without_the_slow_modules(verb, tmp_path):
    file, key = tmp_path / "secret.yaml", tmp_path / "key"
    file.write_text(made.yaml(made.encrypted()))
    key.write_text(made.IDENTITY)
    argv = ["krm-sops", verb, "--key-file", str(key), str(file)]
    done = started(FUNCTION.replace('["krm-sops"]', repr(argv)))
    assert done.returncode == 0, done.stderr
    assert "plain-of-password" in done.stdout
    assert set(done.stderr.split()).isdisjoint(SLOW)


def test_a_generator_of_encrypted_manifests_starts_without_the_slow_modules(tmp_path):
    (tmp_path / "secret.yaml").write_text(made.yaml(made.encrypted()))
    config = own(files=["secret.yaml"], keys=[{"value": made.IDENTITY}])
    given = {"apiVersion": "config.kubernetes.io/v1", "kind": "ResourceList", "items": [], "functionConfig": config}
    output, modules = function(json.dumps(given), f"import posix\nposix.chdir({str(tmp_path)!r})\n")
    assert "plain-of-password" in output
    assert modules.isdisjoint(SLOW)


@pytest.mark.parametrize(
    ("hidden", "taken"),
    [
        pytest.param(
            hide("krm_sops.primitives", "cryptography.hazmat.bindings"),
            "cryptography.hazmat.primitives.ciphers.aead",
            id="the compiled core of cryptography",
        ),
        pytest.param(hide("krm_sops.primitives", "_sha"), "hashlib", id="the digests of the interpreter"),
        pytest.param(hide("", "yaml._yaml"), "yaml", id="the compiled part of PyYAML"),
        pytest.param('sys.modules["yaml.tokens"] = None\n', "yaml", id="the layout of PyYAML"),
        pytest.param("import yaml\n", "yaml", id="a process that has PyYAML already"),
    ],
)
def test_where_a_private_part_is_missing_the_public_one_is_taken(hidden, taken):
    output, modules = function(ENCRYPTED, hidden)
    assert taken in modules
    assert output == DECRYPTED


def test_after_the_lean_parser_a_real_yaml_can_be_imported():
    done = started("from krm_sops import leanyaml\nimport yaml\nprint(yaml.safe_load('{a: [1, yes]}'), yaml.dump([1]))")
    assert done.stdout == "{'a': [1, True]} - 1\n\n", done.stderr


PARSERS = """
import json
from krm_sops import leanyaml, yamlio
from krm_sops.errors import KrmSopsError
from krm_sops.limits import FUNCTION
from krm_sops.tree import Branch

def told(node):
    if isinstance(node, Branch):
        return ["map", [[told(entry.key), told(entry.value)] for entry in node.entries]]
    if isinstance(node, list):
        return ["list", [told(element) for element in node]]
    return [type(node).__name__, getattr(node, "text", None) or str(node)]

def read(text):
    try:
        source = yamlio.read(text, FUNCTION, 1000)
    except KrmSopsError as error:
        return [type(error).__name__, getattr(error, "line", 0)]
    spans = [span and [span.start, span.end, span.indent, span.style, span.anchored] for span in source.spans]
    places = [[place.first_leaf, place.after, place.indent, place.entries] for place in source.places.values()]
    return [told(source.root), spans, places]

print(json.dumps([leanyaml.parser.__module__, [read(text) for text in json.load(sys.stdin)]]))
"""
VECTORS = Path(__file__).parent.parent / "vectors" / "yaml"
TEXTS = [
    "a: 1\nb: [x, 'y', \"z\\n\", {c: ~}]\n",
    "- k: |\n    two\n    lines\n\n  l: >-\n    folded\n    text\n  # comment\n  m: plain\n    of two lines\n",
    "a: &x {b: 1}\nc: *x\nd: !!str 5\ne: !custom v\n'f g': ! 7\n",
    "? a\n: - - b\n    - c\n  -\n",
    "ключ: значение\nemoji: 😀 # ü\n",
    "a: 1\r\nb: 'c\r\n  d'\r\n",
    *(
        "a: b: c\n",
        "a: [1\n",
        "a: 1\na: 2\n",
        "a: *b\n",
        "--- a\n--- b\n",
        "",
        "# only\n",
        "a:\t'b\n",
        "[a, b]]\n",
        "\x00",
    ),
]


def parsed(before: str) -> tuple[str, list[object]]:
    recorded = [path.read_bytes().decode("utf-8-sig", "replace") for path in sorted(VECTORS.glob("*.yaml"))]
    done = started(before + PARSERS, json.dumps(TEXTS + recorded))
    assert done.returncode == 0, done.stderr
    module, answers = json.loads(done.stdout)
    return module, answers


def test_the_lean_parser_and_the_whole_of_pyyaml_read_the_same():
    lean = parsed("")
    whole = parsed("import yaml\n")
    assert lean == whole
    assert any(answer[0] == "StoreError" for answer in lean[1])


def test_pyyaml_without_its_compiled_part_reads_the_same():
    (compiled, answers), (pure, pure_answers) = parsed(""), parsed(hide("", "yaml._yaml"))
    assert (compiled, pure) == ("yaml._yaml", "krm_sops.leanyaml")
    for answer, pure_answer in zip(answers, pure_answers, strict=True):
        if len(answer) == 2:  # an error; its line may be another one
            assert pure_answer[0] == answer[0]
            continue
        (tree, spans, _), (pure_tree, pure_spans, _) = answer, pure_answer
        assert pure_tree == tree
        texts = [span and span[0] < span[1] and span for span in spans]  # where nothing stands, nothing is replaced
        assert [span and span[0] < span[1] and span for span in pure_spans] == texts


def test_both_ways_to_the_ciphers_give_the_same():
    lean, public = primitives.lean(), primitives.public()
    for lean_aead, public_aead in zip(lean[:2], public[:2], strict=True):
        key, nonce = bytes(range(32)), bytes(12)
        sealed = public_aead(key).encrypt(nonce, b"plain", b"bound")
        assert lean_aead(key).encrypt(nonce, b"plain", b"bound") == sealed
        assert lean_aead(key).decrypt(nonce, sealed, b"bound") == b"plain"
        with pytest.raises(InvalidTag) as refused:
            lean_aead(key).decrypt(nonce, sealed, b"moved")
        assert primitives.is_invalid_tag(refused.value)
    assert lean[0](bytes(32)).decrypt(bytes(32), public[0](bytes(32)).encrypt(bytes(32), b"x", None), None) == b"x"
    private, other = bytes(range(32)), bytes(range(1, 33))
    shared = []
    for private_of, public_of in (lean[2:], public[2:]):
        share = private_of(other).public_key().public_bytes_raw()
        shared.append((share, private_of(private).exchange(public_of(share))))
        with pytest.raises(ValueError, match="shared key"):
            private_of(private).exchange(public_of(bytes(32)))
    assert shared[0] == shared[1]


@given(st.binary(max_size=300))
def test_both_ways_to_the_digests_give_the_same(message):
    for way in (primitives.lean_hashes(), primitives.public_hashes()):
        assert [digest(message).digest() for digest in way] == [sha256(message).digest(), sha512(message).digest()]


@given(st.binary(max_size=64), st.binary(max_size=64), st.binary(max_size=100))
def test_hmac_and_hkdf_are_those_of_the_standard(secret, salt, info):
    assert primitives.hmac_sha256(secret, info) == hmac.digest(secret, info, "sha256")
    assert primitives.hkdf_sha256(secret, salt, info) == HKDF(SHA256(), 32, salt, info).derive(secret)


def test_the_lean_ways_are_the_ones_in_use_here():
    """Otherwise the tests above would compare the public way with itself."""
    assert primitives.AESGCM is primitives.lean()[0]
    assert primitives.sha256 is primitives.lean_hashes()[0]
    assert leanyaml.parser.__module__ == "yaml._yaml"
