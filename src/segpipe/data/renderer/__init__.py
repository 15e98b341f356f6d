"""Procedural street scenes with pixel labels: image sequences that need no download and no licence."""

from segpipe.data.renderer.classes import CLASS_COLORS, CLASS_NAMES
from segpipe.data.renderer.sequence import render_sequence

__all__ = ["CLASS_COLORS", "CLASS_NAMES", "render_sequence"]
