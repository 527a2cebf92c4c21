/* A listening socket and the thread that hands what it accepts to libmicrohttpd. The library's own would be simpler, but
 * MHD_quiesce_daemon aborts the process when one of its threads looks at the socket in that moment (0.9.75, before a connection
 * limit as well). */
#ifndef FS_NET_LISTENER_H
#define FS_NET_LISTENER_H

#include "base/status.h"

#include <netdb.h>
#include <microhttpd.h>

typedef struct fs_listener fs_listener;

/* Binds and listens, so that clients queue from now on. address: IPv4 or IPv6, as name in an error; its port 0: any that is free. */
fs_status fs_listener_new(const struct addrinfo *address, const char *name, int port, fs_listener **ret, fs_error *err);
/* That it is bound to. */
int fs_listener_port(const fs_listener *l);
/* Hands connections to daemon, which has no socket of its own, while it has fewer than n_max; others wait. */
fs_status fs_listener_start(fs_listener *l, struct MHD_Daemon *daemon, unsigned n_max, fs_error *err);
/* Ends the thread and closes the socket; what is accepted stays with the daemon. NULL is allowed. */
void fs_listener_stop(fs_listener *l);

#endif
