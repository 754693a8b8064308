"""krm-sops beside the Go tools: the same documents, the same machine, in turn."""

from __future__ import annotations

import os
import shutil
import sys

from bench import cases, images, pages
from bench.measure import Program, in_rounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bench.measure import Runs

    Programs = Mapping[str, Program | None]

OURS = "krm-sops"
HEAD = "case | program | >ms | >times krm-sops | >CPU ms | >MB"
BUILD = ("kustomize", "build", "--enable-alpha-plugins", "--enable-exec")
LOOP = ("sh", "-c", 'for file in "$0"/*; do sops decrypt "$file"; done')
AGE = {1: "age-10-1", 10: "age-100-10", 100: "age-1000-100", 1000: "age-5000-1000"}
"""Encrypted resources -> their folder, which has the number of all resources in its name."""
BUILDS = (1, 10, 100)
"""Encrypted resources of builds: kustomize alone takes minutes for 5,000."""
FLOOR = "cat"
"""A function that does nothing: what the host takes for having one."""


class Row:
    """One case. lines: of the table, one for each program."""

    def __init__(self, secrets: int, runs: dict[str, Runs], lines: list[list[str]]) -> None:
        self.secrets = secrets
        self.runs = runs
        self.lines = lines


class Bench:
    """folder: where the documents are.  env: in which they open.

    skipped: programs that are not there.  behind: where another program was faster than ours, and by how much.
    plots: title -> program -> (encrypted resources, seconds).
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.skipped: list[str] = []
        self.behind: list[str] = []
        self.plots: dict[str, dict[str, list[tuple[int, float]]]] = {}

    def program(
        self, *argv: str | Path, needs: str = "", folder: str | Path = "", reads: str | Path = os.devnull
    ) -> Program | None:
        """None where the program, or another one that it needs, is absent."""
        absent = [name for name in (argv[0], needs) if name and not self.which(str(name))]
        if absent:
            self.skipped += [str(name) for name in absent if name not in self.skipped]
            return None
        command = [self.which(str(argv[0])), *(str(part) for part in argv[1:])]
        return Program(command, self.env, str(reads), str(self.folder / folder))

    def which(self, name: str) -> str:
        """The path of a program, or nothing."""
        return shutil.which(name, path=self.env["PATH"]) or ""

    def row(self, case: str, secrets: int, programs: Programs, seconds: float, values: int = cases.VALUES) -> Row:
        """The first program is ours, and what the others are compared with.

        values: in each Secret; all of them must be printed.  seconds: for all rounds.
        """
        here = {name: program for name, program in programs.items() if program}
        written = str(self.folder / "out")
        for name, program in here.items():
            program.run(written)
            if name != FLOOR and cases.opened(written) != secrets * values:
                sys.exit(f"{case}: {name} did not decrypt everything")
        runs = in_rounds(here, seconds)
        first = next(iter(runs))
        lines: list[list[str]] = []
        for name, took in runs.items():
            ratio = took.ratio(runs[first])
            times = "" if name == first else f"{ratio:.2f}"
            if ratio < 0.98 and not name.startswith(OURS) and name != FLOOR:
                times = f"**{times}**"
                self.behind.append(f"{case}: {name} took {ratio:.2f} times what {first} took")
            lines.append(["" if lines else case, name, pages.milliseconds(took.seconds), times])
            lines[-1] += [pages.milliseconds(took.cpu), pages.megabytes(took.memory)]
        rounds = len(runs[first].samples)
        sys.stderr.write(f"{case} ({rounds}): {', '.join(f'{line[1]} {line[2]} {line[3]}' for line in lines)}\n")
        return Row(secrets, runs, lines)

    def plotted(self, title: str, rows: Iterable[Row]) -> list[Row]:
        """Rows of a growing number of encrypted resources."""
        lines: dict[str, list[tuple[int, float]]] = {}
        self.plots[title] = lines
        kept = list(rows)
        for row in kept:
            for name, took in row.runs.items():
                lines.setdefault(name, []).append((row.secrets, took.seconds))
        return kept


def of(secrets: int, name: str, what: str) -> str:
    return f"{secrets:,} of {int(name.split('-')[1]):,} {what}"


def one_document(bench: Bench) -> list[Row]:
    """`decrypt` of one file."""
    key = ("--key-file", bench.folder / "keys" / "bench.asc")
    rows = []
    for case, file, values, flags in (
        ("a Secret, age", "age-10-1/secret/service-0009.yaml", cases.VALUES, ()),
        ("1 MB in 5,600 values, age", "large/1mb.yaml", 5600, ()),
        ("5 MB in 28,000 values, age", "large/5mb.yaml", 28_000, ()),
        ("a Secret, PGP RSA-4096", "pgp-10-1/secret/service-0009.yaml", cases.VALUES, key),
        ("a Secret, KMS of 50 ms", "kms-10-1/secret/service-0009.yaml", cases.VALUES, ()),
    ):
        programs = {OURS: bench.program(OURS, "decrypt", *flags, file), "sops": bench.program("sops", "decrypt", file)}
        rows.append(bench.row(case, 1, programs, 10, values))
    return rows


def folder_of_files(bench: Bench) -> list[Row]:
    """`render` of all files, against a loop over those that are encrypted."""

    def row(secrets: int, name: str, key: str, *flags: str | Path) -> Row:
        files = (f"{name}/secret", f"{name}/plain")
        programs = {
            OURS: bench.program(OURS, "render", *flags, *files),
            "sops, in a loop": bench.program(*LOOP, files[0], needs="sops"),
        }
        return bench.row(f"{of(secrets, name, 'files')}, {key}", secrets, programs, 12)

    rows = bench.plotted("A folder of files", (row(secrets, name, "age") for secrets, name in AGE.items()))
    for secrets, name in ((1, "pgp-10-1"), (10, "pgp-100-10")):
        rows.append(row(secrets, name, "PGP RSA-4096", "--key-file", bench.folder / "keys" / "bench.asc"))
    for secrets, name in ((1, "kms-10-1"), (10, "kms-100-10")):
        rows.append(row(secrets, name, "KMS of 50 ms"))
    return rows


def function(bench: Bench) -> list[Row]:
    """The function alone, as kustomize starts it: one ResourceList in, one out."""

    def row(secrets: int, name: str) -> Row:
        programs = {
            OURS: _given(bench, f"{name}/as-ksops", OURS),
            "ksops": _given(bench, f"{name}/ksops", "ksops"),
        }
        return bench.row(f"a ksops generator of {secrets:,} files", secrets, programs, 10)

    return bench.plotted("The function alone", (row(secrets, name) for secrets, name in AGE.items()))


def container(bench: Bench) -> list[Row]:
    """The same in a container."""
    identity = (bench.folder / "keys" / "bench.agekey").read_text().strip()
    if bench.which("podman") and bench.which("ksops"):
        images.make_ksops(bench.which("ksops"))
    here = images.sizes()
    if images.OURS not in here:
        bench.skipped.append(f"{images.OURS} (`make image`)")
        return []
    rows = []
    for secrets in (1, 100):
        programs = {}
        for name, image, config in ((OURS, images.OURS, "as-ksops"), ("ksops", images.KSOPS, "ksops")):
            folder = f"{AGE[secrets]}/{config}"
            flags = (
                "--rm",
                "--interactive",
                "--network",
                "none",
                "--workdir",
                "/work",
                "--env",
                f"SOPS_AGE_KEY={identity}",
            )
            volume = ("--volume", f"{bench.folder / folder}:/work:ro")
            argv = ("podman", "run", *flags, *volume, image)
            programs[name] = _given(bench, folder, *argv) if image in here else None
        rows.append(bench.row(f"a ksops generator of {secrets:,} files, podman", secrets, programs, 12))
        for line in rows[-1].lines:
            line[4:] = ["", ""]  # what podman itself takes says nothing
    return rows


def _given(bench: Bench, folder: str, *argv: str) -> Program | None:
    return bench.program(*argv, folder=folder, reads=bench.folder / folder / "input.yaml")


def kustomize_build(bench: Bench) -> list[Row]:
    def row(secrets: int, name: str) -> Row:
        key = bench.env["SOPS_AGE_KEY_FILE"]
        programs = {
            "krm-sops as ksops, in kustomize": bench.program(*BUILD, f"{name}/as-ksops"),
            "krm-sops generator, in kustomize": bench.program(*BUILD, f"{name}/krm-sops"),
            "krm-sops transformer, in kustomize": bench.program(*BUILD, f"{name}/transformer"),
            "krm-sops render": bench.program(OURS, "render", f"{name}/resources"),
            "ksops, in kustomize": bench.program(*BUILD, f"{name}/ksops", needs="ksops"),
            "flux-decryptor": bench.program("flux-decryptor", key, f"{name}/resources"),
        }
        return bench.row(of(secrets, name, "resources"), secrets, programs, 20)

    return bench.plotted("A kustomize build", (row(secrets, AGE[secrets]) for secrets in BUILDS))


def kpt_render(bench: Bench) -> list[Row]:
    def program(name: str, function: str) -> Program | None:
        """In a copy of the package whose pipeline has that function."""
        copy = bench.folder / f"{name}-{function.replace('/', '-').replace(': ', '-')}"
        shutil.copytree(bench.folder / name / "package", copy, copy_function=os.link)
        text = (copy / "Kptfile").read_text()
        (copy / "Kptfile").unlink()
        (copy / "Kptfile").write_text(text.replace("FUNCTION", function))
        render = ("kpt", "fn", "render", "--allow-exec", "-o", "unwrap", "--image-pull-policy", "never")
        return bench.program(*render, copy.name)

    def row(secrets: int, name: str) -> Row:
        image = images.OURS if images.OURS in images.sizes() else ""
        programs = {
            "krm-sops, exec": program(name, f"exec: {OURS}"),
            "krm-sops, container (podman)": program(name, f"image: {image}") if image else None,
            FLOOR: program(name, "exec: cat"),
        }
        return bench.row(of(secrets, name, "resources"), secrets, programs, 15)

    return [row(secrets, AGE[secrets]) for secrets in BUILDS]


PARTS = {
    "document": one_document,
    "folder": folder_of_files,
    "function": function,
    "container": container,
    "kustomize": kustomize_build,
    "kpt": kpt_render,
}


def main(bench: Bench, parts: Iterable[str]) -> None:
    for part in parts:
        rows = PARTS[part](bench)
        lines = [line for row in rows for line in row.lines]
        pages.fill("benchmarks.md", part, pages.table(HEAD, lines) if lines else "Skipped: see the top.")
