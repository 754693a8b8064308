"""What a YAML scalar means to sops: go-yaml v3's typing. This file alone decides what a plain text is.

Not YAML 1.1 (``yes`` and ``on`` are strings) and not quite 1.2 (``0777`` is octal, ``1_000`` a number).
Source: go.yaml.in/yaml v3.0.4, resolve.go; Go's strconv and time packages.
"""

from __future__ import annotations

from krm_sops.errors import StoreError, shown
from krm_sops.tree import Timestamp, from_bytes
from krm_sops.values import short_float

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.tree import Scalar

_STANDARD = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | float | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".nan": float("nan"),
    ".NaN": float("nan"),
    ".NAN": float("nan"),
    ".inf": float("inf"),
    ".Inf": float("inf"),
    ".INF": float("inf"),
    "+.inf": float("inf"),
    "+.Inf": float("inf"),
    "+.INF": float("inf"),
    "-.inf": float("-inf"),
    "-.Inf": float("-inf"),
    "-.INF": float("-inf"),
}
_NUMERIC = "+-0123456789"
_SPECIAL = {"NaN": ".nan", "+Inf": ".inf", "-Inf": "-.inf"}
_PREFIXES = {"0x": 16, "0b": 2, "0o": 8}
_DIGITS = {2: "01", 8: "01234567", 10: "0123456789", 16: "0123456789abcdef"}


def resolve_plain(text: str) -> Scalar:
    """The value of a plain scalar. An integer beyond int64 but within uint64 stays an int: the walk refuses it."""
    first = text[:1]
    if first not in "tTfFnN~.+-0123456789":  # the empty text is in every string
        return text
    if text in _WORDS:
        return _WORDS[text]
    if first == ".":
        return _float(text.replace("_", "") if _between_digits(text) else text, text)
    if first not in _NUMERIC:
        return text
    if text.isdigit() and text.isascii() and len(text) < 19 and (first != "0" or len(text) == 1):
        return int(text)
    moment = _timestamp(text)
    return _number(text) if moment is None else moment


def resolve_tagged(tag: str, text: str) -> Scalar:
    """The value of a scalar with an explicit tag, in its long (``tag:yaml.org,2002:int``) or short (``!!int``) form.

    The style of the scalar does not matter then. Raises StoreError where the text does not fit the tag. Other tags
    than YAML's own are dropped, and the value is a string.
    """
    kind = tag[2:] if tag.startswith("!!") else tag[len(_STANDARD) :] if tag.startswith(_STANDARD) else ""
    if kind == "binary":
        return _binary(text)
    if kind not in ("null", "bool", "int", "float", "timestamp"):
        return text
    value: Scalar
    if kind == "timestamp":
        value = _timestamp(text)
    else:
        value = _number(text) if text[:1] in _NUMERIC and text not in _WORDS else resolve_plain(text)
    if kind == "float" and type(value) is int and -(1 << 63) <= value < 1 << 63:
        return float(value)
    expected = {"null": type(None), "bool": bool, "int": int, "float": float, "timestamp": Timestamp}[kind]
    if type(value) is not expected or (kind == "null" and text not in _WORDS):
        raise StoreError(f"a value does not fit its tag !!{shown(kind)}")
    return value


def float_yaml(number: float) -> str:
    """A float as go-yaml writes it."""
    text = short_float(number, "e")
    return _SPECIAL.get(text, text)


def _number(text: str) -> int | float | str:
    """Underscores vanish wherever they stand, as in go-yaml."""
    plain = text.replace("_", "")
    integer = _integer(plain)
    return _float(plain, text) if integer is None else integer


def _integer(plain: str) -> int | None:
    negative = plain[:1] == "-"
    digits = plain[1:] if plain[:1] in ("-", "+") else plain
    base = _PREFIXES.get(digits[:2].lower(), 0)
    if base:
        digits = digits[2:]
        if digits == plain[2:] and plain[1] in "bo" and digits[:1] in ("-", "+"):  # go-yaml reads 0b-101 as -5
            negative, digits = digits[0] == "-", digits[1:]
            unsigned = False
        else:
            unsigned = True
    else:
        base = 8 if digits[:1] == "0" and len(digits) > 1 else 10
        unsigned = True
    if not digits or digits.lower().strip(_DIGITS[base]):
        return None
    if base == 10 and len(digits) > 20:  # beyond uint64, and beyond what int() should be asked to convert
        return None
    number = int(digits, base)
    if negative:
        return -number if number <= 1 << 63 else None
    signed = plain[:1] == "+" or not unsigned
    return number if number < (1 << 63 if signed else 1 << 64) else None


def _float(plain: str, text: str) -> float | str:
    """A decimal float without inf, nan, hexadecimal and the overflow to infinity: those are strings."""
    if plain.strip("+-.0123456789eE"):
        return text
    try:
        number = float(plain)
    except ValueError:
        return text
    return text if number in (float("inf"), float("-inf")) else number


def _between_digits(text: str) -> bool:
    """Whether each underscore stands between two digits, as Go wants it where go-yaml does not delete it first."""
    pieces = text.split("_")
    return all(piece[-1:].isdigit() for piece in pieces[:-1]) and all(piece[:1].isdigit() for piece in pieces[1:])


def _timestamp(text: str) -> Timestamp | None:
    """``Y-M-D``, ``Y-M-D[Tt]h:m:s[.f](Z|±hh:mm)`` or ``Y-M-D h:m:s[.f]`` with a year of four digits.

    The offset may be 24 hours or 60 minutes, as in Go's time.Parse; the fraction is cut after nine digits.
    """
    if text[4:5] != "-" or not text.isascii() or not text[:4].isdigit():
        return None
    for mark in ("T", "t", " "):
        date, found, clock = text.partition(mark)
        if found:
            break
    parts = date.split("-")
    if len(parts) != 3 or not (_short(parts[1]) and _short(parts[2])):
        return None
    year, month, day = int(parts[0]), int(parts[1]), int(parts[2])
    if not (1 <= month <= 12 and 1 <= day <= _days(year, month)):
        return None
    head = f"{year:04d}-{month:02d}-{day:02d}T"
    if not found:
        return Timestamp(head + "00:00:00Z")
    zone: str | None = "Z"
    if mark == " ":
        clock = clock.lstrip(" ")
    elif clock[-1:] == "Z":
        clock = clock[:-1]
    else:
        clock, zone = clock[:-6], _zone(clock[-6:])
    spelled = _clock(clock)
    return None if spelled is None or zone is None else Timestamp(head + spelled + zone)


def _clock(text: str) -> str | None:
    fields = text.replace(",", ".").split(":")
    if len(fields) != 3:
        return None
    seconds, point, fraction = fields[2].partition(".")
    if not (_short(fields[0]) and _short(fields[1]) and _short(seconds)) or (point and not fraction.isdigit()):
        return None
    hour, minute, second = int(fields[0]), int(fields[1]), int(seconds)
    if hour > 23 or minute > 59 or second > 59:
        return None
    fraction = fraction[:9].rstrip("0")
    return f"{hour:02d}:{minute:02d}:{second:02d}" + ("." + fraction if fraction else "")


def _zone(text: str) -> str | None:
    if len(text) != 6 or text[0] not in "+-" or text[3] != ":" or not (text[1:3] + text[4:6]).isdigit():
        return None
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 24 or minutes > 60:
        return None
    total = hours * 60 + minutes
    return f"{text[0]}{total // 60:02d}:{total % 60:02d}" if total else "Z"


def _short(digits: str) -> bool:
    return len(digits) in (1, 2) and digits.isdigit()


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _binary(text: str) -> str:
    """The bytes that the base64 stands for, as a string (tree.to_bytes gives them back)."""
    from binascii import Error, a2b_base64

    try:
        raw = a2b_base64(text.replace("\n", "").replace("\r", ""), strict_mode=True)
    except (Error, ValueError):
        raise StoreError("a value does not fit its tag !!binary: no base64") from None
    return from_bytes(raw)
