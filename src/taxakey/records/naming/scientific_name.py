"""Scientific names taken apart, whole columns at a time: words, rank, hybrid sign, author, and what forbids to match them.

Botanical and zoological names as people write them: underscores, capitals, "x" for ×, ssp., authors between the words.
Shapes: N names.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from taxakey.records.table import RANKS_ABOVE_SPECIES

PARSED = pa.schema(
    [
        ("genus", pa.string()),
        ("epithet", pa.string()),
        ("infraspecific", pa.string()),
        ("rank", pa.string()),
        ("hybrid", pa.string()),
        ("author", pa.string()),
        ("species_author", pa.string()),
        ("problem", pa.string()),
    ]
)
"""`genus`, `epithet`, `infraspecific`: as written, a cultivar behind an apostrophe; `rank`: "species", or that of the
infraspecific epithet, null where nobody says it; `hybrid`: the rank at which × stands ("genus", "species", "infraspecific"),
null without one; `author`: of the whole name; `species_author`: of the species in front of an infraspecific epithet;
`problem`: one of `PROBLEMS`, or null."""

NO_NAME, NOT_TO_SPECIES = "no name", "not identified to species"
DOUBTFUL, AGGREGATE = "doubtful identification (cf., aff., ?)", "an aggregate of species"
MISAPPLIED, FORMULA = "a misapplied name (auct., sensu)", "a hybrid formula"
PROBLEMS = (NO_NAME, NOT_TO_SPECIES, DOUBTFUL, AGGREGATE, MISAPPLIED, FORMULA)
"""Why a name can't stand for a species, whatever a checklist holds."""

_SHORT_RANKS = {
    "species": ("sp", "species", "nothospecies"),
    "subspecies": ("subsp", "ssp", "subspec", "subspecies", "nothosubspecies"),
    "variety": ("var", "variety", "varietas", "nothovariety", "v"),
    "form": ("forma", "form", "fo", "nothoform", "f"),
    "subvariety": ("subvar", "subvariety", "subvarietas"),
    "subform": ("subf", "subfo", "subform", "subforma"),
    "convariety": ("convar", "convariety", "convarietas"),
    "proles": ("proles", "prol"),
    "monstrosity": ("monstr", "monstrosity"),
    "lusus": ("lusus",),
    "mutation": ("mut", "mutatio"),
    "cultivar": ("cv", "cultivar"),
}
"""Rank -> how it is written, in lower case without its full stop."""

LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ı": "i"}
"""Letters that Unicode doesn't take apart into a Latin one and a mark."""

_RANK_OF = {short: rank for rank, shorts in _SHORT_RANKS.items() for short in shorts}
INFRASPECIFIC_RANKS = tuple(rank for rank in _SHORT_RANKS if rank != "species")
_PRINTED = {"subspecies": "subsp. ", "variety": "var. ", "form": "f. ", "subvariety": "subvar. ", "subform": "subf. "}
_SIGNED_RANKS = ("genus", "species", "infraspecific")

# Words in lower case that belong to authors, or say that nobody knows the species; never epithets.
_NOT_EPITHETS = (
    "and", "apud", "auct", "auctt", "aut", "bis", "da", "dal", "de", "degli", "dei", "del", "della", "dem", "den",
    "der", "des", "di", "do", "dos", "du", "el", "emend", "et", "ex", "fil", "filius", "hort", "in", "indet", "la",
    "le", "les", "lo", "nec", "nom", "non", "of", "sensu", "sec", "sic", "sp", "spec", "species", "spp", "ssp", "st",
    "te", "ten", "ter", "undet", "unknown", "van", "vd", "ven", "vom", "von", "y", "zu", "zum", "zur", "cf", "aff",
    "nov", "sect", "subg", "subgen", "ser", "agg",
)  # fmt: skip

_NOT_MARKERS = ("f", "v", "cv", "cultivar", "sp", "species", "nothospecies")
_MARKERS = "|".join(sorted((short for short in _RANK_OF if short not in _NOT_MARKERS), key=len, reverse=True))
_LOWER = r"\p{Ll}[\p{Ll}\p{Mn}\d'-]*(?:-\p{Lu}+)?"
_SENIOR = r"(?: (?:ex|in|non|nec|sensu|emend|apud)\b| *[,;&()]| *$)"

# What is written in many ways -> one way, in this order.
_CLEANING = (
    (r"&amp;", "&"),
    (r"&times;|Ã—|[✕✖╳⨯☓⨉]", "×"),
    (r"[_\s\p{Z}]+", " "),
    (r"[‘’`´“”\"]", "'"),
    (r" *[(\[](?:incl|excl|syn)\b.*$", ""),
    (r"\bn(?:otho)?(subsp|ssp|var|f|fo|subspecies|forma)\b(\.?) *×?", r"\1\2 × "),
    (r"\bnothosp\.? ", "× "),
    (r"^[xX] |^x(\p{Lu})", r"× \1"),
    (r" [xX] ", " × "),
    (r" *× *", " × "),
    (r" *\([^()]*×[^()]*\) *$", ""),  # the parents of a hybrid that has a name
    (r"  +", " "),
    (r" (?:et|and|und) ", " & "),
    (rf"( \(?\p{{Lu}}[^ ]*) (?:f|fil)\.({_SENIOR})", "\\1\u00a0f.\\2"),  # a son, and no form
    (r",? (?:nom|comb|stat)\. .*$|,? (?:ined|p\. ?p|pro parte)\b\.?.*$", ""),
    (r",? s\. ?(?:lat|ampl|str|l)\b\.?| sensu (?:lato|stricto|amplo)\b", ""),
    (r",? (?:nec|non) .*$", ""),
    (rf"^(\S+ .*\S) (?:sub|{_MARKERS})\.?$", r"\1"),
    (r"^(\S+ [\p{Ll}-]{5,})\.$", r"\1"),
    (r" st\. ?-?(\p{Ll}{3,})", r" st-\1"),  # Nesoluma st.-johnianum
    (r"^ +| +$", ""),
)
_MISAPPLIED = r",? (?:sensu|sec\.|auctt?\b|auctorum)(?:[ .].*)?$"
_DOUBT = r" (?:cf|aff|nr|prope)\.? | ?\?"
_AGGREGATE = r",? (?:agg|aggr|s\. ?agg|group|grp|complex)\.?( |$)"

_NAME = (
    r"^(?P<genus_sign>[×+] )?(?P<genus>\p{L}[\p{L}\p{Mn}-]+)(?: \(\p{Lu}[\p{L}-]+\.?\))?"
    rf"(?: (?P<sign>[×+] )?(?P<epithet>{_LOWER}))?(?P<rest>[ ,.(].*)?$"
)
_BELOW = rf" (?P<marker>(?:{_MARKERS})[. ]|[fv]\.) ?(?P<sign>[×+] )?(?P<word>{_LOWER})(?P<after>[ ,(].*)?$"
_FIRST_BELOW, _LAST_BELOW = rf"^(?P<before>.*?){_BELOW}", rf"^(?P<before>.*){_BELOW}"
_THIRD_WORD = rf"^ (?P<word>{_LOWER})(?P<after>[ ,(].*)?$"
_CULTIVAR = r" (?:(?:cv|cultivar)\.? '?|')(?P<word>\p{L}[^']*)"


def parse_names(names: pa.ChunkedArray, authors: pa.ChunkedArray | None = None, ranks: pa.ChunkedArray | None = None) -> pa.Table:
    """Take names [N] apart; `authors` and `ranks` [N] are what the source says in columns of their own. -> `PARSED`

    >>> names = pa.chunked_array([["Poa annua L. ssp. exilis (Tomm.) Asch.", "Salix_X_Fragilis", "Poa cf. annua"]])
    >>> parse_names(names).select(["genus", "epithet", "infraspecific", "rank"]).to_pylist()[0]
    {'genus': 'Poa', 'epithet': 'annua', 'infraspecific': 'exilis', 'rank': 'subspecies'}
    >>> parse_names(names)["author"].to_pylist(), parse_names(names)["hybrid"].to_pylist()
    (['(Tomm.) Asch.', None, None], [None, 'species', None])
    >>> parse_names(names)["problem"][2].as_py()
    'doubtful identification (cf., aff., ?)'
    """
    said = normal_rank(ranks) if ranks is not None else _nothing(len(names))
    written = clean(names)
    text = written
    for pattern in (_MISAPPLIED, _AGGREGATE, _DOUBT):
        text = pc.replace_substring_regex(text, pattern, "" if pattern == _MISAPPLIED else " ")
    part = _groups(pc.replace_substring_regex(text, "  +", " "), _NAME)
    # A full stop right behind the word: an abbreviation (sp., sect., cf.) and no epithet.
    stopped = pc.fill_null(pc.starts_with(part["rest"], "."), False)
    epithet = pc.if_else(pc.or_(stopped, _is_no_epithet(part["epithet"])), None, part["epithet"])
    named = pc.is_valid(epithet)
    below = _infraspecific(pc.if_else(named, part["rest"], None), epithet, said)
    signs = (("infraspecific", below["sign"]), ("species", part["sign"]), ("genus", part["genus_sign"]))
    hybrid = _nothing(len(names))
    for rank, sign in signs:
        hybrid = pc.if_else(pc.is_valid(sign), rank, hybrid)
    author = _tidy(below["author"])
    problem = _problem(written, said, named)
    columns = (
        part["genus"],
        epithet,
        below["word"],
        pc.if_else(named, below["rank"], None),
        hybrid,
        author if authors is None else pc.coalesce(authors, author),
        _tidy(below["species_author"]),
        problem,
    )
    return pa.table([_chunked(column, field) for column, field in zip(columns, PARSED, strict=True)], schema=PARSED)


def clean(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names [N] with one way of writing signs, spaces and marks; words in capitals become small."""
    text = pc.utf8_normalize(names, "NFC")
    for pattern, meant in _CLEANING:
        text = pc.replace_substring_regex(text, pattern, meant)
    shouted = pc.equal(text, pc.utf8_upper(text))
    titled = pc.match_substring_regex(text, r"^(?:[×+] )?\p{Lu}\p{Ll}[\p{Ll}-]* (?:[×+] )?\p{Lu}[\p{Ll}-]{2,}(?: [\p{Ll}-]+)?$")
    return _none_if_empty(pc.if_else(pc.or_(shouted, titled), pc.utf8_lower(text), text))


def fold(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """Words [N] in lower case, without diacritics, for comparing.

    >>> fold(pa.chunked_array([["Isoëtes", "ångermannica"]])).to_pylist()
    ['isoetes', 'angermannica']
    """
    text = pc.utf8_lower(words).combine_chunks()
    marked = pc.fill_null(pc.invert(pc.string_is_ascii(text)), False)  # few, and the rest is slow
    some = text.filter(marked)
    for letter, letters in LETTERS.items():
        some = pc.replace_substring(some, letter, letters)
    some = pc.replace_substring_regex(pc.utf8_normalize(some, "NFKD"), r"\p{Mn}", "")
    return pa.chunked_array([pc.replace_with_mask(text, marked, some)])


def normal_rank(ranks: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ranks [N] under one name each, in lower case; an unknown one stays as it is.

    >>> normal_rank(pa.chunked_array([["SUBSPECIES", "var.", "Genus", None]])).to_pylist()
    ['subspecies', 'variety', 'genus', None]
    """
    text = pc.utf8_rtrim(pc.utf8_lower(pc.utf8_trim_whitespace(ranks)), ".")
    known = pc.index_in(text, pa.array(list(_RANK_OF)))
    return _none_if_empty(pc.coalesce(pc.take(pa.array(list(_RANK_OF.values())), known), text))


def words_of(parsed: pa.Table, *, species: bool = False) -> pa.ChunkedArray:
    """What is compared of each name [N]: its words, folded; null where it isn't named to species. `species`: only the first two.

    >>> words_of(parse_names(pa.chunked_array([["Isoëtes lacustris var. minor", "Poa"]]))).to_pylist()
    ['isoetes lacustris minor', None]
    """
    parts = [parsed["genus"], parsed["epithet"]]
    if not species:
        parts.append(pc.fill_null(parsed["infraspecific"], ""))
    return pc.utf8_rtrim(fold(pc.binary_join_element_wise(*parts, " ", null_handling="emit_null")), " ")


def written_out(parsed: pa.Table) -> pa.ChunkedArray:
    """Names [N] as a checklist prints them, without authors; null where they aren't named to species.

    >>> written_out(parse_names(pa.chunked_array([["POA ANNUA L.", "Poa annua nothovar. exilis", "X Poa annua"]]))).to_pylist()
    ['Poa annua', 'Poa annua var. × exilis', '× Poa annua']
    """
    sign = {rank: pc.if_else(pc.equal(pc.fill_null(parsed["hybrid"], ""), rank), "× ", "") for rank in _SIGNED_RANKS}
    known = pc.fill_null(pc.index_in(parsed["rank"], pa.array(list(_PRINTED))), len(_PRINTED))
    mark = pc.take(pa.array([*_PRINTED.values(), ""]), known)
    below = pc.binary_join_element_wise(" ", mark, sign["infraspecific"], parsed["infraspecific"], "", null_handling="emit_null")
    species = (sign["genus"], pc.utf8_capitalize(parsed["genus"]), " ", sign["species"], parsed["epithet"])
    return pc.binary_join_element_wise(*species, pc.fill_null(below, ""), "", null_handling="emit_null")


# ---- what forbids to match ----


def _problem(text: pa.ChunkedArray, said_rank: pa.ChunkedArray, named: pa.ChunkedArray) -> pa.ChunkedArray:
    """The first reason [N] that applies, from the cleaned names."""
    single = pc.replace_substring_regex(text, r"^[×+] ", "")
    single = pc.replace_substring_regex(single, rf"^(\p{{L}}[\p{{L}}-]+) [×+] ({_LOWER})", r"\1 \2")
    single = pc.replace_substring_regex(single, rf" ((?:{_MARKERS}|f)\.?) [×+] ", r" \1 ")
    reasons = (
        (pc.is_null(text), NO_NAME),
        (pc.match_substring(single, "×"), FORMULA),
        (pc.or_(pc.is_in(said_rank, pa.array(RANKS_ABOVE_SPECIES)), pc.invert(named)), NOT_TO_SPECIES),
        (pc.match_substring_regex(text, _DOUBT), DOUBTFUL),
        (pc.match_substring_regex(text, _AGGREGATE), AGGREGATE),
        (pc.match_substring_regex(text, _MISAPPLIED), MISAPPLIED),
    )
    found = _nothing(len(text))
    for applies, reason in reversed(reasons):
        found = pc.if_else(pc.fill_null(applies, False), reason, found)
    return found


# ---- what stands behind the epithet ----


def _infraspecific(rest: pa.ChunkedArray, epithet: pa.ChunkedArray, said_rank: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Infraspecific word, its rank and sign, and both authors, [N] each, from what stands behind the epithet."""
    cultivar = _groups(rest, _CULTIVAR)["word"]
    rest = pc.replace_substring_regex(
        rest, rf"{_CULTIVAR.replace('?P<word>', '')}'?.*$| \p{{Lu}}\p{{Ll}}+ (?:Group|Grp)\b.*$", ""
    )
    first, last, third = _groups(rest, _FIRST_BELOW), _groups(rest, _LAST_BELOW), _groups(rest, _THIRD_WORD)
    marked = pc.and_(pc.is_valid(last["word"]), pc.invert(_is_no_epithet(last["word"])))
    bare = pc.and_not(pc.and_(pc.is_valid(third["word"]), pc.invert(_is_no_epithet(third["word"]))), marked)
    word = pc.if_else(marked, last["word"], pc.if_else(bare, third["word"], None))
    quoted = pc.binary_join_element_wise("'", cultivar, "", null_handling="emit_null")
    infraspecific = pc.is_in(said_rank, pa.array(INFRASPECIFIC_RANKS))
    said = pc.if_else(infraspecific, said_rank, None)
    rank = pc.if_else(marked, normal_rank(last["marker"]), pc.if_else(bare, said, "species"))
    behind = pc.if_else(marked, last["after"], pc.if_else(bare, third["after"], rest))
    # "Poa annua L. subsp. annua": an autonym has no author of its own.
    autonym = pc.and_(pc.fill_null(pc.equal(word, epithet), False), pc.is_null(_none_if_empty(behind)))
    return {
        "word": pc.coalesce(quoted, word),
        "rank": pc.if_else(pc.is_valid(cultivar), "cultivar", rank),
        "sign": pc.if_else(marked, last["sign"], None),
        "author": pc.if_else(pc.is_valid(cultivar), None, pc.if_else(autonym, first["before"], behind)),
        "species_author": pc.if_else(marked, first["before"], pc.if_else(pc.is_valid(cultivar), behind, None)),
    }


# ---- small ones ----


def _groups(text: pa.ChunkedArray, pattern: str) -> dict[str, pa.ChunkedArray]:
    found = pc.extract_regex(text, pattern)
    return {field.name: _none_if_empty(pc.struct_field(found, field.name)) for field in found.type}


def _is_no_epithet(words: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.or_(pc.is_in(words, pa.array(_NOT_EPITHETS)), pc.fill_null(pc.less(pc.utf8_length(words), 2), False))


def _none_if_empty(text: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(text, ""), None, text)


def _tidy(authors: pa.ChunkedArray) -> pa.ChunkedArray:
    return _none_if_empty(pc.utf8_trim(pc.replace_substring(authors, "\u00a0", " "), " ,;"))


def _nothing(rows: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(rows, pa.string())])


def _chunked(column: pa.ChunkedArray | pa.Array, field: pa.Field) -> pa.ChunkedArray:
    return (column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])).cast(field.type)
