"""The MAC of a document whose mappings somebody sorted: whether a permitted order of their entries verifies (S8).

kustomize hands functions every mapping in alphabetical order; the MAC covers the values in the order of the file. So
that order is guessed, most plausible first, within a bound. What may be guessed:

- A mapping of which the MAC covers ciphertext only: any order. Each value's tag pins it to its keys, so no other value
  can have come to stand in its place.
- Any other mapping: three fixed layouts at most. Clear values are pinned by nothing but their position: where every
  order is tried, one finds the MAC good again after two of them were swapped.
- A list: never. The tags of its elements do not say which is which.

This says that the values are those that were encrypted, in some order: less than the MAC itself does.
"""

from __future__ import annotations

from krm_sops.primitives import sha512
from krm_sops.tree import Branch, Comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Any, TypeAlias

    from krm_sops.tree import Node

    Block: TypeAlias = "bytes | _Choice"
    Order: TypeAlias = tuple[int, ...]
    Stack: TypeAlias = "tuple[Block, Stack] | None"

DOCUMENT_HASHES = 50_000
RUN_HASHES = 250_000
_BLOCK_BYTES = 2048
"""So much input takes about as long as to finish a hash, and counts as one."""
_STEP_BYTES = 64
_ENTRY_BYTES = 16
"""What one more piece of input costs beside its bytes, and one more entry of an order."""
_MOST_CHOICES = 100
"""Mappings after these have the most plausible order only."""

_LABELS = ("name", "instance", "version", "component", "part-of", "managed-by")
_LABEL_ORDER = ("app", *(f"app.kubernetes.io/{name}" for name in _LABELS))
_HEAD = ("apiVersion", "kind", "metadata", "name", "namespace")
_TYPE_FIRST = (*_HEAD, "labels", "annotations", "type", "immutable", "spec", "data", "stringData", *_LABEL_ORDER)
_TYPE_LAST = (*_HEAD, "annotations", "labels", "spec", "data", "stringData", "type", "immutable", *_LABEL_ORDER)
"""How people write Kubernetes objects. A name comes before its namespace in each, as it does when sorted."""
_WORDS = (
    *("scheme", "protocol", "url", "uri", "host", "hostname", "address", "endpoint", "server", "port", "region"),
    *("bucket", "database", "db", "dbname", "name", "id", "user", "username", "login", "email"),
    *("access", "key", "cert", "crt", "pass", "password", "passphrase", "pwd", "secret", "token"),
)
"""How people order what belongs together in a Secret."""


class Budget:
    """How many hashes a run may still spend."""

    __slots__ = ("left",)

    def __init__(self, left: int = RUN_HASHES) -> None:
        self.left = left


def verifies(
    branches: Sequence[Branch],
    parts: Sequence[bytes],
    encrypted: Collection[int],
    seed: bytes,
    stored: bytes,
    budget: Budget,
) -> bool:
    """Whether some permitted order has this MAC.

    branches: the documents under one MAC, in their order.  parts: what each leaf, in walk order, contributes; b"" for
    nothing.  encrypted: positions of the leaves whose tags were checked.  stored: the SHA-512 that is looked for.
    """
    plan = _Plan(parts, encrypted)
    blocks = [block for branch in branches for block in plan.node(branch)[0]]
    return _Search(stored, budget).run(blocks, seed)


class _Choice:
    """A mapping whose order is to be chosen.

    parts: what each entry contributes, by its number as it came.  plain: the same, where `is_flat`.  most: the rank of
    its last order.  inner: what the ranks inside of its parts may add up to.  A rank is the bit length of a number in
    the list of orders, so 2**(n-1) orders are of rank n.
    """

    __slots__ = ("_coming", "_known", "inner", "is_flat", "most", "parts", "plain")

    def __init__(self, parts: list[list[Block]], orders: Iterator[Order], count: int) -> None:
        self.parts = parts
        self.plain = [block for part in parts for block in part if isinstance(block, bytes)]
        self.is_flat = len(self.plain) == sum(map(len, parts)) == len(parts)
        self._coming = orders
        self._known: list[Order] = []
        self.most = (count - 1).bit_length()
        self.inner = sum(_most(part) for part in parts)

    def orders(self, rank: int) -> list[Order]:
        """Those of this rank; fewer, or none, at the end."""
        start, stop = (1 << rank) >> 1, 1 << rank
        while len(self._known) < stop:
            order = next(self._coming, None)
            if order is None:
                break
            self._known.append(order)
        return self._known[start:stop]


def _most(blocks: list[Block]) -> int:
    return sum(block.most + block.inner for block in blocks if isinstance(block, _Choice))


class _Plan:
    """Documents -> pieces of the MAC's input, and choices between them."""

    def __init__(self, parts: Sequence[bytes], encrypted: Collection[int]) -> None:
        self.parts = parts
        self.encrypted = encrypted
        self.at = 0
        self.choices = 0

    def node(self, node: Node) -> tuple[list[Block], bool]:
        """The blocks of a subtree, and whether all that counts in it is pinned to its place by tags."""
        if isinstance(node, Branch):
            return self.branch(node)
        if isinstance(node, list):
            blocks: list[Block] = []
            pinned = True
            for element in node:
                below, is_pinned = self.node(element)
                blocks += below
                pinned = pinned and is_pinned
            return _joined(blocks), pinned
        part = self.parts[self.at]
        pinned = not part or self.at in self.encrypted
        self.at += 1
        return [part] if part else [], pinned

    def branch(self, branch: Branch) -> tuple[list[Block], bool]:
        keys: list[str] = []
        entries: list[list[Block]] = []
        all_pinned = True
        for entry in branch.entries:
            if isinstance(entry.key, Comment):
                self.at += 1
                continue
            blocks, pinned = self.node(entry.value)
            all_pinned = all_pinned and pinned and ":" not in str(entry.key)  # the paths a:b and a, b have equal tags
            if blocks:
                keys.append(str(entry.key))
                entries.append(blocks)
        orders = [*([_by_words(keys)] if all_pinned else []), *_layouts(keys)]
        if len(keys) < 2 or self.choices == _MOST_CHOICES or (not all_pinned and len(orders) == 1):
            return _joined([block for at in orders[0] for block in entries[at]]), all_pinned
        self.choices += 1
        if all_pinned:
            return [_Choice(entries, _moved(orders), _factorial(len(keys)))], True
        return [_Choice(entries, iter(orders), len(orders))], False


def _joined(blocks: list[Block]) -> list[Block]:
    """The same with neighbouring bytes made one."""
    found: list[Block] = []
    for block in blocks:
        if found and isinstance(block, bytes) and isinstance(found[-1], bytes):
            found[-1] += block
        else:
            found.append(block)
    return found


def _layouts(keys: list[str]) -> list[Order]:
    """At most three orders of a mapping: as people write objects, two ways, and as it came."""
    as_it_came = range(len(keys))
    tables = [sorted(as_it_came, key=lambda at: _rank(keys[at], table)) for table in (_TYPE_FIRST, _TYPE_LAST)]
    return list(dict.fromkeys(map(tuple, [*tables, as_it_came])))


def _rank(word: str, table: tuple[str, ...]) -> int:
    return table.index(word) if word in table else len(table)


def _by_words(keys: list[str]) -> Order:
    """What begins alike together, numbers by their size, in each group as people write it: db_host … db_password."""
    import re

    def weight(at: int) -> list[tuple[int, int, str]]:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", keys[at])
        return [
            (-1, int(word[:18]), "") if word.isdigit() else (_rank(word.lower(), _WORDS), 0, word.lower())
            for word in words
        ]

    return tuple(sorted(range(len(keys)), key=lambda at: (_rank(keys[at], _TYPE_FIRST), weight(at), at)))


def _moved(first: list[Order]) -> Iterator[Order]:
    """All orders, each once: the given ones, then what differs from them by one entry moved, by two, and so on.

    Entries moved to the end come first: that is where sops and people put new ones.
    """
    known = set(first)
    level = list(dict.fromkeys(first))
    yield from level
    while level:
        following = []
        for order in level:
            for to in range(len(order) - 1, -1, -1):
                for at in range(len(order)):
                    rest = order[:at] + order[at + 1 :]
                    moved = (*rest[:to], order[at], *rest[to:])
                    if moved not in known:
                        known.add(moved)
                        following.append(moved)
                        yield moved
        level = following


def _factorial(n: int) -> int:
    """n!, or anything above the bound."""
    found = 1
    for factor in range(2, min(n, 10) + 1):
        found *= factor
    return found


class _Spent(Exception):
    """The bound is reached."""


class _Search:
    """Through all choices at once, by the sum of their ranks: what is plausible in each of them comes first."""

    def __init__(self, stored: bytes, budget: Budget) -> None:
        self.stored = stored
        self.budget = budget
        self.left = min(DOCUMENT_HASHES, budget.left)
        self.work = 0

    def run(self, blocks: list[Block], seed: bytes) -> bool:
        stack: Stack = None
        for block in reversed(blocks):
            stack = (block, stack)
        most = _most(blocks)
        allowed = self.left
        try:
            return any(self.follow(sha512(seed), stack, total, most) for total in range(most + 1))
        except _Spent:
            return False
        finally:
            self.budget.left -= allowed - max(self.left, 0)

    def follow(self, hasher: Any, stack: Stack, total: int, most: int) -> bool:
        """Try what `stack` holds with ranks that add up to `total`.  most: what they can add up to."""
        while stack is not None:
            block, stack = stack
            if isinstance(block, bytes):
                hasher.update(block)
                self.work += _STEP_BYTES + len(block)
                continue
            rest = most - block.most
            for rank in range(max(0, total - rest), min(total, block.most) + 1):
                for order in block.orders(rank):
                    if self.follow(hasher.copy(), self.pushed(block, order, stack), total - rank, rest):
                        return True
            return False
        self.spend()
        return bool(hasher.digest() == self.stored)

    def pushed(self, choice: _Choice, order: Order, stack: Stack) -> Stack:
        self.work += _ENTRY_BYTES * len(order)
        if choice.is_flat:
            return (b"".join([choice.plain[at] for at in order]), stack)
        for at in reversed(order):
            for block in reversed(choice.parts[at]):
                stack = (block, stack)
        return stack

    def spend(self) -> None:
        self.left -= 1 + self.work // _BLOCK_BYTES
        self.work %= _BLOCK_BYTES
        if self.left < 0:
            raise _Spent
