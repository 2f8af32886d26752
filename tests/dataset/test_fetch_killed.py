"""A fetch that is killed, again and again, ends with exactly what an undisturbed one has."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from picture_server import PictureServer, after, gives, in_turn, jpeg, redirects, status
from small_pictures import MakeRecords

from taxakey.dataset.fetch import FetchOptions, fetch

PICTURES = 400
KILLS_ON_THE_WAY, KILLS_AT_THE_END = 16, 4
OPTIONS = FetchOptions(allow_private_addresses=True, rate=1000, per_host=3, backoff=0.01, longest_backoff=0.05)
AT_ONCE = 2 * OPTIONS.per_host
DATA = [jpeg(number) for number in range(PICTURES)]


@pytest.fixture
def servers() -> Iterator[tuple[PictureServer, PictureServer]]:
    with PictureServer("127.0.0.1") as one, PictureServer("127.0.0.2") as other:
        yield one, other


def set_answers(servers: tuple[PictureServer, PictureServer], delay: float) -> None:
    """Most are pictures; some are gone, some moved to the other host, some only there at the second request."""
    for number in range(PICTURES):
        here, there = servers[number % 2], servers[1 - number % 2]
        picture = after(delay, gives(DATA[number]))
        here.answers[f"/{number}"] = picture
        if number % 20 == 3:
            here.answers[f"/{number}"] = status(404)
        elif number % 20 == 8:
            here.answers[f"/{number}"] = redirects(f"{there.url}/moved/{number}")
            there.answers[f"/moved/{number}"] = picture
        elif number % 20 == 15:
            here.answers[f"/{number}"] = in_turn(status(500), picture)


def asked(servers: tuple[PictureServer, PictureServer]) -> Counter[str]:
    """How often each address of the records was asked for so far."""
    return Counter(server.url + path for server in servers for path in server.paths() if not path.startswith("/moved"))


def settled(journal: Path) -> set[str]:
    """Addresses that the journal of a killed process knows to be fetched or to have failed for good."""
    if not journal.is_file():
        return set()
    with closing(sqlite3.connect(journal)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'address'").fetchone():
            return set()
        return {url for (url,) in db.execute("SELECT url FROM address WHERE state <> 0")}


def contents(out: Path) -> dict[str, object]:
    files = {str(file.relative_to(out)): file.read_bytes() for file in (out / "files").rglob("*") if file.is_file()}
    tables = {
        name: pq.read_table(out / name).drop_columns([time_column]).to_pylist()
        for name, time_column in (("pictures.parquet", "fetched_at"), ("failures.parquet", "last_tried"))
    }
    return {"files": files, **tables}


def test_killed_at_twenty_random_moments(
    servers: tuple[PictureServer, PictureServer], make_records: MakeRecords, tmp_path: Path
) -> None:
    urls = [f"{servers[number % 2].url}/{number}" for number in range(PICTURES)]
    folder = make_records([(None, "Poa annua", "train")] * PICTURES, identifier=urls)
    set_answers(servers, delay=0)
    undisturbed = fetch(folder, tmp_path / "undisturbed", OPTIONS)

    set_answers(servers, delay=0.03)
    for server in servers:
        server.requests.clear()
    processes = multiprocessing.get_context("forkserver")  # imports once, so that a start takes no second
    processes.set_forkserver_preload(["taxakey.dataset.fetch"])
    out, chance = tmp_path / "killed", random.Random(20)
    lost: Counter[str] = Counter()
    exits = []
    for kill in range(KILLS_ON_THE_WAY + KILLS_AT_THE_END):
        before, known = asked(servers), settled(out / "journal.sqlite")
        process = processes.Process(target=fetch, args=(folder, out, OPTIONS))
        process.start()
        at_the_end = kill >= KILLS_ON_THE_WAY
        enough = PICTURES if at_the_end else len(known) + chance.randrange(24)
        while len(known | set(asked(servers) - before)) < enough and process.is_alive():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.join()
        exits.append(process.exitcode)
        time.sleep(0.1)  # the server reads what the dead has sent
        now = asked(servers) - before
        assert not set(now) & known, "asked again for what was settled"
        in_flight = set(now) - settled(out / "journal.sqlite")
        assert len(in_flight) <= AT_ONCE + sum(url in in_flight for url in twice(urls))
        lost.update(in_flight)
    assert exits[:KILLS_ON_THE_WAY] == [-9] * KILLS_ON_THE_WAY

    finished = fetch(folder, out, OPTIONS)
    assert finished.counts == undisturbed.counts
    assert (finished.counts["pictures"], finished.counts["failures"]) == (PICTURES - 20, 20)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "undisturbed").iterdir()}
    total = asked(servers)
    assert lost.total() > KILLS_ON_THE_WAY // 2  # the kills did hit something
    for url in set(urls) - set(twice(urls)):
        assert total[url] == 1 + lost[url], url
    assert max(total[url] - lost[url] for url in twice(urls)) <= 2


def twice(urls: list[str]) -> list[str]:
    """The addresses that give their picture at the second request only."""
    return urls[15::20]
