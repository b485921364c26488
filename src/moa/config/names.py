"""Names of mixtures and endpoints: which are allowed, and how a mixture's full name reads."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

RESERVED = ("moa", "local")
"""Prefixes of model names that the project itself serves."""


def wrong_name(name: str) -> str | None:
    """Why a mixture or an endpoint cannot have this name; None if it can."""
    if name in RESERVED:
        return "is reserved"
    return None if NAME.fullmatch(name) else "may hold only letters, digits, '.', '_' and '-'"


def is_single_model(name: str) -> bool:
    """Whether a name is of a single model, ``provider/name``, and not of a mixture, ``NAME`` or ``moa/NAME``."""
    return "/" in name and not name.startswith("moa/")


def full_name(name: str) -> str:
    """A mixture's name with the prefix ``moa/``, which callers may leave out; the name of a single model unchanged."""
    return name if "/" in name else f"moa/{name}"
