#!/bin/sh
# Checks everything: form, lints, the static binaries with their budgets, all tests against them,
# the manifests, that the binaries can be made again elsewhere, arm64, the documentation, the
# dependencies, the scripts, the demonstration, a real cluster.
#
#   scripts/test.sh
#
# The cluster is that of the file in PSL_E2E_KUBECONFIG; PSL_E2E_OPTIONS are options of scripts/e2e.sh,
# such as "--nodes-tool DIR". KUBECONFIG is not looked at.
# Needs what scripts/build.sh needs. What else is missing is said in a line that begins with
# "skipped:", and the rest goes on. With CI=true warnings are errors.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

step() { printf '\n== %s\n' "$1"; }
skip() { printf 'skipped: %s\n' "$1"; }
has() { command -v "$1" >/dev/null 2>&1; }

warnings=
[ "${CI:-}" != true ] || warnings="-D warnings"

step "static binaries"
scripts/build.sh

step "form"
if cargo fmt --version >/dev/null 2>&1; then cargo fmt --all --check; else skip "rustfmt is not installed (rustup component add rustfmt)"; fi

step "lints"
if cargo clippy --version >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # two words, or none
    cargo clippy --quiet --locked --workspace --all-targets -- $warnings
else
    skip "clippy is not installed (rustup component add clippy)"
fi

step "tests, with the static binaries"
PSL_TEST_BIN_DIR="$PWD/dist/amd64" cargo test --quiet --locked --workspace

step "manifests against Kubernetes' schemas"
code=0
scripts/manifests.sh || code=$?
case $code in
0) ;;
3) skip "the schemas, for the reason above" ;;
*) exit 1 ;;
esac

step "the same binaries, built elsewhere without a network"
# One program shows what depends on the directory; release.sh holds all of them against a second build.
code=0
scripts/reproduce.sh init || code=$?
case $code in
0) ;;
3) skip "the second build, for the reason above" ;;
*) exit 1 ;;
esac

step "arm64"
if ! has aarch64-linux-gnu-gcc; then
    skip "there is no compiler for arm64 (Debian: apt-get install gcc-aarch64-linux-gnu)"
elif ! has qemu-aarch64-static && ! has qemu-aarch64; then
    skip "there is no qemu-aarch64 to run arm64 (Debian: apt-get install qemu-user-static)"
elif [ ! -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-musl" ] && ! rustup target add aarch64-unknown-linux-musl; then
    skip "the target aarch64-unknown-linux-musl cannot be added from here"
else
    scripts/arm64.sh
fi

step "documentation"
RUSTDOCFLAGS=$warnings cargo doc --quiet --locked --workspace --no-deps

step "dependencies"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --log-level error check bans licenses sources
    if advisories=$(cargo deny --log-level error check advisories 2>&1); then
        echo "$advisories"
    else
        case $advisories in
        *"failed to fetch advisory database"*) skip "security advisories: their database cannot be fetched from here" ;;
        *) echo "$advisories" && exit 1 ;;
        esac
    fi
else
    skip "cargo-deny is not installed (cargo install --locked cargo-deny)"
fi

step "scripts"
if has shellcheck; then shellcheck scripts/*.sh scripts/e2e/*.sh; else skip "shellcheck is not installed (Debian: apt-get install shellcheck)"; fi

step "demonstration"
scripts/demo.sh --no-build

step "end to end, on a real cluster"
if [ -n "${PSL_E2E_KUBECONFIG:-}" ]; then
    # shellcheck disable=SC2086 # several words
    KUBECONFIG=$PSL_E2E_KUBECONFIG scripts/e2e.sh ${PSL_E2E_OPTIONS:-}
else
    skip "the scenarios on a real cluster: PSL_E2E_KUBECONFIG names none (scripts/e2e.sh --help)"
fi

step "passed"
