#!/bin/sh
# Scenarios: outages of a node and of the API server, and a gate that health keeps closed.
# Read by scenario.sh.

# daemon NAME NODE ARGUMENTS [PORT OF THE READINESS PROBE]
daemon() {
    workload DaemonSet "$1" "$2"
    application "$3" 600 | if [ -n "${4:-}" ]; then sed "/startupProbe/d; s/port: 8080}, periodSeconds: 1}/port: $4}, periodSeconds: 1}/"; else cat; fi
}

# Twenty pods and two DaemonSets, one of which takes 15 s; no pod starts before both are ready.
scenario_reboot() {
    needs_power
    standing_lock
    rebooted=$(first_node) ns=psl-e2e-reboot
    space "$ns"
    { daemon fast "$rebooted" --port=8080 && daemon slow "$rebooted" --after=15; } | kube --namespace "$ns" apply --filename - >&2
    herd "$ns" shop "$rebooted" 20 0.2
    rolled_out "$ns" daemonset/fast 60
    rolled_out "$ns" deployment/shop 100
    boot=$(boot_of "$rebooted") before=$(restarts "$ns" shop) cut=$(cluster_time "$ns")
    power "reboot $rebooted" node "$rebooted" reboot 10
    eventually 60 "a new boot ID of $rebooted" new_boot
    for app in slow fast; do eventually 60 "the DaemonSet $app ready in this boot" ready_since_boot "$app" 1; done
    eventually 120 "20 pods ready in this boot" ready_since_boot shop 20
    started_after_daemons
    # The reboot itself ended each container once.
    is_zero "restarts after the reboot" $(($(restarts "$ns" shop) - before - 20))
    forget "$ns" true
    programs_are_well
}
boot_of() { kube get node "$1" --output 'jsonpath={.status.nodeInfo.bootID}'; }
new_boot() { [ "$(boot_of "$rebooted")" != "$boot" ]; }
# Time stamps in this form compare as text.
ready_since_boot() { [ "$(pods_of "$ns" "$1" | awk -v cut="$cut" '$3 == "true" && $4 != "-" && $4 > cut' | wc -l)" -eq "$2" ]; }
started_after_daemons() {
    first=$(seconds_of "$(pods_of "$ns" shop | awk '{print $4}' | sort | head -n 1)")
    slow=$(seconds_of "$(pods_of "$ns" slow | awk '{print $4}')")
    fast=$(seconds_of "$(pods_of "$ns" fast | awk '{print $4}')")
    # The time stamps are whole seconds.
    [ "$first" -ge $((slow + 14)) ] || fail "a pod started $((first - slow)) s after the slow DaemonSet, which takes 15 s to be ready"
    [ "$first" -ge "$fast" ] || fail "a pod started before the fast DaemonSet"
}

# Starts a pod on each node that asks health and lock once a second and prints each change. Several
# scenarios share these pods.
watch_programs() {
    standing_lock
    ns=psl-e2e-watch
    if ! kube get namespace "$ns" >/dev/null 2>&1; then
        space "$ns"
        daemon watch '' '"--watch=health.pod-startup-lock:9999/", "--watch=lock.pod-startup-lock:8888/?duration=0"' | kube --namespace "$ns" apply --filename - >&2
    fi
    rolled_out "$ns" daemonset/watch 60
    # After an outage of the API server, the node controller may see a node as not ready until its
    # kubelet has reported again.
    eventually 100 "health and lock answer 200 to all" all_see_200
    containers_before=$(containers)
    since=$(seconds_of "$(cluster_time "$ns")")
}
watch_ends() { kube delete namespace psl-e2e-watch --ignore-not-found >&2; }
# POD SECOND ADDRESS STATUS of each change, in the order of each pod.
changes_seen() { kube --namespace "$ns" logs --selector app=watch --tail=-1 --prefix --max-log-requests 100; }
all_see_200() {
    changes_seen | awk -v pods="$(nodes | wc -w)" '{last[$1 $3] = $4; print} END {for (one in last) {n++; if (last[one] != 200) bad++} exit !(n >= 2 * pods && !bad)}'
}
# Asserts that the watching pods saw only 200, and that no container was restarted, since the
# scenario began.
saw_nothing_else() {
    eventually 30 "the logs of the watching pods" changes_seen
    bad=$(changes_seen | awk -v since="$since" '$2 >= since && $4 != 200' | head -n 3)
    [ -z "$bad" ] || fail "not 200 $1: $bad"
    same_containers "$1"
}
same_containers() { [ "$(containers)" = "$containers_before" ] || fail "a container of lock or health was restarted $1"; }
containers() { lock get pods --output 'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID}{"\n"}{end}'; }
# Asserts that pods still start. They are created on a node, because controllers and scheduler take
# up to 90 s to reconnect to an API server that was away. They burn little CPU.
starts_go_on() {
    for number in 1 2 3; do lone_pod "after-$number" "$(first_node)"; done
    eventually 60 "3 pods that start $1" at_least_ready "$ns" after 3
    is_zero "restarts $1" "$(restarts "$ns" after)"
    kube --namespace "$ns" delete pods --selector app=after >&2
    programs_are_well
}
lone_pod() {
    {
        printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: after}}\nspec:\n      nodeName: %s\n' "$1" "$2"
        gate
        application --cpu=0.2
    } | kube --namespace "$ns" apply --filename - >&2
}

scenario_api_stopped() {
    needs_power
    watch_programs
    power "stop the API server" control stop
    sleep 60
    power "start the API server" control start
    eventually 30 "the API server back" kube get --raw /readyz
    saw_nothing_else "while the API server was stopped for a minute"
    starts_go_on "after the API server was stopped"
}

scenario_api_hung() {
    needs_power
    watch_programs
    power "pause the API server" control pause
    sleep 25
    power "let the API server go on" control go
    eventually 30 "the API server back" kube get --raw /readyz
    saw_nothing_else "while the API server hung for 25 s"
    starts_go_on "after the API server hung"
}

# A restarted kubelet may report pods with a readiness probe as not ready until it has probed them.
scenario_kubelet_restarted() {
    needs_power
    watch_programs
    power "restart the kubelet" node "$(first_node)" restart kubelet
    sleep 5
    starts_go_on "after the kubelet was restarted"
    same_containers "after the kubelet was restarted"
    eventually 30 "health and lock answer 200 to all" all_see_200
    watch_ends
}

# A DaemonSet that is never ready: the gate opens at --max-hold, and soon after the annotation
# `ignore`.
scenario_gate() {
    standing_lock
    held=$(first_node) ns=psl-e2e-gate
    # As shipped, lock checks an open gate once a minute.
    lock set env daemonset/lock PSL_HC_MAX_HOLD=30s PSL_HC_PERIOD_PASS=1s >&2
    rolled_out pod-startup-lock daemonset/lock 60
    eventually 30 "the gate of $held open" state_says "$held" '"gate":{"open":true,"overridden":false'
    space "$ns"
    daemon never "$held" --port=8080 8081 | kube --namespace "$ns" apply --filename - >&2
    eventually 30 "the gate of $held closed" state_says "$held" '"gate":{"open":false'
    shut=$(now)
    herd "$ns" shop "$held" 2
    sleep 5
    is_zero "pods ready while the gate is closed" "$(ready_pods "$ns" shop)"
    eventually 60 "the gate of $held overridden" state_says "$held" '"overridden":true'
    [ $(($(now) - shut)) -ge 20 ] || fail "the gate was overridden $(($(now) - shut)) s after it closed, with a --max-hold of 30 s"
    rolled_out "$ns" deployment/shop 40
    kube --namespace "$ns" annotate daemonset never pod-startup-lock/ignore=true >&2
    eventually 75 "the gate of $held open for the ignored DaemonSet" state_says "$held" '"gate":{"open":true,"overridden":false'
    forget "$ns" true
    lock set env daemonset/lock PSL_HC_MAX_HOLD- PSL_HC_PERIOD_PASS- >&2
    rolled_out pod-startup-lock daemonset/lock 60
}
