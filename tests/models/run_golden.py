"""Every network of the reference folder against its authors' outputs: run_golden.py GOLDEN_TEST [VARIANT...]

For each variant: synthetic weights -> libdetect.convert -> golden_test, with one and with two threads."""
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data


def main():
    program, wanted = sys.argv[1], sys.argv[2:]
    golden = reference_data.golden()
    variants = [p.parent for p in sorted(golden.glob("*/manifest.json")) if not wanted or p.parent.name in wanted]
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        raw, model = Path(temporary) / "raw.safetensors", Path(temporary) / "model.safetensors"
        for variant in variants:
            subprocess.run([sys.executable, str(golden / "synth.py"), str(variant / "manifest.json"), str(raw)], check=True)
            reference_data.convert(raw, model)
            for n_threads in "12":
                run = subprocess.run([program, str(model), str(variant / "reference.safetensors"), n_threads])
                if run.returncode:
                    failed.append(f"{variant.name}, {n_threads} threads")
    print(f"{len(variants)} networks, {len(failed)} failures {failed or ''}")
    return 1 if failed or not variants else 0


if __name__ == "__main__":
    sys.exit(main())
