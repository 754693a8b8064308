"""What is inside of a message once its integrity is checked: one literal, perhaps compressed, perhaps signed."""

from __future__ import annotations

from krm_sops.pgp.packets import (
    COMPRESSED,
    LITERAL,
    MARKER,
    ONE_PASS_SIGNATURE,
    PADDING,
    SIGNATURE,
    Fields,
    OpenPgpError,
    packets,
)

LIMIT = 4096
"""Bytes of the content; a data key has 32."""
_INFLATED = 4 * LIMIT
"""Bytes that may come out of compression: the literal with its header, and signatures that nobody looks at."""
_IGNORED = frozenset((MARKER, ONE_PASS_SIGNATURE, PADDING, SIGNATURE))


def literal(data: bytes, *, compressed: bool = False) -> bytes:
    """The bytes of the one literal packet in `data`, as they are.

    Line ends of text literals are not converted: a data key has none, and gpg drops carriage returns there, which would
    be bytes of the key.  compressed: whether `data` came out of compression already; there is one level of it.
    Raises OpenPgpError.
    """
    found = None
    for tag, body in packets(data):
        if tag in _IGNORED:
            continue
        if found is not None:
            raise OpenPgpError("the OpenPGP message holds more than one literal")
        if tag == LITERAL:
            found = _content(body)
        elif tag == COMPRESSED and not compressed:
            found = literal(_inflated(body), compressed=True)
        else:
            what = "compression in compression" if tag == COMPRESSED else f"a packet of type {tag}"
            raise OpenPgpError(f"the OpenPGP message holds {what} instead of a literal")
    if found is None:
        raise OpenPgpError("the OpenPGP message holds no literal")
    return found


def _content(body: bytes) -> bytes:
    fields = Fields(body)
    fields.take(1)  # binary, text or UTF-8
    fields.take(fields.number())  # file name
    fields.take(4)  # date
    content = fields.rest()
    if len(content) > LIMIT:
        raise _too_long()
    return content


def _too_long() -> OpenPgpError:
    return OpenPgpError(f"the OpenPGP message holds more than {LIMIT} bytes, which is no data key")


def _inflated(body: bytes) -> bytes:
    """Never computes more than the limit, whatever is in there."""
    import zlib

    fields = Fields(body)
    algorithm = fields.number()
    data = fields.rest()
    if algorithm == 0:
        return data
    try:
        if algorithm in (1, 2):
            inflated = zlib.decompressobj(-15 if algorithm == 1 else 15).decompress(data, _INFLATED + 1)
        elif algorithm == 3:
            import bz2

            inflated = bz2.BZ2Decompressor().decompress(data, _INFLATED + 1)
        else:
            raise OpenPgpError(f"compression {algorithm} in the OpenPGP message is not supported")
    except (zlib.error, OSError, ValueError):
        raise OpenPgpError("the compressed data in the OpenPGP message is damaged") from None
    except ImportError:  # an interpreter built without it
        raise OpenPgpError("this installation of Python has no bzip2") from None
    if len(inflated) > _INFLATED:
        raise _too_long()
    return inflated
