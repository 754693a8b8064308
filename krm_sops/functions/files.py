"""One encrypted file of a repository: read below its root, opened, checked by its MAC as it was authored.

Whatever is wrong, the error names the file. Two steps, so that the services which keep keys can be asked for many files
at once in between (`datakey.open_ahead`).
"""

from __future__ import annotations

from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import ConfigError, KrmSopsError, LimitError, NoMetadata, StoreError, shown
from krm_sops.krm.item import MASK
from krm_sops.metadata import Metadata
from krm_sops.roots import read_below, relative
from krm_sops.stores import STORES, format_for_path
from krm_sops.stores.json import in_one_line
from krm_sops.tree import Branch, from_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.limits import Limits
    from krm_sops.tree import Node


class Files:
    """The files of one run. root: `roots.source_root`.  folder: what relative paths start from, inside of the root.

    Each file counts for `run_nodes` as often as it is read.
    """

    def __init__(self, root: str, folder: str, limits: Limits, *, mask: bool = False) -> None:
        self.root = root
        self.folder = folder
        self.limits = limits
        self.mask = mask
        self._nodes_left = limits.run_nodes

    def raw(self, path: str) -> bytes:
        """Raises ConfigError, PolicyError, LimitError, each naming the file."""
        try:
            return read_below(self.root, relative(self.root, path, self.folder), self.limits.document_bytes)
        except OSError as error:
            if error.errno == 27:
                text = f"a file of more than {self.limits.document_bytes} bytes (the limit document_bytes)"
                raise LimitError(f"{shown(path)}: {text}") from None
            why = (error.strerror or "unreadable").lower()
        except ValueError:
            why = "no file can have this name"
        raise ConfigError(f"cannot read {shown(path)}: {why}")

    def read(self, path: str, format_: str = "") -> EncryptedFile:
        """path: absolute, or from `folder`.  format_: one of `STORES`, where the name does not say it.

        Raises as `raw` does, and InputError for what is no encrypted file of that format.
        """
        raw = self.raw(path)
        try:
            found = EncryptedFile(
                path, format_ or format_for_path(path), raw, self.limits, self._nodes_left, mask=self.mask
            )
        except KrmSopsError as error:
            raise in_file(error, path) from None
        self._nodes_left -= found.nodes
        return found


AS_MANIFEST, AS_NAMES = "manifest", "names"
"""What a file is masked for: manifests or a patch, names with values; or anything else."""


AS_MANIFEST, AS_NAMES = "manifest", "names"
"""What a file is masked for: manifests or a patch; names with values, which hide the values themselves."""


class EncryptedFile:
    """nodes: how many collections and scalars it has.  unopened: comments that did not fit their tags and stayed."""

    __slots__ = ("branches", "format", "limits", "mask", "metadata", "nodes", "path", "unopened")

    def __init__(
        self, path: str, format_: str, raw: bytes, limits: Limits, nodes_left: int, *, mask: bool = False
    ) -> None:
        """mask: what is decrypted becomes asterisks. Raises InputError, LimitError."""
        if nodes_left < 1:
            raise LimitError(f"files of more than {limits.run_nodes} nodes together (the limit run_nodes)")
        allowed = limits.changed({"document_nodes": min(limits.document_nodes, nodes_left)})
        self.path = path
        self.format = format_
        self.branches, block = STORES[format_].read(raw, allowed)
        if block is None:
            raise NoMetadata
        self.metadata = Metadata.from_branch(block, limits.key_entries)
        self.nodes = sum(map(_nodes, self.branches))
        self.unopened = 0
        self.mask = mask
        self.limits = limits

    def decrypt(self, credentials: Credentials, use: str = "") -> list[Branch]:
        """The plain documents; masked as their `use` needs it, but not the text of a binary file `AS_NAMES`.

        Raises DataKeyError, InputError, IntegrityError, each naming the file.
        """
        try:
            data_key = recover(self.metadata, credentials)
            plain, opened = EncryptedDocument(self.branches, self.metadata).decrypt(data_key)
        except KrmSopsError as error:
            raise in_file(error, self.path) from None
        self.unopened = len(opened.unopened)
        if not self.mask or (use == AS_NAMES and self.format == "binary"):
            return plain
        from krm_sops.functions import masking

        if use != AS_MANIFEST:
            return [masking.masked(*pair) for pair in zip(self.branches, plain, strict=True)]
        if self.format != "binary":
            return [masking.masked_manifest(*pair) for pair in zip(self.branches, plain, strict=True)]
        try:
            text = from_bytes(STORES["binary"].write_plain(plain))
            content = "---\n".join(in_one_line(node) + "\n" for node in masking.masked_content(text, self.limits))
        except KrmSopsError as error:
            raise in_file(error, self.path) from None
        return STORES["binary"].read_plain(content.encode(), self.limits)

    def content(self, credentials: Credentials) -> bytes:
        """The plain file, byte for byte as sops writes it. Raises as `decrypt` does."""
        plain = self.decrypt(credentials)
        try:
            return self.written(plain)
        except KrmSopsError as error:
            raise in_file(error, self.path) from None

    def written(self, plain: list[Branch]) -> bytes:
        """What `decrypt` gave as a file of the same format; a mask for it whole. Raises StoreError."""
        if self.mask:
            return MASK.encode()
        try:
            return STORES[self.format].write_plain(plain)
        except UnicodeEncodeError:
            pass  # an exception that is raised above would carry the plaintext along
        raise StoreError(f"it holds bytes that a file of the format {self.format} cannot")


def in_file(error: KrmSopsError, path: str) -> KrmSopsError:
    """The same error, whose message begins with the file and the place in it."""
    place = f"{shown('.'.join(error.path))}: " if error.path else ""
    error.args = (f"{shown(path)}: {place}{error.message}",)
    error.path = ()
    return error


def _nodes(node: Node) -> int:
    if isinstance(node, Branch):
        return 1 + sum(_nodes(entry.value) for entry in node.entries)
    return 1 + sum(map(_nodes, node)) if isinstance(node, list) else 1
