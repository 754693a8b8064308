"""Sources that start a program, and take what it prints.

No shell, unless the specification names one. A program is found on PATH by absolute folders only, runs in the working
folder, and sees few variables: those that say where things are, and what the specification or --pass-env adds. What it
says on stderr is dropped, since that may quote secrets. Nothing that was made stands in an argument or a variable.

Unlike opsops, which passes its whole environment, and lets that win over the specification's.
Source: vst/opsops 0.0.9, src/Opsops/Render.hs.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KrmSopsError, LimitError, PolicyError, shown
from krm_sops.provision.base import Ending, needed, texts
from krm_sops.tree import Branch, Comment, Entry, Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import Popen
    from typing import IO, ClassVar

    from krm_sops.host import Host
    from krm_sops.krm.config import Fields
    from krm_sops.provision.base import Run, Source
    from krm_sops.tree import Node

_PASSED = (
    *("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "TMPDIR", "XDG_*"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "LOCALE_ARCHIVE"),
    *("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "GPG_TTY"),
)
"""What every program sees, besides the absolute folders of PATH."""
_SECONDS = 300
"""A person may have to allow it."""
_MOST_OUTPUT = 1 << 20
_HINT = "--show-stderr lets through what it says; it sees few variables, and more by passEnvironment or --pass-env"


class Process:
    fields: ClassVar[tuple[str, ...]] = ("command", "arguments", "environment", "passEnvironment", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._command = needed(fields, "command")
        self._arguments = texts(fields, "arguments")
        self._environment = fields.texts("environment")
        self._passed = texts(fields, "passEnvironment")
        self._ending = Ending(fields)

    def told(self) -> str:
        return " ".join([self._command, *self._arguments])

    def canonical(self) -> dict[str, Node]:
        return {
            "command": self._command,
            "arguments": list(self._arguments),
            "environment": Branch(Entry(name, self._environment[name]) for name in sorted(self._environment)),
            **_added(self._passed),
            **self._ending.canonical(),
        }

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        env = environment(run, self._passed) | self._environment
        return self._ending.applied(_output(run, [self._command, *self._arguments], env))


class Script:
    fields: ClassVar[tuple[str, ...]] = ("interpreter", "arguments", "content", "passEnvironment", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._interpreter = fields.text("interpreter", "bash")
        self._arguments = texts(fields, "arguments")
        self._content = needed(fields, "content")
        self._passed = texts(fields, "passEnvironment")
        self._ending = Ending(fields)

    def told(self) -> str:
        lines = self._content.strip().split("\n")
        return f"{' '.join([self._interpreter, *self._arguments])}: {lines[0]}{' …' if lines[1:] else ''}"

    def canonical(self) -> dict[str, Node]:
        return {
            "interpreter": self._interpreter,
            "arguments": list(self._arguments),
            "content": self._content,
            **_added(self._passed),
            **self._ending.canonical(),
        }

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        argv = [self._interpreter, *self._arguments]
        return self._ending.applied(_output(run, argv, environment(run, self._passed), self._content.encode()))


class OpRead:
    """A field of 1Password by its address, read with `op`, which must be signed in."""

    fields: ClassVar[tuple[str, ...]] = ("account", "uri", "newline", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._account = fields.text("account") or None
        self._uri = needed(fields, "uri")
        self._newline = fields.flag("newline")
        self._ending = Ending(fields)
        if not self._uri.startswith("op://"):  # op would take "-…" for a flag
            raise ConfigError("value.uri must begin with op://")

    def told(self) -> str:
        return _address(self._uri, self._account)

    def canonical(self) -> dict[str, Node]:
        return {
            "account": self._account,
            "uri": self._uri,
            "newline": self._newline,
            **self._ending.canonical(),
        }

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        return self._ending.applied(_read_by_op(run, self._uri, self._account, self._newline))


class Op:
    """The same, its address in parts."""

    fields: ClassVar[tuple[str, ...]] = ("account", "vault", "item", "section", "field", "newline", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._account = fields.text("account") or None
        self._vault, self._item, self._field = (needed(fields, name) for name in ("vault", "item", "field"))
        self._section = fields.text("section") if fields.has("section") else None
        self._newline = fields.flag("newline")
        self._ending = Ending(fields)

    def _uri(self) -> str:
        section = [] if self._section is None else [self._section]
        return "op://" + "/".join([self._vault, self._item, *section, self._field])

    def told(self) -> str:
        return _address(self._uri(), self._account)

    def canonical(self) -> dict[str, Node]:
        return {
            "account": self._account,
            "vault": self._vault,
            "item": self._item,
            "section": self._section,
            "field": self._field,
            "newline": self._newline,
            **self._ending.canonical(),
        }

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        return self._ending.applied(_read_by_op(run, self._uri(), self._account, self._newline))


class Plugin:
    """A program of one's own. On its stdin: a line of JSON, {"version": 1, "path": [...], "parameters": {...}}."""

    fields: ClassVar[tuple[str, ...]] = ("command", "arguments", "parameters", "passEnvironment", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._command = needed(fields, "command")
        self._arguments = texts(fields, "arguments")
        parameters = fields.node.get("parameters")
        if not isinstance(parameters, Branch) and parameters is not None:
            raise ConfigError("value.parameters must be a mapping")
        self._parameters = parameters or Branch()
        self._passed = texts(fields, "passEnvironment")
        self._ending = Ending(fields)

    def told(self) -> str:
        return " ".join([self._command, *self._arguments])

    def canonical(self) -> dict[str, Node]:
        return {
            "command": self._command,
            "arguments": list(self._arguments),
            "parameters": self._parameters,
            **_added(self._passed),
            **self._ending.canonical(),
        }

    def make(self, run: Run, path: tuple[str, ...]) -> Node:
        import json

        asked = json.dumps({"version": 1, "path": path, "parameters": _jsonable(self._parameters)}) + "\n"
        argv = [self._command, *self._arguments]
        return self._ending.applied(_output(run, argv, environment(run, self._passed), asked.encode()))


def _added(passed: list[str]) -> dict[str, Node]:
    """Only where it is used, so that what opsops normalizes is the same here."""
    return {"passEnvironment": list(passed)} if passed else {}


def _address(uri: str, account: str | None) -> str:
    return f"{uri} ({account})" if account else uri


def _read_by_op(run: Run, uri: str, account: str | None, newline: bool) -> str:
    argv = ["op", *(("--account", account) if account else ()), "read"]
    return _output(run, [*argv, *(() if newline else ("--no-newline",)), uri], environment(run, ["OP_*"]))


def _jsonable(node: Node) -> object:
    if isinstance(node, Branch):
        return {str(entry.key): _jsonable(entry.value) for entry in node.entries}
    if isinstance(node, list):
        return [_jsonable(element) for element in node]
    return node.text if isinstance(node, (Timestamp, Comment)) else node


def environment(run: Run, passed: Sequence[str]) -> dict[str, str]:
    """All that a program sees.  passed: names besides the usual ones; NAME* for all that begin so."""
    wanted = [*_PASSED, *passed, *run.passed]
    exact = {name for name in wanted if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))
    env = {name: value for name, value in run.host.env.items() if name in exact or name.startswith(prefixes)}
    return env | {"PATH": _absolute_only(run.host)}


def _absolute_only(host: Host) -> str:
    return ":".join(folder for folder in host.env.get("PATH", "").split(":") if folder.startswith("/"))


def _output(run: Run, argv: list[str], env: Mapping[str, str], given: bytes = b"") -> str:
    """What a program prints.  given: its stdin.  Raises KrmSopsError, PolicyError, LimitError."""
    name = shown(argv[0], 80)
    if not run.host.may_start("provision"):
        raise PolicyError(f"{name} is not started: the operator's policy does not list provision under executables")
    program = argv[0] if "/" in argv[0] else run.host.program(argv[0])
    if program is None:
        raise KrmSopsError(f"{name} is not on PATH")
    import subprocess

    stderr = None if run.show_stderr else subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            argv, executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=dict(env)
        )
    except OSError as error:
        raise KrmSopsError(f"{name} could not be started: {error.strerror}") from None
    except ValueError:
        raise KrmSopsError(f"{name} could not be started: a NUL in an argument or variable") from None
    try:
        raw = _talk(child, given)
        status = child.wait(_SECONDS)
    except (TimeoutError, subprocess.TimeoutExpired):
        raise LimitError(f"{name} did not end within {_SECONDS} s", hint=_HINT) from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdout:
            child.stdout.close()
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
        raise KrmSopsError(f"{name} {how}", hint=_HINT if not run.show_stderr else "")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise KrmSopsError(f"what {name} prints is no UTF-8", hint="let it print base64") from None


def _talk(child: Popen[bytes], given: bytes) -> bytes:
    """Its stdout to the end. Raises TimeoutError, LimitError; the program still runs then."""
    from select import select
    from threading import Thread
    from time import monotonic

    assert child.stdin
    assert child.stdout
    Thread(target=_feed, args=(child.stdin, given), daemon=True).start()
    end = monotonic() + _SECONDS
    found = bytearray()
    while select([child.stdout], [], [], max(0.0, end - monotonic()))[0]:
        chunk = child.stdout.read1(1 << 16)  # type: ignore[attr-defined]
        if not chunk:
            return bytes(found)
        found += chunk
        if len(found) > _MOST_OUTPUT:
            raise LimitError(f"it printed more than {_MOST_OUTPUT} bytes")
    raise TimeoutError


def _feed(stdin: IO[bytes], given: bytes) -> None:
    """In a thread of its own: a program may print before it has read all."""
    try:
        with stdin:
            stdin.write(given)
    except OSError:
        pass  # it did not want to read that


_: tuple[type[Source], ...] = (Process, Script, OpRead, Op, Plugin)
