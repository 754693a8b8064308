"""``krm-sops render``: manifests in, decrypted manifests out; a folder with a kustomization is built before."""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.builds.private import remove_tree
from krm_sops.errors import ConfigError, shown
from krm_sops.host import Host
from krm_sops.krm.stream import Allowance, joined
from krm_sops.limits import FUNCTION
from krm_sops.policy import in_force
from krm_sops.verbs import function
from krm_sops.verbs.flags import SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.rendering import Rendering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.verbs.flags import Arguments

HELP = """\
krm-sops render [PATH...|-]: decrypted manifests on stdout, as one YAML stream. A PATH is a file, a folder, or -
for stdin; without one, the working folder.

A folder with a kustomization is built with kustomize (or kubectl) from PATH, the way Flux does: files and envs of
secretGenerator and files of patches are decrypted before, encrypted objects and values of Secrets after it. Any other
folder is read with all below it, .krmignore honoured; files that are no Kubernetes objects are skipped.

  --output-dir DIR       write files below DIR instead, which must be new or empty
  --keep-going           tell what is wrong with every PATH, not only with the first; what is good is then written
                         to --output-dir, but nothing to stdout
  --mask                 *** in the place of all that is decrypted
  --allow-empty          no error where there is no object at all
  --allow-remote         let kustomize fetch resources from elsewhere
  --enable-alpha-plugins
  --enable-exec          both: let a kustomization start functions of others; those of krm-sops, ksops and
                         SopsSecretGenerator always run, inside of this program
  --strict, and the other flags of the function (see krm-sops --help):
  --mac MODE
  --ambient WHEN
  --key-file FILE
  --root FOLDER
  --limit NAME=NUMBER
  --max-remote-calls NUMBER

Objects with the annotation config.kubernetes.io/local-config are left out. Exit status 1, and nothing written, where
anything is wrong.

Example:
  krm-sops render --key-file age.key clusters/production | kubectl diff -f -
"""
FLAGS = {
    "output-dir": VALUE,
    "keep-going": SWITCH,
    "mask": SWITCH,
    "allow-empty": SWITCH,
    "allow-remote": SWITCH,
    "enable-alpha-plugins": SWITCH,
    "enable-exec": SWITCH,
    **function.FLAGS,
    "help": SWITCH,
}
_MOST_NAMED = 10


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if given.on("enable-alpha-plugins") != given.on("enable-exec"):
        raise UsageError("--enable-alpha-plugins and --enable-exec go together")
    if given.given("output-dir") and not given.text("output-dir"):
        raise UsageError("--output-dir needs the name of a folder")
    flags = function.read(given)
    flags.mask = given.on("mask")
    cli.limit_time(FUNCTION.changed(flags.limits).run_seconds)
    host = Host(set_alarm=cli.limit_time)
    policy = in_force(host, FUNCTION, flags)
    policy.apply_to(host)
    paths = given.names or ["."]
    if paths.count("-") > 1:
        raise UsageError("- can be named once")
    good: list[Rendering] = []
    allowance = Allowance(policy.limits)
    for path in paths:
        rendering = Rendering(
            path,
            host,
            policy,
            flags,
            allowance,
            allow_remote=given.on("allow-remote"),
            allow_others=given.on("enable-exec"),
        )
        is_good = rendering.run()
        _tell(rendering, many=len(paths) > 1)
        if is_good:
            good.append(rendering)
        elif not given.on("keep-going"):
            return 1
    return _written(good, given, failed=len(good) < len(paths))


def _tell(rendering: Rendering, *, many: bool) -> None:
    told = {(result.severity, result.line()): result for result in rendering.results}
    for result in told.values():
        if many and not (result.item and result.item.file):
            result.message = f"{result.message} (in {shown(rendering.path)})"
    cli.say_results(list(told.values()))
    if any(result.is_error for result in told.values()):
        _tell_skipped([rendering])


def _tell_skipped(renderings: Sequence[Rendering]) -> None:
    """What may be missing; told where something is wrong, as a success says nothing."""
    skipped = [name for rendering in renderings for name in rendering.skipped]
    if skipped:
        names = ", ".join(shown(name) for name in skipped[:_MOST_NAMED])
        more = f" and {len(skipped) - _MOST_NAMED} more" if len(skipped) > _MOST_NAMED else ""
        cli.say(f"info: skipped as no Kubernetes objects: {len(skipped)} files ({names}{more})")


def _written(good: Sequence[Rendering], given: Arguments, *, failed: bool) -> int:
    """Write what is good, all of it or nothing; the exit status."""
    texts = [(rendering, *named) for rendering in good for part in rendering.parts for named in part.texts()]
    if not texts and not failed and not given.on("allow-empty"):
        _tell_skipped(good)
        raise ConfigError("there is no object at all", hint="if that is right, --allow-empty")
    folder = given.text("output-dir")
    if folder and good:
        write_folder(folder, _files(texts))
    elif not failed:
        return cli.write_out(joined([text for _, _, text in texts]).encode())
    return int(failed)


def _files(texts: Sequence[tuple[Rendering, str, str]]) -> dict[str, str]:
    """Each text by the file it goes to: as below the folder that all PATHs have in common. Raises ConfigError."""
    common = os.path.commonpath([rendering.folder for rendering, _, _ in texts] or ["/"])
    found: dict[str, str] = {}
    for rendering, name, text in texts:
        path = os.path.normpath(os.path.join(os.path.relpath(rendering.folder, common), name))
        if found.setdefault(path, text) is not text:
            raise ConfigError(f"two PATHs would be written to the same file: {shown(path)}")
    return found


def write_folder(folder: str, files: dict[str, str]) -> None:
    """A new folder with these files, for nobody else to read; it is there whole or not at all. Raises ConfigError."""
    import _signal as signals

    folder = folder.rstrip("/") or "/"
    part = os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.{os.urandom(8).hex()}.tmp")
    mask = signals.pthread_sigmask(signals.SIG_BLOCK, (signals.SIGTERM, signals.SIGINT, signals.SIGHUP))
    is_ours = False
    try:
        os.mkdir(part, 0o700)
        is_ours = True
        for path, text in files.items():
            full = os.path.join(part, path)
            os.makedirs(os.path.dirname(full), 0o700, exist_ok=True)
            with open(os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(text.encode())
        os.rename(part, folder)
        cli.outcome = "the folder was written"
    except OSError as error:
        if is_ours:
            remove_tree(part)
        hint = "it must be new or empty" if os.path.lexists(folder) else ""
        raise ConfigError(f"cannot write {shown(folder)}: {(error.strerror or 'failed').lower()}", hint=hint) from None
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, mask)
