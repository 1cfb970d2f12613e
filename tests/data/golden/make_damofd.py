"""Makes damofd-<variant>/ beside this file with the network of training/: make_damofd.py VARIANT...

Needs PyTorch. The weights are synthetic (tests/models/synthetic.py), the input is uniform in -2..2."""
import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "training"), str(ROOT / "tests" / "models")]

import network  # noqa: E402
import synthetic  # noqa: E402
from libdetect import safetensors  # noqa: E402

SEED, SHAPE = 1, (2, 3, 64, 96)


def role(name, shape):
    last = name.rsplit(".", 1)[1]
    if last in ("running_mean", "running_var", "scale"):
        return {"running_mean": "norm_mean", "running_var": "norm_var", "scale": "scale"}[last]
    if len(shape) == 4:
        return "conv"
    is_norm = name.replace("." + last, ".weight") in NORM_WEIGHTS
    return f"norm_{last}" if is_norm else "bias"


def make(variant):
    net = network.DamoFD(variant).eval()
    state = {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    NORM_WEIGHTS.update(name for name, t in state.items() if name.endswith(".weight") and t.dim() == 1)
    tensors = [{"name": name, "shape": list(t.shape), "role": role(name, t.shape)} for name, t in state.items()]
    net.load_state_dict({t["name"]: torch.from_numpy(synthetic.values(t, SEED)) for t in tensors}, strict=False)
    x = torch.from_numpy(synthetic.uniform("input", SEED, int(np.prod(SHAPE))).reshape(SHAPE) * 4 - 2)
    with torch.no_grad():
        neck = net.neck(net.backbone(x)[1:])
        logits, distances, offsets = net(x)
    boxes, keypoints = network.decode(*network.priors(*SHAPE[2:]), distances, offsets)
    out = {"input": x, **{f"neck.p{i + 3}": p for i, p in enumerate(neck)}, "scores": logits.sigmoid()[..., None],
           "boxes": boxes}
    if keypoints is not None:
        out["keypoints"] = keypoints
    folder = HERE / f"damofd-{variant}"
    folder.mkdir(exist_ok=True)
    manifest = {"arch": f"damofd-{variant}", "seed": SEED, "tensors": tensors}
    (folder / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")) + "\n")
    safetensors.write(str(folder / "reference.safetensors"), {k: v.numpy().astype(np.float32) for k, v in out.items()}, {})


NORM_WEIGHTS = set()
for name in sys.argv[1:]:
    make(name)
