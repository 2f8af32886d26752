"""The exceptions that Taxakey raises for people to read.

    TaxakeyError                  one line: what, which file, what to do next; the command exits with status 2
    ├── BadInput                  a file, column or value given by the user can't be used
    │   ├── BadRecords            a table or archive of records
    │   ├── BadImage              a picture that can't be decoded or is over a limit
    │   └── BadRecipe             a recipe file: unknown key, wrong type, impossible combination
    ├── ArtifactError             a folder on disk isn't what a stage needs
    │   ├── MissingArtifact       nothing finished lies there
    │   └── PlanMismatch          it was begun with other inputs or another recipe
    ├── TaxonomyMismatch          two artifacts speak of different class lists
    ├── DownloadFailed            a service didn't deliver: no network, busy, broken off, given up
    ├── WeightsUnavailable        pretrained weights can't be had
    ├── MissingExtra              an optional dependency isn't installed
    └── ExportMismatch            the exported model answers differently from the trained one

Anything else that escapes is a bug: it shows a traceback and exits with status 1.
"""

from __future__ import annotations

from types import TracebackType


class TaxakeyError(Exception):
    """Base of all errors that are meant for a person; the message is one line."""


class BadInput(TaxakeyError):
    """A file, column or value given by the user can't be used."""


class BadRecords(BadInput):
    """A table or an archive of records can't be read as such."""


class BadImage(BadInput):
    """A picture can't be decoded, or is over a limit of bytes or pixels."""


class BadRecipe(BadInput):
    """A recipe names an unknown key, a wrong type or an impossible combination."""


class ArtifactError(TaxakeyError):
    """A folder on disk isn't what a stage needs."""


class MissingArtifact(ArtifactError):
    """No finished artifact of the wanted kind lies in the folder."""


class PlanMismatch(ArtifactError):
    """The folder was begun with other inputs or another recipe."""


class TaxonomyMismatch(TaxakeyError):
    """Two artifacts were made with different class lists."""


class DownloadFailed(TaxakeyError):
    """A service didn't deliver: no network, too busy, a file that breaks off, an order that was given up."""


class WeightsUnavailable(TaxakeyError):
    """Pretrained weights can't be had: no such file, no network, or none exist."""


class MissingExtra(TaxakeyError):
    """An optional dependency isn't installed; the message is the line that installs it."""


class ExportMismatch(TaxakeyError):
    """The exported model gives other answers than the trained one."""


class needs_extra:
    """Turn a failed import inside the block into the line that installs the extra."""

    def __init__(self, extra: str) -> None:
        self.extra = extra

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtra(f"the package {error.name!r} isn't installed; run: pip install 'taxakey[{self.extra}]'") from error
