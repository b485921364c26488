"""Files of questions: what is read from each kind, and what is refused before a model is called."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa.errors import ConfigError
from moa.evals.tasks.files import file_rows
from moa.evals.tasks.reading import Tasks
from moa.evals.tasks.task import BadRow, task_of
from tests.fakes.packages import needs

ROWS = [
    {"id": "a", "question": "2 + 2?", "answer": 4},
    {"id": "b", "question": "Which is red?", "options": ["grass", "blood"], "answer": "B", "tags": ["colour"]},
    {"id": "c", "question": "Capital of France?", "answer": ["Paris", "Paris, France"]},
]


def written(path: Path, rows: object, head: bytes = b"") -> Path:
    """A file of JSON Lines."""
    assert isinstance(rows, list)
    path.write_bytes(head + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return path


def refused(path: Path) -> str:
    """The error with which a file is refused."""
    with pytest.raises(ConfigError) as caught:
        Tasks(path)
    return str(caught.value)


def test_json_lines_a_list_and_gzip_give_the_same_tasks(tmp_path: Path) -> None:
    """The name of the file does not matter for JSON; a byte-order mark and blank lines are skipped."""
    plain = written(tmp_path / "q.jsonl", ROWS, b"\xef\xbb\xbf\n")
    (tmp_path / "q.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "q.gz").write_bytes(gzip.compress(plain.read_bytes()))
    tasks = [*Tasks(plain)]
    assert tasks == [*Tasks(tmp_path / "q.json")] == [*Tasks(tmp_path / "q.gz")]
    assert [(task.id, task.check, task.tags) for task in tasks] == [
        ("a", "number", ()),
        ("b", "choice", ("colour",)),
        ("c", "contains", ()),
    ]


@needs("pyarrow", install="uv sync --group ci")
def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    """Lists and numbers come as they are stored."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"question": ["1?", "2?"], "options": [["x", "y"], None], "answer": ["A", "2"]})
    parquet.write_table(table, tmp_path / "q.parquet")
    assert [(task.check, task.options) for task in Tasks(tmp_path / "q.parquet")] == [
        ("choice", ("x", "y")),
        ("number", ()),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_csv_of_spreadsheets_is_read(tmp_path: Path, encoding: str, delimiter: str) -> None:
    """Separators and encodings of spreadsheets, quotes, line breaks in cells, lists in cells, and a place for errors."""
    out = io.StringIO()
    rows = [
        ["Question", "Options", "Answer", "Tags"],
        ['Say "a;b,c"\nplease', "x|y", "y", "p;q"],
        ["2+2 = ?", "", "4", ""],
    ]
    csv.writer(out, delimiter=delimiter).writerows(rows)
    (tmp_path / "q.csv").write_bytes(out.getvalue().encode(encoding))
    first, second = Tasks(tmp_path / "q.csv")
    assert first.question.startswith('Say "a;b,c"\nplease\n\nA. x\nB. y\n\n')
    assert (first.options, first.answers, first.tags, first.check) == (("x", "y"), ("y",), ("p", "q"), "choice")
    assert (second.question, second.answers, second.check) == ("2+2 = ?", ("4",), "number")
    assert [row.place for row in file_rows(tmp_path / "q.csv")] == ["line 2", "line 4"]


def test_excels_separator_line_is_no_row(tmp_path: Path) -> None:
    """A first line ``sep=;`` names the separator, and lines are counted with it."""
    (tmp_path / "q.csv").write_text("sep=;\nquestion;answer\n1,5 or 2?;2\n")
    assert [(row.place, row.row["question"]) for row in file_rows(tmp_path / "q.csv")] == [("line 3", "1,5 or 2?")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1))
def test_any_cells_survive_csv(rows: list[tuple[str, str]]) -> None:
    """What Python's writer quotes is read back, whatever the cells hold."""
    import tempfile

    rows = [(a, b) for a, b in rows if a.strip() and b.strip() and not set(a + b) & {"\0", "\r"}]
    rows = [(a, b) for a, b in rows if (a + b).isprintable() or "\n" in a + b]
    out = io.StringIO()
    csv.writer(out).writerows([("question", "answer"), *rows])
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        Path(file.name).write_bytes(out.getvalue().encode("utf-8", "replace"))
        found = [tuple(row.row.values()) for row in file_rows(Path(file.name))]
    assert found == [tuple(cell.encode("utf-8", "replace").decode() for cell in row) for row in rows]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"answer": "4"}, "no question; name a column"),
        ({"question": "  ", "answer": 4}, "the question is empty"),
        ({"question": 5, "answer": 4}, "the question is 5, not a text"),
        ({"question": "?"}, "no answer; give the row an answer or a rubric"),
        ({"question": "?", "answer": None}, "no answer"),
        ({"question": "?", "answer": "x", "check": "fuzzy"}, "no check 'fuzzy'; there are exact, number"),
        ({"question": "?", "answer": "many", "check": "number"}, "'many' does not suit the check number"),
        ({"question": "?", "answer": "E", "options": ["a", "b"], "check": "choice"}, "'E' is none of the 2 options"),
        ({"question": "?", "answer": "{", "check": "json"}, "does not suit the check json"),
        ({"question": "?", "answer": "(", "check": "regex"}, "'(' does not compile"),
        ({"question": "?", "answer": "(a+)+$", "check": "regex"}, "takes too long"),
        ({"question": "?", "answer": 1, "tolerance": "wide"}, "the tolerance 'wide' is no number"),
        ({"question": "?", "answer": "A", "options": "one"}, "options has 1 entries"),
        ({"question": "?", "answer": "A", "options": {"B": 1, "A": 2}}, "the options are named B, A"),
        ({"messages": [{"role": "assistant", "content": "hi"}], "answer": 1}, "the last message is not the user's"),
        ({"messages": [{"content": "hi"}], "answer": 1}, "correct the messages"),
        ({"messages": "hi", "answer": 1}, "messages is a text"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_its_line_and_the_remedy(
    tmp_path: Path, row: dict[str, object], problem: str
) -> None:
    """The sound row before it does not help: a score over the rest would be one of other questions."""
    message = refused(written(tmp_path / "q.jsonl", [ROWS[0], row]))
    assert "1 row cannot be used:\n  line 2: " in message
    assert problem in message


def test_all_problems_of_a_file_come_at_once(tmp_path: Path) -> None:
    """Lines that are no JSON and duplicates among them; the list ends after ten."""
    path = written(
        tmp_path / "q.jsonl", [ROWS[0], ROWS[0], {"question": "x?", "answer": 1}, {"question": "x?", "answer": 1}]
    )
    with path.open("a") as file:
        file.write('{"question": "cut\n[1]\n' + "{}\n" * 9)
    message = refused(path)
    assert "13 rows cannot be used" in message
    assert "line 2: the same id or question as line 1 (a)" in message
    assert "line 4: the same id or question as line 3" in message
    assert "line 5: the line is not JSON" in message
    assert "line 6: expected a JSON object with a question, not list" in message
    assert message.endswith("… and 3 more")


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.json"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    """Empty, or a header alone."""
    (tmp_path / name).write_text("question,answer\n" if name == "q.csv" else "")
    assert "the file has no rows" in refused(tmp_path / name)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    """Prose, a missing file, a damaged archive, and text that is not UTF-8."""
    (tmp_path / "q.txt").write_text("What is 2 + 2?")
    assert "neither JSON Lines, a JSON list, CSV nor Parquet" in refused(tmp_path / "q.txt")
    assert "No such file" in refused(tmp_path / "gone.jsonl")
    (tmp_path / "q.gz").write_bytes(gzip.compress(b'{"question": "?"}\n' * 99)[:40])
    assert "cannot be read" in refused(tmp_path / "q.gz")
    (tmp_path / "q.csv").write_bytes("question,answer\nGrüße?,1\n".encode("latin-1"))
    assert "not UTF-8" in refused(tmp_path / "q.csv")
    (tmp_path / "q.jsonl").write_bytes('{"question": "Grüße?"}'.encode("latin-1"))
    assert "line 1: the line is not UTF-8" in refused(tmp_path / "q.jsonl")


def test_rows_without_ids_are_known_by_their_question() -> None:
    """Sorting the file keeps the identities; other options are another question."""
    first = task_of({"question": "Which?", "options": ["x", "y"], "answer": "A"})
    assert first.id == task_of({"answer": "B", "choices": ["x", "y"], "Prompt": "Which?"}).id
    assert first.id != task_of({"question": "Which?", "options": ["y", "x"], "answer": "A"}).id


def test_an_image_stays_beside_the_options() -> None:
    """They are a part of their own."""
    parts = [
        {"type": "text", "text": "Which?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    task = task_of({"messages": [{"role": "user", "content": parts}], "options": ["x", "y"], "answer": "A"})
    content = task.messages[-1]["content"]
    assert (content[:2], content[2]["text"].split("\n")[:2]) == (parts, ["A. x", "B. y"])


def test_a_conversation_keeps_its_messages() -> None:
    """The options follow the last message; the others are sent as they are."""
    given = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    task = task_of({"messages": given, "options": {"A": "x", "B": "y"}, "answer": "x"})
    assert task.messages[0] == given[0]
    assert task.question == "Which?\n\nA. x\nB. y\n\nEnd with a line of this form: Answer: LETTER"


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["question", "answer", "options", "tags", "check", "messages", "id"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_any_row_is_a_task_or_a_bad_row(row: dict[str, object]) -> None:
    """No value in any field ends in another error."""
    from moa.evals.tasks import checks

    try:
        task = task_of(row)
    except BadRow:
        return
    assert isinstance(checks.fault_of(task), str)
    assert checks.guess(task) in checks.CHECKS
