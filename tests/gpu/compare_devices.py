"""The same objects on two devices: compare_devices.py MODEL PICTURE... [--precision fp16]

Of what the CPU finds above the threshold + 0.02, everything must be found on the GPU with an IoU of 0.98 and more, and
the other way round. Through the Python package (LIBDETECT_LIBRARY) and Pillow; exit status 77 without the latter."""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bindings" / "python"))
MARGIN, LEAST_IOU = 0.02, 0.98


def iou(a, b):
    width = min(a["x2"], b["x2"]) - max(a["x1"], b["x1"])
    height = min(a["y2"], b["y2"]) - max(a["y1"], b["y1"])
    both = max(0, width) * max(0, height)
    return both / (sum((o["x2"] - o["x1"]) * (o["y2"] - o["y1"]) for o in (a, b)) - both)


def missing(ours, theirs, threshold):
    """Objects of `ours` that are sure and have no like among `theirs`."""
    sure = [o for o in ours if o["score"] > threshold + MARGIN]
    return [o for o in sure if not any(o["class_id"] == t["class_id"] and iou(o, t) >= LEAST_IOU for t in theirs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--precision", default="fp16")
    args = parser.parse_args()
    try:
        import libdetect
        import numpy
        from PIL import Image
    except ImportError as absent:
        print(f"SKIP: {absent}")
        return 77
    model = libdetect.Model(args.model)
    problems, found = 0, [0, 0]
    with libdetect.Context(model, device="cpu") as cpu, \
            libdetect.Context(model, device="cuda", precision=args.precision) as gpu:
        for picture in args.pictures:
            pixels = numpy.asarray(Image.open(picture).convert("RGB"))
            a, b = cpu.detect(pixels), gpu.detect(pixels)
            found = [found[0] + len(a), found[1] + len(b)]
            for where, alone in (("CPU", missing(a, b, model.info.score_threshold)), ("GPU", missing(b, a, model.info.score_threshold))):
                for o in alone:
                    problems += 1
                    print(f"  {os.path.basename(picture)}: only on the {where}: {o}")
    print(f"{os.path.basename(args.model)}, {args.precision}: {len(args.pictures)} pictures, {found[0]} objects on the CPU, "
          f"{found[1]} on the GPU, {problems} problems")
    return 1 if problems or not found[0] else 0


if __name__ == "__main__":
    sys.exit(main())
