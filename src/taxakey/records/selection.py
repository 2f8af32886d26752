"""Which pictures make the dataset: rules, hosts, a cap a species. A row is kept, or dropped for the first rule that it broke.

One SQL text runs on DuckDB and on Spark (engines.py). The rules in their order: the name (as matched against a checklist), basis
of record, licence, a date and a place where they are demanded, what was seen in the picture, duplicates, the host, species with
too few pictures, and last the cap, drawn in the order of the MD5 of "{image_id}:{seed}", which any program can repeat.

Ranking all rows of a common species would be most of the work. So rows are counted first, and only those are ranked whose MD5
lies below a ceiling that lets a little more than the cap of so large a species pass; a species for which that was too little
(fewer than one in 10^8) is ranked in whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.errors import BadInput, BadRecords
from taxakey.records.engines import Engine
from taxakey.records.flow import Step
from taxakey.records.hosts import Choice, HostOptions, choose_hosts
from taxakey.records.licences import CODES, licence_code
from taxakey.records.naming.delivered_names import DELIVERED
from taxakey.records.naming.matches import Matches
from taxakey.records.table import SCHEMA

GIVEN = tuple(DELIVERED.values())
_OF_CHECKLIST = ("scientificName", "scientificNameAuthorship", "taxonID", "kingdom", "family", "genus")
NAMES = pa.schema([(name, pa.string()) for name in (*GIVEN, *_OF_CHECKLIST, "reason")])
"""What a checklist says to each distinct delivered name ("": not given): the accepted taxon, or why there is none."""

NEVER_LOOKED_UP = "name was not looked up"
SEVERAL_TAXA = "one name of several accepted taxa"


@dataclass(frozen=True)
class SelectionOptions:
    """Empty lists allow everything."""

    min_images: int = 11
    """Species with fewer pictures are dropped; NAFlora-1M drops n ≤ 10."""
    max_images: int = 100
    """Pictures kept of a species; NAFlora-1M's cap."""
    seed: int = 0
    basis_of_record: Sequence[str] = ()
    licences: Sequence[str] = ()
    """Codes of `licences.py`."""
    require_date: bool = False
    require_coordinates: bool = False
    first_year: int = 1600
    """Earlier years, and years to come, are no dates."""
    hosts: HostOptions | None = None
    """None: whatever hosts there are."""
    least: Mapping[str, float] = field(default_factory=dict)
    """Lower bounds of figures of the inspection, such as {"sharpness": 0.01}."""
    most: Mapping[str, float] = field(default_factory=dict)
    duplicates: Literal["near", "exact", "keep"] = "near"
    """Where pictures were inspected: one of each group of such duplicates stays, or (keep) all do."""

    def __post_init__(self) -> None:
        if self.min_images < 1 or self.max_images < self.min_images:
            raise BadInput(
                f"min_images {self.min_images} and max_images {self.max_images}: 1 ≤ min_images ≤ max_images is needed"
            )
        if unknown := sorted(set(self.licences) - set(CODES)):
            raise BadInput(f"licences: {unknown[0]!r} is no code of a licence; one of {', '.join(CODES)}")
        if self.duplicates not in ("near", "exact", "keep"):
            raise BadInput(f"duplicates {self.duplicates!r}: near, exact or keep")


@dataclass(frozen=True, eq=False)
class Selection:
    """`table`: the kept rows, columns of `table.SCHEMA`, by image_id. `counts`: images by accepted name, host ("" unless hosts
    are chosen) and reason (null: none), before hosts, numbers and cap. `repaired`: what was set to null in kept rows."""

    table: pa.Table
    flow: tuple[Step, ...]
    counts: pa.Table
    hosts: Choice | None
    repaired: Mapping[str, int]


def given_names(engine: Engine) -> pa.Table:
    """Distinct delivered names of the table "observations": the columns that `match_names` takes, and how many rows have each."""
    cells = ", ".join(f"o.{_quoted(name)}" for name in DELIVERED)
    return engine.fetch(f"select {cells}, count(*) as count from observations o group by {cells}")


def names_of(matches: Matches) -> pa.Table:
    """Columns of `NAMES` from what became of the names."""
    matched = matches.matched.drop_columns("taxonID").rename_columns({"acceptedNameUsageID": "taxonID"})
    reasons = pc.binary_join_element_wise(matches.unmatched["matchType"], matches.unmatched["reason"], ": ")
    unmatched = matches.unmatched.select(GIVEN).append_column("reason", reasons)
    table = pa.concat_tables([matched, unmatched], promote_options="default").select(NAMES.names)
    columns = [pc.fill_null(table[name], "") if name in GIVEN else table[name] for name in NAMES.names]
    return pa.table(columns, names=NAMES.names).cast(NAMES)


def select(
    engine: Engine,
    options: SelectionOptions,
    *,
    names: pa.Table | None = None,
    inspection: pa.Table | None = None,
    dropped: Path | None = None,
) -> Selection:
    """Select from the engine's table "observations", which has the columns of `table.SCHEMA`.

    `names`: columns of `NAMES`; without it, names count as accepted. `inspection`: a row a picture with image_id, failure,
    near_group or exact_group (null: has no duplicate) and the figures that `options` bound. `dropped`: file for the other rows,
    with reasons. Raises BadInput for a figure that isn't in the inspection or has a bound without one, BadRecords where two rows
    share an image_id.
    """
    if inspection is None and (figures := [*options.least, *options.most]):
        raise BadInput(f"{figures[0]} has a bound and nobody has looked at the pictures; give their inspection (taxakey inspect)")
    year = datetime.now(UTC).year
    rules = _register_rules(engine, options, names, inspection, year)
    engine.view("named", _named(names is not None))
    engine.view("ruled", _ruled(rules, options, with_inspection=inspection is not None))
    if inspection is not None:
        engine.keep("twins", _TWINS)
    engine.view("judged", _JUDGED if inspection is not None else "select * from ruled")
    counts = engine.fetch("select accepted, host, dropped, count(*) as images from judged group by accepted, host, dropped")
    good = counts.filter(pc.is_null(counts["dropped"]))
    choice = None if options.hosts is None else choose_hosts(good, options.hosts)
    asked = good if choice is None else good.filter(pc.is_in(good["host"], pa.array(choice.hosts, pa.string())))
    species = asked.group_by("accepted").aggregate([("images", "sum")]).rename_columns(["accepted", "images"])
    species = species.filter(pc.greater_equal(species["images"], options.min_images))
    engine.register("hosts", pa.table({"host": pc.unique(asked["host"].combine_chunks().cast(pa.string()))}))
    _draw(engine, species, options.max_images)
    table, repaired = _sane(_fetch_kept(engine, with_names=names is not None), options.first_year, year)
    if dropped is not None:
        engine.write(_DROPPED.format(few=_few(options), many=_many(options)), dropped)
    flow = _flow(counts, rules, _total(asked), _total(species), len(table), options)
    return Selection(table, flow, counts, choice, repaired)


def _total(table: pa.Table) -> int:
    return int(pc.sum(table["images"]).as_py() or 0)


# ---- the rules ----


@dataclass(frozen=True)
class _Rule:
    """`condition`: SQL that holds for rows to drop; `reason`: SQL of the reason; `join`: what the condition needs."""

    step: str
    condition: str
    reason: str
    join: str = ""


def _register_rules(
    engine: Engine, options: SelectionOptions, names: pa.Table | None, inspection: pa.Table | None, year: int
) -> list[_Rule]:
    rules = []
    if names is not None:
        names = _without_homonyms(names.select(NAMES.names).cast(NAMES))
        engine.register("names", names)
        taxa = names.filter(pc.is_valid(names["scientificName"])).group_by("scientificName")
        engine.register("taxa", taxa.aggregate([(name, "min") for name in _OF_CHECKLIST[1:]]).rename_columns(_OF_CHECKLIST))
        rules.append(_Rule("name in the checklist", "o.accepted is null", f"coalesce(o.name_reason, '{NEVER_LOOKED_UP}')"))
    if options.basis_of_record:
        engine.register("bases", pa.table({"basis": pa.array([basis.upper() for basis in options.basis_of_record])}))
        join = 'left join bases b on upper(o."basisOfRecord") = b.basis'
        rules.append(_Rule("basis of record", "b.basis is null", "'other basis of record'", join))
    if options.licences:
        engine.register("licences", _allowed_licences(engine, options.licences))
        join = "left join licences l on coalesce(o.license, '') = l.license"
        rules.append(_Rule("licence", "l.license is null", "'licence not allowed'", join))
    if options.require_date:
        condition = f"o.year is null or o.year < {options.first_year} or o.year > {year}"
        rules.append(_Rule("date", condition, "'no believable date'"))
    if options.require_coordinates:
        latitude, longitude = 'o."decimalLatitude"', 'o."decimalLongitude"'
        condition = f"{latitude} is null or {longitude} is null or {latitude} = {longitude}"
        rules.append(_Rule("place", condition, "'no believable place'"))
    if inspection is not None:
        rules += _rules_of_pictures(engine, options, inspection)
    return rules


def _rules_of_pictures(engine: Engine, options: SelectionOptions, inspection: pa.Table) -> list[_Rule]:
    needed = {"image_id", "failure", *_group_column(options), *options.least, *options.most}
    if lacking := sorted(needed - set(inspection.column_names)):
        raise BadInput(f"the inspection has no column {lacking[0]!r}; it has {', '.join(inspection.column_names)}")
    engine.register("inspection", inspection)
    rules = [
        _Rule(
            "inspection", "i.image_id is null", "'picture was not inspected'", "left join inspection i on o.image_id = i.image_id"
        ),
        _Rule("readable picture", "i.failure is not null", "'picture can''t be used'"),
    ]
    for bounds, sign, word in ((options.least, "<", "below"), (options.most, ">", "above")):
        for figure, bound in bounds.items():
            rules.append(_Rule(figure, f"i.{_quoted(figure)} {sign} {float(bound)!r}", f"'{figure} {word} {bound}'"))
    return rules


def _group_column(options: SelectionOptions) -> tuple[str, ...]:
    """The inspection's column of duplicates, if any."""
    return () if options.duplicates == "keep" else (f"{options.duplicates}_group",)


def _without_homonyms(names: pa.Table) -> pa.Table:
    """A class is called by its canonical name; where several accepted taxa have the same one, none of them is taken."""
    taxa = names.group_by("scientificName").aggregate([("taxonID", "count_distinct")])
    several = taxa.filter(pc.greater(taxa["taxonID_count_distinct"], 1))["scientificName"].combine_chunks()
    bad = pc.is_in(names["scientificName"], several, skip_nulls=True)
    reason = pc.if_else(bad, SEVERAL_TAXA, names["reason"])
    accepted = pc.if_else(bad, pa.scalar(None, pa.string()), names["scientificName"])
    return names.set_column(NAMES.names.index("reason"), "reason", reason).set_column(len(GIVEN), "scientificName", accepted)


def _allowed_licences(engine: Engine, codes: Sequence[str]) -> pa.Table:
    texts = engine.fetch("select distinct coalesce(license, '') as license from observations")["license"].to_pylist()
    return pa.table({"license": pa.array([text for text in texts if licence_code(text) in codes], pa.string())})


# ---- the SQL ----

_GIVEN_CELLS = tuple(f"coalesce(o.\"{name}\", '')" for name in DELIVERED)
_HOST = "lower(coalesce(split_part(split_part(o.identifier, '://', 2), '/', 1), ''))"
_ROW = 'o.image_id, o."occurrenceID", o."scientificName"'

_TWINS = """
select duplicate_group, min(draw) as first_draw, count(distinct accepted) as species
from ruled where dropped is null and duplicate_group is not null group by duplicate_group
"""
_JUDGED = """
select r.image_id, r."occurrenceID", r."scientificName", r.accepted, r.host, r.draw,
  case when r.dropped is not null then r.dropped
       when t.species > 1 then 'same picture under several names'
       when t.first_draw < r.draw then 'duplicate of another picture' end as dropped
from ruled r left join twins t on r.duplicate_group = t.duplicate_group
"""
_DRAWN = """
select j.image_id, j.accepted, j.draw
from judged j join species s on j.accepted = s.accepted join hosts h on j.host = h.host
where j.dropped is null and j.draw < s.ceiling
"""
_RANKED = """
select image_id, accepted from (
  select image_id, accepted, row_number() over (partition by accepted order by draw) as place from drawn
) where place <= {most}
"""
_KEPT = """
select {columns} from observations o join ranked k on o.image_id = k.image_id {taxa} order by o.image_id
"""
_DROPPED = """
select j."occurrenceID", j.image_id, j."scientificName", cast(null as string) as detail,
  case when j.dropped is not null then j.dropped when h.host is null then 'host not chosen'
       when s.accepted is null then '{few}' else '{many}' end as reason
from judged j left join hosts h on j.host = h.host left join species s on j.accepted = s.accepted
  left join ranked k on j.image_id = k.image_id
where k.image_id is null
"""


def _quoted(name: str) -> str:
    if not name.replace("_", "").isalnum():
        raise BadInput(f"{name!r} is no name of a column")
    return f'"{name}"'


def _named(with_names: bool) -> str:
    if not with_names:
        return 'select *, "scientificName" as accepted, cast(null as string) as name_reason from observations'
    same = " and ".join(f"{cell} = n.{_quoted(name)}" for cell, name in zip(_GIVEN_CELLS, GIVEN, strict=True))
    return f'select o.*, n."scientificName" as accepted, n.reason as name_reason from observations o left join names n on {same}'


def _ruled(rules: Sequence[_Rule], options: SelectionOptions, *, with_inspection: bool) -> str:
    """Each row with its accepted name, host, place in the draw, and the reason of the first rule that it broke."""
    cases = " ".join(f"when {rule.condition} then {rule.reason}" for rule in rules)
    dropped = f"case {cases} end" if rules else "cast(null as string)"
    host = _HOST if options.hosts else "''"
    group = next((f"i.{name}" for name in _group_column(options)), "cast(null as string)")
    group = f", {group} as duplicate_group" if with_inspection else ""
    draw = f"concat(md5(concat(o.image_id, ':{int(options.seed)}')), o.image_id) as draw"
    joins = " ".join(rule.join for rule in rules)
    return f"select {_ROW}, o.accepted, {host} as host, {draw}, {dropped} as dropped{group} from named o {joins}"


# ---- drawing and fetching ----


def _draw(engine: Engine, species: pa.Table, most: int) -> None:
    """Make the table "ranked": image_id and accepted name of what is kept. `species`: accepted, and how many images there are."""
    images_S = species["images"].to_numpy().astype(np.int64)
    wanted = dict(zip(species["accepted"].to_pylist(), np.minimum(images_S, most).tolist(), strict=True))
    ceilings = _ceilings(images_S, most)
    while True:
        engine.register(
            "species", pa.table({"accepted": pa.array(wanted, pa.string()), "ceiling": pa.array(ceilings, pa.string())})
        )
        engine.keep("drawn", _DRAWN)  # few rows; ranked within one query, 50 million of them spilled 65 GB
        engine.keep("ranked", _RANKED.format(most=most))
        found = engine.fetch("select accepted, count(*) as images from ranked group by accepted")
        drawn = dict(zip(found["accepted"].to_pylist(), found["images"].to_pylist(), strict=True))
        short = [drawn.get(name, 0) < number for name, number in wanted.items()]
        if not any(short):
            return
        ceilings = [_NO_CEILING if few else ceiling for few, ceiling in zip(short, ceilings, strict=True)]


_NO_CEILING = "g"
"""Above every hexadecimal digit."""


def _ceilings(images_S: NDArray[np.int64], most: int) -> list[str]:
    """What an MD5 must lie below, so that of n rows some more than `most` do: six standard deviations more."""
    share_S = (most + 6 * np.sqrt(most) + 20) / np.maximum(images_S, 1)
    return [_NO_CEILING if share >= 1 else f"{int(share * 2**32):08x}" for share in share_S]


def _fetch_kept(engine: Engine, *, with_names: bool) -> pa.Table:
    checked = engine.fetch("select count(*) as images, count(distinct image_id) as ids from ranked").to_pylist()[0]
    if twice := checked["images"] - checked["ids"]:
        raise BadRecords(f"{twice:,} image_ids stand twice among the records; read all sources in one go, which tells them apart")
    cells = {name: f"o.{_quoted(name)}" for name in SCHEMA.names}
    if with_names:
        cells |= {name: f"coalesce(t.{_quoted(name)}, o.{_quoted(name)})" for name in ("kingdom", "family", "genus")}
        cells |= {name: f"t.{_quoted(name)}" for name in ("scientificNameAuthorship", "taxonID")}
        cells |= {"scientificName": "k.accepted"}
        cells |= {"verbatimScientificName": 'coalesce(o."verbatimScientificName", o."scientificName")'}
    columns = ", ".join(f"{cell} as {_quoted(name)}" for name, cell in cells.items())
    taxa = 'left join taxa t on k.accepted = t."scientificName"' if with_names else ""
    return engine.fetch(_KEPT.format(columns=columns, taxa=taxa)).cast(SCHEMA)


def _sane(table: pa.Table, first_year: int, last_year: int) -> tuple[pa.Table, dict[str, int]]:
    """Dates and places that nobody can believe become null: a good picture needs neither."""
    year = table["year"]
    no_date = pc.fill_null(pc.or_(pc.less(year, first_year), pc.greater(year, last_year)), False)
    # Equal latitude and longitude, 0 and 0 above all, is what a form left empty looks like.
    no_place = pc.fill_null(pc.equal(table["decimalLatitude"], table["decimalLongitude"]), False)
    for bad, names in ((no_date, ("eventDate", "year", "month", "day")), (no_place, ("decimalLatitude", "decimalLongitude"))):
        for name in names:
            at = table.schema.get_field_index(name)
            column = pc.if_else(bad, pa.scalar(None, table.schema.field(at).type), table[name])
            table = table.set_column(at, table.schema.field(at), column)
    counts = {"year before or after what can be": pc.sum(no_date).as_py(), "latitude equals longitude": pc.sum(no_place).as_py()}
    return table, {fact: number for fact, number in counts.items() if number}


# ---- the account ----


def _flow(
    counts: pa.Table, rules: Sequence[_Rule], asked: int, enough: int, kept: int, options: SelectionOptions
) -> tuple[Step, ...]:
    """`asked`: good images on the chosen hosts; `enough`: those of species with enough."""
    left = _total(counts)
    steps = [Step("records with a picture", left, {})]
    by_reason = counts.filter(pc.is_valid(counts["dropped"])).group_by("dropped").aggregate([("images", "sum")])
    dropped = dict(zip(*(by_reason[name].to_pylist() for name in ("dropped", "images_sum")), strict=True))
    step_of = {rule.reason.strip("'").replace("''", "'"): rule.step for rule in rules} | _TWIN_REASONS
    in_order = [rule.step for rule in rules] + (["duplicates"] if "inspection" in step_of.values() else [])
    for step in dict.fromkeys(in_order):  # reasons that no rule knows are those of names, and names come first
        here = {reason: n for reason, n in sorted(dropped.items()) if step_of.get(reason, in_order[0]) == step}
        left -= sum(here.values())
        steps.append(Step(step, left, here))
    last = [("species with enough pictures", enough, _few(options)), ("cap", kept, _many(options))]
    for step, remaining, reason in [("hosts", asked, "host not chosen")] * bool(options.hosts) + last:
        steps.append(Step(step, remaining, {reason: left - remaining} if left > remaining else {}))
        left = remaining
    return tuple(steps)


_TWIN_REASONS = dict.fromkeys(("same picture under several names", "duplicate of another picture"), "duplicates")


def _few(options: SelectionOptions) -> str:
    return f"species with fewer than {options.min_images} pictures"


def _many(options: SelectionOptions) -> str:
    return f"beyond {options.max_images} pictures of the species"
