#!/bin/sh
# Starts a worker. Arguments: POOL, and for a GPU its number. A GPU's worker also serves the queue of its own name.
pool=$1
device=$2
name=$(uname -n)-$pool${device:+-$device}
limit=1
if [ -n "$device" ]; then
    export CUDA_VISIBLE_DEVICES="$device"
fi
if [ "$pool" = control ]; then
    limit=8 # retrainings wait for their stages and compute nothing
fi
# `make deploy` creates the pools; several workers that create them at the same time would lock SQLite.
until . pipelines/login.sh && answer=$(prefect work-pool inspect "$pool" 2>&1); do
    echo "waiting for pool $pool at ${PREFECT_API_URL:-(PREFECT_API_URL is not set)}: $(echo "$answer" | grep . | tail -n 1)"
    sleep 1
done
if [ -n "$device" ]; then
    # A worker takes nothing while one of its queues does not exist.
    prefect work-queue create "$name" --pool "$pool" >/dev/null 2>&1
    set -- --work-queue default --work-queue "$name"
else
    set --
fi
exec prefect worker start --type process --pool "$pool" --name "$name" --limit "$limit" "$@"
