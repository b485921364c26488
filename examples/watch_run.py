"""Start a run on your server and follow it, even over a connection that breaks: what the page does, in sixty lines.

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
AGAIN = 1.0
"""Seconds before a connection that broke, or a stream that ended too early, is opened again."""


async def events(http: aiohttp.ClientSession, run: str) -> AsyncIterator[dict[str, Any]]:
    """Every event of a run, from the first; if the connection breaks, resumes after the last one received."""
    seen = "0"
    while True:
        try:
            async with http.get(f"/runs/{run}/events", headers={"Last-Event-ID": seen}) as response:
                if response.status == 204:  # the run is over, and there are no more events
                    return
                async for raw in response.content:
                    name, _, value = raw.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        number = value
                    elif name == "data":
                        event = json.loads(value)
                        seen = number
                        yield event
                        if event["event"] in LAST:
                            return
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            pass
        await asyncio.sleep(AGAIN)


async def main(question: str, server: str = "http://127.0.0.1:8000", model: str = "moa/auto") -> None:
    # No limit for the whole, which may take long; the server sends a comment after 10 seconds of silence.
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(server, timeout=timeout, raise_for_status=True) as http:
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
