#!/bin/sh
# Runs one scenario of e2e.sh: scenario.sh NAME SECONDS
# The reason of a failure or a skip goes to $E2E_SCRATCH/why. Exit code 0: passed, 77: skipped, else
# failed.
set -eu
# shellcheck source=scripts/e2e/lib.sh
. scripts/e2e/lib.sh
for file in install injection herd node stuck; do
    # shellcheck disable=SC1090
    . "scripts/e2e/$file.sh"
done

fail() {
    printf '%s\n' "$1" | tee "$E2E_SCRATCH/why" >&2
    kubectl get pods --all-namespaces --output wide --request-timeout 5s 2>&1 | grep -E 'pod-startup-lock|psl-e2e'
    exit 1
}
skip() {
    printf '%s\n' "$1" >"$E2E_SCRATCH/why"
    exit 77
}
# Background processes of the scenario: calls of timeout, which pass a signal on.
background=''
end_background() {
    # shellcheck disable=SC2086 # several processes
    [ -z "$background" ] || kill $background 2>/dev/null || true
    background=''
}
trap end_background EXIT
# power ACTION COMMAND...: calls the nodes' tool. Exit code 77 means that it does not support the
# action.
power() {
    asked_for=$1 code=0
    shift
    "$@" >&2 || code=$?
    [ "$code" -ne 77 ] || skip "the nodes' tool cannot $asked_for"
    [ "$code" -eq 0 ] || fail "the nodes' tool failed to $asked_for: exit code $code"
}
needs_power() { has_power || skip "needs --nodes-tool"; }

# shellcheck disable=SC2034 # bounds every call in lib.sh
deadline=$(($(now) + $2))
echo "$1, at most $2 s" >&2
"scenario_$(printf %s "$1" | tr - _)"
