#!/bin/sh
# Shows the main job with real processes on this machine, as a live time line.
#
#   scripts/demo.sh [--no-build]
#
# 1. One slot and five applications that start in the same moment: who waits, for what, how long.
# 2. The same where something that they depend on comes up late.
# 3. health, which asks a recorded Kubernetes API, opens the lock when the last DaemonSet is ready.
#
# Needs what scripts/build.sh needs; takes half a minute after the build, and ends all it started.
set -eu
cd "$(dirname "$0")/.."

case ${1:-} in
"") scripts/build.sh ;;
--no-build) ;;
*) echo "demo.sh: '$1' is not accepted; accepted: --no-build, or nothing" >&2 && exit 2 ;;
esac
for program in lock init health; do
    [ -x "dist/amd64/$program" ] || { echo "demo.sh: dist/amd64/$program is missing: run scripts/build.sh" >&2 && exit 1; }
done
command -v cargo >/dev/null || { echo "demo.sh: cargo is missing: install Rust's stable toolchain with rustup" >&2 && exit 1; }
cargo build --quiet --locked --target-dir "${CARGO_TARGET_DIR:-target}" -p testkit --example cluster

scratch=$(mktemp -d)
running=
finish() {
    # A program that has ended already is no reason to stop here.
    for pid in $running; do kill "$pid" 2>/dev/null || :; done
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Hundredths of a second since boot, in any POSIX shell.
clock() { read -r up _ </proc/uptime && echo "${up%.*}${up#*.}"; }

# One line of the time line: who, what.
say() {
    gone=$(($(clock) - begin))
    printf '%4d.%02d s  %-7s %s\n' $((gone / 100)) $((gone % 100)) "$1" "$2"
}

# Log lines to the time line; what is of no interest here is left out.
tell() {
    while IFS= read -r line; do
        reason=${line#*reason=\"} && reason=${reason%%\"*}
        waited=${line##*waited=} && waited=${waited%% *}
        case $line in
        *'msg="waiting for the lock"'*) say "$1" "waits   because: $reason" ;;
        *'msg="lock acquired" waited='*) say "$1" "STARTS  after $waited" ;;
        *'msg="check failed"'*) say "$1" "holds everybody back: $reason" ;;
        *'msg="gate open'*) say "$1" "all checks pass: starts are let through" ;;
        *'msg="the node is healthy"'*) say "$1" "turns from 412 to 200" ;;
        *'msg="the node is not healthy"'*) say "$1" "answers 412: ${line##*why=}" ;;
        esac
    done
}

# Starts a server, waits until it listens, and leaves its port in $port. Its log goes to the time line.
serve() {
    name=$1 && shift
    log=$scratch/$name.log && pipe=$scratch/$name.pipe && : >"$log"
    rm -f "$pipe" && mkfifo "$pipe"
    tee "$log" <"$pipe" | tell "$name" &
    "$@" 2>"$pipe" &
    server=$!
    running="$running $server"
    until port=$(sed -n 's/.*msg="listening" address=.*:\([0-9]*\)$/\1/p' "$log") && [ -n "$port" ]; do
        kill -0 "$server" 2>/dev/null || { cat "$log" >&2 && exit 1; }
        sleep 0.05
    done
}

# Applications that ask the lock in the same moment; waits until all have started.
herd() {
    waiting=
    for number in $1; do
        pipe=$scratch/app-$number.pipe
        rm -f "$pipe" && mkfifo "$pipe"
        tell "app-$number" <"$pipe" &
        waiting="$waiting $!"
        dist/amd64/init --host 127.0.0.1 --port "$lock" --pause 200ms --max-wait 30s --unreachable-wait 10s 2>"$pipe" &
        waiting="$waiting $!" && running="$running $!"
    done
    # shellcheck disable=SC2086 # one word for each process
    wait $waiting
}

stop() {
    for pid in $running; do kill "$pid" 2>/dev/null || :; done
    running=
}

begin=$(clock)
printf '\n1. One slot, leases of one second, five applications at once\n\n'
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --locks 1 --timeout 1s
lock=$port
herd "1 2 3 4 5"
stop

begin=$(clock)
printf '\n2. The same, but what they depend on comes up after three seconds\n\n'
serve late dist/amd64/lock --host 127.0.0.1 --port 0
late=$port
stop
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --timeout 1s --failHc 500ms --check "http://127.0.0.1:$late/livez"
lock=$port
{
    # A subshell has no part in what its parent cleans up.
    trap - EXIT HUP INT TERM
    # In steps, so that nothing is left of it for long where the demonstration is ended.
    for _ in 1 2 3 4 5 6; do sleep 0.5; done
    say late "comes up"
    exec dist/amd64/lock --host 127.0.0.1 --port "$late" 2>/dev/null
} &
running="$running $!"
herd "1 2 3"
stop

begin=$(clock)
printf '\n3. health answers 412 until the last DaemonSet of node-a is ready, after four seconds\n\n'
mkfifo "$scratch/hold"
"${CARGO_TARGET_DIR:-target}/debug/examples/cluster" health/tests/data/answers 4 <"$scratch/hold" >"$scratch/url" &
running="$running $!"
exec 9>"$scratch/hold"
until url=$(cat "$scratch/url") && [ -n "$url" ]; do sleep 0.05; done
serve health dist/amd64/health --host 127.0.0.1 --port 0 --baseUrl "$url" --node-name node-a --ex app:gpu-plugin --failHc 500ms
health=$port
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --timeout 1s --failHc 500ms --check "http://127.0.0.1:$health/"
lock=$port
herd "1 2"

printf '\nWhat the lock has counted:\n'
if command -v curl >/dev/null 2>&1; then
    curl -s "http://127.0.0.1:$lock/metrics" | grep '^psl_lock_requests_total'
else
    echo "skipped: curl is not installed"
fi
