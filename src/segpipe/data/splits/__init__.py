"""Which samples train, choose and are reported: whole groups, proposals, and leaks between them."""
