"""`segpipe models`: lists and describes the models.

Counting the operations of all models takes torch and ten seconds. So the figures of the list are in a file next to this
one; `segpipe models --count --json > figures && mv figures src/segpipe/cli/model_figures.json` writes it; a
test of `make zoo` keeps it true. A model
that it does not have is counted.
"""

import argparse
import inspect
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from segpipe.choices import MODELS
from segpipe.cli.arguments import guide, positive
from segpipe.cli.table import table

FIGURES = Path(__file__).with_name("model_figures.json")
SIZE = (360, 480)
DEFAULT_NUM_CLASSES = 11


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `models` to the command."""
    models = commands.add_parser("models", help="list the models, or describe one")
    models.add_argument("name", nargs="?", metavar="MODEL", help="a model; prints its options, parts and paper")
    models.add_argument(
        "--classes", type=positive, default=DEFAULT_NUM_CLASSES, metavar="N", help="number of classes (default 11)"
    )
    models.add_argument(
        "--count", action="store_true", help="count parameters and operations now, instead of reading them from a file"
    )
    models.add_argument("--json", action="store_true", help="print JSON")
    guide(models, "models deeplabv3plus", "docs/models.md")
    models.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.name is None:
        _list(options)
    else:
        _show(options)


@dataclass(frozen=True)
class _Model:
    """A model as `--json` prints it.

    Attributes:
        name: of its file.
        source: where the architecture comes from.
        parameters: how many, with auxiliary heads.
        flops_360x480: of an image of that size; a multiply-add counts as two.
        imagenet: whether weights from ImageNet are published.
        onnx: whether it can be exported to ONNX.
        paper: that describes it.
    """

    name: str
    source: str
    parameters: int
    flops_360x480: int
    imagenet: bool
    onnx: bool
    paper: str

    @property
    def cost(self) -> tuple[str, str]:
        """Millions of parameters, and GFLOPs."""
        return f"{self.parameters / 1e6:.2f}", f"{self.flops_360x480 / 1e9:.1f}"


def _describe(name: str, num_classes: int) -> _Model:
    from segpipe.inference.cost import count_cost
    from segpipe.models import has_pretrained, read_card

    card, cost = read_card(name), count_cost(name, {}, num_classes, SIZE)
    has_onnx = card.no_onnx is None
    return _Model(name, card.source, cost.num_parameters, cost.num_flops, has_pretrained(name), has_onnx, card.paper)


def read_figures() -> dict[str, _Model]:
    """Gives what the file says of each model."""
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))
    return {row["name"]: _Model(**row) for row in rows}


def _list(options: argparse.Namespace) -> None:
    is_counted = options.count or options.classes != DEFAULT_NUM_CLASSES
    known = {} if is_counted else read_figures()
    models = [known.get(name) or _describe(name, options.classes) for name in MODELS.names()]
    if options.json:
        print(json.dumps([asdict(model) for model in models], indent=1, ensure_ascii=False))
        return
    rows = [["name", "source", "parameters", "GFLOPs", "imagenet", "ONNX", "paper"]]
    rows += [
        [m.name, m.source, *m.cost, *("yes" if has else "-" for has in (m.imagenet, m.onnx)), m.paper] for m in models
    ]
    print("\n".join(table(rows)))
    size, classes = f"{SIZE[0]}x{SIZE[1]}", options.classes
    print(f"\nMillions of parameters, auxiliary heads included, and GFLOPs of a {size} image (a multiply-add counts as")
    print(f"two), by default options with {classes} classes. ONNX: whether `segpipe export` can write the model.")
    print("`segpipe models NAME` describes one.")


def _show(options: argparse.Namespace) -> None:
    from segpipe.inference.cost import without_content
    from segpipe.inference.network import build_network
    from segpipe.models import read_card

    model = _describe(options.name, options.classes)
    function = MODELS.function_of(options.name)
    defaults = function.__kwdefaults__ or {}
    network = without_content(lambda: build_network(options.name, {}, options.classes))
    parts = [name for name, part in network.named_children() if any(True for _ in part.parameters())]
    no_onnx = read_card(options.name).no_onnx
    if options.json:
        print(json.dumps({**asdict(model), "options": defaults, "parts": parts, "no_onnx": no_onnx}))
        return
    size = "{} million parameters, {} GFLOPs".format(*model.cost)
    lines = {
        "paper": model.paper,
        "source": model.source,
        "size": f"{size} at {SIZE[0]}x{SIZE[1]}, {options.classes} classes",
        "imagenet": "weights: imagenet" if model.imagenet else "no weights published",
        "ONNX": f"no: {no_onnx}" if no_onnx else "yes, for images of any size (segpipe export)",
        "options": ", ".join(f"{key}: {json.dumps(value)}" for key, value in defaults.items()) or "none",
        "parts": f"{', '.join(parts)} (for train.freeze and learning_rate_factors; parts of parts by dotted names)",
    }
    # A size of an architecture has its own file, but its function comes from the architecture's file.
    for module in dict.fromkeys([MODELS.module_of(options.name), sys.modules[function.__module__]]):
        print(inspect.cleandoc(module.__doc__ or ""), end="\n\n")
    print("\n".join(f"{key:12}{text}" for key, text in lines.items()), end="\n\n")
    print(inspect.cleandoc(function.__doc__ or ""))
