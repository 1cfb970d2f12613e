"""Times libdetect beside ncnn, ONNX Runtime and OpenVINO on this machine's CPU: python3 -m libdetect.bench_peers

The same networks with the same weights, the same pictures, the same threads, in one process and in turn: libdetect, peer,
peer, libdetect, peer, peer, ... Before the clock starts, every peer must find libdetect's boxes. What is measured, and how to
read it: docs/performance.md. The model files are those of scripts/export-peers.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from . import bench_report

Size = Tuple[int, int]
Array = Any

PICTURE = (720, 1280)  # height, width
N_PICTURES = 8  # 22 MB: more than the caches of a core
LIBDETECT = "libdetect"
LOAD_LIMIT = 0.5
STRIDES = (8, 16, 32)


# ------------------------------------------------------------------------------------------------- pictures and boxes


def pictures(count: int, seed: int) -> List[Array]:
    """Random pictures, RGB: coloured patches of all sizes, from 80 pixels down to grain."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        total = np.zeros(PICTURE + (3,), np.float32)
        for patch in (80, 40, 20, 8, 4, 1):
            coarse = random.standard_normal((PICTURE[0] // patch, PICTURE[1] // patch, 3), dtype=np.float32)
            total += coarse.repeat(patch, 0).repeat(patch, 1)
        made.append(np.clip(128 + 28 * total, 0, 255).astype(np.uint8))
    return made


def prepare(
    picture: Array, size: Size, resize: str, pad: float, mean: float, scale: float
) -> Tuple[Array, Tuple[float, float, float, float]]:
    """The published pre-processing with OpenCV: the input 1 x 3 x h x w, and x = x_input * a + b, y = y_input * c + d."""
    import cv2

    height, width = picture.shape[:2]
    if resize == "stretch":
        canvas = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        back = (width / size[0], 0.0, height / size[1], 0.0)
    else:
        ratio = min(size[0] / width, size[1] / height)
        inner = (round(width * ratio), round(height * ratio))
        resized = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR) if inner != (width, height) else picture
        free = (size[0] - inner[0], size[1] - inner[1])
        left, top = (free[0] // 2, free[1] // 2) if resize == "letterbox-centre" else (0, 0)
        canvas = cv2.copyMakeBorder(
            resized, top, free[1] - top, left, free[0] - left, cv2.BORDER_CONSTANT, value=(pad, pad, pad)
        )
        back = (1 / ratio, -left / ratio, 1 / ratio, -top / ratio)
    return cv2.dnn.blobFromImage(canvas, scale, mean=(mean, mean, mean)), back


@dataclass(frozen=True)
class Found:
    """Detections, by falling score."""

    boxes: Array  #: n x 4: x1, y1, x2, y2 in pixels of the picture
    scores: Array
    classes: Array


def logit(score: float) -> float:
    """The inverse of the sigmoid."""
    return float(np.log(score / (1 - score)))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


#: x, y of the prior, stride, distances left, top, right, bottom in strides, score, class: one row for each candidate.
Candidates = List[Tuple[Array, Array, Array]]


def decode(heads: Sequence[Array], info: Any, size: Size) -> Tuple[Array, Array, Array]:
    """Boxes in pixels of the input, scores and classes of what passes the model's threshold; nothing else is decoded."""
    family = {"damofd": _decode_faces, "scrfd": _decode_flat_faces, "yolov5": _decode_anchors}.get(
        info.family, _decode_distributions
    )
    parts = family(heads, info, size)
    boxes, scores, classes = (np.concatenate(column) for column in zip(*parts))
    return boxes, scores, classes


def _from_distances(x: Array, y: Array, distances: Array, stride: int) -> Array:
    """distances: 4 x n, in strides."""
    left, top, right, bottom = distances * stride
    return np.stack([x - left, y - top, x + right, y + bottom], 1)


def _decode_faces(heads: Sequence[Array], info: Any, size: Size) -> Candidates:
    result = []
    per_level = len(heads) // 3
    for level, stride in enumerate(STRIDES):
        logits, distances = heads[per_level * level], heads[per_level * level + 1]
        anchor, row, column = np.nonzero(logits > logit(info.score_threshold))
        chosen = distances.reshape((2, 4) + distances.shape[1:])[anchor, :, row, column]
        boxes = _from_distances(column * stride, row * stride, chosen.T, stride)
        result.append((boxes, sigmoid(logits[anchor, row, column]), np.zeros(anchor.size, np.int32)))
    return result


def _decode_flat_faces(heads: Sequence[Array], info: Any, size: Size) -> Candidates:
    """SCRFD's published graph ends in scores, n x 1, and distances, n x 4."""
    flat = [head.reshape(-1, head.shape[-1]) for head in heads]
    flat.sort(key=lambda head: -head.shape[0])
    result = []
    for level, stride in enumerate(STRIDES):
        scores, distances = sorted(flat[len(flat) // 3 * level :][: len(flat) // 3], key=lambda head: head.shape[1])[:2]
        prior = np.nonzero(scores[:, 0] > info.score_threshold)[0]
        row, column = np.divmod(prior // 2, size[0] // stride)
        boxes = _from_distances(column * stride, row * stride, distances[prior].T, stride)
        result.append((boxes, scores[prior, 0], np.zeros(prior.size, np.int32)))
    return result


def _passing(logits: Array, info: Any) -> Tuple[Array, Array]:
    """logits: classes x priors. The priors and classes above the threshold: all of them, or the best of each prior."""
    least = logit(info.score_threshold)
    prior = np.nonzero(logits.max(0) > least)[0]
    if not info.multi_label:
        return prior, logits[:, prior].argmax(0)
    which, classes = np.nonzero(logits[:, prior].T > least)
    return prior[which], classes


def _decode_distributions(heads: Sequence[Array], info: Any, size: Size) -> Candidates:
    """YOLOv8, YOLO11 and DAMO-YOLO: a distribution for each side."""
    result = []
    offset = 0.0 if info.family == "damo-yolo" else 0.5
    for level, stride in enumerate(STRIDES):
        sides, logits = (head.reshape(head.shape[0], -1) for head in heads[2 * level : 2 * level + 2])
        prior, classes = _passing(logits, info)
        bins = sides[:, prior].reshape(4, -1, prior.size)
        weights = np.exp(bins - bins.max(1, keepdims=True))
        steps = np.arange(bins.shape[1], dtype=np.float32)
        distances = np.einsum("sbn,b->sn", weights, steps) / weights.sum(1)
        row, column = np.divmod(prior, size[0] // stride)
        boxes = _from_distances((column + offset) * stride, (row + offset) * stride, distances, stride)
        result.append((boxes, sigmoid(logits[classes, prior]), classes))
    return result


#: Width, height in pixels, as published.
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))


def _decode_anchors(heads: Sequence[Array], info: Any, size: Size) -> Candidates:
    result = []
    for level, stride in enumerate(STRIDES):
        maps = heads[level].reshape((3, -1) + heads[level].shape[1:])
        anchor, row, column = np.nonzero(maps[:, 4] > logit(info.score_threshold))
        chosen = sigmoid(maps[anchor, :, row, column])
        classes = chosen[:, 5:].argmax(1)
        scores = chosen[:, 4] * chosen[np.arange(classes.size), 5 + classes]
        x, y = (2 * chosen[:, 0] - 0.5 + column) * stride, (2 * chosen[:, 1] - 0.5 + row) * stride
        half = 2 * chosen[:, 2:4] ** 2 * np.asarray(ANCHORS[level])[anchor]
        boxes = np.stack([x - half[:, 0], y - half[:, 1], x + half[:, 0], y + half[:, 1]], 1)
        kept = scores > info.score_threshold
        result.append((boxes[kept], scores[kept], classes[kept]))
    return result


def finish(heads: Sequence[Array], info: Any, size: Size, back: Tuple[float, float, float, float]) -> Found:
    """Decoding and NMS: raw maps to boxes of the picture."""
    import cv2

    boxes, scores, classes = decode(heads, info, size)
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = cv2.dnn.NMSBoxesBatched(
        sides.astype(np.float64), scores.astype(np.float32), classes.astype(np.int32), 0.0, info.iou_threshold
    )
    kept = np.asarray(kept, np.int64).reshape(-1)
    kept = kept[np.argsort(-scores[kept], kind="stable")][: info.max_objects]
    scale, shift = np.array(back[::2] * 2), np.array(back[1::2] * 2)
    return Found(boxes[kept] * scale + shift, scores[kept], classes[kept])


# ---------------------------------------------------------------------------------------------------------- the peers


@dataclass(frozen=True)
class Times:
    """Milliseconds of one picture. `network`: tensor in, raw maps out."""

    before: float
    network: float
    after: float
    total: float


class Peer:
    """One way to run a network."""

    def detect(self, picture: Array) -> Tuple[Found, Times]:
        """Detects in a picture and takes the time."""
        raise NotImplementedError


class Ours(Peer):
    """libdetect."""

    def __init__(self, model: Any, threads: int) -> None:
        from . import Context

        self.context = Context(model, device="cpu", precision="fp32", n_threads=threads)

    def detect(self, picture: Array) -> Tuple[Found, Times]:
        start = time.perf_counter()
        found = self.context.detect(picture)
        total = (time.perf_counter() - start) * 1e3
        p = self.context.profile()
        boxes = np.stack([found[name] for name in ("x1", "y1", "x2", "y2")], 1)
        times = Times(p.upload_ms + p.preprocess_ms, p.network_ms, p.decode_ms + p.nms_ms + p.download_ms, total)
        return Found(boxes, found["score"], found["class_id"]), times


class Theirs(Peer):
    """Another library, between OpenCV's pre-processing and NMS."""

    def __init__(self, info: Any, heads: Callable[[Array], Sequence[Array]]) -> None:
        self.info, self.heads = info, heads

    def detect(self, picture: Array) -> Tuple[Found, Times]:
        info, clock = self.info, time.perf_counter
        start = clock()
        x, back = prepare(picture, info.input_size, info.resize, info.pad_value, info.mean, info.scale)
        ready = clock()
        heads = self.heads(x)
        done = clock()
        found = finish(heads, info, info.input_size, back)
        end = clock()
        return found, Times((ready - start) * 1e3, (done - ready) * 1e3, (end - done) * 1e3, (end - start) * 1e3)


def _without_batch(head: Array) -> Array:
    return head[0] if head.ndim == 4 or (head.ndim == 3 and head.shape[0] == 1) else head


def onnxruntime(stem: Path, threads: int, spinning: bool = True) -> Callable[[Array], Sequence[Array]]:
    """ONNX Runtime's CPU provider: all optimisations, one operator at a time."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(f"{stem}.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: [_without_batch(head) for head in session.run(None, {name: x})]


def openvino(stem: Path, threads: int, precision: str = "f32") -> Callable[[Array], Sequence[Array]]:
    """OpenVINO's CPU plug-in, for latency, one stream. Left alone, it would take bf16 where the machine has AMX."""
    import openvino as ov

    core = ov.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(core.read_model(f"{stem}.onnx"), "CPU", options)
    request = compiled.create_infer_request()
    ports = list(compiled.outputs)

    def heads(x: Array) -> List[Array]:
        found = request.infer({0: x}, share_inputs=True, share_outputs=True)
        return [_without_batch(found[port]) for port in ports]

    return heads


def ncnn(stem: Path, threads: int, half: bool = False) -> Callable[[Array], Sequence[Array]]:
    """ncnn with packed layouts. half: its defaults, which allow float16 for storage and arithmetic where the CPU has it."""
    import ncnn as library

    net = library.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_packing_layout = True
    if not half:
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    for load, end in ((net.load_param, "param"), (net.load_model, "bin")):
        if load(f"{stem}.ncnn.{end}") != 0:
            raise RuntimeError(f"ncnn cannot load {stem}.ncnn.{end}")
    first, names = net.input_names()[0], sorted(net.output_names(), key=lambda name: (len(name), name))

    def heads(x: Array) -> List[Array]:
        with net.create_extractor() as extractor:
            extractor.input(first, library.Mat(x[0]))
            found = []
            for name in names:
                status, mat = extractor.extract(name)
                if status != 0:
                    raise RuntimeError(f"ncnn cannot compute {name} of {stem}.ncnn.param")
                found.append(np.asarray(mat))  # shares the memory and keeps it alive
            return found

    return heads


#: What --peers may name.
PEERS: Dict[str, Callable[[Path, int], Callable[[Array], Sequence[Array]]]] = {
    "ncnn": ncnn,
    "ncnn-half": lambda stem, threads: ncnn(stem, threads, half=True),
    "onnxruntime": onnxruntime,
    "onnxruntime-passive": lambda stem, threads: onnxruntime(stem, threads, spinning=False),
    "openvino": openvino,
    "openvino-bf16": lambda stem, threads: openvino(stem, threads, precision="bf16"),
}
PACKAGES = ("numpy", "opencv-python-headless", "opencv-python", "ncnn", "onnxruntime", "openvino")


# -------------------------------------------------------------------------------------------------------- measurement


def agreement(ours: Found, theirs: Found) -> int:
    """How many of our boxes the peer has, too: same class, IoU above 0.9, score within 0.01."""
    if ours.scores.size == 0 or theirs.scores.size == 0:
        return 0
    a, b = ours.boxes[:, None], theirs.boxes[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    same = (common > 0.9 * union) & (ours.classes[:, None] == theirs.classes[None])
    same &= np.abs(ours.scores[:, None] - theirs.scores[None]) < 0.01
    return int(same.any(1).sum())


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    repeats: int  #: blocks of each peer, in turn
    seconds: float  #: of a block, at least
    least: int  #: pictures of a block, at least
    settle: float  #: seconds of quiet before a block: threads of the peer before may still be spinning


def block(peer: Peer, shots: Sequence[Array], plan: Plan) -> List[Times]:
    """Times of a block of pictures; two more come first and are not counted."""
    time.sleep(plan.settle)
    for shot in shots[-2:]:
        peer.detect(shot)
    taken: List[Times] = []
    end = time.perf_counter() + plan.seconds
    while len(taken) < plan.least or time.perf_counter() < end:
        taken.append(peer.detect(shots[len(taken) % len(shots)])[1])
    return taken


def measure(peers: Dict[str, Peer], shots: Sequence[Array], plan: Plan) -> Dict[str, Dict[str, Any]]:
    """Every peer's blocks, in turn."""
    blocks: Dict[str, List[List[Times]]] = {name: [] for name in peers}
    for peer in peers.values():
        for shot in shots[:3]:
            peer.detect(shot)
    for turn in range(plan.repeats):
        order = list(peers)[turn % len(peers) :] + list(peers)[: turn % len(peers)]
        for name in order:
            blocks[name].append(block(peers[name], shots, plan))
    return {
        name: {
            part: bench_report.summary([[getattr(times, part) for times in taken] for taken in mine])
            for part in ("before", "network", "after", "total")
        }
        for name, mine in blocks.items()
    }


def row(name: str, folder: Path, peers: Sequence[str], threads: int, plan: Plan) -> Dict[str, Any]:
    """One network at one thread count."""
    import cv2

    from . import Model

    cv2.setNumThreads(threads)
    shots = pictures(N_PICTURES, seed=0)
    with Model(folder / f"{name}.safetensors") as model:
        info = model.info
        ours = Ours(model, threads)
        context = ours.context.info
        found: Dict[str, Peer] = {LIBDETECT: ours}
        for peer in peers:
            found[peer] = Theirs(info, PEERS[peer](folder / name, threads))
        expected = [ours.detect(shot)[0] for shot in shots[:2]]
        matched = {
            peer: sum(agreement(e, found[peer].detect(shot)[0]) for e, shot in zip(expected, shots)) for peer in peers
        }
        before, others = time.perf_counter(), _others()
        times = measure(found, shots, plan)
        others = _others() - others
        ours.context.close()
        return {
            "network": name,
            "threads": threads,
            "input": list(info.input_size),
            "macs": context.macs,
            "boxes": sum(e.scores.size for e in expected),
            "agreed": matched,
            "others": round(others / (time.perf_counter() - before), 3),
            "times": times,
        }


# -------------------------------------------------------------------------------------------------------- environment


def _others() -> float:
    """Seconds of CPU time that went to anyone else since the machine was started, cores summed."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in file.readline().split()[1:9])
    mine = resource.getrusage(resource.RUSAGE_SELF)
    total = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return total - mine.ru_utime - mine.ru_stime


def _cpu() -> Dict[str, Any]:
    fields: Dict[str, str] = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "").split()
    wanted = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "amx_tile")
    return {
        "model": fields.get("model name", platform.processor()),
        "family": "/".join(fields.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cores": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)),
        "mhz": fields.get("cpu MHz", ""),
        "cache": fields.get("cache size", ""),
        "flags": [flag for flag in wanted if flag in flags],
        "virtual": "hypervisor" in flags,
    }


def environment(folder: Path) -> Dict[str, Any]:
    """What a figure is worth nothing without."""
    from . import version

    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    export = folder / "export.json"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libdetect": version(),
        "packages": packages,
        "export": json.loads(export.read_text()) if export.exists() else None,
        "load": os.getloadavg()[0],
        "openmp": {key: value for key, value in sorted(os.environ.items()) if key.startswith(("OMP_", "GOMP_", "KMP_"))},
    }


# ------------------------------------------------------------------------------------------------------- command line


def _names(choices: Sequence[str]) -> Callable[[str], List[str]]:
    def parse(text: str) -> List[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(choices)}")
        return names

    return parse


def _threads(text: str) -> List[int]:
    return [int(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m libdetect.bench_peers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", metavar="DIR", type=Path, required=True, help="what scripts/export-peers wrote")
    parser.add_argument("--peers", type=_names(list(PEERS)), default=["ncnn", "onnxruntime", "openvino"], help="names with commas between: " + ", ".join(PEERS))
    parser.add_argument("--threads", type=_threads, default=[1], help="thread counts with commas between; default: 1")
    parser.add_argument("--repeats", type=int, default=3, help="blocks of each peer, in turn; default: 3")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a block; default: 1")
    parser.add_argument("--least", type=int, default=5, help="least pictures of a block; default: 5")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="networks; default: all in --models")
    parser.add_argument("--out", metavar="FILE", type=Path, help="results, JSON; written after every row")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a peer found other boxes, 2 wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    there = sorted(path.name[: -len(".safetensors")] for path in given.models.glob("*.safetensors"))
    missing = [name for name in given.only or [] if name not in there]
    if missing or not there:
        parser.error(f"{given.models} has no {missing[0] if missing else ''}.safetensors")
    plan = Plan(given.repeats, given.seconds, given.least, settle=0.05)
    result: Dict[str, Any] = {"environment": environment(given.models), "plan": vars(plan).copy(), "rows": []}
    if result["environment"]["load"] > LOAD_LIMIT:
        print(f"warning: the load average is {result['environment']['load']:.2f}: others are at work", file=sys.stderr)
    status = 0
    for name in given.only or there:
        for threads in given.threads:
            taken = row(name, given.models, given.peers, threads, plan)
            result["rows"].append(taken)
            print(bench_report.line(taken), flush=True)
            for peer, matched in taken["agreed"].items():
                if matched < 0.98 * taken["boxes"]:
                    print(f"{name}: {peer} has {matched} of {taken['boxes']} boxes", file=sys.stderr)
                    status = 1
            if given.out:
                given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
