"""Files sent to a hub on this machine, by the real huggingface_hub."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from opsin.core.errors import UploadError
from opsin.core.events import Watcher
from opsin.hub.hub_upload import upload
from tests.hub_server import TOKEN, HubServer

NAME = "someone/boots"
LARGE = np.random.default_rng(5).bytes(300_000)
FILES = {"classifier.onnx": LARGE, "README.md": b"---\nlicense: mit\n---\n# Boots\n"}


class Seen(Watcher):
    """Keeps how far an upload was and what was noted, and can be interrupted."""

    def __init__(self, *, interrupt_at: int | None = None) -> None:
        self.total, self.interrupt_at = 0, interrupt_at
        self.done: list[int] = []
        self.notes: list[str] = []

    def begin(self, what: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, done: int, **figures: float) -> None:
        self.done.append(done)
        if self.interrupt_at is not None and done >= self.interrupt_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def sendings(hub: HubServer) -> list[str]:
    """Return the requests that would change something, without their names of files."""
    return [path.split("/")[1] for method, path, _ in hub.asked if method == "PUT"]


def test_a_new_repository_is_private_and_has_all_in_one_commit(hub: HubServer) -> None:
    seen = Seen()
    sent = upload(NAME, FILES, public=False, watcher=seen)
    there = hub.repositories[NAME]
    assert {name: there.files[name] for name in FILES} == FILES
    assert (there.private, len(there.commits)) == (True, 1)
    assert (sent.commit, sent.private) == (there.commit, True)
    assert sent.address == f"{hub.address}/{NAME}"
    assert seen.total == seen.done[-1] == len(LARGE)
    assert not seen.notes


def test_an_upload_that_was_stopped_changed_nothing_and_can_be_repeated(hub: HubServer) -> None:
    with pytest.raises(KeyboardInterrupt):
        upload(NAME, FILES, public=False, watcher=Seen(interrupt_at=100_000))
    assert list(hub.repositories[NAME].files) == [".gitattributes"]
    hub.refuses["commit"] = 500
    with pytest.raises(UploadError, match="500"):
        upload(NAME, FILES, public=False)
    assert list(hub.repositories[NAME].files) == [".gitattributes"]
    assert list(hub.sent.values()) == [LARGE]
    hub.refuses.clear()
    hub.asked.clear()
    upload(NAME, FILES, public=False)
    assert not sendings(hub)  # it had arrived
    assert len(hub.repositories[NAME].commits) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a right": ({"refuses": {"create": 403}}, "does not let your token write to someone/boots"),
    "a plan": ({"refuses": {"create": 402}}, r"refuses \(402"),
    "a quick change": ({"refuses": {"commit": 412}}, "was changed while.*Run it again"),
    "a repository": ({"refuses": {"preupload": 404}}, "does not let your token write"),
    "a large file": ({"refuses": {"lfs": 403}}, "does not let your token write"),
    "its content": ({"refuses": {"/upload/": 403}}, "does not let your token write"),
    "a size": ({"refuses": {"lfs": 413}}, r"refuses \(413"),
    "the hub": ({"refuses": {"create": 500}}, r"refuses \(500"),
    "a card": ({"card_errors": ["license must be one of"]}, "license must be one of.*README.md"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_hub_refuses(hub: HubServer, what: str) -> None:
    more, said = REFUSED[what]
    for name, value in more.items():
        setattr(hub, name, value)
    with pytest.raises(UploadError, match=said) as error:
        upload(NAME, FILES, public=False)
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    assert not (NAME in hub.repositories and hub.repositories[NAME].commits)


def test_a_name_that_holds_something_else(hub: HubServer) -> None:
    hub.publish(NAME, {"model.safetensors": b"x", "README.md": b"x"})
    with pytest.raises(UploadError, match=r"holds no classifier.*nothing was changed"):
        upload(NAME, FILES, public=False)
    assert not [path for method, path, _ in hub.asked if method != "GET"]


@pytest.mark.parametrize(
    ("token", "said"), [("", "There is no token"), ("hf_bad", "does not accept")]
)
def test_tokens(hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str, said: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UploadError, match=f"{said}.*hf auth login") as error:
        upload(NAME, FILES, public=False)
    assert not token or token not in str(error.value)


def test_a_hub_that_says_nothing(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils._http import get_session

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.silent = True
    before = get_session().timeout
    with pytest.raises(UploadError, match="cannot be reached"):
        upload(NAME, FILES, public=False)
    assert get_session().timeout == before
