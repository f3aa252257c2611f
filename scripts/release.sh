#!/bin/sh
# Makes a release: dist/VERSION/ with all files to publish.
#
#   scripts/release.sh VERSION        such as 1.2.3
#   scripts/release.sh --help         this text
#
# Checks that the tree has no uncommitted changes, that Cargo.toml and deploy/images name VERSION,
# and that CHANGELOG.md has VERSION with a date. Runs scripts/test.sh, and builds both
# architectures, each twice (scripts/reproduce.sh). Then dist/VERSION has:
#   psl-PROGRAM-ARCH                  the static programs
#   psl-PROGRAM-ARCH.tar, psl-PROGRAM.tar   image archives, of one and of both architectures
#   psl-PROGRAM-ARCH.cdx.json         the bill of materials of each (CycloneDX)
#   source.tar.gz, crates.tar.gz      this commit, and all crates to build it without a network
#   SHA256SUMS                        of all of these
# It does not tag, sign or publish; SECURITY.md describes these steps. The same commit gives the
# same bytes. Needs the tools of scripts/build.sh --arch arm64; takes as long as the tests.
# Exit codes: 0 made, 1 not made, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
export LC_ALL=C
unset TAR_OPTIONS GZIP

fail() {
    echo "release.sh: $1" >&2
    exit "${2:-1}"
}

[ "$*" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/release.sh && exit 0; }
[ $# -eq 1 ] || fail "expected one argument, the version, such as 1.2.3" 2
version=$1
case $version in
*[!0-9.]* | .* | *. | *..* | *.*.*.*) fail "'$version' is not a version such as 1.2.3" 2 ;;
*.*.*) ;;
*) fail "'$version' is not a version such as 1.2.3" 2 ;;
esac

# Checked before the tests. If git fails, its empty answer would look like a clean tree.
place=$(git rev-parse --show-prefix 2>/dev/null) || fail "not a git checkout: $(git rev-parse --show-prefix 2>&1 | head -n 1)"
[ -z "$place" ] || fail "not the root of a git checkout"
[ -z "$(git status --porcelain --untracked-files=normal)" ] || fail "the tree has uncommitted changes; see: git status"
[ "$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)" = "$version" ] || fail "Cargo.toml does not have the version $version"
[ "$(grep -c "newTag: $version\$" deploy/images/kustomization.yaml)" -eq 3 ] || fail "deploy/images/kustomization.yaml does not have the tag $version"
grep -q "^## \[$version\] - [0-9-]*\$" CHANGELOG.md || fail "CHANGELOG.md does not have the heading '## [$version] - DATE'"

scripts/test.sh
for arch in amd64 arm64; do
    scripts/build.sh --arch "$arch"
    scripts/reproduce.sh --arch "$arch"
done
scripts/image.sh --index
scripts/vendor.sh

out=dist/$version
rm -rf "$out"
mkdir -p "$out"
for program in lock init health; do
    for arch in amd64 arm64; do
        cp "dist/$arch/$program" "$out/psl-$program-$arch"
        cp "dist/images/psl-$program-$arch.tar" "$out/"
        scripts/sbom.sh "$program" "$arch" >"$out/psl-$program-$arch.cdx.json"
    done
    cp "dist/images/psl-$program.tar" "$out/"
done
cp dist/crates.tar.gz "$out/"
git -c tar.umask=0002 archive --format=tar --prefix="pod-startup-lock-$version/" HEAD >"$out/source.tar"
gzip -9n "$out/source.tar"
(cd "$out" && sha256sum -- * >.SHA256SUMS && mv .SHA256SUMS SHA256SUMS)

echo "made $out of commit $(git rev-parse HEAD):"
ls -l "$out"
