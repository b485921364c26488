"""One switch that forbids real calls, for tests of programs that use this package.

::

    moa.forbid_real_calls()                # in conftest.py: for the whole process, from here on

    with moa.allow_real_calls():           # in a test that needs real calls
        ...

While real calls are forbidden, every call to an :class:`~moa.models.endpoint.Endpoint` (wherever it is) or an
:class:`~moa.models.embedded.EmbeddedModel` raises :class:`~moa.errors.ModelError` before anything is sent or loaded.
:class:`~moa.models.scripted.Scripted`, :class:`~moa.models.recorded.Recorded` and :class:`~moa.models.function.Function`
models still answer.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from moa.errors import ModelError

_forbidden = False


def forbid_real_calls() -> AbstractContextManager[object]:
    """Forbid real calls in this process. As a context manager, restore the previous setting at its end."""
    return _set(True)


def allow_real_calls() -> AbstractContextManager[object]:
    """Allow real calls again. As a context manager, restore the previous setting at its end."""
    return _set(False)


def check_real_call(model: str) -> None:
    """Every model that is about to reach a server or load weights calls this first.

    Raises:
        ModelError: real calls are forbidden.
    """
    if _forbidden:
        raise ModelError(
            model, "real calls are forbidden here; use moa.Scripted or moa.Function, or moa.allow_real_calls()"
        )


def _set(forbidden: bool) -> AbstractContextManager[object]:
    global _forbidden
    restoring = ExitStack()
    restoring.callback(_set, _forbidden)
    _forbidden = forbidden
    return restoring
