"""Spellings of licences as real records have them."""

from __future__ import annotations

import pytest

from taxakey.records.licences import CODES, LISTED, licence_code, spdx, url_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://creativecommons.org/licenses/by-nc/4.0/legalcode", "CC-BY-NC-4.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("CC_BY_NC_4_0", "CC-BY-NC-4.0"),
        ("CC BY-SA 3.0", "CC-BY-SA-3.0"),
        ("Attribution-NonCommercial-NoDerivatives 4.0 International (CC BY-NC-ND 4.0)", "CC-BY-NC-ND-4.0"),
        ("Creative Commons Attribution Share Alike 3.0", "CC-BY-SA-3.0"),
        ("by-nc-sa 3.0", "CC-BY-NC-SA-3.0"),
        ("CC0_1_0", "CC0-1.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("https://creativecommons.org/licenses/by/3.0/us/", "CC-BY-3.0-US"),
        ("https://creativecommons.org/licenses/by-nc-sa/3.0/us/", "LicenseRef-CC-BY-NC-SA-3.0-US"),
        ("cc-by-nc", "LicenseRef-CC-BY-NC"),
        ("CC BY", "LicenseRef-CC-BY"),
        ("CC BY-ND-SA 4.0", None),
        ("by permission of the author", None),
        ("No Creative Commons licence; by permission", None),
        ("© The Garden. All rights reserved", None),
        ("UNSPECIFIED", None),
        ("", None),
        (None, None),
    ],
)
def test_a_spelling(text: str | None, name: str | None) -> None:
    assert spdx(text) == name


def test_every_listed_name_and_its_address_lead_back_to_it() -> None:
    for name in LISTED:
        assert spdx(url_of(name)) == name
        assert spdx(name.replace("CC-PDM", "PDM")) == name
    assert url_of("LicenseRef-CC-BY") is None


WRITTEN = {
    "CC0": ["http://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0_1_0", "CC0 1.0 Universal", "cc-zero"],
    "CC-PDM": ["https://creativecommons.org/publicdomain/mark/1.0/"],
    "CC-BY": ["http://creativecommons.org/licenses/by/4.0/", "CC_BY_4_0", "CC BY", "Creative Commons Attribution 4.0"],
    "CC-BY-NC": ["https://creativecommons.org/licenses/by-nc/3.0/us/", "CC BY-NC", "Creative Commons Attribution NonCommercial"],
    "CC-BY-SA": ["cc-by-sa", "Creative Commons Attribution-ShareAlike 3.0 Unported"],
    "CC-BY-NC-SA": ["CC BY-NC-SA 3.0", "http://creativecommons.org/licenses/by-nc-sa/4.0/"],
    "CC-BY-NC-ND": ["CC_BY_NC_ND_4_0", "Creative Commons: Attribution, Non-Commercial, No Derivatives"],
    "CC-BY-ND": ["https://creativecommons.org/licenses/by-nd/4.0"],
    "other": ["© The Trustees", "All rights reserved", "http://rightsstatements.org/vocab/InC/1.0/", "unspecified", "CC"],
    "none": [None, "", "  "],
}  # fmt: skip


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in WRITTEN.items() for text in texts])
def test_one_code_of_many_spellings(code: str, text: str | None) -> None:
    assert code in CODES
    assert licence_code(text) == code
