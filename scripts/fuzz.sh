#!/bin/sh
# Runs the fuzz targets one after the other, beginning with the committed seeds.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]     600 seconds each where nothing else is said
#   scripts/fuzz.sh --help                    this text
#
# Needs a nightly compiler and cargo-fuzz (cargo install --locked cargo-fuzz). What it finds is in
# dev/fuzz/artifacts; once mended, the input becomes a line of dev/fuzz/seeds/TARGET.txt, which the
# tests replay (the head of dev/fuzz/properties/src/lib.rs tells how).
# Exit codes: 0 found nothing, 1 found something or could not run, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

fail() {
    echo "fuzz.sh: $1" >&2
    exit "${2:-1}"
}

[ "$*" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/fuzz.sh && exit 0; }
seconds=${1:-600}
case $seconds in *[!0-9]* | 0*) fail "'$seconds' is not accepted; accepted: whole seconds, then targets" 2 ;; esac
[ $# -eq 0 ] || shift
targets=${*:-head durations endpoints labels claims record api names}
for target in $targets; do
    [ -f "dev/fuzz/seeds/$target.txt" ] || fail "no target '$target'; the targets are the files in dev/fuzz/seeds" 2
done
cargo +nightly --version >/dev/null 2>&1 || fail "a nightly compiler is missing (rustup toolchain install nightly)"
cargo fuzz --version >/dev/null 2>&1 || fail "cargo-fuzz is missing (cargo install --locked cargo-fuzz)"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
log=$scratch/log

# Makes a file of each seed, a line `NAME "ESCAPED"`, in this folder.
expand() {
    mkdir -p "$2"
    while IFS= read -r line; do
        name=${line%% *} && seed=${line#* \"}
        printf '%b' "${seed%\"}" >"$2/$name"
    done <"$1"
}

for target in $targets; do
    mkdir -p "dev/fuzz/corpus/$target"
    expand "dev/fuzz/seeds/$target.txt" "$scratch/$target"
    # The fuzzer adds to the first folder and only reads the second.
    if ! cargo +nightly fuzz run --fuzz-dir dev/fuzz "$target" "dev/fuzz/corpus/$target" "$scratch/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        fail "$target has found something, or could not be built"
    fi
    grep -E '^(Done|stat::)' "$log" | sed "s/^/$target: /"
done
