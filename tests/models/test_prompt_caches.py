"""The beginning of a prompt is found again in a vendor's cache."""

from moa.messages import Message, Request
from moa.models.fitting import fit
from moa.models.profile import Profile
from moa.models.profiles import profile_at
from moa.models.prompt_caches import MARK

SYSTEM: Message = {"role": "system", "content": "Be brief."}
TURN: list[Message] = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
NEXT: Message = {"role": "user", "content": "And then?"}
CALL: Message = {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "a", "type": "function"}]}
RESULT: Message = {"role": "tool", "tool_call_id": "a", "content": "sunny"}
TOOLS = [{"type": "function", "function": {"name": "look"}}]


def marked(messages: list[Message], **body: object) -> list[int]:
    """The places of the messages that are marked."""
    sent, _ = fit(Request.of({"messages": messages, **body}), Profile(prompt_cache="marks"))
    assert fit(sent, Profile(prompt_cache="marks"))[0] == sent, "fitting twice is fitting once"
    return [at for at, message in enumerate(sent.messages) if "cache_control" in str(message)]


def test_marks_stand_where_a_later_prompt_begins_alike() -> None:
    """Before the last user message, and at the end of a tool loop; not for a lone question, which may never come again."""
    assert marked([SYSTEM, NEXT]) == []
    assert marked([SYSTEM, NEXT], tools=TOOLS) == [0]
    assert marked([NEXT], tools=TOOLS) == []
    assert marked([SYSTEM, *TURN, NEXT]) == [2]
    assert marked([SYSTEM, *TURN, NEXT, CALL, RESULT], tools=TOOLS) == [2, 5]
    own = {"role": "user", "content": [{"type": "text", "text": "long", "cache_control": MARK}]}
    assert marked([own, *TURN, NEXT]) == [0], "the caller's own mark counts instead"


def test_a_mark_is_part_of_the_content() -> None:
    """The text of a marked message is a content part; parts that were there stay, and the last one has the mark."""
    sent, _ = fit(Request.of([*TURN, NEXT]), Profile(prompt_cache="marks"))
    assert sent.messages[1]["content"] == [{"type": "text", "text": "So.", "cache_control": MARK}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    seen = {"role": "user", "content": [{"type": "text", "text": "Look"}, image]}
    sent, _ = fit(Request.of([TURN[1], seen, NEXT]), Profile(prompt_cache="marks"))
    assert sent.messages[1]["content"] == [{"type": "text", "text": "Look"}, {**image, "cache_control": MARK}]


def test_a_key_belongs_to_a_conversation() -> None:
    """All turns and all agents of a conversation send one key, other conversations another; the caller's own is kept."""

    def key(messages: list[Message], **body: object) -> object:
        return fit(Request.of({"messages": messages, **body}), Profile(prompt_cache="key"))[0].body["prompt_cache_key"]

    assert key([SYSTEM, TURN[0]]) == key([SYSTEM, *TURN, NEXT])
    assert key([SYSTEM, TURN[0]]) != key([SYSTEM, NEXT])
    assert key([SYSTEM, TURN[0]], prompt_cache_key="mine") == "mine"
    refusing = Profile(prompt_cache="key", refuses=frozenset({"prompt_cache_key"}))
    assert "prompt_cache_key" not in fit(Request.of([NEXT]), refusing)[0].body


def test_vendors_get_what_their_documentation_names() -> None:
    """A key for OpenAI, Azure and Mistral, marks for Qwen's models and for Claude at OpenRouter, nothing for the unknown."""
    places = {
        ("https://api.openai.com/v1", "gpt-5.1"): "key",
        ("https://api.mistral.ai/v1", "mistral-large-latest"): "key",
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3-max"): "marks",
        ("https://openrouter.ai/api/v1", "anthropic/claude-opus-4.6"): "marks",
        ("https://openrouter.ai/api/v1", "openai/gpt-5.1"): None,
        ("http://127.0.0.1:8000/v1", "qwen3-max"): None,
    }
    assert {place: profile_at(*place).prompt_cache for place in places} == places
