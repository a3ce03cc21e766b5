"""Headless Chromium, spoken to through a pipe: opens a page, evaluates, and remembers what it said and asked for."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE_SECONDS


class Browser:
    """One page of one browser."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.messages: list[str] = []
        self.requests: list[str] = []

    def start(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path) -> None:
        """Loads a file. What was said and asked for before is forgotten."""
        self.messages.clear()
        self.requests.clear()
        self.call("Page.navigate", url=file.as_uri())
        self.wait_for("document.readyState === 'complete' && document.querySelectorAll('h1').length > 0")

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.messages.append(json.dumps(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.messages.append(f"dialog: {parameters['message']}")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._back, 1 << 20)
            assert block, "the browser ended"
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


@contextmanager
def opened_browser(program: str, folder: Path, *, dark: bool = False) -> Iterator[Browser]:
    """A browser with a profile of its own in `folder`, ended at the end."""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    # It reads descriptor 3 and writes 4. The shell moves them through high numbers, for they may be each other's.
    script = f'exec 8<&{their_in} 9>&{their_out}; exec 3<&8 4>&9; exec "$@"'
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
    flags += ["--no-first-run", "--disable-background-networking", "--window-size=1100,1400", f"--user-data-dir={folder}"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, *flags],
        pass_fds=(their_in, their_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_in)
    os.close(their_out)
    try:
        browser = Browser(our_out, our_in)
        browser.start()
        yield browser
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        os.close(our_out)
        os.close(our_in)
