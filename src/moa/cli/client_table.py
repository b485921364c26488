"""What to set in which client, as data: a client is one entry.

Settings are templates. ``$base`` is the server's address with ``/v1``, ``$origin`` without; ``$model`` the mixture,
``$small`` a single model for titles and other small things; ``$context`` and ``$answer`` sizes in tokens; ``$images`` true
or false; ``$key`` the API key. A line with a value that is unknown is left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        name: as ``moa client NAME`` takes it.
        title: as people know it.
        place: where the settings belong.
        settings: the template.
        tried: how it was tried here, with the version; empty where it was not.
        file: below the home folder, the file that ``--write`` writes; empty where there is no plain one. JSON is merged into
            an existing file, a list or lines of YAML are appended, and a file of our own is replaced.
        note: what else to know.
    """

    name: str
    title: str
    place: str
    settings: str
    tried: str = ""
    file: str = ""
    note: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether the file holds nothing but these settings."""
        return "moa" in self.file


CLIENTS = (
    Client(
        "codex",
        "Codex CLI",
        "~/.codex/moa.config.toml, then: codex --profile moa",
        """model = "$model"
model_provider = "moa"
model_context_window = $context

[model_providers.moa]
name = "Mixture-of-Agents"
base_url = "$base"
wire_api = "responses"
experimental_bearer_token = "$key"
""",
        file=".codex/moa.config.toml",
        tried="0.169: a question, a tool loop that makes a file, an interrupt",
    ),
    Client(
        "claude",
        "Claude Code",
        "~/.claude/settings.json",
        """{
  "env": {
    "ANTHROPIC_BASE_URL": "$origin",
    "ANTHROPIC_AUTH_TOKEN": "$key",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "$small",
    "ANTHROPIC_MODEL": "$model"
  }
}
""",
        file=".claude/settings.json",
        tried="2.1.197: a question, a tool loop that makes a file, an interrupt",
    ),
    Client(
        "opencode",
        "opencode",
        "~/.config/opencode/opencode.json",
        """{
  "provider": {
    "moa": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "Mixture-of-Agents",
      "options": { "baseURL": "$base", "apiKey": "$key" },
      "models": {
        "$small": { "name": "$small" },
        "$model": {
          "limit": { "context": $context, "output": $answer },
          "name": "$model"
        }
      }
    }
  },
  "small_model": "moa/$small",
  "model": "moa/$model"
}
""",
        file=".config/opencode/opencode.json",
        tried="1.18: a question, a tool loop that makes a file, an interrupt",
    ),
    Client(
        "cline",
        "Cline",
        "its settings",
        """API Provider:          OpenAI Compatible
Base URL:              $base
API Key:               $key
Model ID:              $model
Context Window Size:   $context
Supports Images:       $images
""",
        tried="CLI 3.0: a question",
    ),
    Client(
        "zed",
        "Zed",
        "settings.json (the key goes into the provider's form, or MOA_API_KEY)",
        """{
  "language_models": {
    "openai_compatible": {
      "moa": {
        "api_url": "$base",
        "available_models": [
          {
            "name": "$model",
            "max_tokens": $context,
            "capabilities": { "tools": true, "images": $images, "parallel_tool_calls": true, "prompt_cache_key": false }
          }
        ]
      }
    }
  }
}
""",
    ),
    Client(
        "cursor",
        "Cursor",
        "Settings, Models, API Keys",
        """OpenAI API Key:             $key
Override OpenAI Base URL:   $base
Add model:                  $model
""",
        note="Cursor's own servers call the address, so it must be a public one with HTTPS, and the server needs keys.",
    ),
    Client(
        "continue",
        "Continue",
        "~/.continue/config.yaml",
        """name: moa
version: 0.0.1
schema: v1
models:
  - name: $model
    provider: openai
    model: $model
    apiBase: $base
    apiKey: $key
    roles: [chat, edit, apply]
    capabilities: [tool_use]
    defaultCompletionOptions:
      contextLength: $context
""",
        tried="CLI 1.5: tools (Chat Completions)",
    ),
    Client(
        "aider",
        "aider",
        "~/.aider.conf.yml",
        """openai-api-base: $base
openai-api-key: $key
model: openai/$model
weak-model: openai/$small
""",
        file=".aider.conf.yml",
        tried="0.86: edits, commits (Chat Completions)",
    ),
    Client(
        "goose",
        "Goose",
        "the environment",
        """export GOOSE_PROVIDER=openai
export GOOSE_MODEL=$model
export OPENAI_HOST=$origin
export OPENAI_BASE_PATH=v1/chat/completions
export OPENAI_API_KEY=$key
export GOOSE_CONTEXT_LIMIT=$context
""",
    ),
    Client(
        "open-webui",
        "Open WebUI",
        "its environment",
        """OPENAI_API_BASE_URL=$base
OPENAI_API_KEY=$key
DEFAULT_MODELS=$model
TASK_MODEL_EXTERNAL=$small
""",
        note="Titles, tags and follow-ups cost one small call each with a task model, and whole mixtures without.",
        tried="0.12: in its API and in Chromium (Chat Completions)",
    ),
    Client(
        "librechat",
        "LibreChat",
        "librechat.yaml",
        """endpoints:
  custom:
    - name: Mixture-of-Agents
      apiKey: $key
      baseURL: $base
      models:
        default: ["$model"]
        fetch: true
      titleConvo: true
      titleModel: $small
""",
    ),
    Client(
        "lobechat",
        "LobeChat",
        "its environment",
        """OPENAI_PROXY_URL=$base
OPENAI_API_KEY=$key
OPENAI_MODEL_LIST=-all,+$model
""",
    ),
    Client(
        "jan",
        "Jan",
        "Settings, Model Providers, Add Provider",
        """Name:       Mixture-of-Agents
Base URL:   $base
API Key:    $key
Model:      $model
""",
    ),
    Client(
        "n8n",
        "n8n",
        "the credential and the node OpenAI Chat Model",
        """API Key:    $key
Base URL:   $base
Model:      $model (by ID)
""",
    ),
    Client(
        "llm",
        "llm",
        "extra-openai-models.yaml in the folder that `llm logs path` names",
        """- model_id: $model
  model_name: $model
  api_base: $base
  supports_tools: true
  supports_schema: true
  vision: $images
""",
        file=".config/io.datasette.llm/extra-openai-models.yaml",
        tried="0.36: a question",
    ),
    Client(
        "aichat",
        "aichat",
        "~/.config/aichat/config.yaml",
        """model: moa:$model
clients:
  - type: openai-compatible
    name: moa
    api_base: $base
    api_key: $key
    models:
      - name: $model
        max_input_tokens: $context
        supports_vision: $images
        supports_function_calling: true
""",
    ),
    Client(
        "langchain",
        "LangChain",
        "Python",
        """from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="$model", base_url="$base", api_key="$key")
""",
        tried="langchain-openai 1.7: both APIs, streams, tools, objects",
    ),
    Client(
        "pydantic-ai",
        "Pydantic AI",
        "Python",
        """from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

agent = Agent(OpenAIChatModel("$model", provider=OpenAIProvider(base_url="$base", api_key="$key")))
""",
        tried="2.68: all three APIs, streams, tools, objects",
    ),
    Client(
        "openai-agents",
        "OpenAI Agents SDK",
        "Python",
        """from agents import Agent, OpenAIResponsesModel, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url="$base", api_key="$key")
agent = Agent(name="moa", model=OpenAIResponsesModel("$model", client))
""",
        tried="0.24: Responses and Chat Completions, streams, tools, objects",
    ),
    Client(
        "vercel-ai",
        "Vercel AI SDK",
        "JavaScript",
        """import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const moa = createOpenAICompatible({ name: "moa", baseURL: "$base", apiKey: "$key" });
const model = moa("$model");
""",
        tried="ai 7.0: all three APIs, streams, tools, objects",
    ),
    Client(
        "openai-python",
        "OpenAI's SDK",
        "Python",
        """from openai import OpenAI

client = OpenAI(base_url="$base", api_key="$key")
response = client.responses.create(model="$model", input="Why is the sky blue?")
""",
        tried="3.54: in the test suite",
    ),
    Client(
        "anthropic-python",
        "Anthropic's SDK",
        "Python",
        """from anthropic import Anthropic

client = Anthropic(base_url="$origin", api_key="$key")
question = {"role": "user", "content": "Why is the sky blue?"}
message = client.messages.create(model="$model", max_tokens=1000, messages=[question])
""",
        tried="2.14: in the test suite",
    ),
)
