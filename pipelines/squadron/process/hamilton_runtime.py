"""Hamilton, imported without its extensions, which take seconds, and without reports of its use."""

import logging
import os

os.environ.setdefault("HAMILTON_AUTOLOAD_EXTENSIONS", "0")
os.environ.setdefault("HAMILTON_TELEMETRY_ENABLED", "false")
# When a node fails, Hamilton logs its inputs, texts and all; the exception itself says enough.
logging.getLogger("hamilton").setLevel(logging.CRITICAL)

from hamilton import driver  # noqa: E402
from hamilton.function_modifiers import config, tag  # noqa: E402
from hamilton.lifecycle import NodeExecutionHook  # noqa: E402

__all__ = ["NodeExecutionHook", "config", "driver", "tag"]
