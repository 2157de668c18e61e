#!/bin/sh
# Makes a Debian package of what a build folder installs: make-deb.sh [BUILD [FOLDER]]
# FOLDER [.] gets splam_VERSION_ARCHITECTURE.deb, whose name is printed. An installed tree works wherever it lies, so
# any build folder will do, whatever its prefix. Shared libraries that it needs become dependencies by dpkg-shlibdeps;
# what is only looked for at run time (OpenBLAS and LAPACKE for eval's Frechet distance, fonts and Unicode's names for
# emoji:, mpirun) is recommended. SPLAM_DEB_COMPRESSION [xz] is dpkg-deb's -Z.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-build}
folder=${2:-.}
for tool in dpkg-deb dpkg-shlibdeps dpkg-architecture meson; do
    command -v "$tool" >/dev/null 2>&1 ||
        { echo "make-deb.sh: $tool is not installed (it is in Debian's dpkg-dev or meson)" >&2; exit 1; }
done
[ -f "$build/build.ninja" ] || { echo "make-deb.sh: $build is not a build folder" >&2; exit 1; }
folder=$(mkdir -p "$folder" && cd "$folder" && pwd)
architecture=$(dpkg-architecture -qDEB_HOST_ARCH)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
version=$(meson introspect "$build" --projectinfo | sed -n 's/.*"version": "\([0-9.]*\)".*/\1/p')
SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
DESTDIR=$work/stage meson install -C "$build" --no-rebuild --strip --quiet >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
program=$(find "$work/stage" -path '*/bin/splam' -type f)
mkdir -p "$work/splam/DEBIAN"
mv "${program%/bin/splam}" "$work/splam/usr"
cd "$work/splam"
[ -d "usr/lib/$multiarch" ] ||
    { echo "make-deb.sh: $build installs its library elsewhere than in lib/$multiarch, as Debian does" >&2; exit 1; }
sed -i 's,^prefix=.*,prefix=/usr,' "usr/lib/$multiarch/pkgconfig/splam.pc"

mkdir -p usr/share/doc/splam
cp "$source/LICENSE" usr/share/doc/splam/copyright
cp "$source/README.md" usr/share/doc/splam/
gzip -9nc "$source/CHANGELOG.md" >usr/share/doc/splam/changelog.gz
[ ! -d usr/share/man ] || find usr/share/man -type f ! -name '*.gz' -exec gzip -9n {} +

# dpkg-shlibdeps wants a source tree's control file; the library itself is in the package.
mkdir -p "$work/debian"
printf 'Source: splam\n\nPackage: splam\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info "-lsplam/usr/lib/$multiarch" -Ssplam \
    splam/usr/bin/splam splam/usr/lib/"$multiarch"/libsplam.so.*.*.* 2>"$work/log" |
    sed -n 's/^shlibs:Depends=//p') || { cat "$work/log" >&2; exit 1; }
[ -n "$depends" ] || { cat "$work/log" >&2; exit 1; }

cat >DEBIAN/control <<EOF
Package: splam
Version: $version
Architecture: $architecture
Maintainer: splam's authors <splam@localhost>
Installed-Size: $(du -ks usr | cut -f1)
Depends: $depends
Recommends: libopenblas0-openmp | libopenblas0, liblapacke, fonts-noto-color-emoji, unicode-data, unicode-cldr-core
Suggests: openmpi-bin
Section: graphics
Priority: optional
Description: few-step latent diffusion on processors
 Distils latent diffusion models of the Stable Diffusion family into generators
 of one to four steps (SPLAM, LCM, PCM, TCD, progressive, DMD), runs them, and measures
 what was lost. One program, one C library with its header, a small model.
EOF
printf '#!/bin/sh\nset -e\nldconfig\n' >DEBIAN/postinst
cp DEBIAN/postinst DEBIAN/postrm
chmod 755 DEBIAN/postinst DEBIAN/postrm
find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums

package=$folder/splam_${version}_$architecture.deb
dpkg-deb --root-owner-group "-Z${SPLAM_DEB_COMPRESSION:-xz}" --build . "$package" >/dev/null
echo "$package"
