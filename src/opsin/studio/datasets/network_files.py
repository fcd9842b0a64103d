"""Pretrained networks uploaded to the studio."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from opsin.core.errors import ModelFileError
from opsin.core.storage import storage_errors
from opsin.studio.datasets.upload_import import file_name
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import command
from opsin.web.refusals import Error

_ID: Final = re.compile(r"[0-9a-f]{16}")
_ASK: Final = "ask-for-pixels"
# Most seconds for checking a network.
_SECONDS: Final = 120.0


class _Description(BaseModel):
    """The used part of ``opsin backbones FILE --json``."""

    pixels: object = None
    error: Error | None = None


class NetworkFiles:
    """ONNX files, each in its own folder, with ids by content."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "networks"
        self._asking = {path.parent.name for path in self._folder.glob(f"*/{_ASK}")}

    def add(self, sent: Path, name: str) -> str:
        """Move a file here; return its id."""
        with storage_errors(self._folder):
            with sent.open("rb") as file:
                number = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            folder = self._folder / number
            self.remove(number)
            folder.mkdir(parents=True)
            shutil.move(sent, folder / f"{Path(file_name(name)).stem}.onnx")
        return number

    def get(self, number: str) -> Path:
        """A network's path."""
        if number not in (files := self.all()):
            raise NotThere("The network's file is not there any more", "Send it again.")
        return files[number]

    def all(self) -> dict[str, Path]:
        """All paths by id."""
        return {
            path.parent.name: path
            for path in sorted(self._folder.glob("*/*.onnx"))
            if _ID.fullmatch(path.parent.name)
        }

    def check(self, number: str) -> None:
        """Check a network in a separate process, and remove it if unusable."""
        path = self.get(number)
        message, advice = "", "Give an ONNX network that takes one image."
        network = _Description()
        try:
            done = subprocess.run(  # noqa: S603  our own command
                command("backbones", "--offline", path),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                timeout=_SECONDS, check=False,
            )  # fmt: skip
            network = _Description.model_validate_json(done.stdout)
        except ValidationError:
            message = f"{path.name} could not be opened"
        except subprocess.TimeoutExpired:
            message = f"Looking into {path.name} took longer than {_SECONDS:.0f} seconds"
        if error := network.error:
            message, advice = error["message"].replace(str(path), path.name), error["advice"]
        if message:
            self.remove(number)
            raise ModelFileError(message, advice)
        if network.pixels is None:
            with storage_errors(self._folder):
                (self._folder / number / _ASK).touch()
            self._asking.add(number)

    def asks_for_pixels(self, number: str) -> bool:
        """Whether the user must state a network's pixel range."""
        return number in self._asking

    def remove(self, number: str) -> None:
        """Remove a network, if it exists."""
        self._asking.discard(number)
        shutil.rmtree(self._folder / number, ignore_errors=True)
