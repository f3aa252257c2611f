#!/bin/sh
# Measures the static programs and prints tables.
#
#   scripts/bench.sh [PART...] [--write] [--rounds N] [--seconds N] [--peer-… FILE]
#   scripts/bench.sh herd [--applications N] [--cpu MS] [--latency MS] [--factor N] [--runs N]
#                         [--only NAME,...] [--pictures DIR]
#   scripts/bench.sh --help           this text
#
# Parts; all of them where none is named:
#   http           requests a second and CPU for each request, beside a plain tiny_http::Server
#   attack         how long an honest client waits for an answer while lock is attacked, and for a
#                  lease beside hostile waiters
#   leases         a herd of inits, 1,000 waiting holders, the hand-over with 500 parked waiters
#   herd           a node's bad morning: applications that burn processor time under a start-up probe,
#                  with and without a lock
#   cluster        on paper, in virtual time on lock's own limit: --locks auto against the best fixed
#                  number for each herd, and 5,000 nodes after a power cut
#   health         from the Kubernetes API's answer to the verdict, in a large cluster
#   cost           bytes, starts, memory, and CPU and latency of a request, as waiters, callers and
#                  DaemonSets grow
#
#   --write        writes the tables to dev/bench/RESULTS.md
#   --rounds N     pairs of rounds in http (default 8), runs of cost (default 5)
#   --seconds N    length of a round in http (default 1), of an attack (default 6), of one beside
#                  hostile waiters (default 12; the goals are meant for 120, half an hour in all), or
#                  of what is measured of a long line (default 30)
#   --peer-lock FILE, --peer-init FILE, --peer-health FILE
#                  cost also measures this binary, run by run in turn with ours: an older build, or
#                  one of the Go generations. It is started with arguments and variables that all of
#                  them understand; where it lacks something its figure is n/a
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
# Takes about twenty minutes after the build, of which attack has four and a half, herd six and a half and cluster two, and twice that with
# peers. Other work on the machine spoils the figures.
# All traffic stays on the loopback. Needs what scripts/build.sh needs.
# Exit codes: 0 all promises kept, 1 one is not (or it could not be measured), 2 bad arguments.
set -eu
from=$PWD
CDPATH='' cd -- "$(dirname -- "$0")/.."
root=$PWD

# The names are judged before the build, which takes minutes; the values by the benchmark.
value=''
for word; do
    if [ -n "$value" ]; then
        value=''
        continue
    fi
    case ${word%%=*} in
    --help) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/bench.sh && exit 0 ;;
    http | attack | leases | herd | cluster | health | cost | --write) ;;
    --rounds | --seconds | --peer-lock | --peer-init | --peer-health | --applications | --cpu | --latency | --factor | --runs | --only | --pictures)
        case $word in *=*) ;; *) value=yes ;; esac
        ;;
    *) echo "bench.sh: no option or part '$word': see scripts/bench.sh --help" >&2 && exit 2 ;;
    esac
done

target=x86_64-unknown-linux-musl

# First, because it also brings the target.
scripts/build.sh lock init health >&2
scripts/image.sh --arch amd64 >&2

# The plain server is built with lock's flags and profile, so that the two differ by their code alone.
. scripts/flags.sh
cargo build --quiet --locked --release --target "$target" -p bench
built="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/$target/release"
programs="$root/dist/amd64"

cd "$from"
exec "$built/bench" --lock "$programs/lock" --init "$programs/init" --health "$programs/health" \
    --plain "$built/plain" --images "$root/dist/images" "$@"
