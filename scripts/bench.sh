#!/bin/sh
# Measures the static programs and prints tables.
#
#   scripts/bench.sh [PART...] [--write] [--rounds N] [--seconds N]
#   scripts/bench.sh herd [--applications N] [--cpu MS] [--latency MS] [--factor N] [--runs N]
#                         [--only NAME,...] [--pictures DIR]
#   scripts/bench.sh --help           this text
#
# Parts; all of them where none is named:
#   http           requests a second and CPU for each request, beside a plain tiny_http::Server
#   attack         how long an honest client waits while lock is attacked
#   leases         a herd of inits, a long line of holders, the hand-over from one to the next
#   herd           a node's bad morning: applications that burn processor time under a start-up probe,
#                  with and without a lock
#   health         from the Kubernetes API's answer to the verdict, in a large cluster
#
#   --write        also keeps the tables in bench/RESULTS.md
#   --rounds N     pairs of rounds in http (default 10)
#   --seconds N    length of a round in http (default 1), of an attack (default 10) or of what is
#                  measured of a long line (default 30)
#
# The herd's, in the time of a node:
#   --applications N   how many (default 10 for each core)
#   --cpu MS           what a start takes of a processor (default 1000)
#   --latency MS       what the kubelet takes from the end of init to the start (default 800; 0 is none)
#   --factor N         a second of the node takes 1/N s (default 10)
#   --runs N           of each remedy, in turn (default 3)
#   --only NAME,...    these alone, by the names of their pictures: alike-none, disk-none, ...
#   --pictures DIR     draws the run in the middle of each remedy as DIR/HERD-REMEDY.svg
#
# Takes about twelve minutes after the build. Other work on the machine spoils the figures.
# All traffic stays on the loopback. Needs what scripts/build.sh needs.
# Exit codes: 0 all promises kept, 1 one is not (or it could not be measured), 2 bad arguments.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' scripts/bench.sh
    exit 0
fi

target=x86_64-unknown-linux-musl

# First, because it also brings the target.
scripts/build.sh lock init health >&2

# The plain server is built with lock's flags and profile, so that the two differ by their code alone.
. scripts/flags.sh
cargo build --quiet --locked --release --target "$target" -p bench
built="${CARGO_TARGET_DIR:-target}/$target/release"

exec "$built/bench" --lock dist/amd64/lock --init dist/amd64/init --health dist/amd64/health \
    --plain "$built/plain" "$@"
