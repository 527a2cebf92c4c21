/* See the header. */
#include "train/suite.h"

#include "base/file.h"
#include "base/json.h"
#include "data/maths.h"
#include "data/records.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static fs_status text_of(fs_bytes json, const char *what, fs_buf *ret, fs_error *err)
{
    struct json_object *v = NULL;
    fs_status rc = fs_json_parse(json, what, &v, err);

    if (!rc)
        rc = fs_buf_append(ret, json_object_get_string(v), (size_t)json_object_get_string_len(v), err);
    json_object_put(v);
    return rc;
}

/* The record's "task", if it is one that is known. */
static fs_task task_of(fs_bytes json)
{
    struct json_object *v = NULL, *task;
    fs_task t = FS_TASK_END;

    if (fs_json_parse(json, "record", &v, NULL) == FS_OK) {
        task = fs_json_member(v, "task");
        if (json_object_is_type(task, json_type_string))
            t = fs_task_from_name(json_object_get_string(task));
    }
    json_object_put(v);
    return t;
}

static fs_status make_prompt(fs_ask_fn *ask, void *ud, fs_suite_item *item, fs_error *err)
{
    fs_ids ids = { 0 };
    fs_status rc = ask(ud, fs_buf_bytes(&item->prompt), &ids, err);

    if (rc) {
        fs_ids_done(&ids);
        return rc;
    }
    item->ids = ids.data;
    item->n_ids = (uint32_t)ids.n;
    return FS_OK;
}

static fs_status add_item(fs_suite *s, fs_ask_fn *ask, void *ud, const fs_data_record *r, const char *path, size_t line, fs_judging judging, fs_error *err)
{
    fs_suite_item *item;
    fs_status rc;

    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 256;
        fs_suite_item *more = realloc(s->items, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        s->items = more;
        s->capacity = capacity;
    }
    item = &s->items[s->n++];
    *item = (fs_suite_item){ .judging = judging, .task = judging == FS_JUDGE_AUTO || judging == FS_JUDGE_TASK ? task_of(r->json) : FS_TASK_END };
    if (r->kind != FS_DATA_PROBLEM)
        return fs_fail(err, FS_ERR_FORMAT, "'%s', line %zu is no problem with a prompt and an answer", path, line);
    if (judging == FS_JUDGE_AUTO)
        item->judging = item->task != FS_TASK_END ? FS_JUDGE_TASK : FS_JUDGE_MATHS;
    if (item->judging == FS_JUDGE_TASK && item->task == FS_TASK_END)
        return fs_fail(err, FS_ERR_FORMAT, "'%s', line %zu names no task that is known", path, line);
    rc = text_of(r->prompt, path, &item->prompt, err);
    if (!rc)
        rc = text_of(r->answer, path, &item->answer, err);
    if (!rc)
        rc = make_prompt(ask, ud, item, err);
    if (!rc && item->n_ids == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s', line %zu has an empty prompt", path, line);
    if (!rc && item->n_ids > s->prompt_max)
        s->prompt_max = item->n_ids;
    return rc;
}

fs_status fs_suite_read(fs_suite *ret, fs_ask_fn *ask, void *ud, const char *path, fs_judging judging, size_t n_max, fs_error *err)
{
    fs_map map = { 0 };
    fs_suite s = { 0 };
    fs_data_record record;
    bool more = true;
    fs_lines lines;
    fs_status rc = fs_map_open(&map, path, err);

    lines = (fs_lines){ .text = map.bytes };
    while (!rc && more && s.n < n_max) {
        rc = fs_data_record_next(&lines, path, &record, &more, err);
        if (!rc && more)
            rc = add_item(&s, ask, ud, &record, path, lines.number, judging, err);
    }
    if (!rc && s.n == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no problems", path);
    fs_map_close(&map);
    if (rc) {
        fs_suite_done(&s);
        return rc;
    }
    *ret = s;
    return FS_OK;
}

void fs_suite_done(fs_suite *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        fs_buf_done(&s->items[i].prompt);
        fs_buf_done(&s->items[i].answer);
        free(s->items[i].ids);
    }
    free(s->items);
    *s = (fs_suite){ 0 };
}

/* ---- judging ---- */

static fs_bytes behind_thinking(fs_bytes s)
{
    static const char mark[] = "</think>";
    const uint8_t *p;

    while (s.n_bytes > 0 && (p = memmem(s.data, s.n_bytes, mark, sizeof mark - 1)) != NULL)
        s = (fs_bytes){ p + sizeof mark - 1, s.n_bytes - (size_t)(p - s.data) - (sizeof mark - 1) };
    return s;
}

bool fs_judging_of(const char *word, fs_judging *ret)
{
    static const char *const words[] = { [FS_JUDGE_AUTO] = "auto", [FS_JUDGE_TASK] = "task", [FS_JUDGE_MATHS] = "maths", [FS_JUDGE_EXACT] = "exact" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], word) == 0) {
            *ret = (fs_judging)i;
            return true;
        }
    return false;
}

fs_status fs_suite_judge(const fs_suite_item *item, fs_bytes output, fs_verdict *ret, fs_error *err)
{
    fs_bytes answer = fs_buf_bytes(&item->answer), said = behind_thinking(output);
    fs_maths_verdict v;
    fs_status rc = FS_OK;

    switch (item->judging) {
    case FS_JUDGE_TASK:
        *ret = fs_task_verify(item->task, fs_buf_bytes(&item->prompt), output);
        break;
    case FS_JUDGE_MATHS:
        rc = fs_maths_verify(answer, said, &v, err);
        if (!rc)
            *ret = v == FS_MATHS_EQUAL ? FS_VERDICT_RIGHT : v == FS_MATHS_OTHER ? FS_VERDICT_WELL_FORMED : FS_VERDICT_WRONG;
        break;
    default:
        *ret = fs_bytes_equal(fs_bytes_trim(said, FS_SPACES), fs_bytes_trim(answer, FS_SPACES)) ? FS_VERDICT_RIGHT : FS_VERDICT_WRONG;
    }
    return rc;
}

double fs_pass_at(uint32_t n, uint32_t c, uint32_t k)
{
    double miss = 1;

    if (n - c < k)
        return 1;
    for (uint32_t i = n - c + 1; i <= n; i++)
        miss *= 1 - (double)k / i;
    return 1 - miss;
}
