"""The form that changes a mixture."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest

from moa import Config
from tests.fakes.browser import FOCUSED, Window, expect, needs_browser
from tests.fakes.upstream import Upstream, say, until

pytestmark = [pytest.mark.anyio, needs_browser]


async def test_a_changed_mixture_runs_again_beside_the_answer(page: Window, upstream: Upstream) -> None:
    """With one agent off, another temperature and another schedule, the question runs again beside the old answer."""
    await page.ask("Why?", "moa/trio")
    await page.finished()
    upstream.requests.clear()
    upstream.script("last", say("a changed answer"))
    await page.tab.click("#change")
    await page.tab.uncheck("[aria-label='Call layer 1, agent 2']")
    await page.tab.fill("[aria-label='Temperature of layer 1, agent 1']", "0.3")
    await page.tab.press("[aria-label='Temperature of layer 1, agent 1']", "Tab")
    await page.tab.get_by_label("Schedule").select_option("quorum")
    await page.tab.get_by_label("Proposals to wait for").fill("1")
    await page.press("Run again and compare")
    await expect(page.tab.locator(".side .answer-text").nth(1)).to_have_text("a changed answer")
    await expect(page.tab.locator(".side .answer-text").nth(0)).to_have_text("the whole answer")
    assert {call.model for call in upstream.requests} <= {"a", "c", "last"}
    assert upstream.calls("a")[0].body["temperature"] == 0.3
    assert await page.texts(".side h3") == ["moa/trio", "moa/trio-changed"]


async def test_layers_and_agents_are_added_and_removed(page: Window, upstream: Upstream) -> None:
    """The preview shows the changed mixture, and the question goes to exactly these agents."""
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.press("Remove layer 1, agent 3")
    await page.press("Add layer")
    await page.tab.fill("[aria-label='Model of layer 2, agent 1']", "up/d")
    await page.tab.press("[aria-label='Model of layer 2, agent 1']", "Tab")
    await expect(page.tab.locator(".idle-stage .card h4")).to_have_text(["a", "b", "d"])
    await page.ask("Why?")
    await page.finished()
    assert [call.model for call in upstream.requests][2:] == ["d", "last"]
    assert await page.tab.locator(".layers .layer").count() == 2


async def test_the_page_says_where_text_goes(page: Window) -> None:
    """Beside the description stands who receives a question; a changed mixture's members may be elsewhere."""
    await page.tab.select_option("#mixture", "moa/trio")
    await expect(page.tab.locator("#about")).to_have_text("three and one · Text goes to: this machine.")
    await page.tab.click("#change")
    await page.press("Remove layer 1, agent 3")
    await expect(page.tab.locator("#about")).to_have_text("three and one")


async def test_a_changed_mixture_is_saved_as_toml(page: Window, tmp_path: Path) -> None:
    """The saved file is a moa.toml of the same mixture; an invalid name shows an error at once."""
    page.expected.append("400")
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.tab.uncheck("[aria-label='Call layer 1, agent 1']")
    await page.tab.get_by_label("Schedule").select_option("staircase")
    await page.press("Save as TOML")
    table = tomllib.loads(await page.text("#sheet-body pre"))["mixtures"]["trio-changed"]
    assert table["layers"] == [["up/b", "up/c"]]
    assert table["schedule"]["kind"] == "staircase"
    await page.tab.fill("#toml-name", "no good")
    await expect(page.tab.locator("#sheet-body .problem")).to_contain_text("no good")
    await page.tab.fill("#toml-name", "duo")
    await expect(page.tab.locator("#sheet-body pre")).to_contain_text("[mixtures.duo]")
    async with page.tab.expect_download() as download:
        await page.press("Download")
    saved = (await (await download.value).path()).read_text()
    assert (await download.value).suggested_filename == "duo.toml"
    (tmp_path / "moa.toml").write_text(saved + "[endpoints.up]\nbase_url = 'http://127.0.0.1:1/v1'\n")

    assert [*Config(tmp_path / "moa.toml").mixture("duo").layers[0]] == ["b", "c"]


async def test_an_unlisted_mixture_comes_with_its_run(page: Window, upstream: Upstream) -> None:
    """A run whose mixture is not listed brings its own table: it runs again unchanged, is restored by undo, and is saved."""
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.press("Remove layer 1, agent 1")
    await page.ask("Why?")
    await page.finished()
    run = page.run
    await page.tab.reload()
    await page.finished()
    assert await page.text("#mixture option:checked") == "moa/trio-changed"
    await page.tab.click("#change")
    undo = page.tab.get_by_role("button", name="Undo changes")
    assert await undo.is_disabled()
    await page.press("Remove layer 1, agent 1")
    await undo.click()
    models = page.tab.locator("#editor .model input")
    assert [await each.input_value() for each in await models.all()] == ["up/b", "up/c", "up/last"]
    upstream.requests.clear()
    await page.press("Run again and compare")
    await expect(page.tab.locator(".side .bar")).to_have_count(2)
    assert sorted(call.model for call in upstream.requests) == ["b", "c", "last"]
    assert await page.texts(".side h3") == ["moa/trio-changed", "moa/trio-changed"]
    await page.tab.goto(f"{page.origin}/#/runs/{run}")
    await page.press("Save as TOML")
    await expect(page.tab.locator("#sheet-body pre")).to_contain_text("[mixtures.trio-changed]")


async def test_an_invalid_value_is_marked_and_ignored(page: Window, upstream: Upstream) -> None:
    """A temperature of 7 is marked and not used; Enter in a field sends no question; the question can still be sent."""
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.tab.fill("#question", "Why?")
    hot = page.tab.get_by_label("Temperature of layer 1, agent 1")
    await hot.fill("7")
    await hot.press("Enter")
    await expect(hot).to_have_attribute("aria-invalid", "true")
    assert await page.tab.input_value("#mixture") == "moa/trio"
    assert await page.tab.locator(".turn").count() == 0
    await page.tab.click("#change")
    await page.tab.press("#question", "Enter")
    await page.tab.wait_for_selector(".turn")
    await page.finished()
    assert "temperature" not in upstream.calls("a")[0].body


async def test_the_end_of_a_run_keeps_what_is_typed_in_the_form(page: Window, upstream: Upstream) -> None:
    """Neither the text nor the focus is lost when a run ends while the mixture is being changed."""
    gate = asyncio.Event()
    upstream.script("last", until(gate) + say("the whole answer"))
    await page.ask("Why?", "moa/trio")
    await page.tab.click("#change")
    assert not await page.tab.get_by_role("button", name="Run again and compare").is_visible()
    await page.tab.get_by_label("Model of layer 1, agent 2").fill("up/el")
    gate.set()
    await page.finished()
    await page.tab.keyboard.type("se")
    assert await page.tab.get_by_label("Model of layer 1, agent 2").input_value() == "up/else"
    assert await page.tab.get_by_role("button", name="Run again and compare").is_visible()


async def test_the_focus_stays_in_the_form(page: Window) -> None:
    """After each press of a key, the focus is on the field that the user needs next."""
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    for button, following in (
        ("Remove layer 1, agent 2", "Remove layer 1, agent 2"),
        ("Remove layer 1, agent 2", "Add agent"),
        ("Remove layer", "Add layer"),
        ("Undo changes", "Add layer"),
    ):
        await page.tab.get_by_role("button", name=button, exact=True).press("Enter")
        assert await page.tab.evaluate(FOCUSED) == following
    await page.tab.get_by_label("Call layer 1, agent 3").press("Space")
    assert await page.tab.evaluate(FOCUSED) == "Call layer 1, agent 3"


async def test_all_agents_and_layers_can_be_left_out(page: Window, upstream: Upstream) -> None:
    """With every agent off or without a model, or without any layer, the aggregator answers alone."""
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.tab.uncheck("[aria-label='Call layer 1, agent 1']")
    await page.tab.uncheck("[aria-label='Call layer 1, agent 2']")
    await page.tab.get_by_label("Model of layer 1, agent 3").fill("")
    await page.tab.get_by_label("Schedule").select_option("quorum")
    await page.ask("Who?")
    await page.finished()
    await page.press("Remove layer")
    await page.ask("And now?")
    await page.finished()
    assert [call.model for call in upstream.requests] == ["last", "last"]
    assert await page.texts(".answer-text") == ["the whole answer", "the whole answer"]


async def test_an_invalid_name_has_no_toml(page: Window) -> None:
    """While the name is invalid there is nothing to copy or download, and the last name typed decides."""
    page.expected.append("400")
    await page.tab.select_option("#mixture", "moa/trio")
    await page.tab.click("#change")
    await page.press("Save as TOML")
    await page.tab.fill("#toml-name", "no good")
    await expect(page.tab.locator("#sheet-body .problem")).to_contain_text("no good")
    assert await page.tab.get_by_role("button", name="Download").is_disabled()
    assert await page.tab.text_content("#sheet-body pre") == ""
    await page.tab.type("#toml-name", "!!")
    await page.tab.fill("#toml-name", "good")
    await expect(page.tab.locator("#sheet-body pre")).to_contain_text("[mixtures.good]")
    assert await page.tab.get_by_role("button", name="Download").is_enabled()
