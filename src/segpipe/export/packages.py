"""Which packages an export needs, and the line that installs them."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

from segpipe.config.register import ExportFormat
from segpipe.errors import ExportError

Format = ExportFormat | Literal["triton"]

_ONNX = ("segpipe", "torch", "onnx", "onnxscript", "onnxruntime")
PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": _ONNX,
    "openvino": (*_ONNX, "openvino"),
    "torch": ("segpipe", "torch"),
    "triton": _ONNX,
}
EXTRAS: dict[Format, str] = {"onnx": "export", "openvino": "export,openvino", "torch": "", "triton": "export"}


def check_packages(formats: Sequence[Format]) -> None:
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
