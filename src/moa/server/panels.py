"""The part of a mixture that answers a request: by the request's ``moa`` object, or by its effort."""

from __future__ import annotations

from moa.errors import ConfigError
from moa.messages import Request
from moa.mixture.mixture import Mixture
from moa.mixture.panel import Panel, PanelError
from moa.server.failures import Refusal


def suited(mixture: Mixture, request: Request, panel: Panel) -> Mixture:
    """The part of the mixture that answers; the mixture itself where the request chooses nothing.

    Raises:
        Refusal: 400, a name is no member's, nothing is left, or ``when`` does not fit.
    """
    try:
        return mixture.suited(request, panel)
    except ConfigError as error:
        field = error.field if isinstance(error, PanelError) else "when"
        raise Refusal(400, str(error), param=f"moa.{field}", code="invalid_value", private=True) from None
