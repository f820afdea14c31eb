# ruff: noqa: E501
r"""Odd and hostile answers: `(gold, answer, verdict)`, the verdict `True`, `False`, or None where it may be either, or unscorable.

1. An answer stands where a model puts it: it is boxed unless it is a whole response.
2. Verdicts are of mathematics, not of one program: 0.5 is \frac12 whoever compares them.
"""

from __future__ import annotations

BIG = "9" * 5_000
ZERO_WIDTH = "\u200b"


def _nested(opening: str, closing: str, inner: str, depth: int) -> str:
    return opening * depth + inner + closing * depth


SAME: list[tuple[str, str]] = [
    ("5", "5"), ("5", " 5 "), ("5", "5."), ("5", "5.0"), ("5", "+5"), ("5", "05"), ("5", "$5$"), ("5", r"\$5"), ("5", "5\u200b"),
    ("5", "\ufeff5"), ("5", r"\text{5}"), ("5", "{5}"), ("5", "((5))"), ("5", r"\left(5\right)"), ("-5", "\u22125"), ("-5", "-5"),
    ("5", "x = 5"), ("x=5", "5"), ("1000", "1,000"), ("1000", r"1{,}000"), ("1000000", "1,000,000"), ("10080", r"10,\!080"),
    (r"10,\!080", "10080"), ("0.5", ".5"), ("0.5", r"\frac12"), ("0.5", r"\frac{1}{2}"), ("0.5", r"\dfrac{1}{2}"), ("0.5", r"\tfrac{1}{2}"),
    ("0.5", "1/2"), (r"\frac{1}{2}", "0.5"), (r"\frac{1}{2}", r"\frac{2}{4}"), (r"\frac{1}{2}", r"\frac{-1}{-2}"), (r"\frac{1}{2}", "2^{-1}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"), (r"-\frac{1}{2}", r"\frac{1}{-2}"), (r"\frac43", r"\frac{4}{3}"), (r"\frac 59", r"\frac{5}{9}"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"), (r"\sqrt{8}", r"2\sqrt{2}"), (r"2\sqrt{5}", r"\sqrt{20}"), (r"11\sqrt2", r"11\sqrt{2}"),
    (r"\sqrt{51}", "sqrt(51)"), (r"\sqrt{51}", "\u221a51"), (r"12\pi", "12\u03c0"), (r"12\pi", r"12 \pi"), (r"12\pi", r"\pi \cdot 12"),
    (r"288 \pi", r"288\pi"), (r"18+2\pi", r"2\pi+18"), ("p - q", "-q+p"), ("2k+2", "2(k+1)"), ("(a+5)(b+2)", "(b+2)(a+5)"),
    ("x^3+3x-6", "-6+3x+x^3"), (r"\cot x", r"\frac{\cos x}{\sin x}"), ("6+9i", "9i+6"), ("6 - 5i", "6-5i"), (r"1+2\sqrt{3}", r"2\sqrt{3}+1"),
    (r"90^\circ", "90"), (r"90^\circ", r"90^{\circ}"), (r"90^\circ", "90\u00b0"), ("90", r"90^\circ"), (r"90^\circ", r"90 \text{ degrees}"),
    ("5.4", r"5.4 \text{ cents}"), (r"5.4 \text{ cents}", "5.4"), (r"15\mbox{ cm}^2", "15"), (r"864 \mbox{ inches}^2", "864"),
    (r"\$18.90", "18.90"), (r"\$18.90", r"\$18.9"), (r"\$32,\!348", "32348"), (r"\$36", "36"), ("40", "40 minutes"), ("12", "12 cm"),
    ("50\\%", "50\\%"), ("50\\%", "50%"), (r"1\frac{4}{5}", r"\frac{9}{5}"), (r"137 \frac{1}{2}", "137.5"), ("15 39/40", "15 39/40"),
    ("(3,4]", "(3, 4]"), ("(3,4]", r"\left(3,4\right]"), (r"(2,\infty)", r"(2, \infty)"), (r"(2,\infty)", "(2, \u221e)"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)"), (r"(0,9) \cup (9,36)", "(0,9) \u222a (9,36)"),
    ("(6,31,-1)", "(6, 31, -1)"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"), ("1,-2", "-2, 1"), ("3, 5, 7", "7,5,3"),
    (r"\{1,2,3\}", r"\{3,2,1\}"), (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"), ("52_8", "52_8"), ("52_8", "52_{8}"), ("4210_{5}", "4210_5"),
    (r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", r"\begin{pmatrix}-1&0\\0&-1\end{pmatrix}"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{pmatrix} 0.2 \\ -3.6 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"), (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
    (r"\text{even}", "even"), (r"\text{even}", r"\text{Even}"), (r"\text{Evelyn}", "Evelyn"), (r"\text{(C)}", "C"), (r"\text{(C)}", "(C)"),
    (r"\text{(C)}", r"\textbf{(C)}"), (r"\text{east}", r"\mathrm{east}"), ("y = 2x + 3", "y=2x+3"), ("5x - 7y + 11z + 4 = 0", "5x-7y+11z+4=0"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"), ("2^{10}", "1024"), ("1024", "2^{10}"), ("6", "3!"), (r"\binom{5}{2}", "10"),
    (r"x \in [-2,7]", "[-2,7]"), ("1e3", "1e3"), (r"8n^2 + 4n + 1", "1+4n+8n^2"), (r"-\sqrt{3}", r"- \sqrt 3"), ("58,500", "58500"),
]  # fmt: skip
"""The same in another spelling."""

OTHER: list[tuple[str, str]] = [
    ("5", "6"), ("5", "-5"), ("5", "55"), ("5", "5i"), ("5", "5.1"), ("5", "0"), ("5", r"\infty"), ("5", "x"), ("5", r"\text{five hundred}"),
    ("0.5", "0.05"), (r"\frac{1}{2}", "2"), (r"\frac{1}{2}", r"\frac{2}{1}"), (r"\frac{1}{3}", "0.3"), (r"\sqrt{2}", "1.4"), (r"12\pi", "12"),
    (r"\pi", "22/7"), ("6+9i", "6-9i"), ("6+9i", "9+6i"), ("(3,4]", "(3,4)"), ("(3,4]", "[3,4]"), ("(3,4)", "(4,3)"), (r"(2,\infty)", "2"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(-\infty, 2)"), ("1,-2", "1,2"), ("3, 5, 7", "3, 5"), (r"\{1,2,3\}", r"\{1,2\}"), ("204_5", "204_6"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"), (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(2, 1)"),
    (r"\text{even}", "odd"), (r"\text{Evelyn}", "Carla"), (r"\text{(C)}", "D"), (r"\text{(C)}", r"\textbf{(E)}"), ("y = 2x + 3", "y=2x+4"),
    ("2k+2", "2k+1"), ("x^3+3x-6", "x^3+3x+6"), (r"\cot x", r"\tan x"), ("1000", "1,0000"), ("1024", "2^{11}"), (r"\frac{9}{5}", r"1\frac{3}{5}"),
    ("5", r"\frac{1}{0}"), ("0", r"\frac{1}{0}"), ("5", BIG), ("10^{100}", "10^{99}"), ("7", r"\sqrt{-7}"), ("12", "1.2"),
]  # fmt: skip
"""Something else."""

ANY: list[tuple[str, str]] = [
    ("5", "10^{10^{9}}"), ("5", "10^{10^{10^{10}}}"), ("5", "9^{9^{9^{9^{9}}}}"), ("5", "2^{2^{2^{2^{2^{2}}}}}"), ("5", "(10^9)!"), ("5", "99999999!"),
    ("5", "((9!)!)!"), ("5", "3!!!!!!!!!!"), ("5", r"\binom{10^9}{5 \cdot 10^8}"), ("5", r"\sum_{i=1}^{10^{12}} i^{i}"),
    ("5", r"\sum_{n=1}^{\infty} \frac{1}{n^{n}}"), ("5", r"\prod_{i=1}^{10^9} i"), ("5", r"\int_0^1 x^{x^{x}} dx"),
    ("5", r"\int_{-\infty}^{\infty} e^{-x^2}\sin(x^3) dx"), ("5", r"\lim_{x \to 0} \frac{\sin(\tan(x)) - \tan(\sin(x))}{x^7}"),
    ("5", r"(x+y+z+w)^{500}"), ("(x+1)^{400}", r"(1+x)^{399}(x+1)"), ("5", r"\sqrt{" * 60 + "2" + "}" * 60), ("5", r"\frac{1}{" * 60 + "2" + "}" * 60),
    ("5", _nested("{", "}", "5", 500)), ("5", _nested("(", ")", "5", 300)), ("5", _nested("[", "]", "5", 300)), ("5", _nested(r"\left(", r"\right)", "5", 80)),
    ("5", "2^" * 200 + "2"), ("5", "-" * 800 + "5"), ("5", "+".join(["1"] * 900)), ("5", r"\cdot ".join(["7"] * 250)), ("5", ",".join(map(str, range(400)))),
    ("5", "1" * 1_900), ("5", "0." + "3" * 1_900), ("5", "1e999999999"), ("5", "1E+1000000000"), ("5", r"\exp(\exp(\exp(\exp(100))))"),
    ("5", r"\log_{0}{0}"), ("5", r"\log(0)"), ("5", "0^0"), ("5", "0/0"), ("5", r"\infty - \infty"), ("5", r"\frac{0}{0}"), ("5", r"\sin^{-1}(2)"),
    ("5", r"\boxed{"), ("5", r"\boxed{\boxed{\boxed{"), ("5", r"\frac{1}"), ("5", r"\frac{"), ("5", r"\sqrt"), ("5", "{"), ("5", "}"), ("5", "}{"), ("5", "$"),
    ("5", "$$"), ("5", r"\("), ("5", r"\left("), ("5", r"\begin{pmatrix} 1"), ("5", r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}"), ("5", "\\"), ("5", "\\\\\\\\"),
    ("5", r"\begin{pmatrix}" + " & ".join(["1"] * 200) + r"\end{pmatrix}"), ("5", r"\undefinedmacro{5}"), ("5", r"\input{/etc/passwd}"), ("5", r"\newcommand{\a}{\a\a}\a"),
    ("5", r"\def\x{\x}\x"), ("5", r"\href{javascript:alert(1)}{5}"), ("5", "<script>alert(5)</script>"), ("5", "__import__('os').system('true')"),
    ("5", "import os; os._exit(1)"), ("5", "print(5)"), ("5", "lambda: 5"), ("5", "'; DROP TABLE rows; --"), ("5", "exit()"), ("5", "\x00"), ("5", "5\x00"),
    ("5", "\x1b[31m5\x1b[0m"), ("5", "\r\n5\r\n"), ("5", "\ud800"), ("5", "\U0001f600"), ("5", "\u0665"), ("5", "\u4e94"), ("5", "\uff15"), ("5", "\u2075"), ("5", "\u2464"),
    ("5", ZERO_WIDTH * 1_000), ("5", "\u202e5\u202c"), ("5", "e\u0301" * 300), ("5", "\u00bd"), ("5", "V"), ("5", "five"), ("5", "I don't know"), ("5", "no solution"),
    ("5", r"\emptyset"), ("5", r"\{\}"), ("5", r"\text{undefined}"), ("5", "None"), ("5", "nan"), ("5", "inf"), ("5", "True"), ("5", "[]"), ("5", "{}"), ("5", "5 or 6"),
    ("5", "between 4 and 6"), ("5", r"\approx 5"), ("5", "about 5"), ("5", "5 apples and 3 pears"), ("5", "5 m/s^2"), ("5", "5 km + 300 m"), ("5", "5 = 5 = 5 = 6"),
    ("5", "x > 5"), ("5", r"x \neq 5"), ("5", "5; 6; 7"), ("5", "a" * 1_500), ("5", "xyz" * 400), ("5", r"\sin" * 100 + "x"), ("5", "|" * 200), ("5", "|x|" * 100),
    ("5", "=" * 300), ("5", "^" * 300), ("5", "_" * 300), ("5", "&" * 300), ("5", "%" * 300), ("5", "#" * 300), ("5", "~" * 300), ("5", "()" * 400), ("5", "x_{" * 100 + "1" + "}" * 100),
    ("0.5", "50\\%"), ("0.5", "50%"), ("50", "50\\%"), ("5", "500\\%"), (r"\frac{1}{2}", "one half"), ("12:30", "12:30"), ("3:4", "3:4"), ("3:4", r"\frac{3}{4}"),
]  # fmt: skip
"""Whatever the verdict, it must come, and in time."""

RESPONSES: list[tuple[str, str, bool | None]] = [
    ("5", "", None), ("5", " \n\t ", None), ("5", "5" * 100_000, None), ("5", "{" * 100_000, None), ("5", "\\boxed{" * 20_000, None),
    ("5", "\\boxed{5}" * 12_000, True), ("5", "$" * 100_000, None), ("5", "$ " * 50_000, None), ("5", "answer is " * 12_000, None),
    ("5", "The answer is 5. " * 6_000, True), ("5", "a" * 100_000 + r" \boxed{5}", True), ("5", "\n" * 100_000 + "Answer: 5", True), ("5", "= " * 50_000, None),
    ("5", "is " * 40_000, None), ("5", "\\[" * 40_000, None), ("5", "\\(" * 40_000, None), ("5", ", and \\boxed{5}" * 6_000, True), ("5", "so " * 40_000, None),
    ("5", "####" * 25_000, None), ("5", "#### 5\n" * 10_000, True), ("5", "-" * 100_000, None), ("5", "1,2" * 33_000, None), ("5", "1/" * 50_000, None),
    ("5", "<think>" * 10_000 + "</think>" * 10_000, None), ("5", "<think> 4? </think> The answer is 5.", True), ("5", "<think> \\boxed{4} </think> \\boxed{5}", True),
    ("5", "\\boxed{5}\n\nQuestion: What is 2+2?\n\\boxed{4}", True), ("5", "The answer is 5.\nProblem: another.\nThe answer is 7.", True),
    ("5", "So the result is 5", True), ("5", "We try 3, then 4, and then 5 might", None), ("1, 2", "\\boxed{1} and \\boxed{2}", True), ("5", "\ud800 \\boxed{5}", True),
    ("5", "\u200b" * 100_000 + "\\boxed{5}", True), ("5", "\\boxed 5", True), ("5", "\\fbox{5}", True), ("5", "\\boxed{" + "1" * 50_000 + "}", None),
]  # fmt: skip
"""Whole responses."""
