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
until . pipelines/login.sh && python -m pipelines.await_pool "$pool" ${device:+--queue "$name"}; do
    sleep 1
done
if [ -n "$device" ]; then
    set -- --work-queue default --work-queue "$name"
else
    set --
fi
exec prefect worker start --type process --pool "$pool" --name "$name" --limit "$limit" "$@"
