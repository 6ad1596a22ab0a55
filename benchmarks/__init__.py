"""Benchmarks: `python -m benchmarks.<name>`; each says what it measures.

Whole processes are measured as they start wherever Python may keep compiled modules. Where a machine forbids that, as
images of containers often do, each of them would compile all that it imports: twice the time of a start.
"""

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
