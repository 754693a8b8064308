"""Build a folder that runs krm-sops where there is no Python: `python -m krm_sops.standalone FOLDER`.

::

    bin/krm-sops    the launcher            lib/krm-sops    the dynamic loader, so that `ps` shows this name
    bin/python      this interpreter        lib/*.so.N      the C library and what else the parts link to
                                            lib/python3.X   standard library and packages, compiled, without sources

It is made of what is running: this interpreter, its standard library, the packages it imports; run from such a folder,
it is a copy of that one. Nothing in it names the place it was built at, so it may be moved. Needs Linux with glibc
here, and of the target nothing but a kernel (and `sh` for the launcher).
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from py_compile import PycInvalidationMode

from krm_sops.errors import KrmSopsError

PACKAGES = ("krm_sops", "cryptography", "_cffi_backend", "re2", "yaml")
DISTRIBUTIONS = ("krm-sops", "cryptography", "cffi", "google-re2", "PyYAML")

# Of the standard library: what cannot run in the folder, what is for developers, and what nothing here could use.
LEFT_OUT = {
    *("__phello__", "__pycache__", "dist-packages", "lib-dynload", "site-packages"),
    *("distutils", "doctest.py", "ensurepip", "idlelib", "lib2to3", "pdb.py", "pydoc.py", "pydoc_data", "test"),
    *("_pyrepl", "curses", "tkinter", "turtle.py", "turtledemo", "unittest", "venv"),
    *("asyncio", "ctypes", "dbm", "mailbox.py", "multiprocessing", "sqlite3", "wsgiref", "xml", "xmlrpc"),
    *("_pydatetime.py", "_pydecimal.py", "_pyio.py"),  # stand-ins for compiled modules that are there
}
# Of its compiled modules: those that an import of ours, of the packages or of the cloud clients can reach.
COMPILED = {
    *("_bisect", "_blake2", "_bz2", "_contextvars", "_csv", "_datetime", "_decimal", "_hashlib", "_heapq", "_hmac"),
    *("_json", "_lzma", "_md5", "_opcode", "_pickle", "_posixsubprocess", "_queue", "_random", "_sha1", "_sha2"),
    *("_sha256", "_sha3", "_sha512", "_socket", "_ssl", "_struct", "_typing", "_uuid", "_zoneinfo"),
    *("array", "binascii", "fcntl", "grp", "math", "mmap", "resource", "select", "termios", "unicodedata", "zlib"),
}


class BuildError(KrmSopsError):
    pass


def build(folder: Path) -> None:
    """folder: must not exist yet; it appears whole or not at all. Raises BuildError, OSError, CalledProcessError."""
    if folder.exists():
        raise BuildError(f"{folder} exists already")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        running = running_folder()
        if running:
            copy(running, part)
        else:
            make(part)
        for path in part.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.parent in (part / "bin", part / "lib") else 0o644)
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def running_folder() -> Path | None:
    """The standalone folder that this program runs from, if it does."""
    above = Path(__file__).parents  # lib/python3.X/site-packages/krm_sops
    folder = above[4] if len(above) > 4 else above[-1]
    is_standalone = (folder / "lib" / "krm-sops").is_file() and (folder / "bin" / "python").is_file()
    return folder if is_standalone else None


def copy(folder: Path, part: Path) -> None:
    """The first error ends it, unlike in shutil.copytree."""
    for source in [folder, *sorted(folder.rglob("*"))]:
        target = part / source.relative_to(folder)
        if source.is_dir():
            target.mkdir()
        else:
            shutil.copyfile(source, target)


def make(part: Path) -> None:
    library = part / "lib" / Path(os.__file__).parent.name
    copy_interpreter(part)
    copy_standard_library(library)
    copy_packages(library / "site-packages")
    copy_libraries(part)
    strip(part)
    compile_all(part)


def copy_interpreter(part: Path) -> None:
    (part / "bin").mkdir(parents=True)
    shutil.copyfile("/proc/self/exe", part / "bin" / "python")
    shutil.copyfile(Path(__file__).parent / "bin" / "krm-sops", part / "bin" / "krm-sops")


def copy_standard_library(library: Path) -> None:
    source = Path(os.__file__).parent

    def left_out(folder: str, names: list[str]) -> set[str]:
        if Path(folder) != source:
            return {"__pycache__"} & set(names)
        return {name for name in names if name in LEFT_OUT or name.startswith(("config-", "_sysconfigdata"))}

    shutil.copytree(source, library, ignore=left_out)
    (library / "lib-dynload").mkdir()  # even where it stays empty: without it each start prints a warning
    for name in COMPILED:
        spec = util.find_spec(name)
        if spec and spec.origin and spec.origin.endswith(".so"):
            shutil.copy(spec.origin, library / "lib-dynload")


def copy_packages(target: Path) -> None:
    for name in PACKAGES:
        spec = util.find_spec(name)
        if spec is None or spec.origin is None:
            raise BuildError(f"package {name} is not installed")
        if spec.submodule_search_locations:
            ignored = shutil.ignore_patterns("__pycache__", "*.pyi", "*.pyx", "*.pxd", "*.h", "py.typed")
            shutil.copytree(Path(spec.origin).parent, target / name, ignore=ignored)
        else:
            shutil.copy(spec.origin, target)
    for name in DISTRIBUTIONS:  # names and versions for scanners, licences for everyone
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise BuildError(f"{name} was not installed by pip, so its licence is not known") from None
        for file in distribution.files or ():
            if file.parts[0].endswith(".dist-info") and (file.name == "METADATA" or file.parts[1:-1]):
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(distribution.locate_file(file)), target / file)


def copy_libraries(part: Path) -> None:
    """Copy the loader, and what it finds for the interpreter and each compiled module, under the name asked for."""
    loader = running_loader()
    shutil.copyfile(loader, part / "lib" / "krm-sops")
    for file in [part / "bin" / "python", *part.rglob("*.so")]:
        for line in output(loader, "--list", file).splitlines():
            name, arrow, found = line.strip().partition(" => ")
            if not arrow or "/" in name:  # the kernel's own, and the loader
                continue
            path, _, address = found.rpartition(" ")
            if not address.startswith("(0x"):
                raise BuildError(f"{file.name} needs {name}, which is not here")
            if not (part / "lib" / name).exists():
                shutil.copyfile(path, part / "lib" / name)


def running_loader() -> str:
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip("\n").partition("/")[2]
            if path.rpartition("/")[2].startswith(("ld-linux", "ld64.so", "ld.so")):
                return "/" + path
    raise BuildError("this interpreter was not started by glibc's loader")


def strip(part: Path) -> None:
    """Drop the symbols that wheels bring along, 5 MB of them, where binutils are at hand."""
    program = shutil.which("strip")
    if program:
        output(program, "--strip-unneeded", part / "bin" / "python", *part.rglob("*.so*"))


def output(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def compile_all(part: Path) -> None:
    """Replace each source by its bytecode, which holds no path of this machine and is never compared with a source."""
    if not compileall.compile_dir(
        part / "lib",
        legacy=True,
        quiet=1,
        stripdir=str(part),
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        maxlevels=20,
    ):
        raise BuildError("a module of the standard library or a package does not compile")
    for source in part.rglob("*.py"):
        source.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m krm_sops.standalone FOLDER")
    try:
        build(Path(sys.argv[1]))
    except (KrmSopsError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"krm-sops: error: {error}")
