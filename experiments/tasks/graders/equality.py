r"""When two mathematical answers are the same. It runs in the process of `worker.py`, which ends what takes too long.

1. Answers are shapes (`shape.py`) whose leaves hold expressions of sympy (`reading.py`).
2. Brackets, kinds and counts agree, or the answers differ; order says nothing in lists, sets and unions. Intervals, unions and
   inequalities in one unknown are compared as sets of real numbers.
3. Two values are equal where their difference is nothing: exactly for rational numbers; else relative to their size, to 25 digits, at
   points of both signs where there are unknowns. Equations are equal up to a factor, inequalities up to a positive one.
4. A decimal of six digits or more stands for the number that it is the rounding or the beginning of, where that is no decimal itself.

math-verify's own comparison is not used: it rounds absolutely, to six decimals, and takes brackets for thousands.
"""

from __future__ import annotations

import re
from typing import Any


def same(gold: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether two shapes are the same answer. A name that only one of them has says nothing."""
    kinds = gold["kind"], answer["kind"]
    if gold.get("name") and answer.get("name") and gold["name"] != answer["name"]:
        if kinds != ("leaf", "leaf") or "(" in gold["name"] + answer["name"]:
            return False
        return _equal(*({**side, "value": _named(side)} for side in (gold, answer)))  # y = x is x = y
    if kinds == ("leaf", "leaf"):
        return _equal(gold, answer)
    if "leaf" in kinds and (single := _single(gold, answer)) is not None:
        return same(*single)
    if kinds[0] in ("list", "set") and kinds[1] in ("list", "set"):
        return _matched(gold["items"], answer["items"]) and _named_alike(gold["items"], answer["items"])
    if kinds == ("matrix", "matrix"):
        rows = gold["rows"], answer["rows"]
        return [len(r) for r in rows[0]] == [len(r) for r in rows[1]] and all(
            same(a, b) for one, two in zip(*rows, strict=True) for a, b in zip(one, two, strict=True)
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
    if len(gold) != len(answer) or not all(same(a, b) for a, b in zip(gold, answer, strict=True)):
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
        hits = [i for i in range(len(answer)) if same(item, answer[i])]
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
    if value is not None and kind == "leaf" and _relation(shape) and len(value.free_symbols) == 1:
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
        kinds = [
            type(r.reversed) if r.func.__name__ in ("StrictGreaterThan", "GreaterThan") else type(r) for r in (a, b)
        ]
        sides = [
            r.rhs - r.lhs if r.func.__name__ in ("StrictGreaterThan", "GreaterThan") else r.lhs - r.rhs for r in (a, b)
        ]
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

    return Eq(shape["unknown"], shape["value"], evaluate=False) if shape.get("unknown") is not None else shape["value"]


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
    """Whether a difference is nothing: exactly where it is rational, else to 25 digits of the values `of` which it is the difference."""
    from sympy import log, nan, oo, simplify, zoo

    difference = difference.doit()
    if difference.is_Rational:
        return bool(difference == 0)
    if difference in (nan, zoo, oo, -oo):
        return False
    seen = 0
    for point in _points(difference.free_symbols):
        size = max([abs(s) for one in of if (s := _at(one, point)) is not None], default=1)
        digits = 30 + (min(4000, int(log(size, 10).evalf(5))) if size > 1 else 0)
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
