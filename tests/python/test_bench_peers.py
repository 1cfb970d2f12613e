"""The benchmark's arithmetic, tables and decoding; nothing is timed, and no peer is needed."""

import importlib.util
import itertools
import json
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence, Tuple
from unittest import mock

import numpy as np
import support  # noqa: F401  puts libdetect on the path

from libdetect import bench_boxes, bench_peers, bench_report


def summary(*blocks: List[float]) -> Dict[str, Any]:
    return bench_report.summary(blocks)


def row(name: str = "net", threads: int = 1, **network: List[List[float]]) -> Dict[str, Any]:
    """A row of results in which everything takes as long as the network."""
    times = {
        peer.replace("_", "-"): {part: bench_report.summary(blocks) for part in ("before", "network", "after", "total")}
        for peer, blocks in network.items()
    }
    agreed = {peer: 9 for peer in times if peer != "libdetect"}
    return {
        "network": name, "threads": threads, "input": [640, 640], "macs": 4e9, "boxes": 10, "agreed": agreed,
        "absent": {}, "others": 0.25, "times": times,
    }  # fmt: skip


def result(*rows: Dict[str, Any]) -> Dict[str, Any]:
    cpu = {"model": "A CPU", "family": "6/1/2", "cores": 2, "usable": 1, "flags": ["avx2"], "virtual": True}
    environment = {
        "date": "2030-01-02 03:04 UTC", "cpu": cpu, "kernel": "6.1", "python": "3.11", "libdetect": "0.1.0",
        "packages": {"ncnn": "1.0"}, "export": {"seed": 1, "versions": {"torch": "2.0", "onnx": None}},
        "load": 0.125, "openmp": {},
    }  # fmt: skip
    return {"environment": environment, "plan": {"repeats": 2, "seconds": 0.5, "least": 3}, "rows": list(rows)}


class Arithmetic(unittest.TestCase):
    def test_quantile(self) -> None:
        self.assertEqual(bench_report.quantile([3.0], 0.9), 3.0)
        self.assertEqual(bench_report.quantile([4.0, 1.0, 2.0, 3.0], 0.5), 2.5)
        self.assertEqual(bench_report.quantile([5, 1, 3], 0.5), 3)
        self.assertEqual(bench_report.quantile(range(11), 0.1), 1)
        self.assertEqual(bench_report.quantile(range(11), 1.0), 10)
        values = np.random.default_rng(0).random(37)
        for part in (0.0, 0.1, 0.37, 0.5, 0.9, 1.0):
            self.assertAlmostEqual(bench_report.quantile(values, part), float(np.quantile(values, part)), places=12)
        with self.assertRaises(ValueError):
            bench_report.quantile([], 0.5)

    def test_summary(self) -> None:
        found = summary([1.0, 2.0, 9.0], [3.0, 4.0])
        self.assertEqual((found["n"], found["min"], found["median"]), (5, 1.0, 3.0))
        self.assertEqual(found["blocks"], [2.0, 3.5])
        self.assertEqual((found["p10"], found["p90"]), (1.4, 7.0))

    def test_ratio_pairs_the_blocks(self) -> None:
        # The machine slows down to half for one block: the ratio must not notice.
        found = bench_report.ratio(summary([3.0], [6.0], [3.0]), summary([2.0], [4.0], [2.0]))
        self.assertEqual(found, {"median": 1.5, "low": 1.5, "high": 1.5})
        found = bench_report.ratio(summary([1.0], [2.0], [4.0]), summary([2.0], [2.0], [2.0]))
        self.assertEqual(found, {"median": 1.0, "low": 0.5, "high": 2.0})


class Report(unittest.TestCase):
    def test_tables(self) -> None:
        text = bench_report.render(
            [
                result(
                    row("big", 2, libdetect=[[100.0, 200.0]], ncnn=[[300.0]]),
                    row("small", 1, libdetect=[[2.0], [4.0]], ncnn=[[3.0], [6.0]], openvino=[[1.0], [2.0]]),
                )
            ]
        )
        self.assertIn("### A CPU\n", text)
        self.assertIn("1 of 2 cores usable, a virtual machine", text)
        self.assertIn("libdetect 0.1.0, Python 3.11, ncnn 1.0", text)
        self.assertIn("exported with torch 2.0; seed 1", text)
        self.assertIn(
            "2 blocks of 0.5 s and at least 3 pictures for each library; load average before the start 0.12", text
        )
        self.assertIn("| network | threads | libdetect | ncnn | openvino |", text)
        self.assertIn("| small | 1 | 3.0 (2.2-3.8) | 4.5 (3.3-5.7) | 1.5 (1.1-1.9) |", text)
        self.assertIn("| big | 2 | 150 (110-190) | 300 (300-300) |  |", text)
        ratios = "1.50 (1.50-1.50) | 0.50 (0.50-0.50)"
        self.assertIn(f"| small | 1 | {ratios} | {ratios} |", text)
        self.assertIn("| big | 2 | 2.00 (2.00-2.00) |  | 2.00 (2.00-2.00) |  |", text)
        self.assertIn("| small | 1 | 640x640 | 4.00 | 1333.3 | 9 of 10 | 2-2 | 0.25 |", text)
        self.assertLess(text.index("| small | 1 |"), text.index("| big | 2 |"))
        for table in (line for line in text.splitlines() if line.startswith("|")):
            self.assertTrue(table.endswith("|"))
        self.assertNotIn("Failed", text)

    def test_failed_networks_are_named(self) -> None:
        failed = [{"network": "big", "threads": 2, "reason": "out of memory"}]
        text = bench_report.render([{**result(row(libdetect=[[1.0]])), "failed": failed}])
        self.assertIn("- Failed, by network and threads: big on 2: out of memory\n", text)

    def test_line(self) -> None:
        line = bench_report.line(row("net", 2, libdetect=[[2.0]], ncnn=[[3.0]]))
        self.assertIn("2 threads", line)
        self.assertIn("ncnn 3.0 / 3.0 (x1.50 / x1.50)", line)

    def test_into_a_document(self) -> None:
        page = f"before\n{bench_report.BEGIN}\nold\n{bench_report.END}\nafter\n"
        self.assertEqual(
            bench_report.insert(page, "new"), f"before\n{bench_report.BEGIN}\n\nnew\n{bench_report.END}\nafter\n"
        )
        for broken in ("", bench_report.BEGIN, f"{bench_report.END}{bench_report.BEGIN}"):
            with self.assertRaises(ValueError):
                bench_report.insert(broken, "new")
        with tempfile.TemporaryDirectory() as folder:
            results, document = Path(folder, "r.json"), Path(folder, "d.md")
            results.write_text(json.dumps(result(row(libdetect=[[1.0]], ncnn=[[2.0]]))), encoding="utf-8")
            document.write_text(page, encoding="utf-8")
            self.assertEqual(bench_report.main([str(results), "--into", str(document)]), 0)
            text = document.read_text(encoding="utf-8")
            self.assertTrue(text.startswith("before\n") and text.endswith("after\n") and "| net | 1 |" in text)
            with redirect_stdout(StringIO()) as out:
                self.assertEqual(bench_report.main([str(results)]), 0)
            self.assertIn("| net | 1 |", out.getvalue())

    def test_the_document_shows_the_committed_results(self) -> None:
        docs = support.ROOT / "docs"
        text = (docs / "performance.md").read_text(encoding="utf-8")
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((docs / "results").glob("*.json"))]
        self.assertEqual(text, bench_report.insert(text, bench_report.render(found)))


class Agreement(unittest.TestCase):
    def test_counts_boxes_that_both_have(self) -> None:
        boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 40], [50, 50, 60, 60]], np.float32)
        ours = bench_boxes.Found(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1]))
        self.assertEqual(bench_peers.agreement(ours, ours), 3)
        moved = bench_boxes.Found(boxes + [[0.1] * 4, [5.0] * 4, [0] * 4], ours.scores, ours.classes)
        self.assertEqual(bench_peers.agreement(ours, moved), 2)
        self.assertEqual(bench_peers.agreement(ours, bench_boxes.Found(boxes, ours.scores - 0.02, ours.classes)), 0)
        self.assertEqual(bench_peers.agreement(ours, bench_boxes.Found(boxes, ours.scores, 1 - ours.classes)), 0)
        none = bench_boxes.Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
        self.assertEqual((bench_peers.agreement(ours, none), bench_peers.agreement(none, ours)), (0, 0))


class Decoding(unittest.TestCase):
    """The peers' decoding, on maps in which one prior passes."""

    def heads(self, *channels: int, fill: float = -9.0) -> List[Any]:
        return [np.full((c, 64 // stride, 64 // stride), fill, np.float32) for stride in (8, 16, 32) for c in channels]

    def info(self, family: str, **other: Any) -> SimpleNamespace:
        return SimpleNamespace(**{"family": family, "score_threshold": 0.5, "multi_label": False, **other})

    def test_faces(self) -> None:
        heads = self.heads(2, 8, 20)
        heads[3][1, 2, 3] = 2.0  # stride 16, second anchor, row 2, column 3
        heads[4][4:, 2, 3] = [0.5, 1.0, 1.5, 2.0]
        expected = [[48 - 8, 32 - 16, 48 + 24, 32 + 32]]
        boxes, scores, classes = bench_boxes.decode(heads, self.info("damofd"), (64, 64))
        np.testing.assert_allclose(boxes, expected)
        np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2.0))], rtol=1e-6)
        self.assertEqual(classes.tolist(), [0])
        flat = [
            head.reshape(2, -1, *head.shape[1:]).transpose(2, 3, 0, 1).reshape(-1, head.shape[0] // 2) for head in heads
        ]
        for level in range(3):
            flat[3 * level] = bench_boxes.sigmoid(flat[3 * level])
        by_kind = [flat[3 * level + kind] for kind in range(3) for level in range(3)]
        boxes, flat_scores, _ = bench_boxes.decode(by_kind, self.info("scrfd"), (64, 64))
        np.testing.assert_allclose(boxes, expected)
        np.testing.assert_allclose(flat_scores, scores)

    def test_distributions(self) -> None:
        for family, bins, offset in (("yolov8", 16, 0.5), ("damo-yolo", 8, 0.0)):
            heads = self.heads(4 * bins, 3, fill=-50.0)
            heads[1][[0, 2], 1, 4] = [1.0, 3.0]
            sides = heads[0].reshape(4, bins, 8, 8)
            for side, peak in enumerate((1, 2, 3, 4)):
                sides[side, peak, 1, 4] = 0.0
            centre = (4 + offset) * 8, (1 + offset) * 8
            expected = [centre[0] - 8, centre[1] - 16, centre[0] + 24, centre[1] + 32]
            boxes, scores, classes = bench_boxes.decode(heads, self.info(family), (64, 64))
            np.testing.assert_allclose(boxes, [expected], rtol=1e-5)
            self.assertEqual(classes.tolist(), [2])
            np.testing.assert_allclose(scores, bench_boxes.sigmoid(np.float32([3.0])), rtol=1e-6)
            _, _, classes = bench_boxes.decode(heads, self.info(family, multi_label=True), (64, 64))
            self.assertEqual(sorted(classes.tolist()), [0, 2])

    def test_anchors(self) -> None:
        heads = self.heads(3 * 7)
        cell = heads[2].reshape(3, 7, 2, 2)[1, :, 1, 0]  # stride 32, second anchor: 156 x 198
        cell[:] = [0, 0, 0, 0, 5, -5, 5]
        boxes, scores, classes = bench_boxes.decode(heads, self.info("yolov5"), (64, 64))
        np.testing.assert_allclose(boxes, [[16 - 78, 48 - 99, 16 + 78, 48 + 99]], rtol=1e-5)
        self.assertEqual(classes.tolist(), [1])
        np.testing.assert_allclose(scores, bench_boxes.sigmoid(np.float32([5.0])) ** 2, rtol=1e-5)

    def test_nothing_passes(self) -> None:
        for family, channels in (("damofd", (2, 8, 20)), ("yolov8", (64, 3)), ("yolov5", (21,))):
            boxes, scores, _ = bench_boxes.decode(self.heads(*channels), self.info(family), (64, 64))
            self.assertEqual((boxes.shape, scores.shape), ((0, 4), (0,)))


class Tensors:
    """As much of torch and tensorrt as the TensorRT peer asks for; what happens is written down."""

    def __init__(self, parses: bool = True) -> None:
        self.log: List[str] = []
        self.memory: Dict[int, Any] = {}
        self.flags: List[str] = []
        log, memory, flags = self.log, self.memory, self.flags

        class Tensor:
            def __init__(self, values: Any) -> None:
                self.values = values
                memory[id(self)] = self

            def copy_(self, other: Any) -> None:
                log.append("upload")
                self.values[:] = other

            def data_ptr(self) -> int:
                return id(self)

            def cpu(self) -> "Tensor":
                log.append("download")
                return self

            def numpy(self) -> Any:
                return self.values

        class Context:
            def __init__(self) -> None:
                self.places: Dict[str, int] = {}

            def set_tensor_address(self, name: str, place: int) -> None:
                self.places[name] = place

            def execute_async_v3(self, _: int) -> bool:
                log.append("run")
                for factor, name in enumerate(("out0", "out1"), 2):
                    memory[self.places[name]].values[:] = factor * memory[self.places["images"]].values.mean()
                return True

        stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: log.append("wait"))
        self.torch = SimpleNamespace(
            float32=np.float32,
            from_numpy=lambda x: x,
            empty=lambda shape, dtype, device: Tensor(np.zeros(shape, dtype)),
            cuda=SimpleNamespace(is_available=lambda: True, Stream=lambda: stream, synchronize=lambda: log.append("wait")),
        )
        shapes = {"images": (1, 3, 4, 4), "out0": (1, 2, 2, 2), "out1": (1, 5, 1, 1)}
        outputs = ["out0", "out1"]
        net = SimpleNamespace(
            num_outputs=2,
            get_input=lambda _: SimpleNamespace(name="images"),
            get_output=lambda i: SimpleNamespace(name=outputs[i]),
        )
        engine = SimpleNamespace(create_execution_context=Context, get_tensor_shape=shapes.__getitem__)
        self.tensorrt = SimpleNamespace(
            Logger=type("Logger", (), {"ERROR": 0, "__init__": lambda self, level: None}),
            BuilderFlag=SimpleNamespace(TF32="tf32", FP16="fp16"),
            Builder=lambda logger: SimpleNamespace(
                create_network=lambda flags: net,
                create_builder_config=lambda: SimpleNamespace(
                    set_flag=lambda flag: flags.append(f"+{flag}"), clear_flag=lambda flag: flags.append(f"-{flag}")
                ),
                build_serialized_network=lambda network, config: b"plan",
            ),
            OnnxParser=lambda network, logger: SimpleNamespace(
                parse_from_file=lambda path: parses, get_error=lambda i: "no such operator"
            ),
            Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        )

    def modules(self) -> Any:
        return mock.patch.dict(sys.modules, {"torch": self.torch, "tensorrt": self.tensorrt})


class Peers(unittest.TestCase):
    def test_what_counts_to_which_part(self) -> None:
        order: List[str] = []
        network = bench_peers.Network(
            run=lambda x: order.append("run") or x,  # type: ignore[func-returns-value]
            upload=lambda x: order.append("upload") or x,  # type: ignore[func-returns-value]
            download=lambda maps: order.append("download") or [],  # type: ignore[func-returns-value]
        )
        info = SimpleNamespace(input_size=(64, 64), resize="stretch", pad_value=0, mean=0, scale=1)
        with mock.patch.object(bench_peers, "prepare", lambda *_: (order.append("prepare"), None)), mock.patch.object(
            bench_peers, "finish", lambda *_: order.append("finish")
        ):
            _, times = bench_peers.Theirs(info, network).detect(np.zeros((4, 4, 3), np.uint8))
        self.assertEqual(order, ["prepare", "upload", "run", "download", "finish"])
        self.assertAlmostEqual(times.total, times.before + times.network + times.after, places=6)

    def test_tensorrt_waits_for_its_results(self) -> None:
        for half in (False, True):
            fake = Tensors()
            with fake.modules():
                network = bench_peers.tensorrt(Path("net"), 1, half=half)
            self.assertEqual(fake.flags, ["-tf32"] + ["+fp16"] * half)
            maps = network.run(network.upload(np.full((1, 3, 4, 4), 3, np.float32)))
            self.assertEqual(fake.log, ["upload", "wait", "run", "wait"])
            heads = network.download(maps)
            self.assertEqual([head.shape for head in heads], [(2, 2, 2), (5, 1, 1)])
            self.assertEqual([head.max() for head in heads], [6, 9])
        fake = Tensors(parses=False)
        with fake.modules(), self.assertRaisesRegex(RuntimeError, "no such operator"):
            bench_peers.tensorrt(Path("net"), 1)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
    def test_pytorch(self) -> None:
        import torch

        with tempfile.TemporaryDirectory() as folder:
            layer = torch.nn.Conv2d(3, 2, 3, padding=1).eval()
            torch.jit.trace(layer, torch.zeros(1, 3, 8, 8)).save(f"{folder}/net.torchscript")
            network = bench_peers.pytorch(Path(folder, "net"), 1)
            x = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
            with torch.no_grad():
                expected = layer(torch.from_numpy(x))[0].numpy()
        maps = network.run(network.upload(x))
        heads = network.download(maps if isinstance(maps, (tuple, list)) else [maps])
        np.testing.assert_allclose(heads[0], expected, rtol=1e-4, atol=1e-5)

    def test_default_is_what_is_installed(self) -> None:
        there = {"ncnn", "torch"}
        with mock.patch.object(importlib.util, "find_spec", lambda name: name in there or None):
            self.assertEqual(bench_peers.default_peers("cpu"), ["ncnn", "pytorch"])
            self.assertEqual(bench_peers.default_peers("cuda"), ["pytorch-cuda"])
            there.add("tensorrt")
            self.assertEqual(bench_peers.default_peers("cuda"), ["pytorch-cuda", "tensorrt"])
        for peers in bench_peers.DEFAULT_PEERS.values():
            self.assertLessEqual(set(peers), set(bench_peers.PEERS))


class Command(unittest.TestCase):
    def test_pictures(self) -> None:
        first, second = bench_boxes.pictures(2)
        self.assertEqual((first.shape, first.dtype), ((720, 1280, 3), np.uint8))
        self.assertGreater(first.std(), 40)
        self.assertTrue((first != second).any())
        np.testing.assert_array_equal(bench_boxes.pictures(1)[0], first)

    def test_block_and_turns(self) -> None:
        calls: List[str] = []

        class Fake(bench_peers.Peer):
            def __init__(self, name: str, total: float) -> None:
                self.name, self.total = name, total

            def detect(self, picture: Any) -> Any:  # noqa: ARG002
                calls.append(self.name)
                return None, bench_peers.Times(1.0, 2.0, 3.0, self.total)

        plan = bench_peers.Plan(repeats=2, seconds=0.5, least=2, settle=0.0)
        peers = {"a": Fake("a", 6.0), "b": Fake("b", 600.0)}  # b is slower than a block is long
        with mock.patch.object(bench_peers.time, "perf_counter", itertools.count().__next__):
            found = bench_peers.measure(peers, [0, 1, 2], plan)
        self.assertEqual("".join(calls), "aaaabbb" + "bbbaaaa")
        self.assertEqual(found["b"]["network"]["blocks"], [2.0, 2.0])
        self.assertEqual((found["a"]["total"]["n"], found["a"]["total"]["median"]), (4, 6.0))

    def test_arguments(self) -> None:
        given = bench_peers._parser().parse_args(["--models", "m", "--peers", "openvino,ncnn", "--threads", "1,2"])
        self.assertEqual((given.peers, given.threads), (["openvino", "ncnn"], [1, 2]))
        self.assertIsNone(bench_peers._parser().parse_args(["--models", "m"]).peers)
        for wrong in (["--peers", "tensorflow"], ["--threads", "one"], ["--device", "tpu"], []):
            with self.assertRaises(SystemExit), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                bench_peers._parser().parse_args((["--models", "m"] if wrong else []) + wrong)

    def run_all(
        self, folder: Path, failing: Sequence[Any], *more: str, agreed: int = 10
    ) -> Tuple[int, List[Any], str]:
        """The command over two networks and two thread counts. Its status, the rows that it took, and what it said."""
        taken: List[Any] = []

        def take(name: str, threads: int, **_: Any) -> Dict[str, Any]:
            if (name, threads) in failing:
                raise RuntimeError("out of memory\nand more")
            taken.append((name, threads))
            return {**row(name, threads, libdetect=[[1.0]], ncnn=[[2.0]]), "agreed": {"ncnn": agreed}}

        for name in ("a", "b"):
            (folder / f"{name}.safetensors").touch()
        found = {"cpu": {"model": "A CPU"}, "date": f"day {len(more)}", "load": 0.0, "mhz": str(len(more))}
        command = ["--models", str(folder), "--peers", "ncnn", "--threads", "1,2", "--out", str(folder / "r.json")]
        with mock.patch.object(bench_peers, "row", take), mock.patch.object(
            bench_peers, "environment", lambda _: found
        ), redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
            return bench_peers.main(command + list(more)), taken, said.getvalue()

    def test_goes_on_after_a_failure_and_later(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            status, taken, said = self.run_all(folder, [("a", 2)])
            self.assertEqual((status, taken), (1, [("a", 1), ("b", 1), ("b", 2)]))
            self.assertIn("a failed: out of memory\n", said)
            status, taken, said = self.run_all(folder, [], "--resume", agreed=9)
            self.assertEqual((status, taken), (1, [("a", 2)]))
            self.assertIn("a: ncnn has 9 of 10 boxes\n", said)
            self.assertEqual(self.run_all(folder, [], "--resume")[:2], (0, [("a", 2)]))
            content = json.loads((folder / "r.json").read_text(encoding="utf-8"))
            self.assertEqual((len(content["rows"]), content["failed"]), (4, []))
            self.assertEqual(content["environment"]["date"], "day 0")
            self.assertEqual(self.run_all(folder, [], "--resume")[:2], (0, []))
            with self.assertRaises(SystemExit):
                self.run_all(folder, [], "--resume", "--least", "3")
            self.assertEqual(len(self.run_all(folder, [])[1]), 4)
            self.assertEqual({path.name for path in folder.iterdir()}, {"a.safetensors", "b.safetensors", "r.json"})


if __name__ == "__main__":
    unittest.main()
