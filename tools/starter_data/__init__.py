"""Procedural street scenes with pixel labels: image sequences that need no download and no licence."""

from starter_data.classes import CLASS_COLORS, CLASS_NAMES
from starter_data.sequence import render_sequence

__all__ = ["CLASS_COLORS", "CLASS_NAMES", "render_sequence"]
