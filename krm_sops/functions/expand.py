"""A decrypted SopsSecret -> the v1 Secrets that its operator would create, in the order of their templates.

What cannot be made offline: the owner reference, which needs the uid that the cluster gives to the resource.

Unlike with isindir's operator, bytes that are no text stay as they are in `data` (it sends everything as `stringData`,
and replaces them). Unlike with peak-scale's, `immutable` is taken over (it declares the field and sets none).
Sources: isindir/sops-secrets-operator 0.28, internal/controllers/sopssecret_controller.go, api/v1alpha{1,2,3}, and for
`data` of the older versions its pull request 76; peak-scale/sops-operator, internal/controllers/secrets.go,
api/v1alpha1.
"""

from __future__ import annotations

from binascii import Error, a2b_base64

from krm_sops.errors import InputError, shown
from krm_sops.tree import Branch, Comment, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Path = tuple[str, ...]

_ISINDIR = "isindir.github.com/"
_PEAK_SCALE = "addons.projectcapsule.dev/v1alpha1"
_CLUSTER_WIDE = "GlobalSopsSecret"
_TEMPLATES = {
    (_ISINDIR + "v1alpha1", "SopsSecret"): "secret_templates",
    (_ISINDIR + "v1alpha2", "SopsSecret"): "secretTemplates",
    (_ISINDIR + "v1alpha3", "SopsSecret"): "secretTemplates",
    (_PEAK_SCALE, "SopsSecret"): "secrets",
    (_PEAK_SCALE, _CLUSTER_WIDE): "secrets",
}
"""apiVersion and kind -> the field of `spec` that lists the templates."""
_DATA_IS_TEXT = (_ISINDIR + "v1alpha1", _ISINDIR + "v1alpha2")
"""There `data` is what a Secret calls `stringData`."""


def is_sops_secret(resource: Branch) -> bool:
    return (resource.get("apiVersion"), resource.get("kind")) in _TEMPLATES


def is_suspended(resource: Branch) -> bool:
    """Whether its operator leaves the resource alone, so that no Secret comes of it."""
    spec = resource.get("spec")
    is_isindir = str(resource.get("apiVersion")).startswith(_ISINDIR)
    return is_isindir and isinstance(spec, Branch) and spec.get("suspend") is True


def secrets_of(resource: Branch, mask: str = "") -> list[Branch]:
    """resource: one for which `is_sops_secret` holds, decrypted.  Raises InputError where it describes no Secrets.

    mask: what stands in the place of everything that was decrypted, but for base64 of it in `data`.

    The Secrets have their templates' annotations only: the place that the resource came from is not theirs.
    """
    version, kind = str(resource.get("apiVersion")), str(resource.get("kind"))
    spec = _mapping(resource, "spec", ())
    common = _mapping(spec, "metadata", ("spec",)) if version == _PEAK_SCALE else Branch()
    found: dict[tuple[str, str], Branch] = {}
    for number, (template, path) in enumerate(_templates(spec, _TEMPLATES[version, kind])):
        name = _needed(template, "name", path)
        if name == mask:
            name += f"-{number + 1}"
        name = _text(common, "prefix", ("spec", "metadata")) + name + _text(common, "suffix", ("spec", "metadata"))
        if kind == _CLUSTER_WIDE:
            namespace = _needed(template, "namespace", path)
        else:
            namespace = _text(_mapping(resource, "metadata", ()), "namespace", ("metadata",))
        if (namespace, name) in found:
            raise InputError(f"there is another Secret {shown(name, 80)!r} before this one", path=(*path, "name"))
        metadata = [Entry("name", name), *([Entry("namespace", namespace)] if namespace else [])]
        for group in ("labels", "annotations"):
            texts = _texts(common, group, ("spec", "metadata")) | _texts(template, group, path)
            metadata += _entry(group, texts)
        found[namespace, name] = Branch(
            [
                Entry("apiVersion", "v1"),
                Entry("kind", "Secret"),
                Entry("metadata", Branch(metadata)),
                Entry("type", _text(template, "type", path) or "Opaque"),
                *(_immutable(template, path, mask) if version == _PEAK_SCALE else []),
                *_values(template, path, version),
            ]
        )
    return list(found.values())


def _templates(spec: Branch, field: str) -> list[tuple[Branch, Path]]:
    node = spec.get(field)
    listed = [element for element in node if not isinstance(element, Comment)] if isinstance(node, list) else []
    if not listed:
        raise InputError("must be a list of at least one Secret", path=("spec", field))
    found: list[tuple[Branch, Path]] = []
    for number, element in enumerate(listed):
        path = ("spec", f"{field}[{number}]")
        if not isinstance(element, Branch):
            raise InputError("must be a mapping", path=path)
        found.append((element, path))
    return found


def _values(template: Branch, path: Path, version: str) -> list[Entry]:
    data, texts = _texts(template, "data", path), _texts(template, "stringData", path)
    if version in _DATA_IS_TEXT:
        if texts:
            raise InputError(f"{version} has no stringData", hint="write it as data", path=(*path, "stringData"))
        return _entry("stringData", data)
    for key, value in data.items():
        if not _is_base64(value):
            raise InputError("is no base64", hint="plain text belongs in stringData", path=(*path, "data", key))
    if version != _PEAK_SCALE:  # whose Secrets have both, so that the API server lets stringData win
        texts = {key: value for key, value in texts.items() if key not in data}
    return _entry("data", data) + _entry("stringData", texts)


def _is_base64(text: str) -> bool:
    """As Go decodes it: padded, line breaks anywhere."""
    try:
        a2b_base64(text.replace("\n", "").replace("\r", ""), strict_mode=True)
    except (Error, ValueError):
        return False
    return True


def _immutable(template: Branch, path: Path, mask: str) -> list[Entry]:
    value = template.get("immutable")
    if mask and value == mask:
        return []
    if value is not None and not isinstance(value, bool):
        raise InputError("must be true or false", path=(*path, "immutable"))
    return [] if value is None else [Entry("immutable", value)]


def _entry(name: str, texts: Mapping[str, str]) -> list[Entry]:
    """One entry, or none where it would be empty."""
    return [Entry(name, Branch([Entry(key, value) for key, value in texts.items()]))] if texts else []


def _mapping(node: Branch, name: str, path: Path) -> Branch:
    value = node.get(name)
    if value is None:
        return Branch()
    if not isinstance(value, Branch):
        raise InputError("must be a mapping", path=(*path, name))
    return value


def _texts(node: Branch, name: str, path: Path) -> dict[str, str]:
    mapping = _mapping(node, name, path)
    found: dict[str, str] = {}
    for entry in mapping.entries:
        if isinstance(entry.key, Comment):
            continue
        if not isinstance(entry.key, str):
            raise InputError("has a key that is no string", path=(*path, name))
        found[entry.key] = _text(mapping, entry.key, (*path, name))
    return found


def _text(node: Branch, name: str, path: Path) -> str:
    """Raises InputError for everything but strings, as the API server or the operator would."""
    value = node.get(name)
    if value is None and node.number(name) is None:
        return ""
    if not isinstance(value, str):
        raise InputError("must be a string", hint="encrypt it in quotes", path=(*path, name))
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(
            "holds bytes that are no UTF-8", hint="such values belong in data, in base64", path=(*path, name)
        )
    return value


def _needed(node: Branch, name: str, path: Path) -> str:
    text = _text(node, name, path)
    if not text:
        raise InputError(f"needs a {name}", path=path)
    return text
