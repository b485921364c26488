"""Ask without await: the same lines work in a script, in a thread, and in a notebook, whose event loop already runs.

uv run python examples/ask.py "Name a fruit."
"""

import sys

from moa import Mixture

mixture = Mixture([["local/smollm2", "local/smollm2"]], "local/smollm2")
answer = mixture.ask(" ".join(sys.argv[1:]) or "Name a fruit.", temperature=0.7, max_tokens=16)
print(answer)
print(f"{len(answer.proposals)} proposals, {answer.usage.output_tokens} tokens, {answer.cost}")
