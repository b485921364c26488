"""The pictures of the page: what ``moa serve`` shows of a run, drawn in a real browser.

    uv run python docs/pictures/draw.py             # page-wide.png, page-dark.png, page-phone.png, …, staircase.webp

What the models say stands in ``speakers.toml`` and was written for the pictures; a small server speaks it, word by word, at
the pace given there. All else is the product: the mixtures of ``moa.toml`` here, the schedules, the attribution, the page.
Needs Chromium (``MOA_CHROMIUM`` names it where it is not found) and Pillow, which the plots' extra brings.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiohttp import ClientConnectionResetError, web
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

from moa.messages import pieces_of

HERE = Path(__file__).parent
SPEAKERS: dict[str, Any] = tomllib.loads((HERE / "speakers.toml").read_text(encoding="utf-8"))
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chrome")


PACE = web.AppKey("pace", float)
"""How fast the models speak, as a multiple of what the file says."""


async def speak(request: web.Request) -> web.StreamResponse:
    """A chat completion: the model's words, from where the request's last message leaves off."""
    body, pace = await request.json(), request.app[PACE]
    speaker, messages = SPEAKERS["models"][body["model"]], body["messages"]
    told = any("<response 1 " in str(message["content"]) for message in messages)
    text = speaker["with_references" if told or "asked" not in speaker else "asked"].strip()
    if messages[-1]["role"] == "assistant":
        text = text.removeprefix(messages[-1]["content"])
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)

    async def say(**fields: Any) -> None:
        await response.write(
            f"data: {json.dumps({'id': 'demo', 'object': 'chat.completion.chunk', **fields})}\n\n".encode()
        )

    clock = asyncio.get_running_loop().time
    due = clock() + speaker["first_token"] / pace
    pieces = pieces_of(text)
    for piece in pieces:
        await asyncio.sleep(max(0.0, due - clock()))
        try:
            await say(choices=[{"index": 0, "delta": {"content": piece}}])
        except ClientConnectionResetError:
            return response  # it reads on elsewhere
        due += 1 / speaker["speed"] / pace
    await say(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    words = sum(len(pieces_of(str(message["content"]))) for message in messages)
    usage = {"prompt_tokens": words, "completion_tokens": len(pieces), "total_tokens": words + len(pieces)}
    await say(choices=[], usage=usage)
    await response.write(b"data: [DONE]\n\n")
    return response


@asynccontextmanager
async def speaking(pace: float) -> AsyncIterator[str]:
    """The models' server; gives its base URL."""
    app = web.Application()
    app[PACE] = pace
    app.router.add_post("/v1/chat/completions", speak)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert runner.addresses
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving(base_url: str) -> AsyncIterator[str]:
    """``moa serve`` on the mixtures beside this file, with a home of its own; gives the page's address."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "moa.toml"
        config.write_text((HERE / "moa.toml").read_text(encoding="utf-8").replace("http://127.0.0.1:1/v1", base_url))
        env = {**os.environ, "HOME": folder, "XDG_STATE_HOME": folder, "XDG_CONFIG_HOME": folder}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moa", "serve", "--port", "0", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=env,
        )
        try:
            assert process.stdout
            address = (await process.stdout.readline()).decode().strip()
            yield address.removesuffix("/v1")
        finally:
            process.terminate()
            await process.wait()


def browser_path() -> str:
    """Where Chromium is; ends the program where it is not."""
    found = os.environ.get("MOA_CHROMIUM") or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        sys.exit("no Chromium found: install one, or name it in MOA_CHROMIUM")
    return found


async def opened(browser: Browser, address: str, width: int, height: int, **how: Any) -> Page:
    context = await browser.new_context(viewport={"width": width, "height": height}, **how)
    page = await context.new_page()
    await page.goto(address)
    await page.wait_for_selector("#mixture option", state="attached")
    return page


async def ask(page: Page, mixture: str) -> None:
    await page.select_option("#mixture", f"moa/{mixture}")
    await page.fill("#question", SPEAKERS["question"])
    await page.press("#question", "Enter")
    await page.wait_for_selector(".turn")


async def finished(page: Page) -> None:
    """Wait until the run is over and its figures are drawn."""
    await page.wait_for_selector(".resemblance:not([hidden])", timeout=60_000)


async def still(page: Page, name: str) -> None:
    path = HERE / f"{name}.png"
    await page.screenshot(path=path)
    image = Image.open(path)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


async def stills(browser: Browser, address: str) -> None:
    """A finished run: wide, dark with a sentence pointed at, on a phone; one under way; two side by side; the mixture."""
    page = await opened(browser, address, 1440, 1000, color_scheme="light")
    await ask(page, "sky-staircase")
    await page.wait_for_selector(".answer[data-state=writing] .answer-text li")
    await page.evaluate("scrollTo(0, 0)")
    await still(page, "page-writing")
    await finished(page)
    await page.hover(".sentence[data-sentence='2']")
    await page.evaluate("scrollTo(0, 0)")
    await still(page, "page-wide")
    staircase = page.url.rsplit("/", 1)[-1]

    dark = await opened(browser, page.url, 1440, 1000, color_scheme="dark")
    await finished(dark)
    await dark.hover(".sentence[data-sentence='4']")
    await dark.evaluate("scrollTo(0, 0)")
    await still(dark, "page-dark")

    phone = await opened(browser, page.url, 390, 844, color_scheme="light", device_scale_factor=2, has_touch=True)
    await finished(phone)
    await phone.tap(".sentence[data-sentence='2']")
    await phone.evaluate("document.querySelector('.answer').scrollIntoView()")
    await still(phone, "page-phone")

    other = await opened(browser, address, 1440, 1000, color_scheme="light")
    await ask(other, "sky")
    await finished(other)
    barrier = other.url.rsplit("/", 1)[-1]
    await other.goto(f"{address}/#/compare/{barrier}/{staircase}")
    await other.wait_for_selector(".side .layer-bar")
    await other.wait_for_timeout(500)
    await still(other, "page-compare")
    await other.goto(f"{address}/#/runs/{staircase}")
    await finished(other)
    await other.click("#change")
    await other.wait_for_selector(".edit-layer")
    await still(other, "page-change")


async def animation(browser: Browser, address: str) -> None:
    """A run under the staircase, as it happens, at two thirds of its size."""
    page = await opened(browser, address, 1440, 1000, color_scheme="light")
    clock = asyncio.get_running_loop().time
    frames: list[Image.Image] = []
    times: list[float] = []
    await ask(page, "sky-staircase")
    await page.evaluate("scrollTo(0, 0)")

    async def take() -> None:
        times.append(clock())
        frames.append(Image.open(io.BytesIO(await page.screenshot(type="jpeg", quality=90))))

    while not await page.evaluate("Boolean(document.querySelector('.resemblance:not([hidden])'))"):
        await take()
        await asyncio.sleep(0.05)
    for sentence in (0, 2, 4, 6):
        await page.hover(f".sentence[data-sentence='{sentence}']")
        await page.evaluate("scrollTo(0, 0)")
        await take()
        times[-1] = times[-2] + 1.4 if sentence else times[-1]
    small = [frame.resize((960, 667), Image.Resampling.LANCZOS) for frame in frames]
    lengths = [max(40, round(1000 * (after - before))) for before, after in pairwise(times)] + [2500]
    path = HERE / "staircase.webp"
    small[0].save(path, save_all=True, append_images=small[1:], duration=lengths, loop=0, quality=60, method=6)
    print(f"{path.name}: {path.stat().st_size:,} bytes, {len(frames)} frames, {sum(lengths) / 1000:.1f} s")


async def draw(only: str) -> None:
    for name, work, pace in (("stills", stills, 1.0), ("animation", animation, 0.5)):
        if not name.startswith(only):
            continue
        async with speaking(pace) as base_url, serving(base_url) as address, async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
            await work(browser, address)
            await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="stills or animation")
    asyncio.run(draw(parser.parse_args().only))
