"""Every network of a reference folder against its authors' outputs:

    run_golden.py GOLDEN_TEST own|golden [--device cuda] [--precisions fp32,tf32,fp16] [NETWORK...]

own: the references that come with the project; golden: the larger set of the folder DET_GOLDEN.
For each network: synthetic weights -> libdetect.convert -> golden_test; on the CPU with one and with two threads, on
another device once for each precision."""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data
import synthetic


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("which", choices=["own", "golden"])
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", default="fp32")
    args = parser.parse_intermixed_args()
    wanted = args.networks
    runs = [[n] for n in "12"] if args.device == "cpu" else [
        ["1", "--device", args.device, "--precision", precision] for precision in args.precisions.split(",")]
    golden = reference_data.golden() if args.which == "golden" else reference_data.ROOT / "tests" / "data" / "golden"
    variants = [p.parent for p in sorted(golden.glob("*/manifest.json")) if not wanted or p.parent.name in wanted]
    failed, skipped = [], []
    with tempfile.TemporaryDirectory() as temporary:
        raw, model = Path(temporary) / "raw.safetensors", Path(temporary) / "model.safetensors"
        for variant in variants:
            synthetic.write(variant / "manifest.json", str(raw))
            reference_data.convert(raw, model)
            for options in runs:
                run = subprocess.run([args.program, str(model), str(variant / "reference.safetensors"), *options])
                if run.returncode != 0:
                    (skipped if run.returncode == 77 else failed).append(f"{variant.name} {' '.join(options)}")
    print(f"{len(variants)} networks, {len(skipped)} runs skipped {skipped or ''}, {len(failed)} failures {failed or ''}")
    if failed or not variants:
        return 1
    return 77 if len(skipped) == len(variants) * len(runs) else 0


if __name__ == "__main__":
    sys.exit(main())
