"""Shared code of the models: encoders, blocks, and adapters for the models of libraries."""
