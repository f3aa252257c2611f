#!/bin/sh
# Installs Pod Startup Lock in a cluster, checks it, and removes it.
#
#   scripts/deploy.sh render  [OPTION...]   print the manifests that apply would apply
#   scripts/deploy.sh apply   [OPTION...]   apply them, wait for the pods, delete objects of other
#                                           overlays, and read the state of up to three locks
#   scripts/deploy.sh status  [OPTION...]   list nodes without a ready lock or without an image;
#                                           exit code 1 if any
#   scripts/deploy.sh delete  [OPTION...]   delete all objects of all overlays and entry points;
#                                           waiting pods then start
#   scripts/deploy.sh example [OPTION...]   apply an application with the init container
#   scripts/deploy.sh load    [OPTION...]   load the archives of scripts/image.sh on nodes
#   scripts/deploy.sh push    [OPTION...]   push the archives to a registry
#
# Manifests (render, apply, example; delete takes --namespace):
#   --overlay NAME        how pods find the lock: service (default), host-port, host-network;
#                         additions: health, air-gapped, injection, monitoring, network-policies;
#                         may be repeated
#   --with-health         the same as --overlay health
#   --namespace NS        default pod-startup-lock; a new namespace, or one with the label
#                         app.kubernetes.io/part-of: pod-startup-lock
#   --locks N             slots of each node: 1 to 4096, a share of its cores such as 50%, auto, or
#                         auto:MAX
#   --timeout D           lease duration if the pod sets none, such as 10s; at most 10m
#   --never-pull          set imagePullPolicy Never: a node without the image fails at once
#   --into NS             namespace of the example's Deployment (default: default)
# Images (all commands but status and delete):
#   --registry R          registry and path, such as registry.example:5000/tools (default:
#                         localhost, the name in the archives, which is no registry)
#   --tag TAG             tag of the images (default: the version in Cargo.toml)
#   --arch ARCH           amd64 or arm64: the archives for load and push (default: this machine's,
#                         or each node's with --nodes; skopeo pushes both after image.sh --index)
# Target:
#   --with TOOL           load: docker, ctr, k3s, kind, minikube; push: skopeo, crane, podman,
#                         docker (default: the first one found)
#   --cluster NAME        cluster of kind, or profile of minikube
#   --nodes "A B"         load on these nodes over ssh; each node tells its architecture, and its
#                         container runtime unless --with names it
#   --ssh "COMMAND"       replaces "ssh", such as "ssh -l admin"
#   --sudo                run docker, ctr and k3s with sudo
#   --kubectl "COMMAND"   replaces "kubectl", such as "k3s kubectl"
#   --program NAME        load and push only this image: lock, init, health, or e2e (for
#                         scripts/e2e.sh)
# --wait SECONDS          how long apply and example wait for pods, and delete for deletions
#                         (default 180); a request without an answer ends after 30 s
# --dry-run               print the actions and change nothing
#
# Each command can be repeated. An error is one line, and most errors come before any change. Paths
# in options and in the environment are relative to the caller's directory. delete keeps a namespace
# that existed before apply, or that holds other objects. Log in to registries with the tools' own
# login; this script accepts no user and no password.
# Exit codes: 0 done, 1 failed, 2 bad arguments.
set -euf # No word of this script is a pattern for files.
# Ranges such as [a-z] mean ASCII letters in every locale.
export LC_ALL=C
# The script stays in the caller's directory, so that relative paths stay valid, also those in
# KUBECONFIG and DOCKER_CONFIG.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() { printf 'deploy.sh: %s\n' "$1" >&2; }
fail() {
    say "$1"
    exit "${2:-1}"
}
has() { command -v "$1" >/dev/null 2>&1; }

main() {
    command=${1:-}
    case $command in
    --help) usage && exit 0 ;;
    render | apply | status | delete | example | load | push) shift ;;
    *) fail "unknown command '$command'; commands: render, apply, status, delete, example, load, push, --help" 2 ;;
    esac
    [ -f "$root/deploy/kustomization.yaml" ] ||
        fail "$root/deploy does not exist: run the script from its checkout, not through a link"
    read_options "$@"
    # shellcheck source=scripts/deploy/manifests.sh
    . "$root/scripts/deploy/manifests.sh"
    # shellcheck source=scripts/deploy/objects.sh
    . "$root/scripts/deploy/objects.sh"
    # shellcheck source=scripts/deploy/images.sh
    . "$root/scripts/deploy/images.sh"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "do_$command"
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$root/scripts/deploy.sh"; }

# ---- options ----

read_options() {
    overlays='' way='' namespace=pod-startup-lock locks='' timeout='' never='' into=default
    registry=localhost tag='' programs='lock init health' arch='' tool='' cluster='' nodes=''
    ssh=ssh sudo='' kubectl=kubectl wait=180 dry=''
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
    while [ $# -gt 0 ]; do
        option=$1
        case $option in
        --help) usage && exit 0 ;;
        --with-health) overlays="$overlays health" && shift && continue ;;
        --never-pull) never=yes && shift && continue ;;
        --sudo) sudo=sudo && shift && continue ;;
        --dry-run) dry=yes && shift && continue ;;
        --*=*) value=${option#*=} option=${option%%=*} && shift ;;
        --*) [ $# -ge 2 ] || fail "$option needs a value" 2 && value=$2 && shift 2 ;;
        *) fail "unexpected argument '$option'; options begin with --" 2 ;;
        esac
        [ -n "$value" ] || fail "$option needs a value" 2
        # If a value is forgotten, the next option must not be taken for it, least of all --dry-run.
        case $value in -*) refuse "$option" "$value" "a value that does not begin with -" ;; esac
        take "$option" "$value"
    done
    tag=${tag:-$version} way=${way:-service} asked_arch=$arch
    case $(uname -m) in aarch64 | arm64) arch=${arch:-arm64} ;; *) arch=${arch:-amd64} ;; esac
}

take() {
    case $1 in
    --overlay) take_overlay "$2" ;;
    --namespace)
        accept "$1" "$2" "$a_namespace" "$namespace_form"
        case $2 in kube-system | kube-public | kube-node-lease | default)
            fail "--namespace: $2 belongs to Kubernetes; the lock needs a namespace of its own" 2
            ;;
        esac
        namespace=$2
        ;;
    --into) accept "$1" "$2" "$a_namespace" "$namespace_form" && into=$2 ;;
    --locks) take_locks "$2" ;;
    --timeout)
        is_lease_duration "$2" ||
            refuse "$1" "$2" "whole seconds or a duration such as 500ms, 1m30s; more than zero, up to 10m"
        timeout=$2
        ;;
    --registry)
        case $2 in *@*) fail "--registry: user and password are not accepted; log in with the tool that pushes" 2 ;; esac
        accept "$1" "$2" 'a host, a port and a path such as registry.example:5000/tools, in lower case' \
            '[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*'
        registry=$2
        ;;
    --tag)
        accept "$1" "$2" 'up to 128 letters, digits and _ . -, not beginning with . or -' \
            '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}'
        tag=$2
        ;;
    --arch) case $2 in amd64 | arm64) arch=$2 ;; *) refuse "$1" "$2" "amd64, arm64" ;; esac ;;
    --program)
        case $2 in lock | init | health | e2e) programs=$2 ;; *) refuse "$1" "$2" "lock, init, health, e2e" ;; esac
        ;;
    --with) tool=$2 ;;
    --cluster) accept "$1" "$2" 'letters, digits and . _ -' '[A-Za-z0-9._-]+' && cluster=$2 ;;
    --nodes)
        before=$nodes
        for node in $2; do
            case $node in -* | *[!A-Za-z0-9.:@_-]*) fail "--nodes: '$node' is not a node name" 2 ;; esac
            nodes="$nodes $node"
        done
        [ "$nodes" != "$before" ] || fail "--nodes: '$2' contains no node name" 2
        ;;
    --ssh) ssh=$2 ;;
    --kubectl) kubectl=$2 ;;
    --wait) accept "$1" "$2" 'whole seconds from 1' '[1-9][0-9]{0,5}' && wait=$2 ;;
    *) fail "unknown option '$1'; --help lists the options" 2 ;;
    esac
}

take_overlay() {
    case $1 in
    service | host-port | host-network)
        [ "${way:-$1}" = "$1" ] || fail "--overlay: $way and $1 exclude each other; choose one" 2
        way=$1
        ;;
    health | air-gapped | injection | monitoring | network-policies) overlays="$overlays $1" ;;
    *) refuse --overlay "$1" "service, host-port, host-network, health, air-gapped, injection, monitoring, network-policies" ;;
    esac
}

take_locks() {
    slots='1 to 4096, a share of the cores such as 50% (1% to 409600%), auto, or auto:MAX with MAX from 1 to 4096'
    accept --locks "$1" "$slots" '(auto:)?[1-9][0-9]{0,3}|[1-9][0-9]{0,5}%|auto'
    case $1 in auto) number=1 most=1 ;; *%) number=${1%\%} most=409600 ;; *) number=${1#auto:} most=4096 ;; esac
    [ "$number" -le $most ] || refuse --locks "$1" "$slots"
    locks=$1
}

a_namespace='a name of up to 63 lower-case letters, digits and -, with no - at its ends'
namespace_form='[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'

# refuse OPTION VALUE ACCEPTED
refuse() { fail "$1: '$2' is not accepted; accepted: $3" 2; }

# accept OPTION VALUE ACCEPTED REGEX: refuses the value unless the extended regular expression fits.
accept() {
    # grep would check each line of a value by itself.
    case $2 in *[[:space:]]*) ;; *) ! printf '%s\n' "$2" | grep -Eqx -- "$4" || return 0 ;; esac
    refuse "$1" "$2" "$3"
}

# True for a duration as lock reads it, from a nanosecond to lock's PSL_MAX_LOCK_DURATION.
is_lease_duration() {
    printf '%s\n' "$1" | awk '
        function no() { refused = 1; exit }
        NR > 1 { no() }
        /^[0-9]+$/ { nanos = $0 * 1e9; next }
        {
            split("ns us µs μs ms s m h", names)
            split("1 1e3 1e3 1e3 1e6 1e9 6e10 3.6e12", values)
            for (i in names) scale[names[i]] = values[i]
            for (rest = $0; ; ) {
                if (!match(rest, /^([0-9]+[.]?[0-9]*|[.][0-9]+)/)) no()
                number = substr(rest, 1, RLENGTH)
                rest = substr(rest, RLENGTH + 1)
                if (!match(rest, /^(ns|us|µs|μs|ms|s|m|h)/)) no()
                nanos += int(number * scale[substr(rest, 1, RLENGTH)])
                rest = substr(rest, RLENGTH + 1)
                if (rest == "") next
            }
        }
        END { exit refused || !(nanos >= 1 && nanos <= 600e9) }'
}

with_overlay() { case " $overlays " in *" $1 "*) return 0 ;; *) return 1 ;; esac }

# ---- the cluster ----

# A request without an answer ends after 30 s, the longest time that an admission webhook may take.
# kubectl repeats some requests, five times at most.
kube() {
    # shellcheck disable=SC2086 # a command of several words
    $kubectl --request-timeout=30s "$@"
}

# For a command that waits for the cluster.
kube_wait() { kube "$@" --timeout "${wait}s"; }

# try ERROR COMMAND...: runs a command; if it fails, ends with ERROR and the last line of stderr.
try() {
    error=$1
    shift
    "$@" 2>"$scratch/error" || fail "$error: $(tail -n 1 "$scratch/error")"
}

# need COMMAND OPTION EXAMPLE: ends the script unless the first word of the command exists.
need() { has "${1%% *}" || fail "command not found: ${1%% *}; install it, or name another with $2, such as \"$3\""; }
need_kubectl() { need "$kubectl" --kubectl 'k3s kubectl'; }

reachable() {
    need_kubectl
    try "cannot reach the cluster" kube get --raw /readyz >/dev/null
}

# True if the API server serves this kind under this group and version.
serves() {
    [ -f "$scratch/versions" ] || try "cannot list the API versions of the cluster" kube api-versions >"$scratch/versions"
    grep -qxF -- "$1" "$scratch/versions" || return 1
    try "cannot list the kinds of $1" kube get --raw "/apis/$1" >"$scratch/kinds"
    grep -q "\"kind\": *\"$2\"" "$scratch/kinds"
}

# Sets $served to the first version that serves the policies of the injection, if any.
find_served() {
    served=
    for version in v1 v1beta1 v1alpha1; do
        [ -n "$served" ] || ! serves "admissionregistration.k8s.io/$version" MutatingAdmissionPolicy || served=$version
    done
}

# Marks a namespace that delete removes. deploy/namespace has the annotation; apply omits it if the
# namespace existed before.
mark='pod-startup-lock/made-by'
there='' given=''

# Sets $there if the namespace exists, and $given if it existed before the lock. Ends the script if
# the namespace lacks the lock's label.
look_at_namespace() {
    try "cannot read namespace $namespace" kube get namespace "$namespace" --ignore-not-found --output "go-template={{range \$key, \$value := .metadata.labels}}{{\$key}}={{\$value}}{{\"\\n\"}}{{end}}{{range \$key, \$value := .metadata.annotations}}{{if eq \$key \"$mark\"}}{{\$key}}{{\"\\n\"}}{{end}}{{end}}there" >"$scratch/namespace"
    [ -s "$scratch/namespace" ] || return 0
    there=yes
    grep -qxF "$label" "$scratch/namespace" ||
        fail "namespace $namespace exists without the label $label, so it may have another owner; choose another with --namespace, or label it"
    grep -qxF "$mark" "$scratch/namespace" || given=yes
}

# of_another KIND NAME TEMPLATE: true if this object, which a cluster has only once, belongs to a
# lock in another namespace. The template prints the namespaces in the object. Sets $other.
of_another() {
    try "cannot read $1 $2" kube get "$1" "$2" --ignore-not-found --output "go-template=$3" >"$scratch/named"
    ! grep -qxF -- "$namespace" "$scratch/named" || return 1
    other=$(grep -vxF kube-system "$scratch/named" | head -n 1)
    [ -n "$other" ]
}

# ---- commands for the cluster ----

do_render() {
    render
    cat "$scratch/manifests.yaml"
}

do_apply() {
    if [ -n "$dry" ]; then
        do_render
        say "dry run: these manifests would be applied to $(kube config current-context 2>/dev/null || echo "the cluster of $kubectl")"
        return
    fi
    reachable
    look_at_namespace
    if with_overlay health && of_another clusterrolebinding pod-startup-lock-health '{{range .subjects}}{{.namespace}}{{"\n"}}{{end}}'; then
        fail "the ClusterRoleBinding of health belongs to the lock in namespace $other; delete that lock first, or omit health"
    fi
    render
    if with_overlay monitoring && ! serves monitoring.coreos.com/v1 PodMonitor; then
        fail "the cluster does not serve PodMonitor; install the Prometheus operator, or omit --overlay monitoring"
    fi
    # kustomize writes the namespace first.
    if [ -n "$given" ]; then
        sed '/^---$/,$d' "$scratch/manifests.yaml" >"$scratch/namespace.yaml"
        sed '1,/^---$/d' "$scratch/manifests.yaml" >"$scratch/within.yaml"
        mv "$scratch/within.yaml" "$scratch/manifests.yaml"
    fi
    # The API server validates objects before any change, but only if their namespace exists.
    if [ -n "$there" ]; then
        kube apply --dry-run=server -f "$scratch/manifests.yaml" >/dev/null 2>"$scratch/error" ||
            fail "the API server rejects the manifests: $(grep -v '^Warning' "$scratch/error" | head -n 1)"
    fi
    # kubectl apply would remove labels that the owner of the namespace has applied.
    [ -z "$given" ] || kube patch namespace "$namespace" --type merge --patch-file "$scratch/namespace.yaml" ||
        fail "kubectl patch failed, see above; fix the cause and run apply again"
    kube apply -f "$scratch/manifests.yaml" || fail "kubectl apply failed, see above; fix the cause and run apply again"
    rolled_out lock
    ! with_overlay health || rolled_out health
    prune
    check_locks
}

rolled_out() {
    kube_wait --namespace "$namespace" rollout status "daemonset/$1" && return
    explain "$1"
    fail "DaemonSet $1 is not ready on each node after $wait s; list the nodes with: scripts/deploy.sh status"
}

# Prints NODE POD READY REASON IMAGE MESSAGE for each pod of a program; - stands for a missing
# field. The message is quoted, because it may have several lines. For a container that crashes, the
# message is that of its last end.
pods() {
    # shellcheck disable=SC2016 # the template's variables
    kube --namespace "$namespace" get pods --selector "$label,app.kubernetes.io/name=$1" --output go-template='{{range .items}}{{$image := "-"}}{{with .spec.containers}}{{with index . 0}}{{$image = or .image "-"}}{{end}}{{end}}{{$ready := "false"}}{{$reason := "-"}}{{$message := "-"}}{{with .status.containerStatuses}}{{with index . 0}}{{if .ready}}{{$ready = "true"}}{{end}}{{$last := .lastState}}{{with .state.waiting}}{{$reason = or .reason "-"}}{{$message = or .message "-"}}{{if eq $reason "CrashLoopBackOff"}}{{with $last}}{{with .terminated}}{{$message = or .message $message}}{{end}}{{end}}{{end}}{{end}}{{with .state.terminated}}{{$reason = or .reason "-"}}{{$message = or .message "-"}}{{end}}{{end}}{{else}}{{with .status.conditions}}{{with index . 0}}{{$reason = or .reason "-"}}{{$message = or .message "-"}}{{end}}{{end}}{{end}}{{or .spec.nodeName "-"}} {{.metadata.name}} {{$ready}} {{$reason}} {{$image}} {{printf "%q" $message}}{{"\n"}}{{end}}'
}

# Says why pods of a program are not ready.
explain() {
    try "cannot list pods" pods "$1" >"$scratch/explained"
    while read -r node pod ready reason image message; do
        [ "$ready" != true ] || continue
        case $reason in
        ErrImageNeverPull | ErrImagePull | ImagePullBackOff | InvalidImageName)
            say "$node: image $image is missing ($reason); run: scripts/deploy.sh load --nodes $node, or use push and --registry" ;;
        -) say "$node: pod $pod is running but not ready; see: $kubectl --namespace $namespace logs $pod" ;;
        *) say "$node: pod $pod: $reason: $message" ;;
        esac
    done <"$scratch/explained"
}

# Reads the state of up to three locks through the API server. The rollout has succeeded, so a
# request that this user may not send, or that does not reach the pods, is only a warning.
check_locks() {
    if ! pods lock >"$scratch/locks" 2>"$scratch/error"; then
        say "warning: no lock was checked, because listing the pods failed: $(tail -n 1 "$scratch/error")"
        return
    fi
    awk '$3 == "true" && count++ < 3 {print $1, $2}' "$scratch/locks" >"$scratch/sample"
    while read -r node pod; do
        # The standard input of the loop is the list.
        if ! state=$(kube get --raw "/api/v1/namespaces/$namespace/pods/$pod:8888/proxy/state" </dev/null 2>"$scratch/error"); then
            say "warning: $node: pod $pod is ready, but reading its /state failed: $(tail -n 1 "$scratch/error")"
            continue
        fi
        case $state in
        *'"version":'*) say "$node: the lock answers: $state" ;;
        *) fail "$node: the server at $pod:8888 is not a lock: $(echo "$state" | head -c 200)" ;;
        esac
    done <"$scratch/sample"
    [ -s "$scratch/sample" ] || say "no node runs a lock; does the cluster have a Linux node?"
}

do_delete() {
    if [ -n "$dry" ]; then
        say "dry run, without a request to the cluster: objects with the label $label would be deleted:"
        echo "in namespace $namespace: DaemonSets, Services, ConfigMaps, ServiceAccounts, ResourceQuotas, NetworkPolicies, PodMonitors, PrometheusRules"
        echo "in any namespace, if they belong to the lock in $namespace: Roles and RoleBindings"
        echo "in the cluster, if they belong to the lock in $namespace: ClusterRoles and ClusterRoleBindings, MutatingAdmissionPolicies and their bindings"
        echo "namespace $namespace, if it did not exist before the lock and holds no other workload, Service or volume claim"
        return
    fi
    reachable
    look_at_namespace
    list_ours || fail "cannot list the objects of the lock: $(head -n 1 "$scratch/error")"
    while read -r kind name other; do say "$kind $name is kept, because it belongs to the lock in namespace $other"; done <"$scratch/others"
    remove "$scratch/ours" || fail_left
    [ -z "$there" ] || delete_namespace
}

delete_namespace() {
    if [ -n "$given" ]; then
        say "namespace $namespace is kept, because it existed before the lock; to delete it: $kubectl delete namespace $namespace"
        return
    fi
    try "namespace $namespace is kept, because listing its other objects failed" \
        kube get services,pods,persistentvolumeclaims,deployments.apps,statefulsets.apps,daemonsets.apps,jobs.batch,cronjobs.batch \
        --namespace "$namespace" --selector "${label%%=*}!=${label#*=}" --output name >"$scratch/others"
    if [ -s "$scratch/others" ]; then
        say "namespace $namespace is kept, because it also holds $(awk '{printf "%s%s", (NR > 1 ? ", " : ""), $0}' "$scratch/others")"
        return
    fi
    kube_wait delete namespace "$namespace" --ignore-not-found || fail_left
}

fail_left() { fail "objects remain after $wait s, see above; a node that does not answer or a finalizer may keep them: run delete again, or with a longer --wait"; }

do_example() {
    render_example
    if [ -n "$dry" ]; then
        cat "$scratch/example-here.yaml"
        return
    fi
    reachable
    kube get namespace "$into" >/dev/null 2>&1 || fail "namespace $into does not exist; create it, or choose another with --into"
    kube --namespace "$into" apply -f "$scratch/example-here.yaml" || fail "kubectl apply failed, see above"
    logs="$kubectl --namespace $into logs --selector app.kubernetes.io/name=startup-example --container pod-startup-lock"
    kube_wait --namespace "$into" rollout status deployment/startup-example || fail "the example is not ready after $wait s; see: $logs"
    say "the example runs; the log of its init containers: $logs"
    say "to remove it: $kubectl --namespace $into delete deployment startup-example"
}

# ---- status ----

# True if the node reports an image of this program.
reports() { case " $names " in *"/psl-$1:"* | *"/psl-$1@"*) ;; *) return 1 ;; esac }

# Adds the images that the node lacks to $wrong. A node reports new images up to a minute late:
# while its list lacks the image of the lock that is ready there, the list is too old to judge
# psl-init.
judge_images() {
    if [ "$1" = true ] && ! reports lock; then
        reports init || say "$node: psl-init unknown: the node's list of images is older than its lock; repeat status in a minute"
        return
    fi
    for program in lock init; do reports "$program" || wrong="${wrong:+$wrong, }no image psl-$program"; done
}

do_status() {
    reachable
    try "cannot list pods" pods lock >"$scratch/locks"
    # The nodes of the DaemonSet in deploy/lock/daemonset.yaml.
    try "cannot list nodes" kube get nodes --selector 'kubernetes.io/os=linux,eks.amazonaws.com/compute-type!=fargate,type!=virtual-kubelet,node.kubernetes.io/instance-type!=eklet' --output go-template='{{range .items}}{{.metadata.name}} {{with .status.images}}{{len .}}{{range .}}{{range .names}} {{.}}{{end}}{{end}}{{else}}0{{end}}{{"\n"}}{{end}}' >"$scratch/nodes"
    [ -s "$scratch/nodes" ] || fail "the cluster has no Linux node"
    found=0
    # The kubelet pulls a missing image if it comes from a registry.
    loaded=$(awk '$5 !~ /^localhost\// {fetched = 1} END {if (NR == 0 || !fetched) print "yes"}' "$scratch/locks")
    while read -r node count names; do
        wrong=
        # One ready lock is enough, even if another pod is starting or ending there.
        line=$(node=$node awk '$1 "" == ENVIRON["node"] "" && (line == "" || $3 == "true") {line = $0} END {print line}' "$scratch/locks")
        # shellcheck disable=SC2086 # NODE POD READY REASON IMAGE MESSAGE
        set -- $line
        case ${3:-none} in
        true) ;;
        none) wrong="no lock" ;;
        *) wrong="lock not ready (${4:--})" ;;
        esac
        # A node reports only its 50 largest images, and these images are small.
        [ -z "$loaded" ] || [ "$count" -ge 50 ] || judge_images "${3:-none}"
        [ -z "$wrong" ] || { echo "$node: $wrong" && found=$((found + 1)); }
    done <"$scratch/nodes"
    total=$(($(wc -l <"$scratch/nodes")))
    explain lock
    [ "$found" -eq 0 ] || fail "$found of $total nodes lack a ready lock or an image"
    echo "all $total nodes have a ready lock, and the images as far as they report them"
}

main "$@"
