"""Keys that a program ``age-plugin-NAME`` holds: the client's side of its protocols, identity-v1 and recipient-v1.

The program is talked to in stanzas, over its stdin and stdout. It leads: it asks for what it needs from a person, and
ends with the file key (or its stanzas) or without.  Source: C2SP/C2SP age-plugin.md.
"""

from __future__ import annotations

from krm_sops.age import HeaderError, IdentityError, RecipientError, bech32
from krm_sops.age.format import FILE_KEY_LENGTH, Stanza, from_base64
from krm_sops.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from subprocess import Popen
    from typing import TypeVar

    from krm_sops.age.base import Ask, Unwrap

    T = TypeVar("T")
    Start = Callable[[str, str, str], Popen[bytes] | None]
    """(program name, its argument, folder to run in) -> the running program; None where it is not installed."""

PREFIX = "AGE-PLUGIN-"
_RECIPIENT_PREFIX = "age1"
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MOST_LINE = 1 << 20
_MOST_STANZAS = 1024


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
        return _with_plugin(
            self.label,
            "identity-v1",
            self._start,
            self._ask,
            self._patience,
            lambda talk: talk.file_key(self._text, stanzas),
        )


class PluginRecipient:
    __slots__ = ("_ask", "_patience", "_start", "_text", "name")

    def __init__(self, text: str, start: Start | None, ask: Ask | None, patience: float = 60.0) -> None:
        """As for PluginIdentity. Raises RecipientError."""
        try:
            prefix, _ = bech32.decode(text)
        except ValueError as error:
            raise RecipientError(f"malformed age plugin recipient {shown(text, 80)!r}: {error}") from None
        name = prefix[len(_RECIPIENT_PREFIX) :]
        if not (prefix.startswith(_RECIPIENT_PREFIX) and name and _NAME_CHARACTERS.issuperset(name)):
            raise RecipientError(
                f"malformed age plugin recipient {shown(text, 80)!r}: its name may only have a-z, 0-9 and hyphens"
            )
        self.name = name
        self._text = text
        self._start = start
        self._ask = ask
        self._patience = patience

    def wrap(self, file_key: bytes) -> list[Stanza]:
        label = f"age-plugin-{self.name}"
        try:
            return _with_plugin(
                label,
                "recipient-v1",
                self._start,
                self._ask,
                self._patience,
                lambda talk: talk.stanzas(self._text, file_key),
            )
        except IdentityError as error:
            raise RecipientError(error.message, hint=error.hint) from None


def _with_plugin(
    label: str,
    protocol: str,
    start: Start | None,
    ask: Ask | None,
    patience: float,
    use: Callable[[_Talk], T],
) -> T:
    """What comes of one conversation with a plugin that is started for it. Raises IdentityError."""
    if start is None:
        raise IdentityError(f"{label} is not started here: plugins run in the sops verbs only")
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="krm-sops-") as folder:
        try:
            program = start(label, f"--age-plugin={protocol}", folder)
            if program is None:
                raise IdentityError(f"{label} is not on PATH")
            talk = _Talk(program, label, ask, patience)
            try:
                return use(talk)
            finally:
                talk.end()
        except (OSError, HeaderError) as error:
            raise IdentityError(f"{label} failed: {shown(getattr(error, 'strerror', None) or error)}") from None


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
            if message.type == "file-key":
                if message.args != ("0",) or len(message.body) != FILE_KEY_LENGTH or file_key is not None:
                    raise IdentityError(f"{self._label} answered with a malformed or second file key")
                file_key = message.body
                answer = Stanza("ok")
            else:
                answer = self._answer(message)
            message = self._exchange(answer)
        return file_key

    def stanzas(self, recipient: str, file_key: bytes) -> list[Stanza]:
        message = self._exchange(
            Stanza("add-recipient", [recipient]),
            Stanza("wrap-file-key", body=file_key),
            Stanza("extension-labels"),
            Stanza("done"),
        )
        found: list[Stanza] = []
        while message.type != "done":
            if message.type == "recipient-stanza":
                if len(message.args) < 2 or message.args[0] != "0" or len(found) >= _MOST_STANZAS:
                    raise IdentityError(f"{self._label} answered with a malformed stanza, or too many")
                found.append(Stanza(message.args[1], message.args[2:], message.body))
                answer = Stanza("ok")
            elif message.type == "labels":  # which recipients may stand beside it: here it is alone
                answer = Stanza("ok")
            else:
                answer = self._answer(message)
            message = self._exchange(answer)
        if not found:
            raise IdentityError(f"{self._label} answered without a stanza")
        return found

    def _answer(self, message: Stanza) -> Stanza:
        """What both protocols have in common. Raises IdentityError for what the plugin reports as its error."""
        if message.type == "error":
            raise IdentityError(f"{self._label}: {shown(message.body.decode('utf-8', 'replace'))}")
        if message.type in self._answers:
            return self._answers[message.type](message)
        return Stanza("unsupported")

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
