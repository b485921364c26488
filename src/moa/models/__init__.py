"""Everything that answers a request, behind one interface.

A :class:`Model` has a name and one method. An endpoint, an embedded model, a scripted one, a retry or a cache around
another model and a whole mixture all have that interface, so each can replace any other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from moa.messages import Delta, Request
from moa.models.continuations import Continuation as Continuation
from moa.models.continuations import Continuing
from moa.models.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Facts about a model, in addition to its name. :func:`traits_of` fills in fields that are empty.

    Attributes:
        provider: the seller or server; by default the part of the model's name before the first ``/``.
        model_id: the ID that the provider uses; by default the rest of the model's name.
        identity: everything that the model's answers depend on, apart from the request: its ID, its server, its settings.
            Two models with equal identities may share cached answers. By default the model's name.
        continuation: how the model continues a text that it has begun; None where it cannot, or where that is unknown.
        profile: which requests the model takes, as far as that is known.
        may_be_silent: whether it works for minutes before its first word (a mixture, whose own agents come first). No run
            drops such a model for its silence.
        remote: whether its server is outside the user's own network, so that a call may be billed whatever the model's name.
        composite: whether a call of it makes several, as a mixture's does. Such a call is neither hedged nor made to warm a
            cache, since that would make all of them again.
        skip: why callers that can do without the model should not call it now; empty for no reason. It changes with time.
        cached: whether it returns an earlier answer to the same request, so that its requests must repeat from run to run.
        learn_continuation: keeps what a test found out about ``continuation``, a value of
            :data:`~moa.models.continuations.Continuing`; None where that is known.
    """

    provider: str = ""
    model_id: str = ""
    identity: str = ""
    continuation: Continuation | None = None
    profile: Profile = field(default_factory=Profile)
    may_be_silent: bool = False
    remote: bool = False
    composite: bool = False
    skip: str = ""
    cached: bool = False
    learn_continuation: Callable[[Continuing], None] | None = field(default=None, compare=False)


@runtime_checkable
class Model(Protocol):
    """Answers requests. These two members are enough; a model may also have traits, see :class:`ModelWithTraits`."""

    @property
    def name(self) -> str:
        """``provider/name``, as a user writes it."""
        ...

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer.

        The stream yields a ``finish_reason`` before it ends; otherwise it raises. Deltas after the finish reason carry
        usage, cost and calls only. Closing the generator cancels the call. The request is not changed.

        It must not block the event loop: all agents of a mixture share one. Run blocking work in a thread, as
        :class:`moa.Function` does.

        Raises:
            ModelError: the call failed; see :mod:`moa.errors` for the kinds.
        """
        ...


@runtime_checkable
class ModelWithTraits(Model, Protocol):
    """A model that declares its traits. All models of this package do."""

    @property
    def traits(self) -> Traits:
        """Facts about the model; callers read them with :func:`traits_of`."""
        ...


def traits_of(model: Model) -> Traits:
    """The traits of any model: those it declares, with defaults made from its name."""
    # Not isinstance(model, ModelWithTraits): each check of a protocol reads the property, and every wrapper doubles that.
    declared = getattr(model, "traits", None)
    if not isinstance(declared, Traits):
        declared = Traits()
    # An attribute ``continuation`` alone declares it, too.
    continuation = declared.continuation or getattr(model, "continuation", None)
    if declared.provider and declared.model_id and declared.identity and declared.continuation == continuation:
        return declared
    provider, _, model_id = model.name.partition("/")
    return replace(
        declared,
        provider=declared.provider or provider,
        model_id=declared.model_id or model_id,
        identity=declared.identity or model.name,
        continuation=continuation,
    )
