"""SopsEncrypt after SopsDecrypt with keepOriginal: nothing changes that nobody changed, and only that stays plain."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.cipher import DataKey
from krm_sops.encryption import encrypted_file
from krm_sops.errors import KrmSopsError
from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.keys.age import AgeKey
from krm_sops.limits import FUNCTION
from krm_sops.metadata import VERSION, Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Entry
from tests.pipeline import HEAD, RULE, call, decrypted, decrypting, encrypted, encrypting, items_of, refused, rendered
from tests.security import made

if TYPE_CHECKING:
    from krm_sops.tree import Node

MOMENT = "2026-01-01T00:00:00Z"
SELECTIONS = (
    ("encrypted_regex", "^(data|stringData|spec)$"),
    ("encrypted_comment_regex", "sops:enc"),
    ("encrypted_suffix", "a"),
    ("unencrypted_regex", "^(apiVersion|kind|metadata)$"),
)
DOCUMENT = """\
# about it
apiVersion: v1
kind: Secret
metadata:
  name: db # its name
  labels: {app: shop}
stringData:
  # about the user
  user: root # really
  password: "it's"
  pem: |
    several
    lines
  number: "5"
type: Opaque
"""
PLAIN_SECRET = """\
apiVersion: v1
kind: Secret
metadata:
  name: made
stringData:
  # about the token
  token: 'abc'
  pem: |
    several
    lines
"""


def metadata(rule: str = "encrypted_regex", pattern: str = "^(data|stringData)$", **options: Any) -> Metadata:
    fields = {"lastmodified": "", "mac": "", "version": VERSION, "threshold": 0, "mac_only_encrypted": False}
    groups = [[AgeKey(made.RECIPIENT, made.WRAPPED)]]
    return Metadata(**{**fields, "key_groups": groups, "selection": Selection(rule, pattern), **options})


def file_of(text: str, about: Metadata | None = None, indent: int = 2) -> str:
    """As sops encrypts it."""
    store = STORES["yaml"]
    branches = store.read_plain(text.encode())
    key = DataKey(made.DATA_KEY)
    return encrypted_file(branches, about or metadata(), key, store, now=MOMENT, indent=indent).decode()


def ciphertexts(items: str) -> set[str]:
    """Those of values, the MAC among them."""
    return set(re.findall(r"ENC\[AES256_GCM,[^\]]*,type:(?!comment)\w+\]", items))


def opened(items: str) -> list[dict[str, Any]]:
    """The objects, decrypted without a trace."""
    found, results, status = call(items, decrypting(keepOriginal=False))
    assert status == 0, [result.line() for result in results]
    return yaml.safe_load(HEAD + found)["items"]


class Author:
    """Writes objects with everything in them that YAML has a way to spell."""

    TEXTS = (
        *("x", "5", "true", "two\nlines\n", "a: b", "# no", "", " lead", "trail ", "tab\tx", "é", "no\nend", "yes"),
        *("several\n\nparts\n\n", "null", "1e3", "long " * 40, "'q'", '"dq"', "ENC[x", "|", "- a", "\\"),
    )
    VALUES = (*TEXTS, 1, 1.5, True, False, None, -3, 10**12)
    KEYS = ("a", "b", "c", "a:b", "x_unencrypted", "é", "d e", "5", "#k")
    COMMENTS = (" c", " sops:enc", " other", "x", " ENC")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def maybe_comment(self) -> list[Comment]:
        return [Comment(self.random.choice(self.COMMENTS))] if self.random.random() < 0.25 else []

    def node(self, depth: int) -> Node:
        kind = self.random.random()
        if depth <= 0 or kind < 0.55:
            return self.random.choice(self.VALUES)
        if kind < 0.8:
            return self.branch(depth - 1)
        found: list[Node] = []
        for _ in range(self.random.randrange(4)):
            found += [*self.maybe_comment(), self.node(depth - 1)]
        return found

    def branch(self, depth: int) -> Branch:
        found = []
        for key in self.random.sample(self.KEYS, self.random.randrange(5)):
            found += [*(Entry(comment, None) for comment in self.maybe_comment()), Entry(key, self.node(depth))]
        return Branch(found)

    def document(self) -> Branch:
        annotations = [Entry("annotations", Branch([Entry("a", "b")]))] if self.random.random() < 0.3 else []
        about = Branch([Entry("name", "n"), *annotations, Entry("labels", Branch([Entry("l", "5")]))])
        kind = self.random.choice(("Secret", "ConfigMap", "Other"))
        found = [Entry("apiVersion", "v1"), Entry("kind", kind), Entry("metadata", about)]
        for field in self.random.sample(("data", "stringData", "spec", "other"), self.random.randrange(1, 4)):
            found += [*(Entry(comment, None) for comment in self.maybe_comment()), Entry(field, self.branch(2))]
        return Branch(found)

    def file(self) -> str:
        about = metadata(*self.random.choice(SELECTIONS), mac_only_encrypted=self.random.random() < 0.3)
        indent = self.random.choice((2, 4))
        while True:
            try:
                store, key = STORES["yaml"], DataKey(made.DATA_KEY)
                return encrypted_file([self.document()], about, key, store, now=MOMENT, indent=indent).decode()
            except KrmSopsError:  # no file of sops can hold it
                continue


@pytest.mark.parametrize("seed", range(150))
def test_what_nobody_changed_leaves_as_it_came_byte_for_byte(seed):
    items = items_of(Author(seed).file())
    assert rendered(items) == items


@pytest.mark.parametrize("seed", range(150))
def test_of_what_changed_only_the_changed_values_and_the_mac_are_encrypted_anew(seed):
    items = items_of(Author(seed).file())
    plain = decrypted(items)
    lines = plain.splitlines()
    ends = (': "x"', ": x", ": 1", ": true")
    places = [at for at, line in enumerate(lines) if line.endswith(ends)]
    if not places:
        places = [next(at for at, line in enumerate(lines) if line.endswith('l: "5"'))]
    place = random.Random(seed).choice(places)
    lines[place] = lines[place].rsplit(":", 1)[0] + ": 'new: value'"
    changed = encrypted("\n".join(lines) + "\n")
    assert len(ciphertexts(items) - ciphertexts(changed)) <= 2
    assert "krm-sops.dev/original" not in changed
    before, after = opened(items)[0], opened(changed)[0]
    assert before != after
    assert str(after).count("new: value") == 1
    assert rendered(changed) == changed


def test_a_change_moves_nothing_else():
    items = items_of(file_of(DOCUMENT))
    changed = rendered(items, lambda plain: plain.replace("root", "admin"))
    pairs = list(zip(items.splitlines(), changed.splitlines(), strict=True))
    names = [old.split(":")[0].strip() for old, new in pairs if old != new]
    assert names == ["user", "lastmodified", "mac"]
    assert opened(changed)[0]["stringData"]["user"] == "admin"


def test_a_clear_value_that_changes_renews_only_the_mac():
    items = items_of(file_of(DOCUMENT))
    changed = rendered(items, lambda plain: plain.replace("app: shop", "app: store"))
    assert len(ciphertexts(items) - ciphertexts(changed)) == 1
    assert opened(changed)[0]["metadata"]["labels"] == {"app": "store"}


def test_new_values_are_encrypted_by_the_documents_own_rule_and_removed_ones_vanish():
    items = items_of(file_of(DOCUMENT))

    def change(plain: str) -> str:
        assert "    # about the user\n" in plain
        added = "    # about the new one\n    added: new-plain\n    list: [1, two]\n"
        without = plain.replace('    password: "it\'s"\n', "")
        return without.replace("    # about the user\n", added + "    # about the user\n")

    changed = rendered(items, change)
    assert "new-plain" not in changed
    assert "about the new one" not in changed
    assert "two" not in changed
    data = opened(changed)[0]["stringData"]
    assert data["added"] == "new-plain"
    assert data["list"] == ["1", "two"]
    assert "password" not in data
    assert len(ciphertexts(items) & ciphertexts(changed)) == 3  # user, pem, number


def test_a_key_order_that_changed_is_a_change_and_every_ciphertext_stays():
    items = items_of(file_of(DOCUMENT))

    def change(plain: str) -> str:
        return plain.replace('    number: "5"\n', "").replace(
            "    # about the user\n", '    number: "5"\n    # about the user\n'
        )

    changed = rendered(items, change)
    assert len(ciphertexts(items) - ciphertexts(changed)) == 1  # the MAC
    assert next(iter(opened(changed)[0]["stringData"])) == "number"


def test_numbers_in_string_fields_keep_their_ciphertexts():
    """SopsDecrypt writes them as strings, as Kubernetes wants them; that is no change."""
    items = items_of(file_of(DOCUMENT.replace('"5"', "5").replace("type: Opaque", "type: Opaque\nimmutable: true")))
    changed = rendered(items, lambda plain: plain.replace("root", "admin"))
    assert ",type:int]" in changed
    assert len(ciphertexts(items) - ciphertexts(changed)) == 2


def test_documents_of_one_file_stay_one_document_of_sops():
    whole = file_of(DOCUMENT + "---\n" + DOCUMENT.replace("name: db", "name: other"))
    items = items_of(*(f"{text}\n" for text in whole.removesuffix("\n").split("\n---\n")))
    assert rendered(items) == items
    changed = rendered(items, lambda plain: plain.replace("root", "admin", 1))
    macs = [line for line in changed.splitlines() if line.strip().startswith("mac:")]
    assert len(macs) == 2
    assert macs[0] == macs[1]
    assert [item["stringData"]["user"] for item in opened(changed)] == ["admin", "root"]


def test_a_new_secret_is_encrypted_by_its_creation_rule_and_needs_no_key_for_it():
    changed, results, status = call(items_of(PLAIN_SECRET), encrypting(keys=[], ambient="never", creationRules=[RULE]))
    assert (status, results) == (0, [])
    assert "abc" not in changed
    assert "about the token" not in changed
    assert opened(changed)[0]["stringData"] == {"token": "abc", "pem": "several\nlines\n"}


def test_creation_rules_match_the_path_of_the_item_and_the_first_one_counts():
    def placed(path: str) -> str:
        note = f"  annotations:\n    internal.config.kubernetes.io/path: {path}\n"
        return items_of(PLAIN_SECRET.replace("  name: made\n", "  name: made\n" + note))

    rules = [{**RULE, "path_regex": "^prod/", "mac_only_encrypted": True}, {**RULE, "path_regex": r"\.yaml$"}]
    assert "mac_only_encrypted: true" in encrypted(placed("prod/a.yaml"), creationRules=rules)
    assert "mac_only_encrypted" not in encrypted(placed("test/a.yaml"), creationRules=rules)
    error = refused(placed("test/a.json"), "InvalidConfig", creationRules=rules)
    assert "no creation rule matches 'test/a.json'" in error.message


def test_new_secrets_of_one_file_become_one_document_of_sops():
    internal = "    internal.config.kubernetes.io"
    note = f"  annotations:\n{internal}/path: a.yaml\n{internal}/index: '{{}}'\n"
    first, second = (PLAIN_SECRET.replace("  name: made\n", f"  name: made{at}\n" + note.format(at)) for at in (0, 1))
    changed = encrypted(items_of(second, first), creationRules=[RULE])
    assert len({line for line in changed.splitlines() if " mac:" in line}) == 1
    assert len(opened(changed)) == 2
    config_map = first.replace("kind: Secret", "kind: ConfigMap").replace("stringData", "data")
    error = refused(items_of(config_map, second), "InvalidConfig", creationRules=[RULE])
    assert "in a file with other objects" in error.message


def test_fresh_data_key_on_change_gives_a_new_one_to_what_changed_only():
    items = items_of(file_of(DOCUMENT))
    spec = {"freshDataKey": "onChange", "creationRules": [{**RULE, "encrypted_regex": "^(data|stringData)$"}]}
    assert rendered(items, **spec) == items
    changed = rendered(items, lambda plain: plain.replace("root", "admin"), **spec)
    assert not ciphertexts(items) & ciphertexts(changed)
    assert opened(changed)[0]["stringData"]["user"] == "admin"
    error = refused(decrypted(items).replace("root", "admin"), "InvalidConfig", freshDataKey="onChange")
    assert "spec.freshDataKey needs a creation rule" in error.message


def test_a_secret_without_a_rule_is_an_error_that_names_it_unless_it_is_excluded():
    items = items_of(PLAIN_SECRET)
    error = refused(items, "InvalidConfig")
    assert error.line().startswith("Secret/made: spec.creationRules: a Secret that is not encrypted")
    assert encrypted(items, exclude=[{"name": "made"}]) == items


@pytest.mark.parametrize("kind", ["List", "SecretList"])
def test_a_secret_inside_of_a_list_is_an_error_unless_the_list_is_excluded(kind):
    inner = "- apiVersion: v1\n  kind: Secret\n  metadata:\n    name: made\n  stringData:\n    token: plain-of-made\n"
    items = items_of(f"apiVersion: v1\nkind: {kind}\nmetadata:\n  name: all\nitems:\n{inner}")
    error = refused(items, "InvalidDocument", creationRules=[RULE])
    assert error.line().startswith(f"{kind}/all: items[0].stringData.token: a Secret that is not encrypted")
    assert encrypted(items, exclude=[{"name": "all"}]) == items


def test_objects_that_nobody_decrypted_leave_as_they_came():
    other = file_of(DOCUMENT)
    items = items_of(DOCUMENT.replace("kind: Secret", "kind: ConfigMap"), other)
    assert encrypted(items) == items


def test_a_rule_that_would_encrypt_what_makes_it_an_object_is_an_error():
    error = refused(items_of(PLAIN_SECRET), "InvalidConfig", creationRules=[{"age": made.RECIPIENT}])
    assert "would encrypt what makes it a Kubernetes object" in error.message


def test_a_rule_that_leaves_values_plain_is_an_error():
    rule = {"age": made.RECIPIENT, "encrypted_regex": "^data$"}
    assert (
        "would leave something plain" in refused(items_of(PLAIN_SECRET), "InvalidConfig", creationRules=[rule]).message
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"creationRules": [{"age": ["x", 1]}]}, "creationRules"),
        ({"creationRules": [{"path_regex": "("}]}, "creationRules"),
        ({"creationRules": "all"}, "creationRules"),
        ({"freshDataKey": "always"}, "freshDataKey"),
        ({"mac": "tags"}, "'mac'"),
    ],
)
def test_a_config_that_is_wrong_names_its_field(spec, field):
    error = refused(items_of(PLAIN_SECRET), "InvalidConfig", **spec)
    assert field in f"{error.field} {error.message}"


@pytest.mark.parametrize("spec", [{"include": ["sopsSecrets"]}, {"include": ["configMaps"]}, {"mac": "tags"}])
def test_keep_original_is_not_for_what_could_not_be_put_back(spec):
    _, results, status = call(items_of(file_of(DOCUMENT)), decrypting(**spec))
    assert status == 1
    assert results[0].message.startswith("spec.keepOriginal: ")


@pytest.mark.parametrize("function", [decrypting(), encrypting()])
def test_neither_is_for_kustomize(function):
    function["metadata"]["annotations"] = {"config.kubernetes.io/function": "exec: {path: krm-sops}"}
    _, results, status = call(items_of(file_of(DOCUMENT)), function)
    assert status == 1
    assert "kustomize builds write no files" in results[0].message


def test_documents_inside_of_values_stay_encrypted_with_keep_original():
    inner = file_of("a: secret\n", metadata("unencrypted_suffix", "_unencrypted"))
    text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: files\nstringData:\n  a.yaml: |\n"
    items = items_of(text + "".join(f"    {line}\n" for line in inner.splitlines()))
    plain, results, status = call(items, decrypting())
    assert (status, plain) == (0, items)
    assert [result.reason for result in results] == ["StillEncrypted"]
    assert encrypted(items) == items


def test_an_item_in_flow_style_is_encrypted_again():
    items = "- " + yaml.safe_dump(
        yaml.safe_load(file_of(DOCUMENT)), default_flow_style=True, sort_keys=False, width=10**6
    )
    changed = rendered(items)
    assert ciphertexts(changed)
    assert opened(changed) == opened(items)


def one_file(*documents: str) -> list[str]:
    """As kpt hands over the documents of one file."""
    internal = "    internal.config.kubernetes.io"
    note = f"  annotations:\n{internal}/path: a.yaml\n{internal}/index: '{{}}'\n"
    whole = file_of("---\n".join(documents)).removesuffix("\n").split("\n---\n")
    return [f"{text}\n".replace("metadata:\n", "metadata:\n" + note.format(at), 1) for at, text in enumerate(whole)]


def test_documents_of_a_file_of_which_some_stay_encrypted():
    """One MAC covers them all: unchanged they are put back, and a change would need the others, too."""
    items = items_of(*one_file(DOCUMENT, DOCUMENT.replace("name: db", "name: other")))
    plain = decrypted(items, selectors=[{"name": "db"}])
    assert plain != items
    assert encrypted(plain) == items
    assert "shares its MAC with documents" in refused(plain.replace("root", "admin"), "InvalidDocument").message


def test_a_document_that_is_missing_from_its_file_is_told_with_an_item():
    items = items_of(*one_file(DOCUMENT, DOCUMENT.replace("name: db", "name: other")))
    plain = decrypted(items)
    second = plain[plain.index("- # about it", 5) :]
    error = refused(second, "MacMismatch")
    assert error.item is not None
    assert error.item.name == "other"


def test_a_list_in_json_is_encrypted_again():
    items = [yaml.safe_load(file_of(DOCUMENT))]
    given = {"apiVersion": "config.kubernetes.io/v1", "kind": "ResourceList", "items": items}

    def piped(text: str, function: dict[str, Any]) -> str:
        raw = json.dumps({**json.loads(text), "functionConfig": function}).encode()
        output, results, status = run(raw, Host(env={"KEY": made.IDENTITY}, files={}), FUNCTION)
        assert status == 0, [result.line() for result in results]
        return output.decode()

    plain = piped(json.dumps(given), decrypting())
    assert "ENC[AES256_GCM," not in plain
    assert json.loads(piped(plain, encrypting()))["items"] == items
    changed = piped(plain.replace('"root"', '"admin"'), encrypting())
    assert len(ciphertexts(json.dumps(given)) - ciphertexts(changed)) == 2


def at(text: str, path: str) -> str:
    """An object of a package, as `kpt fn render` hands it over."""
    internal = "    internal.config.kubernetes.io"
    note = f"  annotations:\n{internal}/path: {path}\n{internal}/package-path: /package\n"
    return (
        text.replace("  annotations:\n", note, 1)
        if "  annotations:\n" in text
        else text.replace("metadata:\n", "metadata:\n" + note, 1)
    )


KPTFILE = """\
apiVersion: kpt.dev/v1
kind: Kptfile
metadata:
  name: package
pipeline:
  mutators:
  - exec: krm-sops
    configPath: ./decrypt.yaml
  - exec: other
  - exec: krm-sops
    configPath: encrypt.yaml
"""
ENCRYPTING = "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsEncrypt\nmetadata:\n  name: encrypt\n"


def in_place(kptfile: str = KPTFILE, sops_encrypt: str = ENCRYPTING, **spec: Any) -> tuple[int, list[str]]:
    """A SopsDecrypt under `kpt fn render`: its exit status, and the reasons."""
    items = items_of(at(kptfile, "Kptfile"), at(sops_encrypt, "encrypt.yaml"), at(file_of(DOCUMENT), "a.yaml"))
    function = decrypting(**spec)
    notes = {"internal.config.kubernetes.io/path": "decrypt.yaml"}
    function["metadata"]["annotations"] = notes | {"internal.config.kubernetes.io/package-path": "/package"}
    _, results, status = call(items, function)
    return status, [result.reason for result in results]


def test_under_kpt_a_later_sopsencrypt_lets_sopsdecrypt_go_ahead():
    assert in_place() == (0, [])
    assert in_place(
        KPTFILE.replace(
            "  name: package\n", "  name: package\n  annotations:\n    kpt.dev/save-on-render-failure: 'false'\n"
        )
    ) == (0, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("configPath: encrypt.yaml", "configPath: other.yaml"),
        ("configPath: encrypt.yaml", "configPath: encrypt.yaml\n    exclude:\n    - kind: Secret"),
        ("configPath: encrypt.yaml", "configPath: encrypt.yaml\n    condition: 'false'"),
        ("configPath: ./decrypt.yaml", "configPath: another.yaml"),
        ("mutators", "validators"),
        ("kind: Kptfile", "kind: Other"),
        ("  name: package\n", "  name: package\n  annotations:\n    kpt.dev/save-on-render-failure: 'true'\n"),
        ("  - exec: other\n", "  - exec: other\n  - exec: krm-sops\n    configPath: encrypt.yaml\n"),
    ],
)
def test_under_kpt_without_one_it_refuses(old, new):
    assert old in KPTFILE
    changed = KPTFILE.replace(old, new)
    if "- exec: other\n  - exec: krm-sops" in new:  # and the last one decrypts again
        changed = changed.removesuffix("configPath: encrypt.yaml\n") + "configPath: decrypt.yaml\n"
    assert in_place(changed) == (1, ["PlaintextInPlace"])


@pytest.mark.parametrize(
    "change", [("krm-sops.dev/v1alpha1", "other/v1"), ("  name: encrypt", "  name: encrypt\n  namespace: x")]
)
def test_under_kpt_what_stands_behind_must_be_a_sopsencrypt_for_the_same_items(change):
    assert in_place(sops_encrypt=ENCRYPTING.replace(*change)) == (1, ["PlaintextInPlace"])


def test_under_kpt_a_sopsencrypt_is_of_no_use_without_keep_original():
    assert in_place(keepOriginal=False) == (1, ["PlaintextInPlace"])
