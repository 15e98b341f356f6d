"""A version trained again from its commit, and what differs."""
