/* See the header. */
#include "hub/markdown.h"

#include <cmark-gfm-core-extensions.h>
#include <cmark-gfm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MARKDOWN_MAX ((size_t)2 << 20)

static bool is_absolute(const char *url)
{
    size_t n = strcspn(url, ":/?#");

    return url[n] == ':' || (url[0] == '/' && url[1] == '/');
}

static bool is_allowed(const char *url)
{
    return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0 || strncasecmp(url, "mailto:", 7) == 0 || url[0] == '#';
}

/* An address within the repository, or one of the few kinds that go out; anything else leads nowhere. */
static fs_status mend_url(cmark_node *node, const char *base, bool picture, fs_error *err)
{
    const char *url = cmark_node_get_url(node);
    fs_buf whole = { 0 };
    fs_status rc = FS_OK;

    if (!url || (is_allowed(url) && !picture))
        return FS_OK;
    if (is_absolute(url) || url[0] == '#') {
        cmark_node_set_url(node, picture ? "" : "#"); /* pictures are of the repository: no page tells another host who reads it */
    } else {
        rc = fs_buf_printf(&whole, err, "%s%s", base, url + strspn(url, "./"));
        if (!rc)
            cmark_node_set_url(node, whole.data);
    }
    fs_buf_done(&whole);
    return rc;
}

static void extend(cmark_parser *parser)
{
    static const char *const names[] = { "table", "strikethrough", "autolink", "tasklist" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cmark_syntax_extension *e = cmark_find_syntax_extension(names[i]);
        if (e)
            cmark_parser_attach_syntax_extension(parser, e);
    }
}

fs_status fs_markdown_html(fs_bytes text, const char *link, const char *picture, fs_buf *out, fs_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const int options = CMARK_OPT_DEFAULT | CMARK_OPT_VALIDATE_UTF8; /* without UNSAFE: no raw HTML, no javascript: */
    cmark_parser *parser;
    cmark_node *document;
    cmark_iter *it;
    char *html = NULL;
    fs_status rc = FS_OK;

    pthread_once(&once, cmark_gfm_core_extensions_ensure_registered);
    if (text.n_bytes > MARKDOWN_MAX)
        text.n_bytes = MARKDOWN_MAX;
    parser = cmark_parser_new(options);
    extend(parser);
    cmark_parser_feed(parser, (const char *)text.data, text.n_bytes);
    document = cmark_parser_finish(parser);
    it = cmark_iter_new(document);
    for (cmark_event_type event; !rc && (event = cmark_iter_next(it)) != CMARK_EVENT_DONE;) {
        cmark_node *node = cmark_iter_get_node(it);
        if (event != CMARK_EVENT_ENTER)
            continue;
        if (cmark_node_get_type(node) == CMARK_NODE_LINK)
            rc = mend_url(node, link, false, err);
        else if (cmark_node_get_type(node) == CMARK_NODE_IMAGE)
            rc = mend_url(node, picture, true, err);
    }
    cmark_iter_free(it);
    if (!rc)
        html = cmark_render_html(document, options, cmark_parser_get_syntax_extensions(parser));
    if (html)
        rc = fs_buf_append(out, html, strlen(html), err);
    free(html);
    cmark_node_free(document);
    cmark_parser_free(parser);
    return rc;
}
