"""Shared code of the attention blocks."""
