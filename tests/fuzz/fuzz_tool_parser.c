/* Any stream, in any format: byte by byte, in pieces and at once the same comes out; arguments are JSON objects; nothing
 * is lost: without a call, what was told is the stream, but for the marker that ends the reasoning. The first byte chooses
 * format, thinking and tools, the second the pieces. */
#include "fuzz.h"

#include "text/json_text.h"
#include "text/parse.h"

#include <string.h>

typedef struct heard {
    fs_buf reasoning, content, calls;
    size_t n_calls;
} heard;

static bool hear(void *ud, const fs_parsed *e)
{
    heard *h = ud;
    fs_bytes value;

    if (e->part != FS_PART_CALL) {
        HOLDS(e->text.n_bytes > 0);
        HOLDS(fs_buf_append(e->part == FS_PART_REASONING ? &h->reasoning : &h->content, e->text.data, e->text.n_bytes, NULL) == FS_OK);
        return true;
    }
    HOLDS(e->call == h->n_calls++ && e->name.n_bytes > 0);
    HOLDS(fs_json_text_valid(e->arguments, &value) && value.data[0] == '{');
    HOLDS(fs_buf_append(&h->calls, e->name.data, e->name.n_bytes, NULL) == FS_OK && fs_buf_append(&h->calls, "\xff", 1, NULL) == FS_OK &&
          fs_buf_append(&h->calls, e->arguments.data, e->arguments.n_bytes, NULL) == FS_OK);
    return true;
}

static void init(fs_parser *p, uint8_t options)
{
    fs_chat_format f = (fs_chat_format)(options % FS_CHAT_FORMAT_END);

    if (f == FS_CHAT_TEMPLATE)
        fs_parser_init_template(p, options & 64 ? FS_PARSE_REASONING : FS_PARSE_START, options & 128 ? FS_CHAT_NONE : FS_CHAT_CHATML);
    else
        fs_parser_init(p, f, options & 64, !(options & 128));
}

static void parse(uint8_t options, fs_bytes text, unsigned chunk, heard *ret)
{
    fs_parser p;

    init(&p, options);
    for (size_t at = 0; at < text.n_bytes;) {
        size_t n = chunk ? 1 + (chunk = chunk * 1103515245u + 12345u) / 65536 % 7 : text.n_bytes;
        n = n < text.n_bytes - at ? n : text.n_bytes - at;
        HOLDS(fs_parser_push(&p, text.data + at, n, hear, ret, NULL) == FS_OK);
        at += n;
    }
    HOLDS(fs_parser_finish(&p, hear, ret, NULL) == FS_OK);
    fs_parser_done(&p);
}

static void parse_bytes(uint8_t options, fs_bytes text, heard *ret)
{
    fs_parser p;

    init(&p, options);
    for (size_t at = 0; at < text.n_bytes; at++)
        HOLDS(fs_parser_push(&p, text.data + at, 1, hear, ret, NULL) == FS_OK);
    HOLDS(fs_parser_finish(&p, hear, ret, NULL) == FS_OK);
    fs_parser_done(&p);
}

static void same(const heard *a, const heard *b)
{
    HOLDS(fs_bytes_equal(fs_buf_bytes(&a->reasoning), fs_buf_bytes(&b->reasoning)));
    HOLDS(fs_bytes_equal(fs_buf_bytes(&a->content), fs_buf_bytes(&b->content)));
    HOLDS(fs_bytes_equal(fs_buf_bytes(&a->calls), fs_buf_bytes(&b->calls)));
}

static void nothing_is_lost(uint8_t options, fs_bytes text, const heard *h)
{
    static const char mark[] = "</think>";
    fs_chat_format f = (fs_chat_format)(options % FS_CHAT_FORMAT_END);
    fs_bytes open, close, reasoning = { 0 }, content = text;
    bool in_prompt;

    HOLDS(h->reasoning.n_bytes + h->content.n_bytes <= text.n_bytes);
    fs_chat_reasoning(f, options & 64, &open, &close, &in_prompt);
    if (h->n_calls || f == FS_CHAT_DEEPSEEK_R1 || f == FS_CHAT_QWEN3 || f == FS_CHAT_TEMPLATE)
        return;
    if (in_prompt) {
        const uint8_t *end = text.n_bytes ? memmem(text.data, text.n_bytes, mark, sizeof mark - 1) : NULL;
        reasoning = (fs_bytes){ text.data, end ? (size_t)(end - text.data) : text.n_bytes };
        content = end ? (fs_bytes){ end + sizeof mark - 1, text.n_bytes - reasoning.n_bytes - (sizeof mark - 1) } : (fs_bytes){ 0 };
    }
    HOLDS(fs_bytes_equal(fs_buf_bytes(&h->reasoning), reasoning) && fs_bytes_equal(fs_buf_bytes(&h->content), content));
}

static void done(heard *h)
{
    fs_buf_done(&h->reasoning);
    fs_buf_done(&h->content);
    fs_buf_done(&h->calls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    heard whole = { 0 }, bytes = { 0 }, pieces = { 0 };
    fs_bytes text;

    if (n_bytes < 2)
        return 0;
    text = (fs_bytes){ data + 2, n_bytes - 2 };
    parse(data[0], text, 0, &whole);
    parse_bytes(data[0], text, &bytes);
    parse(data[0], text, 1u + data[1], &pieces);
    same(&whole, &bytes);
    same(&whole, &pieces);
    nothing_is_lost(data[0], text, &whole);
    done(&whole);
    done(&bytes);
    done(&pieces);
    return 0;
}
