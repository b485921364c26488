"""The packages that ``peers.py`` compares: how each is installed, started and called.

Every adapter follows its package's documentation. A server is called over HTTP; a library is called in the driver's process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent

DRIVER = """
import asyncio, json, sys, time
URL = sys.argv[1]

{adapter}

async def one():
    began = time.perf_counter()
    text = await answer("Why is the sky blue?")
    assert "word0" in text, text
    return time.perf_counter() - began

async def many(workers, seconds):
    began, times = time.perf_counter(), []
    async def worker():
        while not times or time.perf_counter() - began < seconds:
            times.append(await one())
    await asyncio.gather(*(worker() for _ in range(workers)))
    return len(times) / (time.perf_counter() - began), times

async def main():
    await many(16, 1.0)
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        _, times = await many(1, 1.5)
        before = await calls()
        rate, done = await many(16, 3.0)
        made = (await calls() - before) / len(done)
        print("round", json.dumps([rate, sorted(times)[len(times) // 2] * 1000, made]), flush=True)

async def calls():
    import urllib.request
    return int(await asyncio.to_thread(lambda: urllib.request.urlopen(sys.argv[2]).read()))

asyncio.run(main())
"""

OVER_HTTP = """
import aiohttp
http = None
async def answer(question):
    global http
    http = http or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
    async with http.post(f"{URL}/chat/completions", json=body) as response:
        return (await response.json())["choices"][0]["message"]["content"]
"""

MOA = """
from moa import Mixture
from moa.models.endpoint import Endpoint
endpoint = Endpoint("up", URL)
mixture = Mixture([[endpoint.model(name) for name in "abc"]], endpoint.model("d"))
async def answer(question):
    return (await mixture.answer(question)).text
"""

MIXTURE_LLM = """
from mixture_llm import Aggregate, Propose, run
from openai import AsyncOpenAI
openai = AsyncOpenAI(base_url=URL, api_key="none")
async def client(model, messages, temp, max_tokens):
    completion = await openai.chat.completions.create(
        model=model, messages=messages, temperature=temp, max_tokens=max_tokens)
    usage = completion.usage
    return completion.choices[0].message.content, usage.prompt_tokens, usage.completion_tokens
async def answer(question):
    text, _ = await run([Propose(["a", "b", "c"]), Aggregate("d")], question, client)
    return text
"""

AUTOGEN = """
from dataclasses import dataclass
from autogen_core import AgentId, RoutedAgent, SingleThreadedAgentRuntime, message_handler
from autogen_core.models import SystemMessage, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

@dataclass
class Question:
    text: str
@dataclass
class Answer:
    text: str

class Worker(RoutedAgent):
    def __init__(self, model):
        super().__init__(model)
        self.client = OpenAIChatCompletionClient(model=model, base_url=URL, api_key="none", model_info=dict(
            vision=False, function_calling=False, json_output=False, structured_output=False, family="unknown"))
    @message_handler
    async def work(self, message: Question, context) -> Answer:
        result = await self.client.create([UserMessage(content=message.text, source="user")])
        return Answer(result.content)

class Orchestrator(Worker):
    @message_handler
    async def work(self, message: Question, context) -> Answer:
        proposals = await asyncio.gather(*(self.send_message(message, AgentId(name, "x")) for name in "abc"))
        system = "Synthesize one answer from these:" + "".join(f"\\n{n}. {s.text}" for n, s in enumerate(proposals, 1))
        messages = [SystemMessage(content=system), UserMessage(content=message.text, source="user")]
        return Answer((await self.client.create(messages)).content)

runtime = None
async def answer(question):
    global runtime
    if runtime is None:
        runtime = SingleThreadedAgentRuntime()
        for name in "abc":
            await Worker.register(runtime, name, lambda name=name: Worker(name))
        await Orchestrator.register(runtime, "d", lambda: Orchestrator("d"))
        runtime.start()
    return (await runtime.send_message(Question(question), AgentId("d", "x"))).text
"""

SWARMS = """
import threading
from concurrent.futures import ThreadPoolExecutor
from swarms import Agent, MixtureOfAgents
local, pool = threading.local(), ThreadPoolExecutor(16)
def agent(name):
    return Agent(agent_name=name, model_name=f"openai/{name}", llm_base_url=URL, llm_api_key="none",
                 system_prompt="Answer.", max_loops=1, print_on=False)
def ask(question):
    if not hasattr(local, "mixture"):  # an instance holds one conversation, so each thread has its own
        local.mixture = MixtureOfAgents(agents=[agent(n) for n in "abc"], aggregator_agent=agent("d"), layers=1)
    return str(local.mixture.run(question))
async def answer(question):
    return await asyncio.get_running_loop().run_in_executor(pool, ask, question)
"""


@dataclass
class Contender:
    """One package to measure.

    Attributes:
        kind: ``server`` or ``library``.
        adapter: Python code that defines ``async def answer(question)``, put into :data:`DRIVER`.
        packages: what is installed for it, in an environment of its own; none: it runs in this environment.
        serve: the command that starts its server. ``{python}``, ``{bin}``, ``{url}``, ``{folder}``
            and ``{port}`` are filled in.
        rounds: of each round requests a second, milliseconds of one request, and upstream calls a request.
        skipped: why it is left out of the table, if it is.
    """

    name: str
    kind: str
    adapter: str
    packages: tuple[str, ...] = ()
    serve: tuple[str, ...] = ()
    rounds: list[tuple[float, float, float]] = field(default_factory=list)
    skipped: str = ""


CONTENDERS = (
    Contender(
        "bare proxy", "server", "MODEL = 'm'\n" + OVER_HTTP, serve=("{python}", str(HERE / "bare_proxy.py"), "{url}")
    ),
    Contender(
        "moa serve",
        "server",
        "MODEL = 'moa/m'\n" + OVER_HTTP,
        serve=("{python}", "-m", "moa", "serve", "--port", "0", "--config", "{folder}/moa.toml", "--store", "off"),
    ),
    Contender("moa", "library", MOA),
    Contender(
        "optillm",
        "server",
        "MODEL = 'moa-a'\n" + OVER_HTTP,
        packages=("optillm",),
        serve=("{bin}/optillm", "--approach", "moa", "--base-url", "{url}", "--port", "{port}", "--log", "error"),
    ),
    Contender("mixture-llm", "library", MIXTURE_LLM, packages=("mixture-llm", "openai")),
    Contender("AutoGen", "library", AUTOGEN, packages=("autogen-core", "autogen-ext[openai]")),
    Contender("swarms", "library", SWARMS, packages=("swarms",)),
)
