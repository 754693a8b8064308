"""SopsTemplate: objects whose placeholders give way to secrets, at the last step.

Values come from Secrets among the items, decrypted before, and from encrypted files; of the config's own namespace only
(S32). They go into new objects that the config describes, and into items that it names: nothing else is looked into,
so that no decrypted value is ever read as a template.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from krm_sops.errors import ConfigError, InputError, KrmSopsError, shown
from krm_sops.functions import Answer, PolicyNeeded
from krm_sops.functions.decrypt import key_secrets, was_in
from krm_sops.functions.generate import concluded, files_of, refuse_in_place
from krm_sops.functions.template_plan import Plan
from krm_sops.functions.template_restart import annotate, annotation_of, checksum, pods_of, read_by
from krm_sops.krm.item import LOCAL_CONFIG, MASK, MASKED, refuse_duplicates
from krm_sops.krm.results import Result
from krm_sops.stores import format_for_path
from krm_sops.templates import OPEN, Filling, Source, filled_file, named_values, plain_text
from krm_sops.tree import Branch, Entry, from_bytes, leaves, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.functions import Given
    from krm_sops.functions.files import Files
    from krm_sops.functions.template_plan import From, Made
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.policy import Policy
    from krm_sops.tree import Node, Scalar

_PLACES = {"Secret": ("stringData", "data"), "ConfigMap": ("data",)}


def run(given: Given, host: Host, policy: Policy | None) -> Answer:
    """Raises FunctionError with everything that is wrong, ConfigError, PolicyError."""
    config = given.config
    assert config is not None
    if policy is None:
        raise PolicyNeeded
    answer = Answer()
    plan = Plan(config)
    options = plan.options
    options.kustomize = options.kustomize or given.from_kustomize
    answer.keys_in_config = any(key.has("value") for key in options.keys)
    refused = options.obey(policy)
    answer.results += [Result.of(error, config) for error in refused]
    if not refused:
        try:
            refuse_in_place(given, config, options, "set allowPlaintext: true")
            _Work(given, host, policy, plan, answer).render()
        except KrmSopsError as error:
            answer.results.append(Result.of(error, config))
    return concluded(answer, given, config, options)


class _Work:
    """home: the namespace that the config's has become, where kustomize moved it along with the Secrets."""

    def __init__(self, given: Given, host: Host, policy: Policy, plan: Plan, answer: Answer) -> None:
        assert given.config is not None
        self.given = given
        self.host = host
        self.policy = policy
        self.plan = plan
        self.answer = answer
        self.config = given.config
        self.home = self.config.namespace
        self.mask = policy.mask
        self._files: Files | None = None
        self._source_items: list[Item] = []
        self._done: list[tuple[str, str, str]] = []

    @property
    def files(self) -> Files:
        if self._files is None:
            self._files = files_of(self.config, self.host, self.policy, self.plan.options)
        return self._files

    def render(self) -> None:
        sources = self._sources()
        targets = [self._item(kind, name, f"spec.items[{at}]") for at, (kind, name) in enumerate(self.plan.items)]
        for made in self.plan.made:
            self.answer.added.append(self._object(made, sources))
        for item in targets:
            self._fill(item, sources)
        for source in sources:
            source.refuse_unused()
        self._tell_left(targets)
        self._restart()

    # Values

    def _sources(self) -> list[Source]:
        credentials = self._credentials() if any(one.file for one in self.plan.sources) else None
        found = []
        for one in self.plan.sources:
            values, sealing = (
                self._of_secret(one) if credentials is None or one.secret else self._of_file(one, credentials)
            )
            if one.values is not None:
                for old in one.values.values():
                    if old not in values:
                        raise ConfigError(f"{one.label} has no value {shown(old, 80)!r}", path=(one.where, "values"))
                values = {new: values[old] for new, old in one.values.items()}
            elif one.prefix:
                values = {f"{one.prefix}/{name}" if name else one.prefix: value for name, value in values.items()}
            found.append(Source(one.label, values, strict=one.values is not None, sealing=sealing))
        return found

    def _credentials(self) -> Credentials:
        from krm_sops.functions.decrypt_keys import Keys

        options = self.plan.options
        secrets = key_secrets(self.given, options, self.answer)
        keys = Keys(self.given, self.host, self.policy, options, secrets, self.answer)
        for error in keys.refused():
            raise error
        return keys.credentials()

    def _of_file(self, one: From, credentials: Credentials) -> tuple[dict[str, Scalar], bytes]:
        """The values of a file, one without a name where it has no format; and its data key."""
        from krm_sops.datakey import recover

        file = self.files.read(one.file)
        documents = file.decrypt(credentials)
        sealing = recover(file.metadata, credentials).raw
        if file.format == "binary":
            one.prefix = one.prefix or one.file.rpartition("/")[2]
            return {"": from_bytes(file.written(documents))}, sealing
        if len(documents) != 1:
            raise ConfigError(f"{one.label}: {len(documents)} documents, where one gives values")
        return named_values(documents[0]), sealing

    def _of_secret(self, one: From) -> tuple[dict[str, Scalar], bytes]:
        item = self._one("Secret", one.secret, one.where)
        refuse_duplicates(item.branch)
        self._source_items.append(item)
        self._move_to(item)
        self.mask = self.mask or bool(item.annotation(MASKED))
        values: dict[str, Scalar] = {}
        for field in ("data", "stringData"):
            branch = item.branch.get(field)
            for entry in branch.entries if isinstance(branch, Branch) else ():
                values[str(entry.key)] = _content(entry.value, field, f"{one.label}: {shown(entry.key, 80)}")
        return values, b""

    def _one(self, kind: str, name: str, where: str) -> Item:
        """The item of the config's namespace. Raises ConfigError where there is none, several, or an encrypted one."""
        namespace = self.config.namespace
        found = [
            item
            for item in self.given.named(name)
            if (item.field("apiVersion"), item.kind, item.original_name) == ("v1", kind, name)
            and was_in(item, namespace)
        ]
        if len(found) != 1:
            number = f"{len(found)} {kind}s" if found else f"no {kind}"
            place = f"in the namespace {shown(namespace, 80)!r}" if namespace else "without a namespace"
            raise ConfigError(
                f"{where}: {number} of the name {shown(name, 80)!r} {place}, like the config's, found among the items",
                path=(where,),
            )
        if found[0].branch.number("sops") is not None:
            hint = "run SopsDecrypt before SopsTemplate, or name the file: then it stays encrypted in the list"
            raise ConfigError(f"{where}: {kind} {shown(name, 80)} is encrypted", hint=hint, path=(where,))
        return found[0]

    def _move_to(self, item: Item) -> None:
        if item.namespace != self.home and self.home != self.config.namespace:
            raise ConfigError(f"{item}: kustomize has moved it, and others, into different namespaces")
        self.home = item.namespace

    # Objects

    def _object(self, made: Made, sources: list[Source]) -> Branch:
        filling = Filling(sources, MASK if self.mask else "", self.given.limits.document_bytes)
        values: dict[str, str] = {}
        for key, text in made.texts.items():
            values[key] = self._text(made, key, text, filling)
        for key, path in made.files.items():
            raw = self.files.raw(path)
            before = filling.scalars
            form = format_for_path(path)
            content = from_bytes(filled_file(raw, "text" if form == "binary" else form, filling))
            values[key] = MASK if self.mask and filling.scalars > before else content
        if not filling.scalars:
            raise ConfigError(f"{made.where} has no placeholder", path=(made.where,))
        self._done.append((made.kind, made.name, checksum(filling.sources, values)))
        return self._with_values(made, values)

    def _text(self, made: Made, key: str, text: str, filling: Filling) -> str:
        before = filling.scalars
        found = plain_text(filling.scalar(text, (made.where, key)))
        return MASK if self.mask and filling.scalars > before else found

    def _with_values(self, made: Made, values: dict[str, str]) -> Branch:
        """Bytes that are no UTF-8 stand where Kubernetes wants base64."""
        texts, raw = ("data", "binaryData") if made.kind == "ConfigMap" else ("stringData", "data")
        fields: dict[str, list[Entry]] = {texts: [], raw: []}
        for key, text in sorted(values.items()):
            is_text = not any("\ud800" <= c <= "\udfff" for c in text)
            fields[texts if is_text else raw].append(Entry(key, text if is_text else _base64(to_bytes(text))))
        head = made.head(self.home).entries
        branch = Branch([*head, *(Entry(name, Branch(entries)) for name, entries in fields.items() if entries)])
        if not self.mask:
            return branch
        from krm_sops.functions.masking import marked

        return marked(branch)

    # Items

    def _item(self, kind: str, name: str, where: str) -> Item:
        item = self._one(kind, name, where)
        if item in self._source_items:
            raise ConfigError(f"{where}: Secret {shown(name, 80)} gives values, so it is no template", path=(where,))
        refuse_duplicates(item.branch)
        self._move_to(item)
        return item

    def _fill(self, item: Item, sources: list[Source]) -> None:
        """Replace the values of an item that hold placeholders, where they stand."""
        filling = Filling(sources, MASK if self.mask else "", self.given.limits.document_bytes)
        values: dict[str, str] = {}
        item.mask = self.mask
        at = 0
        for entry in item.branch.entries:
            if isinstance(entry.value, Branch) and entry.key in _PLACES[item.kind]:
                for inner in entry.value.entries:
                    self._put(item, at, (str(entry.key), str(inner.key)), inner.value, filling, values)
                    at += sum(1 for _ in leaves(inner.value))
            else:
                at += sum(1 for _ in leaves(entry.value))
        if not filling.scalars:
            raise ConfigError(f"{item} is named as a template, but has no placeholder", path=("spec", "items"))
        if self.mask:
            item.annotate(MASKED, "true")
        self._done.append((item.kind, item.name, checksum(filling.sources, values)))

    def _put(
        self,
        item: Item,
        at: int,
        path: tuple[str, str],
        value: Node,
        filling: Filling,
        values: dict[str, str],
    ) -> None:
        """at: the number of the leaf.  values: gets what the object holds then."""
        if not isinstance(value, str):
            return
        coded = item.kind == "Secret" and path[0] == "data"
        text = plain_text(_content(value, "data", f"{item}: {shown(path[1], 80)}")) if coded else value
        if OPEN in text:
            text = plain_text(filling.scalar(text, path))
            item.put(at, _base64(to_bytes(text)) if coded else text, quoted=True, path=path)
        values[".".join(path)] = text

    # What else there is

    def _tell_left(self, targets: list[Item]) -> None:
        """A placeholder that stays would be deployed."""
        known = [*targets, *self._source_items, *self.answer.key_items]
        for item in self.given.holding(OPEN.encode()):
            if item in known or item.kind in ("SopsTemplate", "") or item.annotation(LOCAL_CONFIG) == "true":
                continue
            is_place = item.field("apiVersion") == "v1" and item.kind in _PLACES
            text = "holds a placeholder, and spec.items does not name it"
            hint = "name it there; or is it a value that only looks like one?"
            if not is_place:
                text, hint = "holds a placeholder, where none is resolved", "only Secrets and ConfigMaps can hold one"
            severity = "warning" if is_place or not was_in(item, self.config.namespace) else "error"
            self.answer.results.append(Result(severity, "InvalidConfig", text, hint=hint, item=item))

    def _restart(self) -> None:
        """Put a checksum on the workloads that read what was rendered."""
        if self.plan.checksum is False or self.mask:  # nothing that follows from a secret leaves then
            return
        done = {(kind, name): found for kind, name, found in self._done}
        name = annotation_of(self.config)
        for item in self._workloads():
            pods = pods_of(item)
            if pods is None:
                continue
            read = sorted(read_by(pods) & set(done))
            if not read:
                continue
            found = [done[one] for one in read]
            if all(found):
                value = found[0] if len(found) == 1 else checksum_of(found)
                annotate(item, pods, name, value)
            else:
                self._without(item)

    def _workloads(self) -> list[Item]:
        return [item for item in self.given.holding(b"containers") if item.namespace == self.home]

    def _without(self, item: Item) -> None:
        text = "gets no checksum of its Secret: a value came from a Secret that was decrypted before, without its key"
        hint = "give the encrypted file in spec.secrets instead; or set checksum: false"
        severity = "error" if self.plan.checksum else "info"
        self.answer.results.append(Result(severity, "ChecksumUnavailable", text, hint=hint, item=item))


def checksum_of(found: list[str]) -> str:
    """One for several objects, each of which has a keyed one."""
    from krm_sops.primitives import sha256

    digest: str = sha256("".join(found).encode()).digest().hex()[:32]
    return digest


def _content(value: Node, field: str, where: str) -> Scalar:
    """What Kubernetes makes of a value. Raises InputError."""
    if isinstance(value, (Branch, list)):
        raise InputError(f"{where} is no text")
    if field == "stringData" or value is None:
        return plain_text(value)  # type: ignore[arg-type]
    try:
        return from_bytes(a2b_base64("".join(str(value).split()), strict_mode=True))
    except (Base64Error, ValueError):
        pass  # an exception that is raised above would carry the value along
    raise InputError(f"{where} is no base64")


def _base64(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).decode()
