"""A small dataset with everything that publishing asks about, made of pictures that say their names in their metadata."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from small_pictures import MakeRecords, noise

from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.reader import Dataset

SPECIES = ("Acer campestre", "Acer rubrum", "Bellis perennis", "Poa annua")
AUTHORS = ("L.", "L.", "L.", None)
FAMILIES = ("Sapindaceae", "Sapindaceae", "Asteraceae", "Poaceae")
ORDERS = ("Sapindales", "Sapindales", "Asterales", "Poales")
CLASSES = ("Magnoliopsida", "Magnoliopsida", "Magnoliopsida", "Liliopsida")
KEYS = ("50c9509d-22c7-4a22-a47d-8c48425ef4a7", "00000000-0000-4000-8000-00000000000A", None)
LICENCES = ("http://creativecommons.org/licenses/by/4.0/legalcode", "CC BY 4.0", "© The Garden", None)


def make_flora(folder: Path, make_records: MakeRecords, *, pictures: int = 60) -> Dataset:
    """`pictures` pictures, two to an observation, 60 % train, 20 % validation, 20 % test; one more of a species only in test."""
    (folder / "pictures").mkdir()
    rows = []
    for number in range(pictures):
        exif = Image.Exif()
        exif[0x010E] = SPECIES[number % 4]
        file = folder / "pictures" / f"{number}.jpg"
        noise(number, 60, 80).save(file, quality=90, exif=exif.tobytes())
        rows.append((file, SPECIES[number % 4], ("train", "train", "train", "validation", "test")[number // 8 % 5]))
    rows.append((rows[0][0], "Zea mays", "test"))
    numbers = range(pictures)
    columns = {
        "occurrenceID": [*(f"urn:specimen:{number // 8}-{number % 4}" for number in numbers), "urn:specimen:zea"],
        "scientificNameAuthorship": [*(AUTHORS[number % 4] for number in numbers), "L."],
        "genus": [*(SPECIES[number % 4].split()[0] for number in numbers), "Zea"],
        "family": [*(FAMILIES[number % 4] for number in numbers), "Poaceae"],
        "order": [*(ORDERS[number % 4] for number in numbers), "Poales"],
        "class": [*(CLASSES[number % 4] for number in numbers), "Liliopsida"],
        "kingdom": ["Plantae"] * (pictures + 1),
        "gbifID": [*(str(7_000_000 + number // 8 * 4 + number % 4) for number in numbers), "7999999"],
        "datasetKey": [*(KEYS[number // 8 % 3] for number in numbers), KEYS[0]],
        "institutionCode": [*(("KEW", "B", None)[number % 3] for number in numbers), "KEW"],
        "collectionCode": [*((None, "B-Herb", "C-Herb", None, None, None)[number % 6] for number in numbers), None],
        "license": [*(LICENCES[number % 4] for number in numbers), LICENCES[0]],
        "rightsHolder": ["A holder"] * (pictures + 1),
        "creator": [*(f"Photographer {number % 5}" for number in numbers), None],
    }
    records = make_records(rows, **columns)
    build(records, folder / "dataset", BuildOptions(rows_per_shard=7))
    return Dataset.open(folder / "dataset")
