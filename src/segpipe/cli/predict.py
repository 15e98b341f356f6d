"""`segpipe predict`: masks, pictures and a table of images and videos, by a model of the registry or of a folder."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.cli.arguments import positive, shard
from segpipe.cli.model_address import add_registry_option
from segpipe.errors import MAX_PROBLEMS_SHOWN, PredictionError, SkippedError
from segpipe.registry.addresses import CHAMPION, MODELS_TAKEN, find_model

if TYPE_CHECKING:
    from segpipe.prediction.job import Done

EXAMPLES = """\
examples:
  segpipe predict shots --output predictions
  segpipe predict 'shots/**/*.jpg' more.txt --model models:/streets/3 --output predictions
  segpipe predict drive.mp4 --every 25 --model build/model --confidence --output predictions
  segpipe predict shots --shard 2/4 --output predictions

The same call again goes on where it was ended. Exit codes: 0, 1 for an error,
2 where some images were skipped; skipped.csv says which, and why.

more: docs/prediction.md
"""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `predict`."""
    predict = commands.add_parser(
        "predict",
        help="predict the masks of images and videos",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs = "folders, images, videos, patterns in quotes, or .txt files with one path a line"
    predict.add_argument("images", nargs="+", metavar="IMAGES", help=inputs)
    predict.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for masks/, colors/, overlays/ and tables"
    )
    predict.add_argument("--model", default=CHAMPION, metavar="ADDRESS", help=f"{MODELS_TAKEN} (default {CHAMPION})")
    add_registry_option(predict)
    predict.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N (default auto)")
    predict.add_argument(
        "--every", type=positive, default=1, metavar="N", help="each N-th frame of a video (default 1)"
    )
    predict.add_argument(
        "--batch", type=positive, default=4, metavar="N", help="images of one size at once (default 4)"
    )
    predict.add_argument("--confidence", action="store_true", help="also confidence/: 8-bit PNG, 255 = certain")
    predict.add_argument("--probabilities", action="store_true", help="also probabilities/: NumPy, float16, CHW")
    predict.add_argument("--again", action="store_true", help="delete the predictions in the output folder first")
    predict.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="predict one of N shares of the images (1/N to N/N); afterwards the same call without it writes the "
        "tables; 0/N predicts none, and begins the folder (with --again)",
    )
    predict.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from segpipe.inference.device import choose_device
    from segpipe.inference.network import Network
    from segpipe.prediction.inputs import find_inputs
    from segpipe.prediction.job import Options, predict_inputs
    from segpipe.prediction.predicting import Wanted

    if options.again and options.shard and options.shard.index:
        count = options.shard.count
        raise PredictionError(
            f"--again with --shard {options.shard.index}/{count} would delete what the other shards have predicted; "
            f"run `--shard 0/{count} --again` once, and then each shard without --again"
        )
    find_inputs(options.images, options.output)  # a wrong path is told before a model is downloaded
    device = choose_device(options.device)
    with find_model(options.model, options.registry) as model:
        network = Network.load(model.folder, device)
    logging.getLogger(__name__).info("the model is %s", model.title)
    wanted = Wanted(options.confidence, options.probabilities)
    how = Options(wanted, options.every, options.batch, options.again, options.shard)
    _report(predict_inputs(network, options.images, options.output, how), options.output, options.shard is not None)


def _report(done: "Done", output: Path, is_shard: bool) -> None:
    """Prints what was done.

    Raises:
        PredictionError: nothing could be predicted; a shard may have nothing to predict.
        SkippedError: something could not be predicted.
    """
    lines = [f"  {one.path}: {one.reason}" for one in done.skipped[:MAX_PROBLEMS_SHOWN]]
    if len(done.skipped) > MAX_PROBLEMS_SHOWN:
        lines.append(f"  and {len(done.skipped) - MAX_PROBLEMS_SHOWN} more")
    if not is_shard and not done.num_predicted + done.num_present:
        raise PredictionError("\n".join(["no image could be predicted:", *lines]))
    present = f", {done.num_present} were predicted before" if done.num_present else ""
    print(f"{done.num_predicted} images predicted{present}: masks/, colors/ and overlays/ in {output}")
    if done.skipped:
        table = "" if is_shard else f", see {output / 'skipped.csv'}"
        raise SkippedError("\n".join([f"{len(done.skipped)} skipped{table}:", *lines]))
