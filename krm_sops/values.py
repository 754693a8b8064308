"""Scalar <-> the bytes that SOPS encrypts and hashes, and the texts it writes.

This file alone decides how a float is spelled. All spellings are Go's; numbers are read as Go's strconv reads them,
which is neither what `int` and `float` accept nor what `repr` writes.

Source: getsops/sops 3.13, aes/cipher.go (Decrypt), sops.go (ToBytes), stores/stores.go (ValToString).
"""

from __future__ import annotations

from krm_sops.tree import Comment, Timestamp, from_bytes, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.tree import Scalar

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
INFINITY = float("inf")

_TRUE = frozenset((b"1", b"t", b"T", b"TRUE", b"true", b"True"))
_FALSE = frozenset((b"0", b"f", b"F", b"FALSE", b"false", b"False"))
_DIGITS = frozenset("0123456789")
_HEX_DIGITS = frozenset("0123456789abcdef")


def mac_bytes(value: Scalar) -> bytes:
    """What this value adds to the MAC, and the plaintext of its ciphertext. Null and comments have no such bytes."""
    if isinstance(value, str):
        return to_bytes(value)
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return go_float(value).encode("ascii")
    assert isinstance(value, Timestamp)
    return value.text.encode("ascii")


def parse_plain(raw: bytes, type_word: str) -> Scalar | Comment:
    """A decrypted plaintext as the type that stood in its ``ENC[…,type:…]``.

    Raises ValueError (unknown word, or not of that type); its message never holds the plaintext (S10).
    """
    if type_word in ("str", "bytes"):
        return from_bytes(raw)
    if type_word == "comment":
        return Comment(from_bytes(raw))
    value: Scalar = None
    if type_word == "int":
        value = _int(raw)
    elif type_word == "float":
        value = _float(raw)
    elif type_word == "bool":
        value = True if raw in _TRUE else False if raw in _FALSE else None
    elif type_word == "time":
        value = timestamp(raw)
    else:
        raise ValueError("unknown type")
    if value is None:
        raise ValueError("the plaintext is not of the stated type")
    return value


def to_text(value: Scalar) -> str:
    """The spelling in dotenv, INI and environment variables."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = short_float(value, "E")
        # A float must not look like an integer; not-a-number and infinity cannot.
        return text if "." in text or "E" in text or "n" in text.lower() else text + ".0"
    if isinstance(value, Timestamp):
        return value.text[:19] + value.text[19:].lstrip(".0123456789")
    return str(value)


def go_float(x: float) -> str:
    """Shortest digits, never an exponent (Go's format ``f``): ciphertexts and the MAC."""
    special = _not_finite(x)
    if special:
        return special
    sign, digits, point = _decompose(x)
    return sign + _positional(digits, point)


def short_float(x: float, letter: str) -> str:
    """Shortest digits, with an exponent below 1e-4 and from 1e6 (Go's format ``g``). letter: the exponent's, e or E."""
    special = _not_finite(x)
    if special:
        return special
    sign, digits, point = _decompose(x)
    if -4 <= point - 1 < 6:
        return sign + _positional(digits, point)
    return sign + _scientific(digits, point, letter, 2)


def json_float(x: float) -> str:
    """The spelling in JSON. Raises ValueError for what JSON cannot spell."""
    if _not_finite(x):
        raise ValueError("JSON has no such number")
    sign, digits, point = _decompose(x)
    if x == 0 or 1e-6 <= abs(x) < 1e21:
        return sign + _positional(digits, point)
    return sign + _scientific(digits, point, "e", 1)


def timestamp(raw: bytes) -> Timestamp | None:
    """An RFC 3339 time as SOPS writes it again; None where it is none.

    At most nine fraction digits are kept, trailing zeros go, a zero offset becomes Z.
    Differs from sops: what Go takes beyond RFC 3339 (a one-digit hour, a comma for the point, an offset of 24 hours)
    is refused. No sops ever wrote it.
    """
    text = raw.decode("latin-1")
    if len(text) < 20 or text[4] + text[7] + text[10] + text[13] + text[16] != "--T::":
        return None
    numbers = text[0:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]
    if not _DIGITS.issuperset(numbers):
        return None
    year, month, day = int(numbers[0:4]), int(numbers[4:6]), int(numbers[6:8])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        return None
    if numbers[8:10] > "23" or numbers[10:12] > "59" or numbers[12:14] > "59":
        return None
    rest = text[19:]
    fraction = ""
    if rest[0] == ".":
        zone = rest[1:].lstrip("0123456789")
        fraction = rest[1 : len(rest) - len(zone)]
        if not fraction:
            return None
        fraction = fraction[:9].rstrip("0")
        rest = zone
    if rest != "Z":
        if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":" or not _DIGITS.issuperset(rest[1:3] + rest[4:6]):
            return None
        if rest[1:3] > "23" or rest[4:6] > "59":
            return None
        if rest[1:] == "00:00":
            rest = "Z"
    return Timestamp(text[:19] + ("." + fraction if fraction else "") + rest)


def _int(raw: bytes) -> int | None:
    """As strconv.Atoi: an optional sign, ASCII digits, 64 bits."""
    text = raw.decode("latin-1")
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits or not _DIGITS.issuperset(digits):
        return None
    digits = digits.lstrip("0") or "0"
    if len(digits) > 19:
        return None
    value = -int(digits) if text[0] == "-" else int(digits)
    return value if INT_MIN <= value <= INT_MAX else None


def _float(raw: bytes) -> float | None:
    """As strconv.ParseFloat: decimal or hexadecimal, underscores between digits, nan, inf; no overflow."""
    text = raw.decode("latin-1")
    if not text.isascii():
        return None
    text = text.lower()
    sign, number = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if number in ("inf", "infinity") or text == "nan":
        return float(text)
    is_hex = number[:2] == "0x" and len(number) > 2
    digits = _HEX_DIGITS if is_hex else _DIGITS
    mantissa, has_exponent, exponent = (number[2:] if is_hex else number).partition("p" if is_hex else "e")
    if is_hex and not has_exponent:
        return None
    if not _is_digits(mantissa.replace(".", "", 1), digits) or not _underscores_ok(mantissa, digits, is_hex):
        return None
    if has_exponent:
        power = exponent[1:] if exponent[:1] in ("+", "-") else exponent
        if not _is_digits(power, _DIGITS) or not _underscores_ok(power, _DIGITS, False):
            return None
    plain = sign + number.replace("_", "")
    try:
        value = float.fromhex(plain) if is_hex else float(plain)
    except OverflowError:  # only fromhex raises it; float gives infinity
        return None
    return None if abs(value) == INFINITY else value


def _is_digits(text: str, digits: frozenset[str]) -> bool:
    bare = text.replace("_", "")
    return bool(bare) and digits.issuperset(bare)


def _underscores_ok(text: str, digits: frozenset[str], after_prefix: bool) -> bool:
    """Whether each underscore stands between digits; after_prefix: the first may also follow the base prefix."""
    padded = ("0" if after_prefix else "!") + text + "!"
    return all(padded[i - 1] in digits and padded[i + 1] in digits for i in range(1, len(padded)) if padded[i] == "_")


def _not_finite(x: float) -> str:
    if x != x:
        return "NaN"
    return "+Inf" if x == INFINITY else "-Inf" if x == -INFINITY else ""


def _decompose(x: float) -> tuple[str, str, int]:
    """sign, shortest digits without zeros at either end, and where the point is: x = sign 0.DIGITS * 10**point."""
    text = repr(x)
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent = text[len(sign) :].partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(exponent or "0")
    digits = digits.rstrip("0")
    return (sign, digits, point) if digits else (sign, "0", 1)


def _positional(digits: str, point: int) -> str:
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return digits[:point] + "." + digits[point:]


def _scientific(digits: str, point: int, letter: str, width: int) -> str:
    """width: the least number of exponent digits."""
    power = point - 1
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}{letter}{'-' if power < 0 else '+'}{abs(power):0{width}d}"
