"""Pictures a second from a local server: `taxakey fetch` beside plain loops over httpx and requests, in one run.

    python benchmarks/fetching.py [--pictures 1000] [--latency 0 20] [--rounds 3] [--out RESULT.json]

The server is a process of its own, speaks from two loopback addresses and answers each request `latency` milliseconds late (0: a
server in the next room; 20: one on the same continent). The pictures are noise of the given size. The politeness is switched off
as far as its own server's owner may: 100,000 requests a second and host, 16 at once, 32 in all, and the server has no robots.txt.
The loops fetch one picture after the other over a connection that is kept, write each to a file and check nothing; Taxakey also
checks, hashes and syncs each picture, keeps the journal and writes the tables. The ways take turns in every round, so that a busy
machine slows all of them; the figure is the median of the rounds' ratios to the httpx loop.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from taxakey.artifacts import Plan
from taxakey.dataset.fetch import FetchOptions, fetch
from taxakey.records.table import Observations

ADDRESSES = ("127.0.0.1", "127.0.0.2")
IMPOLITE = FetchOptions(allow_private_addresses=True, rate=100_000, per_host=16, concurrency=32)
Way = Callable[[list[str], Path], None]


# ---- the server ----


def serve(pictures: list[bytes], latency: float, ports: Any) -> None:
    """Answer /NUMBER with a picture on all addresses, until killed."""
    asyncio.run(_serve(pictures, latency, ports))


async def _serve(pictures: list[bytes], latency: float, ports: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(latency)
                number = head.split(b" ", 2)[1][1:]
                found = number.isdigit()
                body = pictures[int(number) % len(pictures)] if found else b""
                status = b"200 OK" if found else b"404 Not Found"
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    servers = [await asyncio.start_server(answer, address, 0, backlog=256) for address in ADDRESSES]
    ports.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.gather(*(server.serve_forever() for server in servers))


# ---- the ways ----


def taxakey(urls: list[str], folder: Path) -> None:
    table = pa.table({"occurrenceID": urls, "image_id": urls, "identifier": urls, "scientificName": ["Poa annua"] * len(urls)})
    Observations.from_table(table).write(folder / "records", Plan("records"))
    counts = fetch(folder / "records", folder / "pictures", IMPOLITE).counts
    assert counts["pictures"] == len(urls), counts


def httpx_loop(urls: list[str], folder: Path) -> None:
    import httpx

    with httpx.Client() as client:
        for number, url in enumerate(urls):
            (folder / f"{number}.jpg").write_bytes(client.get(url).raise_for_status().content)


def requests_loop(urls: list[str], folder: Path) -> None:
    import requests

    with requests.Session() as session:
        for number, url in enumerate(urls):
            answer = session.get(url)
            answer.raise_for_status()
            (folder / f"{number}.jpg").write_bytes(answer.content)


WAYS: dict[str, Way] = {"taxakey": taxakey, "httpx": httpx_loop, "requests": requests_loop}


def measure(urls: list[str], rounds: int) -> dict[str, list[float]]:
    """Way -> pictures a second in each round."""
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                begun = time.perf_counter()
                way(urls, Path(folder))
                speeds[name].append(len(urls) / (time.perf_counter() - begun))
    return speeds


def noisy_jpeg(seed: int, edge: int) -> bytes:
    file = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (edge // 8, edge // 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((edge, edge), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def at_latency(milliseconds: float, pictures: list[bytes], number: int, rounds: int) -> dict[str, Any]:
    """Start a server, let the ways take turns, and sum up."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(pictures, milliseconds / 1000, there), daemon=True)
    server.start()
    hosts = [f"http://{address}:{port}" for address, port in zip(ADDRESSES, here.recv(), strict=True)]
    urls = [f"{hosts[number % 2]}/{number}" for number in range(number)]
    try:
        for way in WAYS.values():  # imports
            with tempfile.TemporaryDirectory() as folder:
                way(urls[:20], Path(folder))
        speeds = measure(urls, rounds)
    finally:
        server.kill()
    ratios = {name: median(a / b for a, b in zip(speeds[name], speeds["httpx"], strict=True)) for name in WAYS}
    for name in WAYS:
        print(f"{milliseconds:4g} ms late  {name:9} {median(speeds[name]):7.0f} pictures/s, {ratios[name]:5.2f} × the httpx loop")
    return {"latency_ms": milliseconds, "per_second": {name: median(speeds[name]) for name in WAYS}, "ratio_to_httpx": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--edge", type=int, default=600, help="pixels; 600 give about 60 kB")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 20], help="milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pictures = [noisy_jpeg(seed, given.edge) for seed in range(200)]
    print(f"{given.pictures} pictures of {np.mean([len(data) for data in pictures]) / 1000:.0f} kB, {given.rounds} rounds")
    results = [at_latency(latency, pictures, given.pictures, given.rounds) for latency in given.latency]
    if given.out:
        facts = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "pictures": given.pictures}
        given.out.write_text(
            json.dumps(facts | {"edge": given.edge, "rounds": given.rounds, "results": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
