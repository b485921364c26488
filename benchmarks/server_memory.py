"""Peak memory of ``moa serve`` over 2,000 requests: half of them streamed, 20 in flight, 4 upstream calls each.

    uv run python benchmarks/server_memory.py [REQUESTS]

Starts a scripted upstream and a server process; nothing leaves this machine. Prints the resident and the peak resident
memory of the server (VmRSS, VmHWM; Linux) after each quarter. Every question is new and 2 kB long, so a leak of questions
would show. A second pass uses ``--store off``, with the store in memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fakes.serving import CONFIG, Served
from tests.fakes.upstream import Upstream, say

CONCURRENT = 20


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process in megabytes: now, and its peak so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {
        name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return sizes["VmRSS"], sizes["VmHWM"]


async def ask(http: aiohttp.ClientSession, url: str, number: int) -> None:
    question = f"Question {number}: " + "why " * 500
    body = {"model": "moa/trio", "messages": [{"role": "user", "content": question}], "stream": bool(number % 2)}
    async with http.post(f"{url}/chat/completions", json=body) as response:
        text = await response.text()
        assert response.status == 200, text
        assert text.endswith("data: [DONE]\n\n") if number % 2 else json.loads(text)["usage"]


async def measure(requests: int, *args: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Upstream() as upstream:
            for name in ("a", "b", "c", "last"):
                upstream.script(name, say("a few words of an answer " * 20))
            config = CONFIG.format(base_url=upstream.base_url)
            async with Served(Path(folder), *args, config=config) as server, aiohttp.ClientSession() as http:
                await ask(http, server.url, 0)
                print(
                    f"moa serve {' '.join(args)}\n{1:>7} requests  now {memory(server.process.pid)[0]:6.1f} MB",
                    flush=True,
                )
                began = time.perf_counter()
                for quarter in range(4):
                    numbers = iter(range(quarter * requests // 4, (quarter + 1) * requests // 4))

                    async def work(mine: object = numbers) -> None:
                        for number in mine:  # type: ignore[attr-defined]
                            await ask(http, server.url, number)

                    await asyncio.gather(*(work() for _ in range(CONCURRENT)))
                    upstream.requests.clear()
                    now, peak = memory(server.process.pid)
                    done = (quarter + 1) * requests // 4
                    print(f"{done:>7} requests  now {now:6.1f} MB, peak {peak:6.1f} MB", flush=True)
                print(f"{requests / (time.perf_counter() - began):.0f} requests a second, upstream and client included")


async def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    await measure(requests)
    await measure(requests, "--store", "off")


if __name__ == "__main__":
    asyncio.run(main())
