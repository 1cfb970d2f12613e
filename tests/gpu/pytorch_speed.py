"""DamoFD in PyTorch on this machine's GPU, half precision and channels last, eager and compiled with CUDA graphs: prints
pictures a second of the network alone as JSON. Exit status 77 without PyTorch or a GPU."""
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
SECONDS, WARM_UP = 1.0, 10


def rate(torch, network, batch):
    """Pictures a second of noise."""
    x = torch.randn(batch, 3, 640, 640, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
    for _ in range(WARM_UP):
        network(x)
    torch.cuda.synchronize()
    begin, n = time.time(), 0
    while time.time() - begin < SECONDS:
        for _ in range(5):
            network(x)
        torch.cuda.synchronize()
        n += 5 * batch
    return n / (time.time() - begin)


def main():
    try:
        import torch
        from network import DamoFD
    except ImportError as absent:
        print(f"SKIP: {absent}")
        return 77
    if not torch.cuda.is_available():
        print("SKIP: PyTorch sees no GPU")
        return 77
    rows = []
    with torch.inference_mode():
        for variant in ("0.5g-kps", "2.5g-kps"):
            network = DamoFD(variant).eval().cuda().half().to(memory_format=torch.channels_last)
            compiled = torch.compile(network, mode="reduce-overhead")
            for batch in (1, 64):
                rows.append({"network": f"damofd {variant}", "batch": batch, "eager": rate(torch, network, batch),
                             "compiled": rate(torch, compiled, batch)})
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
