r"""Units of an answer: what stands beside a number and says of what.

1. A unit is a currency sign, a percent or degree sign, words after a number, or words in `\text{...}`. A single letter in plain
   mathematics is a variable; it is a unit only beside another answer that has one.
2. Units that measure the same thing are converted (60 minutes are 1 hour); units that do not, and different nouns, disagree.
3. A unit that only one of two answers has says nothing against them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from .spelling import TEXT

_F = Fraction
UNITS: dict[str, tuple[dict[str, int], Fraction]] = {}
"""Unit words: dimensions with powers, and the factor to the first unit of the dimension."""


def _unit(dimension: dict[str, int], **factors: Fraction | int) -> None:
    for names, factor in factors.items():
        for name in names.split("_"):
            UNITS[name] = (dimension, Fraction(factor))


_unit({"time": 1}, s_sec_second=1, min_minute=60, h_hr_hour=3600, day=86400, week=604800)
_unit({"month": 1}, month=1, year_yr=12)
_unit(
    {"length": 1}, m_meter_metre=1, km_kilometer_kilometre=1000, cm_centimeter_centimetre=_F(1, 100), mm_millimeter_millimetre=_F(1, 1000),
    in_inch=_F(254, 10000), ft_foot_feet=_F(3048, 10000), yd_yard=_F(9144, 10000), mi_mile=_F(1609344, 1000),
)  # fmt: skip
_unit({"mass": 1}, g_gram=1, kg_kilogram=1000, mg_milligram=_F(1, 1000), ton_tonne=1_000_000)
_unit({"weight": 1}, oz_ounce=1, lb_pound=16)
_unit({"volume": 1}, l_liter_litre=1, ml_milliliter_millilitre=_F(1, 1000))
_unit({"gallon": 1}, gallon_gal=1, quart=_F(1, 4), pint=_F(1, 8), cup=_F(1, 16))
_unit({"dollar": 1}, dollar_usd_buck=1, cent=_F(1, 100))
_unit({"euro": 1}, euro_eur=1)
_unit({"angle": 1}, degree_deg=1)
_unit({"percent": 1}, percent=1)
_unit({"radian": 1}, radian_rad=1)
UNITS["mph"] = ({"length": 1, "time": -1}, _F(1609344, 3_600_000))
UNITS["kph"] = UNITS["kmh"] = ({"length": 1, "time": -1}, _F(1000, 3600))
LETTERS = tuple("mgshlLNJWVACFK")
"""Letters that stand for a unit."""
LONGEST = 300
"""Characters of the longest answer in which a unit is looked for."""
_SIGNS = {"$": "dollar", "\u20ac": "euro", "\u00a3": "pounds sterling", "\u00a5": "yen"}
_MONEY = re.compile(r"^([-+]?)\s*(?:US|AU|CA)?\s*(\\?\$|[\u20ac\u00a3\u00a5])\s*([-+]?)\s*(?=[\d.\\(])")
_NUMBER = (
    r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+|\d*\s*\\frac\{[^{}]{1,40}\}\{[^{}]{1,40}\}|\d+\s*/\s*\d+)"
    r"(?:\s*(?:\\times|\\cdot)\s*10\^\{?-?\d+\}?)?(?:\\pi|\\sqrt\{[^{}]{1,40}\})?"
)
_WORD = r"(?<![A-Za-z'])[A-Za-z][A-Za-z']+(?![A-Za-z'])\.?"
_WORDS = re.compile(
    rf"^({_NUMBER}|.*?[\d}})])(\s*)((?:(?:{_WORD}|(?<![A-Za-z])an?(?=\s)|/\s*(?:[smh](?![A-Za-z]))?|[23](?=$|\s)|\^\{{?[23]\}}?|-(?=[a-z]))\s*)+)$",
    re.S,
)
_LETTER = re.compile(
    rf"^({_NUMBER})\s*((?:[{''.join(LETTERS)}])(?:\s*/\s*[{''.join(LETTERS)}])?(?:\^\{{?-?[123]\}}?)?)$"
)
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*(?:\\(?:text|mathrm)\s*\{\s*)?([A-Za-z]{1,20})(?:\s*\})?")
_PARTS = re.compile(rf"(?:{_PART.pattern}\s*(?:,|and\s)?\s*){{2,4}}")
_IN_TEXT = re.compile(
    r"^(.*?[\dA-Za-z}\)\]])\s*((?:\\(?:text|mbox|textrm|textbf|textit|mathrm|rm|operatorname)\s*\{[^{}]*\}\s*(?:\^\{?-?[123]\}?)?\s*[/.]?\s*)+)$",
    re.S,
)
_NO_UNIT = frozenset(
    "and or sin cos tan cot sec csc log ln exp pi sqrt frac infty if where for mod base infinity max gcd lcm to is not th st nd rd".split()
)
_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_SHORT = frozenset(
    "egg eggs car cars dog dogs cat cats pie pies men box hat hats pen pens boy boys way ways bag bags cow cows day kid kids".split()
)
_EMPTY = frozenset("old unit units a an the of in total each all more left only about approximately altogether".split())


@dataclass(frozen=True)
class Quantity:
    """A number and its unit. `dimensions` is None where there is none."""

    value: str
    dimensions: tuple[tuple[str, int], ...] | None = None
    factor: Fraction = Fraction(1)


def quantity(text: str, letters: bool = False) -> Quantity:
    """An answer's number and unit. `letters`: a single letter after the number may be one."""
    text = text.strip()
    if len(text) > LONGEST:
        return Quantity(text)
    money = _MONEY.match(text)
    if money:
        sign = "-" if "-" in (money[1], money[3]) else ""
        rest = quantity(text[money.end() :], letters)
        noun = _SIGNS[money[2].removeprefix("\\")]
        if rest.dimensions is None or rest.dimensions == ((noun, 1),):
            return Quantity(sign + rest.value, ((noun, 1),), rest.factor if rest.dimensions is None else Fraction(1))
        return Quantity(sign + rest.value, _times(((noun, 1),), rest.dimensions), rest.factor)
    for pattern, unit in (
        (r"\s*\\?%$", "percent"),
        (r"\s*\^\{?\s*\\circ\s*\}?$", "degree"),
        (r"\s*\\?\$$", "dollar"),
        (r"\s*\u20ac$", "euro"),
        (r"\s*\u00a2$", "cent"),
    ):
        if (
            (sign_after := re.search(pattern, text))
            and sign_after.start()
            and not (unit == "degree" and _ANGLE.search(text))
        ):
            dimensions, factor = UNITS[unit]
            return Quantity(text[: sign_after.start()], tuple(dimensions.items()), factor)
    if _PARTS.fullmatch(text) and (whole := _summed(text)) is not None:
        return whole
    if (found := _IN_TEXT.match(text)) and (read := _read(TEXT.sub(r" \1 ", found[2]))) is not None:
        return Quantity(found[1].strip(), *read)
    if (found := _WORDS.match(text)) and _are_words(found[3], bool(found[2])) and (read := _read(found[3])) is not None:
        return Quantity(found[1].strip(), *read)
    if (
        (found := _LETTER.match(text))
        and (letters or re.search(r"\s\w+/", text))
        and (read := _read(found[2])) is not None
    ):
        return Quantity(found[1].strip(), *read)
    return Quantity(text)


def _summed(text: str) -> Quantity | None:
    """A quantity in several units of one kind (3 hours 20 minutes), in the first unit of their dimension."""
    known = [(Fraction(number), _known(word)) for number, word in _PART.findall(text)]
    if any(unit is None or unit[0] != known[0][1][0] for _, unit in known):  # type: ignore[index]
        return None
    total = sum((number * unit[1] for number, unit in known if unit), Fraction(0))
    value = str(total) if total.denominator == 1 else rf"\frac{{{total.numerator}}}{{{total.denominator}}}"
    return Quantity(value, tuple(known[0][1][0].items()))  # type: ignore[index]


def _are_words(text: str, apart: bool) -> bool:
    """Whether words in plain mathematics are words rather than products of variables: known units, or long ones that stand apart."""
    found = re.findall(r"[A-Za-z']+", text)
    if not found or not re.match(r"[A-Za-z/]", text):
        return False
    found = [w for w in found if w not in ("s", "m", "h", "a", "an")]
    known = [
        w
        for w in found
        if _known(w) is not None and len(w) > 1 or w.lower() in _EMPTY or w.lower() in ("per", "square", "sq", "cubic")
    ]
    return (
        len(known) == len(found)
        or (
            apart
            and any(len(w) > 3 for w in found if w not in known)
            and all(len(w) > 2 for w in found if w not in known)
        )
        or (apart and found[0].lower() in _SHORT)
    )


def _read(words: str) -> tuple[tuple[tuple[str, int], ...] | None, Fraction] | None:
    """Dimensions and factor of unit words, without dimensions where they say nothing; None for words that are no unit."""
    dimensions: dict[str, int] = {}
    factor, sign, power = Fraction(1), 1, 0
    nouns: list[str] = []
    said = False
    last: tuple[dict[str, int], Fraction] | None = None
    tokens = re.findall(r"[A-Za-z]+|/|\^\{?-?\d\}?|\d", re.sub(r"(?<=[a-z])'s\b", "", words).replace(".", " "))
    if not tokens:
        return None

    def close() -> None:
        if nouns:
            name = " ".join(nouns)
            dimensions[name] = dimensions.get(name, 0) + sign
            nouns.clear()

    for token in tokens:
        low = token.lower()
        if low in _NO_UNIT:
            return None
        if low in ("per", "/") or (low in ("a", "an") and (nouns or dimensions)):
            close()
            sign, power = -1, 0
        elif low in ("square", "sq", "cubic", "cu"):
            power = 2 if low[0] == "s" else 3
        elif re.match(r"[\^\d]", token):
            times = int(re.sub(r"\D", "", token)) - 1
            if not 0 <= times <= 2 or "-" in token:
                return None
            if last is None:
                if not nouns and not said:
                    return None
                nouns += [f"^{times + 1}"] if nouns else []
                continue
            _add(dimensions, last[0], sign * times)
            factor *= last[1] ** (sign * times)
        elif low in _EMPTY and low != "in":
            said = True
        elif (known := _known(token)) is not None and not (low == "in" and nouns):
            close()
            last = known
            _add(dimensions, known[0], sign * (power or 1))
            factor *= known[1] ** (sign * (power or 1))
            power = 0
        else:
            if low == "in":
                continue
            last = None
            nouns.append(_singular(low))
        if len(dimensions) + len(nouns) > 5:
            return None
    close()
    found = tuple(sorted((k, v) for k, v in dimensions.items() if v))
    return found or None, factor


def _add(dimensions: dict[str, int], more: dict[str, int], times: int) -> None:
    for name, power in more.items():
        dimensions[name] = dimensions.get(name, 0) + power * times


def _known(word: str) -> tuple[dict[str, int], Fraction] | None:
    if len(word) == 1:
        return UNITS.get(word.lower() if word == "L" else word)
    return UNITS.get(word.lower()) or UNITS.get(_singular(word.lower()))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:ch|sh|ss|x)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def _times(one: tuple[tuple[str, int], ...], two: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    both = dict(one)
    for name, power in two:
        both[name] = both.get(name, 0) + power
    return tuple(sorted((k, v) for k, v in both.items() if v))


def agree(one: Quantity, two: Quantity) -> bool:
    """Whether the units of two answers measure the same thing. A noun agrees with the same noun with adjectives (eggs, duck eggs)."""
    if one.dimensions is None or two.dimensions is None or one.dimensions == two.dimensions:
        return True
    if len(one.dimensions) != len(two.dimensions):
        return False
    pairs = zip(sorted(one.dimensions, key=_order), sorted(two.dimensions, key=_order), strict=True)
    return all(
        a[1] == b[1] and (a[0] == b[0] or a[0].endswith(" " + b[0]) or b[0].endswith(" " + a[0])) for a, b in pairs
    )


def _order(dimension: tuple[str, int]) -> tuple[int, str]:
    return dimension[1], dimension[0].rpartition(" ")[2]
