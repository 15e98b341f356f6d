"""Display colours."""

from __future__ import annotations

from segpipe.data.sources.palette import spread_colors


def test_the_colours_are_those_of_pascal_voc() -> None:
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    colors = spread_colors(256)
    assert list(colors[:7]) == first
    assert colors[20] == (0, 64, 128)
    assert colors[255] == (224, 224, 192)
    assert len(set(colors)) == 256
