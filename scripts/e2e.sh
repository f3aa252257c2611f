#!/bin/sh
# Tests Pod Startup Lock on a real cluster, and checks the objects of the cluster.
#
#   scripts/e2e.sh [OPTION...]
#
# KUBECONFIG names the cluster and must be set, so that ~/.kube/config is never used by accident. A
# cluster with a lock in any namespace is refused.
#
#   --list                list the scenarios in their order, with the time limit of each in seconds
#   --only NAME           run only this scenario; may be repeated
#   --load "OPTIONS"      options of scripts/deploy.sh load, such as "--with kind --cluster dev"
#   --registry R          push the images to this registry instead
#   --nodes-tool DIR      a tool that controls the nodes, see below
#   --seconds N           time limit of all scenarios together (default and most: 840); the cleanup
#                         takes at most a minute more
#   --keep                keep all objects after a failure
#   --help                this text
#
# Without --load and --registry the images are loaded with DIR/ssh if it exists, else with the first
# tool that scripts/deploy.sh load finds. The images stay on the nodes.
#
# A nodes' tool is a directory with these executables:
#   node.sh NODE exec COMMAND...       run COMMAND on the node, with its output and exit code
#   node.sh NODE reboot SECONDS        cut the node's power for SECONDS; a new boot ID follows
#   node.sh NODE restart kubelet       restart the kubelet, and no container
#   control.sh stop|start kube-apiserver   stop the API server, start it again
#   control.sh pause|go kube-apiserver     SIGSTOP, SIGCONT: the API server hangs
#   ssh NODE COMMAND                   optional: replaces ssh, with ctr on the node's PATH
# NODE is the name of the Node object. Exit code 77 means that the tool does not support the verb,
# and the scenario is skipped. Without a nodes' tool, scenarios that need one are skipped.
# CONTRIBUTING.md has a tool for kind.
#
# Needs kubectl, GNU timeout, and the archives of scripts/build.sh and scripts/image.sh (lock, init,
# health, e2e); missing archives are built. Prints one line for each scenario, and "N passed, N
# failed, N skipped" at the end.
# Exit codes: 0 passed, 1 failed or refused for a lock, 2 bad arguments, 3 no cluster.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
export LC_ALL=C

# NAME SECONDS in order: first the scenarios that need a cluster without a lock, then the scenarios
# that share a lock, last the scenario that removes it.
scenarios='
install 150
overlays 240
entry-points 200
restricted 120
nodes 90
injection 120
herd 120
herd-killed-lock 120
herd-deleted-lock 120
reboot 220
api-stopped 180
api-hung 220
kubelet-restarted 190
gate 240
unguarded 90
stuck 240
'

say() { printf 'e2e.sh: %s\n' "$1" >&2; }
fail() {
    say "$1"
    exit "${2:-1}"
}
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/e2e.sh; }

main() {
    read_options "$@"
    # shellcheck source=scripts/e2e/lib.sh
    . scripts/e2e/lib.sh
    [ -n "${KUBECONFIG:-}" ] || fail "KUBECONFIG is not set; set it to the file of the cluster to test" 3
    for tool in kubectl timeout tar; do command -v "$tool" >/dev/null || fail "command not found: $tool" 1; done
    E2E_SCRATCH=$(mktemp -d)
    export E2E_SCRATCH
    running='' changed=''
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap finish EXIT
    # shellcheck disable=SC2034 # bounds every call in lib.sh
    deadline=$(($(now) + 20))
    kube get --raw /readyz >/dev/null 2>"$E2E_SCRATCH/error" || fail "cannot reach the cluster: $(tail -n 1 "$E2E_SCRATCH/error")" 3
    has_no_lock
    need_archives
    say "cluster: $(kubectl config current-context), $(kube get nodes --no-headers | wc -l) nodes"
    began=$(now) passed=0 failed=0 skipped=0 changed=yes
    for name in $chosen; do run_scenario "$name"; done
    cleanup || true
    trap - EXIT
    rm -rf "$E2E_SCRATCH"
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ]
}

names() { printf '%s' "$scenarios" | sed '/^$/d; s/ .*//'; }
bound_of() { printf '%s' "$scenarios" | sed -n "s/^$1 //p"; }

read_options() {
    chosen='' E2E_LOAD='' E2E_REGISTRY='' E2E_NODES_TOOL='' seconds=840 keep=''
    while [ $# -gt 0 ]; do
        option=$1
        case $option in
        --help) usage && exit 0 ;;
        --list) printf '%s' "$scenarios" | sed '/^$/d' && exit 0 ;;
        --keep) keep=yes && shift && continue ;;
        --only=* | --load=* | --registry=* | --nodes-tool=* | --seconds=*) value=${option#*=} option=${option%%=*} ;;
        --only | --load | --registry | --nodes-tool | --seconds)
            [ $# -ge 2 ] || fail "$option needs a value" 2
            value=$2
            shift
            ;;
        *) fail "unknown option '$option'; --help lists the options" 2 ;;
        esac
        shift
        [ -n "$value" ] || fail "$option needs a value" 2
        take "$option" "$value"
    done
    chosen=${chosen:-$(names)}
    [ -z "$E2E_LOAD" ] || [ -z "$E2E_REGISTRY" ] || fail "--load and --registry exclude each other; choose one" 2
    export E2E_LOAD E2E_REGISTRY E2E_NODES_TOOL
}

take() {
    case $1 in
    --only)
        names | grep -qxF -- "$2" || fail "--only: '$2' is not a scenario; accepted: $(names | tr '\n' ' ')" 2
        chosen="$chosen $2"
        ;;
    --load) E2E_LOAD=$2 ;;
    --registry) E2E_REGISTRY=$2 ;;
    --nodes-tool)
        for tool in node.sh control.sh; do [ -x "$2/$tool" ] || fail "--nodes-tool: '$2' has no executable $tool; --help describes it" 2; done
        E2E_NODES_TOOL=$(CDPATH='' cd -- "$2" && pwd)
        ;;
    --seconds)
        case $2 in
        [1-9] | [1-9][0-9] | [1-7][0-9][0-9] | 8[0-3][0-9] | 840) seconds=$2 ;;
        *) fail "--seconds: '$2' is not accepted; accepted: 1 to 840" 2 ;;
        esac
        ;;
    esac
}

# Ends the script if the cluster has a lock, known by the label of its objects or by its image.
has_no_lock() {
    kube get daemonsets --all-namespaces --output 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.metadata.labels.app\.kubernetes\.io/part-of} {.spec.template.spec.containers[*].image}{"\n"}{end}' \
        >"$E2E_SCRATCH/daemonsets" 2>"$E2E_SCRATCH/error" || fail "cannot list DaemonSets: $(tail -n 1 "$E2E_SCRATCH/error")"
    found=$(grep -E ' pod-startup-lock |/?psl-lock[:@]' "$E2E_SCRATCH/daemonsets" | head -n 1 | cut -d' ' -f1)
    [ -z "$found" ] || fail "the cluster already has a lock, the DaemonSet $found, and the scenarios would remove it; use another cluster"
    found=$(left | head -n 1)
    [ -z "$found" ] || fail "the cluster has an object of a lock or of an earlier run: $found; delete it first"
}

need_archives() {
    arch=$(kube get nodes --output 'jsonpath={.items[0].status.nodeInfo.architecture}')
    for program in lock init health e2e; do
        [ ! -f "dist/images/psl-$program-$arch.tar" ] || continue
        { scripts/build.sh --arch "$arch" "$program" && scripts/image.sh --arch "$arch" "$program"; } >&2 || fail "cannot build the image of $program, see above"
    done
}

# Runs a scenario as a separate process, within its time limit and that of the run; prints its line.
run_scenario() {
    bound=$(bound_of "$1")
    left=$((began + seconds - $(now)))
    [ "$left" -ge "$bound" ] || bound=$left
    begun=$(now) code=1
    : >"$E2E_SCRATCH/why"
    if [ "$bound" -le 0 ]; then
        echo "not run: the time limit of $seconds s is over" >"$E2E_SCRATCH/why"
    else
        timeout --kill-after=5 "$bound" sh scripts/e2e/scenario.sh "$1" "$bound" >"$E2E_SCRATCH/log" 2>&1 &
        running=$! code=0
        wait "$running" || code=$?
        running=
    fi
    why=$(head -n 1 "$E2E_SCRATCH/why")
    took=$(($(now) - begun))
    case $code in
    0) passed=$((passed + 1)) && echo "$1: ok ($took s)" ;;
    77) skipped=$((skipped + 1)) && echo "$1: skipped: $why" ;;
    *)
        [ "$bound" -le 0 ] || [ "$took" -lt "$bound" ] || why="not finished after $bound s${why:+: $why}"
        failed=$((failed + 1)) && echo "$1: failed: ${why:-exit code $code} ($took s)"
        tail -n 25 "$E2E_SCRATCH/log" | sed 's/^/    /' >&2
        [ -z "$keep" ] || { say "--keep: all objects are kept" && changed='' && exit 1; }
        deadline=$(($(now) + 60))
        remove_everything >>"$E2E_SCRATCH/log" 2>&1 || true
        ;;
    esac
}

# Runs also after a failure and a signal: ends the running scenario and removes its objects.
finish() {
    code=$?
    trap '' HUP INT TERM
    if [ -n "$running" ]; then
        kill -TERM "$running" 2>/dev/null || true
        wait "$running" 2>/dev/null || true
    fi
    [ -z "$changed" ] || cleanup || code=1
    rm -rf "$E2E_SCRATCH"
    exit "$code"
}

# Removes all objects of the scenarios, within a minute, and lists those that are left.
cleanup() {
    changed=
    deadline=$(($(now) + 60))
    remove_everything >"$E2E_SCRATCH/log" 2>&1 || true
    remains=$(left)
    [ -z "$remains" ] || { echo "cleanup: failed: objects remain in the cluster: $(echo "$remains" | head -n 5 | tr '\n' ';')" && failed=$((${failed:-0} + 1)) && return 1; }
}

main "$@"
