"""One table of command lines, run by the real sops and by krm-sops under the name `sops`, each in a copy of the
same folder: the same exit status, words on stderr that scripts look for, stdout, and files after it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import agefile
from tests.e2e.clients import WRONG_KEY
from tests.interop.programs import link
from tests.security import made

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
pytestmark = pytest.mark.skipif(SOPS is None, reason="sops is not installed")

ME = agefile.recipient_of(made.IDENTITY)
OTHER = agefile.recipient_of(WRONG_KEY)
PLAIN = "a: 1\nb: text\nlist:\n    - x\n    - 2\n"
CIPHERTEXT = re.compile(r"ENC\[AES256_GCM,[^\]]*,type:(\w+)\]")
ARMORED = re.compile(r"-----BEGIN.*?END AGE ENCRYPTED FILE-----", re.DOTALL)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

# command line (@ is the folder), exit status, what stderr says (by either), compared: o stdout, f files
TABLE = [
    # decrypt
    ("-d e.yaml", 0, "", "o"),
    ("--decrypt e.yaml", 0, "", "o"),
    ("-d --extract ['b'] e.yaml", 0, "", "o"),
    ("-d --output-type json e.yaml", 0, "", "o"),
    ("--output-type json -d e.yaml", 0, "", "o"),
    ("-d --indent 2 e.yaml", 0, "", "o"),
    ("--indent 2 decrypt e.yaml", 0, "", "o"),
    ("-d -i e.yaml", 0, "", "of"),
    ("--verbose -d e.yaml", 0, "Data key recovered successfully", "o"),
    ("-d --output out.yaml e.yaml", 0, "", "of"),
    ("-d -i --output out.yaml e.yaml", 8, "Error: cannot operate on both --output and --in-place", "of"),
    ("decrypt e.yaml --output-type json", 0, "", "o"),
    ("decrypt e.yaml m.yaml", 0, "More than one positional argument provided|more than one positional", "o"),
    ("-d -e e.yaml", 0, "More than one command", "o"),
    ("-d nosuch.yaml", 100, "Error: cannot operate on non-existent file", "o"),
    ("decrypt nosuch.yaml", 100, "Error: cannot operate on non-existent file", "o"),
    ("-d plain.yaml", 1, "sops metadata not found", "o"),
    ("-d other.yaml", 128, "Failed to get the data key required to decrypt the SOPS file.", "o"),
    ("-d m.yaml", 51, "MAC mismatch.", "o"),
    ("-d --ignore-mac m.yaml", 0, "", "o"),
    ("-d tag.yaml", 25, "Error decrypting tree: ", "o"),
    ("-d --extract ['nosuch'] e.yaml", 1, "component ['nosuch'] not found", "o"),
    ("-d --extract b e.yaml", 91, "error parsing --extract path: ", "o"),
    ("-d --decryption-order age,age e.yaml", 112, "Duplicate decryption key type: ", "o"),
    ("-d --age age1nonsense e.yaml", 0, "", "o"),
    ("--config nosuch -d e.yaml", 1, "could not read config file", "o"),
    # encrypt
    ("-e plain.yaml", 0, "", "o"),
    ("-e -i plain.yaml", 0, "", "of"),
    ("encrypt --output-type json plain.yaml", 0, "", "o"),
    ("--indent 2 encrypt plain.yaml", 0, "", "o"),
    ("-e --encrypted-regex ^b$ plain.yaml", 0, "", "o"),
    ("--mac-only-encrypted encrypt --encrypted-regex ^b$ plain.yaml", 0, "", "o"),
    ("-e --encrypted-regex ^b$ --unencrypted-suffix x plain.yaml", 8, "cannot use more than one of", "o"),
    (f"-e --age {OTHER} plain.yaml", 0, "", "o"),
    ("-e nosuch.yaml", 100, "Error: cannot operate on non-existent file", "o"),
    ("-e e.yaml", 203, "The file you have provided contains a top-level entry called 'sops'", "o"),
    ("-e empty.yaml", 92, "File cannot be completely empty, it must contain at least one document", "o"),
    ("-e bad.yaml", 2, "", "o"),
    ("--config none.sops.yaml -e plain.yaml", 1, "config file not found, or has no creation rules", "o"),
    ("--config other.sops.yaml -e plain.yaml", 1, "error loading config: no matching creation rules found", "o"),
    ("--config empty.sops.yaml -e plain.yaml", 1, "Could not generate data key: [empty key group provided]\n", "o"),
    ("encrypt -i", 8, "Error: cannot use --in-place when reading from stdin", "o"),
    ("encrypt", 8, "Error: must specify --filename-override when reading from stdin", "o"),
    # set, rotate, edit
    ('--set ["a"]|7 e.yaml', 0, "", "of"),
    ('--set ["a"]|x e.yaml', 7, "", "of"),
    ('--set ["a"] e.yaml', 7, "Invalid --set format", "of"),
    ('set e.yaml ["list"][0] "y"', 0, "", "of"),
    ('unset e.yaml ["b"]', 0, "", "of"),
    ("set e.yaml", 100, "Error: no file specified", "of"),
    ("-r e.yaml", 0, "", "o"),
    ("-r -i e.yaml", 0, "", "of"),
    (f"-r --add-age {OTHER} e.yaml", 0, "", "o"),
    ("-r nosuch.yaml", 100, "Error: cannot operate on non-existent file", "o"),
    (f"-r --add-age {OTHER} nosuch.yaml", 49, "Error: cannot add or remove keys on non-existent file", "o"),
    ("e.yaml", 200, "File has not changed, exiting.", "of"),
    ("edit e.yaml", 200, "File has not changed, exiting.", "of"),
    ("", 100, "Error: no file specified", "o"),
    # other verbs
    ("filestatus e.yaml", 0, "", "o"),
    ("filestatus plain.yaml", 0, "", "o"),
    ("filestatus", 100, "Error: no file specified", "o"),
    ("exec-env flat.yaml printf|%s|$b", 0, "", "o"),
    ("exec-env --pristine flat.yaml printf|%s|$HOME$b", 0, "", "o"),
    ("exec-env --same-process flat.yaml printf|%s|$b;exit|7", 7, "", "o"),
    ("exec-env flat.yaml exit|7", 7, "", "o"),
    ("exec-env flat.yaml kill|-9|$$", 255, "", "o"),
    ("exec-env e.yaml true", 1, "cannot use complex value in environment; offending key list", "o"),
    ("exec-env nosuch.yaml true", 2, "", "o"),
    (
        "exec-env --background --same-process flat.yaml true",
        8,
        "--same-process flag cannot be used with --background",
        "o",
    ),
    ("exec-env flat.yaml", 1, "missing file to decrypt", "o"),
    ("exec-file e.yaml cat|{}", 0, "", "o"),
    ("exec-file --no-fifo e.yaml cat|{}|{};exit|3", 3, "", "o"),
    ("exec-file --no-fifo --filename some.yaml e.yaml basename|{}", 0, "", "o"),
    ("exec-file --no-fifo --filename ../some.yaml e.yaml true", 1, "provided filename is not a local path", "o"),
    ("exec-file --output-type json e.yaml cat|{}", 0, "", "o"),
    ("exec-file e.yaml true", 0, "", "o"),
    ("publish e.yaml", 1, "error loading config: no matching destination found in config", "o"),
    ("groups add -f e.yaml x", 1, "no positional arguments allowed", "o"),
    # both programs
    ("--version", 0, "", "o"),
    ("-v", 0, "", "o"),
    ("--nosuch", 1, "flag provided but not defined|unknown flag", ""),
    ("decrypt --nosuch e.yaml", 1, "flag provided but not defined|unknown flag", ""),
    ("--help", 0, "", ""),
    ("decrypt --help", 0, "", ""),
    ("help decrypt", 0, "", ""),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that the real sops made."""
    top = tmp_path_factory.mktemp("made")
    (top / ".sops.yaml").write_text(f"creation_rules:\n- age: {ME}\n")
    (top / "none.sops.yaml").write_text("stores: {}\n")
    (top / "other.sops.yaml").write_text(f"creation_rules:\n- path_regex: ^other\n  age: {ME}\n")
    (top / "empty.sops.yaml").write_text("creation_rules:\n- {}\n")
    for name, text in (("plain.yaml", PLAIN), ("e.yaml", PLAIN), ("flat.yaml", "a: 1\nb: text\n# c\n")):
        (top / name).write_text(text)
    (top / "other.yaml").write_text(PLAIN)
    (top / "empty.yaml").write_text("")
    (top / "bad.yaml").write_text("a: [\n")
    for name, recipient in (("e.yaml", ME), ("flat.yaml", ME), ("other.yaml", OTHER)):
        subprocess.run([str(SOPS), "encrypt", "--age", recipient, "-i", name], cwd=top, check=True, capture_output=True)
    encrypted = (top / "e.yaml").read_text()
    (top / "m.yaml").write_text(re.sub(r"(?m)^a: .*\n", "", encrypted))
    (top / "tag.yaml").write_text(encrypted.replace("data:", "data:AAAA", 1))
    return top


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link(tmp_path_factory.mktemp("ours"), "sops")


def run(program: str | Path, line: str, folder: Path, place: Path) -> tuple[int, str, str, dict[str, str]]:
    """Exit status, stdout, stderr and the files after; of ciphertexts only their types."""
    shutil.copytree(folder, place)
    env = {"PATH": PATH, "HOME": str(place), "SOPS_AGE_KEY": made.IDENTITY, "EDITOR": "true"}
    env |= {"SOPS_DISABLE_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [word.replace("|", " ") for word in line.split()]
    done = subprocess.run(
        [program, *words], cwd=place, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    files = {file.name: _plain(file.read_text()) for file in sorted(place.iterdir()) if file.is_file()}
    return done.returncode, _plain(done.stdout), done.stderr, files


def _plain(text: str) -> str:
    return TIME.sub("(time)", ARMORED.sub("(age)", CIPHERTEXT.sub(r"(\1)", text)))


@pytest.mark.parametrize(("line", "status", "says", "compared"), TABLE, ids=[line or "nothing" for line, *_ in TABLE])
def test_both_programs_do_the_same(
    line: str, status: int, says: str, compared: str, folder: Path, ours: Path, tmp_path: Path
) -> None:
    theirs = run(str(SOPS), line, folder, tmp_path / "theirs")
    mine = run(ours, line, folder, tmp_path / "ours")
    assert (theirs[0], mine[0]) == (status, status), (theirs[2], mine[2])
    for text in (theirs[2], mine[2]):
        # sops breaks its lines
        assert any(phrase in text or phrase in " ".join(text.split()) for phrase in says.split("|")), (text, says)
    if "o" in compared:
        assert mine[1] == theirs[1]
    if "f" in compared:
        assert mine[3] == theirs[3]


def test_what_is_not_encrypted_by_flags_before_a_verb_stays_so(folder: Path, ours: Path, tmp_path: Path) -> None:
    """`sops --age X encrypt` takes its keys from .sops.yaml: flags of another mode do not count before a verb."""
    line = f"--age {OTHER} -i encrypt plain.yaml"
    theirs, mine = run(str(SOPS), line, folder, tmp_path / "1"), run(ours, line, folder, tmp_path / "2")
    assert mine[:2] == theirs[:2]
    assert mine[3] == theirs[3]
    assert ME in mine[1]
    assert OTHER not in mine[1]


def test_completions_are_scripts_that_bash_takes(ours: Path, tmp_path: Path) -> None:
    done = subprocess.run([ours, "completion", "bash"], capture_output=True, text=True, check=True)
    path = f"{ours.parent}:{PATH}"
    ask = "COMP_WORDS=(sops {0}); COMP_CWORD={1}; _sops; echo ${{COMPREPLY[@]}}"
    for words, at, expected in (("exec-", 1, "exec-env exec-file"), ("decrypt --extr", 2, "--extract")):
        script = done.stdout + ask.format(words, at)
        told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={"PATH": path}, check=True)
        assert told.stdout.strip() == expected
