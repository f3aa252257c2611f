#!/bin/sh
# Scenario: the init container that the API server injects. Read by scenario.sh.

in_space() { kube --namespace psl-e2e-injection "$@"; }
# The metadata of a pod that asks for the gate, with an app and annotations in YAML's flow style.
asking() { echo "metadata: {name: $1, labels: {app: $1, pod-startup-lock/inject: \"true\"}, annotations: {${2:-}}}"; }
# pod NAME ANNOTATIONS [LINES OF THE SPEC]
pod() {
    printf -- '---\napiVersion: v1\nkind: Pod\n'
    asking "$1" "$2"
    echo 'spec:'
    [ -z "${3:-}" ] || printf '%s\n' "$3"
    application --port=8080
}
small='securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}'
own_containers() {
    cat <<END
      initContainers:
        - {name: first, image: $(image e2e), args: [--port=0], $small}
        - {name: sidecar, image: $(image e2e), args: [--port=9090], restartPolicy: Always, $small}
END
}

workloads() {
    for kind in Deployment StatefulSet DaemonSet; do
        name=$(printf %s "$kind" | tr '[:upper:]' '[:lower:]')
        workload "$kind" "$name" '' | sed 's/^    metadata: .*/    '"$(asking "$name" | sed 's/name: [a-z]*, //; s/[\/&]/\\&/g')"'/'
        application --port=8080
    done
    printf -- '---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec:\n template:\n    '
    asking job
    printf '    spec:\n      restartPolicy: Never\n'
    application --port=0 600
    printf -- '---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {name: cronjob}\nspec:\n schedule: "0 0 31 2 *"\n jobTemplate:\n  spec:\n   template:\n    '
    asking cronjob
    printf '    spec:\n      restartPolicy: Never\n'
    application --port=0 600
    pod own '' "$(own_containers)"
    pod good 'pod-startup-lock/duration: 20s, pod-startup-lock/ready: "http:8080/"'
    pod bad 'pod-startup-lock/duration: soon, pod-startup-lock/ready: "ftp:8080"'
}

# The names of the init containers of the first pod of an app.
gates_of() { in_space get pods --selector "app=$1" --output 'jsonpath={.items[0].spec.initContainers[*].name}'; }
value_of() { in_space get pods --selector "app=$1" --output "jsonpath={.items[0].spec.initContainers[?(@.name=='pod-startup-lock')].env[?(@.name=='$2')].value}"; }
# Prints the same for the pod on stdin, with a server-side dry run in a namespace.
would_get() { kube --namespace "$1" create --dry-run=server --filename - --output 'jsonpath={.spec.initContainers[*].name} {.spec.initContainers[*].env[?(@.name=="PSL_LOCK_HOST")].value}'; }
is() { [ "$2" = "$3" ] || fail "$1: '$2', expected '$3'"; }

scenario_injection() {
    kube api-resources --no-headers | grep -q ' MutatingAdmissionPolicy$' || skip "the cluster does not serve MutatingAdmissionPolicy"
    standing_lock
    apply --with-health --overlay injection
    space psl-e2e-injection baseline
    # A policy takes effect a moment after it is created.
    eventually 30 "the policy adds the gate" policy_in_force
    workloads | in_space apply --filename - >&2
    in_space create job by-hand --from cronjob/cronjob >&2
    injected_pods_start
    for app in deployment statefulset job cronjob good bad; do is "init containers of $app" "$(gates_of "$app")" pod-startup-lock; done
    is "init containers of a pod with its own" "$(gates_of own)" 'first sidecar pod-startup-lock'
    is "init containers of a DaemonSet" "$(gates_of daemonset)" ''
    is "duration: 20s" "$(value_of good PSL_LOCK_DURATION)" 20s
    is "ready: http:8080/" "$(value_of good PSL_READY)" http:8080/
    is "duration: soon" "$(value_of bad PSL_LOCK_DURATION)" ''
    is "ready: ftp:8080" "$(value_of bad PSL_READY)" ''
    left_alone
    forget psl-e2e-injection true
    kube delete mutatingadmissionpolicies,mutatingadmissionpolicybindings pod-startup-lock >&2
}
policy_in_force() { pod probe '' | would_get psl-e2e-injection | grep pod-startup-lock; }

injected_pods_start() {
    rolled_out psl-e2e-injection deployment/deployment 60
    rolled_out psl-e2e-injection statefulset/statefulset 30
    rolled_out psl-e2e-injection daemonset/daemonset 30
    in_space wait --for=condition=Complete job/job job/by-hand --timeout 60s >&2 || fail "the Jobs have not ended within 60 s"
    in_space wait --for=condition=Ready pod/own pod/good pod/bad --timeout 60s >&2 || fail "the pods with containers or annotations of their own are not ready within 60 s"
}

# Pods that stay unchanged: by opt-out, namespace, own gate, operating system or network.
left_alone() {
    is "opted out" "$(pod out 'pod-startup-lock/inject: "false"' | would_get psl-e2e-injection)" ' '
    is "without the label" "$(pod out '' | sed 's/, pod-startup-lock\/inject: "true"//' | would_get psl-e2e-injection)" ' '
    is "in kube-system" "$(pod psl-e2e '' | would_get kube-system)" ' '
    is "in the namespace of the lock" "$(pod psl-e2e '' | would_get pod-startup-lock)" ' '
    is "with a gate" "$(pod gated '' "$(gate)" | would_get psl-e2e-injection)" 'pod-startup-lock '
    is "for Windows" "$(pod windows '' '      nodeSelector: {kubernetes.io/os: windows}' | would_get psl-e2e-injection)" ' '
    # Without a name server of the cluster it gets no gate, or the address of its node.
    kube label namespace psl-e2e-injection pod-security.kubernetes.io/enforce=privileged --overwrite >&2
    host_network=$(pod host '' '      hostNetwork: true' | would_get psl-e2e-injection)
    case $host_network in *lock.*) fail "on the host network with ClusterFirst: $host_network" ;; esac
}
