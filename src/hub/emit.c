/* See the header. */
#include "hub/emit.h"

#include "net/url.h"

#include <inttypes.h>

static void raw(fs_emit *e, const char *text)
{
    if (!e->rc)
        e->rc = fs_buf_append_str(&e->out, text, NULL);
}

static void before(fs_emit *e, const char *key)
{
    if (key) {
        fs_emit_key(e, key);
    } else if (e->comma) {
        raw(e, ",");
    }
    e->comma = true;
}

void fs_emit_begin(fs_emit *e, char bracket)
{
    char text[2] = { bracket, 0 };

    if (e->comma)
        raw(e, ",");
    raw(e, text);
    e->comma = false;
}

void fs_emit_end(fs_emit *e, char bracket)
{
    char text[2] = { bracket, 0 };

    raw(e, text);
    e->comma = true;
}

void fs_emit_key(fs_emit *e, const char *key)
{
    if (e->comma)
        raw(e, ",");
    if (!e->rc)
        e->rc = fs_json_quote(&e->out, fs_bytes_str(key), NULL);
    raw(e, ":");
    e->comma = false;
}

void fs_emit_text(fs_emit *e, const char *key, fs_bytes value)
{
    before(e, key);
    if (!e->rc)
        e->rc = fs_json_quote(&e->out, value, NULL);
}

void fs_emit_str(fs_emit *e, const char *key, const char *value)
{
    if (value)
        fs_emit_text(e, key, fs_bytes_str(value));
    else
        fs_emit_null(e, key);
}

void fs_emit_int(fs_emit *e, const char *key, int64_t value)
{
    before(e, key);
    if (!e->rc)
        e->rc = fs_buf_printf(&e->out, NULL, "%" PRId64, value);
}

void fs_emit_bool(fs_emit *e, const char *key, bool value)
{
    fs_emit_json(e, key, value ? "true" : "false");
}

void fs_emit_null(fs_emit *e, const char *key)
{
    fs_emit_json(e, key, NULL);
}

void fs_emit_time(fs_emit *e, const char *key, int64_t unix_ms)
{
    char text[32];

    fs_iso_time(unix_ms, text);
    fs_emit_str(e, key, text);
}

void fs_emit_json(fs_emit *e, const char *key, const char *json)
{
    before(e, key);
    raw(e, json ? json : "null");
}

void fs_emit_done(fs_emit *e)
{
    fs_buf_done(&e->out);
}
