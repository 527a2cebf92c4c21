/* An HTTP client, thin over libcurl: one request at a time on a connection that is kept, bodies handed over as they arrive.
 *
 * Only http and https. Redirects are followed, at most five; a token goes to the host it was given for and to no other. One thread at a
 * time uses a client. */
#ifndef FS_NET_FETCH_H
#define FS_NET_FETCH_H

#include "base/mem.h"

typedef struct fs_fetch fs_fetch;

/* n_bytes of an open file from offset. */
typedef struct fs_fetch_part {
    int fd;
    uint64_t offset, n_bytes;
    void (*sent)(void *ud, uint64_t n_bytes); /* so many more were read to be sent; may be NULL */
    void *ud;
} fs_fetch_part;

typedef struct fs_fetch_request {
    const char *method; /* NULL: GET, or POST with a body, or PUT with a part */
    const char *url;
    const char *token; /* "Authorization: Bearer"; NULL: none */
    const char *const *headers; /* "Name: value", ended by NULL; may be NULL */
    fs_bytes body;
    const fs_fetch_part *part; /* a body from a file; NULL: none */
    uint64_t range_begin, range_bytes; /* range_bytes 0: the whole */
    int silence_seconds; /* after which a connection that says nothing is given up; 0: 30 */
} fs_fetch_request;

/* What arrives of a reply with status 200 to 299; a failure stops the transfer and is returned. */
typedef fs_status fs_fetch_sink(void *ud, const void *data, size_t n_bytes, fs_error *err);

fs_status fs_fetch_new(const char *user_agent, fs_fetch **ret, fs_error *err);
void fs_fetch_free(fs_fetch *f);
/* Asked now and then during a transfer; false stops it: FS_ERR_INTERRUPTED. Called on the requesting thread. */
void fs_fetch_watch(fs_fetch *f, bool (*go_on)(void *ud), void *ud);

/* For addresses that strangers chose: from now on nothing but public addresses is connected to (private_too: any), no redirect is followed, no proxy asked,
 * and a request ends after seconds. Addresses are looked at where the connection is made, so that no name can mean another one there. */
void fs_fetch_guard(fs_fetch *f, bool private_too, int seconds);
/* For an origin that was chosen, that of base, and what it sends us to: addresses elsewhere that are not public are refused, whatever leads there, a name or a redirect.
 * base is borrowed. What goes elsewhere goes by no proxy. */
void fs_fetch_keep_to(fs_fetch *f, const char *base);

/* Whether two URLs have scheme, host and port in common: a token for one may go to the other. */
bool fs_fetch_same_origin(const char *a, const char *b);

/* FS_OK whenever the server answered, whatever its status. FS_ERR_IO when it did not, or not to the end. */
fs_status fs_fetch_run(fs_fetch *f, const fs_fetch_request *q, fs_fetch_sink *sink, void *ud, fs_error *err);
/* The same into out, at most max_bytes, of any status. */
fs_status fs_fetch_whole(fs_fetch *f, const fs_fetch_request *q, size_t max_bytes, fs_buf *out, fs_error *err);

/* Of the last reply. A header's value, NULL when absent, valid until the next is asked for; the names' case does not matter. */
int fs_fetch_status(const fs_fetch *f);
/* The URL that it came from, behind redirects; valid until the next request. "": none came. */
const char *fs_fetch_url(const fs_fetch *f);
const char *fs_fetch_header(fs_fetch *f, const char *name);
/* The URL of rel in a Link header, into ret; false: there is none. */
bool fs_fetch_link(fs_fetch *f, const char *rel, fs_buf *ret);

#endif
