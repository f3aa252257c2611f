#!/bin/sh
# Checks everything: form, lints, the static binaries with their budgets, all tests against them,
# the documentation, the dependencies, the scripts, the demonstration.
#
#   scripts/test.sh
#
# Needs what scripts/build.sh needs. What else is missing is said in a line that begins with
# "skipped:", and the rest goes on. With CI=true warnings are errors.
set -eu
cd "$(dirname "$0")/.."

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
if has shellcheck; then shellcheck scripts/*.sh; else skip "shellcheck is not installed (Debian: apt-get install shellcheck)"; fi

step "demonstration"
scripts/demo.sh --no-build

step "passed"
