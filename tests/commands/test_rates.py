"""Rates are said in words that follow from the figures, and no more than they show."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from opsin.commands.machine import Machine
from opsin.commands.rates import Benchmark
from opsin.report.image_rate import ONE, ImageRate, Work

MACHINE = Machine("Xeon", 2, None, None, None, {})


def rate(work: Work, *rates: float, device: str = "cpu", how: str = "batch of 8",
         name: str = "resnet") -> ImageRate:  # fmt: skip
    return ImageRate(work, name, how, (32, 48, 3), device, rates)


@given(st.lists(st.floats(0.1, 1e7), min_size=1, max_size=9))
def test_the_median_lies_between_slowest_and_fastest(rates: list[float]) -> None:
    one = rate("training", *rates)
    assert one.low <= one.median <= one.high
    assert json.loads(json.dumps(one.to_json()))["repeats"] == rates


def test_each_work_says_what_its_rate_means() -> None:
    assert rate("training", 1000.0).sentence() == (
        "An epoch of 60,000 images of 32×48 with resnet takes about 1:00 (cpu, no validation)."
    )
    assert "10,000 files (resnet) become images of 32×48 in about 2.5 s" in (
        rate("reading", 4000.0).sentence()
    )
    assert "one image of 32×48 in about 0.8 ms" in rate("prediction", 1250.0, how=ONE).sentence()
    assert "10,000 images of 32×48 in about 0:40" in rate("prediction", 250.0).sentence()


def test_a_device_is_called_faster_only_if_no_repeat_contradicts_it() -> None:
    def said(*cuda: float) -> str:
        both = (rate("training", 90.0, 100.0, 110.0), rate("training", *cuda, device="cuda"))
        return " ".join(Benchmark(MACHINE, both).sentences())

    assert "cuda is 30.0 times as fast as cpu" in said(2900.0, 3000.0, 3100.0)
    assert "times as fast" not in said(105.0, 300.0, 310.0)
    assert "times as fast" not in said(20.0, 30.0, 40.0)


def test_the_headline_and_the_sentences_are_of_the_last_network() -> None:
    rates = (
        rate("reading", 500.0, name="JPEG 500×400"),
        rate("training", 9000.0, name="mlp"),
        rate("training", 100.0),
        rate("training", 800.0, device="cuda"),
        rate("prediction", 70.0, how=ONE),
    )
    assert Benchmark(MACHINE, rates).headline() == "resnet trains on 800 images of 32×48 a second"
    assert Benchmark(MACHINE, rates[-1:]).headline().startswith("resnet answers for 70 images")
    assert Benchmark(MACHINE, rates[:1]).headline() == (
        "500 images a second are read from JPEG 500×400"
    )
    sentences = Benchmark(MACHINE, rates).sentences()
    assert len(sentences) == 5
    assert not any("mlp" in sentence for sentence in sentences)
