/* Addresses that strangers may name, and those that they may not. */
#include "unit.h"

#include "net/address.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return fs_address_is_public((const struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return fs_address_is_public((const struct sockaddr *)&v6);
}

static void the_open_internet_is_public(void **state)
{
    static const char *const addresses[] = { "1.1.1.1",   "8.8.8.8",         "9.255.255.255",   "11.0.0.0",         "100.63.255.255",    "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.0.1",
                                             "172.15.0.1", "172.32.0.0",      "192.0.1.0",       "192.167.255.255",  "192.169.0.0",       "198.17.0.1",  "198.20.0.0",      "223.255.255.255", "2606:4700::1111",
                                             "2a00::1",    "::ffff:1.1.1.1", "2002:101:101::1", "2001:200::1" };

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        if (!is_public(addresses[i]))
            fail_msg("%s is public", addresses[i]);
}

static void neighbours_are_not(void **state)
{
    static const char *const addresses[] = { "0.0.0.0",     "0.1.2.3",          "10.0.0.1",         "10.255.255.255", "100.64.0.1",         "100.127.255.255", "127.0.0.1",       "127.255.255.255", "169.254.169.254",
                                             "172.16.0.1",  "172.31.255.255",   "192.0.0.1",        "192.0.2.1",      "192.168.1.1",        "198.18.0.1",      "198.19.255.255",  "203.0.113.9",     "224.0.0.1",
                                             "239.1.1.1",   "240.0.0.1",        "255.255.255.255",  "::",             "::1",                "::7f00:1",        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
                                             "fc00::1",     "fd12:3456::1",     "fe80::1",          "fec0::1",        "ff02::1",            "2001::1",         "2001:db8::1",     "2002:7f00:1::1",  "2002:a00:1::",
                                             "3fff::1",     "4000::1",          "100::1" };

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        if (is_public(addresses[i]))
            fail_msg("%s is not public", addresses[i]);
    assert_false(fs_address_is_public(&(struct sockaddr){ .sa_family = AF_UNIX }));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_open_internet_is_public),
        cmocka_unit_test(neighbours_are_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
