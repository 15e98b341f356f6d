"""The mask doctor on a corpus of planted faults: each is named with its cause, and clean data has none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX
from segpipe.config.preprocess import Policy
from segpipe.data.building.decoding import decode_sample
from segpipe.data.masks.labels import ColorMask, IndexMask, Label, plain_indices
from segpipe.data.sources.source import RawSample

HEIGHT, WIDTH, NUM_CLASSES = 96, 128, 6
COLORS = ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (64, 64, 0))
COLOR_MAP = {**{color: index for index, color in enumerate(COLORS)}, (0, 0, 0): IGNORE_INDEX}
Picture = npt.NDArray[np.uint8]
CAREFUL = Policy()


def draw_mask() -> Picture:
    """A street: sky, a house with a round tree, a road, a thin pole, and a void corner."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.array([[0, 90], [0, 40], [50, 25], [70, 60], [70, 90]])], 1)
    cv2.circle(mask, (95, 40), 22, 5, -1)
    cv2.fillPoly(mask, [np.array([[0, 95], [0, 75], [60, 58], [127, 80], [127, 95]])], 3)
    cv2.rectangle(mask, (20, 70), (44, 84), 4, -1)
    cv2.line(mask, (110, 10), (112, 80), 2, 1)
    mask[:8, :8] = IGNORE_INDEX
    return mask


def draw_image() -> Picture:
    """Noise of low frequency: no two rows are alike."""
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def in_colors(mask: Picture) -> Picture:
    lookup = np.zeros((256, 3), np.uint8)
    lookup[:NUM_CLASSES] = COLORS
    return lookup[mask]


@dataclass
class Case:
    """Files of one sample in a folder, sound until a fault is planted."""

    root: Path
    image: Picture = field(default_factory=draw_image)
    mask: Picture = field(default_factory=draw_mask)
    suffix: str = "png"
    label: Callable[[Path], Label] = lambda path: IndexMask(path, plain_indices(NUM_CLASSES))

    def save_image(self, pixels: Picture | None = None, **options: object) -> Path:
        path = self.root / "a_image.jpg"
        Image.fromarray(self.image if pixels is None else pixels).save(path, quality=95, **options)
        return path

    def save_mask(self, pixels: npt.NDArray[np.generic] | Image.Image | None = None, **options: object) -> Path:
        path = self.root / f"a_mask.{self.suffix}"
        if pixels is None:
            pixels = self.mask
        picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        picture.save(path, **options)
        return path

    def of_colors(self, **more: int) -> None:
        self.label = lambda path: ColorMask(path, COLOR_MAP)

    def of_indices(self, indices: dict[int, int]) -> None:
        self.label = lambda path: IndexMask(path, indices)

    def two_classes(self, void_values: tuple[int, ...] = ()) -> Picture:
        self.of_indices(plain_indices(2, void_values))
        return (self.mask == 1).astype(np.uint8)

    def findings(self, policy: Policy = CAREFUL) -> tuple[Picture | None, list[tuple[str, str]]]:
        """What the doctor says: kind and text, and the mask that would be used."""
        image, mask = self.root / "a_image.jpg", self.root / f"a_mask.{self.suffix}"
        if not image.exists():
            self.save_image()
        if not mask.exists():
            self.save_mask()
        sample, findings = decode_sample(RawSample("a", image, self.label(mask)), self.root, policy, {})
        told = [(finding.problem.kind, str(finding.problem)) for finding in findings]
        return None if sample is None else sample.mask, told


Plant = Callable[[Case], object]
CORPUS: dict[str, tuple[Plant, str, str]] = {}


def planted(kind: str, words: str) -> Callable[[Plant], Plant]:
    """Adds a fault to the corpus, with its kind and the essential words of the message."""

    def add(plant: Plant) -> Plant:
        CORPUS[plant.__name__] = plant, kind, words
        return plant

    return add


# Sizes


@planted("size-mismatch", "is 96x128, its image 128x96: width and height exchanged")
def mask_transposed(case: Case) -> None:
    case.save_mask(np.ascontiguousarray(case.mask.T))


@planted("size-mismatch", "half of it in each direction")
def mask_of_half_size(case: Case) -> None:
    case.save_mask(case.mask[::2, ::2])


@planted("size-mismatch", "twice it in each direction")
def mask_of_double_size(case: Case) -> None:
    case.save_mask(case.mask.repeat(2, 0).repeat(2, 1))


@planted("size-mismatch", "3/4 of it in each direction")
def mask_of_three_quarters(case: Case) -> None:
    case.save_mask(cv2.resize(case.mask, (96, 72), interpolation=cv2.INTER_NEAREST))


@planted("size-mismatch", "cut or padded by 0 and 4 px")
def mask_cut(case: Case) -> None:
    case.save_mask(case.mask[:-4])


@planted("size-mismatch", "of another shape")
def mask_of_another_image(case: Case) -> None:
    case.save_mask(case.mask[:40])


# Values


@planted("mask-binary", "is a 0/255 mask")
def binary_0_255_of_two_classes(case: Case) -> None:
    case.save_mask(case.two_classes() * 255)


@planted("mask-binary", "is a 0/255 mask")
def binary_0_255_of_many_classes(case: Case) -> None:
    case.of_indices(plain_indices(NUM_CLASSES, ()))
    case.save_mask((case.mask == 1).astype(np.uint8) * 255)


@planted("mask-binary-void", "255 is void")
def binary_0_255_where_255_is_void(case: Case) -> None:
    case.save_mask(case.two_classes(void_values=(255,)) * 255)


@planted("mask-binary", "is a 0/1 mask, and the class table's values are 0 and 255")
def binary_0_1_where_255_is_meant(case: Case) -> None:
    pixels = case.two_classes()
    case.of_indices({0: 0, 255: 1})
    case.save_mask(pixels)


@planted("mask-binary", "is a 0/65535 mask")
def binary_of_16_bit(case: Case) -> None:
    case.save_mask(case.two_classes().astype(np.uint16) * 65535)


@planted("mask-values", "the class table's values are 0..5: 6 is not one of them")
def off_by_one(case: Case) -> None:
    mask = case.mask + 1
    mask[case.mask == IGNORE_INDEX] = IGNORE_INDEX
    case.save_mask(mask)


@planted("mask-values", "6 is not one of them")
def one_class_more(case: Case) -> None:
    case.mask[50:60, 50:60] = NUM_CLASSES
    case.save_mask()


@planted("mask-values", "0 is not one of them")
def zero_where_the_table_begins_at_one(case: Case) -> None:
    case.of_indices({**{index + 1: index for index in range(NUM_CLASSES)}, 255: IGNORE_INDEX})
    case.save_mask()


@planted("mask-values", "multiplied by 51, to be seen")
def spread_over_the_byte(case: Case) -> None:
    case.mask[case.mask == IGNORE_INDEX] = 0
    case.save_mask(case.mask * 51)


@planted("mask-values", "multiplied by 127.5")
def spread_with_rounding(case: Case) -> None:
    case.save_mask(np.choose(np.minimum(case.mask, 2), [0, 127, 255]).astype(np.uint8))


@planted("mask-values", "multiplied by 20, to be seen")
def multiplied_by_20(case: Case) -> None:
    case.mask[case.mask == IGNORE_INDEX] = 0
    case.save_mask(case.mask * 20)


@planted("mask-values", "outside the class table: 77, 201 (26 px)")
def unknown_values(case: Case) -> None:
    case.mask[50:55, 50:55], case.mask[0, 100] = 201, 77
    case.save_mask()


@planted("mask-values", "outside the class table: 9 (")
def a_thin_class_that_the_table_lacks(case: Case) -> None:
    cv2.line(case.mask, (5, 30), (120, 50), 9, 1)
    case.save_mask()


@planted("mask-mode", "greys of a palette's colours")
def palette_read_as_grey(case: Case) -> None:
    picture = Image.fromarray(np.minimum(case.mask, 5))
    bits = [[sum((i >> b & 1) << 7 - b // 3 for b in range(8) if b % 3 == c) for c in range(3)] for i in range(256)]
    picture.putpalette([part for color in bits for part in color])
    case.save_mask(picture.convert("RGB").convert("L"))


# Depth


@planted("mask-depth", "257 times class indices")
def sixteen_bit_times_257(case: Case) -> None:
    case.save_mask(case.mask.astype(np.uint16) * 257)


@planted("mask-depth", "256 times class indices")
def sixteen_bit_of_exchanged_bytes(case: Case) -> None:
    case.save_mask(case.mask.astype(np.uint16).byteswap())


@planted("mask-depth", "instance numbers")
def instance_numbers(case: Case) -> None:
    case.mask[case.mask == IGNORE_INDEX] = 0
    pixels = case.mask.astype(np.uint16)
    pixels[case.mask == 4] = 4003
    case.save_mask(pixels)


@planted("mask-depth", "16-bit values")
def a_depth_map(case: Case) -> None:
    case.save_mask((np.arange(HEIGHT * WIDTH, dtype=np.uint16) * 5 + 300).reshape(HEIGHT, WIDTH))


@planted("mask-depth", "holds values")
def thirty_two_bits(case: Case) -> None:
    case.suffix = "tif"
    case.save_mask(case.mask.astype(np.int32) - 1)


@planted("mask-mode", "holds fractions")
def probabilities(case: Case) -> None:
    case.suffix = "tif"
    case.save_mask(case.mask.astype(np.float32) / 255)


# Channels


@planted("mask-mode", "repeats its values in 3 channels")
def three_equal_channels(case: Case) -> None:
    case.save_mask(np.repeat(case.mask[..., None], 3, axis=2))


@planted("mask-mode", "has an alpha channel without information")
def opaque_alpha(case: Case) -> None:
    case.save_mask(Image.merge("LA", [Image.fromarray(case.mask), Image.new("L", (WIDTH, HEIGHT), 255)]))


@planted("mask-mode", "repeats its values in 3 channels (mode RGBA)")
def three_equal_channels_and_opaque_alpha(case: Case) -> None:
    case.save_mask(Image.fromarray(np.repeat(case.mask[..., None], 3, axis=2)).convert("RGBA"))


@planted("mask-alpha", "px that are not opaque")
def index_mask_with_transparency(case: Case) -> None:
    alpha = np.where(case.mask == 0, 0, 255).astype(np.uint8)
    case.save_mask(Image.merge("LA", [Image.fromarray(case.mask), Image.fromarray(alpha)]))


@planted("mask-alpha", "its labels are only in the transparency")
def labels_in_the_alpha_channel(case: Case) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    case.save_mask(np.concatenate([black, case.mask[..., None]], axis=2))


@planted("mask-alpha", "px that are not opaque")
def color_mask_with_transparency(case: Case) -> None:
    case.of_colors()
    alpha = np.where(case.mask == 0, 0, 255).astype(np.uint8)
    case.save_mask(np.concatenate([in_colors(case.mask), alpha[..., None]], axis=2))


@planted("mask-mode", "holds colours (mode RGB, 7 different), not class indices")
def colors_where_indices_are_expected(case: Case) -> None:
    case.save_mask(in_colors(case.mask))


@planted("mask-mode", "mode L, 8 bits a channel, not colours")
def indices_where_colors_are_expected(case: Case) -> None:
    case.of_colors()
    case.save_mask()


@planted("mask-mode", "class indices in three equal channels")
def repeated_indices_where_colors_are_expected(case: Case) -> None:
    case.of_colors()
    case.save_mask(np.repeat(case.mask[..., None], 3, axis=2))


@planted("mask-mode", "a palette whose colours are not in the label map; its indices are 0, 1")
def palette_of_other_colors(case: Case) -> None:
    case.of_colors()
    picture = Image.fromarray(case.mask)
    picture.putpalette([part for index in range(256) for part in (index, 255 - index, 7)])
    case.save_mask(picture)


@planted("mask-mode", "holds 3 pages")
def a_page_for_each_class(case: Case) -> None:
    case.suffix = "tif"
    pages = [Image.fromarray((case.mask == index).astype(np.uint8)) for index in range(3)]
    case.save_mask(pages[0], save_all=True, append_images=pages[1:])


@planted("mask-mode", "as a photograph does")
def photograph_as_index_mask(case: Case) -> None:
    case.save_mask(case.image)


@planted("mask-mode", "as a photograph or a depth map does")
def grey_photograph_as_mask(case: Case) -> None:
    case.save_mask(Image.fromarray(case.image).convert("L"))


@planted("mask-mode", "as a photograph does")
def photograph_as_color_mask(case: Case) -> None:
    case.of_colors()
    case.save_mask(case.image)


# Resized and compressed


@planted("mask-seams", "resized with interpolation")
def resized_with_interpolation(case: Case) -> None:
    case.mask[case.mask == IGNORE_INDEX] = 0
    large = cv2.resize(case.mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    case.save_mask(cv2.resize(large, (WIDTH * 3, HEIGHT * 3), interpolation=cv2.INTER_LINEAR))
    case.save_image(cv2.resize(case.image, (WIDTH * 3, HEIGHT * 3)))


@planted("mask-blended", "between those of neighbours, along edges")
def resized_with_void(case: Case) -> None:
    case.mask[60:, 60:] = IGNORE_INDEX
    case.save_mask(cv2.resize(case.mask, (WIDTH * 2, HEIGHT * 2), interpolation=cv2.INTER_LINEAR))
    case.save_image(cv2.resize(case.image, (WIDTH * 2, HEIGHT * 2)))


@planted("mask-blended", "between those of neighbours, along edges")
def binary_with_soft_edges(case: Case) -> None:
    case.of_indices({0: 0, 255: 1})
    case.save_mask(cv2.GaussianBlur((case.mask == 1).astype(np.uint8) * 255, (3, 3), 0))


@planted("mask-blended", "was compressed with loss (JPEG)")
def index_mask_as_jpeg(case: Case) -> None:
    case.suffix = "jpg"
    case.save_mask(quality=75)


@planted("mask-blended", "was compressed with loss (JPEG)")
def binary_mask_once_a_jpeg(case: Case) -> None:
    case.of_indices({0: 0, 255: 1})
    _, content = cv2.imencode(".jpg", (case.mask == 1).astype(np.uint8) * 255)
    case.save_mask(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))


@planted("mask-lossy", "compressed with loss (JPEG): all its values are known")
def jpeg_whose_values_are_all_known(case: Case) -> None:
    case.suffix = "jpg"
    case.of_indices({value: min(value // 43, 5) for value in range(256)})
    case.save_mask(np.minimum(case.mask, 5) * 43)


@planted("mask-lossy", "compressed with loss")
def webp_with_loss(case: Case) -> None:
    case.suffix = "webp"
    decoded = np.asarray(Image.open(case.save_mask(in_colors(case.mask), quality=50)))
    known = {(r, g, b): int(r > 100) for r, g, b in np.unique(decoded.reshape(-1, 3), axis=0).tolist()}
    case.label = lambda path: ColorMask(path, known)


@planted("mask-blended", "mixed colours along edges")
def color_mask_with_smooth_edges(case: Case) -> None:
    case.of_colors()
    case.save_mask(cv2.resize(in_colors(case.mask), (WIDTH * 2, HEIGHT * 2), interpolation=cv2.INTER_LINEAR))
    case.save_image(cv2.resize(case.image, (WIDTH * 2, HEIGHT * 2)))


@planted("mask-blended", "was compressed with loss (JPEG)")
def color_mask_as_jpeg(case: Case) -> None:
    case.of_colors()
    case.suffix = "jpg"
    case.save_mask(in_colors(case.mask))


@planted("mask-blended", "was compressed with loss (JPEG)")
def palette_mask_once_a_jpeg(case: Case) -> None:
    case.of_colors()
    _, content = cv2.imencode(".jpg", in_colors(case.mask))
    case.save_mask(cv2.imdecode(content, cv2.IMREAD_COLOR))


# Colours


@planted("mask-colors", "known when red and blue are exchanged (BGR): #000080")
def swapped_channels(case: Case) -> None:
    case.of_colors()
    case.mask[case.mask >= 2] = 0
    case.save_mask(np.ascontiguousarray(in_colors(case.mask)[..., ::-1]))


@planted("mask-colors", "a few units off known ones: #7f0000 (nearest #800000, 1 away)")
def color_off_by_one(case: Case) -> None:
    case.of_colors()
    colors = in_colors(case.mask)
    colors[case.mask == 1] = 127, 0, 0
    case.save_mask(colors)


@planted("mask-colors", "outside the label map: #00ff00 (nearest")
def a_color_that_the_map_lacks(case: Case) -> None:
    case.of_colors()
    colors = in_colors(case.mask)
    colors[case.mask == 4] = 0, 255, 0
    case.save_mask(colors)


@planted("mask-colors", "outside the label map: #e0e0c0")
def void_border_that_the_map_lacks(case: Case) -> None:
    case.of_colors()
    colors = in_colors(case.mask)
    colors[cv2.morphologyEx(case.mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0] = 224, 224, 192
    case.save_mask(colors)


# Images and files


@planted("image-turned", "is turned by an EXIF entry (orientation 6), its mask is not")
def exif_turn_on_the_image(case: Case) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    case.save_image(exif=exif)


@planted("image-turned", "orientation 3")
def exif_half_turn(case: Case) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    case.save_image(exif=exif)


@planted("mask-turned", "is turned by an EXIF entry (orientation 8)")
def exif_turn_on_the_mask(case: Case) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    case.save_mask(exif=exif)


@planted("image-damaged", "cannot be decoded")
def truncated_image(case: Case) -> None:
    path = case.save_image()
    path.write_bytes(path.read_bytes()[:-2000])


@planted("image-grey-part", "is flat grey in its last")
def half_grey_image(case: Case) -> None:
    path = case.save_image()
    path.write_bytes(path.read_bytes()[:-2500])
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        pixels = np.asarray(Image.open(path))
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    case.save_image(pixels)


@planted("image-grey-part", "is flat black in its last 31 of 96 rows")
def black_lower_part(case: Case) -> None:
    case.image[-32:] = 0
    case.save_image()


@planted("image-constant", "is nearly of one colour: RGB 40, 40, 40")
def covered_lens(case: Case) -> None:
    case.image[:] = 40
    case.save_image()


@planted("image-damaged", "cannot be decoded")
def truncated_mask(case: Case) -> None:
    path = case.save_mask()
    path.write_bytes(path.read_bytes()[:-60])


@planted("image-damaged", "cannot be decoded")
def flipped_byte_in_the_mask(case: Case) -> None:
    path = case.save_mask()
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 40] ^= 1
    path.write_bytes(bytes(content))


@planted("not-an-image", "is a pointer of Git LFS")
def git_lfs_pointer(case: Case) -> None:
    (case.root / "a_mask.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


@planted("not-an-image", "is a web page")
def web_page(case: Case) -> None:
    (case.root / "a_image.jpg").write_text("<!DOCTYPE html><title>Sign in</title>")


@planted("not-an-image", "is empty")
def empty_file(case: Case) -> None:
    (case.root / "a_mask.png").write_bytes(b"")


@planted("not-an-image", "is a PDF")
def a_pdf(case: Case) -> None:
    (case.root / "a_image.jpg").write_bytes(b"%PDF-1.4\n%%EOF")


@planted("image-mode", "values of 16 bits")
def image_of_16_bits(case: Case) -> None:
    cv2.imwrite(str(case.root / "a.png"), case.image.astype(np.uint16) * 257)
    (case.root / "a.png").rename(case.root / "a_image.jpg")


# Labels that teach nothing


@planted("mask-void", "has no labelled pixel")
def all_void(case: Case) -> None:
    case.save_mask(np.full((HEIGHT, WIDTH), IGNORE_INDEX, np.uint8))


@planted("mask-constant", "holds only class 0")
def empty_mask(case: Case) -> None:
    case.save_mask(np.zeros((HEIGHT, WIDTH), np.uint8))


@planted("mask-constant", "in a 0/255 mask 255 would be a class")
def one_class_and_void(case: Case) -> None:
    case.save_mask(np.where(case.mask == 1, 255, 0).astype(np.uint8))


OF_THE_IMAGE = {
    "exif_turn_on_the_image",
    "exif_half_turn",
    "truncated_image",
    "half_grey_image",
    "black_lower_part",
    "covered_lens",
    "web_page",
    "a_pdf",
    "image_of_16_bits",
}


# What is true as well.
ALSO = {
    "binary_0_255_where_255_is_void": ["mask-constant"],
}


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("name", CORPUS)
def test_a_planted_fault_is_named_with_its_cause(tmp_path: Path, name: str) -> None:
    plant, kind, words = CORPUS[name]
    case = Case(tmp_path)
    plant(case)
    _, findings = case.findings()
    assert [found for found, _ in findings] == [kind, *ALSO.get(name, [])], findings
    assert words in findings[0][1]
    assert findings[0][1].startswith("a_image.jpg: " if name in OF_THE_IMAGE else "a_mask.")


@pytest.mark.parametrize("is_of_colors", [False, True], ids=["indices", "colors"])
def test_a_sound_sample_has_no_fault(tmp_path: Path, is_of_colors: bool) -> None:
    case = Case(tmp_path)
    expected = case.mask.copy()
    if is_of_colors:
        case.of_colors()
        case.save_mask(in_colors(case.mask))
    mask, findings = case.findings()
    assert findings == []
    np.testing.assert_array_equal(mask, expected)


MENDED: dict[str, Callable[[Picture], Picture]] = {
    "binary_0_255_of_two_classes": lambda mask: (mask == 1).astype(np.uint8),
    "binary_0_1_where_255_is_meant": lambda mask: (mask == 1).astype(np.uint8),
    "binary_of_16_bit": lambda mask: (mask == 1).astype(np.uint8),
    "sixteen_bit_times_257": lambda mask: mask,
    "sixteen_bit_of_exchanged_bytes": lambda mask: mask,
    "three_equal_channels": lambda mask: mask,
    "opaque_alpha": lambda mask: mask,
    "three_equal_channels_and_opaque_alpha": lambda mask: mask,
    "exif_turn_on_the_image": lambda mask: mask,
}


@pytest.mark.parametrize("name", CORPUS)
def test_fixing_mends_what_has_one_meaning_and_nothing_else(tmp_path: Path, name: str) -> None:
    plant, kind, _ = CORPUS[name]
    case = Case(tmp_path)
    plant(case)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    mask, findings = case.findings(Policy(fix=True))
    if name in MENDED:
        assert [found for found, _ in findings] == [kind]
        assert "fixed in the store" in findings[0][1]
        assert mask is not None
        np.testing.assert_array_equal(mask, MENDED[name](draw_mask()))
    else:
        assert not any("fixed" in text for _, text in findings)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("is_mask_upright", [True, False])
def test_a_turned_image_is_read_as_its_mask_shows_it(tmp_path: Path, is_mask_upright: bool) -> None:
    case = Case(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    case.save_image(np.ascontiguousarray(np.rot90(case.image)) if is_mask_upright else case.image, exif=exif)
    image, label = tmp_path / "a_image.jpg", IndexMask(case.save_mask(), plain_indices(NUM_CLASSES))
    sample, findings = decode_sample(RawSample("a", image, label), tmp_path, Policy(fix=True), {})
    assert sample is not None
    assert np.abs(sample.image.astype(int) - case.image).mean() < 3  # JPEG; turned wrongly it would be tens
    assert [finding.problem.kind for finding in findings] == ([] if is_mask_upright else ["image-turned"])


@pytest.mark.parametrize("factor", [0.4, 0.5, 0.7, 0.9, 1.1, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC])
def test_interpolated_masks_of_the_starter_are_found(starter_folder: Path, factor: float, interpolation: int) -> None:
    from segpipe.data.inspection.checks import check_sample

    for path in sorted((starter_folder / "masks").glob("*.png"))[::60]:
        values = np.asarray(Image.open(path)).copy()
        values[values == IGNORE_INDEX] = 0
        resized = cv2.resize(values, None, fx=factor, fy=factor, interpolation=interpolation)
        kinds = [fault.kind for fault in check_sample(None, resized)]
        is_repeated = interpolation == cv2.INTER_AREA and factor in {2.0, 3.0}  # is nearest neighbour then
        assert kinds == ([] if is_repeated else ["mask-seams"])


def assert_clean(name: str, root: Path, num_samples: int) -> None:
    source = READERS.call(name, root=root)
    assert source.problems == ()
    assert len(source.samples) == num_samples
    for sample in source.samples:
        kept, findings = decode_sample(sample, root, Policy(), {})
        assert findings == [], sample.sample_id
        assert kept is not None


def test_the_starter_is_clean(starter_folder: Path) -> None:
    assert_clean("folder", starter_folder, 240)


def test_camvid_is_clean(tmp_path: Path, camvid_archive: Path) -> None:
    import zipfile

    with zipfile.ZipFile(camvid_archive) as archive:
        archive.extractall(tmp_path)
    assert_clean("camvid", tmp_path, 701)
