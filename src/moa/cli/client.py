"""``moa client``: what to set in a client so that it uses a mixture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moa.cli.options import ConfigFile, MixtureName
from moa.cli.terminal import notify, write
from moa.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from moa.cli.client_table import Client
    from moa.config.config import Config
    from moa.mixture.mixture import Mixture

ADDRESS = "http://127.0.0.1:8000/v1"


def client(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The client. Default: list them.")] = None,
    mixture: MixtureName = None,
    url: Annotated[str, typer.Option(metavar="URL", help="The server's address, with /v1.")] = ADDRESS,
    write_file: Annotated[bool, typer.Option("--write", help="Write the client's file, after a backup.")] = False,
    config: ConfigFile = None,
) -> int:
    """Print what to set in a client.

    Reads the configuration for the sizes of the mixture. Calls no model, and shows no API key.
    """
    from moa.cli.client_table import CLIENTS

    if name is None:
        width = max(len(each.name) for each in CLIENTS)
        for each in CLIENTS:
            write(f"{each.name:{width}}  {each.title}")
        return 0
    chosen = next((each for each in CLIENTS if each.name == name), None)
    if chosen is None:
        raise UnknownName("client", name, [each.name for each in CLIENTS])
    values = _values(mixture, url.rstrip("/"), config)
    settings = filled(chosen.settings, values)
    if write_file:
        _write_file(chosen, settings)
    else:
        notify(f"{chosen.title}: {chosen.place}")
        write(settings.rstrip("\n"))
    if chosen.note:
        notify(chosen.note)
    if values["context"] is None and "$context" in chosen.settings:
        notify(f"the context size of {values['model']} is unknown; context_tokens in moa.toml sets a model's")
    if values["key"] != "none":
        notify("replace YOUR_KEY with the client's API key; moa key add NAME makes one")
    return 0


def filled(settings: str, values: Mapping[str, str | None]) -> str:
    """A template of settings with these values; lines with an unknown value are left out."""
    unknown = [f"${name}" for name, value in values.items() if value is None]
    lines = [line for line in settings.splitlines(keepends=True) if not any(name in line for name in unknown)]
    text = Template("".join(lines)).substitute({name: value for name, value in values.items() if value is not None})
    # Through JSON, so that one model for everything is listed once.
    return json.dumps(json.loads(text), indent=2) + "\n" if text.startswith("{") else text


def _values(mixture: str | None, url: str, config: str | None) -> dict[str, str | None]:
    from moa.config.config import Config
    from moa.config.names import full_name
    from moa.server.keys import Keys, default_place

    settings = Config(config)
    name = full_name(mixture or settings.default)
    values: dict[str, str | None] = {
        "base": url,
        "origin": url.removesuffix("/v1"),
        "model": name,
        "key": "YOUR_KEY" if len(Keys(default_place())) else "none",
    }
    try:
        return values | _sizes(settings, name)
    except ConfigError as error:
        notify(f"the sizes of {name} are unknown here: {error}")
        return values | {"small": name, "context": None, "answer": None, "images": "false"}


def _sizes(settings: Config, name: str) -> dict[str, str | None]:
    """The sizes of a mixture, and its cheapest member.

    Raises:
        ConfigError: it cannot be opened here.
    """
    from moa.config.names import is_single_model
    from moa.mixture.card import card_of
    from moa.mixture.mixture import Mixture

    single = is_single_model(name)
    made = Mixture([], settings.model(name), prices=settings.prices) if single else settings.mixture(name)
    card = card_of(made, settings.prices)
    return {
        "small": _cheapest(made) or name,
        "context": str(card.context_tokens) if card.context_tokens else None,
        "answer": str(card.answer_tokens or min(8192, (card.context_tokens or 32768) // 4)),
        "images": "true" if card.images else "false",
    }


def _cheapest(mixture: Mixture) -> str | None:
    """The cheapest single model of a mixture whose price is known."""
    from moa.models import traits_of

    prices: dict[str, float] = {}
    for agent in mixture.agents:
        price = mixture.prices.per_million(agent.model.name, provider=traits_of(agent.model).provider)
        if price is not None and not agent.model.name.startswith("moa/"):
            prices[agent.model.name] = price.output
    return min(prices, key=lambda name: prices[name], default=None)


def _write_file(chosen: Client, settings: str) -> None:
    """Write or extend the client's file.

    Raises:
        ConfigError: the client has no plain file, or the file's content cannot be extended safely.
    """
    if not chosen.file:
        raise ConfigError(f"{chosen.title} has no file that could be written; without --write the settings are shown")
    path = Path.home() / chosen.file
    before = path.read_text() if path.exists() else None
    after = settings if before is None or chosen.is_ours else _extended(path, before, settings)
    if after == before:
        notify(f"{path} has these settings already")
        return
    if before is not None:
        backup = path.with_name(f"{path.name}.before-moa")
        shutil.copy2(path, backup)
        notify(f"the file of before is {backup}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(after)
    notify(f"wrote {path}")


def _extended(path: Path, before: str, settings: str) -> str:
    if path.suffix == ".json":
        try:
            known = json.loads(before or "{}")
        except ValueError as error:
            raise ConfigError(f"{path} is not plain JSON ({error}); add the settings yourself") from None
        if not isinstance(known, dict):
            raise ConfigError(f"{path} holds no JSON object; add the settings yourself")
        return json.dumps(_merged(known, json.loads(settings)), indent=2, ensure_ascii=False) + "\n"
    if settings in before:
        return before
    keys = {line.partition(":")[0] for line in settings.splitlines() if line and line[0] not in " -"}
    if taken := keys & {line.partition(":")[0] for line in before.splitlines()}:
        raise ConfigError(f"{path} sets {', '.join(sorted(taken))} already; change it yourself")
    return before.rstrip("\n") + "\n" + settings if before.strip() else settings


def _merged(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the fields of another one, level by level."""
    merged = dict(known)
    for name, value in new.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
