#!/bin/sh
# Shows how pods wait for each other, with real processes on this machine, as a live time line.
#
#   scripts/demo.sh [--no-build]
#   scripts/demo.sh --help            this text
#
#   --no-build      use the programs in dist/amd64, which scripts/build.sh has built
#
# Scene 1: five pods and one slot. The queue, and leases that end when the application is ready.
# Scene 2: a check of lock fails, so no pod starts until the dependency is up.
# Scene 3: health opens the lock once all DaemonSets of the node are ready (recorded API answers).
#
# Needs the tools of scripts/build.sh. The first build takes some minutes, the scenes 20 seconds.
# All started processes are ended. Exit codes: 0 played, 1 not played, 2 bad arguments.
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
*) fail "unknown argument '$*'; accepted: --no-build, --help" 2 ;;
esac
for program in lock init health; do
    [ -x "dist/amd64/$program" ] || fail "dist/amd64/$program is missing; run: scripts/build.sh"
done
command -v cargo >/dev/null || fail "command not found: cargo; install Rust's stable toolchain with rustup (https://rustup.rs)"
echo "building the applications and the Kubernetes API of the scenes, a minute the first time"
cargo build --locked --target-dir "${CARGO_TARGET_DIR:-target}" -p testkit --example cluster --example get --example ports ||
    fail "cannot build the examples of testkit, see above"
examples=${CARGO_TARGET_DIR:-target}/debug/examples

scratch=$(mktemp -d)
running='' waiting=''
stop() {
    # Programs that have already ended are no error.
    for pid in $running; do kill "$pid" 2>/dev/null || :; done
    running=
}
trap 'stop; rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Hundredths of a second since boot.
clock() { read -r up _ </proc/uptime && echo "${up%.*}${up#*.}"; }

# scene TITLE TEXT
scene() {
    printf '\n== %s\n%s\n\n' "$1" "$2"
    begin=$(clock)
}

# say WHO WHAT: a line of the time line.
say() {
    elapsed=$(($(clock) - begin))
    printf '%4d.%02d s  %-7s %s\n' $((elapsed / 100)) $((elapsed % 100)) "$1" "$2"
}

# Turns log lines into the time line. Lines are recognized by their keys, if possible.
tell() {
    while IFS= read -r line; do
        reason=${line#*reason=\"} && reason=${reason%%\"*}
        reason=${reason#423 Locked; } && reason=${reason#waiting for }
        waited=${line##*waited=} && waited=${waited%% *}
        holder=${line##*holder=} && holder=${holder%% *}
        held=${line##*held=}
        case $line in
        *'msg="waiting for the lock'*) say "$1" "waits: $reason" ;;
        *'msg="lock acquired" waited='*) say "$1" "STARTS, after a wait of $waited" ;;
        *' endpoint='*' reason='*) say "$1" "check failed, no pod may start: $reason" ;;
        *' how=ready '*) say "$1" "$holder is ready, its lease ends after $held, the slot is free" ;;
        *'msg="gate open'*) say "$1" "check passed, pods may start" ;;
        *' not_here='*' why='*) say "$1" "answers 412: ${line##*why=}" ;;
        *' not_here='*) say "$1" "answers 200: all DaemonSets of the node are ready" ;;
        esac
    done
}

# serve NAME COMMAND...: starts a server and sets $port. Its log goes to the time line.
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

# pod NAME OPTION...: the init container of a pod, with these options of init.
pod() {
    app=$1 && shift
    pipe=$scratch/$app.pipe
    rm -f "$pipe" && mkfifo "$pipe"
    tell "$app" <"$pipe" &
    waiting="$waiting $!"
    dist/amd64/init --host 127.0.0.1 --port "$lock" --holder "$app" --max-wait 30s --unreachable-wait 10s "$@" 2>"$pipe" &
    init=$!
    waiting="$waiting $init" && running="$running $init"
}

# Waits until all pods have started.
all_started() {
    # shellcheck disable=SC2086 # one word for each process
    wait $waiting
    waiting=
}

scene "1. Five pods, one slot" "Each application is ready one second after its init container. Then its lease ends, and the first
pod in the queue starts."
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --locks 1
lock=$port
mkfifo "$scratch/hold-ports"
"$examples/ports" 5 <"$scratch/hold-ports" >"$scratch/ports" &
running="$running $!"
exec 8>"$scratch/hold-ports"
until ports=$(cat "$scratch/ports") && [ -n "$ports" ]; do sleep 0.05; done
number=0 applications=''
for port in $ports; do
    number=$((number + 1))
    # lock answers with the position after half a second, and init asks again.
    pod "app-$number" --duration 20s --ready "tcp:$port" --wait 500ms
    applications="$applications $init:$port"
    sleep 0.1
done
for application in $applications; do
    wait "${application%:*}"
    sleep 1
    echo "${application#*:}" >&8
done
all_started
sleep 0.3
stop

scene "2. A dependency that is late" "lock checks a dependency, which comes up after three seconds. Until then no pod starts. Leases last
one second."
serve late dist/amd64/lock --host 127.0.0.1 --port 0
late=$port
stop
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --timeout 1s --failHc 500ms --check "http://127.0.0.1:$late/livez"
lock=$port
{
    # The traps of the parent must not run in this subshell.
    trap - EXIT HUP INT TERM
    # Short steps, so that an ended demonstration leaves no long sleep behind.
    for _ in 1 2 3 4 5 6; do sleep 0.5; done
    say late "comes up"
    exec dist/amd64/lock --host 127.0.0.1 --port "$late" 2>/dev/null
} &
running="$running $!"
for app in app-1 app-2 app-3; do pod "$app" --pause 200ms; done
all_started
stop

scene "3. A node whose DaemonSets are not ready" "health asks a recorded Kubernetes API for the DaemonSets of node-a; the last one is ready after four
seconds. lock checks health."
mkfifo "$scratch/hold"
"$examples/cluster" health/tests/data/answers 4 <"$scratch/hold" >"$scratch/url" &
running="$running $!"
exec 9>"$scratch/hold"
until url=$(cat "$scratch/url") && [ -n "$url" ]; do sleep 0.05; done
serve health dist/amd64/health --host 127.0.0.1 --port 0 --baseUrl "$url" --node-name node-a --ex app:gpu-plugin --failHc 500ms
health=$port
serve lock dist/amd64/lock --host 127.0.0.1 --port 0 --timeout 1s --failHc 500ms --check "http://127.0.0.1:$health/"
lock=$port
for app in app-1 app-2; do pod "$app" --pause 200ms; done
all_started

printf '\nlock counted these requests (GET /metrics):\n'
"$examples/get" "127.0.0.1:$lock" /metrics | grep '^psl_lock_requests_total.* [1-9]'
