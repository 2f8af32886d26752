"""GBIF's download service, against a real local server that speaks its calls: waits, refusals, files that break off."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from gbif_service import DOI, KEY, Service, running

from taxakey.cli.records import records
from taxakey.errors import BadInput, DownloadFailed
from taxakey.records.gbif.fetching import fetch
from taxakey.records.gbif.ordering import MOST_TAXA, Credentials, order, predicate, read_taxon_keys
from taxakey.records.gbif.service import ORDER_FILE, Gbif, GbifOptions, place_of
from taxakey.records.table import Observations

WHO = Credentials("botanist", "s3cret-word", "botanist@example.org")


def archive() -> bytes:
    """A zip of 300 kB, most of it what doesn't shrink, with an occurrence and a picture."""
    occurrences = "gbifID\tscientificName\tbasisOfRecord\n11\tPoa annua\tPRESERVED_SPECIMEN\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("occurrence.txt", occurrences)
        file.writestr("multimedia.txt", "gbifID\ttype\tidentifier\n11\tStillImage\thttps://x.org/a.jpg\n")
        file.writestr("padding.bin", os.urandom(300_000))
    return buffer.getvalue()


@pytest.fixture
def service() -> Iterator[Service]:
    with running(Service(archive())) as started:
        yield started


Opened = Callable[..., Gbif]


@pytest.fixture
def client(service: Service) -> Iterator[Opened]:
    """Opens clients of the service that note how long they would sleep, and closes them."""
    with ExitStack() as opened:

        def new(naps: list[float] | None = None, **options: float) -> Gbif:
            gbif = Gbif(GbifOptions(api=service.url, **options), sleep=(naps if naps is not None else []).append)  # type: ignore[arg-type]
            return opened.enter_context(gbif)

        yield new


# ---- a prepared download ----


@pytest.mark.parametrize("name", [KEY, DOI, f"https://doi.org/{DOI}", f"doi:{DOI}"])
def test_a_prepared_download_by_key_or_doi(service: Service, client: Opened, tmp_path: Path, name: str) -> None:
    gbif = client()
    file = fetch(gbif, gbif.find(name), tmp_path)
    assert file == tmp_path / f"{KEY}.zip"
    assert file.read_bytes() == service.content
    kept = json.loads((tmp_path / f"{KEY}.json").read_text())
    assert (kept["doi"], kept["records"], kept["size"]) == (DOI, 3, len(service.content))
    assert kept["citation"] == f"GBIF.org (2026-11-20) GBIF Occurrence Download https://doi.org/{DOI}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{KEY}.json", f"{KEY}.zip"]
    asked = len(service.log)
    fetch(gbif, gbif.find(name), tmp_path)
    assert len(service.log) == asked + 1  # the file is there: only the description was asked


def test_a_file_that_breaks_off_again_and_again_is_resumed_where_it_stopped(
    service: Service, client: Opened, tmp_path: Path
) -> None:
    service.pieces = [100_000, 50_000, 1]
    naps: list[float] = []
    gbif = client(naps)
    file = fetch(gbif, gbif.find(KEY), tmp_path)
    assert file.read_bytes() == service.content
    begins = [int(line.split("bytes=")[1].rstrip("-")) if "bytes=" in line else 0 for line in service.log if ".zip" in line]
    assert begins == [0, 100_000, 150_000, 150_001]
    assert len(naps) == 3


def test_a_server_without_ranges_sends_all_of_it_again(service: Service, client: Opened, tmp_path: Path) -> None:
    service.pieces, service.ranges = [100_000], False
    gbif = client()
    assert fetch(gbif, gbif.find(KEY), tmp_path).read_bytes() == service.content


@pytest.mark.parametrize("size", [400_000, 100_000])
def test_a_file_of_another_size_than_announced(service: Service, client: Opened, tmp_path: Path, size: int) -> None:
    service.size = size
    gbif = client(attempts=3)
    with pytest.raises(DownloadFailed, match=r"sends more than the 100,000 bytes|of 400,000"):
        fetch(gbif, gbif.find(KEY), tmp_path)
    assert not list(tmp_path.glob("*.zip"))
    assert len(service.log) < 12


def test_bytes_that_are_no_zip(service: Service, client: Opened, tmp_path: Path) -> None:
    service.content = b"<html>maintenance</html>"
    gbif = client()
    with pytest.raises(DownloadFailed, match="not a whole zip"):
        fetch(gbif, gbif.find(KEY), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_nobody_knows_and_texts_that_are_no_key(service: Service, client: Opened) -> None:
    with pytest.raises(BadInput, match="knows no such download"):
        client().find("0009999-250101000000000")
    for text in ("plants", "10.15468", "10.15468/../../user", "https://example.org/10.15468/dl.abc123", "10.15468/dl.x?y=1"):
        with pytest.raises(BadInput, match="neither the key"):
            place_of(text)


def test_an_answer_with_a_key_that_would_lead_elsewhere_is_refused(service: Service, client: Opened) -> None:
    service.key = "../../etc/passwd"
    with pytest.raises(DownloadFailed, match="has no key"):
        client().find(DOI)


@pytest.mark.parametrize("state", ["KILLED", "FAILED", "CANCELLED", "FILE_ERASED"])
def test_a_download_that_was_given_up(service: Service, client: Opened, tmp_path: Path, state: str) -> None:
    service.states = [state]
    gbif = client()
    with pytest.raises(DownloadFailed, match=f"GBIF says {state}"):
        fetch(gbif, gbif.find(KEY), tmp_path)
    with pytest.raises(DownloadFailed, match=f"GBIF says {state}"):
        gbif.wait(KEY)


def test_no_network_says_so_and_how_often_it_was_tried() -> None:
    naps: list[float] = []
    gbif = Gbif(GbifOptions(api="http://127.0.0.1:9", attempts=3, first_pause=1), sleep=naps.append)
    with pytest.raises(DownloadFailed, match="ConnectError"):
        gbif.find(KEY)
    assert naps == [1, 2]


# ---- an order ----


def test_an_order_waits_at_growing_intervals_and_keeps_key_and_doi(service: Service, client: Opened, tmp_path: Path) -> None:
    service.states = ["PREPARING", "RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]
    naps: list[float] = []
    download = order(client(naps, first_pause=10, longest_pause=30), [9, 5, 5], tmp_path, ["PRESERVED_SPECIMEN"], WHO)
    assert (download.key, download.doi, naps) == (KEY, DOI, [10, 15, 22.5, 30])
    assert service.orders == [
        {
            "creator": "botanist", "notificationAddresses": ["botanist@example.org"], "sendNotification": False, "format": "DWCA",
            "predicate": {"type": "and", "predicates": [
                {"type": "in", "key": "TAXON_KEY", "values": ["5", "9"]},
                {"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage"},
                {"type": "in", "key": "BASIS_OF_RECORD", "values": ["PRESERVED_SPECIMEN"]},
            ]},
        }
    ]  # fmt: skip
    kept = (tmp_path / ORDER_FILE).read_text()
    assert (json.loads(kept)["key"], json.loads(kept)["doi"], json.loads(kept)["status"]) == (KEY, DOI, "SUCCEEDED")
    assert "s3cret" not in kept + repr(WHO)


def test_an_interrupted_wait_goes_on_with_the_same_order(service: Service, client: Opened, tmp_path: Path) -> None:
    service.states = ["PREPARING", "PREPARING", "SUCCEEDED"]

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    gbif = client()
    gbif.sleep = stop
    with pytest.raises(KeyboardInterrupt):
        order(gbif, [5], tmp_path, credentials=WHO)
    assert order(client(), [5], tmp_path).key == KEY  # no account is needed for what was ordered before
    assert len(service.orders) == 1
    with pytest.raises(BadInput, match="for other taxa"):
        order(client(), [6], tmp_path, credentials=WHO)


def test_three_downloads_are_under_way_already(service: Service, client: Opened, tmp_path: Path) -> None:
    service.busy = {"POST": 2}
    naps: list[float] = []
    assert order(client(naps, first_pause=1), [5], tmp_path, credentials=WHO).key == KEY
    assert naps == [7, 7]  # what Retry-After asks, because it is longer than our own pause
    service.busy = {"POST": 99}
    with pytest.raises(DownloadFailed, match=r"answered 429 4 times .*three downloads"):
        order(client(attempts=4), [7], tmp_path / "other", credentials=WHO)
    assert not (tmp_path / "other" / ORDER_FILE).exists()


def test_an_order_whose_answer_is_lost_is_not_placed_twice(service: Service, client: Opened, tmp_path: Path) -> None:
    service.order_fails = 500
    with pytest.raises(DownloadFailed, match="may have been taken"):
        order(client(), [5], tmp_path, credentials=WHO)
    assert len(service.orders) == 1


def test_a_wrong_password_and_none(service: Service, client: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Credentials("botanist", "s3cret-wrong", "b@example.org")
    with pytest.raises(BadInput, match=r"refused the account \(401\)") as caught:
        order(client(), [5], tmp_path, credentials=wrong)
    assert "s3cret" not in str(caught.value)
    monkeypatch.delenv("GBIF_PWD", raising=False)
    monkeypatch.setenv("GBIF_USER", "botanist")
    monkeypatch.setenv("GBIF_EMAIL", "b@example.org")
    with pytest.raises(BadInput, match="GBIF_PWD not set"):
        order(client(), [5], tmp_path)


def test_a_wait_without_end(service: Service, client: Opened) -> None:
    service.states = ["RUNNING"]
    with pytest.raises(DownloadFailed, match="still RUNNING after"):
        client(first_pause=1, longest_wait=10).wait(KEY)


def test_taxon_keys_from_a_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# taxa\n5\n7\tPoa annua\n9,Poa\n\n")
    assert read_taxon_keys(str(file)) == [5, 7, 9]
    assert read_taxon_keys("2876213, 3189863") == [2876213, 3189863]
    with pytest.raises(BadInput, match="no such file"):
        read_taxon_keys("oaks")
    file.write_text("Poa annua\n")
    with pytest.raises(BadInput, match="'Poa annua' is no GBIF taxon key"):
        read_taxon_keys(str(file))
    for keys in ([], range(MOST_TAXA + 1)):
        with pytest.raises(BadInput, match="taxon keys for one order"):
            predicate(list(keys))


# ---- the command ----


def test_the_command_orders_fetches_and_reads(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GBIF_USER", "botanist"), ("GBIF_PWD", "s3cret-word"), ("GBIF_EMAIL", "b@example.org")):
        monkeypatch.setenv(name, value)
    records(tmp_path / "records", gbif_request="5,9", gbif_api=service.url)
    found = Observations.read(tmp_path / "records")
    assert found.table.select(["gbifID", "source"]).to_pylist() == [{"gbifID": "11", "source": f"{KEY}.zip"}]
    assert (tmp_path / "downloads" / f"{KEY}.json").is_file()
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "s3cret" not in written
    records(tmp_path / "records", gbif_request="5,9", gbif_api=service.url)
    assert len(service.orders) == 1
    with pytest.raises(BadInput, match="only one place is given"):
        records(tmp_path / "records")


def test_kill_9_while_the_file_comes_then_the_same_command(service: Service, client: Opened, tmp_path: Path) -> None:
    service.content = archive()
    service.pieces = [150_000]
    code = (
        "import sys, time; from pathlib import Path; from taxakey.records.gbif.fetching import fetch;"
        "from taxakey.records.gbif.service import Gbif, GbifOptions;"
        "g = Gbif(GbifOptions(api=sys.argv[1]), sleep=lambda _: time.sleep(60)); fetch(g, g.find(sys.argv[2]), Path(sys.argv[3]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, service.url, KEY, str(tmp_path)])
    partial = tmp_path / f".{KEY}.zip.partial"
    deadline = time.monotonic() + 60
    while not (partial.is_file() and partial.stat().st_size == 150_000) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.stat().st_size == 150_000
    gbif = client()
    assert fetch(gbif, gbif.find(KEY), tmp_path).read_bytes() == service.content
    assert [line for line in service.log if "bytes=" in line] == [f"GET /v1/occurrence/download/request/{KEY}.zip bytes=150000-"]
