/* Rotary frequencies in binary64 by RN1's own functions, rounded once to f32: every scaling that config.json knows.
 * Sources: RoFormer arXiv 2104.09864; linear, Chen et al. 2306.15595; YaRN, Peng et al. 2309.00071; Llama 3.1's model
 * card; LongRoPE, Ding et al. 2402.13753; transformers' modeling_rope_utils for what the keys mean.
 *
 * Dynamic NTK scaling changes old keys as the text grows, which no cache and no equal-bits rule can have. Up to
 * max_position_embeddings it is plain rope; so it is plain rope here, and sessions end there. */
#include "models/rope.h"

#include "kernels/math.h"
#include "tensor/blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

/* 0.1 m ln(s) + 1: the attention factor of YaRN. */
static double yarn_scale(double s, double m)
{
    return s > 1 ? 0.1 * m * fs_log64(s) + 1 : 1;
}

static void yarn(fs_rope *r, const fs_config *c)
{
    double d = r->dim, base = c->rope_theta, s = c->rope_factor, n0 = c->original_max_position_embeddings;
    double log_base = fs_log64(base);
    double lo = floor(d * fs_log64(n0 / (c->beta_fast * 2 * PI)) / (2 * log_base));
    double hi = ceil(d * fs_log64(n0 / (c->beta_slow * 2 * PI)) / (2 * log_base));

    if (lo < 0)
        lo = 0;
    if (hi > d - 1)
        hi = d - 1;
    if (lo == hi)
        hi += 0.001;
    for (uint32_t i = 0; i < r->dim / 2; i++) {
        double ramp = ((double)i - lo) / (hi - lo), inv = r->inv_freq[i];
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        r->inv_freq[i] = (1 - ramp) * inv + ramp * (inv / s);
    }
    if (c->has_attention_factor)
        r->factor = c->attention_factor;
    else if (c->has_mscale && c->has_mscale_all_dim && c->mscale != 0 && c->mscale_all_dim != 0)
        r->factor = yarn_scale(s, c->mscale) / yarn_scale(s, c->mscale_all_dim);
    else
        r->factor = yarn_scale(s, 1);
}

static void llama3(fs_rope *r, const fs_config *c)
{
    double n0 = c->original_max_position_embeddings, low = c->low_freq_factor, high = c->high_freq_factor;

    for (uint32_t i = 0; i < r->dim / 2; i++) {
        double inv = r->inv_freq[i], wavelen = 2 * PI / inv;
        if (wavelen > n0 / low) {
            r->inv_freq[i] = inv / c->rope_factor;
        } else if (wavelen >= n0 / high) {
            double smooth = (n0 / wavelen - low) / (high - low);
            r->inv_freq[i] = inv * ((1 - smooth) / c->rope_factor + smooth);
        }
    }
}

static fs_status longrope(fs_rope *r, const fs_config *c, fs_error *err)
{
    uint32_t half = r->dim / 2;

    if (c->n_long_factor != half || c->n_short_factor != half)
        return fs_fail(err, FS_ERR_FORMAT, "longrope has %u long and %u short factors, heads need %u", c->n_long_factor,
                       c->n_short_factor, half);
    r->inv_freq_long = malloc(half * sizeof *r->inv_freq_long);
    if (!r->inv_freq_long)
        return fs_fail_memory(err, half * sizeof *r->inv_freq_long);
    for (uint32_t i = 0; i < half; i++) {
        r->inv_freq_long[i] = r->inv_freq[i] / (double)c->rope_long_factor[i];
        r->inv_freq[i] = r->inv_freq[i] / (double)c->rope_short_factor[i];
    }
    r->long_above = c->original_max_position_embeddings;
    if (c->has_attention_factor) {
        r->factor = c->attention_factor;
    } else {
        double s = c->rope_factor > 0 ? c->rope_factor
                                      : (double)c->max_position_embeddings / (double)c->original_max_position_embeddings;
        r->factor = s <= 1 ? 1 : sqrt(1 + fs_log64(s) / fs_log64((double)c->original_max_position_embeddings));
    }
    return FS_OK;
}

/* Parameters that are each in range can together still overflow: a theta of 1 under yarn, a context of 1 under longrope. */
static fs_status check_finite(const fs_rope *r, fs_error *err)
{
    bool ok = r->factor > 0 && isfinite(r->factor);

    for (uint32_t i = 0; i < r->dim / 2 && ok; i++)
        ok = isfinite(r->inv_freq[i]) && (!r->inv_freq_long || isfinite(r->inv_freq_long[i]));
    return ok ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "the rope parameters give frequencies or a factor that are not finite");
}

static fs_status init(fs_rope *r, const fs_config *c, uint32_t dim, fs_error *err)
{
    *r = (fs_rope){ .dim = dim, .factor = 1 };
    r->inv_freq = malloc((dim / 2 + 1) * sizeof *r->inv_freq);
    if (!r->inv_freq)
        return fs_fail_memory(err, (dim / 2 + 1) * sizeof *r->inv_freq);
    for (uint32_t i = 0; i < dim / 2; i++)
        r->inv_freq[i] = i == 0 ? 1.0 : fs_pow64(c->rope_theta, -2.0 * (double)i / (double)dim);
    if (c->rope_freqs) { /* GGUF's form of llama3 scaling: divisors */
        uint64_t n = fs_tensor_cols(c->rope_freqs);
        if (c->rope_freqs->n_dims != 1 || n != dim / 2 || c->rope_freqs->dtype != FS_DTYPE_F32)
            return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is not F32 [%u]", c->rope_freqs->name, dim / 2);
        for (uint32_t i = 0; i < dim / 2; i++) {
            float f;
            memcpy(&f, c->rope_freqs->data + i * sizeof f, sizeof f);
            if (!(f > 0))
                return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' holds a divisor that is not positive", c->rope_freqs->name);
            r->inv_freq[i] /= (double)f;
        }
        return FS_OK;
    }
    switch (c->rope_type) {
    case FS_ROPE_DEFAULT:
    case FS_ROPE_DYNAMIC:
        break;
    case FS_ROPE_LINEAR:
        for (uint32_t i = 0; i < dim / 2; i++)
            r->inv_freq[i] /= c->rope_factor;
        break;
    case FS_ROPE_YARN:
        yarn(r, c);
        break;
    case FS_ROPE_LLAMA3:
        llama3(r, c);
        break;
    case FS_ROPE_LONGROPE:
        return longrope(r, c, err);
    }
    return FS_OK;
}

fs_status fs_rope_init(fs_rope *r, const fs_config *c, uint32_t dim, fs_error *err)
{
    fs_status rc = init(r, c, dim, err);

    return rc ? rc : check_finite(r, err);
}

fs_status fs_rope_init_v4(fs_rope *r, const fs_config *c, uint32_t dim, bool compressed, fs_error *err)
{
    fs_config v4 = *c;
    fs_status rc;

    if (compressed)
        v4.rope_theta = c->compress_rope_theta;
    else
        v4.rope_type = FS_ROPE_DEFAULT;
    rc = fs_rope_init(r, &v4, dim, err);
    r->factor = 1;
    return rc;
}

void fs_rope_done(fs_rope *r)
{
    free(r->inv_freq);
    free(r->inv_freq_long);
    *r = (fs_rope){ 0 };
}

void fs_rope_angles(const fs_rope *r, uint32_t pos, uint32_t ctx_tokens, float *ret_cs)
{
    const double *inv = r->inv_freq_long && ctx_tokens > r->long_above ? r->inv_freq_long : r->inv_freq;

    for (uint32_t i = 0; i < r->dim / 2; i++) {
        double s, c;
        fs_sincos64((double)pos * inv[i], &s, &c);
        ret_cs[2 * i] = (float)(c * r->factor);
        ret_cs[2 * i + 1] = (float)(s * r->factor);
    }
}

float fs_mla_softmax_scale(const fs_config *c)
{
    double scale = 1 / sqrt((double)(c->qk_nope_head_dim + c->qk_rope_head_dim));

    if (c->rope_type == FS_ROPE_YARN && c->has_mscale_all_dim && c->mscale_all_dim != 0) {
        double g = yarn_scale(c->rope_factor, c->mscale_all_dim);
        scale = scale * g * g;
    }
    return (float)scale;
}

float fs_gqa_softmax_scale(const fs_config *c)
{
    return (float)(1 / sqrt((double)c->head_dim));
}
