#!/bin/sh
# How the static binaries are compiled and linked; read by the scripts that do it, from the
# repository's root.

# The C compiler of the system does for ring: it needs no C library.
export CC_x86_64_unknown_linux_musl=cc
# Relocations packed into a bitmap, and no tables for unwinding: see DESIGN.md, "Sizes".
export RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,scripts/static.ld"
