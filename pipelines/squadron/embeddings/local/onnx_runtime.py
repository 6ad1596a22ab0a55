"""onnxruntime, imported so that it reports to nobody: its builds send events to their makers unless told before."""

import os

# Read once, when the library is loaded: no events, no identifier of the machine in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # type: ignore[import-untyped]

__all__ = ["onnxruntime"]
