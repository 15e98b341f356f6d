"""COCO-Stuff 164k: a class for every pixel of COCO's images.

    images/{train2017,val2017}/NAME.jpg, and next to images/ the masks of stuffthingmaps_trainval2017.zip:
    stuffthingmaps/{train2017,val2017}/NAME.png, or annotations/{train2017,val2017}/NAME.png

at the root or one or two folders below it; the images may also lie in {train2017,val2017}/ itself. A mask holds a
label's id minus one: 0..181, and 255 = not labelled. Eleven of the ids are of abandoned labels and have no
pixel, so 171 classes are left. A mask that holds one of the eleven is not of this set. `*_labelTrainIds.png`, which
mmsegmentation's converter writes next to the masks, are ignored.

Source: Caesar, Uijlings, Ferrari, "COCO-Stuff: thing and stuff classes in context", CVPR 2018; the labels:
github.com/nightrome/cocostuff, labels.txt.
"""

from functools import partial
from pathlib import Path

from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import RawSample, Source, files_by_stem, find_folder, pair_files, sorted_by_id
from segpipe.errors import Problem, SourceError

LICENCE = "annotations: CC BY 4.0; images: terms of Flickr"
SPLIT_OF_FOLDER = {"train2017": "train", "val2017": "val"}
MASK_FOLDERS = ("stuffthingmaps", "annotations")
TRAIN_IDS_SUFFIX = "_labelTrainIds"

# By id, 1..182.
LABELS = tuple(
    """person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|street sign|stop sign
parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|hat|backpack|umbrella|shoe|eye glasses
handbag|tie|suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard
tennis racket|bottle|plate|wine glass|cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|hot dog
pizza|donut|cake|chair|couch|potted plant|bed|mirror|dining table|window|desk|toilet|door|tv|laptop|mouse|remote
keyboard|cell phone|microwave|oven|toaster|sink|refrigerator|blender|book|clock|vase|scissors|teddy bear|hair drier
toothbrush|hair brush|banner|blanket|branch|bridge|building-other|bush|cabinet|cage|cardboard|carpet|ceiling-other
ceiling-tile|cloth|clothes|clouds|counter|cupboard|curtain|desk-stuff|dirt|door-stuff|fence|floor-marble|floor-other
floor-stone|floor-tile|floor-wood|flower|fog|food-other|fruit|furniture-other|grass|gravel|ground-other|hill|house
leaves|light|mat|metal|mirror-stuff|moss|mountain|mud|napkin|net|paper|pavement|pillow|plant-other|plastic|platform
playingfield|railing|railroad|river|road|rock|roof|rug|salad|sand|sea|shelf|sky-other|skyscraper|snow|solid-other
stairs|stone|straw|structural-other|table|tent|textile-other|towel|tree|vegetable|wall-brick|wall-concrete|wall-other
wall-panel|wall-stone|wall-tile|wall-wood|water-other|waterdrops|window-blind|window-other|wood""".replace(
        "\n", "|"
    ).split("|")
)
GIVEN_UP = frozenset(
    {
        "street sign",
        "hat",
        "shoe",
        "eye glasses",
        "plate",
        "mirror",
        "window",
        "desk",
        "door",
        "blender",
        "hair brush",
    }
)
NAMES = tuple(name for name in LABELS if name not in GIVEN_UP)
INDICES = {value: NAMES.index(name) for value, name in enumerate(LABELS) if name not in GIVEN_UP} | {
    IGNORE_INDEX: IGNORE_INDEX
}


def _find_layout(root: Path) -> tuple[Path, Path]:
    """Gives the folder that holds all, and the one of the masks."""
    wanted = [f"{folder}/{split}" for folder in MASK_FOLDERS for split in SPLIT_OF_FOLDER]
    base = find_folder(root, *wanted)
    if base is None:
        raise SourceError(f"{root}: is not COCO-Stuff: none of {', '.join(wanted)} in it or up to two folders below")
    return base, next(base / path.split("/")[0] for path in wanted if (base / path).is_dir())


def _place(folder: Path, suffix: str, stem: str) -> str:
    return f"{folder.as_posix()}/{stem}.{suffix}"


def read_source(*, root: Path) -> Source:
    """Reads the layout above; a split without a folder of masks is left out.

    Args:
        root: the folder in which, or up to two folders below which, the folder of the masks lies.

    Raises:
        SourceError: there is no such layout.
    """
    base, mask_folder = _find_layout(root)
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for name, split in SPLIT_OF_FOLDER.items():
        if not (mask_folder / name).is_dir():
            continue
        image_folder = base / "images" / name if (base / "images").is_dir() else base / name
        images, image_problems = files_by_stem(image_folder, root)
        masks, mask_problems = files_by_stem(mask_folder / name, root)
        masks = {stem: path for stem, path in masks.items() if not stem.endswith(TRAIN_IDS_SUFFIX)}
        complete, unpaired = pair_files(
            images,
            masks,
            root,
            partial(_place, image_folder.relative_to(root), "jpg"),
            partial(_place, (mask_folder / name).relative_to(root), "png"),
        )
        problems += [*image_problems, *mask_problems, *unpaired]
        samples += [
            RawSample(f"{name}/{stem}", images[stem], IndexMask(masks[stem], INDICES), official_split=split)
            for stem in complete
        ]
    classes = ClassTable(NAMES, spread_colors(len(NAMES)))
    return Source(classes, sorted_by_id(samples), tuple(problems), LICENCE)
