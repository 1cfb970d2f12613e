"""The demo's picture through the command-line tool and the models that come with it: run_demo.py DETECT [--write]

Each model is named without a path, and then none is: the tool finds them, and DEFAULT at last. On the CPU in fp32, and on
a GPU where there is one in fp32 and fp16, every face of tests/data/demo.json is found and no other: corners and landmarks
within PIXELS of the picture's, scores within SCORE. --write records what the CPU finds instead."""
import json
import os
import subprocess
import sys
from pathlib import Path

import reference_data

PICTURES = reference_data.ROOT / "examples" / "images"
EXPECTED = reference_data.ROOT / "tests" / "data" / "demo.json"
MODELS = sorted(path.stem for path in (reference_data.ROOT / "models").glob("*.safetensors"))
DEFAULT = "damofd-2.5g-kps"
# Device, precision, tolerance of pixels and of scores. JPEG decoders differ by a grey level or two, which fp32 shows.
RUNS = (("cpu", "fp32", 1.0, 0.01), ("cuda", "fp32", 1.0, 0.01), ("cuda", "fp16", 2.0, 0.02))
NO_DEVICE = 3


def run(detect, model, device, precision):
    """The objects of each picture by its name; None where there is no such device."""
    environment = {k: v for k, v in os.environ.items() if k != "LIBDETECT_MODEL"}
    options = ["--device", device, "--precision", precision, *(["--model", model] if model else [])]
    if device != "cpu" and subprocess.run([detect, "info", *options], env=environment, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL).returncode == NO_DEVICE:
        return None
    pictures = sorted(str(p) for p in PICTURES.glob("*.jpg"))
    done = subprocess.run([detect, "--json", *options, *pictures], env=environment, check=True, stdout=subprocess.PIPE)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return {Path(line["path"]).name: line["objects"] for line in lines}


def gap(ours, theirs):
    """Largest distance of corners and landmarks, pixels."""
    pairs = list(zip(ours["box"], theirs["box"]))
    for a, b in zip(ours["landmarks"], theirs["landmarks"]):
        pairs += list(zip(a, b))
    return max(abs(a - b) for a, b in pairs)


def problems(found, expected, pixels, score):
    for name in sorted(set(found) | set(expected)):
        ours, theirs = found.get(name, []), expected.get(name, [])
        if len(ours) != len(theirs):
            yield f"{name}: {len(ours)} faces, not {len(theirs)}: {ours}"
            continue
        for a, b in zip(ours, theirs):
            if gap(a, b) > pixels or abs(a["score"] - b["score"]) > score:
                yield f"{name}: {a}, expected {b}"


def main():
    detect = sys.argv[1]
    if not MODELS:
        print("SKIP: models/ has none")
        return reference_data.SKIP
    if sys.argv[2:] == ["--write"]:
        EXPECTED.write_text(json.dumps({model: run(detect, model, "cpu", "fp32") for model in MODELS}, indent=1) + "\n")
        return 0
    expected, failures = json.loads(EXPECTED.read_text()), 0
    assert all(expected[model] and all(expected[model].values()) for model in MODELS), "every picture of the demo has a face"
    for model in (*MODELS, None):
        for device, precision, pixels, score in RUNS:
            found = run(detect, model, device, precision)
            if found is None:
                print(f"{device}, {precision}: left out, no such device")
                continue
            wrong = list(problems(found, expected[model or DEFAULT], pixels, score))
            print(f"{model or 'no model named'}, {device}, {precision}: {sum(map(len, found.values()))} faces, {len(wrong)} problems",
                  *wrong, sep="\n  ")
            failures += len(wrong)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
