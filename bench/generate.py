"""Write a ResourceList as kpt sends it: N items, of which P are Secrets that SOPS encrypted (for one age recipient).

    python -m bench.generate ITEMS ENCRYPTED >stream.yaml

An encoder of its own, so that the program under test is not what made its input. Keys are random and thrown away; the
identity stands in the functionConfig. Without Secrets there is no functionConfig either.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import textwrap
from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.cases import PLAINTEXT, VALUES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MODIFIED = "2026-01-31T12:00:00Z"

ANNOTATIONS = """\
    annotations:
      config.kubernetes.io/index: '0'
      config.kubernetes.io/path: '{path}'
      internal.config.kubernetes.io/index: '0'
      internal.config.kubernetes.io/path: '{path}'
      internal.config.kubernetes.io/seqindent: 'compact'
      internal.config.kubernetes.io/annotations-migration-resource-id: '{index}'
      internal.config.kubernetes.io/id: '{id}'
      config.k8s.io/id: '{id}'
"""

DEPLOYMENT = (
    """\
- apiVersion: apps/v1
  kind: Deployment
  metadata:
    name: {name}
    namespace: team-{team}
    labels:
      app.kubernetes.io/name: {name}
      app.kubernetes.io/part-of: shop
      app.kubernetes.io/managed-by: kpt
"""
    + ANNOTATIONS
    + """\
  spec:
    replicas: 3 # two zones and a spare
    revisionHistoryLimit: 2
    selector:
      matchLabels:
        app.kubernetes.io/name: {name}
    strategy:
      type: RollingUpdate
      rollingUpdate:
        maxSurge: 1
        maxUnavailable: 0
    template:
      metadata:
        labels:
          app.kubernetes.io/name: {name}
          app.kubernetes.io/part-of: shop
        annotations:
          prometheus.io/scrape: "true"
          prometheus.io/port: "9090"
      spec:
        serviceAccountName: {name}
        automountServiceAccountToken: false
        securityContext:
          runAsNonRoot: true
          runAsUser: 65532
          seccompProfile:
            type: RuntimeDefault
        containers:
        - name: main
          image: registry.example.com/shop/{name}:1.27.3@sha256:{digest}
          args: ["--listen=:8080", "--metrics=:9090", "--log-format=json", "--log-level=info"]
          env:
          - name: DATABASE_HOST
            value: postgres.team-{team}.svc.cluster.local
          - name: DATABASE_PASSWORD
            valueFrom:
              secretKeyRef:
                name: {name}
                key: database-password
          # set by the node, not by us
          - name: POD_IP
            valueFrom:
              fieldRef:
                fieldPath: status.podIP
          ports:
          - name: http
            containerPort: 8080
          - name: metrics
            containerPort: 9090
          readinessProbe:
            httpGet:
              path: /healthz
              port: http
            periodSeconds: 5
          resources:
            requests:
              cpu: 100m
              memory: 128Mi
            limits:
              memory: 256Mi
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: ["ALL"]
          volumeMounts:
          - name: tmp
            mountPath: /tmp
        volumes:
        - name: tmp
          emptyDir: {{}}
"""
)

SECRET = (
    """\
- apiVersion: v1
  kind: Secret
  metadata:
    name: {name}
    namespace: team-{team}
"""
    + ANNOTATIONS
    + """\
  type: Opaque
  stringData:
{values}
  sops:
{keys}
    encrypted_regex: ^(data|stringData)$
    lastmodified: "{modified}"
    mac: {mac}
    version: 3.13.3
"""
)

AGE = """\
    age:
    - enc: |
{wrapped}
      recipient: {recipient}"""

CONFIG = """\
functionConfig:
  apiVersion: v1
  kind: Secret
  metadata:
    name: sops-keys
  stringData:
    bench.agekey: {identity}
"""


def bech32(prefix: str, payload: bytes) -> str:
    """BIP 173, with the checksum constant that age uses."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = "".join(f"{byte:08b}" for byte in payload)
    bits += "0" * (-len(bits) % 5)
    digits = [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    state = 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *digits, *[0] * 6]:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= generator if top >> bit & 1 else 0
    digits += [(state ^ 1) >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join(alphabet[digit] for digit in digits)


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and one block of output."""
    return hmac.digest(hmac.digest(salt or bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def raw(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def unpadded(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def age_armored(plain: bytes, identity: X25519PrivateKey) -> str:
    """age-encryption.org/v1 for one X25519 recipient, armored. plain: less than one chunk (64 KiB)."""
    file_key = os.urandom(16)
    ephemeral = X25519PrivateKey.generate()
    salt = raw(ephemeral) + raw(identity)
    wrap_key = hkdf(ephemeral.exchange(identity.public_key()), salt, b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(wrap_key).encrypt(bytes(12), file_key, None)
    header = b"age-encryption.org/v1\n-> X25519 %s\n%s\n---" % (unpadded(raw(ephemeral)), unpadded(body))
    mac = hmac.digest(hkdf(file_key, b"", b"header"), header, "sha256")
    nonce = os.urandom(16)
    payload = ChaCha20Poly1305(hkdf(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\x01", plain, None)
    lines = textwrap.wrap(b64encode(header + b" " + unpadded(mac) + b"\n" + nonce + payload).decode(), 64)
    return "\n".join(["-----BEGIN AGE ENCRYPTED FILE-----", *lines, "-----END AGE ENCRYPTED FILE-----"])


def encrypted(data_key: bytes, plain: str, aad: str) -> str:
    """One value as SOPS writes it: a nonce of 32 bytes, the tag apart."""
    nonce = os.urandom(32)
    sealed = AESGCM(data_key).encrypt(nonce, plain.encode(), aad.encode())
    data, iv, tag = (b64encode(part).decode() for part in (sealed[:-16], nonce, sealed[-16:]))
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:str]"


def secret(name: str, team: int, wrap: Callable[[bytes], str], **place: object) -> str:
    data_key = os.urandom(32)
    plain = {f"value-{number}": PLAINTEXT + os.urandom(12).hex() for number in range(VALUES)}
    covered = "".join(["v1", "Secret", name, f"team-{team}", "Opaque", *plain.values()])
    mac = hashlib.sha512(covered.encode()).hexdigest().upper()
    return SECRET.format(
        name=name,
        team=team,
        values="\n".join(f"    {key}: {encrypted(data_key, plain[key], f'stringData:{key}:')}" for key in plain),
        keys=wrap(data_key),
        modified=MODIFIED,
        mac=encrypted(data_key, mac, MODIFIED),
        **place,
    )


def resource_list(items: int, secrets: int, wrap: Callable[[bytes], str], config: str = "") -> str:
    """wrap: from a data key to the lines of a ``sops`` block that say who can open it."""
    parts = ["apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n"]
    for index in range(items):
        name, team = f"service-{index:04}", index % 7
        place = {"path": f"team-{team}/{name}.yaml", "index": index, "id": index + 1}
        if (index + 1) * secrets // items > index * secrets // items:  # spread evenly
            parts.append(secret(name, team, wrap, **place))
        else:
            digest = hashlib.sha256(name.encode()).hexdigest()
            parts.append(DEPLOYMENT.format(name=name, team=team, digest=digest, **place))
    return "".join([*parts, config])


def for_age(items: int, secrets: int) -> str:
    identity = X25519PrivateKey.generate()
    recipient = bech32("age", raw(identity))

    def wrap(data_key: bytes) -> str:
        return AGE.format(wrapped=textwrap.indent(age_armored(data_key, identity), " " * 8), recipient=recipient)

    config = CONFIG.format(identity=bech32("age-secret-key-", identity.private_bytes_raw()).upper())
    return resource_list(items, secrets, wrap, config if secrets else "")


if __name__ == "__main__":
    sys.stdout.write(for_age(int(sys.argv[1]), int(sys.argv[2])))
