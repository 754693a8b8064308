"""The gate, rule by rule: what each finds, where it says that it stands, and what it lets pass."""

from __future__ import annotations

from base64 import b64encode, encodebytes

import pytest

from krm_sops.gate import DECRYPTED, ENCRYPTED
from krm_sops.gate.judge import Gate
from krm_sops.limits import FUNCTION
from krm_sops.selection import Selection
from tests import agefile
from tests.security import made

AGE = agefile.IDENTITY
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHAbcdefghijklmnopqrstuvwxyz012345\n-----END PRIVATE KEY-----\n"
SEALED = made.enc("x", "stringData:password:")
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: prod\n"
BLOCK = made.yaml({"sops": made.encrypted()["sops"]})


def judged(text: str | bytes, name: str = "s.yaml", expect: str = ENCRYPTED, **options: object) -> Gate:
    gate = Gate(expect, FUNCTION, allow_disabled=bool(options.get("allow_disabled")))
    wanted = options.get("wanted")
    gate.file(
        text if isinstance(text, bytes) else text.encode(), name, wanted if isinstance(wanted, Selection) else None
    )
    return gate


def rules(text: str | bytes, name: str = "s.yaml", expect: str = ENCRYPTED, **options: object) -> list[str]:
    return [finding.rule for finding in judged(text, name, expect, **options).findings]


def places(text: str, name: str = "s.yaml", expect: str = ENCRYPTED) -> list[tuple[str, int, str]]:
    return [(found.rule, found.line, found.field) for found in judged(text, name, expect).findings]


# Good


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(made.yaml(made.encrypted()), id="an encrypted Secret"),
        pytest.param(made.yaml(made.encrypted(mac_only_encrypted=True)), id="with mac_only_encrypted"),
        pytest.param(SECRET + "type: Opaque\n", id="a Secret without values"),
        pytest.param(SECRET + "data: {}\nstringData:\n  a: ''\n  b:\n", id="a Secret with empty values"),
        pytest.param("sops:\n  enabled: true\n  version: 3.13.3\n  age: age1x\n", id="another program's sops"),
        pytest.param("- a\n- {b: c}\n", id="a list"),
        pytest.param("just text\n", id="a text"),
        pytest.param("", id="nothing"),
        pytest.param("# nothing but a comment\n", id="a comment"),
        pytest.param("---\n---\na: 1\n", id="an empty document"),
        pytest.param("kind: ExternalSecret\napiVersion: external-secrets.io/v1\ndata: {a: b}\n", id="another kind"),
        pytest.param("kind: Secret\napiVersion: example.com/v1\ndata: {a: b}\n", id="another group's Secret"),
        pytest.param("apiVersion: v1\nkind: ConfigMap\ndata: {a: ENC is a word}\n", id="a word"),
    ],
)
def test_what_is_encrypted_or_no_secret_passes(text):
    assert rules(text) == []


def test_a_secret_whose_values_hold_encrypted_documents_passes():
    """As Flux has them: the Secret has no sops block, its values are SOPS documents."""
    inner = made.yaml(made.encrypted())
    outer = SECRET + f"data:\n  a.yaml: {b64encode(inner.encode()).decode()}\nstringData:\n  b.yaml: |\n    "
    assert rules(outer + inner.replace("\n", "\n    ") + "\n") == []


# Plain


@pytest.mark.parametrize(
    ("text", "field"),
    [
        pytest.param(SECRET + "stringData: {a: b}\n", "stringData.a", id="stringData"),
        pytest.param(SECRET + "data: {a: Yg==}\n", "data.a", id="data"),
        pytest.param(SECRET + "stringData: {a: '', b: 5}\n", "stringData.b", id="a number"),
        pytest.param(SECRET + "? stringData\n: ? a\n  : b\n", "stringData.a", id="question marks"),
        pytest.param(SECRET + '"\\x73tringData": {a: b}\n', "stringData.a", id="an escape"),
        pytest.param(SECRET.replace("Secret", '"Secr\\x65t"') + "data: {a: Yg==}\n", "data.a", id="an escaped kind"),
        pytest.param(SECRET.replace("Secret", "!!str Secret") + "data: {a: Yg==}\n", "data.a", id="a tag"),
        pytest.param(SECRET.replace("v1", "&v v1") + "data: {a: *v}\n", "data.a", id="an alias"),
        pytest.param("x: &x {data: {a: b}}\n<<: *x\n" + SECRET, "<<.data.a", id="a merge key"),
        pytest.param(SECRET + "data: {<<: {a: b}}\n", "data.<<.a", id="a merge key below"),
        pytest.param("kind: Secret\ndata: {a: b}\n", "data.a", id="without apiVersion"),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  data: {a: b}\n",
            "items[0].data.a",
            id="in a List",
        ),
        pytest.param("apiVersion: v1\nkind: SecretList\nitems:\n- data: {a: b}\n", "items[0].data.a", id="SecretList"),
        pytest.param("- {kind: Secret, data: {a: b}}\n", "[0].data.a", id="in a list"),
        pytest.param(
            "kind: Template\napiVersion: v1\nobjects: [{kind: Secret, data: {a: b}}]", "objects[0].data.a", id="deep"
        ),
        pytest.param(
            "apiVersion: isindir.github.com/v1\nkind: SopsSecret\nspec: {secretTemplates: [{stringData: {a: b}}]}\n",
            "spec.secretTemplates[0].stringData.a",
            id="SopsSecret",
        ),
        pytest.param(
            "apiVersion: addons.projectcapsule.dev/v1alpha1\nkind: SopsSecret\nspec: {secrets: [{data: {a: b}}]}\n",
            "spec.secrets[0].data.a",
            id="SopsSecret of Capsule",
        ),
        pytest.param("secretGenerator:\n- literals: [a=b]\n", "secretGenerator[0].literals[0]", id="secretGenerator"),
        pytest.param(
            "kind: SecretGenerator\napiVersion: builtin\nliterals: [a=b]\n", "literals[0]", id="SecretGenerator"
        ),
        pytest.param(
            "patches:\n- patch: |\n    kind: Secret\n    data: {a: b}\n", "patches[0].patch: data.a", id="in a patch"
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata:\n  b: " + b64encode(b"kind: Secret\ndata: {a: b}").decode() + "\n",
            "data.b: data.a",
            id="in base64",
        ),
    ],
)
def test_a_plain_secret_is_found_wherever_it_is(text, field):
    (finding,) = judged(text).findings
    assert (finding.rule, finding.field, finding.severity) == ("PlainSecret", field, "error")


def test_a_plain_secret_is_found_in_json_and_behind_a_byte_order_mark():
    text = '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"},"string\\u0044ata":\n{"a":"b"}}'
    assert places(text, "s.json") == [("PlainSecret", 2, "stringData.a")]
    assert places(text, "s.yaml") == [("PlainSecret", 2, "stringData.a")]
    for encoding in ("utf-8-sig", "utf-16"):
        assert rules((SECRET + "data: {a: b}\n").encode(encoding)) == ["PlainSecret"]
    assert rules(b"\xfe\xff" + (SECRET + "data: {a: b}\n").encode("utf-16-be")) == ["PlainSecret"]


def test_a_finding_says_which_object_and_where_and_no_value():
    text = f"a: 1\n---\n{SECRET}stringData:\n  user: plain-of-user\n  password: plain-of-password\n"
    (finding,) = judged(text).findings
    assert (finding.line, finding.column, finding.index) == (9, 3, 1)
    assert finding.object == {"apiVersion": "v1", "kind": "Secret", "namespace": "prod", "name": "db"}
    assert finding.line_text() == "Secret/prod/db: stringData.user: a Secret with 2 values in plain text"


@pytest.mark.parametrize("name", ["Kptfile", "kustomization.yml", "Kustomization", "a/b.YAML", "x.json"])
def test_files_are_read_by_their_names(name):
    assert rules('{"kind": "Secret", "data": {"a": "b"}}', name) == ["PlainSecret"]


PLAIN = SECRET + "stringData: {a: plainplain}\n"


@pytest.mark.parametrize(
    "name", ["db.manifest", "db.txt", "db.yaml.bak", "db.j2", "db", "db.env", "db.ini", ".hidden", "db.md"]
)
@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"a: 1\n---\n{PLAIN}",
        f"# {PLAIN!r}\n{PLAIN}",
        PLAIN.replace("kind: Secret", '"k\\x69nd": "S\\u0065cret"'),
        PLAIN.replace("Secret", '"Sec\\\n  ret"'),
        PLAIN.replace("kind: Secret", "? kind\n: !!str Secret"),
        '{"kind": "Secret", "apiVersion": "v1", "data": {"a": "YQ=="}}',
        '[{"kind": "Secret", "apiVersion": "v1", "data": {"a": "YQ=="}}]',
        "{kind: Secret, data: {a: YQ==}}",
        f"{made.yaml(made.encrypted())}---\n{PLAIN}",
    ],
    ids=range(10),
)
def test_a_plain_secret_is_found_under_any_name(name, text):
    assert "PlainSecret" in rules(text, name)
    assert "PlainSecret" in rules(text.encode("utf-16"), name)


@pytest.mark.parametrize("name", ["notes.txt", "notes.md", "a.py", "db.sh"])
@pytest.mark.parametrize(
    "text",
    [
        "# About\n\nkind: Secret is what it is\n```yaml\n" + PLAIN + "```\n",
        'TEXT = """\n' + PLAIN + '"""\n',
        "kind: ConfigMap\nname: Secret\ndata: {a: b}\n",
        "kind: a\nkind: b\nSecret: {{ c }}\n",
        "cat <<end\n" + PLAIN + "end\n",
        made.yaml(made.encrypted()),
    ],
    ids=range(6),
)
def test_text_that_names_a_secret_and_is_no_manifest_passes(name, text):
    assert rules(text, name) == []


@pytest.mark.parametrize("name", ["db.yaml.j2", "db.tpl", "db.yaml.bak", "db.yml~", "db.json.orig"])
def test_what_looks_like_a_secret_and_cannot_be_read_is_a_warning(name):
    """A template, or a damaged copy: nobody knows what is in it."""
    for text in (PLAIN + "{% if a %}\n", PLAIN + "data: {{ a }}: b\n"):
        assert [(one.rule, one.severity) for one in judged(text, name).findings] == [("InvalidDocument", "warning")]
    assert rules("{% if a %}\nkind: SecretStore\n", name) == []


PATCHES = {
    "add": "- {op: add, path: /stringData/a, value: plainplain}",
    "add to data": "- {op: add, path: /data/a, value: plainplain}",
    "replace all": "- {op: replace, path: /stringData, value: {a: plainplain}}",
    "JSON": '[{"op": "add", "path": "/data/a", "value": "plainplain"}]',
    "merge": "stringData: {a: plainplain}",
    "merge under any name": "apiVersion: v1\nkind: any\nmetadata: {name: any}\ndata: {a: plainplain}",
    "merge of a Secret": PLAIN.rstrip(),
}
HARMLESS = {
    "labels": "- {op: add, path: /metadata/labels/data, value: x}",
    "remove": "- {op: remove, path: /stringData/a}",
    "empty": "- {op: add, path: /stringData/a, value: ''}",
    "delete": "kind: Secret\ndata: {$patch: delete}",
    "no YAML": "a: [",
}
TARGETS = ["{kind: Secret}", "{version: v1, kind: Secret, name: db}", "{kind: 'Secret|ConfigMap'}", "{kind: Se.*}"]


def inline(patch: str, target: str) -> dict[str, str]:
    """Kustomizations and other objects with a patch."""
    patches = f"patches:\n- target: {target}\n  patch: |\n    " + patch.replace("\n", "\n    ") + "\n"
    flux = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec:\n  "
    transformer = "apiVersion: builtin\nkind: PatchTransformer\n"
    return {
        "patches": patches,
        "patchesJson6902": patches.replace("patches:", "patchesJson6902:"),
        "Flux": flux + patches.replace("\n", "\n  ").rstrip(" "),
        "a transformer": transformer + patches.replace("patches:\n- ", "").replace("\n  patch:", "\npatch:"),
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_a_plain_value_that_an_inline_patch_gives_a_secret_is_found(patch, target):
    for text in inline(patch, target).values():
        (finding,) = judged(text, "kustomization.yaml").findings
        assert (finding.rule, finding.severity) == ("PlainSecret", "error")


@pytest.mark.parametrize("patch", HARMLESS.values(), ids=HARMLESS)
def test_a_patch_that_gives_a_secret_no_value_passes(patch):
    for text in inline(patch, TARGETS[0]).values():
        assert rules(text, "kustomization.yaml") == []


@pytest.mark.parametrize("name", ["add to data", "JSON", "merge under any name"])
def test_patches_of_other_kinds_pass(name):
    assert rules(inline(PATCHES[name], "{kind: ConfigMap}")["patches"]) == rules(PATCHES[name]) == []


def test_a_patch_of_stringdata_is_one_of_a_secret_whatever_its_target():
    """Nothing else has such a field."""
    assert rules(PATCHES["add"]) == ["PlainSecret"]


def test_an_inline_patch_of_operations_that_are_no_text_is_found():
    """As Flux has them in patchesJson6902."""
    text = f"spec:\n  patchesJson6902:\n  - target: {{kind: Secret}}\n    patch:\n    {PATCHES['add to data']}\n"
    assert places(text) == [("PlainSecret", 5, "spec.patchesJson6902[0].patch[0].value")]
    assert judged(text).findings[0].message == "a patch of a Secret with a value in plain text"


# Keys

KEYS = {
    "age": AGE,
    "age-pq": "AGE-SECRET-KEY-PQ-1" + AGE[16:],
    "plugin": "AGE-PLUGIN-YUBIKEY-1QQPQYZQZ8RYXHZCQ9Q5PS",
    "pem": PEM,
    "openssh": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAA\n",
    "rsa": "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0\n\nMIIEpAIBAAKCAQEA\n",
    "pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\nlQOYBF2abcdefghijklmnopqrstuv\n",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("expect", [ENCRYPTED, DECRYPTED])
def test_a_private_key_is_found_in_any_file(key, expect):
    """S11."""
    assert rules(f"# notes\n{key}", "notes.md", expect) == ["PrivateKey"]
    assert rules(b"\x00\xff\xfe" + key.encode() + b"\x80", "a.bin", expect) == ["PrivateKey"]
    assert "PrivateKey" in rules("a:\n  b: |\n    " + key.replace("\n", "\n    "), expect=expect)
    assert "PrivateKey" in rules(f'{{"a": "{key}"}}'.replace("\n", "\\n"), "a.json", expect)
    assert "PrivateKey" in rules("KEY=" + key.replace("\n", "\\n"), ".env", expect)
    assert "PrivateKey" in rules("a: " + b64encode(key.encode()).decode() + "\n", expect=expect)
    assert "PrivateKey" in rules("a: 1 # " + key.replace("\n", "\n# ") + "\n", expect=expect)
    padded = f"# made by hand, and so longer than this line would be\n{key}\n\n\n".encode()
    for whole in (b64encode(padded), b64encode(b64encode(padded)), encodebytes(padded), encodebytes(b64encode(padded))):
        encoded = whole.decode()
        assert rules(f"the key: {encoded}is it", "notes.md", expect) == ["PrivateKey"]
        assert "PrivateKey" in rules("\n".join(["a:", *(f"# {line}" for line in encoded.split())]), expect=expect)
        assert rules("a: |\n  # of sops\n  " + encoded.replace("\n", "\n  "), expect=expect) == ["PrivateKey"]
        assert rules(f'"a\\n{encoded.rstrip()}' + '"'.replace("\n", "\\n"), "a.py", expect) == ["PrivateKey"]
    assert rules(f"a: [\n{key}", expect=expect) == ["InvalidDocument", "PrivateKey"]


@pytest.mark.parametrize(
    "text",
    [
        "an age key looks like AGE-SECRET-KEY-1... and lives in keys.txt",
        "if b'-----BEGIN PGP PRIVATE KEY BLOCK-----' in data:\n    raise ValueError(data)\n",
        "-----BEGIN PRIVATE KEY-----\n<your key>\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n",
        "-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgy\n",
        "recipient: age1n4pgnnwdlc5v2cyv7ulepnxdlt9nvyfrprwq2u54hpxprt0m5swsh4aeep",
    ],
)
def test_what_names_or_resembles_a_key_is_none(text):
    assert rules(text, "notes.md") == []


def test_an_unarmored_openpgp_key_ring_is_found():
    ring = bytes.fromhex("95035804") + bytes(4) + b"\x01" + bytes(100)
    assert rules(ring, "secring.gpg") == ["PrivateKey"]
    assert rules(bytes.fromhex("c5c05804") + bytes(4) + b"\x16" + bytes(100), "x") == ["PrivateKey"]
    assert rules(bytes.fromhex("99035804") + bytes(4) + b"\x01" + bytes(100), "pubring.gpg") == []
    assert rules("a: " + b64encode(ring).decode() + "\n") == ["PrivateKey"]


def test_a_key_in_a_value_is_told_once_with_its_field_and_one_in_a_comment_beside_it_too():
    text = f"{SECRET}stringData:\n  k: |\n    {AGE}\n# {AGE}\n"
    assert places(text) == [
        ("PlainSecret", 7, "stringData.k"),
        ("PrivateKey", 7, "stringData.k"),
        ("PrivateKey", 9, ""),
    ]


def test_a_key_as_a_key_of_a_mapping_is_found():
    assert places(f"a:\n  {AGE}: x\n") == [("PrivateKey", 2, f"a.{AGE}")]
    assert AGE not in judged(f"a:\n  {AGE}: x\n").findings[0].line_text()


def test_our_own_config_with_a_key_in_it_is_found():
    config = "apiVersion: krm-sops.dev/v1alpha1\nkind: SopsDecrypt\nspec:\n  keys:\n  - value: "
    assert places(config + AGE) == [("PrivateKey", 5, "spec.keys[0].value")]


# Half encrypted


def changed(old: str, new: str, **options: object) -> list[str]:
    text = made.yaml(made.encrypted(**options))
    assert old in text
    return rules(text.replace(old, new, 1))


def test_a_plain_value_among_encrypted_ones_is_found_with_its_line():
    text = made.yaml(made.encrypted())
    at = text.index('"', text.index("password:"))
    text = text[:at] + '"plain"\n  more: 5\n' + text[text.index("\n", at) + 1 :]
    found = judged(text).findings
    assert [(one.rule, one.field) for one in found] == [
        ("PlaintextValue", "stringData.password"),
        ("PlaintextValue", "stringData.more"),
    ]
    assert [text.splitlines()[one.line - 1].split(":")[0].strip() for one in found] == ["password", "more"]


def test_annotations_that_kpt_and_kustomize_add_are_not_taken_for_plain_values():
    document = made.encrypted(encrypted_regex="^(data|stringData|annotations)$")
    document["metadata"]["annotations"] = {"config.kubernetes.io/index": "0", "mine": "x"}
    (finding,) = judged(made.yaml(document)).findings
    assert (finding.rule, finding.field) == ("PlaintextValue", "metadata.annotations.mine")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('kind: "Secret"', f'kind: "Secret"\nextra: "{SEALED}"', "StrayCiphertext"),
        (",tag:", ",gat:", "InvalidDocument"),
        ("ENC[AES256_GCM,data:", "ENC[AES256_GCM,plain,data:", "InvalidDocument"),
        (",type:str]", ",type:str]plain", "InvalidDocument"),
        ('mac: "ENC', 'mac: "enc', "MissingMac"),
        ('lastmodified: "2026-01-31T12:00:00Z"', "lastmodified: never", "InvalidMetadata"),
        ('"encrypted_regex": "^(data|stringData|spec)$"', 'encrypted_regex: "^(data"', "InvalidMetadata"),
        ('"encrypted_regex": "^(data|stringData|spec)$"', 'encrypted_regex: "a(?=b)"', "InvalidMetadata"),
        ("sops:", "pops:", "MissingMetadata"),
        ("sops:", "sops:\nother:", "InvalidMetadata"),
        ("sops:", "sops: 5\nother:", "InvalidMetadata"),
        ('kind: "Secret"', 'kind: "Secret"\nkind: Secret', "InvalidDocument"),
    ],
)
def test_a_damaged_document_is_found(old, new, expected):
    assert expected in changed(old, new)


def test_a_document_without_a_mac_or_without_keys_is_found():
    assert rules(made.yaml(made.encrypted(mac=None))) == ["MissingMac"]
    assert rules(made.yaml(made.encrypted(mac=""))) == ["MissingMac"]
    assert rules(made.yaml(made.encrypted(age=None))) == ["InvalidMetadata"]


def test_a_rule_that_leaves_values_of_a_secret_plain_is_found():
    text = f"{SECRET}stringData:\n  user: root\n  password: {SEALED}\n{BLOCK}".replace(
        "^(data|stringData|spec)$", "^password$"
    )
    (finding,) = judged(text).findings
    assert (finding.rule, finding.field) == ("WeakSelection", "stringData.user")
    assert finding.message == "encrypted_regex '^password$' leaves a value in plain text"


def test_a_value_left_plain_is_found_where_the_kind_itself_is_encrypted():
    """As `sops encrypt --unencrypted-suffix assword` leaves a Secret."""
    secret = SECRET.replace("v1", SEALED).replace("Secret", SEALED).replace("db", SEALED).replace("prod", SEALED)
    block = BLOCK.replace("encrypted_regex", "unencrypted_suffix").replace("^(data|stringData|spec)$", "assword")
    text = f"{secret}stringData:\n  user: {SEALED}\n  password: plainplain\n{block}"
    assert places(text) == [("WeakSelection", 8, "stringData.password")]
    assert rules(f"{secret}stringData:\n  password: plainplain\n") == ["MissingMetadata", "PlainSecret"]
    assert rules(text.replace("plainplain", "''")) == []


GARBLED = {
    "a short tag": SEALED.replace(SEALED[SEALED.index(",tag:") : SEALED.index(",type:")], ",tag:AAAA"),
    "a short iv": SEALED.replace(SEALED[SEALED.index(",iv:") : SEALED.index(",tag:")], ",iv:AAAA"),
    "both": f"ENC[AES256_GCM,data:{b64encode(b'plain').decode()},iv:AAAA,tag:AAAA,type:str]",
    "no data": SEALED.replace(SEALED[SEALED.index("data:") : SEALED.index(",iv:")], "data:"),
    "broken base64": SEALED.replace("data:", "data:A"),
    "another type": SEALED.replace("type:str", "type:text"),
    "text before it": f"fake {SEALED}",
}


@pytest.mark.parametrize("value", GARBLED.values(), ids=GARBLED)
def test_what_only_looks_like_ciphertext_is_found(value):
    text = f"{SECRET}stringData:\n  password: {value}\n{BLOCK}"
    assert set(rules(text)) <= {"InvalidDocument", "PlaintextValue", "WeakSelection"}
    assert places(text)[0][1:] == (7, "stringData.password")
    if value.startswith("ENC"):
        assert "MissingMac" in changed(made.encrypted()["sops"]["mac"], value)


@pytest.mark.parametrize("word", ["str", "int", "float", "bool", "bytes", "time", "comment"])
def test_ciphertext_of_every_type_passes(word):
    assert rules(f"{SECRET}stringData:\n  a: {SEALED.replace('type:str', 'type:' + word)}\n{BLOCK}") == []


def test_a_rule_that_chooses_nothing_is_found_unless_another_document_of_the_file_has_values():
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n{BLOCK}"
    assert [(one.rule, one.severity) for one in judged(namespace).findings] == [("WeakSelection", "warning")]
    settings = f"a: 1\n{BLOCK}"
    assert [(one.rule, one.severity) for one in judged(settings).findings] == [("WeakSelection", "error")]
    assert rules(f"{namespace}---\n{SECRET}stringData:\n  password: {SEALED}\n{BLOCK}") == []


def test_rules_by_comments_are_followed():
    lines = BLOCK.replace("encrypted_regex", "encrypted_comment_regex").replace("^(data|stringData|spec)$", "seal")
    good = f"# first\na: 1\n# seal this\nb: {SEALED}\nc:\n- 1\n# seal\n- {SEALED}\n"
    assert rules(good + lines) == []
    assert rules(good.replace("# seal this\n", "") + lines) == ["StrayCiphertext"]
    assert rules(good.replace("a: 1", "# seal\na: 1") + lines) == ["PlaintextValue"]
    assert rules("# seal\n" + good.replace("# first\n", "") + lines) == ["PlaintextValue"]


@pytest.mark.parametrize("name", ["s.env", "s.ini"])
def test_dotenv_and_ini_are_judged(name):
    block = "sops_lastmodified=2026-01-31T12:00:00Z\nsops_mac={}\nsops_version=3.13.3\n"
    block += "sops_age__list_0__map_recipient=age1x\nsops_age__list_0__map_enc=x\n"
    head = ""
    if name == "s.ini":
        head, block = "[a]\n", "[sops]\n" + block.replace("sops_", "")
    good = f"{head}# mine\nUSER={SEALED}\nPASSWORD={SEALED}\n{block.format(SEALED)}"
    assert rules(good, name) == []
    assert rules(good.replace(f"PASSWORD={SEALED}", "PASSWORD=x"), name) == ["PlaintextValue"]
    assert rules(good.replace(SEALED + "\n" + block.format(SEALED), SEALED), name) == ["MissingMetadata"]
    assert rules(good, name, DECRYPTED) == ["StillEncrypted"]
    assert rules(f"{head}A=1\n", name) == rules(f"{head}A=1\n", name, DECRYPTED) == []
    found = judged(good.replace(f"PASSWORD={SEALED}", "PASSWORD=x"), name).findings[0]
    assert good.splitlines()[found.line - 1].startswith("PASSWORD")


def test_a_document_of_the_binary_format_is_judged_under_any_name():
    document = made.encrypted({"data": "plain-of-file"}, encrypted_regex="^data$")
    import json

    text = json.dumps(document)
    assert rules(text, "tls.key") == []
    assert rules(text.replace('"mac"', '"cam"'), "tls.key") == ["MissingMac"]
    assert rules(text, "tls.key", DECRYPTED) == ["StillEncrypted"]


# Decrypted


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(made.yaml(made.encrypted()), id="a document"),
        pytest.param(f"{SECRET}stringData:\n  a: {SEALED}\n", id="without its block"),
        pytest.param(f"{SECRET}sops: {{mac: x}}\n", id="a block alone"),
        pytest.param(f"{SECRET}sops:\n", id="an empty block"),
        pytest.param(f'{SECRET}"\\x73ops": {{mac: x}}\n', id="an escaped block"),
        pytest.param(f'{SECRET}stringData: {{a: "EN\\x43[AES256_GCM,data:x"}}\n', id="an escaped value"),
        pytest.param(f"{SECRET}stringData: {{? {SEALED!r} : a}}\n", id="a key"),
        pytest.param(f"{SECRET}stringData:\n  a: b #{SEALED}\n", id="a comment"),
        pytest.param(f"{SECRET}data:\n  a: {b64encode(SEALED.encode()).decode()}\n", id="in base64"),
        pytest.param(f"{SECRET}stringData:\n  a: |\n    x: {SEALED}\n", id="a document in a value"),
        pytest.param(
            f"{SECRET}stringData:\n  a: 'x: {{\"\\u0073ops\": {{mac: y}}}}'\n".replace("x: ", ""),
            id="escaped in a value",
        ),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: X, sops: {mac: x}}\n", id="in a List"
        ),
        pytest.param(f"- {SEALED}\n", id="in a list"),
        pytest.param(SEALED, id="alone"),
    ],
)
def test_whatever_is_still_encrypted_is_found(text):
    assert "StillEncrypted" in rules(text, "s.yaml", DECRYPTED)


def test_a_decrypted_stream_passes_with_its_tls_and_ssh_keys():
    text = f"{SECRET}stringData:\n  tls.key: |\n    " + PEM.replace("\n", "\n    ").rstrip(" ")
    text += f'  config.json: \'{{"key": "{PEM!r}"}}\'\n'.replace("'\\n'", "").replace("\"'", '"').replace("'\"", '"')
    text += f"data:\n  tls.key: {b64encode(PEM.encode()).decode()}\n"
    assert rules(text, expect=DECRYPTED) == []
    assert rules(text.replace("Secret", "ConfigMap"), expect=DECRYPTED) == ["PrivateKey"] * 3
    assert rules(text + "# " + PEM.replace("\n", "\n# "), expect=DECRYPTED) == ["PrivateKey"]


def test_keys_of_sops_may_stand_in_a_key_secret_that_is_not_deployed_only():
    key = f"{SECRET}stringData:\n  a.agekey: {AGE}\n"
    assert rules(key, expect=DECRYPTED) == ["PrivateKey"]
    local = key.replace("  name: db", '  name: db\n  annotations: {config.kubernetes.io/local-config: "true"}')
    assert rules(local, expect=DECRYPTED) == []
    assert rules(local.replace('"true"', '"false"'), expect=DECRYPTED) == ["PrivateKey"]
    assert rules(local, expect=ENCRYPTED) == ["PlainSecret", "PrivateKey"]


def test_one_finding_an_object_says_how_much_is_left():
    (finding,) = judged(made.yaml(made.encrypted()), expect=DECRYPTED).findings
    assert finding.message == "2 encrypted values and a sops block"
    assert finding.field == "stringData.user"


@pytest.mark.parametrize("expect", [ENCRYPTED, DECRYPTED])
def test_a_masked_object_is_found(expect):
    text = made.yaml(made.PLAIN).replace("metadata:", 'metadata:\n  annotations: {"krm-sops.dev/m\\x61sked": "true"}')
    assert "Masked" in rules(text, expect=expect)


# What cannot be read


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"a: [", "s.yaml"),
        (b"a: b: c\n", "s.yaml"),
        (b"{{ if .Values.x }}\na: b\n{{ end }}", "s.yaml"),
        (b"a: *b\n", "s.yaml"),
        (b"a: \xff\xfe\n", "s.yaml"),
        (b"a: \x01\n", "s.yaml"),
        (b"\xff\xfea", "s.yaml"),
        (b"a: 1\na: 2\n", "s.yaml"),
        (b'{"a": 1, "a": 2}', "s.json"),
        (b'{"a": 1,}', "s.json"),
        (b"// a comment\n{}", "s.json"),
        (b"", "s.json"),
        (b"no assignment\nsops_mac=x", "s.env"),
        (b"[a\nsops", "s.ini"),
    ],
)
@pytest.mark.parametrize("expect", [ENCRYPTED, DECRYPTED])
def test_what_cannot_be_read_is_a_finding(text, name, expect):
    assert rules(text, name, expect) == ["InvalidDocument"]


def test_an_env_or_ini_file_of_another_dialect_passes_without_signs_of_sops():
    assert rules("set -a\nA=1\n", "x.env") == rules("[a\n", "x.ini") == []


def test_a_file_beyond_the_limits_is_a_finding():
    """S23."""
    gate = Gate(ENCRYPTED, FUNCTION.changed({"run_nodes": 100}))
    gate.file(b"a: [" + b"1," * 60 + b"1]\n", "a.yaml")
    assert [finding.rule for finding in gate.findings] == []
    gate.file(b"a: [" + b"1," * 60 + b"1]\n", "b.yaml")
    assert [(finding.rule, finding.file) for finding in gate.findings] == [("LimitExceeded", "b.yaml")]
    assert rules("a: " + "[" * 101 + "]" * 101) == ["LimitExceeded"]


# .sops.yaml


def wanted(text: str, name: str = "s.yaml", **rule: str) -> list[tuple[str, str]]:
    found = judged(text, name, wanted=Selection.from_fields(rule)).findings
    return [(one.rule, one.severity) for one in found]


def test_what_sops_yaml_wants_encrypted_is():
    assert wanted("password: x\n") == [("NotEncrypted", "error")]
    assert wanted("password: x\n", encrypted_regex="^password$") == [("NotEncrypted", "error")]
    assert wanted("user: x\n", encrypted_regex="^password$") == []
    assert wanted("A=1\n", "s.env") == [("NotEncrypted", "error")]
    assert wanted("anything", "key.pem") == [("NotEncrypted", "error")]
    assert wanted("{}", "key.pem") == [("NotEncrypted", "error")]
    assert wanted("", "key.pem") == wanted("", "s.yaml") == wanted("a:\n") == []
    assert wanted(made.yaml(made.encrypted())) == []


def test_an_object_that_is_no_secret_is_a_warning_and_a_plain_secret_is_told_once():
    assert wanted("apiVersion: apps/v1\nkind: Deployment\nspec: {a: b}\n") == [("NotEncrypted", "warning")]
    assert wanted(SECRET + "data: {a: b}\n", encrypted_regex="^data$") == [("PlainSecret", "error")]
    config_map = "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n"
    assert wanted(config_map, encrypted_regex="^data$") == []


def test_files_that_a_secretgenerator_reads_are_named_with_their_lines():
    text = "secretGenerator:\n- name: a\n  files:\n  - a.json=x/b\n  - c\n  envs: [d.env]\n  env: e.env\n"
    gate = Gate(ENCRYPTED, FUNCTION)
    found = gate.file(text.encode(), "kustomization.yaml")
    assert [(one.path, one.format_by, line) for one, line in found] == [
        ("x/b", "a.json", 3),
        ("c", "c", 3),
        ("d.env", "d.env", 6),
        ("e.env", "e.env", 7),
    ]
