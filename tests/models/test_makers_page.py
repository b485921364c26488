"""The page of makers says what the table says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from moa.models.provider import Provider
from moa.models.providers import PROVIDERS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "makers.md"

APIS = {
    "chat": "Chat Completions",
    "responses": "Responses",
    "anthropic": "its own (Messages)",
    "google": "its own (Gemini API)",
    "bedrock": "its own (Converse)",
}


def table() -> Iterator[str]:
    """The lines of the table as they should stand in the page."""
    yield "| provider | maker or server | API | set | source |"
    yield "|---|---|---|---|---|"
    for name, row in PROVIDERS.items():
        if row.retired:
            yield f"| `{name}` | {row.label} | | retired {row.retired} | {_source(row)} |"
        else:
            yield f"| `{name}` | {row.label} | {APIS[row.api]} | {_variables(row)} | {_source(row)} |"


def _variables(row: Provider) -> str:
    own = "" if row.base_url else f"`{row.url_variable}`, "
    if row.local:
        return "nothing: it runs on this machine"
    if row.key_variable is None:
        return f"{own}`{row.key_command[0]}` logged in"
    return own + " or ".join(f"`{name}`" for name in (row.key_variable, *row.key_synonyms))


def _source(row: Provider) -> str:
    return f"[{row.checked}]({row.source or row.page})"


def test_the_page_has_the_table() -> None:
    """Every provider has a line with its API, what to set, and the source of its facts with the date."""
    text = PAGE.read_text(encoding="utf-8")
    written = text.partition("compares them -->\n")[2].partition("<!-- end")[0]
    assert written == "\n".join(table()) + "\n", "copy the table from this failure's right side into the page"
