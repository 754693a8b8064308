"""Plain documents of every format, by seed: what people write, and what the formats allow but nobody writes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

KEYS = (
    "password",
    "user",
    "data",
    "stringData",
    "kind",
    "note",
    "note_unencrypted",
    "api_secret",
    "db_clear",
    "a",
    "b",
    "é",
)
COMMENTS = (
    "plain words",
    "sops:enc",
    "sops:clear",
    " two  spaces",
    "",
    "# hash",
    "naïve ☃",
    "a: b",
    "ENC me",
    "trailing ",
)
TEXTS = (
    "", "x", "hunter2", "a b", " outer ", "naïve ☃", "😀", "line one\nline two", "ends\n", "\nbegins", "tab\there",
    "a\\b", "a\\nb", "true", "null", "~", "12", "1e3", "yes", "2001-01-01", "0x1F", "a: b", "a #b", "- a", "#c",
    "'q'", "\"q\"", "`t`", "%x", "@x", "*x", "&x", "!x", "|", ">", "{a}", "[a]", "?", "=", "<<", "<&>", "\u2028",
    "\u007f", "\u0001", "\r\n", "ends in space \nx", "ENC[AES256_GCM,data:x]", "x" * 300,
    "-----BEGIN X-----\nAAAA\n-----END X-----\n", "👍 x\ny", "\u00a0", "\ufeff", "日本語",
)  # fmt: skip
NUMBERS = (
    "-0", "1.0", "-2.50", "1e5", "1E-7", "1e21", "0.000001", "9223372036854775807", "9223372036854775808",
    "1.7e308", "5e-324",
)  # fmt: skip


class Profile:
    """How a document is encrypted. rule: the fields of a creation rule that say what. keys: which keys, by name."""

    def __init__(self, rule: dict[str, object], keys: str) -> None:
        self.rule = rule
        self.keys = keys


RULES: tuple[dict[str, object], ...] = (
    {},
    {},
    {"unencrypted_suffix": "_clear"},
    {"encrypted_suffix": "_secret"},
    {"encrypted_regex": "^(data|stringData)$"},
    {"encrypted_regex": "pass|[sS]ecret$"},
    {"encrypted_regex": r"\pL{5,}|^b$"},
    {"unencrypted_regex": "^(kind|note.*)$"},
    {"unencrypted_regex": "(?i)^DATA"},
    {"encrypted_comment_regex": "sops:enc"},
    {"unencrypted_comment_regex": "sops:clear"},
)
KEY_SETS = ("age", "age", "age", "two", "pair", "two-of-three")
PGP_KEY_SETS = ("pgp", "age-and-pgp", "pair-with-pgp")


def profile(r: random.Random, pgp: bool) -> Profile:
    rule = dict(r.choice(RULES))
    if r.random() < 0.3:
        rule["mac_only_encrypted"] = True
    keys = r.choice(PGP_KEY_SETS) if pgp and r.random() < 0.08 else r.choice(KEY_SETS)
    return Profile(rule, keys)


def json_string(r: random.Random, text: str) -> str:
    out = []
    for c in text:
        if c in '"\\' or c < " ":
            out.append(
                r.choice(
                    (
                        f"\\u{ord(c):04x}",
                        {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(c, f"\\u{ord(c):04X}"),
                    )
                )
            )
        elif c > "~" and c <= "\uffff" and r.random() < 0.3:
            out.append(f"\\u{ord(c):04x}")
        else:
            out.append("\\/" if c == "/" else c)
    return '"' + "".join(out) + '"'


def json_document(r: random.Random) -> bytes:
    def space() -> str:
        return r.choice(("", "", " ", "\n", "\t", "\r\n  "))

    def value(depth: int) -> str:
        kind = r.random()
        if depth > 3 or kind < 0.6:
            return r.choice(
                (
                    lambda: json_string(r, r.choice(TEXTS)),
                    lambda: json_string(r, r.choice(TEXTS)),
                    lambda: str(r.randint(-(10 ** r.randint(1, 18)), 10 ** r.randint(1, 18))),
                    lambda: r.choice(NUMBERS),
                    lambda: repr(r.uniform(-1, 1) * 10 ** r.randint(-12, 25)),
                    lambda: r.choice(("true", "false", "null")),
                )
            )()  # fmt: skip
        if kind < 0.75:
            return (
                "[" + space() + ("," + space()).join(value(depth + 1) + space() for _ in range(r.randint(0, 4))) + "]"
            )
        return mapping(depth + 1)

    def mapping(depth: int) -> str:
        items = [
            json_string(r, r.choice((*KEYS, r.choice(TEXTS)))) + space() + ":" + space() + value(depth) + space()
            for _ in range(r.randint(0 if depth else 1, 5))
        ]
        return "{" + space() + ("," + space()).join(items) + "}"

    return (mapping(0) + r.choice(("", "\n"))).encode()


def dotenv_document(r: random.Random) -> bytes:
    lines = []
    for _ in range(r.randint(1, 12)):
        kind = r.random()
        if kind < 0.2:
            lines.append("#" + r.choice(COMMENTS))
        elif kind < 0.25:
            lines.append("")
        else:
            key = r.choice((*KEYS, "export X", " pad ", "", "UPPER"))
            lines.append(key + "=" + r.choice(TEXTS).replace("\n", r.choice(("\\n", " "))))
    return "\n".join(lines).encode() + (b"\n" if r.random() < 0.8 else b"")


def ini_document(r: random.Random) -> bytes:
    lines = []
    for _ in range(r.randint(1, 14)):
        kind = r.random()
        if kind < 0.2:
            name = r.choice(("data", "note_unencrypted", "s t", "a.b", "é", "DEFAULT"))
            lines.append(f"[{name}]" + r.choice(("", "", " ; sops:enc", "# x")))
        elif kind < 0.35:
            lines.append(r.choice("#;") + r.choice(("", " ")) + r.choice([text for text in COMMENTS if text]))
        elif kind < 0.4:
            lines.append("")
        else:
            key = r.choice((*KEYS, "long key name", '"a=b"', "`c:d`", "k.k"))
            text = r.choice(TEXTS)
            if "\n" in text or any(c in text for c in "`\"'\\;#") or text.strip() != text:
                text = '"""' + text.rstrip("\\") + '"""' if "`" in text or r.random() < 0.5 else f"`{text}`"
            lines.append(key + r.choice(("=", " = ", ":")) + text + r.choice(("", "", "", " ; sops:clear")))
    return "\n".join(lines).encode() + b"\n"


def binary_document(r: random.Random) -> bytes:
    return r.choice(
        (b"", r.randbytes(r.randint(1, 2000)), b'{"a": 1}', "text ☃\n".encode(), b"\x00", b"\xef\xbb\xbfx\r\n")
    )


class _Yaml:
    """list_comments: sops 3.13.2 cannot read back what it writes for comments in lists.

    No comment is empty: sops makes an empty text element of one in a list.
    """

    def __init__(self, r: random.Random, list_comments: bool) -> None:
        self.r = r
        self.list_comments = list_comments
        self.anchors: list[str] = []
        self.used: list[str] = []

    def document(self) -> str:
        self.anchors, self.used = [], []
        lines = self.mapping(0, 0)
        return "\n".join(lines) + "\n"

    def chance(self, share: float) -> bool:
        return self.r.random() < share

    def comment(self) -> str:
        return "#" + self.r.choice(("", " ")) + self.r.choice([text for text in COMMENTS if text])

    def mapping(self, depth: int, indent: int) -> list[str]:
        lines = []
        names = self.r.sample(
            (
                *KEYS,
                '"quoted key"',
                "'single'",
                "with space",
                "a.b",
                "a:b",
                '"1"',
                "x/y",
                '"true"',
                "~key",
                '"é\\n"',
                "Pass",
            ),
            self.r.randint(1, 5),
        )
        for name in names:
            if self.chance(0.15):
                lines += [" " * indent + self.comment() for _ in range(self.r.randint(1, 2))]
            if self.chance(0.05):
                lines.append("")
            lines += self.entry(" " * indent + name + ":", depth, indent)
            if self.chance(0.04):
                lines += ["", " " * indent + self.comment(), ""]
        if self.chance(0.08):
            lines.append(" " * indent + self.comment())
        return lines

    def entry(self, head: str, depth: int, indent: int) -> list[str]:
        """head: the key with its colon, or the dash of a list element."""
        kind = self.r.random()
        if depth < 3 and kind < 0.2:
            inner = indent + self.r.choice((2, 2, 4))
            return [head + (" # sops:enc" if self.chance(0.1) else ""), *self.mapping(depth + 1, inner)]
        if depth < 3 and kind < 0.35:
            return [
                head,
                *self.sequence(depth + 1, indent + self.r.choice((0, 2)) if head.endswith(":") else indent + 2),
            ]
        if kind < 0.42:
            return [head + " " + self.flow(0)]
        if kind < 0.5:
            return self.block(head, indent)
        text = self.scalar()
        if self.chance(0.06):
            anchor = f"x{len(self.used)}"
            self.used.append(anchor)
            self.anchors.append(anchor)
            text = f"&{anchor} {text}" if text else text
            if text == "":
                self.anchors.pop()
        elif self.anchors and self.chance(0.08):
            text = "*" + self.r.choice(self.anchors) + " "
        line = f"{head} {text}".rstrip() if text.strip() else head
        return [line + (" " + self.comment() if self.chance(0.1) else "")]

    def sequence(self, depth: int, indent: int) -> list[str]:
        lines = []
        for _ in range(self.r.randint(1, 4)):
            if self.list_comments and self.chance(0.1):
                lines.append(" " * indent + self.comment())
            if depth < 3 and self.chance(0.2):
                first, *rest = self.mapping(depth + 1, indent + 2)
                while first.strip() == "" or first.lstrip().startswith("#"):
                    first, *rest = [*rest, " " * (indent + 2) + "z: 1"]
                inline = " " * indent + "- " + first.lstrip()
                lines += [inline, *(line for line in rest if self.list_comments or "#" not in line)]
            else:
                found = self.entry(" " * indent + "-", depth, indent)
                lines += (
                    found
                    if self.list_comments or not any(" #" in line for line in found[:1])
                    else [" " * indent + "- x"]
                )
        return lines

    def block(self, head: str, indent: int) -> list[str]:
        body = self.r.choice(
            ("one", "one\ntwo", "one\n\ntwo", "one\n  two\nthree", "key: value\nlist:\n- a", "# no comment\nx")
        )
        style = self.r.choice(("|", "|-", "|+", ">", ">-"))
        pad = " " * (indent + self.r.choice((2, 4)))
        return [f"{head} {style}", *(pad + line if line else "" for line in body.split("\n"))]

    def flow(self, depth: int) -> str:
        if self.chance(0.5):
            return "[" + ", ".join(self.flow_value(depth) for _ in range(self.r.randint(0, 3))) + "]"
        names = self.r.sample(("a", "password", '"q"', "note_unencrypted"), self.r.randint(0, 3))
        return "{" + ", ".join(f"{name}: {self.flow_value(depth)}" for name in names) + "}"

    def flow_value(self, depth: int) -> str:
        if depth < 2 and self.chance(0.2):
            return self.flow(depth + 1)
        return self.r.choice(("x", "1", "1.5", "true", "null", '"a, b"', "'it''s'", "a b", "-1", "~"))

    def scalar(self) -> str:
        r = self.r
        kind = r.random()
        if kind < 0.35:
            text = r.choice([t for t in TEXTS if "\ufeff" not in t])
            return json_string(r, text).replace("\\/", "/") if text.isprintable() or "\n" in text else '"\\x01"'
        if kind < 0.45:
            return "'" + r.choice(("it''s", "a # b", "true", "12", "", " x ", "a: b", "\\n")) + "'"
        return r.choice(
            (
                "", "~", "null", "Null", "true", "False", "yes", "NO", "on", "y", "0", "-0", "1", "-17", "+5", "017",
                "0o17", "0x1F", "-0x1F", "0b11", "1_000", "1.0", "-0.0", "1.50", "1e3", "1e6", "1E-7", "1_000.5",
                ".5", "1.", "12345678.9", "1e21", ".inf", "-.INF", "08", "1:20", "190:20:30", "9223372036854775807",
                "-9223372036854775808", "123456789012345678901234567890", "2001-01-01",
                "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.1", "2001-12-14T21:59:43.123456789Z",
                "2001-12-14 21:59:43 -5", "2001-1-2", "2001-02-30", "plain words", "a:b", "a#b", "http://x/y?z=1",
                "x y\tz", "-x", "?x", "!!str 12", "!!float 1", "!!int \"7\"", "!!binary aGVsbG8=", "!!binary /wA=",
                "!custom x", "<<x", "1e400", "0o8", "1e", "infinity", "NaN", "naïve ☃", "日本語",
            )
        )  # fmt: skip


def yaml_document(r: random.Random, list_comments: bool = True) -> bytes:
    yaml = _Yaml(r, list_comments)
    documents = [yaml.document() for _ in range(1 if r.random() < 0.85 else r.randint(2, 3))]
    return ("---\n" if r.random() < 0.1 else "").encode() + "---\n".join(documents).encode()


DOCUMENTS: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "yaml": ("yaml", yaml_document),
    "json": ("json", json_document),
    "dotenv": ("env", dotenv_document),
    "ini": ("ini", ini_document),
    "binary": ("bin", binary_document),
}
