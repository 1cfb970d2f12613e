#!/usr/bin/env python3
"""Trains DamoFD on a folder of labelled faces (see data.py), from scratch or from a checkpoint.

Everything follows from the seed and the number of samples, never from the clock: sample number n is the same picture
on every machine, and a run that was stopped goes on with --resume where it last saved.
"""
import argparse
import json
import math
import os
import time

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from assign import anchors, assign
from data import HELD_OUT, PORTRAIT_SETS, load, pixel_store
from evaluate import load_model
from heads import head_store
from losses import KEYPOINT_WEIGHT, detection_loss, teacher_loss
from network import MEAN, SCALE, DamoFD, load_checkpoint
from portraits import portrait_store
from scenes import KINDS, Scenes
from team import Team
from things import thing_store

WARM_UP = 4000           # samples, or a tenth of a short run
LAST_RATE = 0.01         # of the peak learning rate, at the end of the cosine


class Samples(Dataset):
    """Sample number and side -> picture [side, side, 3] RGB bytes, boxes [n, 4], keypoints [n, 5, 2], weights [n], index [a]."""

    def __init__(self, scenes, seed):
        self.scenes, self.seed = scenes, seed

    def __getitem__(self, item):
        number, side = item
        image, faces = self.scenes.sample(np.random.default_rng([self.seed, number]), side)
        return image, faces.boxes, faces.keypoints, faces.weights, assign(faces.boxes, faces.ignore, side, side)


class Batches:
    """Lists of (sample number, side), from sample `start` on; a batch has one side. Of a team, this process's share."""

    def __init__(self, start, end, batch, side_at, team):
        if batch % team.size:
            raise SystemExit("--batch: %d samples cannot be shared by %d processes" % (batch, team.size))
        self.start, self.end = start, end - (end - start) % team.size
        self.batch, self.side_at, self.team = batch, side_at, team

    def __iter__(self):
        for first in range(self.start, self.end, self.batch):
            side = self.side_at(first)
            yield [(n, side) for n in self.team.share(range(first, min(first + self.batch, self.end)))]

    def __len__(self):
        return -(-(self.end - self.start) // self.batch)


def collate(items):
    """Pads the faces of a batch to one number: tensors picture [n, side, side, 3], index, boxes, keypoints, weights."""
    n, most = len(items), max(1, max(len(item[1]) for item in items))
    boxes, points = np.zeros((n, most, 4), np.float32), np.full((n, most, 5, 2), np.nan, np.float32)
    weights = np.zeros((n, most), np.float32)
    for i, (_, b, k, w, _) in enumerate(items):
        boxes[i, :len(b)], points[i, :len(b)], weights[i, :len(b)] = b, k, w
    arrays = np.stack([i[0] for i in items]), np.stack([i[4] for i in items]), boxes, points, weights
    return tuple(torch.from_numpy(a) for a in arrays)


def start_worker(_):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class Average:
    """Exponential moving average of the weights and the running statistics."""

    def __init__(self, model, decay):
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (20 + self.steps))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def stages(text, samples, batch):
    """'320:0.8,480:0.2' -> a function from sample number to side in pixels."""
    ends, total = [], 0.0
    for part in text.split(","):
        side, _, share = part.partition(":")
        if int(side) % 32:
            raise SystemExit("--sides: %s is no multiple of 32" % side)
        total += float(share or 1)
        ends.append((int(side), total))
    ends = [(side, round(samples * end / total / batch) * batch) for side, end in ends]
    return lambda n: next((side for side, end in ends if n < end), ends[-1][0])


def shares(text):
    """'crop:0.6,crowd:0.4' -> pairs of a name and a number, 1 where none stands."""
    return [(name, float(number or 1)) for name, _, number in (part.partition(":") for part in text.split(",") if part)]


def rate_at(n, samples, peak):
    """Learning rate at sample n: linear warm-up, then half a cosine."""
    warm_up = min(WARM_UP, samples // 10)
    if n < warm_up:
        return peak * (n + 1) / warm_up
    t = min(1.0, (n - warm_up) / max(1, samples - warm_up))
    return peak * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * t)))


def save(path, content):
    torch.save(content, path + ".part")
    os.replace(path + ".part", path)


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("faces", help="folder with labels.jsonl")
    p.add_argument("--out", default="run", help="folder for checkpoints and the log [run]")
    p.add_argument("--cache", help="folder for decoded pictures [OUT/cache]")
    p.add_argument("--variant", default="2.5g-kps")
    p.add_argument("--init", help="checkpoint to start from, published or of this training: fine-tuning")
    p.add_argument("--teacher", help="checkpoint of a larger network to learn from beside the labels")
    p.add_argument("--teacher-variant", default="2.5g-kps")
    p.add_argument("--resume", action="store_true", help="go on from OUT/last.pth")
    p.add_argument("--samples", type=int, default=120000, help="length of the whole run [120000]")
    p.add_argument("--until", type=int, help="stop here, before the end of the run, to go on with --resume")
    p.add_argument("--batch", type=int, default=16, help="samples in a step, of all processes together [16]")
    p.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate; for fine-tuning 2e-4 [1.5e-3]")
    p.add_argument("--decay", type=float, default=0.02, help="weight decay [0.02]")
    p.add_argument("--sides", default="256:0.4,320:0.35,480:0.25", help="side of the square input and its share of the samples")
    p.add_argument("--kinds", default=",".join("%s:%g" % pair for pair in KINDS), help="kinds of scenes and their shares [%(default)s]")
    p.add_argument("--sets", default="", help="how often sets are drawn beside what their size says, such as webcam:0.5,street:2")
    p.add_argument("--narrow", type=float, default=0.0, help="share of faces squeezed sideways, as turned heads look [0]")
    p.add_argument("--keypoint-weight", type=float, default=KEYPOINT_WEIGHT, help="of the keypoints' loss [%(default)g]")
    p.add_argument("--things", help="folder of .png files of things that are no faces, on transparent ground, such as clip art [none]")
    p.add_argument("--heads", help="folder of MakeHuman's mesh and targets, to see portraits from the side (heads.py) [none]")
    p.add_argument("--turned", type=float, default=0.3, help="with --heads, share of pasted people that look aside [0.3]")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, help="of each process [all CPUs', shared by the processes]")
    p.add_argument("--workers", type=int, default=2, help="processes that make samples, beside each that trains [2]")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--bf16", action="store_true", help="bfloat16 where it is safe: twice as fast on CPUs that have it (PyTorch 2)")
    p.add_argument("--compile", action="store_true", help="torch.compile: a third faster, needs a C++ compiler (PyTorch 2)")
    p.add_argument("--all", action="store_true", help="hold nothing out for validation")
    p.add_argument("--save-minutes", type=float, default=4)
    return p.parse_args()


def weight_groups(model, decay):
    """Weight decay for kernels alone."""
    kernels = [p for p in model.parameters() if p.dim() == 4]
    rest = [p for p in model.parameters() if p.dim() != 4]
    return [{"params": kernels, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def prepare(args, say):
    """Model, average, optimiser and the number of samples already seen."""
    model = DamoFD(args.variant)
    seen, last = 0, os.path.join(args.out, "last.pth")
    if args.init:
        missing, left = model.load_state_dict(load_checkpoint(args.init), strict=False)
        missing = [name for name in missing if "num_batches" not in name]
        say("from %s; new: %s; unused: %s" % (args.init, missing or "nothing", left or "nothing"))
    model = model.to(args.device, memory_format=torch.channels_last)
    average = Average(model, 0.999)
    optimiser = torch.optim.AdamW(weight_groups(model, args.decay), lr=args.rate)
    if args.resume:
        file = torch.load(last, map_location=args.device)
        model.load_state_dict(file["model"])
        average.state, average.steps = file["state_dict"], file["steps"]
        optimiser.load_state_dict({"state": file["optimiser"], "param_groups": optimiser.state_dict()["param_groups"]})
        seen = file["samples"]
    return model, average, optimiser, seen


def load_teacher(args):
    """The network to learn from, its weights fixed; it must know whatever the pupil is taught."""
    if args.variant.endswith("-kps") and not args.teacher_variant.endswith("-kps"):
        raise SystemExit("--teacher-variant: %s has no keypoints to teach %s" % (args.teacher_variant, args.variant))
    teacher = load_model(args.teacher, args.teacher_variant, args.device).to(memory_format=torch.channels_last).requires_grad_(False)
    return torch.compile(teacher, dynamic=False) if args.compile else teacher


def make_scenes(args, train, validation):
    """What samples are made from: decoded pictures, cut-out people, turned heads, which stay in the cache."""
    cache = args.cache or os.path.join(args.out, "cache")
    pixels = pixel_store(args.faces, cache, train + validation)
    portraits = [p for p in train if p.set in PORTRAIT_SETS and len(p.boxes) == 1]
    people = portrait_store(cache, portraits, pixels) if portraits else None
    things = thing_store(cache, args.things) if args.things else None
    if things and not things.names:
        raise SystemExit("--things: no .png with a transparent ground below %s" % args.things)
    if args.heads and not people:
        raise SystemExit("--heads: there are no portraits to turn (sets %s)" % ", ".join(PORTRAIT_SETS))
    try:
        heads = head_store(cache, args.heads, portraits, people) if args.heads else None
    except OSError as error:
        raise SystemExit("--heads: %s" % error)
    try:
        return Scenes(train, pixels, people, shares(args.kinds), args.narrow, shares(args.sets), things, heads, args.turned)
    except ValueError as error:
        raise SystemExit("--kinds, --sets: %s" % error)


def main():
    args, team = options(), Team()
    args.device = team.join(args.device)
    args.threads = args.threads or max(1, os.cpu_count() // team.local_size)
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)

    def say(text):
        if team.rank == 0:
            print(text, flush=True)
            with open(os.path.join(args.out, "log.txt"), "a", encoding="utf-8") as log:
                log.write(text + "\n")

    train, validation = load(args.faces, 0.0 if args.all else HELD_OUT)
    with team.one_first():
        scenes = make_scenes(args, train, validation)
    model, average, optimiser, seen = prepare(args, say)
    side_at = stages(args.sides, args.samples, args.batch)
    end = min(args.samples, args.until or args.samples)
    loader = DataLoader(Samples(scenes, args.seed), batch_sampler=Batches(seen, end, args.batch, side_at, team),
                        collate_fn=collate, num_workers=args.workers, worker_init_fn=start_worker)
    teacher = load_teacher(args) if args.teacher else None
    network = torch.compile(model, dynamic=False) if args.compile else model
    if team.rank == 0:
        with open(os.path.join(args.out, "options.json"), "w", encoding="utf-8") as f:
            json.dump(vars(args), f, indent=1)

    def checkpoint():
        if team.rank == 0:
            save(os.path.join(args.out, "last.pth"),
                 {"variant": args.variant, "state_dict": average.state, "model": model.state_dict(), "samples": seen,
                  "steps": average.steps, "optimiser": optimiser.state_dict()["state"]})   # tensors and whole numbers alone: safe to read

    say("%d training pictures, %d held out; samples %d to %d on %s, PyTorch %s"
        % (len(train), len(validation), seen, args.samples, args.device, torch.__version__))
    model.train()
    sums, count, began, saved = np.zeros(3), 0, time.time(), time.time()
    for images, *targets in loader:
        for group in optimiser.param_groups:
            group["lr"] = rate_at(seen, args.samples, args.rate)
        side = images.shape[1]
        points, _, strides, _ = (torch.as_tensor(a, device=args.device) if isinstance(a, np.ndarray) else a for a in anchors(side, side))
        x = images.to(args.device).permute(0, 3, 1, 2).float().sub_(MEAN).mul_(SCALE)
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.bf16):
            outputs = network(x)
            with torch.no_grad():
                taught = teacher(x) if args.teacher else None
        targets = [t.to(args.device) for t in targets]
        losses = detection_loss(outputs, points, strides, targets, args.keypoint_weight)
        if args.teacher:
            lessons = teacher_loss(outputs, taught, points, strides, targets[0], args.keypoint_weight)
            losses = [(a + b) / 2 for a, b in zip(losses, lessons)]
        loss = sum(losses)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        team.average(model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        seen += team.size * len(images)
        if not torch.isfinite(norm):
            say("%d: a gradient that is not finite; step left out" % seen)
            continue
        optimiser.step()
        average.update(model)
        sums += [float(v.detach()) for v in losses]
        count += 1
        if count == 50:
            say("%d score %.3f box %.3f keypoints %.3f rate %.2e, %.1f ms a sample"
                % (seen, *(sums / count), optimiser.param_groups[0]["lr"], 1000 * (time.time() - began) / count / args.batch))
            sums, count, began = np.zeros(3), 0, time.time()
        if time.time() - saved > 60 * args.save_minutes:
            checkpoint()
            saved = time.time()
    checkpoint()
    say("done: %d samples" % seen)


if __name__ == "__main__":
    main()
