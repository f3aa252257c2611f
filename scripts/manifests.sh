#!/bin/sh
# Holds everything in deploy/ against the schemas that Kubernetes publishes, checks the types in the expressions of the
# injection, tries them, and parses those of the alerts.
#
#   scripts/manifests.sh [--help]
#
# Looks at each file as it is, and at what kubectl renders of the entry points and of each overlay. Needs kubectl,
# and python3 with venv; what it installs (scripts/manifests.txt) goes to the target directory and is
# kept there, so that the network is needed once. Exit codes: 0 all fit, 1 not, 2 bad arguments, 3 a
# tool is missing or cannot be installed.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

case $* in
"") ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/manifests.sh && exit 0 ;;
*) echo "manifests.sh: '$*' is not accepted; accepted: --help, or nothing" >&2 && exit 2 ;;
esac
missing() {
    echo "manifests.sh: $1" >&2
    exit 3
}

command -v kubectl >/dev/null || missing "kubectl is missing, which renders the manifests"
command -v python3 >/dev/null || missing "python3 is missing"
tools=${CARGO_TARGET_DIR:-target}/manifests
if ! cmp -s scripts/manifests.txt "$tools/installed"; then
    python3 -m venv --clear "$tools" || missing "python3 cannot make an environment of its own (Debian: apt-get install python3-venv)"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/manifests.txt ||
        missing "what scripts/manifests.txt names cannot be installed from here"
    cp scripts/manifests.txt "$tools/installed"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
kubectl kustomize deploy >"$scratch/lock.yaml"
kubectl kustomize deploy/with-health >"$scratch/with-health.yaml"
kubectl kustomize deploy/with-node-load >"$scratch/with-node-load.yaml"
kubectl kustomize deploy/one-namespace >"$scratch/one-namespace.yaml"
kubectl kustomize deploy/example >"$scratch/example.yaml"
cp deploy/network-policies/application.yaml "$scratch/"
for overlay in service host-port host-network health air-gapped injection monitoring network-policies; do
    scripts/deploy.sh render --overlay "$overlay" >"$scratch/$overlay.yaml"
done
"$tools/bin/python" scripts/manifests.py "$scratch"/*.yaml

if command -v promtool >/dev/null; then
    # What the operator makes of its object: the groups under "spec", one step further to the left.
    sed -n '/^spec:/,$s/^  //p' deploy/monitoring/rules.yaml >"$scratch/rules.yaml"
    cp dev/checks/tests/data/alerts.yaml "$scratch/alerts.yaml"
    promtool test rules "$scratch/alerts.yaml"
else
    echo "skipped: there is no promtool to play the alerts (Debian: apt-get install prometheus)"
fi
