/* The threads that run handlers. Plain handlers and streams have places of their own: clients that are slow hold places for streams only. */
#include "net/request.h"

#include "base/clock.h"
#include "base/pool.h"

#include <string.h>

#define WORKER_IDLE_SECONDS 20
#define STACK_BYTES         ((size_t)2 << 20)

void fs_http_lanes_init(fs_http_server *s)
{
    for (int i = 0; i < LANES; i++)
        s->lanes[i].jobs_end = &s->lanes[i].jobs;
    s->lanes[LANE_PLAIN].n_max = s->options.n_workers_max;
    s->lanes[LANE_STREAMS].n_max = s->options.n_streams_max;
}

static void ask_admit(fs_http_request *r)
{
    bool known = false;
    uint64_t n_max = r->mount->admit(r->mount->ud, r, &known);

    pthread_mutex_lock(&r->lock);
    r->asking = false;
    r->admitted = true;
    r->known = known;
    if (n_max < r->body_bytes_max)
        r->body_bytes_max = n_max;
    fs_http_wake(r);
    pthread_mutex_unlock(&r->lock);
}

/* Returns the lane that it ended in; *ret_file: as one of n_files. A request that admit was asked for may be in its next job already. */
static int run_job(fs_http_request *r, bool *ret_file)
{
    bool asking;

    pthread_mutex_lock(&r->lock);
    asking = r->asking;
    pthread_mutex_unlock(&r->lock);
    if (asking) {
        ask_admit(r);
        return LANE_PLAIN;
    }
    r->route->handler(r->mount->ud, r);
    if (!r->replied)
        fs_http_reply(r, 500, "text/plain", "no reply\n", strlen("no reply\n"));
    fs_http_file_send(r);
    *ret_file = r->file_how == FILE_OURS;
    pthread_mutex_lock(&r->lock);
    r->out_ended = true;
    fs_http_wake(r);
    pthread_mutex_unlock(&r->lock);
    return r->lane;
}

/* The next job that has a place. */
static fs_http_request *take_job(fs_http_server *s)
{
    for (int i = 0; i < LANES; i++) {
        fs_http_lane *l = &s->lanes[i];
        fs_http_request *r = l->jobs;
        if (!r || l->n_running >= l->n_max)
            continue;
        l->jobs = r->next_job;
        if (!l->jobs)
            l->jobs_end = &l->jobs;
        l->n_jobs--;
        l->n_running++;
        return r;
    }
    return NULL;
}

static void *worker(void *ud)
{
    fs_http_server *s = ud;

    fs_fp_environment();
    pthread_mutex_lock(&s->lock);
    for (;;) {
        fs_http_request *r = take_job(s);
        bool called, file = false;
        int lane;
        if (r) {
            pthread_mutex_unlock(&s->lock);
            lane = run_job(r, &file);
            fs_http_request_unref(r);
            pthread_mutex_lock(&s->lock);
            s->lanes[lane].n_running--;
            s->n_files -= file;
            pthread_cond_broadcast(&s->left); /* a place */
            continue;
        }
        if (s->aborting)
            break;
        s->n_idle++;
        called = fs_cond_wait_until(&s->changed, &s->lock, fs_seconds_now() + WORKER_IDLE_SECONDS);
        s->n_idle--;
        if (!called && !s->lanes[LANE_PLAIN].jobs && !s->lanes[LANE_STREAMS].jobs)
            break;
    }
    s->n_workers--;
    pthread_cond_broadcast(&s->left);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static bool make_thread(void *(*run)(void *), void *ud)
{
    pthread_attr_t attr;
    pthread_t thread;
    bool ok;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    ok = pthread_create(&thread, &attr, run, ud) == 0;
    pthread_attr_destroy(&attr);
    return ok;
}

/* Under the server's lock: as many threads as jobs could run now. */
static void make_workers(fs_http_server *s)
{
    int n = 0;

    for (int i = 0; i < LANES; i++) {
        int places = s->lanes[i].n_max - s->lanes[i].n_running;
        n += s->lanes[i].n_jobs < places ? s->lanes[i].n_jobs : places > 0 ? places : 0;
    }
    if (s->n_idle < n && make_thread(worker, s))
        s->n_workers++;
}

bool fs_http_dispatch(fs_http_server *s, fs_http_request *r)
{
    fs_http_lane *l = &s->lanes[r->lane];
    bool ok;

    pthread_mutex_lock(&s->lock);
    r->next_job = NULL;
    l->n_jobs++;
    make_workers(s);
    ok = s->n_workers > 0;
    if (ok) {
        *l->jobs_end = r;
        l->jobs_end = &r->next_job;
        pthread_cond_signal(&s->changed);
    } else {
        l->n_jobs--;
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

/* Under the server's lock. */
static void move_to_streams(fs_http_server *s, fs_http_request *r)
{
    s->lanes[r->lane].n_running--;
    s->lanes[LANE_STREAMS].n_running++;
    r->lane = LANE_STREAMS;
    make_workers(s); /* for the place that is left */
    pthread_cond_signal(&s->changed);
}

void fs_http_become_stream(fs_http_request *r)
{
    fs_http_server *s = r->server;
    fs_http_lane *to = &s->lanes[LANE_STREAMS];

    if (r->lane == LANE_STREAMS)
        return;
    pthread_mutex_lock(&s->lock);
    while (to->n_running >= to->n_max && !s->aborting)
        fs_cond_wait_until(&s->left, &s->lock, fs_seconds_now() + 1);
    move_to_streams(s, r);
    pthread_mutex_unlock(&s->lock);
}

bool fs_http_try_file(fs_http_request *r)
{
    fs_http_server *s = r->server;
    fs_http_lane *l = &s->lanes[LANE_STREAMS];
    bool here = r->lane == LANE_STREAMS, ok;

    pthread_mutex_lock(&s->lock);
    ok = (l->n_running + !here) * 4 <= l->n_max && !s->aborting;
    if (ok && !here)
        move_to_streams(s, r);
    s->n_files += ok;
    pthread_mutex_unlock(&s->lock);
    return ok;
}

uint64_t fs_http_rate_floor(fs_http_server *s)
{
    fs_http_lane *l = &s->lanes[LANE_STREAMS];
    uint64_t floor = s->options.rate_min;
    int n;

    pthread_mutex_lock(&s->lock);
    n = l->n_running - s->n_files;
    if (n * 8 >= (l->n_max - s->n_files) * 7)
        floor *= 64;
    else if (n * 2 >= l->n_max)
        floor *= 16;
    pthread_mutex_unlock(&s->lock);
    return floor;
}

/* ---- comments in streams of events ---- */

static void comment(fs_http_request *r, double before)
{
    static const char text[] = ":\n\n";

    if (!r->events || r->writing || r->out_ended || r->gone || r->out.n_bytes > 0 || r->written > before)
        return;
    fs_http_ring_put(&r->out, text, sizeof text - 1);
    r->written = fs_seconds_now();
    fs_http_wake(r);
}

static void *ticker(void *ud)
{
    fs_http_server *s = ud;
    double pause = s->options.keep_alive_seconds / 4.0;

    pthread_mutex_lock(&s->lock);
    while (!s->aborting) {
        double before = fs_seconds_now() - s->options.keep_alive_seconds;
        for (fs_http_request *r = s->requests; r; r = r->next)
            if (pthread_mutex_trylock(&r->lock) == 0) { /* whoever has it may want the server's */
                comment(r, before);
                pthread_mutex_unlock(&r->lock);
            }
        fs_cond_wait_until(&s->tick, &s->lock, fs_seconds_now() + pause);
    }
    s->n_workers--;
    pthread_cond_broadcast(&s->left);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void fs_http_tick(fs_http_server *s)
{
    pthread_mutex_lock(&s->lock);
    if (!s->has_ticker && !s->aborting && make_thread(ticker, s)) {
        s->has_ticker = true;
        s->n_workers++; /* waited for like those */
    }
    pthread_mutex_unlock(&s->lock);
}
