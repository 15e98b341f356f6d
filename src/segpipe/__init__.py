"""segpipe: from labelled images to a gated, explainable, rebuildable segmentation champion.

The public names are those of `__all__`; docs/python.md describes them, and says when one may change. Each is imported
where it is used first, because torch takes seconds.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segpipe.api.datasets import Dataset, open_dataset
    from segpipe.api.evaluation import evaluate
    from segpipe.api.models import Model, load_model
    from segpipe.api.networks import build_model
    from segpipe.api.prediction import Prediction
    from segpipe.api.summary import ModelSummary
    from segpipe.classes import ClassTable
    from segpipe.errors import SegpipeError

    __version__: str

__all__ = [
    "ClassTable",
    "Dataset",
    "Model",
    "ModelSummary",
    "Prediction",
    "SegpipeError",
    "__version__",
    "build_model",
    "evaluate",
    "load_model",
    "open_dataset",
]

_MODULES = {
    "ClassTable": "segpipe.classes",
    "Dataset": "segpipe.api.datasets",
    "Model": "segpipe.api.models",
    "ModelSummary": "segpipe.api.summary",
    "Prediction": "segpipe.api.prediction",
    "SegpipeError": "segpipe.errors",
    "build_model": "segpipe.api.networks",
    "evaluate": "segpipe.api.evaluation",
    "load_model": "segpipe.api.models",
    "open_dataset": "segpipe.api.datasets",
}


def __getattr__(name: str) -> object:
    """Imports a public name, or reads `__version__`, that of the installed package."""
    if name == "__version__":
        return _read_version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """Lists the public names too, for completion."""
    return sorted({*globals(), *__all__})


def _read_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(__name__)
    except PackageNotFoundError:  # the code that lies next to a registered model is not installed
        return "unknown"
