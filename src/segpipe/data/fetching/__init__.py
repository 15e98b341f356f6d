"""Bytes from anywhere: archives, addresses and file systems, brought whole and verified."""
