"""How long cuDNN takes to plan networks for a device that is not here: run_plan_time.py PLAN_TIME_TEST DEVICE.json [NETWORK...]

The networks are those of the references that come with the project and, where it is, of the folder DET_GOLDEN. Status 77 where
cuDNN cannot do that."""
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data
import synthetic

NETWORKS = ("damofd-0.5g-kps", "damofd-2.5g-kps", "damo-yolo-s", "yolov8n", "yolo11n")


def main():
    program, device, *wanted = sys.argv[1:]
    folders = [reference_data.ROOT / "tests" / "data" / "golden"]
    try:
        folders.append(reference_data.golden())
    except SystemExit:
        pass
    found = {path.parent.name: path for folder in reversed(folders) for path in folder.glob("*/manifest.json")}
    with tempfile.TemporaryDirectory() as temporary:
        models = []
        for name in wanted or NETWORKS:
            if name not in found:
                print(f"{name}: no description of it here")
                continue
            raw, model = Path(temporary) / "raw.safetensors", Path(temporary) / f"{name}.safetensors"
            synthetic.write(str(found[name]), str(raw))
            reference_data.convert(raw, model)
            models.append(str(model))
        return subprocess.run([program, device, *models]).returncode


if __name__ == "__main__":
    sys.exit(main())
