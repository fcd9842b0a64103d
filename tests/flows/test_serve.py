"""`opsin serve` as a process: the same answers by every door, none of them swapped or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opsin.runtime.classifier import Classifier
from tests.served import Server, ask_all, image, request

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


def test_a_server_that_cannot_start_says_why(nearest_mean: Path, cli: Any) -> None:
    done = cli("serve", "nowhere")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = cli("serve", nearest_mean, "--host", "0.0.0.0")
    assert done.returncode in (1, 2)
    assert "token" in done.stderr
