"""``krm-sops FILE``, where FILE holds a functionConfig: an exec plugin of kustomize, also of ``kubectl kustomize``.

A transformer reads a YAML stream on stdin, a generator nothing. A YAML stream goes to stdout; or nothing, with the exit
status 1 and lines on stderr. kustomize copies the config into a temporary file, which it leaves there when the build
fails, and into the environment: so no key may stand in it (S25).

Also the links by which kustomize finds a plugin, and what ``ksops`` and ``SopsSecretGenerator`` are started as.
"""

from __future__ import annotations

import os
import sys

from krm_sops import cli
from krm_sops.errors import ConfigError, KrmSopsError, LimitError, shown
from krm_sops.functions import FUNCTIONS, GENERATORS, FunctionError, function_for, group_version
from krm_sops.host import Host
from krm_sops.keysources import holds_private_key
from krm_sops.krm.item import refuse_duplicates
from krm_sops.krm.stream import Stream
from krm_sops.limits import FUNCTION
from krm_sops.policy import in_force
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits

_TEMPORARY = "kust-plugin-config-"
"""How kustomize's copies of configs are called."""
_KEY_HINT = (
    "kustomize copies it into its temporary folder and the environment; take the key out, change it, and hand it in "
    "by the key folder, spec.keys[].file or env, or a key Secret among the resources"
)


def main(arguments: list[str]) -> int:
    try:
        return _run(*arguments)
    except KrmSopsError as error:
        cli.say_error(error)
        return 1


def _run(path: str, *others: str) -> int:
    if others:  # what argsOneLiner and argsFromFile add: flags are the operator's, and a config must not set them
        raise ConfigError(f"{shown(others[0], 60)!r} behind the config's file: a plugin takes no other argument")
    cli.limit_time(FUNCTION.run_seconds)
    host = Host(set_alarm=cli.limit_time)
    config = _config(path, host)
    function = function_for(config)
    policy = in_force(host, FUNCTION)
    policy.apply_to(host)
    stream = Stream(policy.limits, config)
    stream.from_kustomize = True
    if config.kind not in GENERATORS:
        stream.add(_input(config, policy.limits))
    try:
        answer = function(stream, host, policy)
    except FunctionError as error:
        answer = error.answer
    cli.say_results(answer.results)
    if any(result.is_error for result in answer.results):
        return 1
    output = stream.write(without=[*answer.key_items, *answer.consumed], added=answer.added)
    return cli.write_out(output.encode())


def _input(config: Item, limits: Limits) -> bytes:
    raw = cli.read_in(limits.input_bytes)
    if len(raw) > limits.input_bytes:
        raise LimitError(f"an input of more than {limits.input_bytes >> 20} MiB (the limit input_bytes)")
    if not raw.strip():
        raise ConfigError(
            f"nothing on stdin: {config.kind} changes items; list it under transformers, not under generators"
        )
    return raw


def _config(path: str, host: Host) -> Item:
    """The one object in the file. Raises ConfigError."""
    try:
        raw = host.read(path, FUNCTION.document_bytes)
    except OSError as error:
        raise ConfigError(f"cannot read {shown(path)}: {(error.strerror or 'unreadable').lower()}") from None
    if holds_private_key(raw):
        raise _with_key(path)
    stream = Stream(FUNCTION)
    stream.add(raw)
    if stream.encrypted():
        raise ConfigError(f"{shown(path)} is encrypted, so it is no functionConfig", hint="krm-sops decrypt FILE")
    if len(stream.items) != 1:
        raise ConfigError(f"{shown(path)} holds {len(stream.items)} objects, where one functionConfig is expected")
    config = stream.items[0]
    refuse_duplicates(config.branch)
    spec = config.branch.get("spec")
    keys = spec.get("keys") if isinstance(spec, Branch) else None
    values = isinstance(keys, list) and any(isinstance(key, Branch) and key.get("value") is not None for key in keys)
    if config.kind == "Secret" or values:
        raise _with_key(path)
    return config


def _with_key(path: str) -> ConfigError:
    """The error for a config that holds a key. kustomize would leave its copy behind, so it is removed."""
    if os.path.basename(path).startswith(_TEMPORARY) and "KUSTOMIZE_PLUGIN_CONFIG_ROOT" in os.environ:
        try:
            os.unlink(path)
        except OSError:
            pass
    return ConfigError("a plugin's config must hold no key", hint=_KEY_HINT)


def ksops(arguments: list[str]) -> int:
    """Started under that name."""
    if arguments[:1] == ["install"]:
        return _install_ksops(arguments[1:])
    return _tool("ksops", arguments)


def sops_secret_generator(arguments: list[str]) -> int:
    return _tool("SopsSecretGenerator", arguments)


def _tool(kind: str, arguments: list[str]) -> int:
    if not arguments:
        return cli.run_function(items_of=kind)
    return cli.dispatch(arguments)


def _install_ksops(arguments: list[str]) -> int:
    """``ksops install DIR``, which leaves DIR/ksops."""
    if "--with-kustomize" in arguments:
        raise ConfigError("--with-kustomize: krm-sops brings no kustomize with it", hint="copy it from its own image")
    status = cli.VERBS["install"]([*arguments, "--as", "ksops"])
    if not status:
        _link(os.path.join(arguments[0], "ksops"), "bin/ksops")
    return status


def legacy_links(folder: str = "") -> list[str]:
    """Put links to this program where kustomize looks for exec plugins; those made, one for each kind of function.

    folder: kustomize's plugin folder, where it is another than it uses by itself.  Raises KrmSopsError.
    """
    program = _program()
    home = os.path.abspath(folder or _plugin_folder())
    made = []
    for kind in FUNCTIONS:
        link = os.path.join(home, group_version(kind), kind.lower(), kind)
        os.makedirs(os.path.dirname(link), exist_ok=True)
        _link(link, program)
        made.append(link)
    return made


def _link(link: str, target: str) -> None:
    """Make a link, or let an existing one point there. Raises KrmSopsError for what is no link."""
    if os.path.lexists(link) and not os.path.islink(link):
        raise KrmSopsError(f"{shown(link)} is there and no link", hint="move that program away, and try again")
    beside = f"{link}.{os.getpid()}"
    try:
        os.symlink(target, beside)
        os.replace(beside, link)
    except OSError as error:
        raise KrmSopsError(f"cannot make the link {shown(link)}: {(error.strerror or 'no reason').lower()}") from None


def _plugin_folder() -> str:
    """Where kustomize looks, unless there is a folder of an older layout."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.environ.get("KUSTOMIZE_PLUGIN_HOME") or os.path.join(config, "kustomize", "plugin")


def _program() -> str:
    """The absolute path of the launcher. Raises KrmSopsError."""
    from shutil import which

    started = sys.argv[0]
    if os.path.basename(started) in ("__main__.py", "-c", ""):
        started = which("krm-sops") or ""
    if not started or not os.path.isfile(started):
        raise KrmSopsError("cannot tell where krm-sops is installed", hint="put it on PATH")
    return os.path.abspath(started)
