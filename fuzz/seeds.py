"""What each target starts from: vectors, examples, generated streams, and words of its format."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from fuzz.targets import FILES, ITEMS, ROOT, RULES
from krm_sops.functions import FUNCTIONS
from krm_sops.stores import STORES
from tests import agefile, pgp_encoder
from tests.security import made
from tests.streams import Maker

if TYPE_CHECKING:
    from collections.abc import Iterable

TESTS = ROOT / "tests"
SUFFIXES = {"yaml": "yaml", "json": "json", "dotenv": "env", "ini": "ini", "binary": "bin"}
CONFIGS = {
    "SopsDecrypt": (
        f"metadata: {{name: x, namespace: prod}}\nspec:\n  keys:\n  - value: {made.IDENTITY}\n  - file: key.txt\n"
        "  - env: SOPS_AGE_KEY\n  ambient: never\n  mac: auto\n  strict: true\n"
        "  selectors:\n  - kind: Secret\n    name: db\n  exclude:\n  - labels: {team: other}\n  allowPlaintext: true\n"
        "  include: [configMaps, sopsSecrets]\n  needsHash: true\n  keepOriginal: true\n",
    ),
    "SopsGenerator": (
        "metadata: {name: g}\nspec:\n  files: [secret.yaml]\n  secretFrom:\n  - metadata: {name: s}\n    files: [k=secret.json]\n"
        "    envs: [flat.yaml]\n  configMapFrom: []\n  keys: [{file: key.txt}]\n",
        "spec:\n  decryption: {provider: sops, secretRef: {name: sops-keys}}\n  files: [secret.yaml]\n",
    ),
    "ksops": (
        "metadata: {name: g}\nfiles: [secret.yaml]\n",
        "metadata: {name: g}\nsecretFrom:\n- metadata: {name: s}\n  type: Opaque\n  files: [k=secret.json]\n"
        "  envs: [flat.yaml]\n  binaryFiles: [key.txt]\n",
    ),
    "SopsSecretGenerator": (
        "metadata: {name: g}\nenvs: [flat.yaml]\nfiles: [b=secret.json]\ndisableNameSuffixHash: true\nbehavior: merge\n",
    ),
    "SopsEncrypt": (
        "metadata: {name: x}\nspec:\n  creationRules:\n"
        f"  - age: {made.RECIPIENT}\n    encrypted_regex: ^(data|stringData)$\n  freshDataKey: onChange\n  strict: true\n",
    ),
    "SopsTemplate": (
        "metadata: {name: shop, namespace: prod}\nspec:\n  secrets:\n  - file: values.yaml\n    name: a\n    values: {n: user}\n"
        "  - secret: plain\n  templates:\n  - metadata: {name: c}\n    kind: Secret\n    stringData:\n      u: x<SOPS:n:url>\n"
        "    files: [t=a/t.tpl.yaml]\n  items:\n  - {kind: ConfigMap, name: c}\n  allowConfigMap: true\n  checksum: false\n",
    ),
    "SopsCheck": ("metadata: {name: x}\nspec: {expect: decrypted, allowDisabled: true}\n",),
    "StageSet": (
        "metadata: {name: s, namespace: prod}\nspec:\n  sourceRef: {kind: GitRepository, name: r}\n  interval: 5m\n  stages:\n"
        "  - name: one\n    sourceRef: {kind: GitRepository, name: r}\n    path: a\n    wait: true\n    dependsOn: [{name: two}]\n    patches:\n    - patch: |\n"
        "        - {op: replace, path: /data/t, value: x}\n      target: {kind: ConfigMap}\n"
        "    postBuild: {substitute: {v: w}, substituteFrom: [{kind: Secret, name: plain}]}\n  - name: two\n    sourceRef: {kind: GitRepository, name: r}\n    path: b\n"
        "  decryption: {provider: sops, secretRef: {name: sops-keys}}\n",
    ),
}
BLOCK = made.yaml(made.encrypted()["sops"])
GROUPS = made.yaml(
    {
        "shamir_threshold": 2,
        "key_groups": [
            {"age": [{"recipient": made.RECIPIENT, "enc": made.WRAPPED}], "hc_vault": []},
            {"kms": [{"arn": "arn:aws:kms:eu-west-1:111122223333:key/x", "context": {"a": "b"}, "enc": "x"}]},
            {"gcp_kms": [{"resource_id": "projects/p/locations/l/keyRings/k/cryptoKeys/c", "enc": "eA=="}]},
            {"azure_kv": [{"vault_url": "https://v.vault.azure.net", "name": "n", "version": "v", "enc": "eA"}]},
            {"hc_vault": [{"vault_address": "https://v", "engine_path": "t", "key_name": "k", "enc": "vault:v1:x"}]},
            {"hckms": [{"key_id": "r:k", "enc": "x"}]},
            {"pgp": [{"fp": "A" * 40, "enc": "-----BEGIN PGP MESSAGE-----\n\nhQ==\n-----END PGP MESSAGE-----"}]},
        ],
        "lastmodified": made.MODIFIED,
        "mac": "",
        "mac_only_encrypted": True,
        "encrypted_regex": "^a$",
        "version": "3.13.3",
    }
)
RULE_FILES = (
    FILES[".sops.yaml"],
    "creation_rules:\n- path_regex: secrets/.*\\.env$\n  key_groups:\n  - age: [a]\n    pgp: [B]\n    merge: [{kms: [{arn: x, role: y, "
    "context: {a: b}}]}]\n    azure_keyvault: [{vaultUrl: u, key: k, version: v}]\n    hc_vault: [u]\n    gcp_kms: [{resource_id: r}]\n"
    "  shamir_threshold: 1\n  unencrypted_suffix: _x\n  mac_only_encrypted: true\n",
    "creation_rules:\n- kms: arn:aws:kms:x\n  aws_profile: p\n  hc_vault_transit_uri: https://v/v1/t/keys/k\nstores: {yaml: {indent: 2}}\n"
    "destination_rules:\n- path_regex: q\n  s3_bucket: b\n  s3_prefix: p\n  recreation_rule: {pgp: A}\n- vault_path: v\n"
    "  vault_kv_version: 1\n  omit_extensions: true\n",
)
POLICY = (
    "mac: strict\nambient: never\nstrict: true\nkeySources: [config, folder]\nkeyFolder: /keys\nroot: /srv\nreadableRoots: [/srv]\n"
    "hosts: ['https://*.amazonaws.com:443']\nvaults: ['https://v:8200']\nexecutables: [gpg, age-plugin-x]\nlimits: {depth: 50}\n"
)
PROVISION = (
    "secrets:\n  a:\n    b: {type: process, value: {command: pass, arguments: [x], environment: {A: b}}}\n  c: {type: script, value: {content: x}}\n"
    "  d: {type: bitwarden, value: {item: i, field: f}}\n  e: {type: one-password, value: {vault: v, item: i, field: f, section: s}}\n"
    "  f: {type: ssh-key, value: {}}\n  g: {type: random, value: {length: 5, alphabet: hex}}\n  h: &a {type: file, value: {path: x}}\n  i: *a\n"
)
TEMPLATES = ("user: <SOPS:user>\nurl: a:<SOPS:pass/word:url>@x\nn: <SOPS:number>\n", "a=<SOPS:user:shell>\n", '{"a": "<SOPS:on>"}')
PLAIN = ("# c\na: &x 1\nb: *x\nc:\n  - <<: {d: ~}\n  - |\n    t\n  - 2024-01-01 # e\n", '{"a":[1,null,{"b":1.5e3}]}', "# c\na=b\\nc\n", "; c\n[s]\na = \"b\"\n")


def texts(*found: str) -> list[bytes]:
    return [text.encode() for text in found]


def of_files(*patterns: str) -> list[bytes]:
    """Of tests/vectors and examples."""
    return [path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.is_file()]


def numbered(found: Iterable[bytes], count: int) -> list[bytes]:
    """Each behind a first byte that says something, of which there are `count`."""
    return [bytes([number]) + one for one in found for number in range(count)]


def configs() -> list[bytes]:
    kinds = list(FUNCTIONS)
    pairs = [(kinds.index(kind), text) for kind, found in CONFIGS.items() for text in found]
    return [bytes([number + other]) + text.encode() for number, text in pairs for other in (0, len(kinds))]


def lists() -> list[bytes]:
    found = [Maker(seed).stream() for seed in range(150)]
    found += [made.resource_list(*ITEMS, config=None).encode(), made.resource_list(made.encrypted()).encode()]
    return found + of_files("tests/vectors/krm/*.yaml", "examples/pipe/*.yaml")


def documents(name: str) -> list[bytes]:
    found = of_files(f"tests/vectors/stores/*.{SUFFIXES[name]}", *(["tests/vectors/yaml/*.yaml"] if name == "yaml" else []))
    tree = {"a": "plain-of-a", "b": 5, "c_unencrypted": "x"}
    return found + texts(made.json.dumps(made.document(tree)), made.yaml(made.encrypted()), *PLAIN)


def keys() -> list[bytes]:
    ssh = "".join(FILES)  # (no SSH key here: those of the vectors below)
    return [*texts(made.IDENTITY, f"# c\n{made.IDENTITY}\r\n", "AGE-PLUGIN-X-1", ssh), agefile.protected(made.IDENTITY.encode())]


def seeds(target: str) -> list[bytes]:
    rsa = pgp_encoder.RsaKey()
    ecdh = pgp_encoder.EcdhKey()
    trees = [document for name in STORES for document in documents(name)]
    wrapped = agefile.make([agefile.for_recipient(made.RECIPIENT)], b"plain-of-it")
    known = {
        "resource-list": lists,
        "readers": lists,
        "stream": lambda: [b"---\n".join(item.encode() for item in ITEMS), *of_files("examples/*/*.yaml")],
        "function-config": configs,
        "original": lambda: [b64encode(bytes(16) + made.yaml(made.encrypted()).encode())],
        "origin": lambda: [made.yaml(made.encrypted()).encode() + b"\0path: a.yaml\n", b"\0repo: x\npath: ../a\nref: b\n"],
        "embedded": lambda: trees,
        "round-trip": lambda: [bytes([at, rule]) + one for at, one in enumerate(trees) for rule in range(len(RULES))],
        "yaml-readers": lambda: [*documents("yaml"), *lists()],
        "metadata": lambda: texts(BLOCK, GROUPS),
        "age-file": lambda: [wrapped, made.WRAPPED.encode(), agefile.armor(wrapped, "\r\n")],
        "age-identities": keys,
        "age-recipients": lambda: texts(made.RECIPIENT, *(f"{kind} " for kind in ("ssh-ed25519", "ssh-rsa")), "age1x1"),
        "pgp-message": lambda: [
            *(pgp_encoder.message(key) for key in (rsa, ecdh)), *of_files("tests/vectors/pgp/*.msg")
        ],
        "pgp-keys": lambda: of_files("tests/vectors/pgp/*.asc"),
        "rules": lambda: [*texts(*RULE_FILES), *of_files("examples/*/.sops.yaml")],
        "policy": lambda: [*texts(POLICY), *of_files("deploy/argocd/*/policy.yaml")],
        "gate": lambda: numbered(trees, 12),
        "template": lambda: numbered(texts(*TEMPLATES), 6),
        "provision": lambda: [*texts(PROVISION), *of_files("examples/provision/*.spec.yaml")],
        "substitution": lambda: texts("${a}", "$${a:-${empty:=x}} ${a:1:2} ${a/b/c} ${a^^} ${#a} ${a##*x}"),
    }  # fmt: skip
    if target.startswith("store-"):
        return documents(target.removeprefix("store-"))
    return known[target]()


_YAML = ("---\n", "...\n", "- ", ": ", "? ", "&a ", "*a", "!!str ", "!!binary ", "!!int ", "!!merge ", "<<: ", "|-\n", ">\n", "# ", "\n  ", "\n", "{", "}", "[", "]", '"', "'", "\\x", "\\u2028", "\u2028", "\x85", "\ufeff", "\t", "\r\n", "%YAML 1.1\n", "~", "null", "0x", "1e999", ".nan", "2024-01-01", "1_000", "=")  # fmt: skip  # noqa: E501
_SOPS = ("sops", "sops:\n", "mac: ", "lastmodified: ", "age:\n", "pgp:\n", "kms:\n", "key_groups:\n", "shamir_threshold: ", "encrypted_regex: ", "unencrypted_suffix: ", "mac_only_encrypted: ", "enc: ", "recipient: ", "version: ", "ENC[AES256_GCM,data:", ",iv:", ",tag:", ",type:str]", ",type:comment]", ",type:int]", "__list_0__map_", "__map_", "sops_mac=", "[sops]\n", "9223372036854775808")  # fmt: skip  # noqa: E501
_KRM = ("apiVersion: ", "kind: ", "Secret", "ConfigMap", "ResourceList", "List", "items:\n", "functionConfig:\n", "metadata:\n", "name: ", "namespace: ", "annotations:\n", "spec:\n", "stringData:\n", "data:\n", "krm-sops.dev/decrypt: disabled", "config.kubernetes.io/path: ", "internal.config.kubernetes.io/index: ", "config.kubernetes.io/local-config: ")  # fmt: skip  # noqa: E501
_FORMS = ("<SOPS:", ":url>", ":json>", ":base64>", "${", ":-", ":=", "##", "%%", "^^", ",,", "//", "$$")
_AGE = ("age-encryption.org/v1\n", "-> X25519 ", "-> scrypt ", "-> ssh-ed25519 ", "--- ", "-----BEGIN AGE ENCRYPTED FILE-----\n", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1", "AGE-PLUGIN-", "age1", "age1pq1", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\n", "ssh-rsa AAAAB3NzaC1yc2E", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5")  # fmt: skip  # noqa: E501
_PGP = ("-----BEGIN PGP MESSAGE-----\n\n", "-----END PGP MESSAGE-----\n", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n", "KBXf", "\xc1\xff", "\xd2\x10", "\x85\x01", "\x95\x01", "\xff\xff\xff\xff", "\xfe", "\xe1")  # fmt: skip  # noqa: E501


def tokens(target: str) -> list[bytes]:
    """What a mutation may put in."""
    if target.startswith("pgp"):
        return [text.encode("latin-1") for text in _PGP]
    if target.startswith("age"):
        return texts(*_AGE)
    if target in ("substitution", "template"):
        return texts(*_FORMS, *_YAML)
    own = {"rules": RULE_FILES, "policy": (POLICY,), "provision": (PROVISION,)}.get(target, ())
    if target == "function-config":
        own = tuple(text for found in CONFIGS.values() for text in found)
    words = {word for text in own for word in text.replace(",", " ").replace("{", " ").split() if word.endswith(":")}
    return texts(*_YAML, *_SOPS, *(_KRM if target not in ("rules", "policy", "provision") else ()), *sorted(words))
