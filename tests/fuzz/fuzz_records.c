/* Any text as a file of records: a record's spans lie in its line, its words come out, and the kind is what its members say. */
#include "fuzz.h"

#include "data/records.h"

static void inside(fs_bytes part, fs_bytes whole)
{
    HOLDS(!part.n_bytes || (part.data >= whole.data && part.n_bytes <= (size_t)(whole.data + whole.n_bytes - part.data)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_lines l = { .text = { data, n_bytes } };
    fs_buf words = { 0 };
    size_t before = 0;

    for (;;) {
        fs_error err = { 0 };
        fs_data_record r = { 0 };
        bool more = false;
        fs_status rc = fs_data_record_next(&l, "fuzz", &r, &more, &err);
        HOLDS(l.at <= n_bytes && l.number >= before);
        before = l.number;
        if (rc) {
            failed_with_a_sentence(rc, &err);
            continue;
        }
        if (!more)
            break;
        inside(r.json, l.text);
        inside(r.text, r.json);
        inside(r.messages, r.json);
        inside(r.prompt, r.json);
        inside(r.answer, r.json);
        inside(r.trace, r.json);
        HOLDS((r.kind == FS_DATA_MESSAGES) == (r.messages.n_bytes > 0));
        fs_buf_clear(&words);
        HOLDS(fs_data_record_words(&r, &words, NULL) == FS_OK);
    }
    fs_buf_done(&words);
    return 0;
}
