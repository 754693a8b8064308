"""The `age` section: a data key in an armored age file, and where the identities that open it come from.

In stages, each only when the ones before did not open it, so that nothing is read, started or asked for in vain:
handed-in keys and age's own sources; SSH keys; what commands print; plugins and passphrases. age itself sorts its
native identities to the front as well, so this differs from sops in what is touched, not in what opens.
"""

from __future__ import annotations

from krm_sops.age import AgeError, IdentityError
from krm_sops.age.format import File, dearmor
from krm_sops.age.identities import Reader
from krm_sops.errors import KeyUnavailable, WrongKey, shown
from krm_sops.tree import to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import ClassVar, Self

    from krm_sops.age.base import Identity, Unwrap
    from krm_sops.age.plugin import Start
    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.keys.base import MasterKey

_LARGEST_PART = 64 * 1024
"""Bytes that a data key or share may have here: far more than it will, far less than hurts."""
_IN_BAND_WORK, _BY_HAND_WORK = 18, 22
"""scrypt's work factor at most (S21): a second, as age writes it; and what age accepts of a person's own file."""
_SHOWN_IDENTITIES = 5


class AgeKey:
    __slots__ = ("enc", "recipient")

    section: ClassVar[str] = "age"
    entry_names: ClassVar[tuple[str, ...]] = (".agekey", ".sshkey")
    flag: ClassVar[str] = "age"
    letter: ClassVar[str] = "a"
    flag_help: ClassVar[str] = "age recipients: age1…, ssh-ed25519 …, ssh-rsa …"
    variable: ClassVar[str] = "SOPS_AGE_RECIPIENTS"
    rule_field: ClassVar[str] = "age"
    group_field: ClassVar[str] = "age"
    group_entry: ClassVar[Mapping[str, str]] = {}

    def __init__(self, recipient: str, enc: str) -> None:
        """recipient: a hint, not checked.  enc: an armored age file."""
        self.recipient = recipient
        self.enc = enc

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(fields.get("recipient", ""), fields.get("enc", ""))

    def fields(self) -> dict[str, str]:
        return {"enc": self.enc, "recipient": self.recipient}

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:  # noqa: ARG003
        """See keys/base.py. An empty text is no key, an empty part of one an error."""
        from krm_sops.age.recipients import parse

        recipients = [part.strip() for part in text.split(",")] if text else []
        for recipient in recipients:
            parse(recipient)
        return [cls(recipient, "") for recipient in recipients]

    @property
    def identity(self) -> str:
        return self.recipient

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """See keys/base.py."""
        from krm_sops.age.encrypting import armored, encrypt
        from krm_sops.age.recipients import parse

        host = credentials.host
        try:
            recipient = parse(self.recipient, _starter(host), host.ask)
            return type(self)(self.recipient, armored(encrypt(part, recipient)).decode("ascii"))
        except AgeError as error:
            raise KeyUnavailable(error.message, hint=error.hint) from None

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        try:
            return self._unwrap(credentials)
        except AgeError as error:
            raise KeyUnavailable(error.message, hint=error.hint) from None

    def _unwrap(self, credentials: Credentials) -> bytes:
        file = File(dearmor(self.enc.encode("ascii", "replace")))
        attempt = _Attempt(file, self.recipient)
        for sources in _stages(credentials, self.recipient):
            file_key = attempt.with_sources(sources)
            if file_key is not None:
                return file.open(file_key, _LARGEST_PART)
        file_key = attempt.with_costly_ones()
        if file_key is not None:
            return file.open(file_key, _LARGEST_PART)
        raise attempt.failure()


class _Sources:
    """identities: each with the place it came from.  problems: sources that could not be used, and why."""

    __slots__ = ("hint", "identities", "problems")

    def __init__(self) -> None:
        self.identities: list[tuple[str, Identity]] = []
        self.problems: list[str] = []
        self.hint = ""

    def add(
        self,
        reader: Reader,
        place: str,
        data: bytes,
        read_public: Callable[[], bytes] | None = None,
        *,
        words: bool = False,
    ) -> None:
        try:
            self.identities += [(place, found) for found in reader.read(data, place, read_public, words=words)]
        except IdentityError as error:
            self.problem(place, error)

    def problem(self, place: str, error: Exception) -> None:
        self.problems.append(f"{place}: {getattr(error, 'strerror', None) or error}")
        self.hint = self.hint or getattr(error, "hint", "")


class _Attempt:
    """One age file, tried with more and more identities."""

    __slots__ = ("_file", "_known", "_recipient", "_sources", "_tried")

    def __init__(self, file: File, recipient: str) -> None:
        self._file = file
        self._recipient = recipient
        self._known: list[tuple[str, Identity]] = []
        self._tried: set[int] = set()
        self._sources = _Sources()  # everything that went wrong on the way

    def with_sources(self, sources: _Sources) -> bytes | None:
        """The file key, if one of the identities opens the file: first the one whose recipient the document names."""
        for place, identity in sources.identities:
            opener = identity.opener_for(self._recipient)
            if opener is not None:
                file_key = self._open(place, identity, opener)
                if file_key is not None:
                    return file_key
        for place, identity in sources.identities:
            if not identity.costly and id(identity) not in self._tried:
                file_key = self._open(place, identity, identity.unwrap)
                if file_key is not None:
                    return file_key
        self._known += sources.identities
        self._sources.problems += sources.problems
        self._sources.hint = self._sources.hint or sources.hint
        return None

    def with_costly_ones(self) -> bytes | None:
        for place, identity in self._known:
            if id(identity) not in self._tried:
                file_key = self._open(place, identity, identity.unwrap)
                if file_key is not None:
                    return file_key
        return None

    def _open(self, place: str, identity: Identity, unwrap: Unwrap) -> bytes | None:
        """Raises HeaderError. An identity that fails is remembered, and the next one has its turn."""
        self._tried.add(id(identity))
        try:
            return unwrap(self._file.stanzas)
        except IdentityError as error:
            self._sources.problem(place, error)
            return None

    def failure(self) -> WrongKey | KeyUnavailable:
        problems = self._sources.problems
        if not self._known:
            text = "no age identity at hand"
        else:
            labels = [f"{identity.label} from {place}" for place, identity in self._known[:_SHOWN_IDENTITIES]]
            more = len(self._known) - len(labels)
            listed = ", ".join(labels) + (f", and {more} more" if more else "")
            number = len(self._known)
            text = "the only identity does not match" if number == 1 else f"none of {number} identities matches"
            text += f" ({listed})"
        if problems:
            said = [text, *problems] if self._known else [*problems, text]
            return KeyUnavailable("; ".join(said), hint=self._sources.hint or _hint(self._known))
        return WrongKey(text, hint=_hint(self._known))


def _hint(known: Sequence[object]) -> str:
    if known:
        return ""
    return (
        "add a *.agekey entry to the key Secret or the key folder (mounted at /keys in a container), "
        "set SOPS_AGE_KEY or SOPS_AGE_KEY_FILE, or use --key-file"
    )


def _reader(host: Host, *, by_hand: bool) -> Reader:
    """by_hand: whether a person chose the source, on the command line or in the environment."""
    return Reader(host.ask, _starter(host), _BY_HAND_WORK if by_hand and host.ask else _IN_BAND_WORK)


def _starter(host: Host) -> Start | None:
    """What starts plugins, where any program may be started."""
    if not host.commands:
        return None
    from krm_sops.keys.age_programs import allowed_plugin_starter

    return allowed_plugin_starter(host)


def _stages(credentials: Credentials, recipient: str) -> Iterator[_Sources]:
    """Each read once for a credential scope; commands once for each recipient, which they are told."""
    yield credentials.once("age", lambda: _at_hand(credentials))
    yield credentials.once("age ssh", lambda: _ssh_keys(credentials))
    yield credentials.once(f"age command {recipient}", lambda: _from_commands(credentials, recipient))


def _at_hand(credentials: Credentials) -> _Sources:
    found = _Sources()
    host = credentials.host
    for entry in credentials.entries_for("age"):
        place = shown(entry.origin if entry.origin.endswith(entry.name) else f"{entry.origin} ({entry.name})")
        found.add(_reader(host, by_hand=entry.origin.startswith("--key-file")), place, entry.data)
    if credentials.ambient_for("age"):
        reader = _reader(host, by_hand=True)
        text = host.env.get("SOPS_AGE_KEY")
        if text is not None:
            found.add(reader, "SOPS_AGE_KEY", to_bytes(text), words=True)
        path = host.env.get("SOPS_AGE_KEY_FILE")
        if path is not None:
            _add_file(found, host, reader, path, "SOPS_AGE_KEY_FILE ")
        folder = config_folder(host)
        if folder:
            _add_file(found, host, reader, f"{folder}/sops/age/keys.txt")
    return found


def _ssh_keys(credentials: Credentials) -> _Sources:
    found = _Sources()
    if credentials.ambient_for("age"):
        host = credentials.host
        reader = _reader(host, by_hand=True)
        path = host.env.get("SOPS_AGE_SSH_PRIVATE_KEY_FILE")
        if path is not None:
            _add_file(found, host, reader, path, "SOPS_AGE_SSH_PRIVATE_KEY_FILE ")
        home = host.home()
        if home:
            for name in ("id_ed25519", "id_rsa"):
                _add_file(found, host, reader, f"{home}/.ssh/{name}")
    return found


def _add_file(found: _Sources, host: Host, reader: Reader, path: str, variable: str = "") -> None:
    """variable: which one names the file; a file that nobody named may be absent."""
    place = variable + (shown(path) or "(set, but empty)")
    try:
        found.add(reader, place, host.read(path), lambda: host.read(path + ".pub"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if variable:
            found.problem(place, error)
    except OSError as error:
        found.problem(place, error)


def config_folder(host: Host) -> str | None:
    """Where a user's programs keep their settings; sops reads `sops/age/keys.txt` below it."""
    from sys import platform

    chosen = host.env.get("XDG_CONFIG_HOME", "")
    if chosen.startswith("/"):
        return chosen
    home = host.home()
    return home and f"{home}/{'Library/Application Support' if platform == 'darwin' else '.config'}"


_COMMANDS = ("SOPS_AGE_SSH_PRIVATE_KEY_CMD", "SOPS_AGE_KEY_CMD")


def _from_commands(credentials: Credentials, recipient: str) -> _Sources:
    found = _Sources()
    host = credentials.host
    for variable in _COMMANDS:
        command = host.env.get(variable)
        if command is None or not credentials.ambient_for("age"):
            continue
        if not host.may_start(variable):
            found.problems.append(f"{variable} is set, but commands run in the sops verbs only, or by a policy")
            continue
        from krm_sops.keys.age_programs import output_of

        try:
            found.add(_reader(host, by_hand=True), variable, output_of(host, command, recipient))
        except (OSError, ValueError) as error:
            found.problem(variable, error)
    return found


if TYPE_CHECKING:
    _: type[MasterKey] = AgeKey
