"""OpenPGP keys: entries `*.asc`, `secring.gpg` as sops reads it, and the gpg program where it may be started.

Differs from sops: what has no integrity protection, or is encrypted to a passphrase as well, is refused before gpg sees
it, and `pubring.gpg` is not searched for secret keys (there are none in it).
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, WrongKey, shown
from krm_sops.keys.wrapped import with_enc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import ClassVar

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.keys.base import MasterKey
    from krm_sops.pgp.keys import SecretKey
    from krm_sops.pgp.public import Certificate

_HEX = frozenset("0123456789abcdefABCDEF")
_GPG_ENVIRONMENT = (
    *("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR"),
    *("GNUPGHOME", "GPG_AGENT_INFO", "GPG_TTY", "PINENTRY_USER_DATA"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
)
"""What gpg, its agent and a pinentry window need."""
_KEYRINGS = ("pubring.gpg", "pubring.kbx")
"""sops reads the first itself, which old versions of gpg wrote, and leaves the other to gpg."""
_KEYRING_LIMIT = 256 << 20
_GPG_OUTPUT = 4096
_GPG_SECONDS = 30.0
_PROMPTS = 3


class PgpKey:
    section: ClassVar[str] = "pgp"
    entry_names: ClassVar[tuple[str, ...]] = (".asc",)
    flag: ClassVar[str] = "pgp"
    letter: ClassVar[str] = "p"
    flag_help: ClassVar[str] = "fingerprints of OpenPGP keys, whose public keys are in gpg's keyring or a --key-file"
    variable: ClassVar[str] = "SOPS_PGP_FP"
    rule_field: ClassVar[str] = "pgp"
    group_field: ClassVar[str] = "pgp"
    group_entry: ClassVar[Mapping[str, str]] = {}

    __slots__ = ("created_at", "enc", "identity")

    def __init__(self, fingerprint: str, enc: str, created_at: str = "") -> None:
        """fingerprint: hexadecimal, perhaps with a "!" for "this very subkey".  enc: an armored message."""
        self.identity = fingerprint
        self.enc = enc
        self.created_at = created_at

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> PgpKey:
        return cls(fields.get("fp", "").replace(" ", ""), fields.get("enc", ""), fields.get("created_at", ""))

    def fields(self) -> dict[str, str]:
        return {"created_at": self.created_at, "enc": self.enc, "fp": self.identity}

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[PgpKey]:  # noqa: ARG003
        """See keys/base.py."""
        return [cls(fingerprint, "") for fingerprint in text.replace(" ", "").split(",")]

    def wrap(self, part: bytes, credentials: Credentials) -> PgpKey:
        """Encrypt to the public key, in a key file that was given or gpg's keyring, or let gpg do it. See keys/base.py.

        Which of its subkeys: that which gpg takes.
        """
        digits = self._digits()
        certificates: _Certificates = credentials.once("pgp public", lambda: _Certificates(credentials))
        try:
            return with_enc(self, certificates.encrypt(part, digits.upper(), exact=self.identity.endswith("!")))
        except KeyUnavailable as error:
            failed = error
        if credentials.ambient == "never" or not credentials.host.may_start("gpg"):
            raise failed
        try:
            enc = _gpg_encrypt(part, self.identity, credentials.host)
        except KeyUnavailable as error:
            raise KeyUnavailable(f"{failed.message}; {error.message}", hint=failed.hint or error.hint) from None
        return with_enc(self, enc)

    def _digits(self) -> str:
        digits = self.identity.removesuffix("!")
        if not (16 <= len(digits) <= 64 and _HEX.issuperset(digits)):
            raise KeyUnavailable(f"{shown(self.identity, 80)!r} is no fingerprint (16 to 64 hexadecimal digits)")
        return digits

    def unwrap(self, credentials: Credentials) -> bytes:
        """Raises WrongKey, KeyUnavailable. At most 4 KiB; its length is not checked."""
        from krm_sops.pgp.message import Message

        self._digits()
        message = Message.read(self.enc.encode(errors="replace"))
        ring: _Ring = credentials.once("pgp", lambda: _Ring(credentials))
        try:
            if not ring.keys:
                raise WrongKey(
                    "no OpenPGP secret key at hand",
                    hint="hand one in: an entry *.asc of the key Secret or key folder, --key-file, "
                    "or for the sops verbs gpg with its GNUPGHOME",
                )
            return message.open(ring.keys, ring.passphrases)
        except (WrongKey, KeyUnavailable) as error:
            failed = error
        problems = list(ring.problems)
        if credentials.ambient_for("pgp") and credentials.host.may_start("gpg"):
            try:
                return _gpg_decrypt(message.content, credentials.host)
            except KeyUnavailable as error:
                problems.append(error.message)
        if not problems:
            raise failed
        unavailable = isinstance(failed, KeyUnavailable) or ring.problems
        raise (KeyUnavailable if unavailable else WrongKey)("; ".join([failed.message, *problems]), hint=failed.hint)


class _Ring:
    """The secret keys of one credential scope, read once.

    problems: entries that could not be read. They matter only to a message that no other key opens.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.keys: list[SecretKey] = []
        self.problems: list[str] = []
        self._host = credentials.host
        self._known: list[bytes] = []
        for entry in credentials.entries_for("pgp"):
            self._add(entry.data, f"{shown(entry.name)} ({shown(entry.origin)})")
        if credentials.ambient_for("pgp"):
            self._add_legacy_ring()

    def _add(self, data: bytes, where: str) -> None:
        from krm_sops.pgp.keys import read_ring

        try:
            found = read_ring(data)
        except KeyUnavailable as error:
            self.problems.append(f"{where}: {error.message}")
            return
        if not found:
            self.problems.append(f"{where}: no secret key for decryption in it")
        self.keys += found

    def _add_legacy_ring(self) -> None:
        """`secring.gpg`, which gpg itself left behind with 2.1 and sops still reads first."""
        folder = _gpg_home(self._host)
        if not folder:
            return
        path = f"{folder}/secring.gpg"
        try:
            data = self._host.read(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self.problems.append(f"{shown(path)}: {error.strerror}")
            return
        if data:
            self._add(data, shown(path))

    def passphrases(self, key: SecretKey) -> Iterator[bytes]:
        """Those that opened other keys (subkeys share theirs), then what a person says, as often as sops asks."""
        yield from tuple(self._known)
        if self._host.ask is None:
            return
        for _ in range(_PROMPTS):
            answer = self._host.ask(f"passphrase of OpenPGP key {key.name}: ").encode(errors="surrogateescape")
            if not answer:
                return
            self._known.append(answer)
            yield answer
            self._known.remove(answer)  # asked for one more, so it was wrong


class _Certificates:
    """The public keys of one credential scope: those of key files, then those of gpg's keyring.

    problems: places that could not be read.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.problems: list[str] = []
        self._found: list[tuple[str, Certificate]] = []
        for entry in credentials.entries_for("pgp"):
            self._add(entry.data, f"{shown(entry.name)} ({shown(entry.origin)})")
        folder = _gpg_home(credentials.host)
        if not folder or credentials.ambient == "never":
            return
        # Who names another gpg means its keyring, which may be elsewhere.
        names = _KEYRINGS[:1] if credentials.host.env.get("SOPS_GPG_EXEC") else _KEYRINGS
        for name in names:
            path = f"{folder}/{name}"
            try:
                self._add(credentials.host.read(path, _KEYRING_LIMIT), shown(path))
            except FileNotFoundError:
                continue
            except OSError as error:
                self.problems.append(f"{shown(path)}: {error.strerror}")

    def _add(self, data: bytes, where: str) -> None:
        from krm_sops.pgp.public import read_certificates

        try:
            self._found += [(where, certificate) for certificate in read_certificates(data)]
        except KeyUnavailable as error:
            self.problems.append(f"{where}: {error.message}")

    def encrypt(self, part: bytes, fingerprint: str, *, exact: bool) -> str:
        """Raises KeyUnavailable."""
        from time import time

        from krm_sops.pgp.encrypting import encrypt

        for where, certificate in self._found:
            if certificate.has(fingerprint):
                try:
                    return encrypt(part, certificate.recipient(fingerprint, int(time()), exact=exact))
                except KeyUnavailable as error:
                    raise KeyUnavailable(f"public key {fingerprint[-16:]} of {where}: {error.message}") from None
        reasons = ["its public key is not at hand", *self.problems]
        raise KeyUnavailable(
            "; ".join(reasons), hint=f"gpg --recv-keys {fingerprint}, gpg --import FILE, or hand it in with --key-file"
        )


def _gpg_home(host: Host) -> str:
    home = host.home()
    return host.env.get("GNUPGHOME") or (f"{home}/.gnupg" if home else "")


def _gpg_decrypt(message: bytes, host: Host) -> bytes:
    """What `gpg --decrypt` makes of a message whose packets were looked at already. Raises KeyUnavailable."""
    arguments = ("--keyserver-options", "no-auto-key-retrieve", "--max-output", str(_GPG_OUTPUT), "--decrypt")
    path, output = _gpg(arguments, message, host, "decrypt it")
    if not output:  # what gpg before 2.3 makes of a packet type it does not know (getsops/sops#896)
        raise KeyUnavailable(f"{path} gave zero bytes")
    if len(output) > _GPG_OUTPUT:
        raise KeyUnavailable(f"{path} gave more than {_GPG_OUTPUT} bytes, which is no data key")
    return output


def _gpg_encrypt(part: bytes, fingerprint: str, host: Host) -> str:
    """An armored message, as sops lets gpg make it: the key counts as trusted, as who wrote the rule says so.

    fingerprint: checked. Raises KeyUnavailable.
    """
    exact = "!" if fingerprint.endswith("!") else ""
    trusted = fingerprint.removesuffix("!")[-16:] + exact
    arguments = ["--no-default-recipient", "--yes", "--no-encrypt-to", "--trusted-key", trusted]
    path, output = _gpg([*arguments, "--armor", "--recipient", fingerprint, "--encrypt"], part, host, "encrypt to it")
    text = output.decode("ascii", "replace").strip()
    if not text.startswith("-----BEGIN PGP MESSAGE-----"):
        raise KeyUnavailable(f"{path} gave no armored message")
    return text


def _gpg(arguments: Sequence[str], stdin: bytes, host: Host, what: str) -> tuple[str, bytes]:
    """The program's path, for messages, and its output. Raises KeyUnavailable."""
    program = host.env.get("SOPS_GPG_EXEC") or "gpg"
    if program.startswith("/"):
        path: str | None = program
    else:
        path = None if "/" in program else host.program(program)
    if path is None:
        raise KeyUnavailable(f"{shown(program)} was not found (SOPS_GPG_EXEC, absolute folders of PATH)")
    environment = {name: host.env[name] for name in _GPG_ENVIRONMENT if name in host.env}
    environment["PATH"] = ":".join(folder for folder in host.env.get("PATH", "").split(":") if folder.startswith("/"))
    argv = [path, "--batch", "--quiet", *arguments]
    try:
        status, output = host.run(argv, stdin=stdin, env=environment, timeout=_GPG_SECONDS)
    except TimeoutError as error:
        raise KeyUnavailable(f"{shown(path)}: {error}") from None
    except OSError as error:
        raise KeyUnavailable(f"{shown(path)} could not be started: {error.strerror}") from None
    if status != 0:
        raise KeyUnavailable(f"{shown(path)} could not {what} either (exit status {status})")
    return shown(path), output


_: type[MasterKey] = PgpKey
