"""``moa client``: the settings of each client, shown and written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from moa.cli.client import client, filled
from moa.cli.client_table import CLIENTS, Client
from moa.errors import ConfigError, UnknownName

ROOT = Path(__file__).parents[2]
VALUES = {
    "base": "http://127.0.0.1:8000/v1",
    "origin": "http://127.0.0.1:8000",
    "model": "moa/careful",
    "small": "groq/small",
    "context": "32000",
    "answer": "8000",
    "images": "true",
    "key": "none",
}


@pytest.mark.parametrize("each", CLIENTS, ids=lambda each: each.name)
def test_settings_are_valid_also_without_sizes(each: Client) -> None:
    """Each template is filled, and JSON, TOML and Python stay valid where a value is unknown."""
    for values in (VALUES, {**VALUES, "context": None, "answer": None}):
        text = filled(each.settings, values)
        assert "$" not in text and "moa/careful" in text
        if text.startswith("{"):
            json.loads(text)
        elif each.file.endswith(".toml"):
            tomllib.loads(text)
        elif each.place == "Python":
            compile(text, each.name, "exec")


def test_every_client_is_on_the_page() -> None:
    """The page about clients has a row for each, with how it was tried."""
    page = (ROOT / "docs/howto/clients.md").read_text()
    for each in CLIENTS:
        row = next(line for line in page.splitlines() if line.startswith(f"| {each.title} |"))
        assert f"`{each.name}`" in row and (each.tried or "not tried") in row


def test_a_clients_file_is_extended_after_a_backup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the file held stays, the backup holds it too, and the second time nothing is written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".claude/settings.json"
    path.parent.mkdir()
    path.write_text('{"env": {"EDITOR": "vi"}, "theme": "dark"}')
    assert client("claude", mixture="local", write_file=True) == 0
    written = json.loads(path.read_text())
    assert written["theme"] == "dark" and written["env"]["EDITOR"] == "vi"
    assert written["env"]["ANTHROPIC_MODEL"] == "moa/local"
    assert json.loads((path.parent / "settings.json.before-moa").read_text())["theme"] == "dark"
    capsys.readouterr()
    client("claude", mixture="local", write_file=True)
    assert "already" in capsys.readouterr().err


def test_a_file_that_cannot_be_extended_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JSON with comments, a key that is set, and a client without a file are errors that say what to do."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".config/opencode/opencode.json"
    path.parent.mkdir(parents=True)
    path.write_text("{ // mine\n}")
    with pytest.raises(ConfigError, match="not plain JSON"):
        client("opencode", mixture="local", write_file=True)
    assert path.read_text() == "{ // mine\n}"
    (tmp_path / ".aider.conf.yml").write_text("model: gpt-5\n")
    with pytest.raises(ConfigError, match="sets model already"):
        client("aider", mixture="local", write_file=True)
    with pytest.raises(ConfigError, match="no file"):
        client("cline", mixture="local", write_file=True)


def test_an_unknown_client_is_an_error_with_the_nearest_name() -> None:
    """The error names what exists."""
    with pytest.raises(UnknownName, match="claude"):
        client("cluade")
