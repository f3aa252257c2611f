#!/bin/sh
# Measures a herd on a real node: pods that each burn one CPU second before they are ready, behind
# the lock of the node.
#
#   scripts/e2e/measure.sh NODE [PODS]
#   scripts/e2e/measure.sh --help     this text
#
#   NODE     name of the node; its lock must be running (scripts/deploy.sh apply --locks N)
#   PODS     number of pods that start at once (default 20)
#
# Prints one line: the seconds from the creation of the Deployment until all pods are ready, the
# restarts of their containers, and the idle share of the CPU of this machine. The images init and
# e2e must be on the node (scripts/build.sh e2e, scripts/image.sh). A start-up probe kills a
# container that is not ready within five seconds, as in the scenarios. Uses the cluster of
# KUBECONFIG and removes its namespace at the end. Exit codes: 0 measured, 1 not measured, 2 bad
# arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/../.."
export LC_ALL=C

case ${1:-} in
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/e2e/measure.sh && exit 0 ;;
'' | -*) echo "measure.sh: missing argument NODE; see --help" >&2 && exit 2 ;;
esac
node=$1 pods=${2:-20} ns=psl-e2e-measure-$$
case $pods in
'' | *[!0-9]* | 0*) echo "measure.sh: PODS: '$pods' is not accepted; accepted: a number from 1" >&2 && exit 2 ;;
esac

# Workloads of the scenarios; their time limits are not used here.
E2E_SCRATCH=$(mktemp -d)
trap 'kubectl delete namespace "$ns" --wait=false --ignore-not-found >/dev/null 2>&1; rm -rf "$E2E_SCRATCH"' EXIT
trap 'exit 130' INT TERM
deadline=$(($(date +%s) + 600))
export E2E_SCRATCH deadline
# shellcheck source=scripts/e2e/lib.sh
. scripts/e2e/lib.sh

# Prints busy and idle ticks of all cores together.
ticks() { awk '$1 == "cpu" {print $2 + $3 + $4 + $7 + $8 + $9, $5 + $6}' /proc/stat; }

space "$ns"
before=$(ticks) began=$(date +%s.%N)
herd "$ns" shop "$node" "$pods"
kubectl --namespace "$ns" rollout status deployment/shop --timeout=590s >/dev/null || exit 1
ended=$(date +%s.%N) after=$(ticks)
echo "$before $after $began $ended $pods $(restarts "$ns" shop)" |
    awk '{printf "%d pods ready after %.1f s, %d restarts, %d %% of the CPU idle\n", $7, $6 - $5, $8, 100 * ($4 - $2) / ($3 + $4 - $1 - $2)}'
