"""Files that a stranger might send: each is refused in one line, and nothing in it is run."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from opsin.core.errors import ModelFileError
from opsin.importing.foreign_network import read_foreign
from tests.conftest import a_few, write_zip
from tests.importing.made_keras import (
    drawn,
    functional,
    image,
    layer,
    sequential,
    tutorial,
    write_h5,
    write_keras,
)
from tests.onnx_files.made_files import model_file
from tests.processes import python

Maker = Callable[[Path], Path]
MARK = "ran"


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def keras(*layers: dict[str, Any], weights: dict[str, Any] | None = None) -> Maker:
    def make(folder: Path) -> Path:
        config = sequential(image(4, 4, 1), *layers)
        return write_keras(folder / "network.keras", config, weights or {})

    return make


def with_config(change: Callable[[dict[str, Any]], Any]) -> Maker:
    def make(folder: Path) -> Path:
        config, weights = tutorial()
        changed = json.loads(json.dumps(config))
        changed = change(changed) or changed
        content = json.dumps(changed).encode()
        path = folder / "network.keras"
        return write_keras(path, config, weights, further={"config.json": content})

    return make


def with_weights(change: Callable[[h5py.File], object], *, archive: bool = True) -> Maker:
    def make(folder: Path) -> Path:
        config, weights = tutorial()
        if archive:
            return write_keras(folder / "network.keras", config, weights, changed=change)
        return write_h5(folder / "network.h5", config, weights, changed=change)

    return make


def with_members(**members: bytes) -> Maker:
    def make(folder: Path) -> Path:
        config, weights = tutorial()
        named = {name.replace("_", "."): content for name, content in members.items()}
        return write_keras(folder / "network.keras", config, weights, further=named)

    return make


def as_bytes(name: str, content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def first_layer(**changes: Any) -> Maker:
    def change(config: dict[str, Any]) -> None:
        dense = config["config"]["layers"][2]
        dense.update({key: value for key, value in changes.items() if key in dense})
        dense["config"].update({key: value for key, value in changes.items() if key not in dense})

    return with_config(change)


def replaced(place: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        file[place] = value

    return change


KERNEL = "layers/dense/vars/0"


def declared(file: h5py.File) -> None:
    """Declare 2^40 numbers of which none is there."""
    del file[KERNEL]
    file.create_dataset(KERNEL, shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1024, 1024))


def outside(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(
        KERNEL, shape=(784, 128), dtype="f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def virtual(file: h5py.File) -> None:
    del file[KERNEL]
    layout = h5py.VirtualLayout(shape=(784, 128), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", shape=(784, 128))
    file.create_virtual_dataset(KERNEL, layout)


def pickled(folder: Path) -> Path:
    path = folder / "network.pkl"
    path.write_bytes(pickle.dumps(Evil(folder / MARK)))
    return path


def torch_archive(*names: str) -> Maker:
    def make(folder: Path) -> Path:
        members = {"archive/data.pkl": pickle.dumps(Evil(folder / MARK))}
        members |= {f"archive/{name}": b"" for name in names}
        return write_zip(folder / "network.pt", members, zipfile.ZIP_STORED)

    return make


def other_archive(name: str) -> Maker:
    def make(folder: Path) -> Path:
        return write_zip(folder / "network.zip", {name: b"{}"})

    return make


def onnx_file(
    *nodes: onnx.NodeProto, shape: tuple[Any, ...] = ("N", 1, 4, 4), kind: int = TensorProto.FLOAT
) -> Maker:
    def make(folder: Path) -> Path:
        content = model_file(nodes, {}, ("x", kind, list(shape)), {"y": None})
        return as_bytes("network.onnx", content)(folder)

    return make


def bomb(folder: Path) -> Path:
    """Return an archive whose configuration unpacks to a gigabyte."""
    members = {"metadata.json": b"{}", "config.json": b" " * (1 << 27), "model.weights.h5": b""}
    return write_zip(folder / "network.keras", members)


def circle(folder: Path) -> Path:
    add = layer("Add", "add")
    config = functional(
        [(image(4), []), (add, ["input_layer", "again"]), (layer("ReLU", "again"), ["add"])],
        outputs=["again"],
    )
    return write_keras(folder / "network.keras", config, {})


def nested(config: dict[str, Any]) -> dict[str, Any]:
    for _ in range(200):
        config = sequential(config)
    return config


LAMBDA = {
    "class_name": "__lambda__",
    "config": {"value": "4wEAAAAAAAAAAAAAAAEAAAADAAAA", "defaults": None, "closure": None},
}
HOSTILE: dict[str, tuple[Maker, str]] = {
    "a Lambda with marshalled code": (
        keras(layer("Lambda", "lambda", function=LAMBDA)), r"lambda.*Lambda.*never\s+run"
    ),
    "a Lambda that names a function": (
        keras(layer("Lambda", "lambda", function="os.system")), "never run"
    ),
    "a module that is not Keras' (CVE-2025-1550)": (
        first_layer(module="os", class_name="system"), "program of somebody"
    ),
    "a function by its module (CVE-2025-8747)": (
        first_layer(module="keras.utils", class_name="get_file", registered_name="get_file"),
        "get_file.*not known",
    ),
    "a class of its own (CVE-2025-9905)": (
        first_layer(registered_name="Evil>Dense"), "program of somebody"
    ),
    "unsafe deserialisation switched on (CVE-2025-9906)": (
        first_layer(module="keras.config", class_name="enable_unsafe_deserialization"),
        "not known",
    ),
    "an activation that is a function": (
        first_layer(activation={"module": "builtins", "class_name": "function", "config": "exec"}),
        "exec.*not known",
    ),
    "an activation that is a Lambda": (first_layer(activation=LAMBDA), "not known"),
    "an operator of TensorFlow": (
        keras(layer("TFOpLambda", "op", function="os.system")), "never run"
    ),
    "a model that is a class": (
        with_config(lambda c: c.update(class_name="Net", module="mine")), "program of somebody"
    ),
    "a layer that nobody knows": (keras(layer("LSTM", "memory", units=3)), "memory.*LSTM"),
    "a name with control characters": (keras(layer("Evil", "\x1b[31m\n\x07")), "not known"),
    "units beyond all weights": (first_layer(units=1 << 23), "weight of"),
    "units that are text": (first_layer(units="many"), "units"),
    "negative units": (first_layer(units=-5), "units"),
    "a rate that is no number": (
        keras(layer("LeakyReLU", "leaky", negative_slope=float("inf"))), "negative_slope"
    ),
    "a shape that is a bomb": (
        keras(layer("Resizing", "up", height=1 << 19, width=1 << 19)), "puts out"
    ),
    "padding that is a bomb": (
        keras(layer("ZeroPadding2D", "pad", padding=[[65000, 65000], [65000, 65000]])), "puts out"
    ),
    "an image that is a bomb": (
        with_config(lambda c: c["config"]["layers"][0]["config"].update(
            batch_shape=[None, 1 << 20, 1 << 20, 3])),
        "puts out|image",
    ),
    "ten thousand layers": (
        keras(*(layer("ReLU", f"relu{number}") for number in range(10_000))), "more than 5,000"
    ),
    "networks within networks": (with_config(nested), "network"),
    "layers in a circle": (circle, "wait for one another"),
    "no layers": (with_config(lambda c: c["config"].update(layers=[])), "no layers"),
    "layers that are numbers": (with_config(lambda c: c["config"].update(layers=[1, 2])), "config"),
    "a configuration that is a list": (with_config(lambda _: [1]), "configuration"),
    "a configuration that is no JSON": (with_members(config_json=b"{"), "no JSON"),
    "brackets without end": (with_members(config_json=b"[" * 1_000_000), "no JSON"),
    "an archive that is a bomb": (bomb, "declared larger"),
    "2^40 numbers declared": (with_weights(declared), "weight of"),
    "weights in another file": (with_weights(outside), "another file"),
    "weights that are a view of another file": (with_weights(virtual), "another file"),
    "weights behind a link to another file": (
        with_weights(replaced(KERNEL, h5py.ExternalLink("/etc/other.h5", "x"))), "link"
    ),
    "weights behind a soft link": (
        with_weights(replaced(KERNEL, h5py.SoftLink("/layers/dense_1/vars/0"))), "link"
    ),
    "weights behind a link, in the older format": (
        with_weights(replaced("model_weights/dense/dense/0:0", h5py.ExternalLink("/x", "x")),
                     archive=False),
        "link",
    ),
    "weights that are no numbers": (
        with_weights(replaced(KERNEL, np.full((784, 128), np.nan, "f4"))), "no numbers"
    ),
    "weights that are text": (
        with_weights(replaced(KERNEL, np.full((784, 128), b"x"))), "no numbers"
    ),
    "weights of another shape": (with_weights(replaced(KERNEL, drawn(128, 784))), "128×784"),
    "weights that are missing": (with_weights(lambda f: f.pop("layers/dense")), "0 weights"),
    "weights that are a group": (
        with_weights(replaced("layers/dense/vars", drawn(3))), "no order|weights"
    ),
    "weights that are no HDF5": (with_members(model_weights_h5=b"x" * 99), "no HDF5"),
    "weights alone": (
        with_weights(lambda f: f.attrs.pop("model_config"), archive=False), "weights alone"
    ),
    "an HDF5 file cut short": (as_bytes("n.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100), "no HDF5"),
    "an archive cut short": (as_bytes("n.keras", b"PK\x03\x04" + b"\0" * 100), "broken archive"),
    "members outside": (with_members(**{"../../evil_json": b"{}", "config_json": b"{}"}), "config"),
    "a pickle": (pickled, r"pickle.*skops\.io\.dump\(joblib\.load\('NAME\.pkl'\), 'NAME\.skops'\)"),
    "a pickle that is packed": (
        as_bytes("network.joblib", b"x\x9c" + bytes(99)), r"pickle.*joblib\.load\('NAME\.joblib'\)"
    ),
    "a checkpoint that is not said what it is of": (torch_archive(), "weights alone.*--as mlp"),
    "TorchScript": (torch_archive("constants.pkl"), "TorchScript"),
    "TensorFlow Lite": (as_bytes("n.tflite", b"\x1c\0\0\0TFL3" + bytes(99)), "Lite.*keras"),
    "skops without an object": (other_archive("schema.json"), "not as skops writes it"),
    "torch.export": (other_archive("archive/models/model.json"), "torch.export"),
    "an archive of something": (other_archive("cat/1.jpg"), "something else"),
    "an empty file": (as_bytes("n.onnx", b""), "cannot be used"),
    "noise": (as_bytes("n.onnx", np.random.default_rng(0).bytes(4096)), "cannot be used"),
    "a header of 10 GB": (
        as_bytes("n.safetensors", (10 << 30).to_bytes(8, "little") + b"{}"), "weights alone|longer"
    ),
    "an operator of somebody's": (
        onnx_file(helper.make_node("Evil", ["x"], ["y"], domain="evil")), "evil.Evil"
    ),
    "answers that are an image": (
        onnx_file(helper.make_node("Relu", ["x"], ["y"])), "one image|one row"
    ),
    "operators in a circle": (
        onnx_file(
            helper.make_node("Add", ["x", "y"], ["z"]), helper.make_node("Relu", ["z"], ["y"])
        ),
        "cannot be used",
    ),
    "text in place of images": (
        onnx_file(helper.make_node("Identity", ["x"], ["y"]), kind=TensorProto.STRING),
        "no image",
    ),
}  # fmt: skip


def refusal_of(path: Path, reason: str, read: Callable[[Path], object] = read_foreign) -> None:
    """See that a file is refused in one line, and that nothing comes of it."""
    before = {each: each.stat().st_mtime_ns for each in path.parent.parent.rglob("*")}
    with pytest.raises(ModelFileError, match=f"(?s){reason}") as found:
        read(path)
    assert str(found.value).isprintable()
    assert {each: each.stat().st_mtime_ns for each in path.parent.parent.rglob("*")} == before


@pytest.mark.parametrize("case", a_few(HOSTILE, 10))
def test_a_hostile_file_costs_one_line(case: str, folder: Path) -> None:
    make, reason = HOSTILE[case]
    refusal_of(make(folder), reason)


@pytest.mark.parametrize("case", ["a pickle", "a header", "a slice", "a tensor", "an archive"])
def test_hostile_weights_cost_one_line(case: str, tmp_path: Path) -> None:
    def safetensors(header: dict[str, Any]) -> bytes:
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + bytes(64)

    far = {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}
    other = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 64]}
    path = tmp_path / "weights.safetensors"
    if case == "a pickle":
        path = torch_archive()(tmp_path)
    elif case == "an archive":
        path = write_zip(tmp_path / "weights.pt", {"a/data.pkl": b"\x80\x02}q\x00."})
    else:
        given: dict[str, dict[str, Any]] = {
            "a header": {"a.weight": 1},
            "a slice": {"a": far},
            "a tensor": {"a": other},
        }
        path.write_bytes(safetensors(given[case]))
    with pytest.raises(ModelFileError) as found:
        read_foreign(path, architecture="mlp")
    assert str(found.value).isprintable()
    assert not (tmp_path / MARK).exists()


def cost_of(path: Path) -> tuple[str, int]:
    """Read a bomb in a process of its own: why it is refused, and the KB that reading it took."""
    program = (
        "import pathlib, resource, sys\n"
        "from opsin.core.errors import ModelFileError\n"
        "from opsin.importing.foreign_network import read_foreign\n"
        "try:\n    read_foreign(pathlib.Path(sys.argv[1]))\n"
        "except ModelFileError as error:\n"
        "    print(error.message)\n"
        "    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    reason, most = python("-c", program, path).stdout.splitlines()
    return reason, int(most)


def test_what_reading_may_take_is_limited(tmp_path: Path) -> None:
    make, _ = HOSTILE["padding that is a bomb"]
    assert cost_of(make(tmp_path))[1] < 1 << 20


def test_an_archive_of_weights_that_are_packed_is_read(tmp_path: Path) -> None:
    config, weights = tutorial()
    path = write_keras(tmp_path / "n.keras", config, weights)
    packed = tmp_path / "packed.keras"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    plain, found = (read_foreign(each) for each in (path, packed))
    assert found.content == plain.content
