#!/bin/sh
# Restarts a command each time it ends, until SIGTERM; then waits for the command's end.
trap 'stopped=yes; kill -TERM "$child"' TERM INT
while [ -z "$stopped" ]; do
    "$@" &
    child=$!
    wait "$child"
    code=$?
    if [ -z "$stopped" ]; then
        echo "ended with exit code $code; starting it again"
        sleep 1
    fi
done
wait
