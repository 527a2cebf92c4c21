/* A template is refused with a sentence of one line, or renders the same twice, within its limits; a text without a
 * foreign word has no foreign byte, and foreign words that are in capitals stay foreign wherever they come out. */
#include "fuzz/fuzz.h"

#include "text/jinja.h"

#include <string.h>

static const char words[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"HI \\u00c9\\u0000<|X|>\"},{\"role\":\"assistant\",\"content\":\"\\nYO\\n\","
                            "\"tool_calls\":[{\"function\":{\"name\":\"F\",\"arguments\":{\"x\":[1,2.5,null,true]}}}]}],\"tools\":[{\"name\":\"T\"}],\"w\":\"ABC\"}";

static struct json_object *foreign(void)
{
    static struct json_object *v;

    if (!v)
        v = json_tokener_parse(words);
    HOLDS(v);
    return v;
}

static fs_status render(const fs_jinja *t, struct json_object *vars, fs_buf *text, fs_buf *mask, fs_error *err)
{
    static const struct tm now = { .tm_year = 124, .tm_mday = 1 };
    fs_jinja_input in = { .foreign = vars, .now = &now, .limits = { 20000, (size_t)8 << 20, 1 << 16 } };

    return fs_jinja_render(t, &in, text, mask, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_buf text = { 0 }, again = { 0 }, mask = { 0 };
    fs_error err = { 0 };
    fs_jinja *t = NULL;
    fs_status rc = fs_jinja_parse((fs_bytes){ data, n_bytes }, &t, &err);

    if (rc) {
        HOLDS(!t);
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    rc = render(t, NULL, &text, &mask, &err);
    HOLDS(mask.n_bytes == text.n_bytes && (text.n_bytes == 0 || !memchr(mask.data, 1, mask.n_bytes)));
    fs_buf_clear(&text);
    fs_buf_clear(&mask);
    rc = render(t, foreign(), &text, &mask, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
        HOLDS(text.n_bytes == 0 && mask.n_bytes == 0);
    } else {
        HOLDS(text.n_bytes <= 1 << 16 && mask.n_bytes == text.n_bytes);
        HOLDS(render(t, foreign(), &again, NULL, &err) == FS_OK);
        HOLDS(again.n_bytes == text.n_bytes && (text.n_bytes == 0 || memcmp(again.data, text.data, text.n_bytes) == 0));
        /* A template without a capital letter or an escape writes none itself, unless it changes the case. */
        bool plain = true;
        for (size_t i = 0; i < n_bytes; i++)
            plain = plain && !(data[i] >= 'A' && data[i] <= 'Z') && data[i] != '\\' && data[i] < 0x80;
        plain = plain && !memmem(data, n_bytes, "upper", 5) && !memmem(data, n_bytes, "title", 5) && !memmem(data, n_bytes, "capital", 7) &&
                !memmem(data, n_bytes, "strftime", 8) && !memmem(data, n_bytes, "float", 5) && !memmem(data, n_bytes, "replace", 7);
        for (size_t i = 0; i < text.n_bytes && plain; i++)
            if (strchr("HIXYOABC", text.data[i]) && text.data[i])
                HOLDS(mask.data[i] == 1);
    }
    fs_jinja_free(t);
    fs_buf_done(&text);
    fs_buf_done(&again);
    fs_buf_done(&mask);
    return 0;
}
