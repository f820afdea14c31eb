r"""When two mathematical answers are the same. It runs in the process of `worker.py`, which ends what takes too long.

1. Answers are shapes (`shape.py`): their leaves are parsed whole or not at all, letters in their case and decimals exactly.
2. Brackets, kinds and counts agree, or the answers differ; order says nothing in lists, sets and unions. Intervals, unions and inequalities
   in one unknown are compared as sets of real numbers.
3. Two values are equal where their difference is: exactly for rational numbers; else relative to their size, to 25 digits, at points of both
   signs where there are unknowns. Equations are equal up to a factor, inequalities up to a positive one.
4. A decimal of six digits or more stands for the number that it is the rounding or the beginning of, where that is no decimal itself.

math-verify's parser (latex2sympy2_extended) reads the leaves; its own comparison is not used: it rounds absolutely, to six decimals.
"""

from __future__ import annotations

import re
from typing import Any


def compared(request: dict[str, Any]) -> dict[str, Any]:
    """Whether two answers are the same: `equal`, and whether each was read as mathematics (`read`, `gold_read`)."""
    gold, answer = _read(request["gold"]), _read(request["answer"])
    read = {"read": not _unread(answer), "gold_read": not _unread(gold)}
    if not all(read.values()):
        return {"equal": False, **read}
    return {"equal": _same(gold, answer), **read}


# A shape is plain data (`shape.py`); reading puts expressions of sympy in the place of the texts of its leaves.


def _read(shape: dict[str, Any]) -> dict[str, Any]:
    if shape["kind"] == "leaf":
        return {**shape, "value": _parsed(shape["text"])}
    if shape["kind"] == "matrix":
        return {**shape, "rows": [[_read(cell) for cell in row] for row in shape["rows"]]}
    return {**shape, "items": [_read(item) for item in shape["items"]]}


def _unread(shape: dict[str, Any]) -> bool:
    if shape["kind"] == "leaf":
        return shape["value"] is None
    inside = [cell for row in shape["rows"] for cell in row] if shape["kind"] == "matrix" else shape["items"]
    return any(map(_unread, inside))


def _same(gold: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether two shapes are the same answer. A name that only one of them has says nothing."""
    kinds = gold["kind"], answer["kind"]
    if gold.get("name") and answer.get("name") and gold["name"] != answer["name"]:
        if kinds != ("leaf", "leaf") or "(" in gold["name"] + answer["name"]:
            return False
        return _equal(*({**side, "value": _named(side)} for side in (gold, answer)))  # y = x is x = y
    if kinds == ("leaf", "leaf"):
        return _equal(gold, answer)
    if "leaf" in kinds and (single := _single(gold, answer)) is not None:
        return _same(*single)
    if kinds[0] in ("list", "set") and kinds[1] in ("list", "set"):
        return _matched(gold["items"], answer["items"]) and _named_alike(gold["items"], answer["items"])
    if kinds == ("matrix", "matrix"):
        rows = gold["rows"], answer["rows"]
        return [len(r) for r in rows[0]] == [len(r) for r in rows[1]] and all(
            _same(a, b) for one, two in zip(*rows, strict=True) for a, b in zip(one, two, strict=True)
        )
    if "matrix" in kinds:
        column, other = (gold, answer) if kinds[0] == "matrix" else (answer, gold)
        if other["kind"] not in ("tuple", "vector") or any(len(row) != 1 for row in column["rows"]):
            return False
        return _in_order([row[0] for row in column["rows"]], other["items"])
    listed = kinds[0] in ("tuple", "vector") and kinds[1] == "list"
    named = kinds == ("list", "tuple") and all(item.get("name") for item in gold["items"])
    if {*kinds} <= {"tuple", "vector"} or listed or named:
        # An interval is its brackets; a point or a vector may be written with others, or with none.
        half_open = [(s["open"], s["close"]) for s in (gold, answer) if s["kind"] == "tuple"]
        if len(half_open) == 2 and half_open[0] != half_open[1]:
            return False
        if len(half_open) == 1 and half_open[0] != ("(", ")"):
            return False
        return _in_order(gold["items"], answer["items"])
    sets = _as_set(gold), _as_set(answer)
    if sets[0] is not None and sets[1] is not None:
        return sets[0] == sets[1] or bool(sets[0].symmetric_difference(sets[1]).is_empty)
    return False


def _single(gold: dict[str, Any], answer: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A value beside a set or list of one value: the two values. An expression may stand for its list (`\\pm 3`)."""
    def one(shape: dict[str, Any]) -> dict[str, Any]:
        alone = shape["kind"] in ("list", "set") and len(shape["items"]) == 1 and not _is_set(shape["items"][0])
        return {**shape["items"][0], **({"name": shape["name"]} if shape.get("name") else {})} if alone else shape

    found = one(gold), one(answer)
    return found if found != (gold, answer) else None


def _is_set(shape: dict[str, Any]) -> bool:
    from sympy import Set

    return isinstance(shape.get("value"), Set)


def _in_order(gold: list[dict[str, Any]], answer: list[dict[str, Any]]) -> bool:
    if len(gold) != len(answer) or not all(_same(a, b) for a, b in zip(gold, answer, strict=True)):
        return False
    # (1, 2) is x = 1, y = 2; y = 1, x = 2 is not.
    for side in (gold, answer):
        names = [item.get("name") for item in side]
        if all(names) and names != sorted(names):  # type: ignore[type-var]
            return all(item.get("name") for item in (*gold, *answer))
    return True


def _matched(gold: list[dict[str, Any]], answer: list[dict[str, Any]]) -> bool:
    """Whether every value of one side is among those of the other: equality needs no order."""
    if not gold or not answer:
        return not gold and not answer
    left = list(range(len(answer)))
    for item in gold:
        hits = [i for i in range(len(answer)) if _same(item, answer[i])]
        if not hits:
            return False
        left = [i for i in left if i not in hits]
    return not left


def _named_alike(gold: list[dict[str, Any]], answer: list[dict[str, Any]]) -> bool:
    """Names of different unknowns are not left out on one side: which value is whose would be lost."""
    names = [{item.get("name") for item in side} for side in (gold, answer)]
    return names[0] == names[1] or max(len(n - {None}) for n in names) < 2


def _as_set(shape: dict[str, Any]) -> Any:
    """The set of real numbers that an interval, a union, a set or an inequality in one unknown is; None for anything else."""
    from sympy import FiniteSet, Interval, Set, Union

    kind = shape["kind"]
    if kind == "tuple" and len(shape["items"]) == 2:
        ends = [item.get("value") for item in shape["items"]]
        if any(getattr(end, "is_extended_real", None) is not True for end in ends):
            return None
        return Interval(*ends, shape["open"] == "(", shape["close"] == ")")
    if kind == "union" or (kind == "list" and any(_relation(i) for i in shape["items"])):
        parts = [_as_set(item) for item in shape["items"]]
        return None if any(part is None for part in parts) else Union(*parts)
    if kind == "set":
        values = [item.get("value") for item in shape["items"]]
        return None if any(v is None or v.free_symbols for v in values) else FiniteSet(*values)
    value = shape.get("value")
    if isinstance(value, Set):
        return value
    if kind == "leaf" and _relation(shape) and len(value.free_symbols) == 1:
        return _real(value).as_set()
    return None


def _real(value: Any) -> Any:
    from sympy import Symbol

    return value.subs({s: Symbol(s.name, real=True) for s in value.free_symbols})


def _relation(shape: dict[str, Any]) -> bool:
    from sympy import And
    from sympy.core.relational import Relational

    return isinstance(shape.get("value"), (Relational, And))


def _equal(gold: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether two values are the same."""
    from sympy import And, Eq, MatrixBase, Ne, Set
    from sympy.core.relational import Relational

    a, b = gold["value"], answer["value"]
    if isinstance(a, Relational) != isinstance(b, Relational):  # y = 2x + 3 beside 2x - y + 3 = 0
        a, b = (v if isinstance(v, Relational) else _named(s) for s, v in ((gold, a), (answer, b)))
    if a == b:
        return True
    if isinstance(a, Set) or isinstance(b, Set) or isinstance(a, And) or isinstance(b, And):
        sets = _as_set(gold), _as_set(answer)
        return sets[0] is not None and sets[1] is not None and sets[0] == sets[1]
    if isinstance(a, Relational) and isinstance(b, Relational):
        kinds = [type(r.reversed) if r.func.__name__ in ("StrictGreaterThan", "GreaterThan") else type(r) for r in (a, b)]
        sides = [r.rhs - r.lhs if r.func.__name__ in ("StrictGreaterThan", "GreaterThan") else r.lhs - r.rhs for r in (a, b)]
        if kinds[0] is not kinds[1]:
            return False
        return _proportional(sides[0], sides[1], signed=kinds[0] not in (Eq, Ne))
    if isinstance(a, Relational) or isinstance(b, Relational):
        return False
    if isinstance(a, MatrixBase) or isinstance(b, MatrixBase):
        return isinstance(a, MatrixBase) and isinstance(b, MatrixBase) and a.shape == b.shape and all(map(_zero, a - b))
    if not (a.free_symbols or b.free_symbols) and (
        _rounded(gold["text"], a, answer["text"], b) or _rounded(answer["text"], b, gold["text"], a)
    ):
        return True
    return _zero(a - b, a, b)


def _named(shape: dict[str, Any]) -> Any:
    """A named value as an equation."""
    from sympy import Eq

    return Eq(_parsed(shape["name"]), shape["value"], evaluate=False) if shape.get("name") else shape["value"]


DIGITS = 6
"""Significant digits of a decimal that may stand for a number that no decimal is."""
_DECIMAL = re.compile(r"([-+]?)(\d*)\.(\d+)(\s*(?:\\[lc]?dots|\.\.\.))?")


def _rounded(text: str, value: Any, other_text: str, other: Any) -> bool:
    """Whether `text` is a decimal that the other number, which is no decimal itself, rounds to or begins with."""
    from sympy import Rational

    found = _DECIMAL.fullmatch(text.strip())
    if not found or _DECIMAL.fullmatch(other_text.strip()) or len((found[2] + found[3]).lstrip("0")) < DIGITS:
        return False
    step = Rational(1, 10 ** len(found[3]))
    written = Rational(int(found[1] + found[2] + found[3] or 0), 10 ** len(found[3]))
    near = abs(other.doit() - written)
    beyond = (abs(other) - abs(written)).evalf(40)
    if (other * written).is_negative or not beyond.is_number:
        return False
    # Its digits are the first ones of the other, or, without dots, those it rounds to.
    return bool(0 <= beyond < step) or (not found[4] and bool(near.evalf(40) <= (step / 2).evalf(40)))


def _proportional(one: Any, two: Any, signed: bool) -> bool:
    """Whether two sides of `... = 0` have the same zeros because one is a (positive, where `signed`) multiple of the other."""
    points = list(_points(one.free_symbols | two.free_symbols))
    ratio = None
    for point in points:
        a, b = (_at(side, point) for side in (one, two))
        if a is None or b is None:
            continue
        if (abs(a) < 1e-30) != (abs(b) < 1e-30):
            return False
        if abs(b) >= 1e-30:
            ratio = a / b if ratio is None else ratio
            if abs(a / b - ratio) > 1e-25 * abs(ratio):
                return False
    if ratio is None:
        return _zero(one - two, one, two)
    return not signed or bool(ratio.is_real and ratio > 0)


def _points(symbols: Any) -> Any:
    """Values for unknowns: rational numbers of both signs, the same for the same unknowns, and of no simple relation."""
    from sympy import Rational

    names = sorted(symbols, key=lambda s: s.name)
    for start in (3, 17, -5, -29):
        yield {s: Rational(start * (2 * i + 7) + i * i, 11 + 3 * i + abs(start)) for i, s in enumerate(names)}


def _at(value: Any, point: dict[Any, Any]) -> Any:
    """A value at a point, to 40 digits; None where it has none there."""
    from sympy import nan, oo, zoo

    found = value.subs(point).doit().evalf(40)
    return None if found in (nan, zoo, oo, -oo) or found.free_symbols or not found.is_number else found


def _zero(difference: Any, *of: Any) -> bool:
    """Whether a difference is nothing: exactly where it is rational, else to 25 digits of what it is the difference of, at points of both signs."""
    from sympy import nan, oo, simplify, zoo

    difference = difference.doit()
    if difference.is_Rational:
        return bool(difference == 0)
    if difference in (nan, zoo, oo, -oo):
        return False
    seen = 0
    for point in _points(difference.free_symbols):
        size = max([abs(s) for one in of if (s := _at(one, point)) is not None], default=1)
        digits = 30 + (min(4000, max(0, int(size.log(10).evalf(5)) if hasattr(size, "log") and size > 1 else 0)))
        found = difference.subs(point).doit()
        if found.is_Rational:
            seen += 1
            if found != 0:
                return False
            continue
        found = found.evalf(digits + 15)
        if found in (nan, zoo, oo, -oo) or not found.is_number:
            continue
        seen += 1
        scale = size if size > 0 else 1
        if abs(found) > scale * 10 ** (-digits + 5):
            return False
        if not difference.free_symbols:
            return True
    return seen > 1 or (seen <= 1 and bool(simplify(difference) == 0))


_LETTERS = re.compile(r"\\mathbb\s*\{[A-Z]\}|\\(?:begin|end)\{[A-Za-z]+\}|\\[A-Za-z]+|[A-Z](?:_(?:\{(\w+)\}|(\w)))?")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\[a-z]+|(?<![a-z\\])[a-z])\s*\^\s*\{?\s*\\circ\s*\}?")
_LARGE = re.compile(r"\\(Gamma|Delta|Theta|Lambda|Xi|Sigma|Upsilon|Phi|Psi|Omega)(?![a-z])")
_REFUSED = re.compile(r"\d\s+\d|\^\s*\{?\s*(?:T|\\top|\\prime)|'|\\(?:angle|triangle|measuredangle|perp|parallel|cong|sim)(?![a-z])|\\[lc]?dots|\.\.|:|\?|#|\\text\s*\{[^{}]*\s[^{}]*\}|(?<![\\A-Za-z])[A-Za-z]{6,}")
"""What the parser reads as something else than it says: numbers side by side, transposes, primes, dots, words."""


def _parsed(text: str) -> Any:
    """A value as an expression of sympy; None for what is no mathematics, or not whole. Letters keep their case, decimals are exact."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from math_verify.grader import should_treat_as_complex
    from sympy import Basic, E, I, MatrixBase, Rational, Symbol

    text = re.sub(r"\\(?:text|mathrm|mathbf|mathit)\s*\{\s*([A-Za-z])\s*\}", r"\1", text).strip()
    if decimal := _DECIMAL.fullmatch(text):
        return _decimal(*decimal.groups())
    if re.fullmatch(r"[-+]?\d+", text):
        return Rational(int(text))
    text = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text)
    text = re.sub(r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}", _repeating, text)
    text = re.sub(r"\\log_(\d)\s*(?=\d)", r"\\log_{\1} ", text)
    if not text or _REFUSED.search(re.sub(r"\\(?:begin|end|operatorname)\s*\{[A-Za-z]+\}|\\log_\{\d+\}", " ; ", text)):
        return None
    text = re.sub(r"(?<![\w.])(\d*)\.(\d+)(?![\d.])", lambda m: rf"(\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}})", text)
    text = re.sub(r"(\d+)\s*\\?%$", r"\\frac{\1}{100}", re.sub(r"\)\s*\\?%$", r")\\frac{1}{100}", text))
    text = _LARGE.sub(lambda m: rf"\{m[1].lower()}_{{9}}", text)
    text = _LETTERS.sub(_cased, text)
    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    text = re.sub(r"\\rbrace(?![a-z])", r"\\}", re.sub(r"\\lbrace(?![a-z])\s?", r"\\{", text))
    formula = normalize_latex(text, config)
    value = latex2sympy(
        formula, is_real=not should_treat_as_complex(formula), convert_degrees=False, normalization_config=None
    )
    if not isinstance(value, (Basic, MatrixBase)):
        return None
    constants = {"i": I, "e": E}
    return value.subs({s: constants.get(s.name, Symbol(s.name)) for s in value.free_symbols})


def _cased(match: re.Match[str]) -> str:
    """A capital under a name of its own: the parser reads capitals as small letters, and I and E as numbers."""
    if match.group().startswith("\\"):
        return match.group()
    return f"{match.group()[0].lower()}_{{9{match[1] or match[2] or ''}}}"


def _decimal(sign: str, whole: str, part: str, dots: str | None) -> Any:
    """The number that a decimal is; 0.333... repeats its last digit where that stands three times."""
    from sympy import Rational

    value = Rational(int((whole + part) or 0), 10 ** len(part))
    if dots and len(part) > 2 and len(set(part[-3:])) == 1:
        value += Rational(int(part[-1]), 9 * 10 ** len(part))
    elif dots:
        value = Rational(int((whole + part) or 0), 10 ** len(part))
    return -value if sign == "-" else value


def _repeating(match: re.Match[str]) -> str:
    whole, part, again = match[1] or "0", match[2], match[3]
    top = int(whole + part + again) - int(whole + part)
    return rf"(\frac{{{top}}}{{{10 ** (len(part) + len(again)) - 10 ** len(part)}}})"
