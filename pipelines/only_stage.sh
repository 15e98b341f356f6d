#!/bin/sh
# DVC gets this as $SHELL. It runs the commands of one stage and refuses those of all others. So a worker never runs
# another pool's stage, and a retraining can restore everything from the cache without computing anything.
if [ "$DVC_STAGE" = "$SEGPIPE_STAGE" ]; then
    exec /bin/sh "$@"
fi
echo "would have to run: $DVC_STAGE" >&2
exit 1
