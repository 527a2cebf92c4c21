/* The training kernels: every instruction set against the definition to the bit, and the definition against central
 * differences of the forward operation in binary64. */
#include "kernels/kernels.h"

#include "unit.h"

#include "numbers.h"

#define N_MAX 90

static float *row(size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = 3 * random_float();
    return x;
}

static float *copy(const float *x, size_t n)
{
    float *y = malloc((n ? n : 1) * sizeof *y);

    assert_non_null(y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

static void assert_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_true(same(a[i], b[i]));
}

/* Everything that one set of kernels makes of one set of inputs. */
struct results {
    float dot, sum, r;
    float *y[10];
};

static void compute(const fs_grad_kernels *k, const float *a, const float *b, const float *w, size_t n, struct results *ret)
{
    static const float r[3] = { 0.5f, 1.25f, 3.0f };
    const fs_adamw c = { .clip = 0.75f, .beta1 = 0.9f, .rest1 = 0.1f, .beta2 = 0.95f, .rest2 = 0.05f, .scale1 = 10, .scale2 = 20,
                         .eps = 1e-8f, .lr = 0.01f, .keep = 0.999f };
    float *g;

    for (int i = 0; i < 10; i++)
        ret->y[i] = copy(i % 2 ? b : a, n);
    g = copy(a, n);
    ret->dot = k->dot(a, b, n);
    ret->sum = k->exp_sum(a, 2.5f, ret->y[0], n);
    k->div_scale(a, 3.0f, 0.1f, ret->y[1], n);
    ret->r = n ? k->rmsnorm(a, w, 1e-6f, b, ret->y[2], g, n) : 0;
    k->norm_weight(a, 0, r, b, 0, 3, ret->y[3], n);
    k->bias(a, 0, 3, ret->y[4], n);
    k->swiglu(ret->y[5], w, a, ret->y[5], ret->y[6], n);
    k->attention(ret->y[7], ret->y[8], 0.125f, 4.0f, 7.0f, 0.3f, n);
    for (size_t i = 0; i < n; i++)
        ret->y[9][i] = ret->y[9][i] * ret->y[9][i];
    k->adamw(&c, a, ret->y[4], ret->y[9], ret->y[2], n);
    free(g);
}

static void every_isa_equals_the_definition(void **state)
{
    fs_grad_kernels ref, k;

    (void)state;
    fs_grad_kernels_init(&ref, 0);
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        fs_grad_kernels_init(&k, isa);
        assert_ptr_not_equal(ref.dot, k.dot);
        for (size_t n = 0; n <= N_MAX; n++) {
            float *a = row(n), *b = row(n), *w = row(n);
            struct results x, y;
            if (n > 3) {
                a[0] = INFINITY;
                a[1] = -INFINITY;
                a[2] = 1e-41f;
                b[3] = -0.0f;
            }
            compute(&ref, a, b, w, n, &x);
            compute(&k, a, b, w, n, &y);
            assert_true(same(x.dot, y.dot) && same(x.sum, y.sum) && same(x.r, y.r));
            for (int i = 0; i < 10; i++) {
                assert_same(x.y[i], y.y[i], n);
                free(x.y[i]);
                free(y.y[i]);
            }
            free(a);
            free(b);
            free(w);
        }
    }
}

/* ---- central differences ---- */
#define N 21

/* d f / d x_i against got, where f is a function of the whole row x in binary64. */
typedef double f_fn(const double *x, const void *ud);

static void assert_gradient(f_fn *f, const void *ud, const float *at, const float *got, size_t n)
{
    double x[4 * N];

    assert_true(n <= 4 * N);
    for (size_t i = 0; i < n; i++)
        x[i] = (double)at[i];
    for (size_t i = 0; i < n; i++) {
        double h = 1e-5, keep = x[i], up, down, want;
        x[i] = keep + h;
        up = f(x, ud);
        x[i] = keep - h;
        down = f(x, ud);
        x[i] = keep;
        want = (up - down) / (2 * h);
        assert_true(fabs((double)got[i] - want) < 2e-5 * (1 + fabs(want)));
    }
}

struct three {
    const float *a, *b, *c;
};

static double norm_loss(const double *x, const void *ud) /* x: the row, then the weights */
{
    const struct three *p = ud;
    double ss = 0, y = 0, r;

    for (int i = 0; i < N; i++)
        ss += x[i] * x[i];
    r = 1 / sqrt(ss / N + 1e-3);
    for (int i = 0; i < N; i++)
        y += x[i] * r * x[N + i] * (double)p->a[i];
    return y;
}

static double swiglu_loss(const double *x, const void *ud)
{
    const struct three *p = ud;
    double y = 0;

    for (int i = 0; i < N; i++)
        y += x[i] / (1 + exp(-x[i])) * x[N + i] * (double)p->a[i];
    return y;
}

/* sum of dO . (softmax(scale * s) V), V one number a key. */
static double attention_loss(const double *s, const void *ud)
{
    const struct three *p = ud;
    double sum = 0, y = 0;

    for (int i = 0; i < N; i++)
        sum += exp(0.25 * s[i]);
    for (int i = 0; i < N; i++)
        y += exp(0.25 * s[i]) / sum * (double)p->a[i];
    return y;
}

static double cross_entropy(const double *z, const void *ud)
{
    double sum = 0;

    (void)ud;
    for (int i = 0; i < N; i++)
        sum += exp(z[i]);
    return 0.5 * (log(sum) - z[4]);
}

static void gradients_equal_central_differences(void **state)
{
    fs_kernels k;

    (void)state;
    fs_kernels_init(&k, 0);
    for (int turn = 0; turn < 20; turn++) {
        float *x = row(2 * N), *dy = row(N), *g = row(N), got[2 * N] = { 0 }, r, m, l, d = 0, back[N];
        struct three p = { dy, NULL, NULL };

        r = k.grad.rmsnorm(x, x + N, 1e-3f, dy, got, g, N);
        k.grad.norm_weight(x, N, &r, dy, N, 1, got + N, N);
        assert_gradient(norm_loss, &p, x, got, 2 * N);

        k.grad.swiglu(x, x + N, dy, got, got + N, N);
        assert_gradient(swiglu_loss, &p, x, got, 2 * N);

        for (int i = 0; i < N; i++)
            g[i] = 0.25f * x[i];
        m = k.rows.max(g, N);
        l = k.grad.exp_sum(g, m, back, N);
        for (int i = 0; i < N; i++)
            d += back[i] / l * dy[i];
        memcpy(got, x, N * sizeof *got);
        memcpy(back, dy, N * sizeof *back);
        k.grad.attention(got, back, 0.25f, m, l, d, N);
        for (int i = 0; i < N; i++)
            back[i] *= 0.25f;
        assert_gradient(attention_loss, &p, x, back, N);

        m = k.rows.max(x, N);
        l = k.grad.exp_sum(x, m, got, N);
        k.grad.div_scale(got, l, 0.5f, got, N);
        got[4] -= 0.5f;
        assert_gradient(cross_entropy, &p, x, got, N);
        free(x);
        free(dy);
        free(g);
    }
}

/* Five steps of AdamW against the textbook in binary64. */
static void adamw_is_adamw(void **state)
{
    fs_grad_kernels k;
    float w[N], m[N] = { 0 }, v[N] = { 0 };
    double w64[N], m64[N] = { 0 }, v64[N] = { 0 }, b1 = 1, b2 = 1;

    (void)state;
    fs_grad_kernels_init(&k, 0);
    for (int i = 0; i < N; i++)
        w64[i] = (double)(w[i] = random_float());
    for (int t = 1; t <= 5; t++) {
        float *g = row(N);
        fs_adamw c;
        b1 *= 0.9;
        b2 *= 0.95;
        c = (fs_adamw){ .clip = 0.5f, .beta1 = 0.9f, .rest1 = (float)(1 - 0.9), .beta2 = 0.95f, .rest2 = (float)(1 - 0.95),
                        .scale1 = (float)(1 / (1 - b1)), .scale2 = (float)(1 / (1 - b2)), .eps = 1e-8f, .lr = 0.01f,
                        .keep = (float)(1 - 0.01 * 0.1) };
        k.adamw(&c, g, m, v, w, N);
        for (int i = 0; i < N; i++) {
            double d = 0.5 * (double)g[i];
            m64[i] = 0.9 * m64[i] + 0.1 * d;
            v64[i] = 0.95 * v64[i] + 0.05 * d * d;
            w64[i] = w64[i] * (1 - 0.01 * 0.1) - 0.01 * (m64[i] / (1 - b1)) / (sqrt(v64[i] / (1 - b2)) + 1e-8);
            assert_true(fabs((double)w[i] - w64[i]) < 1e-6);
        }
        free(g);
    }
}

/* dW = dY^T X: packed columns and a transposition, in one piece and in pieces that end where chunks end. */
static void product_of_tokens(unsigned isa, size_t n_t, size_t n_o, size_t n_i)
{
    size_t ld = n_t + 3, panels = (n_i + 15) / 16, first = n_t > 256 ? 256 : n_t;
    float *x = row(n_t * n_i), *dy = row(n_t * n_o), *turned = row(n_o * ld), *whole = row(n_o * n_i), *parts = row(n_o * n_i);
    float *other = row(n_t * n_o), *direct = row(n_o * n_i);
    uint32_t *index = malloc(n_t * sizeof *index);
    float *pack = allocate(panels * n_t * 16 * sizeof *pack);
    void *scratch = allocate(FS_GEMM_SCRATCH_BYTES);
    fs_kernels k;
    fs_mat mat = { .dtype = FS_DTYPE_F32, .n = (uint32_t)n_i, .k = (uint32_t)n_t, .data = (const uint8_t *)pack, .panel_bytes = n_t * 64 }, part = mat;

    fs_kernels_init(&k, isa);
    fs_mat_pack_columns(&mat, x, n_i, NULL, 0, panels);
    fs_transpose(dy, n_o, NULL, n_t, n_o, turned, ld);
    memset(parts, 0, n_o * n_i * sizeof *parts);
    k.products.gemm(&mat, 0, panels, turned, ld, n_o, NULL, whole, n_i, scratch);
    part.k = (uint32_t)first;
    k.products.gemm_add(&part, 0, panels, turned, ld, n_o, parts, n_i, scratch);
    part.k = (uint32_t)(n_t - first);
    part.data += first * 64;
    k.products.gemm_add(&part, 0, panels / 2, turned + first, ld, n_o, parts, n_i, scratch);
    k.products.gemm_add(&part, panels / 2, panels, turned + first, ld, n_o, parts, n_i, scratch);
    for (size_t t = 0; t < n_t; t++) /* rows in another order, each where index says */
        index[t] = (uint32_t)(n_t - 1 - t);
    for (size_t t = 0; t < n_t; t++)
        memcpy(other + index[t] * n_o, dy + t * n_o, n_o * sizeof *dy);
    memset(direct, 0, n_o * n_i * sizeof *direct);
    part = mat;
    part.k = (uint32_t)first;
    k.products.gemm_turned(&part, 0, panels, dy, n_o, NULL, n_o, direct, n_i, scratch);
    part.k = (uint32_t)(n_t - first);
    part.data += first * 64;
    k.products.gemm_turned(&part, 0, panels / 2, other, n_o, index + first, n_o, direct, n_i, scratch);
    k.products.gemm_turned(&part, panels / 2, panels, dy + first * n_o, n_o, NULL, n_o, direct, n_i, scratch);
    for (size_t o = 0; o < n_o; o++)
        for (size_t i = 0; i < n_i; i++) {
            float y = 0, s = 0;
            for (size_t t = 0; t < n_t; t++) {
                s = fmaf(dy[t * n_o + o], x[t * n_i + i], s);
                if (t % 256 == 255 || t + 1 == n_t) {
                    y += s;
                    s = 0;
                }
            }
            assert_true(same(whole[o * n_i + i], y));
            assert_true(same(parts[o * n_i + i], y));
            assert_true(same(direct[o * n_i + i], y));
        }
    free(x);
    free(dy);
    free(turned);
    free(other);
    free(direct);
    free(index);
    free(whole);
    free(parts);
    fs_free_aligned(pack);
    fs_free_aligned(scratch);
}

static void products_of_tokens_go_in_pieces(void **state)
{
    static const size_t sizes[][3] = { { 1, 1, 1 }, { 40, 7, 33 }, { 256, 20, 16 }, { 300, 33, 47 }, { 520, 13, 64 } };

    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes && (isa & fs_isa_detect()) == isa; i++)
            product_of_tokens(isa, sizes[i][0], sizes[i][1], sizes[i][2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_isa_equals_the_definition),
        cmocka_unit_test(gradients_equal_central_differences),
        cmocka_unit_test(adamw_is_adamw),
        cmocka_unit_test(products_of_tokens_go_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
