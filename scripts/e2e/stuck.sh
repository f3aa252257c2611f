#!/bin/sh
# Scenario: each command of docs/operations.md, "When it is stuck", as written. Read by scenario.sh.

# Prints the commands of the section, one a line: in its code block, after "then:" there, and in its
# sentences.
stuck_commands() {
    awk '/^## / {inside = $0 == "## When it is stuck"} inside' docs/operations.md >"$E2E_SCRATCH/section"
    awk '/^```/ {block = !block; next}
        block && /^kubectl/ {line = $0; sub(/ *#.*/, "", line); print line}
        block && /then: / {sub(/.*then: /, ""); print}
        !block && /`/ {n = split($0, parts, "`"); for (i = 2; i <= n; i += 2) if (parts[i] ~ /^(kubectl|curl|scripts\/)/) print parts[i]}' "$E2E_SCRATCH/section"
}

# Runs a command of the section with its placeholders filled in; its output goes to
# $E2E_SCRATCH/printed.
written() {
    command=$(printf %s "$1" | sed "s|LOCK-POD|$(pod_of lock "$held")|; s|HEALTH-POD|$(pod_of health "$held")|; s|spec.nodeName=NODE|spec.nodeName=$held|; s|-n NAMESPACE|-n $ns|; s| POD | $(waiting_pod) |; s|daemonset NAME|daemonset never-$shut|; s|deployment NAME|deployment shop|; s|holder=ID|holder=$(printf %s "${holder:-}" | sed 's/&/\\&/g')|")
    case $command in *NODE* | *NAMESPACE* | *POD* | *NAME* | *ID) fail "docs/operations.md uses an unknown placeholder: $1" ;; esac
    bounded sh -c "$command" >"$E2E_SCRATCH/printed" 2>&1 || fail "command failed: $command: $(tail -n 1 "$E2E_SCRATCH/printed")"
}
shows() { written "$1" && grep -qE -- "$2" "$E2E_SCRATCH/printed"; }
printed() { grep -qE -- "$1" "$E2E_SCRATCH/printed" || fail "$command does not show $1"; }
waiting_pod() { kube --namespace "$ns" get pods --selector app=shop --output 'jsonpath={.items[0].metadata.name}'; }

# A port-forward of the section, in the background until the next one.
forward() {
    end_background
    program=$(case $1 in *LOCK-POD*) echo lock ;; *) echo health ;; esac)
    command=$(printf %s "$1" | sed "s|[A-Z]*-POD|$(pod_of "$program" "$held")|")
    timeout --foreground "$(seconds_left)" sh -c "exec $command" >"$E2E_SCRATCH/forward" 2>&1 &
    # shellcheck disable=SC2034 # end_background reads it
    background=$!
    eventually 15 "$command" grep -q '^Forwarding from' "$E2E_SCRATCH/forward"
}

# Closes the gate of the node and lets two pods wait. health learns of a new DaemonSet at once, and
# of a changed one at its next request. The settings of an earlier command are undone first.
shut_gate() {
    if [ -n "$undo" ]; then
        lock set env daemonset/lock "$undo" >&2
        rolled_out pod-startup-lock daemonset/lock 60
        undo=''
    fi
    kube --namespace "$ns" delete deployments --all --wait >&2
    if [ "$shut" -eq 0 ] || ! state_says "$held" '"gate":{"open":false' >/dev/null; then
        kube --namespace "$ns" delete daemonsets --all --wait >&2
        shut=$((shut + 1))
        daemon "never-$shut" "$held" --port=8080 8081 | kube --namespace "$ns" apply --filename - >&2
        eventually 30 "the gate of $held closed" state_says "$held" '"gate":{"open":false'
    fi
    eventually 20 "no pods of the last command" no_pods
    herd "$ns" shop "$held" 2
    eventually 30 "the pods of shop wait" pods_wait
}
no_pods() { [ -z "$(kube --namespace "$ns" get pods --selector 'app in (shop, long)' --output name)" ]; }
pods_wait() { [ "$(kube --namespace "$ns" get pods --selector app=shop --no-headers | grep -c 'Init:0/1')" -eq 2 ]; }
shop_starts() { rolled_out "$ns" deployment/shop "${1:-60}"; }

scenario_stuck() {
    standing_lock
    held=$(first_node) ns=psl-e2e-stuck shut=0 undo='' take_away=''
    # As shipped, lock checks an open gate once a minute.
    lock set env daemonset/lock PSL_HC_PERIOD_PASS=1s >&2
    rolled_out pod-startup-lock daemonset/lock 60
    space "$ns"
    shut_gate
    stuck_commands >"$E2E_SCRATCH/commands"
    [ "$(wc -l <"$E2E_SCRATCH/commands")" -ge 14 ] || fail "docs/operations.md, 'When it is stuck', has $(wc -l <"$E2E_SCRATCH/commands") commands, expected at least 14"
    while read -r line; do stuck_command "$line" </dev/null; done <"$E2E_SCRATCH/commands"
    end_background
    # These commands remove the lock, so they come last.
    bounded sh -c "${take_away:?}" >&2 || fail "command failed: $take_away"
    forget "$ns" true
    watch_ends
    must_be_gone "after $take_away"
}

stuck_command() {
    case $1 in
    'kubectl get pods -A '*) written "$1" && printed 'shop.*Init:0/1' ;;
    # init logs the reason after its first request, which the lock parks for two seconds.
    'kubectl -n NAMESPACE logs '*) eventually 20 "the reason in init's log" shows "$1" '412|gate|waiting' ;;
    'kubectl -n pod-startup-lock get pods '*) written "$1" && printed '^lock-.*Running' && printed '^health-.*Running' ;;
    *' port-forward '*) forward "$1" ;;
    'curl -s '*:8888/state) written "$1" && printed '"version":1' && printed "$ns/shop" ;;
    'curl -s '*:9999/) written "$1" && printed "never" ;;
    *' pod-startup-lock/ignore=true') written "$1" && shop_starts 100 ;;
    *'daemonset/lock PSL_HC_ENABLED=false') shut_gate && written "$1" && shop_starts && undone_by PSL_HC_ENABLED- ;;
    # The checks are still off.
    'curl -X DELETE '*) one_lease && written "$1" && printed '^Released' ;;
    *' delete pod LOCK-POD') written "$1" && eventually 30 "a lock without leases" state_says "$held" '"slots_in_use":0' ;;
    *' patch deployment NAME '*) shut_gate && written "$1" && shop_starts ;;
    *'daemonset/lock PSL_MODE=shadow') shut_gate && written "$1" && shop_starts ;;
    'scripts/deploy.sh load --nodes NODE') load_again "$1" ;;
    'scripts/deploy.sh status') written "$1" ;;
    'kubectl delete -k' | 'kubectl delete -k deploy') take_away="${take_away:+$take_away && }${1% deploy} deploy/with-health --ignore-not-found" ;;
    'scripts/deploy.sh delete') take_away="${take_away:+$take_away && }$1" ;;
    *) fail "docs/operations.md has a command without a check in scripts/e2e/stuck.sh: $1" ;;
    esac
}
# The command that undoes the one before, as the section gives it.
undone_by() {
    grep -qF -- "undone by \`$1\`" "$E2E_SCRATCH/section" || fail "docs/operations.md does not say that $1 undoes it"
    undo=$1
}
# Starts a pod that keeps its lease, and reads its holder from /state on the loopback.
one_lease() {
    kube --namespace "$ns" delete deployments --all --wait >&2
    rolled_out pod-startup-lock daemonset/lock 60
    { workload Deployment long "$held" 1 && gate && application --after=300 600; } | kube --namespace "$ns" apply --filename - >&2
    forward 'kubectl -n pod-startup-lock port-forward LOCK-POD 8888'
    eventually 30 "a lease for the pod long, named on the loopback" lease_of_long
}
lease_of_long() {
    holder=$(curl -s http://localhost:8888/state | sed 's/"queue":.*//' | grep -o "\"holder\":\"$ns/long[^\"]*" | head -n 1 | cut -d'"' -f4)
    [ -n "$holder" ]
}
# The command that reaches nodes over ssh, with the nodes' tool in place of ssh.
load_again() {
    has_power && [ -x "$E2E_NODES_TOOL/ssh" ] || return 0
    written "$(printf %s "$1" | sed "s|NODE|$held|") --with ctr --ssh $E2E_NODES_TOOL/ssh"
}
