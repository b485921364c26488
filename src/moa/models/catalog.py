"""Models by name (``provider/name``); each provider's connection is opened once and shared by all its models."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial

from moa.closing import AsyncClosing
from moa.errors import ConfigError, KeyMissing, UnknownName
from moa.models import Model
from moa.models.breaker import Breaker, Breaking
from moa.models.cache import Cache, Cached
from moa.models.continuations import Continuing
from moa.models.credential import KeySource, command_key
from moa.models.destinations import HERE, Destination, destination_of
from moa.models.endpoint import Endpoint, Timeouts
from moa.models.limits import Limited, Limits
from moa.models.plugins import plugin, plugin_names
from moa.models.profile import Profile
from moa.models.profiles import profile_at
from moa.models.provider import Api, Provider, is_remote
from moa.models.providers import PROVIDERS
from moa.models.retries import Retried
from moa.models.vendors.endpoint import OF_VENDORS, VendorEndpoint
from moa.prices import Prices


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an endpoint, and the limits of calls to it.

    Attributes:
        base_url: the address of any OpenAI-compatible server; None for a provider known by name.
        api_key_env: the environment variable that holds its API key; None for no key, or for the known provider's variable.
        api_key_command: a program and its arguments that print the key, run without a shell; see
            :class:`~moa.models.credential.Credential`.
        api: what the server speaks; None for a known provider's, or Chat Completions.
        auth_header: the header that holds the key; None for a known provider's, or ``Authorization``.
        headers: sent with every request; not for keys.
        max_concurrency: concurrent calls.
        requests_per_minute, tokens_per_minute: shared by all models of the endpoint in this process.
        timeouts: seconds.
        attempts: the most attempts of a call that fails before it begins to answer, the first included.
        profile: what its models take, in addition to what is known of them.
        cache: whether complete answers are stored on disk and returned again for the same request.
        breaking: when a model of it that keeps failing is skipped; None for never.
    """

    base_url: str | None = None
    api_key_env: str | None = None
    api_key_command: Sequence[str] | None = None
    api: Api | None = None
    auth_header: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    max_concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    attempts: int = 3
    profile: Profile = field(default_factory=Profile)
    cache: bool = False
    breaking: Breaking | None = field(default_factory=Breaking)


Around = Callable[[str, Access, Model], Model]
"""Wraps a model of an endpoint, of this name and access."""


class Catalog(AsyncClosing):
    """Makes models by name, and closes everything that it opened.

    Args:
        endpoints: endpoints by name, in addition to the known providers; they override known providers of the same name.
        profiles: what single models take, by ``provider/name``, where ``*`` stands for anything; overrides what is known of
            them and of their endpoint.
        breaking: when single models that keep failing are skipped, by ``provider/name``, where ``*`` stands for anything.
        cache: opens the store of answers, for endpoints with ``cache``.
        on_notice: receives a line about each step that takes time (loading or downloading weights).
        ways: how models continue a text, as tests have found it; by default in this process alone.
        prices: gives the user's prices, for calls whose cost needs more than their usage.
        around: wraps each model of an endpoint, inside its retries: it sees every call, and may delay it. It gets the
            endpoint's name, its access and the model.
        environ: the environment variables that hold the API keys.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Access] | None = None,
        *,
        profiles: Mapping[str, Profile] | None = None,
        breaking: Mapping[str, Breaking | None] | None = None,
        cache: Callable[[], Cache] | None = None,
        on_notice: Callable[[str], None] | None = None,
        ways: MutableMapping[str, Continuing] | None = None,
        prices: Callable[[], Prices] = Prices,
        around: Around | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._around = around
        self._access, self._profiles = dict(endpoints or {}), dict(profiles or {})
        self._breaking = dict(breaking or {})
        self._make_cache = cache
        self._cache: Cache | None = None
        self._on_notice, self._environ = on_notice, environ
        self._prices = prices
        self._ways: MutableMapping[str, Continuing] = {} if ways is None else ways
        self._endpoints: dict[str, tuple[Endpoint | VendorEndpoint, Limits]] = {}
        self._models: dict[str, Model] = {}
        self._makers: dict[str, Callable[[str], Model]] = {"local": self._embedded}
        self._local = set[str]()
        self._open = AsyncExitStack()

    @property
    def providers(self) -> list[str]:
        """The names that may stand before the first slash."""
        return list(dict.fromkeys([*self._makers, *self._access, *PROVIDERS, *plugin_names()]))

    def is_made(self, provider: str) -> bool:
        """Whether Python code makes the models of a provider: embedded, registered, or of another package."""
        known = provider in self._makers or provider in self._access or provider in PROVIDERS
        if not known and (make := plugin(provider)):
            self._makers[provider] = make
        return provider in self._makers

    @property
    def addresses(self) -> Mapping[str, str]:
        """The base URLs of local providers and of endpoints with an address of their own, by name."""
        urls = {name: known.url(self._environ) for name, known in PROVIDERS.items() if known.local}
        return urls | {name: access.base_url for name, access in self._access.items() if access.base_url}

    @property
    def remote(self) -> frozenset[str]:
        """Local providers and endpoints whose address is outside the user's own network, so that calls may be billed."""
        return frozenset(name for name, url in self.addresses.items() if is_remote(url))

    def register(self, provider: str, make: Callable[[str], Model], *, local: bool = False) -> None:
        """Let ``make`` create the models of a provider.

        Args:
            provider: the part before the first slash in their names.
            make: gets the part behind it; called once for each name. The catalog does not close what it returns.
            local: whether their text stays on this machine, so that a mixture with ``local_only`` may have them.
        """
        self._makers[provider] = make
        self._local.discard(provider)
        if local:
            self._local.add(provider)

    def model(self, name: str) -> Model:
        """The model of this name, the same object each time.

        Raises:
            UnknownName: no such provider, or no such weights.
            KeyMissing: the provider's API key is not in the environment.
            ConfigError: the name is not of the form ``provider/name``.
        """
        if name not in self._models:
            provider, slash, rest = name.partition("/")
            if not slash or not rest:
                raise ConfigError(f"{name!r} is not a model name; write provider/name, for example openai/gpt-6-luna")
            if self.is_made(provider):
                self._models[name] = self._makers[provider](rest)
            else:
                self._models[name] = self._remote(provider, rest)
        return self._models[name]

    def forget(self, name: str) -> None:
        """Drop a model of an endpoint from the catalog; the endpoint and its connections stay."""
        if name.partition("/")[0] not in self._makers:
            self._models.pop(name, None)

    def endpoint(self, provider: str) -> Endpoint | VendorEndpoint:
        """The endpoint of this name; raises as :meth:`model` does."""
        return self._opened(provider)[0]

    def destination(self, name: str) -> Destination:
        """Where the text of calls to a model goes. Opens nothing and needs no key."""
        provider, _, rest = name.partition("/")
        if provider == "local":
            return HERE
        if provider in self._makers:
            return HERE if provider in self._local else Destination(provider)
        known, access = PROVIDERS.get(provider), self._access.get(provider)
        base_url = access.base_url if access else None
        if base_url is None and known is not None:
            with suppress(ConfigError):  # an address that is not set yet
                base_url = known.url(self._environ)
        return destination_of(provider, rest, base_url, None if access and access.base_url else known)

    def key_variable(self, provider: str) -> str | None:
        """The environment variable that holds a provider's API key; None where it needs none, or where that is unknown."""
        access, known = self._access.get(provider, Access()), PROVIDERS.get(provider)
        return access.api_key_env or (known.key_variable if known and not access.base_url else None)

    async def aclose(self) -> None:
        """Close every connection and every embedded model."""
        await self._open.aclose()
        self._models.clear()
        self._endpoints.clear()
        self._cache = None

    def _remote(self, provider: str, name: str) -> Model:
        endpoint, limits = self._opened(provider)
        access = self._access.get(provider, Access())
        model: Model = endpoint.model(name)
        model = Limited(model, limits)
        if self._around:
            model = self._around(provider, access, model)
        if access.attempts > 1:
            model = Retried(model, attempts=access.attempts)
        if breaking := self._breaking_of(f"{provider}/{name}", access):
            model = Breaker(model, breaking)
        if access.cache and self._make_cache:
            if self._cache is None:
                self._cache = self._make_cache()
                self._open.callback(self._cache.close)
            model = Cached(model, self._cache)
        return model

    def _opened(self, provider: str) -> tuple[Endpoint | VendorEndpoint, Limits]:
        if provider not in self._endpoints:
            known, access = PROVIDERS.get(provider), self._access.get(provider, Access())
            if known is None and provider not in self._access:
                hint = "(any OpenAI-compatible server: give it a base_url in moa.toml)"
                raise UnknownName("provider", provider, self.providers, hint)
            base_url = access.base_url or (known.url(self._environ) if known else None)
            if not base_url:
                raise ConfigError(f"endpoint {provider!r} needs a base_url")
            endpoint = self._connected(provider, base_url, known, access)
            self._open.push_async_callback(endpoint.aclose)
            bounds = (access.max_concurrency, access.requests_per_minute, access.tokens_per_minute)
            self._endpoints[provider] = (endpoint, Limits(*bounds))
        return self._endpoints[provider]

    def _profile_of(self, provider: str, base_url: str, model_id: str) -> Profile:
        """What is known of a model: by its place, then by the user's own words, of its endpoint and of itself."""
        of_place = not self._access.get(provider, Access()).base_url
        return self._own_profile(provider, profile_at(base_url, model_id, provider if of_place else None), model_id)

    def _own_profile(self, provider: str, known: Profile, model_id: str) -> Profile:
        profile = known.merged(self._access.get(provider, Access()).profile)
        for pattern, own in self._profiles.items():
            if fnmatchcase(f"{provider}/{model_id}", pattern):
                profile = profile.merged(own)
        return profile

    def _connected(
        self, provider: str, base_url: str, known: Provider | None, access: Access
    ) -> Endpoint | VendorEndpoint:
        """The endpoint, by what its server speaks. Another ``base_url`` inherits nothing of a known provider's row."""
        row = known if known and not access.base_url else None
        api = access.api or (row.api if row else "chat")
        key = self._key(provider, known, access)
        if api != "chat":
            region = self._environ.get("AWS_REGION") or self._environ.get("AWS_DEFAULT_REGION")
            # Bedrock's address depends on the partition of the region, which the SDK knows.
            address = access.base_url if api == "bedrock" else base_url
            return VendorEndpoint(
                provider,
                api,
                address,
                api_key=key,
                headers=access.headers,
                timeouts=access.timeouts,
                region=region,
                prices=self._prices(),
                profile_of=partial(self._own_profile, provider, OF_VENDORS),
            )
        return Endpoint(
            provider,
            base_url,
            api_key=key,
            auth_header=access.auth_header or (row.auth_header if row else "Authorization"),
            headers=access.headers,
            timeouts=access.timeouts,
            profile_of=partial(self._profile_of, provider, base_url),
            ways=self._ways,
        )

    def _breaking_of(self, name: str, access: Access) -> Breaking | None:
        """When a model is skipped: by its own setting, the last that fits its name, else its endpoint's."""
        own = [breaking for pattern, breaking in self._breaking.items() if fnmatchcase(name, pattern)]
        return own[-1] if own else access.breaking

    def _key(self, provider: str, known: Provider | None, access: Access) -> KeySource:
        """The API key. A known provider's key is sent to its own address only, never to another ``base_url``."""
        if access.api_key_env:
            key = self._environ.get(access.api_key_env, "").strip()
            if not key:
                raise KeyMissing(access.api_key_env, f"endpoint {provider!r}")
            return key
        if access.api_key_command:
            return command_key(access.api_key_command)
        if known is None or access.base_url:
            return None
        return known.key(self._environ) or (command_key(known.key_command) if known.key_command else None)

    def _embedded(self, name: str) -> Model:
        from moa.models.embedded import EmbeddedModel

        model = EmbeddedModel(name, on_notice=self._on_notice)
        self._open.push_async_callback(model.aclose)
        return model
