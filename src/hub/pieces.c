/* See the header. */
#include "hub/pieces.h"

#include "base/file.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define TELL_BYTES ((size_t)1 << 20)
#define DROP_BYTES ((size_t)16 << 20)

typedef struct hasher {
    EVP_MD *sha1, *sha256; /* fetched once: a leaf is a few microseconds */
    EVP_MD_CTX *piece, *leaf;
    uint8_t *nodes; /* [leaves of a piece][32] */
} hasher;

static fs_status hasher_init(hasher *h, size_t n_leaves, fs_error *err)
{
    h->sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
    h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    h->piece = EVP_MD_CTX_new();
    h->leaf = EVP_MD_CTX_new();
    h->nodes = calloc(n_leaves + 1, FS_PIECES_SHA256);
    return h->sha1 && h->sha256 && h->piece && h->leaf && h->nodes ? FS_OK : fs_fail(err, FS_ERR_MEMORY, "hashes of pieces: cannot start");
}

static void hasher_done(hasher *h)
{
    EVP_MD_free(h->sha1);
    EVP_MD_free(h->sha256);
    EVP_MD_CTX_free(h->piece);
    EVP_MD_CTX_free(h->leaf);
    free(h->nodes);
}

static bool hash_leaf(hasher *h, const void *data, size_t n_bytes, uint8_t ret[FS_PIECES_SHA256])
{
    return EVP_DigestInit_ex(h->leaf, h->sha256, NULL) == 1 && EVP_DigestUpdate(h->leaf, data, n_bytes) == 1 && EVP_DigestFinal_ex(h->leaf, ret, NULL) == 1;
}

/* One level up, in place: what is missing beside the last node is pad, which becomes its own parent. */
static bool fold(hasher *h, uint8_t *nodes, size_t *n, uint8_t pad[FS_PIECES_SHA256])
{
    uint8_t pair[2 * FS_PIECES_SHA256];

    if (*n % 2)
        memcpy(nodes + *n * FS_PIECES_SHA256, pad, FS_PIECES_SHA256);
    *n = (*n + 1) / 2;
    for (size_t i = 0; i < *n; i++)
        if (!hash_leaf(h, nodes + 2 * i * FS_PIECES_SHA256, sizeof pair, nodes + i * FS_PIECES_SHA256))
            return false;
    memcpy(pair, pad, FS_PIECES_SHA256);
    memcpy(pair + FS_PIECES_SHA256, pad, FS_PIECES_SHA256);
    return hash_leaf(h, pair, sizeof pair, pad);
}

/* Zeros that fill a piece up. */
static bool put_zeros(EVP_MD_CTX *ctx, size_t n_bytes)
{
    static const uint8_t zeros[4096];
    bool ok = true;

    for (; ok && n_bytes > 0; n_bytes -= n_bytes < sizeof zeros ? n_bytes : sizeof zeros)
        ok = EVP_DigestUpdate(ctx, zeros, n_bytes < sizeof zeros ? n_bytes : sizeof zeros) == 1;
    return ok;
}

/* A piece: its SHA-1, and the node of the tree over it. alone: the file is within it, so the tree ends where the file does. */
static bool hash_piece(hasher *h, fs_bytes piece, uint32_t piece_bytes, bool alone, uint8_t *ret_sha1, uint8_t *ret_node)
{
    uint8_t pad[FS_PIECES_SHA256] = { 0 };
    size_t n = 0;
    bool ok = EVP_DigestInit_ex(h->piece, h->sha1, NULL) == 1;

    for (size_t at = 0; ok && at < piece.n_bytes; at += FS_PIECES_LEAF) { /* both while the leaf is in the cache */
        size_t n_leaf = piece.n_bytes - at < FS_PIECES_LEAF ? piece.n_bytes - at : FS_PIECES_LEAF;
        ok = hash_leaf(h, piece.data + at, n_leaf, h->nodes + n++ * FS_PIECES_SHA256) && EVP_DigestUpdate(h->piece, piece.data + at, n_leaf) == 1;
    }
    ok = ok && put_zeros(h->piece, piece_bytes - piece.n_bytes) && EVP_DigestFinal_ex(h->piece, ret_sha1, NULL) == 1;
    for (uint32_t width = FS_PIECES_LEAF; ok && (alone ? n > 1 : width < piece_bytes); width *= 2)
        ok = fold(h, h->nodes, &n, pad);
    memcpy(ret_node, h->nodes, FS_PIECES_SHA256);
    return ok;
}

static bool root_of(hasher *h, const uint8_t *layer, size_t n, uint32_t piece_bytes, uint8_t ret[FS_PIECES_SHA256])
{
    uint8_t pad[FS_PIECES_SHA256] = { 0 }, none[2 * FS_PIECES_SHA256] = { 0 };
    bool ok = true;

    for (uint32_t width = FS_PIECES_LEAF; ok && width < piece_bytes; width *= 2) {
        size_t zero = 0;
        ok = fold(h, none, &zero, pad);
    }
    memcpy(h->nodes, layer, n * FS_PIECES_SHA256);
    while (ok && n > 1)
        ok = fold(h, h->nodes, &n, pad);
    memcpy(ret, h->nodes, FS_PIECES_SHA256);
    return ok;
}

fs_status fs_piece_hashes_root(const uint8_t *layer, size_t n, uint32_t piece_bytes, uint8_t ret[FS_PIECES_SHA256], fs_error *err)
{
    hasher h = { 0 };
    fs_status rc = hasher_init(&h, n, err);

    if (!rc && !root_of(&h, layer, n, piece_bytes, ret))
        rc = fs_fail(err, FS_ERR_MEMORY, "hashes of pieces: cannot go on");
    hasher_done(&h);
    return rc;
}

fs_status fs_piece_hashes_of(fs_bytes content, uint32_t piece_bytes, bool mapped, const fs_progress *progress, fs_piece_hashes *ret, fs_error *err)
{
    size_t n = content.n_bytes / piece_bytes + (content.n_bytes % piece_bytes != 0), n_leaves = piece_bytes / FS_PIECES_LEAF, told = 0, dropped = 0;
    fs_piece_hashes p = { .n = n, .sha1 = calloc(n + 1, FS_PIECES_SHA1), .layer = calloc(n + 1, FS_PIECES_SHA256) };
    hasher h = { 0 };
    fs_status rc = p.sha1 && p.layer ? hasher_init(&h, n > n_leaves ? n : n_leaves, err) : fs_fail_memory(err, n * (FS_PIECES_SHA1 + FS_PIECES_SHA256));

    assert(piece_bytes >= FS_PIECES_LEAF && piece_bytes <= FS_PIECES_BYTES_MAX && (piece_bytes & (piece_bytes - 1)) == 0);
    for (size_t i = 0; i < n && !rc; i++) {
        size_t at = i * piece_bytes, left = content.n_bytes - at, end;
        fs_bytes piece = { content.data + at, left < piece_bytes ? left : piece_bytes };
        if (!hash_piece(&h, piece, piece_bytes, n == 1, p.sha1 + i * FS_PIECES_SHA1, p.layer + i * FS_PIECES_SHA256)) {
            rc = fs_fail(err, FS_ERR_MEMORY, "hashes of pieces: cannot go on");
            break;
        }
        end = at + piece.n_bytes;
        if (end - told >= TELL_BYTES || i + 1 == n) {
            rc = fs_progress_tell(progress, end, content.n_bytes, err);
            told = end;
        }
        if (mapped && (end - dropped >= DROP_BYTES || i + 1 == n)) {
            fs_map_drop((fs_bytes){ content.data + dropped, end - dropped });
            dropped = end;
        }
    }
    if (!rc && n == 1)
        memcpy(p.root, p.layer, sizeof p.root);
    if (!rc && n > 1 && !root_of(&h, p.layer, n, piece_bytes, p.root))
        rc = fs_fail(err, FS_ERR_MEMORY, "hashes of pieces: cannot go on");
    hasher_done(&h);
    if (rc)
        fs_piece_hashes_done(&p);
    else
        *ret = p;
    return rc;
}

void fs_piece_hashes_done(fs_piece_hashes *p)
{
    free(p->sha1);
    free(p->layer);
    *p = (fs_piece_hashes){ 0 };
}
