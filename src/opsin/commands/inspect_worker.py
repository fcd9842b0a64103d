"""The process that looks inside one classifier for the studio.

It is started as ``python -m opsin.commands.inspect_worker MODEL FOLDER``, answers one frame after
another, and ends when its standard input is closed.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from opsin.commands.inspect import NEIGHBOURS, Insight, look_at_network
from opsin.commands.inspect_model import Inspection
from opsin.core.child_process import error_values, take_output
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.events import Watcher
from opsin.core.framing import Header, pack, receive, whole
from opsin.data.image_encoding import png_address
from opsin.runtime.classifier import Prediction

# A known image by its part and number. Files are not read: the bytes come with the question.
_KNOWN: Final = re.compile(r"(train|val|test)/\d{1,12}")
_IMAGE: Final = frozenset({"image", "name"})
# What each question may be asked with; that is all text but for numbers of images.
_WITH: Final = {
    "image": _IMAGE | {"layer"},
    "explain": _IMAGE | {"label"},
    "nearest": _IMAGE | {"count"},
    "layer": frozenset({"layer", "label", "limit"}),
    "network": frozenset(),
}
_NUMBERS: Final = frozenset({"count", "limit"})
# Seconds between two frames about the progress of the same work.
_EVERY: Final = 0.2

Say = Callable[[Header], None]


class WorkerAnswers:
    """One classifier and what can be asked of it; opened at the first question.

    Args:
        model: A run directory, or a ``classifier.onnx``.
        folder: Where pages go, each under the name that its question has as ``id``.
        say: Sends a header.
    """

    def __init__(self, model: str | os.PathLike[str], folder: Path, say: Say) -> None:
        self._model = model
        self._folder = folder
        self._say = say
        self._progress = _Progress(say)
        self._look: Inspection | None = None
        self._verbs: Mapping[str, Callable[..., dict[str, Any]]] = {
            "image": self._image,
            "layer": self._layer,
            "network": self._network,
            "nearest": self._nearest,
            "explain": self._explain,
        }

    def answer(self, question: Header, content: bytes) -> None:
        """Answer one question: what was found, or why nothing was.

        Args:
            question: ``{"id": "1a2b", "do": "image", "with": {"image": "test/17"}}``
            content: The bytes of an image that is not known, or nothing.
        """
        number = None
        try:
            self._progress.number = number = _number(question)
            verb, given = _question(question)
            if _WITH[verb] >= _IMAGE:
                given["content"] = content
            said = self._do(number, verb, given)
            self._say({"id": number, "page": said.pop("page", None), "said": said})
        except OpsinError as error:
            self._refuse(number, error)
        except MemoryError:
            self._refuse(number, OpsinError(
                "enough memory", "there was too little", "Close other programs and ask again."
            ))  # fmt: skip
        except OSError as error:
            if isinstance(error, BrokenPipeError):  # nothing reads the answers any more
                raise
            reason = (error.strerror or str(error)).lower()
            self._refuse(number, OpsinError(
                "a file that can be read and written", reason, "Correct this and ask again."
            ))  # fmt: skip

    def _do(self, number: str, verb: str, given: dict[str, Any]) -> dict[str, Any]:
        if self._look is None:
            self._look = Inspection(self._model, watcher=self._progress)
        return self._verbs[verb](self._look, self._folder / f"{number}.html", **given)

    def _refuse(self, number: str | None, error: OpsinError) -> None:
        self._say({"id": number, "error": error_values(error)})

    def _image(
        self, look: Inspection, page: Path, *, layer: str | None = None, **image: Any
    ) -> dict[str, Any]:
        """What a layer, or each of them, makes of an image."""
        return self._shown(look, page, _answer(look, **image), layer)

    def _explain(
        self, look: Inspection, page: Path, *, label: str | None = None, **image: Any
    ) -> dict[str, Any]:
        """Why an image got its answer: heat maps with their checks."""
        answer = _answer(look, **image)
        found = Insight(look.classifier.path, answer=answer)
        found.decision = look.explain(answer, label)
        if look.has_images:
            found.neighbours = look.nearest(answer, NEIGHBOURS)
        return _written(look, found, answer, page)

    def _shown(
        self, look: Inspection, page: Path, answer: Prediction, layer: str | None
    ) -> dict[str, Any]:
        found = Insight(look.classifier.path, answer=answer)
        found.views = look.layers(answer, None if layer is None else [layer])
        found.activity = look.activity()
        return _written(look, found, answer, page)

    def _layer(
        self,
        look: Inspection,
        page: Path,
        *,
        layer: str,
        label: str | None = None,
        limit: int | None = None,
    ) -> dict[str, Any]:
        """What excites each unit of a layer, over all training images or some of them."""
        from opsin.commands.inspect_pages import write_units_page  # noqa: PLC0415  needs Jinja

        if label is not None:
            look.class_called(label)
        gallery = look.units(layer, limit=limit)
        found = Insight(look.classifier.path, galleries={layer: gallery})
        write_units_page(look, found, page, label)
        return {"page": str(page), "units": len(gallery), "images": gallery.images}

    def _network(self, look: Inspection, page: Path) -> dict[str, Any]:
        """What the network is: layers, receptive fields, weights."""
        summary = look_at_network(look, Insight(look.classifier.path), page)
        return {"page": str(page), "layers": len(summary.rows)}

    def _nearest(
        self, look: Inspection, page: Path, *, count: int = NEIGHBOURS, **image: Any
    ) -> dict[str, Any]:
        """The training images that the network sees most like an image, with their pixels."""
        del page  # it has none
        answer = _answer(look, **image)
        found = look.nearest(answer, count)
        shown = [{**each.to_json(), "shown": png_address(each.pixels)} for each in found]
        return {"answer": answer.to_json(), "nearest": shown}


class _Progress(Watcher):
    """Tells how far the work is, a few times a second."""

    def __init__(self, say: Say) -> None:
        self.number = ""
        self._say = say
        self._told = 0.0
        self._what, self._total = "", 0

    def doing(self, what: str) -> None:
        if what != self._what:
            self._what, self._total = what, 0
            self._tell(0)

    def begin(self, what: str, total: int, unit: str) -> None:  # noqa: ARG002  of the hook
        self._what, self._total = what, total
        self._tell(0)

    def advance(self, done: int, **figures: float) -> None:  # noqa: ARG002  of the hook
        if time.monotonic() - self._told >= _EVERY:
            self._tell(done)

    def _tell(self, done: int) -> None:
        self._told = time.monotonic()
        self._say({"id": self.number, "progress": [self._what, done, self._total]})


def _number(asked: Header) -> str:
    """Return what a question is called: letters and digits, since its page is called so too."""
    number = asked.get("id")
    if not isinstance(number, str) or not re.fullmatch(r"[A-Za-z0-9]{1,64}", number):
        raise RecipeError(
            'a question such as {"id": "1", "do": "network", "with": {}}',
            f"got {json.dumps(asked)[:80]}",
            "Send one question a frame.",
        )
    return number


def _question(asked: Header) -> tuple[str, dict[str, Any]]:
    """Return what is asked, and with what."""
    verb, given = asked.get("do"), asked.get("with", {})
    if not isinstance(verb, str) or verb not in _WITH:
        known = ", ".join(_WITH)
        raise RecipeError(f"a question among {known}", f"got {verb!r}", "Ask one of these.")
    fits = (
        isinstance(given, dict)
        and given.keys() <= _WITH[verb]
        and (verb != "layer" or "layer" in given)
        and all(type(each) is (int if key in _NUMBERS else str) for key, each in given.items())
    )
    if not fits:
        raise RecipeError(
            f"{verb} with {', '.join(sorted(_WITH[verb])) or 'nothing'}",
            f"got {json.dumps(given)[:80]}",
            "Ask with these.",
        )
    return verb, dict(given)


def _answer(
    look: Inspection,
    *,
    image: str | None = None,
    content: bytes = b"",
    name: str = "image",
) -> Prediction:
    """Return the answer to an image.

    Args:
        look: The classifier.
        image: One of the known images by part and number, such as ``test/17``.
        content: Or the bytes of any.
        name: What to call those.

    Raises:
        RecipeError: Neither or both were given, or there is no such image.
        ImageError: The bytes are no image.
    """
    if (image is None) == (not content):
        raise RecipeError("an image or its content", "got neither or both", "Give one of them.")
    if content:
        return look.predict(content, name=name)
    known = str(image)
    if not _KNOWN.fullmatch(known) or look.known.row_called(known) is None:
        count = len(look.known.test)
        raise RecipeError(
            "one of the known images, by part and number",
            f"got {known[:80]!r}; the test part has {count:,}",
            "Give test/0 or another.",
        )
    return look.predict(known)


def _written(look: Inspection, found: Insight, answer: Prediction, page: Path) -> dict[str, Any]:
    """Write the page about an image and return what is said of it."""
    from opsin.commands.inspect_pages import write_image_page  # noqa: PLC0415  needs Jinja

    write_image_page(look, found, answer, page)
    actual = look.actual(answer)
    label = None if actual is None else look.classifier.classes[actual]
    return {"page": str(page), "answer": answer.to_json(), "actual": label}


def answer_frames(
    model: str | os.PathLike[str], folder: Path, source: io.BufferedIOBase, target: BinaryIO
) -> None:
    """Answer questions until there are no more, one frame (`opsin.core.framing`) each.

    In: ``{"id", "do": "image" | "layer" | "network" | "nearest" | "explain", "with": {…}}``, and as
    the body the bytes of an image that the classifier's run does not have.
    Out: ``{"id", "progress": [what, done, total]}`` any number of times (a total of 0: it is
    unknown), then ``{"id", "page": path or null, "said": {…}}`` or ``{"id", "error": […]}``
    (`opsin.core.child_process.error_values`).

    Args:
        model: A run directory, or a ``classifier.onnx``.
        folder: Where pages go, each called after the ``id`` (letters and digits) of its question.
        source: The questions.
        target: Where the answers go.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> asked, said = io.BytesIO(*pack({"id": "a", "do": "network"})), io.BytesIO()
        >>> answer_frames(run.path, run.path, asked, said)
        >>> said.getvalue().endswith(b'"said":{"layers":5}}')
        True
        >>> (run.path / "a.html").is_file()
        True
    """

    def say(header: Header) -> None:
        target.write(b"".join(pack(header)))
        target.flush()

    answers = WorkerAnswers(model, folder, say)
    while (frame := receive(source)) is not None:
        answers.answer(frame[0], whole(frame[1]))


def main() -> None:
    """Answer the questions on standard input until it is closed."""
    model, folder = sys.argv[1:]
    output = take_output()
    answer_frames(model, Path(folder), cast(io.BufferedIOBase, sys.stdin.buffer), output)


if __name__ == "__main__":
    main()
