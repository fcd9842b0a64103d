"""`opsin serve` as a process: the same answers by every door, none of them swapped or lost."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from opsin.runtime.classifier import Classifier
from tests.served import Server, ask_all, image, load, request, serving, wait_for

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

CONNECTIONS = 64


def only(reply: Any) -> dict[str, Any]:
    """Return what is said about the only image."""
    assert reply.status_code == 200, reply.text
    [entry] = reply.json()["predictions"]
    assert isinstance(entry, dict)
    return entry


def none_is_swapped(server: Server, nearest_mean: Path, count: int) -> None:
    contents = [image(number) for number in range(count)]
    requests = [request(server.port, content, path="/predict?all=true") for content in contents]
    replies = ask_all(server.port, requests, CONNECTIONS)
    classifier = Classifier(nearest_mean, threads=1)
    given = set()
    for content, reply in zip(contents, replies, strict=True):
        assert reply.status == 200, reply
        [entry] = reply.json()["predictions"]
        found = entry["probabilities"]
        assert found == classifier.predict(content).probabilities
        given.add(tuple(found.values()))
    # Otherwise, one answer could stand for another and nobody would see it.
    assert len(given) > 0.9 * count


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_concurrent_answers_are_those_of_their_images(
    count: int, server: Server, nearest_mean: Path
) -> None:
    none_is_swapped(server, nearest_mean, count)


def renamed(file: Path, prefix: str, target: Path) -> None:
    """Write the same classifier with other names of its classes, as a training would: whole."""
    model = onnx.load_model(file)
    props = {prop.key: prop.value for prop in model.metadata_props}
    classes = [f"{prefix}{name}" for name in json.loads(props["opsin.classes"])]
    helper.set_model_props(model, props | {"opsin.classes": json.dumps(classes)})
    beside = target.with_suffix(".new")
    onnx.save_model(model, beside)
    beside.replace(target)


@pytest.mark.slow
def test_a_file_is_replaced_under_load_without_a_lost_request(
    nearest_mean: Path, tmp_path: Path
) -> None:
    model = tmp_path / "classifier.onnx"
    shutil.copy(nearest_mean, model)
    with serving(model, "--workers", "2", folder=tmp_path) as server:
        requests = [request(server.port, image(number)) for number in range(100)]
        with load(server.port, requests) as replies:

            def labels() -> set[str]:
                new = replies[-8:]
                return {each.json()["predictions"][0]["label"][0] for each in new}

            renamed(nearest_mean, "b", model)
            wait_for(lambda: labels() == {"b"})
            # What is no classifier changes nothing.
            broken = tmp_path / "broken"
            broken.write_bytes(nearest_mean.read_bytes()[:2000])
            broken.replace(model)
            wait_for(lambda: "classifier.onnx" in server.said())
            seen = len(replies)
            wait_for(lambda: len(replies) > seen + 50)
            assert labels() == {"b"}
        assert [each for each in replies if each.status != 200] == []
        # A file has one set of names: no answer mixes two.
        for each in replies:
            names = {row["label"][:-1] for row in each.json()["predictions"][0]["top"]}
            assert len(names) == 1
        assert server.stop() == 0, server.said()


@pytest.mark.slow
def test_what_was_accepted_is_answered_before_the_end(nearest_mean: Path, tmp_path: Path) -> None:
    body = json.dumps({"images": [base64.b64encode(image(1)).decode()] * 4}).encode()
    with serving(nearest_mean, "--workers", "1", folder=tmp_path) as server:
        message = request(server.port, body, kind="application/json")
        with contextlib.ExitStack() as halt:
            halt.enter_context(server.halted())
            with load(server.port, [message], connections=16) as replies:
                # Of 64 images, its worker has two batches of 16 at most.
                wait_for(lambda: server.figure("opsin_images_waiting") >= 32)
                server.process.send_signal(signal.SIGTERM)
                wait_for(lambda: "requests that were accepted are answered" in server.said())
                assert not replies
                halt.close()
                assert server.process.wait(60) == 0, server.said()
                wait_for(lambda: bool(replies) and replies[-1].status == 0)
        assert sum(each.status == 200 for each in replies) == 16
        assert {each.status for each in replies} == {0, 200}
        assert "Traceback" not in server.said()


def test_a_server_that_cannot_start_says_why(nearest_mean: Path, cli: Any) -> None:
    done = cli("serve", "nowhere")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = cli("serve", nearest_mean, "--host", "0.0.0.0")
    assert done.returncode in (1, 2)
    assert "token" in done.stderr
