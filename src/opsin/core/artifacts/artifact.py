"""What the JSON files of a run have in common: how they are read, checked and written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RunError
from opsin.core.regular_file import open_regular
from opsin.core.storage import write_json
from opsin.core.stored_json import JsonObject, read_json, read_json_lines

#: Seconds since 1970 that no clock shows: about the year 9900.
LATEST: Final = 2.5e11
# Characters of the longest text; a source may be long, and a cause holds some.
_LONGEST: Final = 20_000


def _limited(text: str) -> str:
    if len(text) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST:,} characters")
    return text


# Pydantic's own limit on lengths would refuse names of files that are no Unicode.
Text = Annotated[str, AfterValidator(_limited)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
# Sums of many products may end a rounding error above 1, as average precisions do.
Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]
Seconds = Annotated[float, Field(ge=0, le=LATEST)]


class Stored(BaseModel):
    """A part of a file: unknown fields are kept, since a later Opsin may have written them."""

    model_config = ConfigDict(
        extra="allow", frozen=True, allow_inf_nan=False, defer_build=True,
        validate_by_name=True, validate_by_alias=True,
    )  # fmt: skip

    def to_json(self) -> JsonObject:
        """Return plain values for JSON: the fields that were read or given, no others."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Artifact(Stored):
    """A JSON file of a run."""

    FILE: ClassVar[str]
    FORMAT: ClassVar[int] = 1

    format: int = Field(1, ge=1, description="Version of this file's format.")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read and check a file."""
        content = read_object(file)
        stated = content.get("format", 1)
        if type(stated) is int and stated > cls.FORMAT:
            raise RunError(
                f"a {cls.FILE} of format {cls.FORMAT} or earlier",
                f"{file} has format {stated}",
                "Update Opsin.",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise damaged(file, first_of(error)) from error

    def write(self, folder: Path) -> None:
        """Write the file into a folder."""
        write_json(folder / self.FILE, {"format": self.FORMAT} | self.to_json())


def read_object(file: Path) -> JsonObject:
    """Read a file that holds one JSON object; no link is followed."""
    try:
        with open_regular(file, follow_links=False) as stream:
            content = read_json(stream)
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error
    if not isinstance(content, dict):
        raise damaged(file, "it holds no object")
    return content


def read_objects(file: Path, *, skip: bool = False) -> list[JsonObject]:
    """Read a file of JSON lines up to the first that is no object; no link is followed."""
    if not os.path.lexists(file):
        return []
    try:
        with open_regular(file, follow_links=False) as stream:
            return read_json_lines(stream, skip=skip)
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, why: Exception | str) -> RunError:
    """Return the error of a file that does not hold what Opsin writes."""
    reason = why.strerror if isinstance(why, OSError) else str(why)
    return RunError(
        f"a whole {file.name}",
        f"{file} is damaged ({reason})",
        "Restore the file or train again.",
    )


def first_of(error: ValidationError) -> str:
    """Say what is wrong with the first bad value, but not which value a stranger wrote there."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"[:300]
