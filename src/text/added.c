/* See the header. */
#include "text/added.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct fs_added_node {
    uint32_t child, sibling; /* 0: none */
    uint32_t token;          /* index + 1 of the token that ends here, 0: none */
    uint8_t byte;
};

void fs_added_done(fs_added *a)
{
    if (!a)
        return;
    free(a->tokens);
    free(a->nodes);
    *a = (fs_added){ 0 };
}

static fs_status new_node(fs_added *a, uint8_t byte, uint32_t sibling, uint32_t *ret, fs_error *err)
{
    if (a->n_nodes == a->nodes_capacity) {
        size_t cap = a->nodes_capacity ? 2 * a->nodes_capacity : 256;
        struct fs_added_node *p = realloc(a->nodes, cap * sizeof *p);
        if (!p)
            return fs_fail_memory(err, cap * sizeof *p);
        a->nodes = p;
        a->nodes_capacity = cap;
        if (a->n_nodes == 0)
            a->nodes[a->n_nodes++] = (struct fs_added_node){ 0 }; /* index 0 means none */
    }
    if (a->n_nodes == UINT32_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "too many added tokens");
    a->nodes[a->n_nodes] = (struct fs_added_node){ 0, sibling, 0, byte };
    *ret = (uint32_t)a->n_nodes++;
    return FS_OK;
}

static uint32_t child_of(const fs_added *a, uint32_t node, uint8_t byte)
{
    uint32_t n = a->nodes[node].child;

    while (n && a->nodes[n].byte != byte)
        n = a->nodes[n].sibling;
    return n;
}

fs_status fs_added_add(fs_added *a, fs_bytes text, fs_added_token token, fs_error *err)
{
    uint32_t node;
    fs_status rc;

    if (text.n_bytes == 0 || text.n_bytes > FS_ADDED_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "added token %d has %zu bytes, allowed are 1 to %d", (int)token.id, text.n_bytes,
                       FS_ADDED_BYTES_MAX);
    if (a->n_tokens == a->tokens_capacity) {
        size_t cap = a->tokens_capacity ? 2 * a->tokens_capacity : 64;
        fs_added_token *p = realloc(a->tokens, cap * sizeof *p);
        if (!p)
            return fs_fail_memory(err, cap * sizeof *p);
        a->tokens = p;
        a->tokens_capacity = cap;
    }
    node = a->first[text.data[0]];
    if (!node) {
        rc = new_node(a, text.data[0], 0, &node, err);
        if (rc)
            return rc;
        a->first[text.data[0]] = node;
    }
    for (size_t i = 1; i < text.n_bytes; i++) {
        uint32_t next = child_of(a, node, text.data[i]);
        if (!next) {
            rc = new_node(a, text.data[i], a->nodes[node].child, &next, err);
            if (rc)
                return rc;
            a->nodes[node].child = next;
        }
        node = next;
    }
    a->tokens[a->n_tokens++] = token;
    a->nodes[node].token = (uint32_t)a->n_tokens;
    return FS_OK;
}

const fs_added_token *fs_added_exact(const fs_added *a, fs_bytes text)
{
    uint32_t node = text.n_bytes ? a->first[text.data[0]] : 0;

    for (size_t i = 1; i < text.n_bytes && node; i++)
        node = child_of(a, node, text.data[i]);
    return node && a->nodes[node].token ? &a->tokens[a->nodes[node].token - 1] : NULL;
}

/* \w of the regex crate: alphabetic, marks, decimal digits, connector punctuation, join controls. */
static bool is_word(uint32_t code)
{
    switch (code == FS_UTF8_BAD ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9);
    }
}

static bool is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

/* The character that ends at byte end > 0 starts at the returned byte. */
static size_t char_before(fs_bytes text, size_t end, uint32_t *ret_code)
{
    size_t i = end - 1;

    while (i > 0 && end - i < 4 && (text.data[i] & 0xc0) == 0x80)
        i--;
    fs_utf8_next(text, i, ret_code);
    return i;
}

static bool stands_alone(fs_bytes text, size_t begin, size_t end)
{
    uint32_t code;

    if (begin > 0) {
        char_before(text, begin, &code);
        if (is_word(code))
            return false;
    }
    if (end < text.n_bytes) {
        fs_utf8_next(text, end, &code);
        if (is_word(code))
            return false;
    }
    return true;
}

const fs_added_token *fs_added_find(const fs_added *a, fs_bytes text, size_t from, bool special, size_t *ret_begin, size_t *ret_end)
{
    for (size_t i = from; i < text.n_bytes;) {
        uint32_t node = a->first[text.data[i]], found = 0;
        size_t begin = i, end = i;
        const fs_added_token *t;

        for (size_t k = i; node;) {
            if (a->nodes[node].token) {
                found = a->nodes[node].token;
                end = k + 1;
            }
            node = ++k < text.n_bytes ? child_of(a, node, text.data[k]) : 0;
        }
        if (!found) {
            i++;
            continue;
        }
        t = &a->tokens[found - 1];
        i = end; /* a match that does not count still uses up its text */
        if ((t->special && !special) || (t->single_word && !stands_alone(text, begin, end)))
            continue;
        while (t->lstrip && begin > from) {
            uint32_t code;
            size_t b = char_before(text, begin, &code);
            if (!is_space(code) || b < from)
                break;
            begin = b;
        }
        while (t->rstrip && end < text.n_bytes) {
            uint32_t code;
            size_t n = fs_utf8_next(text, end, &code);
            if (!is_space(code))
                break;
            end += n;
        }
        *ret_begin = begin;
        *ret_end = end;
        return t;
    }
    return NULL;
}
