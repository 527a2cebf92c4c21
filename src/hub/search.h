/* One search over several hubs: this one and its peers, asked side by side. What a peer says is a stranger's: only rows that are of the form count, none
 * of its text is passed on unread, and one that is late, silent or endless costs its own rows alone. */
#ifndef FS_HUB_SEARCH_H
#define FS_HUB_SEARCH_H

#include "hub/internal.h"

#define FS_SEARCH_PEERS_MAX 16
#define FS_SEARCH_ROWS_MAX  100 /* of this hub, of each peer, and of all peers together */

typedef struct fs_search_row {
    char id[200]; /* "org/name" */
    char sha[41]; /* of main; "": not known */
    char task[97];
    int64_t modified_ms, downloads, likes;
    uint32_t peers; /* bit i: peer i has it */
    bool here;
    fs_emit json; /* the row as the API's list has it, without its end */
} fs_search_row;

typedef struct fs_search_peer {
    char url[300];
    char failure[120]; /* why it did not answer; "": it did */
} fs_search_peer;

typedef struct fs_search_result {
    fs_search_row *rows;
    size_t n, capacity;
    fs_search_peer peers[FS_SEARCH_PEERS_MAX];
    int n_peers;
} fs_search_result;

/* private_too: peers may be at private addresses. */
fs_status fs_search_new(bool private_too, fs_search **ret, fs_error *err);
void fs_search_stop(fs_search *s); /* any thread */
void fs_search_free(fs_search *s); /* waits for what is under way */

/* A row of this hub's own, before the peers are asked; NULL: no memory. Its json is the caller's to fill. */
fs_search_row *fs_search_add(fs_search_result *r);
/* Asks the peers of c's hub for type ("models", ...) with query, a query without '?', for about a second, and appends what they have: in turn, in each one's own order,
 * what is the same repository at the same commit once. False after a reply: too many searches. */
bool fs_search_peers(fs_hub_call *c, const char *type, const char *query, fs_search_result *r);
/* What a query is made of: name=value, escaped. */
fs_status fs_search_query_add(fs_buf *query, const char *name, const char *value, fs_error *err);
/* Ends r's rows as JSON, with the origins of each. */
void fs_search_emit(const fs_hub_call *c, fs_search_result *r, fs_emit *e);
void fs_search_done(fs_search_result *r);

#endif
