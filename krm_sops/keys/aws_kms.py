"""The `kms` section: a data key that AWS KMS wrapped. What it takes to call KMS is imported when a key is opened."""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, shown
from krm_sops.keys.wrapped import with_enc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Protocol, Self

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey

    class Ask(Protocol):
        """One call of KMS: the bytes that its answer holds under the name `want`."""

        def __call__(self, operation: str, want: str, context: Mapping[str, str], **arguments: str) -> bytes: ...


CONTEXT = "context."
"""How the name of a field begins that holds one entry of the encryption context."""


class AwsKmsKey:
    __slots__ = ("arn", "aws_profile", "context", "created_at", "enc", "role")

    section: ClassVar[str] = "kms"
    entry_names: ClassVar[tuple[str, ...]] = ("sops.aws-kms",)
    flag: ClassVar[str] = "kms"
    letter: ClassVar[str] = "k"
    flag_help: ClassVar[str] = "ARNs of AWS KMS keys; ARN+ROLE names a role to assume first"
    variable: ClassVar[str] = "SOPS_KMS_ARN"
    rule_field: ClassVar[str] = "kms"
    group_field: ClassVar[str] = "kms"
    group_entry: ClassVar[Mapping[str, str]] = {
        "arn": "arn",
        "role": "role",
        "context": "context",
        "aws_profile": "aws_profile",
    }

    def __init__(
        self, arn: str, role: str, context: Mapping[str, str], aws_profile: str, created_at: str, enc: str
    ) -> None:
        """arn: of a key or alias, which tells the region.  role: ARN of the role to assume first, or "".

        enc: base64 of what KMS gave.  None of them is checked before the key is used: another may open the document.
        """
        self.arn = arn
        self.role = role
        self.context = dict(context)
        self.aws_profile = aws_profile
        self.created_at = created_at
        self.enc = enc

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(
            fields.get("arn", ""),
            fields.get("role", ""),
            {name.removeprefix(CONTEXT): text for name, text in fields.items() if name.startswith(CONTEXT)},
            fields.get("aws_profile", ""),
            fields.get("created_at", ""),
            fields.get("enc", ""),
        )

    def fields(self) -> dict[str, str]:
        return {
            "arn": self.arn,
            "aws_profile": self.aws_profile,
            **{CONTEXT + name: text for name, text in self.context.items()},
            "created_at": self.created_at,
            "enc": self.enc,
            **({"role": self.role} if self.role else {}),
        }

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:
        """See keys/base.py. ``ARN+ROLE`` also names a role to assume."""
        found = []
        for part in text.replace(" ", "").split(","):
            arn, mark, role = part.partition("+arn:")
            named = {"arn": arn, "role": f"arn:{role}"} if mark and arn else {"arn": part}
            found.append(cls.from_fields({**shared, **named}))
        return found

    @property
    def identity(self) -> str:
        """``ARN[+ROLE][|CONTEXT[|PROFILE]]``, as sops prints it."""
        text = f"{self.arn}+{self.role}" if self.role else self.arn
        context = ",".join(f"{name}:{self.context[name]}" for name in sorted(self.context))
        if self.aws_profile:
            return f"{text}|{context}|{self.aws_profile}"
        return f"{text}|{context}" if context else text

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        from krm_sops.keys.aws_api import WRONG_CONTEXT, AwsError
        from krm_sops.keys.cloud import base64_decoded, base64_encoded

        blob = base64_encoded(base64_decoded(self.enc, "its enc"))
        if not blob:
            raise KeyUnavailable("its enc is empty")

        def decrypt(ask: Ask) -> bytes:
            try:
                return ask("Decrypt", "Plaintext", self.context, CiphertextBlob=blob)
            except AwsError as error:
                if error.code == WRONG_CONTEXT:
                    for context in self._contexts_of_old():
                        try:
                            return ask("Decrypt", "Plaintext", context, CiphertextBlob=blob)
                        except AwsError:
                            continue
                raise

        return self._with_kms(credentials, decrypt)

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """The same key with `part` (a data key or share) wrapped by it. Raises KeyUnavailable."""
        from krm_sops.keys.cloud import base64_encoded

        plain = base64_encoded(part)
        blob = self._with_kms(credentials, lambda ask: ask("Encrypt", "CiphertextBlob", self.context, Plaintext=plain))
        return with_enc(self, base64_encoded(blob))

    def _with_kms(self, credentials: Credentials, use: Callable[[Ask], bytes]) -> bytes:
        """What `use` makes of KMS, which it may ask, with the first credentials that are good enough."""
        from krm_sops.keys import aws_credentials
        from krm_sops.keys.aws_api import AwsKeys, Place, check_role, kms
        from krm_sops.keys.cloud import base64_decoded, first_usable, text_at

        place = Place.of_key(self.arn)
        if self.role:
            check_role(self.role)
            if not credentials.ambient_for(self.section):  # S13: what a document names is not the entry's own power
                raise KeyUnavailable(
                    f"the document asks to assume the role {shown(self.role)}, which a sops.aws-kms entry may not",
                    hint="set ambient: always if it may, or use an entry with the keys of that role",
                )

        def call(keys: AwsKeys) -> bytes:
            if self.role:
                keys = aws_credentials.assumed(credentials, place, keys, self.role)

            def ask(operation: str, want: str, context: Mapping[str, str], **arguments: str) -> bytes:
                request: dict[str, Any] = {"KeyId": self.arn, **arguments}
                if context:
                    request["EncryptionContext"] = dict(context)
                answer = text_at(kms(credentials.host, place, keys, operation, request), want)
                if not answer:
                    raise KeyUnavailable(f"KMS answered without a {want}")
                return base64_decoded(answer, f"the {want} of KMS")

            return use(ask)

        found = aws_credentials.sources(credentials, place, self.aws_profile)
        return first_usable(found, call, aws_credentials.NO_KEYS_HINT)

    def _contexts_of_old(self) -> list[dict[str, str]]:
        """What sops before 3.3 may have used instead: it gave every entry of the context one and the same value."""
        values = sorted(set(self.context.values()))
        return [dict.fromkeys(self.context, value) for value in values] if 1 < len(values) <= 10 else []


if TYPE_CHECKING:
    _: type[MasterKey] = AwsKmsKey
