"""Keyword labels for the six behaviours of arXiv 2506.18167: cheap, and wrong often enough to say so.

1. Every sentence gets the label of the first rule that matches it, in the order of `RULES`; one that none matches is called deduction.
2. The detector is always `lexicon` and the confidence is below 1: the share of sentences that the rule labels as the annotators of 184
   published traces did (2506.18167, two models; `docs/probes.md`).
3. Rules read words, not what they do: "Wait" is called backtracking or uncertainty even where the text goes on as before. `docs/probes.md`
   has the measured F1 against annotations; noise raises such words too (2507.12638), so counts of them are no evidence by themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .labels import BehaviourLabel
from .sentences import sentences

DETECTOR = "lexicon"
UNMATCHED = 0.63
OPENING = 3
"""Sentences at the beginning of a trace in which the rules of initializing apply."""


@dataclass(frozen=True)
class Rule:
    """A pattern that gives a label, with the share of its matches on which annotations agree."""

    label: str
    pattern: re.Pattern[str]
    confidence: float
    opening: bool = False
    """Only in the first sentences of a trace."""


def _starts(label: str, confidence: float, *patterns: str, opening: bool = False) -> Rule:
    """A sentence that begins with one of the patterns."""
    return Rule(label, re.compile(rf"^(?:{'|'.join(patterns)})", re.IGNORECASE), confidence, opening)


def _holds(label: str, confidence: float, *patterns: str, opening: bool = False) -> Rule:
    """A sentence that holds one of the patterns, from the beginning of a word on."""
    return Rule(label, re.compile(rf"\b(?:{'|'.join(patterns)})", re.IGNORECASE), confidence, opening)


RULES = (
    _starts(
        "initializing", 0.95,
        r"(?:okay|ok|alright)\b", r"so,? i (?:have|need)\b", r"hmm, (?:that|this)\b", r"the (?:problem|question|user)\b",
        opening=True,
    ),
    _holds(
        "initializing", 0.95,
        r"i (?:have|need|want|'m trying|am trying) (?:this|to)", r"let(?:'s| me) (?:try to )?(?:break|understand|start|think)",
        r"to (?:find|determine|solve|calculate|understand|analy[sz]e|complete|create)\b.*\b(?:we|let)",
        opening=True,
    ),
    _holds(
        "backtracking", 0.37,
        r"let me (?:start over|try (?:another|a different|again)|re-?think|reconsider|go back|re-?do)\b", r"scratch that\b",
        r"(?:another|different) (?:approach|way|method|idea|angle)\b", r"instead of\b", r"start over\b",
        r"go(?:ing)? back\b", r"on second thought\b",
    ),
    _starts(
        "backtracking", 0.27,
        r"alternatively\b", r"wait,? (?:no|maybe|but maybe|perhaps|actually)\b", r"hold on\b", r"no, (?:wait|that)\b",
    ),
    _holds(
        "uncertainty-estimation", 0.72,
        r"i'?m (?:not (?:\w+ )?(?:sure|certain)|confused|stuck|unsure)\b", r"not (?:entirely |quite |really )?(?:sure|clear)\b",
        r"i (?:don'?t|do not) (?:know|remember|think)\b", r"i might be\b", r"confusing\b", r"i wonder\b",
        r"is that (?:right|correct)\b", r"am i\b", r"it'?s possible that\b",
    ),
    _starts(
        "uncertainty-estimation", 0.32,
        r"(?:hmm|wait|but wait|maybe|perhaps)\b", r"but (?:is|how|what|why|maybe|i)\b", r"is (?:it|that|this|there)\b",
    ),
    _holds(
        "example-testing", 0.39,
        r"for (?:example|instance)", r"let(?:'s| me)? (?:try|test|check|say|take|see if|suppose|verify)", r"suppose",
        r"if i (?:try|take)", r"e\.g\.", r"try (?:\w+ ?=|with|a=)", r"testing", r"imagine",
    ),
    _starts("example-testing", 0.39, r"(?:so )?(?:try|check|test|case \d|for \\\()"),
    _holds(
        "adding-knowledge", 0.77,
        r"i (?:remember|recall|know|think i remember)\b", r"known as\b", r"is (?:called|defined|a type of)\b", r"the formula\b",
        r"according to\b", r"in (?:general|physics|biology|mathematics|math|geometry|chemistry)\b", r"refers to\b",
        r"because .*\b(?:molecules?|energy|heat)\b", r"usually\b", r"typically\b", r"properties of\b",
    ),
)  # fmt: skip


OTHER = "deduction"
"""The label of a sentence that no rule matches."""
BEHAVIOURS = (*dict.fromkeys(rule.label for rule in RULES), OTHER)
"""Every label that there is."""


def lexicon_labels(text: str) -> tuple[BehaviourLabel, ...]:
    """One label per sentence of a trace, in characters."""
    found = []
    for number, sentence in enumerate(sentences(text)):
        label, confidence = OTHER, UNMATCHED
        for rule in RULES:
            if (number < OPENING or not rule.opening) and rule.pattern.search(sentence.text):
                label, confidence = rule.label, rule.confidence
                break
        found.append(BehaviourLabel(sentence.start, sentence.end, label, DETECTOR, confidence))
    return tuple(found)
