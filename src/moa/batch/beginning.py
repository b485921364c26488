"""What a job checks, and what it keeps of standard input, before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO

from moa.batch.reading import format_of
from moa.errors import ConfigError
from moa.mixture.mixture import Mixture


def check_output(out: Path, folder: Path) -> None:
    """Raises ConfigError if no job can write this file."""
    if out.exists() and not out.is_file():
        raise ConfigError(f"-o {out} is no regular file; a job needs one to continue after an interruption")
    if format_of(out) not in ("jsonl", "parquet") or out.suffix.lower() in (".gz", ".zst"):
        raise ConfigError(f"-o {out}: answers are written as .jsonl or .parquet")
    if out.exists() and not (folder / "job.json").exists() and out.stat().st_size:
        raise ConfigError(f"-o {out} exists, and no job has written it; give another -o, or remove it")


def check_prices(mixture: Mixture) -> None:
    """Raises ConfigError if the price of a model is unknown, so that a limit on cost cannot be enforced."""
    for agent in mixture.agents:
        model = agent.model
        if isinstance(model, Mixture):
            check_prices(model)
        elif mixture.prices.per_million(model.name) is None:
            raise ConfigError(
                f"--max-cost cannot be enforced: the price of {model.name} is unknown; set it in moa.toml under [prices]"
            )


def spooled(stream: IO[bytes], path: Path) -> str:
    """Standard input, read to its end into a file, since a job reads its input more than once. Without any input, the file
    of the job's last start stays."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(stream, file, 2**20)
        if part.stat().st_size or not path.exists():
            part.replace(path)
    except OSError as error:
        raise ConfigError(f"standard input cannot be kept in {path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return str(path)
