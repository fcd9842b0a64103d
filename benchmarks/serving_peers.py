"""The servers that benchmarks/serving.py compares with.

    python -m benchmarks.serving_peers fastapi FOLDER PORT '{"workers": 2, "threads": 1}'
    python -m benchmarks.serving_peers litserve FOLDER PORT '{"batch": 16, "workers": 2}'

They run in the peers' environment, without Opsin. FOLDER is what benchmarks/answering_peers.py has
made. Both decode with Pillow, resize to the network's size and answer with the label and all
probabilities, on ``POST /predict``.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from benchmarks.answering_peers import decode, description, load_pytorch

_FOLDER = "OPSIN_PEER_FOLDER"
_THREADS = "OPSIN_PEER_THREADS"
_INLINE = "OPSIN_PEER_INLINE"


class Model:
    """The network with its classes, as each of the servers holds it."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ[_THREADS]))
        folder = Path(os.environ[_FOLDER])
        self.like = description(folder)
        self.network = load_pytorch(folder)

    def tensor(self, content: bytes) -> torch.Tensor:
        """Return a file's pixels, ``uint8[H, W, C]``."""
        return torch.from_numpy(decode(content, self.like))

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``float32[N, K]`` for ``uint8[N, H, W, C]``."""
        with torch.inference_mode():
            logits: torch.Tensor = self.network(images)
        return logits.softmax(1)

    def answer(self, probabilities: NDArray[Any]) -> dict[str, Any]:
        """Return what is sent back."""
        best = int(probabilities.argmax())
        return {"label": self.like["classes"][best], "probabilities": probabilities.tolist()}


def fastapi_app() -> FastAPI:
    """Return an endpoint that takes an image's bytes, and works beside the event loop or in it."""
    app = FastAPI()
    model = Model()
    inline = os.environ[_INLINE] == "True"

    def work(content: bytes) -> dict[str, Any]:
        return model.answer(model.probabilities(model.tensor(content)[None])[0].numpy())

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        content = await request.body()
        return work(content) if inline else await run_in_threadpool(work, content)

    return app


def main() -> None:
    """Serve until the process is ended."""
    peer, folder, port, given = sys.argv[1:]
    settings = json.loads(given)
    os.environ |= {
        _FOLDER: folder,
        _THREADS: str(settings.get("threads", 1)),
        _INLINE: str(settings.get("inline", False)),
    }
    if peer == "litserve":
        importlib.import_module("benchmarks.litserve_peer").serve(int(port), settings)
        return
    uvicorn.run(
        "benchmarks.serving_peers:fastapi_app",
        factory=True,
        host="127.0.0.1",
        port=int(port),
        workers=settings["workers"],
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
