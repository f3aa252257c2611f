#!/bin/sh
# Prints the software bill of materials of a program, as a CycloneDX 1.5 document.
#
#   scripts/sbom.sh PROGRAM ARCH      lock, init or health; amd64 or arm64
#   scripts/sbom.sh --help            this text
#
# Lists the crates that Cargo resolves for this program on this target, with their licences, their
# checksums in Cargo.lock and their dependencies. Crates that only run during the build are
# "excluded". Needs cargo and the built program. The same program gives the same bytes.
# Exit codes: 0 printed, 1 not printed, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
export LC_ALL=C

fail() {
    echo "sbom.sh: $1" >&2
    exit "${2:-1}"
}

[ "$*" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/sbom.sh && exit 0; }
[ $# -eq 2 ] || fail "expected a program (lock, init, health) and an architecture (amd64, arm64)" 2
program=$1 arch=$2
case $program in lock | init | health) ;; *) fail "unknown program '$program'; accepted: lock, init, health" 2 ;; esac
case $arch in
amd64) target=x86_64-unknown-linux-musl ;;
arm64) target=aarch64-unknown-linux-musl ;;
*) fail "unknown architecture '$arch'; accepted: amd64, arm64" 2 ;;
esac
for file in "dist/$arch/$program" "dist/$arch/$program.built"; do
    [ -f "$file" ] || fail "$file is missing; run: scripts/build.sh --arch $arch"
done

command -v cargo >/dev/null || fail "command not found: cargo; install Rust's stable toolchain with rustup (https://rustup.rs)"
built() { sed -n "s/^$1=//p" "dist/$arch/$program.built"; }

# Prints DEPTH NAME VERSION LICENCE for each edge of the tree. A path after the version marks a
# crate of this repository.
tree() {
    cargo tree --locked --package "$program" --target "$target" --edges "$1" --prefix depth --no-dedupe --format ' {p}|{l}' |
        sed -e 's/^\([0-9]*\) \([^ ]*\) v\([^ |]*\)[^|]*|\(.*\)$/\1 \2 \3 \4/'
}

sum=$(sha256sum "dist/$arch/$program")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Macros only run during the build.
tree normal,no-proc-macro >"$scratch/normal"
tree normal,build >"$scratch/all"
# A pipe has the exit code of sed, so an empty list shows a failure of Cargo.
for list in normal all; do [ -s "$scratch/$list" ] || fail "cargo tree failed for $program, see above"; done

awk -v program="$program" -v arch="$arch" -v sum="${sum%% *}" -v rustc="$(built rustc)" -v commit="$(built commit)" \
    -v made="$(date -u -d "@$(built epoch)" +%Y-%m-%dT%H:%M:%SZ)" '
function text(value) { gsub(/[\\"]/, "\\\\&", value); return "\"" value "\"" }
function id(name, version) { return "pkg:cargo/" name "@" version }
FILENAME ~ /Cargo.lock$/ {
    if ($1 == "name") name = $3
    if ($1 == "version") version = $3
    if ($1 == "checksum") { gsub(/"/, "", name); gsub(/"/, "", version); gsub(/"/, "", $3); checksum[id(name, version)] = $3 }
    next
}
{
    depth = $1; name = $2; version = $3; licence = $4
    for (word = 5; word <= NF; word++) licence = licence " " $word
    # An older way to write "or".
    gsub(/\//, " OR ", licence)
    one = id(name, version)
    above[depth] = one
    if (FILENAME ~ /normal$/) linked[one] = 1
    else {
        if (depth == 0) { root = one; release = version; licence_of_root = licence }
        if (!(one in seen)) { seen[one] = 1; order[++count] = one; names[one] = name; versions[one] = version; licences[one] = licence; needs[one] = "" }
        if (depth > 0 && index(needs[above[depth - 1]] " ", " " one " ") == 0) needs[above[depth - 1]] = needs[above[depth - 1]] " " one
    }
}
END {
    printf "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,"
    printf "\"serialNumber\":\"urn:uuid:%s-%s-8%s-a%s-%s\",", substr(sum, 1, 8), substr(sum, 9, 4), substr(sum, 14, 3), substr(sum, 18, 3), substr(sum, 21, 12)
    printf "\"metadata\":{\"timestamp\":\"%s\",\"component\":{\"type\":\"application\",\"bom-ref\":%s,\"name\":\"psl-%s\",\"version\":\"%s\",", made, text(root), program, release
    printf "\"licenses\":[{\"expression\":%s}],\"hashes\":[{\"alg\":\"SHA-256\",\"content\":\"%s\"}],", text(licence_of_root), sum
    printf "\"properties\":[{\"name\":\"pod-startup-lock:architecture\",\"value\":\"%s\"},{\"name\":\"pod-startup-lock:commit\",\"value\":\"%s\"}]}},\n", arch, commit
    printf "\"components\":[\n"
    # These two come with the toolchain and have no checksum here.
    printf "{\"type\":\"library\",\"bom-ref\":\"rust-std\",\"name\":\"rust-std\",\"version\":%s,\"description\":\"The standard library that comes with this compiler\"},\n", text(rustc)
    printf "{\"type\":\"library\",\"bom-ref\":\"musl\",\"name\":\"musl\",\"version\":%s,\"description\":\"The C library that comes with this compiler\"}", text("as in " rustc)
    for (place = 1; place <= count; place++) {
        one = order[place]
        if (one == root) continue
        printf ",\n{\"type\":\"library\",\"bom-ref\":%s,\"name\":\"%s\",\"version\":\"%s\",\"scope\":\"%s\"", text(one), names[one], versions[one], ((one in linked) ? "required" : "excluded")
        if (licences[one] != "") printf ",\"licenses\":[{\"expression\":%s}]", text(licences[one])
        # Crates of this repository have none: a crate of the same name in the registry is another
        # one.
        if (one in checksum) printf ",\"purl\":%s,\"hashes\":[{\"alg\":\"SHA-256\",\"content\":\"%s\"}]", text(one), checksum[one]
        printf "}"
    }
    printf "\n],\n\"dependencies\":[\n"
    for (place = 1; place <= count; place++) {
        one = order[place]
        printf "%s{\"ref\":%s,\"dependsOn\":[", (place > 1 ? ",\n" : ""), text(one)
        many = split(needs[one], list, " ")
        for (at = 1; at <= many; at++) printf "%s%s", (at > 1 ? "," : ""), text(list[at])
        if (one == root) printf "%s\"rust-std\",\"musl\"", (many > 0 ? "," : "")
        printf "]}"
    }
    printf "\n]}\n"
}' Cargo.lock "$scratch/normal" "$scratch/all"
