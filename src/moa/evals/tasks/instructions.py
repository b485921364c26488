"""Instructions on the form of a reply that a program can check, such as "no commas" and "at least 300 words".

Names and arguments are those of IFEval, and each function checks what its instruction says, as instructions.py does in
https://github.com/google-research/google-research/tree/master/instruction_following_eval.

Different here:
- Words, sentences and words in capitals are counted with regular expressions, where the original uses NLTK.
- "In English, in capital letters" checks the letters, and not that the language is English.
- Keywords are texts; the original reads them as regular expressions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"[^.!?…。！？]*\w[^.!?…。！？]*(?:[.!?…。！？]+|$)")
CAPITALS = re.compile(r"(?<![\w-])[^\W\d_a-z][\w-]*(?![\w-])")
FENCE = re.compile(r"^```(?:json)?\s*|\s*```$", re.IGNORECASE)
HIGHLIGHT = re.compile(r"\*[^\n*]*\*"), re.compile(r"\*\*[^\n*]*\*\*")
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
POSTSCRIPTS = {"p.p.s": r"p\.\s?p\.\s?s", "p.s.": r"p\.\s?s\."}


def _related(count: int, relation: str, bound: int) -> bool:
    """Whether a count is "less than" a bound, or "at least"."""
    return count < bound if relation == "less than" else count >= bound


def _occurrences(reply: str, keyword: str, whole: bool = False) -> int:
    edge = r"\b" if whole else ""
    return len(re.findall(f"{edge}{re.escape(keyword.strip())}{edge}", reply, re.IGNORECASE))


def _highlights(reply: str, num_highlights: int) -> bool:
    marked = [text for pattern in HIGHLIGHT for text in pattern.findall(reply)]
    return sum(bool(text.strip("*").strip()) for text in marked) >= num_highlights


def _divided(reply: str, divider: str) -> list[str] | None:
    """The parts between dividers; the first and the last may be empty, and None is returned if another is."""
    parts = reply.split(divider)
    inner = [part.strip() for part in (parts[1:] if not parts[0].strip() else parts)]
    inner = inner[:-1] if inner and not inner[-1] else inner
    return inner if all(inner) else None


def _two_responses(reply: str) -> bool:
    parts = _divided(reply, "******")
    return parts is not None and len(parts) == 2 and parts[0] != parts[1]


def _first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = reply.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if count != num_paragraphs or nth_paragraph > count or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _postscript(reply: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip().lower()
    return re.search(POSTSCRIPTS.get(marker, re.escape(marker)), reply.lower()) is not None


def _json(reply: str) -> bool:
    try:
        json.loads(FENCE.sub("", reply.strip()))
    except (ValueError, RecursionError):
        return False
    return True


def _bullets(reply: str) -> int:
    return len(re.findall(r"^\s*(?:\*[^*\n]|-)", reply, re.MULTILINE))


def _capitals(reply: str) -> int:
    return sum(word.isupper() for word in CAPITALS.findall(reply))


INSTRUCTIONS: dict[str, Callable[..., bool]] = {
    "keywords:existence": lambda reply, keywords: all(_occurrences(reply, word) for word in keywords),
    "keywords:frequency": lambda reply, keyword, frequency, relation="at least": _related(
        _occurrences(reply, keyword), relation, frequency
    ),
    "keywords:forbidden_words": lambda reply, forbidden_words: (
        not any(_occurrences(reply, word, whole=True) for word in forbidden_words)
    ),
    "keywords:letter_frequency": lambda reply, letter, let_frequency, let_relation="at least": _related(
        reply.lower().count(letter.lower()), let_relation, let_frequency
    ),
    "length_constraints:number_sentences": lambda reply, num_sentences, relation="at least": _related(
        len(SENTENCE.findall(reply)), relation, num_sentences
    ),
    "length_constraints:number_paragraphs": lambda reply, num_paragraphs: (
        len(_divided(reply, "***") or ()) == num_paragraphs
    ),
    "length_constraints:number_words": lambda reply, num_words, relation="at least": _related(
        len(WORD.findall(reply)), relation, num_words
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda reply, num_placeholders: (
        len(re.findall(r"\[.*?\]", reply)) >= num_placeholders
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda reply, num_bullets: _bullets(reply) == num_bullets,
    "detectable_format:constrained_response": lambda reply: any(option in reply for option in OPTIONS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": lambda reply, section_spliter, num_sections: (
        len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", reply)) >= num_sections
    ),
    "detectable_format:json_format": _json,
    "detectable_format:title": lambda reply: re.search(r"<<[^\n]*[^\s<>][^\n]*>>", reply) is not None,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda reply, prompt_to_repeat: (
        reply.strip().lower().startswith(prompt_to_repeat.strip().lower())
    ),
    "startend:end_checker": lambda reply, end_phrase: (
        reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())
    ),
    "startend:quotation": lambda reply: len(text := reply.strip()) > 1 and text[0] == text[-1] == '"',
    "change_case:capital_word_frequency": lambda reply, capital_frequency, capital_relation="at least": _related(
        _capitals(reply), capital_relation, capital_frequency
    ),
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
    "punctuation:no_comma": lambda reply: "," not in reply,
}
"""The checks by IFEval's names of instructions; each takes the reply and the instruction's arguments."""


def followed(reply: str, instruction: dict[str, Any]) -> bool:
    """Whether a reply follows an instruction: its name under ``instruction``, and its arguments.

    Raises:
        KeyError: the instruction is unknown.
        TypeError, AttributeError: the arguments do not suit it.
    """
    given = {name: value for name, value in instruction.items() if name != "instruction"}
    return bool(reply.strip()) and INSTRUCTIONS[instruction["instruction"]](reply, **given)


def fault(instructions: object) -> str:
    """What is wrong with a list of instructions, and the remedy; "" if nothing is."""
    if not isinstance(instructions, list) or not instructions:
        return 'the answer of the check instructions is {"follow": [{"instruction": NAME, …}]}; correct it'
    for each in instructions:
        try:
            followed("A reply.", each)
        except KeyError:
            name = each.get("instruction")
            return f"no instruction {name!r}; there are {', '.join(INSTRUCTIONS)}"
        except (TypeError, AttributeError, ValueError) as error:
            return f"the arguments of an instruction do not suit it ({error}); correct them"
    return ""
