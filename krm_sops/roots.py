"""The files of a repository, read below one root and nowhere else (S2, S9).

A path is walked component by component from an open folder, so nothing that is swapped in the meantime leads out. Links
are followed, if at all, inside the root: one that points out of it is refused, like ``..`` above it.
"""

from __future__ import annotations

import os
import stat

from krm_sops.errors import PolicyError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.host import Host
    from krm_sops.policy import Policy

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40


def source_root(host: Host, policy: Policy, start: str = ".") -> str:
    """The absolute folder, without links, that no read of a build leaves.

    The operator's (--root, or `root` of the policy); else the repository that `start` is in: the nearest folder upwards
    that holds ``.git``, in an Argo CD sidecar the checkout; else `start` itself.
    Raises PolicyError where `start` is outside of the operator's.
    """
    folder = os.path.realpath(start)
    if policy.root:
        root = os.path.realpath(policy.root)
        if folder != root and not folder.startswith(root.rstrip("/") + "/"):
            raise PolicyError(f"{shown(start)} is not below the root {shown(root)} ({policy.origins['root']})")
        return root
    at = folder
    while not os.path.lexists(f"{at}/.git"):
        if at == "/":
            return _checkout(folder, host)
        at = os.path.dirname(at)
    return at


def _checkout(folder: str, host: Host) -> str:
    """The part of a repository that Argo CD hands to a plugin: each in a folder of its own below the plugin's.

    Where that is elsewhere: `folder` without the application's path, which Argo CD appends to it.
    Source: argoproj/argo-cd 3.6, common/common.go, GetCMPWorkDir.
    """
    place = host.env.get("ARGOCD_CMP_WORKDIR") or host.env.get("TMPDIR") or "/tmp"  # noqa: S108
    work = os.path.realpath(place).rstrip("/") + "/_cmp_server/"
    if folder.startswith(work):
        return work + folder.removeprefix(work).partition("/")[0]
    inner = "/" + os.path.normpath(host.env.get("ARGOCD_APP_SOURCE_PATH", "")).strip("/")
    return folder.removesuffix(inner) or folder if inner not in ("/.", "/") else folder


def relative(root: str, path: str, folder: str = ".") -> str:
    """The path of a file from `root`; path: absolute, or relative to `folder`. Raises PolicyError if it leads out.

    Links are left for `open_below` to judge, but those of `folder` itself.
    """
    full = os.path.normpath(os.path.join(os.path.realpath(folder), path))
    if full != root and not full.startswith(root.rstrip("/") + "/"):
        raise _leads_out(path, root)
    return os.path.relpath(full, root)


def read_below(root: str, path: str, limit: int, *, follow: bool = True) -> bytes:
    """A regular file, whole.  path: from `root`.  follow: whether links may stand on the way, inside the root.

    Raises PolicyError for a path that leads out; OSError otherwise, also for more than `limit` bytes, for what is no
    regular file, and for a link where none may be.
    """
    descriptor = open_below(root, path, os.O_RDONLY | os.O_NONBLOCK, follow=follow)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "Not a regular file", path)
    with open(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(27, "File too large", path)
    return content


def open_below(root: str, path: str, flags: int, *, follow: bool = True) -> int:
    """A descriptor. Raises as `read_below` does."""
    rest = [part for part in path.split("/") if part not in ("", ".")][::-1]
    folders = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    links = 0
    try:
        while rest:
            part = rest.pop()
            if part == "..":
                if len(folders) == 1:
                    raise _leads_out(path, root)
                os.close(folders.pop())
                continue
            target = _link(part, folders[-1])
            if target is None:
                if not rest:
                    return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folders[-1])
                folders.append(os.open(part, _FOLDER, dir_fd=folders[-1]))
                continue
            links += 1
            if not follow or links > _MOST_LINKS:
                raise OSError(40, "Too many levels of symbolic links", path)
            if target.startswith("/"):
                target = relative(root, target)
                while len(folders) > 1:
                    os.close(folders.pop())
            rest += [part for part in target.split("/") if part not in ("", ".")][::-1]
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=folders[-1])
    finally:
        for folder in folders:
            os.close(folder)


def _link(name: str, folder: int) -> str | None:
    """Where a link points to; None for what is no link, or not there."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def _leads_out(path: str, root: str) -> PolicyError:
    return PolicyError(
        f"{shown(path)} leads out of {shown(root)}, where nothing is read",
        hint="the root is the repository's top folder, or what --root and the policy's root say",
    )
