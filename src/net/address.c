/* See the header. */
#include "net/address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static bool is_public_v4(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } special[] = {
        { 0x00000000, 8 },  /* this network */
        { 0x0a000000, 8 },  /* private */
        { 0x64400000, 10 }, /* shared by a provider's customers */
        { 0x7f000000, 8 },  /* this machine */
        { 0xa9fe0000, 16 }, /* link-local: clouds answer questions about themselves there */
        { 0xac100000, 12 }, /* private */
        { 0xc0000000, 24 }, /* protocol assignments */
        { 0xc0000200, 24 }, /* documentation */
        { 0xc0586300, 24 }, /* 6to4 relays, once */
        { 0xc0a80000, 16 }, /* private */
        { 0xc6120000, 15 }, /* benchmarks */
        { 0xc6336400, 24 }, /* documentation */
        { 0xcb007100, 24 }, /* documentation */
        { 0xe0000000, 3 },  /* multicast, reserved, broadcast */
    };

    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if ((a ^ special[i].net) >> (32 - special[i].bits) == 0)
            return false;
    return true;
}

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Global unicast is 2000::/3; everything else is local, reserved, or another address in disguise. */
static bool is_public_v6(const uint8_t a[16])
{
    static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    uint32_t first = u32_at(a);

    if (memcmp(a, mapped, sizeof mapped) == 0)
        return is_public_v4(u32_at(a + 12));
    if (first >> 29 != 1)
        return false;
    if (first >> 16 == 0x2002) /* 6to4 */
        return is_public_v4(u32_at(a + 2));
    return first >> 9 != 0x20010000 >> 9 && first != 0x20010db8 && first >> 12 != 0x3fff0000 >> 12; /* protocol assignments (Teredo too), documentation */
}

bool fs_address_is_public(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return is_public_v4(ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr));
    return a->sa_family == AF_INET6 && is_public_v6(((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr);
}
