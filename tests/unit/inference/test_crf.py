"""The mean field against a loop over pairs of pixels in float64, and what it is for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from segpipe.inference import crf
from segpipe.inference.crf import refine

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

DEFAULTS = {
    "num_iterations": 5,
    "appearance_weight": 4.0,
    "appearance_px": 67.0,
    "appearance_color": 3.0,
    "smoothness_weight": 3.0,
    "smoothness_px": 1.0,
}
NARROW = {"num_iterations": 3, "appearance_px": 4.0, "appearance_color": 20.0, "smoothness_px": 2.5}


def measure_kernels(image_HWC: Bytes, settings: dict[str, float]) -> tuple[Floats, Floats]:
    """Gives the two kernels of equation 3 without weights, each (P, P)."""
    height, width, _ = image_HWC.shape
    pixels = [(row, column) for row in range(height) for column in range(width)]
    appearance, smoothness = np.empty((2, len(pixels), len(pixels)))
    for i, (row, column) in enumerate(pixels):
        for j, (other_row, other_column) in enumerate(pixels):
            distance = (row - other_row) ** 2 + (column - other_column) ** 2
            difference = image_HWC[row, column].astype(float) - image_HWC[other_row, other_column].astype(float)
            near = distance / (2 * settings["appearance_px"] ** 2)
            appearance[i, j] = np.exp(-near - (difference**2).sum() / (2 * settings["appearance_color"] ** 2))
            smoothness[i, j] = np.exp(-distance / (2 * settings["smoothness_px"] ** 2))
    return appearance, smoothness


def refine_slowly(probabilities_CHW: Floats, image_HWC: Bytes, **changes: float) -> Floats:
    """Algorithm 1, pixel by pixel."""
    settings = DEFAULTS | changes
    kernels = measure_kernels(image_HWC, settings)
    kernels = tuple(kernel / np.sqrt(np.outer(kernel.sum(axis=1), kernel.sum(axis=1))) for kernel in kernels)
    unary_PC = -np.log(probabilities_CHW.reshape(len(probabilities_CHW), -1).T)
    beliefs_PC = np.exp(-unary_PC)
    for _ in range(int(settings["num_iterations"])):
        scores_PC = np.empty_like(unary_PC)
        for i in range(len(unary_PC)):
            # Potts: a class costs what the pixels of the other classes weigh.
            cost_C = np.zeros(unary_PC.shape[1])
            for weight, kernel in zip(
                (settings["appearance_weight"], settings["smoothness_weight"]), kernels, strict=True
            ):
                messages_C = (kernel[i, :, None] * beliefs_PC).sum(axis=0)
                cost_C += weight * (messages_C.sum() - messages_C)
            scores_PC[i] = np.exp(-unary_PC[i] - cost_C)
        beliefs_PC = scores_PC / scores_PC.sum(axis=1, keepdims=True)
    return beliefs_PC.T.reshape(probabilities_CHW.shape)


def draw(height: int, width: int, num_classes: int, num_channels: int = 3, seed: int = 0) -> tuple[Floats, Bytes]:
    """Gives random probabilities and an image of two noisy halves."""
    rng = np.random.default_rng(seed)
    scores = np.exp(1.5 * rng.normal(size=(num_classes, height, width)))
    image = rng.integers(90, 100, (height, width, num_channels))
    image[:, width // 2 :] += 40
    return scores / scores.sum(axis=0), image.astype(np.uint8)


def draw_scene(height: int, width: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives coarse probabilities of blocks of 8 px and an image with gradients, edges and a little noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, 60 + 0 * rows], axis=2) + rng.normal(0, 2, (height, width, 3))
    image[(rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height / 3) ** 2] += 70
    coarse = torch.tensor(rng.normal(size=(1, num_classes, height // 8, width // 8)) * 2, dtype=torch.float32)
    scores = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return scores.softmax(dim=1), torch.tensor(np.clip(image, 0, 255).astype(np.uint8))[None]


def run(probabilities: Floats, image: Bytes, **changes: float) -> Floats:
    given = torch.tensor(probabilities, dtype=torch.float32)[None]
    return refine(given, torch.tensor(image)[None], **changes)[0].double().numpy()  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{}, NARROW, {"appearance_weight": 0.0}, {"smoothness_weight": 0.0}], ids=str)
def test_the_loop_in_float64(changes: dict[str, float]) -> None:
    probabilities, image = draw(9, 14, 4)
    np.testing.assert_allclose(
        run(probabilities, image, **changes), refine_slowly(probabilities, image, **changes), atol=1e-4
    )


def test_more_classes_than_are_computed_together() -> None:
    probabilities, image = draw(6, 7, 2 * crf.CLASSES_AT_ONCE + 3)
    np.testing.assert_allclose(run(probabilities, image), refine_slowly(probabilities, image), atol=1e-4)


def test_by_hand() -> None:
    """Two equal pixels next to each other with p = (0.8, 0.2) and (0.4, 0.6): each kernel is 0.5 between all pairs."""
    probabilities = np.array([[[0.8, 0.4]], [[0.2, 0.6]]])
    result = run(
        probabilities,
        np.zeros((1, 2, 3), np.uint8),
        num_iterations=1,
        appearance_weight=1.0,
        appearance_px=1e4,
        smoothness_weight=1.0,
        smoothness_px=1e4,
    )
    # The mean of both pixels, from two kernels of weight 1: exp(2 * 0.6) and exp(2 * 0.4).
    first, second = 0.8 * np.exp(1.2), 0.2 * np.exp(0.8)
    assert result[0, 0, 0] == pytest.approx(first / (first + second), abs=1e-5)


def test_the_lattice_agrees_with_the_exact_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, images = draw_scene(56, 64, 5)
    exact = refine(probabilities, images)
    monkeypatch.setattr(crf, "MAX_EXACT_PX", 0)
    fast = refine(probabilities, images)
    # Measured: 0.033 of what the CRF changes, and 1.5% of the pixels in another class.
    assert (fast - exact).abs().mean() < 0.06 * (exact - probabilities).abs().mean()
    assert (fast.argmax(dim=1) != exact.argmax(dim=1)).float().mean() < 0.03


def test_a_constant_image_smooths() -> None:
    """Each pixel alone says one of two classes, most the first: all of them follow it."""
    probabilities, _ = draw(20, 20, 2)
    probabilities = np.stack([0.6 * probabilities[0] + 0.3, 0.7 - 0.6 * probabilities[0]])
    assert (probabilities.argmax(axis=0) == 1).any()
    assert (run(probabilities, np.full((20, 20, 3), 128, np.uint8)).argmax(axis=0) == 0).all()


@pytest.mark.parametrize("max_exact_px", [0, crf.MAX_EXACT_PX])
def test_a_colour_edge_is_kept(monkeypatch: pytest.MonkeyPatch, max_exact_px: int) -> None:
    """The network sees the border of the two halves 3 px too far left, and blurred; the colour says where it is."""
    monkeypatch.setattr(crf, "MAX_EXACT_PX", max_exact_px)
    columns = np.arange(40)
    left = np.tile(1 / (1 + np.exp((columns - 16.5) / 2)), (24, 1))
    image = np.full((24, 40, 3), 50, np.uint8)
    image[:, 20:] = 200
    refined = run(np.stack([left, 1 - left]), image)
    np.testing.assert_array_equal(refined.argmax(axis=0), np.tile(columns >= 20, (24, 1)))


@pytest.mark.parametrize("max_exact_px", [0, crf.MAX_EXACT_PX])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_the_result_is_probabilities(monkeypatch: pytest.MonkeyPatch, max_exact_px: int, num_classes: int) -> None:
    monkeypatch.setattr(crf, "MAX_EXACT_PX", max_exact_px)
    probabilities, image = draw(16, 21, num_classes)
    probabilities[:, 0, 0] = np.eye(num_classes)[0]
    refined = run(probabilities, image)
    np.testing.assert_array_equal(refined[:, 0, 0], np.eye(num_classes)[0])
    assert refined.min() >= 0
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("max_exact_px", [0, crf.MAX_EXACT_PX])
def test_images_one_by_one(monkeypatch: pytest.MonkeyPatch, max_exact_px: int) -> None:
    monkeypatch.setattr(crf, "MAX_EXACT_PX", max_exact_px)
    pairs = [draw(16, 21, 3, seed=seed) for seed in range(3)]
    given = torch.tensor(np.stack([probabilities for probabilities, _ in pairs]), dtype=torch.float32)
    images = torch.tensor(np.stack([image for _, image in pairs]))
    together = refine(given, images)
    assert together.dtype == torch.float32
    for index in range(3):
        assert torch.equal(together[index : index + 1], refine(given[index : index + 1], images[index : index + 1]))


def test_a_grey_image_is_three_equal_channels() -> None:
    probabilities, image = draw(9, 14, 3, num_channels=1)
    colored = image.repeat(3, axis=2)
    np.testing.assert_allclose(run(probabilities, image), run(probabilities, colored), atol=1e-5)
    np.testing.assert_allclose(run(probabilities, image), refine_slowly(probabilities, colored), atol=1e-4)


def test_no_round_changes_nothing() -> None:
    probabilities, image = draw(9, 14, 3)
    np.testing.assert_allclose(run(probabilities, image, num_iterations=0), probabilities, atol=1e-6)


def test_the_input_is_not_changed() -> None:
    probabilities, images = draw_scene(80, 64, 3)
    before = probabilities.clone()
    refine(probabilities, images)
    assert torch.equal(probabilities, before)


def test_other_layouts_and_formats() -> None:
    """Channels-last, and bfloat16: the same as its float32 copy."""
    probabilities, images = draw_scene(80, 64, 3)
    plain = refine(probabilities, images)
    assert torch.equal(refine(probabilities.contiguous(memory_format=torch.channels_last), images), plain)
    short = probabilities.bfloat16()
    assert torch.equal(refine(short, images), refine(short.float(), images))


def test_the_same_bits_again() -> None:
    """With several threads, of which none may be first in a sum by chance."""
    probabilities, images = draw_scene(80, 64, 3)
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(refine(probabilities, images), refine(probabilities, images))
    finally:
        torch.set_num_threads(num_threads)
