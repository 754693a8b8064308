"""``krm-sops materialize``: each value of an encrypted file as a file of its own, all of them replaced in one step."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import ConfigError, shown
from krm_sops.generations import Access, replace, tree_of
from krm_sops.templates import plain_text
from krm_sops.tree import Branch, Comment, to_bytes
from krm_sops.verbs import keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, MANY, SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.opened import HELP as OPENED_HELP
from krm_sops.verbs.opened import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.tree import Node
    from krm_sops.verbs.flags import Arguments
    from krm_sops.verbs.opened import Opened

    File = tuple[tuple[str, ...], bytes | None]

HELP = f"""\
krm-sops materialize [NAME=]FILE... --dir D: write each value of encrypted files into a file of its own.

D/a/b holds the value at a.b, D/NAME/a/b where the FILE has a NAME; a binary FILE is one value, called NAME or as it is.
D is a link to D.d/N, a new folder each time, and changes over in one step: at every moment D shows the old values or
the new ones. A value whose key cannot be a file name, or is another one's in another case, is an error.

  --dir D                the link; its folder must exist, and nothing else may be at D
  --template NAME=FILE   write the template FILE with its placeholders filled to D/rendered/NAME; repeatable
  --whole                each FILE whole, decrypted, as D/NAME
  --mode MODE            of the files, octal. Default: 0400
  --owner USER           of the files, by name or number. Default: whoever runs this
  --group GROUP          the same
  --keep-generations N   how many folders stay in D.d; 0: all. Default: 1
  --tmpfs-only           refuse to write to anything but memory
{OPENED_HELP}{KEY_HELP}{keys.SERVICE_HELP}
Example:
  krm-sops materialize secrets.enc.yaml --dir /run/app/secrets --tmpfs-only --owner app
"""
FLAGS = {
    "dir": VALUE,
    "template": MANY,
    "whole": SWITCH,
    "mode": VALUE,
    "owner": VALUE,
    "group": VALUE,
    "keep-generations": VALUE,
    "tmpfs-only": SWITCH,
    "input-type": VALUE,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
_RENDERED = "rendered"


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if not given.names or not given.text("dir"):
        raise UsageError("materialize needs a FILE, and --dir", hint="krm-sops materialize --help")
    access, keep = _access(given), _number(given, "keep-generations", "1", 10)
    found = opened(given.names, given)
    files = [file for one in found for file in (_whole(one) if given.on("whole") else _files(one))]
    files += _rendered(given, found)
    replace(given.text("dir"), tree_of(files), access, keep=keep, tmpfs_only=given.on("tmpfs-only"))
    return 0


def _access(given: Arguments) -> Access:
    """Raises UsageError, ConfigError."""
    mode = _number(given, "mode", "0400", 8)
    if mode > 0o777 or not mode & 0o400:
        raise UsageError("--mode must let the owner read, and be at most 0777")
    return Access(mode, _id(given.text("owner"), "user"), _id(given.text("group"), "group"))


def _number(given: Arguments, flag: str, default: str, base: int) -> int:
    text = given.text(flag, default)
    digits = "01234567" if base == 8 else "0123456789"
    if not 1 <= len(text) <= 9 or text.strip(digits):
        raise UsageError(f"--{flag} {shown(text, 40)!r} is no {'octal ' if base == 8 else ''}number")
    return int(text, base)


def _id(text: str, what: str) -> int:
    """Raises ConfigError."""
    if not text:
        return -1
    if text.isascii() and text.isdecimal() and int(text) < 1 << 31:
        return int(text)
    import grp
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid if what == "user" else grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise ConfigError(f"there is no {what} {shown(text, 80)!r} here") from None


def _whole(found: Opened) -> list[File]:
    return [(tuple(found.whole_name.split("/")), found.content())]


def _files(found: Opened) -> list[File]:
    if found.file.format == "binary":
        return _whole(found)
    names = tuple(found.name.split("/")) if found.name else ()
    return list(_values(found.document(), names, found.path))


def _values(node: Node, names: tuple[str, ...], path: str) -> Iterator[File]:
    if isinstance(node, Branch):
        inner = [(entry.key, entry.value) for entry in node.entries if not isinstance(entry.key, Comment)]
    elif isinstance(node, list):
        elements = [element for element in node if not isinstance(element, Comment)]
        inner = [(str(at), element) for at, element in enumerate(elements)]
    elif isinstance(node, Comment):
        return
    else:
        yield names, to_bytes(plain_text(node))
        return
    if not inner and names:
        yield names, None
    for name, value in inner:
        if not isinstance(name, str):
            raise ConfigError(f"{shown(path)}: a key that is no string cannot be the name of a file", path=names)
        yield from _values(value, (*names, name), path)


def _rendered(given: Arguments, found: list[Opened]) -> Iterator[File]:
    """Raises KrmSopsError, naming the template."""
    if not given.many("template"):
        return
    from krm_sops.templates import Source
    from krm_sops.verbs.template import filled, format_of

    sources = [Source(one.path, one.values()) for one in found]
    for text in given.many("template"):
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"--template {shown(text, 80)!r} is not NAME=FILE")
        yield (_RENDERED, *name.split("/")), filled(path, format_of(path), sources)
