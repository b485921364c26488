"""Weights on the Hugging Face hub: its cache on this machine, and downloads into it.

The cache is read by its documented layout. A file appears there only when it is complete, and reading it saves the import of
``huggingface_hub``. https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from moa.errors import ConfigError, MoaError
from moa.models.gguf_files import GgufFiles, fitting, models_among

DEFAULT_QUANT = "Q4_K_M"
"""The default where a repository holds several quantizations: a quarter of the memory, little loss of quality."""

_WRITING_ERRORS = {
    getattr(errno, name, None)
    for name in ("EACCES", "EDQUOT", "EEXIST", "EFBIG", "EIO", "ENOENT", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
} - {None}
_LISTING_TIMEOUT = 15.0  # seconds to wait for the hub's list of a repository's files


def _cache() -> Path:
    """The hub's cache. https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"""
    get = os.environ.get
    home = get("HF_HOME") or Path(get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(get("HF_HUB_CACHE") or get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")).expanduser()


def in_cache(repo: str, wanted: str | None) -> Path | None:
    """A downloaded file, if exactly one matches; the smallest file where nothing is wanted."""
    repository = _cache() / f"models--{repo.replace('/', '--')}"
    try:
        snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text().strip()
    except OSError:
        return None
    files = [file for file in snapshot.rglob("*") if file.is_file()]
    choices = models_among({file.relative_to(snapshot).as_posix(): file.stat().st_size for file in files})
    fits = choices[:1] if wanted is None else fitting(choices, wanted)
    return snapshot / fits[0].files[0] if len(fits) == 1 else None


def download(name: str, repo: str, wanted: str | None, on_progress: Callable[[int, int], None], instead: str) -> Path:
    """Download a repository's weights, unless the cache has them, which may block for long.

    Args:
        name: the weights' name after ``local/``, for errors.
        repo: ``org/name`` on the hub.
        wanted: a quantization or a file's name; None: :data:`DEFAULT_QUANT`, else the smallest.
        on_progress: receives the bytes downloaded so far and in all. A ``MoaError`` that it raises ends the download.
        instead: how else to get weights, for the end of an error.

    Returns:
        The file; the first of several where the weights are split.

    Raises:
        ConfigError: the hub's client is not installed, or the hub does not serve the file, or the cache cannot be written.
    """
    if find_spec("huggingface_hub") is None:
        raise ConfigError(
            f"local/{name}: it is not on this machine, and downloading it from the Hugging Face hub needs: "
            "pip install 'mixture-of-agents[local]'"
        )
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    hub = constants.ENDPOINT
    try:
        about = HfApi().model_info(repo, files_metadata=True, timeout=_LISTING_TIMEOUT)
        choice = _chosen(name, repo, wanted, {file.rfilename: file.size or 0 for file in about.siblings or ()})
        bar = _progress_bar(choice.bytes, on_progress)
        paths = [hf_hub_download(repo, file, tqdm_class=bar) for file in choice.files]
    except MoaError:
        raise
    except GatedRepoError:
        raise ConfigError(
            f"local/{name}: {repo} needs your consent: give it at {hub}/{repo} and set HF_TOKEN; instead, {instead}"
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"local/{name}: {hub} has no public repository {repo}; check the name, or set HF_TOKEN if it is private; "
            f"instead, {instead}"
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no status")
        raise ConfigError(f"local/{name}: {hub} returned status {status} for {repo}; instead, {instead}") from error
    except Exception as error:
        # The hub's client and its HTTP library raise different errors for a lost network, depending on their versions.
        if wanted is None and (cached := in_cache(repo, None)):
            return cached
        offline = constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set, and it was not downloaded before" if offline else f"{hub} cannot be reached"
        if problem := _writing_problem(error):
            raise ConfigError(
                f"local/{name}: the hub's cache {_cache()} cannot be written ({problem}); set HF_HUB_CACHE to another folder"
            ) from error
        raise ConfigError(f"local/{name}: {why}; instead, {instead}") from error
    return Path(paths[0])


def _writing_problem(error: BaseException) -> str | None:
    """Why a file could not be written, if that is the error or its cause."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno in _WRITING_ERRORS:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return None


def _chosen(name: str, repo: str, wanted: str | None, sizes: Mapping[str, int]) -> GgufFiles:
    """The files to download from a repository, from the sizes of all its files."""
    choices = models_among(sizes)
    if not choices:
        raise ConfigError(f"local/{name}: {repo} holds no .gguf file; search for the same model with GGUF in its name")
    fits = fitting(choices, wanted or DEFAULT_QUANT)
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
