/* UTF-8 by the Unicode standard: no overlong forms, no surrogates, at most U+10FFFF. */
#ifndef FS_BASE_UTF8_H
#define FS_BASE_UTF8_H

#include "base/mem.h"

#define FS_UTF8_BAD 0xffffffffu

/* The character at byte i < text.n_bytes. Returns the bytes it takes; for bytes that are no UTF-8, *ret_code is
 * FS_UTF8_BAD and the length is that of the maximal ill-formed part (as U+FFFD replacement counts them). */
size_t fs_utf8_next(fs_bytes text, size_t i, uint32_t *ret_code);
/* Writes code (<= 0x10ffff) as 1 to 4 bytes. */
size_t fs_utf8_put(uint32_t code, uint8_t ret_bytes[4]);
bool fs_utf8_valid(fs_bytes text);

#endif
