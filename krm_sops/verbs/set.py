"""``krm-sops set`` and ``krm-sops unset``: one value or branch of an encrypted file.

Differs from sops:
- A list position in a mapping, and a key in a list, are errors. sops ends in a crash, or sets nothing and says nothing.
- `set` leaves the file as it is where nothing changes; sops makes a new MAC, unless with --idempotent.
Source: getsops/sops 3.13, sops.go, set and unset; cmd/sops/main.go, jsonValueToTreeInsertableValue.
"""

from __future__ import annotations

import json

from krm_sops import cli
from krm_sops.encryption import is_same, refuse_encrypted
from krm_sops.errors import KrmSopsError, StoreError, shown
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Entry
from krm_sops.verbs import change, files, treepath
from krm_sops.verbs.flags import SWITCH, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.tree import Node, Scalar
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops set FILE PATH VALUE: set one value or branch of an encrypted file. Other values keep their ciphertext.
PATH is ["key"]["list"][0]: what is not there is made, and a list position behind the end appends. VALUE is JSON: a
text in quotes, a number (which becomes a float), true, false, null, or an object.

  --value-file           VALUE is the name of a file that holds it
  --value-stdin          read VALUE from stdin; it is not an argument then
  --idempotent           do not write the file where it has this value already
{change.HELP}
Example:
  printf '"%s"' "$password" | krm-sops set --value-stdin secret.enc.yaml '["stringData"]["password"]'
"""
UNSET_HELP = f"""\
krm-sops unset FILE PATH: remove one value or branch of an encrypted file. Other values keep their ciphertext.
PATH is ["key"]["list"][0].

  --idempotent           no error where there is nothing at this path
{change.HELP}
Example:
  krm-sops unset secret.enc.yaml '["stringData"]["old"]'
"""
_FLAGS = {"idempotent": SWITCH, **change.FLAGS}


class _Missing(KrmSopsError):
    """There is nothing at this path."""


def main(arguments: list[str]) -> int:
    given = parse(arguments, {"value-file": SWITCH, "value-stdin": SWITCH, **_FLAGS}, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if given.on("value-file") and given.on("value-stdin"):
        raise UsageError("cannot use both --value-file and --value-stdin")
    needed = 2 if given.on("value-stdin") else 3
    if len(given.names) != needed:
        what = f"no file specified, or index and value are missing: {needed} arguments are needed"
        raise UsageError(what, exit_status=100)
    path = _path(given.names[1], "set")
    value = json_value(_text(given))
    return _changed(given, lambda node: with_value(node, path, value))


def unset(arguments: list[str]) -> int:
    given = parse(arguments, _FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(UNSET_HELP.encode())
    if len(given.names) != 2:
        raise UsageError("no file specified, or index is missing", exit_status=100)
    path = _path(given.names[1], "unset")
    try:
        return _changed(given, lambda node: without(node, path))
    except _Missing:
        if given.on("idempotent"):
            return 0
        raise


def _changed(given: Arguments, make: Callable[[Branch], Node]) -> int:
    """make: the first document -> what it becomes."""
    session = change.Session(given)
    file = session.read(given.names[0])
    data_key, carried = session.open(file)
    before, *others = carried.plain
    after = make(before)
    assert isinstance(after, Branch)
    refuse_encrypted([after], STORES[file.wanted])
    if given.on("idempotent") and is_same(before, after):
        return 0
    content = session.sealed(file, [after, *others], file.metadata, data_key, carried=carried, target=file.path)
    files.write(file.path, content)
    return 0


def _path(text: str, verb: str) -> list[str | int]:
    """Raises UsageError (exit 7)."""
    try:
        return treepath.parse(text)
    except treepath.PathError as error:
        what = f"Invalid {verb} index format: {error.message}"
        raise UsageError(what, hint=error.hint or 'a path looks like ["key"]["list"][0]', exit_status=7) from None


def _text(given: Arguments) -> str:
    """The JSON, wherever it comes from. Raises FileError."""
    if given.on("value-stdin"):
        return files.read("-").decode("utf-8", "replace")
    if given.on("value-file"):
        return files.read(given.names[2], missing=1).decode("utf-8", "replace")
    return given.names[2]


def json_value(text: str) -> Node:
    """A number is a float, as for sops; in an object it stays what it is. Raises KrmSopsError (exit 7)."""
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
        if isinstance(found, dict):
            return STORES["json"].read_plain(text.encode("utf-8", "replace"))[0]
        if not isinstance(found, list):
            return _scalar(found)
    except (ValueError, OverflowError, RecursionError, StoreError):
        hint = "a text needs quotes of its own: '\"text\"'"
        raise UsageError("the value is not valid JSON", hint=hint, exit_status=7) from None
    hint = "set its elements one by one, at [0], [1], …, or an object that holds it"
    raise UsageError("a list cannot be set as a whole", hint=hint, exit_status=7)


def _refuse_constant(name: str) -> Scalar:
    raise ValueError(name)


def _scalar(value: str | float | bool | None) -> Scalar:
    """Raises ValueError, OverflowError for a number beyond 64-bit floats."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
    if value is None or isinstance(value, bool):
        return value
    number = float(value)
    if number in (float("inf"), float("-inf")):
        raise OverflowError
    return number


def with_value(node: Node, path: Sequence[str | int], value: Node) -> Node:
    """The same but for what stands at this path. Raises KrmSopsError."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(node, Branch):
        if isinstance(step, int):
            raise KrmSopsError(f"[{step}] is a list position, but there is a mapping", hint='write ["key"]')
        entries = list(node.entries)
        number = node.number(step)
        if number is None:
            entries.append(Entry(step, with_value(None, rest, value)))
        else:
            entries[number] = Entry(step, with_value(entries[number].value, rest, value))
        return Branch(entries)
    if isinstance(node, list):
        if isinstance(step, str):
            raise KrmSopsError(f"[{shown(step, 80)!r}] is a key, but there is a list", hint="write [0]")
        if step < len(node):
            return [*node[:step], with_value(node[step], rest, value), *node[step + 1 :]]
        return [*node, with_value(None, rest, value)]
    inner = with_value(None, rest, value)
    return [inner] if isinstance(step, int) else Branch([Entry(step, inner)])


def without(node: Node, path: Sequence[str | int]) -> Node:
    """Raises _Missing; KrmSopsError for a step into a single value."""
    step, rest = path[0], path[1:]
    if isinstance(node, Branch):
        number = node.number(step) if isinstance(step, str) else None
        if number is None:
            raise _Missing(f"Key not found: {shown(step, 80)}")
        entry = node.entries[number]
        kept = [Entry(entry.key, without(entry.value, rest))] if rest else []
        return Branch([*node.entries[:number], *kept, *node.entries[number + 1 :]])
    if isinstance(node, list):
        if isinstance(step, str):
            raise KrmSopsError(f"[{shown(step, 80)!r}] is a key, but there is a list", hint="write [0]")
        if step >= len(node):
            raise _Missing(f"Index {step} out of bounds")
        inner = [without(node[step], rest)] if rest else []
        return [*node[:step], *inner, *node[step + 1 :]]
    raise KrmSopsError(f"Unsupported type: there is a single value where {shown(repr(step), 80)} should lead on")
