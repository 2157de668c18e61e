#!/bin/bash
# The package that tools/make-deb.sh makes runs where it is unpacked and names what it needs: check_deb.sh BUILD.
# Prints TAP. Where dpkg's tools are missing there is nothing to try.
set -u
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset LD_LIBRARY_PATH

echo 1..4
number=0
# check NAME COMMAND...: passes if the command does
check() {
    local name=$1
    shift
    number=$((number + 1))
    if "$@" >"$work/log" 2>&1; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        sed 's/^/# /' "$work/log"
    fi
}

if ! command -v dpkg-deb dpkg-shlibdeps dpkg-architecture >/dev/null; then
    for number in 1 2 3 4; do echo "ok $number # SKIP dpkg's tools are not installed"; done
    exit 0
fi

make_package() {
    SPLAM_DEB_COMPRESSION=none "$source/tools/make-deb.sh" "$build" "$work" && dpkg-deb -x "$work"/*.deb "$work/root"
}
# What the program and the library are linked with is among the packages that the package depends on.
names_libraries() {
    local depends library package
    depends=$(dpkg-deb -f "$work"/*.deb Depends) || return 1
    for library in libdnnl libjansson libwebp libarchive libcairo libmicrohttpd libc6; do
        grep -q "$library" <<<"$depends" || { echo "no $library in: $depends"; return 1; }
    done
}
has_all_parts() {
    local path
    for path in bin/splam include/splam/splam.h lib/*/libsplam.so lib/*/pkgconfig/splam.pc share/splam/teacher/unet \
        share/doc/splam/copyright share/doc/splam/changelog.gz; do
        # The pattern is meant.
        # shellcheck disable=SC2086
        [ -e "$(echo "$work"/root/usr/$path)" ] || { echo "no usr/$path"; return 1; }
    done
    grep -qx prefix=/usr "$work"/root/usr/lib/*/pkgconfig/splam.pc || { echo "splam.pc has another prefix"; return 1; }
    (cd "$work/root" && dpkg-deb -I "$work"/*.deb md5sums >/dev/null 2>&1 && dpkg-deb --ctrl-tarfile "$work"/*.deb |
        tar -xO ./md5sums | md5sum --quiet -c -)
}
draws() {
    local root=$work/root/usr
    "$root/bin/splam" generate -m "$root/share/splam/teacher" -p "red apple" --steps 1 -o "$work/apple.png" &&
        [ -s "$work/apple.png" ]
}
check "make-deb.sh makes a package" make_package
check "it names the libraries that it needs" names_libraries
check "it has program, library, header, model and licence, with right sums" has_all_parts
check "unpacked anywhere it draws with its own model" draws
