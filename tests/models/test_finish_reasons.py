"""The words with which servers end an answer mean complete, cut, filtered, nothing, or broken."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from moa.answers import Delta
from moa.errors import StreamBroken
from moa.finish_reasons import CUTS, finish_reason_of, is_known
from moa.messages import Request, collected
from moa.mixture.mixture import Mixture
from moa.models.endpoint import Endpoint
from moa.models.scripted import Scripted
from tests.fakes.upstream import Upstream, chunk, done, finish, hang, pause, sequence, thoughts, usage, words
from tests.models.endpoints import answer, failure

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("reported", "meaning"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),  # Gemini: https://ai.google.dev/api/generate-content#FinishReason
        ("FINISH_REASON_STOP", "stop"),
        ("FinishReason.MAX_TOKENS", "length"),  # a Python enumeration as text
        ("endTurn", "stop"),
        ("normal", "stop"),  # https://cloud.baidu.com/doc/WENXINWORKSHOP (finish_reason)
        ("eosFound", "stop"),  # https://lmstudio.ai/docs (stopReason)
        ("maxPredictedTokensReached", "length"),
        ("max_output_tokens", "length"),
        ("max_length", "length"),
        ("eos", "stop"),  # BerriAI/litellm#21348
        ("eos_token", "stop"),  # https://huggingface.co/docs/text-generation-inference
        ("end_turn", "stop"),  # https://docs.anthropic.com/en/api/messages (stop_reason)
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("tool-calls", "tool_calls"),
        ("function_call", "function_call"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),  # Mistral: simstudioai/sim#6302
        ("model_context_window_exceeded", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("refusal", "content_filter"),
        ("sensitive", "content_filter"),  # https://docs.bigmodel.cn (finish_reason)
        ("guardrail_intervened", "content_filter"),
        (None, None),
        ("", None),
        ("null", None),
        ("None", None),
        (False, None),
        ("insufficient_system_resource", "insufficient_system_resource"),  # DeepSeek: simstudioai/sim#6302
        ("error", "error"),
        ("abort", "abort"),
        ("network_error", "network_error"),  # https://docs.bigmodel.cn (finish_reason)
        ("load", "load"),  # Ollama: https://github.com/ollama/ollama/blob/main/docs/api.md (done_reason)
        (7, "7"),
    ],
)
def test_a_word_is_read(reported: object, meaning: str | None) -> None:
    """As one of OpenAI's words, as none, or as the unknown word that it is."""
    assert finish_reason_of(reported) == meaning
    assert meaning is None or is_known(meaning) == (meaning in {"stop", "tool_calls", "function_call", *CUTS})


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "malformed_function_call"])
async def test_an_unknown_word_breaks_the_answer(upstream: Upstream, endpoint: Endpoint, reason: str) -> None:
    """Its words so far arrive, then its error, which quotes the word; its tokens are counted. simstudioai/sim#6302"""
    upstream.script("m", words("It is fo") + finish(reason) + usage() + done())
    deltas, error = await failure(endpoint)
    assert (collected(deltas).text, collected(deltas).finish_reason) == ("It is fo", None)
    assert isinstance(error, StreamBroken)
    assert repr(reason) in str(error)


async def test_the_word_null_is_no_reason(
    upstream: Upstream, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer continues after a pause where each chunk has the text ``null`` as reason. open-webui/open-webui#16377"""
    monkeypatch.setattr("moa.models.endpoint._AFTER_FINISH", 0.05)
    pieces = sequence(chunk({"content": word}, "null") + pause(0.2) for word in ("It", " is", " four."))
    upstream.script("m", pieces + finish() + done())
    result = collected(await answer(endpoint))
    assert (result.text, result.finish_reason) == ("It is four.", "stop")


async def test_a_reason_beside_reasoning_ends_the_reasoning(
    upstream: Upstream, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that follows after a pause is part of the answer. open-webui/open-webui#16377"""
    monkeypatch.setattr("moa.models.endpoint._AFTER_FINISH", 0.05)
    reasoning = thoughts("Two twos") + chunk({"reasoning_content": "."}, "stop")
    upstream.script("m", reasoning + pause(0.2) + words("Four.") + finish("length") + done())
    result = collected(await answer(endpoint))
    assert (result.text, result.finish_reason) == ("Four.", "length")


async def test_a_reason_beside_reasoning_ends_the_answer_where_nothing_follows(
    upstream: Upstream, endpoint: Endpoint
) -> None:
    """It counts once the stream has ended."""
    upstream.script("m", chunk({"reasoning_content": "Hm."}, "stop"))
    assert collected(await answer(endpoint)).finish_reason == "stop"


async def test_done_without_text_completes_nothing(upstream: Upstream, endpoint: Endpoint) -> None:
    """A stream of ``[DONE]`` alone is no answer."""
    upstream.script("m", done())
    assert "without a finish reason" in str((await failure(endpoint))[1])


async def test_a_reason_is_read_while_the_connection_stays_open(
    upstream: Upstream, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's own word for the end ends the wait, too."""
    monkeypatch.setattr("moa.models.endpoint._AFTER_FINISH", 0.05)
    upstream.script("m", words("Four.") + finish("eos") + hang())
    assert collected(await answer(endpoint)).finish_reason == "stop"


# In a mixture


@pytest.mark.parametrize(("reason", "why"), CUTS.items())
async def test_a_cut_answer_degrades_the_run(reason: str, why: str) -> None:
    """The answer stands, and ``degraded`` says why it ends early."""
    result = await Mixture([[Scripted("p")]], Scripted("It is fo", name="x/last", finish_reason=reason)).answer("Why?")
    assert (result.text, result.finish_reason) == ("It is fo", reason)
    assert result.degraded == (f"the answer of last ends early: {why}",)


async def test_a_custom_models_words_are_read() -> None:
    """A model of one's own may end with any known word; with another one, it is broken."""
    result = await Mixture([[Scripted("p", finish_reason="error"), Scripted("q", name="s/q")]], _Eos()).answer("Why?")
    assert (result.text, result.finish_reason) == ("Four.", "stop")
    assert "with the reason 'error'" in result.degraded[0]
    assert [proposal.text for proposal in result.proposals] == ["q"]


class _Eos:
    name = "mine/eos"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Delta("Four.")
        yield Delta(finish_reason="eos")
