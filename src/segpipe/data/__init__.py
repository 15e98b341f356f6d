"""Labelled images on their way to a training: each room takes what the one before it gives."""
