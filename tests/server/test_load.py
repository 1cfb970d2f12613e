"""detect-server under load: 200 connections, beside slow clients, endless bodies and garbage.

What examples/server/README.md promises: every request is answered, memory stays flat, and nobody waits much longer than
the others. DET_LOAD_SECONDS: how long (default 3).
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from server_case import ServerCase, png, read_all, until

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "server"))
from load_client import Load, run  # noqa: E402

SECONDS = float(os.environ.get("DET_LOAD_SECONDS", "3"))
CONNECTIONS = 200
HEAD = b"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
# Of the mean: with N clients that wait for each other, the mean is N times the time of one, on any machine.
P99_OF_MEAN = 4


class Nuisances:
    """Clients of the worst kind, until told to stop."""

    def __init__(self, server):
        self.server, self.stop = server, threading.Event()
        self.threads = [threading.Thread(target=what) for what in (self.drip, self.flood, self.babble) for _ in range(3)]
        self.done, self.errors = 0, []

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def often(self, what):
        while not self.stop.is_set():
            client = self.server.socket()
            try:
                what(client)
            except ConnectionError:
                pass
            except OSError as error:  # such as a connection that the server has forgotten
                self.errors.append(repr(error))
            finally:
                client.close()
                self.server.sockets.remove(client)
            self.done += 1

    def drip(self):
        def what(client):
            client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
            while not self.stop.is_set():
                client.sendall(b"x")
                time.sleep(0.05)
        self.often(what)

    def flood(self):
        """A gigabyte, once announced and once not."""
        def what(client):
            client.sendall(HEAD + (b"Content-Length: 1073741824\r\n\r\n" if self.done % 2 else
                                   b"Transfer-Encoding: chunked\r\n\r\n"))
            for _ in range(1 << 14):
                client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                if self.stop.is_set():
                    return
        self.often(what)

    def babble(self):
        source = random.Random(5)

        def what(client):
            client.sendall(HEAD[: source.randrange(len(HEAD))] + bytes(source.randrange(256) for _ in range(500)))
            client.shutdown(1)
            read_all(client)
        self.often(what)


class UnderLoad(ServerCase):
    def load(self, server, seconds, connections=CONNECTIONS):
        import asyncio

        pictures = [png(64 + 8 * i, 48) for i in range(4)]
        load = Load(f"http://127.0.0.1:{server.port}/infer", pictures, seconds, None)
        return asyncio.run(run(load, connections))

    def check(self, result):
        """Nothing lost, nothing refused, nobody starved."""
        self.assertEqual(result["lost"], {}, result)
        self.assertEqual(result["codes"], {"200": result["sent"]}, result)
        self.assertLessEqual(result["p99_ms"], P99_OF_MEAN * result["mean_ms"] + 100, result)

    def test_200_connections(self):
        server = self.serve("--max-queue", "1000")
        self.load(server, SECONDS / 4)
        before = server.memory()
        result = self.load(server, SECONDS)
        self.check(result)
        self.assertGreater(result["sent"], CONNECTIONS)
        grown = server.memory() - before
        self.assertLess(grown, 16 << 20, result)
        self.assertEqual(float(server.metrics()["detect_memory_bytes"]), 0)

    def test_beside_nuisances(self):
        server = self.serve("--max-queue", "1000", "--max-body", "1m", "--receive-timeout", "20")
        with Nuisances(server):
            self.load(server, SECONDS / 4)
        before = server.memory()
        with Nuisances(server) as others:
            result = self.load(server, SECONDS)
        self.check(result)
        self.assertGreater(others.done, 10)
        self.assertEqual(others.errors, [])
        self.assertLess(server.memory() - before, 32 << 20, result)
        until(lambda: float(server.metrics()["detect_memory_bytes"]) == 0)  # once the nuisances' ends are seen

    def test_more_than_it_takes(self):
        """A short queue: what is refused is refused with an answer, and the rest is served."""
        server = self.serve("--max-queue", "4")
        result = self.load(server, SECONDS / 3)
        self.assertEqual(result["lost"], {}, result)
        self.assertLessEqual(set(result["codes"]), {"200", "503"}, result)
        self.assertGreater(result["codes"]["200"], 0)
        self.assertEqual(sum(result["codes"].values()), result["sent"])
        counted = server.metrics()
        for code, n in result["codes"].items():
            self.assertEqual(float(counted[f'detect_answers_total{{path="/infer",code="{code}"}}']), n)

    def test_wrk(self):
        """A client of somebody else's agrees, where it is installed."""
        if subprocess.run(["which", "wrk"], stdout=subprocess.DEVNULL).returncode != 0:
            self.skipTest("wrk is not installed")
        server = self.serve("--max-queue", "1000")
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            body = "".join(f"\\{byte:03d}" for byte in png(64, 48))
            script.write(f'wrk.method = "POST"\nwrk.body = "{body}"\nwrk.headers["Content-Type"] = "image/png"\n')
            script.flush()
            said = subprocess.run(["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{max(1, int(SECONDS / 2))}s",
                                   "--timeout", "60s", "-s", script.name, f"http://127.0.0.1:{server.port}/infer"],
                                  stdout=subprocess.PIPE, check=True).stdout.decode()
        self.assertNotIn("Socket errors", said)
        self.assertNotIn("Non-2xx", said)
        self.assertGreater(int(re.search(r"(\d+) requests in", said)[1]), 0)


if __name__ == "__main__":
    unittest.main()
