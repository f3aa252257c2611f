#!/bin/sh
# Renders manifests with the options of deploy.sh. Read by deploy.sh.
# shellcheck disable=SC2154 # variables of deploy.sh

images() {
    echo 'images:'
    for program in lock init health; do
        echo "  - {name: localhost/psl-$program, newName: \"$registry/psl-$program\", newTag: \"$tag\"}"
    done
}

# Renders the kustomization on stdin to $scratch/$1.yaml, in a copy of deploy/, so that it can name
# the components there.
kustomize() {
    mkdir "$scratch/deploy/$1"
    cat >"$scratch/deploy/$1/kustomization.yaml"
    # shellcheck disable=SC2086
    $kubectl kustomize "$scratch/deploy/$1" >"$scratch/$1.yaml" 2>"$scratch/error" ||
        fail "$kubectl cannot render the manifests (1.21 or newer is needed): $(head -n 1 "$scratch/error")"
}

# Writes all manifests to $scratch/manifests.yaml; if $given is set, without the annotation of a
# namespace that delete removes. Names are quoted, because YAML reads null, true and 123 as other
# types.
render() {
    need_kubectl
    cp -R "$root/deploy" "$scratch/deploy"
    {
        printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: "%s"\n' "$namespace"
        printf 'resources: [../namespace, ../lock]\ncomponents:\n  - ../%s\n' "$way"
        for overlay in health monitoring network-policies; do ! with_overlay "$overlay" || echo "  - ../$overlay"; done
        echo '  - ../images'
        # After ../images, whose names it changes.
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
    # kustomize drops the quotes in the subjects of a binding.
    sed "/^subjects:/,/^---/s/^  namespace: $namespace\$/  namespace: \"$namespace\"/" "$scratch/everything.yaml" >"$scratch/manifests.yaml"
    ! with_overlay injection || render_injection
}

# Rendered separately, because kustomize would give a namespace to kinds that it does not know.
render_injection() {
    host="'lock.$namespace'" pull="'IfNotPresent'"
    [ "$way" = service ] || host="''"
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
        [ -n "$served" ] || fail "the cluster does not serve MutatingAdmissionPolicy; it needs Kubernetes 1.36, or 1.32 with a feature gate, see deploy/injection"
        if of_another mutatingadmissionpolicybinding pod-startup-lock '{{with .spec.matchResources.namespaceSelector}}{{range .matchExpressions}}{{range .values}}{{.}}{{"\n"}}{{end}}{{end}}{{end}}'; then
            fail "the injection belongs to the lock in namespace $other; delete that lock first, or omit --overlay injection"
        fi
    fi
    { echo ---; sed "s:admissionregistration.k8s.io/v1$:admissionregistration.k8s.io/$served:" "$scratch/only-injection.yaml"; } >>"$scratch/manifests.yaml"
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
