"""The class table: lookup of colours, digest, round trip."""

import numpy as np

from segpipe.classes import ClassTable

TABLE = ClassTable(("road", "sky"), ((1, 2, 3), (4, 5, 6)))


def test_color_lookup_shows_void_black() -> None:
    lookup = TABLE.color_lookup()
    assert lookup.dtype == np.uint8
    assert lookup[[0, 1, 255]].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0]]


def test_digest_is_of_names_and_their_order_alone() -> None:
    assert TABLE.digest == ClassTable(TABLE.names, ((9, 9, 9), (8, 8, 8))).digest
    assert TABLE.digest != ClassTable(("sky", "road"), TABLE.colors).digest
    assert len(TABLE.digest) == 16


def test_json_round_trip() -> None:
    assert ClassTable.from_json(TABLE.to_json()) == TABLE
