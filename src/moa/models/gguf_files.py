"""Which of the GGUF files in a folder or a repository are one model, and which of them fits a name or a quantization.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


@dataclass(frozen=True, slots=True)
class GgufFiles:
    """One model in a folder or a repository: the names of its files in order, and its size in bytes."""

    files: tuple[str, ...]
    bytes: int

    @property
    def stem(self) -> str:
        stem = stem_of(self.files[0])
        split = _PART.fullmatch(stem)
        return split["stem"] if split else stem


def stem_of(file: str) -> str:
    """A file's name without folder and extension."""
    return Path(file).name[: -len(".gguf")] if file.lower().endswith(".gguf") else Path(file).name


def parts_of(file: str) -> list[str]:
    """The names of all files of the weights that a file belongs to; of weights in one file, only its own."""
    name, suffix = file[: -len(".gguf")], file[-len(".gguf") :]
    split = _PART.fullmatch(name) if suffix.lower() == ".gguf" else None
    if split is None:
        return [file]
    return [f"{split['stem']}-{part:05}-of-{split['count']}{suffix}" for part in range(1, int(split["count"]) + 1)]


def models_among(sizes: Mapping[str, int]) -> list[GgufFiles]:
    """The models among files with these sizes in bytes, smallest first: no projectors, no incomplete sets of parts."""
    choices: list[GgufFiles] = []
    for file in sizes:
        lower = Path(file).name.lower()
        if not lower.endswith(".gguf") or "mmproj" in lower or "imatrix" in lower:
            continue
        files = parts_of(file)
        if file != files[0] or any(part not in sizes for part in files):
            continue
        choices.append(GgufFiles(tuple(files), sum(sizes[part] for part in files)))
    return sorted(choices, key=lambda choice: (choice.bytes, choice.files))


def fitting(choices: Iterable[GgufFiles], wanted: str) -> list[GgufFiles]:
    """Those that match a file's name or a quantization (``Q4_K_M``)."""
    if wanted.lower().endswith(".gguf"):
        return [choice for choice in choices if wanted in (choice.files[0], Path(choice.files[0]).name)]
    # An underscore may precede a quantization; one after it would make it another quantization.
    quant = re.compile(rf"(?:^|[-._]){re.escape(wanted)}(?:[-.]|$)", re.IGNORECASE)
    return [choice for choice in choices if quant.search(choice.stem)]
