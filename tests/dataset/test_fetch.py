"""Fetching from a real server that behaves as badly as servers do."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_server import (
    Answer,
    PictureServer,
    after,
    chunks,
    cut_off,
    drips,
    endless,
    gives,
    in_turn,
    jpeg,
    redirects,
    stalls,
    status,
    until_closed,
)
from PIL import Image
from small_pictures import MakeRecords, noise

from taxakey.artifacts import Plan, finish, start, write_parquet
from taxakey.dataset.fetch import FetchOptions, fetch
from taxakey.dataset.fetch.journal import Journal
from taxakey.dataset.fetch.tables import FAILURES, PICTURES
from taxakey.dataset.located import fetched_paths
from taxakey.errors import ArtifactError, BadRecords, MissingArtifact, PlanMismatch
from taxakey.records.table import Observations

LOCAL = {
    "allow_private_addresses": True,
    "rate": 1000.0,
    "per_host": 4,
    "backoff": 0.01,
    "longest_backoff": 0.05,
    "longest_wait": 2.0,
    "connect_timeout": 2.0,
    "read_timeout": 1.0,
    "deadline": 2.5,
}
"""Options for a server that we may ask as often as we like; times short enough to wait for."""

Rows = list[dict[str, Any]]
MakeUrls = Callable[[Sequence[str]], Path]
TryAll = Callable[..., dict[str, dict[str, Any]]]
PICTURE = jpeg(1)


def options(**changes: Any) -> FetchOptions:
    return FetchOptions(**{**LOCAL, **changes})


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer("127.0.0.1") as running:
        yield running


@pytest.fixture
def other() -> Iterator[PictureServer]:
    with PictureServer("127.0.0.2") as running:
        yield running


@pytest.fixture
def records(make_records: MakeRecords) -> MakeUrls:
    return lambda urls: make_records([(None, "Poa annua", "train")] * len(urls), identifier=list(urls))


def pictures_of(out: Path) -> Rows:
    table = pq.read_table(out / "pictures.parquet")
    assert table.schema.equals(PICTURES)
    return table.to_pylist()


def failures_of(out: Path) -> Rows:
    table = pq.read_table(out / "failures.parquet")
    assert table.schema.equals(FAILURES)
    return table.to_pylist()


def files_in(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in (out / "files").rglob("*") if file.is_file()}


@pytest.fixture
def try_all(server: PictureServer, records: MakeUrls, tmp_path: Path) -> TryAll:
    """What comes of addresses with those answers, by name: the row of pictures.parquet or failures.parquet."""

    def outcomes(answers: dict[str, Answer], ask: Sequence[str] | None = None, **changes: Any) -> dict[str, dict[str, Any]]:
        names = list(ask or answers)
        server.answers |= {f"/{quote(name)}": answer for name, answer in answers.items()}
        out = tmp_path / "out"
        manifest = fetch(records([f"{server.url}/{quote(name)}" for name in names]), out, options(**changes))
        pictures, failures = pictures_of(out), failures_of(out)
        assert (manifest.counts["pictures"], manifest.counts["failures"]) == (len(pictures), len(failures))
        assert not (out / ".partial").exists()
        assert {row["path"] for row in pictures} == (set(files_in(out)) if pictures else set())
        found = {names[int(row["image_id"][1:])]: row for row in pictures + failures}
        assert found.keys() == set(names)
        return found

    return outcomes


# ---- what is fetched ----


def test_pictures_lie_under_the_hash_of_their_content(server: PictureServer, make_records: MakeRecords, tmp_path: Path) -> None:
    for number in range(5):
        server.answers[f"/../../{number}%2F..%2Fa.php?id={number}"] = gives(jpeg(number))
    urls = [f"{server.url}/../../{number}%2F..%2Fa.php?id={number}" for number in range(5)]
    server.answers = {f"/{number}%2F..%2Fa.php?id={number}": gives(jpeg(number)) for number in range(5)}
    rows = [(None, "Poa annua", "train")] * 5 + [(tmp_path / "mine.jpg", "Poa annua", "train")]
    folder = make_records(rows, identifier=[*urls, f"{server.url}/never-asked-for"])
    begun = datetime.now(UTC) - timedelta(seconds=1)
    manifest = fetch(folder, tmp_path / "out", options())
    found = pictures_of(tmp_path / "out")
    assert [row["image_id"] for row in found] == [f"i{number}" for number in range(5)]
    assert [row["identifier"] for row in found] == urls
    for number, row in enumerate(found):
        digest = hashlib.sha256(jpeg(number)).hexdigest()
        assert (row["sha256"], row["path"]) == (digest, f"files/{digest[:3]}/{digest}.jpg")
        assert (tmp_path / "out" / row["path"]).read_bytes() == jpeg(number)
        assert (row["bytes"], row["media_type"]) == (len(jpeg(number)), "image/jpeg")
        assert row["final_url"].endswith(f"?id={number}")
        assert begun <= row["fetched_at"] <= datetime.now(UTC)
    assert dict(manifest.counts) == {
        "pictures": 5, "files": 5, "bytes": sum(len(jpeg(number)) for number in range(5)), "failures": 0, "to retry": 0,
    }  # fmt: skip
    assert "/never-asked-for" not in server.paths()


def test_an_address_of_several_rows_and_equal_content_at_two_addresses(
    server: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    server.answers = {"/a": gives(PICTURE), "/same": gives(PICTURE)}
    urls = [f"{server.url}/{name}" for name in ("a", "gone", "a", "same", "gone", "a")]
    counts = fetch(records(urls), tmp_path / "out", options()).counts
    assert sorted(server.paths()) == ["/a", "/gone", "/same"]
    assert (counts["pictures"], counts["files"], counts["bytes"]) == (4, 1, len(PICTURE))
    found = pictures_of(tmp_path / "out")
    assert [(row["image_id"], row["identifier"]) for row in found] == [(f"i{place}", urls[place]) for place in (0, 2, 3, 5)]
    assert len({row["path"] for row in found}) == 1
    assert [row["image_id"] for row in failures_of(tmp_path / "out")] == ["i1", "i4"]


def test_the_type_is_told_by_the_bytes_whatever_the_host_calls_it(try_all: TryAll) -> None:
    formats = {"png": "PNG", "webp": "WEBP", "tif": "TIFF", "gif": "GIF", "bmp": "BMP", "jp2": "JPEG2000", "avif": "AVIF"}
    answers = {suffix: gives(saved(noise(2, 30, 40), format), "image/jpeg") for suffix, format in formats.items()}
    answers |= {said: gives(PICTURE, said) for said in ("text/html", "application/octet-stream", "")}
    found = {name: (row["media_type"], Path(row["path"]).suffix) for name, row in try_all(answers).items()}
    types = {"png": "image/png", "webp": "image/webp", "tif": "image/tiff", "gif": "image/gif", "bmp": "image/bmp"}
    types |= {"jp2": "image/jp2", "avif": "image/avif"}
    assert found == {name: (media_type, f".{name}") for name, media_type in types.items()} | dict.fromkeys(
        ("text/html", "application/octet-stream", ""), ("image/jpeg", ".jpg")
    )


def packed(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


def test_one_picture_by_many_ways_of_sending_it(try_all: TryAll) -> None:
    answers = {
        "gzip": gives(packed(PICTURE, 31), Content_Encoding="gzip"),
        "deflate": gives(packed(PICTURE, 15), Content_Encoding="deflate"),
        "chunks": chunks(PICTURE, ends=True),
        "no length": until_closed(PICTURE),
        "byte by byte": drips(PICTURE[:100], 0.001, PICTURE[100:]),
    }
    assert {row["sha256"] for row in try_all(answers).values()} == {hashlib.sha256(PICTURE).hexdigest()}


def test_redirects_are_followed_each_asked_by_its_own_name(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    server.answers["/a"] = redirects("/b", 301)
    server.answers["/b"] = redirects(f"{other.url}/c", 307)
    other.answers["/c"] = gives(PICTURE)
    fetch(records([f"{server.url}/a"]), tmp_path / "out", options())
    assert pictures_of(tmp_path / "out")[0]["final_url"] == f"{other.url}/c"
    assert [request.path for request in server.requests] == ["/robots.txt", "/a", "/b"]
    assert [request.path for request in other.requests] == ["/robots.txt", "/c"]
    assert other.requests[1].headers["Host"] == other.url.removeprefix("http://")


def test_connections_are_kept_whatever_the_answers(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    for number in range(40):
        kinds = (gives(jpeg(number)), status(404), redirects(f"/moved/{number}"), redirects(f"{other.url}/{number}"))
        server.answers[f"/{number}"] = kinds[number % 4]
        server.answers[f"/moved/{number}"] = other.answers[f"/{number}"] = gives(jpeg(number))
    counts = fetch(records([f"{server.url}/{number}" for number in range(40)]), tmp_path / "out", options(per_host=2)).counts
    assert (counts["pictures"], counts["failures"]) == (30, 10)
    assert max(server.connections, other.connections) <= 2


def test_idle_connections_are_closed_when_there_are_too_many(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    """One at a time goes to and fro between two hosts, and only one connection may be kept."""
    for number in range(6):
        server.answers[f"/{number}"] = redirects(f"{other.url}/{number}")
        other.answers[f"/{number}"] = gives(jpeg(number))
    urls = [f"{server.url}/{number}" for number in range(6)]
    assert fetch(records(urls), tmp_path / "out", options(per_host=1, concurrency=1)).counts["pictures"] == 6
    assert min(server.connections, other.connections) == 6


def test_nothing_to_fetch_is_a_finished_artifact(make_records: MakeRecords, tmp_path: Path) -> None:
    folder = make_records([(tmp_path / "mine.jpg", "Poa annua", "train")])
    assert fetch(folder, tmp_path / "out", options()).counts["pictures"] == 0
    assert pictures_of(tmp_path / "out") == failures_of(tmp_path / "out") == []


# ---- what isn't ----

HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def png(width: int, height: int) -> bytes:
    """A PNG of that size whose pixels take no room: two and a half billion of them in 100 bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0]))
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def saved(picture: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, format)
    return file.getvalue()


FOR_GOOD = [
    (status(404), "not found"),
    (status(410), "not found"),
    (status(403), "forbidden"),
    (status(401), "forbidden"),
    (status(400), "refused"),
    (status(204), "refused"),
    (status(304), "refused"),
    (gives(HTML), "not a picture"),
    (gives(b"BM, a text that begins as a bitmap does"), "not a picture"),
    (gives(b"\xff\xd8"), "not a picture"),
    (gives(b"\xff\xd8\xff and then nothing that a JPEG has" + bytes(50)), "broken picture"),
    (gives(png(40, 30)[:20]), "broken picture"),
    (gives(png(50_000, 50_000), "image/png"), "too many pixels"),
    (gives(png(12_000, 12_000), "image/png"), "too many pixels"),
    (gives(PICTURE, Content_Encoding="br"), "unknown packing"),
    (redirects("ftp://example.org/a.jpg"), "bad address"),
    (redirects("file:///etc/passwd"), "bad address"),
    (redirects("http://127.0.0.1:99999/a"), "bad address"),
    (redirects("http://127.0.0.1:port/a"), "bad redirect"),
    (gives(jpeg(1) + bytes(300_000)), "too large"),
]


def test_what_fails_for_good_is_asked_for_once(try_all: TryAll, server: PictureServer) -> None:
    found = try_all(
        {str(number): answer for number, (answer, _) in enumerate(FOR_GOOD)},
        max_pixels=100_000_000, max_bytes=300_000, host_failures=100,
    )  # fmt: skip
    for number, (_, reason) in enumerate(FOR_GOOD):
        row = found[str(number)]
        assert (row["reason"], row["retry"], row["attempts"], row["host"]) == (reason, False, 1, "127.0.0.1"), row
        assert row["last_tried"] is not None
    assert sorted(server.paths()) == sorted(f"/{number}" for number in found)


FOR_NOW = [
    (status(500), "server error"),
    (status(503), "server error"),
    (status(429), "too many requests"),
    (status(408), "server error"),
    (cut_off(PICTURE), "cut off"),
    (chunks(PICTURE, ends=False), "cut off"),
    (until_closed(PICTURE[:-200]), "cut off"),
    (gives(zlib.compress(PICTURE)[:-30], Content_Encoding="deflate"), "cut off"),
    (gives(PICTURE, Content_Encoding="gzip"), "cut off"),
    (gives(b""), "empty"),
    (stalls(PICTURE), "timeout"),
    (drips(PICTURE, 0.1), "timeout"),
]


def test_what_may_pass_is_tried_again_and_stays_to_be_retried(try_all: TryAll, server: PictureServer) -> None:
    answers = {str(number): answer for number, (answer, _) in enumerate(FOR_NOW)}
    found = try_all(answers, attempts=2, host_failures=100)
    for number, (_, reason) in enumerate(FOR_NOW):
        row = found[str(number)]
        assert (row["reason"], row["retry"], row["attempts"]) == (reason, True, 2), row
    assert sorted(server.paths()) == sorted([f"/{number}" for number in found] * 2)


def test_what_has_passed_is_fetched_in_the_same_run(try_all: TryAll) -> None:
    answers = {str(number): in_turn(bad, gives(PICTURE)) for number, (bad, _) in enumerate(FOR_NOW)}
    found = try_all(answers, attempts=3, host_failures=100)
    assert {row.get("sha256") for row in found.values()} == {hashlib.sha256(PICTURE).hexdigest()}


def test_a_circle_of_redirects(try_all: TryAll, server: PictureServer) -> None:
    row = try_all({"a": redirects("/b"), "b": redirects("/a")}, ask=["a"])["a"]
    assert (row["reason"], row["retry"], row["attempts"]) == ("redirects in a circle", False, 1)
    assert server.paths() == ["/a", "/b"]


def test_addresses_that_are_none(records: MakeUrls, tmp_path: Path) -> None:
    urls = ["ftp://example.org/a.jpg", "urn:uuid:1234", "http://", "http://[::1", "http://127.0.0.1:99999/a", "http:///a"]
    fetch(records(urls), tmp_path / "out", options())
    rows = failures_of(tmp_path / "out")
    assert [row["identifier"] for row in rows] == urls
    assert {(row["reason"], row["attempts"], row["retry"]) for row in rows} == {("bad address", 0, False)}


def test_a_type_that_isnt_wanted(try_all: TryAll) -> None:
    row = try_all({"a": gives(saved(noise(1, 30, 40), "GIF"))}, media_types=("image/jpeg", "image/png"))["a"]
    assert (row["reason"], row["detail"], row["retry"]) == ("unwanted type", "image/gif", False)


def test_too_many_redirects(try_all: TryAll, server: PictureServer) -> None:
    hops = {str(number): redirects(f"/{number + 1}") for number in range(9)} | {"9": gives(PICTURE)}
    found = try_all(hops, ask=["0", "6"], max_redirects=3)
    assert found["0"]["reason"] == "too many redirects"
    assert found["6"]["final_url"] == f"{server.url}/9"
    assert sorted(server.paths()) == [f"/{number}" for number in (0, 1, 2, 3, 6, 7, 8, 9)]


def test_two_gigabytes_are_refused_long_before_they_are_here(try_all: TryAll) -> None:
    sent: list[int] = []
    answers = {str(declared): endless(jpeg(1), 2 * 2**30, sent, declared=declared) for declared in (True, False)}
    found = try_all(answers, max_bytes=10 * 2**20)
    assert {(row["reason"], row["retry"], row["attempts"]) for row in found.values()} == {("too large", False, 1)}
    assert found["True"]["detail"].startswith("2,147,483,648 bytes")  # it wasn't even begun
    assert sum(sent) < 40 * 2**20  # what lay in the buffers of both sides comes on top of the limit


def test_a_small_packed_answer_that_unpacks_to_gigabytes_stops_at_the_limit(try_all: TryAll) -> None:
    bomb = packed(jpeg(1) + bytes(2**28), 31)
    assert len(bomb) < 2**19
    tracemalloc.start()
    try:
        row = try_all({"a": gives(bomb, Content_Encoding="gzip")}, max_bytes=20 * 2**20)["a"]
        assert (row["reason"], row["retry"]) == ("too large", False)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


# ---- which machines are asked ----


def test_private_addresses_are_refused_unless_allowed(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.answers["/a"] = gives(PICTURE)
    port = server.server_port
    names = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "169.254.169.254", "10.0.0.1"]
    urls = [f"http://{name}:{port}/a" for name in names]
    fetch(records(urls), tmp_path / "out", FetchOptions(contact="test@example.org", rate=100))
    rows = failures_of(tmp_path / "out")
    assert [(row["reason"], row["retry"]) for row in rows] == [("address refused", False)] * len(urls), rows
    assert server.requests == []


def test_a_redirect_to_a_private_address_is_refused(
    server: PictureServer, records: MakeUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public internet is played by 127.0.0.1: only that one address counts as public."""
    monkeypatch.setattr("taxakey.dataset.fetch.addresses.is_public", lambda address: address == "127.0.0.1")
    with PictureServer("127.0.0.2") as router:
        router.answers["/secret"] = gives(PICTURE)
        server.answers["/a"] = redirects(f"{router.url}/secret")
        fetch(records([f"{server.url}/a"]), tmp_path / "out", options(allow_private_addresses=False, contact="a@example.org"))
        row = failures_of(tmp_path / "out")[0]
        assert (row["reason"], row["retry"], "127.0.0.2" in row["detail"]) == ("address refused", False, True)
        assert server.paths() == ["/a"]
        assert router.requests == []


def test_public_addresses_arent_asked_without_a_contact(
    server: PictureServer, records: MakeUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxakey.dataset.fetch.addresses.is_public", lambda address: True)
    fetch(records([f"{server.url}/a"]), tmp_path / "out", options())
    assert "contact" in failures_of(tmp_path / "out")[0]["detail"]
    assert server.requests == []


def test_the_address_that_was_checked_is_the_one_connected_to(
    server: PictureServer, records: MakeUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that first answers with an allowed address and from then on with another one (DNS rebinding)."""
    looked_up = []
    really = socket.getaddrinfo

    def lookup(host: str, port: int, *rest: Any, **named: Any) -> list[Any]:
        if host != "pictures.example":
            return really(host, port, *rest, **named)
        looked_up.append(host)
        return really("127.0.0.1" if len(looked_up) == 1 else "127.0.0.2", port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr("taxakey.dataset.fetch.addresses.is_public", lambda address: address == "127.0.0.1")
    server.answers["/a"] = gives(PICTURE)
    url = f"http://pictures.example:{server.server_port}/a"
    fetch(records([url]), tmp_path / "out", options(allow_private_addresses=False, contact="a@example.org", per_host=1))
    assert len(pictures_of(tmp_path / "out")) == 1
    assert len(looked_up) == 1
    assert server.requests[1].headers["Host"] == f"pictures.example:{server.server_port}"


def test_tls_speaks_of_the_name_though_a_number_is_connected_to(
    server: PictureServer, records: MakeUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context, asked_for = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _, name, __: asked_for.append(name)  # type: ignore[assignment]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/a"] = gives(PICTURE)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    urls = [f"https://localhost:{server.server_port}/a", f"https://127.0.0.1:{server.server_port}/a"]
    fetch(records(urls), tmp_path / "out", options(attempts=1))
    assert [row["identifier"] for row in pictures_of(tmp_path / "out")] == urls[:1]
    assert set(asked_for) == {"localhost", None}
    refused = failures_of(tmp_path / "out")[0]  # the certificate doesn't speak of the number
    assert refused["reason"] == "can't connect"
    assert "certificate" in refused["detail"]


# ---- politeness ----


def test_requests_keep_their_distance_and_say_who_we_are(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = gives(PICTURE)
    server.answers["/robots.txt"] = status(404)
    urls = [f"{server.url}/{number}" for number in range(8)]
    begun = time.monotonic()
    fetch(records(urls), tmp_path / "out", options(rate=5, contact="botanist@example.org"))
    assert len(server.requests) == 9
    for number, request in enumerate(server.requests):  # gaps at the server would depend on how busy this machine is
        assert request.at >= begun + number / 5
    assert {request.headers["User-Agent"].partition("/")[0] for request in server.requests} == {"Taxakey"}
    assert all("(+botanist@example.org)" in request.headers["User-Agent"] for request in server.requests)


def test_no_more_than_so_many_requests_are_under_way(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    now, most = dict.fromkeys((server, other), 0), {"here": 0, "all": 0}

    def counted(handler: Any) -> None:
        now[handler.server] += 1
        most["here"] = max(most["here"], *now.values())
        most["all"] = max(most["all"], sum(now.values()))
        time.sleep(0.05)
        now[handler.server] -= 1
        gives(PICTURE)(handler)

    server.default = other.default = counted
    urls = [f"{host.url}/{number}" for number in range(15) for host in (server, other)]
    fetch(records(urls), tmp_path / "a", options(per_host=3))
    assert 1 < most["here"] <= 3 < most["all"] <= 6
    most.update(here=0, all=0)
    fetch(records(urls), tmp_path / "b", options(per_host=3, concurrency=4))
    assert 1 < most["all"] <= 4


def test_a_host_that_others_redirect_to_has_the_same_bounds(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    now, most = [0], [0]

    def counted(handler: Any) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.05)
        now[0] -= 1
        gives(PICTURE)(handler)

    with PictureServer("127.0.0.3") as third:
        third.default = counted
        third.answers["/robots.txt"] = status(404)
        for number in range(12):
            server.answers[f"/{number}"] = other.answers[f"/{number}"] = redirects(f"{third.url}/{number}")
        urls = [f"{host.url}/{number}" for number in range(12) for host in (server, other)]
        assert fetch(records(urls), tmp_path / "out", options(per_host=2)).counts["pictures"] == 24
    assert most[0] == 2


def test_no_cookie_is_taken(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = gives(PICTURE, Set_Cookie="visitor=1; Path=/")
    server.answers["/robots.txt"] = status(404, Set_Cookie="visitor=0; Path=/")
    fetch(records([f"{server.url}/{number}" for number in range(5)]), tmp_path / "out", options(per_host=1))
    assert len(server.requests) == 6
    assert not any("Cookie" in request.headers for request in server.requests)


def test_a_host_that_asks_for_a_pause_gets_it_whole(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = gives(PICTURE)
    server.answers["/robots.txt"] = status(404)
    server.answers["/0"] = in_turn(status(429, Retry_After="1"), gives(PICTURE))
    fetch(records([f"{server.url}/{number}" for number in range(6)]), tmp_path / "out", options(per_host=1))
    assert len(pictures_of(tmp_path / "out")) == 6
    pause = server.requests[2].at - server.requests[1].at
    assert [request.path for request in server.requests[:3]] == ["/robots.txt", "/0", "/1"]
    assert pause >= 1


def test_a_pause_until_a_date(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    dates = []

    def not_before(handler: Any) -> None:
        dates.append((datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0))  # HTTP's dates have whole seconds
        status(503, Retry_After=format_datetime(dates[0], usegmt=True))(handler)

    server.answers["/a"] = in_turn(not_before, gives(PICTURE))
    fetch(records([f"{server.url}/a"]), tmp_path / "out", options(longest_wait=5))
    assert len(dates) == 1
    assert pictures_of(tmp_path / "out")[0]["fetched_at"] >= dates[0]


def test_a_host_that_asks_for_a_long_pause_is_left_alone_and_so_by_the_next_run(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    server.default = status(429, Retry_After="3600")
    server.answers["/robots.txt"] = status(404)
    other.default = gives(PICTURE)
    urls = [f"{server.url}/{number}" for number in range(50)] + [f"{other.url}/a"]
    manifest = fetch(records(urls), tmp_path / "out", options(per_host=1))
    assert len(server.paths()) == 1
    assert (manifest.counts["pictures"], manifest.counts["to retry"]) == (1, 50)
    rows = failures_of(tmp_path / "out")
    assert [row["reason"] for row in rows] == ["too many requests"] + ["host left alone"] * 49
    assert [row["attempts"] for row in rows] == [1] + [0] * 49
    assert "3,600 s" in rows[1]["detail"]
    server.default = gives(PICTURE)
    fetch(records(urls), tmp_path / "out", options(per_host=1))
    assert len(server.paths()) == 1  # it said an hour


def test_pauses_double_with_each_trouble(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.answers["/a"] = status(500)
    fetch(records([f"{server.url}/a"]), tmp_path / "out", options(attempts=5, backoff=0.1, longest_backoff=10))
    times = server.times("/a")
    pauses = [b - a for a, b in pairwise(times)]
    assert len(pauses) == 4
    assert all(pause >= 0.05 * 2**number for number, pause in enumerate(pauses)), pauses


@pytest.mark.parametrize(("answer", "asked"), [(status(500), 3), (status(403), 3)])
def test_a_host_in_trouble_is_left_alone(
    server: PictureServer, records: MakeUrls, tmp_path: Path, answer: Answer, asked: int
) -> None:
    server.default = answer
    server.answers["/robots.txt"] = status(404)
    urls = [f"{server.url}/{number}" for number in range(30)]
    manifest = fetch(records(urls), tmp_path / "out", options(per_host=1, host_failures=asked))
    assert len(server.paths()) == asked
    assert manifest.counts["failed: host left alone"] == 30 - asked
    assert "3 failures in a row" in failures_of(tmp_path / "out")[-1]["detail"]


def test_one_success_ends_a_row_of_troubles(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = gives(PICTURE)
    server.answers["/robots.txt"] = status(404)
    server.answers |= {f"/{number}": status(403) for number in range(20) if number % 3}
    manifest = fetch(
        records([f"{server.url}/{n}" for n in range(20)]),
        tmp_path / "out",
        options(per_host=1, host_failures=3, backoff=30, longest_backoff=30),
    )
    assert (manifest.counts["pictures"], manifest.counts["failed: forbidden"]) == (7, 13)


def test_a_slow_host_holds_up_nobody_else(server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = stalls(PICTURE)
    server.answers["/robots.txt"] = status(404)
    other.default = gives(PICTURE)
    urls = [f"{server.url}/{number}" for number in range(12)] + [f"{other.url}/{number}" for number in range(60)]
    fetch(records(urls), tmp_path / "out", options(read_timeout=3, deadline=9, attempts=1, per_host=2, host_failures=2))
    assert len(pictures_of(tmp_path / "out")) == 60
    first_stall_ends = server.requests[1].at + 3
    assert sum(request.at < first_stall_ends for request in other.requests) == 61


# ---- robots.txt ----


def test_what_robots_txt_forbids_isnt_asked_for(
    server: PictureServer, other: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    server.default = other.default = gives(PICTURE)
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: Taxakey\nDisallow: /private/\n"
    server.answers["/robots.txt"] = gives(rules, "text/plain")
    other.answers["/robots.txt"] = status(404)
    other.answers["/moved"] = redirects(f"{server.url}/private/b")
    urls = [f"{server.url}/private/a", f"{server.url}/open/a", f"{other.url}/moved"]
    fetch(records(urls), tmp_path / "out", options())
    assert [row["identifier"] for row in pictures_of(tmp_path / "out")] == [urls[1]]
    rows = failures_of(tmp_path / "out")
    assert [(row["reason"], row["retry"]) for row in rows] == [("forbidden by robots.txt", False)] * 2
    assert [row["attempts"] for row in rows] == [0, 1]  # the second was asked for at the other host
    assert server.paths() == ["/open/a"]
    assert len(server.times("/robots.txt")) == 1


def test_a_crawl_delay_is_kept(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = gives(PICTURE)
    server.answers["/robots.txt"] = gives(b"User-agent: *\nCrawl-delay: 0.3\n", "text/plain")
    fetch(records([f"{server.url}/{number}" for number in range(4)]), tmp_path / "out", options())
    times = [request.at for request in server.requests]
    assert len(times) == 5
    assert all(at >= times[0] + 0.3 * number for number, at in enumerate(times)), times


@pytest.mark.parametrize("answer", [status(500), stalls(b"User-agent: *"), cut_off(b"User-agent: *\n")])
def test_a_robots_txt_that_cant_be_had_forbids_for_now(
    server: PictureServer, records: MakeUrls, tmp_path: Path, answer: Answer
) -> None:
    server.default = gives(PICTURE)
    server.answers["/robots.txt"] = answer
    urls = [f"{server.url}/{number}" for number in range(9)]
    manifest = fetch(records(urls), tmp_path / "out", options(attempts=2))
    assert (manifest.counts["pictures"], manifest.counts["to retry"]) == (0, 9)
    assert manifest.counts["failed: host left alone"] == 9 - LOCAL["per_host"]
    assert server.paths() == []
    assert len(server.times("/robots.txt")) == 2
    server.answers["/robots.txt"] = status(403)  # RFC 9309: no rules are to be had, so there are none
    assert fetch(records(urls), tmp_path / "out", options()).counts["pictures"] == 9


def test_a_robots_txt_in_a_circle_is_none(try_all: TryAll, server: PictureServer) -> None:
    server.answers["/robots.txt"] = redirects("/robots.txt")
    assert try_all({"a": gives(PICTURE)})["a"]["media_type"] == "image/jpeg"


# ---- again ----


def test_a_later_run_tries_what_may_have_passed_and_nothing_else(
    server: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    server.answers = {"/good": gives(PICTURE), "/gone": status(404), "/ill": status(500), "/worse": status(500)}
    folder = records([f"{server.url}{path}" for path in server.answers])
    first = fetch(folder, tmp_path / "out", options(attempts=1))
    assert (first.counts["pictures"], first.counts["failures"], first.counts["to retry"]) == (1, 3, 2)
    server.answers["/ill"] = server.answers["/gone"] = gives(jpeg(2))
    server.requests.clear()
    unchanged = fetch(folder, tmp_path / "out", options(attempts=1), retry="none")
    assert unchanged == first
    assert server.requests == []
    second = fetch(folder, tmp_path / "out", options(attempts=1))
    assert sorted(server.paths()) == ["/ill", "/worse"]
    assert [row["image_id"] for row in pictures_of(tmp_path / "out")] == ["i0", "i2"]
    assert [(row["image_id"], row["attempts"]) for row in failures_of(tmp_path / "out")] == [("i1", 1), ("i3", 2)]
    assert (second.counts["pictures"], second.counts["to retry"]) == (2, 1)
    third = fetch(folder, tmp_path / "out", options(attempts=1), retry="all")
    assert sorted(server.paths()) == ["/gone", "/ill", "/worse", "/worse"]
    assert third.counts["pictures"] == 3


def test_a_folder_that_is_tried_again_isnt_finished_meanwhile(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    manifest, seen = tmp_path / "out" / "manifest.json", []

    def look(handler: Any) -> None:
        seen.append(manifest.exists())
        status(500)(handler)

    server.answers["/a"] = look
    folder = records([f"{server.url}/a"])
    fetch(folder, tmp_path / "out", options(attempts=1))
    assert manifest.exists()
    fetch(folder, tmp_path / "out", options(attempts=1))
    assert seen == [False, False]
    assert manifest.exists()


def test_a_file_that_was_deleted_is_fetched_again(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.answers = {"/a": gives(PICTURE), "/b": gives(jpeg(2)), "/c": in_turn(status(500), gives(jpeg(3)))}
    folder = records([f"{server.url}/{name}" for name in "abc"])
    fetch(folder, tmp_path / "out", options(attempts=1))
    before = files_in(tmp_path / "out")
    (tmp_path / "out" / pictures_of(tmp_path / "out")[1]["path"]).unlink()
    fetch(folder, tmp_path / "out", options(attempts=1))
    assert sorted(server.paths()) == ["/a", "/b", "/b", "/c", "/c"]
    assert before.items() < files_in(tmp_path / "out").items()


def test_other_limits_need_another_folder_and_other_manners_dont(
    server: PictureServer, records: MakeUrls, tmp_path: Path
) -> None:
    server.answers["/a"] = gives(PICTURE)
    folder = records([f"{server.url}/a"])
    first = fetch(folder, tmp_path / "out", options())
    assert fetch(folder, tmp_path / "out", options(rate=1, contact="https://example.org/me")) == first
    with pytest.raises(PlanMismatch, match="max_pixels"):
        fetch(folder, tmp_path / "out", options(max_pixels=1000))


def test_two_fetches_into_one_folder(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.answers["/a"] = gives(PICTURE)
    folder = records([f"{server.url}/a"])
    fetch(folder, tmp_path / "out", options())
    with Journal(tmp_path / "out" / "journal.sqlite"), pytest.raises(ArtifactError, match="another fetch is at work"):
        fetch(folder, tmp_path / "out", options())


def test_a_full_disk_is_told_as_such(
    server: PictureServer, records: MakeUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the run: to note thousands of pictures as failures would be a lie about their hosts."""
    server.default = gives(PICTURE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("taxakey.dataset.fetch.download.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(records([f"{server.url}/{number}" for number in range(9)]), tmp_path / "out", options())
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    assert fetch(records([f"{server.url}/{number}" for number in range(9)]), tmp_path / "out", options()).counts["pictures"] == 9


def test_records_get_the_paths_of_their_pictures(
    server: PictureServer, make_records: MakeRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/b"] = gives(PICTURE)
    rows = [(tmp_path / "mine.jpg", "Poa annua", "train"), (None, "Poa annua", "train"), (None, "Bellis perennis", "test")]
    folder = make_records(rows, identifier=["https://example.org/a", f"{server.url}/b", f"{server.url}/c"])
    fetch(folder, tmp_path / "out", options())
    monkeypatch.chdir(tmp_path)  # the paths must hold from anywhere
    found = Observations.read(folder).with_paths(fetched_paths("out"))
    mine, fetched, missing = found.table["path"].to_pylist()
    assert (mine, missing) == (str(tmp_path / "mine.jpg"), None)
    assert Path(fetched).is_absolute()
    assert Path(fetched).read_bytes() == PICTURE
    assert fetched_paths("out")["sha256"].to_pylist() == [hashlib.sha256(PICTURE).hexdigest()]


def test_only_files_of_the_folder_are_pictures(tmp_path: Path) -> None:
    folder, plan = tmp_path / "pictures", Plan("pictures")
    start(folder, plan)
    (tmp_path / "secret.jpg").write_bytes(PICTURE)
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "pictures2").mkdir()
    paths = ["files/a.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "../pictures2/a.jpg", "", None]
    columns = {"image_id": [f"i{number}" for number in range(7)], "path": paths, "sha256": [None] * 7}
    write_parquet(folder / "pictures.parquet", pa.table(columns))
    with pytest.raises(MissingArtifact, match="begun and not finished"):
        fetched_paths(folder)
    finish(folder, plan, counts={})
    assert fetched_paths(folder)["path"].to_pylist() == [str(folder.resolve() / "files/a.jpg")] + [None] * 6
    write_parquet(folder / "pictures.parquet", pa.table(columns).drop_columns("sha256"))
    with pytest.raises(BadRecords, match=r"pictures\.parquet: lacks the columns sha256"):
        fetched_paths(folder)
    (folder / "pictures.parquet").unlink()
    with pytest.raises(MissingArtifact, match=r"pictures\.parquet: no such file"):
        fetched_paths(folder)


# ---- the command ----


def command(records: Path, out: Path, *more: str) -> list[str]:
    code = "import typer; from taxakey.cli.fetch import fetch; typer.run(fetch)"
    return [sys.executable, "-c", code, str(records), str(out), "--rate", "100", "--allow-private-addresses", *more]


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.default = after(0.1, gives(PICTURE))
    folder, out = records([f"{server.url}/{number}" for number in range(40)]), tmp_path / "out"
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command(folder, out), stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        while len(server.paths()) < 5:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.strip() == f"{out}: interrupted; the same command goes on where it stopped"
    assert not (out / "manifest.json").exists()
    assert not (out / ".partial").exists()
    done = subprocess.run(command(folder, out), capture_output=True, text=True, check=True)
    assert "40 pictures in 1 files" in done.stdout
    assert len(server.paths()) <= 40 + 2  # two were under way


def test_the_command_sums_up(server: PictureServer, records: MakeUrls, tmp_path: Path) -> None:
    server.answers = {"/a": gives(PICTURE), "/b": status(404), "/robots.txt": status(500)}
    server.answers["/robots.txt"] = status(404)
    folder = records([f"{server.url}/a", f"{server.url}/b"])
    done = subprocess.run(command(folder, tmp_path / "out", "--contact", "me@example.org"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"1 pictures in 1 files, {len(PICTURE) / 1e6:,.1f} MB",
        f"1 pictures can't be had, as {tmp_path / 'out' / 'failures.parquet'} lists:",
        "  1: not found",
        f"pictures: {tmp_path / 'out'}",
    ]
