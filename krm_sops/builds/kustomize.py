"""A kustomization is built: kustomize works on a private copy, and functions of ours answer from this process."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
from contextlib import suppress
from copy import copy

from krm_sops.builds import relay
from krm_sops.builds.mirror import SOURCE, Mirror
from krm_sops.builds.plugins import Plugins
from krm_sops.builds.private import PrivateFolder
from krm_sops.errors import ConfigError, KrmSopsError, LimitError, PolicyError, shown
from krm_sops.functions import Answer, FunctionError
from krm_sops.functions import run as run_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from krm_sops.builds.order import Order
    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.krm.results import Result
    from krm_sops.limits import Limits
    from krm_sops.policy import Flags

_LONGEST_MESSAGE = 1 << 16
_GIT = {
    "GIT_ALLOW_PROTOCOL": "https:ssh:http:git",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
}
"""What is elsewhere is fetched over the network; a repository of this machine is none of it (S2)."""
_NO_PROGRAM = "install kustomize, or kubectl, in a folder of PATH; or render manifests that need no build"


class Build:
    """How kustomizations are built.

    root: the repository.  flags: the operator's, for the functions that run inside.  allow_others: whether functions
    that are not ours are started.
    """

    def __init__(
        self,
        root: str,
        host: Host,
        limits: Limits,
        flags: Flags,
        credentials: Callable[[], Credentials],
        *,
        allow_remote: bool = False,
        allow_others: bool = False,
    ) -> None:
        self.root = root
        self.host = host
        self.limits = limits
        self.flags = copy(flags)
        self.flags.root = self.flags.build = root
        self.flags.key_files = [os.path.abspath(path) for path in flags.key_files]
        self.credentials = credentials
        self.allow_remote = allow_remote
        self.allow_others = allow_others
        self.results: list[Result] = []
        self.originals: dict[str, bytes] = {}
        self._top = ""
        self._order: Order | None = None

    def run(self, folder: str) -> bytes:
        """What kustomize makes of a folder, in the order of its stages if its kustomization lists a StageSet;
        `originals` are then the manifests that it named, `results` what functions had to say. folder: from the root.

        Raises KrmSopsError.
        """
        program = self.host.program("kustomize") or self.host.program("kubectl")
        if program is None:
            raise ConfigError("neither kustomize nor kubectl is on PATH", hint=_NO_PROGRAM)
        self._top = os.path.normpath(folder)
        output, message, mirror = self._built(program, folder)
        if output is not None:
            return output if self._order is None else self._order.of(output, self.limits)
        if any(result.is_error for result in self.results):
            answer = Answer()
            answer.results = self.results
            raise FunctionError(answer)
        if not self.flags.mask and (mirror.inputs or mirror.plugins.used):
            # What it says may quote a plaintext. Of masks it will say the same.
            self.flags.mask = True
            output, message, mirror = self._built(program, folder)
            self.flags.mask = False
        if output is not None:
            message = "not on masked values: it fails on a decrypted one, which its message might quote"
        raise KrmSopsError(f"{shown(os.path.basename(program))} failed: {message}")

    def _built(self, program: str, folder: str) -> tuple[bytes | None, str, Mirror]:
        """The output, or None and why there is none."""
        self.results = []
        self._order = None
        with PrivateFolder(self.host.env) as private:
            hand_over = [*_interpreter(), "-I", "-S", relay.__file__, f"{private.path}/socket"]
            plugins = Plugins(self.limits, hand_over, allow_others=self.allow_others)
            mirror = Mirror(
                self.root, self.limits, private, plugins, allow_remote=self.allow_remote, mask=self.flags.mask
            )
            if mirror.add(folder) == "Component":
                raise ConfigError(
                    f"{shown(folder)} is a component, which is built only where a kustomization lists it",
                    hint="name it in .krmignore if it is one of a folder's",
                )
            self.originals = mirror.originals
            if mirror.inputs:
                self._decrypt(mirror)
            argv = self._command(program, f"{private.path}/{SOURCE}/{folder}", plugins, mirror)
            output, message = self._supervised(argv, private, mirror)
        return output, message, mirror

    def _decrypt(self, mirror: Mirror) -> None:
        from krm_sops.datakey import open_ahead

        credentials = self.credentials()
        open_ahead(mirror.metadata, credentials)
        mirror.decrypt(credentials)

    def _command(self, program: str, folder: str, plugins: Plugins, mirror: Mirror) -> list[str]:
        is_kubectl = os.path.basename(program) == "kubectl"
        argv = [program, "kustomize" if is_kubectl else "build", os.path.normpath(folder)]
        if not (plugins.used or self.allow_others):
            return argv
        if is_kubectl:
            raise ConfigError(
                "kubectl cannot start the functions that are listed here", hint="install kustomize on PATH"
            )
        if mirror.remote and not self.allow_others:
            raise PolicyError(
                f"{shown(mirror.remote)} may bring functions along, which are started where any function is",
                hint="copy it into the repository; or allow them with --enable-alpha-plugins --enable-exec",
            )
        return [*argv, "--enable-alpha-plugins", "--enable-exec"]

    def _supervised(self, argv: list[str], private: PrivateFolder, mirror: Mirror) -> tuple[bytes | None, str]:
        """Run kustomize, answering for our functions meanwhile."""
        home = f"{private.path}/home"
        os.mkdir(home, 0o700)
        env = {"HOME": home, "XDG_CONFIG_HOME": home, "TMPDIR": home, "KUBECONFIG": os.devnull}
        if self.allow_remote:
            env |= _GIT
        if self.allow_others or self.allow_remote:
            env["PATH"] = self.host.env.get("PATH", "")
        with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
            try:
                server.bind(f"{private.path}/socket")
                server.listen()
            except OSError as error:
                raise KrmSopsError(f"no socket in the private folder: {error.strerror or error}") from None
            try:
                child = private.child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=home
                )
            except OSError as error:
                raise ConfigError(f"cannot start {shown(argv[0])}: {error.strerror}") from None
            assert child.stdout is not None
            assert child.stderr is not None
            with child.stdout, child.stderr:
                said = (child.stdout.fileno(), child.stderr.fileno())
                output, message = self._attended(said, server, selector, private)
            status = private.wait()
            private.child = None
        if status == 0:
            for name, path in mirror.configs.items():  # as buildMetadata may have it
                output = output.replace(name.encode(), shown(path).encode())
            return output, ""
        return None, _told(message, private, mirror)

    def _attended(
        self, ends: tuple[int, int], server: socket.socket, selector: selectors.BaseSelector, private: PrivateFolder
    ) -> tuple[bytes, bytes]:
        """stdout and stderr of kustomize, until both end.  ends: where they are read."""
        said = {end: bytearray() for end in ends}
        selector.register(server, selectors.EVENT_READ)
        for number in said:
            selector.register(number, selectors.EVENT_READ)
        ended = 0
        while ended < len(said):
            for key, _ in selector.select():
                if key.fd not in said:
                    self._answer(server.accept()[0], private)
                    continue
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                    ended += 1
                said[key.fd] += chunk
                if len(said[key.fd]) > self.limits.input_bytes:
                    raise LimitError(
                        f"a build of more than {self.limits.input_bytes >> 20} MiB (the limit input_bytes)"
                    )
        output, message = said.values()
        return bytes(output), bytes(message)

    def _answer(self, connection: socket.socket, private: PrivateFolder) -> None:
        """One call of a function, in the folder of the repository where the kustomization is that lists it."""
        with connection, suppress(OSError):  # kustomize, or what it started, has ended meanwhile
            given = bytearray()
            while chunk := connection.recv(1 << 16):
                given += chunk
            folder, _, resources = bytes(given).partition(b"\n")
            status, output = self._function(os.fsdecode(folder), resources, private)
            connection.sendall(bytes([status]) + output)

    def _function(self, folder: str, resources: bytes, private: PrivateFolder) -> tuple[int, bytes]:
        from krm_sops.builds.order import order_of
        from krm_sops.host import Host
        from krm_sops.krm.results import Result

        inner = os.path.relpath(folder, f"{os.path.realpath(private.path)}/{SOURCE}")
        before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.chdir(os.path.join(self.root, inner))
            host = Host(env=self.host.env)
            output, results, status = run_function(resources, host, self.limits, self.flags, originals=self.originals)
            if status == 0 and inner == self._top:
                self._order = order_of(output, self.limits) or self._order
        except (KrmSopsError, OSError) as error:
            known = error if isinstance(error, KrmSopsError) else KrmSopsError(f"{shown(inner)}: {error.strerror}")
            self.results.append(Result.of(known))
            return 1, b""
        finally:
            os.fchdir(before)
            os.close(before)
        self.results += results
        return status, output if status == 0 else b""


def _interpreter() -> list[str]:
    """What starts Python here; a standalone folder brings the loader along that its interpreter needs."""
    tree = os.path.dirname(os.path.dirname(sys.executable))
    loader = f"{tree}/lib/krm-sops"
    if os.path.isfile(loader):
        return [loader, "--inhibit-cache", "--library-path", f"{tree}/lib", sys.executable]
    return [sys.executable]


def _told(message: bytes, private: PrivateFolder, mirror: Mirror) -> str:
    """What kustomize said, in one line, with the names that people know."""
    text = message[:_LONGEST_MESSAGE].decode("utf-8", "replace")
    for path in {private.path, os.path.realpath(private.path)}:
        text = text.replace(f"{path}/{SOURCE}/", "").replace(f"{path}/{SOURCE}", ".").replace(path, "(private)")
    for name, meant in mirror.names.items():
        text = text.replace(name, meant)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("# Warning")]
    return shown(" ".join(lines), 1000) or "no message"
