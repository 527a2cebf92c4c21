"""maths.jsonl: answers, what a model said, and whether PyPI math-verify 0.9.0 takes them for equal: make_maths_vectors.py OUT [SEED]

Each group has ways to write one value, then others that are near it. Pairs are drawn with a fixed seed; what a model said is the other way, in a
sentence of some kind."""
import json
import random
import sys

from math_verify import parse, verify

GROUPS = [  # (equal, near)
    ([r"\frac{1}{2}", "1/2", "0.5", r"\dfrac12", r"\frac{2}{4}", ".5", "0.50", r"50\%", "2^{-1}", r"\tfrac{1}{2}"], ["0.51", r"\frac{1}{3}", "2", "0.05", r"-\frac{1}{2}", "5"]),
    ([r"\frac{1}{3}", "1/3", "0.333333", r"\frac{2}{6}", r"\frac13", "3^{-1}"], ["0.33", "0.3333", "3", r"\frac{1}{4}", "0.34"]),
    ([r"-\frac{3}{4}", r"\frac{-3}{4}", r"\frac{3}{-4}", "-0.75", "-3/4", r"-\frac{6}{8}", r"-75\%"], ["0.75", r"-\frac{4}{3}", "-0.7", "-34"]),
    (["42", "42.0", "042", r"\boxed{42}", "6*7", r"6 \cdot 7", r"6\times 7", "40+2", "x=42", r"\text{42}", "42.00"], ["24", "4.2", "-42", "43", "420", "x=43"]),
    (["1000000", "1,000,000", r"1{,}000{,}000", "10^6", "10^{6}", r"1\,000\,000", r"10^3 \cdot 10^3", "1000000.0"], ["100000", "1,000", "10^5", "1000001"]),
    (["12345", "12,345", r"12{,}345", "12345.0"], ["1234.5", "12,346", "123", "54321"]),
    (["3.14", r"\frac{157}{50}", "3.140", "314/100", r"314\%"], [r"\pi", "3.1", "3.141", "3.1416", "31.4"]),
    ([r"\pi", r"1\pi", r"\frac{2\pi}{2}", r"\pi\cdot 1", "3.141593"], ["3.14", r"2\pi", r"\pi^2", "3.14159", r"\frac{\pi}{2}"]),
    ([r"2\pi", r"2 \pi", r"2\cdot\pi", r"\pi\cdot 2", r"\frac{4\pi}{2}", r"\pi+\pi"], [r"\pi", r"2+\pi", r"2\pi^2", "6.28"]),
    ([r"\sqrt{2}", r"\sqrt2", r"2^{1/2}", r"2^{\frac{1}{2}}", r"\frac{2}{\sqrt{2}}", "1.414214", r"\sqrt[2]{2}"], ["1.414", "2", r"\sqrt{3}", r"\sqrt[3]{2}", r"2\sqrt{2}"]),
    ([r"2\sqrt{3}", r"\sqrt{12}", r"2 \cdot \sqrt{3}", r"\frac{6}{\sqrt{3}}", r"\sqrt{3}\cdot 2", "3.464102"], [r"\sqrt{6}", r"3\sqrt{2}", r"2+\sqrt{3}", r"\sqrt{3}"]),
    ([r"\frac{\sqrt{3}}{2}", r"\frac{1}{2}\sqrt{3}", r"\sqrt{3}/2", r"\sqrt{\frac{3}{4}}", r"\frac{3}{2\sqrt{3}}", "0.866025", r"\sin 60^\circ"], [r"\frac{\sqrt{2}}{3}", r"\frac{\sqrt{3}}{3}", "0.866", r"\frac{3}{2}"]),
    ([r"1+\sqrt{5}", r"\sqrt{5}+1", r"\sqrt5 + 1", r"\frac{2+2\sqrt{5}}{2}", r"1+\sqrt{5}\cdot 1"], [r"1-\sqrt{5}", r"\sqrt{6}", r"5+\sqrt{1}", "3.24"]),
    ([r"\sqrt[3]{4}", r"4^{1/3}", r"4^{\frac13}", r"2^{2/3}", r"\sqrt[3]{2^2}"], [r"\sqrt{4}", r"\sqrt[4]{3}", "1.587", r"3\sqrt{4}"]),
    (["8", "2^3", "2^{3}", r"\sqrt{64}", r"\sqrt[3]{512}", r"\log_2 256", "4!/3", "|-8|", r"\left|-8\right|", "16/2", r"\binom{8}{1}"], ["6", "-8", "9", "2^{-3}", "0.8"]),
    (["120", "5!", r"\binom{10}{3}", r"120.0", r"1.2\times 10^2", r"1.2 \cdot 10^{2}", r"10\cdot 12"], ["12", "1200", r"1.2\times 10^3", "4!", "125"]),
    (["0", "0.0", "-0", r"\frac{0}{5}", "1-1", r"0\%"], ["1", r"\emptyset", "0.1", "-1"]),
    (["-7", "- 7", "3-10", r"-\frac{14}{2}", "-7.0", r"(-7)", "7-14"], ["7", "-70", "-6", "0.7"]),
    (["1.5", r"\frac{3}{2}", r"1\frac{1}{2}", "3/2", r"1\dfrac{1}{2}", r"150\%", "1.50"], [r"\frac{1}{2}", "1.05", r"\frac{2}{3}", "15"]),
    ([r"3\frac{1}{4}", "3.25", r"\frac{13}{4}", "13/4", r"3\frac14", r"3+\frac{1}{4}"], [r"\frac{3}{4}", "3.4", r"\frac{31}{4}", "3.2"]),
    ([r"25\%", "0.25", r"\frac{1}{4}", "25%", r"25\text{ percent}", r"25\text{\%}"], ["2.5", r"\frac{1}{5}", r"20\%", r"2.5\%", "0.025"]),
    ([r"12.5\%", "0.125", r"\frac{1}{8}", "1/8"], ["1.25", r"\frac{1}{9}", r"12\%", r"125\%"]),
    ([r"\$25", "25", r"25\text{ dollars}", r"25.00", r"\$25.00", "$25$"], ["52", "2.5", r"\$26", "25.5"]),
    ([r"10\text{ cm}", "10", r"10\ \text{cm}", r"10\,\mathrm{cm}", r"10 \text{ centimeters}", r"10\text{ cm}^2"], ["100", "1", r"11\text{ cm}", "0.1"]),
    ([r"90^\circ", "90", r"90^{\circ}", r"90\degree", "90.0", r"90\text{ degrees}"], ["9", "180", r"45^\circ", "0.9"]),
    ([r"\{1,2,3\}", r"\{3,2,1\}", r"\left\{1, 2, 3\right\}", r"\{1, 2, 3, 3\}", "1,2,3", "3, 2, 1", r"\{ 2, 1, 3 \}"], [r"\{1,2\}", r"\{1,2,4\}", "(1,2,3)", "1,2", "6"]),
    ([r"\{-2, 2\}", r"\pm 2", "-2,2", "2, -2", r"\{2,-2\}", r"x=-2,2", r"x = 2 \text{ or } x = -2", r"-2 \text{ and } 2", "x=2, x=-2"], ["2", "-2", r"\{2\}", r"\pm 3", "0"]),
    ([r"\{\frac{1}{2}, 3\}", r"\{0.5, 3\}", r"3, \frac12", r"\{3, 1/2\}"], [r"\{\frac{1}{3}, 3\}", r"\{2, 3\}", "3"]),
    ([r"\{1\}", "1", r"\left\{1\right\}", "x=1"], ["2", r"\{2\}", r"\{1, 2\}", "0"]),
    ([r"\emptyset", r"\varnothing", r"\{\}"], ["0", r"\{0\}", "1"]),
    (["(1,2)", "(1, 2)", r"\left(1,2\right)", "( 1 , 2 )", r"(1.0, 2)", r"(\frac{2}{2}, 2)", "(x,y)=(1,2)", "1,2"], ["(2,1)", "(1,3)", "[1,2]", "(1,2,3)", "3"]),
    ([r"\left(\frac{1}{2}, -3\right)", "(0.5,-3)", "(1/2, -3)", r"(\frac12,-3)"], ["(0.5,3)", r"(-3,\frac{1}{2})", "(1/3,-3)"]),
    (["(1,2,3)", r"\left(1,2,3\right)", "(1, 2, 3)", "(1.0,2,3)"], ["(3,2,1)", "(1,2)", r"\{3,2,1\}", "(1,2,4)"]),
    (["[0,1]", r"[0, 1]", r"\left[0,1\right]", r"x\in[0,1]", r"[0, 1.0]", r"0\le x\le 1"], ["(0,1)", "[0,1)", "[0,2]", "(0,1]"]),
    (["[0,1)", r"[0, 1)", r"\left[0,1\right)", r"0\le x<1", r"x \in [0,1)"], ["[0,1]", "(0,1]", "(0,1)", "[1,0)"]),
    ([r"(-\infty, 2)", r"(-\infty,2)", r"x<2", r"\left(-\infty, 2\right)", r"x \in (-\infty, 2)", "2>x"], [r"(-\infty, 2]", r"(2, \infty)", r"x>2", r"x\le 2"]),
    ([r"(2,\infty)", r"\left(2,\infty\right)", "x>2", "x > 2", r"(2, +\infty)", "2<x"], [r"[2,\infty)", "x<2", r"(3,\infty)", r"x\ge2"]),
    ([r"x\ge 3", r"x \geq 3", r"3\le x", r"[3,\infty)", r"x\geqslant 3", r"3 \leq x"], ["x>3", r"x\le 3", r"x\ge 2", "3"]),
    ([r"(-\infty,-1)\cup(1,\infty)", r"(1,\infty)\cup(-\infty,-1)", r"\left(-\infty,-1\right)\cup\left(1,\infty\right)"], [r"(-1,1)", r"(-\infty,-1]\cup[1,\infty)", r"(-\infty,-1)"]),
    ([r"[1,2]\cup[3,4]", r"[3,4]\cup[1,2]", r"\left[1,2\right]\cup\left[3,4\right]"], ["[1,4]", r"[1,2]\cup[3,5]", r"(1,2)\cup(3,4)"]),
    (["x^2+2x+1", "(x+1)^2", "x^{2}+2x+1", "1+2x+x^2", "x(x+2)+1", r"x^2 + 2 \cdot x + 1", "(1+x)^2", "(x+1)(x+1)"], ["x^2+2x", "x^2-2x+1", "(x-1)^2", "(y+1)^2", "x^2+1"]),
    (["2x+3", "3+2x", r"2\cdot x+3", "2(x+1.5)", "x+x+3", r"2 x + 3"], ["2x-3", "3x+2", "2y+3", "2x"]),
    ([r"\frac{x}{2}", "x/2", "0.5x", r"\frac{1}{2}x", r"\frac12 x", r"\frac{2x}{4}"], ["2x", r"\frac{2}{x}", r"\frac{x}{3}", "x"]),
    ([r"\frac{x+1}{x-1}", r"\frac{1+x}{x-1}", "(x+1)/(x-1)", r"-\frac{x+1}{1-x}"], [r"\frac{x-1}{x+1}", r"\frac{x+1}{x+1}", "x+1"]),
    (["a^2-b^2", "(a-b)(a+b)", "(a+b)(a-b)", "-b^2+a^2"], ["a^2+b^2", "(a-b)^2", "b^2-a^2", "a-b"]),
    (["n(n+1)/2", r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}", r"\frac{1}{2}n(n+1)"], [r"\frac{n(n-1)}{2}", "n(n+1)", r"\frac{n^2}{2}"]),
    (["y=2x+3", "y = 3 + 2x", "2x+3", "y=2(x+1.5)"], ["y=2x-3", "y=3x+2", "x=2y+3"]),
    (["x=5", "5", "x = 5", r"x=\frac{10}{2}", "5=x", "x=5.0"], ["x=6", "y=6", "-5", "x=-5"]),
    (["e", r"e^1", r"\exp(1)", r"e^{1}", "2.718282"], ["2.718", "e^2", "2.7", "1"]),
    ([r"e^2", r"e^{2}", r"\exp(2)", r"e\cdot e"], ["e", "2e", "7.39", r"e^{-2}"]),
    ([r"\ln 2", r"\ln(2)", r"\log_e 2", r"\ln{2}", r"\frac{1}{2}\ln 4", "0.693147", r"-\ln\frac{1}{2}"], [r"\ln 3", "0.69", r"\ln 4", "2"]),
    ([r"\log_2 3", r"\log_{2} 3", r"\frac{\ln 3}{\ln 2}", r"\log_{2}{3}", r"\log_2(3)"], [r"\log_3 2", r"\log_2 4", "1.58"]),
    (["3", r"\log_{10} 1000", r"\log_2 8", r"\sqrt{9}", "3.0", "9^{1/2}", r"27^{1/3}", r"\lfloor 3.7 \rfloor", r"\lceil 2.1 \rceil"], ["30", "0.3", "-3", "4", r"\sqrt{3}"]),
    ([r"\frac{\pi}{4}", r"\pi/4", r"0.25\pi", r"\frac{1}{4}\pi", r"\arctan 1", r"\arctan(1)", "0.785398"], [r"\frac{\pi}{2}", r"4\pi", "0.785", "45"]),
    ([r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", r"2^{-1/2}", r"\sin\frac{\pi}{4}", "0.707107"], [r"\sqrt{2}", "0.707", r"\frac{1}{2}", r"\frac{2}{\sqrt{2}}"]),
    (["-1", r"\cos\pi", r"\cos(\pi)", "i^2", r"e^{i\pi}", r"\sin\frac{3\pi}{2}", "-1.0"], ["1", "0", r"\sin\pi", "i"]),
    (["3+4i", "4i+3", "3 + 4i", r"(2+i)^2"], ["3-4i", "4+3i", "5", "7i"]),
    (["2i", "i+i", r"2\cdot i", "2 i"], ["-2i", "2", "i", "4i"]),
    ([r"\frac{1+i}{2}", r"\frac{1}{2}+\frac{i}{2}", r"\frac{i+1}{2}"], [r"\frac{1-i}{2}", "1+i", r"\frac{i}{2}"]),
    ([r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1.0&2\\3&4\end{pmatrix}"], [r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", "10"]),
    ([r"\begin{pmatrix}1\\-2\end{pmatrix}", r"\begin{bmatrix}1\\-2\end{bmatrix}", r"\begin{pmatrix} 1 \\ -2 \end{pmatrix}"], [r"\begin{pmatrix}-2\\1\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,-3)"]),
    ([r"\text{Monday}", r"\text{monday}", r"\mathrm{Monday}", r"\textbf{Monday}"], [r"\text{Tuesday}", r"\text{Sunday}", "5"]),
    ([r"\text{(A)}", r"\text{A}", "A", "(A)", r"\mathrm{A}", r"\textbf{(A)}"], ["B", r"\text{(B)}", r"\text{C}", "1"]),
    ([r"\text{even}", r"\text{Even}", r"\mathrm{even}", r"\textit{even}"], [r"\text{odd}", "2", r"\text{neither}"]),
    ([r"\infty", r"+\infty"], [r"-\infty", "0", "1"]),
    (["0.001", r"10^{-3}", r"1\times10^{-3}", r"\frac{1}{1000}", r"1 \cdot 10^{-3}", r"0.1\%"], ["0.01", r"10^{-2}", "1000", "0.0001"]),
    ([r"6.02\times 10^{23}", r"6.02 \cdot 10^{23}", r"6.02\times10^{23}"], [r"6.02\times 10^{22}", r"6.2\times 10^{23}", "6.02"]),
    ([r"\frac{22}{7}", "22/7", r"3\frac{1}{7}", "3.142857"], [r"\pi", "3.14", "3.143", r"\frac{7}{22}"]),
    (["2^{100}", "1267650600228229401496703205376", "4^{50}", r"1024^{10}"], ["2^{99}", "1267650600228229401496703205377", "100^2"]),
    (["1/7", r"\frac{1}{7}", r"\frac17", r"\frac{142857}{999999}", "0.142857"], ["0.14", "7", r"\frac{1}{8}", "0.143"]),
    ([r"\frac{a}{b}", "a/b", r"a\cdot b^{-1}", r"\frac{2a}{2b}"], [r"\frac{b}{a}", "ab", "a-b"]),
    (["x^{10}", "x^{5}x^{5}", r"x^{8}\cdot x^2", "(x^5)^2", "(x^2)^5"], ["x^5", "10x", "x^{11}", "x^10"]),
    ([r"4\sqrt{2}-3", r"-3+4\sqrt{2}", r"\sqrt{32}-3", r"4\sqrt2 - 3"], [r"3-4\sqrt{2}", r"4\sqrt{2}+3", r"4\sqrt{2}"]),
    ([r"\frac{-1+\sqrt{5}}{2}", r"\frac{\sqrt{5}-1}{2}", r"-\frac{1}{2}+\frac{\sqrt{5}}{2}", "0.618034", r"\frac{2}{1+\sqrt{5}}"], [r"\frac{1+\sqrt{5}}{2}", "0.618", r"\frac{\sqrt{5}}{2}"]),
    ([r"5\text{ or }7", "5,7", r"\{5,7\}", "5, 7", r"7\text{ or }5", r"5 \text{ and } 7"], ["5", "57", r"\{5,8\}", "12"]),
    (["1:2", r"1 : 2", r"\frac{1}{2}"], ["2:1", "1:3"]),
    (["12", r"12\text{ apples}", r"12\text{ units}", r"12\,\text{km/h}", r"12\mathrm{~m}", r"12 \text{ square units}"], ["21", "1.2", r"13\text{ apples}", "120"]),
    (["7.0", "7", "7.", "14/2"], ["70", "0.7", "7.1", "-7"]),
    ([r"x^3-3x", "x(x^2-3)", "-3x+x^3", r"x^{3} - 3 x"], ["x^3+3x", "3x-x^3", "x^3"]),
    ([r"\sin x", r"\sin(x)", r"\sin{x}", r"\cos(\frac{\pi}{2}-x)"], [r"\cos x", r"\sin 2x", "x", r"\sin y"]),
    (["1", r"\sin^2 x+\cos^2 x", "1.0", r"\frac{x}{x}", "x^0", r"100\%", "e^0"], ["0", "2", "-1", "0.1"]),
]
PLAIN = ["{}", "{}.", "The answer is {}.", "The final answer is {}. I hope it is correct."]
STYLES = ["${}$", r"\boxed{{{}}}", "The answer is ${}$.", r"Adding these gives $3+4$, so the final answer is \boxed{{{}}}.", r"\[{}\]", r"Therefore, $\boxed{{{}}}$.",
          "**Answer:** ${}$", r"Since $x=1$ is too small, we get \({}\)"]
N_PER_GROUP = 9


def pairs():
    r = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 20261125)
    for equal, near in GROUPS:
        for k in range(N_PER_GROUP):
            gold = r.choice(equal)
            other = r.choice(near) if k % 3 == 2 else r.choice([e for e in equal if e != gold])
            style = r.choice(STYLES)
            if other.replace(".", "").replace("-", "").replace("/", "").isdigit() and r.random() < 0.5:
                style = r.choice(PLAIN)
            yield gold, style.format(other)


with open(sys.argv[1], "w") as out:
    for gold, said in pairs():
        equal = bool(verify(parse(f"${gold}$"), parse(said)))
        out.write(json.dumps({"answer": gold, "output": said, "math_verify": equal}) + "\n")
