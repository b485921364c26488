from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import moa
from moa import events
from moa.config.tables import File
from moa.messages import Delta

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    return [(page.name, text) for page in PAGES for name, text in BLOCK.findall(page.read_text()) if name == kind]


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_piece_of_configuration_in_the_documentation_is_valid(page: str, text: str) -> None:
    """What a reader copies into moa.toml reads without an error."""
    File.model_validate(tomllib.loads(text))


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_every_piece_of_python_in_the_documentation_names_what_is_there(page: str, text: str) -> None:
    """It compiles, and what it imports from this package exists."""
    compile(text, page, "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for names in re.findall(r"^\s*from moa import (.+)$", text, re.MULTILINE):
        for name in names.split(","):
            assert hasattr(moa, name.strip())


def test_the_example_configuration_is_valid() -> None:
    """examples/moa.toml reads, and its default is one of its mixtures."""
    file = File.model_validate(tomllib.loads((ROOT / "examples" / "moa.toml").read_text()))
    assert file.default in file.mixtures


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link in the documentation is to a file that is there."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_event_is_described_with_its_fields() -> None:
    """The table in docs/reference/runs.md has the events that there are, each with the fields that it has."""
    rows = re.findall(
        r"^\| `([a-z_]+)` \|([^|]*)\|", (ROOT / "docs" / "reference" / "runs.md").read_text(), re.MULTILINE
    )
    described = {name: set(re.findall(r"`(\w+)`", told)) for name, told in rows if name in events.EVENTS}
    assert described.keys() == events.EVENTS.keys()
    for name, kind in events.EVENTS.items():
        has = {*kind.__struct_fields__} - {"at"}
        has |= {*Delta.__struct_fields__} if "delta" in has else set()
        has |= {"causes"} if name == "run_failed" else set()
        assert described[name] == has - {"delta"}, name


def test_the_public_names_are_these() -> None:
    """A name that comes or goes is a change of the interface, and is meant."""
    assert moa.__all__ == [
        "Agent",
        "Answer",
        "Barrier",
        "Call",
        "Config",
        "Cost",
        "Delta",
        "EarlyExit",
        "EmbeddedModel",
        "Endpoint",
        "Function",
        "Mixture",
        "MoaError",
        "Model",
        "Price",
        "Prices",
        "Quorum",
        "Recorded",
        "Reference",
        "Request",
        "Run",
        "Scripted",
        "Staircase",
        "Usage",
        "allow_real_calls",
        "as_json",
        "attribution_of",
        "fold",
        "forbid_real_calls",
        "text_of",
        "with_text",
    ]
    assert all(getattr(moa, name) is not None for name in moa.__all__)
    assert moa.__version__


def test_importing_the_package_does_no_work() -> None:
    """Nothing heavy is loaded, and nothing of ours but the package itself, until a name is used."""
    told = "import sys, moa; print(sorted(name for name in sys.modules if name.startswith(('moa', 'aiohttp', 'pydantic'))))"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout == "['moa']\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As with any module."""
    with pytest.raises(AttributeError, match="module 'moa' has no attribute 'Mixtur'"):
        moa.Mixtur  # noqa: B018
