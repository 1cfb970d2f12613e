"""Checkpoints whose every value follows from the tensor's name: a network can be checked without shipping weights.

    synthetic.py MANIFEST.json OUT.safetensors

A manifest is {"arch", "seed", "tensors": [{"name", "shape", "role", "gain"?, "value"?}]}. Values are float32 from a
SplitMix64 stream that starts at the FNV-1a hash of the tensor's name, spread over a range that the role sets."""
import json
import sys

import numpy as np

import reference_data  # noqa: F401  (puts the package on the path)
from libdetect import safetensors

MASK = 2**64 - 1
RANGES = {"bias": (-0.1, 0.1), "norm_weight": (0.7, 1.1), "norm_bias": (-0.15, 0.15), "norm_mean": (-0.1, 0.1),
          "norm_var": (0.8, 1.3), "scale": (0.8, 1.2)}


def uniform(name, seed, count):
    """`count` float32 from 0 to 1, 1 excluded."""
    state = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ z >> np.uint64(shift)) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def values(entry, seed):
    """The tensor of one entry of a manifest, float32 of its shape."""
    shape, role = entry["shape"], entry["role"]
    if role == "const":
        return np.asarray(entry["value"], np.float32).reshape(shape)
    u = uniform(entry["name"], seed, int(np.prod(shape)))
    if role == "conv":  # keeps the variance of what passes through
        bound = np.float32(entry.get("gain", 1.0) * np.sqrt(6 / np.prod(shape[1:])))
        return ((u * 2 - 1) * bound).astype(np.float32).reshape(shape)
    low, high = RANGES[role]
    return (np.float32(low) + u * np.float32(high - low)).astype(np.float32).reshape(shape)


def write(manifest_path, out_path):
    with open(manifest_path) as file:
        manifest = json.load(file)
    safetensors.write(out_path, {entry["name"]: values(entry, manifest["seed"]) for entry in manifest["tensors"]}, {})


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2])
