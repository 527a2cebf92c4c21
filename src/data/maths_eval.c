/* Values of expressions: exact fractions where the operations keep them, complex numbers of 256 bits else. */
#include "data/maths_impl.h"

#include <stdlib.h>
#include <string.h>

typedef fs_maths_node node;
typedef fs_maths_value value;

#define RND    MPFR_RNDN
#define POINTS 3
#define EQUAL_BITS 160

void fs_maths_value_init(value *v)
{
    mpfr_init2(v->re, FS_MATHS_BITS);
    mpfr_init2(v->im, FS_MATHS_BITS);
    mpfr_set_zero(v->re, 1);
    mpfr_set_zero(v->im, 1);
    v->no_value = false;
}

void fs_maths_value_done(value *v)
{
    mpfr_clear(v->re);
    mpfr_clear(v->im);
}

static bool has_variable(const node *n)
{
    if (n->kind == FS_M_VARIABLE || n->kind == FS_M_TEXT)
        return true;
    for (size_t i = 0; i < n->n_args; i++)
        if (has_variable(n->args[i]))
            return true;
    return false;
}

/* ---- exact ---- */

static bool exact_value(const node *n, mpq_t ret);

static bool fits(const mpq_t q)
{
    return mpz_sizeinbase(mpq_numref(q), 2) <= FS_MATHS_EXACT_BITS && mpz_sizeinbase(mpq_denref(q), 2) <= FS_MATHS_EXACT_BITS;
}

static bool is_integer(const mpq_t q)
{
    return mpz_cmp_ui(mpq_denref(q), 1) == 0;
}

static bool exact_power(mpq_t base, const mpq_t exponent, mpq_t ret)
{
    unsigned long k;
    bool negative = mpq_sgn(exponent) < 0;

    if (!is_integer(exponent) || !mpz_fits_slong_p(mpq_numref(exponent)) || (mpq_sgn(base) == 0 && negative))
        return false;
    k = mpz_get_ui(mpq_numref(exponent)); /* of its absolute value */
    if (k > FS_MATHS_EXACT_BITS || (mpz_sizeinbase(mpq_numref(base), 2) + mpz_sizeinbase(mpq_denref(base), 2)) * k > 2 * FS_MATHS_EXACT_BITS)
        return false;
    mpz_pow_ui(mpq_numref(ret), mpq_numref(base), k);
    mpz_pow_ui(mpq_denref(ret), mpq_denref(base), k);
    if (negative)
        mpq_inv(ret, ret);
    mpq_canonicalize(ret);
    return true;
}

/* The degree-th root, when it is a fraction. */
static bool exact_root(mpq_t a, const mpq_t degree, mpq_t ret)
{
    unsigned long k;

    if (!is_integer(degree) || mpz_cmp_ui(mpq_numref(degree), 1) < 0 || mpz_cmp_ui(mpq_numref(degree), 1000) > 0)
        return false;
    k = mpz_get_ui(mpq_numref(degree));
    if (mpq_sgn(a) < 0 && k % 2 == 0)
        return false;
    return mpz_root(mpq_numref(ret), mpq_numref(a), k) && mpz_root(mpq_denref(ret), mpq_denref(a), k);
}

static bool small_natural(const mpq_t q, unsigned long max, unsigned long *ret)
{
    if (!is_integer(q) || mpq_sgn(q) < 0 || mpz_cmp_ui(mpq_numref(q), max) > 0)
        return false;
    *ret = mpz_get_ui(mpq_numref(q));
    return true;
}

static bool exact_pair(const node *n, mpq_t a, mpq_t b, mpq_t ret)
{
    unsigned long i, k;

    switch (n->kind) {
    case FS_M_ADD:
        mpq_add(ret, a, b);
        return true;
    case FS_M_SUB:
        mpq_sub(ret, a, b);
        return true;
    case FS_M_MUL:
        mpq_mul(ret, a, b);
        return true;
    case FS_M_DIV:
        if (mpq_sgn(b) == 0)
            return false;
        mpq_div(ret, a, b);
        return true;
    case FS_M_POW: {
        mpq_t degree;
        bool ok;
        if (is_integer(b))
            return exact_power(a, b, ret);
        if (!mpz_fits_slong_p(mpq_denref(b)) || mpq_sgn(a) < 0)
            return false;
        mpq_init(degree);
        mpz_set(mpq_numref(degree), mpq_denref(b));
        ok = exact_root(a, degree, ret);
        mpz_set(mpq_numref(degree), mpq_numref(b));
        if (ok) {
            mpq_set(a, ret);
            ok = exact_power(a, degree, ret);
        }
        mpq_clear(degree);
        return ok;
    }
    case FS_M_ROOT:
        return mpq_sgn(a) >= 0 && exact_root(a, b, ret);
    case FS_M_BINOMIAL:
        if (!small_natural(a, 5000, &i) || !small_natural(b, 5000, &k))
            return false;
        mpz_bin_uiui(mpq_numref(ret), i, k);
        mpz_set_ui(mpq_denref(ret), 1);
        return true;
    default:
        return false;
    }
}

static bool exact_many(const node *n, mpq_t ret)
{
    mpq_t v;
    bool ok = n->n_args > 0;

    mpq_init(v);
    for (size_t i = 0; i < n->n_args && ok; i++) {
        ok = exact_value(n->args[i], v);
        if (!ok)
            break;
        if (i == 0) {
            mpq_set(ret, v);
        } else if (n->kind == FS_M_MIN || n->kind == FS_M_MAX) {
            int c = mpq_cmp(v, ret);
            if (n->kind == FS_M_MIN ? c < 0 : c > 0)
                mpq_set(ret, v);
        } else {
            ok = is_integer(v) && is_integer(ret);
            if (ok)
                mpz_gcd(mpq_numref(ret), mpq_numref(ret), mpq_numref(v));
        }
    }
    mpq_clear(v);
    return ok;
}

static bool exact_one(const node *n, mpq_t a, mpq_t ret)
{
    unsigned long k;

    switch (n->kind) {
    case FS_M_NEG:
        mpq_neg(ret, a);
        return true;
    case FS_M_ABS:
        mpq_abs(ret, a);
        return true;
    case FS_M_PERCENT:
        mpz_mul_ui(mpq_denref(a), mpq_denref(a), 100);
        mpq_canonicalize(a);
        mpq_set(ret, a);
        return true;
    case FS_M_DEGREE:
        mpq_set(ret, a);
        return true;
    case FS_M_FLOOR:
    case FS_M_CEIL:
        (n->kind == FS_M_FLOOR ? mpz_fdiv_q : mpz_cdiv_q)(mpq_numref(ret), mpq_numref(a), mpq_denref(a));
        mpz_set_ui(mpq_denref(ret), 1);
        return true;
    case FS_M_FACTORIAL:
        if (!small_natural(a, 1500, &k))
            return false;
        mpz_fac_ui(mpq_numref(ret), k);
        mpz_set_ui(mpq_denref(ret), 1);
        return true;
    default:
        return false;
    }
}

/* The value as a fraction, when it is one whatever the variables: *ret is initialised by the caller. */
static bool exact_value(const node *n, mpq_t ret)
{
    mpq_t a, b;
    bool ok;

    if (n->kind == FS_M_NUMBER) {
        mpq_set(ret, n->number);
        return true;
    }
    if (n->kind == FS_M_MIN || n->kind == FS_M_MAX || n->kind == FS_M_GCD)
        return exact_many(n, ret);
    if (n->n_args < 1 || n->n_args > 2 || n->kind >= FS_M_LOG)
        return false;
    mpq_init(a);
    mpq_init(b);
    ok = exact_value(n->args[0], a) && (n->n_args < 2 || exact_value(n->args[1], b)) &&
         (n->n_args == 2 ? exact_pair(n, a, b, ret) : exact_one(n, a, ret)) && fits(ret);
    mpq_clear(a);
    mpq_clear(b);
    return ok;
}

/* ---- complex ---- */

static bool is_real(const value *v)
{
    return mpfr_zero_p(v->im);
}

static void set(value *r, const value *a)
{
    mpfr_set(r->re, a->re, RND);
    mpfr_set(r->im, a->im, RND);
    r->no_value = a->no_value;
}

static void multiply(value *r, const value *a, const value *b)
{
    mpfr_t t, re;

    mpfr_inits2(FS_MATHS_BITS, t, re, (mpfr_ptr)0);
    mpfr_fmms(re, a->re, b->re, a->im, b->im, RND);
    mpfr_fmma(t, a->re, b->im, a->im, b->re, RND);
    mpfr_set(r->re, re, RND);
    mpfr_set(r->im, t, RND);
    mpfr_clears(t, re, (mpfr_ptr)0);
}

static void divide(value *r, const value *a, const value *b)
{
    mpfr_t d, re, im;

    mpfr_inits2(FS_MATHS_BITS, d, re, im, (mpfr_ptr)0);
    mpfr_fmma(d, b->re, b->re, b->im, b->im, RND);
    if (mpfr_zero_p(d))
        r->no_value = true;
    mpfr_fmma(re, a->re, b->re, a->im, b->im, RND);
    mpfr_fmms(im, a->im, b->re, a->re, b->im, RND);
    mpfr_div(r->re, re, d, RND);
    mpfr_div(r->im, im, d, RND);
    mpfr_clears(d, re, im, (mpfr_ptr)0);
}

static void natural_log(value *r, const value *a)
{
    mpfr_t size, angle;

    if (mpfr_zero_p(a->re) && is_real(a)) {
        r->no_value = true;
        return;
    }
    mpfr_inits2(FS_MATHS_BITS, size, angle, (mpfr_ptr)0);
    mpfr_hypot(size, a->re, a->im, RND);
    mpfr_atan2(angle, a->im, a->re, RND);
    mpfr_log(r->re, size, RND);
    if (is_real(a) && mpfr_sgn(a->re) > 0)
        mpfr_set_zero(r->im, 1);
    else
        mpfr_set(r->im, angle, RND);
    mpfr_clears(size, angle, (mpfr_ptr)0);
}

static void exponential(value *r, const value *a)
{
    mpfr_t size, s, c;

    mpfr_inits2(FS_MATHS_BITS, size, s, c, (mpfr_ptr)0);
    mpfr_exp(size, a->re, RND);
    if (is_real(a)) {
        mpfr_set(r->re, size, RND);
        mpfr_set_zero(r->im, 1);
    } else {
        mpfr_sin_cos(s, c, a->im, RND);
        mpfr_mul(r->re, size, c, RND);
        mpfr_mul(r->im, size, s, RND);
    }
    mpfr_clears(size, s, c, (mpfr_ptr)0);
}

static void raise(value *r, const value *a, const value *b)
{
    value t;

    if (is_real(b) && mpfr_integer_p(b->re) && mpfr_fits_slong_p(b->re, RND) && labs(mpfr_get_si(b->re, RND)) <= 100000) {
        long k = mpfr_get_si(b->re, RND);
        unsigned long m = k < 0 ? 0ul - (unsigned long)k : (unsigned long)k;
        value square;
        fs_maths_value_init(&t);
        fs_maths_value_init(&square);
        mpfr_set_ui(t.re, 1, RND);
        set(&square, a);
        for (; m; m >>= 1) {
            if (m & 1)
                multiply(&t, &t, &square);
            multiply(&square, &square, &square);
        }
        if (k < 0) {
            mpfr_set_ui(square.re, 1, RND);
            mpfr_set_zero(square.im, 1);
            divide(r, &square, &t);
        } else {
            set(r, &t);
        }
        fs_maths_value_done(&square);
        fs_maths_value_done(&t);
        return;
    }
    if (is_real(a) && is_real(b) && mpfr_sgn(a->re) >= 0) {
        if (mpfr_zero_p(a->re) && mpfr_sgn(b->re) <= 0)
            r->no_value = true;
        mpfr_pow(r->re, a->re, b->re, RND);
        mpfr_set_zero(r->im, 1);
        return;
    }
    fs_maths_value_init(&t);
    natural_log(&t, a);
    multiply(&t, &t, b);
    exponential(r, &t);
    r->no_value |= t.no_value;
    fs_maths_value_done(&t);
}

static void root_of(value *r, const value *a, const value *degree)
{
    value t;

    if (is_real(a) && is_real(degree) && mpfr_integer_p(degree->re) && mpfr_cmp_ui(degree->re, 1) >= 0 && mpfr_cmp_ui(degree->re, 1000) <= 0) {
        unsigned long k = mpfr_get_ui(degree->re, RND);
        if (mpfr_sgn(a->re) >= 0 || k % 2) { /* the real root of a negative number, as school has it */
            mpfr_rootn_ui(r->re, a->re, k, RND);
            mpfr_set_zero(r->im, 1);
            return;
        }
        if (k == 2) {
            mpfr_neg(r->im, a->re, RND);
            mpfr_sqrt(r->im, r->im, RND);
            mpfr_set_zero(r->re, 1);
            return;
        }
    }
    fs_maths_value_init(&t);
    mpfr_set_ui(t.re, 1, RND);
    divide(&t, &t, degree);
    raise(r, a, &t);
    r->no_value |= t.no_value;
    fs_maths_value_done(&t);
}

typedef int real_fn(mpfr_ptr, mpfr_srcptr, mpfr_rnd_t);

static void apply(value *r, const value *a, fs_bytes name, bool degrees)
{
    static const struct {
        const char *name;
        real_fn *fn;
    } fns[] = { { "sin", mpfr_sin }, { "cos", mpfr_cos }, { "tan", mpfr_tan }, { "cot", mpfr_cot }, { "sec", mpfr_sec }, { "csc", mpfr_csc },
                { "arcsin", mpfr_asin }, { "arccos", mpfr_acos }, { "arctan", mpfr_atan }, { "sinh", mpfr_sinh }, { "cosh", mpfr_cosh },
                { "tanh", mpfr_tanh } };
    mpfr_t x;

    if (name.n_bytes == 3 && memcmp(name.data, "exp", 3) == 0) {
        exponential(r, a);
        return;
    }
    if (name.n_bytes == 2 && memcmp(name.data, "ln", 2) == 0) {
        natural_log(r, a);
        return;
    }
    mpfr_init2(x, FS_MATHS_BITS);
    mpfr_set(x, a->re, RND);
    if (degrees) {
        mpfr_const_pi(r->re, RND);
        mpfr_mul(x, x, r->re, RND);
        mpfr_div_ui(x, x, 180, RND);
    }
    r->no_value |= !is_real(a);
    for (size_t i = 0; i < sizeof fns / sizeof *fns; i++)
        if (fs_bytes_equal(name, fs_bytes_str(fns[i].name)))
            fns[i].fn(r->re, x, RND);
    mpfr_set_zero(r->im, 1);
    mpfr_clear(x);
}

static bool has_degree(const node *n)
{
    if (n->kind == FS_M_DEGREE)
        return true;
    for (size_t i = 0; i < n->n_args; i++)
        if (has_degree(n->args[i]))
            return true;
    return false;
}

/* A variable's value: positive, different for every name and point. */
static void choose(value *r, fs_bytes name, int point)
{
    uint32_t h = 2166136261u + (uint32_t)point * 97u;

    for (size_t i = 0; i < name.n_bytes; i++)
        if (name.data[i] != '{' && name.data[i] != '}')
            h = (h ^ name.data[i]) * 16777619u;
    h ^= h >> 15;
    mpfr_set_ui(r->re, 1000003u + h % 7000000u, RND);
    mpfr_div_ui(r->re, r->re, 2000029u, RND);
}

static void real_of(value *r, const value *a, fs_maths_kind kind)
{
    if (kind == FS_M_ABS) {
        mpfr_hypot(r->re, a->re, a->im, RND);
        mpfr_set_zero(r->im, 1);
        return;
    }
    r->no_value |= !is_real(a);
    if (kind == FS_M_FLOOR)
        mpfr_floor(r->re, a->re);
    else if (kind == FS_M_CEIL)
        mpfr_ceil(r->re, a->re);
    else if (kind == FS_M_FACTORIAL) {
        mpfr_add_ui(r->re, a->re, 1, RND);
        if (mpfr_cmp_ui(r->re, 100000) > 0)
            r->no_value = true;
        else
            mpfr_gamma(r->re, r->re, RND);
    }
    mpfr_set_zero(r->im, 1);
}

/* a over b, by the gamma function. */
static void binomial(value *r, const value *a, const value *b)
{
    mpfr_t x, y;

    r->no_value |= !is_real(a) || !is_real(b) || mpfr_cmp_ui(a->re, 100000) > 0;
    if (r->no_value)
        return;
    mpfr_inits2(FS_MATHS_BITS, x, y, (mpfr_ptr)0);
    mpfr_add_ui(x, a->re, 1, RND);
    mpfr_gamma(r->re, x, RND);
    mpfr_add_ui(y, b->re, 1, RND);
    mpfr_sub(x, x, b->re, RND);
    mpfr_gamma(y, y, RND);
    mpfr_gamma(x, x, RND);
    mpfr_div(r->re, r->re, y, RND);
    mpfr_div(r->re, r->re, x, RND);
    mpfr_clears(x, y, (mpfr_ptr)0);
}

static void eval_pair(const node *n, const value *a, const value *b, value *r)
{
    value t;

    switch (n->kind) {
    case FS_M_ADD:
        mpfr_add(r->re, a->re, b->re, RND);
        mpfr_add(r->im, a->im, b->im, RND);
        break;
    case FS_M_SUB:
        mpfr_sub(r->re, a->re, b->re, RND);
        mpfr_sub(r->im, a->im, b->im, RND);
        break;
    case FS_M_MUL:
        multiply(r, a, b);
        break;
    case FS_M_DIV:
        divide(r, a, b);
        break;
    case FS_M_POW:
        raise(r, a, b);
        break;
    case FS_M_ROOT:
        root_of(r, a, b);
        break;
    case FS_M_BINOMIAL:
        binomial(r, a, b);
        break;
    case FS_M_LOG:
        fs_maths_value_init(&t);
        natural_log(r, a);
        natural_log(&t, b);
        r->no_value |= t.no_value;
        divide(r, r, &t);
        fs_maths_value_done(&t);
        break;
    default:
        r->no_value = true;
    }
}

void fs_maths_eval(const node *n, int point, value *r)
{
    value a, b;
    mpq_t q;
    bool exact;

    r->no_value = false;
    mpfr_set_zero(r->re, 1);
    mpfr_set_zero(r->im, 1);
    switch (n->kind) {
    case FS_M_PI:
        mpfr_const_pi(r->re, RND);
        return;
    case FS_M_E:
        mpfr_set_ui(r->re, 1, RND);
        mpfr_exp(r->re, r->re, RND);
        return;
    case FS_M_I:
        mpfr_set_ui(r->im, 1, RND);
        return;
    case FS_M_VARIABLE:
        choose(r, n->text, point);
        return;
    case FS_M_NUMBER:
        mpfr_set_q(r->re, n->number, RND);
        return;
    default:
        break;
    }
    if (n->n_args < 1 || n->n_args > 2 || n->kind > FS_M_LCM) {
        r->no_value = true;
        return;
    }
    if (!has_variable(n)) {
        mpq_init(q);
        exact = exact_value(n, q);
        if (exact)
            mpfr_set_q(r->re, q, RND);
        mpq_clear(q);
        if (exact)
            return;
    }
    fs_maths_value_init(&a);
    fs_maths_value_init(&b);
    fs_maths_eval(n->args[0], point, &a);
    if (n->n_args == 2)
        fs_maths_eval(n->args[1], point, &b);
    r->no_value = a.no_value || b.no_value;
    if (n->kind == FS_M_FUNCTION) {
        apply(r, &a, n->text, has_degree(n->args[0]));
    } else if (n->n_args == 2) {
        eval_pair(n, &a, &b, r);
    } else if (n->kind == FS_M_NEG) {
        mpfr_neg(r->re, a.re, RND);
        mpfr_neg(r->im, a.im, RND);
    } else if (n->kind == FS_M_PERCENT) {
        mpfr_div_ui(r->re, a.re, 100, RND);
        mpfr_div_ui(r->im, a.im, 100, RND);
    } else if (n->kind == FS_M_DEGREE) {
        set(r, &a);
    } else {
        real_of(r, &a, n->kind);
    }
    r->no_value |= !mpfr_number_p(r->re) || !mpfr_number_p(r->im);
    fs_maths_value_done(&a);
    fs_maths_value_done(&b);
}

/* |a - b| <= 2^-160 max(1, |a|, |b|) */
static bool near(const value *a, const value *b)
{
    mpfr_t re, im, size;
    bool is;

    mpfr_inits2(FS_MATHS_BITS, re, im, size, (mpfr_ptr)0);
    mpfr_hypot(size, a->re, a->im, RND);
    mpfr_hypot(re, b->re, b->im, RND);
    mpfr_max(size, size, re, RND);
    if (mpfr_cmp_ui(size, 1) < 0)
        mpfr_set_ui(size, 1, RND);
    mpfr_mul_2si(size, size, -EQUAL_BITS, RND);
    mpfr_sub(re, a->re, b->re, RND);
    mpfr_sub(im, a->im, b->im, RND);
    mpfr_hypot(re, re, im, RND);
    is = mpfr_lessequal_p(re, size);
    mpfr_clears(re, im, size, (mpfr_ptr)0);
    return is;
}

bool fs_maths_same_value(const node *a, const node *b)
{
    value x, y;
    mpq_t p, q;
    bool same = true, exact_a, exact_b, any = false;

    mpq_init(p);
    mpq_init(q);
    exact_a = exact_value(a, p);
    exact_b = exact_value(b, q);
    if (exact_a && exact_b)
        same = mpq_equal(p, q);
    mpq_clear(p);
    mpq_clear(q);
    if (exact_a && exact_b)
        return same;
    fs_maths_value_init(&x);
    fs_maths_value_init(&y);
    for (int k = 0; k < POINTS && same; k++) {
        fs_maths_eval(a, k, &x);
        fs_maths_eval(b, k, &y);
        if (x.no_value != y.no_value)
            same = false;
        else if (!x.no_value) {
            any = true;
            same = near(&x, &y);
        }
    }
    fs_maths_value_done(&x);
    fs_maths_value_done(&y);
    return same && any;
}

bool fs_maths_same_rounded(const node *a, const node *b, int places)
{
    value v[2];
    bool same;

    if (has_variable(a) || has_variable(b))
        return false;
    for (int i = 0; i < 2; i++) {
        fs_maths_value_init(&v[i]);
        fs_maths_eval(i ? b : a, 0, &v[i]);
        for (int k = 0; k < places; k++)
            mpfr_mul_ui(v[i].re, v[i].re, 10, RND);
        mpfr_rint(v[i].re, v[i].re, RND);
    }
    same = !v[0].no_value && !v[1].no_value && is_real(&v[0]) && is_real(&v[1]) && mpfr_equal_p(v[0].re, v[1].re);
    fs_maths_value_done(&v[0]);
    fs_maths_value_done(&v[1]);
    return same;
}
