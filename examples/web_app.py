"""Stream a mixture to a web page: all events at /events, the answer's text at /text. Disconnecting cancels the run.

uv run python examples/web_app.py &
curl -N "http://127.0.0.1:8765/text?question=Name+a+fruit."
"""

import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from moa import Mixture, as_json

app = FastAPI()
mixture = Mixture([["local/smollm2", "local/smollm2"]], aggregate="central")


@app.get("/events")
async def events(question: str) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async with mixture.run(question, max_tokens=16) as run:
            async for event in run:
                yield f"data: {json.dumps(as_json(event))}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/text")
async def text(question: str) -> StreamingResponse:
    words = (delta.text async for delta in mixture.stream(question, max_tokens=16))
    return StreamingResponse(words, media_type="text/plain")


uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8765)
