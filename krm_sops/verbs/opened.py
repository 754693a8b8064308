"""Encrypted files that a verb takes values of: named ``[NAME=]FILE``, opened, checked by their MAC."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import ConfigError, NoMetadata, shown
from krm_sops.functions.files import EncryptedFile, in_file
from krm_sops.limits import SOPS_VERBS
from krm_sops.stores import STORES, format_for_path
from krm_sops.verbs import files, keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.tree import Branch, Scalar
    from krm_sops.verbs.flags import Arguments

HELP = """\
  --input-type FORMAT    of all FILEs with secrets: yaml, json, dotenv, ini or binary, whatever their names say
"""


class Opened:
    """name: what its values are called by, or "".  plain: its document."""

    def __init__(self, text: str, given: Arguments, credentials: Credentials) -> None:
        """text: ``[NAME=]FILE``. Raises KrmSopsError, naming the file."""
        name, equals, path = text.partition("=")
        self.name, self.path = (name, path) if equals else ("", text)
        kind = given.text("input-type") or format_for_path(self.path)
        if kind not in STORES:
            raise ConfigError(f"--input-type {shown(kind, 40)!r}: formats are {', '.join(STORES)}")
        try:
            self.file = EncryptedFile(self.path, kind, files.read(self.path), SOPS_VERBS, SOPS_VERBS.run_nodes)
        except NoMetadata as error:
            raise in_file(error, self.path) from None
        warnings: list[str] = []
        keys.serve(self.file.metadata, given, warnings)
        for warning in warnings:
            cli.say(f"warning: {warning}")
        self._documents = self.file.decrypt(credentials)

    @property
    def whole_name(self) -> str:
        """What the content of the file is called, where it is one value."""
        return self.name or self.path.rpartition("/")[2]

    def content(self) -> bytes:
        """The plain file."""
        return self.file.written(self._documents)

    def document(self) -> Branch:
        """Raises ConfigError where the file holds several."""
        if len(self._documents) != 1:
            raise ConfigError(f"{shown(self.path)}: {len(self._documents)} documents, where one gives values")
        return self._documents[0]

    def values(self) -> dict[str, Scalar]:
        """By the names that placeholders know them by."""
        from krm_sops.templates import named_values
        from krm_sops.tree import from_bytes

        if self.file.format == "binary":
            return {self.whole_name: from_bytes(self.content())}
        return named_values(self.document(), self.name)


def opened(texts: list[str], given: Arguments) -> list[Opened]:
    """Raises KrmSopsError."""
    warnings: list[str] = []
    credentials = keys.credentials(given, warnings)
    for warning in warnings:
        cli.say(f"warning: {warning}")
    return [Opened(text, given, credentials) for text in texts]
