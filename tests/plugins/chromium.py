"""A headless Chromium, spoken to in its DevTools protocol."""

import itertools
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
TIMEOUT_SECONDS = 300


def installed() -> str | None:
    """The Chromium to use: what the variable CHROMIUM names, else one on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """One browser with one tab, as a context manager."""

    def __init__(self, executable: str, profile: Path) -> None:
        self._command = [executable, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._log = profile.with_suffix(".log")
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._opened = ExitStack()
        self.requested: list[str] = []
        """Addresses that the tab has asked for."""
        self.complaints: list[str] = []
        """Exceptions and errors that the tab has reported."""

    def __enter__(self) -> "Chromium":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        opening = connect(self._address(), max_size=None, open_timeout=TIMEOUT_SECONDS)
        self._socket = self._opened.enter_context(opening)
        tab = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def command(self, method: str, **parameters: Any) -> Any:
        """The answer to one command; events that come before it are kept."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **session}))
        while True:
            message = json.loads(self._socket.recv(timeout=TIMEOUT_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._keep(message)

    def show(self, width: int, theme: str) -> None:
        """How wide the tab is, and which theme the system asks for."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def open(self, address: str, token: str) -> None:
        """Go to an address of Airflow, logged in."""
        self.requested.clear()
        self.complaints.clear()
        self.command("Network.setCookie", name="_token", value=token, url=address, httpOnly=True)
        self.command("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, a promise awaited."""
        answer = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The first true value of the expression, true for an element; it may fail until the page is there."""
        told = f"const found = {expression}; return typeof found === 'object' ? found !== null : found"
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if found := self.value(f"(() => {{ try {{ {told} }} catch {{ return null }} }})()"):
                return found
            time.sleep(0.1)
        raise AssertionError(f"waited {TIMEOUT_SECONDS} s for {expression}: {self.complaints}")

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        text = {"Enter": "\r"}.get(key, "")
        code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "Escape": 27}[key]
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code)

    def _keep(self, message: dict[str, Any]) -> None:
        given = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(given["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(given["exceptionDetails"]))
            case "Log.entryAdded" if given["entry"]["level"] == "error":
                self.complaints.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")

    def _address(self) -> str:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := re.search(r"DevTools listening on (ws://\S+)", self._log.read_text(errors="replace")):
                return found.group(1)
            time.sleep(0.1)
        raise AssertionError(f"Chromium did not start: {self._log.read_text(errors='replace')[-2000:]}")
