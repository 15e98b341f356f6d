"""Which samples are in train, val and test: groups, proposals of splits, and leaks between splits."""
