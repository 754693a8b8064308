"""Documents as SOPS sees them, generated, and a form of them in which equal means equal to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from krm_sops.tree import Branch, Comment, Entry, Timestamp
from krm_sops.values import INT_MAX, INT_MIN, go_float

if TYPE_CHECKING:
    from krm_sops.tree import Node

TEXTS = st.text(max_size=12) | st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
NAMES = st.sampled_from(["a", "b", "password", "data", "note_unencrypted", "api_secret", "a:b", "", "é"]) | TEXTS
COMMENTS = st.sampled_from([" sops:enc", "sops:clear", "", " words", "ENC"]).map(Comment) | TEXTS.map(Comment)
SCALARS = (
    TEXTS
    | st.integers(INT_MIN, INT_MAX)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.sampled_from(["2001-12-14T21:59:43.1-05:00", "2020-01-01T00:00:00Z"]).map(Timestamp)
)


def _branch(entries: list[tuple[object, Node]]) -> Branch:
    return Branch(Entry(key, None if isinstance(key, Comment) else value) for key, value in entries)  # type: ignore[arg-type]


NODES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner | COMMENTS, max_size=4) | st.lists(st.tuples(NAMES | COMMENTS, inner), max_size=4).map(_branch)
    ),
    max_leaves=12,
)
BRANCHES = st.lists(st.tuples(NAMES | COMMENTS, NODES), max_size=5).map(_branch)
DOCUMENTS = st.lists(BRANCHES, min_size=1, max_size=2)


def branch(*comments: str, **values: Node) -> Branch:
    """comments: before the first key."""
    return Branch([*(Entry(Comment(text), None) for text in comments), *(Entry(k, v) for k, v in values.items())])


def exact(node: object) -> Any:
    """Tells 1, 1.0 and true apart, and comments from texts; not-a-number equals itself."""
    if isinstance(node, Branch):
        return "branch", [(exact(entry.key), exact(entry.value)) for entry in node.entries]
    if isinstance(node, list):
        return "list", [exact(element) for element in node]
    if isinstance(node, float):
        return "float", go_float(node)
    if isinstance(node, (Comment, Timestamp)):
        return type(node).__name__, node.text
    return type(node).__name__, node
