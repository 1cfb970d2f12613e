"""Real checkpoints on real photographs, through the command-line tool: run_photos.py DETECT [REFERENCE_NAME...]

Every reference detection is found, scores within 0.01, corners and landmarks within one pixel of the network's input;
nothing extra above the threshold + 0.01. A detection within 0.01 of the threshold may be missing."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data

SCORE_TOLERANCE = 0.01
PIXEL_TOLERANCE = 1.0


def distance(ours, theirs, scale):
    """Largest distance of corners and landmarks, in pixels of the network's input."""
    pairs = list(zip(ours["box"], theirs["box"]))
    for a, b in zip(ours.get("landmarks", []), theirs.get("landmarks", [])):
        pairs += list(zip(a, b))
    return max(abs(a - b) for a, b in pairs) * scale


def compare(picture, reference):
    """Problems of one picture, as texts."""
    threshold, size = reference["score_threshold"], reference["input"]
    scale = min(size[0] / picture["width"], size[1] / picture["height"])
    rest, problems = list(picture["objects"]), []
    for theirs in reference["objects"]:
        candidates = [o for o in rest if o["class_id"] == theirs["class"]
                      and abs(o["score"] - theirs["score"]) <= SCORE_TOLERANCE]
        best = min(candidates, key=lambda o: distance(o, theirs, scale), default=None)
        if best is None or distance(best, theirs, scale) > PIXEL_TOLERANCE:
            if theirs["score"] > threshold + SCORE_TOLERANCE:
                problems.append(f"not found: {theirs}, nearest {best}")
            continue
        rest.remove(best)
    problems += [f"extra: {o}" for o in rest if o["score"] > threshold + SCORE_TOLERANCE]
    return problems


def run(detect, model, reference, images, threads):
    names = list(reference["images"])
    command = [detect, "--model", str(model), "--json", "--device", "cpu", "--threads", threads,
               "--score", str(reference["score_threshold"]), "--iou", str(reference["iou_threshold"])]
    output = subprocess.run(command + [str(images / n) for n in names], check=True, stdout=subprocess.PIPE).stdout
    lines = output.decode().splitlines()
    assert len(lines) == len(names), f"{len(lines)} lines for {len(names)} pictures"
    n_objects, n_problems = 0, 0
    for name, line in zip(names, lines):
        picture = json.loads(line)
        problems = compare(picture, dict(reference, objects=reference["images"][name]))
        n_objects += len(picture["objects"])
        n_problems += len(problems)
        for problem in problems:
            print(f"  {name}: {problem}")
    return n_objects, n_problems


def main():
    detect, wanted = sys.argv[1], sys.argv[2:]
    photos = reference_data.folder("DET_PHOTOS", reference_data.golden() / "photos")
    images = reference_data.folder("DET_IMAGES", reference_data.SHARED / "images")
    models = reference_data.folder("DET_MODELS", reference_data.SHARED / "models")
    failures = n_references = 0
    with tempfile.TemporaryDirectory() as temporary:
        for path in sorted(photos.glob("*.json")):
            if wanted and path.stem not in wanted:
                continue
            reference = json.loads(path.read_text())
            model = Path(temporary) / "model.safetensors"
            reference_data.convert(models / reference["model"], model)
            n_references += 1
            for threads in "12":
                n_objects, n_problems = run(detect, model, reference, images, threads)
                print(f"{path.stem}, {threads} threads: {len(reference['images'])} pictures, {n_objects} objects, "
                      f"{n_problems} problems")
                failures += n_problems
    return 1 if failures or not n_references else 0


if __name__ == "__main__":
    sys.exit(main())
