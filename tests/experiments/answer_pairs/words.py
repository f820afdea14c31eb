"""Words, names, yes and no, option letters."""

from __future__ import annotations

PAIRS: list[tuple[str, str, bool]] = [
    (r"\text{Monday}", "Monday", True), ("Monday", "monday", True), ("Monday", "Monday or Tuesday", False),
    (r"\text{Monday}", r"\text{Monday or Tuesday}", False), ("Monday", "Tuesday", False),
    ("Monday", "not Monday", False), ("Monday", "on Monday", True), ("yes", "Yes", True), ("yes", "no", False),
    ("no", "yes", False), ("yes", "no, yes would be wrong", False), (r"\text{yes}", r"\text{Yes}", True),
    ("even", r"\text{even}", True), ("even", "odd", False), ("Evelyn", r"\textbf{Evelyn}", True),
    ("Evelyn", "Carla", False), ("Evelyn", "Evelyn and Carla", False), ("New York", "new york", True),
    ("New York", "York", False), ("neither", "neither", True), ("neither", "both", False), ("true", "True", True),
    ("true", "false", False), (r"\text{(C)}", "C", True), (r"\text{(C)}", "(c)", True), (r"\text{(C)}", "D", False),
    (r"\text{(C)}", r"\text{(C) } 12", True), ("undefined", r"\text{undefined}", True), ("undefined", "0", False),
    ("Evelyn", "5", False), ("5", r"\text{Evelyn}", False), ("isosceles triangle", "Isosceles triangle", True),
    ("isosceles triangle", "triangle", False), ("prime", "not prime", False), ("dog", "god", False),
    ("listen", "silent", False), (r"\text{ellipse}", "an ellipse", True), (r"\text{ellipse}", "hyperbola", False),
    ("Tuesday", "tuesday", True), ("Tuesday", "Thursday", False), ("yes", "yeah", False), ("yes", "Yes, it is", True),
    ("no", "not yes", False), ("True", "yes", False), ("John", "Johnny", False), ("John Smith", "Smith", False),
    ("red", "The red one", False), ("blue", "not blue", False), ("cat", "dog", False), ("ab", "a b", True),
    ("parallelogram", "rectangle", False), ("A", "B", False), ("B", "A or B", False), ("(B)", "B", True),
    ("B", "(B)", True), (r"\text{B}", r"\text{(B)}", True), (r"\text{B}", "b", True),
    (r"\textbf{(B)}", r"\text{B}", True), (r"\text{(B)}", r"\text{(A) or (B)}", False), (r"\text{odd}", "1", False),
    (r"\text{none}", r"\text{all}", False), ("0", "zero", True), (r"\text{Friday}", r"\text{on a Friday}", True),
    ("Mars", "Venus and Mars", False), ("right triangle", "triangle", False), ("no solution", r"\emptyset", True),
    ("DNE", "does not exist", True), ("June 5", "June 6", False),
]  # fmt: skip
