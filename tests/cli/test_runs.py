"""``moa runs`` and ``moa ask --keep``, as their users meet them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.fakes.terminal import Terminal, run
from tests.fakes.upstream import Upstream, hang, refuse, say, words

pytestmark = pytest.mark.anyio


def files_of(folder: Path) -> list[Path]:
    """The store's files, the database first."""
    return sorted(folder.rglob("runs.sqlite*"))


async def keep(config: str, question: str = "How many?") -> str:
    """Ask a question, save the run, and return its ID."""
    ended = await run("ask", "--keep", "--config", config, question)
    assert "saved as run " in ended.err, ended
    rows = (await run("runs")).out.splitlines()
    name = rows[0].split("\t")[0]
    assert f"moa: saved as run {name[:8]}\n" in ended.err
    return name


async def test_without_keep_nothing_is_saved(config: str, tmp_path: Path) -> None:
    """Without --keep there is no file; moa runs says how to save runs."""
    assert (await run("ask", "--config", config, "How many?")).code == 0
    ended = await run("runs")
    assert ended.code == 2
    assert "`moa serve` and `moa ask --keep` save runs" in ended.err
    assert files_of(tmp_path) == []


async def test_a_saved_run_is_listed_and_shown(config: str, tmp_path: Path) -> None:
    """Only its owner can read the file; a pipe gets one line per run, and of one run its answer."""
    name = await keep(config, "How many in all?")
    file = files_of(tmp_path)[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (row,) = (await run("runs")).out.splitlines()
    run_, outcome, _, model, _, _, question = row.split("\t")
    assert (run_, outcome, model, question) == (name, "answered", "moa/duo", "How many in all?")
    assert (await run("runs", "show", name[:6])).out == "It is **four**.\n"
    expected = await run("runs", "show", name[:6], "--show", "proposals")
    assert "## ann (up/ann), layer 1\n\nAnn thinks four.\n" in expected.out


async def test_runs_are_searched_and_limited(config: str) -> None:
    """--search looks into questions and answers, ignoring case; -n, or --limit, limits the number of runs."""
    await keep(config, "What of otters?")
    await keep(config, "What of herons?")
    assert [row.split("\t")[-1] for row in (await run("runs", "--search", "OTTER")).out.splitlines()] == [
        "What of otters?"
    ]
    assert len((await run("runs", "--search", "four")).out.splitlines()) == 2
    assert [row.split("\t")[-1] for row in (await run("runs", "-n", "1")).out.splitlines()] == ["What of herons?"]
    assert (await run("runs", "--limit", "1")).out == (await run("runs", "-n", "1")).out
    nothing = await run("runs", "--search", "badger")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "moa: no run matches\n")


async def test_a_terminal_shows_a_saved_run_like_a_new_one(config: str) -> None:
    """Panels of the proposals, the answer, its figures; with --explain also what it resembles."""
    name = await keep(config)
    async with Terminal("runs", columns=100) as terminal:
        assert await terminal.end() == 0
        assert f"{name[:8]}" in terminal.text
        assert "How many?" in terminal.text
    async with Terminal("runs", "show", name, "--explain", columns=100) as terminal:
        assert await terminal.end() == 0
        for expected in ("> How many?", "Ann thinks four.", "It is four.", "3 calls", "what the answer resembles"):
            assert expected in terminal.text
    async with Terminal("runs", "compare", name, name, columns=100) as terminal:
        assert await terminal.end() == 0
        assert terminal.text.count("It is four.") == 2


async def test_a_failed_run_continues_with_its_proposals(config: str, upstream: Upstream) -> None:
    """Only agents without an answer are called; the result is a new run in the list."""
    upstream.script("bob", refuse(500, "out of memory"))
    upstream.script("boss", refuse(503, "overloaded"))
    failed = await keep(config)
    assert (await run("runs", "show", failed)).code == 1
    upstream.requests.clear()
    upstream.script("bob", say("Bob thinks six."))
    upstream.script("boss", say("It is six."))
    ended = await run("runs", "continue", failed[:8], "--config", config)
    assert (ended.code, ended.out) == (0, "It is six.\n")
    assert "reusing 1 proposal\n" in ended.err
    assert sorted(call.model for call in upstream.requests) == ["bob", "boss"]
    assert "Ann thinks four." in upstream.calls("boss")[0].prompt
    rows = [row.split("\t") for row in (await run("runs")).out.splitlines()]
    assert [row[1] for row in rows] == ["answered", "failed"]
    record = json.loads((await run("runs", "export", rows[0][0])).out)
    assert record["continues"] == failed
    assert [each["agent"] for each in record["recalled"]] == ["ann"]


async def test_an_interrupted_run_is_saved(config: str, upstream: Upstream) -> None:
    """Ctrl-C cancels every call; the run is saved as stopped and can be continued with its finished proposal."""
    upstream.script("bob", words("half of") + hang())
    async with Terminal("ask", "--keep", "--config", config, "How many?") as terminal:
        await terminal.until("✓ ann")
        await terminal.until("half of")
        terminal.type("\x03")
        assert await terminal.end() == 130
        assert "saved as run" in terminal.text
    (row,) = (await run("runs")).out.splitlines()
    assert row.split("\t")[1] == "stopped"
    upstream.script("bob", say("Bob thinks five."))
    assert (await run("runs", "continue", row[:8], "--config", config)).out == "It is **four**.\n"
    assert len(upstream.calls("ann")) == 1


async def test_deleted_runs_are_gone_from_the_file(config: str, tmp_path: Path) -> None:
    """Their text is overwritten; if one of several runs does not exist, none is deleted."""
    first, second = await keep(config, "What of otters?"), await keep(config, "What of herons?")
    ended = await run("runs", "delete", first, "feedbeef")
    assert ended.code == 2
    assert "no run has the ID 'feedbeef'" in ended.err
    assert len((await run("runs")).out.splitlines()) == 2
    assert (await run("runs", "delete", first, second[:8])).code == 0
    assert (await run("runs")).out == ""
    assert b"otters" not in b"".join(path.read_bytes() for path in files_of(tmp_path))


async def test_an_ambiguous_run_id_is_an_error(config: str) -> None:
    """The error lists the run IDs that the prefix matches."""
    await keep(config)
    await keep(config)
    ended = await run("runs", "show", "")
    assert ended.code == 2
    assert "matches several runs" in ended.err


async def test_the_store_may_stand_before_the_command(config: str, tmp_path: Path) -> None:
    """``moa runs --store FILE show RUN`` reads FILE, like ``moa runs show RUN --store FILE``, which overrides it."""
    name = await keep(config)
    database = files_of(tmp_path)[0]
    moved = database.rename(tmp_path / "moved.sqlite")
    assert "It is **four**." in (await run("runs", "--store", str(moved), "show", name)).out
    assert "It is **four**." in (await run("runs", "--store", "other.sqlite", "show", name, "--store", str(moved))).out
    assert (await run("runs", "show", name)).code == 2


async def test_rated_runs_become_questions_for_bench(config: str, tmp_path: Path) -> None:
    """An answer that was rated up is the reference; other kept runs are left out of the measurement, with a notice."""
    names = [await keep(config, question) for question in ("How many?", "Which one?", "What else?")]
    assert (await run("runs", "rate", names[0][:8], "up", "--note", "quite right")).code == 0
    assert (await run("runs", "rate", names[1], "down")).code == 0
    assert (await run("runs", "rate", names[1], "sideways")).code == 2
    exported = await run("runs", "export", "--tasks")
    assert "3 questions, 1 of them with a reference" in exported.err
    rows = {row["id"]: row for row in map(json.loads, exported.out.splitlines())}
    assert rows[names[0]]["answer"] == "It is **four**."
    assert (rows[names[0]]["rating"], rows[names[0]]["note"]) == ("up", "quite right")
    assert [rows[name].get("answer") for name in names[1:]] == [None, None]
    assert len((await run("runs", "export", "--tasks", "--rated")).out.splitlines()) == 2
    (tmp_path / "q.jsonl").write_text(exported.out)
    measured = await run(
        "bench",
        "tasks",
        str(tmp_path / "q.jsonl"),
        "-m",
        "duo",
        "--config",
        config,
        "--out",
        str(tmp_path / "run"),
        "--json",
    )
    assert "2 of 3 rows cannot be checked and are left out" in measured.err
    (result,) = json.loads(measured.out)["results"]
    assert (result["judged"], result["accuracy"]) == (1, 100)


async def test_export_takes_a_run_or_all_as_questions(config: str) -> None:
    """Neither, or both, is an error that says so."""
    name = await keep(config)
    assert json.loads((await run("runs", "export", name)).out)["rating"] is None
    for options in ((), (name, "--tasks"), (name, "--rated")):
        ended = await run("runs", "export", *options)
        assert (ended.code, "takes a run ID, or --tasks" in ended.err) == (2, True)
