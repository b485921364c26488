"""The front desk: whether a caller may use the server, which models, and which runs are the caller's."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request

from moa.errors import ConfigError
from moa.server.failures import Refusal
from moa.server.keys import Key, Keys

ANYONE = Key("anyone", "")
"""Every caller of a server without keys."""


class Desk:
    """Callers, and what they may use.

    Args:
        keys: the callers' keys; None lets anyone use the server.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def caller(self, request: Request) -> Key:
        """The key of a request.

        Raises:
            Refusal: 401, the key is missing, unknown or has expired; 503, the file of keys is damaged.
        """
        if self._keys is None or not self._keys.apply:
            return ANYONE
        secret = _secret(request)
        try:
            key = self._keys.find(secret) if secret else None
        except ConfigError:
            message = "the server cannot read its API keys; retry later"
            raise Refusal(503, message, "server_error", "keys_unreadable", retry_after=1) from None
        if key is None:
            message = "missing or unknown API key: send it as 'Authorization: Bearer …' or 'x-api-key: …'"
            raise Refusal(401, message, "authentication_error", "invalid_api_key")
        request.state.key = key  # for the log
        return _in_time(key)

    def has(self, owner: str) -> bool:
        """Whether an owner's work is done here: that of keys where callers need one, else that of callers without keys."""
        return (self._keys is not None and self._keys.apply) == bool(owner)

    def key_of(self, owner: str) -> Key:
        """The key of an owner, for work that outlives its request.

        Raises:
            Refusal: 401, the key was removed or has expired.
        """
        if not owner:
            return ANYONE
        key = self._keys.of_id(owner) if self._keys else None
        if key is None:
            raise Refusal(401, "this API key was removed", "authentication_error", "invalid_api_key")
        return _in_time(key)

    def owner(self, key: Key) -> str:
        """The owner of a key's runs; without keys all callers share one."""
        return "" if key is ANYONE else key.id

    def check_models(self, key: Key, models: Iterable[str]) -> None:
        """Check that a key may call all these models, mixtures or single ones. The members of a mixture that the operator
        has configured are not checked: a caller cannot choose them.

        Raises:
            Refusal: 403 in OpenAI's form, it may not.
        """
        for model in models:
            if not key.may_call(model):
                message = f"key {key.name!r} does not have access to model {model!r}"
                raise Refusal(403, message, code="model_not_found", param="model")


def _in_time(key: Key) -> Key:
    if key.has_ended():
        message = f"this API key has expired ({key.until}, UTC): the operator of this server can make another"
        raise Refusal(401, message, "authentication_error", "expired_key")  # the code is LiteLLM's
    return key


def _secret(request: Request) -> str:
    """The secret of a request's key: a bearer token, or ``x-api-key``, which clients of Anthropic's API send."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if kind.lower() == "bearer" else ""
    return bearer or request.headers.get("x-api-key", "").strip()
