# ruff: noqa: E501
r"""Pairs of answers by topic: `(right answer, answer, whether they are the same)`, whoever compares them.

1. "The same" is as a careful human marks it without the question: a unit that only one of the two has says nothing, two units that disagree do.
2. Pairs that a human could mark either way are not here.
"""

from __future__ import annotations

Pair = tuple[str, str, bool]

NUMBERS: list[Pair] = [
    ("1200", "1,200", True), ("1200", r"1{,}200", True), ("1200", r"1\,200", True), ("1200", "1 200", True), ("1200", r"1,\!200", True),
    ("1200", "1'200", True), ("1234567.5", "1,234,567.5", True), ("100000", "1,00,000", True), ("1,200", "1200", True), ("1200", "1,2000", False),
    ("1200", "12,00", False), ("1200", "1,200,000", False), ("1200", "1.2", False), ("12", "1 2", False), ("3.5", "3,5", True), ("3.14", "3,14", True),
    ("2.5", "2{,}5", True), ("1234.56", "1.234,56", True), ("3.5", "3, 5", False), ("3.5", "(3,5)", False), ("3.5", r"\{3,5\}", False), ("3.5", "35", False),
    ("1200", "1.2e3", True), ("1200", r"1.2 \times 10^3", True), ("1200", r"1.2\cdot10^{3}", True), ("1200", "1.2E+3", True), ("0.00012", "1.2e-4", True),
    ("1.2e3", "1200", True), ("1200", "1.2e2", False), ("1200", "1.3e3", False), ("0.00012", "1.2e-5", False), (r"3 \times 10^{8}", "300000000", True),
    (r"3 \times 10^{8}", r"3 \times 10^{9}", False), ("0.0000003", "0.0000002", False), ("0.0000003", r"3 \times 10^{-7}", True), ("0", "0.0000002", False),
    ("0.0000002", "0", False), (r"10^{-9}", r"10^{-10}", False), (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}", False), (r"\frac{1}{2^{98}}", "2^{-98}", True),
    (r"\frac{1}{2^{98}}", r"\frac{2}{2^{99}}", True), ("2^{100}", "2^{100}+1", False), ("2^{100}", "1267650600228229401496703205376", True),
    ("2^{100}", "1267650600228229401496703205377", False), ("10^{50}", "10^{50}+1", False), ("10^{50}", r"10 \cdot 10^{49}", True),
    ("100!", r"99! \cdot 100", True), ("100!", "100! + 1", False), ("20!", "2432902008176640000", True), ("1000001", "1000000", False),
    ("0.1", "0.10000001", False), ("0.1", "0.10", True), ("7", "7.0", True), ("7", "7.0000001", False), ("1.5", r"1\frac{1}{2}", True), ("3.5", r"3\frac12", True),
    ("3.5", "3 1/2", True), (r"3\frac{1}{2}", "7/2", True), (r"3\frac{1}{2}", r"\frac{31}{2}", False), (r"3\frac{1}{2}", "31/2", False), ("3 1/2", "31/2", False),
    (r"-1\frac{1}{2}", "-1.5", True), (r"-1\frac{1}{2}", "-0.5", False), (r"2\frac{3}{4}", "2.75", True), (r"2\frac{3}{4}", r"\frac{6}{4}", False),
    ("1000000", "1 million", True), ("2500000", "2.5 million", True), ("144", "12 dozen", True), ("3000000000", "3 billion", True), ("1", "1 million", False),
    ("2500000", "2.5 billion", False), ("12", "12 dozen", False), ("5", "five", True), ("21", "twenty-one", True), ("105", "one hundred and five", True),
    ("5", "six", False), ("21", "twelve", False), (r"\frac{1}{2}", "one half", True), (r"\frac{2}{3}", "two thirds", True), (r"\frac{2}{3}", "three halves", False),
    ("-5", "5", False), ("-5", "minus five", True), ("5", "+5", True), ("1/3", "0.333333", True), ("1/3", "0.333", False), ("1/3", "0.333...", True), (r"1/3", r"0.\overline{3}", True),
    (r"\frac{1}{6}", r"0.1\overline{6}", True), (r"\frac{1}{6}", r"0.\overline{16}", False), ("1", r"0.\overline{9}", True), ("52_8", "52_9", False), ("52_8", "52_8", True),
    ("11", "1...11", False), ("10", r"1, 2, \dots, 10", False), ("10", "1, 2, ..., 10", False), ("10", "1+2+...+10", False), (r"1, 2, \dots, 10", "10", False),
    ("1.5", "1.5.", True), ("1.2.3", "3", False), ("3", "1.2.3", False), ("12:30", "12:30", True), ("12:30", "2:5", False), ("12:30", "12:31", False), ("3:4", "4:3", False),
    ("333", r"997^{-1} \equiv 333 \pmod{1000}", True), ("333", r"x \equiv 334 \pmod{1000}", False), (r"5 \pmod{12}", r"17 \pmod{12}", True), (r"5 \pmod{12}", r"5 \pmod{13}", False), ("12", r"12^{\text{th}}", True), ("12", "12th", True), ("12", "13th", False),
]  # fmt: skip

UNITS: list[Pair] = [
    ("5", "5 m", False), ("5m", "5", False), ("5", "5m", False), ("x+2", "x+2m", False), ("x+2m", "x+2", False), ("10 m", "10 km", False), ("10 km", "10 m", False),
    ("10 m", "10 meters", True), ("10 m", "1000 cm", True), ("10 m", "10 s", False), (r"10 \text{ m}", "10", True), ("10", r"10 \text{ m}", True),
    ("5 hours", "5 minutes", False), ("5 hours", "5 hrs", True), ("5 hours", "5 h", True), ("5 hours", "300 minutes", True), ("5 hours", "5", True), ("5", "5 hours", True),
    ("1 hour", "60 minutes", True), ("1 hour", "60", False), ("60 minutes", "1 hour", True), ("2 days", "48 hours", True), ("2 days", "2 weeks", False),
    ("$5", "5 cents", False), ("$5", "500 cents", True), ("$5", "5 dollars", True), ("$5", r"\$5.00", True), ("$5", "5", True), ("5", "$5", True), ("5", r"\$5", True), ("$5", "\u20ac5", False),
    ("$5", "$6", False), ("5 cents", "$0.05", True), ("5 cents", "$5", False), ("$1,200", "1200", True), ("$1,200", "1200 dollars", True), ("-5", "-$5", True), ("5", "-$5", False),
    ("18", "18 eggs", True), ("18", r"\text{18 dollars}", True), ("18", r"18\text{ duck eggs}", True), ("18 eggs", "18 duck eggs", True), ("18 apples", "18 pears", False),
    ("18", "19 eggs", False), ("5", r"5\text{ apples}", True), ("5 cm", "5 cm^2", False), (r"5 \text{ cm}^2", r"5\text{ cm}^{2}", True), (r"5 \text{ cm}^2", "5 square centimeters", True),
    (r"5 \text{ cm}^2", r"5 \text{ cm}^3", False), (r"1 \text{ m}^2", r"10000 \text{ cm}^2", True), (r"1 \text{ m}^2", r"100 \text{ cm}^2", False), ("60 mph", "60 miles per hour", True),
    ("60 mph", "60 km/h", False), ("60 mph", "60", True), ("5 m/s", "5 meters per second", True), ("5 m/s", "18 km/h", True), ("5 m/s", "5 km/h", False), ("3 kg", "3000 g", True), ("3 kg", "3 g", False),
    ("3 kg", "3 lb", False), ("2 ft", "24 inches", True), ("2 ft", "2 inches", False), (r"90^\circ", "90 degrees", True), (r"90^\circ", "90", True), (r"90^\circ", "100", False), ("90\u00b0", r"90^{\circ}", True),
    (r"\frac{\pi}{2}", "90", False), ("12\\pi", r"12\pi \text{ inches per second}", True), ("12\\pi", r"12 \text{ inches per second}", False), ("1/2", r"\frac{1}{2} \text{ hour}", True), ("5", "5 units", True), ("5", "5 units^2", True),
    ("50\\%", "50%", True), ("50%", "0.5", True), ("0.5", "50%", True), ("50", "50%", True), ("50%", "50", True), ("50%", "5%", False), ("50%", "0.05", False), ("0.5", "0.5%", False), ("0.5%", "0.5", False), ("5", "500%", True),
    ("5", "50%", False), ("12.5%", "1/8", True), ("12.5%", r"\frac{1}{8}", True), ("12.5%", r"\frac{1}{7}", False), ("100%", "1", True), ("1%", "1", False), ("50%", "50 dollars", False), ("20 percent", "20%", True),
    ("2xy", "2", False), ("2", "2xy", False), ("3ab", "3", False), ("5x", "5", False), ("5", "5x", False), ("5", "5i", False), ("5", "5s", False), ("5", "5e", False), ("5 gallons", "20 quarts", True), ("5 gallons", "5 quarts", False),
    ("3 weeks", "21 days", True), ("40", "40 miles per gallon", True), ("40 miles", "40 gallons", False),
]  # fmt: skip

BRACKETS: list[Pair] = [
    ("(1,200)", "1200", False), ("[1,200]", "1200", False), (r"\{1,200\}", "1200", False), ("1200", "(1,200)", False), ("1200", "[1,200]", False), ("1200", r"\{1,200\}", False), ("(1,200)", "(1, 200)", True),
    ("(1,200)", "(1,201)", False), ("(1,000, 2,000)", "(1000, 2000)", True), ("1,000, 2,000", "1000, 2000", True), ("(1,2)", "(2,1)", False), ("(1,2)", "[1,2]", False), ("[1,2)", "(1,2]", False), ("[1,2)", "[1,2)", True),
    ("(1,2)", r"\{1,2\}", False), (r"\{1,2\}", "(1,2)", False), (r"\{1,2\}", "[1,2]", False), (r"\{1,2\}", r"\{2,1\}", True), (r"\{1,2\}", "1, 2", True), (r"\{1,2\}", "2 and 1", True), (r"\{1,2\}", r"\{1,2,3\}", False), (r"\{1,2\}", "1", False),
    (r"\{5\}", "5", True), ("5", r"\{5\}", True), ("(1,2,3)", "(1,2)", False), ("(1,2,3)", "1, 2, 3", True), ("(1,2,3)", "3, 2, 1", False), (r"\left(1,\frac{1}{2}\right)", "(1, 0.5)", True), (r"(3, \frac{\pi}{2})", r"(3, \pi/2)", True),
    (r"(3, \frac{\pi}{2})", r"(\frac{\pi}{2}, 3)", False), (r"\langle 1,2 \rangle", "(1,2)", True), (r"\langle 1,2 \rangle", r"\langle 2,1 \rangle", False), ("]1,2[", "(1,2)", True), ("]1,2[", "[1,2]", False), ("[1,2]", r"\left[1, 2\right]", True),
    (r"(-\infty, 3)", r"(-\infty,3]", False), (r"(-\infty, 3)", "x < 3", True), ("x < 3", r"(-\infty, 3)", True), ("x < 3", r"x \le 3", False), ("x < 3", "3 > x", True), ("x < 3", "x > 3", False), (r"x \ge 2", r"[2, \infty)", True), (r"x \ge 2", r"(2, \infty)", False),
    ("1 < x < 2", "(1,2)", True), ("1 < x < 2", r"1 \le x < 2", False), (r"1 < x \le 2", "(1,2]", True), ("(1,2)", "1 < x < 2", True), (r"x \in [1,2]", "[1,2]", True), (r"x \in [1,2]", "[1,2)", False),
    (r"(-\infty,1) \cup (2,\infty)", r"(2,\infty) \cup (-\infty,1)", True), (r"(-\infty,1) \cup (2,\infty)", r"(-\infty,1) \cup [2,\infty)", False), (r"(-\infty,1) \cup (2,\infty)", r"(-\infty,1)", False), (r"(-\infty,1) \cup (2,\infty)", "x < 1 or x > 2", True),
    (r"(-\infty,1) \cup (2,\infty)", "x < 1 and x > 3", False), (r"[1,2] \cup [2,3]", "[1,3]", True), (r"(1,2) \cup (2,3)", "(1,3)", False), (r"\mathbb{R} \setminus \{1\}", r"(-\infty,1) \cup (1,\infty)", True), (r"\mathbb{R} \setminus \{1\}", r"\mathbb{R}", False),
    (r"\emptyset", "no solution", True), (r"\emptyset", r"\{\}", True), (r"\emptyset", "0", False), (r"\emptyset", r"\{0\}", False), (r"\mathbb{R}", r"(-\infty, \infty)", True), (r"\mathbb{R}", "all real numbers", True),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", True), (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}", False), (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4.0 \end{pmatrix}", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1,2)", True), (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(2,1)", False), (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}", False), (r"\begin{pmatrix} 1/2 & 0 \\ 0 & 1 \end{pmatrix}", r"\begin{pmatrix} 0.5 & 0 \\ 0 & 1 \end{pmatrix}", True),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "10", False), (r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}", "-2", True), ("(0.0000002, 1)", "(0.0000003, 1)", False), (r"\{0.0000002\}", r"\{0.0000003\}", False), (r"(1, 2^{-99})", r"(1, 2^{-98})", False),
]  # fmt: skip

SEVERAL: list[Pair] = [
    ("1, -2", "-2, 1", True), ("1, -2", "1 and -2", True), ("1, -2", "1 or -2", True), ("1, -2", r"x = 1 \text{ or } x = -2", True), ("1, -2", "x = 1, x = -2", True), ("1, -2", "x=1, -2", True), ("1, -2", "1", False), ("1", "1, -2", False), ("5", "5 or 6", False),
    ("5", "5, 6", False), ("1, -2", "1, 2", False), ("1, -2", "1, -2, 3", False), ("1; 2", "1, 2", True), ("1, 2, 3", "1, 2, and 3", True), (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}", True), (r"1 \pm \sqrt{2}", r"1+\sqrt{2}", False), (r"\pm 3", "3, -3", True),
    (r"\pm 3", "3", False), (r"x = \pm 3", "-3, 3", True), ("3", r"\pm 3", False), (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{-1-\sqrt{5}}{2}, \frac{-1+\sqrt{5}}{2}", True), (r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{-1 \pm \sqrt{3}}{2}", False), ("x=1, y=2", "x=2, y=1", False),
    ("x=1, y=2", "y=2, x=1", True), ("(1,2)", "x=1, y=2", True), ("(1,2)", "y=1, x=2", False), ("(1,2), (3,4)", "(3,4), (1,2)", True), ("(1,2), (3,4)", "(1,2), (4,3)", False), ("(1,2), (3,4)", "(1,2)", False), ("(1,2), (3,4)", "1, 2, 3, 4", False),
    ("2, 3", "5", False), ("6", "2, 3", False), ("12", "1, 2", False), ("1, 2", "12", False), ("0.5, 0.25", r"\frac{1}{2}, \frac{1}{4}", True), ("50%, 25%", "0.5, 0.25", True), ("3 cm, 4 cm", "3, 4", True), ("3 cm, 4 cm", "3 m, 4 m", False),
]  # fmt: skip

FORMS: list[Pair] = [
    (r"\sqrt{8}", r"2\sqrt{2}", True), (r"\sqrt{8}", r"2\sqrt{3}", False), (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True), (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", True), (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5}", False), (r"1+\frac{1}{e}", r"1-\frac{1}{\mathrm{e}}", False),
    (r"1-\frac{1}{e}", r"1-\frac{1}{\mathrm{e}}", True), (r"1-e^{-1}", r"1-\frac{1}{\mathrm{e}}", True), (r"\mathrm{e}^2", "e^2", True), (r"\mathrm{e}^2", "e^3", False), ("e", r"\mathrm{e}", True), ("e", "2.718", False), ("e", "2.718282", True), (r"\pi", "3.14", False), (r"\pi", "22/7", False),
    (r"\pi", "3.141593", True), (r"\pi", "3.141592654", True), (r"\pi", "3.141594", False), (r"2\pi", r"\pi 2", True), (r"2\pi", "2", False), (r"2\pi", r"\pi", False), (r"\ln 2", r"\log 2", False), (r"\ln 8", r"3\ln 2", True), (r"\ln 8", r"2\ln 3", False), (r"\log_2 8", "3", True), (r"\log_2 8", "4", False),
    (r"\sin 30^\circ", r"\sin 30^\circ", True), (r"\sin\frac{\pi}{6}", r"\frac{1}{2}", True), (r"\cos\frac{\pi}{7}", r"\sin\frac{5\pi}{14}", True), (r"\cos\frac{\pi}{7}", r"\sin\frac{\pi}{7}", False), (r"\arctan 1", r"\frac{\pi}{4}", True), (r"\tan x", r"\frac{\sin x}{\cos x}", True),
    (r"\sin^2 x", r"1-\cos^2 x", True), (r"\sin^2 x", r"1-\cos x", False), ("2k+2", "2(k+1)", True), ("2k+2", "2k+1", False), ("x^2-1", "(x-1)(x+1)", True), ("x^2-1", "(x-1)^2", False), (r"\frac{x}{2}", "x/2", True), (r"\frac{x}{2}", r"\frac{1}{2}x", True), (r"\frac{x}{2}", "2x", False),
    (r"\sqrt{x^2}", "|x|", True), (r"\sqrt{x^2}", "x", False), ("|x|", "x", False), ("x^3", "x^2", False), ("x^{10}", "x^{11}", False), (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}", True), (r"\frac{n(n+1)}{2}", r"\binom{n}{2}", False), ("2^{n+1}", r"2 \cdot 2^n", True), ("2^{n+1}", "2^n+1", False),
    ("6+9i", "9i+6", True), ("6+9i", "6-9i", False), ("(1+i)^2", "2i", True), ("(1+i)^2", "2", False), (r"e^{i\pi}", "-1", True), (r"e^{i\pi}", "1", False), ("x", "y", False), ("x", "X", False), ("2N", "2n", False), ("N+n", "2n", False), ("ab", "ba", True), ("ab", "a+b", False),
    ("y=2x+3", "y = 3+2x", True), ("y=2x+3", "2x+3", True), ("y=2x+3", "y=2x-3", False), ("y=2x+3", "2x-y+3=0", True), ("y=2x+3", "2x-y-3=0", False), ("x=5", "y=5", False), ("x=5", "5", True), ("5", "x=5", True), ("5", "x=6", False), ("x+y=3", "3-x=y", True), ("x+y=3", "2x+2y=6", True), ("x+y=3", "x+y=4", False),
    ("x^2+y^2=4", "x^2+y^2-4=0", True), ("x^2+y^2=4", "x^2+y^2=2", False), ("f(x)=2x", "2x", True), ("f(x)=2x", "f(x)=3x", False), ("x^2=4", "x=2", False), (r"2x \le 6", r"x \le 3", True), (r"2x \le 6", r"x \ge 3", False), (r"-x < 2", "x > -2", True), (r"x \neq 2", "x=2", False),
    (r"10^{-20}x", r"10^{-21}x", False), (r"x+10^{-20}", "x", False), (r"\frac{1}{10^{30}}+\sqrt{2}", r"\sqrt{2}", False), (r"\sum_{i=1}^{10} i", "55", True), (r"\sum_{i=1}^{10} i", "54", False), (r"\int_0^1 x^2 dx", r"\frac{1}{3}", True), (r"\binom{10}{3}", "120", True), (r"\binom{10}{3}", "121", False), (r"\lfloor 2.7 \rfloor", "2", True),
    ("3!", "6", True), ("3!", "3", False), (r"\infty", "infinity", True), (r"\infty", r"-\infty", False), (r"\frac{1}{0}", "0", False), (r"\sqrt[3]{8}", "2", True), (r"\sqrt[3]{8}", "3", False), (r"\theta", r"\Theta", False), (r"a_1+a_2", "a_1+a_3", False), (r"A^T", "A", False), ("y'", "y", False), ("1/2x", "2/x", False),
]  # fmt: skip

WORDS: list[Pair] = [
    (r"\text{Monday}", "Monday", True), ("Monday", "monday", True), ("Monday", "Monday or Tuesday", False), (r"\text{Monday}", r"\text{Monday or Tuesday}", False), ("Monday", "Tuesday", False), ("Monday", "not Monday", False), ("Monday", "on Monday", True), ("yes", "Yes", True), ("yes", "no", False), ("no", "yes", False),
    ("yes", "no, yes would be wrong", False), (r"\text{yes}", r"\text{Yes}", True), ("even", r"\text{even}", True), ("even", "odd", False), ("Evelyn", r"\textbf{Evelyn}", True), ("Evelyn", "Carla", False), ("Evelyn", "Evelyn and Carla", False), ("New York", "new york", True), ("New York", "York", False), ("neither", "neither", True),
    ("neither", "both", False), ("true", "True", True), ("true", "false", False), (r"\text{(C)}", "C", True), (r"\text{(C)}", "(c)", True), (r"\text{(C)}", "D", False), (r"\text{(C)}", r"\text{(C) } 12", True), ("undefined", r"\text{undefined}", True), ("undefined", "0", False), ("Evelyn", "5", False), ("5", r"\text{Evelyn}", False),
    ("isosceles triangle", "Isosceles triangle", True), ("isosceles triangle", "triangle", False), ("prime", "not prime", False), ("dog", "god", False), ("listen", "silent", False), (r"\text{ellipse}", "an ellipse", True), (r"\text{ellipse}", "hyperbola", False),
]  # fmt: skip

TOPICS: dict[str, list[Pair]] = {
    "numbers": NUMBERS, "units": UNITS, "brackets": BRACKETS, "several answers": SEVERAL, "closed forms and equations": FORMS, "words and choices": WORDS,
}  # fmt: skip
