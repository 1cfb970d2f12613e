"""The page in headless Chromium: a picture sent, its boxes drawn; the camera, which Chromium imitates.

Speaks the DevTools protocol over a pipe. SKIP where there is no Chromium. DET_SCREENSHOTS: a folder to keep pictures of
the page in, to be looked at.
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
import unittest
from pathlib import Path

from server_case import PATIENCE, ServerCase, png

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One headless Chromium with one page at a time. Messages are JSON with a zero byte behind each."""

    def __init__(self, folder):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def place():  # the protocol's pipes are descriptors 3 and 4
            spare_in, spare_out = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(spare_in, 3)
            os.dup2(spare_out, 4)
        options = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run",
                   "--disable-gpu", "--disable-dev-shm-usage", "--no-sandbox", "--disable-background-networking",
                   "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--window-size=900,900"]
        self.process = subprocess.Popen([CHROMIUM, *options, "about:blank"], preexec_fn=place, close_fds=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.reader, self.writer = ours_in, os.fdopen(ours_out, "wb", buffering=0)
        self.buffer, self.number, self.page, self.session, self.complaints = b"", 0, None, None, []

    def show(self, url):
        """A new page in place of the old one, whose requests under way and late complaints go with it."""
        former, self.session, self.complaints = self.page, None, []
        self.page = self.call("Target.createTarget", url="about:blank")["targetId"]
        if former:
            self.call("Target.closeTarget", targetId=former)
        self.session = self.call("Target.attachToTarget", targetId=self.page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def receive(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reader], [], [], max(0, end - time.monotonic()))
            data = os.read(self.reader, 1 << 20) if ready else b""
            if not data:
                raise AssertionError("Chromium says nothing")
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.writer.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            wrong = answer.get("method") == "Runtime.exceptionThrown" or answer.get("params", {}).get("entry", {}).get("level") == "error"
            if wrong and answer.get("sessionId") == self.session:
                self.complaints.append(answer["params"])
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def value(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, script, what):
        end = time.monotonic() + PATIENCE
        while not self.value(script):
            if time.monotonic() > end:
                raise AssertionError(f"never: {what}; the page says {self.value(STATUS)!r}")
            time.sleep(0.1)

    def choose(self, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, name):
        folder = os.environ.get("DET_SCREENSHOTS")
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if folder:
            (Path(folder) / name).write_bytes(data)
        return data

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.reader)
        self.writer.close()


STATUS = "document.getElementById('status').textContent"
DONE = r"/^\d+ faces?, \d+ objects? in [\d.]+ ms$/.test(" + STATUS + ")"
# Pixels of the canvas that are not those of the picture shown before: what the boxes cover.
CHANGED = """(() => {
  const now = context.getImageData(0, 0, canvas.width, canvas.height).data, plain = document.createElement("canvas");
  plain.width = canvas.width; plain.height = canvas.height;
  plain.getContext("2d").drawImage(shown.source, 0, 0);
  const before = plain.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0;
  for (let i = 0; i < now.length; i += 4) n += now[i] !== before[i] || now[i + 1] !== before[i + 1];
  return n;
})()"""


class Page(ServerCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_page."))
        cls.browser = Browser(cls.folder / "profile")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def open(self, server):
        self.browser.show(f"http://127.0.0.1:{server.port}/")
        self.browser.until(f"document.readyState === 'complete' && {STATUS}.startsWith('Choose')", "the page")

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def score(self, value):
        self.browser.value(f"(() => {{ const s = document.getElementById('score'); s.min = 0; s.step = 0.0001;"
                           f"s.value = {value}; s.dispatchEvent(new Event('change')); }})()")

    def test_picture(self):
        server = self.serve("--max-objects", "5")
        self.open(server)
        self.score(0)
        self.browser.choose(self.write("a.png", png(300, 200)))
        self.browser.until(DONE, "an answer")
        self.assertTrue(self.browser.value(STATUS).startswith("5 faces, 0 objects in "))
        self.assertEqual(self.browser.value("[canvas.width, canvas.height]"), [300, 200])
        boxes = self.browser.value(CHANGED)
        self.assertGreater(boxes, 100)
        self.assertGreater(len(self.browser.screenshot("picture.png")), 1000)
        self.score(1)  # asks again, without choosing again
        self.browser.until(STATUS + ".startsWith('0 faces')", "no faces")
        self.assertEqual(self.browser.value(CHANGED), 0)
        self.assertEqual(self.browser.complaints, [])

    def test_failures_are_shown(self):
        server = self.serve("--max-pixels", "100")
        self.open(server)
        self.browser.choose(self.write("b.png", png(30, 20)))
        self.browser.until(f"{STATUS}.startsWith('That did not work: the picture has more pixels')", "the refusal")
        self.browser.choose(self.write("c.png", b"no picture"))
        self.browser.until(f"{STATUS}.startsWith('This browser cannot read')", "the refusal")
        self.assertEqual(self.browser.value("document.getElementById('status').className"), "error")

    def test_camera(self):
        server = self.serve()
        self.open(server)
        self.browser.value("document.getElementById('camera').click()")
        self.browser.until(DONE, "the first frame")
        self.browser.until("turn > 3", "further frames")
        self.assertGreater(float(server.metrics()["detect_pictures_total"]), 2)
        self.browser.screenshot("camera.png")
        self.browser.value("document.getElementById('camera').click()")
        self.assertEqual(self.browser.value("document.getElementById('camera').textContent"), "Use the camera")
        self.assertEqual(self.browser.complaints, [])

    def test_docs(self):
        server = self.serve()
        self.browser.show(f"http://127.0.0.1:{server.port}/docs")
        self.browser.until("document.readyState === 'complete' && document.title === 'libdetect: the API'", "the page")
        self.browser.screenshot("docs.png")
        self.assertEqual(self.browser.complaints, [])


if __name__ == "__main__":
    if CHROMIUM is None:
        print("SKIP: no Chromium")
        sys.exit(77)
    unittest.main()
