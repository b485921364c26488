"""``moa chat``: a conversation in the terminal."""

from __future__ import annotations

from moa.cli.options import ConfigFile, MixtureName, Shown


def chat(mixture: MixtureName = None, show: Shown = None, config: ConfigFile = None) -> int:
    """Chat interactively.

    The whole conversation is sent with each question. Type /help for commands.
    """
    from moa.cli.conversation import Conversation

    return Conversation(mixture, show, config).run()
