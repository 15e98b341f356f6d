"""Shared code of the losses; the registry of losses ignores this folder."""
