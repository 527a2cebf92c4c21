/* See the header. */
#include "train/gauges.h"

#include "base/clock.h"
#include "kernels/limits.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_RUNS    12 /* the scheduler takes some milliseconds to spread threads that have just begun */
#define AGAIN_RUNS    3
#define AGAIN_SECONDS 30
#define LISTS_MAX     512 /* numbers a line */

static void measure(fs_gauges *g, int n_runs)
{
    g->peak = fmax(g->peak, fs_limit_f32_ops_s(g->pool, g->isa, n_runs));
    g->measured = fs_seconds_now();
}

fs_status fs_gauges_open(fs_gauges *g, fs_trainer *t, const fs_config *c, fs_pool *pool, unsigned isa, fs_error *err)
{
    size_t n = 0, e = c->n_routed_experts;

    *g = (fs_gauges){ .pool = pool, .isa = isa, .n_experts = c->n_routed_experts,
                       .flop_token = fs_flop_token(fs_trainer_params(t), c, 0) };
    g->flop_position = fs_flop_token(fs_trainer_params(t), c, 1) - g->flop_token;
    measure(g, FIRST_RUNS);
    for (uint32_t i = 0; i < fs_trainer_n_layers(t); i++)
        n += fs_trainer_expert_load(t, i) != NULL;
    if (n == 0)
        return FS_OK;
    g->n_loads = n * e <= LISTS_MAX ? 1 + n : 1;
    g->loads = calloc(g->n_loads, sizeof *g->loads);
    g->names = calloc(g->n_loads, sizeof *g->names);
    g->shares = calloc(1 + (g->n_loads - 1) * e, sizeof *g->shares);
    if (!g->loads || !g->names || !g->shares) {
        fs_gauges_close(g);
        return fs_fail_memory(err, (1 + n * e) * sizeof *g->shares);
    }
    g->loads[0] = (fs_metric){ "load", g->shares, 1 };
    for (uint32_t i = 0, at = 1; i < fs_trainer_n_layers(t) && g->n_loads > 1; i++)
        if (fs_trainer_expert_load(t, i)) {
            snprintf(g->names[at], sizeof g->names[at], "load/%" PRIu32, i);
            g->loads[at] = (fs_metric){ g->names[at], g->shares + 1 + (at - 1) * e, e };
            at++;
        }
    return FS_OK;
}

void fs_gauges_close(fs_gauges *g)
{
    free(g->loads);
    free(g->names);
    free(g->shares);
    *g = (fs_gauges){ 0 };
}

void fs_gauges_read(fs_gauges *g, const fs_trainer *t)
{
    double *at = g->shares ? g->shares + 1 : NULL, most = NAN;
    uint32_t n = g->n_experts;

    for (uint32_t i = 0; i < fs_trainer_n_layers(t) && g->n_loads; i++) {
        const uint64_t *load = fs_trainer_expert_load(t, i);
        double total = 0;
        for (uint32_t e = 0; load && e < n; e++)
            total += (double)load[e];
        for (uint32_t e = 0; load && e < n; e++) {
            double share = (double)load[e] * n / total;
            most = fmax(most, share);
            if (g->n_loads > 1)
                *at++ = share;
        }
    }
    if (g->n_loads)
        g->shares[0] = most;
}

double fs_flop_token(const fs_params *p, const fs_config *c, double length)
{
    double qk = c->kv_lora_rank ? c->qk_nope_head_dim + c->qk_rope_head_dim : c->head_dim, v = c->kv_lora_rank ? c->v_head_dim : c->head_dim;

    return 4.0 * (double)fs_params_n_active(p, c, false) + 2.0 * (double)fs_params_n_active(p, c, true) +
           3.0 * c->num_hidden_layers * c->num_attention_heads * (qk + v) * length;
}

double fs_gauges_mfu(fs_gauges *g, double tokens, double length, double seconds)
{
    if (g->peak > 0 && fs_seconds_now() - g->measured > AGAIN_SECONDS)
        measure(g, AGAIN_RUNS);
    return g->peak > 0 && seconds > 0 ? tokens * (g->flop_token + g->flop_position * length) / seconds / g->peak : NAN;
}
