"""One file a data format, each with a function `read_source`; see `segpipe.data.sources.source`."""
