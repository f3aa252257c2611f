#!/bin/sh
# Makes image archives of the static binaries, with only a shell, GNU tar, gzip and sha256sum.
#
#   scripts/image.sh [--arch ARCH]... [--tag TAG] [--index] [PROGRAM...]
#   scripts/image.sh --help           this text
#
#   PROGRAM         lock, init, health; default all three. e2e: the application of
#                   scripts/e2e.sh
#   --arch ARCH     amd64 or arm64 (default: each architecture in dist/)
#   --tag TAG       tag of the images (default: the version in Cargo.toml)
#   --index         also make one archive with both architectures for each program
#
# Makes dist/images/psl-PROGRAM-ARCH.tar. Each has one layer with one file, /PROGRAM. It is both an
# OCI layout and an archive in the format of docker save, over the same blobs: docker load, ctr
# images import, podman load and skopeo accept it. The image's name is localhost/psl-PROGRAM:TAG,
# which is no registry. The archive psl-PROGRAM.tar of --index is only an OCI layout, for registries
# and containerd, because Docker's format has no second architecture. The same programs (see
# PROGRAM.built beside them) give the same bytes: times are the commit's, and layers are not
# compressed, so that a digest does not depend on the version of gzip.
# Exit codes: 0 made, 1 not made, 2 bad arguments.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# Locale and environment must not change the order of files or the bytes.
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
        # If a value is forgotten, the next option must not be taken for it.
        case ${2:--} in -*) fail "$1 needs a value" 2 ;; esac
        if [ "$1" = --tag ]; then tag=$2; else architectures="$architectures $2"; fi
        shift
        ;;
    --tag=*) tag=${1#*=} ;;
    --index) index=yes ;;
    lock | init | health | e2e) programs="$programs $1" ;;
    *) fail "unknown argument '$1'; accepted: --arch ARCH, --tag TAG, --index, lock, init, health, e2e" 2 ;;
    esac
    shift
done
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
tag=${tag:-$version}
case $tag in [!A-Za-z0-9_]* | *[!A-Za-z0-9_.-]* | "") fail "--tag: '$tag' is not accepted; accepted: letters, digits and _ . -" 2 ;; esac
if [ -z "$architectures" ]; then
    for arch in amd64 arm64; do [ ! -d "dist/$arch" ] || architectures="$architectures $arch"; done
fi
[ -n "$architectures" ] || fail "dist/ has no programs; run: scripts/build.sh"
case $(tar --version 2>/dev/null) in *"GNU tar"*) ;; *) fail "GNU tar not found; other versions of tar cannot set times, owners and order" ;; esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p dist/images

# Makes an archive whose bytes depend only on names, order and content of the files. a-st removes
# the setgid bit that directories inherit, because u=rwX would keep it.
pack() {
    archive=$1 directory=$2
    shift 2
    tar --create --file "$archive" --directory "$directory" --format=ustar --no-recursion --mtime="@$epoch" \
        --owner=0 --group=0 --numeric-owner --mode='a-st,u=rwX,go=rX' -- "$@"
}

# Moves a file to the blobs and sets $digest and $bytes.
blob() {
    digest=$(sha256sum <"$1") && digest=${digest%% *} && bytes=$(wc -c <"$1")
    mv "$1" "$layout/blobs/sha256/$digest"
}

# Prints a value of dist/ARCH/PROGRAM.built.
built() { sed -n "s/^$1=//p" "dist/$arch/$program.built"; }
quoted() { printf '"%s"' "$(printf %s "$1" | sed 's/[\\"]/\\&/g')"; }

description() {
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

# Makes the image of $program for $arch as blobs in $layout. Sets $config, $layer and $manifest, the
# descriptor.
image() {
    for file in "dist/$arch/$program" "dist/$arch/$program.built"; do
        [ -f "$file" ] || fail "$file is missing; run: scripts/build.sh --arch $arch"
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
        printf '"org.opencontainers.image.description":%s,' "$(quoted "$(description "$program")")"
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

# Makes an empty layout in $layout.
new_layout() {
    layout=$scratch/layout
    rm -rf "$layout"
    mkdir -p "$layout/blobs/sha256"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
}

# Writes the entry point of a layout: one descriptor, with the names for containerd and other tools.
entry() {
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{%s,' "$1" >"$layout/index.json"
    printf '"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' "$name" "$tag" >>"$layout/index.json"
}

# Packs the layout in a fixed order, and moves the complete archive into place.
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
        case $arch in amd64 | arm64) ;; *) fail "unknown architecture '$arch'; accepted: amd64, arm64" 2 ;; esac
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
        fail "dist/amd64/$program is of commit $commit, dist/arm64/$program of $(built commit); build both from one commit for --index"
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{%s},{%s}]}' "$first" "$manifest" >"$scratch/index"
    blob "$scratch/index"
    entry "$(printf '"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:%s","size":%d' "$digest" "$bytes")"
    finish "psl-$program.tar"
done
