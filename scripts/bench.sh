#!/bin/sh
# Measures the static programs and prints tables.
#
#   scripts/bench.sh [PART...] [--write] [--rounds N] [--seconds N] [--peer-… FILE]
#   scripts/bench.sh herd [--applications N] [--cpu MS] [--latency MS] [--factor N] [--runs N]
#                         [--only NAME,...] [--pictures DIR]
#   scripts/bench.sh --help           this text
#
# Parts (default: all of them):
#   http           requests per second and CPU per request, compared with a plain tiny_http::Server
#   attack         latency of an honest client while lock is attacked, and its wait for a lease
#                  beside hostile waiters
#   leases         a herd of inits, 1,000 waiting holders, the hand-over with 500 parked waiters
#   herd           a node after a reboot: applications that burn CPU time under a start-up probe,
#                  with and without a lock
#   cluster        simulated with lock's own limit: --locks auto against the best fixed number for
#                  each herd, and 5,000 nodes after a power cut
#   health         from the answer of the Kubernetes API to the verdict, in a large cluster
#   cost           bytes, starts, memory, and CPU and latency of a request, as waiters, clients and
#                  DaemonSets grow
#
#   --write        also write the tables to dev/bench/RESULTS.md
#   --rounds N     pairs of rounds in http (default 8), runs of cost (default 5)
#   --seconds N    length of a round in http (default 1), of an attack (default 6), of an attack by
#                  hostile waiters (default 12; the goals are meant for 120, half an hour in all),
#                  or of the measurement of a long queue (default 30)
#   --peer-lock FILE, --peer-init FILE, --peer-health FILE
#                  cost also measures this binary, in turn with ours: an older build, or a Go
#                  generation. Only arguments and variables are used that all generations
#                  understand; a figure without support is n/a
#
# Options of herd, in the time of a node:
#   --applications N   number of applications (default 10 for each core)
#   --cpu MS           CPU time of a start (default 1000)
#   --latency MS       time of the kubelet from the end of init to the start (default 800)
#   --factor N         a second of the node takes 1/N s (default 10)
#   --runs N           runs of each remedy, in turn (default 3)
#   --only NAME,...    only these, by the names of their pictures: alike-none, disk-none, ...
#   --pictures DIR     draw the median run of each remedy as DIR/HERD-REMEDY.svg
#
# Takes about twenty minutes after the build, of which attack takes four and a half, herd six and a
# half and cluster two, and twice that with peers. Other work on the machine changes the figures.
# All traffic stays on the loopback. Needs the tools of scripts/build.sh.
# Exit codes: 0 all goals met, 1 a goal missed or not measured, 2 bad arguments.
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
    *) echo "bench.sh: unknown argument '$word'; scripts/bench.sh --help lists options and parts" >&2 && exit 2 ;;
    esac
done

target=x86_64-unknown-linux-musl

# First, because it also brings the target.
scripts/build.sh lock init health >&2
scripts/image.sh --arch amd64 >&2

# The plain server is built with lock's flags and profile, so that the two differ by their code
# alone.
. scripts/flags.sh
cargo build --quiet --locked --release --target "$target" -p bench
built="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/$target/release"
programs="$root/dist/amd64"

cd "$from"
exec "$built/bench" --lock "$programs/lock" --init "$programs/init" --health "$programs/health" \
    --plain "$built/plain" --images "$root/dist/images" "$@"
