"""The server over real HTTP: the answer's shape, and every limit with a request that breaks it."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from colour_model import COLOURS, PREPROCESS, expected_probabilities, make_taxonomy, picture
from fastapi import FastAPI
from PIL import Image

from taxakey import __version__
from taxakey.serving.app import app_for
from taxakey.serving.identifier import Identifier
from taxakey.serving.limits import Limits

BELLIS = picture(COLOURS["Bellis perennis"])
Serve = Callable[[FastAPI], AbstractContextManager[str]]


def images(*contents: bytes) -> list[tuple[str, Any]]:
    return [("images", (f"{number}.jpg", content, "image/jpeg")) for number, content in enumerate(contents)]


def ask(address: str, *contents: bytes, project: str = "flora", organs: list[str] | None = None, **query: Any) -> httpx.Response:
    url = f"{address}/v2/identify/{project}"
    parameters = {name.replace("_", "-"): value for name, value in query.items()}
    return httpx.post(url, files=images(*contents), data={"organs": organs} if organs else None, params=parameters)


def assert_refused(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"statusCode", "error", "message"}
    assert body["statusCode"] == status
    assert body["error"]
    for word in words:
        assert word in body["message"]
    assert response.headers["content-security-policy"].startswith("default-src 'self'")


def test_an_answer_has_the_known_shape_and_the_right_numbers(address: str) -> None:
    response = ask(address, BELLIS, nb_results=3)
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {
        "query", "language", "preferedReferential", "bestMatch", "results",
        "version", "remainingIdentificationRequests", "taxakey",
    }  # fmt: skip
    assert body["query"]["project"] == "flora"
    assert body["query"]["organs"] == ["auto"]
    assert len(body["query"]["images"]) == 1
    assert body["bestMatch"] == "Bellis perennis L."
    assert len(body["results"]) == 3
    assert set(body["results"][0]) == {"score", "species", "images", "gbif", "powo"}
    p = expected_probabilities(COLOURS["Bellis perennis"])
    assert body["results"][0]["score"] == pytest.approx(p.max(), abs=0.01)
    own = body["taxakey"]
    assert own["families"][0] == {"name": "Asteraceae", "probability": pytest.approx(p[2] + p[3] + p[5], abs=0.01)}
    assert own["genera"][0]["family"] == "Asteraceae"
    assert own["poisonousProbability"] == pytest.approx(p[0] + p[1] + p[4], abs=0.01)
    assert (own["calibrated"], own["unsure"], own["unsureBelow"]) == (True, False, 0.62)
    assert "93\u00a0%" in own["meaning"]
    assert own["modelFingerprint"] == "0123456789abcdef"


def test_five_photographs_are_averaged_and_organs_repeated(address: str) -> None:
    colours = [*list(COLOURS.values())[:4], (128, 128, 128)]
    organs = ["leaf", "flower", "fruit", "bark", "auto"]
    body = ask(address, *(picture(colour) for colour in colours), organs=organs, lang="de", nb_results=100).json()
    mean = np.mean([expected_probabilities(colour) for colour in colours], axis=0)
    found = {result["species"]["scientificNameWithoutAuthor"]: result["score"] for result in body["results"]}
    for name, probability in zip(COLOURS, mean, strict=True):
        assert found[name] == pytest.approx(probability, abs=0.01)
    assert body["query"]["organs"] == organs
    assert body["language"] == "de"


def test_options_of_the_original_are_accepted(address: str) -> None:
    query = {"include_related_images": "true", "no_reject": "true", "api_key": "anything"}
    body = ask(address, BELLIS, **query).json()
    assert body["query"]["includeRelatedImages"] is True
    assert body["results"][0]["images"] == []


def test_poisonous_species_are_named(address: str) -> None:
    own = ask(address, picture(COLOURS["Aconitum napellus"])).json()["taxakey"]
    assert set(own["poisonousSpecies"]) == {"Aconitum napellus", "Aconitum variegatum", "Caltha palustris"}
    assert own["poisonousProbability"] > 0.9


def test_health_tells_which_model_answers(address: str) -> None:
    facts = httpx.get(f"{address}/health").json()
    assert facts["status"] == "ok"
    assert (facts["species"], facts["genera"], facts["families"]) == (6, 5, 2)
    assert facts["version"] == __version__
    assert facts["modelFingerprint"] == "0123456789abcdef"
    assert facts["taxonomyFingerprint"] == make_taxonomy().fingerprint
    assert facts["limits"] == {"images": 5, "imageBytes": 400_000, "pixels": 100_000_000}


# ---- refusals ----


def test_unknown_projects_and_addresses(address: str) -> None:
    assert_refused(ask(address, BELLIS, project="fauna"), 404, "Project not found")
    assert_refused(httpx.get(f"{address}/v2/identify/flora"), 405)
    assert_refused(httpx.get(f"{address}/docs"), 404)
    for name in ("/../identifier.py", "/%2e%2e/app.py", "/page/index.html", "/style.css/../app.py"):
        assert_refused(httpx.get(address + name), 404)


def test_what_is_asked_wrongly(address: str) -> None:
    assert_refused(ask(address), 400, "images")
    assert_refused(ask(address, *[BELLIS] * 6), 400, "Too many files", "5")
    assert_refused(ask(address, BELLIS, BELLIS, organs=["leaf"]), 400, "1 organs for 2 images")
    for wrong in (0, 101, "many"):
        assert_refused(ask(address, BELLIS, nb_results=wrong), 400, "nb-results")
    assert_refused(ask(address, BELLIS, lang="../../etc"), 400, "lang")
    url = f"{address}/v2/identify/flora"
    assert_refused(httpx.post(url, files=[("photos", ("a.jpg", BELLIS))]), 400, "no image")
    assert_refused(httpx.post(url, json={"images": []}), 400, "multipart")
    assert_refused(httpx.post(url, files=[("images", (None, b"only text"))]), 400, "isn't a file")
    assert_refused(httpx.post(url, content=b"nonsense", headers={"content-type": "multipart/form-data"}), 400)
    long_text = {"organs": ["x" * 5000]}
    assert_refused(httpx.post(url, files=images(BELLIS), data=long_text), 400)


def test_what_is_no_picture(address: str) -> None:
    assert_refused(ask(address, BELLIS, b"seen in May, by the river"), 415, "image 2 isn't a picture")
    assert_refused(ask(address, b""), 415, "image 1 is empty")
    # Half a picture: its header is right, its content ends too early.
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(stream, "PNG")
    assert_refused(ask(address, stream.getvalue()[:-4000]), 415, "image 1")


def test_a_picture_over_the_limit_of_bytes(address: str) -> None:
    assert_refused(ask(address, BELLIS, BELLIS + b"\0" * 400_000), 413, "image 2 has 401 kB; at most 400 kB")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (body, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + end


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000)])
def test_a_pixel_bomb_is_refused_by_its_header(address: str, size: tuple[int, int]) -> None:
    begun = time.monotonic()
    assert_refused(ask(address, bomb(*size)), 413, "pixels", "100 million")
    assert time.monotonic() - begun < 2


def raw_request(address: str, head: str, body: Iterator[bytes]) -> tuple[int, int]:
    """Send without a client's good manners; gives the status and how many bytes of the body went out."""
    parts = urlsplit(address)
    sent = 0
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"POST /v2/identify/flora HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        try:
            for part in body:
                connection.sendall(part)
                sent += len(part)
        except OSError:
            pass  # the server has closed, as it should; its answer is still there to read
        status = int(connection.recv(100).split()[1])
    return status, sent


def test_a_stated_length_over_the_limit_is_refused_before_the_body(address: str) -> None:
    head = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999999"
    assert raw_request(address, head, iter(())) == (413, 0)


def test_an_endless_body_without_a_length_is_cut_off(address: str) -> None:
    def endless() -> Iterator[bytes]:
        start = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
        yield b"%x\r\n%s\r\n" % (len(start), start)
        for _ in range(4000):  # up to 256 MB, where 2 MB are allowed
            yield b"10000\r\n" + b"\0" * 0x10000 + b"\r\n"

    head = "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked"
    status, sent = raw_request(address, head, endless())
    assert status == 413
    assert sent < 30_000_000  # what the sockets' buffers take beyond the limit


def test_a_body_longer_than_stated_is_not_read_on(address: str) -> None:
    response = httpx.post(f"{address}/v2/identify/flora", files=images(BELLIS, b"\0" * 3_000_000))
    assert_refused(response, 413, "too large")


# ---- the server itself ----


class SlowScorer:
    """Holds every request until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.at_once = self.most_at_once = 0

    def scores(self, pixels: np.ndarray) -> np.ndarray:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go_on.wait(20)
        time.sleep(0.05)
        self.at_once -= 1
        return np.zeros((len(pixels), len(COLOURS)), np.float32)


def test_a_busy_server_sends_away_and_computes_one_at_a_time(serve_app: Serve) -> None:
    scorer = SlowScorer()
    slow = Identifier(scorer, make_taxonomy(), PREPROCESS, None, fingerprint="0")
    statuses: list[int] = []
    with serve_app(app_for(slow, project="flora", limits=Limits(requests=3))) as address:
        threads = [threading.Thread(target=lambda: statuses.append(ask(address, BELLIS).status_code)) for _ in range(3)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        response = ask(address, BELLIS) if wait_for_full(address, deadline) else None
        assert httpx.get(f"{address}/health").status_code == 200, "the server must answer while a model runs"
        scorer.go_on.set()
        for thread in threads:
            thread.join()
        assert response is not None
        assert_refused(response, 503, "busy")
        assert int(response.headers["retry-after"]) > 0
        assert statuses == [200] * 3
        assert scorer.most_at_once == 1
        assert ask(address, BELLIS).status_code == 200, "places must be free again"


def wait_for_full(address: str, deadline: float) -> bool:
    """Until an empty request, which is refused with 400 while there is room, is sent away with 503."""
    while time.monotonic() < deadline:
        if httpx.post(f"{address}/v2/identify/flora").status_code == 503:
            return True
        time.sleep(0.02)
    return False


def test_a_slow_upload_is_ended(serve_app: Serve, identifier: Identifier) -> None:
    with serve_app(app_for(identifier, project="flora", limits=Limits(upload_seconds=0.3))) as address:
        head = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000"
        assert raw_request(address, head, iter([b"--x\r\n"])) == (408, 5)


def test_a_bug_is_one_sentence_for_the_client(serve_app: Serve) -> None:
    class Broken:
        def scores(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("the secret path /home/me")

    broken = Identifier(Broken(), make_taxonomy(), PREPROCESS, None, fingerprint="0")
    with serve_app(app_for(broken, project="flora")) as address:
        response = ask(address, BELLIS)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["statusCode"] == 500


def test_the_page_and_its_files_come_with_strict_headers(address: str) -> None:
    for name, kind in (
        ("/", "text/html"),
        ("/style.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg"),
    ):
        response = httpx.get(address + name)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        policy = response.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'self'" in policy
        assert "http" not in policy
    page = httpx.get(address).text
    assert "style=" not in page
    assert "onclick" not in page
    assert page.count("<script") == page.count("<script src=") == 1


def test_the_description_of_the_interface_names_the_form(address: str) -> None:
    schema = httpx.get(f"{address}/openapi.json").json()
    form = schema["paths"]["/v2/identify/{project}"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["images"]["maxItems"] == 5
