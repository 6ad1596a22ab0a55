"""OpenVINO, imported without its converter: that one reports every import to its makers."""

import sys

# `import openvino` takes the converter if it is there. With None in its place Python says that it is not.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]

import openvino  # noqa: E402
from openvino import opset13  # noqa: E402

__all__ = ["openvino", "opset13"]
