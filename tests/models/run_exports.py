"""Real .onnx exports: what libdetect.convert makes of them must be what it makes of the checkpoints.

Random weights, exported by Ultralytics' exporter (YOLOv8, YOLO11), by both of PyTorch's, and, where DET_YOLOV5 and
DET_DAMO_YOLO name checkouts of the authors' repositories, by YOLOv5's export.py and as DAMO-YOLO's tools/converter.py
does. Needs torch, onnx, onnxscript, onnxslim, onnxruntime and ultralytics (-DDET_EXPORT_PYTHON); exit code 77: skipped."""
import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

import reference_data

NEEDED = ("torch", "onnx", "onnxscript", "onnxslim", "onnxruntime", "ultralytics")
SIZE = 64
ULTRALYTICS = {
    "yolov8n": [{}, {"simplify": False, "opset": 12}, {"dynamic": True}, {"nms": True}, {"half": True}],
    "yolo11n": [{}, {"simplify": False, "dynamic": True}],
}


def tensors(source, folder):
    """The tensors of a conversion, with the factors of box outputs merged in, as simplifiers do."""
    from libdetect import convert, safetensors

    target = folder / "converted.safetensors"
    convert.convert_file(str(source), str(target))
    found, _ = safetensors.decode(target.read_bytes())
    found = {name: tensor.astype("f8") for name, tensor in found.items()}
    for level in range(3):
        factor = found.pop(f"head.scales.{level}.scale", 1)
        for part in ("weight", "bias"):
            if f"head.gfl_reg.{level}.{part}" in found:
                found[f"head.gfl_reg.{level}.{part}"] *= factor
    return found


def randomise(model):
    """BatchNorm statistics, and factors of box outputs, which are all ones and zeros in a new network."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in ((module.weight, 0.7, 1.1), (module.bias, -0.1, 0.1),
                                      (module.running_mean, -0.1, 0.1), (module.running_var, 0.8, 1.3)):
                values.uniform_(low, high)
    for level, factor in enumerate(getattr(getattr(model, "head", None), "scales", [])):
        factor.scale.fill_(0.9 + 0.1 * level)


def by_ultralytics(folder):
    from ultralytics import YOLO
    import torch

    for arch, variants in ULTRALYTICS.items():
        checkpoint = folder / f"{arch}.pt"
        new = YOLO(f"{arch}.yaml")
        randomise(new.model)
        new.save(checkpoint)
        for options in variants:
            YOLO(checkpoint).export(format="onnx", imgsz=SIZE, verbose=False, **options)
            yield f"{arch} {options}", checkpoint, checkpoint.with_suffix(".onnx"), 1e-3 if "half" in options else 1e-6
        target = folder / "newer.onnx"
        saved = YOLO(checkpoint).model.float().eval()  # rounded to half precision when it was saved
        torch.onnx.export(saved, (torch.zeros(1, 3, SIZE, SIZE),), str(target), dynamo=True, external_data=False)
        yield f"{arch}, PyTorch's newer exporter", checkpoint, target, 1e-6


def by_yolov5(folder, source):
    import torch

    sys.path.insert(0, str(source))
    from models.yolo import DetectionModel

    model = DetectionModel(str(source / "models" / "yolov5n.yaml"))
    randomise(model)
    checkpoint = folder / "yolov5n.pt"
    torch.save({"model": model}, checkpoint)
    for options in ([], ["--dynamic", "--simplify"]):
        command = [sys.executable, "export.py", "--weights", checkpoint, "--include", "onnx", "--imgsz", str(SIZE)]
        subprocess.run(command + options, check=True, cwd=source, capture_output=True)
        yield f"yolov5n {options}", checkpoint, checkpoint.with_suffix(".onnx"), 1e-6


def by_damo_yolo(folder, source):
    import onnx
    import onnxslim
    import torch

    loader = SourceFileLoader("export_peers", str(reference_data.ROOT / "scripts" / "export-peers"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    peers = importlib.util.module_from_spec(spec)
    loader.exec_module(peers)
    for variant in ("ns", "t"):
        model = peers.damo_yolo(variant, argparse.Namespace(damo_yolo=source)).model
        randomise(model)
        checkpoint, target = folder / f"{variant}.pth", folder / f"{variant}.onnx"
        torch.save({"model": model.state_dict()}, checkpoint)
        for layer in model.modules():
            if hasattr(layer, "switch_to_deploy"):
                layer.switch_to_deploy()
        model.head.nms = False
        torch.onnx.export(model.eval(), (torch.zeros(1, 3, SIZE, SIZE),), str(target), opset_version=11, dynamo=False,
                          input_names=["images"])
        yield f"damo-yolo-{variant}", checkpoint, target, 1e-6
        onnx.save(onnxslim.slim(onnx.load(target)), target)
        yield f"damo-yolo-{variant}, simplified", checkpoint, target, 1e-6


def exports(folder):
    """What was exported, its checkpoint, the .onnx file, and how far its tensors may be off."""
    yield from by_ultralytics(folder)
    for variable, exporter in (("DET_YOLOV5", by_yolov5), ("DET_DAMO_YOLO", by_damo_yolo)):
        if os.environ.get(variable):
            yield from exporter(folder, Path(os.environ[variable]).resolve())
        else:
            print(f"left out: no {variable}")


def main():
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"SKIP: no {missing[0]}")
        return reference_data.SKIP
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
    n_exports, failed = 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["YOLO_CONFIG_DIR"] = name
        os.chdir(folder)
        import torch

        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        for what, checkpoint, exported, most in exports(folder):
            expected, found = tensors(checkpoint, folder), tensors(exported, folder)
            assert expected.keys() == found.keys(), what
            off = max(abs(found[key] - expected[key]).max() / abs(expected[key]).max() for key in expected)
            print(f"{what}: {off:.1e}")
            n_exports += 1
            if not off <= most:
                failed.append(what)
    print(f"{n_exports} exports, {len(failed)} failures {failed or ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
