#!/bin/sh
# Builds the programs again in another directory, without a network, and compares them with dist/.
#
#   scripts/reproduce.sh [--arch ARCH] [PROGRAM...]     the same arguments as scripts/build.sh
#
# Copies this checkout and the packed crates (scripts/vendor.sh) to another directory, and builds
# there with an empty Cargo home and another target directory. If possible (root, unshare), the
# build has a network namespace without interfaces. Needs the tools of scripts/build.sh and its
# output.
# Exit codes: 0 the same bytes, 1 not the same or not built, 2 bad arguments, 3 no git checkout.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

fail() {
    echo "reproduce.sh: $1" >&2
    exit "${2:-1}"
}

arch=amd64 programs=''
while [ $# -gt 0 ]; do
    case $1 in
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/reproduce.sh && exit 0 ;;
    --arch=*) arch=${1#*=} ;;
    --arch) [ $# -ge 2 ] || fail "--arch needs a value" 2 && arch=$2 && shift ;;
    lock | init | health) programs="$programs $1" ;;
    *) fail "unknown argument '$1'; accepted: --arch ARCH, lock, init, health" 2 ;;
    esac
    shift
done
case $arch in amd64 | arm64) ;; *) fail "unknown architecture '$arch'; accepted: amd64, arm64" 2 ;; esac
programs=${programs:-lock init health}
if [ "$(git rev-parse --is-inside-work-tree 2>/dev/null || :)" != true ]; then
    echo "reproduce.sh: not a git checkout, or git is not installed: git lists the sources to copy" >&2
    exit 3
fi
for program in $programs; do [ -f "dist/$arch/$program" ] || fail "dist/$arch/$program is missing; run: scripts/build.sh --arch $arch"; done

commit=$(sed -n 's/^commit=//p' "dist/$arch/${programs##* }.built")
for program in $programs; do
    grep -qx "commit=$commit" "dist/$arch/$program.built" || fail "the programs in dist/$arch are of different commits; run: scripts/build.sh --arch $arch"
done

elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

scripts/vendor.sh
mkdir "$elsewhere/another directory"
git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory "$elsewhere/another directory"
# The copy is not a checkout. As in the sources of a release, this file names the commit.
first=dist/$arch/${programs##* }.built
echo "$commit $(sed -n 's/^epoch=//p' "$first")" >"$elsewhere/another directory/scripts/commit.txt"
tar --extract --gzip --file dist/crates.tar.gz --directory "$elsewhere/another directory"

alone=
if unshare --net true 2>/dev/null; then alone="unshare --net"; else echo "skipped: cannot create a network namespace, so only --offline keeps the second build off the network"; fi
# shellcheck disable=SC2086 # words of a command, names of programs
CARGO_HOME="$elsewhere/cargo" CARGO_TARGET_DIR="$elsewhere/target" $alone \
    "$elsewhere/another directory/scripts/build.sh" --offline --arch "$arch" $programs >/dev/null

for program in $programs; do
    if ! cmp "dist/$arch/$program" "$elsewhere/another directory/dist/$arch/$program"; then
        fail "dist/$arch/$program differs from a build of the same sources in another directory"
    fi
    echo "same bytes: $(sha256sum "dist/$arch/$program")"
done
