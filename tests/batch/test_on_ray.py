"""A job on Ray, for real: two workers on this machine, a file system that speaks S3, and a driver that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("ray", reason="Ray is not installed: uv sync --group ray")

pytestmark = pytest.mark.slow

MOA = [sys.executable, "-m", "moa"]
UPSTREAM = Path(__file__).parents[2] / "benchmarks" / "batch_upstream.py"
CONFIG = """
[endpoints.up]
base_url = "{url}"
max_concurrency = 8

[mixtures.m]
layers = [["up/a"]]
aggregator = "up/b"

[prices]
"up/*" = {{ input = 1, output = 1 }}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    command = [sys.executable, str(UPSTREAM), "--shortest", "0.01", "--longest", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


def counts(url: str) -> dict[str, Any]:
    with urlopen(url) as response:
        counted: dict[str, Any] = json.load(response)
    return counted


@pytest.fixture
def folder(tmp_path: Path, upstream: str) -> Path:
    (tmp_path / "moa.toml").write_text(CONFIG.format(url=upstream))
    for name in ("a", "b"):
        rows = [{"prompt": f"{name} {number}", "topic": number} for number in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def job(folder: Path, rows: str, out: str, **environ: str) -> subprocess.Popen[str]:
    command = [*MOA, "batch", rows, "-m", "m", "-o", out, "--engine", "ray", "--workers", "2", "--json"]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def answers(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for part in out.iterdir() for line in part.read_text().splitlines()]


def test_a_job_whose_driver_is_killed_is_continued(folder: Path, upstream: str) -> None:
    """Each row is in the output once, the books have what was paid twice, and the shared limit was never passed."""
    (folder / "bad.jsonl").write_text('{"no": "prompt"}\n')
    with job(folder, "*.jsonl", "out") as killed:
        checkpoint = folder / "out.job" / "checkpoint"
        while killed.poll() is None and not (checkpoint.is_dir() and any(checkpoint.iterdir())):
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    with job(folder, "*.jsonl", "out") as again:
        assert again.stdout
        summary = json.loads(again.stdout.read())
    found = answers(folder / "out")
    assert Counter(each["id"] for each in found) == {
        **{f"{name}.jsonl:{number}": 1 for name in "ab" for number in range(1, 31)},
        "bad.jsonl:1": 1,
    }
    assert all(each["answer"] and each["topic"] is not None for each in found if each["id"] != "bad.jsonl:1")
    assert [each["error"]["type"] for each in found if each["error"]] == ["RequestRejected"]
    assert (summary["rows"], summary["left"]) == (61, 0)
    assert summary["cost"] >= sum(each["cost"] for each in found) - 1e-9
    assert counts(upstream)["most"] <= 8


def test_rows_and_answers_in_a_bucket(folder: Path) -> None:
    """Input and output may be on a server that speaks S3, the job's own files too."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: uv sync --group ray")
    boto3 = pytest.importorskip("boto3")
    s3 = server.ThreadedMotoServer(port=0, verbose=False)
    s3.start()
    try:
        host, port = s3.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_bucket(Bucket="bucket")
        client.upload_file(str(folder / "a.jsonl"), "bucket", "prompts/a.jsonl")
        query = f"?endpoint_override={host}%3A{port}&scheme=http&allow_bucket_creation=true"
        with job(folder, f"s3://bucket/prompts{query}", f"s3://bucket/answers{query}", **keys) as running:
            assert running.stdout
            summary = json.loads(running.stdout.read())
        listed = client.list_objects_v2(Bucket="bucket", Prefix="answers/")["Contents"]
        parts = [client.get_object(Bucket="bucket", Key=each["Key"])["Body"].read().decode() for each in listed]
        lines = [line for part in parts for line in part.splitlines()]
        assert len({json.loads(line)["id"] for line in lines}) == len(lines) == summary["rows"] == 30
        assert client.list_objects_v2(Bucket="bucket", Prefix="answers.job/")["KeyCount"] > 2
    finally:
        s3.stop()
