#!/bin/bash
# Every function that the public headers declare is called by a C test, one TAP line each: check_public.sh
#   - each function of include/splam/*.h, those that a macro makes included, is called in tests/*.c
#   - the check itself reports functions that no test calls: one that stands nowhere, or in comments and texts alone
set -u
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# declared FOLDER: functions that FOLDER/splam/*.h declare or define
declared() {
    (cd "$1" && printf '#include <%s>\n' splam/*.h) | ${CC:-cc} -E -P -I "$1" -x c - |
        perl -0777 -ne 's/\btypedef[^;{]*\bsplam_\w+\s*\([^;]*;//g; print "$1\n" while /\b(splam_\w+)\s*\(/g' | sort -u
}

# called FILE...: what their code calls, without comments and texts
called() {
    perl -0777 -ne 's{/\*.*?\*/|//[^\n]*}{ }gs; s{"(?:[^"\\]|\\.)*"}{""}gs;
        print "$1\n" while /\b(splam_\w+)\s*\(/g' "$@" | sort -u
}

# untested FOLDER FILE...: functions of FOLDER's headers that no file calls
untested() {
    comm -23 <(declared "$1") <(shift && called "$@")
}

number=0 failed=0
# check NAME FINDINGS: passes if there are none
check() {
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        failed=1
        echo "not ok $number - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
    fi
}

echo 1..2
if [ "$(declared include | wc -l)" -lt 30 ]; then
    findings="the headers declare only: $(declared include | tr '\n' ' ')"
else
    findings=$(untested include tests/*.c | sed 's/$/ is called by no test in tests\/*.c/')
fi
check "every public function is called by a C test" "$findings"

cp -r include "$scratch"
cat >"$scratch/include/splam/made_up.h" <<'END'
#include <splam/options.h>
typedef int splam_made_type(int);
SPLAM_API int splam_made_nowhere(int);
SPLAM_API const char *splam_made_in_comment(
    const char *text);
SPLAM_API int splam_made_in_text(void);
SPLAM_API splam_made_type *splam_made_called(void);
typedef struct { size_t size; } splam_made_options;
SPLAM_DEFAULTS(made)
END
cat >"$scratch/test.c" <<'END'
/* splam_made_in_comment("text") */ // splam_made_in_comment("text")
int main(void) { return puts("splam_made_in_text()") || splam_made_called (); }
END
wanted="splam_made_defaults splam_made_in_comment splam_made_in_text splam_made_nowhere"
found=$(untested "$scratch/include" tests/*.c "$scratch/test.c" | grep _made_ | xargs)
[ "$wanted" = "$found" ] && found= || found="found \"$found\" where \"$wanted\" was expected"
check "functions without a test are reported" "$found"
exit $failed
