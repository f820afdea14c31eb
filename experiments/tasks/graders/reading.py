r"""The leaves of an answer as expressions of sympy. It runs in the process of `worker.py`.

1. A text is read whole or not at all: what the parser would read as something else than it says (numbers side by side, transposes, primes,
   dots, words) is refused.
2. Letters keep their case, `i` and `e` are the numbers, decimals are exact, and degrees in a function are parts of a half turn.

math-verify's parser (latex2sympy2_extended) does the reading.
"""

from __future__ import annotations

import re
from typing import Any

_DECIMAL = re.compile(r"([-+]?)(\d*)\.(\d+)(\s*(?:\\[lc]?dots|\.\.\.))?")


def read(shape: dict[str, Any]) -> dict[str, Any]:
    """A shape whose leaves have a `value`, None where they are not read, and where they have a name an `unknown`."""
    if shape["kind"] == "leaf":
        unknown = _parsed(shape["name"]) if shape.get("name") else None
        return {**shape, "value": _parsed(shape["text"]), "unknown": unknown}
    if shape["kind"] == "matrix":
        return {**shape, "rows": [[read(cell) for cell in row] for row in shape["rows"]]}
    return {**shape, "items": [read(item) for item in shape["items"]]}


def whole(shape: dict[str, Any]) -> bool:
    """Whether every leaf was read."""
    if shape["kind"] == "leaf":
        return shape["value"] is not None
    inside = [cell for row in shape["rows"] for cell in row] if shape["kind"] == "matrix" else shape["items"]
    return all(map(whole, inside))


_LETTERS = re.compile(r"\\mathbb\s*\{[A-Z]\}|\\(?:begin|end)\{[A-Za-z]+\}|\\[A-Za-z]+|[A-Z](?:_(?:\{(\w+)\}|(\w)))?")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\[a-z]+|(?<![a-z\\])[a-z])\s*\^\s*\{?\s*\\circ\s*\}?")
_LARGE = re.compile(r"\\(Gamma|Delta|Theta|Lambda|Xi|Sigma|Upsilon|Phi|Psi|Omega)(?![a-z])")
_REFUSED = re.compile(
    r"\d\s+\d|\^\s*\{?\s*(?:T|\\top|\\prime)|'|\\(?:angle|triangle|measuredangle|perp|parallel|cong|sim)(?![a-z])|\\[lc]?dots|\.\.|:|\?|#|\\text\s*\{[^{}]*\s[^{}]*\}|(?<![\\A-Za-z])[A-Za-z]{6,}"
)
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
    text = re.sub(
        r"(?<![\w.])(\d*)\.(\d+)(?![\d.])", lambda m: rf"(\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}})", text
    )
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
