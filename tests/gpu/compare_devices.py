"""The same objects on two devices: compare_devices.py DETECT MODEL PICTURE... [--precision fp16]

Of what the CPU finds above the threshold + 0.02, everything must be found on the GPU with an IoU of 0.98 and more, and
the other way round."""
import argparse
import json
import os
import subprocess
import sys

MARGIN, LEAST_IOU = 0.02, 0.98


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def missing(ours, theirs, threshold):
    """Objects of `ours` that are sure and have no like among `theirs`."""
    sure = [o for o in ours if o["score"] > threshold + MARGIN]
    return [o for o in sure if not any(
        o["class_id"] == t["class_id"] and iou(o["box"], t["box"]) >= LEAST_IOU for t in theirs)]


def detect(tool, model, pictures, *device):
    output = subprocess.run([tool, "--model", model, "--json", *device, *pictures], check=True, stdout=subprocess.PIPE).stdout
    return [json.loads(line)["objects"] for line in output.decode().splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detect")
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--precision", default="fp16")
    args = parser.parse_args()
    info = json.loads(subprocess.run([args.detect, "info", "--json", "--device", "cpu", "--model", args.model], check=True,
                                     stdout=subprocess.PIPE).stdout)
    threshold = info["score"]
    cpu = detect(args.detect, args.model, args.pictures, "--device", "cpu")
    gpu = detect(args.detect, args.model, args.pictures, "--device", "cuda", "--precision", args.precision)
    problems = 0
    for picture, a, b in zip(args.pictures, cpu, gpu):
        for where, alone in (("CPU", missing(a, b, threshold)), ("GPU", missing(b, a, threshold))):
            for o in alone:
                problems += 1
                print(f"  {os.path.basename(picture)}: only on the {where}: {o}")
    print(f"{os.path.basename(args.model)}, {args.precision}: {len(cpu)} pictures, {sum(map(len, cpu))} objects on the CPU, "
          f"{sum(map(len, gpu))} on the GPU, {problems} problems")
    return 1 if problems or not any(cpu) else 0


if __name__ == "__main__":
    sys.exit(main())
