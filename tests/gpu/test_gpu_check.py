"""scripts/gpu-check on the fake device: test_gpu_check.py BUILD EMULATED_MODULE

It must get through, keep what it has found when the time runs out, and say what failed or could not be shown. nvidia-smi and
the programs are scripts here, but for one network's speed."""
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
MODULE = Path(sys.argv.pop())
BUILD = Path(sys.argv.pop())
SMI = """#!/bin/sh
case "$*" in *compute-apps*) ;; *) echo "NVIDIA H200, 1.0, 9.0, 1 MiB, 1 MHz, 1 MHz, 1 W, Enabled, GPU-0" ;; esac
"""
WELL = "#!/bin/sh\necho fine\n"
GPU_TEST = """#!/bin/sh
case "$1" in
--cycles) echo "cycles: 70 contexts made and destroyed in $2.0 s, device memory 0 KiB more, host memory 4 KiB more" ;;
*) echo "trace: 105 checks, 0 failed" ;;
esac
"""
ROW = {"family": "damofd", "variant": "0.5g-kps", "precision": "fp16", "tuned": False, "width": 640, "height": 480, "batch": 64,
       "runs": 9, "objects": 98.0, "median_ms": 4.0, "p99_ms": 5.0, "pictures_per_second": 16000.0, "create_s": 1.5,
       "one_picture_ms": 0.5, "same_bytes": True, "roof_ms": 1.0, "copy_gbs": 4300.0, "peak_tflops": 989.0, "gmac": 0.55}


def speed_script(row):
    """A row for every batch that is asked for."""
    text = json.dumps(dict(row, batch="@")).replace('"@"', "'$batch'")
    return f"#!/bin/sh\nfor batch in $(echo $3 | tr , ' '); do echo '{text}'; done\n"


def load():
    loader = importlib.machinery.SourceFileLoader("gpu_check", str(ROOT / "scripts" / "gpu-check"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
    loader.exec_module(module)
    return module


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.programs = self.root / "programs"
        self.programs.mkdir()
        self.check = load()
        for name in ("ops_test", "golden_test", "cudnn_device", "serving_contexts_test", "serving_speed", "compute-sanitizer"):
            self.script(name, WELL)
        self.script("gpu_test", GPU_TEST)
        self.script("gpu_speed", speed_script(ROW))
        self.script("nvidia-smi", SMI)
        variables = {"PATH": f"{self.programs}:{os.environ['PATH']}", "LIBDETECT_CUDA_MODULE": str(MODULE),
                     "LIBDETECT_LIBRARY": str(BUILD / "emulated" / "libdetect.so.0"), "DET_GOLDEN": str(self.root / "golden")}
        self.patch(mock.patch.dict(os.environ, variables))
        # These take long: pictures through the emulated networks, and weights for every network.
        self.golden, self.photographs, self.pytorch = self.check.golden, self.check.photographs, self.check.pytorch
        self.replace("golden", lambda check, which, network, precisions: (f"network-{network}", 20, self.programs / "golden_test"))
        for name in ("photographs", "pytorch"):
            self.replace(name, lambda check: None)
        self.patch(mock.patch.object(self.check.Models, "get", lambda models, name: self.root / name))
        manifest = self.root / "golden" / "yolov8n" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")

    def patch(self, patcher):
        patcher.start()
        self.addCleanup(patcher.stop)

    def replace(self, name, function):
        """A step, where it is listed too."""
        old = getattr(self.check, name)
        self.check.STEPS = tuple((part, function if step is old else step, models) for part, step, models in self.check.STEPS)
        setattr(self.check, name, function)

    def script(self, name, text):
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def run_check(self, *options):
        """Exit status and what was written down."""
        self.out = self.root / "out"
        words = ["gpu-check", str(self.out), "--programs", str(self.programs), "--minutes", "1", *options]
        with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()) as said:
            status = self.check.main()
        self.said = said.getvalue()
        self.assertLessEqual({file.name for file in self.out.iterdir()},
                             {"gpu-check.json", "gpu-check.md", "gpu-check.log", "cudnn-device.json"})
        found = json.loads((self.out / "gpu-check.json").read_text())
        self.results = {step["step"]: step["result"] for step in found["steps"]}
        return status, found

    def test_all_is_well(self):
        status, found = self.run_check("--commit", "abc1234")
        self.assertEqual(status, 0, self.said)
        self.assertEqual(set(self.results.values()), {"passed"})
        names = list(self.results)
        order = ("operators-fp16", "speed-damofd-0.5g-kps-640x480-fp16-layers", "backend", "cycles", "sanitizer-memcheck",
                 "speed-yolov8n-640x640-fp16-tune", "speed-yolov8n-640x640-tf32")
        self.assertEqual(sorted(order, key=names.index), list(order))
        self.assertEqual(found["environment"]["commit"], "abc1234")
        self.assertEqual(found["cycles"][:40], "70 contexts made and destroyed in 30.0 s")
        self.assertIn(found["cycles"], (self.out / "gpu-check.md").read_text())
        self.assertRegex(self.said.splitlines()[-1], r"steps: \d+ passed, 0 failed, 0 skipped, 0 cut off, 0 left out, 0 no data; ")
        self.assertIn("network-damo-yolo-l", names)
        self.assertEqual((self.out / "cudnn-device.json").read_text(), "fine\n")

    def test_report(self):
        self.run_check("--only", "speed")
        text = (self.out / "gpu-check.md").read_text()
        # 16,000 pictures a second, of which 64 take 1 ms at the least
        self.assertIn("| damofd 0.5g-kps 640x480 | fp16 | 4.000 / 5.000 | 16,000 | 16,000 | 25% | 0.500 | 1.50 | 98 / 98 / 98 | yes |", text)
        self.assertIn("4,300 GB/s", text)

    def test_parts(self):
        self.run_check("--only", "tests")
        self.assertFalse([name for name in self.results if name.startswith(("speed", "pool-"))])
        tests = set(self.results)
        self.run_check("--only", "speed")
        self.assertTrue(self.results)
        self.assertFalse(tests & set(self.results))

    def test_commands(self):
        """What programs are asked for."""
        said = self.root / "said"
        for name in ("gpu_speed", "compute-sanitizer"):
            self.script(name, f'#!/bin/sh\necho "{name} $*" >>{said}\n')
        self.run_check()
        commands = said.read_text()
        self.assertIn("damofd-0.5g-kps fp16 1,64,8 0.5 640x480 peak=989 layers\n", commands)
        self.assertIn("yolov8n tf32 1,64 0.5 640x640 peak=494\n", commands)
        self.assertRegex(commands, "compute-sanitizer --tool racecheck .*ops_test --device cuda --precision fp16 --skip conv2d\n")
        step = [str(part) for part in self.golden(mock.Mock(), "own", "damo-yolo-s", "fp16,fp32")]
        self.assertEqual(step[-5:], ["--device", "cuda", "--precisions", "fp16,fp32", "damo-yolo-s"])

    def test_unknown_chip(self):
        self.script("nvidia-smi", SMI.replace("H200", "T4"))
        said = self.root / "said"
        self.script("gpu_speed", f'#!/bin/sh\necho "$*" >>{said}\n')
        self.run_check("--only", "speed")
        self.assertNotIn("peak", said.read_text())

    def test_what_fails_or_hangs_is_said(self):
        self.script("ops_test", "#!/bin/sh\necho half of it; exit 3\n")
        self.script("gpu_test", "#!/bin/sh\necho begun; exec sleep 100\n")
        status, _ = self.run_check("--minutes", "0.1")
        self.assertEqual(status, 1)
        self.assertEqual(self.results["operators-fp16"], "failed (3)")
        self.assertEqual(self.results["backend"], "cut off")
        self.assertEqual(self.results["cycles"], "left out: no time")
        log = (self.out / "gpu-check.log").read_text()
        self.assertIn("half of it", log)
        self.assertIn("begun", log)

    def test_rows_of_what_was_cut_off_are_kept(self):
        self.script("gpu_speed", f"#!/bin/sh\necho '{json.dumps(ROW)}'\necho '{{\"family'\nexec sleep 100\n")
        status, found = self.run_check("--only", "speed", "--minutes", "0.05")
        self.assertEqual((status, self.results["speed-damofd-0.5g-kps-640x480-fp16-layers"]), (1, "cut off"))
        self.assertEqual(len(found["speed"]), 1)

    def test_missing_is_no_success(self):
        (self.programs / "compute-sanitizer").unlink()
        os.environ["PATH"] = f"{self.programs}:/usr/bin:/bin"
        with mock.patch.object(self.check, "nvcc_path", lambda: "/nowhere/nvcc"), \
                mock.patch.object(self.check.shutil, "which", lambda name: None if "sanitizer" in name else "/usr/bin/" + Path(name).name):
            status, _ = self.run_check("--only", "tests")
            self.assertEqual((status, self.results["sanitizer-memcheck"]), (1, "skipped"), self.said)
            status, _ = self.run_check("--only", "tests", "--allow-missing")
            self.assertEqual((status, self.results["sanitizer-memcheck"]), (0, "skipped"))

    def test_what_a_test_could_not_show_is_missing(self):
        for text, missing in (("SKIP trace: no CUPTI\ntrace: 0 checks, 0 failed", "backend-trace"), ("gpu: 15 tests", "backend-trace"),
                              ("SKIP devices: why\ntrace: 3 checks, 0 failed", "backend-devices")):
            with self.subTest(missing):
                self.script("gpu_test", f"#!/bin/sh\necho '{text}'\n")
                status, _ = self.run_check("--only", "tests")
                self.assertEqual((status, self.results[missing]), (1, "skipped"))

    def test_different_bytes_are_a_failure(self):
        self.script("gpu_speed", speed_script(dict(ROW, same_bytes=False)))
        status, _ = self.run_check("--only", "speed", "--allow-missing")
        self.assertEqual(status, 1)
        self.assertEqual(self.results["speed-yolov8n-640x640-fp16-layers-bytes"], "failed (different bytes)")
        self.assertIn("**no**", (self.out / "gpu-check.md").read_text())

    def test_a_step_that_breaks_leaves_the_others(self):
        self.script("gpu_speed", "#!/bin/sh\necho '{not JSON}'\n")
        status, _ = self.run_check()
        self.assertEqual(status, 1)
        self.assertRegex(self.results["speed-yolov8n"], r"^failed \(JSONDecodeError: .*\)$")
        self.assertEqual(self.results["network-damo-yolo-l"], "passed")
        self.assertIn("JSONDecodeError", (self.out / "gpu-check.log").read_text())

    def test_rows_that_cannot_be_shown_leave_the_report(self):
        good, bad = json.dumps(dict(ROW, batch=1)), json.dumps({"batch": 64, "same_bytes": True})
        self.script("gpu_speed", f"#!/bin/sh\necho '{good}'\necho '{bad}'\n")
        status, found = self.run_check()
        self.assertEqual((status, self.results["speed-yolov8n"][:16]), (1, "failed (KeyError"))
        self.assertTrue(found["speed"])
        self.assertEqual({row["batch"] for row in found["speed"]}, {1})
        self.assertIn("network-damo-yolo-l | passed", (self.out / "gpu-check.md").read_text())

    def test_what_cannot_be_written_is_said(self):
        with mock.patch.object(self.check.Check, "save", side_effect=OSError("full")):
            words = ["gpu-check", str(self.root / "full"), "--programs", str(self.programs), "--only", "tests"]
            with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()) as said:
                self.check.main()
        self.assertIn("not written down: full", said.getvalue())
        self.assertRegex(said.getvalue(), "network-damo-yolo-l .*passed")

    def test_what_said_nothing_has_not_passed(self):
        for program, text, missing in (("gpu_speed", json.dumps(ROW), "speed-damo-yolo-s-640x640-fp16-layers-rows"),
                                       ("gpu_test", "trace: 105 checks, 0 failed", "cycles-figures")):
            with self.subTest(missing):
                self.script(program, f"#!/bin/sh\necho '{text}'\n")
                status, _ = self.run_check()
                self.assertEqual((status, self.results[missing]), (1, "no data"))
                status, _ = self.run_check("--allow-missing")
                self.assertEqual(status, 0, self.said)

    def test_no_photographs(self):
        self.check.ROOT = self.root
        check = mock.Mock()
        self.photographs(check)
        self.assertEqual(check.note.call_args.args, ("photographs", "no data"))

    def test_build_that_breaks(self):
        with mock.patch.object(self.check, "build", side_effect=KeyError("compute_cap")), \
                mock.patch.object(sys, "argv", ["gpu-check", str(self.root / "out")]), \
                contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(self.check.main(), 1)
        self.assertIn("failed (KeyError: 'compute_cap')", said.getvalue())

    def test_build_command(self):
        check, args = mock.Mock(), mock.Mock(cmake=[], dnnl=None)
        check.found = {"environment": {"gpu": {"compute_cap": "9.0"}}}
        check.run.return_value = (True, "")
        self.assertTrue(self.check.build(check, args))
        configure = check.run.call_args_list[0].args
        self.assertIn(f"-DDET_CUDA_PYTHON={sys.executable}", configure)
        self.assertIn("-DDET_CUDA_ARCHITECTURES=90", configure)

    def test_optional_steps_may_be_missing(self):
        self.script("serving_speed", "#!/bin/sh\nexit 77\n")
        status, _ = self.run_check()
        self.assertEqual((status, self.results["pool-batching"]), (0, "skipped"), self.said)

    def test_pytorch_beside_warnings(self):
        check = mock.Mock()
        check.run.return_value = (True, 'a warning\n[{"network": "x"}]\nanother, behind it\n')
        self.pytorch(check)
        check.keep.assert_called_with("pytorch", [{"network": "x"}])

    def test_peaks(self):
        peaks = self.check.peaks
        self.assertEqual([peaks(f"NVIDIA {name}", "fp16") for name in ("H200", "H100 80GB HBM3", "H100 PCIe", "H200 NVL", "T4")],
                         [[989], [989], [], [], []])

    def test_the_valuable_references_come_first(self):
        check, models = mock.Mock(), mock.Mock(own={"damo-yolo-l": 1, "damo-yolo-t": 1}, golden={"yolov5x": 1, "yolov8s": 1})
        self.check.the_rest(check, models)
        names = [step[0] for step in check.together.call_args.args[0]]
        self.assertEqual(names[:3], ["sanitizer-memcheck", "sanitizer-racecheck", "pools"])
        self.assertEqual(names[3:5], ["network-yolov8s", "network-damo-yolo-t"])

    def test_one_that_cannot_be_killed_is_not_waited_for(self):
        process = mock.Mock(pid=1)
        process.wait.side_effect = self.check.subprocess.TimeoutExpired("x", 1)
        with mock.patch.object(self.check.os, "killpg"):
            self.check.kill(process)
        process.wait.assert_called_once_with(self.check.PATIENCE)

    def test_no_gpu(self):
        self.script("nvidia-smi", "#!/bin/sh\nexit 9\n")
        with mock.patch.object(sys, "argv", ["gpu-check", str(self.root / "out")]), contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(self.check.main(), 1)
        self.assertIn("finds no GPU", said.getvalue())

    def test_speed_of_a_network(self):
        """The program itself: one picture, for more takes long on a device that is not there."""
        small = f'#!/bin/sh\nexec {BUILD}/gpu_speed_emulated "$1" "$2" 1 0.05 64x96 "$6" layers\n'
        self.script("gpu_speed", small)
        model = ROOT / "models" / "damofd-0.5g-kps.safetensors"
        self.patch(mock.patch.object(self.check.Models, "get", lambda models, name: model))
        self.replace("target_speed", lambda check, models: self.check.speed(check, models, "a", "640x480", "fp16", "1", "layers"))
        for name in ("further_speed", "precision_speed"):
            self.replace(name, lambda check, models: None)
        _, found = self.run_check("--only", "speed")
        row = found["speed"][0]
        self.assertEqual((row["variant"], row["precision"], row["batch"], row["same_bytes"]), ("0.5g-kps", "fp16", 1, True))
        self.assertEqual((row["width"], row["height"], row["peak_tflops"]), (64, 96, 989))
        self.assertGreater(row["objects"], 0)
        self.assertGreater(row["median_ms"], 0)
        self.assertGreater(len(row["layers"]), 50)
        self.assertIn("backbone.0.0", {layer["name"] for layer in row["layers"]})
        # the larger of bytes and arithmetic
        layers = sum(max(1e-3 * layer["mb"] / row["copy_gbs"], 2e-3 * layer["gmac"] / 989) for layer in row["layers"])
        self.assertAlmostEqual(row["roof_ms"], 1e3 * layers, delta=0.01 * row["roof_ms"])
        self.assertIn("0.5g-kps 64x96", (self.out / "gpu-check.md").read_text())


if __name__ == "__main__":
    unittest.main()
