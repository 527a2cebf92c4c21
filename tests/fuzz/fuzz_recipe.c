/* A recipe is refused with a sentence, or gives settings within their limits, the same ones each time. */
#include "fuzz/fuzz.h"

#include "train/recipe.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_bytes text = { data, n_bytes };
    fs_recipe r = { 0 }, again = { 0 };
    fs_error err = { 0 };
    fs_status rc = fs_recipe_parse(&r, text, "some/where/recipe.yaml", &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        fs_recipe_done(&r);
        return 0;
    }
    HOLDS(r.steps && r.out && r.schedule.lr > 0 && strlen(r.sha256) == 64);
    if (fs_recipe_samples(&r))
        HOLDS(r.n_files == 0 && r.grpo.prompts && r.grpo.group && r.task < FS_TASK_END);
    else
        HOLDS(r.n_files > 0 && r.n_files <= FS_RECIPE_FILES_MAX && r.length && r.length % 256 == 0 && r.rows && r.micro_rows && r.micro_rows <= r.rows);
    HOLDS(!(r.stage == FS_STAGE_DISTIL || r.stage == FS_STAGE_ON_POLICY_DISTIL) == !r.teacher);
    HOLDS(!r.config != !r.from);
    for (int i = 0; i < r.n_files; i++)
        HOLDS(*r.files[i] == '/' || strncmp(r.files[i], "some/where/", 11) == 0);
    HOLDS(fs_recipe_parse(&again, text, "some/where/recipe.yaml", &err) == FS_OK);
    HOLDS(strcmp(r.sha256, again.sha256) == 0 && strcmp(r.out, again.out) == 0 && r.steps == again.steps);
    fs_recipe_done(&r);
    fs_recipe_done(&again);
    return 0;
}
