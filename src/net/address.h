/* Which addresses are of the open internet: what a stranger names is connected to there only, never to this machine or its neighbours. */
#ifndef FS_NET_ADDRESS_H
#define FS_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* False for every address that the registries of special-purpose addresses (RFC 6890 and what followed it) do not call globally reachable, for those that carry such a
 * one within (mapped, 6to4, NAT64), and for what is neither IPv4 nor IPv6. */
bool fs_address_is_public(const struct sockaddr *a);

#endif
