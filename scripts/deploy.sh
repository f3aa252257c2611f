#!/bin/sh
# Brings Pod Startup Lock to a cluster, and says how it fares there.
#
#   scripts/deploy.sh render  [OPTION...]   prints the manifests that apply would apply
#   scripts/deploy.sh apply   [OPTION...]   applies them, waits, removes objects of other overlays,
#                                           and asks some of the locks
#   scripts/deploy.sh status  [OPTION...]   which nodes have no lock, or no image; exit code 1 if any
#   scripts/deploy.sh delete  [OPTION...]   deletes all objects of all overlays and entry points;
#                                           waiting pods then start
#   scripts/deploy.sh example [OPTION...]   applies an application with the init container
#   scripts/deploy.sh load    [OPTION...]   gives the archives of scripts/image.sh to nodes
#   scripts/deploy.sh push    [OPTION...]   gives them to a registry
#
# What is applied (render, apply, example; delete takes --namespace):
#   --overlay NAME        service (default), host-port, host-network: how pods find the lock;
#                         health, air-gapped, injection, monitoring, network-policies: what comes
#                         with it. May be given several times
#   --with-health         the same as --overlay health
#   --namespace NS        in place of pod-startup-lock: a new one, or one with the label
#                         app.kubernetes.io/part-of: pod-startup-lock
#   --locks N             slots of each node: 1 to 4096, a share of its cores such as 50%, auto or auto:MAX
#   --timeout D           how long a slot is held where the pod does not say, such as 10s; up to 10m
#   --never-pull          sets imagePullPolicy Never: a node without the image fails at once
#   --into NS             where example puts its Deployment (default: default)
# Images (all but status, delete):
#   --registry R          their registry and path, such as registry.example:5000/tools (default:
#                         localhost, the name in the archives, which no registry answers for)
#   --tag TAG             their tag (default: the version in Cargo.toml)
#   --arch ARCH           amd64 or arm64: which archives push takes, and load where it cannot ask
#                         (default: this machine's; push by skopeo: both, where image.sh --index joined them)
# Where to:
#   --with TOOL           load: docker, ctr, k3s, kind, minikube; push: skopeo, crane, podman, docker.
#                         Without it whichever one of them is found
#   --cluster NAME        kind's cluster or minikube's profile
#   --nodes "A B"         load: over ssh to these; each is asked for its architecture, and for its
#                         runtime where --with does not name it
#   --ssh "COMMAND"       in place of "ssh", such as "ssh -l admin"
#   --sudo                runs docker, ctr and k3s through sudo
#   --kubectl "COMMAND"   in place of "kubectl", such as "k3s kubectl"
#   --program NAME        load, push: this image alone: lock, init, health, or e2e (of scripts/e2e.sh)
# --wait SECONDS          how long apply and example wait for pods, and delete for deletions
#                         (default 180); a request without an answer ends after 30 s
# --dry-run               says what would be done, and changes nothing
#
# Every step can be repeated. A mistake ends it with one line before anything is changed. Paths in
# options and in the environment are relative to the caller's directory. delete keeps a namespace that
# existed before apply, or that holds other objects. Registries are logged in to with the tools' own
# login; user and password are not accepted here.
# Exit codes: 0 done, 1 failed, 2 bad arguments.
set -euf # No word of this script is a pattern for files.
# Letters are those of ASCII, whoever runs this.
export LC_ALL=C
# The script stays in the caller's directory, so that relative paths, also in KUBECONFIG or DOCKER_CONFIG, stay valid.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

fail() {
    say "$1"
    exit "${2:-1}"
}
# As it is: echo would make lines of what is quoted.
say() { printf 'deploy.sh: %s\n' "$1" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

main() {
    command=${1:-}
    case $command in
    --help) usage && exit 0 ;;
    render | apply | status | delete | example | load | push) shift ;;
    *) fail "no command '$command'; there are render, apply, status, delete, example, load, push, --help" 2 ;;
    esac
    [ -f "$root/deploy/kustomization.yaml" ] || fail "the directory $root/deploy is missing: call the script in its checkout, not by a link"
    read_options "$@"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "do_$command"
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$root/scripts/deploy.sh"; }

# ---- options ----

read_options() {
    overlays='' way='' namespace=pod-startup-lock locks='' timeout='' never='' into=default registry=localhost tag=''
    programs='lock init health' arch='' tool='' cluster='' nodes='' ssh=ssh sudo='' kubectl=kubectl wait=180 dry=''
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
        *) fail "'$option' is not accepted here; options begin with --" 2 ;;
        esac
        [ -n "$value" ] || fail "$option needs a value" 2
        # The next option in the place of a value that was forgotten must not be lost, --dry-run least of all.
        case $value in -*) fail "$option: '$value' is not accepted: no value begins with -" 2 ;; esac
        take "$option" "$value"
    done
    tag=${tag:-$version} way=${way:-service} asked_arch=$arch
    case $(uname -m) in aarch64 | arm64) arch=${arch:-arm64} ;; *) arch=${arch:-amd64} ;; esac
}

take() {
    case $1 in
    --overlay) take_overlay "$2" ;;
    --namespace)
        accepted "$1" "$2" "$a_namespace" "$namespace_form"
        case $2 in kube-system | kube-public | kube-node-lease | default) fail "--namespace: $2 is the cluster's own; the lock has one for itself" 2 ;; esac
        namespace=$2
        ;;
    --into) accepted "$1" "$2" "$a_namespace" "$namespace_form" && into=$2 ;;
    --locks)
        slots='1 to 4096, a share of the cores such as 50% (1% to 409600%), auto, or auto:MAX with MAX from 1 to 4096'
        accepted "$1" "$2" "$slots" '(auto:)?[1-9][0-9]{0,3}|[1-9][0-9]{0,5}%|auto'
        case $2 in auto) number=1 most=1 ;; *%) number=${2%\%} most=409600 ;; *) number=${2#auto:} most=4096 ;; esac
        [ "$number" -le $most ] || fail "--locks: '$2' is not accepted; accepted: $slots" 2
        locks=$2
        ;;
    --timeout)
        lasts "$2" || fail "--timeout: '$2' is not accepted; accepted: whole seconds or a duration such as 500ms, 1m30s; more than zero, up to 10m" 2
        timeout=$2
        ;;
    --registry)
        case $2 in *@*) fail "--registry: user and password are not accepted; log in with the tool that pushes" 2 ;; esac
        accepted "$1" "$2" 'a host, a port and a path such as registry.example:5000/tools, in lower case' \
            '[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*'
        registry=$2
        ;;
    --tag) accepted "$1" "$2" 'up to 128 letters, digits and _ . -, the first of them no . or -' '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}' && tag=$2 ;;
    --arch) case $2 in amd64 | arm64) arch=$2 ;; *) fail "--arch: '$2' is not accepted; accepted: amd64, arm64" 2 ;; esac ;;
    --program) case $2 in lock | init | health | e2e) programs=$2 ;; *) fail "--program: '$2' is not accepted; accepted: lock, init, health, e2e" 2 ;; esac ;;
    --with) tool=$2 ;;
    --cluster) accepted "$1" "$2" 'letters, digits and . _ -' '[A-Za-z0-9._-]+' && cluster=$2 ;;
    --nodes)
        names=0
        for node in $2; do
            case $node in -* | *[!A-Za-z0-9.:@_-]*) fail "--nodes: '$node' is no name of a node" 2 ;; esac
            names=$((names + 1))
        done
        [ "$names" -gt 0 ] || fail "--nodes: '$2' names no node" 2
        nodes="$nodes $2"
        ;;
    --ssh) ssh=$2 ;;
    --kubectl) kubectl=$2 ;;
    --wait) accepted "$1" "$2" 'whole seconds from 1' '[1-9][0-9]{0,5}' && wait=$2 ;;
    *) fail "no option '$1'; --help lists them" 2 ;;
    esac
}

take_overlay() {
    case $1 in
    service | host-port | host-network)
        [ "${way:-$1}" = "$1" ] || fail "--overlay: $way and $1 are two ways to the same lock; choose one" 2
        way=$1
        ;;
    health | air-gapped | injection | monitoring | network-policies) overlays="$overlays $1" ;;
    *) fail "--overlay: '$1' is not accepted; accepted: service, host-port, host-network, health, air-gapped, injection, monitoring, network-policies" 2 ;;
    esac
}

a_namespace='a name of up to 63 lower-case letters, digits and -, with no - at its ends'
namespace_form='[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'

# Refuses a value of this option, with what is accepted, unless the extended regular expression fits all of it.
accepted() {
    # A second line would be looked at for itself.
    case $2 in *[[:space:]]*) ;; *) ! printf '%s\n' "$2" | grep -Eqx -- "$4" || return 0 ;; esac
    fail "$1: '$2' is not accepted; accepted: $3" 2
}

# Whether this is a duration as the lock reads it, of at least a nanosecond and at most its PSL_MAX_LOCK_DURATION.
lasts() {
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

# kubectl, or the command given in its place. A request that the API server takes and does not answer ends after 30 s, the
# longest time that an admission webhook may take; kubectl repeats some requests, five times at most.
kube() {
    # shellcheck disable=SC2086 # a command of several words
    $kubectl --request-timeout=30s "$@"
}

# The same for a command that waits for the cluster.
kube_wait() { kube "$@" --timeout "${wait}s"; }

# Ends it unless the first word of an option's value is a command.
need() { has "${1%% *}" || fail "${1%% *} is missing; $2 names another, such as \"$3\""; }
need_kubectl() { need "$kubectl" --kubectl 'k3s kubectl'; }

# ---- manifests ----

images() {
    echo 'images:'
    for program in lock init health; do
        echo "  - {name: localhost/psl-$program, newName: \"$registry/psl-$program\", newTag: \"$tag\"}"
    done
}

# Renders a kustomization, which comes on stdin, in a copy of deploy/, where it lies beside the components that it names.
kustomize() {
    mkdir "$scratch/deploy/$1"
    cat >"$scratch/deploy/$1/kustomization.yaml"
    # shellcheck disable=SC2086
    $kubectl kustomize "$scratch/deploy/$1" >"$scratch/$1.yaml" 2>"$scratch/error" || fail "$kubectl cannot render the manifests (it has to be 1.21 or newer): $(head -n 1 "$scratch/error")"
}

# Leaves all manifests in $scratch/manifests.yaml; with `given` set without the mark of a namespace that goes with the lock.
# Names are quoted: YAML reads null, true and 123 as something else.
render() {
    need_kubectl
    cp -R "$root/deploy" "$scratch/deploy"
    {
        printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: "%s"\n' "$namespace"
        printf 'resources: [../namespace, ../lock]\ncomponents:\n  - ../%s\n' "$way"
        # Those that look at the images come after them; the injection is rendered below.
        for overlay in health monitoring network-policies; do ! with_overlay "$overlay" || echo "  - ../$overlay"; done
        echo '  - ../images'
        ! with_overlay air-gapped || echo '  - ../air-gapped'
        images
        if [ -n "$locks$timeout" ]; then
            printf 'configMapGenerator:\n  - name: lock\n    namespace: pod-startup-lock\n    behavior: merge\n    literals:\n'
            [ -z "$locks" ] || echo "      - PSL_PARALLEL_LOCKS=$locks"
            [ -z "$timeout" ] || echo "      - PSL_LOCK_DURATION=$timeout"
        fi
        echo 'patches:'
        if [ -n "$given" ]; then
            printf '  - target: {kind: Namespace}\n    patch: |-\n      - {op: remove, path: /metadata/annotations/%s}\n' "$(echo "$mark" | sed 's:/:~1:')"
        fi
        if [ -n "$never" ]; then
            printf '  - target: {group: apps, kind: DaemonSet}\n    patch: |-\n'
            printf '      - {op: replace, path: /spec/template/spec/containers/0/imagePullPolicy, value: Never}\n'
        fi
    } | kustomize everything
    # kustomize forgets the quotes at the account that a role is given to.
    sed "/^subjects:/,/^---/s/^  namespace: $namespace\$/  namespace: \"$namespace\"/" "$scratch/everything.yaml" >"$scratch/manifests.yaml"
    ! with_overlay injection || render_injection
}

# For itself, because kustomize takes kinds that it does not know for ones that have a namespace.
render_injection() {
    host="'lock.$namespace'"
    [ "$way" = service ] || host="''"
    pull="'IfNotPresent'"
    [ -z "$never" ] || pull="'Never'"
    kustomize only-injection <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
components: [../injection]
patches:
  - target: {kind: MutatingAdmissionPolicy}
    patch: |-
      - {op: test, path: /spec/variables/0/name, value: image}
      - {op: replace, path: /spec/variables/0/expression, value: "'$registry/psl-init:$tag'"}
      - {op: test, path: /spec/variables/1/name, value: lockHost}
      - {op: replace, path: /spec/variables/1/expression, value: "$host"}
      - {op: test, path: /spec/variables/2/name, value: pullPolicy}
      - {op: replace, path: /spec/variables/2/expression, value: "$pull"}
  - target: {kind: MutatingAdmissionPolicyBinding}
    patch: |-
      - {op: replace, path: /spec/matchResources/namespaceSelector/matchExpressions/0/values/1, value: "$namespace"}
END
    served=v1
    if [ "$command" != render ] && [ -z "$dry" ]; then
        find_served
        [ -n "$served" ] || fail "the cluster has no MutatingAdmissionPolicy: it comes with Kubernetes 1.36, or 1.32 with a feature gate (deploy/injection)"
        if of_another mutatingadmissionpolicybinding pod-startup-lock '{{with .spec.matchResources.namespaceSelector}}{{range .matchExpressions}}{{range .values}}{{.}}{{"\n"}}{{end}}{{end}}{{end}}'; then
            fail "the cluster's injection is of the lock in the namespace $other, and there is one: delete that lock first, or leave --overlay injection out"
        fi
    fi
    { echo ---; sed "s:admissionregistration.k8s.io/v1$:admissionregistration.k8s.io/$served:" "$scratch/only-injection.yaml"; } >>"$scratch/manifests.yaml"
}

# Leaves in $served the first version in which the API server has the policies of the injection.
find_served() {
    served=
    for version in v1 v1beta1 v1alpha1; do
        [ -n "$served" ] || ! serves "admissionregistration.k8s.io/$version" MutatingAdmissionPolicy || served=$version
    done
}

# Whether the API server serves this kind under this group and version. That it cannot be asked is no answer.
serves() {
    [ -f "$scratch/versions" ] || kube api-versions >"$scratch/versions" 2>"$scratch/error" || fail "the cluster does not say what it serves: $(tail -n 1 "$scratch/error")"
    grep -qxF -- "$1" "$scratch/versions" || return 1
    kube get --raw "/apis/$1" >"$scratch/kinds" 2>"$scratch/error" || fail "the cluster does not say what is in $1: $(tail -n 1 "$scratch/error")"
    grep -q "\"kind\": *\"$2\"" "$scratch/kinds"
}

do_render() {
    render
    cat "$scratch/manifests.yaml"
}

# ---- apply, delete, example ----

# Looks whose the namespace is, and ends it where it is somebody else's. Leaves in $there whether there is one, and in
# $given whether it was there before the lock.
look_at_namespace() {
    kube get namespace "$namespace" --ignore-not-found --output "go-template={{range \$key, \$value := .metadata.labels}}{{\$key}}={{\$value}}{{\"\\n\"}}{{end}}{{range \$key, \$value := .metadata.annotations}}{{if eq \$key \"$mark\"}}{{\$key}}{{\"\\n\"}}{{end}}{{end}}there" \
        >"$scratch/namespace" 2>"$scratch/error" || fail "the cluster does not say whether there is a namespace $namespace: $(tail -n 1 "$scratch/error")"
    [ -s "$scratch/namespace" ] || return 0
    there=yes
    grep -qxF 'app.kubernetes.io/part-of=pod-startup-lock' "$scratch/namespace" ||
        fail "the namespace $namespace is somebody else's: it has no label app.kubernetes.io/part-of=pod-startup-lock; name another, or label it"
    grep -qxF "$mark" "$scratch/namespace" || given=yes
}

# Whether an object that a cluster has once, however many namespaces have a lock, is of another one: those that it names,
# which the template prints, are not this one. Leaves the other in $other.
of_another() {
    kube get "$1" "$2" --ignore-not-found --output "go-template=$3" >"$scratch/named" 2>"$scratch/error" || fail "the cluster does not say whose $1 $2 is: $(tail -n 1 "$scratch/error")"
    ! grep -qxF -- "$namespace" "$scratch/named" || return 1
    other=$(grep -vxF kube-system "$scratch/named" | head -n 1)
    [ -n "$other" ]
}
health_of_another() { of_another clusterrolebinding pod-startup-lock-health '{{range .subjects}}{{.namespace}}{{"\n"}}{{end}}'; }

# The annotation of a namespace that goes with the lock. deploy/namespace has it, and apply takes it off where the namespace
# was there without it.
mark='pod-startup-lock/made-by'
there='' given=''

do_apply() {
    if [ -z "$dry" ]; then
        reachable
        look_at_namespace
        if with_overlay health && health_of_another; then
            fail "the role of health is of the lock in the namespace $other, and the cluster has one: delete that lock first, or leave health out"
        fi
    fi
    render
    if [ -n "$dry" ]; then
        cat "$scratch/manifests.yaml"
        say "dry run: this would be applied to $(kube config current-context 2>/dev/null || echo "the cluster that $kubectl knows")"
        return
    fi
    if with_overlay monitoring && ! serves monitoring.coreos.com/v1 PodMonitor; then
        fail "the cluster has no PodMonitor: --overlay monitoring needs the Prometheus operator"
    fi
    # kustomize writes the namespace first.
    if [ -n "$given" ]; then
        sed '/^---$/,$d' "$scratch/manifests.yaml" >"$scratch/namespace.yaml"
        sed '1,/^---$/d' "$scratch/manifests.yaml" >"$scratch/within.yaml"
        mv "$scratch/within.yaml" "$scratch/manifests.yaml"
    fi
    # What the API server would refuse is told before anything is changed; it judges objects only in a namespace that is there.
    if [ -n "$there" ]; then
        kube apply --dry-run=server -f "$scratch/manifests.yaml" >/dev/null 2>"$scratch/error" || fail "the API server refuses this: $(grep -v '^Warning' "$scratch/error" | head -n 1)"
    fi
    # Not by apply, which removes the labels that the owner of the namespace has applied.
    [ -z "$given" ] || kube patch namespace "$namespace" --type merge --patch-file "$scratch/namespace.yaml" || fail "kubectl patch failed; repeat it once its reason is gone"
    kube apply -f "$scratch/manifests.yaml" || fail "kubectl apply failed; repeat it once its reason is gone"
    rolled_out lock
    ! with_overlay health || rolled_out health
    prune
    ask_locks
}

reachable() {
    need_kubectl
    kube get --raw /readyz >/dev/null 2>"$scratch/error" || fail "no cluster answers: $(tail -n 1 "$scratch/error")"
}

rolled_out() {
    kube_wait --namespace "$namespace" rollout status "daemonset/$1" && return
    explain "$1"
    fail "not every node has a ready $1 after $wait s; 'scripts/deploy.sh status' lists them"
}

# NODE POD READY REASON IMAGE MESSAGE of each pod of a program, one line each; a field that is not there is '-', and the
# message is quoted, because it may have lines. What one that crashes has said is in its state before this one.
pods() {
    # shellcheck disable=SC2016 # the template's variables
    kube --namespace "$namespace" get pods --selector "app.kubernetes.io/part-of=pod-startup-lock,app.kubernetes.io/name=$1" --output go-template='{{range .items}}{{$image := "-"}}{{with .spec.containers}}{{with index . 0}}{{$image = or .image "-"}}{{end}}{{end}}{{$ready := "false"}}{{$reason := "-"}}{{$message := "-"}}{{with .status.containerStatuses}}{{with index . 0}}{{if .ready}}{{$ready = "true"}}{{end}}{{$last := .lastState}}{{with .state.waiting}}{{$reason = or .reason "-"}}{{$message = or .message "-"}}{{if eq $reason "CrashLoopBackOff"}}{{with $last}}{{with .terminated}}{{$message = or .message $message}}{{end}}{{end}}{{end}}{{end}}{{with .state.terminated}}{{$reason = or .reason "-"}}{{$message = or .message "-"}}{{end}}{{end}}{{else}}{{with .status.conditions}}{{with index . 0}}{{$reason = or .reason "-"}}{{$message = or .message "-"}}{{end}}{{end}}{{end}}{{or .spec.nodeName "-"}} {{.metadata.name}} {{$ready}} {{$reason}} {{$image}} {{printf "%q" $message}}{{"\n"}}{{end}}'
}

# The same in a file of this name in $scratch.
list_pods() { pods "$1" >"$scratch/$2" 2>"$scratch/error" || fail "the cluster does not list the pods: $(tail -n 1 "$scratch/error")"; }

# Says why pods of a program are not ready.
explain() {
    list_pods "$1" explained
    while read -r node pod ready reason image message; do
        [ "$ready" != true ] || continue
        case $reason in
        ErrImageNeverPull | ErrImagePull | ImagePullBackOff | InvalidImageName)
            say "$node: the image $image is not there ($reason): scripts/deploy.sh load --nodes $node, or push and --registry" ;;
        -) say "$node: $pod runs and is not ready: $kubectl --namespace $namespace logs $pod" ;;
        *) say "$node: $pod: $reason: $message" ;;
        esac
    done <"$scratch/explained"
}

# Asks the locks of up to three nodes for their state, by way of the API server. The rollout has succeeded, so a request that
# this user may not send, or that does not reach the pods, is only a warning.
ask_locks() {
    if ! pods lock >"$scratch/locks" 2>"$scratch/error"; then
        say "warning: no lock was asked for its state, because the cluster does not list the pods: $(tail -n 1 "$scratch/error")"
        return
    fi
    awk '$3 == "true" && count++ < 3 {print $1, $2}' "$scratch/locks" >"$scratch/sample"
    while read -r node pod; do
        # The standard input is the list.
        if ! state=$(kube get --raw "/api/v1/namespaces/$namespace/pods/$pod:8888/proxy/state" </dev/null 2>"$scratch/error"); then
            say "warning: $node: the lock $pod is ready, but was not asked for its state: $(tail -n 1 "$scratch/error")"
            continue
        fi
        case $state in
        *'"version":'*) say "$node: the lock answers: $state" ;;
        *) fail "$node: the server that answers at $pod:8888 is not a lock: $(echo "$state" | head -c 200)" ;;
        esac
    done <"$scratch/sample"
    [ -s "$scratch/sample" ] || say "no node runs a lock: has the cluster a node with Linux?"
}

# ---- the objects of a lock in the cluster ----

label=app.kubernetes.io/part-of=pod-startup-lock

# Lists the objects of these kinds that carry the label, one a line: NAMESPACE APIVERSION KIND NAME, and the namespaces that a
# binding names. `-` stands for no namespace.
labelled() {
    kube get "$@" --selector "$label" --output 'go-template={{range .items}}{{or .metadata.namespace "-"}} {{.apiVersion}} {{.kind}} {{.metadata.name}}{{range .subjects}} {{or .namespace "-"}}{{end}}{{with .spec}}{{with .matchResources}}{{with .namespaceSelector}}{{range .matchExpressions}}{{range .values}} {{.}}{{end}}{{end}}{{end}}{{end}}{{end}}{{"\n"}}{{end}}'
}

# Leaves in $own and $cluster the kinds of deploy/ with and without a namespace; kubectl refuses a list with a kind that the
# cluster does not have.
list_kinds() {
    own=daemonsets.apps,services,configmaps,serviceaccounts,resourcequotas,networkpolicies.networking.k8s.io
    cluster=clusterrolebindings.rbac.authorization.k8s.io,clusterroles.rbac.authorization.k8s.io
    find_served
    [ -z "$served" ] || cluster=mutatingadmissionpolicybindings.admissionregistration.k8s.io,mutatingadmissionpolicies.admissionregistration.k8s.io,$cluster
    ! serves monitoring.coreos.com/v1 PodMonitor || own=$own,podmonitors.monitoring.coreos.com,prometheusrules.monitoring.coreos.com
}

# Leaves in $scratch/ours the objects of the lock of this namespace as NAMESPACE KIND.VERSION.GROUP/NAME, in the order in which
# they may be deleted, and in $scratch/others the role and the injection of a lock in another namespace. Fails if the cluster
# does not list all of them; the reason is in $scratch/error.
list_ours() {
    list_kinds
    all=yes
    : >"$scratch/error"
    {
        labelled "$cluster" || all=
        labelled rolebindings.rbac.authorization.k8s.io,roles.rbac.authorization.k8s.io --all-namespaces || all=
        labelled "$own" --namespace "$namespace" || all=
    } >"$scratch/labelled" 2>>"$scratch/error"
    # A role is of the lock that the binding of its name serves. Names are compared as text: 1e3 is not 1000.
    namespace=$namespace awk '
        BEGIN { own = ENVIRON["namespace"] "" }
        { key[NR] = $1 " " $4; line[NR] = $0 }
        $3 ~ /Binding$/ {
            for (i = 5; i <= NF; i++) {
                if ($i "" == own) mine[$1 " " $4] = 1
                else if ($i != "kube-system") other[$1 " " $4] = $i
            }
        }
        END {
            for (n = 1; n <= NR; n++) {
                split(line[n], word, " ")
                if (word[1] "" != own && !(key[n] in mine)) {
                    if (key[n] in other) print word[3], word[4], other[key[n]] >"/dev/stderr"
                    # An object without a binding is known by its name.
                    if ((key[n] in other) || word[4] !~ /^pod-startup-lock(-health)?$/) continue
                }
                kind = word[3]
                if (split(word[2], part, "/") == 2) kind = kind "." part[2] "." part[1]
                print word[1], kind "/" word[4]
            }
        }' "$scratch/labelled" >"$scratch/ours" 2>"$scratch/others"
    [ -n "$all" ]
}

# Deletes the objects in this file, which has the form of $scratch/ours; those without a namespace first.
remove() {
    awk '{print $1}' "$1" | sort -u >"$scratch/places"
    while read -r place; do
        names=$(place=$place awk '$1 "" == ENVIRON["place"] "" {print $2}' "$1")
        within="--namespace $place"
        [ "$place" != - ] || within=''
        # shellcheck disable=SC2086 # two words or none, and one word for each object
        kube_wait $within delete --ignore-not-found --cascade=foreground $names </dev/null || return 1
    done <"$scratch/places"
}

# Deletes the objects of an earlier apply that this one does not bring: those of another way to the lock, another overlay, an
# entry point. ConfigMaps of earlier settings stay as long as their program is there: `kubectl rollout undo` needs them.
prune() {
    : >"$scratch/ours"
    # A failure ends this subshell and not the script: the rollout has succeeded.
    (list_ours) || say "warning: objects of other overlays may be left, because the cluster does not list all of them: $(head -n 1 "$scratch/error")"
    awk '
        FNR == NR {
            if (/^---/) kind = ""
            if (/^kind:/) kind = $2
            if (/^  name:/ && kind != "") { gsub(/"/, "", $2); brought[kind "/" $2] = 1; kind = "" }
            next
        }
        {
            name = $2
            sub(/\.[^\/]*\//, "/", name)
            program = name
            sub(/^ConfigMap\//, "DaemonSet/", program)
            sub(/-[a-z0-9]*$/, "", program)
            if (!(name in brought) && !(program != name && (program in brought))) print
        }' "$scratch/manifests.yaml" "$scratch/ours" >"$scratch/left"
    [ -s "$scratch/left" ] || return 0
    remove "$scratch/left" || fail "not all objects of other overlays are deleted, kubectl lists them above; remove the reason and repeat apply"
}

do_delete() {
    if [ -n "$dry" ]; then
        say "dry run: the cluster is not asked; of the objects with the label $label these would be deleted:"
        echo "in the namespace $namespace: DaemonSets, Services, ConfigMaps, ServiceAccounts, ResourceQuotas, NetworkPolicies, PodMonitors, PrometheusRules"
        echo "in any namespace, if they are of the lock in $namespace: Roles and RoleBindings"
        echo "in the cluster, if they are of the lock in $namespace: ClusterRoles and ClusterRoleBindings, MutatingAdmissionPolicies and their bindings"
        echo "the namespace $namespace, if it was not there before the lock and holds no other workload, Service or volume claim"
        return
    fi
    reachable
    look_at_namespace
    list_ours || fail "the cluster does not list the objects of the lock: $(head -n 1 "$scratch/error")"
    while read -r kind name other; do say "the $kind $name stays: it belongs to the lock in the namespace $other"; done <"$scratch/others"
    remove "$scratch/ours" || not_gone
    [ -n "$there" ] || return 0
    if [ -n "$given" ]; then
        say "the namespace $namespace stays, because it existed before the lock; to delete it: $kubectl delete namespace $namespace"
        return
    fi
    kube get services,pods,persistentvolumeclaims,deployments.apps,statefulsets.apps,daemonsets.apps,jobs.batch,cronjobs.batch --namespace "$namespace" \
        --selector "${label%%=*}!=${label#*=}" --output name >"$scratch/others" 2>"$scratch/error" ||
        fail "the namespace $namespace stays, because the cluster does not list its other objects: $(head -n 1 "$scratch/error")"
    if [ -s "$scratch/others" ]; then
        say "the namespace $namespace stays, because it also holds $(awk '{printf "%s%s", (NR > 1 ? ", " : ""), $0}' "$scratch/others")"
        return
    fi
    kube_wait delete namespace "$namespace" --ignore-not-found || not_gone
}

not_gone() { fail "objects are left after $wait s, kubectl lists them above. A node that does not answer or a finalizer keeps them: repeat delete, or give a longer --wait"; }

do_example() {
    render_example
    if [ -n "$dry" ]; then
        cat "$scratch/example-here.yaml"
        return
    fi
    reachable
    kube get namespace "$into" >/dev/null 2>&1 || fail "there is no namespace $into; --into names another"
    kube --namespace "$into" apply -f "$scratch/example-here.yaml" || fail "kubectl apply failed"
    kube_wait --namespace "$into" rollout status deployment/startup-example ||
        fail "the example has not started after $wait s: $kubectl --namespace $into logs --selector app.kubernetes.io/name=startup-example --container pod-startup-lock"
    say "the example runs; what its pods waited for: $kubectl --namespace $into logs --selector app.kubernetes.io/name=startup-example --container pod-startup-lock"
    say "it is removed by: $kubectl --namespace $into delete deployment startup-example"
}

render_example() {
    need_kubectl
    cp -R "$root/deploy" "$scratch/deploy"
    {
        printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../example]\n'
        images
        printf 'patches:\n  - target: {kind: Deployment}\n    patch: |-\n'
        printf '      - {op: test, path: /spec/template/spec/initContainers/0/args/0, value: --host=lock.pod-startup-lock}\n'
        if [ "$way" = service ]; then
            printf '      - {op: replace, path: /spec/template/spec/initContainers/0/args/0, value: --host=lock.%s}\n' "$namespace"
        else
            # shellcheck disable=SC2016 # Kubernetes puts the value in
            printf '      - {op: replace, path: /spec/template/spec/initContainers/0/args/0, value: --host=$(HOST_IP)}\n'
            printf '      - {op: add, path: /spec/template/spec/initContainers/0/env/-, value: {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}}\n'
        fi
        if [ -n "$never" ]; then
            for list in initContainers containers; do
                printf '      - {op: replace, path: /spec/template/spec/%s/0/imagePullPolicy, value: Never}\n' "$list"
            done
        fi
    } | kustomize example-here
}

# ---- status ----

# Whether the node's list has an image of this program.
told() { case " $names " in *"/psl-$1:"* | *"/psl-$1@"*) ;; *) return 1 ;; esac }

# Adds to $wrong the images that the node lacks. A node reports new images up to a minute late. While its list lacks the image
# of the lock that is ready there, the list is too old to tell whether psl-init is there.
judge_images() {
    if [ "$1" = true ] && ! told lock; then
        told init || say "$node: psl-init unknown: the node's list of images is older than its lock; repeat status in a minute"
        return
    fi
    for program in lock init; do told "$program" || wrong="${wrong:+$wrong, }no image psl-$program"; done
}

do_status() {
    reachable
    list_pods lock locks
    # Those that the DaemonSet is for, see deploy/lock/daemonset.yaml.
    kube get nodes --selector 'kubernetes.io/os=linux,eks.amazonaws.com/compute-type!=fargate,type!=virtual-kubelet,node.kubernetes.io/instance-type!=eklet' --output go-template='{{range .items}}{{.metadata.name}} {{with .status.images}}{{len .}}{{range .}}{{range .names}} {{.}}{{end}}{{end}}{{else}}0{{end}}{{"\n"}}{{end}}' >"$scratch/nodes" 2>"$scratch/error" ||
        fail "the cluster does not list its nodes: $(tail -n 1 "$scratch/error")"
    [ -s "$scratch/nodes" ] || fail "the cluster has no node with Linux"
    found=0
    # With an image from a registry the kubelet fetches what is missing.
    loaded=$(awk '$5 !~ /^localhost\// {fetched = 1} END {if (NR == 0 || !fetched) print "yes"}' "$scratch/locks")
    while read -r node count names; do
        wrong=
        # One that is ready counts, whatever else is coming or going there.
        line=$(node=$node awk '$1 "" == ENVIRON["node"] "" && (line == "" || $3 == "true") {line = $0} END {print line}' "$scratch/locks")
        # shellcheck disable=SC2086 # NODE POD READY REASON IMAGE MESSAGE
        set -- $line
        case ${3:-none} in
        true) ;;
        none) wrong="no lock" ;;
        *) wrong="a lock that is not ready (${4:--})" ;;
        esac
        # A node tells of its 50 largest images at most, and these are small.
        [ -z "$loaded" ] || [ "$count" -ge 50 ] || judge_images "${3:-none}"
        [ -z "$wrong" ] || { echo "$node: $wrong" && found=$((found + 1)); }
    done <"$scratch/nodes"
    total=$(wc -l <"$scratch/nodes")
    explain lock
    [ "$found" -eq 0 ] || fail "$found of $((total)) nodes lack something"
    echo "all $((total)) nodes have a ready lock, and the images as far as they tell"
}

# ---- images ----

# Within $root.
archive() { echo "dist/images/psl-$1-$2.tar"; }

# Ends it unless the archives of an architecture are there and carry the tag that is asked for.
need_archives() {
    has tar || fail "tar is missing; it reads the archives"
    for program in $programs; do
        file=$(archive "$program" "$1")
        [ -f "$root/$file" ] || fail "$file is missing: scripts/build.sh --arch $1 && scripts/image.sh"
        tar -xOf "$root/$file" index.json 2>/dev/null | grep -q "\"localhost/psl-$program:$tag\"" || fail "$file holds another tag than $tag: scripts/image.sh --tag $tag"
    done
}

# The first that is there of these tools, unless one was named.
choose() {
    if [ -n "$tool" ]; then
        case " $* " in *" $tool "*) ;; *) fail "--with: '$tool' is not accepted here; accepted: $*" 2 ;; esac
        has "$tool" || fail "$tool is missing"
        return
    fi
    for tool; do ! has "$tool" || return 0; done
    fail "none of these is installed: $*"
}

need_sudo() { [ -z "$sudo" ] || has sudo || fail "sudo is missing"; }

# Does what follows, or says it.
act() {
    if [ -n "$dry" ]; then echo "$*"; else "$@"; fi
}

do_load() {
    [ "$registry" = localhost ] || fail "load keeps the archives' own names: --registry is for push, apply and example" 2
    if [ -n "$nodes" ]; then
        load_over_ssh
        return
    fi
    choose k3s kind minikube docker ctr
    need_sudo
    need_archives "$arch"
    if [ "$tool" = kind ]; then
        # Its nodes are containers of Docker.
        has docker || fail "docker is missing; kind's nodes are its containers"
        kind_nodes=$(kind get nodes --name "${cluster:-kind}") || kind_nodes=
        [ -n "$kind_nodes" ] || fail "kind knows no nodes of the cluster ${cluster:-kind}; --cluster names another"
    fi
    for program in $programs; do
        file=$(archive "$program" "$arch")
        load_here "$program" "$file" || fail "$tool did not take $file; repeat it once its reason is gone"
    done
    case $tool in docker | minikube) say "$tool cannot pin images: where a disk fills up the kubelet may delete them; load them again then" ;; esac
}

# Each step says for itself that it failed: where this is called set -e does not count.
load_here() {
    name=localhost/psl-$1:$tag
    # shellcheck disable=SC2086 # no word, or one
    case $tool in
    docker) act $sudo docker load --input "$root/$2" ;;
    ctr | k3s)
        ctr=ctr
        [ "$tool" = ctr ] || ctr="k3s ctr"
        act $sudo $ctr --namespace k8s.io images import "$root/$2" &&
            act $sudo $ctr --namespace k8s.io images label "$name" io.cri-containerd.pinned=pinned
        ;;
    kind)
        act kind load image-archive "$root/$2" --name "${cluster:-kind}" || return 1
        for node in $kind_nodes; do
            act docker exec "$node" ctr --namespace k8s.io images label "$name" io.cri-containerd.pinned=pinned || return 1
        done
        ;;
    minikube)
        act minikube --profile "${cluster:-minikube}" image load "$root/$2" || return 1
        # It has ended well where the node had taken nothing.
        [ -n "$dry" ] || minikube --profile "${cluster:-minikube}" image ls | grep -F -- "$name" >/dev/null
        ;;
    esac
}

# Asks each node for its architecture and its runtime, and changes nothing before all have answered.
load_over_ssh() {
    need "$ssh" --ssh 'ssh -l admin'
    : >"$scratch/plan"
    for node in $nodes; do
        # shellcheck disable=SC2086,SC2016 # a command of several words, and one for the node to expand
        answer=$($ssh "$node" 'uname -m; for tool in k3s ctr docker; do if command -v $tool >/dev/null; then echo $tool; fi; done' </dev/null) || fail "$node does not answer over '$ssh'"
        # shellcheck disable=SC2086 # a machine and the names of tools
        set -- $answer
        case ${1:-} in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) fail "$node: there are no images for '${1:-}'" ;; esac
        there=${2:-}
        if [ -n "$tool" ]; then
            case " $* " in *" $tool "*) there=$tool ;; *) fail "$node has no $tool" ;; esac
        else
            # Docker brings a containerd of its own, so that both are there where the kubelet uses one of them.
            case " $* " in *" k3s "*) ;; *" ctr docker "*) fail "$node has both docker and ctr: --with says which of them its kubelet uses" ;; esac
        fi
        case $there in k3s | ctr | docker) ;; *) fail "$node has none of k3s, ctr, docker" ;; esac
        need_archives "$machine"
        echo "$node $machine $there" >>"$scratch/plan"
    done
    # One node whose disk is full keeps the others from nothing.
    failed=''
    while read -r node machine there; do
        if load_node; then
            [ "$there" != docker ] || say "$node: docker cannot pin images: where its disk fills up the kubelet may delete them"
            [ -n "$dry" ] || say "$node: loaded, by $there"
        else
            failed="${failed:+$failed }$node"
        fi
    done <"$scratch/plan"
    [ -z "$failed" ] || fail "not every node has all archives; once the reasons are gone: the same with --nodes \"$failed\""
}

# Gives a node all archives, or says which one it did not take.
load_node() {
    for program in $programs; do
        over_ssh "$program" || { say "$node did not take $(archive "$program" "$machine")" && return 1; }
    done
}

over_ssh() {
    prefix=${sudo:+$sudo }
    case $there in
    docker) remote="${prefix}docker load" ;;
    k3s) remote="${prefix}k3s ctr --namespace k8s.io images import - && ${prefix}k3s ctr --namespace k8s.io images label localhost/psl-$1:$tag io.cri-containerd.pinned=pinned" ;;
    ctr) remote="${prefix}ctr --namespace k8s.io images import - && ${prefix}ctr --namespace k8s.io images label localhost/psl-$1:$tag io.cri-containerd.pinned=pinned" ;;
    esac
    # shellcheck disable=SC2086 # a command of several words
    act $ssh "$node" "$remote" <"$root/$(archive "$1" "$machine")"
}

# The digest that an archive's entry point names.
entry_of() { tar -xOf "$1" index.json 2>/dev/null | sed -n 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/p'; }

# Whether the archive for both architectures has the tag, and is of the very images of the two archives.
joins() {
    joined=$root/dist/images/psl-$1.tar
    tar -xOf "$joined" index.json 2>/dev/null | grep -q "\"localhost/psl-$1:$tag\"" || return 1
    tar -xOf "$joined" "blobs/sha256/$(entry_of "$joined")" >"$scratch/joined" 2>/dev/null || return 1
    for one in amd64 arm64; do
        digest=$(entry_of "$root/$(archive "$1" "$one")")
        [ -n "$digest" ] && grep -q "\"sha256:$digest\"" "$scratch/joined" || return 1
    done
}

do_push() {
    [ "$registry" != localhost ] || fail "push needs --registry" 2
    choose skopeo crane podman docker
    need_sudo
    # One name for both architectures, where the tool knows of such a thing, both were joined, and nobody asks for one.
    both=
    if [ "$tool" = skopeo ] && [ -z "$asked_arch" ] && [ "$programs" != e2e ] && [ -f "$root/dist/images/psl-lock.tar" ] && [ -f "$root/dist/images/psl-init.tar" ] && [ -f "$root/dist/images/psl-health.tar" ]; then
        both=yes
        need_archives amd64
        need_archives arm64
        for program in $programs; do
            joins "$program" || fail "dist/images/psl-$program.tar does not join the two archives beside it under the tag $tag: scripts/image.sh --index --tag $tag, or --arch for one of them"
        done
    fi
    need_archives "$arch"
    for program in $programs; do
        from=$root/$(archive "$program" "$arch") name=localhost/psl-$program:$tag to=$registry/psl-$program:$tag
        case $tool in
        skopeo) if [ -n "$both" ]; then act skopeo copy --all "oci-archive:$root/dist/images/psl-$program.tar" "docker://$to"; else act skopeo copy "oci-archive:$from" "docker://$to"; fi ;;
        crane) act crane push "$from" "$to" ;;
        podman | docker)
            # shellcheck disable=SC2086 # no word, or one
            act $sudo "$tool" load --input "$from" && act $sudo "$tool" tag "$name" "$to" && act $sudo "$tool" push "$to"
            ;;
        esac || fail "$tool could not push $to; is it logged in there ('$tool login', crane: 'crane auth login')?"
    done
    say "apply them with: scripts/deploy.sh apply --registry $registry --tag $tag"
}

main "$@"
