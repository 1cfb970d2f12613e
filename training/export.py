#!/usr/bin/env python3
"""Writes a checkpoint's averaged weights as a model file of the library, through `python3 -m libdetect.convert`, or as
a small checkpoint (.pth) to convert or fine-tune later.  Convolutions are stored as float16.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import torch

from network import DamoFD, load_checkpoint

BINDINGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bindings", "python")


def published(path, variant):
    """The checkpoint's tensors, exactly those of the published network, float32 and finite."""
    state = load_checkpoint(path)
    wanted = {k: v.shape for k, v in DamoFD(variant).state_dict().items() if "num_batches" not in k}
    missing = [k for k in wanted if k not in state or state[k].shape != wanted[k]]
    if missing:
        raise SystemExit("%s: no %s in it: %s ..." % (path, variant, ", ".join(missing[:4])))
    out = {k: state[k].detach().float().cpu().clone() for k in wanted}
    if not all(torch.isfinite(v).all() for v in out.values()):
        raise SystemExit("%s: values that are not finite" % path)
    return out


def mean(states):
    return {k: sum(s[k] for s in states) / len(states) for k in states[0]}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("checkpoints", nargs="+", help="of one run, or of runs that follow one another: the mean of their weights")
    p.add_argument("model_file", help="ends in .safetensors for a model file, in .pth for a small checkpoint alone")
    p.add_argument("--variant", default="2.5g-kps")
    p.add_argument("--score", type=float, help="default score threshold, written into the model file [the published one]")
    p.add_argument("--full", action="store_true", help="store float32, not float16")
    p.add_argument("--licence", default="", help="of the weights, written into the model file")
    args = p.parse_args()
    state = mean([published(path, args.variant) for path in args.checkpoints])
    if args.model_file.endswith(".pth"):
        torch.save({"state_dict": {k: v if args.full or v.dim() != 4 else v.half() for k, v in state.items()}}, args.model_file)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.splitext(os.path.basename(args.model_file))[0] + ".pth"
        torch.save({"state_dict": state}, os.path.join(folder, name))
        command = [sys.executable, "-m", "libdetect.convert", os.path.join(folder, name), args.model_file,
                   "--arch", "damofd-" + args.variant]
        command += [] if args.full else ["--half"]
        command += ["--licence", args.licence] if args.licence else []
        command += [] if args.score is None else ["--score", str(args.score)]
        path = os.pathsep.join([BINDINGS] + [v for v in [os.environ.get("PYTHONPATH")] if v])
        return subprocess.call(command, env=dict(os.environ, PYTHONPATH=path))


if __name__ == "__main__":
    sys.exit(main())
