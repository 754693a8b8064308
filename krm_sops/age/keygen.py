"""New age keys."""

from __future__ import annotations

from os import urandom

from krm_sops.age.hybrid import HybridIdentity
from krm_sops.age.x25519 import X25519Identity


def generate(*, post_quantum: bool = False) -> tuple[str, str]:
    """A recipient, and its secret ``AGE-SECRET-KEY-…``, for an identity file only.

    Raises IdentityError where `cryptography` cannot do ML-KEM.
    """
    identity = (HybridIdentity if post_quantum else X25519Identity)(urandom(32))
    return identity.recipient, identity.secret()
