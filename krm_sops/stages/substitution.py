"""`${var}` in the values of objects, by Flux's rules: one pass over scalars, never over text or over what was put in.

What a value becomes is a value again: no text that is put in can begin another field (S32). What was decrypted is not
looked at. Sources: fluxcd/pkg, envsubst (its tests), kustomize/kustomize_varsub.go; stageset-controller,
internal/build: a variable that is not set is an error, unless it has a default.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, InputError, shown
from krm_sops.tree import CIPHERTEXT, Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from krm_sops.krm.item import Item
    from krm_sops.tree import Node, Scalar

OPT_OUT = "kustomize.toolkit.fluxcd.io/substitute"
_FIRST = "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAME = _FIRST + "0123456789"
_OPERATORS = (":=", ":-", "=", "-")
_DEEPEST = 20


def check_name(name: str, where: str) -> None:
    """Raises ConfigError."""
    if not name or name[0] not in _FIRST or name.strip(_NAME):
        raise ConfigError(
            f"{where} has {shown(name, 60)!r}; a variable's name is made of letters, digits and _",
            path=tuple(where.split(".")),
        )


def substituted(text: str, variables: Mapping[str, str], depth: int = 0) -> str:
    """Raises InputError. The message holds no value."""
    out = []
    at = 0
    while (start := text.find("${", at)) >= 0:
        if start > at and text[start - 1] == "$":
            out.append(text[at : start - 1] + "${")
            at = start + 2
            continue
        out.append(text[at:start])
        value, at = _expression(text, start + 2, variables, depth)
        out.append(value)
    return "".join([*out, text[at:]])


def _expression(text: str, at: int, variables: Mapping[str, str], depth: int) -> tuple[str, int]:
    """The value of what stands between braces, and where it goes on."""
    start = at
    while at < len(text) and text[at] in _NAME:
        at += 1
    name = text[start:at]
    end = _closing(text, at)
    if not name or name[0] not in _FIRST or end < 0 or depth > _DEEPEST:
        raise InputError("${ without a name and a closing brace behind it", hint="a literal ${ is written $${")
    rest = text[at:end]
    value = variables.get(name)
    operator = next((one for one in _OPERATORS if rest.startswith(one)), "")
    if rest and not operator:
        raise InputError(
            f"${{{name}…}} uses an operator that is not supported; :=, :-, = and - are",
            hint="a literal ${ is written $${",
        )
    if operator:
        return value or substituted(rest[len(operator) :], variables, depth + 1), end + 1
    if value is None:
        raise InputError(
            f"the variable {shown(name, 60)} is not set",
            hint=f"set it in postBuild, give a default (${{{shown(name, 60)}:=…}}), write $${{ for a literal ${{, "
            f"or annotate the item with {OPT_OUT}: disabled",
        )
    return value, end + 1


def _closing(text: str, at: int) -> int:
    """Where the brace closes; -1 where it does not."""
    depth = 1
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
            at += 2
            continue
        if text[at] == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    return -1


def is_opted_out(item: Item) -> bool:
    return "disabled" in (item.annotation(OPT_OUT), item.field("metadata", "labels", OPT_OUT))


def substitute_item(item: Item, variables: Mapping[str, str]) -> None:
    """Edit the values of an item where they stand; those that were edited before, being decrypted, stay so.

    Raises InputError with the path.
    """
    skipped = set(item.injected_leaves())
    taken = sorted((start, end) for start, end, _ in item.edits)
    for at, (path, value) in enumerate(_leaves(item.branch)):
        if not isinstance(value, str) or "${" not in value or value.startswith(CIPHERTEXT):
            continue
        span = item.span(at)
        if at in skipped or path[:1] == ("sops",):
            continue
        if span is not None and any(start < span.end and span.start < end for start, end in taken):
            continue
        new = _new_value(value, variables, path)
        if new == value:
            continue
        if span is None or span.anchored:
            raise InputError("a value with an anchor or alias cannot be substituted", path=path)
        typed = new if span.style or item.source.is_json else retyped(new, item.kind, path)
        item.put(at, typed, quoted=isinstance(typed, str), path=path, clear=True)


def _leaves(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """With their paths, in walk order."""
    if isinstance(node, Branch):
        for entry in node.entries:
            yield from _leaves(entry.value, (*path, str(entry.key)))
    elif isinstance(node, list):
        for number, element in enumerate(node):
            yield from _leaves(element, (*path, str(number)))
    else:
        yield path, node


def _new_value(value: str, variables: Mapping[str, str], path: tuple[str, ...]) -> str:
    try:
        return substituted(value, variables)
    except InputError as error:
        raise InputError(error.message, hint=error.hint, path=path) from None


def retyped(text: str, kind: str, path: tuple[str, ...]) -> Scalar:
    """What a value means that was written without quotes: Flux puts text into text, so that `${n}` may become a number.

    Values of fields that hold strings only stay strings.
    """
    from krm_sops.yamltypes import resolve_plain

    if path[:2] in (("metadata", "annotations"), ("metadata", "labels")) or kind in ("ConfigMap", "Secret"):
        return text
    if not text:
        return None
    value = resolve_plain(text)
    return value if isinstance(value, (bool, int, float)) else text


def substitute_tree(branch: Branch, variables: Mapping[str, str]) -> Branch:
    """The same for a tree. Raises InputError with the path."""
    kind = branch.get("kind")
    found = _tree(branch, variables, (), kind if isinstance(kind, str) else "")
    assert isinstance(found, Branch)
    return found


def _tree(node: Node, variables: Mapping[str, str], path: tuple[str, ...], kind: str) -> Node:
    if isinstance(node, Branch):
        return Branch(
            [Entry(entry.key, _tree(entry.value, variables, (*path, str(entry.key)), kind)) for entry in node.entries]
        )
    if isinstance(node, list):
        return [_tree(element, variables, (*path, str(at)), kind) for at, element in enumerate(node)]
    if not isinstance(node, str) or "${" not in node:
        return node
    new = _new_value(node, variables, path)
    return node if new == node else retyped(new, kind, path)


def keys_with_variables(item: Item) -> bool:
    """Whether a key holds `${`; keys stay as they are."""
    return _has_keys(item.branch)


def _has_keys(node: Node) -> bool:
    if isinstance(node, list):
        return any(map(_has_keys, node))
    return isinstance(node, Branch) and any("${" in str(entry.key) or _has_keys(entry.value) for entry in node.entries)


def values_of(branch: Branch, item: Item) -> dict[str, str]:
    """The variables in a ConfigMap or Secret. Raises InputError."""
    from binascii import Error, a2b_base64

    found: dict[str, str] = {}
    for field in ("data", "stringData"):
        values = branch.get(field)
        for entry in values.entries if isinstance(values, Branch) else ():
            name, value = str(entry.key), entry.value
            if not isinstance(value, str):
                raise InputError(f"{item}: is no string", path=(field, name))
            if item.kind == "Secret" and field == "data":
                try:
                    value = a2b_base64("".join(value.split()), strict_mode=True).decode()
                except (Error, ValueError):
                    value = None
                if value is None:  # an exception that is raised above would carry the value along
                    raise InputError(f"{item}: is no text in base64", path=(field, name))
            found[name] = value
    return found
