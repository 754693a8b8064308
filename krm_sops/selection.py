"""Which leaves of a document are encrypted: the six rules of SOPS, of which a document has one.

A regex is RE2's, matched anywhere in one path component, in linear time (S22). Most rules are an anchored list of
names; those are compared as names, without an engine.

Differs from sops: a regex that does not compile is an error; sops takes it for one that never matches, and so leaves
(or takes) the whole document as plain text.
"""

from __future__ import annotations

from krm_sops.errors import MetadataError, shown
from krm_sops.tree import to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RULES = (
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "unencrypted_comment_regex",
    "encrypted_comment_regex",
)
LONGEST_PATTERN = 1000
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Selection:
    """rule: its field name.  pattern: its value.  positive: a match means encrypted.  by_comment: comments decide.

    Without a rule ("", "") everything is encrypted: the rule of binary files, which is not stored.
    """

    __slots__ = ("_known", "_matches", "by_comment", "pattern", "positive", "rule")

    def __init__(self, rule: str, pattern: str) -> None:
        self.rule = rule
        self.pattern = pattern
        self.positive = rule.startswith("encrypted")
        self.by_comment = "comment" in rule
        self._matches: Callable[[str], bool]
        if not rule:
            self._matches = frozenset[str]().__contains__
        elif rule.endswith("suffix"):
            self._matches = lambda text: text.endswith(pattern)
        else:
            self._matches = compile_regex(pattern)
        self._known: dict[str, bool] = {}

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Selection:
        """Raises MetadataError for more than one rule, or a pattern that does not compile."""
        given = [rule for rule in RULES if fields.get(rule)]
        if len(given) > 1:
            raise MetadataError(f"{given[0]} and {given[1]} exclude each other")
        if not given:
            return cls("unencrypted_suffix", "_unencrypted")
        return cls(given[0], fields[given[0]])

    def matches(self, text: str) -> bool:
        """Whether one path component (or one comment's text) matches the rule."""
        try:
            return self._known[text]
        except KeyError:
            found = self._known[text] = self._matches(text)
            return found


def _names(pattern: str) -> frozenset[str] | None:
    """The names of a pattern like ``^(data|stringData)$``, which matches exactly these; None for any other pattern."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    inner = pattern[1:-1]
    names = inner[1:-1].split("|") if inner.startswith("(") and inner.endswith(")") else [inner]
    return frozenset(names) if all(_NAME_CHARACTERS.issuperset(name) for name in names) else None


def compile_regex(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether a text has a match. Raises MetadataError."""
    names = _names(pattern)
    if names is not None:
        return names.__contains__
    if len(pattern) > LONGEST_PATTERN:
        raise MetadataError(f"a regex of {len(pattern)} characters (at most {LONGEST_PATTERN})")
    if "\\C" in pattern.replace("\\\\", ""):
        raise MetadataError(f"the regex {shown(pattern)!r} does not compile: \\C is not in Go's syntax")
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        search = re2.compile(to_bytes(pattern), options).search
    except re2.error as error:
        problem = error.args[0] if error.args else b""
        text = problem.decode("utf-8", "replace") if isinstance(problem, bytes) else str(problem)
    else:
        return lambda text: search(to_bytes(text)) is not None
    raise MetadataError(
        f"the regex {shown(pattern)!r} does not compile: {shown(text)}",
        hint="patterns are RE2's, which has no lookaround and no backreferences",
    )
