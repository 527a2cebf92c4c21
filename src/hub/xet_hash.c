/* See the header. */
#include "hub/xet_hash.h"

#include "crypto/blake3.h"
#include "crypto/sha256.h"
#include "hub/xet_gear.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Page "Hashing". */
static const uint8_t data_key[32] = { 102, 151, 245, 119, 91,  149, 80, 222, 49,  53,  203, 172, 165, 151, 24,  28,
                                      157, 228, 33,  16,  155, 235, 43, 88,  180, 208, 176, 75,  147, 173, 242, 41 };
static const uint8_t node_key[32] = { 1,  126, 197, 199, 165, 71, 41,  150, 253, 148, 102, 102, 180, 138, 2,   230,
                                      93, 221, 83,  111, 55,  199, 109, 210, 248, 99,  82,  230, 74,  83,  113, 63 };
static const uint8_t range_key[32] = { 127, 24,  87, 214, 206, 86,  237, 102, 18,  127, 249, 19,  231, 165, 195, 243,
                                       164, 205, 38, 213, 181, 219, 73,  230, 65,  36,  152, 127, 40,  251, 148, 195 };
static const uint8_t zero_key[32];

/* ---- text ---- */
static uint64_t word(const uint8_t *p)
{
    uint64_t w = 0;

    for (int i = 7; i >= 0; i--)
        w = w << 8 | p[i];
    return w;
}

void fs_xet_hash_of_sha256(const uint8_t sha256[32], fs_xet_hash *ret)
{
    for (int i = 0; i < 32; i++)
        ret->bytes[i] = sha256[(i & ~7) + 7 - (i & 7)];
}

void fs_xet_hash_text(const fs_xet_hash *h, char ret[65])
{
    fs_xet_hash turned;

    fs_xet_hash_of_sha256(h->bytes, &turned);
    fs_hex(turned.bytes, sizeof turned.bytes, ret);
}

bool fs_xet_hash_read(fs_bytes text, fs_xet_hash *ret)
{
    uint8_t turned[32];

    if (text.n_bytes != 64 || !fs_hex_read(text, turned, sizeof turned))
        return false;
    fs_xet_hash_of_sha256(turned, ret);
    return true;
}

bool fs_xet_hash_equal(const fs_xet_hash *a, const fs_xet_hash *b)
{
    return !memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

bool fs_xet_hash_is_asked(const fs_xet_hash *h)
{
    return word(h->bytes + 24) % 1024 == 0;
}

/* ---- hashes ---- */
void fs_xet_chunk_hash(const void *data, size_t n_bytes, fs_xet_hash *ret)
{
    fs_blake3_hash(data_key, data, n_bytes, ret->bytes);
}

void fs_xet_hash_hide(const fs_xet_hash *h, const uint8_t key[32], fs_xet_hash *ret)
{
    fs_blake3_hash(key, h->bytes, sizeof h->bytes, ret->bytes);
}

void fs_xet_range_hash(const fs_xet_hash *hashes, size_t n, fs_xet_hash *ret)
{
    fs_blake3_hash(range_key, hashes, n * sizeof *hashes, ret->bytes);
}

/* ---- the tree ---- */
enum { GROUP_MIN = 3, GROUP_MEAN = 4 };

static fs_xet_node parent(const fs_xet_node *nodes, int n)
{
    char lines[FS_XET_GROUP_MAX * 96];
    size_t at = 0;
    fs_xet_node ret = { .n_bytes = 0 };

    for (int i = 0; i < n; i++) {
        fs_xet_hash_text(&nodes[i].hash, lines + at);
        at += 64;
        at += (size_t)snprintf(lines + at, sizeof lines - at, " : %" PRIu64 "\n", nodes[i].n_bytes);
        ret.n_bytes += nodes[i].n_bytes;
    }
    fs_blake3_hash(node_key, lines, at, ret.hash.bytes);
    return ret;
}

/* A parent stands over a group, which ends with a hash whose last number divides by four, but for its first two, or is full. */
static void add_node(fs_xet_tree *t, int level, fs_xet_node node)
{
    for (;; level++) {
        fs_xet_node *nodes = t->levels[level].nodes;
        int n = ++t->levels[level].n;
        nodes[n - 1] = node;
        if (n < GROUP_MIN || (n < FS_XET_GROUP_MAX && word(node.hash.bytes + 24) % GROUP_MEAN != 0))
            return;
        node = parent(nodes, n);
        t->levels[level].n = 0;
        t->levels[level].has_parents = true;
    }
}

void fs_xet_tree_add(fs_xet_tree *t, const fs_xet_hash *chunk, uint64_t n_bytes)
{
    add_node(t, 0, (fs_xet_node){ *chunk, n_bytes });
}

void fs_xet_tree_end_xorb(fs_xet_tree *t, fs_xet_hash *ret)
{
    int level = 0;

    for (; t->levels[level].has_parents || t->levels[level].n > 1; level++) /* what is left at the end is a group, too */
        if (t->levels[level].n > 0)
            add_node(t, level + 1, parent(t->levels[level].nodes, t->levels[level].n));
    *ret = t->levels[level].nodes[0].hash; /* zeros of an empty tree */
}

void fs_xet_tree_end_file(fs_xet_tree *t, fs_xet_hash *ret)
{
    bool empty = !t->levels[0].has_parents && t->levels[0].n == 0;
    fs_xet_hash root;

    fs_xet_tree_end_xorb(t, &root);
    if (empty)
        *ret = root;
    else
        fs_blake3_hash(zero_key, root.bytes, sizeof root.bytes, ret->bytes);
}

/* ---- cutting ---- */
#define CUT_MASK 0xFFFF000000000000u
#define WINDOW   64 /* bytes that the sum remembers */

size_t fs_xet_cut(fs_xet_cutter *c, const uint8_t *data, size_t n_bytes, bool *ret_ended)
{
    size_t i = 0, left = FS_XET_CHUNK_MAX - c->n_bytes, end = n_bytes < left ? n_bytes : left;
    uint64_t sum = c->sum;

    /* No chunk ends before the least length, and what has left the window does not count. */
    if (c->n_bytes + WINDOW + 1 < FS_XET_CHUNK_MIN) {
        size_t skip = FS_XET_CHUNK_MIN - WINDOW - 1 - c->n_bytes;
        i = skip < end ? skip : end;
    }
    for (; i < end; i++) {
        sum = (sum << 1) + gear[data[i]];
        if ((sum & CUT_MASK) == 0 && c->n_bytes + i + 1 >= FS_XET_CHUNK_MIN)
            break;
    }
    *ret_ended = i < end || end == left;
    i += i < end;
    if (*ret_ended)
        *c = (fs_xet_cutter){ 0 };
    else
        *c = (fs_xet_cutter){ .sum = sum, .n_bytes = c->n_bytes + (uint32_t)i };
    return i;
}
