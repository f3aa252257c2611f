#!/bin/sh
# Builds the static binaries and prints their sizes.
#
#   scripts/build.sh [--arch ARCH] [--offline] [PROGRAM...]
#   scripts/build.sh --help           this text
#
#   PROGRAM         lock, init, health; default all three. e2e: the application of
#                   scripts/e2e.sh
#   --arch ARCH     amd64 (default) or arm64; the programs go to dist/ARCH
#   --offline       asks no network: takes the crates from vendor/, which scripts/vendor.sh fills,
#                   or where there is none from what Cargo has fetched before
#
# Needs rustup's stable toolchain (or any rustc with the musl target) and a C compiler with the C
# library's development files (Debian: gcc, libc6-dev); for the other architecture its cross compiler
# (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross, gcc-x86-64-linux-gnu
# libc6-dev-amd64-cross).
# The same commit, compilers and architecture give the same bytes, in whatever directory; beside each
# program PROGRAM.built says which those were.
# Each program is a build of its own: Cargo unifies features over one build, and init would carry
# the TLS of the others, which is half a megabyte.
# Exit codes: 0 built, 1 not built, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

fail() {
    echo "build.sh: $1" >&2
    exit "${2:-1}"
}

arch=amd64 offline='' programs=''
while [ $# -gt 0 ]; do
    case $1 in
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/build.sh && exit 0 ;;
    --arch=*) arch=${1#*=} ;;
    --arch) [ $# -ge 2 ] || fail "--arch needs a value" 2 && arch=$2 && shift ;;
    --offline) offline=yes ;;
    lock | init | health | e2e) programs="$programs $1" ;;
    *) fail "no option or program '$1'; there are --arch ARCH, --offline, lock, init, health, e2e" 2 ;;
    esac
    shift
done
case $arch in amd64 | arm64) ;; *) fail "no architecture '$arch'; there are amd64, arm64" 2 ;; esac

# A tool or package that a fresh machine may lack is named in one line, before the build begins.
rustup="install Rust's stable toolchain with rustup (https://rustup.rs)"
command -v cargo >/dev/null || fail "cargo is missing: $rustup"
for tool in cargo rustc; do
    said=$("$tool" --version 2>&1) || fail "$tool does not run: $(echo "$said" | head -n 1): $rustup"
done
needed=$(sed -n 's/^rust-version = "1\.\([0-9]*\)"$/\1/p' Cargo.toml)
minor=$(echo "$said" | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
[ "${minor:-$needed}" -ge "$needed" ] || fail "rustc 1.$minor is too old, 1.$needed or newer is needed: rustup update stable"

. scripts/flags.sh
case $cc in
aarch64-*) packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
x86_64-*) packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
*) packages="gcc libc6-dev" ;;
esac
command -v "$cc" >/dev/null || fail "the C compiler $cc is missing (Debian: apt-get install $packages)"
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    [ -z "$offline" ] || fail "the target $target is missing, and --offline cannot fetch it: rustup target add $target"
    command -v rustup >/dev/null || fail "the target $target is missing and there is no rustup to add it"
    rustup target add "$target" || fail "the target $target is missing and cannot be added from here: rustup target add $target"
fi

# Build scripts and macros run on this machine. Only a trial shows whether its compiler can link a program: Cargo may use another
# compiler, and the C library's start files and headers are packages of their own.
probe=$target_dir/probe
mkdir -p "$probe"
# The line of a compiler's output that names the missing file.
why() { { grep -m 1 -E 'cannot (open|find)|not found|undefined|No such' "$probe/output" || head -n 1 "$probe/output"; } | sed 's/^[ =]*\(note: \)\{0,1\}//'; }
printf '[workspace]\n[package]\nname = "probe"\nedition = "2024"\n[lib]\npath = "lib.rs"\n' >"$probe/Cargo.toml"
: >"$probe/lib.rs" && echo 'fn main() {}' >"$probe/build.rs"
(unset CARGO_ENCODED_RUSTFLAGS && cargo check --quiet --offline --manifest-path "$probe/Cargo.toml" --target-dir "$probe") >"$probe/output" 2>&1 ||
    fail "programs for this machine cannot be linked (Debian: apt-get install gcc libc6-dev): $(why)"
echo '#include <stdint.h>' | "$cc" -c -x c -o "$probe/probe.o" - 2>"$probe/output" ||
    fail "$cc cannot compile C (Debian: apt-get install $packages): $(why)"

# What every call of Cargo below is given: where the crates come from.
crates() { "$@"; }
without_network="without a network: run scripts/vendor.sh on a machine that has one, unpack its dist/crates.tar.gz here, and run scripts/build.sh --offline"
if [ -n "$offline" ] && [ -d vendor ]; then
    crates() { "$@" --offline --config 'source.crates-io.replace-with="vendor"' --config 'source.vendor.directory="vendor"'; }
elif [ -n "$offline" ]; then
    crates() { "$@" --offline; }
    cargo fetch --quiet --locked --offline --target "$target" 2>/dev/null || fail "vendor/ is missing, and Cargo has not fetched all crates before; $without_network"
else
    # First of all, because the flags name the directories that it makes.
    cargo fetch --locked || fail "the crates cannot be fetched; $without_network"
    . scripts/flags.sh
fi

# What the bytes depend on, for the labels of the images. Git refuses to look at another user's checkout, as root meets one in
# a container; whoever runs this file trusts what lies here.
git() { command git -c safe.directory="$(pwd -P)" "$@"; }
commit=unknown epoch=${SOURCE_DATE_EPOCH:-}
if [ "$(git rev-parse --show-prefix 2>/dev/null || echo none)" = "" ]; then
    commit=$(git rev-parse HEAD)
    [ -z "$(git status --porcelain --untracked-files=normal)" ] || commit=$commit-changed
    [ -n "$epoch" ] || epoch=$(git log -1 --format=%ct)
elif [ -e .git ]; then
    echo "build.sh: git does not say which commit this is: the images' labels will call it unknown" >&2
else
    # Where release.sh has packed the sources this file holds hash and time in place of their names.
    read -r packed time <scripts/commit.txt
    case $packed in \$*) ;; *) commit=$packed epoch=${epoch:-$time} ;; esac
fi
case ${epoch:=0} in *[!0-9]*) fail "SOURCE_DATE_EPOCH is '$epoch'; accepted are whole seconds since 1970" 2 ;; esac

# `--version` and `psl_build_info` say it.
PSL_COMMIT=$(printf '%.12s' "$commit")
case $commit in *-changed) PSL_COMMIT=$PSL_COMMIT-changed ;; esac
export PSL_COMMIT

out=dist/$arch
mkdir -p "$out"
for program in ${programs:=lock init health}; do
    echo "building $out/$program, a minute or two the first time"
    package="-p $program" built=$program
    [ "$program" != e2e ] || package='-p testkit --example e2e' built=examples/e2e
    # shellcheck disable=SC2086 # several words
    crates cargo build --locked --release --target-dir "$target_dir" --target "$target" $package || fail "cannot build $program"
    # Copied aside and moved, so that a running program's file is replaced and not written into.
    cp "$target_dir/$target/release/$built" "$out/.$program"
    mv "$out/.$program" "$out/$program"
    {
        echo "commit=$commit"
        echo "epoch=$epoch"
        echo "rustc=$(rustc --version)"
        echo "cc=$("$cc" --version | head -n 1)"
        echo "ld=$("$("$cc" -print-prog-name=ld)" --version | head -n 1)"
    } >"$out/$program.built"
done

printf '%-24s %10s %10s\n' program bytes 'gzip -9'
for program in $programs; do
    printf '%-24s %10d %10d\n' "$out/$program" "$(wc -c <"$out/$program")" "$(gzip -9c "$out/$program" | wc -c)"
done
