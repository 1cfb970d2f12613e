#!/usr/bin/env python3
"""Measures face detectors beside one another on the same pictures: the tables of docs/models.md.

Model files (NAME=FILE) run through libdetect's Python package, as they are used; checkpoints (.pth) in PyTorch; YuNet
through OpenCV, on the same square of --side pixels. Each counts at the score that it comes with; YuNet at --yunet-score.
Pictures: the held-out ones of --faces, and --photographs, whose labels lie in training/photographs.
"""
import argparse
import datetime
import os
import platform
import sys

import cv2
import numpy as np

from data import HELD_OUT, fit_box_from_keypoints, read_labels, read_rgb, split, tighten
from evaluate import Tally, detect, letterbox, load_model

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "bindings", "python"))
LOWEST = 0.02            # boxes above this score enter the average precision


def file_detector(path, side):
    """A model file through libdetect: a function of RGB bytes -> boxes, scores, keypoints; and its threshold."""
    import libdetect

    model = libdetect.Model(path)
    context = libdetect.Context(model, device="cpu", input_size=(side, side))

    def run(image):
        found = context.detect(image, score=LOWEST)
        return np.stack([found[k] for k in ("x1", "y1", "x2", "y2")], 1), found["score"], found["landmarks"]
    return run, model.info.score_threshold


def checkpoint_detector(path, side):
    model = load_model(path, "2.5g-kps")
    return lambda image: detect(model, image, side, LOWEST), 0.5


def yunet_detector(path, side, threshold):
    detector = cv2.FaceDetectorYN.create(path, "", (side, side), LOWEST, 0.3, 5000)

    def run(image):
        square, s = letterbox(image, side)
        _, found = detector.detect(np.ascontiguousarray(square[..., ::-1]))
        found = np.zeros((0, 15), np.float32) if found is None else found
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], 1) / s
        return boxes, found[:, 14], found[:, 4:14].reshape(-1, 5, 2) / s
    return run, threshold


def rows(detectors, folder, pictures, least):
    """Prints one row a set of pictures and detector."""
    sets = {}
    for picture in pictures:
        image = read_rgb(os.path.join(folder, picture.name))
        for name, (run, threshold) in detectors.items():
            tally, struck, n = sets.setdefault(picture.set, {}).setdefault(name, (Tally(least, threshold), [], []))
            found = run(image)
            tally.add(found, picture)
            n.append(picture.name)
            if not len(picture.boxes) and (found[1] >= threshold).any():
                struck.append("%s %.2f" % (os.path.splitext(os.path.basename(picture.name))[0], found[1].max()))
    for key in sets:
        for name, (tally, struck, n) in sets[key].items():
            ap, right, false, gap = tally.figures()
            if tally.n_true:
                print("| %s, %d faces | %s | %.3f | %d | %d | %.1f %% |" % (key, tally.n_true, name, ap, right, false, 100 * gap))
            else:
                print("| %s, %d pictures | %s | | | in %d pictures%s | |" % (key, len(n), name, len(struck), ": " + ", ".join(struck) if struck else ""))


def surroundings():
    """Machine, versions, date: one line."""
    cpu = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), cpu)
    import torch

    return "%s; %s, Python %s, OpenCV %s, PyTorch %s" % (datetime.date.today(), cpu, platform.python_version(), cv2.__version__, torch.__version__)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("models", nargs="+", metavar="NAME=FILE", help=".safetensors (libdetect), .pth (PyTorch), .onnx (YuNet)")
    p.add_argument("--faces", help="the folder of training: its held-out pictures are read")
    p.add_argument("--photographs", help="folder of the pictures of training/photographs/labels.jsonl")
    p.add_argument("--yunet-score", type=float, default=0.9, help="OpenCV's default [0.9]")
    p.add_argument("--side", type=int, default=640)
    p.add_argument("--least", type=float, default=16, help="faces smaller than this, pixels, count for nothing [16]")
    args = p.parse_args()
    detectors = {}
    for name, _, path in (m.rpartition("=") for m in args.models):
        kind = os.path.splitext(path)[1]
        detectors[name or path] = (yunet_detector(path, args.side, args.yunet_score) if kind == ".onnx" else
                                   checkpoint_detector(path, args.side) if kind == ".pth" else file_detector(path, args.side))
    print("Measured with training/compare.py, input %d: %s\n" % (args.side, surroundings()))
    print("| pictures | detector | AP50 | found | false | keypoints off by |\n| --- | --- | --- | --- | --- | --- |")
    if args.faces:
        train, held_out = split(read_labels(args.faces), HELD_OUT)
        tighten(held_out, fit_box_from_keypoints(train))
        for picture in held_out:
            picture.set = "held out" if len(picture.boxes) else "held out, no face"
        rows(detectors, args.faces, held_out, args.least)
    if args.photographs:
        pictures = [p for p in read_labels(os.path.join(HERE, "photographs")) if
                    os.path.exists(os.path.join(args.photographs, p.name))]
        rows(detectors, args.photographs, pictures, args.least)


if __name__ == "__main__":
    main()
