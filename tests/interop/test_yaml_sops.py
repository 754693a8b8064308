"""Layouts of YAML that people write and that nobody writes: sops and krm-sops read and write them alike, byte for byte.

Nothing is encrypted here. sops encrypts a stream of generated documents under a rule that no key matches; its metadata
are put into the stream as it was generated, and sops decrypts that: so it reads every odd layout itself.

KRM_SOPS_INTEROP_YAML: how many streams of 40 documents (default 40).  KRM_SOPS_INTEROP_SEED: the first seed.
UPDATE=1 records the files of tests/vectors/yaml again (with sops 3.13.3 only).
"""

from __future__ import annotations

import difflib
import os
import random
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from krm_sops.errors import KrmSopsError
from krm_sops.stores.yaml import STORE
from krm_sops.yamlcomments import read

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
VECTORS = Path(__file__).parent.parent / "vectors/yaml"
KEY_FILE = VECTORS / "throwaway.agekey"
NAMES = sorted(path.stem for path in VECTORS.glob("*.yaml") if not path.stem.endswith(".out"))
STREAMS = int(os.environ.get("KRM_SOPS_INTEROP_YAML", "40"))
SEED = int(os.environ.get("KRM_SOPS_INTEROP_SEED", "1"))

pytestmark = pytest.mark.skipif(SOPS is None, reason="sops is not installed")


def sops(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": PATH, "HOME": str(folder), "SOPS_AGE_KEY_FILE": str(KEY_FILE)}
    return subprocess.run([SOPS or "", *arguments], env=env, cwd=folder, capture_output=True, check=False, timeout=60)


def encrypt(folder: Path, name: str, text: bytes) -> subprocess.CompletedProcess[bytes]:
    recipient = re.findall(r"age1\w+", KEY_FILE.read_text())[0]
    (folder / name).write_bytes(text)
    return sops(folder, "encrypt", "--age", recipient, "--encrypted-regex", "^never$", name)


def decrypt(folder: Path, name: str, text: bytes) -> bytes:
    (folder / name).write_bytes(text)
    done = sops(folder, "decrypt", name)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def difference(theirs: bytes, ours: bytes) -> str:
    lines = (raw.decode(errors="backslashreplace").splitlines() for raw in (theirs, ours))
    return "\n".join(difflib.unified_diff(*lines, "sops", "krm-sops", lineterm=""))


# Layouts


SCALARS = (
    *("word", "two words", "12", "true", "null", "~", "1.5", "2020-01-01", "yes", "0x1F", "1e3", "a:b", "a#b", "-x"),
    *(
        '"quoted"',
        "'single'",
        '"a # b"',
        "'it''s'",
        '""',
        '"\\u263a\\n"',
        "!!str 1",
        "!custom x",
        "!!binary YQ==",
        "<<",
    ),
)
KEYS = ("a", "b", "c", "d", "key", "two words", '"quoted"', "'single'", "x-y", "1a")
HEADERS = ("|", "|-", "|+", ">", ">-", ">+", "|2")
LINES = ("words", "more words", "  indented", "", "# no comment", "word # no comment")


class Layout:
    """Documents with comments, blank lines and indentation wherever they may stand, and some where they may not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"layout {seed}")
        self.lines: list[str] = []
        self.comments = 0
        self.anchors = 0

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def comment(self) -> str:
        self.comments += 1
        return f"# c{self.comments}" if self.chance(0.85) else self.random.choice(("#", "##", "#x"))

    def gap(self, indent: int, weight: float = 1.0) -> None:
        if not self.chance(0.45 * weight):
            return
        for _ in range(self.random.randint(1, 3)):
            if self.chance(0.3):
                self.lines.append("" if self.chance(0.8) else " " * self.random.randint(1, 4))
            else:
                column = indent if self.chance(0.6) else self.random.randint(0, indent + 4)
                self.lines.append(" " * column + self.comment())

    def line_end(self) -> str:
        return " " * self.random.randint(1, 3) + self.comment() if self.chance(0.2) else ""

    def value(self, prefix: str, indent: int, depth: int, *, in_list: bool) -> None:
        """prefix: the line so far.  indent: the column of the collection this value is in."""
        r = self.random
        kind = r.random() if depth < 4 else r.uniform(0.48, 1)
        if kind < 0.28:
            self.collection(self.mapping, prefix, indent, depth, in_list=in_list, steps=(2, 2, 2, 4, 1, 3))
        elif kind < 0.48:
            steps = (2, 2, 4) if in_list else (2, 2, 4, 0, 1)
            self.collection(self.sequence, prefix, indent, depth, in_list=in_list, steps=steps)
        elif kind < 0.53:
            self.flow_lines(prefix, indent)
        elif kind < 0.56:
            self.anchors += 1
            self.lines.append(f"{prefix} &x{self.anchors} v{self.line_end()}")
        elif kind < 0.58 and self.anchors:
            self.lines.append(f"{prefix} *x{r.randint(1, self.anchors)}{self.line_end()}")
        elif kind < 0.64:
            self.lines.append(f"{prefix} {r.choice(HEADERS)}{self.line_end()}")
            self.lines.append(" " * (indent + 2) + "first")
            self.lines += [(" " * (indent + 2) + line).rstrip() for line in r.choices(LINES, k=r.randint(0, 3))]
        elif kind < 0.68:
            quote = r.choice(("", '"', "'"))
            self.lines.append(f"{prefix} {quote}over")
            self.lines += r.choices((" " * (indent + 2) + "several", ""), k=r.randint(0, 2))
            self.lines.append(" " * (indent + 2) + "lines" + quote + self.line_end())
        elif kind < 0.72:
            self.lines.append(f"{prefix} {self.flow(0)}{self.line_end()}")
        elif kind < 0.76:
            self.lines.append(prefix + self.line_end())
        else:
            self.lines.append(f"{prefix} {r.choice(SCALARS)}{self.line_end()}")

    def collection(
        self, make: object, prefix: str, indent: int, depth: int, *, in_list: bool, steps: tuple[int, ...]
    ) -> None:
        assert callable(make)
        if in_list and self.chance(0.55):
            make(indent + 2, depth + 1, prefix + " ")
            return
        inner = indent + self.random.choice(steps)
        self.lines.append(prefix + self.line_end())
        self.gap(inner, 0.6)
        make(inner, depth + 1, "")

    def mapping(self, indent: int, depth: int, prefix: str) -> None:
        """prefix: what already stands on the line of the first key."""
        for key in self.random.sample(KEYS, self.random.randint(1, 4 if depth < 3 else 2)):
            if not prefix:
                self.gap(indent)
            start = prefix or " " * indent
            if self.chance(0.03):
                self.lines.append(f"{start}? {key}{self.line_end()}")
                start, key = " " * indent, ""
            self.value(f"{start}{key}:", indent, depth, in_list=False)
            prefix = ""
        self.gap(indent, 0.5)

    def sequence(self, indent: int, depth: int, prefix: str) -> None:
        for _ in range(self.random.randint(1, 3)):
            if not prefix:
                self.gap(indent)
            self.value((prefix or " " * indent) + "-", indent, depth, in_list=True)
            prefix = ""
        self.gap(indent, 0.5)

    def flow(self, depth: int) -> str:
        r = self.random
        items = [
            self.flow(depth + 1) if depth < 2 and self.chance(0.2) else r.choice(("a", "1", '"b"', "c d", "'x'"))
            for _ in range(r.randint(0, 3))
        ]
        if self.chance(0.5):
            return "[" + ", ".join(items) + "]"
        return "{" + ", ".join(f"k{number}: {item}" for number, item in enumerate(items)) + "}"

    def flow_lines(self, prefix: str, indent: int) -> None:
        r = self.random
        is_map = self.chance(0.5)
        self.lines.append(f"{prefix} {'{' if is_map else '['}{self.line_end()}")
        count = r.randint(0, 3)
        for number in range(count):
            if self.chance(0.25):
                self.lines.append(" " * r.randint(1, indent + 3) + self.comment())
            if self.chance(0.05):
                self.lines.append("")
            key = f"k{number}: " if is_map else ""
            comma = "," if number < count - 1 or self.chance(0.3) else ""
            self.lines.append(" " * (indent + 2) + key + r.choice(("x", "1", '"y"')) + comma + self.line_end())
        if self.chance(0.25):
            self.lines.append(" " * r.randint(1, indent + 3) + self.comment())
        self.lines.append(" " * (indent + r.randint(0, 1)) + ("}" if is_map else "]") + self.line_end())

    def document(self) -> str:
        self.gap(0)
        if self.chance(0.97):
            self.mapping(0 if self.chance(0.95) else 2, 0, "")
        self.gap(0)
        text = "".join(f"{line}\n" for line in self.lines)
        return text.replace("\n", "\r\n") if self.chance(0.05) else text


# Strings

PIECES = (
    *"ab01 .:-#?,[]{}&*!|>'\"%@`=~+_/\\",
    *("\n", "\n", "\n", "\n\n", "  ", "\t", "\r", "\x85", "\u2028", "\xa0", "é", "☃", "\U0001f600", "\ufeff", "\x07"),
    *("yes", "true", "null", "1:20", "2001-01-01", "---", "...", ": ", " #", "0x", "1e3", "x" * 125),
)


def string(r: random.Random) -> str:
    """Not what sops cannot write: several lines of which the first begins with a tab."""
    text = "".join(r.choices(PIECES, k=r.choice((0, 1, 1, 2, 2, 3, 5, 8))))
    return text.lstrip("\t")


def quoted(text: str) -> str:
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08X}" for c in text) + '"'


def strings(seed: int) -> str:
    r = random.Random(f"strings {seed}")

    def value(depth: int) -> str:
        kind = r.random()
        if depth > 2 or kind < 0.6:
            return quoted(string(r))
        if kind < 0.8:
            return "[" + ", ".join(value(depth + 1) for _ in range(r.randint(0, 3))) + "]"
        return "{" + ", ".join(f"? {quoted(f'{string(r)}{i}')} : {value(depth + 1)}" for i in range(3)) + "}"

    return "".join(f"? {quoted(f'{string(r)}{i}')}\n: {value(0)}\n" for i in range(r.randint(1, 4)))


def as_written_by_us(theirs: bytes) -> bytes:
    """Differs from sops: its indentation indicators are wrong inside lists, so they are no part of the comparison."""
    return re.sub(rb"([:?-] (?:!!binary )?\|)[2-9]", rb"\1n", theirs)


# Tests


def readable(text: str) -> bool:
    try:
        found = read(text)
    except KrmSopsError:
        return False
    return len(found) < 2


def check_stream(folder: Path, name: str, documents: list[str]) -> None:
    kept = [text for text in documents if readable(text)]
    assert len(kept) > 0.8 * len(documents), "the generator makes too little YAML"
    tail = "".join(f"---\n{text}" for text in kept)
    done = encrypt(folder, name, f"holder: 1\n{tail}".encode())
    assert done.returncode == 0, f"{name}: {done.stderr.decode()}"
    block = re.search(r"^sops:\n(?:    .*\n)+", done.stdout.decode(), re.MULTILINE)
    assert block is not None
    stream = f"holder: 1\n{block.group()}{tail}".encode()
    theirs = as_written_by_us(decrypt(folder, name, stream))
    ours = as_written_by_us(STORE.write_plain(STORE.read(stream)[0]))
    assert ours == theirs, f"{name}, first seed {SEED}\n{difference(theirs, ours)}"


@pytest.mark.parametrize("number", range(STREAMS))
def test_generated_layouts_come_out_alike(tmp_path: Path, number: int) -> None:
    seeds = range(SEED + number * 40, SEED + (number + 1) * 40)
    check_stream(tmp_path, f"layout-{number}.yaml", [Layout(seed).document() for seed in seeds])


@pytest.mark.parametrize("number", range(STREAMS))
def test_generated_strings_and_keys_come_out_alike(tmp_path: Path, number: int) -> None:
    seeds = range(SEED + number * 40, SEED + (number + 1) * 40)
    check_stream(tmp_path, f"strings-{number}.yaml", [strings(seed) for seed in seeds])


def broken(seed: int) -> str:
    r = random.Random(f"broken {seed}")
    text = list(Layout(seed).document())
    for _ in range(r.randint(1, 3)):
        at = r.randrange(len(text) + 1)
        text[at : at + r.randint(0, 1)] = r.choice((*" \n#:-?,[]{}&*!|>'\"\t%0", "---\n", "\x85", "a: "))
    return "".join(text)


CANNOT_READ = 2  # sops' exit status; with another one it read the text and failed later


def outcome(folder: Path, seed: int) -> str:
    """ "" where sops and we agree whether this text can be read."""
    text = broken(seed)
    mine = ""
    try:
        read(text)
    except KrmSopsError as error:
        mine = error.message
    if "fit its tag" in mine or "must be a scalar" in mine:
        return ""  # differs from sops, which may lose the value or fail later
    done = encrypt(folder, f"broken-{seed}.yaml", text.encode())
    if (done.returncode == CANNOT_READ) == bool(mine):
        return ""
    return f"seed {seed}: sops {done.returncode} {done.stderr.decode()!r}, krm-sops {mine!r}\n{text}"


def test_broken_layouts_are_refused_by_both_or_by_none(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda seed: outcome(tmp_path, seed), range(SEED, SEED + 10 * STREAMS)))
    assert not any(found), "\n".join(filter(None, found))


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_files_are_what_sops_writes(tmp_path: Path, name: str) -> None:
    recorded = VECTORS / f"{name}.out.yaml"
    found = decrypt(tmp_path, f"{name}.yaml", (VECTORS / f"{name}.yaml").read_bytes())
    if os.environ.get("UPDATE") and b"3.13.3" in sops(tmp_path, "--version", "--disable-version-check").stdout:
        recorded.write_bytes(found)
    assert found == recorded.read_bytes()
