"""Importing the package: where there is no fcntl, as on Windows."""

import json
import subprocess
import sys

IMPORT_ALL = """
import importlib, json, pkgutil, sys
sys.modules["fcntl"] = None
import squadron
failed, names = {}, ["squadron"]
for module in pkgutil.walk_packages(squadron.__path__, "squadron."):
    names.append(module.name)
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name == "fcntl" or error.name.startswith("squadron"):  # others are packages of one engine's
            failed[module.name] = repr(error)
print(json.dumps({"names": names, "failed": failed}))
"""


def test_all_modules_can_be_imported_where_there_is_no_fcntl() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert {"squadron.runs.whole_run", "squadron.stores.lancedb.store"} <= set(imported["names"])
    assert imported["failed"] == {}
