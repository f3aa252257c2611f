#!/bin/sh
# Shows the main job with real processes on this machine, as a live time line.
#
#   scripts/demo.sh [--no-build]
#   scripts/demo.sh --help            this text
#
#   --no-build      plays the programs that scripts/build.sh has left in dist/amd64
#
# 1. One slot and five applications that come one after the other: their positions in the queue, and
#    how the next one starts as soon as the port of the one before is open.
# 2. Applications that come in the same moment, and something that they depend on comes up late.
# 3. health, which asks a recorded Kubernetes API, opens the lock when the last DaemonSet is ready.
#
# Needs what scripts/build.sh needs. The first build takes some minutes, the scenes about 20 seconds.
# Ends all processes that it started. Exit codes: 0 played, 1 not played, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

fail() {
    echo "demo.sh: $1" >&2
    exit "${2:-1}"
}

case $* in
"") scripts/build.sh ;;
--no-build) ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/demo.sh && exit 0 ;;
*) fail "'$*' is not accepted; accepted: --no-build, --help, or nothing" 2 ;;
esac
for program in lock init health; do
    [ -x "dist/amd64/$program" ] || fail "dist/amd64/$program is missing: run scripts/build.sh"
done
command -v cargo >/dev/null || fail "cargo is missing: install Rust's stable toolchain with rustup (https://rustup.rs)"
echo "building the applications and the Kubernetes API of the scenes, a minute the first time"
cargo build --locked --target-dir "${CARGO_TARGET_DIR:-target}" -p testkit --example cluster --example get --example ports ||
    fail "the examples of testkit cannot be built, for the reason above"
examples=${CARGO_TARGET_DIR:-target}/debug/examples

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
        holder=${line##*holder=} && holder=${holder%% *}
        held=${line##*held=}
        case $line in
        *'msg="waiting for the lock"'*) say "$1" "waits   because: $reason" ;;
        *'msg="lock acquired" waited='*) say "$1" "STARTS  after $waited" ;;
        *'msg="check failed"'*) say "$1" "lets no start begin: $reason" ;;
        *'msg="lease ended"'*how=ready*) say "$1" "$holder is ready after $held: its slot is free" ;;
        *'msg="gate open'*) say "$1" "all checks pass: starts begin" ;;
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

# An init that waits under the name of its application, with these further settings.
ask() {
    app=$1 && shift
    pipe=$scratch/$app.pipe
    rm -f "$pipe" && mkfifo "$pipe"
    tell "$app" <"$pipe" &
    waiting="$waiting $!"
    dist/amd64/init --host 127.0.0.1 --port "$lock" --holder "$app" --max-wait 30s --unreachable-wait 10s "$@" 2>"$pipe" &
    init=$!
    waiting="$waiting $init" && running="$running $init"
}

# Waits until all that have asked have started.
started() {
    # shellcheck disable=SC2086 # one word for each process
    wait $waiting
    waiting=
}
waiting=

stop() {
    for pid in $running; do kill "$pid" 2>/dev/null || :; done
    running=
}

begin=$(clock)
printf '\n1. One slot, leases of 20 seconds at most; each of five applications is ready a second after its init\n\n'
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --locks 1
lock=$port
mkfifo "$scratch/hold-ports"
"$examples/ports" 5 <"$scratch/hold-ports" >"$scratch/ports" &
running="$running $!"
exec 8>"$scratch/hold-ports"
until ports=$(cat "$scratch/ports") && [ -n "$ports" ]; do sleep 0.05; done
number=0
for port in $ports; do
    number=$((number + 1))
    # The lock answers with the position after half a second; then they wait on.
    ask "app-$number" --duration 20s --ready "tcp:$port" --wait 500ms
    applications="${applications:-} $init:$port"
    sleep 0.1
done
for application in $applications; do
    wait "${application%:*}"
    sleep 1
    echo "${application#*:}" >&8
done
started
sleep 0.3
stop

begin=$(clock)
printf '\n2. Leases of one second, three applications at once; what they depend on comes up after three seconds\n\n'
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
for app in app-1 app-2 app-3; do ask "$app" --pause 200ms; done
started
stop

begin=$(clock)
printf '\n3. health answers 412 until the last DaemonSet of node-a is ready, after four seconds\n\n'
mkfifo "$scratch/hold"
"$examples/cluster" health/tests/data/answers 4 <"$scratch/hold" >"$scratch/url" &
running="$running $!"
exec 9>"$scratch/hold"
until url=$(cat "$scratch/url") && [ -n "$url" ]; do sleep 0.05; done
serve health dist/amd64/health --host 127.0.0.1 --port 0 --baseUrl "$url" --node-name node-a --ex app:gpu-plugin --failHc 500ms
health=$port
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --timeout 1s --failHc 500ms --check "http://127.0.0.1:$health/"
lock=$port
for app in app-1 app-2; do ask "$app" --pause 200ms; done
started

printf '\nThe requests that lock counts in /metrics:\n'
"$examples/get" "127.0.0.1:$lock" /metrics | grep '^psl_lock_requests_total'
