/* WRAP_ALLOC. The maths checker: math-verify's verdicts on tests/vectors/maths.jsonl, and cases of our own. */
#include "unit.h"

#include "alloc_fail.h"

#include "base/file.h"
#include "data/maths.h"
#include "data/records.h"
#include "text/json_text.h"

static fs_maths_verdict verdict(const char *answer, const char *output)
{
    fs_maths_verdict v = FS_MATHS_NO_ANSWER;
    fs_error err;

    assert_ok(fs_maths_verify(fs_bytes_str(answer), fs_bytes_str(output), &v, &err), err);
    return v;
}

static void member(fs_bytes object, const char *name, fs_buf *ret)
{
    fs_bytes value = { 0 };

    assert_true(fs_json_text_member(object, name, &value));
    fs_buf_clear(ret);
    assert_int_equal(fs_json_text_unquote(value, ret, NULL), FS_OK);
}

/* Where the two differ it is an equality that math-verify misses; docs/data.md lists them. */
static void verdicts_are_math_verifys(void **state)
{
    fs_buf file = { 0 }, answer = { 0 }, output = { 0 };
    fs_lines lines = { 0 };
    fs_bytes line, theirs;
    size_t n = 0, n_other = 0;
    fs_error err;

    (void)state;
    assert_ok(fs_file_read("tests/vectors/maths.jsonl", 1 << 20, &file, &err), err);
    lines.text = fs_buf_bytes(&file);
    for (; fs_lines_next(&lines, &line); n++) {
        bool equal, want;
        assert_true(fs_json_text_member(line, "math_verify", &theirs));
        want = fs_bytes_equal(theirs, FS_BYTES_LIT("true"));
        member(line, "answer", &answer);
        member(line, "output", &output);
        equal = verdict(answer.data, output.data) == FS_MATHS_EQUAL;
        n_other += equal != want;
        if (want && !equal)
            fail_msg("math-verify says equal: %s and %s", answer.data, output.data);
    }
    assert_int_equal(n, 729);
    assert_int_equal(n_other, 13);
    fs_buf_done(&file);
    fs_buf_done(&answer);
    fs_buf_done(&output);
}

static void answers_are_found_and_compared(void **state)
{
    static const struct {
        const char *answer, *output;
        fs_maths_verdict want;
    } rows[] = {
        { "42", "First \\boxed{41}, no. A long line of thought is here, and then comes more, until the end. Finally \\boxed{42}.", FS_MATHS_EQUAL },
        { "1,2", "So \\boxed{1} and \\boxed{2}.", FS_MATHS_EQUAL },
        { "2", "$x = 1$ then $y = 2$.", FS_MATHS_EQUAL },
        { "18", "16 - 3 - 4 = 9 eggs, 9 * 2 = 18 dollars.\n#### 18", FS_MATHS_EQUAL },
        { "1,250", "She earns $1,250 a week.", FS_MATHS_EQUAL },
        { "70000", "Profit: $70,000", FS_MATHS_EQUAL },
        { "\\frac{1}{2}", "\\frac{1}{2}", FS_MATHS_EQUAL },
        { "the total is $\\boxed{5}$", "5", FS_MATHS_EQUAL },
        { "5", "I do not know.", FS_MATHS_NO_ANSWER },
        { "5", "", FS_MATHS_NO_ANSWER },
        { "5", "\\boxed{}", FS_MATHS_NO_ANSWER },
        { "5", "\\boxed{5", FS_MATHS_EQUAL },
        { "\\frac{1}{0}", "\\boxed{\\frac{1}{0}}", FS_MATHS_OTHER },
        { "0", "\\boxed{\\frac{0}{0}}", FS_MATHS_OTHER },
        { "2^{10000}", "\\boxed{2^{10000}}", FS_MATHS_EQUAL },
        { "2^{10000}", "\\boxed{2^{10000}+1}", FS_MATHS_OTHER },
        { "9^{9^{9^9}}", "\\boxed{1}", FS_MATHS_OTHER },
        { "1500!", "\\boxed{1}", FS_MATHS_OTHER },
        { "100000000!", "\\boxed{1}", FS_MATHS_OTHER },
        { "5!", "\\boxed{120}", FS_MATHS_EQUAL },
        { "5!", "\\boxed{5}", FS_MATHS_OTHER },
        { "n!.", "\\boxed{n \\cdot (n-1)!}", FS_MATHS_EQUAL },
        { "5", "It is 5!", FS_MATHS_EQUAL },
        { "0.1+0.2", "\\boxed{0.3}", FS_MATHS_EQUAL },
        { "\\frac{1}{3}", "\\boxed{0.333333333333}", FS_MATHS_EQUAL },
        { "\\frac{1}{3}", "\\boxed{0.33333}", FS_MATHS_OTHER },
        { "x^2-1", "\\boxed{(x-1)(x+1)}", FS_MATHS_EQUAL },
        { "x^2-1", "\\boxed{(x-1)(x-1)}", FS_MATHS_OTHER },
        { "\\sin^2 x", "\\boxed{1-\\cos^2 x}", FS_MATHS_EQUAL },
        { "\\frac{\\pi}{6}", "\\boxed{\\sin^{-1}\\frac{1}{2}}", FS_MATHS_EQUAL },
        { "2x+3y=6", "\\boxed{4x+6y=12}", FS_MATHS_EQUAL },
        { "2x+3y=6", "\\boxed{2x+3y=7}", FS_MATHS_OTHER },
        { "0\\le x<1", "\\boxed{[0,1)}", FS_MATHS_EQUAL },
        { "0\\le x<1", "\\boxed{[0,1]}", FS_MATHS_OTHER },
        { "x_1 + x_{12}", "\\boxed{x_{12}+x_1}", FS_MATHS_EQUAL },
        { "x_1 + x_{12}", "\\boxed{x_{12}+x_2}", FS_MATHS_OTHER },
        { "\\text{Friday}", "\\boxed{\\text{friday}}", FS_MATHS_EQUAL },
        { "3\\text{ apples}", "\\boxed{3}", FS_MATHS_EQUAL },
        { "\\sqrt[3]{-8}", "\\boxed{-2}", FS_MATHS_EQUAL },
        { "\\min(3,5)", "\\boxed{3}", FS_MATHS_EQUAL },
        { "\\gcd(12,18)", "\\boxed{6}", FS_MATHS_EQUAL },
        { "5\\pm\\sqrt{2}", "\\boxed{5+\\sqrt2, 5-\\sqrt2}", FS_MATHS_EQUAL },
        { "(3, \\frac{\\pi}{2})", "\\boxed{(3, \\pi/2)}", FS_MATHS_EQUAL },
        { "10", "\\boxed{10\\text{ cm}^2}", FS_MATHS_EQUAL },
        { "52_8", "\\boxed{52_{8}}", FS_MATHS_EQUAL },
        { "52_8", "\\boxed{42}", FS_MATHS_EQUAL },
        { "52_8", "\\boxed{52_9}", FS_MATHS_OTHER },
        { "6", "It is $4343_6$.", FS_MATHS_OTHER },
        { "6", "It is $4343_{x6}$.", FS_MATHS_NO_ANSWER },
        { "12", "She has $5 and then finds $7, which makes 12 in all.", FS_MATHS_EQUAL },
        { "\\binom{2n}{n}", "\\boxed{\\frac{(2n)!}{n!^2}}", FS_MATHS_EQUAL },
        { "\\frac{639}{40}", "It is \\boxed{15\\frac{39}{40}}, or \\boxed{\\frac{639}{40}} inches.", FS_MATHS_EQUAL },
        { "6.6 \\mathrm{mi} / \\mathrm{hr}", "\\boxed{6.6}", FS_MATHS_EQUAL },
        { "\xcf\x80/2", "\\boxed{\\frac{\\pi}{2}}", FS_MATHS_EQUAL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (verdict(rows[i].answer, rows[i].output) != rows[i].want)
            fail_msg("%s and %s: not %d", rows[i].answer, rows[i].output, rows[i].want);
}

static void hostile_texts_end(void **state)
{
    static const char *const parts[] = { "\\boxed{", "(", "\\frac{1\\frac{", "\\sqrt{", "-", "{", "\\text{a}", "2^", "|", "$", "\\left(", "1,", "9^9^", "!" };
    char *text = malloc(400001);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t n = strlen(parts[i]);
        for (size_t length = 1000; length <= 400000; length *= 20) {
            for (size_t k = 0; k + n < length; k += n)
                memcpy(text + k, parts[i], n + 1);
            assert_int_not_equal(verdict("1", text), FS_MATHS_EQUAL + 1);
            assert_int_not_equal(verdict(text, "\\boxed{1}"), FS_MATHS_EQUAL + 1);
        }
    }
    free(text);
}

static void a_failing_allocation_is_a_sentence(void **state)
{
    fs_status rc = FS_ERR_MEMORY;
    fs_error err;

    (void)state;
    for (long n = 1; n < 200; n++) {
        fs_maths_verdict v;
        alloc_fail_at(n);
        rc = fs_maths_verify(FS_BYTES_LIT("12"), FS_BYTES_LIT("\\boxed{12}"), &v, &err);
        alloc_fail_off();
        if (rc == FS_OK)
            break;
        assert_int_equal(rc, FS_ERR_MEMORY);
    }
    assert_int_equal(rc, FS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_are_math_verifys),
        cmocka_unit_test(answers_are_found_and_compared),
        cmocka_unit_test(hostile_texts_end),
        cmocka_unit_test(a_failing_allocation_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
