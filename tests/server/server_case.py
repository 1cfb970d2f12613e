"""What the tests of detect-server share: a server to talk to, pictures, and raw requests.

Environment: DETECT_SERVER and DETECT_CLI, the programs; DET_TEST_MODEL, a small model file.
"""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
import unittest
import zlib
from pathlib import Path

SERVER = os.environ["DETECT_SERVER"]
MODEL = os.environ["DET_TEST_MODEL"]
CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "image"
JPEG = (CORPUS / "ycbcr-exif6.jpg").read_bytes()
ANSWER_KEYS = ["faces", "objects", "inference_time_ms"]
PATIENCE = 120  # seconds, for what ends at all


def png(width, height, claimed=None):
    """A PNG with some structure; its header may claim another size, with a right checksum."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *(claimed or (width, height)), 8, 2, 0, 0, 0)
    rows = b"".join(
        b"\0" + bytes(v for x in range(width) for v in ((x * 5) % 256, (y * 3) % 256, (x * y // 7) % 256))
        for y in range(height)
    )
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def form(fields, boundary="x--boundary"):
    """A multipart body of (name, bytes), and its Content-Type."""
    body = b""
    for name, data in fields:
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode() + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Answer:
    def __init__(self, response):
        self.code, self.body = response.status, response.read()
        self.headers = {key.lower(): value for key, value in response.getheaders()}

    @property
    def json(self):
        return json.loads(self.body)


class Server:
    """A running server. Small input, one thread: tests are about the server."""

    def __init__(self, *options, model=MODEL):
        command = [SERVER, "--port", "0", "--size", "64x64", "--threads", "1", *options]
        # A sanitizer keeps what was freed; here memory is looked at.
        sanitizer = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=2"
        environment = {**os.environ, "LIBDETECT_MODEL": model, "ASAN_OPTIONS": sanitizer}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening"):
            raise AssertionError(f"the server did not start: {self.process.communicate()[1].decode()}")
        self.port = int(line.split()[-1])
        self.sockets = []

    def connect(self, timeout=PATIENCE):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def socket(self, data=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        self.sockets.append(connection)
        connection.sendall(data)
        return connection

    def ask(self, method, path, body=None, headers=None):
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def post(self, body, path="/infer", kind="application/octet-stream"):
        return self.ask("POST", path, body, {"Content-Type": kind} if kind else {})

    def metrics(self):
        text = self.ask("GET", "/metrics").body.decode()
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    def memory(self):
        """Resident bytes now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10

    def stop(self, how=signal.SIGTERM):
        """Ends it; exit status and what it said."""
        self.process.send_signal(how)
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, errors.decode()


def read_all(connection):
    """Everything that comes until the other side closes or resets."""
    data = b""
    try:
        while True:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece
    except ConnectionError:
        return data


def until(condition, seconds=PATIENCE):
    """Waits for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it has not happened")
        time.sleep(0.02)


class ServerCase(unittest.TestCase):
    """Each test has a server of its own, stopped cleanly at its end."""

    def serve(self, *options, **keywords):
        server = Server(*options, **keywords)
        self.addCleanup(self.finish, server)
        return server

    def finish(self, server):
        for connection in server.sockets:
            connection.close()
        if server.process.poll():
            self.fail(f"the server has died: {server.process.communicate()[1].decode()}")
        if server.process.poll() is None:
            code, errors = server.stop()
            self.assertEqual(code, 0, errors)
            self.assertNotIn("Sanitizer", errors)

    def expect_error(self, answer, code, words=""):
        self.assertEqual(answer.code, code, answer.body)
        self.assertEqual(list(answer.json), ["error"])
        self.assertIn(words, answer.json["error"])
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.check_discreet(answer.body)
        if code == 503:
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)

    def check_discreet(self, body):
        """Nothing of the machine in an answer."""
        text = body.decode()
        for secret in (str(Path(SERVER).parent), str(Path(MODEL).parent), "/proc", "/tmp", "/usr", ".c:", "det_"):
            self.assertNotIn(secret, text)
        self.assertNotRegex(text, "0x[0-9a-f]{5}")
