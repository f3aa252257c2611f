#!/bin/sh
# Functions for e2e.sh and e2e/scenario.sh: calls with a time limit, waits, workloads, clean-up.
# Read in the repository's root. deadline, in seconds since 1970, limits every call; E2E_SCRATCH is
# a directory for files.

now() { date +%s; }
# Whole seconds until the deadline, at least one.
# shellcheck disable=SC2154 # the script that reads this file sets the deadline
seconds_left() { awk -v end="$deadline" -v now="$(now)" 'BEGIN {left = end - now; print left < 1 ? 1 : left}'; }
bounded() { timeout --foreground --kill-after=5 "$(seconds_left)" "$@"; }
kube() { bounded kubectl "$@"; }
deploy() { bounded scripts/deploy.sh "$@"; }
lock() { kube --namespace pod-startup-lock "$@"; }

# ---- the nodes' tool ----

has_power() { [ -n "$E2E_NODES_TOOL" ]; }
node() { bounded "$E2E_NODES_TOOL/node.sh" "$@"; }
# Records an outage, so that the clean-up ends it after a failure.
control() {
    : >"$E2E_SCRATCH/control"
    bounded "$E2E_NODES_TOOL/control.sh" "$1" kube-apiserver
}
restore_control() {
    [ -f "$E2E_SCRATCH/control" ] || return 0
    bounded "$E2E_NODES_TOOL/control.sh" go kube-apiserver || true
    # Repeated, because a server that is still stopping counts as running. eventually would end the
    # clean-up.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        bounded "$E2E_NODES_TOOL/control.sh" start kube-apiserver || true
        sleep 1
        ! kube get --raw /readyz --request-timeout=2s || return 0
    done
}

# ---- waits ----

# eventually SECONDS STATE COMMAND...: repeats COMMAND each half second until it succeeds; fails
# with STATE.
eventually() {
    until_time=$(($(now) + $1)) awaited=$2 bound_here=$1
    shift 2
    echo "waiting for: $awaited" >&2
    while ! "$@" >"$E2E_SCRATCH/awaited" 2>&1; do
        if [ "$(now)" -ge "$until_time" ] || [ "$(now)" -ge "$deadline" ]; then
            cat "$E2E_SCRATCH/awaited" >&2
            fail "timed out after $bound_here s: $awaited"
        fi
        sleep 0.5
    done
}
rolled_out() { kube --namespace "$1" rollout status "$2" --timeout "${3}s" >&2 || fail "timed out after $3 s: $2 in namespace $1 is not ready"; }
# Prints the time of the API server, in the form of time stamps of objects.
cluster_time() {
    kube --namespace "$1" delete configmap clock --ignore-not-found >/dev/null
    kube --namespace "$1" create configmap clock --output 'jsonpath={.metadata.creationTimestamp}'
}
seconds_of() { date -u -d "$1" +%s; }

# ---- objects that are left ----

# Prints KIND NAMESPACE NAME of every object of a lock or of these scenarios, or an error line if
# listing fails. Events expire by themselves.
left() {
    listed=$E2E_SCRATCH/listed
    # shellcheck disable=SC2016 # the template's variables
    if kinds=$(kube api-resources --verbs=list,delete --output name 2>"$listed.error") &&
        kinds=$(echo "$kinds" | grep -vE '^(events|componentstatuses)(\.|$)|[.]metrics[.]k8s[.]io$' | tr '\n' ',') &&
        kube get "${kinds%,}" --all-namespaces --ignore-not-found --output go-template='{{range .items}}{{.kind}} {{or .metadata.namespace "-"}} {{.metadata.name}}{{range $key, $value := .metadata.labels}} {{$key}}={{$value}}{{end}}{{"\n"}}{{end}}' >"$listed" 2>"$listed.error"; then
        grep -E 'pod-startup-lock|psl-e2e' "$listed" | cut -d' ' -f1-3
    else
        echo "cannot list the objects of the cluster: $(tail -n 1 "$listed.error")"
    fi
    return 0
}
nothing_left() {
    left >"$E2E_SCRATCH/left"
    cat "$E2E_SCRATCH/left"
    [ ! -s "$E2E_SCRATCH/left" ]
}
# Waits, because a deletion takes a moment.
must_be_gone() { eventually 40 "no objects remain $1" nothing_left; }

# By name and by the label of these scenarios, and with no step that depends on another.
remove_everything() {
    restore_control
    kube delete namespaces --selector psl-e2e --wait=false
    kube --namespace kube-system delete pods --selector psl-e2e --wait=false
    kube delete mutatingadmissionpolicies,mutatingadmissionpolicybindings pod-startup-lock --ignore-not-found
    kube --namespace kube-system delete roles,rolebindings pod-startup-lock-health --ignore-not-found
    kube delete clusterroles,clusterrolebindings pod-startup-lock-health --ignore-not-found
    kube delete namespace pod-startup-lock --ignore-not-found
    kube delete customresourcedefinitions --selector psl-e2e
    kube delete namespaces --selector psl-e2e
}

# ---- images ----

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
image() { echo "${E2E_REGISTRY:-localhost}/psl-$1:$version"; }

# Brings the images of all four programs to the nodes, once a run.
images_there() {
    [ ! -f "$E2E_SCRATCH/loaded" ] || return 0
    for program in '' '--program e2e'; do
        # shellcheck disable=SC2086 # several words
        if [ -n "$E2E_REGISTRY" ]; then
            deploy push --registry "$E2E_REGISTRY" $program
        elif [ -n "$E2E_LOAD" ]; then
            deploy load $E2E_LOAD $program
        elif has_power && [ -x "$E2E_NODES_TOOL/ssh" ]; then
            deploy load --nodes "$(nodes)" --with ctr --ssh "$E2E_NODES_TOOL/ssh" $program
        else
            deploy load $program
        fi || fail "scripts/deploy.sh cannot load or push the images, see its output"
    done
    touch "$E2E_SCRATCH/loaded"
}
apply() { deploy apply ${E2E_REGISTRY:+--registry "$E2E_REGISTRY"} --wait 90 "$@" || fail "scripts/deploy.sh apply $* failed"; }

# ---- the lock ----

# The lock with health as the manifests ship it, which several scenarios share.
standing_lock() {
    images_there
    if [ "$(lock get daemonsets --ignore-not-found --output 'jsonpath={.items[*].metadata.annotations.psl-e2e}')" != "standing standing" ]; then
        apply --with-health
        # As shipped, health asks every 20 to 50 s for DaemonSets that it waits for. Scenarios
        # delete and ignore several.
        lock set env daemonset/health PSL_HC_DAEMONSET_PERIOD_FAIL=2s >&2
        rolled_out pod-startup-lock daemonset/health 60
        lock annotate daemonset/lock daemonset/health psl-e2e=standing
    fi
    # A DaemonSet that an earlier scenario has deleted keeps gates shut until health asks for it
    # again.
    eventually 100 "health and the gate of each node open" all_open
}
all_open() {
    for open_node in $(nodes); do
        ask health "$open_node" '' && state_says "$open_node" '"gate":{"open":true,"overridden":false' || return 1
    done
}
# Ready Linux nodes that take pods, one line; the first of them has the herds.
nodes() { kube get nodes --selector kubernetes.io/os=linux --output go-template='{{range .items}}{{if not .spec.unschedulable}}{{if not .spec.taints}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}{{end}}' | tr '\n' ' ' | sed 's/ $//'; }
first_node() { nodes | cut -d' ' -f1; }
second_node() { nodes | cut -s -d' ' -f2; }
# The pod of a program on a node.
pod_of() { lock get pods --selector "app.kubernetes.io/name=$1" --field-selector "spec.nodeName=$2,status.phase=Running" --output go-template='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}' | head -n 1; }
# ask PROGRAM NODE PATH, by way of the API server.
ask() {
    case $1 in lock) port=8888 ;; *) port=9999 ;; esac
    kube get --raw "/api/v1/namespaces/pod-startup-lock/pods/$(pod_of "$1" "$2"):$port/proxy/$3"
}
# The value of a metric of the lock of a node; 0 if it is not there.
metric() { ask lock "$1" metrics | awk -v name="$2" '$1 == name {value = $2} END {print value + 0}'; }
state_says() { ask lock "$1" state | grep -F -- "$2"; }
# Asserts that no container of the programs was killed for its memory, and that the API server never
# refused health.
programs_are_well() {
    # shellcheck disable=SC2016 # the template's variables
    bad=$(lock get pods --output go-template='{{range .items}}{{$name := .metadata.name}}{{range .status.containerStatuses}}{{with .lastState.terminated}}{{$name}} {{.reason}}{{"\n"}}{{end}}{{end}}{{end}}' | grep OOMKilled) && fail "container killed for exceeding its memory limit: $bad"
    for well_node in $(nodes); do
        bad=$(ask health "$well_node" metrics | grep 'code="403"') && fail "health on $well_node was refused by the API server: $bad"
    done
    lock logs --selector app.kubernetes.io/name=health --tail=-1 --prefix | grep -iwE 'forbidden|403' && fail "health's log says that the API server refused it"
    return 0
}

# ---- workloads ----

space() {
    kube create namespace "$1" >/dev/null
    kube label namespace "$1" psl-e2e=made "pod-security.kubernetes.io/enforce=${2:-restricted}" >/dev/null
}
forget() { kube delete namespace "$1" --wait="${2:-false}" >/dev/null; }

# The init container of docs/install.md, with its bounds; gate ", --more=1" adds arguments.
# shellcheck disable=SC2120
gate() {
    cat <<END
      initContainers:
        - name: pod-startup-lock
          image: $(image init)
          imagePullPolicy: IfNotPresent
          args: [--host=lock.pod-startup-lock, --duration=60s, --max-wait=8m$*]
          env:
            - {name: PSL_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
            - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
            - {name: PSL_HOLDER, value: \$(POD_NAMESPACE)/\$(POD_NAME)/\$(POD_UID)}
            - {name: PSL_READY, value: http:8080/}
          resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 50m, memory: 16Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
          terminationMessagePolicy: FallbackToLogsOnError
END
}
# The application, with arguments such as "--cpu=1".
application() {
    cat <<END
      containers:
        - name: application
          image: $(image e2e)
          imagePullPolicy: IfNotPresent
          args: [$1]
          startupProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, failureThreshold: ${2:-5}}
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
          resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 16Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
END
}
# The head of a workload: KIND NAME NODE [REPLICAS]; "" as NODE is any.
workload() {
    cat <<END
---
apiVersion: apps/v1
kind: $1
metadata: {name: $2}
spec:
  selector: {matchLabels: {app: $2}}
  ${4:+replicas: $4}
  template:
    metadata: {labels: {app: $2}}
    spec:
      ${3:+nodeSelector: {kubernetes.io/hostname: $3\}}
END
}
# shellcheck disable=SC2119
# herd NAMESPACE NAME NODE REPLICAS [SECONDS]: pods that each burn SECONDS (1) of a processor,
# behind the gate.
herd() { { workload Deployment "$2" "$3" "$4" && gate && application "--cpu=${5:-1}"; } | kube --namespace "$1" apply -f - >/dev/null; }
# NAME RESTARTS READY STARTED of each pod's application.
pods_of() {
    kube --namespace "$1" get pods --selector "app=$2" --output go-template='{{range .items}}{{.metadata.name}}{{range .status.containerStatuses}} {{.restartCount}} {{.ready}} {{with .state.running}}{{.startedAt}}{{else}}-{{end}}{{end}}{{"\n"}}{{end}}'
}
ready_pods() { pods_of "$1" "$2" | grep -c ' true ' || true; }
at_least_ready() { [ "$(ready_pods "$1" "$2")" -ge "$3" ]; }
restarts() { pods_of "$1" "$2" | awk '{sum += $2} END {print sum + 0}'; }
