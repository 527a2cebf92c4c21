/* A config.json is refused with a sentence, or gives a configuration whose sizes and relations are in order; reading
 * it again gives the same. */
#include "fuzz/fuzz.h"

#include "formats/config.h"

#include <math.h>
#include <string.h>

static void config_is_sound(const fs_config *c)
{
    HOLDS(fs_config_check(c, "input", NULL) == FS_OK);
    HOLDS(c->model_type[0] && memchr(c->model_type, 0, sizeof c->model_type));
    HOLDS(c->vocab_size && c->hidden_size && c->num_attention_heads && c->num_key_value_heads && c->head_dim);
    HOLDS(c->num_attention_heads % c->num_key_value_heads == 0);
    HOLDS(c->num_hidden_layers && c->num_hidden_layers <= FS_CONFIG_LAYERS_MAX && c->n_routed_experts <= FS_CONFIG_EXPERTS_MAX);
    HOLDS(c->num_experts_per_tok <= c->n_routed_experts || c->n_routed_experts == 0);
    HOLDS(c->n_group && c->moe_layer_freq && (c->n_routed_experts == 0 || c->n_routed_experts % c->n_group == 0));
    HOLDS(isfinite(c->rms_norm_eps) && isfinite(c->rope_theta) && isfinite(c->rope_factor) && c->rope_factor >= 1);
    HOLDS(!c->fp8 || (c->weight_block_rows && c->weight_block_cols));
    HOLDS(c->n_eos_token_ids <= FS_CONFIG_EOS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_config c, again;
    fs_error err = { 0 };
    fs_status rc = fs_config_from_json(&c, (fs_bytes){ data, n_bytes }, "input", &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    config_is_sound(&c);
    HOLDS(fs_config_from_json(&again, (fs_bytes){ data, n_bytes }, "input", NULL) == FS_OK);
    HOLDS(again.hidden_size == c.hidden_size && again.rope_type == c.rope_type && again.n_eos_token_ids == c.n_eos_token_ids);
    fs_config_done(&again);
    rc = fs_config_add_generation(&c, (fs_bytes){ data, n_bytes }, "input", &err); /* adds tokens that are there already */
    HOLDS(rc == FS_OK);
    fs_config_done(&c);
    return 0;
}
