from __future__ import annotations

import pytest

from taxakey.records.licences import CODES, licence_code

WRITTEN = {
    "CC0": ["http://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0_1_0", "CC0 1.0 Universal", "cc-zero"],
    "PDM": ["https://creativecommons.org/publicdomain/mark/1.0/"],
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
