#!/bin/sh
# Scenarios: deploy.sh and the manifests, from an empty cluster to an empty cluster.
# Read by scenario.sh.

locks_answer() {
    for of_node in $(nodes); do
        ask lock "$of_node" state | grep -q '"version":' || fail "the lock of $of_node does not answer /state"
    done
}

# The commands of README's "Quick start".
scenario_install() {
    images_there
    apply --with-health
    locks_answer
    eventually 30 "health and the gate of each node open" all_open
    deploy status || fail "scripts/deploy.sh status reports an error while all pods run"
    deploy delete || fail "scripts/deploy.sh delete failed"
    must_be_gone "after deploy.sh delete"
}

# A cluster without the Prometheus operator gets the operator's two kinds, without a controller.
operator_kinds() {
    kube get customresourcedefinition podmonitors.monitoring.coreos.com >/dev/null 2>&1 && return 0
    for kind in PodMonitor PrometheusRule; do
        plural=$(printf %ss "$kind" | tr '[:upper:]' '[:lower:]')
        cat <<END
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: $plural.monitoring.coreos.com, labels: {psl-e2e: made}}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: $kind, plural: $plural}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
END
    done | kube apply -f -
    kube wait --for=condition=Established customresourcedefinition --selector psl-e2e --timeout 20s
    eventually 20 "the kind PodMonitor" kube get podmonitors --all-namespaces
}

# Each overlay, in three installations; the second replaces the first. In each, the example gets
# leases.
scenario_overlays() {
    images_there
    operator_kinds
    overlay service --overlay network-policies --overlay air-gapped --overlay monitoring --overlay injection
    overlay host-port --overlay health
    [ -z "$(lock get service lock --ignore-not-found --output name)" ] || fail "apply --overlay host-port does not delete the Service of --overlay service"
    overlays_go "service and host-port"
    overlay host-network --overlay health --overlay network-policies
    overlays_go host-network
    kube delete customresourcedefinitions --selector psl-e2e
    must_be_gone "at the end"
}
# overlay NAME [OPTIONS]: installs the overlay and the example, which must get its leases.
overlay() {
    apply --overlay "$@"
    locks_answer
    space "psl-e2e-$1"
    example "psl-e2e-$1" --overlay "$1"
    forget "psl-e2e-$1"
}
example() {
    example_space=$1
    shift
    deploy example --into "$example_space" --wait 60 ${E2E_REGISTRY:+--registry "$E2E_REGISTRY"} "$@" || fail "the example does not start in namespace $example_space with $*"
    started_by_lock "$example_space"
}
overlays_go() {
    deploy delete || fail "scripts/deploy.sh delete failed after $1"
    eventually 40 "no objects remain after deploy.sh delete of $1" only_kinds_left
}
only_kinds_left() { left | grep -v '^CustomResourceDefinition ' && return 1; return 0; }

# Asserts that each init container of the example got a lease.
started_by_lock() {
    for pod in $(kube --namespace "$1" get pods --output name); do
        kube --namespace "$1" logs "$pod" --container pod-startup-lock >"$E2E_SCRATCH/said"
        grep -qi 'lock acquired' "$E2E_SCRATCH/said" || fail "$pod started without a lease: $(tail -n 1 "$E2E_SCRATCH/said")"
    done
}

scenario_entry_points() {
    images_there
    for entry in deploy deploy/with-health deploy/with-node-load deploy/one-namespace; do
        kustomized "$entry" apply
        rolled_out pod-startup-lock daemonset/lock 60
        case $entry in
        deploy) ;;
        *) rolled_out pod-startup-lock daemonset/health 60 && programs_are_well ;;
        esac
        locks_answer
        [ "$entry" != deploy/with-health ] || example_by_kubectl
        kustomized "$entry" delete
        must_be_gone "after delete -k $entry"
    done
    # deploy.sh delete has to remove objects that delete -k leaves.
    kustomized deploy/one-namespace apply
    deploy delete || fail "scripts/deploy.sh delete failed after deploy/one-namespace"
    must_be_gone "after deploy.sh delete of deploy/one-namespace"
}

example_by_kubectl() {
    space psl-e2e-example
    kustomized deploy/example apply --namespace psl-e2e-example
    rolled_out psl-e2e-example deployment/startup-example 60
    started_by_lock psl-e2e-example
    kustomized deploy/example delete --namespace psl-e2e-example
    forget psl-e2e-example
}

# kubectl apply -k or delete -k, with the registry in a kustomization around it if there is one.
kustomized() {
    entry_point=$1 verb=$2
    shift 2
    if [ -z "$E2E_REGISTRY" ]; then
        kube "$verb" "$@" -k "$entry_point" || fail "kubectl $verb -k $entry_point"
        return 0
    fi
    around=$E2E_SCRATCH/around
    rm -rf "$around" && mkdir "$around" && cp -R deploy "$around/deploy" && mkdir "$around/deploy/around"
    {
        echo "resources: [..${entry_point#deploy}]"
        echo 'images:'
        for program in lock init health; do echo "  - {name: localhost/psl-$program, newName: $E2E_REGISTRY/psl-$program}"; done
    } >"$around/deploy/around/kustomization.yaml"
    kube "$verb" "$@" -k "$around/deploy/around" || fail "kubectl $verb -k $entry_point"
}

# Pod Security "restricted" in both namespaces, and the rights and limits of the manifests.
scenario_restricted() {
    standing_lock
    level=$(kube get namespace pod-startup-lock --output 'jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}')
    [ "$level" = restricted ] || fail "the namespace of the lock enforces '$level', not restricted"
    limits=$(lock get pods --output 'jsonpath={.items[*].spec.containers[*].resources.limits.memory}' | tr ' ' '\n' | sort -u)
    [ "$limits" = 16Mi ] || fail "the memory limits are $limits, not 16Mi"
    space psl-e2e-restricted
    example psl-e2e-restricted
    forget psl-e2e-restricted
    programs_are_well
}
