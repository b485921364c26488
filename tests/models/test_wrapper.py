from __future__ import annotations

from typing import Any

import pytest

from moa.models import Model
from moa.models.limits import Limited, Limits
from moa.models.retries import Retried
from moa.models.scripted import Scripted

pytestmark = pytest.mark.anyio

NAME = "scripted/a"


class At(Scripted):
    """A scripted model that runs somewhere."""

    def __init__(self, identity: str, script: Any = "hello") -> None:
        super().__init__(script, name=NAME)
        self.identity = identity
        self.provider = "scripted"


@pytest.mark.parametrize("wrap", [Retried, lambda model: Limited(model, Limits())])
def test_a_wrapper_is_a_model_with_the_name_of_the_one_inside(wrap: Any) -> None:
    """A wrapper is a model and passes on who answers, and nothing that would go around it."""
    wrapped: Any = wrap(At("http://here"))
    assert (wrapped.name, wrapped.provider, wrapped.identity) == (NAME, "scripted", "http://here")
    for attribute in ("model_id", "requests"):
        assert not hasattr(wrapped, attribute)
    assert isinstance(wrapped, Model)
