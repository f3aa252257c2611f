#!/bin/sh
# Validates deploy/ against the schemas of Kubernetes, checks and evaluates the expressions of the
# injection, and parses the expressions of the alerts.
#
#   scripts/manifests.sh [--help]
#
# Reads each file, and the output of kubectl kustomize for the entry points and each overlay. Needs
# kubectl, and python3 with venv. The packages of scripts/manifests.txt are installed once, in the
# target directory. Exit codes: 0 valid, 1 invalid, 2 bad arguments, 3 a tool is missing or cannot
# be installed.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

case $* in
"") ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/manifests.sh && exit 0 ;;
*) echo "manifests.sh: unknown argument '$*'; accepted: --help" >&2 && exit 2 ;;
esac
missing() {
    echo "manifests.sh: $1" >&2
    exit 3
}

command -v kubectl >/dev/null || missing "command not found: kubectl"
command -v python3 >/dev/null || missing "command not found: python3"
tools=${CARGO_TARGET_DIR:-target}/manifests
if ! cmp -s scripts/manifests.txt "$tools/installed"; then
    python3 -m venv --clear "$tools" || missing "python3 -m venv failed (Debian: apt-get install python3-venv)"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/manifests.txt ||
        missing "cannot install the packages of scripts/manifests.txt, see above"
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
    # As the operator does it: the groups under "spec", indented by one step less.
    sed -n '/^spec:/,$s/^  //p' deploy/monitoring/rules.yaml >"$scratch/rules.yaml"
    cp dev/checks/tests/data/alerts.yaml "$scratch/alerts.yaml"
    promtool test rules "$scratch/alerts.yaml"
else
    echo "skipped: command not found: promtool, which tests the alerts (Debian: apt-get install prometheus)"
fi
