#!/bin/sh
# Flags of compiler and linker for the static binaries. Read by other scripts in the repository's
# root, with arch set to amd64 (default) or arm64. Sets target, cc and target_dir.

# Settings for other builds must not change the bytes: flags of the C compiler, which compiles ring,
# and variables that override Cargo's settings. Target directory and number of jobs stay.
for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case $name in
    CARGO_BUILD_TARGET_DIR | CARGO_BUILD_JOBS) ;;
    CFLAGS* | TARGET_CFLAGS | HOST_CFLAGS | CRATE_CC_NO_DEFAULTS | CARGO_PROFILE_* | CARGO_BUILD_* | CARGO_INCREMENTAL | CARGO_TARGET_*_RUSTFLAGS) unset "$name" ;;
    esac
done

# shellcheck disable=SC2034 # used by the scripts that read this
case ${arch:-amd64} in
amd64)
    target=x86_64-unknown-linux-musl
    # The C compiler of the system is enough: ring needs only headers of the C library.
    cc=cc
    [ "$(uname -m)" = x86_64 ] || cc=x86_64-linux-gnu-gcc
    export CC_x86_64_unknown_linux_musl="$cc" CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER="$cc"
    ;;
arm64)
    target=aarch64-unknown-linux-musl
    cc=cc
    [ "$(uname -m)" = aarch64 ] || cc=aarch64-linux-gnu-gcc
    export CC_aarch64_unknown_linux_musl="$cc" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER="$cc"
    ;;
esac
target_dir=${CARGO_TARGET_DIR:-target}

# Appends a flag. The separator is a character that paths do not contain; they may contain spaces.
flag() { encoded=${encoded:+$encoded$(printf '\037')}$1; }
encoded=
# Relocations packed into a bitmap, and no tables for unwinding: see docs/measurements.md.
flag -Clink-arg=-Wl,-z,pack-relative-relocs
flag -Clink-arg=-Wl,--no-eh-frame-hdr
flag -Clink-arg=-Wl,-T,scripts/static.ld
if [ "${arch:-amd64}" = arm64 ]; then
    # rustc links this target at fixed addresses. These flags choose the start files of a static,
    # position-independent program. The last of -static, -no-pie and -static-pie counts.
    flag -Clink-self-contained=no
    flag -Clink-arg=-nostartfiles
    flag -Clink-arg=-static-pie
    objects=$(rustc --print sysroot)/lib/rustlib/$target/lib/self-contained
    flag "-Lnative=$objects"
    for object in rcrt1 crti crtbeginS crtendS crtn; do flag "-Clink-arg=$objects/$object.o"; done
    # The start files need the C library, which rustc does not add.
    flag -Clink-arg=-lc
fi

# Panic messages contain paths of source files. They are remapped, so that the same commit gives the
# same bytes in every directory. The last match counts, so wider prefixes come first.
root=$(pwd -P)
flag "--remap-path-prefix=$root=/pod-startup-lock"
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do flag "--remap-path-prefix=$crates=/crates"; done
flag "--remap-path-prefix=$root/vendor=/crates"
case $target_dir in
/*) flag "--remap-path-prefix=$target_dir=/target" ;;
*) flag "--remap-path-prefix=$root/$target_dir=/target" ;;
esac
# If the sources of the toolchain are installed, rustc uses their path instead of the original one.
flag "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
export CARGO_ENCODED_RUSTFLAGS="$encoded"
unset RUSTFLAGS
