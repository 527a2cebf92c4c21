/* What a card's YAML must say, as huggingface.co's validate-yaml has it: errors that a push would be refused for there, warnings of what is in no list. Members that
 * nobody asks for are nobody's business. */
#include "hub/card_check.h"

#include <stdarg.h>
#include <string.h>

#define MESSAGES_MAX 50

static const char *const licenses[] = {
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0",
    "isc", "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl", "openmdw-1.0", "openmdw-1.1", "openrail++", "osl-3.0", "postgresql",
    "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4",
    "grok2-community", "gemma", "unknown", "other", NULL
};
static const char *const tasks[] = {
    "text-classification", "token-classification", "table-question-answering", "question-answering", "zero-shot-classification", "translation", "summarization", "feature-extraction",
    "text-generation", "fill-mask", "sentence-similarity", "text-to-speech", "text-to-audio", "automatic-speech-recognition", "audio-to-audio", "audio-classification", "audio-text-to-text",
    "voice-activity-detection", "depth-estimation", "image-classification", "object-detection", "image-segmentation", "text-to-image", "image-to-text", "image-to-image", "image-to-video",
    "unconditional-image-generation", "video-classification", "reinforcement-learning", "robotics", "tabular-classification", "tabular-regression", "tabular-to-text", "table-to-text",
    "multiple-choice", "text-ranking", "text-retrieval", "time-series-forecasting", "text-to-video", "image-text-to-text", "image-text-to-image", "image-text-to-video",
    "visual-question-answering", "document-question-answering", "zero-shot-image-classification", "graph-ml", "mask-generation", "zero-shot-object-detection", "text-to-3d", "image-to-3d",
    "image-feature-extraction", "video-text-to-text", "keypoint-detection", "visual-document-retrieval", "any-to-any", "video-to-video", "other", "text2text-generation", "conversational", NULL
};
static const char *const colors[] = { "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray", NULL };
static const char *const sdks[] = { "gradio", "streamlit", "docker", "static", NULL };
static const char *const relations[] = { "adapter", "merge", "quantized", "finetune", NULL };
static const char *const storages[] = { "small", "medium", "large", NULL };

typedef struct checking {
    fs_hub_card_fn *fn;
    void *ud;
    int n;
} checking;

static void say(checking *k, bool error, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void say(checking *k, bool error, const char *format, ...)
{
    char message[3000];
    va_list ap;

    if (k->n++ >= MESSAGES_MAX)
        return;
    va_start(ap, format);
    vsnprintf(message, sizeof message, format, ap);
    va_end(ap);
    k->fn(k->ud, error, message);
}

/* ---- kinds of values; path is what a message calls the value ---- */

static bool is(struct json_object *v, enum json_type type)
{
    return json_object_get_type(v) == type; /* of NULL: null */
}

static const char *text_of(struct json_object *v)
{
    return is(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static bool is_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

static void join(const char *const *list, char *ret, size_t capacity)
{
    size_t n = 0;

    ret[0] = 0;
    for (size_t i = 0; list[i] && n < capacity; i++)
        n += (size_t)snprintf(ret + n, capacity - n, "%s%s", i ? ", " : "", list[i]);
}

static void check_string(checking *k, const char *path, struct json_object *v)
{
    if (v && !is(v, json_type_string))
        say(k, true, "\"%s\" must be a string", path);
}

static void check_one_of(checking *k, const char *path, struct json_object *v, const char *const *list, const char *more)
{
    char names[2400];

    if (!v || (text_of(v) && is_one_of(text_of(v), list)))
        return;
    join(list, names, sizeof names);
    say(k, true, "\"%s\" must be one of [%s%s]", path, names, more);
}

typedef void item_fn(checking *k, const char *path, struct json_object *v);

static void each(checking *k, const char *path, struct json_object *v, item_fn *fn)
{
    char item[300];

    for (size_t i = 0; i < json_object_array_length(v) && k->n <= MESSAGES_MAX; i++) {
        snprintf(item, sizeof item, "%.200s[%zu]", path, i);
        fn(k, item, json_object_array_get_idx(v, i));
    }
}

static void check_list(checking *k, const char *path, struct json_object *v, item_fn *fn)
{
    if (v && !is(v, json_type_array))
        say(k, true, "\"%s\" must be an array", path);
    else if (v)
        each(k, path, v, fn);
}

static void check_one_or_list(checking *k, const char *path, struct json_object *v, item_fn *fn)
{
    if (is(v, json_type_array))
        each(k, path, v, fn);
    else if (v)
        fn(k, path, v);
}

static void check_item_string(checking *k, const char *path, struct json_object *v)
{
    if (!text_of(v))
        say(k, true, "\"%s\" must be a string", path);
}

/* ---- members ---- */

static void check_license(checking *k, const char *path, struct json_object *v)
{
    if (v)
        check_one_of(k, path, v, licenses, ", array");
    else
        say(k, true, "\"%s\" must be a string", path);
}

static void check_language(checking *k, const char *path, struct json_object *v)
{
    static const char *const special[] = { "code", "multilingual", "n/a", "other", "unknown", NULL };
    const char *text = text_of(v);
    size_t n = text ? strlen(text) : 0;
    bool code = (n == 2 || n == 3) && strspn(text, "abcdefghijklmnopqrstuvwxyz") == n;

    if (!text)
        say(k, true, "\"%s\" must be a string", path);
    else if (!code && !is_one_of(text, special))
        say(k, true, "\"%s\" with value \"%.100s\" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code (two/three letters), or a special value like \"code\", \"multilingual\"."
                     " If you want to use BCP-47 identifiers, you can specify them in language_bcp47.", path, text);
}

/* "name" or "org/name". */
static bool is_id(const char *text)
{
    const char *slash = strchr(text, '/');
    char owner[97];

    if (slash && (slash - text >= (ptrdiff_t)sizeof owner || strchr(slash + 1, '/')))
        return false;
    snprintf(owner, sizeof owner, "%.*s", slash ? (int)(slash - text) : 0, text);
    return fs_hub_name_is_valid(slash ? slash + 1 : text) && (!slash || fs_hub_name_is_valid(owner));
}

static void check_id(checking *k, const char *path, struct json_object *v, const char *kind)
{
    const char *text = text_of(v);

    if (!text)
        say(k, true, "\"%s\" must be a string", path);
    else if (!is_id(text))
        say(k, true, "\"%s\" with value \"%.200s\" is not valid. Use a %s id from https://hf.co/%ss.", path, text, kind, kind);
}

static void check_model_id(checking *k, const char *path, struct json_object *v)
{
    check_id(k, path, v, "model");
}

/* A name that is no id is a hint only: cards of old models have many. */
static void check_dataset_id(checking *k, const char *path, struct json_object *v)
{
    const char *text = text_of(v);

    if (!text)
        say(k, true, "\"%s\" must be a string", path);
    else if (!is_id(text))
        say(k, false, "\"%s\" with value \"%.200s\" is not valid. If possible, use a dataset id from https://hf.co/datasets.", path, text);
}

static void check_task(checking *k, const char *path, struct json_object *v)
{
    char names[2400];
    const char *text = text_of(v);

    if (!text) {
        say(k, true, "\"%s\" must be a string", path);
        return;
    }
    if (is_one_of(text, tasks))
        return;
    join(tasks, names, sizeof names);
    say(k, false, "The %.*s \"%.100s\" is not in the official list: %s", (int)strcspn(path, "["), path, text, names);
}

/* ---- results: https://github.com/huggingface/hub-docs/blob/main/modelcard.md ---- */

/* Member key of o at path: an object that must be there when need is set; NULL: there is none. */
static struct json_object *object_at(checking *k, struct json_object *o, const char *path, const char *key, bool need, char ret_path[300])
{
    struct json_object *v = fs_json_member(o, key);

    snprintf(ret_path, 300, "%.200s.%.90s", path, key);
    if (!v && need)
        say(k, true, "\"%s\" is required", ret_path);
    else if (v && !is(v, json_type_object))
        say(k, true, "\"%s\" must be of type object", ret_path);
    return is(v, json_type_object) ? v : NULL;
}

static void string_at(checking *k, struct json_object *o, const char *path, const char *key, bool need)
{
    struct json_object *v = fs_json_member(o, key);
    char at[300];

    snprintf(at, sizeof at, "%.200s.%.90s", path, key);
    if (!v && need)
        say(k, true, "\"%s\" is required", at);
    check_string(k, at, v);
}

static void check_metric(checking *k, const char *path, struct json_object *v)
{
    char at[300];

    if (!is(v, json_type_object)) {
        say(k, true, "\"%s\" must be of type object", path);
        return;
    }
    string_at(k, v, path, "type", true);
    string_at(k, v, path, "name", false);
    string_at(k, v, path, "config", false);
    snprintf(at, sizeof at, "%.200s.value", path);
    if (!json_object_object_get_ex(v, "value", NULL))
        say(k, true, "\"%s\" is required", at);
    snprintf(at, sizeof at, "%.200s.verified", path);
    v = fs_json_member(v, "verified");
    if (v && !is(v, json_type_boolean))
        say(k, true, "\"%s\" must be a boolean", at);
}

static void check_result(checking *k, const char *path, struct json_object *v)
{
    static const char *const more[] = { "config", "split", "revision" };
    struct json_object *x, *metrics;
    char at[300];

    if (!is(v, json_type_object)) {
        say(k, true, "\"%s\" must be of type object", path);
        return;
    }
    if ((x = object_at(k, v, path, "task", true, at)) != NULL) {
        string_at(k, x, at, "type", true);
        string_at(k, x, at, "name", false);
    }
    if ((x = object_at(k, v, path, "dataset", false, at)) != NULL) {
        string_at(k, x, at, "type", true);
        string_at(k, x, at, "name", true);
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            string_at(k, x, at, more[i], false);
    }
    metrics = fs_json_member(v, "metrics");
    snprintf(at, sizeof at, "%.200s.metrics", path);
    if (!metrics)
        say(k, true, "\"%s\" is required", at);
    check_list(k, at, metrics, check_metric);
}

static void check_entry(checking *k, const char *path, struct json_object *v)
{
    struct json_object *results;
    char at[300];

    if (!is(v, json_type_object)) {
        say(k, true, "\"%s\" must be of type object", path);
        return;
    }
    string_at(k, v, path, "name", true);
    results = fs_json_member(v, "results");
    snprintf(at, sizeof at, "%.200s.results", path);
    if (!results)
        say(k, true, "\"%s\" is required", at);
    check_list(k, at, results, check_result);
}

/* ---- configurations of datasets ---- */

static void check_config(checking *k, const char *path, struct json_object *v)
{
    if (is(v, json_type_object))
        string_at(k, v, path, "config_name", true);
    else
        say(k, true, "\"%s\" must be of type object", path);
}

/* ---- all ---- */

static void check_model(checking *k, struct json_object *o)
{
    struct json_object *v;

    check_list(k, "model-index", fs_json_member(o, "model-index"), check_entry);
    check_one_or_list(k, "base_model", fs_json_member(o, "base_model"), check_model_id);
    check_one_of(k, "base_model_relation", fs_json_member(o, "base_model_relation"), relations, "");
    check_string(k, "library_name", fs_json_member(o, "library_name"));
    if ((v = fs_json_member(o, "pipeline_tag")) != NULL)
        check_task(k, "pipeline_tag", v);
    check_one_or_list(k, "metrics", fs_json_member(o, "metrics"), check_item_string);
    check_one_or_list(k, "datasets", fs_json_member(o, "datasets"), check_dataset_id);
}

static void check_dataset(checking *k, struct json_object *o)
{
    struct json_object *v = fs_json_member(o, "dataset_info");

    check_list(k, "task_categories", fs_json_member(o, "task_categories"), check_task);
    check_one_or_list(k, "size_categories", fs_json_member(o, "size_categories"), check_item_string);
    check_string(k, "pretty_name", fs_json_member(o, "pretty_name"));
    check_list(k, "configs", fs_json_member(o, "configs"), check_config);
    if (v && !is(v, json_type_object) && !is(v, json_type_array))
        say(k, true, "\"dataset_info\" must be one of [object, array]");
    else if (is(v, json_type_array) && json_object_array_length(v) > 1)
        each(k, "dataset_info", v, check_config);
}

static void check_space(checking *k, struct json_object *o)
{
    static const char *const lists[] = { "models", "datasets" };
    struct json_object *v = fs_json_member(o, "short_description");
    const char *text = text_of(v);
    size_t n = 0;

    check_string(k, "title", fs_json_member(o, "title"));
    check_string(k, "emoji", fs_json_member(o, "emoji"));
    check_one_of(k, "colorFrom", fs_json_member(o, "colorFrom"), colors, "");
    check_one_of(k, "colorTo", fs_json_member(o, "colorTo"), colors, "");
    check_one_of(k, "sdk", fs_json_member(o, "sdk"), sdks, "");
    check_one_of(k, "suggested_storage", fs_json_member(o, "suggested_storage"), storages, "");
    check_string(k, "short_description", v);
    for (const char *p = text; p && *p; p++)
        n += (*p & 0xc0) != 0x80;
    if (n > 60)
        say(k, true, "\"short_description\" length must be less than or equal to 60 characters long");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        check_list(k, lists[i], fs_json_member(o, lists[i]), check_item_string);
    if ((v = fs_json_member(o, "pinned")) != NULL && !is(v, json_type_boolean))
        say(k, true, "\"pinned\" must be a boolean");
}

void fs_hub_card_check(struct json_object *card, const char *type, fs_hub_card_fn *fn, void *ud)
{
    checking k = { fn, ud, 0 };

    if (!is(card, json_type_object)) {
        say(&k, true, "\"value\" must be of type object");
        return;
    }
    check_one_or_list(&k, "license", fs_json_member(card, "license"), check_license);
    check_string(&k, "license_name", fs_json_member(card, "license_name"));
    check_string(&k, "license_link", fs_json_member(card, "license_link"));
    check_one_or_list(&k, "language", fs_json_member(card, "language"), check_language);
    check_list(&k, "tags", fs_json_member(card, "tags"), check_item_string);
    check_string(&k, "thumbnail", fs_json_member(card, "thumbnail"));
    if (strncmp(type, "space", 5) == 0)
        check_space(&k, card);
    else if (strncmp(type, "dataset", 7) == 0)
        check_dataset(&k, card);
    else
        check_model(&k, card);
}
