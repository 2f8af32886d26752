"""Drawing many pictures: in parallel, each file whole or absent, those that exist already not again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from taxakey.artifacts import open_atomically
from taxakey.records.sample.collection import Collection, Specimen
from taxakey.records.sample.institutions import INSTITUTIONS
from taxakey.records.sample.options import SampleOptions, stream
from taxakey.records.sample.painting import Image
from taxakey.records.sample.sheet import mount, photograph
from taxakey.records.sample.web import draw_web_picture

_SPECIMENS_A_JOB = 64


class Job(NamedTuple):
    """A run of specimens for one process."""

    options: SampleOptions
    out: Path
    web: bool
    first: int
    last: int


@lru_cache(maxsize=1)
def _collection(options: SampleOptions) -> Collection:
    return Collection(options)


def draw_all(collection: Collection, out: Path, workers: int) -> Iterator[int]:
    """Draw every sheet and web picture that isn't there yet; yields 1 for each picture that is through."""
    options = collection.options
    parts = ((False, collection.drawn), (True, options.web))
    jobs = [
        Job(options, out, web, first, min(first + _SPECIMENS_A_JOB, count))
        for web, count in parts
        for first in range(0, count, _SPECIMENS_A_JOB)
    ]
    for drawn in _results(jobs, workers):
        yield from (1 for _ in range(drawn))


def _results(jobs: list[Job], workers: int) -> Iterator[int]:
    if workers < 2 or len(jobs) < 4:  # starting a process costs as much as drawing a hundred sheets
        yield from map(draw_job, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(draw_job, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()


def draw_job(job: Job) -> int:
    """Draw the pictures of a run of specimens; returns how many there are, drawn now or before."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores
    try:
        draw = _draw_web if job.web else _draw_specimen
        return sum(draw(_collection(job.options), number, job.out) for number in range(job.first, job.last))
    finally:
        cv2.setNumThreads(threads)


def _draw_specimen(collection: Collection, number: int, out: Path) -> int:
    specimen, options = collection.specimen(number), collection.options
    missing = [k for k in range(specimen.photographs) if not (out / specimen.image_path(k)).is_file()]
    if missing:
        institution = INSTITUTIONS[specimen.institution]
        species = collection.flora.species[specimen.species]
        sheet = mount(species, specimen, institution, options.size, stream(options.seed, "plant", number))
        for k in missing:
            rng = stream(options.seed, "photograph", number, k)
            _write(
                out / specimen.image_path(k), photograph(sheet, institution, options.size, rng), quality=int(rng.integers(84, 94))
            )
    return specimen.photographs


def _draw_web(collection: Collection, number: int, out: Path) -> int:
    specimen, options = collection.web_specimen(number), collection.options
    path = out / specimen.image_path(0)
    if not path.is_file():
        rng = stream(options.seed, "web", number, 1)
        picture = draw_web_picture(collection.flora.species[specimen.species], specimen, options.size, rng)
        _write(path, picture, quality=int(rng.integers(65, 88)))
    return 1


def encoded(picture: Image, quality: int) -> bytes:
    """The picture as JPEG."""
    content: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return content


def _write(path: Path, picture: Image, quality: int) -> None:
    with open_atomically(path) as file:
        file.write(encoded(picture, quality))


def copy_duplicates(collection: Collection, out: Path) -> None:
    """Give every duplicate the very bytes of the picture that it repeats, or what its leak wants of them."""
    for number in range(collection.drawn, collection.drawn + len(collection.sources)):
        copy = collection.specimen(number)
        path = out / copy.image_path(0)
        source: Specimen = collection.specimen(int(collection.sources[number - collection.drawn]))
        if not path.is_file():
            with open_atomically(path) as file:
                file.write(_again(collection, source, copy.leak, (out / source.image_path(0)).read_bytes()))


def _again(collection: Collection, source: Specimen, leak: str, data: bytes) -> bytes:
    """The picture of a duplicate: the bytes, another photograph of the same sheet, or a copy as a web page would hold it."""
    options = collection.options
    if leak in ("same specimen", "same observation"):
        institution, species = INSTITUTIONS[source.institution], collection.flora.species[source.species]
        sheet = mount(species, source, institution, options.size, stream(options.seed, "plant", source.number))
        rng = stream(options.seed, "photograph", source.number, source.photographs)
        return encoded(photograph(sheet, institution, options.size, rng), quality=90)
    if leak != "near duplicate":
        return data
    picture = simplejpeg.decode_jpeg(data)
    small = cv2.resize(picture, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    return encoded(cv2.convertScaleAbs(small, alpha=1.06), quality=70)
