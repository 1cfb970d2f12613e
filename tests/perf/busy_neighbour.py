"""Does a second thread help, and does it hurt beside another busy process? busy_neighbour.py MODEL [REPEATS]

Times detection with one and two threads, alone and beside a process that keeps one core busy, in turn, and prints
medians in milliseconds as Markdown. Threads that spin while they wait would make the last cell the slowest. Not part of
the tests: it measures a machine."""
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bindings" / "python"))

import libdetect  # noqa: E402

SECONDS = 1.5


def median_ms(context, picture):
    """Median time of one detection over SECONDS."""
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        context.detect(picture)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    model = libdetect.Model(sys.argv[1])
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    picture = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
    contexts = {n: libdetect.Context(model, device="cpu", n_threads=n) for n in (1, 2)}
    found = {(n, busy): [] for n in contexts for busy in (False, True)}
    for _ in range(repeats):
        for busy in (False, True):
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
            for n, context in contexts.items():
                found[n, busy].append(median_ms(context, picture))
            if neighbour:
                neighbour.kill()
                neighbour.wait()
    print(f"{platform.processor() or platform.machine()}, {time.strftime('%Y-%m-%d')}, libdetect {libdetect.version()}, "
          f"{model.info.family} {model.info.variant}, median of {repeats} medians (and their range), ms\n")
    print("| threads | alone | beside a busy process |\n| --- | --- | --- |")
    for n in contexts:
        cells = [f"{statistics.median(found[n, b]):.1f} ({min(found[n, b]):.1f} to {max(found[n, b]):.1f})" for b in (False, True)]
        print(f"| {n} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
