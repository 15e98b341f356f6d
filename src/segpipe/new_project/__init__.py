"""A project of one's own in a clone that still is the starter: `segpipe init`."""
