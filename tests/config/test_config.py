from __future__ import annotations

import json
from pathlib import Path

import pytest

from moa import Config, Mixture, Request
from moa.cli.drawing import drawing
from moa.config.export import toml_of
from moa.config.file import line_of
from moa.errors import ConfigError, KeyMissing, UnknownName
from moa.messages import text_of
from tests.fakes.upstream import Upstream, say

pytestmark = pytest.mark.anyio

WHOLE = """\
[endpoints.mine]
base_url = "{url}"
api_key_env = "MINE_KEY"
max_concurrency = 8
requests_per_minute = 6000
tokens_per_minute = 1e9
timeouts = {{ connect = 5, stall = 30 }}

[prices]
"mine/*" = {{ input = 1, output = 2.0 }}

[mixtures.lite]
description = "three and one"
layers = [["mine/a", "mine/b", "mine/c"]]
aggregator = "mine/a"

[mixtures.careful]
layers = [[{{ model = "mine/a", name = "sceptic", persona = "Doubt everything.", temperature = 0.2 }}, "mine/b"],
          ["mine/b", "mine/c"]]
aggregator = {{ model = "mine/a", temperature = 0.3, fallbacks = ["mine/b"] }}
references = "user"
min_proposals = 2
deadline = 60
max_cost = 0.05

[mixtures.outer]
layers = [["moa/lite", "mine/c"]]
aggregator = "mine/b"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str, name: str = "moa.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


async def test_a_file_becomes_mixtures_that_answer(
    folder: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoints, agents, personas, sampling, prices and nested mixtures of a file apply to its calls."""
    monkeypatch.setenv("MINE_KEY", "sk-mine")
    for name in "abc":
        upstream.script(name, say(f"answer of {name}", tokens=(100, 50)))
    written(folder, WHOLE.format(url=upstream.base_url))
    async with Config() as config:
        answer = await config.mixture("careful").answer("Why?")
        assert answer.text == "answer of a"
        assert [(call.agent, call.layer) for call in answer.calls] == [
            ("sceptic", 1),
            ("b", 1),
            ("b", 2),
            ("c", 2),
            ("a", 3),
        ]
        assert answer.cost.dollars == pytest.approx(5 * 200 / 1e6)
        sceptic = upstream.calls("a")[0]
        assert sceptic.body["temperature"] == 0.2
        assert "Doubt everything." in sceptic.body["messages"][0]["content"]
        assert sceptic.headers["Authorization"] == "Bearer sk-mine"
        outer = await config.mixture("moa/outer").answer("Why?")
        assert [call.agent for call in outer.calls] == ["lite", "c", "b"]
        assert len(outer.calls[0].calls) == 4
        said = [delta.text async for delta in config.model("mine/c").stream(Request.of("Why?"))]
        assert "".join(said) == "answer of c"


def test_where_the_file_is_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path given, then MOA_CONFIG, then ./moa.toml, then the file in the home directory; otherwise only the presets."""
    one = '[mixtures.{0}]\nlayers = [["ollama/x"]]\naggregator = "ollama/x"\n'
    home = folder / "home" / "moa"
    home.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    assert Config().path is None
    written(home, one.format("home"))
    assert Config().names()[0] == "home"
    written(folder, one.format("here"))
    assert Config().names()[0] == "here"
    monkeypatch.setenv("MOA_CONFIG", str(written(folder, one.format("env"), "env.toml")))
    assert Config().names()[0] == "env"
    assert Config(written(folder, one.format("given"), "given.toml")).names()[0] == "given"


def test_a_file_that_is_only_found_runs_no_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moa.toml in the current folder may be another person's: its api_key_command needs the user's own word."""
    text = '[endpoints.mine]\nbase_url = "http://127.0.0.1/v1"\napi_key_command = ["touch", "secret"]\n'
    path = written(folder, text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    with pytest.raises(ConfigError) as caught:
        Config()
    said = str(caught.value)
    assert said.startswith("moa.toml:3: endpoints.mine.api_key_command: ")
    assert "'touch'" in said
    assert "--config moa.toml or MOA_CONFIG=moa.toml" in said
    assert "secret" not in said
    Config(path)
    Config("moa.toml")
    monkeypatch.setenv("MOA_CONFIG", "moa.toml")
    Config()
    monkeypatch.delenv("MOA_CONFIG")
    path.unlink()
    (folder / "home" / "moa").mkdir(parents=True)
    written(folder / "home" / "moa", text)
    assert Config().endpoints == ["mine"]


def test_a_named_file_must_exist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config and MOA_CONFIG are errors if the file does not exist."""
    with pytest.raises(ConfigError, match=r"--config names 'no.toml', but no such file exists"):
        Config("no.toml")
    monkeypatch.setenv("MOA_CONFIG", "no.toml")
    with pytest.raises(ConfigError, match=r"MOA_CONFIG names 'no.toml'"):
        Config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mixtures.a\n", ":1: not valid TOML: Expected ']'"),
        ("x = 1\n", ":1: x: no such field; known fields: default, "),
        (
            '[mixtures.a]\nlayers = [["x/y"]]\nagregator = "x/y"\n',
            ":3: mixtures.a.agregator: no such field; did you mean 'aggregator'?",
        ),
        (
            '[mixtures.a]\nlayers = [["x/y"]]\n\ndeadline = "soon"\n',
            ":4: mixtures.a.deadline: should be a valid number, got 'soon'",
        ),
        (
            '[mixtures.a]\nlayers = [["x/y"]]\nmin_proposals = 0\n',
            ":3: mixtures.a.min_proposals: should be greater than or equal to 1, got 0",
        ),
        ('[mixtures.a]\nlayers = "x/y"\n', ":2: mixtures.a.layers: should be a valid list, got 'x/y'"),
        ("[mixtures.a]\nlayers = [[]]\n", ":2: mixtures.a.layers.0: List should have at least 1 item"),
        ('[mixtures.a]\nlayers = [["x/y", 3]]\n', ":2: mixtures.a.layers.0.1"),
        ('[mixtures.a]\nlayers = [[{ name = "x" }]]\n', ":2: mixtures.a.layers.0.0.model: this field is missing"),
        (
            '[mixtures.a]\nlayers = [[{ model = "x/y", temprature = 1 }]]\n',
            "no such field 'temprature'; did you mean 'temperature'?",
        ),
        (
            '[mixtures.a]\naggregate = "best"\n',
            ":2: mixtures.a.aggregate: should be 'synthesize', 'select', 'central', 'vote' or 'mux', got 'best'",
        ),
        (
            '[mixtures.a]\nlayers = [["x/y"]]\naggregate = "vote"\nweights = { "x/y" = 1.0 }\n',
            ":4: mixtures.a.weights.x/y: should be less than 1, got 1.0",
        ),
        (
            '[mixtures.a]\nlayers = [["x/y"]]\naggregate = "mux"\nweights = { "x/y" = nan }\n',
            ":4: mixtures.a.weights.x/y: should be less than 1, got nan",
        ),
        (
            '[mixtures.a]\nlayers = [["x/y"]]\nweights = { "x/y" = 0.5 }\n',
            ':1: mixtures.a: weights belongs to aggregate = "vote" or "mux", not \'synthesize\'',
        ),
        ('[mixtures.a]\nprompt = "x"\nprompt_file = "y"\n', ":1: mixtures.a: give prompt or prompt_file, not both"),
        (
            '[mixtures.a]\naggregate = "select"\nanalysis = true\n',
            "mixtures.a: analysis is True, which belongs to aggregate = \"synthesize\", not 'select'",
        ),
        (
            '[mixtures.a]\naggregate = "central"\nwindow = 3\n',
            "mixtures.a: window is 3, which belongs to aggregate = \"synthesize\", not 'central'",
        ),
        ("[mixtures.a]\nwindow = 0\n", ":2: mixtures.a.window: should be greater than or equal to 1, got 0"),
        ("[mixtures.a]\nreads = 0\n", ":2: mixtures.a.reads"),
        ('[mixtures.a]\nreads = "some"\n', ":2: mixtures.a.reads"),
        ("[mixtures.a]\nrounds = 0\n", ":2: mixtures.a.rounds: should be greater than or equal to 1, got 0"),
        ('[endpoints.a]\nbase_url = "localhost:8000"\n', ":2: endpoints.a.base_url: expected http://"),
        ('[endpoints.a]\nbase_url = "http://u:p@host/v1"\n', ":2: endpoints.a.base_url: expected http://"),
        ('[endpoints.a]\napi_key = "sk-1"\n', ":2: endpoints.a.api_key: no such field; did you mean 'api_key_env'?"),
        (
            '[endpoints.a]\nheaders = { Authorization = "x" }\n',
            "Authorization holds a key; put the name of its environment variable",
        ),
        (
            '[endpoints.a]\nheaders = { "api-key" = "x" }\n',
            'environment variable into api_key_env instead and set auth_header = "api-key"',
        ),
        ('[endpoints.a]\nauth_header = "api key"\n', ":2: endpoints.a.auth_header: expected the name of a header"),
        (
            '[endpoints.a]\napi_key_env = "A"\napi_key_command = ["b"]\n',
            "give api_key_env or api_key_command, not both",
        ),
        ("[endpoints.a]\napi_key_command = []\n", ":2: endpoints.a.api_key_command: "),
        ('[endpoints.a]\napi = "gemini"\n', ":2: endpoints.a.api: should be 'chat', 'responses', 'anthropic'"),
        (
            "[endpoints.a]\ntimeouts = { frist_token = 3 }\n",
            ":2: endpoints.a.timeouts.frist_token: no such field; did you mean 'first_token'?",
        ),
        (
            '[prices]\n"a/b" = { input = -1, output = 1 }\n',
            ":2: prices.a/b.input: should be greater than or equal to 0, got -1",
        ),
        ('[endpoints.local]\nbase_url = "http://127.0.0.1/v1"\n', ":1: the name of endpoint 'local' is reserved"),
        ('[mixtures."a/b"]\nlayers = []\n', "the name of mixture 'a/b' may hold only letters"),
    ],
)
def test_an_error_has_file_line_field_and_expectation(folder: Path, text: str, said: str) -> None:
    """One line: the file, the line, the field, what was expected."""
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        Config()
    assert str(caught.value).startswith(f"{path.name}:")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_api_key_in_the_file_is_not_repeated(folder: Path) -> None:
    """A key in place of the name of its variable is an error that does not show the key."""
    written(folder, '[endpoints.a]\nbase_url = "http://127.0.0.1/v1"\napi_key_env = "sk-live-1234"\n')
    with pytest.raises(ConfigError) as caught:
        Config()
    assert "expected the name of an environment variable, not a key" in str(caught.value)
    assert "1234" not in str(caught.value)


def test_unknown_names_get_a_suggestion(folder: Path) -> None:
    """Mixtures and providers: the error suggests the most similar name."""
    written(folder, '[mixtures.lite]\nlayers = [["grok/x"]]\naggregator = "grok/x"\n')
    config = Config()
    with pytest.raises(UnknownName, match=r"no mixture is called 'papr'; did you mean 'paper'\?"):
        config.mixture("papr")
    with pytest.raises(
        UnknownName, match=r"moa.toml: mixtures.lite: no provider is called 'grok'; did you mean 'groq'\?"
    ):
        config.mixture("lite")
    with pytest.raises(UnknownName, match="no provider is called 'mine'"):
        config.model("mine/x")


def test_a_missing_key_names_its_variable(folder: Path) -> None:
    """Both for known providers and for endpoints of the file."""
    written(folder, '[endpoints.mine]\nbase_url = "http://127.0.0.1:1/v1"\napi_key_env = "MINE_KEY"\n')
    config = Config()
    with pytest.raises(KeyMissing, match="set the environment variable GROQ_API_KEY"):
        config.model("groq/x")
    with pytest.raises(KeyMissing, match="endpoint 'mine' needs a key: set the environment variable MINE_KEY"):
        config.model("mine/x")
    with pytest.raises(KeyMissing, match="TOGETHER_API_KEY"):
        config.mixture("paper")


def test_a_known_providers_key_is_not_sent_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known provider with another base_url gets no key, unless the file names the variable."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    written(folder, '[endpoints.openai]\nbase_url = "http://127.0.0.1:1/v1"\n')
    assert "sk-secret" not in repr(vars(Config().catalog.endpoint("openai")))


def test_weights_are_a_setting_of_counting(folder: Path) -> None:
    """They reach the aggregation, belong to the identity and the written table, and name a proposer or its model."""
    text = '[endpoints.up]\nbase_url = "http://127.0.0.1:9/v1"\n'
    for name, settings in (
        ("plain", ""),
        ("weighted", 'weights = { "up/a" = 0.8 }'),
        ("wrong", 'weights = { "up/z" = 0.8 }'),
    ):
        text += f'[mixtures.{name}]\nlayers = [["up/a", "up/b"]]\naggregate = "vote"\n{settings}\n'
    config = Config(written(folder, text))
    weighted = config.mixture("weighted")
    assert repr(weighted.aggregate) == "Vote(weights={'up/a': 0.8})"
    assert weighted.traits.identity != config.mixture("plain").traits.identity.replace("plain", "weighted")
    assert '[mixtures.weighted.weights]\n"up/a" = 0.8' in toml_of("weighted", config.table("weighted"))
    with pytest.raises(
        ConfigError, match="weights names 'up/z', which is no proposer and no proposer's model; did you mean"
    ):
        config.mixture("wrong")


@pytest.mark.parametrize("members", [("a", "a"), ("b", "a"), ("b", "c", "a")])
def test_a_mixture_that_contains_itself_is_an_error(folder: Path, members: tuple[str, ...]) -> None:
    """Directly or through other mixtures; the error shows the chain."""
    names = ["a", *members[:-1]] if members[0] != "a" else ["a"]
    tables = [
        f'[mixtures.{name}]\nlayers = [["moa/{member}"]]\naggregator = "ollama/x"\n'
        for name, member in zip(names, [*names[1:], "a"], strict=True)
    ]
    written(folder, "\n".join(tables))
    with pytest.raises(ConfigError, match=r"a mixture cannot be a member of itself: moa/a -> .*moa/a"):
        Config().mixture("a")


@pytest.mark.parametrize(
    ("expected", "schedule"),
    [
        ('{ kind = "barrier" }', "Barrier()"),
        ('{ kind = "barrier", warm = true }', "Barrier(warm=True)"),
        ('{ kind = "quorum", usable = 2, grace = 1.5, require = ["x"], hedge = 3 }', "Quorum(2, grace=1.5)"),
        ('{ kind = "staircase" }', "Staircase((32, 128, 384))"),
        (
            '{ kind = "staircase", chunks = [16, 64], early_exit = 0.8 }',
            "EarlyExit(Staircase((16, 64)), threshold=0.8)",
        ),
    ],
)
def test_every_schedule_can_be_configured(folder: Path, expected: str, schedule: str) -> None:
    """A table of each kind makes the schedule of that kind."""
    written(
        folder, f'[mixtures.a]\nlayers = [["ollama/x", "ollama/y"]]\naggregator = "ollama/x"\nschedule = {expected}\n'
    )
    assert repr(Config().mixture("a").schedule) == schedule


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ('{ kind = "stairs" }', ":2: mixtures.a.schedule: expected kind = 'barrier', 'quorum', 'staircase'"),
        ("{ usable = 2 }", ":2: mixtures.a.schedule: expected kind = 'barrier', 'quorum', 'staircase'"),
        (
            '{ kind = "quorum", usable = 2, grase = 1 }',
            ":2: mixtures.a.schedule.grase: no such field; did you mean 'grace'?",
        ),
        ('{ kind = "quorum" }', ":2: mixtures.a.schedule.usable: this field is missing"),
        ('{ kind = "staircase", chunks = [96, 32] }', "chunks must grow"),
        (
            '{ kind = "barrier", early_exit = 2 }',
            ":2: mixtures.a.schedule.early_exit: should be less than or equal to 1, got 2",
        ),
    ],
)
def test_an_invalid_schedule_is_an_error(folder: Path, expected: str, said: str) -> None:
    """The error has line, field and what was expected."""
    written(folder, f"[mixtures.a]\nschedule = {expected}\n")
    with pytest.raises(ConfigError) as caught:
        Config()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_prompt_replaces_the_default_word_for_word(folder: Path, upstream: Upstream) -> None:
    """prompt in the file, or prompt_file next to it."""
    for name in ("p", "l"):
        upstream.script(name, say("x"))
    (folder / "mine.txt").write_text("You have been provided with a set of responses.\n")
    written(
        folder,
        f'[endpoints.e]\nbase_url = "{upstream.base_url}"\n'
        '[mixtures.a]\nlayers = [["e/p"]]\naggregator = "e/l"\nprompt_file = "mine.txt"\nreferences = "system"\n'
        '[mixtures.b]\nlayers = [["e/p"]]\naggregator = "e/l"\nprompt_file = "none.txt"\n',
    )
    async with Config() as config:
        await config.mixture("a").answer("Why?")
        system = text_of(upstream.calls("l")[0].body["messages"][0])
        assert system.startswith("You have been provided with a set of responses.\n\n<response 1 ")
        with pytest.raises(ConfigError, match=r"prompt_file 'none.txt' cannot be read: No such file"):
            config.mixture("b")


def test_mixtures_are_listed_without_opening_models(folder: Path) -> None:
    """No API key is needed; mixtures of the file come first and override presets of the same name."""
    written(
        folder,
        '[mixtures.paper]\ndescription = "mine"\nlayers = [["groq/x"]]\n'
        'aggregator = { model = "groq/y", fallbacks = ["groq/z"] }\n',
    )
    listed = {each.name: each for each in Config().listed()}
    assert next(iter(listed)) == "paper"
    assert (listed["paper"].description, listed["paper"].source) == ("mine", "moa.toml")
    assert [member.model for member in listed["paper"].aggregators] == ["groq/y", "groq/z"]
    assert [len(layer) for layer in listed["paper-gpt4o"].layers] == [6, 6]
    assert listed["self"].source == "preset"


def test_a_mixture_is_opened_once(folder: Path) -> None:
    """Every call returns the same object, and so uses the same connections."""
    written(folder, '[mixtures.a]\nlayers = [["ollama/x"]]\naggregator = "ollama/x"\n')
    config = Config()
    assert config.mixture("a") is config.mixture("moa/a") is config.model("a")
    assert isinstance(config.model("moa/a"), Mixture)


def test_deeper_mixtures_are_configured(folder: Path) -> None:
    """Rounds, subsets, a window and an analysis reach the mixture, its table as TOML, and the drawing."""
    fields = {"reads": 2, "rounds": 3, "window": 4, "analysis": True}
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    table = "\n".join(
        [
            "[mixtures.deep]",
            'layers = [["local/smollm2", "local/smollm2", "local/smollm2"]]',
            'aggregator = "local/smollm2"',
            *lines,
        ]
    )
    config = Config(written(folder, table))
    plan = config.mixture("deep").plan
    assert (plan.reads, plan.depth, repr(plan.aggregation.identity)) == (2, 4, "'synthesize True 4'")
    assert {*lines} <= {*toml_of("deep", config.table("deep")).splitlines()}
    drawn = "\n".join(line for _, line in drawing(config.described("deep"), 120))
    assert "layers 2 to 3: the same again, each reads 2 of the 3 above" in drawn
    assert "4: the aggregator reads 4 proposals at a time" in drawn


def test_lines_are_found_in_tables_and_in_dotted_keys() -> None:
    """A value without a line of its own has the nearest line above it."""
    text = 'default = "a"\n\n[mixtures.a]\nlayers = [\n  ["x/y"],\n]\n[endpoints."b.c"]\nbase_url = "x"\n'
    assert line_of(text, ("default",)) == 1
    assert line_of(text, ("mixtures", "a")) == 3
    assert line_of(text, ("mixtures", "a", "layers", 0, 0)) == 4
    assert line_of(text, ("endpoints", "b.c", "base_url")) == 8
    assert line_of(text, ("nothing",)) == 1


async def test_a_byte_order_mark_is_not_part_of_the_file(folder: Path) -> None:
    """A moa.toml that begins with a byte order mark is read, and an error in it names the right line."""
    text = 'default = "two"\n[mixtures.two]\nlayers = [["openai/a"]]\naggregator = "openai/b"\n'
    path = folder / "moa.toml"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert Config(path).default == "two"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("aggregator", "agregator").encode())
    with pytest.raises(ConfigError, match=r"moa.toml:[24]: "):
        Config(path)


@pytest.mark.parametrize(
    ("variable", "value", "file"),
    [("MOA_CONFIG", "~/mine.toml", "mine.toml"), ("XDG_CONFIG_HOME", "~/settings", "settings/moa/moa.toml")],
)
async def test_a_tilde_in_a_variable_is_the_home_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, file: str
) -> None:
    """No shell expands ~ in a file of variables or a service unit, so paths from variables are expanded here."""
    monkeypatch.setenv("HOME", str(folder))
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    written(folder, "", file)
    assert Config(environ={variable: value}).path == folder / file


async def test_a_tilde_in_the_path_option_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves ~ in --config=~/moa.toml as it is."""
    monkeypatch.setenv("HOME", str(folder))
    written(folder, "", "mine.toml")
    assert Config("~/mine.toml").path == folder / "mine.toml"


async def test_what_models_take_is_in_the_file(folder: Path, upstream: Upstream) -> None:
    """An endpoint's own keys hold for all its models; a model's table overrides them, and a request the fields of both."""
    text = """\
[endpoints.mine]
base_url = "{url}"
refuses = ["seed"]
rename = {{ max_tokens = "limit" }}
extra_body = {{ safe = true, tier = {{ name = "flex" }}, seed = 9, top_p = 0.5 }}
[models."mine/special"]
takes = ["seed"]
roles = {{ developer = "system" }}
extra_body = {{ safe = false }}
"""
    written(folder, text.format(url=upstream.base_url))
    body = {"messages": [{"role": "developer", "content": "Be brief."}], "seed": 1, "max_tokens": 5, "top_p": 0.9}
    async with Config() as config:
        for name in ("plain", "special"):
            upstream.script(name, say("Four."))
            async for _ in config.model(f"mine/{name}").stream(Request.of(body)):
                pass
    plain, special = (call.body for call in upstream.requests)
    assert ("seed" in plain, plain["limit"], plain["messages"][0]["role"]) == (False, 5, "developer")
    assert (special["seed"], special["limit"], special["messages"][0]["role"]) == (1, 5, "system")
    assert (plain["safe"], plain["tier"], plain["top_p"]) == (True, {"name": "flex"}, 0.9)
    assert (special["safe"], special["tier"]) == (False, {"name": "flex"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[models."a/b"]\nimage = true\n', "models.a/b.image: no such field; did you mean 'images'?"),
        ('[models."a/b"]\nextra_body = { stream = false }\n', "stream is set by each request"),
        ('[models."a/b"]\nrefuses = ["messages"]\n', "messages cannot be left out of a request"),
        ('[endpoints.a]\nbase_url = "http://a/v1"\ncontext_tokens = 0\n', "context_tokens: should be greater than"),
    ],
)
def test_a_mistake_in_what_models_take_is_one_line(folder: Path, text: str, said: str) -> None:
    """Unknown keys, fields that are needed, and impossible sizes are refused with the place."""
    written(folder, text)
    with pytest.raises(ConfigError) as caught:
        Config()
    assert said in str(caught.value)
