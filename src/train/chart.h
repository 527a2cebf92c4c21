/* Charts as SVG within HTML: curves, and a map of values over steps. Colours and lines come from the style sheet of the page
 * (fs_chart_style), text is escaped. */
#ifndef FS_TRAIN_CHART_H
#define FS_TRAIN_CHART_H

#include "base/mem.h"

#define FS_CHART_COLOURS 8 /* series beyond take them again */

typedef struct fs_series {
    const char *name;
    const double *x, *y; /* [n], x rising; NAN in y is a gap */
    size_t n;
} fs_series;

/* More points than pixels are drawn as their mean within the band of their least and greatest; a series of many points also as
 * a running mean. */
fs_status fs_chart_curves(fs_buf *out, const char *title, const char *x_name, const fs_series *series, size_t n_series, fs_error *err);

/* values [n_steps, n_rows]: a column a step, dark is low. Neighbouring steps are averaged where there are too many. */
fs_status fs_chart_map(fs_buf *out, const char *title, const char *x_name, const char *row_name, const double *x, const double *values,
                       size_t n_steps, size_t n_rows, fs_error *err);

extern const char fs_chart_style[];
/* Shows the values under the pointer. */
extern const char fs_chart_script[];

fs_status fs_html_text(fs_buf *out, const char *text, fs_error *err);

#endif
