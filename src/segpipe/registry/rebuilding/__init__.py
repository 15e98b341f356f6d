"""Trains a version again from its commit, and lists the differences."""
