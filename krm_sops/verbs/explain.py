"""``krm-sops explain``: what a document is, who can open it, and which of the keys at hand do. It needs no key."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.credentials import Credentials
from krm_sops.datakey import LOCAL, open_key
from krm_sops.errors import DataKeyError, KrmSopsError, shown
from krm_sops.host import Host
from krm_sops.limits import FUNCTION, SOPS_VERBS
from krm_sops.metadata import Metadata
from krm_sops.policy import in_force
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import Branch
from krm_sops.verbs import files, function, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.keys.base import MasterKey
    from krm_sops.policy import Policy

HELP = f"""\
krm-sops explain [FILE...]: per document its format, key groups and recipients, which of them the keys at hand
open, and whether its MAC can be checked here. Without FILE, stdin. Exits 0 also where no key is at hand;
1 where a file is no SOPS document.

  --input-type FORMAT    yaml, json, dotenv, ini or binary, whatever the file's name says
  --list                 instead: the names of the files that a build of the folder FILE decrypts, its own and those
                         that its kustomization names elsewhere; nothing where there is none
  --policy               instead: what the operator allows a function, and where each line comes from; with the
                         function's flags, what they change
{KEY_HELP}
Nothing is decrypted, no program is started, no service is called and no passphrase is asked for.
"""

_PLAIN = "not encrypted by sops"


def main(arguments: list[str]) -> int:
    known = {"input-type": VALUE, "list": SWITCH, "policy": SWITCH, "help": SWITCH, **KEY_FLAGS}
    of_function = any(word.lstrip("-") in ("policy", "policy=true") for word in arguments)
    given = parse(arguments, {**known, **function.FLAGS} if of_function else known, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if given.on("policy"):
        policy = in_force(Host(), FUNCTION, function.read(given))
        return cli.write_out("".join(f"{line}\n" for line in policy_lines(policy)).encode("utf-8", "backslashreplace"))
    if given.on("list"):
        return cli.write_out("".join(f"{files.named(path)}\n" for path in _listed(given.names or ["."])).encode())
    warnings: list[str] = []
    chosen = keys.credentials(given, warnings)
    credentials = Credentials(Host(), chosen.entries, chosen.ambient)
    lines = [f"warning: {warning}" for warning in warnings]
    status = 0
    for path in given.names or ["-"]:
        name = given.text("input-type") if given.text("input-type") in STORES else format_for_path(path)
        try:
            found = explain(files.read(path), path, name, credentials)
            lines += found or [f"{files.named(path)}: {name}, empty"]
            status = status or int(all(line.endswith(_PLAIN) for line in found))
        except KrmSopsError as error:
            lines.append(f"{files.named(path)}: {error}")
            status = 1
    return cli.write_out("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")) or status


def _listed(paths: list[str]) -> Iterator[str]:
    """From the working folder. Raises KrmSopsError."""
    import os

    from krm_sops.roots import relative, source_root
    from krm_sops.verbs.listing import encrypted_files

    host = Host()
    policy = in_force(host, FUNCTION)
    for path in paths:
        try:
            root = source_root(host, policy, path)
            for found in encrypted_files(root, relative(root, path), policy.limits):
                yield os.path.relpath(os.path.join(root, found))
        except OSError as error:
            raise KrmSopsError(f"cannot read {shown(path)}: {(error.strerror or 'unreadable').lower()}") from None


def policy_lines(policy: Policy) -> list[str]:
    """All that is in force, in the form of the file: each field, and where it comes from as a comment."""
    found = {
        "mac": policy.mac,
        "ambient": policy.ambient,
        "strict": policy.strict,
        "keySources": policy.key_sources,
        "keyFolder": policy.key_folder,
        "root": policy.root,
        "readableRoots": policy.readable_roots,
        "hosts": None if policy.hosts is None else [str(service) for service in policy.hosts],
        "vaults": policy.vaults,
        "executables": policy.executables,
    }
    lines = [_policy_line(name, value, policy.origins.get(name, "")) for name, value in found.items()]
    lines[0] += f"; at least. Without a wish of the config: {policy.mac_mode('auto', '')}"
    lines[1] += f"; at most. Without a wish of the config: {policy.ambient_mode('auto', '')}"
    if policy.key_files:
        lines.append(f"# --key-file: only {', '.join(map(shown, policy.key_files))}")
    lines.append("limits:")
    for name, number in vars(policy.limits).items():
        lines.append(_policy_line(f"  {name}", number, policy.origins.get(f"limits.{name}", "")))
    return lines


_DEFAULTS = {
    "keySources": "default: all",
    "keyFolder": "default: KRM_SOPS_KEY_DIR, else /keys",
    "root": "default: the repository that the working folder is in",
    "readableRoots": "default: any",
    "hosts": "default: any that a key type allows",
    "vaults": "default: SOPS_HC_VAULT_ALLOWLIST, else VAULT_ADDR",
    "executables": "default: none in a function, any in the sops verbs",
}


def _policy_line(name: str, value: object, origin: str) -> str:
    """One line of YAML; a field without a restriction is a comment."""
    from krm_sops.stores.json import quote

    comment = f"  # {origin or _DEFAULTS.get(name, 'default')}"
    if value is None or value == "":
        return f"# {name}:{comment}"
    if isinstance(value, (list, tuple)):
        return f"{name}: [{', '.join(quote(text) for text in value)}]{comment}"
    return f"{name}: {str(value).lower() if isinstance(value, bool) else value}{comment}"


def explain(raw: bytes, path: str, name: str, credentials: Credentials) -> list[str]:
    """Raises KrmSopsError where the file cannot be read as what it is called."""
    lines: list[str] = []
    blocks = _blocks(raw, name)
    for number, block in enumerate(blocks):
        where = files.named(path) + (f"[{number}]" if len(blocks) > 1 else "")
        if block is None:
            lines.append(f"{where}: {name}, {_PLAIN}")
            continue
        try:
            lines += _document(where, name, Metadata.from_branch(block, SOPS_VERBS.key_entries), credentials)
        except KrmSopsError as error:
            lines.append(f"{where}: {name}, with sops metadata that cannot be used: {error}")
    return lines


def _blocks(raw: bytes, name: str) -> list[Branch | None]:
    """The ``sops`` branch of each document; None where it has none."""
    if name != "yaml":
        return [STORES[name].read(raw)[1]]
    from krm_sops.yamlcomments import read

    found: list[Branch | None] = []
    for branch in read(raw.decode("utf-8", "replace")):
        block = branch.get("sops")
        found.append(block if isinstance(block, Branch) else None)
    return found


def _document(where: str, name: str, metadata: Metadata, credentials: Credentials) -> list[str]:
    selection = metadata.selection
    covered = "the encrypted values" if metadata.mac_only_encrypted else "all values"
    lines = [
        f"{where}: {name}, encrypted by sops {shown(metadata.version or '(no version)', 40)}, {metadata.lastmodified}",
        f"  encrypted: by {selection.rule} {shown(selection.pattern)!r}; the MAC covers {covered}",
    ]
    opened = 0
    groups = metadata.key_groups
    for number, group in enumerate(groups):
        lines.append(f"  {'any key of' if len(groups) == 1 else f'group {number}, any key of'}:")
        states = [_key(key, credentials, 32 if len(groups) == 1 else 33) for key in group]
        for key, (_, text) in zip(group, states, strict=True):
            lines.append(f"    {key.section} {shown(key.identity)}: {text}")
        opened += any(opens for opens, _ in states)
    needed = 1 if len(groups) == 1 else max(metadata.threshold, 2)
    if len(groups) > 1:
        lines.append(f"  {opened} of {len(groups)} groups open here, {needed} are needed")
    if not metadata.mac:
        lines.append("  MAC: missing; sops and krm-sops refuse the document")
    elif opened >= needed:
        lines.append("  MAC: can be checked here")
    else:
        lines.append("  MAC: cannot be checked here, no data key")
    return lines


def _key(key: MasterKey, credentials: Credentials, length: int) -> tuple[bool, str]:
    if key.section not in LOCAL:
        return False, "not tried, it is kept by a service"
    try:
        open_key(key, credentials, length)
    except DataKeyError as error:
        return False, f"{error}{f'; {error.hint}' if error.hint else ''}"
    return True, "opens with a key at hand"
