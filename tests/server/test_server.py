"""detect-server as its clients see it: answers, refusals, limits, and its end."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from urllib.parse import quote

from server_case import ANSWER_KEYS, CORPUS, JPEG, MODEL, SERVER, ServerCase, form, png, read_all, until

CLI = os.environ["DETECT_CLI"]
PICTURE = png(48, 40)
HEAD = b"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


class Answers(ServerCase):
    def test_every_page(self):
        server = self.serve()
        kinds = {"/": "text/html", "/docs": "text/html", "/openapi.json": "application/json",
                 "/healthz": "application/json", "/readyz": "application/json", "/metrics": "text/plain"}
        for path, kind in kinds.items():
            answer = server.ask("GET", path)
            self.assertEqual(answer.code, 200, path)
            self.assertTrue(answer.headers["content-type"].startswith(kind), path)
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
            self.assertNotIn("server", answer.headers)
            head = server.ask("HEAD", path)
            self.assertEqual((head.code, head.body), (200, b""), path)
        self.assertEqual(server.ask("GET", "/healthz").json, {"status": "ok"})
        self.assertEqual(server.ask("GET", "/readyz").json, {"status": "ready"})

    def test_openapi_names_every_path(self):
        server = self.serve()
        api = server.ask("GET", "/openapi.json").json
        docs = server.ask("GET", "/docs").body.decode()
        for path, methods in api["paths"].items():
            for method in methods:
                body, kind = (PICTURE, "image/png") if method == "post" else (None, "")
                answer = server.ask(method.upper(), path, body, {"Content-Type": kind} if kind else {})
                self.assertEqual(answer.code, 200, path)
                self.assertIn("200", methods[method]["responses"])
                self.assertIn(f"{method.upper()} {path}", docs)
        found = api["components"]["schemas"]["Found"]
        self.assertEqual(list(found["properties"]), ANSWER_KEYS)

    def test_all_ways_to_send_agree(self):
        server = self.serve()
        body, kind = form([("note", b"--x--boundary not quite"), ("image", PICTURE)])
        answers = [server.post(body, kind=kind), server.post(PICTURE, kind="image/png"), server.post(PICTURE),
                   server.post(PICTURE, kind="image/png; charset=binary"), server.post(PICTURE, kind=None),
                   server.post(body, "/predict", kind)]
        found = []
        for answer in answers:
            self.assertEqual(answer.code, 200, answer.body)
            self.assertEqual(list(answer.json), ANSWER_KEYS)
            found.append((answer.json["faces"], answer.json["objects"]))
        self.assertEqual(found, [found[0]] * len(found))

    def test_chunked(self):
        server = self.serve()
        for body in ([PICTURE], [PICTURE[i:i + 7] for i in range(0, len(PICTURE), 7)]):
            answer = server.ask("POST", "/infer", iter(body), {"Content-Type": "image/png"})
            self.assertEqual(answer.code, 200, answer.body)

    def test_expect_continue(self):
        server = self.serve()
        client = server.socket(HEAD + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(PICTURE))
        self.assertIn(b"100 Continue", client.recv(100))
        client.sendall(PICTURE)
        self.assertIn(b"HTTP/1.1 200", read_all(client))
        client = server.socket(HEAD + b"Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n")
        self.assertTrue(read_all(client).startswith(b"HTTP/1.1 413"))

    def test_same_as_the_command_line(self):
        server = self.serve()
        for name, picture in (("a.png", PICTURE), ("b.jpg", JPEG)):
            path = Path(MODEL).parent / f"test_server_{name}"
            path.write_bytes(picture)
            self.addCleanup(path.unlink)
            options = ["--size", "64x64", "--threads", "1", "--score", "0.05", "--iou", "0.3", "--model", MODEL]
            line = subprocess.run([CLI, "--json", *options, path], stdout=subprocess.PIPE, check=True).stdout
            wanted = json.loads(line)["objects"]
            got = server.post(picture, "/infer?score=0.05&iou=0.3").json["faces"]
            self.assertEqual(len(got), len(wanted))
            self.assertGreater(len(got), 0)
            for face, expected in zip(got, wanted):
                self.assertEqual(list(face), ["bbox", "confidence", "keypoints"])
                self.assertAlmostEqual(face["confidence"], expected["score"], delta=1e-4)
                self.assertEqual(len(face["keypoints"]), 5)
                for ours, theirs in zip(face["bbox"] + sum(face["keypoints"], []),
                                        expected["box"] + sum(expected["landmarks"], [])):
                    self.assertAlmostEqual(ours, theirs, delta=0.02)
                    self.assertEqual(ours, round(ours, 2))
                self.assertEqual(face["confidence"], round(face["confidence"], 5))

    def test_objects_have_labels(self):
        model = str(Path(MODEL).with_name("yolov8-tiny.safetensors"))
        server = self.serve(model=model)
        answer = server.post(PICTURE, "/infer?score=0&iou=1").json
        self.assertEqual(answer["faces"], [])
        self.assertGreater(len(answer["objects"]), 0)
        for found in answer["objects"]:
            self.assertEqual(list(found), ["bbox", "confidence", "class_id", "label"])
        label = answer["objects"][0]["label"]
        only = server.ask("POST", f"/infer?score=0&classes={quote(label)}", PICTURE).json["objects"]
        self.assertEqual({found["label"] for found in only}, {label})

    def test_thresholds_are_each_requests_own(self):
        server = self.serve()

        def scores(query):
            return [face["confidence"] for face in server.post(PICTURE, f"/infer?{query}").json["faces"]]
        everything = scores("score=0&iou=1")
        self.assertEqual(everything, sorted(everything, reverse=True))
        half = len(everything) // 2
        middle = round((everything[half - 1] + everything[half]) / 2, 6)  # between them: answers are rounded
        self.assertLess(everything[half] + 1e-5, everything[half - 1])
        some = scores(f"score={middle}&iou=1")
        self.assertEqual(some, [score for score in everything if score > middle])
        self.assertNotEqual(scores("score=0&iou=0"), everything)
        self.assertEqual(scores("score=1"), [])
        info = subprocess.run([CLI, "info", "--json", MODEL], stdout=subprocess.PIPE, check=True).stdout
        for word in ("0", json.loads(info)["classes"][0]):
            self.assertEqual(scores(f"score=0&iou=1&classes={quote(word)}"), everything)

    def test_most_objects(self):
        server = self.serve("--max-objects", "3")
        self.assertEqual(len(server.post(PICTURE, "/infer?score=0&iou=1").json["faces"]), 3)

    def test_metrics(self):
        server = self.serve()
        for _ in range(3):
            server.post(PICTURE)
        server.post(b"nonsense")
        server.ask("GET", "/nothing")
        server.ask("GET", "/infer")
        counted = {}

        def settled():  # a client may have its answer before the server has put the request away
            counted.update(server.metrics())
            return float(counted["detect_requests"]) == 1
        until(settled)
        for name, value in {'detect_answers_total{path="/infer",code="200"}': 3,
                            'detect_answers_total{path="/infer",code="415"}': 1,
                            'detect_answers_total{path="/infer",code="405"}': 1,
                            'detect_answers_total{path="other",code="404"}': 1,
                            "detect_pictures_total": 3, "detect_request_seconds_count": 3,
                            'detect_request_seconds_bucket{le="+Inf"}': 3, "detect_memory_bytes": 0,
                            "detect_pictures_under_way": 0, "detect_contexts_in_service": 1,
                            "detect_pool_submitted_total": 4, "detect_requests": 1}.items():
            self.assertEqual(float(counted[name]), value, name)
        text = server.ask("GET", "/metrics").body.decode()
        for line in text.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) detect_\w+ .+|detect_\w+(\{(\w+="[^"]*",?)+\})? [\d.e+]+)$')
        self.check_discreet(text.encode())


class Refusals(ServerCase):
    def test_unknown_paths_and_methods(self):
        server = self.serve()
        for path in ("/nothing", "/infer/", "/../etc/passwd", "/%2e%2e/", "//", "/" + "a" * 8000):
            self.expect_error(server.ask("GET", path), 404)
        for path, method, allowed in (("/infer", "GET", "POST"), ("/predict", "PUT", "POST"), ("/", "POST", "GET, HEAD"),
                                      ("/metrics", "DELETE", "GET, HEAD"), ("/infer", "OPTIONS", "POST")):
            answer = server.ask(method, path, b"x" if method in ("PUT", "POST") else None)
            self.expect_error(answer, 405)
            self.assertEqual(answer.headers["allow"], allowed)

    def test_queries(self):
        server = self.serve()
        for query, words in (("score=2", "score must be"), ("score=", "score must be"), ("score=nan", "score must be"),
                             ("score=0x1", "score must be"), ("iou=-1", "iou must be"), ("score", "score must be"),
                             ("scores=1", "unknown parameter 'scores'"), ("score=0&score=1", "score is given twice"),
                             ("classes=unicorn", "no class 'unicorn'"), ("classes=", "no class ''"),
                             ("classes=0,", "no class ''"), ("classes=1", "no class '1'"),
                             ("classes=99999999999999999999", "no class"), ("classes=%ff%00%0a", "no class '?"),
                             ("x%22%0a=1", "unknown parameter 'x\"?'"), ("classes=0&classes=0", "classes is given twice"),
                             ("classes=" + "y" * 4000, "no class 'y")):
            with self.subTest(query=query):
                self.expect_error(server.post(PICTURE, f"/infer?{query}"), 400, words)

    def test_bodies(self):
        server = self.serve()
        whole, kind = form([("image", PICTURE)])
        for body, of, code, words in (
                (b"", "image/png", 400, "empty"), (b"", None, 400, "empty"),
                (PICTURE, "text/plain", 415, "send multipart"), (PICTURE, "application/json", 415, "send multipart"),
                (PICTURE, "image/pngx", 415, ""), (b"P6 1 1 255\nabc", "image/png", 415, "neither"),
                (b"hello", kind, 400, "damaged"), (whole[:-10], kind, 400, "damaged"), (b"", kind, 400, "damaged"),
                (whole, "multipart/form-data", 400, "damaged"), (whole, "multipart/form-data; boundary=", 400, "damaged"),
                (whole, "multipart/form-data; boundary=" + "x" * 71, 400, "damaged"),
                (form([("picture", PICTURE)])[0], kind, 400, "no field 'image'"),
                (form([("image", PICTURE), ("image", PICTURE)])[0], kind, 400, "more than one"),
                (form([("image", b"")])[0], kind, 415, "neither"),
                (form([("image", b"GIF89a")])[0], kind, 415, "neither"),
                (PICTURE[:40], "image/png", 400, "PNG"), (JPEG[:-40], "image/jpeg", 400, "JPEG"),
                (PICTURE[:20], "image/png", 400, "damaged"), (JPEG[:20], "image/jpeg", 400, "damaged")):
            with self.subTest(of=of, words=words, n=len(body)):
                self.expect_error(server.post(body, kind=of), code, words)

    def test_all_damage_is_answered(self):
        """Every truncation and many corruptions: an answer each, on one connection."""
        server = self.serve()
        connection = server.connect()
        source = random.Random(7)
        codes = set()
        for path in sorted(CORPUS.glob("*.*g")):
            whole = path.read_bytes()
            for _ in range(12):
                broken = bytearray(whole[:source.randrange(len(whole))] if source.random() < 0.5 else whole)
                for _ in range(source.randrange(4)):
                    if broken:
                        broken[source.randrange(len(broken))] = source.randrange(256)
                connection.request("POST", "/infer", bytes(broken), {"Content-Type": "image/png"})
                answer = connection.getresponse()
                body = answer.read()
                codes.add(answer.status)
                if answer.status != 200:
                    self.check_discreet(body)
        connection.close()
        self.assertLessEqual(codes, {200, 400, 413, 415})
        self.assertIn(400, codes)

    def test_too_many_pixels(self):
        server = self.serve("--max-pixels", "2000", "--max-side", "100")
        self.assertEqual(server.post(png(50, 40)).code, 200)
        for picture in (png(50, 41), png(101, 2), png(20, 20, (16384, 16384)), png(20, 20, (2**31 - 1, 2**31 - 1))):
            self.expect_error(server.post(picture), 413, "pixels")
        self.expect_error(server.post(png(20, 20, (20, 21))), 400)

    def test_connection_goes_on_after_refusals(self):
        server = self.serve()
        connection = server.connect()
        for body, path, code in ((b"x" * 100000, "/nothing", 404), (b"x" * 100000, "/", 405), (b"x" * 9, "/infer", 415),
                                 (PICTURE, "/infer?score=7", 400), (PICTURE, "/infer", 200)):
            connection.request("POST", path, body)
            socket_before = connection.sock
            self.assertEqual(connection.getresponse().read() and code, code)
            self.assertIs(connection.sock, socket_before)
        connection.close()

    def test_garbage(self):
        server = self.serve()
        source = random.Random(3)
        for i in range(60):
            data = bytes(source.randrange(256) for _ in range(source.randrange(1, 400)))
            if i % 3 == 0:
                data = HEAD + data
            client = server.socket()
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass
            for line in read_all(client).split(b"\r\n"):
                if line.startswith(b"HTTP/1.1 "):
                    self.assertEqual(line[9:10], b"4", line)
            client.close()
        self.assertEqual(server.post(PICTURE).code, 200)


class Limits(ServerCase):
    LARGE = 1 << 30

    def send_endlessly(self, client, frame):
        """Sends until the server has had enough; returns how much it took and what it said."""
        sent = 0
        try:
            while sent < self.LARGE:
                sent += client.send(frame)
        except (ConnectionError, BlockingIOError):
            pass
        return sent, read_all(client)

    def test_gigabyte_bodies_are_refused_early(self):
        server = self.serve("--max-body", "1m")
        server.post(PICTURE)
        before = server.memory()
        declared = server.socket(HEAD + b"Content-Length: %d\r\n\r\n" % self.LARGE)
        chunked = server.socket(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        for client, frame in ((declared, bytes(65536)), (chunked, chunk)):
            sent, answer = self.send_endlessly(client, frame)
            self.assertTrue(answer.startswith(b"HTTP/1.1 413"), answer[:200])
            self.assertLess(sent, 64 << 20)  # what the kernel's buffers take, at most
            client.close()
        self.assertLess(server.memory() - before, 32 << 20)
        self.assertEqual(server.post(PICTURE).code, 200)
        self.expect_error(server.post(bytes((1 << 20) + 1)), 413, "longer")
        self.assertEqual(float(server.metrics()["detect_memory_bytes"]), 0)

    def test_chunked_to_nowhere_is_cut_off(self):
        server = self.serve("--max-body", "1m")
        client = server.socket(b"POST /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent, answer = self.send_endlessly(client, b"10000\r\n" + bytes(65536) + b"\r\n")
        self.assertLess(sent, 64 << 20)
        self.assertTrue(answer.startswith(b"HTTP/1.1 413"), answer[:200])

    def test_memory(self):
        """While requests that are not whole hold most of it; the picture has 120,000 bytes decoded."""
        server = self.serve("--max-memory", "480000", "--max-body", "120000", "--max-pixels", "100000")
        head = HEAD + b"Content-Length: 120000\r\n\r\n"
        held = lambda n: until(lambda: float(server.metrics()["detect_memory_bytes"]) == n)
        clients = [server.socket(head + bytes(119999)) for _ in range(3)]
        held(360000)
        self.expect_error(server.post(png(200, 200)), 503, "too much")
        clients.append(server.socket(head + bytes(119999)))
        held(480000)
        self.expect_error(server.post(PICTURE), 503, "too much")
        for client in clients:
            client.close()
        held(0)
        self.assertEqual(server.post(png(200, 200)).code, 200)

    def test_full_queue(self):
        """Of many at once some are sent away, and every one is answered."""
        server = self.serve("--max-queue", "2", "--decoders", "1", "--size", "320x320", "--http-threads", "1")
        codes, lock = [], threading.Lock()

        def ask():
            answer = server.post(PICTURE)
            if answer.code == 503:
                self.expect_error(answer, 503, "too much")
            with lock:
                codes.append(answer.code)
        until(lambda: (self.burst(ask, 24), 503 in codes)[1])
        self.assertLessEqual(set(codes), {200, 503})
        self.assertIn(200, codes)
        self.assertEqual(len(codes) % 24, 0)
        self.assertEqual(server.post(PICTURE).code, 200)

    @staticmethod
    def burst(what, n):
        threads = [threading.Thread(target=what) for _ in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_slow_clients_are_closed(self):
        server = self.serve("--receive-timeout", "1", "--max-connections", "64")
        heads = [server.socket(HEAD[:9]) for _ in range(10)]
        bodies = [server.socket(HEAD + b"Content-Length: 1000\r\n\r\n") for _ in range(10)]
        idle = [server.socket() for _ in range(10)]
        waiting = heads + bodies + idle

        def drip():
            for client in list(waiting):
                try:
                    if client not in idle:
                        client.send(b"x")
                    client.setblocking(False)
                    if client.recv(10) == b"":
                        waiting.remove(client)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    waiting.remove(client)
            time.sleep(0.1)
            return not waiting
        self.assertEqual(server.post(PICTURE).code, 200)  # nobody else suffers meanwhile
        until(drip)
        self.assertGreater(float(server.metrics()["detect_closed_slow_total"]), 0)
        self.assertEqual(server.post(PICTURE).code, 200)

    def test_clients_that_leave_half_way(self):
        """Their connections are closed long before they would count as slow."""
        server = self.serve("--receive-timeout", "3600")
        source = random.Random(9)
        for _ in range(60):
            request = HEAD + b"Content-Length: 1000\r\n\r\nabc"
            client = server.socket(request[:source.randrange(1, len(request))])
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        until(lambda: float(server.metrics()["detect_connections"]) == 1)
        self.assertEqual(float(server.metrics()["detect_closed_slow_total"]), 0)

    def test_connections_wait_to_be_let_in(self):
        server = self.serve("--max-connections", "4", "--http-threads", "1", "--receive-timeout", "2")
        clients = [server.socket() for _ in range(12)]
        self.assertEqual(server.post(PICTURE).code, 200)  # once the silent ones are closed
        for client in clients:
            client.close()

    def test_late_answers(self):
        """One second for an answer that needs more: 503, and the server goes on."""
        server = self.serve("--answer-timeout", "1", "--size", "1280x1280", "--decoders", "1", "--max-queue", "4096")
        codes, lock = [], threading.Lock()

        def ask():
            answer = server.post(PICTURE)
            if answer.code == 503:
                self.expect_error(answer, 503, "not done in time")
            with lock:
                codes.append(answer.code)
        until(lambda: (self.burst(ask, 40), 503 in codes)[1])
        self.assertLessEqual(set(codes), {200, 503})
        self.assertEqual(server.post(PICTURE).code, 200)

    def test_loopback_unless_told(self):
        server = self.serve()
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = [row.split()[1] for row in rows if row.split()[3] == "0A"]
        mine = [address for address in listening if address.endswith(f":{server.port:04X}")]
        self.assertEqual(mine, [f"0100007F:{server.port:04X}"])

    def test_one_server_on_a_port(self):
        server = self.serve()
        done = subprocess.run([SERVER, "--port", str(server.port), "--size", "64x64"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120, env={**os.environ, "LIBDETECT_MODEL": MODEL})
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"cannot listen on 127.0.0.1, port {server.port}", done.stderr.decode())


class Ends(ServerCase):
    def test_finishes_what_was_taken(self):
        server = self.serve()
        half = len(PICTURE) // 2
        clients = [server.socket(HEAD + b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE[:half]) for _ in range(8)]
        until(lambda: float(server.metrics()["detect_requests"]) == 9)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: self.refuses(server.port))
        for client in clients:
            client.sendall(PICTURE[half:])
        for client in clients:
            answer = read_all(client)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer[:200])
            self.assertIn(b"Connection: close", answer)
        _, errors = server.process.communicate(timeout=60)
        self.assertEqual(server.process.returncode, 0, errors)

    @staticmethod
    def refuses(port):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionError:
            return True
        return False

    def test_stops_while_busy(self):
        """Under load: every request that the server took is answered, the rest find no server."""
        server = self.serve()
        broken, codes, lock = [], [], threading.Lock()

        def ask():
            while True:
                try:
                    client = server.socket(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE)
                except ConnectionError:
                    return
                answer = read_all(client)
                with lock:
                    (codes if answer.startswith(b"HTTP/1.1 200") else broken).append(answer)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(codes) > 40)
        code, errors = server.stop()
        for thread in threads:
            thread.join()
        self.assertEqual(code, 0, errors)
        # The kernel resets connections that it was still letting in as the listening socket closed.
        self.assertLessEqual(len(broken), 8)
        self.assertEqual([answer for answer in broken if answer], [])

    def test_idle_connections_do_not_hold_it(self):
        server = self.serve("--receive-timeout", "600")
        connection = server.connect()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        silent = server.socket()
        code, errors = server.stop()
        self.assertEqual(code, 0, errors)
        self.assertEqual(errors.splitlines(), ["detect-server: stopping: what was taken is finished first"])
        connection.close()
        silent.close()

    def test_interrupt_does_the_same(self):
        self.assertEqual(self.serve().stop(signal.SIGINT)[0], 0)


class Usage(unittest.TestCase):
    def call(self, *arguments, model=MODEL):
        done = subprocess.run([SERVER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                              env={**os.environ, "LIBDETECT_MODEL": model})
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_version(self):
        code, text, _ = self.call("--version")
        self.assertEqual(code, 0)
        self.assertRegex(text, r"^detect-server (\d+\.\d+\.\d+)\nlibdetect \1 \(.+\), .+, oneDNN \d.+\n$")

    def test_help(self):
        code, text, _ = self.call("--help")
        self.assertEqual(code, 0)
        for option in ("model device contexts precision size threads batch delay-us address port http-threads decoders "
                       "max-connections max-queue max-body max-memory max-pixels max-side max-objects receive-timeout "
                       "answer-timeout verbose help version").split():
            self.assertRegex(text, rf"--{option}\b")

    def test_wrong_usage(self):
        for arguments in (["x"], ["--nothing"], ["--nothing=1"], ["--port"], ["--port", "65536"], ["--port", "-1"],
                          ["--port", "x"], ["--max-body", "2g"], ["--max-body", "17179869185g"],
                          ["--max-body", "1x"], ["--size", "65x64"], ["--size", "64"], ["--device", "tpu"], ["--device", "cpu,"], ["--device", "cuda:"],
                          ["--precision", "fp8"], ["--batch", "0"], ["--receive-timeout", "0"], ["--port", "80k"]):
            code, _, errors = self.call(*arguments)
            self.assertEqual(code, 2, arguments)
            self.assertTrue(errors.endswith("see 'detect-server --help'\n"), errors)

    def test_unwritable_output(self):
        for option in ("--help", "--version"):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([SERVER, option], stdout=full, stderr=subprocess.PIPE, timeout=120)
            self.assertEqual((done.returncode, done.stderr), (1, b"detect-server: standard output: No space left on device\n"))

    def test_memory_for_no_request(self):
        for options, needed in ((["--max-memory", "1m"], 16 * 1024 * 1024 + 3 * 50000000),
                                (["--max-memory", "1m", "--max-body", "1m", "--max-pixels", "1"], 1024 * 1024 + 3),
                                (["--max-memory", "1029999", "--max-body", "1000000", "--max-side", "100"], 1030000)):
            code, _, errors = self.call(*options)
            self.assertEqual(code, 2, errors)
            self.assertRegex(errors, rf"^detect-server: --max-memory .*: .* {needed} bytes,.*\n$")

    def test_default_model(self):
        """The program, moved to a folder of its own, finds the model beside it; without one it says so."""
        with tempfile.TemporaryDirectory() as folder:
            program = shutil.copy(SERVER, folder)
            command = [program, "--port", "0", "--size", "64x64"]
            environment = {**os.environ, "LIBDETECT_MODEL": "", "LD_LIBRARY_PATH": str(Path(SERVER).parent)}
            models = Path(folder, "models")
            models.mkdir()
            shutil.copy(MODEL, models / "damofd-2.5g-kps.safetensors")
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertTrue(process.stdout.readline().startswith(b"listening"))
            process.terminate()
            process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0)

    def test_cannot_start(self):
        for arguments, words in ((["--model", "/nowhere"], "cannot be opened"), (["--address", "localhost"], "--address"),
                                 (["--address", "203.0.113.1", "--port", "0"], "cannot listen"),
                                 (["--device", "cuda:99"], "")):
            code, _, errors = self.call(*arguments)
            self.assertEqual(code, 3, (arguments, errors))
            self.assertIn(words, errors)


if __name__ == "__main__":
    unittest.main()
