#!/bin/sh
# Makes a release: dist/VERSION/ with everything that leaves the house.
#
#   scripts/release.sh VERSION        such as 1.2.3
#   scripts/release.sh --help         this text
#
# Checks that nothing is uncommitted, that Cargo.toml and deploy/images name VERSION and that
# CHANGELOG.md has it with a date; runs scripts/test.sh; builds both architectures, each
# twice (scripts/reproduce.sh). Then in dist/VERSION:
#   psl-PROGRAM-ARCH                  the static programs
#   psl-PROGRAM-ARCH.tar, psl-PROGRAM.tar   image archives, of one and of both architectures
#   psl-PROGRAM-ARCH.cdx.json         what each is made of (CycloneDX)
#   source.tar.gz, crates.tar.gz      this commit, and all crates to build it without a network
#   SHA256SUMS                        of all of these
# It neither tags nor publishes, and signs nothing: SECURITY.md says how. Repeating it gives the same
# bytes. Needs what scripts/build.sh --arch arm64 needs; takes as long as the tests.
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
[ $# -eq 1 ] || fail "accepted is one argument, the version, such as 1.2.3" 2
version=$1
case $version in
*[!0-9.]* | .* | *. | *..* | *.*.*.*) fail "'$version' is no version such as 1.2.3" 2 ;;
*.*.*) ;;
*) fail "'$version' is no version such as 1.2.3" 2 ;;
esac

# Said now, and not after the tests: what git does not answer looks as if nothing were uncommitted.
place=$(git rev-parse --show-prefix 2>/dev/null) || fail "git knows no checkout here: $(git rev-parse --show-prefix 2>&1 | head -n 1)"
[ -z "$place" ] || fail "git knows no checkout here, only one around it"
[ -z "$(git status --porcelain --untracked-files=normal)" ] || fail "there is something uncommitted: git status"
[ "$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)" = "$version" ] || fail "Cargo.toml has another version than $version"
[ "$(grep -c "newTag: $version\$" deploy/images/kustomization.yaml)" -eq 3 ] || fail "deploy/images/kustomization.yaml has another tag than $version"
grep -q "^## \[$version\] - [0-9-]*\$" CHANGELOG.md || fail "CHANGELOG.md has no '## [$version] - DATE'"

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
