/* What streaming of experts did, for people and in JSON. */
#ifndef FS_CLI_STREAM_H
#define FS_CLI_STREAM_H

#include "engine/engine.h"

#include <stdio.h>

/* What happened between two looks. */
fs_stream_stats fs_stream_between(const fs_stream_stats *before, const fs_stream_stats *after);
/* Share of the needed experts that were in memory. */
double fs_stream_hit_rate(const fs_stream_stats *s);
/* One line of the model's, since it was opened; nothing where no expert is streamed. */
void fs_stream_print(const fs_model *m, FILE *out);

#endif
