"""Reading and writing matrices."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from moa.errors import ConfigError
from moa.evals.search.matrix import Item, Sample, read_matrix, write_matrix

ITEM = Item(
    id="q/1",
    question="2 + 2?",
    answers={
        "a/x": (Sample("4", 1.0, 812, score=0.995, cost=0.001, seconds=1.5), Sample(None, 0.0)),
        "y": (Sample("5", 0.25, 3, text="It"),),
    },
    task="sums",
    options=("4", "5"),
    gold="4",
    more={"level": 2},
)


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    """A matrix survives a file, plain or gzipped, and the same items give the same bytes."""
    path = tmp_path / name
    write_matrix(path, [ITEM])
    first = path.read_bytes()
    assert read_matrix(path) == [ITEM]
    write_matrix(path, [ITEM])
    assert path.read_bytes() == first


def test_what_may_be_absent(tmp_path: Path) -> None:
    """An item needs only answers; a score is the label where there is no other; a text gives its length."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"answers": {"x": [{"score": 0.5, "text": "abc"}], "y": [{"answer": 4, "correct": true}]}}\n\n')
    [item] = read_matrix(path)
    assert item.id == "1"
    assert item.answers["x"] == (Sample(None, 0.5, 3, text="abc", score=0.5),)
    assert item.answers["y"] == (Sample("4", 1.0),)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", 'line 2: expected an object with "answers"'),
        ('{"answers": {"x": ["4"]}}', "expected a list of objects"),
        ('{"answers": {"x": [{"answer": "4", "correct": 7}]}}', "the label of .x. is 7"),
        ('{"answers": {"x": [{"answer": "4", "cost": "1 $"}]}}', '"cost" of "x"'),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    """An error has the file, the line and the remedy."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"answers": {"x": []}}\n' + line + "\n")
    with pytest.raises(ConfigError, match=message):
        read_matrix(path)


def test_a_file_that_is_no_matrix(tmp_path: Path) -> None:
    """A missing, empty or broken file is a ConfigError."""
    path = tmp_path / "m.jsonl.gz"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_matrix(path)
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="no question"):
        read_matrix(path)
    path.write_bytes(gzip.compress(b"{}")[:-4])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_matrix(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_matrix(path)
