/* Markdown of anybody's as HTML that does nothing. */
#ifndef FS_HUB_MARKDOWN_H
#define FS_HUB_MARKDOWN_H

#include "base/mem.h"

/* GitHub's Markdown, at most 2 MiB of it, appended to out. Raw HTML is left out, and so are links other than http, https, mailto and those within the
 * repository, which are turned into addresses: files below link, pictures below picture (both end with '/'). */
fs_status fs_markdown_html(fs_bytes text, const char *link, const char *picture, fs_buf *out, fs_error *err);

#endif
