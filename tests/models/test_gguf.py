"""Telling from a file's header whether a GGUF model is complete and chats."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from moa.models.gguf import calls_tools, can_chat


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def model(architecture: str = "llama", pooling: int | None = None, template: str = "") -> bytes:
    """A file with one tensor of 64 floats, and arrays of every kind in its header."""
    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text(architecture),
        text("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("tokenizer.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
        text("general.flag") + struct.pack("<I?", 7, True),
    ]
    if template:
        pairs.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template))
    if pooling is not None:
        pairs.append(text(f"{architecture}.pooling_type") + struct.pack("<II", 4, pooling))
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs)
    header += text("output") + struct.pack("<IQIQ", 1, 64, 0, 0)
    return header.ljust(-(-len(header) // 32) * 32, b"\0") + bytes(64 * 4)


@pytest.mark.parametrize(
    ("content", "chats"),
    [
        (model(), True),
        (model(pooling=0), True),
        (model("bert"), False),
        (model("nomic-bert-moe"), False),
        (model("gemma-embedding"), False),
        (model("qwen3", pooling=3), False),
        (model()[:-4], False),
        (model()[:60], False),
        (b"GGUF\x03\0\0\0" + bytes(4096), False),
        (b"<html>not found</html>", False),
        (b"", False),
    ],
)
def test_only_complete_chat_models_chat(tmp_path: Path, content: bytes, chats: bool) -> None:
    """Embedding models, downloads that broke off and other files are recognised without loading them."""
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    assert can_chat(path) is chats


@pytest.mark.parametrize(
    ("content", "calls"),
    [
        (model(template="{% if tools %}{{ tools | tojson }}{% endif %}"), True),
        (model(template="{% for message in messages %}{{ message.content }}{% endfor %}"), False),
        (model(), False),
        (b"<html>not found</html>", None),
    ],
)
def test_a_model_calls_tools_where_its_template_shows_them(tmp_path: Path, content: bytes, calls: bool | None) -> None:
    """llama.cpp ignores tools in silence where the template has no place for them."""
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    assert calls_tools(path) is calls
    assert calls_tools(tmp_path / "missing.gguf") is None
