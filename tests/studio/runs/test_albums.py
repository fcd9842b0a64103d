"""Open sets: the images of the cache, by rows that mean the same everywhere."""

import asyncio
from pathlib import Path

import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.studio.context import Studio
from opsin.studio.datasets.album import OUT, Album
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.decoded_dataset import NotDecoded, open_run, open_set
from opsin.studio.errors import NotThere
from opsin.studio.words import opaque
from tests.conftest import write_shapes
from tests.made_runs import answers_right, write_run

pytestmark = pytest.mark.anyio


def set_of(source: str | Path) -> LibraryDataset:
    return LibraryDataset(id="0" * 16, title="Mine", sources=(str(source),))


def test_nothing_is_read_or_fetched_that_was_not_read_before(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    for source in (shapes, "mnist", "digits"):
        with pytest.raises(NotDecoded, match="photographs of Mine were not read"):
            open_set(set_of(source))
    assert not (tmp_path / "cache").exists()


async def test_a_folder_that_has_changed_is_told(tmp_path: Path, studio: Studio) -> None:
    folder = write_shapes(tmp_path / "a", 3)
    opsin.load(folder)
    set_id = studio.sets.add_source(str(folder)).id
    albums = studio.albums
    await albums.corrections_of(set_id)
    assert not await albums.read_again(set_id)
    (folder / "disc" / "0.png").rename(folder / "square" / "9.png")
    assert await albums.read_again(set_id)
    with pytest.raises(NotDecoded):
        await albums.corrections_of(set_id)
    opsin.load(folder)
    assert (await albums.corrections_of(set_id)).opened.decoded.names[5] == "square/9.png"


def trained(data: opsin.Dataset, tmp_path: Path, name: str = "one") -> RunDirectory:
    directory = RunDirectory(write_run(tmp_path / "runs", name, data, answers_right(data, 0.8)))
    if data.recipe.labels:
        directory.corrections.write_bytes(Path(data.recipe.labels).read_bytes())
    return directory


def test_a_run_whose_images_have_changed_shows_none(shapes: Path, tmp_path: Path) -> None:
    directory = trained(opsin.load(shapes), tmp_path)
    (shapes / "disc" / "5.png").write_bytes((shapes / "square" / "5.png").read_bytes())
    with pytest.raises(NotDecoded):
        open_run("one", directory)
    opsin.load(shapes)
    with pytest.raises(NotThere, match="have changed since"):
        open_run("one", directory)


def test_rows_of_a_run_stay_when_files_are_renamed(shapes: Path, tmp_path: Path) -> None:
    whole = opsin.load(shapes)
    digest = whole.digests[3, :16].tobytes().hex()
    table = tmp_path / "labels.csv"
    table.write_text(f"digest,label\n{digest},-\n")
    data = opsin.load(shapes, labels=table)
    directory = trained(data, tmp_path)
    before = open_run("one", directory)
    shown = [(before.digest(row), before.decoded.labels[row]) for row in range(len(data))]
    for file in sorted(shapes.rglob("*.png")):
        file.rename(file.with_name(f"{99 - int(file.stem)}x.png"))
    opsin.load(shapes)
    after = open_run("one", directory)
    assert shown == [(after.digest(row), after.decoded.labels[row]) for row in range(len(data))]
    here = open_set(set_of(shapes))
    assert [here.digest(row) for row in after.decoded.rows] == [digest for digest, _ in shown]
    assert after.decoded.names != data.names


def of(studio: Studio, name: str) -> tuple[Album, list[int]]:
    async def look() -> tuple[Album, list[int]]:
        album, places = await studio.albums.album_of_run(opaque(name))
        return album, places.tolist()

    return asyncio.run(look())


def test_photographs_of_a_later_training_are_known(tmp_path: Path, studio: Studio) -> None:
    folder = write_shapes(tmp_path / "a", 3)
    trained(opsin.load(folder), tmp_path)
    assert of(studio, "one")[1] == list(range(6))
    (folder / "disc" / "9.png").write_bytes((folder / "square" / "0.png").read_bytes())
    trained(opsin.load(folder), tmp_path, "two")
    studio.runs.scan()
    assert len(of(studio, "two")[1]) == 7


def test_a_set_is_added_with_a_runs_labels(shapes: Path, tmp_path: Path, studio: Studio) -> None:
    opsin.load(shapes)
    table = tmp_path / "mine.csv"
    table.write_text("name,label\ndisc/3.png,-\ndisc/1.png,square\n")
    data = opsin.load(shapes, labels=table)
    trained(data, tmp_path)
    album, places = of(studio, "one")
    the_set = album.dataset
    assert the_set.sources == (str(shapes),)
    classes = [data.classes[label] for label in data.labels]
    assert [album.class_of(at) for at in places] == classes
    by_name = {album.name(at): at for at in range(24)}
    assert album.class_of(by_name["disc/1.png"]) == "square"
    assert album.labels[by_name["disc/3.png"]] == OUT

    row = data.names.index("disc/5.png")
    asyncio.run(studio.albums.move(album, [places[row]], "square"))
    album, places = of(studio, "one")
    assert album.class_of(places[row]) == "square"
    lines = studio.sets.corrections_path(the_set.id).read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines[1:]] == [
        ["disc/1.png", "square"],
        ["disc/3.png", "-"],
        ["disc/5.png", "square"],
    ]
    again = opsin.load(shapes, labels=studio.sets.corrections_path(the_set.id))
    assert again.classes[again.labels[again.names.index("disc/5.png")]] == "square"
    assert table.read_text().startswith("name,label")
    assert of(studio, "one")[0].dataset.id == the_set.id
    assert len(studio.sets.all()) == 1


def test_a_run_at_another_size_goes_by_names(shapes: Path, tmp_path: Path, studio: Studio) -> None:
    opsin.load(shapes)
    data = opsin.load(shapes, size=(16, 16), classes=["square", "disc"])
    trained(data, tmp_path)
    album, places = of(studio, "one")
    assert album.classes == ("disc", "square")  # the project's own
    row = data.names.index("disc/4.png")
    asyncio.run(studio.albums.move(album, [places[row]], ""))
    album, places = of(studio, "one")
    assert [at for at in places if album.labels[at] == OUT] == [places[row]]
    assert "disc/4.png,-" in studio.sets.corrections_path(album.dataset.id).read_text()


def test_a_run_of_two_sources_or_lost_images(shapes: Path, tmp_path: Path, studio: Studio) -> None:
    more = write_shapes(tmp_path / "more", 4)
    trained(opsin.load(shapes, more), tmp_path, "two")
    trained(opsin.load(more), tmp_path, "gone")
    with pytest.raises(opsin.SourceError, match="several places"):
        of(studio, "two")
    (more / "disc" / "0.png").unlink()
    with pytest.raises(NotDecoded):
        of(studio, "gone")
