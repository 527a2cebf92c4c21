/* The list of architectures. */
#include "models/internal.h"

#include <string.h>

static const fs_arch *const list[] = {
    &fs_arch_deepseek, &fs_arch_deepseek_v2, &fs_arch_deepseek_v3, &fs_arch_deepseek_v32,
    &fs_arch_deepseek_v4, &fs_arch_llama, &fs_arch_qwen2, &fs_arch_qwen3,
};

const fs_arch *fs_arch_find(const char *model_type)
{
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strcmp(list[i]->model_type, model_type) == 0)
            return list[i];
    return NULL;
}

const char *fs_arch_names(void)
{
    return "deepseek, deepseek_v2, deepseek_v3, deepseek_v32, deepseek_v4, llama, qwen2, qwen3";
}
