/* A bounded interpreter of the Jinja that chat templates are written in.
 *
 * A template is data of strangers: it reaches no file, no clock and no memory but its own, and what it may use of
 * steps, memory, recursion and output is capped. The behaviour is jinja2 3.1's with the settings of transformers
 * (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loopcontrols, {% generation %}, tojson as json.dumps with
 * ensure_ascii off), by ../docs/chat.md's list of what there is; all else is refused by name with its line.
 *
 * Every byte of the output knows where it comes from: the template (and what the caller vouches for), or foreign
 * words. So a marker that somebody wrote into a message is told from the template's own. */
#ifndef FS_TEXT_JINJA_H
#define FS_TEXT_JINJA_H

#include "base/json.h"

#include <time.h>

#define FS_JINJA_SOURCE_BYTES_MAX (4u << 20)

typedef struct fs_jinja fs_jinja; /* a parsed template; many threads may render it */

typedef struct fs_jinja_limits {
    uint64_t steps;      /* of evaluation, and bytes looked at / 16 */
    size_t memory_bytes; /* of values, all of one rendering */
    size_t output_bytes;
} fs_jinja_limits;

#define FS_JINJA_LIMITS_DEFAULT ((fs_jinja_limits){ 20000000, (size_t)256 << 20, (size_t)64 << 20 })

typedef struct fs_jinja_input {
    struct json_object *own;     /* variables the caller vouches for (bos_token, add_generation_prompt); may be NULL */
    struct json_object *foreign; /* variables with strangers' words (messages, tools); may be NULL. The words system,
                                    user, assistant, tool and developer of a "role" count as the template's own. */
    const struct tm *now;        /* what strftime_now tells; NULL: calling it is refused */
    fs_jinja_limits limits;
} fs_jinja_input;

/* Parses all of source, which must be UTF-8. The source may go away afterwards. Errors: FS_ERR_FORMAT what is no
 * Jinja; FS_ERR_UNSUPPORTED what is not known here; both with the line. */
fs_status fs_jinja_parse(fs_bytes source, fs_jinja **ret, fs_error *err);
void fs_jinja_free(fs_jinja *t);

/* Appends the rendering to *ret_text and, if ret_foreign is not NULL, one byte for each of its bytes to
 * *ret_foreign: 1 where it came from `foreign`, else 0. Both are as before on failure. Errors: FS_ERR_ARGUMENT the
 * template's raise_exception; FS_ERR_FORMAT what Jinja would refuse to evaluate, and a limit met; FS_ERR_UNSUPPORTED
 * what is not known here; FS_ERR_MEMORY. All but the last carry the line. */
fs_status fs_jinja_render(const fs_jinja *t, const fs_jinja_input *in, fs_buf *ret_text, fs_buf *ret_foreign, fs_error *err);

#endif
