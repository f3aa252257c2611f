#!/bin/sh
# Measures the static programs and prints tables.
#
#   scripts/bench.sh [PART...] [--write] [--rounds N] [--seconds N]     --help tells more
#
# Takes about three minutes after the build. Other work on the machine spoils the absolute figures.
# All traffic stays on the loopback. Needs what scripts/build.sh needs.
set -eu
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-musl

# First, because it also brings the target.
scripts/build.sh lock >&2

# The plain server is built with lock's flags and profile, so that the two differ by their code alone:
# see scripts/build.sh.
export CC_x86_64_unknown_linux_musl=cc
export RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,scripts/static.ld"
cargo build --quiet --locked --release --target "$target" -p bench
built="${CARGO_TARGET_DIR:-target}/$target/release"

exec "$built/bench" --lock dist/amd64/lock --plain "$built/plain" "$@"
