#!/usr/bin/env python3
"""Detects in a directory of very many pictures, as a Ray Data job.

    ray_batch.py --output results photos/

The pictures are cut into shards of some hundreds. The list of them is written first (OUTPUT/shards.jsonl), each finished
shard is one file (OUTPUT/part-000042.jsonl, one line of JSON a picture), written whole or not at all. A job that was
stopped, or whose machine died, is simply started again: it reads the same list and does what has no file yet. A picture
that cannot be read is a line with an "error", not the end of the job.

Needs the libdetect package, ray[data] and Pillow. On a cluster, OUTPUT and the pictures must be on storage that every
node sees; each worker holds a context of its own (--threads on a CPU, or one GPU with --gpu).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

EXTENSIONS = {".jpg", ".jpeg", ".png"}


def find_pictures(folder: Path) -> Iterator[str]:
    """Paths below `folder`, relative to it, in the order of their bytes."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in EXTENSIONS:
                yield os.path.relpath(os.path.join(parent, name), folder)


def write_whole(path: Path, lines: Iterator[str]) -> None:
    """Under a name of this process first: `path` is whole, or not there. Two workers at one shard do no harm."""
    part = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    with open(part, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def plan(pictures: Path, output: Path, shard_size: int) -> int:
    """The number of shards; writes their list unless an earlier run has."""
    shards = output / "shards.jsonl"
    if not shards.exists():
        output.mkdir(parents=True, exist_ok=True)

        def lines() -> Iterator[str]:
            shard: List[str] = []
            for path in find_pictures(pictures):
                shard.append(path)
                if len(shard) == shard_size:
                    yield json.dumps(shard)
                    shard = []
            if shard:
                yield json.dumps(shard)

        write_whole(shards, lines())
    with open(shards, encoding="utf-8") as file:
        return sum(1 for _ in file)


def read_shards(output: Path, missing: List[int]) -> Iterator[Dict[str, Any]]:
    """The shards that are still to be done."""
    wanted = set(missing)
    with open(output / "shards.jsonl", encoding="utf-8") as file:
        for number, line in enumerate(file):
            if number in wanted:
                yield {"shard": number, "paths": line}


def part_path(output: Path, shard: int) -> Path:
    return output / f"part-{shard:06d}.jsonl"


class Worker:
    """One context. Ray makes one for each of its actors and hands it shards."""

    def __init__(self, model: str, pictures: str, output: str, options: Dict[str, Any], score: Optional[float]) -> None:
        import libdetect

        self.model = libdetect.Model(model)
        self.context = libdetect.Context(self.model, **options)
        self.names = self.model.info.class_names
        self.n_landmarks = self.model.info.n_landmarks
        self.batch = self.context.info.max_batch
        self.pictures, self.output, self.score = Path(pictures), Path(output), score

    def read(self, path: str) -> Any:
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(self.pictures / path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))

    def describe(self, found: Any) -> Dict[str, Any]:
        box = [round(float(found[key]), 2) for key in ("x1", "y1", "x2", "y2")]
        row = {"label": self.names[found["class_id"]], "score": round(float(found["score"]), 5), "box": box}
        if self.n_landmarks:
            row["landmarks"] = [[round(float(v), 2) for v in point] for point in found["landmarks"]]
        return row

    def lines(self, paths: List[str], counts: Dict[str, int]) -> Iterator[str]:
        """One line a picture, in the order of the shard; a batch's pictures are in memory at a time."""
        for begin in range(0, len(paths), self.batch):
            rows: List[Dict[str, Any]] = [{"path": path} for path in paths[begin : begin + self.batch]]
            read = []
            for row in rows:
                try:
                    row["pixels"] = self.read(row["path"])
                    read.append(row)
                except (OSError, ValueError, SyntaxError) as error:  # what Pillow has for files that are none
                    row["error"] = f"{type(error).__name__}: cannot be read as a picture"
                    counts["errors"] += 1
            found = self.context.detect([row.pop("pixels") for row in read], score=self.score) if read else []
            for row, objects in zip(read, found):
                row["objects"] = [self.describe(each) for each in objects]
                counts["objects"] += len(objects)
            for row in rows:
                counts["pictures"] += 1
                yield json.dumps(row, ensure_ascii=False)

    def __call__(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """A batch of Ray's: columns of shards. Returns what was done, a row a shard."""
        done: Dict[str, List[int]] = {"shard": [], "pictures": [], "errors": [], "objects": []}
        for shard, paths in zip(batch["shard"], batch["paths"]):
            counts = {"pictures": 0, "errors": 0, "objects": 0}
            write_whole(part_path(self.output, int(shard)), self.lines(json.loads(str(paths)), counts))
            done["shard"].append(int(shard))
            for key, value in counts.items():
                done[key].append(value)
        return done


def run(given: argparse.Namespace) -> Dict[str, int]:
    """Does what is not done yet; returns what it did."""
    n_shards = plan(given.pictures, given.output, given.shard_size)
    missing = [shard for shard in range(n_shards) if not part_path(given.output, shard).exists()]
    total = {"shards": 0, "skipped": n_shards - len(missing), "pictures": 0, "errors": 0, "objects": 0}
    if not missing:
        return total
    import libdetect
    import ray

    options: Dict[str, Any] = {"device": "cuda" if given.gpu else "cpu", "max_batch": given.batch}
    if not given.gpu:
        options["n_threads"] = given.threads
    if given.size:
        options["input_size"] = given.size
    model = given.model or libdetect.default_model()
    if Path(model).exists():  # else it is the name of a model that comes with libdetect
        model = str(Path(model).resolve())
    arguments = model, str(given.pictures.resolve()), str(given.output.resolve())
    done = ray.data.from_items(list(read_shards(given.output, missing))).map_batches(
        Worker,
        fn_constructor_args=(*arguments, options, given.score),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(given.workers, len(missing))),
        num_cpus=given.threads,
        num_gpus=1 if given.gpu else 0,
    )
    begin = time.monotonic()
    for row in done.iter_rows():
        total["shards"] += 1
        for key in ("pictures", "errors", "objects"):
            total[key] += int(row[key])
        rate = total["pictures"] / (time.monotonic() - begin)
        print(f"{total['shards']} of {len(missing)} shards, {rate:.0f} pictures a second", file=sys.stderr)
    return total


def parse_size(text: str) -> "tuple[int, int]":
    width, height = text.split("x")
    return int(width), int(height)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="model file, or the name of one that comes with libdetect; default: libdetect.default_model()")
    parser.add_argument("--output", required=True, type=Path, help="folder of the results; the same to go on")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="contexts at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each")
    parser.add_argument("--gpu", action="store_true", help="one GPU for each")
    parser.add_argument("--batch", type=int, default=8, help="pictures in a run")
    parser.add_argument("--shard-size", type=int, default=500, help="pictures in a shard, of a new list")
    parser.add_argument("--size", type=parse_size, help="network's input, such as 640x640")
    parser.add_argument("--score", type=float, help="lowest score; default: the model's")
    parser.add_argument("pictures", type=Path)
    given = parser.parse_args()
    if not given.pictures.is_dir():
        parser.error(f"{given.pictures} is no directory")
    print(json.dumps(run(given)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
