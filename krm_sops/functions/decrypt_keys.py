"""Where the keys of a functionConfig come from, in the order of their rank; nothing is opened before all is allowed.

Apart from `decrypt`: without an item to decrypt none of this is imported.
"""

from __future__ import annotations

from krm_sops.credentials import Credentials
from krm_sops.errors import ConfigError, PolicyError, shown
from krm_sops.keysources import from_entries, from_file, from_folder, from_text
from krm_sops.krm.item import PACKAGE_PATH, PATH, refuse_duplicates
from krm_sops.krm.results import Result
from krm_sops.tree import Branch, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import KeyEntry
    from krm_sops.functions import Answer, Given
    from krm_sops.functions.decrypt import Options
    from krm_sops.functions.proofs import Proofs
    from krm_sops.host import Host
    from krm_sops.krm.config import Fields
    from krm_sops.krm.item import Item
    from krm_sops.policy import Policy
    from krm_sops.tree import Node


class Keys:
    """functionConfig, key Secret among the items, mounted folder; then ambient. Or the operator's key files alone.

    secrets: those that `secretRef` names.  reading: the key Secret that is being read, for errors.
    """

    def __init__(
        self, given: Given, host: Host, policy: Policy, options: Options, secrets: list[Item], answer: Answer
    ) -> None:
        self.given = given
        self.host = host
        self.policy = policy
        self.options = options
        self.secrets = secrets
        self.answer = answer
        self.limits = given.limits
        self.reading: Item | None = None
        self._proofs: Proofs | None = None

    def proofs(self) -> Proofs:
        """What may stand in for a MAC under kustomize; the same for all items."""
        if self._proofs is None:
            from krm_sops.functions.proofs import Proofs

            given = self.given
            self._proofs = Proofs(self.host, self.policy, self.limits, given.originals, has_files=given.config is None)
        return self._proofs

    def refused(self) -> list[PolicyError]:
        """What the config asks for in vain. No file is opened for it."""
        if self.policy.key_files:
            return []
        asked: list[tuple[str, str, str]] = []
        config = self.given.config
        if config is not None and config.kind == "Secret":
            asked.append(("config", "the functionConfig", ""))
        for key in self.options.keys:
            source = next(name for name in ("value", "env", "file") if key.has(name))
            asked.append(("config" if source == "value" else source, f"{key.where}.{source}", key.text("file")))
        if self.options.secret_ref:
            asked.append(("secretRef", f"the Secret {shown(self.options.secret_ref, 80)}", ""))
        found: list[PolicyError] = []
        for source, where, path in asked:
            try:
                self.policy.check_source(source, where)
                if path:
                    self.policy.check_file(self._resolved(path), where, self.host)
            except PolicyError as error:
                found.append(error)
        return found

    def credentials(self) -> Credentials:
        """Raises ConfigError, PolicyError; DataKeyError and more for a key Secret that is encrypted itself."""
        policy = self.policy
        ambient = self.options.ambient
        if policy.key_files:
            own = [from_file(path, self.host, f"--key-file {path}") for path in policy.key_files]
            return Credentials(self.host, own, ambient)
        entries = [self._from_field(key) for key in self.options.keys]
        folder = self._from_folder()
        others = Credentials(self.host, [*entries, *folder], ambient)
        config = self.given.config
        if config is not None and config.kind == "Secret":
            entries += self._from_secret(config, "functionConfig Secret", others)
        if self.options.secret_ref:
            entries += self._from_secret(self._referred(), "Secret", others)
        self.reading = None
        return Credentials(self.host, [*entries, *folder], ambient)

    def _from_folder(self) -> list[KeyEntry]:
        template = self.policy.folder(self.host)
        if template is None:
            return []
        found, misnamed = from_folder(self.host, template)
        self._warn(misnamed, "the key folder", None)
        return found

    def _referred(self) -> Item:
        config = self.given.config
        assert config is not None
        namespace = config.namespace
        where = f"in the namespace {shown(namespace, 80)!r}" if namespace else "without a namespace"
        if len(self.secrets) != 1:
            number = f"{len(self.secrets)} Secrets" if self.secrets else "no Secret"
            raise ConfigError(
                f"secretRef: {number} of the name {shown(self.options.secret_ref, 80)!r} {where}, like the config's, "
                "found among the items",
                hint="the key Secret must be one of the resources, in the namespace of the config that names it",
            )
        return self.secrets[0]

    def _from_secret(self, secret: Item, what: str, others: Credentials) -> list[KeyEntry]:
        """others: the config's other keys: they open a Secret that is encrypted itself; one level, no circles."""
        self.reading = secret
        refuse_duplicates(secret.branch)
        origin = f"{what} {shown(secret.name, 80)}"
        if secret.branch.number("sops") is None:
            values = [
                (field, *entry) for field in _FIELDS for entry in _entries(secret.branch.get(field), field, origin)
            ]
        else:
            from krm_sops.functions.decrypt_item import Opening, opened_leaves
            from krm_sops.functions.regroup import group_of

            opening = Opening(others, self.options, self.answer, self.limits, self.proofs)
            leaves = opened_leaves(secret, group_of(secret, self.given.encrypted()), opening)
            values = [(path[0], path[1], leaf) for path, leaf in leaves if len(path) == 2 and path[0] in _FIELDS]
        raw = [(name, _value(field, value, f"{origin}: the entry {shown(name, 80)}")) for field, name, value in values]
        found, misnamed = from_entries(raw, origin)
        self._warn(misnamed, origin, secret)
        return found

    def _warn(self, misnamed: list[str], origin: str, item: Item | None) -> None:
        for name in misnamed:
            self.answer.results.append(
                Result(
                    "warning",
                    "InvalidConfig",
                    f"{origin}: the entry {shown(name, 80)!r} looks like a key but is ignored for its name",
                    hint="name it *.agekey, *.asc or *.sshkey",
                    item=item,
                )
            )

    def _from_field(self, key: Fields) -> KeyEntry:
        if key.has("value"):
            return from_text(key.text("value").encode(), "value", f"{key.where}.value")
        if key.has("env"):
            name = key.text("env")
            value = self.host.env.get(name)
            if not value:
                raise ConfigError(
                    f"{key.where}.env names {shown(name, 80)}, which is not set",
                    hint="a container sees only the variables that it is given (-e, envs)",
                )
            return from_text(value.encode("utf-8", "surrogateescape"), name, f"${shown(name, 80)}")
        origin = f"{key.where}.file {shown(key.text('file'))}"
        path = self._resolved(key.text("file"))
        if not self.policy.bounds_files:
            return from_file(path, self.host, origin)
        return from_file(self.policy.check_file(path, origin, self.host), self.host, origin, follow=False)

    def _resolved(self, path: str) -> str:
        """A path relative to the config's own file where kpt tells it, else to the working folder."""
        config = self.given.config
        assert config is not None
        package, file = config.annotation(PACKAGE_PATH), config.annotation(PATH)
        if path.startswith("/") or not package:
            return path
        folder, slash, _ = file.rpartition("/")
        return f"{package}/{folder}{slash}{path}"


_FIELDS = ("data", "stringData")


def _entries(values: Node, field: str, origin: str) -> list[tuple[str, Node]]:
    if values is None:
        return []
    if not isinstance(values, Branch):
        raise ConfigError(f"{origin}: {field} is no mapping")
    return [(str(entry.key), entry.value) for entry in values.entries]


def _value(field: str, value: Node, where: str) -> bytes:
    """The bytes of a Secret's entry."""
    from binascii import Error, a2b_base64

    if not isinstance(value, str):
        raise ConfigError(f"{where} is no string")
    if field == "stringData":
        return to_bytes(value)
    try:
        return a2b_base64("".join(value.split()), strict_mode=True)
    except (Error, ValueError):
        raise ConfigError(f"{where} is no base64", hint="is it encrypted?") from None
