"""What the verbs that change encrypted files share: read one, open it, encrypt it again, wrap its data key again.

Differs from sops:
- Nothing is written that would not open: what was encrypted is decrypted once, and where only keys change, what was
  written is read once. A file that is overwritten must also open under its own name.
- A file whose format is named with --input-type stays in that format, unless --output-type names another. sops writes
  the one that its name says.
Source: getsops/sops 3.13, cmd/sops/main.go, cmd/sops/common/common.go.
"""

from __future__ import annotations

from time import gmtime, strftime

from krm_sops import cli
from krm_sops.datakey import recover, wrapped
from krm_sops.document import EncryptedDocument
from krm_sops.encryption import Carried, encrypted_file, is_same, shares
from krm_sops.errors import ConfigError, KrmSopsError, MacMismatch, NoMetadata, StoreError, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.metadata import VERSION, Metadata
from krm_sops.recipients import RecipientDrift, drift
from krm_sops.rules import NoMatchingRule, absolute
from krm_sops.stores import STORES, format_for_path
from krm_sops.verbs import creation, files, keys
from krm_sops.verbs.decrypt import check_version, decryption_order
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, Arguments, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.cipher import DataKey
    from krm_sops.keys.base import MasterKey
    from krm_sops.rules import Rule
    from krm_sops.tree import Branch

OPEN_FLAGS = {
    "input-type": VALUE,
    "decryption-order": VALUE,
    "indent": VALUE,
    "config": VALUE,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
OPEN_HELP = f"""\
  --input-type FORMAT    yaml, json, dotenv, ini or binary, whatever the file's name says
  --indent N             spaces a level of YAML and JSON; -1 is a tab, for JSON. Default: that of .sops.yaml
  --config FILE          that file instead of the nearest .sops.yaml, from the working folder upward; also SOPS_CONFIG
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
{KEY_HELP}{keys.SERVICE_HELP}"""
"""What every verb takes that opens an encrypted file and writes it again."""
FLAGS = {"output-type": VALUE, "ignore-mac": SWITCH, **OPEN_FLAGS}
HELP = f"""\
  --output-type FORMAT   the format of the result; default: that of the file
  --ignore-mac           go on although values may have been added, removed or reordered
{OPEN_HELP}"""
"""What the verbs take that decrypt its values."""

DRIFT_HINT = (
    "the sops block is not authenticated, so anybody could have put that there: look at it with `explain`, "
    "bring recipients in step with `updatekeys`, or change the rule"
)


class EncryptedFile:
    """path: as it was given.  source: its format.  wanted: that of the result."""

    __slots__ = ("branches", "metadata", "path", "source", "wanted")

    def __init__(self, path: str, source: str, wanted: str, branches: list[Branch], metadata: Metadata) -> None:
        self.path = path
        self.source = source
        self.wanted = wanted
        self.branches = branches
        self.metadata = metadata


class Session:
    """One run of a verb: its flags, the keys at hand, and `.sops.yaml`."""

    def __init__(self, given: Arguments) -> None:
        """Raises UsageError, ConfigError, PolicyError."""
        self.given = given
        self._said: set[str] = set()
        warnings: list[str] = []
        self.credentials = keys.credentials(given, warnings)
        self._warn_all(warnings)
        self.host = self.credentials.host
        self.rules = creation.rules_for(given, self.host, self.warn)
        self.order = decryption_order(given)
        self._indent = creation.integer(given, "indent")

    def warn(self, text: str) -> None:
        """Each warning once a run."""
        if text not in self._said:
            self._said.add(text)
            cli.say(f"warning: {text}")

    def _warn_all(self, warnings: list[str]) -> None:
        for warning in warnings:
            self.warn(warning)

    def absolute(self, path: str) -> str:
        return absolute(path, self.host)

    def formats(self, name: str) -> tuple[str, str]:
        """The format of a file of this name, and that of the result."""
        source = self.given.text("input-type") if self.given.text("input-type") in STORES else format_for_path(name)
        return source, self.given.text("output-type") if self.given.text("output-type") in STORES else source

    def indent(self, wanted: str) -> int | None:
        """wanted: a format."""
        if self._indent is None and self.rules is not None:
            return self.rules.indents.get(wanted)
        return self._indent

    def read(self, path: str, *, name: str = "") -> EncryptedFile:
        """name: what the format follows from.  Raises FileError (exit 2), StoreError, MetadataError, LimitError."""
        source, wanted = self.formats(name or path)
        branches, block = STORES[source].read(files.read(path if path != "-" else "./-", missing=2))
        if block is None:
            raise NoMetadata
        metadata = Metadata.from_branch(block, SOPS_VERBS.key_entries)
        check_version(metadata.version)
        return EncryptedFile(path, source, wanted, branches, metadata)

    def data_key(self, metadata: Metadata) -> DataKey:
        """Raises NoUsableKey, UsageError, ConfigError."""
        asked = copied(metadata)
        warnings: list[str] = []
        keys.serve(asked, self.given, warnings)
        self._warn_all(warnings)
        return recover(asked, self.credentials, self.order)

    def open(self, file: EncryptedFile) -> tuple[DataKey, Carried]:
        """The data key, and what the file holds.

        Raises NoUsableKey, EncryptedValueError, IntegrityError; MacMismatch not with --ignore-mac.
        """
        data_key = self.data_key(file.metadata)
        document = EncryptedDocument(file.branches, file.metadata)
        ignored = self.given.on("ignore-mac")
        plain, opened = document.decrypt(data_key, ignore_mac=ignored)
        if opened.unopened:
            what = f"{len(opened.unopened)} comments do not fit their tags and stay encrypted"
            self.warn(f"{files.named(file.path)}: {what}")
        holds = True
        if ignored:
            try:
                document.verify(opened, data_key)
            except MacMismatch:
                holds = False
        return data_key, Carried(document, plain, verified=holds)

    def wrap(self, metadata: Metadata, data_key: bytes) -> None:
        """Put all keys of `metadata` around a data key. Raises KeyUnavailable, ConfigError (exit 1)."""
        if not metadata.key_groups:
            raise ConfigError("no key group would be left: nobody could decrypt the file")
        warnings: list[str] = []
        keys.serve(metadata, self.given, warnings)
        self._warn_all(warnings)
        metadata.key_groups = wrapped(metadata.key_groups, shares(data_key, metadata), self.credentials)

    def sealed(
        self,
        file: EncryptedFile,
        branches: list[Branch],
        metadata: Metadata,
        data_key: DataKey,
        *,
        carried: Carried | None = None,
        target: str = "",
    ) -> bytes:
        """What takes the place of `file`.  target: the path that it is for.

        Raises AlreadyEncrypted (exit 203), InputError (exit 23), StoreError (exit 4).
        """
        wanted = file.wanted
        raw = encrypted_file(
            branches, metadata, data_key, STORES[wanted], now=now(), indent=self.indent(wanted), carried=carried
        )
        if target == file.path and wanted != file.source and not _opens(raw, file.source, data_key):
            cli.say(f"warning: {shown(target)} is {wanted} now, whatever its name says: --input-type {wanted} opens it")
        return raw

    def rewrapped(self, file: EncryptedFile, metadata: Metadata, data_key: DataKey) -> bytes:
        """The file with its data key wrapped by the keys of `metadata`; values and MAC stay as they are.

        Raises KeyUnavailable, ConfigError (exit 1), StoreError (exit 4).
        """
        self.wrap(metadata, data_key.raw)
        store = STORES[file.wanted]
        try:
            raw = store.write_encrypted(file.branches, metadata.to_branch(), self.indent(file.wanted))
            branches, block = store.read(raw)
            if block is None or not is_same(list(branches), list(file.branches)):
                raise StoreError("what was written would be read as another document")
        except StoreError as error:
            error.exit_status = 4
            raise
        return raw

    def rule_of(self, path: str) -> Rule | None:
        """The creation rule of a file; None where none names it, or there are none. Raises ConfigError."""
        if self.rules is None:
            return None
        try:
            return self.rules.rule_for(self.absolute(path))
        except NoMatchingRule:
            return None

    def warn_of_drift(
        self, file: EncryptedFile, metadata: Metadata, allowed: Sequence[MasterKey] = (), *, name: str = ""
    ) -> None:
        """metadata: those that the file gets.  allowed: keys that somebody adds by hand.  name: what rules go by."""
        try:
            rule = self.rule_of(name or file.path)
        except KrmSopsError as error:
            self.warn(f"{files.named(file.path)} cannot be compared with its creation rule: {error}")
            return
        for what in drift(metadata, rule, file.source, allowed) if rule is not None else ():
            self.warn(f"{files.named(file.path)} differs from its creation rule: {what}")

    def refuse_drift(self, file: EncryptedFile, metadata: Metadata) -> None:
        """metadata: those that the file gets.  Raises RecipientDrift, ConfigError."""
        rule = self.rule_of(file.path)
        if rule is None:
            raise RecipientDrift(
                "no creation rule says who may read it", hint="write one into .sops.yaml, or name the file alone"
            )
        found = drift(metadata, rule, file.source)
        if found:
            raise RecipientDrift(f"it differs from its creation rule: {'; '.join(found)}", hint=DRIFT_HINT)


def now() -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())


def is_older(version: str) -> bool:
    """Whether a document is of an earlier sops than the one that this program is like."""
    parts = version.removeprefix("v").partition("-")[0].partition("+")[0].split(".")
    numbers = [int(part) if part.isascii() and part.isdecimal() else 0 for part in parts]
    return numbers < [int(part) for part in VERSION.split(".")]


def copied(metadata: Metadata) -> Metadata:
    return metadata.with_mac(metadata.mac, metadata.lastmodified)


def _opens(raw: bytes, source: str, data_key: DataKey) -> bool:
    """Whether a file is decrypted by who takes it for the format `source`."""
    try:
        branches, block = STORES[source].read(raw)
        if block is None:
            return False
        EncryptedDocument(branches, Metadata.from_branch(block, SOPS_VERBS.key_entries)).decrypt(data_key)
    except KrmSopsError:
        return False
    return True


def one_file(given: Arguments) -> str:
    """The file of a verb that takes one. Raises UsageError (exit 100)."""
    if not given.names:
        raise UsageError("no file specified", exit_status=100)
    if len(given.names) > 1:
        cli.say("warning: more than one positional argument provided, only the first one will be used")
    return given.names[0]
