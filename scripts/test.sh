#!/bin/sh
# Runs all checks: format, lints, the static binaries and their budgets, all tests with them, the
# manifests, a second build with the same bytes, arm64, the API documentation, the dependencies, the
# scripts, the demonstration, a real cluster.
#
#   scripts/test.sh [--help]
#
# PSL_E2E_KUBECONFIG names the file of the cluster; PSL_E2E_OPTIONS are options of scripts/e2e.sh,
# such as "--nodes-tool DIR". KUBECONFIG is ignored. Needs the tools of scripts/build.sh. Each step
# runs, also after a failure, unless it needs binaries that were not built. If a tool is missing, a
# line that begins with "skipped:" names the tool and the skipped check. The end lists failed steps,
# steps that did not run, and the reasons for skips. The last line counts tests and steps: "N
# passed, N failed, N skipped". A test that skips a part counts as passed and as skipped. With
# CI=true warnings are errors.
# Exit codes: 0 nothing failed, 1 a step failed or did not run, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

case $* in
"") ;;
--help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/test.sh && exit 0 ;;
*) echo "test.sh: unknown argument '$*'; accepted: --help" >&2 && exit 2 ;;
esac

warnings=
[ "${CI:-}" != true ] || warnings="-D warnings"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
: >"$scratch/skips"
passed=0 failed=0 failed_steps='' not_run='' built=''

# Prints the sum of "passed" or "failed" over all results of Rust's test runner in the last output.
tests() { sed -n "s/^test result: .* \([0-9]*\) $1;.*/\1/p" "$scratch/output" | awk '{ sum += $1 } END { print sum + 0 }'; }

# step NAME COMMAND...: runs a command as a step. Exit code 3 means skipped; the last line of output
# is the reason. Never call it in a condition, where the shell ignores set -e.
step() {
    name=$1 && shift
    printf '\n== %s\n' "$name"
    # The pipe has the exit code of tee, so the exit code of the command goes to a file.
    {
        set +e
        (
            set -e
            "$@"
        )
        echo $? >"$scratch/code"
    } 2>&1 | tee "$scratch/output"
    # A scenario of e2e.sh prints its name first.
    sed -n -e '/^skipped: /p' -e 's/^\([a-z-]*\): skipped: /skipped: \1: /p' "$scratch/output" >>"$scratch/skips"
    passed=$((passed + $(tests passed)))
    failed=$((failed + $(tests failed)))
    code=$(cat "$scratch/code")
    case $code in
    0) passed=$((passed + 1)) ;;
    3) echo "skipped: $(tail -n 1 "$scratch/output")" | tee -a "$scratch/skips" ;;
    *)
        # Failed tests are already counted.
        [ "$(tests failed)" -gt 0 ] || failed=$((failed + 1))
        failed_steps="$failed_steps, $name"
        ;;
    esac
}

# A step that needs the static binaries.
step_with_binaries() {
    if [ -n "$built" ]; then step "$@"; else not_run="$not_run, $1"; fi
}

# Within a step: skip ends the step, skip_part leaves out a part of it.
skip() { echo "$1" && exit 3; }
skip_part() { echo "skipped: $1"; }
has() { command -v "$1" >/dev/null 2>&1; }

format() {
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
    echo '#include <stdint.h>' | aarch64-linux-gnu-gcc -E - >/dev/null 2>&1 || skip "the compiler for arm64 or its headers are not installed (Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross)"
    has qemu-aarch64-static || has qemu-aarch64 || skip "qemu-aarch64, which runs arm64, is not installed (Debian: apt-get install qemu-user-static)"
    [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-musl" ] || rustup target add aarch64-unknown-linux-musl ||
        skip "cannot add the Rust target aarch64-unknown-linux-musl"
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
        *"failed to fetch advisory database"*) skip_part "security advisories: cannot download their database" ;;
        *) echo "$advisories" && exit 1 ;;
        esac
    fi
}

scripts_form() {
    has shellcheck || skip "shellcheck is not installed (Debian: apt-get install shellcheck)"
    shellcheck scripts/*.sh scripts/*/*.sh || exit 1
}

real_cluster() {
    [ -n "${PSL_E2E_KUBECONFIG:-}" ] || skip "real cluster: PSL_E2E_KUBECONFIG is not set (scripts/e2e.sh --help)"
    # A cluster that does not answer is a failure, not a skip.
    # shellcheck disable=SC2086 # several words
    KUBECONFIG=$PSL_E2E_KUBECONFIG scripts/e2e.sh ${PSL_E2E_OPTIONS:-} || exit 1
}

step "static binaries" scripts/build.sh
[ "$code" != 0 ] || built=yes
step "format" format
step "lints" lints
step_with_binaries "tests, with the static binaries" all_tests
step "manifests against Kubernetes' schemas" scripts/manifests.sh
# One program is enough to find a dependence on the directory; release.sh compares all programs.
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
