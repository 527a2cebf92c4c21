/* Which experts a token goes to, and with which weights: RN1 section 5. E routed experts, k of them a token. */
#ifndef FS_MODELS_ROUTE_H
#define FS_MODELS_ROUTE_H

#include "formats/config.h"
#include "kernels/rows.h"

/* s [E]: logits become scores. */
void fs_route_scores(const fs_config *c, const fs_rows_kernels *rows, float *s);
/* ids [k], ascending. bias [E] is read under noaux_tc only. scratch: 2E floats. */
void fs_route_choose(const fs_config *c, const fs_rows_kernels *rows, const float *s, const float *bias, int32_t *ids, float *scratch);
/* w [k] of the chosen. */
void fs_route_weigh(const fs_config *c, const float *s, const int32_t *ids, float *w);

#endif
