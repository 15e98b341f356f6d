"""What these tests share."""

from fresh_store import _empty_store, add_version, client

__all__ = ["_empty_store", "add_version", "client"]
