"""A real server in a process of its own, and a classifier that can refuse and needs no PyTorch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from opsin.metadata import Metadata, Reject

_SCRIPT = """
import json, sys
from pathlib import Path
from opsin.events import Watcher
from opsin.server.run import serve
from opsin.server.settings import Settings

class Prints(Watcher):
    def fact(self, name, text):
        print(json.dumps([name, text]), flush=True)

models, settings = json.loads(sys.argv[1])
serve({name: Path(path) for name, path in models.items()}, Settings(**settings), watcher=Prints())
"""


@contextmanager
def running(models: Mapping[str, Path], **settings: Any) -> Iterator[str]:
    """Serve models on a free port; yield the address, with a slash at its end."""
    given = json.dumps([{name: str(path) for name, path in models.items()},
                        {"port": 0, "workers": 1} | settings])  # fmt: skip
    command = [sys.executable, "-W", "error", "-c", _SCRIPT, given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            facts = (json.loads(line) for line in process.stdout)
            yield next(text for name, text in facts if name == "Page")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def write_refusing(path: Path, plain: Path, classes: Sequence[str] = ()) -> Path:
    """Write a copy of the nearest-mean classifier that refuses whoever it is not sure about.

    Args:
        path: Where it is written.
        plain: The fixture's file.
        classes: Other names for its classes.
    """
    model = onnx.load_model(plain)
    graph = model.graph
    graph.node.append(
        helper.make_node("ReduceMax", ["probabilities", "last"], ["familiarity"], keepdims=0)
    )
    graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [1]))
    graph.output.append(helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["N"]))
    props = {each.key: each.value for each in model.metadata_props}
    metadata = Metadata.from_props(props, "plain").model_copy(
        update={"reject": Reject(threshold=0.2, rate=0.01, images=100)}
        | ({"classes": tuple(classes)} if classes else {})
    )
    helper.set_model_props(model, metadata.to_props())
    onnx.save_model(model, path)
    return path
