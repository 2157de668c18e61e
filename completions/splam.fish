# Completion of splam for fish. What there is to complete is the program's own: --help=flags says it.
function __splam_flags
    set -l words (commandline -opc)
    test (count $words) -ge 2; or return
    splam $words[2] --help=flags 2>/dev/null | string replace -r '^([^\t]*)\t[^\t]*\t[^\t]*\t(.*)$' '$1\t$2'
end
function __splam_choices
    set -l words (commandline -opc)
    test (count $words) -ge 3; or return
    for line in (splam $words[2] --help=flags 2>/dev/null)
        set -l part (string split \t -- $line)
        if test "$part[1]" = "$words[-1]"; or test "$part[2]" = "$words[-1]"
            string match -q '*|*' -- $part[3]; and string split '|' -- $part[3]
            return
        end
    end
end
complete -c splam -n __fish_use_subcommand -f -a '(splam --help=flags 2>/dev/null)'
complete -c splam -n 'not __fish_use_subcommand; and test -n "$(__splam_choices)"' -f -a '(__splam_choices)'
complete -c splam -n 'not __fish_use_subcommand; and string match -q -- "-*" (commandline -ct)' -f -a '(__splam_flags)'
