#!/usr/bin/env python3
"""Load on a detection server: as many connections as asked, each sending its next picture when the last is answered.

    load_client.py --url http://127.0.0.1:8080/infer --connections 200 --seconds 10 photo.jpg [photo.png ...]

Prints one line of JSON: answers by status code, requests that got none, answers a second, and latency in milliseconds
(mean and percentiles of the answers with status 200). The exit status is 1 when a request got no answer. Needs the
standard library alone; one process drives some thousand requests a second.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

TYPES = {b"\x89PN": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class Load:
    """What all connections share."""

    def __init__(self, url: str, pictures: List[bytes], seconds: float, requests: Optional[int]) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        path = (parts.path or "/infer") + (f"?{parts.query}" if parts.query else "")
        self.requests = [self.request(path, picture) for picture in pictures]
        self.left = requests  # None: until the time is up
        self.end = time.monotonic() + seconds
        self.sent = 0
        self.codes: Counter = Counter()
        self.lost: Counter = Counter()
        self.latencies: List[float] = []

    def request(self, path: str, picture: bytes) -> bytes:
        kind = TYPES.get(picture[:3], "application/octet-stream")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(picture)}\r\n\r\n"
        )
        return head.encode() + picture

    def next(self) -> Optional[bytes]:
        """The next request; None when enough have been sent."""
        if time.monotonic() >= self.end or self.left == 0:
            return None
        if self.left is not None:
            self.left -= 1
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]


async def read_answer(reader: asyncio.StreamReader) -> "tuple[int, bool]":
    """Status code, and whether the connection goes on."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(length)
    return int(head.split()[1]), "connection: close" not in head


async def connection(load: Load) -> None:
    """One after the other; a closed connection is opened again."""
    writer = None
    while True:
        request = load.next()
        if request is None:
            break
        begin = time.monotonic()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(load.host, load.port)
            writer.write(request)
            await writer.drain()
            code, goes_on = await read_answer(reader)
        except (OSError, EOFError) as error:
            load.lost[type(error).__name__] += 1
            code, goes_on = None, False
        if code is not None:
            load.codes[code] += 1
        if code == 200:
            load.latencies.append(time.monotonic() - begin)
        if not goes_on and writer is not None:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


def summary(load: Load, seconds: float) -> Dict[str, Any]:
    times = sorted(1e3 * t for t in load.latencies)

    def at(share: float) -> Optional[float]:
        return round(times[min(len(times) - 1, int(share * len(times)))], 2) if times else None

    return {
        "sent": load.sent,
        "codes": {str(code): n for code, n in sorted(load.codes.items())},
        "lost": dict(load.lost),
        "seconds": round(seconds, 2),
        "answers_per_second": round(sum(load.codes.values()) / seconds, 1),
        "mean_ms": round(sum(times) / len(times), 2) if times else None,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }


async def run(load: Load, connections: int) -> Dict[str, Any]:
    begin = time.monotonic()
    await asyncio.gather(*(connection(load) for _ in range(connections)))
    return summary(load, time.monotonic() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080/infer")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, help="stop after so many")
    parser.add_argument("pictures", nargs="+", type=Path)
    given = parser.parse_args()
    load = Load(given.url, [path.read_bytes() for path in given.pictures], given.seconds, given.requests)
    result = asyncio.run(run(load, given.connections))
    print(json.dumps(result))
    return 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
