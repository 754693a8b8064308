"""``krm-sops edit``: decrypt a file into an editor, and encrypt it again; what did not change keeps its ciphertext.

The plain text stands in a private folder (0700, in memory where there is such a place), which is gone when the program
ends, however it ends but by SIGKILL.

Differs from sops:
- An edit that cannot be read, encrypted or written is kept, encrypted, in a file beside, until a later one is good.
  sops keeps it for as long as somebody presses Enter, and where nobody can, starts the editor for ever.
- With --show-master-keys keys and rules can be edited. sops drops all that was changed then, and says that it wrote it.
- Whether the file can be written is looked at first. A file that changed while the editor ran is not written over.
Source: getsops/sops 3.13, cmd/sops/edit.go, stores/stores.go (examples).
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.builds.private import PrivateFolder
from krm_sops.cipher import DataKey
from krm_sops.errors import KrmSopsError, NoMetadata, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.metadata import VERSION, Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Entry, from_bytes
from krm_sops.verbs import change, creation, files
from krm_sops.verbs.flags import SWITCH, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.encryption import Carried

HELP = f"""\
krm-sops edit FILE: edit an encrypted file. A file that is not there is begun with an example, and encrypted as
`encrypt` would do it. The editor is SOPS_EDITOR or EDITOR, which may have arguments, or else vim, nano or vi.

  -s, --show-master-keys
                         show the sops block too, where keys, rules and threshold may be changed
{creation.HELP}{change.HELP}
What an editor leaves is encrypted only if it ends with the status 0. What cannot be read, or written, is shown again;
until a later edit is good it is kept, encrypted, in FILE.rejected. So is an edit of a FILE that changed meanwhile.
Exit status 200: nothing was changed; 201: the editor failed.

Example:
  SOPS_EDITOR='code --wait' krm-sops edit secret.enc.yaml
"""
FLAGS = {"show-master-keys": SWITCH, **creation.FLAGS, **change.FLAGS}
_EDITORS = ("vim", "nano", "vi")
_ABOUT = "This is an example file."
_WELCOME = "Welcome to SOPS! Edit this file as you please!"


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"s": "show-master-keys", "h": "help", **creation.ALIASES})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    path = change.one_file(given)
    session = change.Session(given)
    subject = _Existing(session, path) if os.path.exists(path) else _New(session, path)
    files.refuse_unwritable(path)
    edit = _Edit(subject, path)
    edit.run(session)
    edit.forget()
    return 0


class _Subject:
    """What is edited, and how it is encrypted again."""

    file: change.EncryptedFile
    data_key: DataKey
    carried: Carried | None

    def __init__(self, session: change.Session, path: str) -> None:
        self.session = session
        self.path = path
        self.shows_keys = session.given.on("show-master-keys")

    @property
    def plain(self) -> list[Branch]:
        return self.carried.plain if self.carried is not None else self.file.branches

    def shown(self) -> bytes:
        """What the editor gets. Raises StoreError (exit 4)."""
        wanted = self.file.wanted
        store, indent = STORES[wanted], self.session.indent(wanted)
        try:
            if self.shows_keys:
                return store.write_encrypted(self.plain, self.file.metadata.to_branch(), indent)
            return store.write_plain(self.plain, indent)
        except KrmSopsError as error:
            error.exit_status = 4
            raise

    def taken(self, edited: bytes) -> bytes:
        """The encrypted file. Raises KrmSopsError for what needs another edit."""
        store = STORES[self.file.wanted]
        metadata = change.copied(self.file.metadata)
        if self.shows_keys:
            branches, block = store.read(edited)
            if block is None:
                raise NoMetadata
            metadata = self._with_keys(Metadata.from_branch(block, SOPS_VERBS.key_entries))
        else:
            branches = store.read_plain(edited)
        if not branches:
            raise files.FileError("the file is completely empty, it must contain at least one document", 92)
        if change.is_older(metadata.version):
            metadata.version = VERSION
        return self.session.sealed(self.file, branches, metadata, self.data_key, carried=self.carried, target=self.path)

    def _with_keys(self, metadata: Metadata) -> Metadata:
        """Metadata as they were edited, with the data key wrapped by the keys that are new."""
        before = self.file.metadata
        known = {(key.section, key.identity, key.enc) for key in before.keys()}  # noqa: SIM118
        new = [key for key in metadata.keys() if (key.section, key.identity, key.enc) not in known]  # noqa: SIM118
        if len(metadata.key_groups) > 1 or len(before.key_groups) > 1:
            if new or metadata.threshold != before.threshold or _counts(metadata) != _counts(before):
                self.session.wrap(metadata, self.data_key.raw)
            return metadata
        if new:
            fresh = change.copied(metadata)
            fresh.key_groups = [new]
            self.session.wrap(fresh, self.data_key.raw)
            metadata.key_groups = [[key for key in metadata.key_groups[0] if key not in new] + fresh.key_groups[0]]
        return metadata

    def kept(self, edited: bytes) -> bytes:
        """The edit as it is, whatever it is, for the same keys."""
        metadata = change.copied(self.file.metadata)
        metadata.selection, metadata.mac_only_encrypted = Selection("", ""), False
        file = change.EncryptedFile("", "binary", "binary", [], metadata)
        return self.session.sealed(file, [Branch([Entry("data", from_bytes(edited))])], metadata, self.data_key)


class _Existing(_Subject):
    def __init__(self, session: change.Session, path: str) -> None:
        """Raises KrmSopsError where it cannot be opened."""
        super().__init__(session, path)
        self.file = session.read(path)
        self.data_key, self.carried = session.open(self.file)


class _New(_Subject):
    def __init__(self, session: change.Session, path: str) -> None:
        """Raises ConfigError, KeyUnavailable: before anybody writes something that could not be encrypted."""
        super().__init__(session, path)
        files.expect_none(path)
        source, wanted = session.formats(path)
        metadata = creation.metadata_for(
            session.given,
            session.rules,
            session.absolute(path),
            session.host,
            session.warn,
            single=source if source == "binary" else "",
        )
        self.data_key = DataKey(os.urandom(32))
        session.wrap(metadata, self.data_key.raw)
        metadata.lastmodified = change.now()
        self.carried = None
        self.file = change.EncryptedFile(path, source, wanted, [_example(wanted)], metadata)


def _counts(metadata: Metadata) -> list[int]:
    return [len(group) for group in metadata.key_groups]


def _example(format_: str) -> Branch:
    """What sops begins a file with."""
    if format_ == "binary":
        return Branch([Entry("data", _WELCOME)])
    pair = [Entry("hello", _WELCOME), Entry("example_key", "example_value")]
    if format_ == "dotenv":
        return Branch([Entry(Comment(f" {_ABOUT}"), None), *pair, Entry("example_multiline", "foo\nbar\nbaz")])
    if format_ == "ini":
        return Branch([Entry("Welcome!", Branch([Entry(Comment(_ABOUT), None), *pair]))])
    return Branch(
        [
            *pair,
            Entry(Comment(" Example comment"), None),
            Entry("example_array", ["example_value1", "example_value2"]),
            Entry("example_number", 1234.56789),
            Entry("example_booleans", [True, False]),
        ]
    )


class _Edit:
    """The editor, again and again, until what it leaves can be encrypted and written."""

    def __init__(self, subject: _Subject, path: str) -> None:
        self.subject = subject
        self.path = path
        self.rejected = ""

    def run(self, session: change.Session) -> None:
        """Raises FileError: nothing changed (200), no editor or a failed one (201), or what `_keep` says."""
        argv = _editor(session)
        original = self.subject.shown()
        with PrivateFolder(session.host.env) as folder:
            name = os.path.basename(self.path)
            folder.write(name, original)
            while True:
                _run(folder, [*argv, f"{folder.path}/{name}"])
                edited = files.read(f"{folder.path}/{name}", missing=2)
                if edited == original:
                    self.forget()
                    raise files.FileError("File has not changed, exiting.", 200)
                try:
                    files.write(self.path, self.subject.taken(edited))
                except KrmSopsError as error:
                    self._keep(edited, error)
                else:
                    return

    def _keep(self, edited: bytes, error: KrmSopsError) -> None:
        """Wait for somebody who tries again. Raises FileError where there is nobody, or no use."""
        cli.say_error(error)
        content = self.subject.kept(edited)
        self.rejected = self.rejected or _free_name(f"{self.path}.rejected")
        try:
            files.write(self.rejected, content)
        except files.FileError:  # as with a full disk
            from tempfile import gettempdir

            self.rejected = _free_name(f"{gettempdir()}/{os.path.basename(self.path)[:200]}.rejected")
            files.write(self.rejected, content)
        cli.outcome = f"the edit is kept, encrypted, in {self.rejected}"
        if isinstance(error, files.FileChanged):  # no edit of what was read can become good
            raise files.FileError(
                f"the edit is kept in {shown(self.rejected)}",
                error.exit_status,
                hint=f"edit the file again; krm-sops decrypt {shown(self.rejected)} shows what was not written",
            )
        cli.say("Press enter to return to the editor, or Ctrl+C to exit.")
        if not cli.read_line():
            raise files.FileError(
                f"the edit could not be used, and there is nobody to mend it; it is kept in {shown(self.rejected)}",
                error.exit_status,
                hint=f"krm-sops decrypt {shown(self.rejected)} shows it",
            )

    def forget(self) -> None:
        """What was kept is not needed any more."""
        if self.rejected:
            try:
                os.unlink(self.rejected)
            except OSError:
                pass


def _free_name(path: str) -> str:
    number, name = 0, path
    while os.path.lexists(name):
        number += 1
        name = f"{path}.{number}"
    return name


def _editor(session: change.Session) -> list[str]:
    """Raises FileError (exit 201), ConfigError."""
    host = session.host
    for variable in ("SOPS_EDITOR", "EDITOR"):
        text = host.env.get(variable, "")
        if not text:
            continue
        import shlex

        try:
            argv = shlex.split(text)
        except ValueError:
            argv = []
        if not argv:
            raise _failed(f"invalid ${variable}")
        program = argv[0] if "/" in argv[0] else host.program(argv[0])
        if program is None:
            raise _failed(f"{shown(argv[0])!r} is not on PATH", hint=f"set {variable}")
        return [program, *argv[1:]]
    for name in _EDITORS:
        program = host.program(name)
        if program is not None:
            return [program]
    raise _failed(f"no editor available: none of {', '.join(_EDITORS)} was found", hint="set SOPS_EDITOR or EDITOR")


def _failed(why: str, *, hint: str = "") -> files.FileError:
    return files.FileError(f"Could not run editor: {why}", 201, hint=hint)


def _run(folder: PrivateFolder, argv: list[str]) -> None:
    """Raises FileError (exit 201)."""
    from subprocess import Popen

    try:
        folder.child = Popen(argv)
    except OSError as error:
        raise _failed(f"{shown(argv[0])}: {error.strerror}") from None
    os.waitid(os.P_PID, folder.child.pid, os.WEXITED | os.WNOWAIT)  # Popen.wait would not let a signal's handler wait
    status = folder.child.wait()
    folder.child = None
    if status:
        raise _failed(f"exit status {status}" if status > 0 else f"ended by signal {-status}")
