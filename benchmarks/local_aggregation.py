"""Which aggregation is best for a small model? The preset ``local`` chooses by these figures.

    uv run python benchmarks/local_aggregation.py local/smollm2
    MOA_MODELS=FOLDER uv run python benchmarks/local_aggregation.py local/NAME …

For each model: three samples answer 24 short questions, each checked by one word; then the same model aggregates them in
each of the three ways. A figure is the number of the 24 answers that contain the word; ``one sample`` is the mean over the
three samples. Every way gets the same proposals. Two more figures show what aggregating added (no proposal was right, the
answer is) and what it broke (all proposals were right, the answer is not).
"""

from __future__ import annotations

import asyncio
import re
import sys

from moa import Agent, Config, Mixture, Model, Scripted

QUESTIONS = {
    "What is the capital city of France?": "paris",
    "What is 7 + 5?": "12|twelve",
    "Which planet is known as the red planet?": "mars",
    "How many days does a week have?": "7|seven",
    "What gas do plants take in from the air to make food?": "carbon dioxide|co2",
    "Which animal says 'meow'?": "cat",
    "What is the opposite of hot?": "cold",
    "At how many degrees Celsius does water boil at sea level?": "100",
    "What colour do you get when you mix blue and yellow paint?": "green",
    "Who wrote the play Romeo and Juliet?": "shakespeare",
    "What is the largest ocean on Earth?": "pacific",
    "How many legs does a spider have?": "8|eight",
    "What is the chemical formula of water?": "h2o|h₂o",
    "On which continent is Egypt?": "africa",
    "What do bees make that people eat?": "honey",
    "What is 9 times 6?": "54|fifty-four",
    "Which star is closest to the Earth?": "sun",
    "What language is mostly spoken in Brazil?": "portuguese",
    "How many minutes are in an hour?": "60|sixty",
    "Which organ pumps blood through the body?": "heart",
    "What is frozen water called?": "ice",
    "Who painted the Mona Lisa?": "leonardo|vinci",
    "What is the capital city of Japan?": "tokyo",
    "Which month comes after March?": "april",
}
SAMPLING = {"max_tokens": 120, "temperature": 0.7}
WAYS = ("central", "select", "synthesize")


def right(text: str, word: str) -> bool:
    return re.search(rf"\b({word})\b", text.lower()) is not None


async def measure(model: Model) -> None:
    proposing = Mixture([[Agent(model, sampling=SAMPLING)] * 3], aggregate="central")
    hits = dict.fromkeys(("one sample", *WAYS), 0.0)
    added, broken = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0)
    for question, word in QUESTIONS.items():
        texts = [call.text for call in (await proposing.answer(question)).proposals]
        correct = [right(text, word) for text in texts]
        hits["one sample"] += sum(correct) / len(correct)
        proposals = [Scripted(text, name=f"scripted/{number}") for number, text in enumerate(texts, 1)]
        for way in WAYS:
            aggregator = Agent(model, sampling={**SAMPLING, "temperature": 0.0, "seed": 1})
            mixture = Mixture([proposals], aggregator, aggregate=way)  # type: ignore[arg-type]
            hit = right((await mixture.answer(question)).text, word)
            hits[way] += hit
            added[way] += hit and not any(correct)
            broken[way] += all(correct) and not hit
    print(f"\n{model.name}, {len(QUESTIONS)} questions")
    print(f"  one sample  {hits['one sample']:5.1f}")
    for way in WAYS:
        note = f"no proposal right, the answer is: {added[way]};  all right, the answer is not: {broken[way]}"
        print(f"  {way:<11} {hits[way]:5.1f}   {note}")


async def main(names: list[str]) -> None:
    async with Config() as config:
        for name in names or ["local/smollm2"]:
            await measure(config.model(name))


asyncio.run(main(sys.argv[1:]))
