#!/bin/sh
# Runs the fuzz targets one after the other, starting with the committed seeds.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]     default: 600 seconds each
#   scripts/fuzz.sh --help                    this text
#
# Needs a nightly compiler and cargo-fuzz (cargo install --locked cargo-fuzz). Inputs that fail are
# in dev/fuzz/artifacts; after the fix, add the input to dev/fuzz/seeds, where the tests replay it.
# Exit codes: 0 no failure found, 1 a failure found or not run, 2 bad arguments.
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
    [ -d "dev/fuzz/seeds/$target" ] || fail "unknown target '$target'; accepted: the names in dev/fuzz/seeds" 2
done
cargo +nightly --version >/dev/null 2>&1 || fail "no nightly compiler; run: rustup toolchain install nightly"
cargo fuzz --version >/dev/null 2>&1 || fail "command not found: cargo-fuzz; run: cargo install --locked cargo-fuzz"

log=$(mktemp)
trap 'rm -f "$log"' EXIT

for target in $targets; do
    mkdir -p "dev/fuzz/corpus/$target"
    # New inputs go to the first folder; the seeds are only read.
    if ! cargo +nightly fuzz run --fuzz-dir dev/fuzz "$target" "dev/fuzz/corpus/$target" "dev/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        fail "$target found a failure or cannot be built, see above"
    fi
    grep -E '^(Done|stat::)' "$log" | sed "s/^/$target: /"
done
