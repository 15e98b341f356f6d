"""Display colours for classes whose source gives none."""

from segpipe.classes import Color

NUM_CHANNELS = 3
NUM_BITS_OF_CHANNEL = 8


def spread_colors(num_colors: int) -> tuple[Color, ...]:
    """Gives the colours that Pascal VOC's development kit gives to the numbers 0, 1, 2, ...

    The three lowest bits of a number become the highest bits of red, green and blue, the next three the bits below, and
    so on: neighbours differ much, and 256 numbers have 256 colours. Number 0 is black.

    Args:
        num_colors: how many, at most 256.
    """
    return tuple(_color_of(number) for number in range(num_colors))


def _color_of(number: int) -> Color:
    red, green, blue = (
        sum((number >> (NUM_CHANNELS * bit + channel) & 1) << (NUM_BITS_OF_CHANNEL - 1 - bit) for bit in range(3))
        for channel in range(NUM_CHANNELS)
    )
    return red, green, blue
