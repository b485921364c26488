"""Rows from files of every format, as a stream."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from moa.batch import lines as of_lines
from moa.batch import reading
from moa.batch.reading import files, rows
from moa.batch.rows import Row
from moa.errors import ConfigError

pyarrow = pytest.importorskip("pyarrow")


def read(path: Path | str) -> list[Row]:
    return [Row.of(raw) for raw in rows(files(str(path)))]


def prompts(path: Path | str) -> list[str]:
    return [row.request.question if row.request else f"! {row.problem}" for row in read(path)]


LINES = b'\xef\xbb\xbf{"prompt": "one"}\r\n\r\n  \n{"prompt": "two"}\n{"prompt": "three"}'


def test_json_lines_plain_and_compressed(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines and a missing last line end make no difference, nor does compression."""
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES[:20]) + gzip.compress(LINES[20:]))
    for name, data in (("c.jsonl.zst", [LINES]), ("d.jsonl.zst", [LINES[:20], LINES[20:]])):
        (tmp_path / name).write_bytes(b"".join(pyarrow.compress(each, "zstd", asbytes=True) for each in data))
    for path in tmp_path.iterdir():
        assert prompts(path) == ["one", "two", "three"], path


def test_csv_holds_line_ends_and_conversations_in_cells(tmp_path: Path) -> None:
    """Cells may span lines; a row with too many cells or a wrong encoding fails alone."""
    path = tmp_path / "a.csv"
    table = 'id,prompt,topic\r\na,"one\nand ""more""",x\r\n\r\nb,two,y,z\r\nc,three,z\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + table.encode() + b"d,\xff,z\r\n")
    found = read(path)
    assert prompts(path) == [
        'one\nand "more"',
        "! line 5 has 4 cells; the header has 3",
        "three",
        "! line 7 is not UTF-8",
    ]
    assert (found[0].id, dict(found[0].columns)) == ("a", {"topic": "x"})


def test_parquet_rows_keep_their_structure(tmp_path: Path) -> None:
    """Lists and structs of a Parquet file are messages; fields that are null are not set."""
    import pyarrow.parquet

    asked = [{"role": "user", "content": "one", "name": None}]
    table = pyarrow.Table.from_pylist([{"id": 1, "messages": asked, "n": 1}] * 300)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert len(found) == 300
    assert found[0].request
    assert found[0].request.body["messages"] == [{"role": "user", "content": "one"}]


def test_a_folder_and_a_pattern_name_files_in_order(tmp_path: Path) -> None:
    """Files are read in the order of their names; hidden ones, other formats and outputs of jobs are no rows."""
    for name in ("b.jsonl", "sub/a.jsonl", ".hidden.jsonl", "notes.txt", "out.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"prompt": name}))
    (tmp_path / "out.jsonl.job").mkdir()
    assert prompts(tmp_path) == ["b.jsonl", "sub/a.jsonl"]
    assert prompts(f"{tmp_path}/**/a.jsonl") == ["sub/a.jsonl"]
    assert [raw.number for raw in rows(files(str(tmp_path)))] == [1, 2]


def test_a_line_that_is_too_long_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a line is skipped without being held in memory, and the rows around it are read."""
    for module in (reading, of_lines):
        monkeypatch.setattr(module, "LONGEST_LINE", 2**20)
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"prompt": "one"}}\n{{"prompt": "{"x" * 2**22}"}}\n{{"prompt": "three"}}\n')
    assert prompts(path) == ["one", "! the line has more than 1 MB", "three"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl", '{"prompt": "x"}'.encode("utf-16"), "UTF-16"),
        ("a.json", b'[{"prompt": "x"}]', "JSON list"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "cannot be read after row"),
        ("a.jsonl.gz", b"no gzip", "cannot be read after row 0"),
        ("a.parquet", b"no parquet", "cannot be read after row 0"),
        ("a.csv", b"a,a\n1,2\n", "two columns have the same name"),
    ],
)
def test_a_damaged_file_stops_before_the_start(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """The error names the file and what to do."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        read(tmp_path / name)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    """Neither is an empty job."""
    for place in (tmp_path / "none.jsonl", tmp_path, tmp_path / "*.jsonl"):
        with pytest.raises(ConfigError, match=r"none\.jsonl|names no file of rows"):
            read(place)


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet needs a package that is not always there."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"mixture-of-agents\[batch\]"):
        read(tmp_path / "a.parquet")


def test_a_file_that_changes_while_it_is_read_stops_the_reader(tmp_path: Path) -> None:
    """What was read from it may be half of the old file and half of the new one."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    reader = rows(files(str(path)))
    next(reader)
    path.write_text('{"prompt": "another"}\n')
    with pytest.raises(ConfigError, match="changed while it was read"):
        list(reader)


def test_lines_are_split_at_line_feeds_alone(tmp_path: Path) -> None:
    """JSON strings may hold other separators unescaped."""
    (tmp_path / "a.jsonl").write_bytes('{"prompt": "a\u2028b\x85"}\n{"prompt": "c"}'.encode())
    assert prompts(tmp_path / "a.jsonl") == ["a\u2028b\x85", "c"]
