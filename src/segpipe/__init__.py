"""segpipe: from labelled images to a gated, explainable, rebuildable segmentation champion."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Gives `__version__`, that of the installed package; it is read only where it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(__name__)
    except PackageNotFoundError:  # the code that lies next to a registered model is not installed
        return "unknown"
