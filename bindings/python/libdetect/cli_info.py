"""What `python -m libdetect info` and `models` print."""

import statistics
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from .cli_output import dumps
from .cli_streams import clean

_RUNS, _WARM_UPS = 5, 2
_STAGES = {"upload": "upload_ms", "preprocess": "preprocess_ms", "network": "network_ms", "decode_boxes": "decode_ms",
           "nms": "nms_ms", "download": "download_ms", "total": "total_ms"}  # fmt: skip

#: Stages and layers, milliseconds.
_Times = Tuple[Dict[str, float], List[float]]


def print_models() -> List[str]:
    """The families, with their networks as the converter knows them."""
    from .families import known_archs

    return [
        "networks that a checkpoint may be of (.pt, .pth, .onnx or .safetensors):",
        *(f"    {name}" for name in known_archs()),
        "a model file is made by: python3 -m libdetect.convert CHECKPOINT MODEL.safetensors",
    ]


def print_info(info: Any, context: Any, given: Any) -> List[str]:
    """A model and what it costs to run, as JSON or for people."""
    plan = context.info
    times = _measure(context, info) if given.layers else None
    if given.format == "json":
        return [dumps({**_model(info), **_plan(plan), **(_layers(context, times) if times else {})})]
    rows = {**_model(info), **_plan(plan)}
    lines = [f"{key:15} {clean(_text(value))}" for key, value in rows.items()]
    if times:
        lines += _layer_table(context, times)
    return lines


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _model(info: Any) -> Dict[str, Any]:
    return {
        "family": info.family,
        "variant": info.variant,
        "licence": info.licence,
        "source": info.source,
        "source_sha256": info.source_sha256,
        "parameters": info.n_parameters,
        "input": info.input_size,
        "resize": info.resize,
        "pad": info.pad_value,
        "mean": info.mean,
        "scale": info.scale,
        "score": info.score_threshold,
        "iou": info.iou_threshold,
        "multi_label": info.multi_label,
        "max_objects": info.max_objects,
        "landmarks": info.n_landmarks,
        "classes": info.class_names,
    }


def _plan(plan: Any) -> Dict[str, Any]:
    return {
        "device": plan.device,
        "device_index": plan.device_index,
        "device_name": plan.device_name,
        "precision": plan.precision,
        "size": plan.input_size,
        "batch": plan.max_batch,
        "threads": plan.n_threads,
        "macs": plan.macs,
        "weights_bytes": plan.weights_bytes,
        "arena_bytes": plan.arena_bytes,
        "workspace_bytes": plan.workspace_bytes,
        "n_layers": plan.n_layers,
    }


def _measure(context: Any, info: Any) -> _Times:
    """Medians of some runs on noise, because zeros take short cuts that pictures do not."""
    width, height = context.info.input_size
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    profiles = []
    for run in range(-_WARM_UPS, _RUNS):
        context.detect([picture] * context.info.max_batch, max_objects=info.max_objects)
        if run >= 0:
            profiles.append(context.profile())
    stages = {key: statistics.median(getattr(p, name) for p in profiles) for key, name in _STAGES.items()}
    n_layers = len(profiles[0].layers)
    return stages, [statistics.median(p.layers[i].ms for p in profiles) for i in range(n_layers)]


def _layers(context: Any, times: _Times) -> Dict[str, Any]:
    stages, layer_ms = times
    layers = [
        {"name": layer.name, "op": layer.op, "impl": layer.impl, "shape": layer.shape, "macs": layer.macs, "ms": ms}
        for layer, ms in zip(context.profile().layers, layer_ms)
    ]
    return {"layers": layers, "time_ms": stages}


def _layer_table(context: Any, times: _Times) -> List[str]:
    stages, layer_ms = times
    rows = [("LAYER", "OP", "IMPLEMENTATION", "OUTPUT", "MMAC", "MS", "%")]
    whole = sum(layer_ms) or 1.0
    for layer, ms in zip(context.profile().layers, layer_ms):
        shape: Optional[str] = "x".join(map(str, layer.shape)) if layer.shape[0] > 0 else "-"
        rows.append((layer.name, layer.op, layer.impl, str(shape), f"{1e-6 * layer.macs:.2f}", f"{ms:.4f}",
                     f"{100 * ms / whole:.2f}"))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["", *("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows), ""]
    listed = ", ".join(f"{name} {ms:.3f}" for name, ms in stages.items())
    return [*lines, f"milliseconds, medians of {_RUNS} runs on noise: {listed}"]
