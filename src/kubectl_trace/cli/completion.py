"""`kubectl trace completion`: a shell's completion script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.cli.arguments import verb_parser
from kubectl_trace.errors import Exit

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser

_EXAMPLES = """\
  # for the command kubectl-trace, in this shell
  source <(kubectl-trace completion bash)
  # for good
  kubectl-trace completion fish > ~/.config/fish/completions/kubectl-trace.fish

`kubectl trace …` needs none of this: kubectl 1.26 and later asks kubectl_complete-trace, which is
installed beside this command.
"""

# Each script asks `kubectl_complete-trace`, as kubectl does, and leaves its last line (the directive).
_SCRIPTS = {
    "bash": """\
_kubectl_trace() {
  local word=${COMP_WORDS[COMP_CWORD]} line
  COMPREPLY=()
  while IFS= read -r line; do
    line=${line%%$'\\t'*}
    [[ $line == :* || $line != "$word"* ]] || COMPREPLY+=("$line")
  done < <(kubectl_complete-trace "${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
}
complete -o default -F _kubectl_trace kubectl-trace
""",
    "zsh": """\
#compdef kubectl-trace
_kubectl_trace() {
  local -a found
  local line
  kubectl_complete-trace "${(@)words[2,CURRENT]}" 2> /dev/null | while IFS= read -r line; do
    [[ $line == :* ]] || found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
  done
  if (( $#found )); then _describe 'kubectl trace' found; else _files; fi
}
compdef _kubectl_trace kubectl-trace
""",
    "fish": """\
function __kubectl_trace
  set -l words (commandline -opc) (commandline -ct)
  kubectl_complete-trace $words[2..-1] 2> /dev/null | string match -v -r '^:'
end
complete -c kubectl-trace -f -n 'not __fish_seen_argument -s f -l filename' -a '(__kubectl_trace)'
complete -c kubectl-trace -s f -l filename -r -F
""",
}


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "completion", "Print the completion script of a shell.", _EXAMPLES, "(bash | zsh | fish)"
    )
    result.add_argument("shell", choices=list(_SCRIPTS))
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    print(_SCRIPTS[arguments.shell], end="")
    return Exit.DONE
