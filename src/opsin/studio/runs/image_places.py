"""Where the images of a run may lie for the studio to read them."""

from __future__ import annotations

from pathlib import Path

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.run_images import recipe_of_run
from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.folders import Folders
from opsin.studio.errors import NotThere


class ImagePlaces:
    """The places where the studio may look for the images of runs."""

    def __init__(self, sets: Library, folders: Folders, home: Path) -> None:
        self._sets, self._folders, self._own = sets, folders, Folders([home])

    def check(self, run: RunDirectory) -> None:
        """Check that the images of a run lie in these places."""
        recipe = recipe_of_run(run)
        known = {*NAMES, *(place for each in self._sets.all() for place in each.sources)}
        for place in filter(None, (*recipe.sources, recipe.test, recipe.labels)):
            if not (place in known or self._folders.holds(place) or self._own.holds(place)):
                raise NotThere(
                    "a run whose images lie where this studio may look",
                    f"those of {run.path.name} lie elsewhere",
                    "If the run is yours, allow that folder: opsin studio --root FOLDER",
                )
