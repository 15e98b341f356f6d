"""Which packages an export needs, and the line that installs them."""

from collections.abc import Sequence
from importlib.util import find_spec

from segpipe.config.register import ExportFormat
from segpipe.errors import ExportError

_ONNX = ("segpipe", "torch", "onnx", "onnxscript", "onnxruntime")
PACKAGES: dict[ExportFormat, tuple[str, ...]] = {
    "onnx": _ONNX,
    "openvino": (*_ONNX, "openvino"),
    "torch": ("segpipe", "torch"),
}
EXTRAS: dict[ExportFormat, str] = {"onnx": "export", "openvino": "export,openvino", "torch": ""}


def check_packages(formats: Sequence[ExportFormat]) -> None:
    """Checks that the packages for some formats are installed.

    Raises:
        ExportError: some are missing; all of them in one message.
    """
    missing = {form: [name for name in PACKAGES[form] if find_spec(name) is None] for form in formats}
    lines = [
        f"an export to {form} needs {', '.join(names)}: `pip install 'segpipe[{EXTRAS[form]}]'`"
        for form, names in missing.items()
        if names
    ]
    if lines:
        raise ExportError("\n".join(lines))
