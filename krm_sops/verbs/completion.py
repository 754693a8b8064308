"""``krm-sops completion``: what bash and zsh need to complete verbs and flags. Flags are those of a verb's --help."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import shown
from krm_sops.verbs.flags import SWITCH, UsageError, parse

HELP = """\
krm-sops completion SHELL: print the completions of bash or zsh.

Example:
  source <(krm-sops completion bash)
"""
_BASH = """\
_{function}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}}
  if [[ $cur == -* ]]; then
    local verb= flags
    [[ $COMP_CWORD -gt 1 && ${{COMP_WORDS[1]}} != -* ]] && verb=${{COMP_WORDS[1]}}
    flags=$({program} $verb --help 2>/dev/null | grep -oE -- '(^|[ ,])--[a-z-]+' | sort -u)
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$cur"))
  fi
}}
complete -o bashdefault -o default -F _{function} {program}
"""
_ZSH = """\
#compdef {program}
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""


def main(arguments: list[str]) -> int:
    given = parse(arguments, {"help": SWITCH}, {"h": "help"})
    if given.on("help") or not given.names:
        return cli.write_out(HELP.encode())
    shell = given.names[0]
    if shell not in ("bash", "zsh"):
        raise UsageError(f"completions are for bash and zsh, not {shown(shell, 40)!r}")
    if cli.program == "sops":
        from krm_sops.verbs.sops import VERBS

        verbs = " ".join(VERBS)
    else:
        verbs = " ".join(cli.VERBS)
    script = _BASH if shell == "bash" else _ZSH + _BASH
    text = script.format(program=cli.program, function=cli.program.replace("-", "_"), verbs=verbs)
    return cli.write_out(text.encode())
