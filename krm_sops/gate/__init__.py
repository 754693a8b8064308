"""The gate: what must not stand in a repository, or in what is deployed. It needs no key, and it never says a value."""

from __future__ import annotations

from krm_sops.errors import shown
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.tree import Node

ENCRYPTED, DECRYPTED = EXPECTATIONS = ("encrypted", "decrypted")
RULES = {
    "PlainSecret": (
        "A Secret whose values are not encrypted",
        "encrypt the file with `krm-sops encrypt --in-place`; if this was pushed, change the secret itself too",
    ),
    "PrivateKey": (
        "A private key",
        "take it out and replace the key: whoever has seen the file has it. Keys belong into a mounted folder",
    ),
    "PlaintextValue": (
        "Plain text where the document says that values are encrypted",
        "it was edited without sops: encrypt the document again, or take the value out of the encrypted part",
    ),
    "StrayCiphertext": (
        "Ciphertext where the document says that values are plain",
        "nothing will decrypt it: put it back where it was encrypted, or encrypt the document again",
    ),
    "WeakSelection": (
        "A rule of the document that leaves secret values in plain text",
        "widen the rule, such as encrypted_regex ^(data|stringData)$, and encrypt the document again",
    ),
    "MissingMetadata": (
        "Ciphertext without a sops block",
        "nothing can decrypt it: was the file cut off? restore it as it was encrypted",
    ),
    "InvalidMetadata": (
        "A sops block that cannot be used",
        "restore the block as sops wrote it, or encrypt the document again",
    ),
    "MissingMac": (
        "A sops block without a MAC",
        "nothing proves that the document is complete: encrypt it again",
    ),
    "NotEncrypted": (
        "A file that .sops.yaml wants encrypted, and that is not",
        "encrypt it, or make the path_regex of the creation rule narrower",
    ),
    "StillEncrypted": (
        "Ciphertext in what should be decrypted",
        "did every function run? kustomize skips one silently without --enable-alpha-plugins and --enable-exec",
    ),
    "Masked": (
        "An object whose values are masked",
        "its values are asterisks: take the object as it was before `krm-sops render --mask`",
    ),
    "InvalidDocument": (
        "A file that cannot be read, so that nothing is known about it",
        "repair it; where it is a template or of another format: --exclude",
    ),
    "LimitExceeded": (
        "A file larger than the limits",
        "split it, or raise the limit that the message names with --limit",
    ),
}
"""Rule -> what it finds, and what to do about it."""


class Finding:
    """line, column: from 1, 0 where unknown.  index: the document in its file.  field: a path in the document, or "".

    object: what of `subject` says which Kubernetes object it is about; empty for none.
    """

    __slots__ = ("column", "field", "file", "index", "line", "message", "object", "rule", "severity")

    def __init__(
        self, rule: str, message: str, *, field: str = "", subject: Node = None, severity: str = "error"
    ) -> None:
        assert rule in RULES
        self.rule = rule
        self.severity = severity
        self.message = message
        self.field = field
        self.object = reference(subject)
        self.file = ""
        self.index = self.line = self.column = 0

    @property
    def hint(self) -> str:
        return RULES[self.rule][1]

    def line_text(self) -> str:
        """What, and where in the document, for people."""
        named = "/".join(shown(self.object[key], 80) for key in ("kind", "namespace", "name") if key in self.object)
        field = shown(self.field, 200)
        return ": ".join(part for part in (named, field, self.message) if part)


def reference(node: Node) -> dict[str, str]:
    """apiVersion, kind, namespace and name, as far as they are there and not encrypted."""
    if not isinstance(node, Branch):
        return {}
    metadata = node.get("metadata")
    inner = metadata if isinstance(metadata, Branch) else Branch()
    fields = {
        "apiVersion": node.get("apiVersion"),
        "kind": node.get("kind"),
        "namespace": inner.get("namespace"),
        "name": inner.get("name"),
    }
    texts = {name: value for name, value in fields.items() if isinstance(value, str) and value}
    return {name: text for name, text in texts.items() if not text.startswith("ENC[")}
