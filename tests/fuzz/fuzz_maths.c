/* Any answer and any output, a zero byte between: a verdict comes out, and white space around the two does not change it. */
#include "fuzz.h"

#include "data/maths.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint8_t *end = n_bytes ? memchr(data, 0, n_bytes) : NULL;
    fs_bytes answer, output;
    fs_buf spaced = { 0 };
    fs_maths_verdict v, again;

    if (!end)
        return 0;
    answer = (fs_bytes){ data, (size_t)(end - data) };
    output = (fs_bytes){ end + 1, n_bytes - answer.n_bytes - 1 };
    HOLDS(fs_maths_verify(answer, output, &v, NULL) == FS_OK);
    HOLDS(v == FS_MATHS_NO_ANSWER || v == FS_MATHS_OTHER || v == FS_MATHS_EQUAL);
    HOLDS(fs_buf_append_str(&spaced, "\n ", NULL) == FS_OK && fs_buf_append(&spaced, output.data, output.n_bytes, NULL) == FS_OK);
    HOLDS(fs_maths_verify(answer, fs_buf_bytes(&spaced), &again, NULL) == FS_OK);
    HOLDS(v == again);
    fs_buf_done(&spaced);
    return 0;
}
