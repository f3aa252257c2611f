#!/bin/sh
# Builds the static binaries and prints their sizes.
#
#   scripts/build.sh [--arch ARCH] [--offline] [PROGRAM...]
#   scripts/build.sh --help           this text
#
#   PROGRAM         lock, init, health; default all three. e2e: the application of
#                   scripts/e2e.sh
#   --arch ARCH     amd64 (default) or arm64; the programs go to dist/ARCH
#   --offline       use no network: the crates come from vendor/, which scripts/vendor.sh fills, or,
#                   without vendor/, from Cargo's earlier downloads
#
# Needs rustup's stable toolchain (or any rustc with the musl target) and a C compiler with the
# development files of the C library (Debian: gcc, libc6-dev). The other architecture needs a cross
# compiler (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross, gcc-x86-64-linux-gnu
# libc6-dev-amd64-cross).
# The same commit, compilers and architecture give the same bytes in any directory. PROGRAM.built
# beside each program names them.
# Each program is built separately: Cargo unifies features over one build, and init would contain
# the TLS of the others, half a megabyte.
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
    *) fail "unknown argument '$1'; accepted: --arch ARCH, --offline, lock, init, health, e2e" 2 ;;
    esac
    shift
done
case $arch in amd64 | arm64) ;; *) fail "unknown architecture '$arch'; accepted: amd64, arm64" 2 ;; esac

# A missing tool or package is named in one line, before the build begins.
rustup="install Rust's stable toolchain with rustup (https://rustup.rs)"
command -v cargo >/dev/null || fail "command not found: cargo; $rustup"
for tool in cargo rustc; do
    said=$("$tool" --version 2>&1) || fail "$tool does not run: $(echo "$said" | head -n 1); $rustup"
done
needed=$(sed -n 's/^rust-version = "1\.\([0-9]*\)"$/\1/p' Cargo.toml)
minor=$(echo "$said" | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
[ "${minor:-$needed}" -ge "$needed" ] || fail "rustc 1.$minor is too old, 1.$needed or newer is needed; run: rustup update stable"

. scripts/flags.sh
case $cc in
aarch64-*) packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
x86_64-*) packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
*) packages="gcc libc6-dev" ;;
esac
command -v "$cc" >/dev/null || fail "command not found: $cc; install the C compiler (Debian: apt-get install $packages)"
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    [ -z "$offline" ] || fail "the Rust target $target is missing, and --offline cannot fetch it; run: rustup target add $target"
    command -v rustup >/dev/null || fail "the Rust target $target is missing, and so is rustup to add it; $rustup"
    rustup target add "$target" || fail "cannot add the Rust target $target, see above; run: rustup target add $target"
fi

# Build scripts and macros run on this machine. Only a trial shows whether programs can be linked:
# Cargo may use another compiler, and the start files and headers of the C library are separate
# packages.
probe=$target_dir/probe
mkdir -p "$probe"
# Prints the line of a compiler's output that names the missing file.
missing_file() { { grep -m 1 -E 'cannot (open|find)|not found|undefined|No such' "$probe/output" || head -n 1 "$probe/output"; } | sed 's/^[ =]*\(note: \)\{0,1\}//'; }
printf '[workspace]\n[package]\nname = "probe"\nedition = "2024"\n[lib]\npath = "lib.rs"\n' >"$probe/Cargo.toml"
: >"$probe/lib.rs" && echo 'fn main() {}' >"$probe/build.rs"
(unset CARGO_ENCODED_RUSTFLAGS && cargo check --quiet --offline --manifest-path "$probe/Cargo.toml" --target-dir "$probe") >"$probe/output" 2>&1 ||
    fail "cannot link programs for this machine (Debian: apt-get install gcc libc6-dev): $(missing_file)"
echo '#include <stdint.h>' | "$cc" -c -x c -o "$probe/probe.o" - 2>"$probe/output" ||
    fail "$cc cannot compile C (Debian: apt-get install $packages): $(missing_file)"

# Runs Cargo with the source of the crates.
crates() { "$@"; }
without_network="without a network: run scripts/vendor.sh on a machine with one, unpack its dist/crates.tar.gz here, and run scripts/build.sh --offline"
if [ -n "$offline" ] && [ -d vendor ]; then
    crates() { "$@" --offline --config 'source.crates-io.replace-with="vendor"' --config 'source.vendor.directory="vendor"'; }
elif [ -n "$offline" ]; then
    crates() { "$@" --offline; }
    cargo fetch --quiet --locked --offline --target "$target" 2>/dev/null || fail "vendor/ does not exist, and Cargo has not downloaded all crates; $without_network"
else
    # Read the flags again: they name directories that this download creates.
    cargo fetch --locked || fail "cannot download the crates, see above; $without_network"
    . scripts/flags.sh
fi

# The commit, for --version and the labels of the images. Git refuses a checkout of another user,
# such as one mounted into a container of root; running this file already trusts it.
git() { command git -c safe.directory="$(pwd -P)" "$@"; }
commit=unknown epoch=${SOURCE_DATE_EPOCH:-}
if [ "$(git rev-parse --show-prefix 2>/dev/null || echo none)" = "" ]; then
    commit=$(git rev-parse HEAD)
    [ -z "$(git status --porcelain --untracked-files=normal)" ] || commit=$commit-changed
    [ -n "$epoch" ] || epoch=$(git log -1 --format=%ct)
elif [ -e .git ]; then
    echo "build.sh: git cannot read the commit: --version and the images' labels will say unknown" >&2
else
    # In the sources of a release, this file holds hash and time instead of placeholders.
    read -r packed time <scripts/commit.txt
    case $packed in \$*) ;; *) commit=$packed epoch=${epoch:-$time} ;; esac
fi
case ${epoch:=0} in *[!0-9]*) fail "SOURCE_DATE_EPOCH: '$epoch' is not accepted; accepted: whole seconds since 1970" 2 ;; esac

# Read by psl, for --version and psl_build_info.
PSL_COMMIT=$(printf '%.12s' "$commit")
case $commit in *-changed) PSL_COMMIT=$PSL_COMMIT-changed ;; esac
export PSL_COMMIT

out=dist/$arch
mkdir -p "$out"
for program in ${programs:=lock init health}; do
    echo "building $out/$program, some minutes the first time"
    package="-p $program" built=$program
    [ "$program" != e2e ] || package='-p testkit --example e2e' built=examples/e2e
    # shellcheck disable=SC2086 # several words
    crates cargo build --locked --release --target-dir "$target_dir" --target "$target" $package || fail "cannot build $program, see above"
    # Moved into place, so that the file of a running program is replaced and not overwritten.
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
