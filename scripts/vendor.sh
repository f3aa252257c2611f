#!/bin/sh
# Packs the sources of all dependencies for machines without a network.
#
#   scripts/vendor.sh [--help]
#
# Fills vendor/ and packs it into dist/crates.tar.gz: the same bytes for the same Cargo.lock and
# gzip. On a machine without a network, in a checkout of the same commit:
#
#   tar -xzf crates.tar.gz && scripts/build.sh --offline
#
# That machine needs the toolchain with the musl target. Cargo compares the files of each crate with
# the checksums in Cargo.lock during the build. Needs cargo, GNU tar, gzip.
# Exit codes: 0 packed, 1 not packed, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# Settings of the environment must not change the bytes.
export LC_ALL=C
unset TAR_OPTIONS GZIP

case $* in
"") ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/vendor.sh && exit 0 ;;
*) echo "vendor.sh: unknown argument '$*'; accepted: --help" >&2 && exit 2 ;;
esac

command -v cargo >/dev/null || { echo "vendor.sh: command not found: cargo; install Rust's stable toolchain with rustup (https://rustup.rs)" >&2 && exit 1; }
mkdir -p dist
rm -rf vendor
# Cargo prints a configuration, which scripts/build.sh --offline passes by itself.
cargo vendor --quiet --locked --versioned-dirs vendor >/dev/null ||
    { echo "vendor.sh: cannot download the crates, see above; connect to a network, or copy the Cargo home of a machine that has them" >&2 && exit 1; }
tar --create --file dist/.crates.tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
    --mode='a-st,u=rwX,go=rX' vendor
gzip -9nf dist/.crates.tar
mv dist/.crates.tar.gz dist/crates.tar.gz
printf '%-24s %10d bytes, %d crates\n' dist/crates.tar.gz "$(wc -c <dist/crates.tar.gz)" "$(find vendor -mindepth 1 -maxdepth 1 | wc -l)"
