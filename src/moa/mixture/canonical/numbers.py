"""Numbers: ``1,234.50`` is ``1234.5``, ``2/4`` is ``0.5``, ``50 %`` is ``0.5``, ``$5`` is ``5 dollars``.

Notable decisions:
- Spellings that two readers could take for different numbers stay apart: ``1.500`` (1.5, or 1500 in half of Europe) is
  neither ``1.5`` nor ``1500``, and ``3,5`` is no number.
- Values are exact, and cheap at any size: a power of ten stays one.
- A unit stays a part of the answer, in one spelling. Nothing is converted: ``1 km`` is not ``1000 m``.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from moa.mixture.canonical.form import Form

LONGEST = 300
"""Characters that a number may have. A longer text is compared as it is."""

_GROUPED = r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:['’_\u00a0\u2009\u202f]\d{3})+"
_DECIMAL = re.compile(
    rf"(?P<whole>{_GROUPED}|\d+)?(?P<point>\.\d+)?(?:[eE](?P<e>[-+]?\d{{1,9}})|\s?[×x*·]\s?10\s?\^\s?(?P<ten>[-+]?\d{{1,9}}))?"
)
_CONTINENTAL = re.compile(r"(\d{1,3}(?:\.\d{3}){2,})(,\d+)?|(\d{1,3}\.\d{3})(,\d+)")
_FRACTION = re.compile(r"(?:(\d+)[ -])?(\d+) ?/ ?(\d+)")
_SIGN = re.compile(r"\s*([-+]?)\s*")
_CURRENCY = re.compile(r"(?:US|CA|AU|NZ|HK)?[$€£¥₹₩₽]|(?:USD|EUR|GBP)(?=[\s\d])")
_LETTERS = r"[^\W\d_]+"
_UNIT = re.compile(
    rf"\s?(%|(?:US)?[$€£¥₹₩₽¢]|°\s?[CF]?|(?:[kcm]?m|ft|in|yd|mi)(?:\^?[23]|[²³])|{_LETTERS}(?:[ /·-]{_LETTERS}){{0,3}})"
)
_APPROXIMATELY = re.compile(r"(?:approximately|approx\.?|about|around|roughly|exactly|≈|~|=)\s*", re.IGNORECASE)
_OTHERWISE = """
and or to than because since as not if but is are was were of on at by for from with which that so out times x e i
versus vs more less older younger before after plus minus mod modulo squared cubed factorial base pi sqrt sin cos tan
log ln exp infinity half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths
eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths hundred hundreds thousands millions
billions dozen dozens score k mil mill mille millionen mio millones millón milhões milhão milliard milliards milliarde
milliarden mrd billionen trillionen tausend bn mn tn
"""
_NO_UNIT = frozenset(_OTHERWISE.split())
"""Words that make another number, or no number, of the one before them."""
_TIMES = {"hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12}
_SCALE = re.compile(rf"\s?({'|'.join(_TIMES)})\b", re.IGNORECASE)
_ONE_LETTER = frozenset("mgshlLVWANJKC")
_PERCENT = frozenset({"%", "percent", "per cent"})
_SPELLINGS = {
    "$": ("us$", "usd", "dollar", "us dollar"),
    "€": ("eur", "euro"),
    "£": ("gbp", "pound sterling"),
    "₹": ("inr", "rupee"),
    "¢": ("cent",),
    "km": ("kilometer", "kilometre"),
    "m": ("meter", "metre"),
    "cm": ("centimeter", "centimetre"),
    "mm": ("millimeter", "millimetre"),
    "kg": ("kilogram", "kilogramme"),
    "g": ("gram", "gramme"),
    "L": ("l", "liter", "litre"),
    "mL": ("ml", "milliliter", "millilitre"),
    "h": ("hr", "hrs", "hour"),
    "min": ("minute", "mins"),
    "s": ("sec", "secs", "second"),
    "°": ("degree", "deg"),
    "°C": ("degree celsius", "celsius"),
    "°F": ("degree fahrenheit", "fahrenheit"),
    "km/h": ("kph", "kmh", "kilometer per hour", "kilometre per hour"),
    "mph": ("mile per hour",),
}
_UNITS = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "﹣": "-", "٫": ".", "٬": ",", "٪": "%"}
    | {chr(0xFF01 + at): chr(0x21 + at) for at in range(94)}
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def number_form(text: str) -> Form | None:
    """The form of a text that is a number, with a unit or without; None for any other text.

    Digits of every script count, so ``٤٢`` and ``４２`` are ``42``, and so are ``½`` and ``四十二``.
    """
    text = _APPROXIMATELY.sub("", with_plain_digits(text).strip(), count=1).strip()
    if not text or len(text) > LONGEST:
        return None
    minus, at = _sign(text, 0)
    currency = _CURRENCY.match(text, at)
    if currency:
        second, at = _sign(text, currency.end())
        if minus and second:
            return None
        minus = minus or second
    found = _value(text, at)
    if not found:
        return None
    value, end = found
    if (scale := _SCALE.match(text, end)) and isinstance(value, Fraction):
        value, end = value * 10 ** _TIMES[scale[1].lower()], scale.end()
    if text.endswith(("..", "…")):
        return None  # 0.333… is a third
    tail = text[end:].rstrip(" .")
    unit = _UNIT.fullmatch(tail) if tail else None
    if tail and not unit:
        return None
    spelled = _spelling(unit[1], apart=tail[0].isspace()) if unit else ""
    if spelled is None or (currency and spelled and _spelling(currency[0]) not in ("$", spelled)):
        return None
    if currency:
        spelled = _spelling(currency[0]) or ""
    if isinstance(value, str):
        return Form("number", "-" + value if minus else value, spelled)
    value = -value if minus else value
    if spelled in _PERCENT:
        value, spelled = value / 100, ""
    return Form("number", _written(value), spelled)


def with_plain_digits(text: str) -> str:
    """The text with ASCII digits, signs and separators in place of those of other scripts; ``10³`` becomes ``10^3``."""
    text = text.translate(_SIGNS)
    text = re.sub("10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", lambda match: f"10^{match[1].translate(_RAISED)}", text)
    if not text.isascii():
        text = "".join(_plain(character) for character in text)
        text = re.sub("(百分之)?(负|負)?([零〇一二两兩三四五六七八九十百千万萬亿億点點]+)", _from_chinese, text)
    return text


def _plain(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if unicodedata.category(character) == "No" and (name := unicodedata.normalize("NFKC", character)) and "⁄" in name:
        return f" {name.replace('⁄', '/')}"
    return character


def _sign(text: str, at: int) -> tuple[bool, int]:
    """Whether a minus stands here, and where the text continues."""
    match = _SIGN.match(text, at)
    assert match
    return match[1] == "-", match.end()


def _value(text: str, at: int) -> tuple[Fraction | str, int] | None:
    """The number that begins here and where it ends; a text where its spelling is ambiguous, or its power of ten large."""
    if match := _FRACTION.match(text, at):
        ones, top, bottom = (int(part or 0) for part in match.groups())
        proper = bottom > top > 0 or match[1] is None
        return (ones + Fraction(top, bottom), match.end()) if bottom and proper else None
    if match := _CONTINENTAL.match(text, at):
        return Fraction(match[0].replace(".", "").replace(",", ".")), match.end()
    match = _DECIMAL.match(text, at)
    if not match or not (match["whole"] or match["point"]):
        return None
    if re.match(r"[\d.,'’:/^]+\d", text[match.end() :]):
        return None  # a date, a time, a list, a version
    whole, point = match["whole"] or "0", match["point"] or ""
    if "," in whole and whole.startswith("0"):
        return None
    exponent = int(match["e"] or match["ten"] or 0)
    if len(point) == 4 and point.endswith("0") and 0 < len(whole) <= 3 and whole[0] != "0" and not exponent:
        return whole + point, match.end()  # 1.500, in half of Europe one and a half thousand
    digits = re.sub(r"\D", "", whole) + point[1:]
    exponent -= len(point[1:]) if point else 0
    if abs(exponent) > LONGEST:
        stripped = digits.strip("0")
        exponent += len(digits) - len(digits.rstrip("0"))
        return (f"{stripped}e{exponent}" if stripped else Fraction(0)), match.end()
    return Fraction(int(digits)) * Fraction(10) ** exponent, match.end()


def _written(value: Fraction) -> str:
    """A decimal where the value has one, else a fraction in lowest terms."""
    bottom, places = value.denominator, 0
    twos = fives = 0
    while bottom % 2 == 0:
        bottom, twos = bottom // 2, twos + 1
    while bottom % 5 == 0:
        bottom, fives = bottom // 5, fives + 1
    places = max(twos, fives)
    if bottom != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[: len(digits) - places]}.{digits[len(digits) - places :]}" if places else f"{sign}{digits}"


def _spelling(unit: str, *, apart: bool = True) -> str | None:
    """One spelling for a unit; None for words that are none. ``apart``: a space stands between the number and the word.

    Without a space, letters are a unit only where they are a known one: ``5 xy`` may be anything, and ``5xy`` is a formula.
    """
    unit = unit.replace("° ", "°").strip()
    words = [word if len(word) <= 3 else word.casefold() for word in unit.split()]
    if not _NO_UNIT.isdisjoint(word.casefold() for word in words):
        return None
    letters = unit.rstrip("23²³")
    if not letters or not all(character.isalpha() or not character.isalnum() for character in letters):
        return None
    singular = " ".join(word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word for word in words)
    known = _UNITS.get(singular) or _UNITS.get(singular.casefold() if len(singular) > 1 else singular)
    if len(unit) == 1 and unit.isalpha() and not (apart and unit in _ONE_LETTER):
        return None
    if len(unit) > 1 and letters.isalpha() and not apart and not known and letters not in _SPELLINGS:
        return None
    return known or singular


_CHINESE = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_TEN_TO = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}


def _from_chinese(match: re.Match[str]) -> str:
    """``一百二十三`` as ``123``; unchanged where it is no number as one writes it."""
    whole, dot, decimals = match[3].replace("點", "点").partition("点")
    value = _chinese_integer(whole)
    if value is None or (dot and not (decimals and all(character in _CHINESE for character in decimals))):
        return match[0]
    digits = "".join(str(_CHINESE[character]) for character in decimals)
    return f"{'-' if match[2] else ''}{value}{'.' + digits if dot else ''}{'%' if match[1] else ''}"


def _chinese_integer(text: str) -> int | None:
    if not text:
        return None
    if all(character in _CHINESE for character in text):
        return int("".join(str(_CHINESE[character]) for character in text)) if len(text) <= LONGEST else None
    total = section = 0
    digit: int | None = None
    for character in text:
        if character in _CHINESE:
            if digit:
                return None
            digit = _CHINESE[character]
        elif character in _TEN_TO:
            section += (1 if digit is None else digit) * _TEN_TO[character]
            digit = None
        else:
            total = (total + section + (digit or 0) or 1) * _LARGE[character]
            section, digit = 0, None
        if total > 10**LONGEST:
            return None
    return total + section + (digit or 0)
