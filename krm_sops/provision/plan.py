"""Which sources run: those whose values are not yet in the file, and those that are to be renewed."""

from __future__ import annotations

from krm_sops.errors import ConfigError
from krm_sops.provision.spec import slashed
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from krm_sops.provision.spec import Secret
    from krm_sops.tree import Node

MAKE, KEEP, RENEW = "make", "keep", "renew"


class Step:
    """action: MAKE, KEEP or RENEW."""

    __slots__ = ("action", "secret")

    def __init__(self, secret: Secret, action: str) -> None:
        self.secret = secret
        self.action = action


def steps(secrets: Sequence[Secret], existing: Branch, renewed: Sequence[tuple[str, ...]]) -> list[Step]:
    """existing: what the file holds, encrypted or not.  renewed: paths of secrets, or of what is above them.

    Raises ConfigError where file and specification do not fit, or nothing is below a path.
    """
    for path in renewed:
        if not any(secret.path[: len(path)] == path for secret in secrets):
            raise ConfigError(f"--renew: the specification has no secret at {slashed(path)}")
    return [Step(secret, _action(secret, existing, renewed)) for secret in secrets]


def _action(secret: Secret, existing: Branch, renewed: Sequence[tuple[str, ...]]) -> str:
    there = [_is_there(existing, place) for place in secret.places()]
    if not any(there):
        return MAKE
    if any(secret.path[: len(path)] == path for path in renewed):
        return RENEW
    if not all(there):
        what = f"{slashed(secret.path)}: of {' and '.join(secret.source.parts)} the file has only one"
        raise ConfigError(what, hint=f"--renew {slashed(secret.path)} makes both anew")
    return KEEP


def _is_there(node: Node, place: tuple[str, ...]) -> bool:
    for at, key in enumerate(place):
        if node is None:
            return False
        if not isinstance(node, Branch):
            raise ConfigError(f"{slashed(place[:at])}: the file has a value where the specification has more keys")
        node = node.get(key)
    if isinstance(node, (Branch, list)):
        raise ConfigError(f"{slashed(place)}: the file has more keys or a list where the specification has a secret")
    return node is not None


def without_source(secrets: Sequence[Secret], existing: Branch) -> list[tuple[str, ...]]:
    """The places of values in the file for which the specification has no source; lists as a whole."""
    known = {place for secret in secrets for place in secret.places()}
    return [place for place in _places(existing, ()) if place not in known]


def _places(branch: Branch, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for entry in branch.entries:
        if isinstance(entry.key, str):
            here = (*path, entry.key)
            if isinstance(entry.value, Branch):
                yield from _places(entry.value, here)
            else:
                yield here
