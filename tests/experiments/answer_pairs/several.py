"""Several answers, and answers that are none."""

from __future__ import annotations

PAIRS: list[tuple[str, str, bool]] = [
    ("1, -2", "-2, 1", True), ("1, -2", "1 and -2", True), ("1, -2", "1 or -2", True),
    ("1, -2", r"x = 1 \text{ or } x = -2", True), ("1, -2", "x = 1, x = -2", True), ("1, -2", "x=1, -2", True),
    ("1, -2", "1", False), ("1", "1, -2", False), ("5", "5 or 6", False), ("5", "5, 6", False),
    ("1, -2", "1, 2", False), ("1, -2", "1, -2, 3", False), ("1; 2", "1, 2", True), ("1, 2, 3", "1, 2, and 3", True),
    (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}", True), (r"1 \pm \sqrt{2}", r"1+\sqrt{2}", False),
    (r"\pm 3", "3, -3", True), (r"\pm 3", "3", False), (r"x = \pm 3", "-3, 3", True), ("3", r"\pm 3", False),
    (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{-1-\sqrt{5}}{2}, \frac{-1+\sqrt{5}}{2}", True),
    (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{-1 \pm \sqrt{3}}{2}", False), ("x=1, y=2", "x=2, y=1", False),
    ("x=1, y=2", "y=2, x=1", True), ("(1,2)", "x=1, y=2", True), ("(1,2)", "y=1, x=2", False),
    ("(1,2), (3,4)", "(3,4), (1,2)", True), ("(1,2), (3,4)", "(1,2), (4,3)", False), ("(1,2), (3,4)", "(1,2)", False),
    ("(1,2), (3,4)", "1, 2, 3, 4", False), ("2, 3", "5", False), ("6", "2, 3", False), ("12", "1, 2", False),
    ("1, 2", "12", False), ("0.5, 0.25", r"\frac{1}{2}, \frac{1}{4}", True), ("50%, 25%", "0.5, 0.25", True),
    ("3 cm, 4 cm", "3, 4", True), ("3 cm, 4 cm", "3 m, 4 m", False), ("2 or 3", "3 or 2", True), ("2 or 3", "2", False),
    ("2", "2 or 3", False), ("2, 3", "2.3", False), ("2.3", "2, 3", False), ("x=2", "x=2,3", False),
    ("x=2, x=3", "2,3", True), ("x=2 or y=3", "x=2 or x=3", False), ("a=1, b=2", "(1,2)", True), ("1,1,2", "1,2", True),
    ("1 and 2", "1,2", True), (r"\sqrt{2}, -\sqrt{2}", r"\pm\sqrt{2}", True), (r"\pm\sqrt{2}", r"\sqrt{2}", False),
    (r"2\pm 3", "5,-1", True), (r"2\pm 3", "5", False), ("1,2,3,4", "1,2,3,5", False), ("3 or -3", r"\pm 3", True),
    ("between 4 and 6", "5", False), ("5", "between 4 and 6", False), ("at least 5", "5", False),
    ("5", "more than 5", False), ("5", "not 5", False), ("5", "5 or more", False),
]  # fmt: skip
