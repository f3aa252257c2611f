#!/bin/sh
# Loads image archives on nodes and pushes them to registries. Read by deploy.sh.
# shellcheck disable=SC2154 # variables of deploy.sh

# Relative to $root.
archive() { echo "dist/images/psl-$1-$2.tar"; }

# Ends the script unless the archives of an architecture exist and contain the tag.
need_archives() {
    has tar || fail "command not found: tar; it reads the archives"
    for program in $programs; do
        file=$(archive "$program" "$1")
        [ -f "$root/$file" ] || fail "$file is missing; run: scripts/build.sh --arch $1 && scripts/image.sh"
        tar -xOf "$root/$file" index.json 2>/dev/null | grep -q "\"localhost/psl-$program:$tag\"" ||
            fail "$file does not have the tag $tag; run: scripts/image.sh --tag $tag"
    done
}

# Sets $tool to the first of these that is installed, unless --with names one.
choose() {
    if [ -n "$tool" ]; then
        case " $* " in *" $tool "*) ;; *) refuse --with "$tool" "$*" ;; esac
        has "$tool" || fail "command not found: $tool"
        return
    fi
    for tool; do ! has "$tool" || return 0; done
    fail "no tool found; install one of: $*"
}

need_sudo() { [ -z "$sudo" ] || has sudo || fail "command not found: sudo"; }

# Runs a command, or prints it in a dry run.
act() {
    if [ -n "$dry" ]; then echo "$*"; else "$@"; fi
}

pin="io.cri-containerd.pinned=pinned"
# The archives carry names of localhost, and the image of program $1 has this one.
name_of() { echo "localhost/psl-$1:$tag"; }

do_load() {
    [ "$registry" = localhost ] || fail "load keeps the names in the archives; --registry is for push, apply and example" 2
    if [ -n "$nodes" ]; then
        load_over_ssh
        return
    fi
    choose k3s kind minikube docker ctr
    need_sudo
    need_archives "$arch"
    if [ "$tool" = kind ]; then
        has docker || fail "command not found: docker; the nodes of kind are its containers"
        kind_nodes=$(kind get nodes --name "${cluster:-kind}") || kind_nodes=
        [ -n "$kind_nodes" ] || fail "kind has no nodes in cluster ${cluster:-kind}; choose another with --cluster"
    fi
    for program in $programs; do
        file=$(archive "$program" "$arch")
        load_here "$program" "$file" || fail "$tool failed to load $file, see above; fix the cause and run load again"
    done
    case $tool in docker | minikube) say "$tool cannot pin images: the kubelet may delete them when the disk is full; then run load again" ;; esac
}

# Each step returns its failure, because set -e does not apply where this is called.
load_here() {
    name=$(name_of "$1")
    # shellcheck disable=SC2086 # no word, or one
    case $tool in
    docker) act $sudo docker load --input "$root/$2" ;;
    ctr | k3s)
        ctr=ctr
        [ "$tool" = ctr ] || ctr="k3s ctr"
        act $sudo $ctr --namespace k8s.io images import "$root/$2" &&
            act $sudo $ctr --namespace k8s.io images label "$name" "$pin"
        ;;
    kind)
        act kind load image-archive "$root/$2" --name "${cluster:-kind}" || return 1
        for node in $kind_nodes; do
            act docker exec "$node" ctr --namespace k8s.io images label "$name" "$pin" || return 1
        done
        ;;
    minikube)
        act minikube --profile "${cluster:-minikube}" image load "$root/$2" || return 1
        # minikube exits with 0 even if the node has not taken the image.
        [ -n "$dry" ] || minikube --profile "${cluster:-minikube}" image ls | grep -F -- "$name" >/dev/null
        ;;
    esac
}

# Asks each node for its architecture and its runtime; loads only after all nodes have answered.
load_over_ssh() {
    need "$ssh" --ssh 'ssh -l admin'
    : >"$scratch/plan"
    for node in $nodes; do
        # shellcheck disable=SC2086,SC2016 # a command of several words, and one for the node to
        # expand
        answer=$($ssh "$node" 'uname -m; for tool in k3s ctr docker; do if command -v $tool >/dev/null; then echo $tool; fi; done' </dev/null) ||
            fail "$node: cannot connect with '$ssh'"
        # shellcheck disable=SC2086 # a machine and the names of tools
        set -- $answer
        case ${1:-} in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) fail "$node: no images for the architecture '${1:-}'" ;; esac
        there=${2:-}
        if [ -n "$tool" ]; then
            case " $* " in *" $tool "*) there=$tool ;; *) fail "$node: command not found: $tool" ;; esac
        else
            # Docker brings its own containerd, so both commands exist if the kubelet uses either.
            case " $* " in *" k3s "*) ;; *" ctr docker "*) fail "$node has both docker and ctr; choose the one of its kubelet with --with" ;; esac
        fi
        case $there in k3s | ctr | docker) ;; *) fail "$node: command not found: k3s, ctr or docker" ;; esac
        need_archives "$machine"
        echo "$node $machine $there" >>"$scratch/plan"
    done
    # A failure of one node, such as a full disk, does not stop the others.
    failed=''
    while read -r node machine there; do
        if load_node; then
            [ "$there" != docker ] || say "$node: docker cannot pin images: the kubelet may delete them when the disk is full"
            [ -n "$dry" ] || say "$node: loaded with $there"
        else
            failed="${failed:+$failed }$node"
        fi
    done <"$scratch/plan"
    [ -z "$failed" ] || fail "some nodes lack archives, see above; fix the cause and run load again with --nodes \"$failed\""
}

load_node() {
    for program in $programs; do
        load_remote "$program" || { say "$node failed to load $(archive "$program" "$machine")" && return 1; }
    done
}

load_remote() {
    prefix=${sudo:+$sudo }
    case $there in
    docker) remote="${prefix}docker load" ;;
    *)
        [ "$there" = ctr ] || prefix="${prefix}k3s "
        remote="${prefix}ctr --namespace k8s.io images import - && ${prefix}ctr --namespace k8s.io images label $(name_of "$1") $pin"
        ;;
    esac
    # shellcheck disable=SC2086 # a command of several words
    act $ssh "$node" "$remote" <"$root/$(archive "$1" "$machine")"
}

# The digest in the entry point of an archive.
entry_of() { tar -xOf "$1" index.json 2>/dev/null | sed -n 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/p'; }

# True if the archive for both architectures has the tag and holds the images of the two archives.
joins() {
    joined=$root/dist/images/psl-$1.tar
    tar -xOf "$joined" index.json 2>/dev/null | grep -q "\"$(name_of "$1")\"" || return 1
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
    # One name for both architectures, if the tool supports it, the joined archives exist and --arch
    # is not given.
    both=
    if [ "$tool" = skopeo ] && [ -z "$asked_arch" ] && [ "$programs" != e2e ] && has_joined; then
        both=yes
        need_archives amd64
        need_archives arm64
        for program in $programs; do
            joins "$program" || fail "dist/images/psl-$program.tar does not join the two archives beside it under the tag $tag; run: scripts/image.sh --index --tag $tag, or choose one with --arch"
        done
    fi
    need_archives "$arch"
    for program in $programs; do
        to=$registry/psl-$program:$tag
        push_image || fail "$tool failed to push $to, see above; to log in: '$tool login' (crane: 'crane auth login')"
    done
    say "to install from there: scripts/deploy.sh apply --registry $registry --tag $tag"
}

has_joined() {
    for one in lock init health; do [ -f "$root/dist/images/psl-$one.tar" ] || return 1; done
}

push_image() {
    from=$root/$(archive "$program" "$arch")
    case $tool in
    skopeo)
        if [ -n "$both" ]; then
            act skopeo copy --all "oci-archive:$root/dist/images/psl-$program.tar" "docker://$to"
        else
            act skopeo copy "oci-archive:$from" "docker://$to"
        fi
        ;;
    crane) act crane push "$from" "$to" ;;
    *)
        # shellcheck disable=SC2086 # no word, or one
        act $sudo "$tool" load --input "$from" && act $sudo "$tool" tag "$(name_of "$program")" "$to" && act $sudo "$tool" push "$to"
        ;;
    esac
}
