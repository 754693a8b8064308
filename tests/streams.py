"""ResourceLists at random, from a seed: as kpt and kustomize write them, by hand, and with traps for a fast reader."""

from __future__ import annotations

import json
import textwrap
from random import Random
from typing import Any

from tests.security import made

INJECTED = {
    "config.kubernetes.io/index": "0",
    "config.kubernetes.io/path": "a.yaml",
    "internal.config.kubernetes.io/index": "0",
    "internal.config.kubernetes.io/path": "a.yaml",
    "internal.config.kubernetes.io/seqindent": "compact",
    "internal.config.kubernetes.io/annotations-migration-resource-id": "3",
    "internal.config.kubernetes.io/id": "1",
    "config.k8s.io/id": "1",
}
"""What kpt 1.0.0-beta.56 puts on every item."""
VALUES: tuple[Any, ...] = (
    *("hunter2", "yes", "No", "on", "~", "null", "Null", "true", "1e3", "0o7", "0x1F", "017", "1_000", "12:30", ".5"),
    *(
        "12:30:45",
        "2024-01-01",
        "2024-01-01T00:00:00Z",
        "=",
        "<<",
        "-",
        "- x",
        "? x",
        "?",
        ":",
        "a: b",
        "a #b",
        "#",
        "&a",
    ),
    *(
        "*a",
        "!t",
        "@x",
        "`x`",
        "%x",
        "[a",
        "{a}",
        "a, b",
        "a]",
        "'",
        '"',
        "it's",
        '"quoted"',
        "\\",
        "C:\\x",
        "| x",
        "> x",
    ),
    *(
        " lead",
        "trail ",
        "   ",
        "\t",
        "tab\tin",
        "\ttab",
        "two\nlines",
        "last\n",
        "\n",
        "\n\n",
        "a\n\n",
        "\nfirst",
        " \n x\n",
    ),
    *(
        "  deep\nless\n",
        "a\n  b\n",
        "a \nb",
        "a\n b\n\n\n",
        "\ta\nb",
        "a\n\tb",
        "a\r\nb\r\n",
        "a\rb",
        "x\x00y",
        "\x07",
        "\x1b[1m",
    ),
    *(
        "\x7f",
        "\x85",
        "a\x85b",
        "\u2028",
        "a\u2029b",
        "\ufeff",
        "\ufeffx",
        "a\ufeffb",
        "é",
        "日本",
        "😀",
        "a😀\nb",
        "\xa0",
        "\ufffe",
    ),
    *(
        "---",
        "--- a",
        "...",
        "---\nb",
        "a\n---\n",
        "%YAML 1.2",
        "x" * 3000,
        "word " * 60,
        "line\n" * 80,
        "ENC[x]",
        "${x}",
    ),
    *("- a: b\n  sops: c\n", "items:\n- sops:\n", "functionConfig:\n  a: b\n", "# comment", "# comment\nx", "a\n# b\n"),
    *(5, 0, -7, 1234567890123, True, False, 1.5),
)
COMMENTS = ("# note", "# it's", '# "quoted', "# sops:", "# - a: b", "#", "# {[", "# don't \\ * !")
KEY_SECRET = made.yaml(made.KEY_SECRET)
IMITATIONS = (
    "- apiVersion: v1",
    "  kind: Secret",
    "  sops:",
    "    mac: x",
    "functionConfig:",
    "items:",
    "  kind: ConfigMap",
)


class Maker:
    """One stream.  hidden: lines that decryption takes away.  plain: what each ciphertext stands for."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.hidden: set[str] = set()
        self.plain: dict[str, Any] = {}
        self.names = 0
        self.tame = self.chance(0.4)  # nothing that the fast reader would leave to the exact one at once

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # Values and mappings

    def enc(self, value: Any, aad: str, word: str = "") -> str:
        text, kind = made.spelled(value)
        self.names += 1
        found = made.enc(text, aad, word or kind)
        self.plain[found] = value
        return found

    def spelled(self, text: str, *, flow: bool) -> list[str]:
        """A ciphertext in some style: the first line, and further lines with their indentation."""
        style = 1 if flow else self.random.choice((0, 0, 0, 0, 0, 1, 2, 3, 4, 5))
        if style in (0, 1, 2):
            return [text if style == 0 else json.dumps(text) if style == 1 else f"'{text}'"]
        return [f"!!str {text}"] if style == 3 else ["|-" if style == 4 else ">", "  " + text]

    def lines(self, node: Any, path: tuple[str, ...] = (), *, secret: bool = False) -> list[str]:
        """Block style. secret: scalars are encrypted."""
        found: list[str] = []
        elements = node.items() if isinstance(node, dict) else [("-", element) for element in node]
        for key, value in elements:
            below = path if key == "-" else (*path, key)
            lead = key if key == "-" else self.key(key)
            if self.chance(0.05):
                found.append(self.random.choice(COMMENTS))
            if secret and self.chance(0.05):
                found += self.encrypted_comment(path, is_list=key == "-")
            if isinstance(value, (dict, list)) and value:
                inner = self.lines(value, below, secret=secret)
                if key == "-":
                    found += ["- " + inner[0], *("  " + line for line in inner[1:])]
                else:
                    gap = "" if isinstance(value, list) and self.chance(0.5) else "  "
                    found += [lead, *(gap + line for line in inner)]
                continue
            if secret and value not in (None, "") and not isinstance(value, (dict, list)):
                text = self.enc(value, ":".join(below) + ":")
                first, *rest = self.spelled(text, flow=False)
                self.hidden.update(rest and [lead + " " + first])
            else:
                first, rest = self.plain_scalar(value), []
            if not rest and self.chance(0.1):
                first += " " + self.random.choice(COMMENTS)
            found += [f"{lead} {first}", *("  " + line for line in rest)]
            if self.chance(0.02):
                found.append("")
        return found

    def encrypted_comment(self, path: tuple[str, ...], *, is_list: bool) -> list[str]:
        text = self.enc(self.random.choice((" about it", "", "a: b", " 😀")), ":".join(path) + ":", "comment")
        return [f"- {text}" if is_list else f"#{text}"]

    def key(self, key: str) -> str:
        return (
            f'"{key}":'
            if self.chance(0.05) or not key.replace(".", "").replace("/", "").replace("-", "").isalnum()
            else f"{key}:"
        )

    def plain_scalar(self, value: Any) -> str:
        if isinstance(value, str) and value.replace("-", "").isalpha() and self.chance(0.8):
            return value
        return json.dumps(value)

    # Items, each as lines without a dash

    def secret(self) -> list[str]:
        """An encrypted item."""
        kind = self.random.choice(("Secret", "Secret", "ConfigMap", "Custom"))
        values = {f"k{number}": self.random.choice(VALUES) for number in range(self.random.randint(1, 4))}
        if self.chance(0.2):
            values["sops"] = "nested"
        if kind == "Custom":
            values["list"] = [self.random.choice(VALUES) for _ in range(3)]
            values["inner"] = {"sops": {"a": "b"}, "n": None, "e": ""}
        field = {"Secret": "stringData", "ConfigMap": "data", "Custom": "spec"}[kind]
        metadata: dict[str, Any] = {"name": f"n{self.random.randint(0, 99)}", "namespace": "prod"}
        if self.chance(0.2):
            metadata["labels"] = {"sops": "yes", "x": "y"}
        plain: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": metadata, field: values}
        if self.chance(0.3):
            plain["type"] = "Opaque"
        document = dict(plain)
        if self.chance(0.7):  # kpt's annotations were not there when it was encrypted
            document["metadata"] = {**metadata, "annotations": INJECTED}
        block = {
            "age": [{"recipient": made.RECIPIENT, "enc": made.WRAPPED}],
            "lastmodified": made.MODIFIED,
            "mac": made.mac_of(plain),
            "encrypted_regex": "^(data|stringData|spec)$",
            "version": "3.13.3",
        }
        if self.chance(0.08):
            block["mac"] = made.enc("0" * 128, made.MODIFIED)
        if self.chance(0.05):
            block["age"] = [{"recipient": made.RECIPIENT, "enc": made.agefile.enc(made.OTHER_IDENTITY, made.DATA_KEY)}]
        if self.chance(0.1):
            return [self.flow({**made.values_encrypted(document), "sops": block}, document)]
        parts = [self.lines({key: value}, (), secret=key == field) for key, value in document.items()]
        parts.insert(self.random.choice((0, 1, 2, len(parts), len(parts), len(parts))), self.sops(block))
        lines = [line for part in parts for line in part]
        return [self.random.choice(COMMENTS), *lines] if self.chance(0.15) and lines[0][0] != "#" else lines

    def sops(self, block: dict[str, Any]) -> list[str]:
        style = self.random.randint(0, 19)
        if style == 0:
            found = [f"sops: {json.dumps(block)}"]
        elif style == 1:
            name = self.random.choice(("sops", '"\\x73ops"', "!!binary c29wcw=="))
            found = ["? " + name, f": {json.dumps(block)}"]
        else:
            name = {2: '"sops":', 3: "'sops':", 4: '"\\x73ops":', 5: "!!str sops :", 6: "&k sops:"}.get(style, "sops:")
            name += {7: " # about it", 8: " !!map", 9: " &anchor"}.get(style, "")
            found = [name, *textwrap.indent(made.yaml(block), "  ").splitlines()]
            if style == 10:
                found.insert(self.random.randint(1, 3), "  # in the block")
            if style == 11:
                found.append("    # below the block")
        self.hidden.update(line.strip() for line in found)
        return found

    def flow(self, encrypted: dict[str, Any], document: dict[str, Any]) -> str:
        for (_, cipher), (_, value) in zip(made.leaves(encrypted), made.leaves(document), strict=False):
            if isinstance(cipher, str) and cipher.startswith("ENC["):
                self.plain[cipher] = value
        text = json.dumps(encrypted, ensure_ascii=self.chance(0.5))
        self.hidden.add(text)
        return text

    def other(self) -> list[str]:
        """An item that is not encrypted, often with a trap."""
        random = self.random
        head = ["apiVersion: v1", "kind: ConfigMap", "metadata:", f"  name: n{random.randint(0, 99)}"]
        imitation = [random.choice(IMITATIONS) for _ in range(random.randint(1, 5))]
        traps: tuple[list[str], ...] = (
            ["data:", *self.lines({"a": "b", "sops": "c"})],
            ["data:", "  text: |", *("    " + line for line in imitation)],
            ["data:", "  text: |+", *("    " + line for line in imitation), "", ""],
            ["data:", '  text: "x', *("\0" + line for line in imitation), '    end"'],
            ["data:", "  text: 'x", *("\0" + line for line in imitation), "\0  it''s'"],
            ["data:", "  text: 'x", *("\0" + line for line in imitation), "\0'"],
            ["data: {text: a,", *(f"\0{line}" for line in ("  b: c", "", "# comment")), "  d: e}"],
            ["data: {? w", "\0- a: b,", "\0  sops: d}"],
            ["data: {? w", "\0- a: b,", "\0  c: d,", "\0  sops: e}"],
            ['data: {"a": "b"', '\0, "sops": {}}'],
            ["data: [w", "\0- a, sops]"],
            ["data: [w", "\0- {a: b, sops: c}]"],
            ["data: {? w", "\0- {a: b, sops: c}, d: e}"],
            ["data: {? w", "\0- # c", "\0  a: b,", "\0  sops: d}"],
            ["data: {? w", "\0- 'a': b,", "\0  sops: d}"],
            ["data: {w: x", "\0- y", "\0  z}", "more: \\ * !"],
            ["data: &item {x: y}"],
            ["data: *item"],
            ["data:", "  a: word", "   more", "   - sops"],
            ["data:", "  # sops:", "  a: b  # \\x73ops * !"],
            ["data: &a {x: y}", "more: *a"],
            ["data: *undefined"],
            ['"\\x73ops": nothing'],
            ["? sops", ": nothing"],
            ["!!binary c29wcw==: nothing"],
            ["a: &s sops", "*s : nothing"],
            ["a: b", "a: c"],
            ["data:", "\tx: y"],
            ["data: {x: y"],
            ["data: 'open"],
            ["data: \x07"],
            ["data: \x85  a"],
            ["data: a\rb: c"],
            ['data: "\u2028"', "u: \u2028sops"],
            ["data: !!int x"],
            ["? [a]", ": b"],
            ["data: {sops, a}"],
            ["sops"],
            ["data: \udcff"],
            ["data: 5", "# users' comment", '# sops "', 'spec: "it\'s"'],
        )
        weight = random.random()
        trap = traps[0] if weight < 0.4 else random.choice(traps[:3] if self.tame else traps)
        lines = [*head, *trap] if self.chance(0.85) else [*trap, *head]
        if self.chance(0.05):
            return ["{a: b,", "  c: d, " + random.choice(("e: f}", '"\\x73ops": g}', "sops: g}", "? sops}"))]
        return [random.choice(COMMENTS), *lines] if self.chance(0.1) else lines

    def key_secret(self) -> list[str]:
        name = self.random.choice(
            ("sops-keys", "sops-keys", "sops-keys", '"sops\\x2dkeys"', "!!str sops-keys", "'sops-keys'")
        )
        rest = self.random.choice(
            (
                ["metadata:", f"  name: {name}"],
                ["metadata:", "  annotations:", "    a: b", f"  name: {name}"],
                ["metadata:", "  annotations: {}", f"  name: {name}"],
                ["metadata:", f"  name: {name}", "  annotations:"],
                [f"metadata: {{name: {name}}}"],
                [f"metadata: {{annotations: {{a: b}}, name: {name}}}"],
                ["metadata: !!map", f"  name: {name}"],
                ["metadata:", "  ? name", f"  : {name}"],
                ["metadata:", f"  name: {name}", "  namespace: other"],
                ["metadata:", f"  name: {name}", "  annotations:", "    config.kubernetes.io/local-config: 'false'"],
                [
                    "metadata:",
                    "  name: p-x",
                    "  annotations:",
                    "    internal.config.kubernetes.io/previousNames: sops-keys,b",
                ],
                ["metadata:", "  annotations: &a {x: y}", "  labels: *a", f"  name: {name}"],
                ["metadata:", "  labels: &a {x: y}", "  annotations: *a", f"  name: {name}"],
            )
        )
        return ["apiVersion: v1", "kind: Secret", *rest, "stringData:", f"  a.agekey: {made.IDENTITY}"]

    # The list

    def stream(self) -> bytes:
        random = self.random
        makers = (self.secret, self.secret, self.other, self.other, self.other)
        items = [random.choice(makers)() for _ in range(random.choice((0, 1, 1, 2, 3, 4)))]
        config = random.choice(
            (KEY_SECRET, KEY_SECRET, KEY_SECRET, "", "kind: Unknown\n", "reference", "reference", "dup")
        )
        if config == "reference":
            config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  secretRef: sops-keys\n"
            for _ in range(random.choice((1, 1, 1, 1, 0, 2))):
                items.insert(random.randint(0, len(items)), self.key_secret())
        elif config == "dup":
            config = KEY_SECRET + "stringData: {}\n"
        if self.chance(0.07):
            return self.as_json(config, items)
        column = 0 if self.tame else random.choice((0, 0, 0, 0, 0, 0, 2, 4))
        listed = self.listed(items, column)
        version = random.choice(("v1", "v1", "v1", "v1beta1", "v1alpha1"))
        parts = {
            "apiVersion": [f"apiVersion: config.kubernetes.io/{version}"],
            "kind": ["kind: ResourceList"],
            "items": listed,
            "functionConfig": self.config(config),
        }
        order = ["apiVersion", "kind", "items", "functionConfig"]
        if self.chance(0.3):
            random.shuffle(order)
        if self.chance(0.15):
            parts["results"] = random.choice(
                (
                    ["results: []"],
                    ["results:"],
                    ["results:", "- message: old", "  severity: info # kept"],
                    ["results:", "  - message: old"],
                    ["results: [{message: old}]"],
                    ["results: []", "# after"],
                    ['"results": []'],
                )
            )
            order.insert(random.randint(0, len(order)), "results")
        if self.chance(0.1):
            parts["unknown"] = random.choice(
                (
                    ["unknown: x"],
                    ["unknown:", *self.listed(items[:2], column)[1:]],
                    ["unknown: # c", *self.listed(items[:2], column)[1:]],
                    ["unknown:", "  &a", *self.listed(items[:2], column)[1:]],
                    ["unknown: |2", "     x", "  - sops: 1", "    b: c"],
                    ['unknown: "', "- sops: 1", '  b: c"'],
                    ["metadata: {name: x}"],
                    ["items: []"],
                    ['"items": []'],
                )
            )
            order.insert(random.randint(0, len(order)), "unknown")
        lines = [line for name in order for line in parts[name]]
        for _ in range(random.choice((0, 0, 0, 0, 1, 2))):
            at = random.randint(0, len(lines))
            if at == len(lines) or lines[at].strip() not in self.hidden:
                lines.insert(at, random.choice(("", "# between", "# it's", "  # deeper")))
        return self.finished("\n".join(lines) + "\n")

    def listed(self, items: list[list[str]], column: int) -> list[str]:
        if not items:
            return [self.random.choice(("items: []", "items:", "items: [] # none"))]
        odd = self.chance(0.1) and not self.tame
        found = [
            self.random.choice(("items: # list", '"items":', "items :", "? items\n:", "items: !!seq", "items: &all"))
            if odd
            else "items:"
        ]
        margin = " " * column
        gap = " " * self.random.choice((1, 1, 1, 1, 1, 1, 1, 3))
        for item in items:
            first, *rest = item
            inner = margin + " " + gap
            dash = margin + "-" + gap
            lead = [dash + first]
            if self.chance(0.04):
                lead = [margin + self.random.choice(("-", "- # head", "- !!map", "- &item")), inner + first]
            body = [line[1:] if line.startswith("\0") else inner + line if line else "" for line in rest]
            found += [*lead, *body]
            if "&item" in lead[0] and self.chance(0.5):
                found.append(margin + "- *item")
            if self.chance(0.05):
                found.append(self.random.choice(("", "# between", "    # deeper")))
        return found

    def config(self, text: str) -> list[str]:
        if not text:
            return []
        style = self.random.randint(0, 24)
        lead = {
            0: '"functionConfig":',
            1: "functionConfig :",
            2: "? functionConfig\n:",
            3: "functionConfig: # c",
            4: "functionConfig: !!map",
        }
        found = [*lead.get(style, "functionConfig:").split("\n"), *textwrap.indent(text, "  ").splitlines()]
        return [*found, "  # its comment"] if style == 5 else found

    def as_json(self, config: str, items: list[list[str]]) -> bytes:
        import yaml

        def load(text: str) -> Any:
            return yaml.load(text, Loader=yaml.CBaseLoader)

        trees = []
        for item in items:
            try:
                trees.append(load("\n".join(line.lstrip("\0") for line in item)))
            except (yaml.YAMLError, ValueError, TypeError):
                continue
        trees = [tree for tree in trees if isinstance(tree, dict) and "c29wcw==" not in tree]
        whole: dict[str, Any] = {"kind": "ResourceList", "items": trees}
        if config:
            whole["functionConfig"] = load(config)
        if self.chance(0.3):
            whole["results"] = self.random.choice(([], [{"message": "old"}], None))
        if self.chance(0.3):
            whole = dict(reversed(whole.items()))
        indent = self.random.choice((None, 2, 0))
        try:
            text = json.dumps(whole, indent=indent)
        except TypeError:
            text = "{}"
        self.hidden.update(text.splitlines())
        return (text + self.random.choice(("", "\n"))).encode()

    def finished(self, text: str) -> bytes:
        raw = text.encode("utf-8", "surrogateescape")
        change = self.random.randint(8, 39) if self.tame else self.random.randint(0, 39)
        if change == 0:
            return raw.replace(b"\n", b"\r\n")
        if change == 1:
            return b"\xef\xbb\xbf" + raw
        if change == 2:
            return b"---\n" + raw
        if change == 3:
            return b"%YAML 1.1\n---\n" + raw
        if change == 4:
            return raw + b"...\n"
        if change == 5:
            return raw + b"---\na: b\n"
        if change == 6:
            return b"# head\n\n" + raw
        if change == 7:
            return raw.replace(b"\n", b"\n\n")
        return raw[:-1] if change in (8, 9, 10) else raw
