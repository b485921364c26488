"""Start a run on your server and follow it, even over a connection that breaks: what the page does, in forty lines.

moa serve &
uv run python examples/watch_run.py "Why is the sky blue?" [http://127.0.0.1:8000] [moa/auto]
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

LAST = ("run_finished", "run_failed", "run_stopped")


async def events(http: aiohttp.ClientSession, run: str) -> AsyncIterator[dict[str, Any]]:
    """Every event of a run, from the first; if the connection breaks, resumes after the last one received."""
    seen = "0"
    while True:
        try:
            async with http.get(f"/runs/{run}/events", headers={"Last-Event-ID": seen}) as response:
                response.raise_for_status()
                async for raw in response.content:
                    name, _, value = raw.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        seen = value
                    elif name == "data":
                        event = json.loads(value)
                        yield event
                        if event["event"] in LAST:
                            return
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            await asyncio.sleep(1)


async def main(question: str, server: str = "http://127.0.0.1:8000", model: str = "moa/auto") -> None:
    async with aiohttp.ClientSession(server, raise_for_status=True) as http:
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        async with http.post("/runs", json=body) as response:
            run = (await response.json())["run"]
        async for event in events(http, run):
            if event["event"] == "agent_finished":
                print(f"{event['agent']} (layer {event['layer']}) is done: {event['usage']['output_tokens']} tokens")
        async with http.get(f"/runs/{run}") as response:
            record = await response.json()
    print(f"\n{record['answer']['text'] or record['answer']['error']}\n")
    for layer in (record["attribution"] or {"layers": []})["layers"]:
        shares = {**layer["shares"], "new": layer["new"]}
        print(f"beside layer {layer['layer']}:", ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["Why is the sky blue?"])))
