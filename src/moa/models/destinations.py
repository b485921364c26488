"""Where the text of a call goes: to this machine, or to which maker.

Notable decisions:
- Only this machine is local: a server elsewhere in a private network has other readers, and other logs.
- What cannot be known counts as elsewhere: a provider made by Python code, which may call anything.
- A gateway on this machine may pass text on. Nothing here can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from moa.models.provider import Provider, is_loopback

_CLOUD = ("-cloud", ":cloud")
"""Ends of names of Ollama's models that its local server calls on ollama.com: https://docs.ollama.com/cloud"""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a model's text goes.

    Attributes:
        name: for readers: a maker's label, an endpoint's name, or ``this machine``.
        host: the host of an endpoint that is no known provider; empty otherwise.
        local: whether it is this machine.
    """

    name: str
    host: str = ""
    local: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.host})" if self.host else self.name


HERE = Destination("this machine", local=True)


def destination_of(provider: str, model_id: str, base_url: str | None, known: Provider | None) -> Destination:
    """Where the text of a call to an endpoint goes.

    Args:
        provider: the endpoint's name.
        model_id: the server's name for the model.
        base_url: its address; None where that is not known.
        known: the row of a provider known by name, whose address this is.
    """
    host = urlsplit(base_url or "").hostname
    if is_loopback(host):
        if provider == "ollama" and model_id.endswith(_CLOUD):
            return Destination("Ollama's cloud")
        return HERE
    if known and not known.local:
        return Destination(known.label)
    return Destination(provider, host or "")
