"""The output: JSON Lines, Parquet, and OpenAI Batch lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moa.errors import UpstreamFailed
from moa.messages import Request, text_of
from moa.models.scripted import Scripted
from tests.batch.conftest import DEAR, Bench, echo, mixture

pytestmark = pytest.mark.anyio
pyarrow = pytest.importorskip("pyarrow")


def fail_two(request: Request) -> str | Exception:
    text = text_of(request.messages[0])
    return UpstreamFailed("scripted/boss", "down", status=503) if "two" in text else echo(request)


def boss() -> Scripted:
    return Scripted(fail_two, name="scripted/boss")


async def test_columns_under_a_name_of_ours_are_kept_beside_it(bench: Bench) -> None:
    """A data set's own ``answer`` is ``input_answer`` in the output."""
    bench.write([{"prompt": "one", "answer": "gold", "input_answer": "more", "cost": None}])
    await bench.run(mixture())
    row = bench.answers()[0]
    assert (row["answer"], row["input_answer"], row["input_input_answer"]) == ("echo of one", "gold", "more")
    assert row["input_cost"] is None


async def test_proposals_are_written_on_request(bench: Bench) -> None:
    """Each with its agent, layer, model and text."""
    bench.write([{"prompt": "one"}])
    await bench.run(mixture(Scripted("a point", name="scripted/ann")), proposals=True)
    assert bench.answers()[0]["proposals"] == [{"agent": "ann", "layer": 1, "model": "scripted/ann", "text": "a point"}]


async def test_parquet_has_one_schema_whatever_the_rows(bench: Bench) -> None:
    """IDs are texts, columns that pass through are one column of JSON, and failed rows have their error."""
    import pyarrow.parquet

    out = bench.folder / "answers.parquet"
    bench.write([{"id": 1, "prompt": "one \ud83d", "topic": {"a": [1]}}, {"id": "b", "prompt": "two"}])
    tables: list[Any] = []
    for proposals in (False, True):
        with bench.job(mixture(Scripted("a point"), boss=boss(), prices=DEAR), out=out, proposals=proposals) as job:
            await job.run()
        tables.append(pyarrow.parquet.read_table(out))
        out.unlink()
        for each in (bench.folder / "answers.parquet.job").iterdir():
            each.unlink()
    rows = tables[0].to_pylist()
    assert [(row["id"], row["columns"]) for row in rows] == [("1", '{"topic":{"a":[1]}}'), ("b", "{}")]
    assert rows[0]["answer"].startswith("echo of one")
    assert rows[0]["usage"]["output_tokens"] > 0
    assert rows[1]["error"] == {"type": "UpstreamFailed", "message": rows[1]["error"]["message"]}
    assert rows[1]["answer"] is None
    assert tables[1].schema.names == [*tables[0].schema.names[:-1], "proposals", "columns"]
    assert len(tables[1].to_pylist()[0]["proposals"]) == 1


async def test_an_openai_batch_file_gives_an_openai_batch_output_file(bench: Bench) -> None:
    """The official client reads each line; failed requests have a response with another status."""
    openai = pytest.importorskip("openai")
    line = {"method": "POST", "url": "/v1/chat/completions"}
    bench.write(
        [
            {"custom_id": "a", **line, "body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "one"}]}},
            {"custom_id": "b", **line, "body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "two"}]}},
            {"custom_id": "c", **line, "body": {"model": "gpt-4o", "messages": []}},
        ]
    )
    await bench.run(mixture(Scripted("a point"), boss=boss(), prices=DEAR))
    lines = [json.loads(each) for each in bench.out.read_text().splitlines()]
    assert [[*each] for each in lines] == [["id", "custom_id", "response", "error"]] * 3
    assert [(each["custom_id"], each["response"]["status_code"], each["error"]) for each in lines] == [
        ("a", 200, None),
        ("b", 503, None),
        ("c", 400, None),
    ]
    body = lines[0]["response"]["body"]
    completion = openai.types.chat.ChatCompletion.model_validate(body)
    assert completion.choices[0].message.content == "echo of one"
    assert completion.model == "moa/test"
    assert body["usage"]["completion_tokens"] < body["moa"]["usage"]["completion_tokens"]
    assert body["usage"]["cost"] == body["moa"]["usage"]["total_tokens"]
    assert all(each["id"].startswith("batch_req_") for each in lines)
    assert "down" in lines[1]["response"]["body"]["error"]["message"]
