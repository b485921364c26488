r"""Formulas in LaTeX by ``math-verify`` where it is installed: ``\frac{\sqrt{12}}{4}`` is ``\frac{\sqrt{3}}{2}``.

Notable decisions:
- Two formulas are equal if they have the same variables, and the same values to 25 digits at three points. So a formula has
  a form of its own, and n answers need n readings, not a comparison of each pair.
- ``math-verify`` limits its time by a signal, which works in the main thread alone. So its limit is off, and only formulas
  that are read and computed quickly reach it: short, from a list of commands, without towers of powers. All others are
  compared as they are written.
- Its parser is not made for several threads at a time, so one formula is read at a time.

Source: https://github.com/huggingface/Math-Verify (README, "timeouts"; issues 42 and 55).
"""

from __future__ import annotations

import logging
import re
import zlib
from functools import cache, lru_cache
from importlib.util import find_spec
from math import prod
from threading import Lock
from typing import Any

from moa.mixture.canonical.form import Form

LONGEST = 200
"""Characters of a formula that is computed."""
LARGEST_POWER = 2000
"""The product of all numbers in the exponents of a formula that is computed."""
DIGITS = 25

_NAMES = """frac dfrac tfrac cfrac sqrt pi cdot times div left right sin cos tan cot sec csc arcsin arccos arctan sinh cosh
tanh ln log exp alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi chi psi omega"""
_COMMANDS = frozenset(_NAMES.split())
_COMMAND = re.compile(r"\\([a-zA-Z]+|.)")
_PLAIN = re.compile(r"[\w\s{}()\[\]+\-*/^|.,\\]*", re.ASCII)
_EXPONENT = re.compile(r"\^\s*(?:\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|(\\?[a-zA-Z]+|\d))")
_TOWER = re.compile(r"\^\s*(?:\w|\\[a-z]+|\{[^{}]*\})\s*\^")
_FUNCTIONS = re.compile(r"\\(?:exp|sinh|cosh|tanh)")
_lock = Lock()


@cache
def installed() -> bool:
    """Whether ``math-verify`` is installed."""
    return find_spec("math_verify") is not None


@lru_cache(256)
def math_form(text: str) -> Form | None:
    """The form of a formula; None where it is not understood, could take long, or ``math-verify`` is not installed."""
    if not _is_quick(text) or not installed():
        return None
    try:
        with _lock:
            return _computed(text)
    except Exception as error:  # a parser for what models write meets anything
        logging.getLogger("moa").debug("math-verify did not read %r: %s", text, error)
        return None


def _is_quick(text: str) -> bool:
    if len(text) > LONGEST or not _PLAIN.fullmatch(text) or not _COMMANDS.issuperset(_COMMAND.findall(text)):
        return False
    powers = [inside or short for inside, short in _EXPONENT.findall(text)]
    if len(powers) != text.count("^") or any("^" in power for power in powers) or _TOWER.search(text):
        return False  # a power of a power, or braces deeper than the pattern reads
    numbers = [int(digits) for power in powers for digits in re.findall(r"\d{1,9}", power)]
    longest = max((len(digits) for digits in re.findall(r"\d+", text)), default=0)
    grows = bool(powers) or bool(_FUNCTIONS.search(text))
    return prod(numbers) <= LARGEST_POWER and longest <= (9 if grows else 50) and text.count("**") == 0


def _computed(text: str) -> Form | None:
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify.parser").addFilter(_no_timeout_warning)
    exact = re.sub(
        r"(?<![\d.])(\d*)\.(\d+)", lambda match: rf"\frac{{{match[1]}{match[2]}}}{{1{'0' * len(match[2])}}}", text
    )
    read = parse(f"${exact}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    expression = read[0] if read else None
    if (
        expression is None
        or not getattr(expression, "is_commutative", False)
        or getattr(expression, "is_Boolean", False)
    ):
        return None
    names = sorted(str(symbol) for symbol in expression.free_symbols)
    values = [_value(expression, point) for point in range(3 if names else 1)]
    if None in values:
        return None
    if not names and "," not in (value := str(values[0])) and (whole := re.fullmatch(r"(-?\d+)\.0*", value)):
        return Form("number", whole[1])
    return Form("math", f"{','.join(names)}|{';'.join(map(str, values))}", shown=text)


def _no_timeout_warning(record: logging.LogRecord) -> bool:
    return "Timeout is disabled" not in record.getMessage()


def _value(expression: Any, point: int) -> str | None:
    """The value of an expression to 25 digits, where each variable has a value that depends on its name and the point."""
    from sympy import Float

    values = {symbol: Float(_at(str(symbol), point), DIGITS + 20) for symbol in expression.free_symbols}
    number = expression.evalf(DIGITS + 15, subs=values, maxn=200)
    real, imaginary = number.as_real_imag()
    parts = [part.evalf(DIGITS) for part in (real, imaginary)]
    if not all(part.is_Float or part.is_Integer for part in parts) or not all(part.is_finite for part in parts):
        return None
    return ",".join(str(part) for part in parts if part or part is parts[0])


def _at(name: str, point: int) -> str:
    """A value for a variable between -2 and 2, of either sign."""
    spread = zlib.crc32(f"{point} {name}".encode())
    return f"{'-' if (spread >> 3) % 2 else ''}{0.3 + (spread % 1_000_003) / 650_000:.6f}"
