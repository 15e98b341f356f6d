"""Gaussian filtering of many pixels with many features each, on the permutohedral lattice.

Source: Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010. The
filter sum_j exp(-|f_i - f_j|^2 / 2) v_j over all pairs of N pixels takes time in N instead of N^2: the values of the
pixels are spread over the corners of the simplices that the features lie in (splat), blurred along the axes of the
lattice, and read again at the features (slice).

A lattice of d dimensions has d + 1 kinds of corners, by their remainder modulo d + 1. The corners of a simplex are one
of each kind. So the kinds are sorted one after the other, which needs a sixth of the memory for d = 5.

Every step is a weighted sum over a list of rows, in one order: `embedding_bag` adds them. So the bits depend neither on
the number of threads nor, on a GPU, on which thread is first.

Deviations: corners that no pixel touches do not exist, as in the paper's code, so the kernel fades where features are
rare. The result is not scaled: it is the filter's up to a factor, which `crf` divides away.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from segpipe.errors import ConfigError

# A number that names a corner is an int64.
MAX_CODES = 2**62

# Values at the corners, for each pixel, that are blurred together: in a photograph those of all classes that come
# together, because a corner has several pixels; in noise, where a pixel has six corners, those of one.
MAX_VALUES_OF_PIXEL = 8

# Corners whose neighbours are added together: the lists of neighbours are long.
CORNERS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Lattice:
    """The corners that the features of P pixels touch, M of them, and how the values flow.

    Args:
        corners_PK: (P, d + 1) int32, the corners around each pixel.
        weights_PK: (P, d + 1) float32 in 0..1, the pixel's barycentric coordinates; their sum is 1.
        pixels: (P * (d + 1),) int32, the pixels around each corner, corner after corner.
        pixel_weights: (P * (d + 1),) float32, the same weights in the order of `pixels`.
        starts: (M,) int32, where in `pixels` the list of each corner begins.
        ahead_AM: (d + 1, M) int32, the next corner along each axis; M where there is none.
    """

    corners_PK: torch.Tensor
    weights_PK: torch.Tensor
    pixels: torch.Tensor
    pixel_weights: torch.Tensor
    starts: torch.Tensor
    ahead_AM: torch.Tensor

    @property
    def num_corners(self) -> int:
        """The number of corners that pixels touch, M."""
        return len(self.starts)

    def filter(self, values_CP: torch.Tensor) -> torch.Tensor:
        """Sums the values of all pixels, weighted by the closeness of their features.

        Args:
            values_CP: (C, P) float32.

        Returns:
            (C, P) float32, up to a factor that is the same for all pixels.
        """
        num_at_once = max(1, MAX_VALUES_OF_PIXEL * values_CP.shape[1] // self.num_corners)
        filtered_CP = torch.empty_like(values_CP)
        for given_CP, result_CP in zip(
            torch.split(values_CP, num_at_once), torch.split(filtered_CP, num_at_once), strict=True
        ):
            result_CP.copy_(self._slice(self._blur(self._splat(given_CP.T.contiguous()))).T)
        return filtered_CP

    def _splat(self, values_PC: torch.Tensor) -> torch.Tensor:
        """Sums the values around each corner, (M + 1, C); the last row, of 0, stands for all that do not exist."""
        values_MC = values_PC.new_zeros(self.num_corners + 1, values_PC.shape[1])
        values_MC[:-1] = F.embedding_bag(
            self.pixels, values_PC, self.starts, mode="sum", per_sample_weights=self.pixel_weights
        )
        return values_MC

    def _blur(self, values_MC: torch.Tensor) -> torch.Tensor:
        """Adds half of both neighbours along each axis in turn, in place."""
        sums_MC = torch.empty_like(values_MC[:-1])
        for ahead_M in self.ahead_AM:
            behind_M = _turn_around(ahead_M)
            for first in range(0, self.num_corners, CORNERS_AT_ONCE):
                part = slice(first, first + CORNERS_AT_ONCE)
                neighbors_M2 = torch.stack([ahead_M[part], behind_M[part]], dim=1)
                sums_MC[part] = F.embedding_bag(neighbors_M2, values_MC, mode="sum")
            values_MC[:-1].add_(sums_MC, alpha=0.5)
        return values_MC

    def _slice(self, values_MC: torch.Tensor) -> torch.Tensor:
        """Interpolates between the corners around each pixel, (P, C)."""
        return F.embedding_bag(self.corners_PK, values_MC, mode="sum", per_sample_weights=self.weights_PK)


@torch.no_grad()
def build_lattice(features_PD: torch.Tensor) -> Lattice:
    """Finds the corners around each pixel and their neighbours.

    Args:
        features_PD: (P, d) float32, the features in units of the Gaussian's standard deviations; P is at least 1.

    Raises:
        ConfigError: the features span so many standard deviations that the corners cannot be numbered.
    """
    num_pixels, num_dimensions = features_PD.shape
    num_kinds = num_dimensions + 1
    origins_PK, ranks_PK, weights_PK = _enclose(_elevate(features_PD))
    strides = _number_corners(origins_PK)
    bases_P = _encode(origins_PK, strides)
    del origins_PK
    corners_PK = torch.empty_like(ranks_PK, dtype=torch.int32)
    pixels = torch.empty(num_kinds, num_pixels, dtype=torch.int32, device=features_PD.device)
    pixel_weights = torch.empty_like(pixels, dtype=torch.float32)
    starts, codes, first = [], [], 0
    for kind in range(num_kinds):
        # Coordinates whose rank is high go one multiple down, the others up.
        offsets_P = kind * sum(strides) - num_kinds * _encode(ranks_PK > num_dimensions - kind, strides)
        codes_P, order_P = (bases_P + offsets_P).sort(stable=True)
        is_new_P = torch.ones_like(codes_P, dtype=torch.bool)
        torch.ne(codes_P[1:], codes_P[:-1], out=is_new_P[1:])
        corners_PK[order_P, kind] = (is_new_P.cumsum(0) + (first - 1)).int()
        pixels[kind], pixel_weights[kind] = order_P, weights_PK[order_P, kind]
        starts.append((is_new_P.nonzero().flatten() + kind * num_pixels).int())
        codes.append(codes_P[is_new_P])
        first += len(codes[-1])
    del ranks_PK, bases_P, offsets_P, codes_P, order_P, is_new_P
    ahead_AM = _find_next(codes, strides)
    return Lattice(corners_PK, weights_PK, pixels.flatten(), pixel_weights.flatten(), torch.cat(starts), ahead_AM)


def _elevate(features_PD: torch.Tensor) -> torch.Tensor:
    """Places features on the plane sum(x) = 0 of d + 1 dimensions, (P, d + 1).

    The scale makes the blur a Gaussian of standard deviation 1 in the features.
    """
    num_pixels, num_dimensions = features_PD.shape
    elevated_PK = features_PD.new_zeros(num_pixels, num_dimensions + 1)
    for axis in range(num_dimensions):
        scale = (num_dimensions + 1) * math.sqrt(2 / 3) / math.sqrt((axis + 1) * (axis + 2))
        elevated_PK[:, : axis + 1] += scale * features_PD[:, axis, None]
        elevated_PK[:, axis + 1] -= scale * (axis + 1) * features_PD[:, axis]
    return elevated_PK


def _enclose(elevated_PK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds the simplex around each point, by rounding and ranking as in the paper.

    Args:
        elevated_PK: (P, d + 1) float32; overwritten.

    Returns:
        The simplex's corner of remainder 0 (P, d + 1) int32, the rank of each coordinate, which says in which simplex
        around that corner the point lies (P, d + 1) int8, and the barycentric coordinates (P, d + 1) float32.
    """
    num_kinds = elevated_PK.shape[1]
    rounded_PK = (elevated_PK / num_kinds).round_()
    elevated_PK.div_(num_kinds).sub_(rounded_PK)
    ranks_PK = torch.zeros_like(elevated_PK, dtype=torch.int8)
    for one in range(num_kinds):
        for other in range(one + 1, num_kinds):
            is_behind_P = elevated_PK[:, one] < elevated_PK[:, other]
            ranks_PK[:, one] += is_behind_P
            ranks_PK[:, other] += ~is_behind_P
    ranks_PK += rounded_PK.sum(dim=1, keepdim=True).to(torch.int8)
    # The nearest multiples may lie off the plane: then the coordinates that were rounded furthest are rounded back.
    shift_PK = (ranks_PK < 0).to(torch.int8) - (ranks_PK >= num_kinds).to(torch.int8)
    ranks_PK += num_kinds * shift_PK
    rounded_PK += shift_PK
    elevated_PK -= shift_PK
    del shift_PK
    # By rank, from the last to the first: the weight of a corner is the step from one coordinate to the next.
    falling_PK = torch.empty_like(elevated_PK).scatter_(1, num_kinds - 1 - ranks_PK.long(), elevated_PK)
    weights_PK = elevated_PK
    torch.sub(falling_PK[:, 1:], falling_PK[:, :-1], out=weights_PK[:, 1:])
    weights_PK[:, 0] = 1 + falling_PK[:, 0] - falling_PK[:, -1]
    return rounded_PK.mul_(num_kinds).int(), ranks_PK, weights_PK


def _number_corners(origins_PK: torch.Tensor) -> list[int]:
    """Gives d strides: a corner's code is the sum of its coordinates times the strides, the last coordinate left out.

    The codes of a corner and of all its neighbours differ, because the numbering has room around the pixels' corners.
    """
    num_kinds = origins_PK.shape[1]
    margin = 2 * num_kinds
    spans = [int(high - low) + 1 + 2 * margin for low, high in zip(origins_PK.amin(0), origins_PK.amax(0), strict=True)]
    if math.prod(spans[:-1]) > MAX_CODES:
        raise ConfigError(
            f"features span {max(spans)} cells of the lattice, too many to number: "
            "write larger standard deviations (appearance_px, appearance_color)"
        )
    return [math.prod(spans[axis + 1 : -1]) for axis in range(num_kinds - 1)]


def _encode(coordinates_PK: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """Gives (P,) int64, coordinate after coordinate, because all at once in int64 take eight times the memory."""
    codes_P = torch.zeros(len(coordinates_PK), dtype=torch.int64, device=coordinates_PK.device)
    for axis, stride in enumerate(strides):
        codes_P.add_(coordinates_PK[:, axis].long(), alpha=stride)
    return codes_P


def _find_next(codes: list[torch.Tensor], strides: list[int]) -> torch.Tensor:
    """Looks up the next corner along each axis: a step is -1 in all coordinates but one, there +d.

    Args:
        codes: of each kind, sorted.
        strides: from `_number_corners`.

    Returns:
        (d + 1, M) int32; M where there is none.
    """
    num_kinds, num_corners = len(codes), sum(map(len, codes))
    firsts = [sum(map(len, codes[:kind])) for kind in range(num_kinds)]
    ahead_AM = torch.empty(num_kinds, num_corners, dtype=torch.int32, device=codes[0].device)
    for axis in range(num_kinds):
        step = (num_kinds * strides[axis] if axis < num_kinds - 1 else 0) - sum(strides)
        parts = torch.split(ahead_AM[axis], [len(own) for own in codes])
        for kind, part in enumerate(parts):
            # A step lowers the remainder by 1.
            there, wanted = codes[kind - 1], codes[kind] + step
            found = torch.searchsorted(there, wanted).clamp_(max=len(there) - 1)
            part.copy_(torch.where(there[found] == wanted, firsts[kind - 1] + found, num_corners))
    return ahead_AM


def _turn_around(ahead_M: torch.Tensor) -> torch.Tensor:
    """Gives (M,) int32, the corner before each one along an axis; M where there is none.

    It is not stored, because a lattice of noise would then take a third more memory.
    """
    num_corners = len(ahead_M)
    behind_M = torch.full((num_corners + 1,), num_corners, dtype=torch.int32, device=ahead_M.device)
    for first in range(0, num_corners, CORNERS_AT_ONCE):
        part_M = ahead_M[first : first + CORNERS_AT_ONCE]
        behind_M[part_M] = torch.arange(first, first + len(part_M), dtype=torch.int32, device=ahead_M.device)
    return behind_M[:-1]
