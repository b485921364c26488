"""A vendor's own API as an endpoint with models, in place of a Chat Completions server."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

from moa.closing import AsyncClosing
from moa.errors import CallRejected, ConfigError, KeyRejected, ModelError, UpstreamFailed
from moa.messages import Delta, Request
from moa.models import Traits
from moa.models.connection import Silence
from moa.models.credential import Credential, KeySource
from moa.models.endpoint import Timeouts
from moa.models.learning import Learning
from moa.models.profile import Profile
from moa.models.provider import Api
from moa.models.real_calls import check_real_call
from moa.models.redaction import secrets_in
from moa.models.trace_context import TRACE_HEADERS
from moa.models.vendors.answers import AnswerReader
from moa.models.vendors.failures import failure_of
from moa.models.vendors.requests import CannotSend, details_of, messages_of, parameters_of, settings_of
from moa.models.vendors.sdks import INSTALL, RESPONSES, client_of, is_installed, model_of
from moa.prices import Prices

if TYPE_CHECKING:
    from pydantic_ai.providers import Provider

Opened: TypeAlias = "tuple[Provider[Any], Callable[[], Awaitable[object]]]"
"""A client, and what closes it."""

OF_VENDORS = Profile(continuation="turns", ends_with_assistant=False, past_tool_calls=True)
"""What every model takes here. What single models refuse, ``pydantic-ai`` knows; the rest is learned."""

KEPT = 1000
"""Answers with tool calls whose reasoning details are kept, for clients that do not send them back."""


class VendorEndpoint(AsyncClosing):
    """A vendor's own API: an address, a key, and the clients for it, one for each event loop and key.

    Args:
        name: the part before the slash in its models' names.
        api: what it speaks.
        base_url: its address; None for the SDK's own.
        api_key: as :class:`~moa.models.endpoint.Endpoint` documents it; None where the SDK finds credentials by itself.
        headers: sent with every call, except to Bedrock.
        timeouts: how long silence may last.
        region: of Bedrock.
        prices: give the cost of calls that write to the vendor's prompt cache.
        profile_of: what is known of a model, by its ID.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(
        self,
        name: str,
        api: Api,
        base_url: str | None = None,
        *,
        api_key: KeySource = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        region: str | None = None,
        prices: Prices | None = None,
        profile_of: Callable[[str], Profile] = lambda model_id: OF_VENDORS,
    ) -> None:
        if not is_installed(api):
            raise ConfigError(f"{name} is called through its own API: install what it needs with {INSTALL}")
        self.name, self.api, self.base_url, self.timeouts = name, api, base_url, timeouts or Timeouts()
        self.credential, self.prices, self.headers = Credential(api_key), prices or Prices(), dict(headers or {})
        self.kept = OrderedDict[str, Any]()
        self._region, self._profile_of, self._learned = region, profile_of, dict[str, Profile]()
        self._open: dict[tuple[asyncio.AbstractEventLoop, str | None], Opened] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.api!r})"

    def model(self, model_id: str) -> Learning:
        """The model that this vendor calls ``model_id``, which gets what it takes and learns from refusals."""
        return Learning(VendorModel(self, model_id), self._profile_of(model_id), memory=self._learned)

    @property
    def secrets(self) -> list[str]:
        """The keys that the vendor may quote."""
        return [*secrets_in(self.headers, self.base_url or ""), *self.credential.secrets]

    async def models(self) -> list[str]:
        """The IDs of its models, in its order.

        Raises:
            ModelError: the vendor cannot be reached, refuses, or has no list in this API.
        """
        check_real_call(self.name)
        if self.api == "bedrock":
            raise UpstreamFailed(self.name, "Bedrock's runtime has no list of models: see its console")
        provider: Any = await self.provider(await self.credential.key(self.name))
        try:
            async with asyncio.timeout(self.timeouts.first_token):
                pages = (
                    await provider.client.aio.models.list() if self.api == "google" else provider.client.models.list()
                )
                names = [str(model.name if self.api == "google" else model.id) async for model in pages]
            return [name.removeprefix("models/") for name in names]
        except Exception as error:
            raise failure_of(self.name, error, self.secrets, began=False) from None

    async def aclose(self) -> None:
        """Close the clients made in the running event loop. A later call opens new ones."""
        loop = asyncio.get_running_loop()
        for place in [place for place in self._open if place[0] is loop]:
            await self._open.pop(place)[1]()

    async def provider(self, key: str | None) -> Provider[Any]:
        """The SDK's client for a key, as ``pydantic-ai`` wraps it."""
        place = (asyncio.get_running_loop(), key)
        if place not in self._open:
            for other in [other for other in self._open if other[0].is_closed()]:
                del self._open[other]
            opened = await asyncio.to_thread(client_of, self.api, self.base_url, key, self._region)
            if place in self._open:
                await opened[1]()  # another call was faster
            else:
                self._open[place] = opened
        return self._open[place][0]

    def keep(self, call: str, details: Any) -> None:
        """Remember the reasoning details of an answer by its first tool call."""
        self.kept[call] = details
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)


async def _close_all(responses: Iterable[Any]) -> None:
    for response in responses:
        await response.aclose()


class VendorModel:
    """One model of a :class:`VendorEndpoint`; a :class:`~moa.models.Model`."""

    def __init__(self, endpoint: VendorEndpoint, model_id: str) -> None:
        self.provider, self.model_id, self._endpoint = endpoint.name, model_id, endpoint

    @property
    def name(self) -> str:
        """``provider/model_id``."""
        return f"{self.provider}/{self.model_id}"

    @property
    def traits(self) -> Traits:
        """Its identity is its API, the address and the ID there."""
        place = self._endpoint.base_url or self._endpoint.api
        return Traits(
            provider=self.provider, model_id=self.model_id, identity=f"{place} {self.model_id}", continuation="turns"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Stream the answer; as :meth:`moa.models.endpoint.EndpointModel.stream`.

        Raises:
            ModelError: of every kind; see :mod:`moa.errors`.
        """
        check_real_call(self.name)
        key = await self._endpoint.credential.key(self.name)
        for attempt in (1, 2):
            answer = AnswerReader(self.name, request)
            try:
                async with aclosing(self._deltas(request, key, answer)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except KeyRejected as error:
                if attempt == 2 or answer.began or error.status != 401 or not self._endpoint.credential.expire(key):
                    raise
            except ModelError:
                if answer.began:
                    yield answer.bill(self._endpoint.prices)
                raise
            key = await self._endpoint.credential.key(self.name)

    async def _deltas(self, request: Request, key: str | None, answer: AnswerReader) -> AsyncGenerator[Delta, None]:
        """The deltas of one attempt, with the usage.

        Raises:
            ModelError: it fails, or it broke off, or the vendor was silent for too long.
        """
        endpoint = self._endpoint
        silence = Silence(endpoint.timeouts.first_token)
        try:
            provider = await endpoint.provider(key)
            vendor = model_of(endpoint.api, self.model_id, provider)
            from pydantic_ai.direct import model_request_stream

            try:
                settings, parameters = settings_of(request, vendor), parameters_of(request, vendor)
                history = messages_of(request, endpoint.api, provider.name, endpoint.kept)
            except (KeyError, TypeError, AttributeError) as error:
                malformed = f"a part of it is not in the form of OpenAI's API ({type(error).__name__}: {error})"
                raise CannotSend(malformed) from None
            headers = {**TRACE_HEADERS.get(), **endpoint.headers}
            if headers and "extra_headers" not in vendor.unsupported_settings:
                settings["extra_headers"] = headers
            responses: list[Any] = []
            RESPONSES.set(responses)
            silence.restart(endpoint.timeouts.first_token)  # the imports are not the vendor's silence
            async with AsyncExitStack() as open_stream:
                open_stream.push_async_callback(_close_all, responses)
                async with silence.limited():
                    opened = model_request_stream(
                        vendor,
                        history,
                        model_settings=settings,
                        model_request_parameters=parameters,
                    )
                    stream = await open_stream.enter_async_context(opened)
                open_stream.push_async_callback(stream.cancel)  # of no effect once the stream has ended
                answer.stream, events = stream, aiter(stream)
                while True:
                    try:
                        async with silence.limited():
                            event = await anext(events)
                    except StopAsyncIteration:
                        break
                    if delta := answer.read(event):
                        yield delta
                        silence.restart(endpoint.timeouts.stall)
                details = details_of(stream.get().parts, endpoint.api)
                if details and answer.first_call:
                    endpoint.keep(answer.first_call, details)
                if details:
                    yield Delta(extra={"reasoning_details": details})
                yield answer.end()
        except ModelError:
            raise
        except TimeoutError:
            raise silence.error(self.name) from None
        except ImportError as error:
            raise CallRejected(self.name, f"{error.name} is missing: install what it needs with {INSTALL}") from None
        except Exception as error:
            raise failure_of(self.name, error, endpoint.secrets, began=answer.began) from error
        yield await asyncio.to_thread(answer.bill, endpoint.prices)
