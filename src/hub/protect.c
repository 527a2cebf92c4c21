/* Protected branches and tags: which they are and what is refused of them, by whatever way it comes: git, the API, a page. Rules are a repository's, kept in its
 * row; mirrors' refs follow their upstream and ask nobody. */
#include "hub/internal.h"

#include <string.h>

#define PATTERNS_MAX 50
#define NAME_MAX_BYTES 200

static const char *const words[] = { "default", "keep-history", "pull-request" };

bool fs_hub_protection_read(const char *word, fs_hub_protection *ret)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0) {
            *ret = (fs_hub_protection)i;
            return true;
        }
    return false;
}

const char *fs_hub_protection_word(fs_hub_protection protection)
{
    return words[protection];
}

/* ---- patterns ---- */

/* '*' is any characters but '/', "**" any, '?' one but '/'. at[i]: the first i characters of the pattern fit what was read of the name; so it takes the
 * product of both lengths, whatever the pattern is. */
static bool matches(const char *pattern, size_t n, const char *name)
{
    bool at[NAME_MAX_BYTES + 1] = { true };

    for (;; name++) {
        bool next[NAME_MAX_BYTES + 1] = { false };
        for (size_t i = 0; i < n; i++)
            if (at[i] && pattern[i] == '*')
                at[i + 1] = true;
        if (!*name)
            return at[n];
        for (size_t i = 0; i < n; i++) {
            bool wide = pattern[i] == '*' && ((i > 0 && pattern[i - 1] == '*') || (i + 1 < n && pattern[i + 1] == '*'));
            if (at[i] && pattern[i] == '*')
                next[i] = next[i] || *name != '/' || wide;
            else if (at[i])
                next[i + 1] = pattern[i] == '?' ? *name != '/' : pattern[i] == *name;
        }
        memcpy(at, next, sizeof at);
    }
}

static bool is_branch(const char *ref)
{
    return strncmp(ref, "refs/heads/", 11) == 0;
}

static bool is_tag(const char *ref)
{
    return strncmp(ref, "refs/tags/", 10) == 0;
}

bool fs_hub_rules_cover(const fs_hub_rules *r, const char *ref)
{
    bool tag = is_tag(ref);
    const char *line = tag ? r->tags : r->branches, *name = ref + (tag ? 10 : 11);

    if (!tag && !is_branch(ref))
        return false;
    for (size_t n; *line; line += n + 1) {
        n = strcspn(line, "\n");
        if (matches(line, n, name))
            return true;
        if (!line[n])
            break;
    }
    return false;
}

/* A name of a branch or tag, but for its stars and question marks. */
static bool pattern_is_valid(const char *text, size_t n)
{
    char name[NAME_MAX_BYTES + 1];

    if (n == 0 || n > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < n; i++)
        name[i] = text[i] == '*' || text[i] == '?' ? 'x' : text[i];
    name[n] = 0;
    return strlen(name) == n && fs_hub_ref_name_is_valid(name);
}

fs_status fs_hub_patterns_read(const char *text, char ret[FS_HUB_PATTERNS_BYTES], fs_error *err)
{
    char all[FS_HUB_PATTERNS_BYTES] = "";
    size_t n_all = 0;
    int n_patterns = 0;

    for (size_t n; *(text += strspn(text, FS_SPACES)); text += n) {
        n = strcspn(text, FS_SPACES);
        if (!pattern_is_valid(text, n))
            return fs_fail(err, FS_ERR_ARGUMENT, "'%.*s' cannot be a pattern: the name of a branch or tag, with * for anything but '/', ** for anything, ? for one character",
                           (int)(n < NAME_MAX_BYTES ? n : NAME_MAX_BYTES), text);
        if (++n_patterns > PATTERNS_MAX || n + 2 > sizeof all - n_all)
            return fs_fail(err, FS_ERR_ARGUMENT, "protected branches and tags have at most %d patterns each, of %zu bytes together", PATTERNS_MAX, sizeof all - 1);
        if (n_all)
            all[n_all++] = '\n';
        memcpy(all + n_all, text, n);
        all[n_all += n] = 0;
    }
    memcpy(ret, all, sizeof all);
    return FS_OK;
}

/* ---- rules ---- */

fs_status fs_hub_rules_check(const fs_hub_rules *r, const char *ref, fs_hub_change change, fs_error *err)
{
    const char *name = is_branch(ref) ? ref + 11 : is_tag(ref) ? ref + 10 : ref;

    if (change == FS_HUB_REMOVE && strcmp(ref, "refs/heads/main") == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "main cannot be deleted");
    if (!fs_hub_rules_cover(r, ref))
        return FS_OK;
    if (is_tag(ref))
        return change == FS_HUB_EXTEND ? FS_OK
                                       : fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is a protected tag: it cannot be %s", name, change == FS_HUB_REMOVE ? "deleted" : "moved");
    if (change == FS_HUB_REMOVE)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is a protected branch: it cannot be deleted", name);
    if (change == FS_HUB_FORCE)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is a protected branch: it only goes forward, and cannot be pushed by force", name);
    if (change == FS_HUB_REWRITE && r->protection >= FS_HUB_KEEP_HISTORY)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is a protected branch whose history is kept: it cannot be rewritten", name);
    if (change == FS_HUB_EXTEND && r->protection >= FS_HUB_BY_PULL_REQUEST)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is a protected branch: it is changed by pull requests only", name);
    return FS_OK;
}

fs_status fs_hub_rules_read(sqlite3 *db, int64_t repo, fs_hub_rules *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT protected, protection, protected_tags FROM repos WHERE id = ?", "i", repo);
    bool found;

    if (rc)
        return rc;
    *ret = (fs_hub_rules){ .protection = FS_HUB_PROTECT };
    found = fs_db_next(st);
    if (found && !fs_hub_protection_read(fs_db_text(st, 1), &ret->protection))
        rc = fs_fail(err, FS_ERR_FORMAT, "a repository's protection is '%.50s', which this program does not know", fs_db_text(st, 1));
    if (found && !rc)
        rc = fs_hub_patterns_read(fs_db_text(st, 0), ret->branches, err);
    if (found && !rc)
        rc = fs_hub_patterns_read(fs_db_text(st, 2), ret->tags, err);
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

bool fs_hub_need_rules(fs_hub_call *c, const char *ref, fs_hub_change change)
{
    fs_hub_rules rules;

    if (fs_hub_failed(c, fs_hub_rules_read(c->db, c->repo.id, &rules, &c->err)))
        return false;
    if (fs_hub_rules_check(&rules, ref, change, &c->err) == FS_OK)
        return true;
    fs_hub_error(c, 403, NULL, "%s", c->err.message);
    return false;
}

/* ---- settings ---- */

/* A list of patterns, or a form's text; without it ret stays. */
static fs_status take_patterns(struct json_object *o, const char *key, char ret[FS_HUB_PATTERNS_BYTES], fs_error *err)
{
    struct json_object *list = fs_json_member(o, key);
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (!list)
        return FS_OK;
    if (json_object_is_type(list, json_type_string))
        rc = fs_buf_append(&text, json_object_get_string(list), (size_t)json_object_get_string_len(list), err);
    else if (!json_object_is_type(list, json_type_array))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%s is no list of patterns", key);
    for (size_t i = 0; !rc && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);
        const char *pattern = json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";
        if (!pattern_is_valid(pattern, (size_t)json_object_get_string_len(item)))
            rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' cannot be a pattern", pattern);
        else
            rc = fs_buf_printf(&text, err, "%s\n", pattern);
    }
    if (!rc && text.n_bytes && memchr(text.data, 0, text.n_bytes))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%s has a NUL", key);
    if (!rc)
        rc = fs_hub_patterns_read(text.data ? text.data : "", ret, err);
    fs_buf_done(&text);
    return rc;
}

fs_status fs_hub_rules_take(struct json_object *o, fs_hub_rules *r, fs_error *err)
{
    struct json_object *word = fs_json_member(o, "branchProtection");
    fs_status rc;

    if (word && (!json_object_is_type(word, json_type_string) || !fs_hub_protection_read(json_object_get_string(word), &r->protection)))
        return fs_fail(err, FS_ERR_ARGUMENT, "branchProtection is default, keep-history or pull-request, not '%.30s'", json_object_get_string(word));
    rc = take_patterns(o, "protectedBranches", r->branches, err);
    return rc ? rc : take_patterns(o, "protectedTags", r->tags, err);
}

static void emit_patterns(fs_emit *e, const char *key, const char *line)
{
    fs_emit_key(e, key);
    fs_emit_begin(e, '[');
    while (*line) {
        size_t n = strcspn(line, "\n");
        fs_emit_text(e, NULL, (fs_bytes){ (const uint8_t *)line, n });
        line += n + (line[n] != 0);
    }
    fs_emit_end(e, ']');
}

void fs_hub_rules_emit(fs_emit *e, const fs_hub_rules *r)
{
    emit_patterns(e, "protectedBranches", r->branches);
    emit_patterns(e, "protectedTags", r->tags);
    fs_emit_str(e, "branchProtection", fs_hub_protection_word(r->protection));
}
