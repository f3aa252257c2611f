#!/bin/sh
# Packs the sources of all dependencies for machines without a network.
#
#   scripts/vendor.sh [--help]
#
# Fills vendor/ and packs it into dist/crates.tar.gz, the same bytes for the same Cargo.lock and gzip.
# On the other machine, in a checkout of the same commit:
#
#   tar -xzf crates.tar.gz && scripts/build.sh --offline
#
# That machine needs the toolchain with its musl target already. Cargo compares each crate's files
# with the checksums in Cargo.lock when it builds them. Needs cargo, GNU tar, gzip.
# Exit codes: 0 packed, 1 not packed, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# What is set for other archives must not change the bytes.
export LC_ALL=C
unset TAR_OPTIONS GZIP

case $* in
"") ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/vendor.sh && exit 0 ;;
*) echo "vendor.sh: '$*' is not accepted; accepted: --help, or nothing" >&2 && exit 2 ;;
esac

command -v cargo >/dev/null || { echo "vendor.sh: cargo is missing: install Rust's stable toolchain with rustup (https://rustup.rs)" >&2 && exit 1; }
mkdir -p dist
rm -rf vendor
# What it prints is a configuration that scripts/build.sh --offline gives by itself.
cargo vendor --quiet --locked --versioned-dirs vendor >/dev/null ||
    { echo "vendor.sh: the crates cannot be fetched: connect to a network, or copy Cargo's home from a machine that has fetched them" >&2 && exit 1; }
tar --create --file dist/.crates.tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
    --mode='a-st,u=rwX,go=rX' vendor
gzip -9nf dist/.crates.tar
mv dist/.crates.tar.gz dist/crates.tar.gz
printf '%-24s %10d bytes, %d crates\n' dist/crates.tar.gz "$(wc -c <dist/crates.tar.gz)" "$(find vendor -mindepth 1 -maxdepth 1 | wc -l)"
