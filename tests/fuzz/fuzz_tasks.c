/* Any prompt and any output: a verdict comes out, white space around the output does not change it, and what the checker calls a right
 * answer is well-formed. The first byte chooses the task, a zero byte ends the prompt. */
#include "fuzz.h"

#include "data/countdown.h"
#include "data/tasks.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint8_t *end;
    fs_bytes prompt, output;
    fs_verdict v;
    fs_buf spaced = { 0 };
    fs_countdown c;

    if (n_bytes < 2 || !(end = memchr(data + 1, 0, n_bytes - 1)))
        return 0;
    prompt = (fs_bytes){ data + 1, (size_t)(end - data) - 1 };
    output = (fs_bytes){ end + 1, n_bytes - prompt.n_bytes - 2 };
    v = fs_task_verify((fs_task)(data[0] % FS_TASK_END), prompt, output);
    HOLDS(v == FS_VERDICT_WRONG || v == FS_VERDICT_WELL_FORMED || v == FS_VERDICT_RIGHT);
    HOLDS(fs_buf_append(&spaced, output.data, output.n_bytes, NULL) == FS_OK && fs_buf_append_str(&spaced, " \n", NULL) == FS_OK);
    HOLDS(fs_task_verify((fs_task)(data[0] % FS_TASK_END), prompt, fs_buf_bytes(&spaced)) == v);
    if (fs_countdown_read(prompt, &c)) {
        bool is_expression;
        bool right = fs_countdown_check(&c, output, &is_expression);
        HOLDS(!right || is_expression);
    }
    fs_buf_done(&spaced);
    return 0;
}
