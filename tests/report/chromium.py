"""A page in headless Chromium, driven over its debugging pipe: what it requests, says and looks like.

`python -m tests.report.chromium PAGE.html PICTURE.png [WIDTH [HEIGHT]]` takes a picture of a page.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip


class DoesNotRunError(Exception):
    """There is a Chromium, but it does not run on this machine."""


class Browser:
    """One page; `requests` and `complaints` fill up as it loads."""

    def __init__(self, width=1280, height=900, dark=False):
        self.requests, self.complaints = [], []
        self._answers, self._events, self._rest, self._id = {}, [], b"", 0
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def three_and_four():
            # where Chromium looks for its pipe; through high numbers, since the ends may be 3 and 4 already
            read, write = os.dup2(to_read, 103), os.dup2(to_write, 104)
            os.dup2(read, 3)
            os.dup2(write, 4)

        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            command, preexec_fn=three_and_four, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        os.close(to_read)
        os.close(to_write)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, file):
        """Loads a page and returns when every chart is drawn."""
        self.call("Page.navigate", url=Path(file).as_uri())
        charts = "document.readyState === 'complete' && [...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg'))"
        end = time.monotonic() + 60
        while not self.evaluate(charts):
            if time.monotonic() > end:
                raise AssertionError(f"the charts were not drawn within a minute: {self.complaints}")
            time.sleep(0.1)

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, file, height=None):
        """Saves the page from its top, the whole of it by default."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def call(self, method, **parameters):
        return self._call(method, session=self._session, **parameters)

    def _call(self, method, session=None, **parameters):
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        try:
            os.write(self._write, json.dumps(message).encode() + b"\0")
        except BrokenPipeError as error:
            raise DoesNotRunError(self._last_words()) from error
        end = time.monotonic() + 60
        while self._id not in self._answers:
            self._receive(end)
        answer = self._answers.pop(self._id)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _receive(self, end):
        ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
        block = os.read(self._read, 1 << 20) if ready else b""
        if not block:
            raise DoesNotRunError(self._last_words())
        *messages, self._rest = (self._rest + block).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, event, params):
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"{params['type']}: {[a.get('value', a.get('description')) for a in params['args']]}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])

    def _last_words(self):
        self._process.kill()
        return self._process.communicate()[1].decode(errors="replace")[-300:]


if __name__ == "__main__":
    page, picture, width, height = (*sys.argv[1:], *("1280", "0")[len(sys.argv) - 3 :])
    with Browser(int(width)) as browser:
        browser.open(Path(page).resolve())
        browser.picture(picture, int(height) or None)
