"""What each target starts from: vectors, examples, generated streams, and words of its format."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from h2.config import H2Configuration
from h2.connection import H2Connection

from fuzz.targets import FILES, ITEMS, PIECES, ROOT, RULES
from krm_sops.functions import FUNCTIONS
from krm_sops.keyservice import field
from krm_sops.stores import STORES
from tests import agefile, pgp_encoder
from tests.security import made
from tests.streams import VALUES, Maker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SUFFIXES = {"yaml": "yaml", "json": "json", "dotenv": "env", "ini": "ini", "binary": "bin"}
CONFIGS = {
    "SopsDecrypt": """\
metadata: {name: x}
spec:
  decryption: {provider: sops, secretRef: {name: sops-keys}}
  keys:
  - value: IDENTITY
  - env: SOPS_AGE_KEY
  ambient: never
  mac: auto
  strict: true
  selectors:
  - kind: Secret
    name: db
  exclude:
  - labels: {team: other}
  allowPlaintext: true
  include: [configMaps, sopsSecrets]
""",
    "SopsGenerator": """\
metadata: {name: g, annotations: {config.kubernetes.io/function: x}}
spec:
  files: [secret.yaml]
  secretFrom:
  - metadata: {name: s}
    type: Opaque
    files: [k=secret.json]
    binaryFiles: [secret.json]
    envs: [flat.yaml]
  decryption: {provider: sops, secretRef: {name: sops-keys}}
  allowPlaintext: false
""",
    "ksops": """\
metadata: {name: g}
files: [secret.yaml]
secretFrom:
- metadata: {name: s, labels: {a: b}}
  type: Opaque
  files: [k=secret.json]
  envs: [flat.yaml]
""",
    "SopsSecretGenerator": """\
metadata: {name: g}
envs: [flat.yaml]
files: [b=secret.json]
disableNameSuffixHash: true
behavior: merge
type: Opaque
""",
    "SopsEncrypt": """\
metadata: {name: x}
spec:
  creationRules:
  - age: RECIPIENT
    encrypted_regex: ^(data|stringData)$
  freshDataKey: onChange
  strict: true
""",
    "SopsTemplate": """\
metadata: {name: shop, namespace: prod}
spec:
  secrets:
  - file: values.yaml
    name: a
    values: {n: user}
  - secret: plain
  templates:
  - metadata: {name: c}
    kind: Secret
    stringData:
      u: x<SOPS:n:url>
    files: [t=a/t.tpl.yaml]
  items:
  - {kind: ConfigMap, name: c}
  allowConfigMap: true
  checksum: false
""",
    "SopsCheck": "metadata: {name: x}\nspec: {expect: decrypted, allowDisabled: true}\n",
    "StageSet": """\
metadata: {name: s, namespace: prod, annotations: {krm-sops.dev/sources: r=.}}
spec:
  stages:
  - name: one
    sourceRef: {kind: GitRepository, name: r}
    path: a
    patches:
    - patch: '[{op: replace, path: /data/t, value: x}]'
      target: {kind: ConfigMap}
    postBuild:
      substitute: {v: w}
      substituteFrom: [{kind: Secret, name: plain}]
  - name: two
    sourceRef: {kind: GitRepository, name: r}
    path: b
  dependsOn: [{name: other}]
  decryption: {provider: sops, secretRef: {name: sops-keys}}
""",
}
RULE_FILES = (
    FILES[".sops.yaml"],
    """\
creation_rules:
- path_regex: secrets/.*[.]env$
  key_groups:
  - age: [a]
    pgp: [B]
    merge: [{kms: [{arn: x, role: y, context: {a: b}}]}]
    azure_keyvault: [{vaultUrl: u, key: k, version: v}]
    hc_vault: [u]
    gcp_kms: [{resource_id: r}]
  shamir_threshold: 1
  unencrypted_suffix: _x
  mac_only_encrypted: true
- kms: arn:aws:kms:x
  aws_profile: p
  hc_vault_transit_uri: https://v/v1/t/keys/k
stores: {yaml: {indent: 2}}
destination_rules:
- path_regex: q
  s3_bucket: b
  s3_prefix: p
  recreation_rule: {pgp: A}
- vault_path: v
  vault_kv_version: 1
  omit_extensions: true
""",
)
POLICY = """\
mac: strict
ambient: never
strict: true
keySources: [config, folder]
keyFolder: /keys
root: /srv
readableRoots: [/srv]
hosts: ['https://*.amazonaws.com:443']
vaults: ['https://v:8200']
executables: [gpg, age-plugin-x]
limits: {depth: 50}
"""
PROVISION = """\
secrets:
  a:
    b: {type: process, value: {command: pass, arguments: [x], environment: {A: b}}}
  c: {type: script, value: {content: x}}
  d: {type: bitwarden, value: {item: i, field: f}}
  e: {type: one-password, value: {vault: v, item: i, field: f, section: s}}
  f: {type: ssh-key, value: {}}
  g: {type: random, value: {length: 5, alphabet: hex}}
  h: &a {type: file, value: {path: x}}
  i: *a
"""
GROUPS = {
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
TEMPLATES = (
    "user: <SOPS:user>\nurl: a:<SOPS:pass/word:url>@x\nn: <SOPS:number>\n",
    "a=<SOPS:user:shell>\n",
    '{"a": "<SOPS:on>"}',
)
PLAIN = (
    "# c\na: &x 1\nb: *x\nc:\n  - <<: {d: ~}\n  - |\n    t\n  - 2024-01-01 # e\n",
    '{"a":[1,null,{"b":1.5e3}]}',
    "# c\na=b\\nc\n",
    '; c\n[s]\na = "b"\n',
)
HTTP = (
    'HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Type: application/json\r\n\r\n{"a": 1}',
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
)
ORIGINS = ("path: a.yaml\n", "repo: x\npath: ../a\nref: b\n")
SUBSTITUTIONS = "${a}", "$${a:-${empty:=x}} ${a:1:2} ${a/b/c} ${a^^} ${#a} ${a##*x}"


def encoded(*found: str) -> list[bytes]:
    return [text.encode() for text in found]


def of_files(*patterns: str) -> list[bytes]:
    """Of tests/vectors and examples."""
    return [path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.is_file()]


def numbered(found: Iterable[bytes], count: int) -> list[bytes]:
    """Each behind a first byte that says something, of which there are `count`."""
    return [bytes([number]) + one for one in found for number in range(count)]


def configs() -> list[bytes]:
    kinds = list(FUNCTIONS)
    texts = {
        kind: text.replace("IDENTITY", made.IDENTITY).replace("RECIPIENT", made.RECIPIENT)
        for kind, text in CONFIGS.items()
    }
    return [bytes([kinds.index(kind) + many]) + texts[kind].encode() for kind in kinds for many in (0, len(kinds))]


def lists() -> list[bytes]:
    found = [Maker(seed).stream() for seed in range(150)]
    found += encoded(made.resource_list(*ITEMS, config=None), made.resource_list(made.encrypted()))
    return found + of_files("tests/vectors/krm/*.yaml", "examples/pipe/*.yaml")


def documents(name: str) -> list[bytes]:
    found = of_files(f"tests/vectors/stores/*.{SUFFIXES[name]}")
    if name == "yaml":
        found += of_files("tests/vectors/yaml/*.yaml")
    tree = {"a": "plain-of-a", "b": 5, "c_unencrypted": "x"}
    return found + encoded(made.json.dumps(made.document(tree)), made.yaml(made.encrypted()), *PLAIN)


def pieces() -> list[bytes]:
    """Lines, as `targets.spelled` spells them."""
    wanted = ("a", ": ", "1", "\n", "- ", "b", ": ", "\n  ", "sops", ": ", "{a: b}", " # d\n", "kind: Secret\n")
    return [bytes([0, *(PIECES.index(one) for one in wanted)]), bytes(range(len(PIECES)))]


def all_documents() -> list[bytes]:
    return [document for name in STORES for document in documents(name)]


def age_files() -> list[bytes]:
    wrapped = agefile.make([agefile.for_recipient(made.RECIPIENT)], b"plain-of-it")
    return [wrapped, made.WRAPPED.encode(), agefile.armor(wrapped, "\r\n")]


def identities() -> list[bytes]:
    ssh = Ed25519PrivateKey.from_private_bytes(bytes(32))
    openssh = ssh.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    lines = encoded(made.IDENTITY, f"# c\n{made.IDENTITY}\r\n", "AGE-PLUGIN-X-1")
    body = b64decode(b"".join(openssh.splitlines()[1:-1]))
    return [*lines, openssh, body, bytes(32), agefile.protected(made.IDENTITY.encode())]


def recipients() -> list[bytes]:
    ssh = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    line = ssh.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    rsa = b64decode("AAAAB3NzaC1yc2EAAAADAQABAAABAQ==") + bytes([255] * 257)
    return [made.RECIPIENT.encode(), line, b64decode(line.split()[1]), rsa, bytes(range(32)), b"age1x1"]


def messages() -> list[bytes]:
    keys = pgp_encoder.RsaKey(), pgp_encoder.EcdhKey()
    inside = pgp_encoder.literal()
    inner = [inside, pgp_encoder.packet(8, b"\2" + zlib.compress(inside)), pgp_encoder.partial_packet(11, inside)]
    return [*inner, *(pgp_encoder.message(key) for key in keys), *of_files("tests/vectors/pgp/*.msg")]


def answers() -> list[bytes]:
    """Of a key service: frames of HTTP/2 with a gRPC message; and requests."""
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    client = H2Connection()
    client.initiate_connection()
    client.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(1, b"\0\0\0\0\x04" + field(1, b"ab"))
    server.send_headers(1, [("grpc-status", "0"), ("grpc-message", "")], end_stream=True)
    keys = [field(number, field(1, b"a") + field(2, b"b") + field(3, b"c")) for number in range(1, 9)]
    return [server.data_to_send(), *keys]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "resource-list": lists,
    "readers": lists,
    "stream": lambda: ["---\n".join(ITEMS).encode(), *of_files("examples/*/*.yaml")],
    "function-config": configs,
    "original": lambda: [b64encode(bytes(16) + made.yaml(made.encrypted()).encode())],
    "origin": lambda: encoded(*(made.yaml(made.encrypted()) + "\0" + note for note in ORIGINS)),
    "values": lambda: numbered([str(value).encode("utf-8", "surrogatepass") for value in VALUES], 9),
    "embedded": all_documents,
    "round-trip": lambda: [
        bytes([at, rule]) + one for at, one in enumerate(all_documents()) for rule in range(len(RULES))
    ],
    "yaml-readers": lambda: [*documents("yaml"), *lists()],
    "yaml-pieces": pieces,
    "list-pieces": pieces,
    "metadata": lambda: encoded(made.yaml(made.encrypted()["sops"]), made.yaml(GROUPS)),
    "age-file": age_files,
    "age-identities": identities,
    "age-recipients": recipients,
    "pgp-message": messages,
    "pgp-keys": lambda: of_files("tests/vectors/pgp/*.asc"),
    "key-service": answers,
    "http": lambda: encoded(*HTTP),
    "rules": lambda: [*encoded(*RULE_FILES), *of_files("examples/*/.sops.yaml")],
    "policy": lambda: [POLICY.encode(), *of_files("deploy/argocd/*/policy.yaml")],
    "gate": lambda: numbered(all_documents(), 12),
    "template": lambda: numbered(encoded(*TEMPLATES), len(list(STORES)) + 1),
    "provision": lambda: [PROVISION.encode(), *of_files("examples/provision/*.spec.yaml")],
    "substitution": lambda: encoded(*SUBSTITUTIONS),
    "ignore": lambda: [b"# c\n*.env\n!a/**/b[a-z].yaml\n/x/\n\\!y\n", *of_files("examples/*/.krmignore")],
}


def seeds(target: str) -> list[bytes]:
    return documents(target.removeprefix("store-")) if target.startswith("store-") else SEEDS[target]()


YAML = (
    *("---\n", "...\n", "- ", ": ", "? ", "&a ", "*a", "<<: ", "|-\n", ">\n", "# ", "\n  ", "\n", "\t", "\r\n"),
    *("!!str ", "!!binary ", "!!int ", "!!merge ", "! ", "%YAML 1.1\n", "{", "}", "[", "]", '"', "'", "\\x"),
    *("\\u2028", "\u2028", "\x85", "\ufeff", "~", "null", "0x", "1e999", ".nan", "2024-01-01", "1_000", "="),
)
SOPS = (
    *("sops", "sops:\n", "mac: ", "lastmodified: ", "age:\n", "pgp:\n", "kms:\n", "key_groups:\n", "enc: "),
    *("shamir_threshold: ", "encrypted_regex: ", "unencrypted_suffix: ", "mac_only_encrypted: ", "recipient: "),
    *("version: ", "ENC[AES256_GCM,data:", ",iv:", ",tag:", ",type:str]", ",type:comment]", ",type:int]"),
    *("__list_0__map_", "__map_", "sops_mac=", "[sops]\n", "9223372036854775808"),
)
KRM = (
    *("apiVersion: ", "kind: ", "Secret", "ConfigMap", "ResourceList", "List", "items:\n", "functionConfig:\n"),
    *("metadata:\n", "name: ", "namespace: ", "annotations:\n", "spec:\n", "stringData:\n", "data:\n"),
    *("krm-sops.dev/decrypt: disabled", "config.kubernetes.io/path: ", "internal.config.kubernetes.io/index: "),
)
FORMS = ("<SOPS:", ":url>", ":json>", ":base64>", "${", ":-", ":=", "##", "%%", "^^", ",,", "//", "$$")
AGE = (
    *("age-encryption.org/v1\n", "-> X25519 ", "-> scrypt ", "-> ssh-ed25519 ", "--- ", "age1", "age1pq1"),
    *("-----BEGIN AGE ENCRYPTED FILE-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "AGE-PLUGIN-"),
    *("-----BEGIN RSA PRIVATE KEY-----\n", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"),
    *("ssh-rsa AAAAB3NzaC1yc2E", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"),
)
PGP = (
    *("-----BEGIN PGP MESSAGE-----\n\n", "-----END PGP MESSAGE-----\n", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n"),
    *("KBXf", "\xc1\xff", "\xd2\x10", "\x85\x01", "\x95\x01", "\xff\xff\xff\xff", "\xfe", "\xe1"),
)
FIELDS = {"rules": RULE_FILES, "policy": (POLICY,), "provision": (PROVISION,), "function-config": CONFIGS.values()}


def tokens(target: str) -> list[bytes]:
    """What a mutation may put in."""
    if target.startswith("pgp"):
        return [text.encode("latin-1") for text in PGP]
    if target.startswith("age"):
        return encoded(*AGE)
    if target.endswith("-pieces"):
        return []
    if target in ("substitution", "template"):
        return encoded(*FORMS, *YAML)
    words = {word for text in FIELDS.get(target, ()) for word in text.replace("{", " ").split() if word[-1] == ":"}
    return encoded(*YAML, *sorted(words), *(SOPS + KRM if not words or target == "function-config" else ()))
