#!/bin/sh
# Builds the static binaries and prints their sizes.
#
#   scripts/build.sh [PROGRAM...]     dist/amd64/{lock,init,health}, or those that are named
#   scripts/build.sh --help           this text
#
# Needs rustup's stable toolchain (or any rustc with the musl target) and a C compiler.
# Each program is a build of its own: Cargo unifies features over one build, and init would carry
# the TLS of the others, which is half a megabyte.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "build.sh: $1" >&2
    exit 1
}

if [ "${1:-}" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' scripts/build.sh
    exit 0
fi

target=x86_64-unknown-linux-musl
out=dist/amd64
programs=${*:-lock init health}
for program in $programs; do
    case $program in
    lock | init | health) ;;
    *) fail "no program '$program'; there are lock, init, health" ;;
    esac
done

command -v cargo >/dev/null || fail "cargo is missing: install Rust's stable toolchain with rustup"
command -v cc >/dev/null || fail "a C compiler is missing: install gcc or clang (Debian: apt-get install gcc libc6-dev)"
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    command -v rustup >/dev/null || fail "the target $target is missing and there is no rustup to add it"
    rustup target add "$target" || fail "cannot add the target $target"
fi

. scripts/flags.sh

target_dir=${CARGO_TARGET_DIR:-target}
mkdir -p "$out"
for program in $programs; do
    cargo build --quiet --locked --release --target-dir "$target_dir" --target "$target" -p "$program"
    # Copied aside and moved, so that a running program's file is replaced and not written into.
    cp "$target_dir/$target/release/$program" "$out/.$program"
    mv "$out/.$program" "$out/$program"
done

printf '%-24s %10s %10s\n' program bytes 'gzip -9'
for program in $programs; do
    printf '%-24s %10d %10d\n' "$out/$program" "$(wc -c <"$out/$program")" "$(gzip -9c "$out/$program" | wc -c)"
done
