"""Everything this package raises on purpose.

::

    MoaError
    ├── ConfigError            a file, a flag or a name is wrong; nothing was called yet
    │   ├── UnknownName        no such mixture, provider or model; suggests the nearest
    │   └── KeyMissing         the environment variable for an API key is not set
    │       └── AddressMissing the environment variable for an address of the user's own is not set
    ├── ScheduleError          a bug in a custom schedule; raised out of the run
    ├── RequestRejected        the request itself is wrong (empty question, malformed message)
    ├── ModelError             one call to one model failed
    │   ├── Unreachable        no connection
    │   ├── TimedOut           a timeout: connect, first token, or between tokens
    │   ├── KeyRejected        401, 403
    │   ├── CallRejected       400, 404, 422 and other 4xx: a retry will not help
    │   ├── RateLimited        429; holds the time to wait if the server gave one
    │   ├── UpstreamFailed     5xx, or a response that does not follow the API
    │   └── StreamBroken       the answer started and did not complete
    └── RunError               a mixture gave no answer; holds the proposals that were paid for
        ├── NoProposals        too few usable proposals
        ├── AggregatorFailed   the aggregator and all its fallbacks failed
        └── DeadlinePassed     the deadline passed without a proposal to answer from
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from difflib import get_close_matches
from typing import Any, Self

from moa.answers import Answer


class MoaError(Exception):
    """The root of the tree. ``str(error)`` is one line that can be shown to a user; it never holds an API key.

    Attributes:
        billable: whether a provider may bill a call that ended this way; False where the call reached no model.
    """

    billable = False

    def __reduce__(self) -> tuple[Callable[..., MoaError], tuple[Any, ...]]:
        # By default, unpickling calls the class with ``args``, which do not match the parameters of ``__init__`` here.
        return _rebuilt, (type(self), self.args, dict(self.__dict__))


def _rebuilt(kind: type[MoaError], args: tuple[Any, ...], state: Mapping[str, Any]) -> MoaError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(MoaError):
    """A file, a flag or a name is wrong. The message names the value, the place and the remedy."""


class UnknownName(ConfigError):
    """No such mixture, provider or model.

    Attributes:
        statement: the message without ``hint``, which may name a command that only some users have.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        near = get_close_matches(name, list(known), n=1, cutoff=0.5)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        self.statement = f"no {kind} is called {name!r}{suggestion}"
        super().__init__(f"{self.statement} {hint}".rstrip())


class KeyMissing(ConfigError):
    """The environment variable for an API key is not set."""

    def __init__(self, variable: str, needed_by: str) -> None:
        self.variable = variable
        super().__init__(f"{needed_by} needs a key: set the environment variable {variable}")


class AddressMissing(KeyMissing):
    """The environment variable for an address of the user's own is not set."""

    def __init__(self, variable: str, needed_by: str, example: str) -> None:
        super().__init__(variable, needed_by)
        self.args = (f"{needed_by} has no address: set the environment variable {variable} ({example})",)


class ScheduleError(MoaError):
    """A schedule broke its contract. The message begins with its class; ``__cause__`` is the exception that it raised."""


class RequestRejected(MoaError):
    """The request itself is wrong. ``param`` names the field, as in OpenAI's error object."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


class ModelError(MoaError):
    """One call to one model failed.

    Attributes:
        model: ``provider/name``.
        status: the HTTP status; None without a response.
        retry_after: seconds to wait before a retry, if the server gave them.
        retryable: whether the same call may succeed later.
        code: the server's word for what was wrong (``context_length_exceeded``, ``insufficient_quota``, …), if it gave one.
        param: the field of the request that the server named, if it named one.
        of_request: whether the request caused it, and not its server, model or account.
        tried: whether it ended the last of several attempts.
        refusal: the server's error response as it came, without keys; empty without one. It is not for users.
    """

    retryable = False
    tried = False
    billable = True
    of_request = False
    code: str | None = None
    param: str | None = None
    refusal = ""

    def __init__(self, model: str, reason: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        self.model, self.reason, self.status, self.retry_after = model, reason, status, retry_after
        super().__init__(f"{model}: {reason}")


class Unreachable(ModelError):
    """No connection could be made."""

    retryable = True
    billable = False


class TimedOut(ModelError):
    """The server did not respond in time.

    After our own timeout the call is not retried: the server may still work on it, and bill it. A server that answers with
    408 has given the call up itself.
    """

    def __init__(self, model: str, reason: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(model, reason, status=status, retry_after=retry_after)
        self.retryable = status is not None


class KeyRejected(ModelError):
    """401 or 403."""

    billable = False


class CallRejected(ModelError):
    """Another 4xx; a retry will not help."""

    billable = False


class RateLimited(ModelError):
    """429."""

    retryable = True
    billable = False


class UpstreamFailed(ModelError):
    """5xx, or a response that does not follow the API."""

    retryable = True


class StreamBroken(ModelError):
    """The answer started and did not complete: a lost connection, an error event, or no finish reason."""

    retryable = True


class RunError(MoaError):
    """A mixture gave no answer.

    Attributes:
        causes: one line for each agent that failed or was dropped.
        errors: the errors behind these causes.
        answer: the run up to its failure, with every proposal and its cost, on errors that ``Mixture.answer`` and
            ``Mixture.stream`` raise. None on the error of a ``RunFailed`` event: the fold of the run's events is its answer.
    """

    billable = True

    def __init__(self, reason: str, causes: Iterable[str] = (), errors: Iterable[ModelError] = ()) -> None:
        self.reason, self.causes, self.errors = reason, tuple(causes), tuple(errors)
        self.answer: Answer | None = None
        super().__init__("; ".join([reason, *self.causes]))

    def with_answer(self, answer: Answer) -> Self:
        """A copy of this error that holds the answer, to be raised."""
        error = copy(self)
        error.answer = answer
        return error


def model_errors(errors: Iterable[Exception | None]) -> tuple[ModelError, ...]:
    """The errors of single calls among these, and behind the failed runs among these."""
    found: list[ModelError] = []
    for error in errors:
        if isinstance(error, ModelError):
            found.append(error)
        elif isinstance(error, RunError):
            found.extend(error.errors)
    return tuple(found)


class NoProposals(RunError):
    """Fewer usable proposals than ``min_proposals``."""


class AggregatorFailed(RunError):
    """The aggregator and all its fallbacks failed."""


class DeadlinePassed(RunError):
    """The deadline passed without a proposal to answer from."""
