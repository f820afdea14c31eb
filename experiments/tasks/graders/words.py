r"""Answers that are words: names, days, yes and no, option letters.

1. A right answer is words where it is written as text, or reads as such: a long word that is no name of mathematics.
2. An answer is right only when it is the same words, whatever their case. Of a sentence, the clause that states the answer decides: two
   alternatives are no answer, and what a sentence denies it does not say.
3. A few phrases stand for a sign: no solution for the empty set, all real numbers for their set.
"""

from __future__ import annotations

import re

from .spelling import TEXT, cleaned, number_spelled, plain

_WORDS = re.compile(r"[A-Za-z][A-Za-z '\-]{0,60}")
_MATHEMATICS = frozenset(
    "infinity infty alpha beta gamma delta epsilon theta lambda sigma omega sqrt frac arcsin arccos arctan floor ceil".split()
)
_SHORT = frozenset(
    "yes no true false odd even red east west sum all one two up down left mon tue wed thu fri sat sun may jan feb".split()
)
_FILLERS = frozenset("the a an it is was be so it's on in at by answer final option".split())
_DENIALS = frozenset(
    "not neither nor cannot never wrong incorrect false isnt doesnt wont cant untrue impossible except".split()
)
_CLAUSE = re.compile(r"[,;:(]|\.(?=\s|$)|\b(?:because|since|as|which|while|although|but|rather|instead)\b")
_PHRASES = {
    r"\emptyset": ("no solution", "no solutions", "no real solution", "no real solutions", "empty set", r"\varnothing", r"\lbrace\rbrace"),
    r"\mathbb{R}": ("all real numbers", "all reals", r"(-\infty,\infty)", "all real number"),
    "undefined": ("does not exist", "dne", r"\text{dne}"),
}  # fmt: skip


def phrase(text: str) -> str:
    """The sign that a phrase stands for; any other answer as it is."""
    spelled = re.sub(r"\s+", " ", TEXT.sub(r"\1", text).strip().lower())
    tight = re.sub(r"\s", "", text)
    return next((sign for sign, said in _PHRASES.items() if spelled in said or tight in said), text)


def as_words(gold: str) -> str | None:
    """The words that a right answer is; None where it is mathematics."""
    said = TEXT.sub(r"\1", gold).strip()
    if (
        not _WORDS.fullmatch(said)
        or letter(gold)
        or number_spelled(said) != said
        or phrase(cleaned(gold)) != cleaned(gold)
    ):
        return None
    if re.fullmatch(r"[A-Z]{3,}", said):  # letters in an order, such as a ranking
        return said
    if re.search(r"\\(?:text|mbox)", gold):
        return said if len(said) > 1 else None
    found = words_of(said)
    wordy = any(len(w) > 3 and w not in _MATHEMATICS for w in found) or any(w in _SHORT for w in found)
    return said if wordy else None


def letter(text: str) -> str | None:
    """The option letter that an answer is, without brackets."""
    found = re.fullmatch(r"\(?([a-j])\)?", plain(text).lower())
    return found.group(1) if found else None


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without commands."""
    text = re.sub(r"\\[a-zA-Z]+", " ", TEXT.sub(r" \1 ", text))
    return re.findall(r"[a-z]+", text.lower().replace("n't", "nt").replace("'", "").replace("\u2019", ""))


def same_words(answer: str, asked: str) -> bool:
    """Whether an answer is the words asked for, but for an article or "it is" before them."""
    found, wanted = words_of(answer), words_of(asked)
    while len(found) > len(wanted) and found[0] in _FILLERS:
        found = found[1:]
    if wanted in (["yes"], ["no"], ["true"], ["false"]) and found[:1] == wanted and len(found) > 1:
        first, *rest = _CLAUSE.split(answer)
        return (
            words_of(first) == wanted
            and not {"or", "yes", "no", "true"} & {*words_of(" ".join(rest))}
            and not _denied(found, wanted)
        )
    return found == wanted and not re.search(r"\d", TEXT.sub(r"\1", answer))


def states(sentence: str, asked: str, announced: re.Pattern[str]) -> bool:
    """Whether a sentence says that the answer is the words asked for."""
    wanted = words_of(asked)
    found = list(announced.finditer(sentence))
    if found:
        clause = words_of(_CLAUSE.split(sentence[found[-1].end() :].lstrip(" \t*_`:"))[0])
        return _holds(clause, wanted)
    if _denied(words_of(sentence), wanted):
        return False
    clauses = [words_of(piece) for piece in _CLAUSE.split(sentence)]
    if wanted in (["yes"], ["no"]):
        return any(
            [w for w in clause if w not in ("so", "therefore", "thus", "hence")][:1] == wanted for clause in clauses
        )
    return any(_holds(clause, wanted) for clause in clauses)


def _holds(said: list[str], wanted: list[str]) -> bool:
    """Whether a clause holds the words in a row, denies nothing, and names no alternative."""
    places = [i for i in range(len(said) - len(wanted) + 1) if said[i : i + len(wanted)] == wanted]
    if not places or _denied(said, wanted):
        return False
    near = [said[i] for at in places for i in (at - 1, at + len(wanted)) if 0 <= i < len(said)]
    return "or" not in set(said) - set(wanted) and not ("and" in near and "and" not in wanted)


def _denied(said: list[str], wanted: list[str]) -> bool:
    return bool(_DENIALS & (set(said) - set(wanted)))
