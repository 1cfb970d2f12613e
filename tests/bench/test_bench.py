"""Drives detect-bench as a user does: every scenario with little time, every output, every error.

Environment: DETECT_BENCH, the program; BENCH_MODEL, a small model file; DETECT_SANITIZED where memory limits cannot be set.
Nothing here depends on how fast or how busy the machine is.
"""
import copy
import csv
import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from schema import problems

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "benchmark.schema.json").read_text())
BENCH, MODEL = os.environ["DETECT_BENCH"], os.environ["BENCH_MODEL"]
DONE, FAILED, USAGE, NO_MODEL, REGRESSION = 0, 1, 2, 3, 3
QUICK = ["--repeats", "2", "--seconds", "20ms", "--warm-up", "5ms", "--duration", "300ms", "--picture-size", "96x64"]


def call(*arguments, model=MODEL, tool=BENCH, **keywords):
    """Runs the program; returns the finished process with its text."""
    environment = {k: v for k, v in os.environ.items() if k != "LIBDETECT_MODEL"}
    if model:
        environment["LIBDETECT_MODEL"] = str(model)
    environment.update(keywords.pop("env", {}))
    keywords.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([tool, *map(os.fspath, arguments)], env=environment, timeout=500, stderr=subprocess.PIPE,
                          encoding="utf-8", **keywords)


def ppm(width, height, seed):
    """A picture with some structure."""
    values = bytes((x * (5 + seed) + y * 3 + c * 40 + (x * y >> 4)) % 256
                   for y in range(height) for x in range(width) for c in range(3))
    return b"P6 %d %d 255\n" % (width, height) + values


def errors_of(done):
    """Lines on standard error, but for warnings of what the machine is like."""
    return [line for line in done.stderr.splitlines() if not line.startswith("detect-bench: warning: ")]


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="test_bench."))
        self.addCleanup(shutil.rmtree, self.directory)

    def write(self, name, data):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    def expect(self, done, code, message=None, lines=None):
        """The exit code, and on standard error a message or a number of lines."""
        self.assertEqual(done.returncode, code, done.stderr)
        if message is not None:
            self.assertIn(message, done.stderr)
        if lines is not None:
            self.assertEqual(len(errors_of(done)), lines, done.stderr)
        for line in done.stderr.splitlines():
            self.assertTrue(line.startswith("detect-bench: "), line)

    def bench(self, *arguments, code=DONE, quick=tuple(QUICK)):
        """A run's JSON, checked against the schema. A machine that throttles makes a run invalid, and is no failure."""
        path = self.directory / "result.json"
        done = call(*quick, "--quiet", "--json", path, *arguments)
        self.assertTrue(path.exists(), done.stderr)
        document = json.loads(path.read_text())
        path.unlink()
        self.assertEqual(problems(document, SCHEMA), [])
        reasons = [reason for row in document["runs"][0]["rows"] for reason in row["invalid"]]
        if code is not None and not any("throttled" in reason for reason in reasons):
            self.assertEqual(done.returncode, code, (done.stderr, reasons))
        return document


class Arguments(Case):
    def test_help_and_version(self):
        for arguments in (["--help"], ["-h"], ["compare", "--help"], ["merge", "--help"]):
            done = call(*arguments)
            self.expect(done, DONE, lines=0)
            self.assertTrue(done.stdout.startswith("usage: detect-bench "))
            self.assertTrue(all(len(line) <= 110 for line in done.stdout.splitlines()))
        self.assertRegex(call("--version").stdout, r"^detect-bench (\d+\.\d+\.\d+)\nlibdetect \1 \(.+\), .+, oneDNN \d.+\n$")

    def test_help_names_every_option_and_scenario(self):
        text = call("--help").stdout
        for word in ("device precision size threads contexts scenario batch batches callers rate need duration "
                     "max-memory max-latency images pictures picture-size seed labels repeats seconds warm-up price "
                     "daily roof json csv markdown html label quiet help version max-regress").split():
            self.assertIn("--" + word, text)
        for word in SCHEMA["definitions"]["row"]["properties"]["scenario"]["enum"]:
            self.assertIn(f"\n    {word} ", text)

    def test_wrong_usage(self):
        wrong = """--nonsense|-q|--device|--device gpu|--device cuda:|--device cuda:-1|--device cpu,cuda|--device cuda:0,
            --precision int4|--precision ,|--precision fp32,|--precision fp32,,fp16|--size 640|--size 650x640|--size 0x32
            --size 9999999x32|--threads 0|--threads 257|--contexts x|--scenario fast|--scenario latency,|--batch 0
            --batches 1,2,|--batches 999|--callers 0|--callers 1;2|--rate 0|--rate -1|--rate nan|--rate 1e3|--duration 0
            --duration 5x|--duration 1y|--duration -1s|--need 15|--need x15|--need 0x15|--need 2x0fps|--need 2x5hz
            --max-memory 0|--max-memory 5t|--max-memory 99999999g|--max-latency 0|--pictures 0|--picture-size 5
            --picture-size 5x0|--seed -1|--seed x|--repeats 0|--repeats 33|--seconds ten|--warm-up 0|--price 0
            --price 5/d|--price free|--daily 10|--daily x|--roof 5|--roof 0,5|--roof 1,2,3|--label|--json=|--csv
            --json - --csv -|--quiet=1|--labels x|a b|compare|compare a|compare a b c|compare a b --max-regress x
            compare a b --max-regress 5%%|compare a b --csv x|compare a b --rate 1|merge|merge --seconds 1 a"""
        for line in re.split(r"[|\n]", wrong):
            with self.subTest(arguments=line.strip()):
                done = call(*line.split())
                self.expect(done, USAGE, "see 'detect-bench --help'", lines=2)
                self.assertEqual(done.stdout, "")

    def test_message_offers_what_there_is(self):
        done = call("--precision", "int4")
        self.assertIn("auto, fp32, tf32, fp16 or bf16, with commas between", done.stderr)

    def test_model_and_device_that_cannot_be_used(self):
        text = self.write("text", "Hello")
        for arguments in (["no such file"], [text], [self.directory], [MODEL, "--device", "cuda:99"],
                          [MODEL, "--precision", "int8"], [MODEL, "--device", "cpu", "--precision", "fp16"]):
            with self.subTest(arguments=arguments):
                done = call(*QUICK, *arguments)
                self.expect(done, NO_MODEL, lines=1)
                self.assertEqual(done.stdout, "")
        for name in ("damaged", None):             # beside the program lies what it takes by itself, or nothing
            folder = self.directory / str(name)
            (folder / "models").mkdir(parents=True)
            if name:
                (folder / "models" / "damofd-2.5g-kps.safetensors").write_text(name)
            elif (Path(os.environ["DET_MODELS_FOLDER"]) / "damofd-2.5g-kps.safetensors").exists():
                continue
            done = call(model="", tool=shutil.copy(BENCH, folder),
                        env={"LD_LIBRARY_PATH": os.path.dirname(BENCH)})  # the library lies beside the program
            self.expect(done, NO_MODEL, f"{folder}/models" if name else "LIBDETECT_MODEL", lines=1)

    def test_inputs_that_cannot_be_used(self):
        broken = self.write("a/broken.png", b"\x89PNG\r\n\x1a\nbroken")
        (self.directory / "empty").mkdir()
        for path in (broken, self.directory / "a", self.directory / "empty", "no such file"):
            done = call(*QUICK, "--images", path)
            self.expect(done, FAILED, str(path), lines=1)
            self.assertEqual(done.stdout, "")

    def test_unwritable_output(self):
        for arguments in (["--help"], ["--version"]):
            with open("/dev/full", "wb") as full:
                self.expect(call(*arguments, stdout=full), FAILED, "standard output: cannot write: No space left", lines=1)
        for option in ("--json", "--csv", "--markdown", "--html"):
            for path in ("/dev/full", self.directory / "no" / "file"):
                done = call(*QUICK, "--scenario", "latency", "--quiet", option, path)
                self.expect(done, FAILED, f"{path}: cannot write: ", lines=1)
            for path in (self.directory, self.directory / "no" / "file"):  # said before an hour of measuring
                self.expect(call("--scenario", "soak", "--duration", "1h", option, path), FAILED, f"{path}: cannot write: ", lines=1)
        with open("/dev/full", "wb") as full:
            self.expect(call(*QUICK, "--scenario", "latency", stdout=full), FAILED, "standard output", lines=1)

    def test_closed_streams(self):
        done = subprocess.run(["sh", "-c", f'"{BENCH}" --version >&- 2>&-'], timeout=60, check=False)
        self.assertEqual(done.returncode, FAILED)


class Scenarios(Case):
    def rows(self, scenario, *arguments, **keywords):
        document = self.bench("--scenario", scenario, *arguments, **keywords)
        rows = document["runs"][0]["rows"]
        self.assertEqual({row["scenario"] for row in rows}, {scenario})
        for row in rows:
            self.check_row(row)
        return rows

    def check_row(self, row):
        """What holds for every row with figures."""
        if "latency_ms" not in row:
            self.assertIn("message", row)
            return
        times = row["latency_ms"]
        self.assertGreater(times["n"], 0)
        values = [times["min"], *(times[p]["value"] for p in ("p50", "p95", "p99")), times["max"]]
        self.assertEqual(values, sorted(values))
        self.assertGreater(times["min"], 0)
        for name, needs in (("p50", 10), ("p95", 100), ("p99", 500)):
            self.assertEqual((times[name]["n"], times[name]["needs"]), (times["n"], needs))
            self.assertEqual(times[name]["enough"], times["n"] >= needs)
        self.assertGreaterEqual(len(row["throughput"]["repeats"]), 1)
        self.assertGreater(row["throughput"]["value"], 0)
        self.assertGreater(row["resources"]["samples"], 1)
        self.assertGreater(row["memory_bytes"], 0)
        if row["inputs"]["detections_per_picture"] == 0:
            self.assertIn("never reached NMS", " ".join(row["notes"]))

    def test_latency(self):
        row, = self.rows("latency", "--seconds", "100ms", "--repeats", "3")
        self.assertEqual((row["batch"], row["contexts"], len(row["latency_ms"]["repeats"])), (1, 1, 3))
        self.assertEqual(sum(row["latency_ms"]["bins"]["counts"]), row["latency_ms"]["n"])
        phases = row["phases"]
        self.assertGreaterEqual(phases["warm_up_runs"], 3)
        self.assertGreaterEqual(phases["measured_s"], 0.3)
        self.assertGreater(min(phases["first_run_ms"], phases["open_model_ms"], phases["create_context_ms"]), 0)
        busy_s = row["latency_ms"]["mean"] * row["latency_ms"]["n"] / 1e3
        self.assertLessEqual(busy_s, phases["measured_s"] * 1.001)

    def test_throughput_names_the_knee(self):
        rows = self.rows("throughput", "--batches", "1,2,4")
        self.assertEqual([row["batch"] for row in rows], [1, 2, 4])
        values = [row["throughput"]["value"] for row in rows]
        knee = next(i for i, value in enumerate(values) if value >= 0.95 * max(values))
        self.assertEqual([row.get("knee", False) for row in rows], [i == knee for i in range(3)])

    def test_throughput_ends_with_memory(self):
        if os.environ.get("DETECT_SANITIZED"):
            self.skipTest("a sanitizer takes more address space than any limit")
        room = 2500 << 20  # the arena of 256 such pictures is twice that
        path = self.directory / "result.json"
        done = call(*QUICK, "--scenario", "throughput", "--size", "1024x1024", "--batches", "1,256", "--threads", "1",
                    "--quiet", "--json", path,
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (room, room)))
        self.expect(done, DONE, lines=0)
        rows = json.loads(path.read_text())["runs"][0]["rows"]
        self.assertEqual([(row["batch"], row["status"]) for row in rows], [(1, "ok"), (256, "out_of_memory")])
        self.assertTrue(rows[0]["knee"] and rows[1]["message"])

    def test_concurrency(self):
        rows = self.rows("concurrency", "--callers", "1,3,40", "--contexts", "2")
        self.assertEqual([(row["callers"], row["contexts"]) for row in rows], [(1, 2), (3, 2), (40, 2)])
        for row in rows:
            self.assertTrue(row["little"]["ok"])
            self.assertLess(abs(row["little"]["share"] - 1), row["little"]["tolerance"])
            self.assertGreaterEqual(row["latency_ms"]["n"], 2 * row["callers"])
            self.assertLess(row["waiting_ms"]["mean"], row["latency_ms"]["mean"])

    def test_rate(self):
        rows = self.rows("rate", "--rate", "5,20", "--duration", "1s")
        self.assertEqual([row["rate"] for row in rows], [5, 20])
        for row in rows:
            offered = row["offered"]
            self.assertEqual(offered["requests"], row["rate"])
            self.assertEqual(offered["requests"] - offered["unserved"], row["latency_ms"]["n"])

    def test_rate_finds_shares_of_the_capacity(self):
        rows = self.rows("rate", "--duration", "200ms")
        for row, share in zip(rows, (0.25, 0.5, 0.75, 0.9)):
            self.assertAlmostEqual(row["load"], share, places=6)

    def test_rate_beyond_the_capacity(self):
        row, = self.rows("rate", "--rate", "1000000", "--duration", "50ms")
        self.assertFalse(row["offered"]["sustained"])
        self.assertGreater(row["offered"]["unserved"], 0)
        self.assertIn("the queue grows", " ".join(row["notes"]))

    def test_rate_without_a_request(self):
        done = call(*QUICK, "--rate", "0.001", "--duration", "50ms", "--quiet")
        self.assertIn(done.returncode, (DONE, FAILED))  # one request is due at once
        self.expect(done, DONE, lines=0)

    def test_streams(self):
        row, = self.rows("streams", "--need", "3x1fps", "--duration", "2s")
        found = row["streams"]
        self.assertEqual((found["streams"], found["fps"], found["holds"]), (3, 1, True))
        self.assertEqual(row["latency_ms"]["n"], 6)
        self.assertAlmostEqual(found["headroom"], found["capacity"] / 3 - 1, places=4)
        self.assertEqual(found["possible_streams"], int(found["capacity"]))

    def test_streams_that_do_not_hold(self):
        row, = self.rows("streams", "--need", "1000x1000fps", "--duration", "50ms", code=FAILED)
        self.assertFalse(row["streams"]["holds"])
        self.assertLess(row["streams"]["headroom"], 0)

    def test_soak(self):
        sanitized = os.environ.get("DETECT_SANITIZED")  # a sanitizer keeps what is freed for a while
        row, = self.rows("soak", "--contexts", "2", "--pictures", "3", code=None if sanitized else DONE)
        self.assertEqual(row["soak"]["outputs"], row["latency_ms"]["n"])
        self.assertEqual(row["soak"]["differing"], 0)
        self.assertTrue(sanitized or row["soak"]["memory_flat"])

    def test_tune(self):
        rows = self.rows("tune", "--batches", "1,2", "--size", "64x64,32x32", "--precision", "fp32,int8")
        self.assertEqual([(row["input"][0], row["precision"], row["batch"]) for row in rows],
                         [(64, "fp32", 1), (64, "fp32", 2), (64, "int8", 1), (32, "fp32", 1), (32, "fp32", 2),
                          (32, "int8", 1)])
        self.assertEqual({row["pareto"] for row in rows if row["precision"] == "int8"}, {False})
        for side in (64, 32):
            self.assertTrue(any(row["pareto"] for row in rows if row["input"][0] == side))
        self.assertEqual({row["input"][0] for row in self.rows("tune", "--batches", "1")}, {64, 32})

    def test_tune_within_limits(self):
        rows = self.rows("tune", "--batches", "1,8", "--size", "64x64", "--max-latency", "100s")
        self.assertEqual([row["status"] for row in rows], ["ok", "ok"])
        limit = str((rows[0]["memory_bytes"] + rows[1]["memory_bytes"]) // 2)
        rows = self.rows("tune", "--batches", "1,8", "--size", "64x64", "--max-memory", limit)
        self.assertEqual([row["status"] for row in rows], ["ok", "over_limit"])
        self.assertEqual([row["pareto"] for row in rows], [True, False])

    def test_stages(self):
        row, = self.rows("stages")
        for part in ("alone", "pipeline"):
            times = row["stages"][part]
            self.assertGreater(times["runs"], 0)
            self.assertGreater(min(times["network"], times["preprocess"], times["decode"]), 0)
            self.assertLessEqual(max(times[k] for k in ("network", "preprocess", "decode", "nms")), times["total"])
        self.assertEqual(row["stages"]["nms_reached"], row["inputs"]["with_detections"] > 0)

    def test_layers(self):
        row, = self.rows("layers", "--batch", "2", "--roof", "100,10")
        self.assertEqual(row["roof"], {"source": "given", "gmacs_per_s": 100, "gbytes_per_s": 10})
        self.assertAlmostEqual(sum(layer["gmacs"] for layer in row["layers"]), 2 * row["gmacs"], places=6)
        self.assertAlmostEqual(sum(layer["time_share"] for layer in row["layers"]), 1, places=5)
        for layer in row["layers"]:
            if layer["roof_share"] is None:
                continue
            compute, memory = layer["gmacs"] / 100, layer["bytes"] / 10e9
            self.assertEqual(layer["bound"], "compute" if compute >= memory else "memory")
            self.assertAlmostEqual(layer["roof_share"] * layer["ms"] / 1e3 / max(compute, memory), 1, places=4)
        self.assertEqual(self.rows("layers")[0]["roof"]["source"], "measured")

    def test_what_runs_when_nothing_is_said(self):
        def names(*arguments):
            rows = self.bench(*arguments, "--batches", "1", "--callers", "1", code=None)["runs"][0]["rows"]
            return sorted({row["scenario"] for row in rows})
        self.assertEqual(names(), ["concurrency", "latency", "layers", "stages", "throughput"])
        self.assertEqual(names("--rate", "10"), ["rate"])
        self.assertEqual(names("--need", "1x4fps", "--rate", "10"), ["rate", "streams"])
        self.assertEqual(len(names("--scenario", "all", "--need", "1x4fps")), 9)

    def test_precisions(self):
        done = call(*QUICK, "--scenario", "latency", "--precision", "int8,fp32", "--json", "-")
        self.expect(done, DONE, "left out: int8: libdetect has no int8 arithmetic", lines=1)
        rows = json.loads(done.stdout)["runs"][0]["rows"]
        self.assertEqual([(row["precision"], row["status"]) for row in rows], [("fp32", "ok"), ("int8", "unsupported")])
        drift = rows[0]["accuracy"]["drift"]
        self.assertEqual((drift["matched"], drift["surplus"], drift["box_max_px"]), (drift["reference_objects"], 0, 0))

    def test_cost(self):
        row, = self.rows("latency", "--price", "5.6/h", "--daily", "1000000")
        rate = row["throughput"]["value"]
        self.assertAlmostEqual(row["cost"]["per_1000"] / (5.6 / 3600 / rate * 1000), 1, places=6)
        self.assertAlmostEqual(row["cost"]["month_busy"] / (1e6 * 365 / 12 / 1000 * row["cost"]["per_1000"]), 1, places=6)
        self.assertAlmostEqual(row["cost"]["month_always"], row["cost"]["month_machines"] * 5.6 * 730, places=5)
        text = call(*QUICK, "--scenario", "latency", "--price", "5.6/h").stdout
        self.assertIn("cost per 1,000 pictures = price / 3600 / throughput * 1000", text)

    def test_pictures_and_labels(self):
        for i in range(3):
            self.write(f"pictures/{i}.ppm", ppm(64, 48, i))
            self.write(f"labels/{i}.txt", "0 0.5 0.5 0.4 0.4\n")
        pictures, labels = self.directory / "pictures", self.directory / "labels"
        row, = self.rows("latency", "--images", pictures, "--labels", labels, "--pictures", "2")
        self.assertEqual((row["inputs"]["kind"], row["inputs"]["pictures"]), ("pictures", 2))
        self.assertEqual((row["accuracy"]["labels"], row["accuracy"]["pictures"]), (3, 3))
        self.assertTrue(0 <= row["accuracy"]["ap"] <= row["accuracy"]["ap50"] <= 1)
        self.write("labels/1.txt", "0 0.5 0.5\n")
        self.expect(call(*QUICK, "--images", pictures, "--labels", labels), FAILED, "1.txt: line 1: not `class", lines=1)
        (self.directory / "none").mkdir()
        self.expect(call(*QUICK, "--images", pictures, "--labels", self.directory / "none"), FAILED, "no labels", lines=1)

    def test_environment(self):
        run, = self.bench("--scenario", "latency", "--label", "my machine")["runs"]
        self.assertEqual(run["label"], "my machine")
        digest = subprocess.run(["sha256sum", MODEL], stdout=subprocess.PIPE, check=True, encoding="ascii").stdout.split()[0]
        self.assertEqual(run["model"]["sha256"], digest)
        self.assertEqual(run["model"]["bytes"], os.path.getsize(MODEL))
        environment = run["environment"]
        self.assertEqual(environment["cpu"]["usable"], len(os.sched_getaffinity(0)))
        self.assertEqual(environment["host"], os.uname().nodename)
        self.assertRegex(environment["library"]["sha256"], "^[0-9a-f]{64}$")
        self.assertIn("the inputs are noise", " ".join(environment["warnings"]))


class Outputs(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_bench."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        outputs = [f"--{kind}={cls.folder / 'out'}.{kind}" for kind in ("json", "csv", "markdown", "html")]
        cls.done = call(*QUICK, "--scenario", "all", "--batches", "1,2", "--callers", "1,4", "--need", "1x4fps", "--price",
                        "2", *outputs)
        cls.text = {kind: (cls.folder / f"out.{kind}").read_text() for kind in ("json", "csv", "markdown", "html")}
        cls.document = json.loads(cls.text["json"])
        cls.rows = cls.document["runs"][0]["rows"]

    def test_table(self):
        for scenario in SCHEMA["definitions"]["row"]["properties"]["scenario"]["enum"]:
            self.assertRegex(self.done.stdout, rf"(?m)^== {scenario}\b")
        latency = self.rows[0]["latency_ms"]
        self.assertIn(f"({latency['n']})", self.done.stdout)
        self.assertRegex(self.done.stdout, r"~[\d.]+ \(\d+\)")  # a percentile of too few samples

    def test_csv(self):
        found = list(csv.DictReader(self.text["csv"].splitlines()))
        self.assertEqual([row["scenario"] for row in found], [row["scenario"] for row in self.rows])
        for row, expected in zip(found, self.rows):
            self.assertEqual(int(row["input_width"]), expected["input"][0])
            self.assertAlmostEqual(float(row["throughput.value"]), expected["throughput"]["value"], places=3)
            self.assertEqual(row["latency_ms.p99.enough"], "yes" if expected["latency_ms"]["p99"]["enough"] else "no")

    def test_markdown(self):
        widths, n_tables = None, 0
        for line in self.text["markdown"].splitlines():
            if not line.startswith("|"):
                widths = None
                continue
            cells = len(re.findall(r"(?<!\\)\|", line))
            n_tables += widths is None
            self.assertEqual(cells, widths or cells, line)
            widths = cells
        self.assertGreaterEqual(n_tables, 10)

    def test_html_needs_nothing_else(self):
        text = self.text["html"]
        for word in ("<script", "http:", "https:", "@import", "url(", "<link", "src="):
            self.assertNotIn(word, text.replace('charset="utf-8"', ""))

    def test_json_to_standard_output(self):
        done = call(*QUICK, "--scenario", "latency", "--json", "-")
        self.assertEqual(problems(json.loads(done.stdout), SCHEMA), [])

    def test_names_cannot_break_out(self):
        label = '<b>"x"</b> | =1+1 \x1b[31m'
        done = call(*QUICK, "--scenario", "latency", "--label", label, *(f"--{kind}={self.folder / 'odd'}.{kind}"
                                                                        for kind in ("csv", "markdown", "html")))
        self.assertNotIn("\x1b", done.stdout)
        self.assertNotIn("<b>", (self.folder / "odd.html").read_text().split("<body>")[1].replace("<b>", "", 0)
                         .split("<h1>")[1].split("</h1>")[0])
        row, = csv.DictReader((self.folder / "odd.csv").read_text().splitlines())
        self.assertEqual(row["machine"], label.replace("\x1b", " "))

    def test_the_schema_can_fail(self):
        for change in (lambda d: d.pop("version"), lambda d: d.update(version=2), lambda d: d["runs"].clear(),
                       lambda d: d["runs"][0]["rows"][0].update(unheard_of=1),
                       lambda d: d["runs"][0]["rows"][0].update(batch="1"),
                       lambda d: d["runs"][0]["rows"][0]["latency_ms"]["p99"].pop("enough"),
                       lambda d: d["runs"][0]["environment"].update(gpu={})):
            broken = copy.deepcopy(self.document)
            change(broken)
            self.assertNotEqual(problems(broken, SCHEMA), [])

    def test_progress_bar(self):
        parent, child = pty.openpty()
        with subprocess.Popen([BENCH, MODEL, *QUICK, "--seconds", "200ms", "--scenario", "latency", "--quiet"],
                              stderr=child, env={**os.environ, "TERM": "xterm"}) as process:
            os.close(child)
            shown = b""
            while True:
                try:
                    part = os.read(parent, 4096)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                shown += part
            self.assertEqual(process.wait(timeout=60), DONE)
        os.close(parent)
        self.assertRegex(shown.decode(), r"\[#*\.*\] \d+/\d+")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-80:])


class Files(Case):
    """compare and merge, on results that are changed by hand."""

    @classmethod
    def setUpClass(cls):
        folder = Path(tempfile.mkdtemp(prefix="test_bench."))
        cls.addClassCleanup(shutil.rmtree, folder)
        call(*QUICK, "--scenario", "latency,throughput,concurrency", "--batches", "1,2", "--callers", "1,2", "--threads",
             "1", "--contexts", "1", "--quiet", "--json", folder / "base.json")
        cls.base = json.loads((folder / "base.json").read_text())
        for row in cls.base["runs"][0]["rows"]:  # steadier than any machine
            row["invalid"] = []
            row["latency_ms"]["repeats"] = [10.0, 10.1, 9.9]
            row["throughput"]["repeats"] = [100.0, 101.0, 99.0]
            row["throughput"]["value"] = 100.0

    def changed(self, factor=1.0, scenario=None, **keywords):
        """A copy that takes `factor` times as long."""
        document = copy.deepcopy(self.base)
        for row in document["runs"][0]["rows"]:
            if scenario in (None, row["scenario"]):
                row["latency_ms"]["repeats"] = [v * factor for v in row["latency_ms"]["repeats"]]
                row["throughput"]["repeats"] = [v / factor for v in row["throughput"]["repeats"]]
                row["throughput"]["value"] /= factor
                row.update(keywords)
        return document

    def compare(self, fresh, *arguments, base=None):
        done = call("compare", self.write("base.json", base or self.base), self.write("new.json", fresh), *arguments,
                    "--json", self.directory / "out.json")
        result = self.directory / "out.json"
        return done, json.loads(result.read_text()) if result.exists() else None

    def test_same(self):
        done, result = self.compare(self.base)
        self.expect(done, DONE, lines=0)
        self.assertEqual((result["compared"], result["regressions"]), (5, 0))
        self.assertEqual({row["verdict"] for row in result["rows"]}, {"same"})

    def test_regression(self):
        done, result = self.compare(self.changed(1.2), "--max-regress", "5%")
        self.expect(done, REGRESSION, "5 regressions of more than 5.0 %", lines=1)
        self.assertEqual({row["verdict"] for row in result["rows"]}, {"worse"})
        self.assertIn("+20.0 %", done.stdout)
        done, result = self.compare(self.changed(1.2, "latency"))
        self.expect(done, REGRESSION, "1 regression of", lines=1)
        self.assertEqual([row["verdict"] for row in result["rows"]].count("worse"), 1)

    def test_within_the_limit_and_better(self):
        self.expect(self.compare(self.changed(1.2), "--max-regress", "25%")[0], DONE)
        self.expect(self.compare(self.changed(1.04))[0], DONE)
        done, result = self.compare(self.changed(0.5))
        self.expect(done, DONE, lines=0)
        self.assertEqual({row["verdict"] for row in result["rows"]}, {"better"})

    def test_spread_makes_uncertain(self):
        noisy = self.changed(1.2)
        for row in noisy["runs"][0]["rows"]:
            row["latency_ms"]["repeats"][2] = 9.95
            row["throughput"]["repeats"][2] = 100.5
        done, result = self.compare(noisy)
        self.expect(done, DONE, lines=0)
        self.assertEqual(({row["verdict"] for row in result["rows"]}, result["uncertain"]), ({"uncertain"}, 5))

    def test_unlike_things_are_not_compared(self):
        for change in ({"input": [96, 96]}, {"batch": 77}, {"precision": "fp16"}, {"threads": 9},
                       {"inputs": {**self.base["runs"][0]["rows"][0]["inputs"], "size": [5, 5]}}):
            done, result = self.compare(self.changed(2, **change))
            self.expect(done, FAILED, "nothing to compare", lines=1)
            self.assertLessEqual({row["verdict"] for row in result["rows"]}, {"only in the base", "only in the new"})
        done, result = self.compare(self.changed(2, invalid=["throttled"]))
        self.expect(done, FAILED, "nothing to compare", lines=1)
        self.assertEqual({row["verdict"] for row in result["rows"]}, {"not valid in both"})

    def test_unlike_runs_are_refused(self):
        other = copy.deepcopy(self.base)
        other["runs"][0]["environment"]["cpu"]["model"] = "another CPU"
        self.expect(self.compare(other)[0], FAILED, "unlike devices", lines=1)
        other = copy.deepcopy(self.base)
        other["runs"][0]["model"]["variant"] = "another"
        self.expect(self.compare(other)[0], FAILED, "unlike models", lines=1)
        twice = copy.deepcopy(self.base)
        twice["runs"] *= 2
        self.expect(self.compare(twice)[0], FAILED, "2 runs", lines=1)

    def test_files_that_are_no_results(self):
        good = self.write("good.json", self.base)
        broken = [b"", b"{", b"[]", b"{}", b'{"schema": "detect-bench"}', b'{"schema": "detect-bench", "version": 2}',
                  b'{"schema": "detect-bench", "version": 1}', b'{"schema": "detect-bench", "version": 1, "runs": []}',
                  b'{"schema": "detect-bench", "version": 1, "runs": [1]}', b'{"a": 1, "a": 2}', b"\xff\xfe"]
        for i, data in enumerate(broken):
            bad = self.write(f"bad{i}.json", data)
            for arguments in (["compare", good, bad], ["compare", bad, good], ["merge", good, bad], ["merge", bad]):
                with self.subTest(data=data, arguments=arguments[0]):
                    done = call(*arguments)
                    self.expect(done, FAILED, f"bad{i}.json: ", lines=1)
                    self.assertEqual(done.stdout, "")
        self.expect(call("merge", "no such file"), FAILED, "no such file: cannot open", lines=1)

    def test_rows_of_any_shape_do_no_harm(self):
        for rows in ([1], [{}], [None], [{"scenario": "latency"}], [{"scenario": "latency", "latency_ms": 5, "input": 3}],
                     [{"scenario": 5, "status": [], "notes": 7, "invalid": [1], "throughput": {"repeats": ["x"]}}],
                     [{"scenario": "stages", "stages": {"alone": 1, "pipeline": {}}}],
                     [{"scenario": "layers", "layers": [1, {}], "roof": []}],
                     [{"scenario": "throughput", "status": "ok", "throughput": {"value": 1}, "latency_ms": {"p50": 1}}]):
            odd = {"schema": "detect-bench", "version": 1, "runs": [{"environment": {}, "model": {}, "rows": rows}]}
            path = self.write("odd.json", odd)
            done = call("merge", path, path, "--html", self.directory / "o.html", "--csv", self.directory / "o.csv",
                        "--markdown", self.directory / "o.md")
            self.expect(done, DONE, lines=0)
            self.assertIn(call("compare", path, path).returncode, (DONE, FAILED))

    def test_merge(self):
        first, second = self.changed(1), self.changed(0.6, threads=2)
        second["runs"][0]["label"] = "two threads"
        done = call("merge", self.write("a.json", first), self.write("b.json", second), "--json", self.directory / "all.json")
        self.expect(done, DONE, lines=0)
        merged = json.loads((self.directory / "all.json").read_text())
        self.assertEqual(problems(merged, SCHEMA), [])
        self.assertEqual(len(merged["runs"]), 2)
        self.assertIn("two threads", done.stdout)
        found = {(entry["scenario"], entry["units"]): entry for entry in merged["scaling"]}
        self.assertAlmostEqual(found["throughput", 2]["scaling"], 1 / 0.6, places=4)
        self.assertAlmostEqual(found["throughput", 2]["efficiency"], 1 / 1.2, places=4)
        self.assertEqual(found["throughput", 1]["efficiency"], 1)
        again = call("merge", self.directory / "all.json", "--json", "-")
        self.assertEqual(json.loads(again.stdout)["runs"], merged["runs"])
        self.assertEqual(len(json.loads(again.stdout)["scaling"]), len(merged["scaling"]))

    def test_no_scaling_between_unlike_runs(self):
        for change in (lambda run: run["environment"]["cpu"].update(model="another CPU"),
                       lambda run: run["model"].update(sha256="0" * 64),
                       lambda run: [row.update(input=[32, 32]) for row in run["rows"]],
                       lambda run: [row.update(invalid=["throttled"]) for row in run["rows"]]):
            other = self.changed(0.6, threads=2)
            change(other["runs"][0])
            done = call("merge", self.write("a.json", self.base), self.write("b.json", other), "--json", "-")
            self.assertEqual(json.loads(done.stdout)["scaling"], [])


if __name__ == "__main__":
    sys.exit(unittest.main())
