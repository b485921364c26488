"""What a mixture costs in addition to its calls: ``moa serve`` against a bare proxy that makes the same four calls.

    uv run python benchmarks/overhead.py

Both use the same upstream, which costs nothing, and are called in turn, so the ratios hold on a machine whose speed drifts.
Measured are requests a second with 16 in flight, milliseconds of a single request, time to first token with 200 ms of
upstream time, resident memory over 5,000 requests, and 500 concurrent streaming runs.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

HERE = Path(__file__).parent
QUESTION = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[tuple[str, int]]:
    """Start a server; its base URL, which it prints first, and its process id."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert started.stdout
    try:
        yield (await started.stdout.readline()).decode().strip(), started.pid
    finally:
        started.terminate()
        await started.wait()


async def ask(http: aiohttp.ClientSession, url: str) -> float:
    """Make one request; return its seconds."""
    began = time.perf_counter()
    async with http.post(f"{url}/chat/completions", json={"model": "moa/m", **QUESTION}) as response:
        answer = await response.json()
        assert answer["choices"][0]["message"]["content"].startswith("word0"), answer
    return time.perf_counter() - began


async def first_token(http: aiohttp.ClientSession, url: str) -> float:
    """Read a streamed answer to its end; return the seconds to its first word."""
    began = time.perf_counter()
    first = 0.0
    async with http.post(f"{url}/chat/completions", json={"model": "moa/m", "stream": True, **QUESTION}) as response:
        async for line in response.content:
            if not first and b"word0" in line:
                first = time.perf_counter() - began
    assert first
    return first


async def rate(http: aiohttp.ClientSession, url: str, count: int, concurrent: int = 16) -> float:
    """Requests a second."""
    remaining = iter(range(count))

    async def worker() -> None:
        for _ in remaining:
            await ask(http, url)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrent)))
    return count / (time.perf_counter() - began)


def resident(pid: int) -> float:
    """The resident memory of a process in megabytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        async def pair(*upstream_flags: str) -> tuple[str, str, int]:
            upstream, _ = await stack.enter_async_context(process(str(HERE / "fast_upstream.py"), *upstream_flags))
            bare, _ = await stack.enter_async_context(process(str(HERE / "bare_proxy.py"), upstream))
            toml = folder / f"moa{len(upstream_flags)}.toml"
            toml.write_text(
                f'[endpoints.up]\nbase_url = "{upstream}"\n'
                '[mixtures.m]\nlayers = [["up/a", "up/b", "up/c"]]\naggregator = "up/d"\n'
            )
            mine, pid = await serve(toml, "--store", "off")
            return bare, mine, pid

        async def serve(toml: Path, *flags: str) -> tuple[str, int]:
            command = ("-m", "moa", "serve", "--port", "0", "--config", str(toml), "--max-runs", "600", *flags)
            return await stack.enter_async_context(process(*command))

        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        bare, mine, pid = await pair()
        for url in (bare, mine):
            await rate(http, url, 100)
        rates = [(await rate(http, bare, 300), await rate(http, mine, 300)) for _ in range(5)]
        print(f"requests a second, 16 in flight: bare {statistics.median(b for b, _ in rates):.0f}, ", end="")
        print(f"moa {statistics.median(m for _, m in rates):.0f}, ", end="")
        print(f"ratio {statistics.median(m / b for b, m in rates):.2f}", flush=True)

        store = folder / "runs.sqlite"
        keeping, _ = await serve(folder / "moa0.toml", "--store", str(store), "--keep")
        await rate(http, keeping, 100)
        ratios = [await rate(http, keeping, 300) / await rate(http, mine, 300) for _ in range(7)]
        size = store.stat().st_size / 2200
        print(f"keeping every run: {statistics.median(ratios):.2f} of the requests a second, ", end="")
        print(f"{size / 1000:.1f} kB on disk a run", flush=True)

        times = [(await ask(http, bare), await ask(http, mine)) for _ in range(200)]
        added = statistics.median(m - b for b, m in times) * 1000
        print(
            f"a single request: bare {statistics.median(b for b, _ in times) * 1000:.1f} ms, moa adds {added:.1f} ms",
            flush=True,
        )

        sizes = [resident(pid)]
        for _ in range(5):
            await rate(http, mine, 1000)
            sizes.append(resident(pid))
        print(
            f"resident memory over 5,000 requests, at each thousand: {', '.join(f'{size:.0f}' for size in sizes)} MB",
            flush=True,
        )

        bare, mine, _ = await pair("--first", "0.2")
        for url in (bare, mine):
            await first_token(http, url)
        firsts = [(await first_token(http, bare), await first_token(http, mine)) for _ in range(20)]
        above = statistics.median(m for _, m in firsts) - 0.4
        print(f"TTFT with 200 ms upstream, above the ideal 400 ms: moa {above * 1000:.0f} ms, ", end="")
        print(f"bare {(statistics.median(b for b, _ in firsts) - 0.4) * 1000:.0f} ms", flush=True)

        began = time.perf_counter()
        opened = await asyncio.gather(*(first_token(http, mine) for _ in range(500)))
        took = time.perf_counter() - began
        print(f"500 concurrent streaming runs: all answered in {took:.1f} s, ", end="")
        print(f"first tokens p50 {statistics.median(opened):.1f} s")


asyncio.run(main())
