"""scripts/gpu-check on the fake device: test_gpu_check.py BUILD EMULATED_MODULE

It must get through, keep what it has found when the time runs out, and say what failed. nvidia-smi is a script here."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = Path(sys.argv.pop())
BUILD = Path(sys.argv.pop())
SMI = """#!/bin/sh
case "$*" in *compute-apps*) ;; *) echo "A GPU, 1.0, 9.0, 1 MiB, 1 MHz, 1 MHz, 1 W, Enabled, GPU-0" ;; esac
"""
WELL = "#!/bin/sh\necho fine\n"
# One network, one picture: more takes long on a device that is not there.
SPEED = f"""#!/bin/sh
case "$*" in *0.5g*layers) exec {BUILD}/gpu_speed_emulated "$1" "$2" 1 0.05 layers ;; esac
"""


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        self.programs = self.root / "programs"
        self.programs.mkdir()
        for name in ("ops_test", "golden_test", "cudnn_device", "serving_contexts_test", "serving_speed", "gpu_test"):
            self.script(self.programs / name, WELL)
        self.script(self.programs / "gpu_speed", SPEED)
        self.script(self.root / "nvidia-smi", SMI)

    @staticmethod
    def script(path, text):
        path.write_text(text)
        path.chmod(0o755)

    def run_check(self, minutes):
        """Exit status and what was written down."""
        out = self.root / "out"
        variables = dict(os.environ, PATH=f"{self.root}:{os.environ['PATH']}", LIBDETECT_CUDA_MODULE=str(MODULE),
                         LIBDETECT_LIBRARY=str(BUILD / "emulated" / "libdetect.so.0"))
        run = subprocess.run([sys.executable, ROOT / "scripts" / "gpu-check", out, "--programs", self.programs, "--minutes",
                              str(minutes)], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertIn(run.returncode, (0, 1), run.stdout.decode())
        self.assertLessEqual({file.name for file in out.iterdir()},
                             {"gpu-check.json", "gpu-check.md", "gpu-check.log", "cudnn-device.json"})
        return run.returncode, json.loads((out / "gpu-check.json").read_text()), out

    def test_order_and_speed(self):
        _, found, out = self.run_check(1.5)
        steps = {step["step"]: step["result"] for step in found["steps"]}
        names = list(steps)
        self.assertEqual(steps["operators-fp16"], "passed")
        self.assertLess(names.index("operators-fp16"), names.index("speed-damofd-0.5g-kps-fp16-layers"))
        self.assertLess(names.index("speed-damofd-0.5g-kps-fp16-layers"), names.index("backend"))
        row = found["speed"][0]
        self.assertEqual((row["variant"], row["precision"], row["batch"], row["same_bytes"]), ("0.5g-kps", "fp16", 1, True))
        self.assertGreater(row["median_ms"], 0)
        self.assertGreater(len(row["layers"]), 50)
        self.assertIn("backbone.0.0", {layer["name"] for layer in row["layers"]})
        self.assertIn("0.5g-kps", (out / "gpu-check.md").read_text())
        self.assertEqual((out / "cudnn-device.json").read_text(), "fine\n")

    def test_what_fails_or_hangs_is_said(self):
        self.script(self.programs / "ops_test", "#!/bin/sh\necho half of it; exit 3\n")
        self.script(self.programs / "golden_test", "#!/bin/sh\necho begun; exec sleep 100\n")
        status, found, out = self.run_check(0.25)
        results = {step["step"]: step["result"] for step in found["steps"]}
        self.assertEqual(status, 1)
        self.assertEqual(results["operators-fp16"], "failed (3)")
        self.assertEqual(results["networks-own-fp16,fp32-damofd-0.5g-kps"], "cut off")
        self.assertEqual(results["backend"], "left out: no time")
        log = (out / "gpu-check.log").read_text()
        self.assertIn("half of it", log)
        self.assertIn("begun", log)


if __name__ == "__main__":
    unittest.main()
