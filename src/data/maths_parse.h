/* The parser's inside: maths_text.c, maths_parse.c. Nobody else includes this. */
#ifndef FS_DATA_MATHS_PARSE_H
#define FS_DATA_MATHS_PARSE_H

#include "data/maths_impl.h"

typedef struct fs_maths_parser {
    fs_maths *m;
    fs_bytes s;
    size_t at;
    int depth, n_brackets; /* n_brackets > 0: a comma there parts items, it is no thousands separator */
    bool minus;            /* what \pm means in this pass */
    bool saw_plus_minus;
    int bars;              /* within |...| a bar ends */
} fs_maths_parser;

/* NULL, too, when an argument is. */
fs_maths_node *fs_mp_node1(fs_maths_parser *p, fs_maths_kind kind, fs_maths_node *a);
fs_maths_node *fs_mp_node2(fs_maths_parser *p, fs_maths_kind kind, fs_maths_node *a, fs_maths_node *b);
fs_maths_node *fs_mp_int(fs_maths_parser *p, long v);
bool fs_mp_append(fs_maths_parser *p, fs_maths_node *list, fs_maths_node *item);

/* Whether word stands at p->at; a command's name must end there. */
bool fs_mp_at(const fs_maths_parser *p, const char *word);
/* The next byte that means something, not consumed; 0 at the end. */
uint8_t fs_mp_peek(fs_maths_parser *p);
/* Consumes word (one of the words) if it stands there: fs_mp_take_bytes right there, the others behind what means nothing. */
bool fs_mp_take_bytes(fs_maths_parser *p, const char *word);
bool fs_mp_take(fs_maths_parser *p, const char *word);
bool fs_mp_take_any(fs_maths_parser *p, const char *const *words);
/* The raw text of {...}, brackets matched. */
bool fs_mp_raw_group(fs_maths_parser *p, fs_bytes *ret);
/* A text command (\text, \mathrm, ...): its words, p behind it. */
bool fs_mp_text(fs_maths_parser *p, fs_bytes *ret);
bool fs_mp_is_word(fs_bytes s, const char *word); /* without case */
/* Digits with thousands separators, decimals and a base; NULL, too, when there are too many. */
fs_maths_node *fs_mp_number(fs_maths_parser *p);

#endif
