#!/bin/sh
# Checks everything: form, lints, the static binaries with their budgets, all tests against them,
# the manifests, that the binaries can be made again elsewhere, arm64, the documentation, the
# dependencies, the scripts, the demonstration, a real cluster.
#
#   scripts/test.sh [--help]
#
# The cluster is that of the file in PSL_E2E_KUBECONFIG; PSL_E2E_OPTIONS are options of
# scripts/e2e.sh, such as "--nodes-tool DIR". KUBECONFIG is ignored.
# Needs what scripts/build.sh needs. Each step runs, also after a failed one, unless it needs the
# binaries and they were not built. A line that begins with "skipped:" says what a missing tool
# prevents. The end names the steps that failed or did not run and each reason for a skip once; the
# last line counts tests and steps: "N passed, N failed, N skipped". A test that skips a part of its
# work counts as passed and as skipped. With CI=true warnings are errors.
# Exit codes: 0 nothing failed, 1 a step failed or did not run, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

case $* in
"") ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/test.sh && exit 0 ;;
*) echo "test.sh: '$*' is not accepted; accepted: --help, or nothing" >&2 && exit 2 ;;
esac

warnings=
[ "${CI:-}" != true ] || warnings="-D warnings"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
: >"$scratch/skips"
passed=0 failed=0 failed_steps='' not_run='' built=''

# The sum over all results of Rust's test runner in the last step's output: of "passed" or "failed".
tests() { sed -n "s/^test result: .* \([0-9]*\) $1;.*/\1/p" "$scratch/output" | awk '{ sum += $1 } END { print sum + 0 }'; }

# Runs a command as a step: step NAME COMMAND [ARGUMENT...]. One that ends with 3 is skipped, for the reason in the last line
# of its output. Never call it in a condition: the shell ignores `set -e` there.
step() {
    name=$1 && shift
    printf '\n== %s\n' "$name"
    # A pipe ends with the exit code of tee, so that of the command goes to a file.
    {
        set +e
        (
            set -e
            "$@"
        )
        echo $? >"$scratch/code"
    } 2>&1 | tee "$scratch/output"
    # A scenario of e2e.sh has its name before the word.
    sed -n -e '/^skipped: /p' -e 's/^\([a-z-]*\): skipped: /skipped: \1: /p' "$scratch/output" >>"$scratch/skips"
    passed=$((passed + $(tests passed)))
    failed=$((failed + $(tests failed)))
    code=$(cat "$scratch/code")
    case $code in
    0) passed=$((passed + 1)) ;;
    3) echo "skipped: $(tail -n 1 "$scratch/output")" | tee -a "$scratch/skips" ;;
    *)
        # A failed test is counted already.
        [ "$(tests failed)" -gt 0 ] || failed=$((failed + 1))
        failed_steps="$failed_steps, $name"
        ;;
    esac
}

# A step that needs the static binaries.
step_with_binaries() {
    if [ -n "$built" ]; then step "$@"; else not_run="$not_run, $1"; fi
}

# Within a step: ends it, or leaves out a part of it.
skip() { echo "$1" && exit 3; }
skip_part() { echo "skipped: $1"; }
has() { command -v "$1" >/dev/null 2>&1; }

form() {
    cargo fmt --version >/dev/null 2>&1 || skip "rustfmt is not installed (rustup component add rustfmt)"
    cargo fmt --all --check
}

lints() {
    cargo clippy --version >/dev/null 2>&1 || skip "clippy is not installed (rustup component add clippy)"
    # shellcheck disable=SC2086 # two words, or none
    cargo clippy --quiet --locked --workspace --all-targets -- $warnings
}

all_tests() {
    echo "compiling the tests, some minutes the first time"
    PSL_TEST_BIN_DIR="$PWD/dist/amd64" cargo test --quiet --locked --workspace --no-fail-fast
}

arm64() {
    echo '#include <stdint.h>' | aarch64-linux-gnu-gcc -E - >/dev/null 2>&1 || skip "the compiler for arm64 or its headers are missing (Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross)"
    has qemu-aarch64-static || has qemu-aarch64 || skip "qemu-aarch64 is missing, which runs arm64 (Debian: apt-get install qemu-user-static)"
    [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-musl" ] || rustup target add aarch64-unknown-linux-musl ||
        skip "the target aarch64-unknown-linux-musl cannot be added from here"
    scripts/arm64.sh
}

documentation() { RUSTDOCFLAGS=$warnings cargo doc --quiet --locked --workspace --no-deps; }

dependencies() {
    cargo deny --version >/dev/null 2>&1 || skip "cargo-deny is not installed (cargo install --locked cargo-deny)"
    cargo deny --log-level error check bans licenses sources || exit 1
    if advisories=$(cargo deny --log-level error check advisories 2>&1); then
        echo "$advisories"
    else
        case $advisories in
        *"failed to fetch advisory database"*) skip_part "security advisories: their database cannot be fetched from here" ;;
        *) echo "$advisories" && exit 1 ;;
        esac
    fi
}

scripts_form() {
    has shellcheck || skip "shellcheck is not installed (Debian: apt-get install shellcheck)"
    shellcheck scripts/*.sh scripts/e2e/*.sh || exit 1
}

real_cluster() {
    [ -n "${PSL_E2E_KUBECONFIG:-}" ] || skip "the scenarios on a real cluster: PSL_E2E_KUBECONFIG names none (scripts/e2e.sh --help)"
    # A cluster that is given and does not answer is a failure.
    # shellcheck disable=SC2086 # several words
    KUBECONFIG=$PSL_E2E_KUBECONFIG scripts/e2e.sh ${PSL_E2E_OPTIONS:-} || exit 1
}

step "static binaries" scripts/build.sh
[ "$code" != 0 ] || built=yes
step "form" form
step "lints" lints
step_with_binaries "tests, with the static binaries" all_tests
step "manifests against Kubernetes' schemas" scripts/manifests.sh
# One program shows a dependence on the directory; release.sh holds all of them against a second build.
step_with_binaries "the same binaries, built elsewhere without a network" scripts/reproduce.sh init
step "arm64" arm64
step "documentation" documentation
step "dependencies" dependencies
step "scripts" scripts_form
step_with_binaries "demonstration" scripts/demo.sh --no-build
step_with_binaries "end to end, on a real cluster" real_cluster

printf '\n== result\n'
skips=$(wc -l <"$scratch/skips")
[ "$skips" -eq 0 ] || echo "skipped, with the number of times:"
sed 's/^skipped: //' "$scratch/skips" | sort | uniq -c | sort -rn
[ -z "$not_run" ] || echo "not run, because the static binaries are missing: ${not_run#, }"
[ -z "$failed_steps" ] || echo "failed: ${failed_steps#, }"
echo "$passed passed, $failed failed, $skips skipped"
[ "$failed" -eq 0 ]
