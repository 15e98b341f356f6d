"""Fetches sources, complete and verified: from folders, archives, web addresses and remote file systems."""
