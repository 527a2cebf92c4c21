/* Whether a model's answer to a mathematical question is the known one, by value.
 *
 * What is compared: integers, decimals, fractions, mixed numbers, percentages, roots, powers, pi, e, i, logarithms, trigonometry, factorials,
 * binomials; polynomials and other expressions with variables; equations and inequalities; sets, lists, tuples, intervals and their unions;
 * matrices; words. Written in LaTeX or plainly, with units, currencies, \text, \boxed, thousands separators.
 *
 * Rational numbers are compared exactly (GMP). Other expressions are evaluated to 256 bits (MPFR, which rounds correctly, so the verdict
 * is the same on every machine), at points drawn from the names of their variables: two that agree there to 160 bits are equal. A decimal is
 * compared to six places, so that 0.333333 is 1/3; an integer percentage equals its number, 50% is 50 and 0.5.
 *
 * GMP ends the program when memory runs out; what an answer can make it take is bounded to some KiB.
 *
 * The judgement follows PyPI math-verify's rules; docs/data.md lists where it differs. */
#ifndef FS_DATA_MATHS_H
#define FS_DATA_MATHS_H

#include "base/mem.h"

typedef enum fs_maths_verdict { FS_MATHS_NO_ANSWER, FS_MATHS_OTHER, FS_MATHS_EQUAL } fs_maths_verdict;

/* answer: the known one, an expression, or text with one in $...$ or \boxed. output: all that a model said; its answer is the last \boxed{},
 * else what stands behind the last "answer is" or "answer:", else the last $...$, \(...\) or \[...\], else the last number, or the whole of
 * it when that is an expression. FS_ERR_MEMORY only; what cannot be read is FS_MATHS_NO_ANSWER. */
fs_status fs_maths_verify(fs_bytes answer, fs_bytes output, fs_maths_verdict *ret, fs_error *err);

#endif
