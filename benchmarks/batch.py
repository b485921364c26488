"""What ``moa batch`` reaches on one machine: throughput at an endpoint's limit, CPU, memory, and what kills cost.

    uv run python benchmarks/batch.py [rate] [cpu] [memory] [kills] [--scale SHARE]

All calls go to ``batch_upstream.py`` on this machine, so every figure is a ratio to that upstream in the same run:

- rate: calls take 0.2 to 4 s (lognormal), 4 calls a row, and the endpoint takes 400 at a time. The ideal is the sum of the
  calls' times, as the upstream counts it, divided by 400. Once with that limit in moa.toml, once with an endpoint that
  refuses further calls with 429 and whose limit the job must find.
- cpu: CPU time of the process a row, beyond a loop that makes the same calls with the same client.
- memory: the resident memory of a job of 100,000 rows without latency, after its first 5,000 rows.
- kills: a job of 5,000 rows is killed 20 times at random moments and started again. In flight at a kill are the calls whose
  results were not on disk, although the upstream had answered.

A machine that is busy with other work reaches less of ``rate``, as the client's own CPU becomes the limit; ``--scale 0.1``
measures with a tenth of the rows, and an endpoint that takes a tenth of the calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import uvloop

HERE = Path(__file__).parent
CALLS = 4
LIMIT = 400

CONFIG = """
[endpoints.up]
base_url = "{url}"
{limit}

[prices."up/*"]
input = 1.0
output = 1.0

[mixtures.open]
layers = [["up/a", "up/b", "up/c"]]
aggregator = "up/d"
"""


@contextmanager
def upstream(*arguments: str) -> Iterator[str]:
    """An upstream in a process of its own; gives its base URL."""
    command = [sys.executable, str(HERE / "batch_upstream.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def figures(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url) as response:
        found: dict[str, Any] = json.load(response)
    return found


def prepare(folder: Path, url: str, rows: int, limit: str = "") -> None:
    (folder / "moa.toml").write_text(CONFIG.format(url=url, limit=limit))
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": f"row-{n}", "prompt": f"Question {n}: why?"}) + "\n" for n in range(rows))


def child(folder: Path, what: str) -> subprocess.Popen[str]:
    """This file in a process of its own, whose standard output is lines of JSON."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "batch.py"), "child", what, str(folder)], stdout=subprocess.PIPE, text=True
    )


def last_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


# -- in the child -----------------------------------------------------------------------------------------------------


def run_child(what: str, folder: Path) -> None:
    os.chdir(folder)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as moa batch does
        runner.run(job() if what == "job" else bare())


async def job() -> None:
    from moa.batch.job import Job, Options
    from moa.batch.pace import Paces
    from moa.batch.progress import Progress
    from moa.config.config import Config

    sampled = list[tuple[int, float]]()

    def sample(progress: Progress) -> None:
        if progress.answered % 5000 == 0:
            sampled.append((progress.answered, resident()))

    paces = Paces()
    async with Config("moa.toml", around=paces.around) as config:
        config.prices.load()
        with Job(
            "rows.jsonl", Path("answers.jsonl"), config.mixture("open"), paces, Options(), on_progress=sample
        ) as it:
            cpu, began = time.process_time(), time.monotonic()
            result = await it.run()
            cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    print(json.dumps({"cpu": cpu, "seconds": seconds, "memory": sampled, "answered": result["answered"]}))


async def bare() -> None:
    """The same calls with the same client, and nothing else: three at a time, then one, 64 rows at a time."""
    from moa.batch.pace import connections
    from moa.config.config import Config
    from moa.messages import Request

    connections()
    async with Config("moa.toml") as config:
        models = [config.model(f"up/{name}") for name in "abcd"]
        lines = await asyncio.to_thread(Path("rows.jsonl").read_text)
        prompts = [json.loads(line)["prompt"] for line in lines.splitlines()]

        async def call(index: int, prompt: str) -> None:
            async for _ in models[index].stream(Request.of(prompt)):
                pass

        async def one(prompt: str) -> None:
            await asyncio.gather(*(call(index, prompt) for index in range(3)))
            await call(3, prompt)

        cpu = time.process_time()
        for start in range(0, len(prompts), 64):
            await asyncio.gather(*(one(prompt) for prompt in prompts[start : start + 64]))
        print(json.dumps({"cpu": time.process_time() - cpu}))


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


# -- what is measured -------------------------------------------------------------------------------------------------


def rate(scale: float) -> None:
    rows, most = int(8000 * scale), int(LIMIT * scale)
    print(
        "\n| endpoint | rows | seconds | ideal | of ideal | most at a time | refused |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for name, limit in (("limit in moa.toml", f"max_concurrency = {most}"), ("limit to be found", "")):
        arguments = ("--shortest", "0.2", "--longest", "4", "--limit", str(most))
        with tempfile.TemporaryDirectory() as place, upstream(*arguments) as url:
            folder = Path(place)
            prepare(folder, url, rows, limit)
            found, counts = last_line(child(folder, "job")), figures(url)
        ideal = counts["seconds"] / most
        share = ideal / found["seconds"]
        print(
            f"| {name} | {rows} | {found['seconds']:.1f} | {ideal:.1f} | {share:.2f} | {counts['most']} "
            f"| {counts['refused']} |",
            flush=True,
        )


def cpu(scale: float) -> None:
    rows = int(3000 * scale)
    costs = {}
    for what in ("bare", "job"):
        with tempfile.TemporaryDirectory() as place, upstream() as url:
            prepare(Path(place), url, rows)
            costs[what] = last_line(child(Path(place), what))["cpu"] / rows * 1000
    print("\n| CPU a row of 4 calls | ms |\n|---|---:|")
    print(f"| a bare loop of the calls | {costs['bare']:.2f} |\n| the job | {costs['job']:.2f} |")
    print(f"| beyond the loop | {costs['job'] - costs['bare']:.2f} |", flush=True)


def memory(scale: float) -> None:
    rows = int(100_000 * scale)
    with tempfile.TemporaryDirectory() as place, upstream() as url:
        prepare(Path(place), url, rows)
        found = last_line(child(Path(place), "job"))
    after = [size for answered, size in found["memory"] if answered >= 5000]
    print("\n| rows | resident MB |\n|---:|---:|")
    for answered, size in found["memory"][:: max(1, len(found["memory"]) // 5)]:
        print(f"| {answered:,} | {size:.1f} |")
    print(f"\nfrom {min(after):.1f} to {max(after):.1f} MB; {rows / found['seconds']:.0f} rows/s", flush=True)


def kills(scale: float, times: int = 20) -> None:
    rows = int(5000 * scale)
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as place, upstream("--shortest", "0.02", "--longest", "0.4", "--count") as url:
        folder = Path(place)
        prepare(folder, url, rows)
        lost = killed = 0
        while True:
            process, before = child(folder, "job"), figures(url)["answered"]
            try:
                if killed < times:
                    while figures(url)["answered"] == before and process.poll() is None:
                        time.sleep(0.05)
                    process.wait(chance.uniform(0.05, 1.5))
                else:
                    process.wait()
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
                lost = figures(url)["answered"] - on_disk(folder / "answers.jsonl.job" / "journal.sqlite")
                continue
            process.communicate()
            if process.returncode:
                raise SystemExit(f"the job ended with {process.returncode}")
            break
        ids = [json.loads(line)["id"] for line in (folder / "answers.jsonl").read_text().splitlines()]
        counts = figures(url)
    once = "yes" if ids == [f"row-{n}" for n in range(rows)] else "NO"
    print(
        "\n| rows | kills | each ID once, in order | calls answered | needed | twice | in flight at kills | most at a time |"
    )
    print("|---:|---:|---|---:|---:|---:|---:|---:|")
    calls = f"{counts['answered']} | {rows * CALLS} | {counts['again']} | {lost} | {counts['most']}"
    print(f"| {rows} | {killed} | {once} | {calls} |", flush=True)


def on_disk(journal: Path) -> int:
    """The calls whose results a job has on disk."""
    with closing(sqlite3.connect(journal)) as file:
        query = "SELECT 4 * (SELECT count(*) FROM answers) + (SELECT count(*) FROM proposals)"
        found: int = file.execute(query).fetchone()[0]
    return found


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        run_child(sys.argv[2], Path(sys.argv[3]))
        return
    measured = {"rate": rate, "cpu": cpu, "memory": memory, "kills": kills}
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[*measured])
    parser.add_argument("--scale", type=float, default=1.0, metavar="SHARE")
    given = parser.parse_args()
    for name in given.names:
        measured[name](given.scale)


if __name__ == "__main__":
    main()
