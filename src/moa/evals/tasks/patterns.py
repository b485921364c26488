"""Regular expressions of a user's file: searches have a time limit, and one that explodes is found before a model is called.

A backtracking engine takes exponential time on patterns such as ``(a+)+$``. The ``regex`` package stops a search after a
timeout; the standard library's ``re`` cannot.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from moa.errors import ConfigError

SECONDS = 1.0
"""The longest search in a reply."""

PROBE_SECONDS = 0.2
"""The longest search in a probe: a sound pattern takes microseconds."""

PROBE = 1000
"""Characters of a probe."""

REGEX = "the check regex needs the regex package; run: pip install 'mixture-of-agents[evals]'"


def found(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text.

    Raises:
        TimeoutError: the search took longer than :data:`SECONDS`.
    """
    return _compiled(pattern).search(text, timeout=SECONDS, concurrent=True) is not None


@lru_cache(maxsize=1024)
def fault(pattern: str) -> str:
    """What is wrong with a pattern, and the remedy; "" if nothing is."""
    engine = _engine()
    try:
        compiled = _compiled(pattern)
    except engine.error as error:
        return f"the regex {pattern[:40]!r} does not compile ({error}); correct it"
    except (RecursionError, OverflowError, MemoryError):
        return f"the regex {pattern[:40]!r} is too large; shorten it"
    for probe in _probes(pattern):
        try:
            compiled.search(probe, timeout=PROBE_SECONDS)
        except TimeoutError:
            return (
                f"the regex {pattern[:40]!r} takes too long on {PROBE} characters such as {probe[:12]!r}; "
                "remove a repetition inside a repetition, such as (a+)+"
            )
    return ""


def _probes(pattern: str) -> list[str]:
    """Texts on which a pattern that explodes takes long: its own characters and words, repeated, then another."""
    literal = re.sub(r"\\[a-zA-Z]", "", pattern)
    pieces = {
        *"a0 ",
        *re.findall(r"\w", literal),
        *re.findall(r"\w{2,8}", literal),
        *re.findall(r"[-,.;:/@ ]", literal),
    }
    return [piece * (PROBE // len(piece)) + "\0" for piece in sorted(pieces)[:40]]


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    return _engine().compile(pattern)


def _engine() -> Any:
    try:
        import regex
    except ImportError:
        raise ConfigError(REGEX) from None
    return regex
