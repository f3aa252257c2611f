#!/bin/sh
# Runs the fuzz targets one after the other, beginning with the committed seeds.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]     600 seconds each where nothing else is said
#
# Needs a nightly compiler and cargo-fuzz (cargo install --locked cargo-fuzz). What it finds is in
# fuzz/artifacts; once mended, the input belongs to fuzz/seeds, where the tests replay it.
set -eu
cd "$(dirname "$0")/.."

cargo +nightly --version >/dev/null 2>&1 || { echo "fuzz.sh: a nightly compiler is missing (rustup toolchain install nightly)" >&2 && exit 1; }
cargo fuzz --version >/dev/null 2>&1 || { echo "fuzz.sh: cargo-fuzz is missing (cargo install --locked cargo-fuzz)" >&2 && exit 1; }

seconds=${1:-600}
[ $# -eq 0 ] || shift
targets=${*:-head durations endpoints labels claims record api names}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

for target in $targets; do
    mkdir -p "fuzz/corpus/$target"
    # What is new goes to the first folder; the seeds are only read.
    if ! cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "fuzz.sh: $target has found something, or could not be built" >&2
        exit 1
    fi
    grep -E '^(Done|stat::)' "$log" | sed "s/^/$target: /"
done
