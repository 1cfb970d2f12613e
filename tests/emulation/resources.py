#!/usr/bin/env python3
"""What the kernels take of a chip: resources.py --nvcc NVCC [--include FOLDER]... [--arch 80 90]

Compiles kernels/*.cu and reads the assembler's report. No kernel may spill registers or keep arrays in local memory, and
every one says how many threads its blocks have at most, so that a launch cannot fail for want of registers. The kernels of
the table stay within its figures, which let as many blocks live on a multiprocessor as the table's last column says.
Says SKIP, with status 77, where there is no nvcc."""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
SKIP = 77
# Of a multiprocessor, the least of all chips: registers, threads, bytes of shared memory, which 1 KiB per block is taken of.
REGISTERS, THREADS, SHARED_BYTES, SHARED_PER_BLOCK = 65536, 1536, 100 * 1024, 1024

# Name (of all instances): threads of a block, most registers, most bytes of static shared memory, least blocks at a time.
TABLE = {
    "preprocess": (256, 48, 1536, 5),
    "scan_heads": (256, 64, 64, 4),
    "select": (1024, 64, 43 * 1024, 1),
    "nms": (512, 42, 15 * 1024, 3),
    "depthwise": (256, 128, 0, 2),
    "epilogue": (256, 32, 0, 6),
    "upsample": (256, 32, 0, 6),
    "copy_vectors": (256, 32, 0, 6),
    "norm_moments": (256, 64, 17 * 1024, 4),
    "norm_values": (256, 40, 0, 6),
    "pool": (256, 56, 0, 4),
    "spp": (256, 64, 35 * 1024, 2),
    "space_to_depth": (256, 32, 0, 6),
    "attention": (128, 72, 10 * 1024, 6),
}


def is_kernel(line: str) -> bool:
    return "__global__" in line and not line.lstrip().startswith(("/*", "*", "//"))


def unbounded(source: Path) -> list[str]:
    """The kernels of a source file that do not say how many threads they are for."""
    lines = source.read_text().splitlines()
    return [f"{source.name}:{i + 1}: a kernel without __launch_bounds__" for i, line in enumerate(lines)
            if is_kernel(line) and "__launch_bounds__" not in line + (lines[i + 1] if i + 1 < len(lines) else "")]


def simple_name(mangled: str) -> str:
    """A kernel's own name: the last of a mangled nested name's parts. Each part follows its length."""
    parts, rest = [], re.sub(r"^_ZN?", "", mangled)
    while match := re.match(r"(\d+)", rest):
        length, start = int(match[1]), match.end()
        parts.append(rest[start:start + length])
        rest = rest[start + length:]
    return parts[-1] if parts else mangled


def parse(report: str) -> list[dict]:
    """The assembler's report: for every kernel its name, registers, shared and local bytes and spills."""
    kernels = []
    for line in report.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            kernels.append({"name": simple_name(match[1]), "symbol": match[1], "arch": match[2], "shared": 0})
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if kernels and "stack" not in kernels[-1]:
                kernels[-1].update(stack=int(match[1]), spills=int(match[2]) + int(match[3]))
        elif kernels and (match := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[-1].update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
    return kernels


def compile_report(nvcc: str, includes: list[str], arch: str, source: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O3", f"-arch=sm_{arch}", "-cubin", "-Xptxas", "-v", "--expt-relaxed-constexpr",
                   f"-I{KERNELS}", f"-I{KERNELS.parent / 'include'}", *[f"-I{i}" for i in includes],
                   "-o", os.path.join(folder, "kernels.cubin"), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{source.name} for sm_{arch}: nvcc failed:\n{done.stderr}")
    return done.stderr


def blocks_at_a_time(threads: int, registers: int, shared: int) -> int:
    per_warp = -(-registers * 32 // 256) * 256
    return min(THREADS // threads, REGISTERS // (per_warp * threads // 32), SHARED_BYTES // (shared + SHARED_PER_BLOCK))


def faults(kernel: dict) -> list[str]:
    found = []
    if kernel["spills"]:
        found.append(f"spills {kernel['spills']} bytes")
    if kernel["stack"]:
        found.append(f"has {kernel['stack']} bytes of local memory")
    if kernel["name"] in TABLE:
        threads, registers, shared, blocks = TABLE[kernel["name"]]
        if kernel["registers"] > registers:
            found.append(f"takes {kernel['registers']} registers, more than {registers}")
        if kernel["shared"] > shared:
            found.append(f"takes {kernel['shared']} bytes of shared memory, more than {shared}")
        if (n := blocks_at_a_time(threads, kernel["registers"], kernel["shared"])) < blocks:
            found.append(f"lets {n} blocks live at a time, not {blocks}")
    return [f"{kernel['symbol']} for {kernel['arch']}: {fault}" for fault in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--include", action="append", default=[], help="where CUDA's headers are, besides nvcc's own")
    parser.add_argument("--arch", nargs="+", default=["80", "90"])
    options = parser.parse_args()
    try:
        subprocess.run([options.nvcc, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        print(f"SKIP: no {options.nvcc or 'nvcc'}")
        return SKIP
    sources = sorted(KERNELS.glob("*.cu"))
    problems = [p for source in sources for p in unbounded(source)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [(options.nvcc, options.include, arch, source) for source in sources for arch in options.arch]
        kernels = [k for report in pool.map(lambda job: compile_report(*job), jobs) for k in parse(report)]
    problems += [p for kernel in kernels for p in faults(kernel)]
    problems += [f"no kernel is called {name}" for name in TABLE if name not in {k["name"] for k in kernels}]
    for name in sorted({k["name"] for k in kernels}):
        same = [k for k in kernels if k["name"] == name]
        print(f"{name:24} {len(same):3} instances, registers up to {max(k['registers'] for k in same):3}, "
              f"shared memory up to {max(k['shared'] for k in same):6} bytes")
    print(*problems, sep="\n")
    print(f"resources: {len(kernels)} kernels, {len(problems)} problems")
    return 1 if problems or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
