"""Everything that can go wrong, one class per decision a caller can take.

::

    KrmSopsError            reason: the word for results[].tags.reason; hint: what to do next, or "";
    │                       exit_status: what the sops verbs exit with
    ├─ InputError           the bytes are not what they claim
    │  ├─ StoreError        a document that its format does not allow (line, column)
    │  ├─ MetadataError     a `sops` block that cannot be used
    │  │  └─ NoMetadata     there is none
    │  ├─ AlreadyEncrypted     what is to be encrypted has metadata
    │  ├─ EncryptedValueError  one value that is no usable ENC[...] (path)
    │  └─ ResourceListError    no ResourceList, or a broken one
    ├─ ConfigError          functionConfig, creation rule, flag or variable
    ├─ PolicyError          allowed by nobody who may allow it
    ├─ LimitError           larger, deeper or slower than the operator's limits
    ├─ PreviousRevisionUnavailable  an earlier state that cannot be had, or no longer be decrypted
    ├─ DataKeyError
    │  ├─ WrongKey          not for our keys; try the next, silently
    │  ├─ KeyUnavailable    ours, but it failed; try the next, and remember why
    │  └─ NoUsableKey       every group, every key, and why (attempts)
    └─ IntegrityError       stop at once
       ├─ TagMismatch       one value was altered or moved (path)
       └─ MacMismatch       values were added, removed, changed or reordered
       (MacUnverifiable is MacMismatch where an orchestrator may have caused it)

A message is one line, starts lower case, and never holds a plaintext, a key or a token. Foreign text in it
goes through `shown`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_PRIVATE_KEYS = ("AGE-SECRET-KEY-", "AGE-PLUGIN-", "PRIVATE KEY-----", "PRIVATE KEY BLOCK-----")


def shown(text: object, limit: int = 200) -> str:
    """Foreign text as one harmless piece of a line: controls, bidi and line separators escaped, cut at `limit`.

    A private key, which somebody put where a name belongs, is not shown at all.
    """
    raw = text if isinstance(text, str) else str(text)
    if any(mark in raw.upper() for mark in _PRIVATE_KEYS):
        return "(a private key)"
    return printable(raw[:limit]) + ("…" if len(raw) > limit else "")


def printable(text: str) -> str:
    """The text with everything escaped that could end a line or reach a terminal as a command."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


class KrmSopsError(Exception):
    reason = "Error"
    exit_status = 1

    def __init__(self, message: str, *, hint: str = "", path: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.path = tuple(path)

    @property
    def message(self) -> str:
        return str(self.args[0])


class InputError(KrmSopsError):
    reason = "InvalidDocument"


class StoreError(InputError):
    def __init__(self, message: str, *, line: int = 0, column: int = 0, hint: str = "") -> None:
        """line and column count from 1; 0 where unknown."""
        place = f"line {line}, column {column}: " if line else ""
        super().__init__(place + message, hint=hint)
        self.line = line
        self.column = column


class MetadataError(InputError):
    pass


class NoMetadata(MetadataError):
    def __init__(self) -> None:
        super().__init__("sops metadata not found", hint="this document is not encrypted, or its sops block is gone")


class AlreadyEncrypted(InputError):
    exit_status = 203


class EncryptedValueError(InputError):
    exit_status = 25


class ResourceListError(InputError):
    reason = "InvalidInput"


class ConfigError(KrmSopsError):
    reason = "InvalidConfig"


class PolicyError(KrmSopsError):
    reason = "PolicyDenied"


class LimitError(KrmSopsError):
    reason = "LimitExceeded"


class PreviousRevisionUnavailable(KrmSopsError):
    reason = "PreviousRevisionUnavailable"


class DataKeyError(KrmSopsError):
    exit_status = 128


class WrongKey(DataKeyError):
    reason = "NoUsableKey"


class KeyUnavailable(DataKeyError):
    reason = "KeyUnavailable"


class NoUsableKey(DataKeyError):
    reason = "NoUsableKey"

    def __init__(self, message: str, *, attempts: Sequence[str] = (), hint: str = "") -> None:
        """attempts: one line per key that was tried, each saying which key and why it did not open."""
        super().__init__(message, hint=hint)
        self.attempts = tuple(attempts)


class IntegrityError(KrmSopsError):
    pass


class TagMismatch(IntegrityError):
    reason = "TagMismatch"
    exit_status = 25


class MacMismatch(IntegrityError):
    reason = "MacMismatch"
    exit_status = 51


class MacUnverifiable(MacMismatch):
    reason = "MacUnverifiable"
