"""`opsin serve` as a process: the same answers by every door, none of them swapped or lost."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from opsin.runtime.classifier import Classifier
from tests.served import Server, ask_all, image, load, request, serving, wait_for
from tests.server.made_engine import write_refusing

pytest.importorskip("fastapi")


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_concurrent_answers_are_those_of_their_images(
    count: int, server: Server, nearest_mean: Path
) -> None:
    contents = [image(number) for number in range(count)]
    requests = [request(server.port, content, path="/predict?all=true") for content in contents]
    replies = ask_all(server.port, requests, 64)
    classifier = Classifier(nearest_mean, threads=1)
    answers = set()
    for content, reply in zip(contents, replies, strict=True):
        assert reply.status == 200, reply
        [entry] = reply.json()["predictions"]
        assert entry["probabilities"] == classifier.predict(content).probabilities
        answers.add(tuple(entry["probabilities"].values()))
    # Otherwise, one answer could stand for another and nobody would see it.
    assert len(answers) > 0.9 * count


@pytest.mark.slow
def test_a_file_is_replaced_under_load_without_a_lost_request(
    nearest_mean: Path, tmp_path: Path
) -> None:
    model = tmp_path / "classifier.onnx"
    shutil.copy(nearest_mean, model)
    names = [f"b{number}" for number in range(10)]
    with serving(model, "--workers", "2", folder=tmp_path) as server:
        requests = [request(server.port, image(number)) for number in range(100)]
        with load(server.port, requests) as replies:
            write_refusing(tmp_path / "whole", nearest_mean, names).replace(model)
            wait_for(lambda: [b'"label":"b' in each.body for each in replies[-8:]] == [True] * 8)
        assert {each.status for each in replies} == {200}
        # A file has one set of names: no answer mixes two.
        for each in replies:
            rows = each.json()["predictions"][0]["top"]
            assert len({row["label"][0] == "b" for row in rows}) == 1


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
        assert sum(each.status == 200 for each in replies) == 16
        assert {each.status for each in replies} <= {0, 200}


def test_a_server_that_cannot_start_says_why(nearest_mean: Path, cli: Any) -> None:
    done = cli("serve", "nowhere")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = cli("serve", nearest_mean, "--host", "0.0.0.0")
    assert done.returncode in (1, 2)
    assert "token" in done.stderr
