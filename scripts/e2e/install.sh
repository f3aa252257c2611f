#!/bin/sh
# Scenarios: deploy.sh and the manifests, from an empty cluster to an empty cluster. Read by scenario.sh.

locks_answer() {
    for of_node in $(nodes); do
        ask lock "$of_node" state | grep -q '"version":' || fail "the lock of $of_node does not answer /state"
    done
}

# The commands of README's "Install".
scenario_install() {
    images_there
    apply --with-health
    locks_answer
    for of_node in $(nodes); do
        ask health "$of_node" '' >/dev/null || fail "health of $of_node does not answer 200"
        eventually 20 "the gate of $of_node open" state_says "$of_node" '"gate":{"open":true,"overridden":false'
    done
    deploy status || eventually 60 "deploy.sh status exits 0" deploy status
    deploy delete || fail "deploy.sh delete"
    must_be_gone "after deploy.sh delete"
}

# A cluster without the Prometheus operator gets its two kinds, without a controller.
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

# Each overlay, in three installations; a pod finds the lock by each of the three ways.
scenario_overlays() {
    images_there
    operator_kinds
    for words in 'service network-policies air-gapped monitoring injection' 'host-port health' 'host-network health network-policies'; do
        options=''
        for overlay in $words; do options="$options --overlay $overlay"; done
        # shellcheck disable=SC2086 # several words
        apply $options
        locks_answer
        space psl-e2e-overlays
        # shellcheck disable=SC2086
        deploy example $options --into psl-e2e-overlays --wait 60 ${E2E_REGISTRY:+--registry "$E2E_REGISTRY"} || fail "the example does not start with $words"
        started_by_lock psl-e2e-overlays
        forget psl-e2e-overlays true
        deploy delete || fail "deploy.sh delete after $words"
        kube delete customresourcedefinitions --selector psl-e2e-none >/dev/null
        must_be_gone_but_kinds "after deploy.sh delete of $words"
    done
    kube delete customresourcedefinitions --selector psl-e2e
    must_be_gone "at the end"
}
only_kinds_left() { left | grep -v '^CustomResourceDefinition ' && return 1; return 0; }
must_be_gone_but_kinds() { eventually 40 "$1: something is left" only_kinds_left; }

# Each init container of the example says that it has got a lease.
started_by_lock() {
    for pod in $(kube --namespace "$1" get pods --output name); do
        kube --namespace "$1" logs "$pod" --container pod-startup-lock >"$E2E_SCRATCH/said"
        grep -q 'lock acquired\|Lock acquired' "$E2E_SCRATCH/said" || fail "$pod started without a lease: $(tail -n 1 "$E2E_SCRATCH/said")"
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
        kustomized "$entry" delete
        must_be_gone "after delete -k $entry"
    done
    # What it leaves is not said by its own delete alone.
    kustomized deploy/one-namespace apply
    deploy delete || fail "deploy.sh delete after deploy/one-namespace"
    must_be_gone "after deploy.sh delete of deploy/one-namespace"
}

# kubectl apply -k or delete -k, with the registry in a kustomization around it if there is one.
kustomized() {
    if [ -z "$E2E_REGISTRY" ]; then
        kube "$2" -k "$1" || fail "kubectl $2 -k $1"
        return 0
    fi
    around=$E2E_SCRATCH/around
    rm -rf "$around" && mkdir "$around" && cp -R deploy "$around/deploy" && mkdir "$around/deploy/around"
    {
        echo "resources: [..${1#deploy}]"
        echo 'images:'
        for program in lock init health; do echo "  - {name: localhost/psl-$program, newName: $E2E_REGISTRY/psl-$program}"; done
    } >"$around/deploy/around/kustomization.yaml"
    kube "$2" -k "$around/deploy/around" || fail "kubectl $2 -k $1"
}

# Pod Security `restricted`, enforced by both namespaces, and the rights and limits of the manifests.
scenario_restricted() {
    standing_lock
    level=$(kube get namespace pod-startup-lock --output 'jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}')
    [ "$level" = restricted ] || fail "the namespace of the lock enforces '$level', not restricted"
    limits=$(lock get pods --output 'jsonpath={.items[*].spec.containers[*].resources.limits.memory}' | tr ' ' '\n' | sort -u)
    [ "$limits" = 16Mi ] || fail "the memory limits are $limits, not 16Mi"
    space psl-e2e-restricted
    deploy example --into psl-e2e-restricted --wait 60 ${E2E_REGISTRY:+--registry "$E2E_REGISTRY"} || fail "the example does not start in a restricted namespace"
    started_by_lock psl-e2e-restricted
    herd psl-e2e-restricted shop "$(first_node)" 2
    rolled_out psl-e2e-restricted deployment/shop 60
    forget psl-e2e-restricted
    programs_are_well
}
