"""The server's metrics, for Prometheus."""

from __future__ import annotations

import math
import time
from collections import Counter as Tally, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.runtime.prediction import NONE_OF_THESE
from opsin.server.errors import CLIENT_GONE
from opsin.server.models import ServedModel
from opsin.web.refusals import BadRequest, ForeignOrigin, RequestError, Unauthorized, WrongHost

#: Number of newest answers per model for computing drift.
WINDOW: Final = 1_000

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
_CONFIDENCES: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_REASONS: Final = ("overloaded", "too large", "expired", "stopping", "worker died")
# Reasons of refusals by `AccessMiddleware`, by error kind.
_ACCESS_REASONS: Final[Mapping[type[RequestError], str]] = {
    BadRequest: "no host",
    WrongHost: "wrong host",
    ForeignOrigin: "foreign origin",
    Unauthorized: "no token",
}
_OTHER: Final = "other"


_HELP: Final = {
    "opsin_requests": "Requests answered, refusals and errors included, by address, model and HTTP "
    "status.",
    "opsin_request_seconds": "From the first byte of a request to the last byte of its answer, in "
    "seconds.",
    "opsin_images_waiting": "Images that wait for a worker now. At the queue's size, requests are "
    "refused.",
    "opsin_batch_images": "Images that a worker computed together. 1 throughout: the server is "
    "idle; at the largest: it is busy.",
    "opsin_refusals": "Requests turned away, by reason. By the engine: overloaded (the queue was "
    "full), too large (more images than the queue holds), expired (no answer in time), stopping, "
    "worker died. Before that by the guard, and so in no other figure: no host (none, or several), "
    "wrong host, foreign origin (a page of another site), no token (none, or another).",
    "opsin_answers": "Images answered, by the label that they got.",
    "opsin_confidence": "Probability of the label given, 0 to 1. Sum divided by count is the mean "
    "confidence; if it sinks, the images have become harder or strange.",
    "opsin_unreadable": "Images that could not be read.",
    "opsin_worker_deaths": "Worker processes that ended and were replaced. Should be 0.",
    "opsin_reloads": "Changed model files: ok=true came into use, ok=false was broken and the old "
    "one stays.",
    "opsin_training_share": "Share of each label to be expected if images are like those of the "
    "training.",
    "opsin_drift": f"How far the labels of the newest {WINDOW:,} answers are from the mix of the "
    "training: the share of answers that would need another label, 0 (same mix) to 1. Compare with "
    "opsin_drift_by_chance; several times that is a change.",
    "opsin_drift_by_chance": "What opsin_drift would be if only chance were at work.",
    "opsin_device": "1 for the device that each model is computed on.",
}


class ServerMetrics:
    """Metrics of the engine, and of each request from `MetricsMiddleware`."""

    def __init__(self) -> None:
        # Of its own, so that several servers in one process do not mix.
        self.registry = CollectorRegistry()

        def counter(name: str, *labels: str) -> Counter:
            return Counter(name, _HELP[name], labels, registry=self.registry)

        def gauge(name: str, *labels: str) -> Gauge:
            return Gauge(name, _HELP[name], labels, registry=self.registry)

        def histogram(name: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, _HELP[name], labels, registry=self.registry, buckets=buckets)

        self.requests = counter("opsin_requests", "route", "model", "status")
        self.seconds = histogram("opsin_request_seconds", _SECONDS, "route", "model")
        self.images = gauge("opsin_images_waiting")
        self.batches = histogram("opsin_batch_images", _BATCHES, "model")
        self.refusals = counter("opsin_refusals", "reason")
        self.answers = counter("opsin_answers", "model", "label")
        self.confidence = histogram("opsin_confidence", _CONFIDENCES, "model")
        self.unreadables = counter("opsin_unreadable", "model")
        self.deaths = counter("opsin_worker_deaths")
        self.reloads = counter("opsin_reloads", "model", "ok")
        self.shares = gauge("opsin_training_share", "model", "label")
        self.distance = gauge("opsin_drift", "model")
        self.chance = gauge("opsin_drift_by_chance", "model")
        self.device = gauge("opsin_device", "model", "device")
        # Start at 0 instead of absent.
        for reason in (*_REASONS, *_ACCESS_REASONS.values()):
            self.refusals.labels(reason)
        self._newest: dict[str, deque[str]] = {}  # labels of each model's newest answers

    def batch(self, model: str, images: int) -> None:
        """Count the images of a batch."""
        self.batches.labels(model).observe(images)

    def refused(self, reason: str | RequestError) -> None:
        """Count a refused request; errors are those of `AccessMiddleware`."""
        if isinstance(reason, RequestError):
            reason = _ACCESS_REASONS.get(type(reason), _OTHER)
        self.refusals.labels(reason).inc()

    def answered(self, model: str, label: str, confidence: float) -> None:
        """Count an answer."""
        self.answers.labels(model, _in_utf8(label)).inc()
        self.confidence.labels(model).observe(confidence)
        self._newest.setdefault(model, deque(maxlen=WINDOW)).append(label)

    def worker_died(self) -> None:
        """Count a worker that died."""
        self.deaths.inc()

    def reloaded(self, model: str, ok: bool) -> None:
        """Count a change of a model's file."""
        self.reloads.labels(model, "true" if ok else "false").inc()
        if ok:  # drift starts anew with another file
            self._newest.pop(model, None)

    def text(self, served: Mapping[str, ServedModel]) -> bytes:
        """All metrics, as Prometheus reads them."""
        for gauge in (self.shares, self.distance, self.chance, self.device):
            gauge.clear()
        for name, model in served.items():
            self.device.labels(name, model.file.device).set(1)
            mix = training_mix(model)
            for label, share in mix.items():
                self.shares.labels(name, _in_utf8(label)).set(share)
            if mix and name in self._newest:
                far, by_chance = drift(Tally(self._newest[name]), mix)
                self.distance.labels(name).set(far)
                self.chance.labels(name).set(by_chance)
        return generate_latest(self.registry)


def drift(answers: Mapping[str, int], training: Mapping[str, float]) -> tuple[float, float]:
    """The distance between the answers' and the training's label mix, and its value by chance.

    The total variation distance, ½ Σ |p − q| (Levin, Peres, Wilmer: Markov Chains and Mixing
    Times, 2nd ed., section 4.1). By chance, as many answers drawn from the training's mix would be
    ½ Σ √(2 q (1 − q) / (π n)) from it. Counting labels shows a shift without knowing the truth:
    Lipton, Wang and Smola (2018, https://arxiv.org/abs/1802.03916), Rabanser et al. (2019,
    https://arxiv.org/abs/1810.11953).
    """
    count = sum(answers.values())
    labels = {*answers, *training}
    far = sum(abs(answers.get(label, 0) / count - training.get(label, 0.0)) for label in labels)
    chance = sum(math.sqrt(2 * q * (1 - q) / (math.pi * count)) for q in training.values())
    return far / 2, min(chance / 2, 1.0)


def training_mix(served: ServedModel) -> dict[str, float]:
    """The expected share of each label if images are like the training's; empty if unknown."""
    reject = served.metadata.reject
    refused = reject.rate if reject and served.mix else 0.0
    mix: dict[str, float] = {}
    # A class may be called so itself.
    for label, share in zip(served.metadata.classes, served.mix or (), strict=False):
        mix[label] = mix.get(label, 0.0) + share * (1 - refused)
    if refused:
        mix[NONE_OF_THESE] = mix.get(NONE_OF_THESE, 0.0) + refused
    return mix


def _in_utf8(label: str) -> str:
    """A label in valid UTF-8; one from a folder's name may not be."""
    return label.encode("utf-8", "backslashreplace").decode()


class MetricsMiddleware:
    """Counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, models: Mapping[str, Any]) -> None:
        self.app, self.metrics, self.models = app, metrics, models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer and count, by route pattern rather than path."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, unanswered = time.perf_counter(), 0, 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sent)
            unanswered = CLIENT_GONE
        finally:
            route = getattr(scope.get("route"), "path", _OTHER)
            model = scope.get("path_params", {}).get("model", "")
            known = model if model in self.models else ""  # a client could make up any number
            seconds = time.perf_counter() - start
            self.metrics.requests.labels(route, known, str(status or unanswered)).inc()
            self.metrics.seconds.labels(route, known).observe(seconds)
