"""The tables of a moa.toml: mixtures, endpoints and prices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from moa.config.calibration import CalibrationTable
from moa.config.profile_table import ProfileTable
from moa.config.schedules import AnySchedule
from moa.config.schema import STRICT, Count, Positive
from moa.mixture.aggregation import AggregationName
from moa.mixture.asking import SAMPLING
from moa.mixture.effort import LevelName
from moa.mixture.plan import Fanout
from moa.mixture.prompts import Place
from moa.mixture.silence import PATIENCE
from moa.mixture.when import When
from moa.models.answer_store import DAYS, MEGABYTES
from moa.models.breaker import Breaking
from moa.models.endpoint import Timeouts
from moa.models.provider import Api

SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "cookie")


class Table(BaseModel):
    """A table without unknown fields."""

    model_config = STRICT


class AgentTable(Table):
    """``{ model = …, name = …, persona = …, temperature = …, … }``. Every other field is sampling, sent with each call."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    name: str = ""
    persona: str | None = None

    @property
    def sampling(self) -> Mapping[str, Any]:
        """The fields that are sent with each call."""
        return self.model_extra or {}

    @model_validator(mode="after")
    def _check_spelling(self) -> Self:
        for name in self.sampling:
            near = get_close_matches(name, [*SAMPLING, "persona", "name", "fallbacks"], n=1, cutoff=0.85)
            if near and name not in SAMPLING:
                raise ValueError(f"no such field {name!r}; did you mean {near[0]!r}?")
        return self


class AggregatorTable(AgentTable):
    """An agent, and the agents that replace it if it fails."""

    fallbacks: list[str | AgentTable] = []


class LevelTable(Table):
    """A level of ``[mixtures.NAME.effort]``; :class:`~moa.mixture.effort.Level` and its panel have the fields."""

    model: str | AgentTable | None = None
    only: Annotated[list[str], Field(min_length=1)] | None = None
    without: Annotated[list[str], Field(min_length=1)] | None = None
    aggregator: str | None = None
    layers: Annotated[int, Field(ge=0)] | None = None
    when: When | None = None
    samples: Count | None = None
    rounds: Count | None = None
    reasoning_effort: str | None = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        others = sorted(self.model_fields_set - {"model", "reasoning_effort"})
        if self.model is not None and others:
            raise ValueError(f"model answers alone, so {others[0]} has no meaning; remove one of them")
        return self


class MixtureTable(Table):
    """``[mixtures.NAME]``: seconds and US dollars; :class:`moa.Mixture` describes the fields."""

    description: str = ""
    layers: list[Annotated[list[str | AgentTable], Field(min_length=1)]] = []
    aggregator: str | AggregatorTable | None = None
    aggregate: AggregationName = "synthesize"
    analysis: bool = False
    window: Count | None = None
    weights: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    calibration: CalibrationTable | None = None
    references: Place = "user"
    anonymous: bool = True
    prompt: str | None = None
    prompt_file: str | None = None
    schedule: AnySchedule | None = None
    exact: bool = False
    min_proposals: Count = 1
    deadline: Positive | None = None
    patience: Positive | None = PATIENCE
    max_cost: Positive | None = None
    reads: Count | Literal["all-layers"] | None = None
    rounds: Count = 1
    keep: Count | None = None
    fanout: Fanout = "turn"
    progress: bool = False
    when: When = "always"
    first: Annotated[int, Field(ge=2)] | None = None
    effort: dict[LevelName, LevelTable] = {}
    local_only: bool = False

    @property
    def fallbacks(self) -> list[str | AgentTable]:
        """Agents that replace the aggregator if it fails, in order."""
        return self.aggregator.fallbacks if isinstance(self.aggregator, AggregatorTable) else []

    @property
    def alone(self) -> dict[str, str | AgentTable]:
        """The agents that answer alone, by the level of effort at which they do."""
        return {name: level.model for name, level in self.effort.items() if level.model is not None}

    @model_validator(mode="after")
    def _check_aggregation(self) -> Self:
        for key in ("analysis", "window"):
            if (value := getattr(self, key)) and self.aggregate != "synthesize":
                raise ValueError(
                    f'{key} is {value!r}, which belongs to aggregate = "synthesize", not {self.aggregate!r}'
                )
        return self

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if self.prompt is not None and self.prompt_file is not None:
            raise ValueError("give prompt or prompt_file, not both")
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights and self.aggregate not in ("vote", "mux"):
            raise ValueError(f'weights belongs to aggregate = "vote" or "mux", not {self.aggregate!r}')
        if self.calibration and self.aggregate != "vote":
            raise ValueError(f'calibration belongs to aggregate = "vote", not {self.aggregate!r}')
        return self


class TimeoutsTable(Table):
    """Seconds of silence; see :class:`~moa.models.endpoint.Timeouts`."""

    connect: Positive | None = Timeouts().connect
    first_token: Positive | None = Timeouts().first_token
    stall: Positive | None = Timeouts().stall


class BreakerTable(Table):
    """``circuit_breaker``; see :class:`~moa.models.breaker.Breaking`."""

    failures: Count = Breaking().failures
    seconds: Positive = Breaking().seconds


class ModelTable(ProfileTable):
    """``[models."provider/name"]``; :class:`~moa.models.profile.Profile` has the other fields."""

    circuit_breaker: Literal[False] | BreakerTable | None = None


def breaking(table: Literal[False] | BreakerTable) -> Breaking | None:
    """When a model is skipped; None for never."""
    return Breaking(table.failures, table.seconds) if table else None


class EndpointTable(ProfileTable, Table):
    """``[endpoints.NAME]``; :class:`~moa.models.catalog.Access` and :class:`~moa.models.profile.Profile` have the fields."""

    base_url: str | None = None
    api_key_env: str | None = None
    api: Api | None = None
    api_key_command: Annotated[list[str], Field(min_length=1)] | None = None
    auth_header: str | None = None
    headers: dict[str, str] = {}
    max_concurrency: Count | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    timeouts: TimeoutsTable = TimeoutsTable()
    attempts: Count = 3
    cache: bool = False
    circuit_breaker: Literal[False] | BreakerTable = BreakerTable()

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^\s/@]+(/\S*)?$", value):
            raise ValueError("expected http://… or https://…, without a user name or a key in it")
        return value

    @field_validator("auth_header")
    @classmethod
    def _check_header(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
            raise ValueError('expected the name of a header, such as "api-key"')
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        secret = [name for name in value if name.lower() in SECRET_HEADERS]
        if secret:
            header = "" if secret[0].lower() == "authorization" else f' and set auth_header = "{secret[0]}"'
            raise ValueError(
                f"{secret[0]} holds a key; put the name of its environment variable into api_key_env instead{header}"
            )
        return value

    @field_validator("api_key_env")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # The error does not repeat the value: it may be the key itself.
            raise ValueError("expected the name of an environment variable, not a key")
        return value

    @model_validator(mode="after")
    def _check_one_key(self) -> Self:
        if self.api_key_env is not None and self.api_key_command is not None:
            raise ValueError("give api_key_env or api_key_command, not both")
        return self


class CacheTable(Table):
    """``[cache]``: bounds of the cached answers; see :class:`~moa.models.answer_store.Cache`."""

    megabytes: Positive = MEGABYTES
    days: Positive = DAYS


class PriceTable(Table):
    """US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", strict=False)

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached: Annotated[float, Field(ge=0)] | None = None


class File(Table):
    """A whole moa.toml. ``parameters`` are billions that are active for a token, by model name; ``usage`` is whose tokens
    a server's responses count.
    """

    default: str | None = None
    endpoints: dict[str, EndpointTable] = {}
    mixtures: dict[str, MixtureTable] = {}
    prices: dict[str, PriceTable] = {}
    cache: CacheTable = CacheTable()
    models: dict[str, ModelTable] = {}
    parameters: dict[str, Annotated[float, Field(gt=0, strict=False)]] = {}
    list: Literal["mixtures", "all"] = "mixtures"
    small: str | None = None
    usage: Literal["answer", "all"] = "answer"
