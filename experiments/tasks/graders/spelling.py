r"""The spelling of a mathematical answer: what differs in layout only is brought to one form.

1. `cleaned` takes away delimiters and layout and writes one sign for one thing: fractions, roots, minus, thousands, powers of ten, mixed
   numbers, number words. Currency signs and units stay: they say something (`quantity.py`).
2. A comma, space or apostrophe stands between thousands only where the whole answer is one number: `(1,200)` is a pair.
3. How often something happens may be said in words (`times_spelled`: twice) where the question asks how many times.
4. `plain` is a spelling for comparing letters: equal spellings are equal answers. Digits that a space parts are not joined.
"""

from __future__ import annotations

import re
from fractions import Fraction

TEXT = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|operatorname|bold|rm|bf)\s*\{([^{}]*)\}"
)
_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
_LAYOUT = re.compile(
    r"(?<!\\)\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|,|;|:|!|quad|qquad|hspace\{[^{}]*\})(?![A-Za-z])"
)
_SIGNS = {
    "\u2212": "-", "\u2013": "-", "\xd7": r"\times ", "\xf7": "/", "\u221e": r"\infty ", "\u222a": r" \cup ",
    "\u2229": r" \cap ", "\xb7": r"\cdot ", "\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\neq ", "\xb1": r"\pm ",
    "\u2205": r"\emptyset ", "\u03c0": r"\pi ", "\u03b8": r"\theta ", "\u2208": r"\in ", "\u211d": r"\mathbb{R}",
    "\xbd": r"\frac{1}{2}", "\xbc": r"\frac{1}{4}", "\xbe": r"\frac{3}{4}", "\xb2": "^{2}", "\xb3": "^{3}",
    "\u2248": r"\approx ", "\u2044": "/", "\u2215": "/", "\u2217": "*", "\xa0": " ", "\u202f": " ", "\u2009": " ",
    "\u2019": "'", "\uff05": "%", "\u2026": r"\dots ",
}  # fmt: skip
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_THOUSANDS = re.compile(
    r"(?<![\w.])(\d{1,3}(?:(?P<by>,|,?\s|'|\{,\})\d{3})(?:(?P=by)\d{3})*|\d{1,2}(?:,\d{2})+,\d{3})(?![\d,])"
)
_GROUPED = re.compile(
    r"[-+]?\s*(?:\\?\$|[\u20ac\u00a3\u00a5])?\s*[-+]?(?:\d{1,3}(?:(?P<by>,|,?\s|'|\{,\})\d{3})(?:(?P=by)\d{3})*|\d{1,2}(?:,\d{2})+,\d{3})(?:\.\d+)?(?![\d,]).*",
    re.S,
)
_SCIENTIFIC = re.compile(r"([-+]?\d{1,400}(?:\.\d{1,400})?)\s?[eE]([-+]?\d{1,3})")
_MIXED = re.compile(r"([-+]?)(\d{1,12})\s+(\d{1,12})\s?/\s?(\d{1,12})")
_MIXED_FRACTION = re.compile(r"([-+]?)(\d{1,12})\s*\\frac\{(\d{1,12})\}\{(\d{1,12})\}")
_ORDINAL = re.compile(
    r"(\d)\s*(?:\^\s*\{?\s*)?(?:\\(?:text|mathrm|rm|mbox)\s*\{\s*(?:st|nd|rd|th)\s*\}|(?:st|nd|rd|th)\b)\s*\}?"
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(
    r"(?i)^(.*?[-+]?\$?)(\d{1,40}(?:\.\d{1,40})?)\s*(hundred|thousand|million|billion|trillion|dozen)s?\b(?!\s*\^)\s*(.*)$",
    re.S,
)
_ONES = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen".split(),
        range(20),
        strict=True,
    )
)
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "eighths": 8, "tenth": 10, "tenths": 10,
}  # fmt: skip


def undelimited(answer: str) -> str:
    """An answer without the dollars, brackets or stars around the whole of it, and without a final full stop."""
    text = _INVISIBLE.sub("", answer).strip()
    for _ in range(4):
        before = text
        text = re.sub(r"^\\boxed\{(.*)\}$", r"\1", text, flags=re.S).strip()
        for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$"), ("**", "**"), ("`", "`")):
            inner = text[len(opening) : -len(closing)]
            if (
                text.startswith(opening)
                and text.endswith(closing)
                and inner
                and opening not in inner
                and not inner.endswith("\\")
            ):
                text = inner.strip()
        if whole := re.fullmatch(r"\\(?:text|mbox|textbf|mathbf|mathrm|textrm)\s*\{([^{}]*\d[^{}]*)\}", text):
            text = whole[1].strip()
        if re.fullmatch(r"\{[^{}]*\}", text):
            text = text[1:-1].strip()
        text = text.rstrip(".;, ").strip() if not re.search(r"(?:\.\.|\\[.;, ])$", text) else text
        if text == before:
            break
    # One end of a pair, where the other was left behind.
    text = re.sub(r"^(?:\\\(|\\\[|\$\$)|(?:\\\)|\\\]|(?<!\\)\$\$)$", "", text).strip()
    return text[:-1].rstrip() if text.endswith("$") and not text.endswith("\\$") else text


def cleaned(answer: str) -> str:
    """An answer in one spelling, without delimiters and layout."""
    text = undelimited(answer)
    text = _SIGN.sub(lambda m: _SIGNS[m.group()], text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"(\d)(?:,\\!|\\,|\{,\}\\?!?)\s?(?=\d{3}(?!\d))", r"\1,", text)
    text = re.sub(r"(\d)\{,\}(?=\d)", r"\1.", text)
    text = _LAYOUT.sub(lambda m: " " if m.group()[1:2] in ",;:q" else "", text)
    text = re.sub(r"(?<!\\)\\ |~", " ", text)
    text = re.sub(r"\\\{", r"\\lbrace ", re.sub(r"\\\}", r"\\rbrace ", text))
    text = re.sub(r"\{\\circ\}|\\circ(?![a-zA-Z])", r"\\circ", re.sub(r"\\degree(?![A-Za-z])|\u00b0", r"^\\circ", text))
    text = re.sub(r"\\(?:text|mathrm|rm|operatorname|mathit)\s*\{e\}|\\e(?![A-Za-z])", "e ", text)
    text = re.sub(r"\\(?:text|mathrm|rm|operatorname|mathit)\s*\{(i|d)\}", r"\1 ", text)
    text = _ORDINAL.sub(r"\1", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})\s*(\d|[a-z](?![a-z]))", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![\\A-Za-z])sqrt\s?\(([^()]{1,200})\)", r"\\sqrt{\1}", text)
    text = re.sub(
        "\u221a\\s?(?:\\(([^()]{1,200})\\)|(\\d{1,40}))", lambda m: rf"\sqrt{{{m.group(1) or m.group(2)}}}", text
    )
    text = re.sub(
        r"(?<![a-zA-Z\\])(pi|infty|infinity)(?![a-zA-Z])", lambda m: "\\pi " if m[1] == "pi" else "\\infty ", text
    )
    text = re.sub(r"(?<![a-zA-Z\\])(a?(?:sin|cos|tan)|cot|sec|csc|ln|log|exp)(?=\s?[\d(x\\])", r"\\\1", text)
    text = re.sub(
        r"<=|\\leq?(?:slant)?(?![a-zA-Z])", r"\\le ", re.sub(r">=|\\geq?(?:slant)?(?![a-zA-Z])", r"\\ge ", text)
    )
    text = re.sub(r"!=|\\ne(?![a-zA-Z])", r"\\neq ", text).replace("**", "^")
    text = re.sub(r"^\s*\\approx(?![a-zA-Z])\s*", "", text)
    return number_spelled(text.strip())


def number_spelled(text: str) -> str:
    """A number in one spelling: thousands joined, powers of ten, mixed numbers, million and dozen, number words. Other text as it is."""
    worded = _from_words(text)
    if worded is not None:
        return worded
    if _GROUPED.fullmatch(text):
        text = _THOUSANDS.sub(lambda m: re.sub(r"[,\s'{}]", "", m.group()), text, count=1)
    elif re.fullmatch(r"[-+]?\d{1,3}(?:\.\d{3})+,\d{1,2}", text):
        text = text.replace(".", "").replace(",", ".")
    if power := _SCIENTIFIC.fullmatch(text):
        return f"{power[1]} \\times 10^{{{int(power[2])}}}"
    for pattern in (_MIXED, _MIXED_FRACTION):
        if mixed := pattern.fullmatch(text):
            count, top, bottom = int(mixed[2]), int(mixed[3]), int(mixed[4])
            return rf"{'-' * (mixed[1] == '-')}\frac{{{count * bottom + top}}}{{{bottom}}}" if bottom else text
    scaled = _SCALED.match(TEXT.sub(r" \1", text))
    if scaled and not re.search(r"[\d\\A-Za-z(]", scaled[1]):
        power_of = 12 if scaled[3].lower() == "dozen" else 10 ** _SCALES[scaled[3].lower()]
        whole, _, part = scaled[2].partition(".")
        value, scale = int(whole + part) * power_of, 10 ** len(part)
        exact = str(value // scale) if value % scale == 0 else rf"\frac{{{value}}}{{{scale}}}"
        return f"{scaled[1]}{exact} {scaled[4]}".strip()
    return text


def in_scale(answer: str, question: str) -> str:
    """An answer without the "dozen" or "million" that its question counts in: "how many dozen eggs" is answered by 7."""
    found = re.search(r"(?i)\s*(hundred|thousand|million|billion|trillion|dozen)s?\W*$", answer)
    counted = found and re.search(rf"(?i)\bhow many (?:\w+ ){{0,2}}{found[1]}s?\b|\bin {found[1]}s\b", question)
    return answer[: found.start()] if found and counted else answer


_ASKED_TIMES = re.compile(r"(?i)\bhow (?:many times|often)\b")
_ONCE = {"once": 1, "twice": 2, "thrice": 3}
_HEDGES = frozenset(
    "not never no nor or than more less least most fewer almost nearly about another again as doesnt isnt wasnt didnt".split()
)
"""Words beside which a number of times is not that number."""
_LED = frozenset("in within inside there here".split())
"""Words that may follow a "once" that begins a sentence; before others it means "as soon as"."""


def times_spelled(answer: str, question: str) -> str | None:
    """The number of times that an answer without digits names in words (once, twice, thrice, four times), where the question asks for one;
    None for any other answer or question, for two such numbers, and where the words beside it make it another."""
    bare = TEXT.sub(r"\1", answer)
    if not _ASKED_TIMES.search(question) or re.search(r"\d", bare):
        return None
    words = re.findall(r"[a-z]+", bare.lower().replace("n't", "nt").replace("'", "").replace("\u2019", ""))
    counts = [_ONCE[word] for word in words if word in _ONCE]
    counts += [_ONES[word] for word, after in zip(words, words[1:], strict=False) if word in _ONES and after == "times"]
    others = sum(word in _ONES or word in _TENS for word in words) - (
        len(counts) - sum(word in _ONCE for word in words)
    )
    as_soon_as = words[:1] == ["once"] and len(words) > 1 and words[1] not in _LED
    return str(counts[0]) if len(counts) == 1 and not others and not _HEDGES & {*words} and not as_soon_as else None


def _from_words(text: str) -> str | None:
    """The number that words spell, up to the thousands, or a simple fraction; None where they spell none."""
    words = re.findall(r"[a-z]+", TEXT.sub(r"\1", text).lower())
    if not words or len(words) > 8 or not re.fullmatch(r"[A-Za-z\s-]+", TEXT.sub(r"\1", text)):
        return None
    negative = words[0] in ("minus", "negative")
    words = [w for w in words[negative:] if w != "and"]
    if len(words) == 2 and words[1] in _PARTS and (words[0] in _ONES or words[0] == "a"):
        return rf"{'-' * negative}\frac{{{_ONES.get(words[0], 1)}}}{{{_PARTS[words[1]]}}}"
    total, part, seen = 0, 0, 1000
    for word in words:
        value = _ONES.get(word, _TENS.get(word))
        if value is not None and (value < seen) and (seen >= 100 or (seen >= 20 and value < 10)):
            part, seen = part + value, value if value >= 20 else 1
        elif word == "hundred" and 0 < part < 10:
            part, seen = part * 100, 100
        elif word == "thousand" and part:
            total, part, seen = total + part * 1000, 0, 1000
        else:
            return None
    return f"{'-' * negative}{total + part}" if words else None


def plain(answer: str) -> str:
    """A spelling that harmless differences of layout do not change."""
    text = TEXT.sub(r"\1", cleaned(answer))
    text = re.sub(r"(?<=\d)\s+(?=\d)", "\u2423", text)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", text)
    return re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)


_DECIMAL = re.compile(r"([-+]?)(\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})")
_FRACTION = re.compile(
    r"([-+]?)\s*(?:\\frac\{([-+]?)(\d{1,400})\}\{([-+]?)(\d{1,400})\}|(\d{1,400})\s*/\s*(\d{1,400}))"
)
_POWER = re.compile(r"([-+]?\d{1,400}(?:\.\d{0,400})?)\s*(?:\\times|\\cdot|\*)\s*10\^\{?\s*([-+]?\d{1,3})\s*\}?")


def rational(text: str) -> Fraction | None:
    """The number that a cleaned answer is: a decimal, a fraction or a power of ten, exactly; None for anything else."""
    body = text.strip()
    if decimal := _DECIMAL.fullmatch(body):
        return Fraction(decimal.group().rstrip(".") if decimal.group().endswith(".") else decimal.group())
    if ratio := _FRACTION.fullmatch(body):
        top, bottom = (ratio[3], ratio[5]) if ratio[3] else (ratio[6], ratio[7])
        if int(bottom) == 0:
            return None
        minus = sum(sign == "-" for sign in (ratio[1], ratio[2], ratio[4]))
        return Fraction(int(top), int(bottom)) * (-1) ** minus
    if power := _POWER.fullmatch(body):
        return Fraction(power[1].rstrip(".")) * Fraction(10) ** int(power[2])
    return None
