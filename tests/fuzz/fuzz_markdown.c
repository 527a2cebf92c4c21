/* Any bytes as a card's Markdown: what comes out is HTML of a few elements with a few attributes, every one closed in order, whose addresses are of the
 * repository or of the web. It is looked at here by rules of its own, which know nothing of the renderer's. */
#include "fuzz/fuzz.h"

#include "base/utf8.h"
#include "hub/markdown.h"

#include <string.h>
#include <strings.h>

#define LINK    "/org/name/blob/main/d/"
#define PICTURE "/org/name/resolve/main/d/"
#define OMITTED "<!-- raw HTML omitted -->"

/* Elements that have an end, and those that have none. */
static const char *const elements[] = { "p",  "h1", "h2",    "h3",    "h4",    "h5", "h6", "ul", "ol",     "li", "blockquote", "pre",
                                        "code", "em", "strong", "del", "a", "table", "thead", "tbody", "tr", "th", "td", NULL };
static const char *const voids[] = { "br", "hr", "img", "input", NULL };

static bool is_word_of(const char *word, size_t n, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == n && memcmp(word, *list, n) == 0)
            return true;
    return false;
}

static bool begins(const char *text, size_t n, const char *with)
{
    return n >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

/* "&amp;" and its few like: a '&' that stands for itself may begin anything. */
static void is_reference(const char *p)
{
    static const char *const names[] = { "&amp;", "&lt;", "&gt;", "&quot;", "&#x27;", "&#39;" };
    size_t i = 0;

    while (i < sizeof names / sizeof *names && strncmp(p, names[i], strlen(names[i])) != 0)
        i++;
    HOLDS(i < sizeof names / sizeof *names);
}

static void is_attribute(const char *element, size_t n_element, const char *name, size_t n_name, const char *value, size_t n)
{
    const char *e = element;
    bool a = n_element == 1 && *e == 'a', img = begins(e, n_element, "img"), input = begins(e, n_element, "input");

#define IS(word) (n_name == strlen(word) && memcmp(name, word, n_name) == 0)
    if (a && IS("href"))
        HOLDS(n == 0 || value[0] == '#' || (n >= 7 && strncasecmp(value, "http://", 7) == 0) || (n >= 8 && strncasecmp(value, "https://", 8) == 0) ||
              (n >= 7 && strncasecmp(value, "mailto:", 7) == 0) || begins(value, n, LINK));
    else if (img && IS("src"))
        HOLDS(n == 0 || begins(value, n, PICTURE));
    else if (input && IS("type"))
        HOLDS(n == 8 && memcmp(value, "checkbox", 8) == 0);
    else if (input)
        HOLDS(n == 0 && (IS("checked") || IS("disabled")));
    else if (IS("align"))
        HOLDS((begins(value, n, "left") || begins(value, n, "right") || begins(value, n, "center")) && (begins(e, n_element, "td") || begins(e, n_element, "th")));
    else if (IS("class"))
        HOLDS(begins(e, n_element, "code") && begins(value, n, "language-"));
    else if (IS("start"))
        HOLDS(begins(e, n_element, "ol") && strspn(value, "0123456789") >= n);
    else
        HOLDS(((a || img) && IS("title")) || (img && IS("alt")));
}

/* The tag at p, which is a '<'; where it ends. open: a stack of the elements that are open. */
static const char *is_tag(const char *p, const char **open, size_t *n_open)
{
    bool closes = p[1] == '/';
    const char *name = p + 1 + closes, *end = name + strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
    size_t n = (size_t)(end - name);

    if (closes) {
        HOLDS(*end == '>' && *n_open > 0);
        --*n_open;
        HOLDS(strncmp(open[*n_open], name, n) == 0 && strspn(open[*n_open], "abcdefghijklmnopqrstuvwxyz0123456789") == n);
        return end + 1;
    }
    HOLDS(is_word_of(name, n, elements) || is_word_of(name, n, voids));
    while (*end == ' ' && end[1] != '/') {
        const char *attribute = end + 1, *value;
        size_t n_attribute = strspn(attribute, "abcdefghijklmnopqrstuvwxyz-");
        HOLDS(n_attribute && strncmp(attribute + n_attribute, "=\"", 2) == 0);
        value = attribute + n_attribute + 2;
        for (end = value; *end != '"'; end++) {
            HOLDS(*end && *end != '<' && *end != '>');
            if (*end == '&')
                is_reference(end);
        }
        is_attribute(name, n, attribute, n_attribute, value, (size_t)(end - value));
        end++;
    }
    if (is_word_of(name, n, voids)) {
        HOLDS(strncmp(end, " />", 3) == 0);
        return end + 3;
    }
    HOLDS(*end == '>');
    open[(*n_open)++] = name;
    return end + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_buf html = { 0 };
    fs_error err = { 0 };
    const char **open;
    size_t n_open = 0;

    if (n_bytes > 1 << 16)
        return 0;
    HOLDS(fs_markdown_html((fs_bytes){ data, n_bytes }, LINK, PICTURE, &html, &err) == FS_OK);
    open = malloc((html.n_bytes + 1) * sizeof *open);
    HOLDS(open && fs_utf8_valid(fs_buf_bytes(&html)) && (html.n_bytes == 0 || strlen(html.data) == html.n_bytes));
    for (const char *p = html.data; p && *p;) {
        if (strncmp(p, OMITTED, strlen(OMITTED)) == 0) {
            p += strlen(OMITTED);
        } else if (*p == '<') {
            p = is_tag(p, open, &n_open);
        } else {
            HOLDS(*p != '>');
            if (*p == '&')
                is_reference(p);
            p++;
        }
    }
    HOLDS(n_open == 0);
    free(open);
    fs_buf_done(&html);
    return 0;
}
