#!/bin/bash
# An installed tree works where it lies, staged or moved, with the model that comes with it: check_install.sh BUILD.
# Prints TAP.
set -u
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset LD_LIBRARY_PATH

echo 1..2
DESTDIR=$work/stage meson install -C "$build" --no-rebuild --quiet >"$work/log" 2>&1
program=$(find "$work/stage" -path '*/bin/splam' -type f)
if "$program" --version >>"$work/log" 2>&1; then
    echo "ok 1 - the installed program finds its library"
else
    sed 's/^/# /' "$work/log"
    echo "not ok 1 - the installed program finds its library"
fi
prefix=${program%/bin/splam}
mv "$prefix" "$work/moved"
if "$work/moved/bin/splam" generate -m "$work/moved/share/splam/teacher" -p "red apple" --steps 1 -o "$work/apple.png" \
    >"$work/log" 2>&1 && [ -s "$work/apple.png" ]; then
    echo "ok 2 - and draws with the installed model"
else
    sed 's/^/# /' "$work/log"
    echo "not ok 2 - and draws with the installed model"
fi
