/* Chunks of a xorb that is read lie one behind the other inside it, and each unpacks to the bytes and the hash it is said to have. */
#include "fuzz/fuzz.h"

#include "hub/xet_xorb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static uint8_t room[FS_XET_CHUNK_MAX];
    const fs_bytes file = { data, n_bytes };
    fs_error err = { 0 };
    fs_xorb x;
    fs_status rc = fs_xorb_read(file, &x, &err);
    uint64_t total = 0;

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    HOLDS(x.n_chunks > 0 && fs_xorb_begin(&x, x.n_chunks) <= n_bytes);
    for (uint32_t i = 0; i < x.n_chunks; i++) {
        uint32_t at = fs_xorb_begin(&x, i), taken;
        fs_bytes chunk = { 0 };
        fs_xet_hash hash;
        HOLDS(fs_xorb_unpack((fs_bytes){ data + at, n_bytes - at }, room, &chunk, &taken, &err) == FS_OK);
        HOLDS(chunk.n_bytes == x.chunks[i].n_bytes && at + taken == x.chunks[i].end);
        fs_xet_chunk_hash(chunk.data, (uint32_t)chunk.n_bytes, &hash);
        HOLDS(fs_xet_hash_equal(&hash, &x.chunks[i].hash));
        total += chunk.n_bytes;
    }
    HOLDS(total == x.n_bytes);
    fs_xorb_done(&x);
    return 0;
}
