"""The names that people give to keys in `.sops.yaml`, where SOPS has none: anchors, and comments beside a key.

::

    keys:
      - &alice age1…          alice
      - age1…  # Bob          Bob
      # Carol
      - age1…                 Carol
"""

from __future__ import annotations

import re

_LINE = re.compile(
    r"""^\s*(?:-\s+)*                       # an element of lists
        (?:[A-Za-z_]+:\s+)?                 # under a field
        (?:&(?P<anchor>[^\s,\[\]{}]+)\s+)?
        (?P<quote>["']?)(?P<key>[^"'#,&*\s][^"'#]*?)(?P=quote)\s*,?
        (?:\s\#(?P<comment>.*))?$""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"^\s*#(?P<comment>.*)$")
_LONGEST_LINE = 4096


def names(raw: bytes) -> dict[str, str]:
    """Keys, case folded -> names.  raw: a `.sops.yaml`.  A line with several keys names none of them."""
    found: dict[str, str] = {}
    above = ""
    for line in raw.decode("utf-8", "replace").splitlines():
        comment = _COMMENT.match(line[:_LONGEST_LINE])
        if comment:
            above = comment["comment"].strip()
            continue
        match = _LINE.match(line[:_LONGEST_LINE])
        if match and len(match["key"]) >= 16 and not match["key"].endswith(":"):
            name = match["anchor"] or (match["comment"] or "").strip() or above
            if name:
                key = match["key"].casefold()
                found.setdefault(key, name)
                found.setdefault(key.replace(" ", ""), name)  # a fingerprint in groups
        above = ""
    return found
