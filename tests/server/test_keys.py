"""API keys: which callers are accepted, and their limits."""

from __future__ import annotations

import hashlib
import json
import stat
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moa.errors import ConfigError, UnknownName
from moa.server.keys import Key, Keys, end_of
from tests.fakes.serving import CONFIG, Served, asking, home, post
from tests.fakes.terminal import run
from tests.fakes.upstream import Upstream, hang, words
from tests.fakes.waiting import holds

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keys made beforehand, by name; "file" is where they are."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    ring = Keys(path)
    made = {"ann": ring.add("ann"), "bob": ring.add("bob", requests_per_minute=2)}
    made |= {"cid": ring.add("cid", dollars_per_day=0.0004), "dot": ring.add("dot", dollars_per_day=0.0001)}
    return {**made, "file": str(path)}


@pytest.fixture(scope="module")
async def server(
    upstream: Upstream, secrets: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path_factory.mktemp("server"), "--keys", secrets["file"], config=config) as server:
        yield server
    assert not any(secret in server.text for name, secret in secrets.items() if name != "file")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    "headers",
    [{}, bearer(""), bearer("moa-wrong"), bearer("ü"), {"Authorization": "Basic x"}, {"Authorization": "moa-x"}],
    ids=str,
)
async def test_without_a_known_key_every_route_is_401(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, headers: dict[str, str]
) -> None:
    """401 in OpenAI's form, for models, completions and metrics; the error does not quote the key that was sent."""
    for method, path in (("POST", "/chat/completions"), ("GET", "/models"), ("GET", "/models/moa/trio")):
        async with http.request(method, server.url + path, json=asking(), headers=headers) as response:
            assert response.status == 401
            payload = await response.json()
            assert (payload["error"]["type"], payload["error"]["code"]) == ("authentication_error", "invalid_api_key")
            assert "wrong" not in json.dumps(payload)
    async with http.get(f"{server.origin}/metrics", headers=headers) as response:
        assert response.status == 401
    assert upstream.requests == []


async def test_health_needs_no_key(http: aiohttp.ClientSession, server: Served) -> None:
    """A load balancer has none."""
    for path in ("/healthz", "/readyz"):
        async with http.get(server.origin + path) as response:
            assert response.status == 200


async def test_a_known_key_is_accepted_and_its_name_is_logged(
    server: Served, secrets: dict[str, str], http: aiohttp.ClientSession
) -> None:
    """The SDK's api_key is enough; the log line and the metrics have the key's name."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=server.url, api_key=secrets["ann"], max_retries=0) as client:
        answer = await client.chat.completions.create(model="moa/trio", messages=[{"role": "user", "content": "?"}])
    assert answer.model_extra
    assert (await server.logged(answer.model_extra["moa"]["run"]))["key"] == "ann"
    async with http.get(f"{server.origin}/metrics", headers=bearer(secrets["ann"])) as response:
        page = await response.text()
    assert 'moa_key_dollars_total{key="ann"}' in page
    assert secrets["ann"] not in page


async def test_the_wrong_key_raises_in_the_sdk(server: Served) -> None:
    """It raises AuthenticationError."""
    import openai
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=server.url, api_key="moa-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_requests_per_minute_are_limited(
    http: aiohttp.ClientSession, server: Served, secrets: dict[str, str]
) -> None:
    """The third request in a minute gets 429 with the seconds to wait; another key is not affected."""
    answers = [await post(http, server, asking("up/a"), headers=bearer(secrets["bob"])) for _ in range(5)]
    assert 429 in [status for status, _, _ in answers]
    refused = next(each for each in answers if each[0] == 429)
    assert (refused[1]["error"]["type"], refused[1]["error"]["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(refused[2]["retry-after"]) <= 60
    assert (await post(http, server, asking("up/a"), headers=bearer(secrets["ann"])))[0] == 200


async def test_dollars_per_day_are_limited(
    http: aiohttp.ClientSession, server: Served, secrets: dict[str, str]
) -> None:
    """Once a key has spent its budget, it gets 429 until the day ends (UTC)."""
    statuses = []
    for _ in range(3):
        status, payload, headers = await post(http, server, asking(), headers=bearer(secrets["cid"]))
        statuses.append(status)
    assert statuses[0] == 200 and statuses[-1] == 429
    assert payload["error"]["code"] == "insufficient_quota"
    assert 1 <= int(headers["retry-after"]) <= 86400
    assert headers["x-should-retry"] == "false"


async def test_disconnecting_early_is_charged(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, secrets: dict[str, str]
) -> None:
    """The text read and written by then counts, as an estimate."""
    upstream.script("last", words("on and on " * 20) + hang())
    async with http.post(
        f"{server.url}/chat/completions", json=asking(stream=True), headers=bearer(secrets["dot"])
    ) as response:
        await response.content.readuntil(b"on")
        run_id = response.headers["x-moa-run"]
    line = await server.logged(run_id)
    assert line["outcome"] == "cancelled" and line["cost"] > 0.0001
    status, _, _ = await post(http, server, asking("up/a"), headers=bearer(secrets["dot"]))
    assert status == 429


# -- where keys are needed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_beyond_this_machine_the_server_needs_keys(tmp_path: Path, host: str) -> None:
    """Exit code 2 and a line with the remedy: make a key, or pass --no-auth."""
    ended = await run("serve", "--host", host, "--port", "0", env=home(tmp_path))
    assert ended.code == 2
    assert ended.out == ""
    assert "moa key add" in ended.err and "--no-auth" in ended.err and "Traceback" not in ended.err


async def test_no_auth_prints_a_warning(upstream: Upstream, tmp_path: Path) -> None:
    """The server starts, and warns that anyone who can reach the address spends the operator's money."""
    config = CONFIG.format(base_url=upstream.base_url)
    async with Served(tmp_path, "--host", "0.0.0.0", "--no-auth", config=config) as server:
        assert server.url.startswith("http://0.0.0.0:")
        await holds(lambda: "WARNING: --no-auth" in server.text)


async def test_the_command_makes_lists_and_removes_keys(tmp_path: Path) -> None:
    """A key is printed once; the file holds its hash and is readable by its owner alone; nothing else shows the key."""
    env = home(tmp_path)
    made = await run("key", "add", "ann", "--requests-per-minute", "60", "--dollars-per-day", "2.5", env=env)
    secret = made.out.strip()
    assert made.code == 0 and secret.startswith("moa-") and len(secret) > 40
    path = tmp_path / "config" / "moa" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text() and secret not in made.err
    assert (
        await run("key", "list", env=env)
    ).out == "ann\t60 requests a minute\t$2.5 a day\tno end\tall models\tspending unknown\n"
    assert (await run("key", "remove", "ann", env=env)).code == 0
    assert len(Keys(path)) == 0


async def test_a_pattern_that_matches_nothing_is_a_warning(upstream: Upstream, tmp_path: Path) -> None:
    """The key is made all the same; models of one's own endpoints may have any name; a date in the past is an error."""
    (tmp_path / "moa.toml").write_text(CONFIG.format(base_url=upstream.base_url))
    options = (
        "--config",
        str(tmp_path / "moa.toml"),
        "--models",
        "trio,moa/oops,up/*",
        "--models",
        "openai/gpt-4o-mini",
    )
    made = await run("key", "add", "ann", *options, "--until", "2999-12-31", env=home(tmp_path))
    assert made.code == 0 and made.out.startswith("moa-")
    assert [line.split("'")[1] for line in made.err.splitlines() if "WARNING" in line] == ["moa/oops"]
    listed = await run("key", "list", env=home(tmp_path))
    assert "\tuntil 2999-12-31\tmoa/trio,moa/oops,up/*,openai/gpt-4o-mini\t" in listed.out
    for date in ("2020-01-01", "soon"):
        refused = await run("key", "add", "bob", "--until", date, env=home(tmp_path))
        assert refused.code == 2 and date in refused.err


async def test_a_removed_key_stops_working_at_once(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, secrets: dict[str, str]
) -> None:
    """A key made or removed while the server runs is known or unknown from the next request on."""
    ring = Keys(Path(secrets["file"]))
    for _ in range(2):
        headers = bearer(ring.add("eve"))
        assert (await post(http, server, asking("up/a"), headers=headers))[0] == 200
        ring.remove("eve")
        assert (await post(http, server, asking("up/a"), headers=headers))[0] == 401
    assert len(upstream.requests) == 2


async def test_a_damaged_file_opens_no_door(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, secrets: dict[str, str]
) -> None:
    """While the file is damaged, a known key may retry and another one is refused; the log has one line about it."""
    path = Keys(Path(secrets["file"])).path
    text = path.read_text()
    for damaged in (text[: len(text) // 2], "", "{}x"):
        path.write_text(damaged)
        status, payload, headers = await post(http, server, asking("up/a"), headers=bearer(secrets["ann"]))
        assert (status, payload["error"]["code"], headers["retry-after"]) == (503, "keys_unreadable", "1")
        assert str(path) not in str(payload)
        assert (await post(http, server, asking("up/a"), headers=bearer("moa-wrong")))[0] == 401
    assert upstream.requests == []
    path.write_text(text)
    assert (await post(http, server, asking("up/a"), headers=bearer(secrets["ann"])))[0] == 200
    assert server.text.count("is no longer a key file") == 1


async def test_an_expired_key_is_refused(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, secrets: dict[str, str]
) -> None:
    """401 with a code of its own, and the date."""
    ring = Keys(Path(secrets["file"]))
    path, before = ring.path, ring.path.read_text()
    headers = bearer(ring.add("old", until="2999-12-31"))
    assert (await post(http, server, asking("up/a"), headers=headers))[0] == 200
    path.write_text(path.read_text().replace("2999-12-31", "2024-02-29"))
    status, payload, _ = await post(http, server, asking("up/a"), headers=headers)
    assert (status, payload["error"]["code"]) == (401, "expired_key")
    assert "2024-02-29" in payload["error"]["message"]
    path.write_text(before)


async def test_a_key_calls_only_its_models(
    http: aiohttp.ClientSession, server: Served, upstream: Upstream, secrets: dict[str, str]
) -> None:
    """By every route: completions, the lists, runs of a model, of a mixture written in the request, and continued ones."""
    headers = bearer(Keys(Path(secrets["file"])).add("few", models=["trio", "up/a"]))

    async def call(method: str, path: str, body: object = None) -> tuple[int, Any]:
        async with http.request(method, server.origin + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    def inline(*members: str) -> dict[str, Any]:
        return {"mixture": {"layers": [[*members]], "aggregator": "up/a"}, "messages": asking()["messages"]}

    for model in ("moa/trio", "trio", "up/a"):
        assert (await post(http, server, asking(model), headers=headers))[0] == 200
    asked = len(upstream.requests)
    refused = [
        *[("/v1/chat/completions", asking(model)) for model in ("moa/safe", "safe", "up/b", "up/any", "moa/nobody")],
        *[("/runs", asking("up/b")), ("/runs", inline("up/b")), ("/runs", inline("moa/safe"))],
        ("/mixtures/toml", inline("up/b")),
    ]
    for path, body in refused:
        status, payload = await call("POST", path, body)
        assert (status, payload["error"]["code"]) == (403, "model_not_found"), (path, body, payload)
    assert len(upstream.requests) == asked
    assert (await call("POST", "/runs", inline("up/a", "moa/trio")))[0] == 201
    assert (await call("GET", "/v1/models/moa/safe"))[0] == 403
    assert (await call("GET", "/v1/models/up/a"))[0] == 200
    for query in ("", "?all=true"):
        _, listed = await call("GET", f"/v1/models{query}")
        assert [row["id"] for row in listed["data"]] == ["moa/trio", "up/a"]
    _, shown = await call("GET", "/mixtures")
    assert [each["name"] for each in shown["mixtures"]] == ["trio"] and shown["models"] == ["up/a"]


def test_an_end_is_a_day_or_a_time() -> None:
    """A day counts to its last moment (UTC); a time without a zone is UTC."""
    key = Key("ann", "", until="2026-12-31")
    midnight = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert not key.has_ended(midnight - 1) and key.has_ended(midnight)
    assert end_of("2026-12-31T18:00") == midnight - 6 * 3600 == end_of("2026-12-31T19:00+01:00")
    assert end_of("9999-12-31") > midnight


def test_the_new_ann_is_another_caller(tmp_path: Path) -> None:
    """A key made again under a name has another ID; a key of an older version, without an ID, goes by its name."""
    ring = Keys(tmp_path / "keys.json")
    old = Key("ann", hashlib.sha256(b"moa-old").hexdigest())
    ring.path.write_text(json.dumps([{"name": old.name, "sha256": old.sha256, "dollars_per_day": 2.5}]))
    found = ring.find("moa-old")
    assert found and found.id == "ann" and found.dollars_per_day == 2.5
    ids = {"ann"}
    for _ in range(2):
        ring.remove("ann")
        new = ring.find(ring.add("ann"))
        assert new and new.id not in ids
        ids.add(new.id)


def test_a_change_of_the_same_size_at_the_same_time_is_seen(tmp_path: Path) -> None:
    """Also in place, where the time of modification does not move on."""
    ring = Keys(tmp_path / "keys.json")
    secret = ring.add("ann")
    assert ring.find(secret)
    text = ring.path.read_text()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    for number in range(50):
        ring.path.write_text(text.replace(digest, "0" * 64))
        assert ring.find(secret) is None, number
        ring.path.write_text(text)
        assert ring.find(secret), number
    ring.path.unlink()
    assert ring.find(secret) is None


def test_processes_that_add_keys_at_once_lose_none(tmp_path: Path) -> None:
    """Each waits for the others."""
    rings = [Keys(tmp_path / "keys.json") for _ in range(8)]
    threads = [threading.Thread(target=ring.add, args=(f"key{n}",)) for n, ring in enumerate(rings)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in Keys(tmp_path / "keys.json")} == {f"key{n}" for n in range(8)}
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


def test_keys_are_compared_whole(tmp_path: Path) -> None:
    """Removed keys are unknown; the file stays private when it is rewritten."""
    ring = Keys(tmp_path / "keys.json")
    ann, bob = ring.add("ann"), ring.add("bob")
    assert [key.name if (key := Keys(ring.path).find(each)) else None for each in (ann, bob, ann[:-1], "")] == [
        *("ann", "bob"),
        *(None, None),
    ]
    for name in ("ann", "a b", ""):
        with pytest.raises(ConfigError):
            ring.add(name)
    ring.remove("ann")
    again = Keys(ring.path)
    assert again.find(ann) is None and len(again) == 1
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    with pytest.raises(UnknownName):
        ring.remove("ann")


@pytest.mark.parametrize(
    "text",
    [
        *("{", "5", "[5]", '[{"name": "x"}]', '[{"name": "x", "sha256": 5}]', '[{"no": 1}]'),
        *(
            f'[{{"name": "x", "sha256": "", {field}}}]'
            for field in ('"until": "soon"', '"models": "a"', '"dollars_per_day": NaN', '"requests_per_minute": "5"')
        ),
    ],
)
def test_an_invalid_key_file_is_an_error(tmp_path: Path, text: str) -> None:
    """ConfigError with the path and the remedy, neither a traceback nor an open server."""
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.json is not a key file"):
        Keys(path)
