"""The studio's process follows the folders: what is asked, who said what, what moved by hand."""

import io
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from opsin.core.child_process import pack, receive
from opsin.labelling.label_file import FOLDERS, LabelFile
from opsin.labelling.label_worker import LabelWorker
from opsin.labelling.labelling import Labelling


@pytest.fixture(scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Project:
    """Thirty pictures in a tray, one of them twice, and a broken file."""

    def __init__(self, pictures: Path, folder: Path) -> None:
        self.root, self.tray = folder / "photos" / "Heap", folder / "photos" / ".not-sorted"
        self.labels = folder / "labels.sqlite"
        shutil.copytree(pictures, self.tray)
        self.root.mkdir()
        places = self.root, self.tray, folder / "corrections.csv", self.labels
        self.worker = LabelWorker(io.BytesIO(), *places)

    def ask(self, do: str, **asked: Any) -> Any:
        """What is answered, as over pipes."""
        who = asked.pop("who", "a")
        question = io.BytesIO(b"".join(pack({"do": do, "who": who, "asked": asked})))
        answers = self.worker.target = io.BytesIO()
        self.worker.answer_frames(question)
        answers.seek(0)
        *_, (last, _) = iter(lambda: receive(answers), None)
        return last.get("said", last.get("error"))

    def move(self, names: list[str], class_: str) -> None:
        (self.root / class_).mkdir(exist_ok=True)
        for name in names:
            (self.root / name).rename(self.root / class_ / Path(name).name)

    def said(self) -> dict[str, tuple[str | None, str]]:
        with closing(LabelFile(self.labels)) as file:
            return {Path(one.name).name: (one.label, one.how) for one in file.now().values()}


@pytest.fixture
def project(
    pictures: Path, tmp_path: Path, _cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    monkeypatch.setenv("OPSIN_CACHE", str(_cache))
    return Project(pictures, tmp_path)


def kind(names: list[str]) -> str:
    return Path(names[0]).name.partition("-")[0].replace("copy.png", "dots")


def test_what_is_sorted_is_followed_whoever_sorts_it(project: Project) -> None:
    groups = project.ask("groups", number=3, reserved=0)
    assert sum(len(group["photos"]) for group in groups["groups"]) == 30
    state = project.ask("state")
    assert (state["words"], state["labelled"]) == ("1 file cannot be read.", 0)
    asked = project.ask("next", count=12)
    assert len({one["names"][0] for one in asked}) == 12
    photos = [photo for group in groups["groups"] for photo in group["photos"]]
    copied = sorted(Path(name).name for name in max(photos, key=len))
    assert copied == ["copy.png", "dots-0.png"]
    for one in asked:
        project.move(one["names"], kind(one["names"]))
        project.ask("label", names=one["names"], answer=kind(one["names"]), how=one["why"])
    state = project.ask("state")
    assert (len(project.worker._waiting), state["labelled"]) == (18, 12)
    assert {how for _, how in project.said().values()} <= {"typical", "random", "doubtful"}

    # A class in groups, to split it: the tray's stay out.
    inside = project.ask("groups", number=2, reserved=0, class_="dots")
    names = {one[0] for group in inside["groups"] for one in group["photos"]}
    assert names == {f"dots/{path.name}" for path in (project.root / "dots").glob("dots-*")}
    assert project.ask("groups", number=None, reserved=0, class_="none")["groups"] == []

    # Moved by hand, to and fro: the folders are the truth.
    (name,) = asked[0]["names"][:1]
    here = project.root / kind(asked[0]["names"]) / Path(name).name
    here.rename(project.tray / here.name)
    assert project.ask("state")["labelled"] == 11
    (project.root / "other").mkdir()
    (project.tray / here.name).rename(project.root / "other" / here.name)
    assert project.ask("state")["counts"]["other"] == 1
    assert project.said()[here.name] == ("other", FOLDERS)
    # Corrected on the page, it was drawn at random no more than before.
    for class_ in ("dots", "other"):
        project.ask("label", names=[f"other/{here.name}"], answer=class_, how="doubts")
        assert project.said()[here.name] == (class_, FOLDERS)


def test_what_is_set_aside_stays_and_is_not_asked_again(project: Project) -> None:
    one, other = project.ask("next", count=2)
    project.ask("label", names=one["names"], answer="unclear", how="question")
    project.ask("label", names=other["names"], answer="none of the classes", how="question")
    aside = {photo["names"][0] for photo in project.ask("aside")}
    assert aside == {one["names"][0], other["names"][0]}
    asked = {each["names"][0] for each in project.ask("next", count=40)}
    assert len(asked) == 28
    assert one["names"][0] not in asked
    project.ask("label", names=one["names"], answer="", how="undo")
    assert len(project.ask("next", count=40)) == 29


def test_nobody_is_asked_what_another_is_until_they_leave(project: Project) -> None:
    mine = {one["names"][0] for one in project.ask("next", count=20, who="me")}
    others = {one["names"][0] for one in project.ask("next", count=20, who="you")}
    assert len(mine) == 20
    assert len(others) == 10
    assert not mine & others
    project.ask("leave", who="me")
    assert len(project.ask("next", count=40, who="you")) == 30


def test_views_of_the_heap(project: Project) -> None:
    for one in project.ask("next", count=12):
        project.move(one["names"], kind(one["names"]))
    names = project.ask("next", count=1)[0]["names"]
    like = project.ask("like", name=names[0])
    assert like[0]["names"] == names
    assert len(like) == 18
    views = [project.ask("thought", class_=name) for name in ("dots", "lines", "plain")]
    assert len({photo["names"][0] for view in views for photo in view}) == 18
    wrong = next(project.root.glob("dots/*"))
    wrong.rename(project.root / "lines" / wrong.name)
    doubts = project.ask("doubts")
    assert wrong.name in {Path(doubt["names"][0]).name for doubt in doubts}
    places = project.ask("map")
    assert len(places) == 30
    assert {place["words"] for place in places} == {"", "dots", "lines", "plain"}
    gone = project.ask("like", name="../.not-sorted/none.png")
    assert gone[0] == "SourceError"


def test_a_question_has_one_answer_where_learning_fails(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Labelling, "learn", learn)
    assert project.ask("next", count=1)[0]["why"] == "typical"
