/* Decoding follows table 3-7 of the Unicode standard (well-formed byte sequences). */
#include "base/utf8.h"

#include <string.h>

size_t fs_utf8_next(fs_bytes text, size_t i, uint32_t *ret_code)
{
    const uint8_t *s = text.data + i;
    size_t left = text.n_bytes - i, need;
    uint8_t lo = 0x80, hi = 0xbf;
    uint32_t code;

    *ret_code = FS_UTF8_BAD;
    if (s[0] < 0x80) {
        *ret_code = s[0];
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        need = 2;
        code = s[0] & 0x1fu;
    } else if ((s[0] & 0xf0) == 0xe0) {
        need = 3;
        code = s[0] & 0x0fu;
        if (s[0] == 0xe0)
            lo = 0xa0;
        if (s[0] == 0xed)
            hi = 0x9f;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        need = 4;
        code = s[0] & 0x07u;
        if (s[0] == 0xf0)
            lo = 0x90;
        if (s[0] == 0xf4)
            hi = 0x8f;
    } else {
        return 1;
    }
    for (size_t n = 1; n < need; n++) {
        if (n >= left || s[n] < lo || s[n] > hi)
            return n;
        code = code << 6 | (s[n] & 0x3fu);
        lo = 0x80;
        hi = 0xbf;
    }
    *ret_code = code;
    return need;
}

size_t fs_utf8_put(uint32_t code, uint8_t ret_bytes[4])
{
    if (code < 0x80) {
        ret_bytes[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        ret_bytes[0] = (uint8_t)(0xc0 | code >> 6);
        ret_bytes[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        ret_bytes[0] = (uint8_t)(0xe0 | code >> 12);
        ret_bytes[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        ret_bytes[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    ret_bytes[0] = (uint8_t)(0xf0 | code >> 18);
    ret_bytes[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    ret_bytes[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    ret_bytes[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

bool fs_utf8_valid(fs_bytes text)
{
    for (size_t i = 0; i < text.n_bytes;) {
        uint32_t code;
        uint64_t eight;
        if (text.n_bytes - i >= sizeof eight) {
            memcpy(&eight, text.data + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        i += fs_utf8_next(text, i, &code);
        if (code == FS_UTF8_BAD)
            return false;
    }
    return true;
}
