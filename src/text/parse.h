/* What a model answers, as it streams: its reasoning, the content, and calls of tools in the chat format's markup. The
 * inverse of fs_chat_render_reply. However the stream is cut, the same comes out: the pieces of reasoning and of content
 * put together, and the calls.
 *
 * A call is told when it is complete. Markup that is not what the format says is content, every byte of it; so is a call
 * whose arguments are no JSON object, and one that the end cuts off. What belongs to the markup is not told: markers,
 * the white space that the format puts before a call, white space after calls; in deepseek-r1 and qwen3 also the line
 * ends around reasoning. Text after calls is content again. Formats and markup: docs/chat.md. */
#ifndef FS_TEXT_PARSE_H
#define FS_TEXT_PARSE_H

#include "text/chat.h"

#define FS_PARSE_NAME_MAX 1024 /* bytes of a tool's or parameter's name */

typedef enum fs_part { FS_PART_REASONING, FS_PART_CONTENT, FS_PART_CALL } fs_part;

typedef struct fs_parsed {
    fs_part part;
    fs_bytes text;            /* of reasoning and content, never empty */
    size_t call;              /* a call's number, from 0 */
    fs_bytes name, arguments; /* of a call; arguments are the text of a JSON object, as the model spelled it */
} fs_parsed;

/* Borrows *p for the call; false stops. */
typedef bool fs_parse_fn(void *ud, const fs_parsed *p);

typedef enum fs_markup { FS_MARKUP_NONE, FS_MARKUP_JSON, FS_MARKUP_MARKERS, FS_MARKUP_DSML } fs_markup;
typedef enum fs_parse_state {
    FS_PARSE_START,     /* reasoning may open */
    FS_PARSE_REASONING,
    FS_PARSE_CONTENT,
    FS_PARSE_AFTER,     /* right behind calls */
    FS_PARSE_CALLS,     /* in a block of calls, between them */
    FS_PARSE_NAME,      /* markers: what is before the separator; DSML: invoke's name */
    FS_PARSE_FENCE,     /* markers of V3 and R1: the name before the fence */
    FS_PARSE_BODY,      /* markers: the arguments */
    FS_PARSE_PARAMETERS,
    FS_PARSE_KEY,
    FS_PARSE_VALUE,
    FS_PARSE_OBJECT,    /* the JSON of <tool_call> */
    FS_PARSE_CLOSE
} fs_parse_state;

/* The markers and tags of calls, as the format spells them. */
typedef struct fs_parse_tags {
    char open[48], close[48];           /* of the block */
    char call_open[64], call_close[48]; /* of a call */
    char key[64], value_close[48];
} fs_parse_tags;

typedef struct fs_parser {
    fs_chat_format format;
    fs_markup markup;
    fs_parse_tags tags;
    fs_parse_state state;
    bool trim;           /* line ends around reasoning are not told */
    bool skip_newlines;
    bool string;         /* the parameter's value is text */
    bool in_string, escaped; /* in FS_PARSE_OBJECT */
    int depth;
    size_t n_calls, n_block; /* told in all, and in this block */
    fs_buf pending;      /* not told yet: from begin; up to at it is markup that was understood; searched up to scan */
    size_t begin, at, scan;
    fs_buf name, arguments;
} fs_parser;

/* thinking as in the options of the prompt that is answered. Without tools their markup is content. */
void fs_parser_init(fs_parser *p, fs_chat_format f, bool thinking, bool tools);
/* For a template of no known format: begin says whether reasoning is open (FS_PARSE_REASONING), may open (FS_PARSE_START)
 * or not (FS_PARSE_CONTENT); calls have the markup of that format, FS_CHAT_NONE: of none. */
void fs_parser_init_template(fs_parser *p, fs_parse_state begin, fs_chat_format calls);
void fs_parser_done(fs_parser *p);
/* FS_ERR_INTERRUPTED when fn said stop; after an error only fs_parser_done may follow. */
fs_status fs_parser_push(fs_parser *p, const void *text, size_t n_bytes, fs_parse_fn *fn, void *ud, fs_error *err);
/* The end: what was held back is text after all. */
fs_status fs_parser_finish(fs_parser *p, fs_parse_fn *fn, void *ud, fs_error *err);

#endif
