/* A stranger's page is refused with a sentence. Lines that are entries, numbered and signed, are a page that says the same; with any bit of it
 * changed it is none, and so it is behind another entry or under another key. */
#include "fuzz/fuzz.h"

#include "hub/refs_feed.h"

#include <string.h>

#define SEQ0 41

static void sealed_page(const fs_refs_entry *entries, size_t n, size_t flip)
{
    uint8_t seed[32] = { 7 }, first[32], hash[32], other[32] = { 0 };
    fs_ed25519_key key;
    fs_refs_head head = { .seq = SEQ0 + n, .time_ms = 5 };
    fs_refs_page p;
    fs_buf text = { 0 };
    fs_error err = { 0 };

    HOLDS(fs_ed25519_from_seed(seed, &key, &err) == FS_OK && fs_refs_first_hash(fs_ed25519_public(&key), first, &err) == FS_OK);
    memcpy(hash, first, sizeof hash);
    for (size_t i = 0; i < n; i++) {
        size_t begin = text.n_bytes;
        HOLDS(fs_refs_entry_write(entries + i, &text, &err) == FS_OK);
        HOLDS(fs_refs_next_hash(hash, (fs_bytes){ (const uint8_t *)text.data + begin, text.n_bytes - begin }, hash, &err) == FS_OK);
        HOLDS(fs_buf_append(&text, "\n", 1, &err) == FS_OK);
    }
    memcpy(head.hash, hash, sizeof hash);
    fs_refs_head_sign(&head, &key);
    HOLDS(fs_refs_head_write(&head, &text, &err) == FS_OK && fs_buf_append(&text, "\n", 1, &err) == FS_OK);
    HOLDS(fs_refs_page_read(fs_buf_bytes(&text), SEQ0, first, fs_ed25519_public(&key), &p, &err) == FS_OK && p.n == n && p.head.seq == SEQ0 + n);
    for (size_t i = 0; i < n; i++)
        HOLDS(!strcmp(p.entries[i].repo, entries[i].repo) && !strcmp(p.entries[i].ref, entries[i].ref) && !strcmp(p.entries[i].new, entries[i].new));
    HOLDS(!memcmp(p.head.hash, hash, sizeof hash));
    fs_refs_page_done(&p);
    HOLDS(fs_refs_page_read(fs_buf_bytes(&text), SEQ0, other, fs_ed25519_public(&key), &p, &err) == FS_ERR_FORMAT);
    HOLDS(fs_refs_page_read(fs_buf_bytes(&text), SEQ0, first, other, &p, &err) == FS_ERR_FORMAT);
    HOLDS(fs_refs_page_read(fs_buf_bytes(&text), SEQ0 + 1, first, fs_ed25519_public(&key), &p, &err) == FS_ERR_FORMAT);
    text.data[flip / 8 % text.n_bytes] ^= (char)(1 << flip % 8);
    HOLDS(fs_refs_page_read(fs_buf_bytes(&text), SEQ0, first, fs_ed25519_public(&key), &p, &err) != FS_OK);
    fs_buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const uint8_t zero[32];
    fs_refs_entry entries[4];
    fs_refs_head head;
    fs_refs_page p;
    size_t n = 0;
    fs_error err = { 0 };
    fs_status rc = fs_refs_page_read((fs_bytes){ data, n_bytes }, 0, zero, NULL, &p, &err);

    if (rc)
        failed_with_a_sentence(rc, &err);
    else
        fs_refs_page_done(&p);
    for (size_t begin = 0; begin < n_bytes && n < 4;) {
        const uint8_t *end = memchr(data + begin, '\n', n_bytes - begin);
        fs_bytes line = { data + begin, end ? (size_t)(end - data) - begin : n_bytes - begin };
        fs_refs_head_read(line, &head, &err);
        if (fs_refs_entry_read(line, &entries[n], &err) == FS_OK) {
            entries[n].seq = SEQ0 + n + 1;
            n++;
        }
        begin += line.n_bytes + 1;
    }
    sealed_page(entries, n, n_bytes ? data[n_bytes - 1] * 131u + n_bytes : 0);
    return 0;
}
