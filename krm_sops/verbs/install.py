"""``krm-sops install``: the program as a folder that needs no Python, for init containers, CI and machines without one.

::

    DIR/bin/krm-sops       the launcher, and copies of it under other names
    DIR/lib/krm-sops       a link to the standalone folder beside it, so that a newer one takes its place in one step
    DIR/lib/krm-sops-…     krm_sops/standalone.py
"""

from __future__ import annotations

import os
from pathlib import Path

from krm_sops import __version__, cli
from krm_sops.errors import KrmSopsError, shown
from krm_sops.verbs.flags import MANY, SWITCH, UsageError, parse

HELP = """\
krm-sops install DIR: put the program into DIR/bin and DIR/lib. It brings its own Python interpreter and C library, so
that DIR may be moved or mounted anywhere, on any Linux of this architecture. An earlier one is replaced.

  --as NAME              put it there as NAME too: ksops, SopsSecretGenerator or sops; repeatable
  --legacy-plugins       instead: link this program into DIR, or else where kustomize looks for exec plugins, for
                         kubectl kustomize --enable-alpha-plugins

Example, from the image, which has no shell:
  podman run --rm --user 0 --volume $PWD/tools:/dest krm-sops install /dest
"""

NAMES = ("ksops", "SopsSecretGenerator", "sops")


def main(arguments: list[str]) -> int:
    given = parse(arguments, {"as": MANY, "legacy-plugins": SWITCH, "help": SWITCH}, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    for name in given.many("as"):
        if name not in NAMES:
            raise UsageError(f"--as {shown(name, 60)} is unknown; allowed: {', '.join(NAMES)}")
    if given.on("legacy-plugins"):
        return _link_plugins(given.names, given.many("as"))
    if len(given.names) != 1:
        raise UsageError("install needs one folder", hint="krm-sops install DIR")
    folder = Path(given.names[0])
    install(folder, ["krm-sops", *given.many("as")])
    return cli.write_out(f"krm-sops {__version__} is in {shown(folder)}; put {shown(folder)}/bin on PATH\n".encode())


def _link_plugins(folders: list[str], names: list[str]) -> int:
    from krm_sops.verbs.legacy import legacy_links

    if len(folders) > 1 or names:
        raise UsageError("--legacy-plugins takes one folder, or none, and no --as")
    try:
        links = legacy_links(*folders)
    except OSError as error:
        raise KrmSopsError(f"cannot link plugins: {(error.strerror or 'unknown reason').lower()}") from None
    return cli.write_out("".join(f"{link}\n" for link in links).encode("utf-8", "backslashreplace"))


def install(folder: Path, names: list[str]) -> None:
    """names: of the launcher, in ``bin``.  Raises KrmSopsError; then what was there before still is."""
    from subprocess import CalledProcessError

    from krm_sops.standalone import build

    programs, libraries = folder / "bin", folder / "lib"
    link = libraries / "krm-sops"
    if (programs / "krm-sops-plain").exists():
        raise KrmSopsError(f"pip has installed krm-sops in {shown(programs)}", hint="install into another folder")
    if link.exists() and not link.is_symlink():
        raise KrmSopsError(f"{shown(link)} is no link that an earlier install made", hint="move it out of the way")
    tree = libraries / f"krm-sops-{__version__}-{os.urandom(4).hex()}"
    try:
        for path in (folder, programs, libraries):
            _make_folder(path)
        replaced = os.readlink(link) if link.is_symlink() else ""
        build(tree)
        for name in names:
            _put_launcher(tree, programs / name)
        new = tree.with_name(f".{tree.name}.link")
        new.symlink_to(tree.name)
        new.rename(link)
    except (OSError, CalledProcessError) as error:
        why = isinstance(error, OSError) and error.strerror
        raise KrmSopsError(f"cannot install into {shown(folder)}: {why or shown(error)}") from None
    if replaced.startswith("krm-sops-") and "/" not in replaced:
        from shutil import rmtree

        rmtree(libraries / replaced, ignore_errors=True)


def _make_folder(path: Path) -> None:
    """Open to everyone whatever the umask, unless it is there."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return
    path.chmod(0o755)


def _put_launcher(tree: Path, path: Path) -> None:
    """A copy, no link: a target without `readlink` can start it, and it can be mounted alone."""
    new = path.with_name(f".{path.name}.{tree.name}")
    new.write_bytes((tree / "bin" / "krm-sops").read_bytes())
    new.chmod(0o755)
    new.rename(path)
