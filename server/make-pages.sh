#!/bin/sh
# Makes C of the pages: make-pages.sh PAGE.html WATCH.html COMMON.css COMMON.js, to standard output. A line @STYLE@ is
# the style that they share, a line @COMMON@ the script.
set -eu
style=$3 common=$4
text() {
    echo "const char $1[] = {"
    sed -e "/^@STYLE@\$/{r $style
d}" -e "/^@COMMON@\$/{r $common
d}" "$2" | od -An -v -td1 | sed 's/-\{0,1\}[0-9][0-9]*/&,/g'
    echo "0};"
}
text sv_page_text "$1"
text sv_watch_text "$2"
