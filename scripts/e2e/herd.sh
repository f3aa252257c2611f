#!/bin/sh
# Scenarios: herds of pods behind one lock, and locks of several nodes. Read by scenario.sh.

# Starts a herd of 20 on the first node. Collects the log of the lock, also of containers that end.
begin_herd() {
    standing_lock
    herd_node=$(first_node) ns=psl-e2e-$1
    space "$ns"
    began_at=$(cluster_time "$ns")
    follow_lock
    herd "$ns" shop "$herd_node" 20
}
follow_lock() {
    followed=$(pod_of lock "$herd_node")
    : >"$E2E_SCRATCH/lock.log.$$"
    timeout --foreground "$(seconds_left)" kubectl --namespace pod-startup-lock logs --follow --since-time "$began_at" "$followed" >>"$E2E_SCRATCH/lock.log.$$" 2>/dev/null &
    background="$background $!"
}
# Asserts that all pods are ready without a restart, and that each lease ended by `ready`.
all_came_up() {
    rolled_out "$ns" deployment/shop "${1:-100}"
    is_zero "restarts of the herd" "$(restarts "$ns" shop)"
    eventually 20 "the last lease ended" state_says "$herd_node" '"slots_in_use":0'
    sleep 1
    end_background
    lock logs --since-time "$began_at" "$(pod_of lock "$herd_node")" >>"$E2E_SCRATCH/lock.log.$$"
    granted=$(holders 'msg="lock acquired"') by_ready=$(holders 'how=ready') expired=$(holders 'how=expired')
    is_zero "leases that ended by their duration" "$expired"
    [ "$granted" -eq 20 ] || fail "$granted of 20 pods got a lease"
    # A deleted pod of the lock loses its leases.
    [ "$by_ready" -eq 20 ] || [ "$by_ready" -ge "${2:-20}" ] || fail "$by_ready of 20 leases ended by ready"
    programs_are_well
    forget "$ns"
}
# Prints the number of pods of the herd with this text in the log of the lock.
holders() { grep -F -- "$1" "$E2E_SCRATCH/lock.log.$$" | grep -o "holder=$ns/[^ /]*" | sort -u | wc -l; }
is_zero() { [ "$2" -eq 0 ] || fail "$1: $2"; }

scenario_herd() {
    begin_herd herd
    all_came_up
}

scenario_herd_killed_lock() {
    needs_power
    begin_herd killed-lock
    eventually 60 "five pods of the herd ready" at_least_ready "$ns" shop 5
    pod=$(pod_of lock "$herd_node")
    power "kill the lock's process" node "$herd_node" exec pkill -9 -x lock
    eventually 20 "the lock's container restarted" lock_restarted "$pod"
    lock logs --previous "$pod" >>"$E2E_SCRATCH/lock.log.$$" || true
    all_came_up
}
lock_restarted() { [ "$(lock get pod "$1" --output 'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}')" = "1 true" ]; }

scenario_herd_deleted_lock() {
    begin_herd deleted-lock
    eventually 60 "five pods of the herd ready" at_least_ready "$ns" shop 5
    pod=$(pod_of lock "$herd_node")
    lock delete pod "$pod" --wait=false
    eventually 30 "a successor of the lock's pod" successor "$pod"
    all_came_up 100 5
}
successor() {
    next=$(pod_of lock "$herd_node")
    [ -n "$next" ] && [ "$next" != "$1" ] && [ "$(lock get pod "$next" --output 'jsonpath={.status.containerStatuses[0].ready}')" = true ]
}

# The lock of a node serves the pods of its node, and no others.
scenario_nodes() {
    second=$(second_node)
    [ -n "$second" ] || skip "needs two nodes"
    standing_lock
    space psl-e2e-nodes
    for of_node in "$(first_node)" "$second"; do
        metric "$of_node" 'psl_lock_requests_total{result="granted"}' >"$E2E_SCRATCH/granted.$of_node"
        herd psl-e2e-nodes "on-$of_node" "$of_node" 4
    done
    for of_node in "$(first_node)" "$second"; do
        rolled_out psl-e2e-nodes "deployment/on-$of_node" 60
        lock logs "$(pod_of lock "$of_node")" | grep -F 'msg="lock acquired"' | grep -o 'holder=psl-e2e-nodes/[^/]*' | sed 's/.*\///' | sort >"$E2E_SCRATCH/served"
        kube --namespace psl-e2e-nodes get pods --field-selector "spec.nodeName=$of_node" --output 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}' | sort >"$E2E_SCRATCH/there"
        cmp "$E2E_SCRATCH/served" "$E2E_SCRATCH/there" >&2 || fail "the lock of $of_node served other pods than those of its node: $(tr '\n' ' ' <"$E2E_SCRATCH/served")"
        is_zero "requests for another node at $of_node" "$(metric "$of_node" 'psl_lock_requests_total{result="misdirected"}')"
    done
    forget psl-e2e-nodes
}

# A node without a lock: a pod starts there after --unreachable-wait, and no lock of another node
# serves it.
scenario_unguarded() {
    standing_lock
    bare=$(first_node) elsewhere=$(second_node)
    lock patch daemonset lock --patch "{\"spec\":{\"template\":{\"spec\":{\"nodeSelector\":{\"kubernetes.io/hostname\":\"${elsewhere:-psl-e2e.none}\"}}}}}" >&2
    eventually 30 "no lock on $bare" no_lock_on "$bare"
    [ -z "$elsewhere" ] || rolled_out pod-startup-lock daemonset/lock 30
    space psl-e2e-unguarded
    { workload Deployment shop "$bare" 2 && gate ', --unreachable-wait=5s' && application --port=8080; } | kube --namespace psl-e2e-unguarded apply --filename - >&2
    rolled_out psl-e2e-unguarded deployment/shop 45
    kube --namespace psl-e2e-unguarded logs deployment/shop --container pod-startup-lock >"$E2E_SCRATCH/said"
    grep -q 'unreachable-wait' "$E2E_SCRATCH/said" || fail "the log of init does not name the bound: $(tail -n 1 "$E2E_SCRATCH/said")"
    [ -z "$elsewhere" ] || is_zero "leases of another node's lock" "$(metric "$elsewhere" 'psl_lock_requests_total{result="granted"}')"
    forget psl-e2e-unguarded
    lock patch daemonset lock --type=json --patch '[{"op":"remove","path":"/spec/template/spec/nodeSelector/kubernetes.io~1hostname"}]' >&2
    rolled_out pod-startup-lock daemonset/lock 60
}
no_lock_on() { [ -z "$(lock get pods --selector app.kubernetes.io/name=lock --field-selector "spec.nodeName=$1" --output name)" ]; }
