"""What a model takes, as a table of moa.toml: ``[models."provider/name"]``; ``[endpoints.NAME]`` has the same keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, field_validator

from moa.config.schema import STRICT, Count
from moa.models.continuations import Continuing
from moa.models.fitting import NEEDED
from moa.models.profile import Profile
from moa.models.prompt_caches import PromptCache


class ProfileTable(BaseModel):
    """The fields of :class:`moa.models.profile.Profile`."""

    model_config = STRICT

    refuses: list[str] = []
    takes: list[str] = []
    rename: dict[str, str] = {}
    only: dict[str, Any] = {}
    extra_body: dict[str, Any] = {}
    roles: dict[str, str] = {}
    images: bool | None = None
    parts: bool | None = None
    tools: bool | None = None
    past_tool_calls: bool | None = None
    system: bool | None = None
    several_system: bool | None = None
    alternates: bool | None = None
    ends_with_assistant: bool | None = None
    user_after_tool: bool | None = None
    reasoning_content: bool | None = None
    json_schema: bool | None = None
    efforts: list[str] | None = None
    context_tokens: Count | None = None
    answer_tokens: Count | None = None
    continuation: Continuing | None = None
    prompt_cache: PromptCache | None = None

    @field_validator("refuses")
    @classmethod
    def _check_refused(cls, value: list[str]) -> list[str]:
        if needed := sorted(NEEDED.intersection(value)):
            raise ValueError(f"{needed[0]} cannot be left out of a request: an answer depends on it")
        return value

    @field_validator("extra_body")
    @classmethod
    def _check_extra(cls, value: dict[str, Any]) -> dict[str, Any]:
        if own := sorted({"model", "messages", "stream", "n"}.intersection(value)):
            raise ValueError(f"{own[0]} is set by each request")
        return value

    def profile(self) -> Profile:
        """The facts of this table."""
        fields = {name: getattr(self, name) for name in ProfileTable.model_fields}
        sets = {name: frozenset(fields[name]) for name in ("refuses", "takes")}
        return Profile(**{**fields, **sets, "efforts": None if self.efforts is None else tuple(self.efforts)})
