"""The LitServe server of benchmarks/serving_peers.py."""

import base64
from typing import Any

import litserve  # type: ignore[import-not-found]  # in the peers' environment only
import torch

from benchmarks.serving_peers import Model


class LitApi(litserve.LitAPI):  # type: ignore[misc]  # of a package that is not installed here
    """The endpoint in LitServe's words: JSON with the image in base64."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # the hook's name for it
        """Load the network, once in each worker."""
        self.model = Model()

    def decode_request(self, request: dict[str, str]) -> torch.Tensor:
        """Return a file's pixels, ``uint8[H, W, C]``."""
        return self.model.tensor(base64.b64decode(request["image"]))

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``float32[N, K]``, or ``float32[K]`` of one image."""
        if images.ndim == 3:  # batches of one are handed over as the image itself
            return self.model.probabilities(images[None])[0]
        return self.model.probabilities(images)

    def encode_response(self, output: torch.Tensor) -> dict[str, Any]:
        """Return what is sent back."""
        return self.model.answer(output.numpy())


def serve(port: int, settings: dict[str, Any]) -> None:
    """Serve until the process is ended."""
    server = litserve.LitServer(
        LitApi(max_batch_size=settings["batch"], batch_timeout=settings.get("timeout", 0.0)),
        accelerator="cpu",
        workers_per_device=settings["workers"],
        timeout=60,
        fast_queue=settings.get("fast_queue", False),
    )
    server.run(
        host="127.0.0.1",
        port=port,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
        num_api_servers=settings.get("servers"),
    )
