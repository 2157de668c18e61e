#!/bin/sh
# Whether an evaluation of many pictures ends with the same report.json however it comes about: left alone; killed with
# SIGKILL while it draws and while it computes features, and gone on with each time; by two processes of mpirun. Prints
# a line for each, the sum of its report.json in it, for bench/resume.csv. Weights are by the formula of
# tools/golden/make_inception.py, the real side is pictures of bench/pictures.
# Usage: resume.sh SPLAM WEIGHTS REAL OUTPUT [COUNT]
splam=$1 weights=$2 real=$3 output=$4 count=${5:-2000}
root=$(dirname "$0")/..
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export GOMP_SPINCOUNT=1000 # else the program starts itself again, which does not change its process

evaluate() { # OUTPUT [LAUNCHER...]
    to=$output/$1
    shift
    exec "$@" "$splam" eval -m "$root/assets/teacher" --data emoji: --real "$real" --count "$count" --steps 2 \
        --guidance-scale-w 2 --metrics fid,kid,is --inception "$weights" --output "$to" >>"$output/log" 2>&1
}

say() { # HOW FOLDER
    echo "$(date +%F),$1,$count,$(sha256sum <"$output/$2/report.json" | cut -c1-16)"
}

# Waits until so many files of that name are in the folder of pictures, and some seconds, and kills.
kill_at() { # PID FILES NAME SECONDS
    while [ "$(find "$output/killed" -name "$3" 2>/dev/null | wc -l)" -lt "$2" ] && kill -0 "$1" 2>/dev/null; do
        sleep 0.1
    done
    sleep "$4"
    kill -KILL "$1" && echo "killed with $(find "$output/killed" -name '0*.png' | wc -l) pictures" >&2
    wait "$1"
}

mkdir -p "$output"
(evaluate alone) && say "left alone" alone
(evaluate killed) &
kill_at $! $((count / 3)) '0*.png' 0
(evaluate killed) &
kill_at $! 1 'features-inception*' 70 # they are saved each minute
(evaluate killed) && say "killed twice" killed
(evaluate two mpirun --oversubscribe --bind-to none -n 2) && say "2 processes" two
