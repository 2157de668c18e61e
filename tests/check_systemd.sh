#!/bin/bash
# The unit and the socket for systemd: check_systemd.sh BUILD. Prints TAP. Asked of systemd's own programs, and skipped
# where they are not installed; systemd itself need not run.
set -u
cd "$(dirname "$0")/.." || exit 1
splam=$PWD/$1/cli/splam teacher=$PWD/assets/teacher units=$PWD/server
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
number=0 failures=0

# check PROGRAM NAME COMMAND... : passes if the command does and says nothing; skipped without the program of systemd's
check() {
    local program=$1 name=$2
    shift 2
    number=$((number + 1))
    if ! command -v "$program" >/dev/null; then
        echo "ok $number # SKIP $name: $program is not installed"
    elif "$@" >said 2>&1 && [ ! -s said ]; then
        echo "ok $number - $name"
    else
        failures=$((failures + 1))
        echo "not ok $number - $name"
        sed 's/^/# /' said
    fi
}

# The unit runs a program that is there; its manual page need not be installed.
sed "s|/usr/bin/splam|$splam|" "$units/splam.service" >splam.service
cp "$units/splam.socket" .

understands() { systemd-analyze verify --man=no ./splam.service ./splam.socket; }

# docs/server.md names this figure, of 10.
exposes_little() {
    local said
    said=$(systemd-analyze security --offline=true --threshold=10 ./splam.service) || tail -n 1 <<<"$said"
}

# A client that comes first has its picture: systemd holds the socket until the server is there.
is_activated() {
    systemd-socket-activate --listen="$work/socket" "$splam" serve -m "$teacher" >log 2>&1 </dev/null &
    server=$!
    for _ in $(seq 600); do [ -S socket ] && break; sleep .1; done
    "$splam" generate --server "unix:$work/socket" -p 'red apple' --steps 1 -o picture.png >client 2>&1 || cat client
    [ -s picture.png ] || echo "no picture came"
    kill -TERM $server
    wait $server || { echo "the server ended with code $?"; cat log; }
    server=
    grep -q "^listening at unix:$work/socket$" log || { echo "it did not say where it listens"; cat log; }
    [ -S socket ] || echo "the socket that systemd holds was removed"
}

echo 1..3
check systemd-analyze "systemd understands the unit and the socket" understands
check systemd-analyze "the service is exposed to 1.0 of 10 at most" exposes_little
check systemd-socket-activate "a server takes the socket that it is handed" is_activated
[ $failures -eq 0 ]
