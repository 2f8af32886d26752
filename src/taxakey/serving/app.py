"""The server: `POST /v2/identify/{project}` in the shape of the Pl@ntNet API, `/health`, and the page. No torch."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from taxakey import __version__
from taxakey.errors import BadImage, BadInput, needs_extra
from taxakey.serving.answers import Answer, Taxon, describe_threshold
from taxakey.serving.deciding import Rule
from taxakey.serving.formats import Question, decision_facts, plantnet_response
from taxakey.serving.identifier import Identifier, Told, load
from taxakey.serving.limits import Guard, Limits, Refusal, check_picture, upload_schema
from taxakey.serving.restriction import restrict_to_taxa

with needs_extra("serve"):
    import python_multipart  # noqa: F401 - starlette needs it for forms, and says so only in an assertion
    from fastapi import FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.datastructures import FormData, UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

MOST_RESULTS = 100
_RESTRICTIONS_KEPT = 16
"""The last ones asked for; at 80,000 species one takes a second to make."""
_FURTHER_FIELDS = 20
"""Beside pictures and organs: what is known of the specimen, and what clients of the Pl@ntNet API may send."""
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""All that is ever served from disk, by fixed names."""


def create_app(
    bundle_folder: Path | str,
    *,
    project: str = "taxakey",
    limits: Limits = Limits(),
    only: str | None = None,
    decide: Rule | None = None,
    costs: str | None = None,
    shares: str | None = None,
) -> FastAPI:
    """The server of an exported bundle, which is loaded here and now; raises what `load`, `only`, `deciding` and `with_shares`
    raise. `shares`: a file of them."""
    identifier = load(bundle_folder)
    if shares is not None:
        identifier = identifier.with_shares(shares)
    if decide or costs:
        identifier = identifier.deciding(decide, costs)
    return app_for(identifier if only is None else identifier.only(only), project=project, limits=limits)


def app_for(identifier: Identifier, *, project: str = "taxakey", limits: Limits = Limits()) -> FastAPI:
    """The same for a model that is loaded already."""
    # FastAPI's own pages of documentation load scripts from a foreign server; /openapi.json stays.
    app = FastAPI(title="Taxakey", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, limits=limits)
    _add_refusals(app)
    _add_page(app)
    service = Service(identifier, project, limits)
    app.get("/health", summary="Which model answers, and within which limits")(service.health)
    app.post(
        "/v2/identify/{project}",
        summary="Name one specimen from one to five photographs",
        openapi_extra=upload_schema(limits, identifier.takes),
    )(service.identify)
    return app


class Service:
    """The two questions that the server answers, and how many may ask at once."""

    def __init__(self, identifier: Identifier, project: str, limits: Limits) -> None:
        self.identifier, self.project, self.limits = identifier, project, limits
        self._computing = asyncio.Semaphore(limits.computing)
        self._requests = 0
        self._restricted = lru_cache(_RESTRICTIONS_KEPT)(self._restrict)

    async def health(self) -> dict[str, Any]:
        taxonomy = self.identifier.taxonomy
        return {
            "status": "ok",
            "version": __version__,
            "project": self.project,
            "species": len(taxonomy),
            "genera": len(taxonomy.taxa("genus")),
            "families": len(taxonomy.taxa("family")),
            "modelFingerprint": self.identifier.fingerprint,
            "taxonomyFingerprint": taxonomy.fingerprint,
            "calibrated": self.identifier.calibration is not None,
            "unsureBelow": self.identifier.unsure_below,
            "meaning": describe_threshold(self.identifier.calibration),
            **self._decided(),
            "restriction": self.identifier.restriction.meaning if self.identifier.restriction else None,
            "shares": self.identifier.shares,
            "flagsUnknown": bool(self.identifier.decisions and self.identifier.decisions.unknown and self.identifier.rule),
            "marksPoisonous": taxonomy.poisonous() is not None,
            "takes": list(self.identifier.takes),
            "words": {name: list(words) for name, words in self.identifier.teller.asks.words.items()}
            if self.identifier.teller.asks
            else {},
            "limits": {"images": self.limits.images, "imageBytes": self.limits.image_bytes, "pixels": self.limits.pixels},
        }

    async def identify(
        self,
        request: Request,
        project: str,
        results: Annotated[int, Query(alias="nb-results", ge=1, le=MOST_RESULTS)] = 10,
        lang: Annotated[str, Query(pattern="^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?$")] = "en",
        related: Annotated[bool, Query(alias="include-related-images", description="accepted; there are none")] = False,
        no_reject: Annotated[
            bool, Query(alias="no-reject", description="answer even where no organism can be made out, instead of 404")
        ] = False,
        only: Annotated[
            str | None, Query(max_length=500, description="only species of these taxa of the model, with commas between")
        ] = None,
    ) -> JSONResponse:
        if project != self.project:
            raise Refusal(404, "Project not found")
        identifier = self.identifier if only is None else await asyncio.to_thread(self._restricted, only)
        async with self._place():
            pictures, organs, said = await _read_upload(request, self.limits)
            known = {name: value for name, value in said.items() if name in self.identifier.takes}
            told = self._told(known)
            async with self._computing:
                answer = await asyncio.to_thread(self._answer, identifier, pictures, told, results)
        if answer.decision and answer.decision.organism is False and not no_reject:
            raise Refusal(
                404, "Species not found: no organism that this model knows can be made out; no-reject=true answers anyway"
            )
        names = [hashlib.sha256(picture).hexdigest()[:32] for picture in pictures]
        question = Question(project, names, organs, include_related_images=related, language=lang)
        own = {**self._own_keys(answer), "used": list(known), "ignored": [name for name in said if name not in known]}
        return JSONResponse(plantnet_response(question, answer, results, own))

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._requests >= self.limits.requests:
            headers = {"Retry-After": str(self.limits.retry_seconds), "Connection": "close"}
            raise Refusal(503, "the server is busy with other photographs; try again in a few seconds", headers)
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def _told(self, known: Mapping[str, str]) -> Told:
        try:
            return self.identifier.tell(known)
        except BadInput as error:
            raise Refusal(400, str(error)) from None

    def _restrict(self, taxa: str) -> Identifier:
        """Taxa only: what strangers write never names a file."""
        identifier = self.identifier
        try:
            within = identifier.restriction
            return identifier.only(within.narrowed(taxa) if within else restrict_to_taxa(identifier.taxonomy, taxa))
        except BadInput as error:
            raise Refusal(400, f"only: {error}") from None

    def _answer(self, identifier: Identifier, pictures: Sequence[bytes], told: Told, results: int) -> Answer:
        """Decode and identify, in a thread."""
        loaded = []
        for number, picture in enumerate(pictures, start=1):
            name = f"image {number}"
            check_picture(picture, name, self.limits)
            try:
                loaded.append(self.identifier.preprocess.load(picture, name=name, max_pixels=self.limits.pixels))
            except BadImage as error:
                raise Refusal(415, str(error)) from None
        return identifier.identify_pixels(np.stack(loaded), told=told, top=results)

    def _own_keys(self, answer: Answer) -> dict[str, Any]:
        """What the Pl@ntNet API has no place for."""
        return {
            "calibrated": answer.calibrated,
            "unsure": answer.unsure,
            "unsureBelow": self.identifier.unsure_below,
            "meaning": describe_threshold(self.identifier.calibration),
            "genera": [{**_name_and_probability(genus), "family": genus.family} for genus in answer.genera],
            "families": [_name_and_probability(family) for family in answer.families],
            "poisonousProbability": answer.poisonous_probability,
            "poisonousSpecies": [taxon.scientific_name for taxon in answer.species if taxon.poisonous],
            "decision": decision_facts(answer.decision) if answer.decision else None,
            **self._decided(),
            "restriction": answer.restriction.meaning if answer.restriction else None,
            "inside": answer.inside,
            "shares": answer.shares,
            "modelFingerprint": self.identifier.fingerprint,
        }

    def _decided(self) -> dict[str, Any]:
        """What decides, and what that was measured to mean."""
        decisions, rule = self.identifier.decisions, self.identifier.rule
        return {"decides": rule, "decisionMeaning": decisions.meaning if decisions and rule == "roll-up" else None}


def _name_and_probability(taxon: Taxon) -> dict[str, Any]:
    return {"name": taxon.scientific_name, "probability": round(taxon.probability, 6)}


# ---- reading what was sent ----


async def _read_upload(request: Request, limits: Limits) -> tuple[list[bytes], list[str], dict[str, str]]:
    """The pictures' bytes, an organ for each, and whatever else the form says and isn't empty; raises Refusal."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refusal(400, "send multipart/form-data with the photographs as `images`")
    try:
        async with (
            asyncio.timeout(limits.upload_seconds),
            request.form(max_files=limits.images, max_fields=limits.images + _FURTHER_FIELDS, max_part_size=1000) as form,
        ):
            pictures, organs = await _pictures_in(form, limits)
            said = [(name, value) for name, value in form.multi_items() if isinstance(value, str) and name != "organs"]
            return pictures, organs, {name: value for name, value in said if value.strip()}
    except TimeoutError:
        raise Refusal(408, f"the upload took longer than {limits.upload_seconds:.0f} seconds", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Refusal(400, "the upload was cut off") from None


async def _pictures_in(form: FormData, limits: Limits) -> tuple[list[bytes], list[str]]:
    files = form.getlist("images")
    if not files:
        raise Refusal(400, f"no image; send one to {limits.images} files as `images`")
    organs = [str(organ) for organ in form.getlist("organs")] or ["auto"] * len(files)
    if len(organs) != len(files):
        raise Refusal(400, f"{len(organs)} organs for {len(files)} images; send one for each image, or none")
    pictures = []
    for number, file in enumerate(files, start=1):
        if not isinstance(file, UploadFile):
            raise Refusal(400, f"image {number} isn't a file; each part of `images` needs a filename")
        if file.size == 0:
            raise Refusal(415, f"image {number} is empty")
        pictures.append(await file.read())
    return pictures, organs


# ---- refusals and the page ----


def _add_refusals(app: FastAPI) -> None:
    """Every error in one shape."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return Refusal(error.status_code, str(error.detail), error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return Refusal(400, f"{first['loc'][-1]}: {first['msg']}").response()

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        return Refusal(500, "the server failed at this request; its log says why").response()


def _add_page(app: FastAPI) -> None:
    folder = resources.files("taxakey.serving") / "page"
    for address, (name, kind) in _PAGE.items():
        content = (folder / name).read_bytes()
        app.add_api_route(address, _sender(content, kind), include_in_schema=False)


def _sender(content: bytes, kind: str) -> Any:
    async def send() -> Response:
        return Response(content, media_type=kind)

    return send
