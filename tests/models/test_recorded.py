from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from moa.errors import CallRejected, ConfigError
from moa.messages import Message, Request, collected
from moa.models.recorded import Recorded
from tests.fakes.recordings import alpaca_eval_instructions, needs_recordings, recorded_on_alpaca_eval
from tests.models.calling import deltas_of

pytestmark = pytest.mark.anyio

ROWS = [{"instruction": "Say A.", "output": "A\u2028 and no more"}, {"instruction": "Say B.", "output": "B"}]


@pytest.fixture(params=["answers.jsonl", "answers.jsonl.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


async def test_returns_the_recorded_answer(path: Path) -> None:
    """A plain or gzipped file gives each prompt its own answer, line separators inside an answer included."""
    model = Recorded.from_jsonl(path, name="recorded/a")
    for row in ROWS:
        answer = collected(await deltas_of(model, Request.of(row["instruction"])))
        assert (answer.text, answer.finish_reason, answer.usage.estimated) == (row["output"], "stop", True)


async def test_looks_up_the_last_user_message() -> None:
    """Other messages, such as an aggregator's references, do not change which answer is found."""
    model = Recorded({"Say A.": "A"})
    messages: list[Message] = [
        {"role": "system", "content": "References: 1. B"},
        {"role": "user", "content": [{"type": "text", "text": "Say A."}]},
        {"role": "assistant", "content": "Well, "},
    ]
    assert collected(await deltas_of(model, Request.of(messages))).text == "A"


async def test_refuses_an_unknown_prompt_in_one_line() -> None:
    """A prompt without a recording is refused, in one line that quotes the prompt's beginning."""
    with pytest.raises(CallRejected) as caught:
        await deltas_of(Recorded({}, name="recorded/a"), Request.of("Say\nwhat nobody ever said before. " * 10))
    assert str(caught.value) == (
        "recorded/a: there is no recorded answer for the prompt "
        "'Say what nobody ever said before. Say what nobody ever said…'"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "answers.jsonl:2: not JSON"),
        ('["Say A.", "A"]', "answers.jsonl:2: expected an object"),
        ('{"instruction": "Say A."}', "'output'"),
        ('{"instruction": "Say A.", "output": null}', "'output'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str, reason: str) -> None:
    """A line without prompt and answer is refused with the file and the line's number."""
    path = tmp_path / "answers.jsonl"
    path.write_text(f"\n{content}\n")
    with pytest.raises(ConfigError, match=reason):
        Recorded.from_jsonl(path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A missing file, and a ``.gz`` file that is not gzip, are refused by name."""
    (tmp_path / "plain.jsonl.gz").write_text("{}")
    for name in ("missing.jsonl", "plain.jsonl.gz"):
        with pytest.raises(ConfigError, match=name):
            Recorded.from_jsonl(tmp_path / name)


@needs_recordings
async def test_replays_a_published_system_word_for_word() -> None:
    """All 805 AlpacaEval answers of a real model come back exactly as published."""
    model = recorded_on_alpaca_eval("Qwen1.5-110B-Chat")
    assert len(model.answers) == 805
    for instruction in list(alpaca_eval_instructions().values())[::50]:
        answer = collected(await deltas_of(model, Request.of(instruction)))
        assert answer.text == model.answers[instruction]
