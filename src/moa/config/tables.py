"""The tables of a moa.toml, and what is said when something in one is wrong: file, line, field, way out."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from moa.config.names import wrong_name
from moa.errors import ConfigError
from moa.models.endpoint import Timeouts

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "seed", "stop"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "reasoning_effort", "logit_bias", "extra_body"),
)


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AgentTable(Table):
    """``{ model = …, name = …, persona = …, temperature = …, … }``; what is not named here is sampling."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    name: str = ""
    persona: str | None = None

    @model_validator(mode="after")
    def _no_misspelt_sampling(self) -> Self:
        for name in self.model_extra or {}:
            near = get_close_matches(name, [*SAMPLING, "persona", "name", "fallbacks"], n=1, cutoff=0.85)
            if near and name not in SAMPLING:
                raise ValueError(f"{name!r} is no field; did you mean {near[0]!r}?")
        return self


class AggregatorTable(AgentTable):
    fallbacks: list[str | AgentTable] = []


class _ScheduleTable(Table):
    early_exit: Annotated[float, Field(gt=0, le=1)] | None = None
    exit_with: Literal["central", "aggregate"] = "central"


class BarrierTable(_ScheduleTable):
    kind: Literal["barrier"]
    warm: bool = False


class QuorumTable(_ScheduleTable):
    kind: Literal["quorum"]
    usable: Count
    grace: Annotated[float, Field(ge=0)] = 0.0
    deadline: Positive | None = None
    require: list[str] = []
    hedge: Positive | None = None


class StaircaseTable(_ScheduleTable):
    kind: Literal["staircase"]
    chunks: Annotated[list[Count], Field(min_length=1)] = [32, 128, 384]
    writes: list[Count] | None = None
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _that_grows(self) -> Self:
        writes = self.writes if self.writes is not None else self.chunks
        if len(writes) != len(self.chunks) or sorted(self.chunks) != self.chunks or sorted(writes) != writes:
            raise ValueError("chunks must grow, and writes too, with as many figures as chunks")
        return self


SCHEDULES: dict[str, type[Table]] = {"barrier": BarrierTable, "quorum": QuorumTable, "staircase": StaircaseTable}


class MixtureTable(Table):
    description: str = ""
    layers: Annotated[list[Annotated[list[str | AgentTable], Field(min_length=1)]], Field()] = []
    aggregator: str | AggregatorTable | None = None
    aggregate: Literal["synthesize", "select", "central"] = "synthesize"
    references: Literal["user", "system"] = "user"
    anonymous: bool = True
    prompt: str | None = None
    prompt_file: str | None = None
    schedule: Annotated[BarrierTable | QuorumTable | StaircaseTable, Field(discriminator="kind")] | None = None
    exact: bool = False
    min_proposals: Count = 1
    deadline: Positive | None = None
    max_cost: Positive | None = None
    fanout: Literal["turn", "every"] = "turn"
    progress: bool = False

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if self.prompt is not None and self.prompt_file is not None:
            raise ValueError("give prompt or prompt_file, not both")
        return self


class TimeoutsTable(Table):
    connect: Positive | None = Timeouts().connect
    first_token: Positive | None = Timeouts().first_token
    stall: Positive | None = Timeouts().stall


class EndpointTable(Table):
    base_url: str | None = None
    api_key_env: str | None = None
    headers: dict[str, str] = {}
    max_concurrency: Count | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    timeouts: TimeoutsTable = TimeoutsTable()
    attempts: Count = 3
    continuation: Literal["prefix", "vllm", "flag", "turns", "none"] | None = None
    cache: bool = False

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^\s/@]+(/\S*)?$", value):
            raise ValueError("expected http://… or https://…, without a user name or a key in it")
        return value

    @field_validator("headers")
    @classmethod
    def _no_keys(cls, value: dict[str, str]) -> dict[str, str]:
        secret = [name for name in value if name.lower() in ("authorization", "api-key", "x-api-key", "cookie")]
        if secret:
            raise ValueError(
                f"{secret[0]} holds a key; name the environment variable that has it in api_key_env instead"
            )
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # The value is not shown: it may be the key itself.
            raise ValueError("expected the name of an environment variable, not a key")
        return value


class PriceTable(Table):
    model_config = ConfigDict(extra="forbid", strict=False)

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached: Annotated[float, Field(ge=0)] | None = None


class File(Table):
    default: str | None = None
    endpoints: dict[str, EndpointTable] = {}
    mixtures: dict[str, MixtureTable] = {}
    prices: dict[str, PriceTable] = {}
    parameters: dict[str, Annotated[float, Field(gt=0, strict=False)]] = {}


def read(path: Path) -> File:
    """The tables of a file; raises ConfigError, in one line, for the first thing that is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = place[1] if place else str(text.count("\n") + 1)
        raise ConfigError(f"{path}:{line}: not valid TOML: {str(error).split(' (at ')[0]}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        file = File.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_told(path, text, error)) from None
    for kind, names in (("mixture", file.mixtures), ("endpoint", file.endpoints)):
        for name in names:
            if why := wrong_name(name):
                line = line_of(text, (f"{kind}s", name))
                raise ConfigError(f"{path}:{line}: the name of {kind} {name!r} {why}")
    return file


BRANCH = r"str|\w+Table|function-after\[.*"
"""What pydantic puts into the path of an error for the branch of a union that it tried."""


def _told(path: Path, text: str, error: ValidationError) -> str:
    """The first thing that is wrong with a file: where it is, what was expected, what is there."""
    where, told = problem_of(error)
    return f"{path}:{line_of(text, where)}: {'.'.join(map(str, where))}: {told}"


def problem_of(error: ValidationError, inside: tuple[str, ...] = ()) -> tuple[tuple[int | str, ...], str]:
    """The first thing that is wrong with tables: the path to it, and what was expected and what is there, in words.

    Args:
        inside: the path to the table that was read, where it is not a whole file.
    """
    # Of the branches of a union (a name or a table), the one that came furthest knows best.
    problem = max(error.errors(), key=lambda each: (len(each["loc"]), each["type"] != "string_type"))
    where = [*inside, *(part for part in problem["loc"] if not re.fullmatch(BRANCH, str(part)))]
    if "schedule" in where[:-1]:
        del where[where.index("schedule") + 1]  # the kind of schedule that it was read as
    return tuple(where), _expectation(problem, where)


def _expectation(problem: ErrorDetails, where: list[int | str]) -> str:
    if problem["type"] == "extra_forbidden":
        known = _fields_beside(where)
        near = get_close_matches(str(where[-1]), known, n=1, cutoff=0.6)
        return "no such field; " + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}")
    if problem["type"].startswith("union_tag"):
        return f"expected kind = {', '.join(map(repr, SCHEDULES))}"
    if problem["type"] == "missing":
        return "this field is missing"
    expected = (
        problem["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("Field required", "is required")
    )
    secret = "key" in str(where[-1]) if where else False
    found = "" if secret or isinstance(problem["input"], dict | list) else f", got {problem['input']!r}"
    return f"{expected}{found}"


def _fields_beside(where: list[int | str]) -> list[str]:
    tables: dict[str, type[Table]] = {"mixtures": MixtureTable, "endpoints": EndpointTable, "prices": PriceTable}
    if len(where) == 1:
        return [*File.model_fields]
    if "timeouts" in where[:-1]:
        return [*TimeoutsTable.model_fields]
    if "schedule" in where[:-1]:
        return [*dict.fromkeys(name for table in SCHEDULES.values() for name in table.model_fields)]
    return [*tables.get(str(where[0]), File).model_fields]


KEY = r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*"""
"""A key of TOML, bare, quoted or dotted."""


def line_of(text: str, path: tuple[int | str, ...]) -> int:
    """The line of a TOML file, from 1, where the value at this path stands, as near as it can be told."""
    names = [part for part in path if isinstance(part, str)]
    best, depth, table = 1, 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(rf"\s*\[{{1,2}}{KEY}\]", line):
            here = table = _parts(header[1])
        elif key := re.match(rf"{KEY}=", line):
            here = [*table, *_parts(key[1])]
        else:
            continue
        if len(here) > depth and here == names[: len(here)]:
            best, depth = number, len(here)
    return best


def _parts(key: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(r""""[^"]*"|'[^']*'|[\w-]+""", key)]


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8 text"
