#!/bin/sh
# Installs the Debian 12 packages that splam is built from, tested with and demonstrated on.
# Says and does nothing when all are there; asks for root only when something is missing.
set -eu

packages="
    gcc libc6-dev make meson ninja-build pkg-config
    libdnnl-dev libopenblas-openmp-dev liblapacke-dev
    libjansson-dev libutf8proc-dev libxxhash-dev nettle-dev libmicrohttpd-dev libgnutls28-dev libseccomp-dev
    libspng-dev libjpeg62-turbo-dev libwebp-dev libarchive-dev
    libfreetype-dev libharfbuzz-dev libcairo2-dev
    libopenmpi-dev openmpi-bin
    libcmocka-dev dpkg-dev strace
    fonts-noto-color-emoji unicode-data unicode-cldr-core"

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "install-dependencies.sh: this is not a Debian system; install what matches:$packages" >&2
    exit 1
fi

# Word splitting of the list is meant, here and below.
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $packages 2>/dev/null |
    sed -n 's/^ii  *//p') || true
missing=
for package in $packages; do
    case "
$installed
" in
    *"
$package
"*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "install-dependencies.sh: run as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi
echo "Installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
if ! { $as_root apt-get update &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
    >"$log" 2>&1; then
    cat "$log" >&2
    echo "install-dependencies.sh: the packages could not be installed:$missing" >&2
    exit 1
fi
