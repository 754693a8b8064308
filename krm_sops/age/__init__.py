"""age files (age-encryption.org/v1) and the identities that open them; nothing here knows SOPS, hosts or credentials.

Source of every format in this package: C2SP/C2SP age.md and age-plugin.md.

::

    AgeError            an age file or identity that cannot be used
    ├─ ArmorError       the text around it
    ├─ HeaderError      the header, or a stanza that is malformed whoever it is for
    ├─ MacError         the header is not the one its file key was wrapped for
    ├─ PayloadError     altered, cut, or too large
    ├─ NoMatch          none of the identities is one of its recipients
    ├─ IdentityError    an identity that is malformed, locked, or failed; never quotes it
    └─ RecipientError   a recipient that is malformed, or whose program failed
"""

from __future__ import annotations

from krm_sops.errors import InputError


class AgeError(InputError):
    pass


class ArmorError(AgeError):
    pass


class HeaderError(AgeError):
    pass


class MacError(AgeError):
    pass


class PayloadError(AgeError):
    pass


class NoMatch(AgeError):
    pass


class IdentityError(AgeError):
    pass


class RecipientError(AgeError):
    pass
