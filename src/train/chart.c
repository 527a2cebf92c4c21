/* See the header. */
#include "train/chart.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH        640
#define HEIGHT       260
#define LEFT         58
#define RIGHT        12
#define TOP          40
#define BOTTOM       34
#define PLOT_WIDTH   (WIDTH - LEFT - RIGHT)
#define PLOT_HEIGHT  (HEIGHT - TOP - BOTTOM)
#define SMOOTH_FROM  60  /* points */
#define SMOOTH_SHARE 40  /* a running mean takes 1 of so many points to both sides */
#define MAP_COLUMNS  160

const char fs_chart_style[] =
    "figure.chart{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:6px;position:relative}"
    "figure.chart svg{display:block;width:100%;height:auto}figure.chart text{fill:var(--text);font:12px system-ui,sans-serif}"
    "figure.chart .title{font-weight:600;font-size:14px}figure.chart .tick{fill:var(--faint);font-size:11px}"
    "figure.chart .grid{stroke:var(--line);stroke-width:1}figure.chart .line{fill:none;stroke-width:1.6;stroke-linejoin:round}"
    "figure.chart .raw{fill:none;stroke-width:1;opacity:.35}figure.chart .band{stroke:none;opacity:.18}"
    "figure.chart .rule{stroke:var(--faint);stroke-width:1}"
    ".c0{stroke:#3b7dd8;fill:#3b7dd8}.c1{stroke:#e0762f;fill:#e0762f}.c2{stroke:#2f9e5b;fill:#2f9e5b}.c3{stroke:#c0392b;fill:#c0392b}"
    ".c4{stroke:#8e5bd0;fill:#8e5bd0}.c5{stroke:#9a7b4f;fill:#9a7b4f}.c6{stroke:#d14f9b;fill:#d14f9b}.c7{stroke:#5f8d8d;fill:#5f8d8d}";

const char fs_chart_script[] =
    "for(const f of document.querySelectorAll('figure.chart[data-x]')){const s=f.querySelector('svg'),r=f.querySelector('.rule'),o=f.querySelector('.at');"
    "const d=JSON.parse(f.dataset.x);f.addEventListener('mousemove',e=>{const b=s.getBoundingClientRect(),k=640/b.width,px=(e.clientX-b.left)*k;"
    "const x=d.a+(px-58)/570*(d.b-d.a);if(x<d.a||x>d.b){o.textContent='';return}r.setAttribute('x1',px);r.setAttribute('x2',px);"
    "r.style.display='';let t=d.n+' '+Math.round(x);for(const c of d.s){let i=0,j=c.x.length-1;while(j-i>1){const m=i+j>>1;c.x[m]<=x?i=m:j=m}"
    "const q=j>=0&&Math.abs(c.x[j]-x)<Math.abs(c.x[i]-x)?j:i;if(c.y[q]!=null)t+='  '+(d.s.length>1?c.n+' ':'')+(+c.y[q].toPrecision(5))}o.textContent=t});"
    "f.addEventListener('mouseleave',()=>{o.textContent='';r.style.display='none'})}";

fs_status fs_html_text(fs_buf *out, const char *text, fs_error *err)
{
    fs_status rc = FS_OK;

    for (; *text && !rc; text++) {
        const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '"' ? "&quot;" : NULL;
        rc = entity ? fs_buf_append_str(out, entity, err) : fs_buf_append(out, text, 1, err);
    }
    return rc;
}

/* ---- scales ---- */

typedef struct scale {
    double low, high; /* low < high */
    double step;      /* between two ticks */
} scale;

/* About n_ticks steps of a round number; widened to whole steps where asked. */
static scale scale_of(double low, double high, int n_ticks, bool widen)
{
    double span, step;
    scale s;

    if (!(low <= high)) {
        low = 0;
        high = 1;
    }
    if (low == high) {
        double by = low == 0 ? 1 : fabs(low) * 0.1;
        low -= by;
        high += by;
    }
    span = high - low;
    step = pow(10, floor(log10(span / n_ticks)));
    step *= span / step > 5 * n_ticks ? 10 : span / step > 2 * n_ticks ? 5 : span / step > n_ticks ? 2 : 1;
    s = (scale){ widen ? floor(low / step) * step : low, widen ? ceil(high / step) * step : high, step };
    return s;
}

static double x_at(const scale *s, double x)
{
    return LEFT + (x - s->low) / (s->high - s->low) * PLOT_WIDTH;
}

static double y_at(const scale *s, double y)
{
    return TOP + PLOT_HEIGHT - (y - s->low) / (s->high - s->low) * PLOT_HEIGHT;
}

static fs_status put_ticks(fs_buf *out, const scale *x, const scale *y, fs_error *err)
{
    fs_status rc = FS_OK;

    for (double v = ceil(y->low / y->step) * y->step; v <= y->high + y->step * 1e-9 && !rc; v += y->step)
        rc = fs_buf_printf(out, err, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" "
                                     "text-anchor=\"end\">%.6g</text>",
                           LEFT, WIDTH - RIGHT, y_at(y, v), y_at(y, v), LEFT - 6, y_at(y, v) + 4, fabs(v) < y->step * 1e-9 ? 0 : v);
    for (double v = ceil(x->low / x->step) * x->step; v <= x->high + x->step * 1e-9 && !rc; v += x->step)
        rc = fs_buf_printf(out, err, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>", x_at(x, v), HEIGHT - BOTTOM + 16,
                           fabs(v) < x->step * 1e-9 ? 0 : v);
    return rc;
}

static fs_status put_frame(fs_buf *out, const char *title, const char *x_name, const char *data, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, "<figure class=\"chart\"", err);

    if (!rc && data) {
        rc = fs_buf_append_str(out, " data-x=\"", err);
        if (!rc)
            rc = fs_html_text(out, data, err);
        if (!rc)
            rc = fs_buf_append_str(out, "\"", err);
    }
    if (!rc)
        rc = fs_buf_printf(out, err, "><svg viewBox=\"0 0 %d %d\" role=\"img\"><text class=\"title\" x=\"%d\" y=\"18\">", WIDTH, HEIGHT, LEFT);
    if (!rc)
        rc = fs_html_text(out, title, err);
    if (!rc)
        rc = fs_buf_printf(out, err, "</text><text class=\"tick at\" x=\"%d\" y=\"18\" text-anchor=\"end\"></text><text class=\"tick\" x=\"%d\" y=\"%d\" "
                                     "text-anchor=\"end\">",
                           WIDTH - RIGHT, WIDTH - RIGHT, HEIGHT - 4);
    if (!rc)
        rc = fs_html_text(out, x_name, err);
    return rc ? rc : fs_buf_append_str(out, "</text>", err);
}

/* ---- curves ---- */

/* A series in at most PLOT_WIDTH points: means with the least and greatest that they stand for. */
typedef struct reduced {
    double x[PLOT_WIDTH], mean[PLOT_WIDTH], least[PLOT_WIDTH], greatest[PLOT_WIDTH];
    size_t n;
    bool many; /* a point stands for several */
} reduced;

static void reduce(const fs_series *s, reduced *r)
{
    size_t most = s->n < PLOT_WIDTH ? s->n : PLOT_WIDTH;

    r->n = 0;
    r->many = s->n > PLOT_WIDTH;
    for (size_t k = 0; k < most; k++) {
        size_t begin = k * s->n / most, end = (k + 1) * s->n / most, n = 0;
        double sum = 0, least = INFINITY, greatest = -INFINITY;
        for (size_t i = begin; i < end; i++)
            if (!isnan(s->y[i])) {
                sum += s->y[i];
                least = s->y[i] < least ? s->y[i] : least;
                greatest = s->y[i] > greatest ? s->y[i] : greatest;
                n++;
            }
        r->x[r->n] = s->x[begin + (end - begin) / 2];
        r->mean[r->n] = n ? sum / (double)n : NAN;
        r->least[r->n] = n ? least : NAN;
        r->greatest[r->n++] = n ? greatest : NAN;
    }
}

/* A polyline a stretch without gaps. */
static fs_status put_line(fs_buf *out, const char *class, size_t colour, const reduced *r, const double *y, const scale *sx, const scale *sy,
                          fs_error *err)
{
    bool open = false;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < r->n && !rc; i++) {
        if (isnan(y[i])) {
            rc = open ? fs_buf_append_str(out, "\"/>", err) : FS_OK;
            open = false;
            continue;
        }
        if (!open)
            rc = fs_buf_printf(out, err, "<polyline class=\"%s c%zu\" style=\"fill:none\" points=\"", class, colour);
        open = true;
        if (!rc)
            rc = fs_buf_printf(out, err, "%.1f,%.1f ", x_at(sx, r->x[i]), y_at(sy, y[i]));
    }
    return rc || !open ? rc : fs_buf_append_str(out, "\"/>", err);
}

static fs_status put_band(fs_buf *out, size_t colour, const reduced *r, const scale *sx, const scale *sy, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "<polygon class=\"band c%zu\" style=\"stroke:none\" points=\"", colour);

    for (size_t i = 0; i < r->n && !rc; i++)
        if (!isnan(r->least[i]))
            rc = fs_buf_printf(out, err, "%.1f,%.1f ", x_at(sx, r->x[i]), y_at(sy, r->least[i]));
    for (size_t i = r->n; i-- > 0 && !rc;)
        if (!isnan(r->greatest[i]))
            rc = fs_buf_printf(out, err, "%.1f,%.1f ", x_at(sx, r->x[i]), y_at(sy, r->greatest[i]));
    return rc ? rc : fs_buf_append_str(out, "\"/>", err);
}

/* The mean of as many points to the left as to the right; a gap stays one. */
static double mean_around(const reduced *r, size_t i)
{
    size_t reach = r->n / SMOOTH_SHARE, n = 0;
    double sum = 0;

    reach = reach > i ? i : reach;
    reach = reach > r->n - 1 - i ? r->n - 1 - i : reach;
    if (isnan(r->mean[i]))
        return NAN;
    for (size_t k = i - reach; k <= i + reach; k++)
        if (!isnan(r->mean[k])) {
            sum += r->mean[k];
            n++;
        }
    return sum / (double)n;
}

static fs_status put_series(fs_buf *out, const fs_series *s, size_t colour, const scale *sx, const scale *sy, fs_error *err)
{
    reduced *r = malloc(sizeof *r);
    double smooth[PLOT_WIDTH];
    fs_status rc = FS_OK;

    if (!r)
        return fs_fail_memory(err, sizeof *r);
    reduce(s, r);
    for (size_t i = 0; i < r->n; i++)
        smooth[i] = mean_around(r, i);
    if (r->many)
        rc = put_band(out, colour, r, sx, sy, err);
    if (!rc && r->n >= SMOOTH_FROM)
        rc = put_line(out, "raw", colour, r, r->mean, sx, sy, err);
    if (!rc)
        rc = put_line(out, "line", colour, r, r->n >= SMOOTH_FROM ? smooth : r->mean, sx, sy, err);
    if (!rc && r->n == 1 && !isnan(r->mean[0]))
        rc = fs_buf_printf(out, err, "<circle class=\"c%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>", colour, x_at(sx, r->x[0]), y_at(sy, r->mean[0]));
    free(r);
    return rc;
}

static fs_status put_legend(fs_buf *out, const fs_series *series, size_t n_series, fs_error *err)
{
    double x = LEFT;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n_series && n_series > 1 && x < WIDTH - 60 && !rc; i++) {
        rc = fs_buf_printf(out, err, "<rect class=\"c%zu\" x=\"%.0f\" y=\"23\" width=\"10\" height=\"4\"/><text class=\"tick\" x=\"%.0f\" y=\"29\">",
                           i % FS_CHART_COLOURS, x, x + 14);
        if (!rc)
            rc = fs_html_text(out, series[i].name, err);
        if (!rc)
            rc = fs_buf_append_str(out, "</text>", err);
        x += 26 + 6.2 * (double)strlen(series[i].name);
    }
    return rc;
}

static fs_status put_json_name(fs_buf *out, const char *name, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, "\"", err);

    for (; *name && !rc; name++)
        if ((unsigned char)*name >= 0x20 && *name != '"' && *name != '\\')
            rc = fs_buf_append(out, name, 1, err);
    return rc ? rc : fs_buf_append_str(out, "\"", err);
}

static fs_status put_numbers(fs_buf *out, const char *key, const double *v, size_t n, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, key, err);

    for (size_t i = 0; i < n && !rc; i++)
        rc = isnan(v[i]) ? fs_buf_printf(out, err, "%snull", i ? "," : "") : fs_buf_printf(out, err, "%s%.6g", i ? "," : "", v[i]);
    return rc ? rc : fs_buf_append_str(out, "]", err);
}

/* What the script shows under the pointer. */
static fs_status describe(fs_buf *out, const char *x_name, const fs_series *series, size_t n_series, const scale *sx, fs_error *err)
{
    reduced *r = malloc(sizeof *r);
    fs_status rc = r ? fs_buf_printf(out, err, "{\"a\":%.9g,\"b\":%.9g,\"n\":", sx->low, sx->high) : fs_fail_memory(err, sizeof *r);

    if (!rc)
        rc = put_json_name(out, x_name, err);
    if (!rc)
        rc = fs_buf_append_str(out, ",\"s\":[", err);
    for (size_t i = 0; i < n_series && !rc; i++) {
        reduce(&series[i], r);
        rc = fs_buf_append_str(out, i ? ",{\"n\":" : "{\"n\":", err);
        if (!rc)
            rc = put_json_name(out, series[i].name, err);
        if (!rc)
            rc = put_numbers(out, ",\"x\":[", r->x, r->n, err);
        if (!rc)
            rc = put_numbers(out, ",\"y\":[", r->mean, r->n, err);
        if (!rc)
            rc = fs_buf_append_str(out, "}", err);
    }
    free(r);
    return rc ? rc : fs_buf_append_str(out, "]}", err);
}

fs_status fs_chart_curves(fs_buf *out, const char *title, const char *x_name, const fs_series *series, size_t n_series, fs_error *err)
{
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    fs_buf data = { 0 };
    scale sx, sy;
    fs_status rc;

    for (size_t i = 0; i < n_series; i++)
        for (size_t k = 0; k < series[i].n; k++) {
            x_low = fmin(x_low, series[i].x[k]);
            x_high = fmax(x_high, series[i].x[k]);
            y_low = fmin(y_low, series[i].y[k]); /* not a NaN's */
            y_high = fmax(y_high, series[i].y[k]);
        }
    sx = scale_of(x_low, x_high, 9, false);
    sy = scale_of(y_low, y_high, 5, true);
    rc = describe(&data, x_name, series, n_series, &sx, err);
    if (!rc)
        rc = put_frame(out, title, x_name, data.data, err);
    if (!rc)
        rc = put_ticks(out, &sx, &sy, err);
    if (!rc)
        rc = fs_buf_printf(out, err, "<line class=\"rule\" style=\"display:none\" y1=\"%d\" y2=\"%d\"/>", TOP, HEIGHT - BOTTOM);
    for (size_t i = 0; i < n_series && !rc; i++)
        rc = put_series(out, &series[i], i % FS_CHART_COLOURS, &sx, &sy, err);
    if (!rc)
        rc = put_legend(out, series, n_series, err);
    fs_buf_done(&data);
    return rc ? rc : fs_buf_append_str(out, "</svg></figure>\n", err);
}

/* ---- maps ---- */

/* From dark blue over green to yellow, even in brightness. */
static void colour_of(double v, int ret[3])
{
    static const int stops[5][3] = { { 24, 26, 74 }, { 45, 90, 140 }, { 40, 145, 120 }, { 120, 200, 80 }, { 250, 230, 60 } };
    double at = (v < 0 ? 0 : v > 1 ? 1 : v) * 4;
    int i = at >= 4 ? 3 : (int)at;

    for (int c = 0; c < 3; c++)
        ret[c] = (int)lround(stops[i][c] + (at - i) * (stops[i + 1][c] - stops[i][c]));
}

static fs_status put_cell(fs_buf *out, double x, double y, double w, double h, double value, double share, fs_error *err)
{
    int c[3];

    colour_of(share, c);
    return fs_buf_printf(out, err, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"#%02x%02x%02x\"><title>%.4g</title></rect>", x, y, w,
                         h, c[0], c[1], c[2], value);
}

fs_status fs_chart_map(fs_buf *out, const char *title, const char *x_name, const char *row_name, const double *x, const double *values,
                       size_t n_steps, size_t n_rows, fs_error *err)
{
    size_t n_columns = n_steps < MAP_COLUMNS ? n_steps : MAP_COLUMNS;
    double high = 0, w = (double)PLOT_WIDTH / (double)(n_columns ? n_columns : 1), h = (double)PLOT_HEIGHT / (double)n_rows;
    scale sx = scale_of(n_steps ? x[0] : 0, n_steps ? x[n_steps - 1] : 1, 9, false);
    fs_status rc = put_frame(out, title, x_name, NULL, err);

    for (size_t i = 0; i < n_steps * n_rows; i++)
        high = values[i] > high ? values[i] : high;
    for (size_t k = 0; k < n_columns && !rc; k++) {
        size_t begin = k * n_steps / n_columns, end = (k + 1) * n_steps / n_columns;
        for (size_t row = 0; row < n_rows && !rc; row++) {
            double sum = 0;
            for (size_t i = begin; i < end; i++)
                sum += values[i * n_rows + row];
            sum /= (double)(end - begin);
            if (!isnan(sum))
                rc = put_cell(out, LEFT + (double)k * w, TOP + (double)row * h, w + 0.3, h + 0.3, sum, high > 0 ? sum / high : 0, err);
        }
    }
    if (!rc)
        rc = fs_buf_printf(out, err, "<text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">0</text><text class=\"tick\" x=\"%d\" y=\"%d\" "
                                     "text-anchor=\"end\">",
                           LEFT - 6, TOP + 9, LEFT - 6, HEIGHT - BOTTOM);
    if (!rc)
        rc = fs_html_text(out, row_name, err);
    if (!rc)
        rc = fs_buf_printf(out, err, " %zu</text>", n_rows - 1);
    for (double v = ceil(sx.low / sx.step) * sx.step; v <= sx.high + sx.step * 1e-9 && !rc; v += sx.step)
        rc = fs_buf_printf(out, err, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>", x_at(&sx, v), HEIGHT - BOTTOM + 16, v);
    if (!rc)
        rc = fs_buf_printf(out, err, "<text class=\"tick\" x=\"%d\" y=\"18\" text-anchor=\"end\">brightest: %.4g</text>", WIDTH - RIGHT, high);
    return rc ? rc : fs_buf_append_str(out, "</svg></figure>\n", err);
}
