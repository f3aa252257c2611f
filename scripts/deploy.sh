#!/bin/sh
# Brings Pod Startup Lock to a cluster, and says how it fares there.
#
#   scripts/deploy.sh render  [OPTION...]   prints the manifests that apply would apply
#   scripts/deploy.sh apply   [OPTION...]   applies them, waits, and asks some of the locks
#   scripts/deploy.sh status  [OPTION...]   which nodes have no lock, or no image; exit code 1 if any
#   scripts/deploy.sh delete  [OPTION...]   takes everything away again, whatever overlays it came
#                                           with; waiting pods then start
#   scripts/deploy.sh example [OPTION...]   applies an application with the init container
#   scripts/deploy.sh load    [OPTION...]   gives the archives of scripts/image.sh to nodes
#   scripts/deploy.sh push    [OPTION...]   gives them to a registry
#
# What is applied (render, apply, example; delete takes --namespace):
#   --overlay NAME        service (default), host-port, host-network: how pods find the lock;
#                         health, air-gapped, injection, monitoring, network-policies: what comes
#                         with it. May be given several times
#   --with-health         the same as --overlay health
#   --namespace NS        in place of pod-startup-lock
#   --locks N             slots of each node: a number, or a share of its cores such as 50%
#   --timeout D           how long a slot is held where the pod does not say, such as 10s
#   --never-pull          sets imagePullPolicy Never: a node without the image fails at once
#   --into NS             where example puts its Deployment (default: default)
# Images (all but status, delete):
#   --registry R          their registry and path, such as registry.example:5000/tools (default:
#                         localhost, the name in the archives, which no registry answers for)
#   --tag TAG             their tag (default: the version in Cargo.toml)
#   --arch ARCH           amd64 or arm64: which archives push takes, and load where it cannot ask
#                         (default: this machine's)
# Where to:
#   --with TOOL           load: docker, ctr, k3s, kind, minikube; push: skopeo, crane, podman, docker.
#                         Without it whichever one of them is found
#   --cluster NAME        kind's cluster or minikube's profile
#   --nodes "A B"         load: over ssh to these; each is asked for its architecture
#   --ssh "COMMAND"       in place of "ssh", such as "ssh -l admin"
#   --sudo                runs docker, ctr and k3s through sudo
#   --kubectl "COMMAND"   in place of "kubectl", such as "k3s kubectl"
# --wait SECONDS          how long apply and example wait for the pods (default 180)
# --dry-run               says what would be done, and changes nothing
#
# Every step can be repeated. A mistake ends it with one line before anything is changed. Registries are
# logged in to with the tools' own login; user and password are not accepted here.
# Exit codes: 0 done, 1 failed, 2 bad arguments.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "deploy.sh: $1" >&2
    exit "${2:-1}"
}
say() { echo "deploy.sh: $1" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

main() {
    command=${1:-}
    case $command in
    --help) usage && exit 0 ;;
    render | apply | status | delete | example | load | push) shift ;;
    *) fail "no command '$command'; there are render, apply, status, delete, example, load, push, --help" 2 ;;
    esac
    read_options "$@"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "do_$command"
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/deploy.sh; }

# ---- options ----

read_options() {
    overlays='' way='' namespace=pod-startup-lock locks='' timeout='' never='' into=default registry=localhost tag=''
    arch='' tool='' cluster='' nodes='' ssh=ssh sudo='' kubectl=kubectl wait=180 dry=''
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
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
        take "$option" "$value"
    done
    tag=${tag:-$version} way=${way:-service}
    case $(uname -m) in aarch64) arch=${arch:-arm64} ;; *) arch=${arch:-amd64} ;; esac
}

take() {
    case $1 in
    --overlay) take_overlay "$2" ;;
    --namespace) accepted "$1" "$2" 'a name of lower-case letters, digits and -' '*[!a-z0-9-]*' && namespace=$2 ;;
    --into) accepted "$1" "$2" 'a name of lower-case letters, digits and -' '*[!a-z0-9-]*' && into=$2 ;;
    --locks)
        case ${2%\%} in *[!0-9]* | "" | 0) fail "--locks: '$2' is not accepted; accepted: a number from 1, or a share of the cores such as 50%" 2 ;; esac
        locks=$2
        ;;
    --timeout) accepted "$1" "$2" 'whole seconds or a duration such as 500ms, 1m30s' '*[!0-9.hmsnuµ]*' && timeout=$2 ;;
    --registry)
        case $2 in
        *@*) fail "--registry: user and password are not accepted; log in with the tool that pushes" 2 ;;
        *://* | */ | /* | *[!A-Za-z0-9.:/_-]*) fail "--registry: '$2' is not accepted; accepted: a host, a port and a path such as registry.example:5000/tools" 2 ;;
        esac
        registry=$2
        ;;
    --tag) accepted "$1" "$2" 'letters, digits and _ . -' '*[!A-Za-z0-9_.-]*' && tag=$2 ;;
    --arch) case $2 in amd64 | arm64) arch=$2 ;; *) fail "--arch: '$2' is not accepted; accepted: amd64, arm64" 2 ;; esac ;;
    --with) tool=$2 ;;
    --cluster) cluster=$2 ;;
    --nodes) nodes="$nodes $2" ;;
    --ssh) ssh=$2 ;;
    --kubectl) kubectl=$2 ;;
    --wait) accepted "$1" "$2" 'whole seconds' '*[!0-9]*' && wait=$2 ;;
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

# Refuses a value that the pattern fits: what is accepted, in words.
accepted() {
    # shellcheck disable=SC2254 # a pattern
    case $2 in $4) fail "$1: '$2' is not accepted; accepted: $3" 2 ;; esac
}

with_overlay() { case " $overlays " in *" $1 "*) return 0 ;; *) return 1 ;; esac }

# kubectl, or what was said in its place.
kube() {
    # shellcheck disable=SC2086 # a command of several words
    $kubectl "$@"
}

need_kubectl() { has "${kubectl%% *}" || fail "${kubectl%% *} is missing; --kubectl names another, such as \"k3s kubectl\""; }

# ---- manifests ----

images() {
    echo 'images:'
    for program in lock init health; do
        echo "  - {name: localhost/psl-$program, newName: $registry/psl-$program, newTag: \"$tag\"}"
    done
}

# Renders a kustomization, which comes on stdin, in a copy of deploy/, where it lies beside the components that it names.
kustomize() {
    mkdir "$scratch/deploy/$1"
    cat >"$scratch/deploy/$1/kustomization.yaml"
    kube kustomize "$scratch/deploy/$1" >"$scratch/$1.yaml" 2>"$scratch/error" || fail "$kubectl cannot render the manifests: $(head -n 1 "$scratch/error")"
}

# Leaves all manifests in $scratch/manifests.yaml.
render() {
    need_kubectl
    cp -R deploy "$scratch/deploy"
    {
        printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: %s\n' "$namespace"
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
        if [ -n "$never" ]; then
            printf 'patches:\n  - target: {group: apps, kind: DaemonSet}\n    patch: |-\n'
            printf '      - {op: replace, path: /spec/template/spec/containers/0/imagePullPolicy, value: Never}\n'
        fi
    } | kustomize everything
    mv "$scratch/everything.yaml" "$scratch/manifests.yaml"
    ! with_overlay injection || render_injection
}

# For itself, because kustomize takes kinds that it does not know for ones that have a namespace.
render_injection() {
    host="'lock.$namespace'"
    [ "$way" = service ] || host="''"
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
  - target: {kind: MutatingAdmissionPolicyBinding}
    patch: |-
      - {op: replace, path: /spec/matchResources/namespaceSelector/matchExpressions/0/values/1, value: $namespace}
END
    served=v1
    if [ "$command" != render ] && [ -z "$dry" ]; then
        served=$(kube api-versions 2>/dev/null | sed -n 's:^admissionregistration.k8s.io/::p' | sort -r | while read -r version; do
            ! serves "admissionregistration.k8s.io/$version" MutatingAdmissionPolicy || { echo "$version" && break; }
        done)
        if [ -z "$served" ]; then
            # As for the operator's kinds.
            [ "$command" != delete ] || return 0
            fail "the cluster has no MutatingAdmissionPolicy: it comes with Kubernetes 1.36, or 1.32 with a feature gate (deploy/injection)"
        fi
    fi
    { echo ---; sed "s:admissionregistration.k8s.io/v1$:admissionregistration.k8s.io/$served:" "$scratch/only-injection.yaml"; } >>"$scratch/manifests.yaml"
}

# Whether the API server serves this kind under this group and version.
serves() { kube get --raw "/apis/$1" 2>/dev/null | grep -q "\"kind\": *\"$2\""; }

do_render() {
    render
    cat "$scratch/manifests.yaml"
}

# ---- apply, delete, example ----

do_apply() {
    [ -n "$dry" ] || reachable
    render
    if [ -n "$dry" ]; then
        cat "$scratch/manifests.yaml"
        say "dry run: this would be applied to $(kube config current-context 2>/dev/null || echo "the cluster that $kubectl knows")"
        return
    fi
    if with_overlay monitoring && ! serves monitoring.coreos.com/v1 PodMonitor; then
        fail "the cluster has no PodMonitor: --overlay monitoring needs the Prometheus operator"
    fi
    # What the API server would refuse is told before anything is changed; it judges objects only in a namespace that is there.
    if kube get namespace "$namespace" >/dev/null 2>&1; then
        kube apply --dry-run=server -f "$scratch/manifests.yaml" >/dev/null 2>"$scratch/error" || fail "the API server refuses this: $(grep -v '^Warning' "$scratch/error" | head -n 1)"
    fi
    kube apply -f "$scratch/manifests.yaml" || fail "kubectl apply failed; repeat it once its reason is gone"
    rolled_out lock
    ! with_overlay health || rolled_out health
    ask_locks
}

reachable() {
    need_kubectl
    kube get --raw /readyz >/dev/null 2>"$scratch/error" || fail "no cluster answers: $(tail -n 1 "$scratch/error")"
}

rolled_out() {
    kube --namespace "$namespace" rollout status "daemonset/$1" --timeout "${wait}s" && return
    explain "$1"
    fail "not every node has a ready $1 after $wait s; 'scripts/deploy.sh status' lists them"
}

# NODE POD READY REASON MESSAGE of each pod of a program, one line each; a field that is not there is '-'.
pods() {
    kube --namespace "$namespace" get pods --selector "app.kubernetes.io/part-of=pod-startup-lock,app.kubernetes.io/name=$1" --output go-template='{{range .items}}{{or .spec.nodeName "-"}} {{.metadata.name}} {{with .status.containerStatuses}}{{with index . 0}}{{.ready}} {{with .state.waiting}}{{.reason}} {{or .message "-"}}{{else}}{{with .state.terminated}}{{.reason}} {{or .message "-"}}{{else}}- -{{end}}{{end}}{{end}}{{else}}false {{with .status.conditions}}{{with index . 0}}{{or .reason "-"}} {{or .message "-"}}{{end}}{{else}}- -{{end}}{{end}}{{"\n"}}{{end}}'
}

# Says why pods of a program are not ready.
explain() {
    pods "$1" | while read -r node pod ready reason message; do
        [ "$ready" != true ] || continue
        case $reason in
        ErrImageNeverPull | ErrImagePull | ImagePullBackOff | InvalidImageName)
            say "$node: the image $registry/psl-$1:$tag is not there ($reason): scripts/deploy.sh load --nodes $node, or push and --registry" ;;
        -) say "$node: $pod runs and is not ready: $kubectl --namespace $namespace logs $pod" ;;
        *) say "$node: $pod: $reason: $message" ;;
        esac
    done
}

# Asks the locks of up to three nodes for their state, by way of the API server.
ask_locks() {
    pods lock | while read -r node pod ready _; do [ "$ready" != true ] || echo "$node $pod"; done | head -n 3 >"$scratch/sample"
    while read -r node pod; do
        # The standard input is the list.
        if state=$(kube get --raw "/api/v1/namespaces/$namespace/pods/$pod:8888/proxy/state" </dev/null 2>"$scratch/error"); then
            case $state in
            *'"version":'*) say "$node: the lock answers: $state" ;;
            *) fail "$node: what answers at $pod:8888 is no lock: $(echo "$state" | head -c 200)" ;;
            esac
        else
            fail "$node: the lock $pod does not answer: $(tail -n 1 "$scratch/error")"
        fi
    done <"$scratch/sample"
    [ -s "$scratch/sample" ] || say "no node runs a lock: has the cluster a node with Linux?"
}

do_delete() {
    # All that apply can bring, because what was left out here would be left behind. The namespace takes what is in it
    # along, so that the way to the lock does not matter.
    overlays='health network-policies monitoring injection'
    if [ -z "$dry" ]; then
        reachable
        # What the cluster does not know cannot be there.
        serves monitoring.coreos.com/v1 PodMonitor || overlays='health network-policies injection'
    fi
    render
    if [ -n "$dry" ]; then
        say "dry run: this would be deleted:"
        awk '/^kind:/ {kind = $2} /^  name:/ && kind != "" {print kind " " $2; kind = ""}' "$scratch/manifests.yaml"
        return
    fi
    kube delete --ignore-not-found -f "$scratch/manifests.yaml" || fail "not everything is gone; repeat it"
}

do_example() {
    render_example
    if [ -n "$dry" ]; then
        cat "$scratch/example-here.yaml"
        return
    fi
    reachable
    kube get namespace "$into" >/dev/null 2>&1 || fail "there is no namespace $into; --into names another"
    kube --namespace "$into" apply -f "$scratch/example-here.yaml" || fail "kubectl apply failed"
    kube --namespace "$into" rollout status deployment/startup-example --timeout "${wait}s" ||
        fail "the example has not started after $wait s: $kubectl --namespace $into logs --selector app.kubernetes.io/name=startup-example --container pod-startup-lock"
    say "the example runs; what its pods waited for: $kubectl --namespace $into logs --selector app.kubernetes.io/name=startup-example --container pod-startup-lock"
}

render_example() {
    need_kubectl
    cp -R deploy "$scratch/deploy"
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

do_status() {
    reachable
    pods lock >"$scratch/locks"
    kube get nodes --selector kubernetes.io/os=linux --output go-template='{{range .items}}{{.metadata.name}} {{len .status.images}}{{range .status.images}}{{range .names}} {{.}}{{end}}{{end}}{{"\n"}}{{end}}' >"$scratch/nodes"
    found=0
    while read -r node count names; do
        wrong=
        line=$(grep "^$node " "$scratch/locks" | head -n 1) || line=
        # shellcheck disable=SC2086 # NODE POD READY REASON MESSAGE
        set -- $line
        case ${3:-none} in
        true) ;;
        none) wrong="no lock" ;;
        *) wrong="a lock that is not ready (${4:--})" ;;
        esac
        for program in lock init; do
            # A node tells of its 50 largest images at most, and these are small.
            case " $names " in
            *"/psl-$program:"* | *"/psl-$program@"*) ;;
            *) [ "$count" -ge 50 ] || wrong="${wrong:+$wrong, }no image psl-$program" ;;
            esac
        done
        [ -z "$wrong" ] || { echo "$node: $wrong" && found=$((found + 1)); }
    done <"$scratch/nodes"
    total=$(wc -l <"$scratch/nodes")
    explain lock
    [ "$found" -eq 0 ] || fail "$found of $((total)) nodes lack something"
    echo "all $((total)) nodes have a ready lock, and the images as far as they tell"
}

# ---- images ----

archive() { echo "dist/images/psl-$1-$2.tar"; }

# Ends it unless the archives of an architecture are there and carry the tag that is asked for.
need_archives() {
    for program in lock init health; do
        file=$(archive "$program" "$1")
        [ -f "$file" ] || fail "$file is missing: scripts/build.sh --arch $1 && scripts/image.sh"
        tar -xOf "$file" index.json 2>/dev/null | grep -q "\"localhost/psl-$program:$tag\"" || fail "$file holds another tag than $tag: scripts/image.sh --tag $tag"
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

# Does what follows, or says it.
act() {
    if [ -n "$dry" ]; then echo "$*"; else "$@"; fi
}

do_load() {
    [ "$registry" = localhost ] || fail "load keeps the archives' own names: --registry is for push, apply and example" 2
    if [ -n "$nodes" ]; then
        for node in $nodes; do case $node in -* | *[!A-Za-z0-9.:@_-]*) fail "--nodes: '$node' is no name of a node" 2 ;; esac; done
        load_over_ssh
        return
    fi
    choose k3s kind minikube docker ctr
    need_archives "$arch"
    for program in lock init health; do load_here "$program" "$(archive "$program" "$arch")"; done
    case $tool in docker | minikube) say "$tool cannot pin images: where a disk fills up the kubelet may delete them; load them again then" ;; esac
}

load_here() {
    name=localhost/psl-$1:$tag
    # shellcheck disable=SC2086 # no word, or one
    case $tool in
    docker) act $sudo docker load --input "$2" ;;
    ctr | k3s)
        ctr=ctr
        [ "$tool" = ctr ] || ctr="k3s ctr"
        act $sudo $ctr --namespace k8s.io images import "$2"
        act $sudo $ctr --namespace k8s.io images label "$name" io.cri-containerd.pinned=pinned
        ;;
    kind)
        act kind load image-archive "$2" --name "${cluster:-kind}"
        # Its nodes are containers of Docker.
        for node in $(kind get nodes --name "${cluster:-kind}"); do
            act docker exec "$node" ctr --namespace k8s.io images label "$name" io.cri-containerd.pinned=pinned
        done
        ;;
    minikube) act minikube --profile "${cluster:-minikube}" image load "$2" ;;
    esac || fail "$tool did not take $2"
}

# Asks each node for its architecture and its runtime, and changes nothing before all have answered.
load_over_ssh() {
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
        fi
        case $there in k3s | ctr | docker) ;; *) fail "$node has none of k3s, ctr, docker" ;; esac
        need_archives "$machine"
        echo "$node $machine $there" >>"$scratch/plan"
    done
    while read -r node machine there; do
        for program in lock init health; do over_ssh "$program" || fail "$node did not take $(archive "$program" "$machine"); repeat it once its reason is gone"; done
        [ "$there" != docker ] || say "$node: docker cannot pin images: where its disk fills up the kubelet may delete them"
        [ -n "$dry" ] || say "$node: loaded, by $there"
    done <"$scratch/plan"
}

over_ssh() {
    prefix=${sudo:+$sudo }
    case $there in
    docker) remote="${prefix}docker load" ;;
    k3s) remote="${prefix}k3s ctr --namespace k8s.io images import - && ${prefix}k3s ctr --namespace k8s.io images label localhost/psl-$1:$tag io.cri-containerd.pinned=pinned" ;;
    ctr) remote="${prefix}ctr --namespace k8s.io images import - && ${prefix}ctr --namespace k8s.io images label localhost/psl-$1:$tag io.cri-containerd.pinned=pinned" ;;
    esac
    # shellcheck disable=SC2086 # a command of several words
    act $ssh "$node" "$remote" <"$(archive "$1" "$machine")"
}

do_push() {
    [ "$registry" != localhost ] || fail "push needs --registry" 2
    choose skopeo crane podman docker
    both=
    # One name for both architectures, where both were built and the tool knows of such a thing.
    if [ "$tool" = skopeo ] && [ -f dist/images/psl-lock.tar ] && [ -f dist/images/psl-init.tar ] && [ -f dist/images/psl-health.tar ]; then both=yes; fi
    need_archives "$arch"
    for program in lock init health; do
        from=$(archive "$program" "$arch") name=localhost/psl-$program:$tag to=$registry/psl-$program:$tag
        case $tool in
        skopeo) if [ -n "$both" ]; then act skopeo copy --all "oci-archive:dist/images/psl-$program.tar" "docker://$to"; else act skopeo copy "oci-archive:$from" "docker://$to"; fi ;;
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
