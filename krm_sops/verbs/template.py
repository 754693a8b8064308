"""``krm-sops template``: files whose placeholders give way to secrets."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import KrmSopsError, shown
from krm_sops.functions.files import in_file
from krm_sops.stores import STORES, format_for_path
from krm_sops.templates import Filling, Source, filled_file
from krm_sops.verbs import files, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, MANY, SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.opened import HELP as OPENED_HELP
from krm_sops.verbs.opened import opened

HELP = f"""\
krm-sops template FILE... --secrets [NAME=]FILE: write files to stdout, secrets in the places of their placeholders.

A placeholder is <SOPS:a/b> for the value at a.b of the secrets, or <SOPS:NAME/a/b>; <SOPS:a/b:FORM> spells it for where
it stands: json, yaml, shell or dotenv (a literal, with its own quotes), url, base64. sops-nix' are understood, too.
One that names nothing is an error, and secrets of which none is named. In YAML, JSON, dotenv and INI files
placeholders stand in values, where nothing of a value can become structure; other files are texts.

  --secrets [NAME=]FILE  an encrypted file; repeatable
  --output FILE          write the result there, readable for its owner only
  --as FORMAT            of the templates: yaml, json, dotenv, ini or text, whatever their names say
{OPENED_HELP}{KEY_HELP}{keys.SERVICE_HELP}
Example:
  krm-sops template app.conf --secrets secrets.enc.yaml --output /run/app/app.conf
"""
FLAGS = {
    "secrets": MANY,
    "output": VALUE,
    "as": VALUE,
    "input-type": VALUE,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
_FORMATS = (*(name for name in STORES if name != "binary"), "text")


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if not given.names or not given.many("secrets"):
        raise UsageError("template needs a FILE, and --secrets with at least one more", hint="krm-sops template --help")
    forms = [format_of(path, given.text("as")) for path in given.names]
    if len(forms) > 1 and set(forms) != {"yaml"}:
        raise UsageError("of several templates only YAML files make one stream")
    sources = [Source(found.path, found.values()) for found in opened(given.many("secrets"), given)]
    parts = [filled(path, form, sources) for path, form in zip(given.names, forms, strict=True)]
    for source in sources:
        source.refuse_unused()
    result = b"---\n".join(parts)
    if not given.text("output"):
        return cli.write_out(result)
    files.write(given.text("output"), result, mode=0o600)
    return 0


def format_of(path: str, wanted: str = "") -> str:
    """Raises UsageError."""
    if wanted and wanted not in _FORMATS:
        raise UsageError(f"--as {shown(wanted, 40)!r}: formats are {', '.join(_FORMATS)}")
    found = wanted or format_for_path(path)
    return "text" if found == "binary" else found


def filled(path: str, form: str, sources: list[Source]) -> bytes:
    """One template with its values. Raises KrmSopsError, naming the file."""
    raw = files.read(path)
    try:
        return filled_file(raw, form, Filling(sources))
    except KrmSopsError as error:
        raise in_file(error, path) from None
