"""`segpipe data show`: draws training samples with their augmentations."""

import argparse
from pathlib import Path

from segpipe.cli.arguments import guide, natural, png_file, positive
from segpipe.config.params import load_config
from segpipe.config.reading import PARAMS_FILE
from segpipe.errors import StoreError
from segpipe.places import AUGMENTATIONS_PICTURE, DATASET

NUM_SAMPLES, NUM_EPOCHS = 4, 4


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `show` to the commands of `segpipe data`."""
    show = commands.add_parser("show", help="draw training samples with their augmentations and masks")
    show.add_argument(
        "--output",
        type=png_file,
        default=AUGMENTATIONS_PICTURE,
        metavar="PICTURE",
        help=f"the picture, .png (default {AUGMENTATIONS_PICTURE})",
    )
    show.add_argument(
        "--count", type=positive, default=NUM_SAMPLES, metavar="N", help=f"number of samples (default {NUM_SAMPLES})"
    )
    show.add_argument(
        "--epochs",
        type=positive,
        default=NUM_EPOCHS,
        metavar="N",
        help=f"number of epochs of each sample (default {NUM_EPOCHS})",
    )
    show.add_argument(
        "--seed",
        type=natural,
        metavar="SEED",
        help="seed of the augmentations (default: train.seed, which gives the samples of the training)",
    )
    show.add_argument(
        "--params", type=Path, default=PARAMS_FILE, metavar="FILE", help=f"a parameter file (default {PARAMS_FILE})"
    )
    guide(show, "data show --count 8 --output samples.png", "docs/data.md, What training sees")
    show.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Draws the grid.

    Raises:
        ConfigError: an augmentation cannot work.
        StoreError: there is no data set, or it has no training samples.
    """
    import numpy as np
    from PIL import Image

    from segpipe.data.loading.loader import TrainLoader
    from segpipe.data.store import Store, evenly_spread
    from segpipe.files import whole_file
    from segpipe.reports.drawing.pictures import GridRow, draw_grid

    settings = load_config(options.params).train
    store = Store.open(DATASET).of_split("train")
    if len(store) == 0:
        raise StoreError(f"{DATASET}: holds no training samples; see preprocess.split in {options.params}")
    seed = settings.seed if options.seed is None else options.seed
    loader = TrainLoader(store, settings.augment, settings.batch_size, seed)
    rows = []
    for index in evenly_spread(len(store), options.count):
        samples = [store.read(index)]
        for epoch in range(options.epochs):
            image, mask = np.empty((*settings.augment.crop, 3), np.uint8), np.empty(settings.augment.crop, np.uint8)
            loader.make_sample(index, epoch, image, mask)
            samples.append((image, mask))
        rows.append(GridRow(str(store.manifest["sample_id"].iat[index]), samples))
    titles = ["original", *(f"epoch {epoch + 1}" for epoch in range(options.epochs))]
    picture = draw_grid(titles, rows, store.classes)
    with whole_file(options.output) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    print(f"{len(rows)} samples in {options.output}")
