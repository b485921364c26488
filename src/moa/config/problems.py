"""What is wrong with tables, in words: the first problem, the path to it, what was expected and what was found."""

from __future__ import annotations

import re
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moa.config.profile_table import ProfileTable
from moa.config.schedules import KINDS, SCHEDULES
from moa.config.tables import EndpointTable, File, MixtureTable, PriceTable, TimeoutsTable

BRANCH = r"str|\w+Table|function-after\[.*"
"""What pydantic adds to the path of an error for each branch of a union that it tried."""

SECTIONS: dict[str, type[BaseModel]] = {
    "mixtures": MixtureTable,
    "endpoints": EndpointTable,
    "models": ProfileTable,
    "prices": PriceTable,
}


def problem_of(error: ValidationError, inside: tuple[str, ...] = ()) -> tuple[tuple[int | str, ...], str]:
    """The path to the first problem, and what was expected and what was found, in words.

    Args:
        inside: the path to the validated table, if it is not a whole file.
    """
    # A value may be a name or a table: the branch of the union that got furthest describes the problem best.
    problem = max(error.errors(), key=lambda each: (len(each["loc"]), each["type"] != "string_type"))
    where = [*inside, *(part for part in problem["loc"] if not re.fullmatch(BRANCH, str(part)))]
    if "schedule" in where[:-1]:
        del where[where.index("schedule") + 1]  # the kind of schedule that was tried
    return tuple(where), _description(problem, where)


def _description(problem: ErrorDetails, where: list[int | str]) -> str:
    if problem["type"] == "extra_forbidden":
        known = _fields_beside(where)
        near = get_close_matches(str(where[-1]), known, n=1, cutoff=0.6)
        return "no such field; " + (f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}")
    if problem["type"].startswith("union_tag"):
        return f"expected kind = {', '.join(map(repr, KINDS))}"
    if problem["type"] == "missing":
        return "this field is missing"
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    secret = bool(where) and "key" in str(where[-1])
    found = "" if secret or isinstance(problem["input"], dict | list) else f", got {problem['input']!r}"
    return f"{expected}{found}"


def _fields_beside(where: list[int | str]) -> list[str]:
    """The fields that the table at this path may have."""
    if len(where) == 1:
        return [*File.model_fields]
    if "timeouts" in where[:-1]:
        return [*TimeoutsTable.model_fields]
    if "schedule" in where[:-1]:
        return [*dict.fromkeys(name for table in SCHEDULES for name in table.model_fields)]
    return [*SECTIONS.get(str(where[0]), File).model_fields]
