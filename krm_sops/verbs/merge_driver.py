"""``krm-sops merge-driver``: what git asks to merge three versions of an encrypted file.

The three are decrypted, each with its MAC checked, and merged as git merges text; the result is encrypted with the data
key of one side, where unchanged values keep their ciphertext, and gets a MAC. Plaintext stands only in a private folder
while git merges it. Where the sides do not agree, or a version does not open, the *encrypted* texts are merged instead,
with git's markers between ciphertexts: no plaintext ever stands in the work tree.
"""

from __future__ import annotations

import os
import subprocess

from krm_sops import cli
from krm_sops.builds.private import PrivateFolder
from krm_sops.errors import KrmSopsError, NoMetadata, shown
from krm_sops.stores import STORES
from krm_sops.verbs import change, files, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.cipher import DataKey
    from krm_sops.encryption import Carried
    from krm_sops.tree import Branch

HELP = f"""\
krm-sops merge-driver BASE OURS THEIRS PATH: merge encrypted files for git, so that values which both sides left alone
keep their ciphertext and the MAC holds. The result is written to OURS. A conflict leaves git's markers there, between
ciphertexts, and exit status 1.

{KEY_HELP}{keys.SERVICE_HELP}
Example:
  git config merge.sops.driver 'krm-sops merge-driver %O %A %B %P'
  git config diff.sops.textconv 'krm-sops decrypt'
  echo '*.enc.yaml merge=sops diff=sops' >> .gitattributes
"""
FLAGS = {"help": SWITCH, **KEY_FLAGS, **keys.SERVICE_FLAGS}
_NAMES = ("ours", "base", "theirs")
_AFTER = "choose the lines, keep one mac and one lastmodified, then: krm-sops rotate --ignore-mac -i FILE"


class _Conflict(KrmSopsError):
    pass


class _Version:
    """One side of a merge, opened."""

    def __init__(self, session: change.Session, path: str, name: str) -> None:
        """name: what the format follows from.  Raises NoMetadata, and for what does not open, KrmSopsError."""
        self.file = session.read(path, name=name)
        self.data_key: DataKey
        self.carried: Carried
        self.data_key, self.carried = session.open(self.file)
        self.text = STORES[self.file.source].write_plain(self.carried.plain, session.indent(self.file.source))

    def changed(self, other: _Version | None) -> bool:
        """Whether it has another data key or other recipients, or another part of it is encrypted."""
        return other is None or self._terms() != other._terms() or self.data_key.raw != other.data_key.raw

    def _terms(self) -> list[object]:
        metadata = self.file.metadata
        groups = [[(key.section, key.identity) for key in group] for group in metadata.key_groups]
        chosen = metadata.selection
        return [groups, metadata.threshold, chosen.rule, chosen.pattern, metadata.mac_only_encrypted]


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if len(given.names) != 4:
        raise UsageError("four arguments are needed: git's %O %A %B %P", hint=HELP.splitlines()[-3].strip())
    base, ours, theirs, path = given.names
    try:
        files.write(ours, _merged(change.Session(given), base, ours, theirs, path))
    except NoMetadata:
        return _merge_texts(base, ours, theirs)
    except KrmSopsError as error:
        _merge_texts(base, ours, theirs)
        cli.say(f"error: {files.named(path)}: {error}")
        cli.say(f"hint: {error.hint or _AFTER}")
        return 1
    return 0


def _merged(session: change.Session, base: str, ours: str, theirs: str, path: str) -> bytes:
    one, two = (_Version(session, side, path) for side in (ours, theirs))
    before = _Version(session, base, path) if os.path.getsize(base) else None
    if one.changed(two) and one.changed(before) and two.changed(before):
        raise _Conflict("both sides changed its data key, who can open it, or what of it is encrypted")
    kept = two if two.changed(before) else one
    texts = (one.text, before.text if before is not None else b"", two.text)
    branches = _read(_merged_text(texts), kept)
    return session.sealed(
        kept.file, branches, kept.file.metadata, kept.data_key, carried=kept.carried, target=kept.file.path
    )


def _read(text: bytes, kept: _Version) -> list[Branch]:
    try:
        return STORES[kept.file.source].read_plain(text)
    except KrmSopsError:
        raise _Conflict("what the two sides changed makes no document together") from None


def _merged_text(texts: tuple[bytes, bytes, bytes]) -> bytes:
    """texts: ours, base, theirs.  Raises _Conflict, without a part of them."""
    with PrivateFolder(os.environ) as folder:
        for name, text in zip(_NAMES, texts, strict=True):
            folder.write(name, text)
        done = _merge_file(["-p", "--quiet", *(f"{folder.path}/{name}" for name in _NAMES)])
    if done.returncode:
        raise _Conflict("both sides changed the same lines")
    return done.stdout


def _merge_texts(base: str, ours: str, theirs: str) -> int:
    """Merge the files as they stand, into `ours`. The exit status for git."""
    labels = [argument for name in _NAMES for argument in ("-L", name)]
    return 1 if _merge_file([*labels, "--quiet", ours, base, theirs]).returncode else 0


def _merge_file(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Raises KrmSopsError where there is no git."""
    try:
        return subprocess.run(["git", "merge-file", *arguments], stdout=subprocess.PIPE, check=False)  # noqa: S607 (git asked)
    except OSError as error:
        raise KrmSopsError(f"cannot start git: {shown(error.strerror)}") from None
