"""Every network of a reference folder against its authors' outputs: run_golden.py GOLDEN_TEST own|golden [NETWORK...]

own: the references that come with the project; golden: the larger set of the folder DET_GOLDEN.
For each network: synthetic weights -> libdetect.convert -> golden_test, with one and with two threads."""
import subprocess
import sys
import tempfile
from pathlib import Path

import reference_data
import synthetic


def main():
    program, which, wanted = sys.argv[1], sys.argv[2], sys.argv[3:]
    golden = reference_data.golden() if which == "golden" else reference_data.ROOT / "tests" / "data" / "golden"
    variants = [p.parent for p in sorted(golden.glob("*/manifest.json")) if not wanted or p.parent.name in wanted]
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        raw, model = Path(temporary) / "raw.safetensors", Path(temporary) / "model.safetensors"
        for variant in variants:
            synthetic.write(variant / "manifest.json", str(raw))
            reference_data.convert(raw, model)
            for n_threads in "12":
                run = subprocess.run([program, str(model), str(variant / "reference.safetensors"), n_threads])
                if run.returncode:
                    failed.append(f"{variant.name}, {n_threads} threads")
    print(f"{len(variants)} networks, {len(failed)} failures {failed or ''}")
    return 1 if failed or not variants else 0


if __name__ == "__main__":
    sys.exit(main())
