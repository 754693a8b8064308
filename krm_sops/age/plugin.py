"""Identities that a program ``age-plugin-NAME`` holds: the client's side of its protocol, identity-v1.

The program is talked to in stanzas, over its stdin and stdout. It leads: it asks for what it needs from a person, and
ends with the file key or without one.  Source: C2SP/C2SP age-plugin.md.
"""

from __future__ import annotations

from krm_sops.age import HeaderError, IdentityError, bech32
from krm_sops.age.format import FILE_KEY_LENGTH, Stanza, from_base64
from krm_sops.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from subprocess import Popen

    from krm_sops.age.base import Ask, Unwrap

    Start = Callable[[str, str, str], Popen[bytes] | None]
    """(program name, its argument, folder to run in) -> the running program; None where it is not installed."""

PREFIX = "AGE-PLUGIN-"
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MOST_LINE = 1 << 20


class PluginIdentity:
    __slots__ = ("_ask", "_patience", "_start", "_text", "name")

    costly = True

    def __init__(self, text: str, start: Start | None, ask: Ask | None, patience: float = 60.0) -> None:
        """start: None where plugins may not be started.  ask: None where there is nobody to ask.

        patience: seconds for one step of the plugin: a hardware key waits for a touch, a person is waited for anyway.
        Raises IdentityError, also for a name with anything but letters, digits and hyphens (S15; age allows ``+._``).
        """
        try:
            prefix, _ = bech32.decode(text)
        except ValueError as error:
            raise IdentityError(f"malformed age plugin identity: {error}") from None
        name = prefix[len(PREFIX) : -1].lower()
        if not (prefix.startswith(PREFIX) and prefix.endswith("-") and name and _NAME_CHARACTERS.issuperset(name)):
            raise IdentityError("malformed age plugin identity: its plugin's name may only have a-z, 0-9 and hyphens")
        self.name = name
        self._text = text
        self._start = start
        self._ask = ask
        self._patience = patience

    @property
    def label(self) -> str:
        return f"age-plugin-{self.name}"

    def opener_for(self, recipient: str) -> Unwrap | None:
        return self.unwrap if recipient.startswith(f"age1{self.name}1") else None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        if self._start is None:
            raise IdentityError(f"{self.label} is not started here: plugins run in the sops verbs only")
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="krm-sops-") as folder:
            try:
                program = self._start(self.label, "--age-plugin=identity-v1", folder)
                if program is None:
                    raise IdentityError(f"{self.label} is not on PATH")
                talk = _Talk(program, self.label, self._ask, self._patience)
                try:
                    return talk.file_key(self._text, stanzas)
                finally:
                    talk.end()
            except (OSError, HeaderError) as error:
                raise IdentityError(
                    f"{self.label} failed: {shown(getattr(error, 'strerror', None) or error)}"
                ) from None


class _Talk:
    """One conversation."""

    def __init__(self, program: Popen[bytes], label: str, ask: Ask | None, patience: float) -> None:
        self._program = program
        self._label = label
        self._ask = ask
        self._patience = patience
        self._answers: dict[str, Callable[[Stanza], Stanza]] = {
            "request-secret": self._value,
            "request-public": self._value,
            "confirm": self._confirm,
            # There is a way to ask a person, and none to only tell; a plugin goes on without.
            "msg": lambda _: Stanza("fail"),
        }

    def end(self) -> None:
        """Also ends the program, whatever it is doing."""
        from subprocess import TimeoutExpired

        for stream in (self._program.stdin, self._program.stdout):
            try:
                if stream:
                    stream.close()
            except OSError:
                pass  # what it did not read is lost on purpose
        self._program.terminate()
        try:
            self._program.wait(2)
        except TimeoutExpired:
            self._program.kill()
            self._program.wait()

    def _exchange(self, *messages: Stanza) -> Stanza:
        """Send, and wait for its next message. Raises IdentityError when it goes away or takes too long."""
        from threading import Timer

        timer = Timer(self._patience, self._program.kill)
        timer.start()
        try:
            assert self._program.stdin
            self._program.stdin.write(b"".join([message.write() for message in messages]))
            self._program.stdin.flush()
            return Stanza.read(self._line(), self._line)
        except BrokenPipeError:
            raise IdentityError(f"{self._label} went away") from None
        finally:
            timer.cancel()

    def _line(self) -> bytes:
        assert self._program.stdout
        line = self._program.stdout.readline(_MOST_LINE)
        if not line.endswith(b"\n"):
            raise IdentityError(f"{self._label} went away, or gave no answer within {self._patience:g} s")
        return line[:-1]

    def file_key(self, identity: str, stanzas: Sequence[Stanza]) -> bytes | None:
        message = self._exchange(
            Stanza("add-identity", [identity]),
            *[Stanza("recipient-stanza", ["0", s.type, *s.args], s.body) for s in stanzas],
            Stanza("done"),
        )
        file_key: bytes | None = None
        while message.type != "done":
            if message.type == "error":
                raise IdentityError(f"{self._label}: {shown(message.body.decode('utf-8', 'replace'))}")
            if message.type == "file-key":
                if message.args != ("0",) or len(message.body) != FILE_KEY_LENGTH or file_key is not None:
                    raise IdentityError(f"{self._label} answered with a malformed or second file key")
                file_key = message.body
                answer = Stanza("ok")
            elif message.type in self._answers:
                answer = self._answers[message.type](message)
            else:
                answer = Stanza("unsupported")
            message = self._exchange(answer)
        return file_key

    def _prompt(self, message: Stanza) -> str:
        return f"{self._label}: {shown(message.body.decode('utf-8', 'replace'))}"

    def _value(self, message: Stanza) -> Stanza:
        return Stanza("ok", body=self._ask(self._prompt(message) + ": ").encode()) if self._ask else Stanza("fail")

    def _confirm(self, message: Stanza) -> Stanza:
        try:
            choices = [shown(from_base64(argument).decode("utf-8", "replace"), 40) for argument in message.args]
        except ValueError:
            choices = []
        if not 1 <= len(choices) <= 2:
            raise IdentityError(f"{self._label} asked for a malformed confirmation")
        if self._ask is None:
            return Stanza("fail")
        ways = ", ".join(f"{number} for {choice}" for number, choice in enumerate(choices, 1))
        return Stanza("ok", ["yes" if self._ask(f"{self._prompt(message)} ({ways}): ").strip() == "1" else "no"])
