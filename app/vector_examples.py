"""What stands in the fields of *Make a vector* until somebody types."""

from __future__ import annotations

from experiments.pair.problem import FORM_SUFFIX

QUESTIONS = (
    "rules + 15 ; * 9 ; goal 31 start 42 91 9", "rules - 4 ; * 3 ; goal 18 start 10 7 25", "rules + 2 ; + 40 ; goal 60 start 18 33 5",
    "rules * 3 ; + 37 ; goal 35 start 75 99 15", "rules - 42 ; - 29 ; goal 27 start 72 24 10", "rules * 9 ; + 5 ; goal 65 start 32 76 64",
    "rules + 8 ; * 2 ; goal 50 start 17 60 4", "rules - 7 ; + 31 ; goal 44 start 20 86 12",
)  # fmt: skip
EXAMPLES = {
    True: {
        side: "\n".join(f"{question} {FORM_SUFFIX[form]}" for question in QUESTIONS)
        for side, form in (("positive", "think"), ("negative", "quick"))
    },
    False: {
        "positive": "That was a wonderful evening.\nI love how this turned out.\nWhat a delightful idea!\nThis made my whole week.\n"
        "The soup is excellent.\nShe was kind to everyone.\nI would gladly come again.\nHis answer was a relief.",
        "negative": "That was a dreadful evening.\nI hate how this turned out.\nWhat a horrible idea!\nThis ruined my whole week.\n"
        "The soup is disgusting.\nShe was rude to everyone.\nI would never come again.\nHis answer was a shock.",
    },
}
"""What stands in the fields until somebody types: for a built-in model (True) questions of its own, for another a contrast of sentiment."""


MARKED = {
    True: "\n\n".join(
        f"{q} ? think first [[proposing: try {a}]] [[testing: ; goal {b} no back]] [[proposing: ; try {c}]] [[testing: ; goal {b} yes]]"
        for q, (a, b, c) in zip(
            QUESTIONS, ((42, 31, 91), (10, 18, 7), (18, 60, 33), (75, 35, 99), (72, 27, 24), (32, 65, 76)), strict=False
        )
    ),
    False: "\n\n".join(
        f"{first} [[checking: {check}]] {then} [[concluding: {end}]]"
        for first, check, then, end in (
            ("The sum of 17 and 26 is 43.", "Let me check: 43 - 26 = 17.", "That fits.", "So the answer is 43."),
            (
                "A train leaves at 9 and takes 3 hours.",
                "Wait, is that right? 9 + 3 = 12.",
                "Good.",
                "Therefore it arrives at noon.",
            ),
            ("Half of 90 is 45.", "To verify, 45 + 45 = 90.", "It holds.", "Hence each gets 45."),
            ("Five boxes of 6 make 30.", "Let me verify: 30 / 6 = 5.", "Yes.", "So there are 30 in all."),
        )
    ),
}
"""Marked texts that stand in the field until somebody types, for a built-in model (True) or another."""
