/* The public functions: parse, render. */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

fs_status fs_jinja_parse(fs_bytes source, fs_jinja **ret, fs_error *err)
{
    fs_jinja *t;
    jinja_tokens tokens = { 0 };

    if (source.n_bytes > FS_JINJA_SOURCE_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "chat template: %zu bytes, allowed are %u", source.n_bytes, FS_JINJA_SOURCE_BYTES_MAX);
    if (source.n_bytes && !fs_utf8_valid(source))
        return fs_fail(err, FS_ERR_FORMAT, "chat template: it is not UTF-8");
    t = calloc(1, sizeof *t);
    if (!t)
        return fs_fail_memory(err, sizeof *t);
    t->heap = (jinja){ .memory_bytes_max = (size_t)1 << 20, .steps_max = UINT64_MAX, .err = err, .line = 1 };
    t->heap.memory_bytes_max += source.n_bytes * 512; /* a token and a node for each byte, lists grown by doubling */
    if (setjmp(t->heap.give_up)) {
        fs_status rc = t->heap.rc;
        fs_jinja_free(t);
        return rc;
    }
    jinja_lex(&t->heap, source, &tokens);
    t->body = jinja_parse_tokens(&t->heap, &tokens);
    t->heap.err = NULL;
    *ret = t;
    return FS_OK;
}

void fs_jinja_free(fs_jinja *t)
{
    if (t)
        jinja_release(&t->heap);
    free(t);
}

static void bind(jinja *j, struct json_object *vars, bool foreign)
{
    if (!vars)
        return;
    json_object_object_foreach(vars, key, item)
    {
        jinja_str name = { (const uint8_t *)key, strlen(key), NULL };
        jinja_set_variable(j, name, jinja_from_json(j, item, foreign));
    }
}

static fs_status give_output(const jinja *j, fs_buf *ret_text, fs_buf *ret_foreign, fs_error *err)
{
    jinja_str s = jinja_built(j->out);
    fs_status rc = fs_buf_reserve(ret_text, s.n, err);

    if (!rc && ret_foreign)
        rc = fs_buf_reserve(ret_foreign, s.n, err);
    if (!rc && ret_foreign && s.n) {
        if (s.foreign && s.foreign != jinja_all_foreign)
            memcpy(ret_foreign->data + ret_foreign->n_bytes, s.foreign, s.n);
        else
            memset(ret_foreign->data + ret_foreign->n_bytes, s.foreign != NULL, s.n);
        ret_foreign->n_bytes += s.n;
        ret_foreign->data[ret_foreign->n_bytes] = 0;
    }
    return rc ? rc : fs_buf_append(ret_text, s.data, s.n, err);
}

/* setjmp sits here, below the function that owns *j, so that what j holds is known after a jump. */
static void render(jinja *j, const fs_jinja *t, const fs_jinja_input *in, fs_buf *ret_text, fs_buf *ret_foreign)
{
    if (setjmp(j->give_up))
        return;
    bind(j, in->own, false);
    bind(j, in->foreign, true);
    jinja_run(j, t->body);
    j->rc = give_output(j, ret_text, ret_foreign, j->err);
}

fs_status fs_jinja_render(const fs_jinja *t, const fs_jinja_input *in, fs_buf *ret_text, fs_buf *ret_foreign, fs_error *err)
{
    jinja_builder out = { 0 };
    jinja j = { .memory_bytes_max = in->limits.memory_bytes, .steps_max = in->limits.steps, .output_bytes_max = in->limits.output_bytes,
                .now = in->now, .out = &out, .err = err, .line = 1 };

    render(&j, t, in, ret_text, ret_foreign);
    jinja_release(&j);
    return j.rc;
}
