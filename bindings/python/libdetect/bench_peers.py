"""Times libdetect beside ncnn, ONNX Runtime, OpenVINO, PyTorch and TensorRT: python3 -m libdetect.bench_peers

The same networks with the same weights, the same pictures, the same threads, in one process and in turn: libdetect,
peer, peer, libdetect, peer, peer, ... Before the clock starts, every peer must find libdetect's boxes. What is measured
and how to read it: docs/performance.md. The model files are those of scripts/export-peers.
"""

import argparse
import datetime
import functools
import importlib.metadata
import importlib.util
import itertools
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
from .bench_boxes import Array, Found, finish, pictures, prepare

N_PICTURES = 8  # 22 MB: more than the caches of a core
LIBDETECT = "libdetect"
LOAD_LIMIT = 0.5


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

    def __init__(self, model: Any, threads: int, device: str = "cpu", precision: str = "fp32") -> None:
        from . import Context

        self.context = Context(model, device=device, precision=precision, n_threads=threads)

    def detect(self, picture: Array) -> Tuple[Found, Times]:
        start = time.perf_counter()
        found = self.context.detect(picture)
        total = (time.perf_counter() - start) * 1e3
        p = self.context.profile()
        boxes = np.stack([found[name] for name in ("x1", "y1", "x2", "y2")], 1)
        times = Times(p.upload_ms + p.preprocess_ms, p.network_ms, p.decode_ms + p.nms_ms + p.download_ms, total)
        return Found(boxes, found["score"], found["class_id"]), times


def _as_it_is(x: Any) -> Any:
    return x


@dataclass(frozen=True)
class Network:
    """A network in another library. On a GPU, `run` returns when its maps are there, not when it is enqueued."""

    run: Callable[[Any], Any]  #: normalised tensor, 1 x 3 x h x w, to raw maps
    upload: Callable[[Array], Any] = _as_it_is  #: to where `run` wants it
    download: Callable[[Any], Sequence[Array]] = _as_it_is  #: to numpy, each c x h x w


class Theirs(Peer):
    """Another library, between OpenCV's pre-processing and NMS."""

    def __init__(self, info: Any, network: Network) -> None:
        self.info, self.network = info, network

    def detect(self, picture: Array) -> Tuple[Found, Times]:
        info, clock = self.info, time.perf_counter
        start = clock()
        x, back = prepare(picture, info.input_size, info.resize, info.pad_value, info.mean, info.scale)
        x = self.network.upload(x)
        ready = clock()
        maps = self.network.run(x)
        done = clock()
        found = finish(self.network.download(maps), info, picture.shape, back)
        end = clock()
        return found, Times((ready - start) * 1e3, (done - ready) * 1e3, (end - done) * 1e3, (end - start) * 1e3)


def _without_batch(head: Array) -> Array:
    return head[0] if head.ndim == 4 or (head.ndim == 3 and head.shape[0] == 1) else head


def onnxruntime(stem: Path, threads: int, spinning: bool = True, provider: str = "CPU") -> Network:
    """ONNX Runtime: all optimisations, one operator at a time."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if f"{provider}ExecutionProvider" not in ort.get_available_providers():
        raise RuntimeError(f"this ONNX Runtime has no {provider} provider")
    session = ort.InferenceSession(f"{stem}.onnx", options, providers=[f"{provider}ExecutionProvider"])
    name = session.get_inputs()[0].name
    return Network(lambda x: [_without_batch(head) for head in session.run(None, {name: x})])


def openvino(stem: Path, threads: int, precision: str = "f32") -> Network:
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

    return Network(heads)


def ncnn(stem: Path, threads: int, half: bool = False) -> Network:
    """ncnn with packed layouts. half: its defaults, which allow float16 where the CPU has it."""
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
            raise RuntimeError(f"ncnn cannot load {stem.name}.ncnn.{end}")
    first, names = net.input_names()[0], sorted(net.output_names(), key=lambda name: (len(name), name))

    def heads(x: Array) -> List[Array]:
        with net.create_extractor() as extractor:
            extractor.input(first, library.Mat(x[0]))
            found = []
            for name in names:
                status, mat = extractor.extract(name)
                if status != 0:
                    raise RuntimeError(f"ncnn cannot compute {name} of {stem.name}.ncnn.param")
                found.append(np.asarray(mat))  # shares the memory and keeps it alive
            return found

    return Network(heads)


def pytorch(stem: Path, threads: int, device: str = "cpu", half: bool = False) -> Network:
    """PyTorch: the traced network, frozen and optimised for inference, channels last."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    torch.backends.cudnn.benchmark = True
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    dtype = torch.float16 if half else torch.float32
    module = torch.jit.load(f"{stem}.torchscript", map_location=device).eval()
    module = module.to(dtype=dtype, memory_format=torch.channels_last)
    module = torch.jit.freeze(module)
    if device == "cpu":
        module = torch.jit.optimize_for_inference(module)

    def upload(x: Array) -> Any:
        return torch.from_numpy(x).to(device=device, dtype=dtype, memory_format=torch.channels_last)

    def run(x: Any) -> Any:
        with torch.inference_mode():
            maps = module(x)
        if device == "cuda":
            torch.cuda.synchronize()
        return maps

    return Network(run, upload, lambda maps: [_without_batch(head.float().cpu().numpy()) for head in maps])


def tensorrt(stem: Path, _: int, half: bool = False) -> Network:
    """TensorRT: an engine built from the ONNX file, its tensors in PyTorch's memory."""
    import tensorrt as trt
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(f"{stem}.onnx"):
        raise RuntimeError(f"TensorRT: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if half:
        config.set_flag(trt.BuilderFlag.FP16)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT cannot build an engine of this network")
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    context, stream = engine.create_execution_context(), torch.cuda.Stream()
    first, names = network.get_input(0).name, [network.get_output(i).name for i in range(network.num_outputs)]
    tensors = {
        name: torch.empty(tuple(engine.get_tensor_shape(name)), dtype=torch.float32, device="cuda")
        for name in [first, *names]
    }
    for name, tensor in tensors.items():
        context.set_tensor_address(name, tensor.data_ptr())

    def upload(x: Array) -> Any:
        tensors[first].copy_(torch.from_numpy(x))
        torch.cuda.synchronize()
        return x

    def run(_: Any) -> Any:
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT cannot run the engine")
        stream.synchronize()
        return [tensors[name] for name in names]

    return Network(run, upload, lambda maps: [_without_batch(head.cpu().numpy()) for head in maps])


#: What --peers may name.
PEERS: Dict[str, Callable[[Path, int], Network]] = {
    "ncnn": ncnn,
    "ncnn-half": lambda stem, threads: ncnn(stem, threads, half=True),
    "onnxruntime": onnxruntime,
    "onnxruntime-passive": lambda stem, threads: onnxruntime(stem, threads, spinning=False),
    "onnxruntime-cuda": lambda stem, threads: onnxruntime(stem, threads, provider="CUDA"),
    "openvino": openvino,
    "openvino-bf16": lambda stem, threads: openvino(stem, threads, precision="bf16"),
    "pytorch": pytorch,
    "pytorch-cuda": lambda stem, threads: pytorch(stem, threads, device="cuda"),
    "pytorch-cuda-half": lambda stem, threads: pytorch(stem, threads, device="cuda", half=True),
    "tensorrt": tensorrt,
    "tensorrt-half": lambda stem, threads: tensorrt(stem, threads, half=True),
}
#: Those that are compared when nobody says, where they are installed; the name begins with the package's.
DEFAULT_PEERS = {
    "cpu": ("ncnn", "onnxruntime", "openvino", "pytorch"),
    "cuda": ("onnxruntime-cuda", "pytorch-cuda", "tensorrt"),
}
MODULES = {"pytorch": "torch"}  # where a peer's module is not called what the peer is
PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "ncnn",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "tensorrt",
)


def default_peers(device: str) -> List[str]:
    """The peers of a device that are installed."""

    def installed(peer: str) -> bool:
        name = peer.split("-")[0]
        return importlib.util.find_spec(MODULES.get(name, name)) is not None

    return [peer for peer in DEFAULT_PEERS[device] if installed(peer)]


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
    """Times of a block of pictures. Two more come first and are not counted: one where it takes as long as a block."""
    time.sleep(plan.settle)
    if peer.detect(shots[-2])[1].total < plan.seconds * 1e3:
        peer.detect(shots[-1])
    taken: List[Times] = []
    end = time.perf_counter() + plan.seconds
    while len(taken) < plan.least or time.perf_counter() < end:
        taken.append(peer.detect(shots[len(taken) % len(shots)])[1])
    return taken


def measure(peers: Dict[str, Peer], shots: Sequence[Array], plan: Plan) -> Dict[str, Dict[str, Any]]:
    """Every peer's blocks, in turn."""
    blocks: Dict[str, List[List[Times]]] = {name: [] for name in peers}
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


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@dataclass(frozen=True)
class Setting:
    """What libdetect runs on; the peers' names say what they do."""

    device: str = "cpu"
    precision: str = "fp32"


def row(
    name: str, folder: Path, peers: Sequence[str], threads: int, plan: Plan, setting: Setting = Setting()
) -> Dict[str, Any]:
    """One network at one thread count."""
    import cv2

    from . import Model

    cv2.setNumThreads(threads)
    shots = pictures(N_PICTURES)
    with Model(folder / f"{name}.safetensors") as model:
        info = model.info
        ours = Ours(model, threads, setting.device, setting.precision)
        context = ours.context.info
        found: Dict[str, Peer] = {LIBDETECT: ours}
        # At the network's own size, so that different ways of resizing do not matter here.
        sized = [cv2.resize(shot, info.input_size) for shot in shots[:2]]
        expected = [ours.detect(shot)[0] for shot in sized]
        matched: Dict[str, int] = {}
        absent: Dict[str, str] = {}
        for peer in peers:
            try:
                theirs = Theirs(info, PEERS[peer](folder / name, threads))
                matched[peer] = sum(agreement(e, theirs.detect(shot)[0]) for e, shot in zip(expected, sized))
                found[peer] = theirs
            except Exception as error:  # every library has its own
                absent[peer] = _reason(error)
        before, others = time.perf_counter(), _others()
        times = measure(found, shots, plan)
        others = _others() - others
        ours.context.close()
        return {
            "network": name,
            "threads": threads,
            "device": context.device_name,
            "precision": context.precision,
            "input": list(info.input_size),
            "macs": context.macs,
            "boxes": sum(e.scores.size for e in expected),
            "agreed": matched,
            "absent": absent,
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


def _cpuinfo() -> Dict[str, str]:
    """What the kernel says of the first core."""
    fields: Dict[str, str] = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    return fields


def _cpu(fields: Dict[str, str]) -> Dict[str, Any]:
    flags = fields.get("flags", "").split()
    wanted = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "amx_tile")
    return {
        "model": fields.get("model name", platform.processor()),
        "family": "/".join(fields.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cores": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)),
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
    export, cpuinfo = folder / "export.json", _cpuinfo()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(cpuinfo),
        "mhz": cpuinfo.get("cpu MHz", ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libdetect": version(),
        "packages": packages,
        "export": json.loads(export.read_text()) if export.exists() else None,
        "load": os.getloadavg()[0],
        "openmp": {
            key: value for key, value in sorted(os.environ.items()) if key.startswith(("OMP_", "GOMP_", "KMP_"))
        },
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
    parser = argparse.ArgumentParser(
        prog="python3 -m libdetect.bench_peers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--models", metavar="DIR", type=Path, required=True, help="what scripts/export-peers wrote")
    parser.add_argument(
        "--peers",
        type=_names(list(PEERS)),
        help="names with commas between: "
        + ", ".join(PEERS)
        + "; default: of ncnn, onnxruntime, openvino and pytorch those installed, on a GPU of onnxruntime-cuda,"
        " pytorch-cuda and tensorrt",
    )
    parser.add_argument("--device", choices=sorted(DEFAULT_PEERS), default="cpu", help="of libdetect; default: cpu")
    parser.add_argument(
        "--precision", choices=("fp32", "tf32", "fp16", "bf16"), default="fp32", help="of libdetect; default: fp32"
    )
    parser.add_argument("--threads", type=_threads, default=[1], help="thread counts with commas between; default: 1")
    parser.add_argument("--repeats", type=int, default=3, help="blocks of each peer, in turn; default: 3")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a block; default: 1")
    parser.add_argument("--least", type=int, default=5, help="least pictures of a block; default: 5")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="networks; default: all in --models")
    parser.add_argument("--out", metavar="FILE", type=Path, help="results, JSON; written after every row")
    parser.add_argument("--resume", action="store_true", help="measure what --out lacks, or has with other boxes")
    return parser


def strangers(taken: Dict[str, Any]) -> Dict[str, int]:
    """Of a row, the peers that do not find libdetect's boxes, and how many they do find."""
    return {peer: matched for peer, matched in taken["agreed"].items() if matched < 0.98 * taken["boxes"]}


class Results:
    """What was measured so far, in a file that is rewritten after every row. --resume goes on with it."""

    #: What may differ between the parts of one file's measurement.
    PASSING = ("date", "load", "mhz")

    def __init__(self, path: Optional[Path], found: Dict[str, Any], plan: Dict[str, Any]) -> None:
        self.path = path
        self.content: Dict[str, Any] = {"environment": found, "plan": plan, "rows": [], "failed": []}

    def resume(self) -> None:
        """Takes up the rows of the file, where there is one; ValueError when they were measured otherwise."""
        if self.path is None or not self.path.exists():
            return
        before = json.loads(self.path.read_text(encoding="utf-8"))
        for part in ("environment", "plan"):
            for key in sorted(set(self.content[part]) | set(before[part])):
                if key not in self.PASSING and self.content[part].get(key) != before[part].get(key):
                    raise ValueError(f"{self.path} was measured with another {part}: {key}")
        self.content = before

    def has(self, name: str, threads: int) -> bool:
        """Whether this row is measured already, and every peer found the boxes."""
        return any(
            (row["network"], row["threads"]) == (name, threads) and not strangers(row) for row in self.content["rows"]
        )

    def add(self, taken: Dict[str, Any]) -> None:
        """Keeps a row."""
        self._forget(taken["network"], taken["threads"])
        self.content["rows"].append(taken)
        self._write()

    def fail(self, name: str, threads: int, reason: str) -> None:
        """Remembers why a row is missing."""
        self._forget(name, threads)
        self.content["failed"].append({"network": name, "threads": threads, "reason": reason})
        self._write()

    def _forget(self, name: str, threads: int) -> None:
        for part in ("rows", "failed"):
            kept = [one for one in self.content[part] if (one["network"], one["threads"]) != (name, threads)]
            self.content[part] = kept

    def _write(self) -> None:
        if self.path is not None:
            new = self.path.with_name(self.path.name + ".new")
            new.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
            new.replace(self.path)


def _measured(take: Callable[..., Dict[str, Any]], name: str, threads: int, results: Results) -> bool:
    """Takes a row into the results. Whether all went well; if not, the other networks are measured all the same."""
    try:
        taken = take(name, threads=threads)
    except Exception as error:
        results.fail(name, threads, _reason(error))
        print(f"{name} failed: {_reason(error)}", file=sys.stderr)
        return False
    results.add(taken)
    print(bench_report.line(taken), flush=True)
    for peer, reason in taken["absent"].items():
        print(f"{name}: left out {peer}: {reason}", file=sys.stderr)
    for peer, matched in strangers(taken).items():
        print(f"{name}: {peer} has {matched} of {taken['boxes']} boxes", file=sys.stderr)
    return not strangers(taken)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a network failed or a peer found other boxes, 2 wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    there = sorted(path.name[: -len(".safetensors")] for path in given.models.glob("*.safetensors"))
    missing = [name for name in given.only or [] if name not in there]
    if missing or not there:
        parser.error(f"{given.models} has no {missing[0] if missing else ''}.safetensors")
    peers = default_peers(given.device) if given.peers is None else given.peers
    if not peers:
        parser.error(f"none of {', '.join(DEFAULT_PEERS[given.device])} is installed")
    setting = Setting(given.device, given.precision)
    plan = Plan(given.repeats, given.seconds, given.least, settle=0.05)
    results = Results(given.out, environment(given.models), {**vars(plan), **vars(setting), "peers": peers})
    load = results.content["environment"]["load"]
    if load > LOAD_LIMIT:
        print(f"warning: the load average is {load:.2f}: others are at work", file=sys.stderr)
    if given.resume:
        try:
            results.resume()
        except ValueError as error:
            parser.error(str(error))
    wanted = itertools.product(given.only or there, given.threads)
    left = [(name, threads) for name, threads in wanted if not results.has(name, threads)]
    take = functools.partial(row, folder=given.models, peers=peers, plan=plan, setting=setting)
    good = [_measured(take, name, threads, results) for name, threads in left]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
