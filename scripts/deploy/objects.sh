#!/bin/sh
# Finds and deletes the objects of a lock in the cluster. Read by deploy.sh.
# shellcheck disable=SC2154 # variables of deploy.sh

label=app.kubernetes.io/part-of=pod-startup-lock

# Lists the objects of these kinds that carry the label, one a line: NAMESPACE APIVERSION KIND NAME,
# and the namespaces that a binding names. - stands for no namespace.
labelled() {
    kube get "$@" --selector "$label" --output 'go-template={{range .items}}{{or .metadata.namespace "-"}} {{.apiVersion}} {{.kind}} {{.metadata.name}}{{range .subjects}} {{or .namespace "-"}}{{end}}{{with .spec}}{{with .matchResources}}{{with .namespaceSelector}}{{range .matchExpressions}}{{range .values}} {{.}}{{end}}{{end}}{{end}}{{end}}{{end}}{{"\n"}}{{end}}'
}

# Sets $own and $cluster to the kinds of deploy/ with and without a namespace. kubectl refuses a
# list with a kind that the cluster does not serve.
list_kinds() {
    own=daemonsets.apps,services,configmaps,serviceaccounts,resourcequotas,networkpolicies.networking.k8s.io
    cluster=clusterrolebindings.rbac.authorization.k8s.io,clusterroles.rbac.authorization.k8s.io
    find_served
    [ -z "$served" ] || cluster=mutatingadmissionpolicybindings.admissionregistration.k8s.io,mutatingadmissionpolicies.admissionregistration.k8s.io,$cluster
    ! serves monitoring.coreos.com/v1 PodMonitor || own=$own,podmonitors.monitoring.coreos.com,prometheusrules.monitoring.coreos.com
}

# Writes the objects of the lock in this namespace to $scratch/ours as NAMESPACE
# KIND.VERSION.GROUP/NAME, in the order of deletion, and the cluster-wide objects of another lock to
# $scratch/others. Fails if listing fails; the reason is in $scratch/error.
list_ours() {
    list_kinds
    all=yes
    : >"$scratch/error"
    {
        labelled "$cluster" || all=
        labelled rolebindings.rbac.authorization.k8s.io,roles.rbac.authorization.k8s.io --all-namespaces || all=
        labelled "$own" --namespace "$namespace" || all=
    } >"$scratch/labelled" 2>>"$scratch/error"
    # A role belongs to the lock whose namespace the binding of the same name has as its subject.
    # Names are compared as text: 1e3 is not 1000.
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

# Deletes the objects in a file of the form of $scratch/ours; objects without a namespace first.
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

# Deletes objects of an earlier apply that are not among the manifests of this one. ConfigMaps of
# earlier settings stay while their program exists, because kubectl rollout undo needs them.
prune() {
    : >"$scratch/ours"
    # A failure ends this subshell and not the script, because the rollout has succeeded.
    (list_ours) || say "warning: objects of other overlays may remain, because listing them failed: $(head -n 1 "$scratch/error")"
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
    remove "$scratch/left" || fail "some objects of other overlays were not deleted, see above; fix the cause and run apply again"
}
