#!/bin/sh
# Makes image archives of the static binaries, with a shell, GNU tar, gzip and sha256sum alone.
#
#   scripts/image.sh [--arch ARCH]... [--tag TAG] [--index] [PROGRAM...]
#   scripts/image.sh --help           this text
#
#   PROGRAM         lock, init, health; default all three. e2e: the application of
#                   scripts/e2e.sh
#   --arch ARCH     amd64 or arm64; without it each that has been built in dist/
#   --tag TAG       the images' tag (default: the version in Cargo.toml)
#   --index         also one archive with both architectures for each program
#
# Makes dist/images/psl-PROGRAM-ARCH.tar. Each holds one layer with one file, /PROGRAM, and is both an
# OCI layout and what `docker save` writes, over the same blobs: `docker load`, `ctr images import`,
# `podman load` and skopeo take it. Its name is localhost/psl-PROGRAM:TAG, which no registry answers
# for. The archive psl-PROGRAM.tar of --index is an OCI layout alone, for registries and containerd:
# what Docker writes has no place for a second architecture.
# The same programs (see PROGRAM.built beside them) give the same bytes: times are the commit's, and
# layers are not compressed, so that no version of gzip decides a digest.
# Exit codes: 0 made, 1 not made, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# The order of files does not depend on the language of who runs this, nor the bytes on what else tar is told.
export LC_ALL=C
unset TAR_OPTIONS

fail() {
    echo "image.sh: $1" >&2
    exit "${2:-1}"
}

architectures='' tag='' index='' programs=''
while [ $# -gt 0 ]; do
    case $1 in
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/image.sh && exit 0 ;;
    --arch=*) architectures="$architectures ${1#*=}" ;;
    --arch | --tag)
        # An option in the place of the value would be lost.
        case ${2:--} in -*) fail "$1 needs a value" 2 ;; esac
        if [ "$1" = --tag ]; then tag=$2; else architectures="$architectures $2"; fi
        shift
        ;;
    --tag=*) tag=${1#*=} ;;
    --index) index=yes ;;
    lock | init | health | e2e) programs="$programs $1" ;;
    *) fail "no option or program '$1'; there are --arch ARCH, --tag TAG, --index, lock, init, health, e2e" 2 ;;
    esac
    shift
done
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
tag=${tag:-$version}
case $tag in [!A-Za-z0-9_]* | *[!A-Za-z0-9_.-]* | "") fail "the tag '$tag' is none: letters, digits and _ . - are accepted" 2 ;; esac
if [ -z "$architectures" ]; then
    for arch in amd64 arm64; do [ ! -d "dist/$arch" ] || architectures="$architectures $arch"; done
fi
[ -n "$architectures" ] || fail "nothing has been built: run scripts/build.sh"
case $(tar --version 2>/dev/null) in *"GNU tar"*) ;; *) fail "GNU tar is missing: others cannot be told times, owners and order" ;; esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p dist/images

# An archive whose bytes depend on the files' names, order and content alone. Directories take a group's bit from the one
# that they are made in, and u=rwX alone would leave it.
pack() {
    archive=$1 directory=$2
    shift 2
    tar --create --file "$archive" --directory "$directory" --format=ustar --no-recursion --mtime="@$epoch" \
        --owner=0 --group=0 --numeric-owner --mode='a-st,u=rwX,go=rX' -- "$@"
}

# Moves a file among the blobs and leaves its digest in $digest and its length in $bytes.
blob() {
    digest=$(sha256sum <"$1") && digest=${digest%% *} && bytes=$(wc -c <"$1")
    mv "$1" "$layout/blobs/sha256/$digest"
}

# The values of dist/ARCH/PROGRAM.built.
built() { sed -n "s/^$1=//p" "dist/$arch/$program.built"; }
quoted() { printf '"%s"' "$(printf %s "$1" | sed 's/[\\"]/\\&/g')"; }

about() {
    case $1 in
    lock) echo "Pod Startup Lock: hands out a node's start slots" ;;
    init) echo "Pod Startup Lock: the init container that waits for a slot" ;;
    health) echo "Pod Startup Lock: tells whether a node's DaemonSets are ready" ;;
    e2e) echo "Pod Startup Lock: an application that is slow to start, for tests of a cluster" ;;
    esac
}

ports() {
    case $1 in
    lock) echo '"ExposedPorts":{"8888/tcp":{}},' ;;
    health) echo '"ExposedPorts":{"9999/tcp":{}},' ;;
    esac
}

# The image of $program for $arch, as blobs of $layout; leaves $config, $layer and $manifest: its descriptor.
image() {
    for file in "dist/$arch/$program" "dist/$arch/$program.built"; do
        [ -f "$file" ] || fail "$file is missing: run scripts/build.sh --arch $arch"
    done
    epoch=$(built epoch)
    created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
    mkdir "$scratch/root"
    cp "dist/$arch/$program" "$scratch/root/$program"
    chmod 755 "$scratch/root/$program"
    pack "$scratch/layer" "$scratch/root" "$program"
    rm -r "$scratch/root"
    blob "$scratch/layer"
    layer=$digest layer_bytes=$bytes
    {
        printf '{"created":"%s","architecture":"%s","os":"linux",' "$created" "$arch"
        printf '"config":{"User":"65532:65532",%s"Entrypoint":["/%s"],"Labels":{' "$(ports "$program")" "$program"
        printf '"org.opencontainers.image.title":"psl-%s",' "$program"
        printf '"org.opencontainers.image.description":%s,' "$(quoted "$(about "$program")")"
        printf '"org.opencontainers.image.version":"%s",' "$version"
        printf '"org.opencontainers.image.revision":"%s",' "$(built commit)"
        printf '"org.opencontainers.image.created":"%s",' "$created"
        printf '"org.opencontainers.image.licenses":"MIT OR Apache-2.0",'
        printf '"pod-startup-lock/rustc":%s,' "$(quoted "$(built rustc)")"
        printf '"pod-startup-lock/cc":%s,' "$(quoted "$(built cc)")"
        printf '"pod-startup-lock/ld":%s}},' "$(quoted "$(built ld)")"
        printf '"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},' "$layer"
        printf '"history":[{"created":"%s","created_by":"scripts/image.sh"}]}' "$created"
    } >"$scratch/config"
    blob "$scratch/config"
    config=$digest
    {
        printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        printf '"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},' "$config" "$bytes"
        printf '"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}' "$layer" "$layer_bytes"
    } >"$scratch/manifest"
    blob "$scratch/manifest"
    manifest=$(printf '"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"platform":{"architecture":"%s","os":"linux"}' "$digest" "$bytes" "$arch")
}

# A layout without images in $layout.
new_layout() {
    layout=$scratch/layout
    rm -rf "$layout"
    mkdir -p "$layout/blobs/sha256"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
}

# The entry point of a layout: one descriptor, with the names under which containerd and others keep the image.
entry() {
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{%s,' "$1" >"$layout/index.json"
    printf '"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' "$name" "$tag" >>"$layout/index.json"
}

# The layout as an archive, its files in a fixed order, put in place when it is whole.
finish() {
    entries='oci-layout index.json'
    [ ! -f "$layout/manifest.json" ] || entries="$entries manifest.json"
    entries="$entries blobs blobs/sha256"
    for file in "$layout"/blobs/sha256/*; do entries="$entries blobs/sha256/${file##*/}"; done
    # shellcheck disable=SC2086 # one word for each file
    pack "$scratch/archive" "$layout" $entries
    mv "$scratch/archive" "dist/images/$1"
    printf '%-40s %10d %10d  %s\n' "dist/images/$1" "$(wc -c <"dist/images/$1")" "$(gzip -9c "dist/images/$1" | wc -c)" "$name"
}

printf '%-40s %10s %10s  %s\n' archive bytes 'gzip -9' name
for program in ${programs:-lock init health}; do
    name=localhost/psl-$program:$tag
    for arch in $architectures; do
        case $arch in amd64 | arm64) ;; *) fail "no architecture '$arch'; there are amd64, arm64" 2 ;; esac
        new_layout
        image
        entry "$manifest"
        printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]' "$config" "$name" "$layer" >"$layout/manifest.json"
        finish "psl-$program-$arch.tar"
    done
    [ -n "$index" ] || continue
    new_layout
    arch=amd64 && image && first=$manifest && commit=$(built commit)
    arch=arm64 && image
    [ "$(built commit)" = "$commit" ] ||
        fail "dist/amd64/$program is of commit $commit, dist/arm64/$program of $(built commit): build both again, an index is of one"
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{%s},{%s}]}' "$first" "$manifest" >"$scratch/index"
    blob "$scratch/index"
    entry "$(printf '"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:%s","size":%d' "$digest" "$bytes")"
    finish "psl-$program.tar"
done
