"""What travels in the file comes back as it was."""

import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import ModelFileError
from opsin.core.metadata import FORMAT, Background, LayerOp, Metadata, Preparation, Score

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    classes=st.lists(names, min_size=2, max_size=6, unique=True),
    background=st.none() | st.just(Background(level=0, share=0.9, fill=0.8, contrast=100.0)),
    score=st.none() | st.just(Score(split="test", images=9, accuracy=0.5, low=0.2, high=0.8)),
)
def test_round_trip(classes: list[str], background: Background | None, score: Score | None) -> None:
    metadata = Metadata(
        opsin="1",
        model="mlp",
        classes=tuple(classes),
        preparation=Preparation(height=8, width=9, channels=1, resize="fit", background=background),
        layers=(),
        source="s",
        fingerprint="f",
        score=score,
    )
    props = metadata.to_props() | {"other.tool": "keeps its own"}
    assert Metadata.from_props(props, "a.onnx") == metadata


def test_a_file_of_a_later_format_asks_for_an_update() -> None:
    with pytest.raises(ModelFileError, match="Update Opsin"):
        Metadata.from_props({"opsin.format": str(FORMAT + 1)}, "new.onnx")


@pytest.mark.parametrize(
    ("kind", "op"),
    [
        ("Conv 3×3 same, stride 2", LayerOp.CONV),
        ("Conv 3×3 same + BatchNorm + ReLU", LayerOp.CONV),
        ("MaxPool 2", LayerOp.MAX_POOL),
        ("Dropout2d", LayerOp.DROPOUT),
        ("Mean 2×2, scale", LayerOp.MEAN),
        ("Convolution of tomorrow", LayerOp.OTHER),
        ("", LayerOp.OTHER),
    ],
)
def test_a_kind_says_what_a_layer_computes(kind: str, op: LayerOp) -> None:
    assert LayerOp.of(kind) is op
