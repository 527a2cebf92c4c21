/* What every unit test includes, in the order cmocka wants. */
#ifndef FS_TESTS_UNIT_H
#define FS_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "farseek.h"

/* rc with its sentence, so that a failing test says why. */
#define assert_ok(rc, err)                                                                                             \
    do {                                                                                                               \
        if ((rc) != FS_OK)                                                                                             \
            fail_msg("%s", (err).message);                                                                             \
    } while (0)

/* The sentence of a failure names what it should. */
#define assert_sentence(err, word)                                                                                     \
    do {                                                                                                               \
        if (!strstr((err).message, (word)))                                                                            \
            fail_msg("'%s' does not name '%s'", (err).message, (word));                                                \
    } while (0)

#endif
