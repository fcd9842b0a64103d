"""Tables: every form in which people write them, and every way in which they break."""

import csv
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given, strategies as st

import opsin
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources import open_stream
from opsin.data.sources.contents import LabelledImages
from opsin.data.sources.rows import AllowedFolder, SourceRequest
from opsin.data.sources.table import columns_of
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL
from tests.conftest import write_shapes
from tests.data.sources.conftest import labels_of, put

HEAD = b"path,label\n"


def open_table(
    path: Path, columns: dict[str, str] | None = None, *, inside: AllowedFolder | None = None
) -> LabelledImages:
    request = SourceRequest(str(path), columns, archive=inside, outside=True)
    return sources.locate(request).open()


def table(folder: Path, content: bytes | str, name: str = "set.csv") -> Path:
    """Write a table, and the image that its first path names."""
    (folder / "a.png").write_bytes(b"x")
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separator_mark_and_line_ends(tmp_path: Path, mark: str, separator: str, end: str) -> None:
    rows = [
        ["path", "label", "split"],
        ["a.png", '"Cat, large; tame"', "train"],
        [],
        ['"x ""y""\tz.png"', "dog", ""],
    ]
    text = mark + end.join(separator.join(row) for row in rows)
    contents = open_table(table(tmp_path, text, "set.tsv" if separator == "\t" else "set.csv"))
    assert contents.names == ["a.png", 'x "y"\tz.png']
    assert labels_of(contents) == ["Cat, large; tame", "dog"]
    assert contents.source_parts.tolist() == [TRAIN, UNASSIGNED]
    assert contents.groups == ()


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_json_lines_and_classes_that_are_no_text(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"path": "a.png", "label": 10, "group": 7},
        {"path": "b.png", "label": True},
        {"path": "c.png", "label": 9.5},
        {"path": "d.png", "label": "true"},
    ]
    text = "\n\n".join(json.dumps(row) for row in rows)
    contents = open_table(table(tmp_path, text, f"set.{suffix}"))
    assert contents.classes == ("9.5", "10", "true")
    assert labels_of(contents) == ["10", "true", "9.5", "true"]
    assert contents.groups == ["7", "", "", ""]


def test_columns_have_other_names(tmp_path: Path) -> None:
    text = "no,file,species,part,who\n1,a.png,cat,dev,ann\n2,b.png,dog,eval,\n"
    columns = {"path": "file", "label": "species", "split": "part", "group": "who"}
    contents = open_table(table(tmp_path, text), columns)
    assert labels_of(contents) == ["cat", "dog"]
    assert contents.source_parts.tolist() == [VAL, TEST]
    assert contents.groups == ["ann", ""]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no column path and no column label"), (HEAD, "has no images with classes"),
        (b"file,label\na.png,cat\n", r"no column path, but file, label.*--columns"),
        (b"path,label,label\na.png,cat,dog\n", "column label more than once"),
        (HEAD + b"a.png,cat\nb.png,\n", "Line 3 .* no label"),
        (HEAD + b"a.png,cat\n,dog\n", "Line 3 .* no path"),
        (HEAD + b"a.png,cat\n\n\nb.png, \n", "Line 5 "), (b"\n" + HEAD + b"a.png,\n", "Line 3 "),
        (HEAD + b'a.png,"cat\nlarge"\nb.png,\n', "Line 4 "),
        (HEAD + b'a.png,"cat\rlarge"\r\nb.png,\r\n', "Line 4 "),
        (HEAD.replace(b"\n", b"\r") + b"a.png,cat\r\rb.png,\r", "Line 4 "),
        (HEAD + b"a.png,cat,tame\n", "Line 2 .* 3 fields, and the header 2"),
        (HEAD + b'a.png,cat\n"b.png,dog\nc.png,dog\n', r"Line 3 of .* is broken"),
        (HEAD + b"a.png,c\0at\n", "Line 2 .* NUL"),
        (HEAD + b"a.png,caf\xe9\n", r"Line 2 .* not in UTF-8"),
        ("path,label\na.png,cat\n".encode("utf-16"), "Save the table"),
        (HEAD + b"a.png," + b"x" * 1_100_000, "Line 2 .* longer than 1 MB"),
        (b"path,label,split\na.png,cat,half\n", "Line 2 .* names the split 'half'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(opsin.SourceError, match=words):
        open_table(table(tmp_path, content))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"path": "b.png", "label"', "Line 2 .* is broken"),
        ("[" * 100_000, "Line 2 .* is broken"),
        ('["b.png", "cat"]', "Line 2 .* holds a list"),
        ('{"path": "b.png"}', "Line 2 .* no label"),
        ('{"path": "b.png", "label": ["cat"]}', r"\['cat'\]; text or a number .* as label"),
        ('{"path": 7, "label": "cat"}', None),
        ('{"path": "b\\u0000.png", "label": "cat"}', "text or a number is expected as path"),
        ('{"path": "\\ud800.png", "label": "cat"}', "text or a number is expected as path"),
        ('{"path": "b.png", "label": 1' + "0" * 5000 + "}", "Line 2 .* is broken"),
    ],
)
def test_what_is_wrong_with_json_is_said(tmp_path: Path, line: str, words: str | None) -> None:
    path = table(tmp_path, '{"path": "a.png", "label": "dog"}\n' + line, "set.jsonl")
    if words is None:
        assert open_table(path).names == ["a.png", "7"]
        return
    with pytest.raises(opsin.SourceError, match=words):
        open_table(path)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "b/../../a.png", "..\\a.png"])
def test_a_table_of_a_stranger_stays_inside(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.png", "in/a.png")
    path = table(tmp_path / "in", f"path,label\na.png,cat\n{name},dog\n")
    with pytest.raises(opsin.SourceError, match=r"Line 3 .* leads out of the table"):
        open_table(path, inside=AllowedFolder(tmp_path / "in"))


def test_a_path_that_does_not_exist_is_unreadable(tmp_path: Path) -> None:
    write_shapes(tmp_path, count=12)
    rows = [f"{kind}/{row}.png,{kind}" for row in range(12) for kind in ("disc", "square")]
    path = table(tmp_path, "\n".join(["path,label", "", 'none.png,"disc"', *rows]))
    assert opsin.load(path).unreadable == [("none.png", "no such file or directory")]


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cf", "Co", "Cn"]), min_size=1
)


@given(
    st.lists(
        st.tuples(TEXT, TEXT, TEXT),
        min_size=1,
        max_size=8,
        unique_by=lambda row: os.path.normpath(row[0]),
    ),
    st.sampled_from(",;\t"),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], separator: str
) -> None:
    assume(not any("\\" in path for path, _, _ in rows))
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator)
    writer.writerows([("path", "label", "group"), ("a.png", "cat", ""), *rows])
    folder = tmp_path_factory.mktemp("table")
    contents = open_table(table(folder, file.getvalue()))
    assert contents.names[1:] == [path for path, _, _ in rows]
    assert labels_of(contents)[1:] == [label for _, label, _ in rows]
    assert list(contents.groups)[1:] == [group for _, _, group in rows]


def test_the_key_knows_table_images_and_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,kind\na.png,cat,x\nb.png,dog,y\n")

    def key(**options: object) -> str:
        return sources.find_all(DataRecipe.of(str(path), **options)).key

    keys = [key(), key(columns={"label": "kind"})]
    path.write_text("path,label,kind\na.png,dog,x\nb.png,cat,y\n")
    keys.append(key())
    for file in (tmp_path / "a.png", tmp_path / "b.png"):
        file.touch()
        os.utime(file, (1, 1))
        keys.append(key())
    assert len(set(keys)) == 5
    assert key() == keys[-1]


def test_a_header_that_breaks_with_one_separator_is_read_with_another(tmp_path: Path) -> None:
    text = b'path;"label" ;"a"b,c\n' + b"a.png;cat;x\nb.png;dog;y\n"
    with pytest.raises(opsin.SourceError, match=r"Line 1 of .* is broken"):
        open_table(table(tmp_path, text))
    for text in (b'"path"x,label\n', b"path,\rlabel\n", b'"'):
        with pytest.raises(opsin.SourceError):
            open_table(table(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", 'path\nb/1.png\n"2, or so.png"\n', None),
        ("a.tsv", "file_name\tlabel\nb/1.png\t\n2, or so.png\tx\n", None),
        ("a.csv", "file;path\nb/1.png;x\n2, or so.png;y\n", {"path": "file"}),
        ("a.jsonl", '{"path": "b/1.png"}\n\n{"path": "2, or so.png", "label": null}\n', None),
    ],
)
def test_unlabelled(tmp_path: Path, name: str, text: str, columns: dict[str, str] | None) -> None:
    (tmp_path / name).write_text(text)
    stream = open_stream(tmp_path / name, columns=columns)
    assert stream.kind == "table"
    assert stream.count() == 2 or "jsonl" in name
    images = list(stream)
    assert [image.name for image in images] == ["b/1.png", "2, or so.png"]
    assert images[0].path == str(tmp_path / "b/1.png")


def test_rows_before_a_damage_are_answered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,n\n1.png,1\n,2\n")
    (tmp_path / "b.csv").write_text('path\n"x.png\n')
    assert open_stream(tmp_path / "b.csv").count() is None
    images = iter(open_stream(tmp_path / "a.csv"))
    assert next(images).name == "1.png"
    with pytest.raises(opsin.SourceError, match=r"Line 3 of .*a\.csv has no path"):
        next(images)


def write_table(shapes: Path, ending: str) -> Path:
    """Write a table of the shapes, the 24th image without a camera."""
    frame = pd.DataFrame(
        {
            "file": [f"{kind}/{number}.png" for kind in ("disc", "square") for number in range(12)],
            "kind": ["disc"] * 12 + ["square"] * 12,
            "camera": [*["old", "new"] * 11, "old", ""],
            "age": [*range(12)] * 2,
            "same": "x",
        }
    )
    path = shapes / f"set.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_columns_of_a_table(shapes: Path, ending: str) -> None:
    table = write_table(shapes, ending)
    (shapes / "disc" / "3.png").unlink()
    data = opsin.load(table, columns={"path": "file", "label": "kind"})
    found = columns_of(data.located, data.names)
    assert list(found) == ["camera", "age"]
    by_name = dict(zip(data.names, found["camera"], strict=True))
    assert len(by_name) == 23
    expected = {"disc/4.png": "old", "disc/5.png": "new", "square/11.png": ""}
    assert {name: by_name[name] for name in expected} == expected
    assert dict(zip(data.names, found["age"], strict=True))["square/7.png"] == "7"
