# Completion of splam for bash. What there is to complete is the program's own: --help=flags says it.
_splam() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} value
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --help=flags 2>/dev/null | cut -f1)" -- "$word")
        return
    fi
    value=$("${COMP_WORDS[0]}" "$verb" --help=flags 2>/dev/null |
        awk -F '\t' -v flag="$before" '$1 == flag || ($2 != "-" && $2 == flag) {print $3; exit}')
    case $value in
    *'|'*) mapfile -t COMPREPLY < <(compgen -W "${value//|/ }" -- "$word") ;;
    '')
        if [[ $word == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W \
                "$("${COMP_WORDS[0]}" "$verb" --help=flags 2>/dev/null | cut -f1)" -- "$word")
        else
            compopt -o default 2>/dev/null
        fi
        ;;
    *) compopt -o default 2>/dev/null ;;
    esac
}
complete -F _splam splam
