import { COMPLETE, type Shell } from './completion-grammar.ts';

/**
 * The script that makes a shell ask `bin` at each TAB. It knows nothing of the commands itself, so that it need not be made
 * anew for a new version. What the program answers is only ever taken as words; what it says on stderr is thrown away.
 */
export function completionScript(bin: string, shell: Shell): string {
  const name = `_${bin.replaceAll('-', '_')}_completion`;
  return `${SCRIPTS[shell].replaceAll('@NAME@', name).replaceAll('@BIN@', bin).replaceAll('@COMPLETE@', COMPLETE)}`;
}

const BASH = `# bash completion for @BIN@; in ~/.bashrc:  eval "$(@BIN@ completion bash)"
@NAME@() {
  local kind='' word cur="\${COMP_WORDS[COMP_CWORD]}" program="\${COMP_WORDS[0]/#\\~\\//$HOME/}"
  COMPREPLY=()
  {
    IFS= read -r kind
    while IFS= read -r word; do COMPREPLY+=("$word"); done
  } < <("$program" @COMPLETE@ bash "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
  case "$kind" in
  files) compopt -o default 2>/dev/null ;;
  folders) compopt -o dirnames 2>/dev/null ;;
  commands) while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -c -- "$cur") ;;
  esac
}
complete -F @NAME@ @BIN@
`;

const ZSH = `#compdef @BIN@
# zsh completion for @BIN@; in ~/.zshrc:  eval "$(@BIN@ completion zsh)"
@NAME@() {
  local kind program=\${~words[1]}
  local -a answer
  answer=("\${(@f)$("$program" @COMPLETE@ zsh "\${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)}")
  kind=$answer[1]
  shift answer 2>/dev/null
  case $kind in
  words) (( $#answer )) && _describe -V '@BIN@' answer ;;
  files) _files ;;
  folders) _files -/ ;;
  commands) _command_names -e ;;
  esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
if [[ $funcstack[1] = _@BIN@ ]]; then
  @NAME@ "$@"
else
  compdef @NAME@ @BIN@
fi
`;

const FISH = `# fish completion for @BIN@; keep it as ~/.config/fish/completions/@BIN@.fish
function @NAME@
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l answer ($program @COMPLETE@ fish $words[2..] "$current" 2>/dev/null </dev/null)
    switch "$answer[1]"
        case words
            printf '%s\\n' $answer[2..]
        case files
            __fish_complete_path "$current"
        case folders
            __fish_complete_directories "$current"
        case commands
            complete -C "$current"
    end
end
complete -c @BIN@ -f -a '(@NAME@)'
`;

const SCRIPTS: Record<Shell, string> = { bash: BASH, zsh: ZSH, fish: FISH };
