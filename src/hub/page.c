/* See the header. */
#include "hub/page.h"

#include "hub/markdown.h"
#include "net/url.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

const char fs_page_style[] =
    ":root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--ground:#fff;--shade:#f6f8fa;--accent:#1a5fb4;--good:#26743b;--bad:#a51d2d}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e3e8ee;--soft:#9aa5b1;--line:#323a45;--ground:#15191f;--shade:#1d232b;--accent:#78aeed;--good:#57c785;--bad:#f66151}}"
    "*{box-sizing:border-box}body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground)}"
    "a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}"
    "header,main,footer{max-width:70rem;margin:0 auto;padding:.75rem 1rem}"
    "header{display:flex;gap:1rem;align-items:center;flex-wrap:wrap;border-bottom:1px solid var(--line)}header b a{color:var(--ink)}"
    "header form{flex:1;display:flex;min-width:12rem}input,select,button,textarea{font:inherit;color:inherit;background:var(--shade);border:1px solid var(--line);border-radius:6px;padding:.3rem .6rem}"
    "header input{flex:1;min-width:0}h1{font-size:1.5rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.2rem}"
    "nav.tabs{display:flex;flex-wrap:wrap;gap:0 1.25rem;border-bottom:1px solid var(--line);margin:.75rem 0}nav.tabs a{padding:.4rem 0;white-space:nowrap}"
    "nav.tabs a[aria-current]{border-bottom:2px solid var(--accent);color:var(--ink);font-weight:600}"
    ".tag{display:inline-block;background:var(--shade);border:1px solid var(--line);border-radius:1rem;padding:0 .6rem;margin:.1rem .2rem .1rem 0;font-size:.85rem;color:var(--ink)}"
    ".soft{color:var(--soft);font-size:.9rem}.bad{color:var(--bad)}.good{color:var(--good)}"
    "ul.list{list-style:none;padding:0;margin:.5rem 0}ul.list li{padding:.6rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:baseline}table.fit{width:auto}"
    "td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td.name{overflow-wrap:anywhere;min-width:10rem}td.word{overflow-wrap:anywhere;min-width:4rem}td.hash{white-space:nowrap}"
    "code,pre{font:.87em ui-monospace,monospace;background:var(--shade)}code{padding:.1em .3em;border-radius:4px;overflow-wrap:anywhere}pre{padding:.8rem;border-radius:6px;overflow-x:auto}pre code{padding:0}"
    ".card{border:1px solid var(--line);border-radius:8px;padding:0 1.25rem .75rem;margin:1rem 0;overflow-wrap:anywhere}.card img{max-width:100%}"
    ".card table{width:auto;display:block;overflow-x:auto}.card th,.card td{border:1px solid var(--line);padding:.25rem .6rem}"
    "blockquote{margin:0;padding-left:1rem;border-left:3px solid var(--line);color:var(--soft)}"
    ".add{background:#26743b22;display:block}.del{background:#a51d2d22;display:block}.at{color:var(--soft);display:block}"
    "form.stack{max-width:40rem;margin:1rem 0}form.stack label{display:block;margin:.6rem 0;font-weight:600}form.stack label.line{font-weight:400}form.stack>button{margin-top:.3rem}"
    "form.stack input:not([type=checkbox]):not([type=radio]),form.stack select,form.stack textarea{display:block;width:100%;margin-top:.2rem;font-weight:400}"
    "textarea{min-height:7rem;resize:vertical}form.inline{display:inline-block;margin:.1rem .4rem .1rem 0}button{cursor:pointer}a.button{display:inline-block;border:1px solid var(--line);border-radius:6px;background:var(--shade);padding:.3rem .6rem}"
    "button.main{background:var(--accent);border-color:var(--accent);color:var(--ground);font-weight:600}button.danger{border-color:var(--bad);color:var(--bad)}"
    "summary{cursor:pointer;color:var(--accent);padding:.2rem 0}.note{border:1px solid var(--good);border-radius:8px;padding:.2rem 1rem;margin:1rem 0;overflow-wrap:anywhere}"
    "form.filters{display:flex;gap:.5rem;flex-wrap:wrap;margin:.5rem 0}form.filters select{max-width:11rem}.meta{display:flex;gap:.75rem;align-items:center;margin:.5rem 0}time{white-space:nowrap}section.danger{border:1px solid var(--bad);border-radius:8px;padding:0 1rem;margin:1.5rem 0}"
    "@media(max-width:40rem){header{gap:.5rem .9rem}header form{order:1;flex-basis:100%}td.hash{display:none}th,td{padding-right:.5rem}nav.tabs{column-gap:.9rem}form.inline{margin-right:0}}"
    "footer{border-top:1px solid var(--line);margin-top:2rem;color:var(--soft);font-size:.85rem}";

/* ---- what is put ---- */
void fs_page_put(fs_page *p, const char *format, ...)
{
    char text[4096];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (!p->rc)
        p->rc = n < 0 || n >= (int)sizeof text ? fs_fail(&p->err, FS_ERR_ARGUMENT, "a piece of a page is too long") : fs_buf_append(&p->out, text, (size_t)n, &p->err);
}

static void raw(fs_page *p, const char *text, size_t n)
{
    if (!p->rc)
        p->rc = fs_buf_append(&p->out, text, n, &p->err);
}

void fs_page_bytes(fs_page *p, fs_bytes text)
{
    size_t begin = 0;

    for (size_t i = 0; i <= text.n_bytes; i++) {
        const char *as = NULL;
        uint8_t ch = i < text.n_bytes ? text.data[i] : 0;
        switch (ch) {
        case '&': as = "&amp;"; break;
        case '<': as = "&lt;"; break;
        case '>': as = "&gt;"; break;
        case '"': as = "&quot;"; break;
        case '\'': as = "&#39;"; break;
        default:
            if (ch < 32 && ch != '\n' && ch != '\t' && ch != '\r')
                as = i < text.n_bytes ? "\xef\xbf\xbd" : "";
        }
        if (!as)
            continue;
        raw(p, (const char *)text.data + begin, i - begin);
        raw(p, as, strlen(as));
        begin = i + 1;
    }
}

void fs_page_text(fs_page *p, const char *text)
{
    fs_page_bytes(p, fs_bytes_str(text));
}

void fs_page_path(fs_page *p, const char *path)
{
    if (!p->rc)
        p->rc = fs_url_encode(&p->out, fs_bytes_str(path), "/", &p->err); /* leaves no character that HTML knows */
}

void fs_page_word(fs_page *p, const char *word)
{
    if (!p->rc)
        p->rc = fs_url_encode(&p->out, fs_bytes_str(word), "", &p->err);
}

void fs_page_size(fs_page *p, uint64_t n_bytes)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    double v = (double)n_bytes;
    size_t u = 0;

    for (; v >= 999.5 && u < 5; u++)
        v /= 1000;
    fs_page_put(p, u && v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

void fs_page_date(fs_page *p, int64_t unix_ms)
{
    char iso[32];

    fs_iso_time(unix_ms, iso);
    fs_page_put(p, "<time datetime=\"%s\" title=\"%s\">%.10s</time>", iso, iso, iso);
}

void fs_page_markdown(fs_page *p, fs_bytes text, const char *link, const char *picture)
{
    if (!p->rc)
        p->rc = fs_markdown_html(text, link, picture, &p->out, &p->err);
}

/* ---- pages ---- */

/* And back to this page. */
static void put_sign_in(fs_page *p, const fs_hub_call *c, const char *text)
{
    const char *uri = fs_http_uri(c->http);

    fs_page_put(p, "<a href=\"/login");
    if (strcmp(fs_http_method(c->http), "GET") == 0 && strcmp(uri, "/") != 0 && strncmp(uri, "/login", 6) != 0) {
        fs_page_put(p, "?to=");
        fs_page_word(p, uri);
    }
    fs_page_put(p, "\">%s</a>", text);
}
void fs_page_begin(fs_page *p, fs_hub_call *c, const char *title)
{
    const char *asked = fs_http_query(c->http, "search", 0);

    fs_page_put(p, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>");
    fs_page_text(p, title);
    fs_page_put(p, "</title><link rel=\"stylesheet\" href=\"/static/style.css\"><link rel=\"icon\" href=\"data:,\"><body><header><b><a href=\"/\">Hub</a></b>"
                   "<form action=\"/\"><input name=\"search\" type=\"search\" placeholder=\"Search models\" aria-label=\"Search models\" value=\"");
    fs_page_text(p, asked ? asked : "");
    fs_page_put(p, "\"></form><a href=\"/\">Models</a><a href=\"/datasets\">Datasets</a><a href=\"/spaces\">Spaces</a>");
    if (c->user.id) {
        fs_page_put(p, "<a href=\"/");
        fs_page_path(p, c->user.name);
        fs_page_put(p, "\">");
        fs_page_text(p, c->user.name);
        fs_page_put(p, "</a>%s%s", *c->session && c->user.may_write ? "<a href=\"/new\">New</a>" : "", *c->session ? "<a href=\"/settings\">Settings</a>" : "");
    } else {
        put_sign_in(p, c, "Sign in");
    }
    fs_page_put(p, "</header><main>");
}

void fs_page_end(fs_page *p, fs_hub_call *c, int status)
{
    fs_page_put(p, "</main><footer>A Farseek hub. Clients: <code>HF_ENDPOINT=");
    fs_page_text(p, c->base);
    fs_page_put(p, "</code></footer></body></html>");
    if (c->replied) {
        fs_buf_done(&p->out);
        return;
    }
    c->replied = true;
    fs_http_reply_header(c->http, "Content-Security-Policy",
                         "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    fs_http_reply_header(c->http, "X-Content-Type-Options", "nosniff");
    fs_http_reply_header(c->http, "Referrer-Policy", "same-origin");
    fs_http_reply_header(c->http, "Cache-Control", *c->session ? "no-store" : "no-cache");
    if (p->rc) {
        static const char sorry[] = "<!doctype html><title>Sorry</title>The page could not be made.";
        fs_http_reply(c->http, 503, "text/html; charset=utf-8", sorry, sizeof sorry - 1);
    } else {
        fs_http_reply_buf(c->http, status, "text/html; charset=utf-8", &p->out);
    }
    fs_buf_done(&p->out);
}

void fs_page_error(fs_hub_call *c, int status, const char *message)
{
    fs_page p = { .rc = FS_OK };

    fs_page_begin(&p, c, status == 404 ? "Not here" : "Sorry");
    fs_page_put(&p, "<h1>%d</h1><p>", status);
    fs_page_text(&p, message);
    fs_page_put(&p, "</p>");
    if (!c->user.id) {
        fs_page_put(&p, "<p>Some things are seen only by who is signed in: ");
        put_sign_in(&p, c, "sign in");
        fs_page_put(&p, ".</p>");
    }
    fs_page_end(&p, c, status);
}
