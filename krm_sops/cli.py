"""The program: which verb, streams, signals, exit status. Whatever happens, stdout is complete or empty."""

from __future__ import annotations

import posix  # what `os` is made of, without its half millisecond
import sys

from krm_sops.errors import KrmSopsError, printable, shown
from krm_sops.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.krm.results import Result
    from krm_sops.policy import Flags

VERBS: Registry[Callable[[list[str]], int]] = Registry(
    decrypt="krm_sops.verbs.decrypt:main",
    encrypt="krm_sops.verbs.encrypt:main",
    edit="krm_sops.verbs.edit:main",
    rotate="krm_sops.verbs.rotate:main",
    updatekeys="krm_sops.verbs.updatekeys:main",
    groups="krm_sops.verbs.groups:main",
    set="krm_sops.verbs.set:main",
    unset="krm_sops.verbs.set:unset",
    filestatus="krm_sops.verbs.filestatus:main",
    **{"exec-env": "krm_sops.verbs.exec_env:main", "exec-file": "krm_sops.verbs.exec_file:main"},
    keyservice="krm_sops.verbs.keyservice:main",
    **{"merge-driver": "krm_sops.verbs.merge_driver:main"},
    publish="krm_sops.verbs.publish:main",
    completion="krm_sops.verbs.completion:main",
    render="krm_sops.verbs.render:main",
    stages="krm_sops.verbs.stages:main",
    provision="krm_sops.verbs.provision:main",
    explain="krm_sops.verbs.explain:main",
    check="krm_sops.verbs.check:main",
    audit="krm_sops.verbs.audit:main",
    init="krm_sops.verbs.init:main",
    keygen="krm_sops.verbs.keygen:main",
    install="krm_sops.verbs.install:main",
    template="krm_sops.verbs.template:main",
    materialize="krm_sops.verbs.materialize:main",
)
_PROGRAMS: Registry[Callable[[list[str]], int]] = Registry(
    ksops="krm_sops.verbs.legacy:ksops",
    SopsSecretGenerator="krm_sops.verbs.legacy:sops_secret_generator",
    sops="krm_sops.verbs.sops:main",
)
"""By the name that this program is started under, where that makes it another one."""
_OTHERWISE: Registry[Callable[[list[str]], int]] = Registry(
    flags="krm_sops.verbs.function:main",
    file="krm_sops.verbs.legacy:main",
)
"""By what stands in the place of a verb."""

HELP = """\
krm-sops decrypts and encrypts SOPS documents: as a KRM function for kustomize and kpt, and on the command line.

Usage:
  krm-sops [FLAG...]            read a ResourceList on stdin, write it decrypted to stdout (KRM function)
  krm-sops decrypt [FILE]       decrypt one file as sops does; without FILE, stdin
  krm-sops encrypt [FILE]       encrypt one file as sops does, by .sops.yaml or for the recipients that flags name
  krm-sops edit FILE            decrypt a file into an editor, and encrypt it again
  krm-sops rotate PATH...       encrypt files again with new data keys
  krm-sops updatekeys PATH...   wrap the data keys of files for the keys that .sops.yaml names now
  krm-sops groups add|delete    add or remove a key group of a file
  krm-sops set FILE PATH VALUE  set one value of an encrypted file: VALUE is JSON; unset FILE PATH removes it
  krm-sops explain [FILE...]    say per document who can open it and which keys are at hand; needs no key
  krm-sops explain --policy     say what the operator allows, and where each line of it comes from
  krm-sops check [PATH...|-]    say what must not stand in a repository, or in what is deployed; needs no key
  krm-sops exec-env FILE CMD    run a command with the values of a file in its environment
  krm-sops exec-file FILE CMD   run a command that reads a file in plain, {} in CMD, from a private place
  krm-sops filestatus FILE      print {"encrypted":true} or {"encrypted":false}
  krm-sops keyservice           open and wrap data keys for programs that ask as sops asks a key service
  krm-sops publish FILE         upload a file to where the destination rules of .sops.yaml say
  krm-sops merge-driver ...     merge versions of an encrypted file for git
  krm-sops completion SHELL     print the completions of bash or zsh
  krm-sops render [PATH...|-]   write manifests decrypted to stdout; a folder with a kustomization is built before
  krm-sops provision SPEC       make the secrets that a specification names the sources of, encrypted if told for whom
  krm-sops stages VERB          plan, render or split a package in the order of a StageSet's stages
  krm-sops audit [PATH...]      say who can open what, how old it is, and where it differs from .sops.yaml
  krm-sops init [DIR]           write a .sops.yaml and a first encrypted Secret; an age key, if there is none
  krm-sops keygen [-o FILE]     make an age key; with -y, print the recipients of keys
  krm-sops template FILE...     write files with secrets in the places of their placeholders
  krm-sops materialize FILE...  write each value into a file of its own, all of them replaced in one step
  krm-sops install DIR          put the program into DIR so that it needs no Python
  krm-sops FILE                 FILE holds a functionConfig: an exec plugin of kustomize, with a YAML stream on stdin
  krm-sops VERB --help          the flags of a verb
  krm-sops --version

As a function, the functionConfig is one of
  none, or v1 ConfigMap         data: mac, ambient, strict, secretRef, allowPlaintext
  v1 Secret                     the key Secret itself: entries *.agekey, *.asc, *.sshkey, sops.aws-kms and the like
  krm-sops.dev/v1alpha1 SopsDecrypt
                                spec: decryption.secretRef.name, keys[] (value, env or file), mac, ambient, strict,
                                selectors, exclude, include, allowPlaintext, keepOriginal, needsHash
  krm-sops.dev/v1alpha1 SopsEncrypt
                                spec: creationRules, exclude, freshDataKey, and the same for keys
  krm-sops.dev/v1alpha1 SopsGenerator
                                spec: files, secretFrom, configMapFrom, and of the above what is not about items
  viaduct.ai/v1 ksops, goabout.com/v1beta1 SopsSecretGenerator
                                as these tools take them
  krm-sops.dev/v1alpha1 SopsTemplate
                                spec: secrets, templates, items, allowConfigMap, checksum, and as for SopsGenerator
  krm-sops.dev/v1alpha1 SopsCheck
                                spec: expect (encrypted or decrypted), allowDisabled; no item changes
  stages.metio.wtf/v1 StageSet  items in the order of its stages, decrypted by its spec.decryption

Keys are taken from the functionConfig, the key Secret it names among the items, the folder KRM_SOPS_KEY_DIR
(default /keys), and, where these hold none of a type, from the places where sops looks.

Flags of the function. They come after /etc/krm-sops/policy.yaml; a functionConfig can only ask for less:
  --strict                      warnings are errors
  --mac MODE                    strict, auto or tags: how MACs are checked, at least
  --ambient WHEN                never, auto or always: whether keys are looked for where sops looks, at most
  --key-file FILE               an age identity file, an OpenPGP secret key ring or an SSH private key; repeatable.
                                Only these are tried then, unless --ambient always
  --root FOLDER                 files of a repository are read below it only; default: the repository's top folder
  --limit NAME=NUMBER           input_bytes, document_bytes, depth, document_nodes, run_nodes, key_entries, run_seconds,
                                remote_calls, call_seconds or retry_seconds; repeatable
  --max-remote-calls NUMBER     calls of key services at once: the limit remote_calls

Example:
  kpt fn eval PACKAGE --exec krm-sops --fn-config key-secret.yaml -o unwrap

Exit status of the function: 0, all done; 1, nothing is trusted and every item left as it came.
"""


def console() -> None:
    """The entry of an installed script."""
    main_and_exit([_base_name(sys.argv[0] or "krm-sops"), *sys.argv[1:]])


def _base_name(path: str) -> str:
    return path.rpartition("/")[2]


def main_and_exit(argv: list[str]) -> None:
    """Run, and end the process without the interpreter's own clean-up, which would cost as much as the work."""
    status = main(argv)
    posix._exit(status)


def main(argv: list[str]) -> int:
    """argv: the base name of the program, then its arguments. The exit status."""
    _guard_process()
    try:
        name, *arguments = argv
        return _PROGRAMS[name](arguments) if name in _PROGRAMS else dispatch(arguments)
    except KrmSopsError as error:
        say_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        say("error: interrupted")
        return 130
    except RecursionError:
        say("error: the input is nested too deeply")
        return 1
    except MemoryError:
        say("error: out of memory")
        return 1
    except Exception as error:  # noqa: BLE001 - a traceback could quote a secret
        say(f"error: internal error ({type(error).__name__} in {_places(error)}); please report it")
        return 1


def dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if not arguments:
        return run_function()
    if first in ("--help", "-h", "help"):
        return write_out(HELP.encode())
    if first in ("--version", "-v", "version"):
        from krm_sops import __version__

        return write_out(f"krm-sops {__version__}\n".encode())
    if first in VERBS:
        return VERBS[first](arguments[1:])
    if first.startswith("-"):
        return _OTHERWISE["flags"](arguments)
    if _is_file(first):
        return _OTHERWISE["file"](arguments)
    say(f"error: unknown verb {shown(first, 60)!r}")
    say(f"hint: verbs: {', '.join(VERBS)}; see krm-sops --help")
    return 1


def run_function(flags: Flags | None = None, *, items_of: str = "") -> int:
    """ResourceList on stdin -> ResourceList on stdout; what went wrong also on stderr, as kustomize drops results.

    items_of: as in `functions.run`.
    """
    if _is_terminal(0):
        return write_out(HELP.encode())
    import gc

    from krm_sops.functions import run
    from krm_sops.host import Host
    from krm_sops.limits import FUNCTION

    gc.disable()  # of a large list it would look through all objects again and again: a run ends before it pays
    limits = FUNCTION.changed(flags.limits) if flags else FUNCTION
    limit_time(limits.run_seconds)
    host = Host(set_alarm=limit_time)
    raw = read_in(limits.input_bytes)
    if len(raw) > limits.input_bytes:
        from krm_sops.policy import in_force

        limits = in_force(host, limits, flags).limits  # which may allow more
        raw += read_in(limits.input_bytes - len(raw))
    output, results, status = run(raw, host, limits, flags, items_of)
    say_results(results)
    return write_out(output) or status


def say_results(results: Sequence[Result]) -> None:
    """A line on stderr for each error and warning, and one for its hint."""
    for result in results:
        if result.severity != "info":
            say(f"{result.severity}: {result.line()}")
            if result.hint:
                say(f"hint: {result.hint}")


_seconds = 0
"""How long this run may take; 0 before that is known."""
program = "krm-sops"
"""Who speaks, at the start of a line on stderr."""
outcome = "nothing was written"
"""What became of the output so far, for whoever reads why the process ended."""


def _guard_process() -> None:
    """No core dumps, three open streams, and one line instead of a traceback or silence when a signal ends us."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass
    try:  # a kernel that pipes cores to a program ignores the limit; then the core holds no memory
        descriptor = posix.open("/proc/self/coredump_filter", posix.O_WRONLY)
        posix.write(descriptor, b"0")
        posix.close(descriptor)
    except OSError:
        pass
    for stream in (0, 1, 2):
        try:
            posix.fstat(stream)
        except OSError:  # closed: taken the wrong way round, so that no file gets its number and using it still fails
            posix.open("/dev/null", posix.O_RDONLY if stream else posix.O_WRONLY)
    import _signal as signals  # `signal` costs an import of enum

    def stop(number: int, _frame: object) -> None:
        say(f"error: ended by signal {number}; {outcome}")
        posix._exit(128 + number)

    for number in (signals.SIGTERM, signals.SIGINT, signals.SIGHUP):
        if signals.getsignal(number) != signals.SIG_IGN:
            signals.signal(number, stop)
    signals.signal(signals.SIGPIPE, signals.SIG_IGN)


def limit_time(seconds: int) -> None:
    """End the run after `seconds` of it; what has passed under an earlier limit counts."""
    global _seconds
    import _signal as signals

    def stop(_number: int, _frame: object) -> None:
        say(f"error: the run took more than {seconds} s (the limit run_seconds); {outcome}")
        posix._exit(1)

    signals.signal(signals.SIGALRM, stop)
    passed = _seconds - signals.alarm(0) if _seconds else 0
    _seconds = seconds
    signals.alarm(max(1, seconds - passed))


def _is_file(path: str) -> bool:
    try:
        posix.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _is_terminal(descriptor: int) -> bool:
    try:
        return posix.isatty(descriptor)
    except OSError:
        return False


def _places(error: BaseException) -> str:
    """Where an error comes from, innermost first: what a traceback tells without the texts that it quotes."""
    trace = error.__traceback__
    found: list[str] = []
    while trace is not None:
        found.insert(0, f"{_base_name(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(found[:5])


def read_in(limit: int) -> bytes:
    """All of stdin, at most one byte more than `limit`. Raises KrmSopsError when it is closed or fails."""
    chunks = []
    left = limit + 1
    try:
        at_once = max(1 << 20, posix.fstat(0).st_size + 1)  # a file in one piece
        while left > 0:
            chunk = posix.read(0, min(left, at_once))
            if not chunk:
                break
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise KrmSopsError(f"cannot read stdin: {error.strerror}") from None
    return b"".join(chunks)


def read_line() -> bytes:
    """One line of stdin, not a byte more; b"" at its end. Raises KrmSopsError."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            byte = posix.read(0, 1)
            if not byte:
                break
            line += byte
    except OSError as error:
        raise KrmSopsError(f"cannot read stdin: {error.strerror}") from None
    return line


def write_out(data: bytes) -> int:
    """All of `data` on stdout; 0, or 1 after one line on stderr."""
    global outcome
    outcome = "the output is not complete"
    view = memoryview(data)
    try:
        while view:
            view = view[posix.write(1, view) :]
    except OSError as error:
        say(f"error: cannot write to stdout: {error.strerror}")
        return 1
    return 0


def say(line: str) -> None:
    """One line on stderr; silence where there is none to write to."""
    try:
        posix.write(2, f"{program}: {printable(line)}\n".encode())
    except OSError:
        pass


def say_error(error: KrmSopsError) -> None:
    where = ".".join(shown(part, 80) for part in error.path)
    say(f"error: {where}: {error}" if where else f"error: {error}")
    if error.hint:
        say(f"hint: {error.hint}")


def usage_error(message: str, allowed: Sequence[str]) -> KrmSopsError:
    return KrmSopsError(message, hint="flags: " + ", ".join(allowed))
