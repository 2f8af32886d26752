"""What people say of a photograph, good and bad, beside rows of a dataset that say the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from taxakey.errors import BadInput
from taxakey.metadata.encoder import MetadataEncoder, MetadataOptions
from taxakey.metadata.observation import encoded, strange_words, terms

ENCODER = MetadataEncoder(MetadataOptions(), {"habitat": ("bog", "dry meadow", "wood"), "substrate": ("peat",)})


def test_an_observation_is_encoded_as_a_row_of_a_dataset() -> None:
    row = {"month": [5], "day": [31], "decimalLatitude": [50.9], "decimalLongitude": [-11.6], "habitat": ["bog"]}
    expected = ENCODER.encode(pa.table({**row, "substrate": pa.nulls(1, pa.string())}))
    given = {"eventDate": "2024-05-31", "decimalLatitude": "50.9", "decimalLongitude": -11.6, "habitat": " Bog", "substrate": ""}
    np.testing.assert_array_equal(encoded(ENCODER, [given, {}]), [expected[0], ENCODER.nothing_known(1)[0]])


def test_what_a_model_takes() -> None:
    assert terms(ENCODER) == ("eventDate", "decimalLatitude", "decimalLongitude", "habitat", "substrate")
    assert terms(MetadataEncoder(MetadataOptions(date=False, place=None, categories=("organ",)), {"organ": ()})) == ("organ",)
    assert terms(None) == ()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"decimalLatitude": 95, "decimalLongitude": 0}, "decimalLatitude 95: outside -90 to 90"),
        ({"decimalLatitude": 5, "decimalLongitude": "181"}, "outside -180 to 180"),
        ({"decimalLatitude": "north", "decimalLongitude": 0}, "not a number"),
        ({"decimalLatitude": "nan", "decimalLongitude": 0}, "outside"),
        ({"decimalLatitude": 5}, "alone is no place"),
        ({"eventDate": "2024-02-30"}, "isn't in the calendar"),
        ({"organ": "leaf"}, "takes no organ; it takes eventDate"),
        ({"habitat": "dry medow"}, "near it: dry meadow"),
        ({"habitat": "sea"}, "one of: bog, dry meadow, wood"),
    ],
)
def test_bad_values_get_clear_errors(known: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        encoded(ENCODER, [{}, known])


def test_words_the_model_never_saw_are_found() -> None:
    rows = [{"habitat": "sea"}, {"habitat": "bog"}, {"habitat": "sea", "substrate": "unknown"}]
    assert strange_words(ENCODER, rows) == {"habitat": ["sea"]}
