/* Which experts are in memory. Everything below stands under one lock; readers leave it to read and to pack.
 *
 * A slot is taken from the expert whose next use is expected last. Layers follow one another in a circle, and an expert
 * is used with a probability that is learned (a decaying share of the tokens that chose it), so that the expected wait is
 * the way to its layer and, for each time it will not be chosen there, a round. Writing token by token this keeps the hot
 * experts; reading a prompt, when all are used, it gives up what the step has just used and keeps what lies ahead, where
 * the least recently used would be the next to be needed. */
#include "models/experts.h"

#include "base/clock.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define N_READERS     8          /* requests that a disk is given at once */
#define AHEAD_READERS 4          /* of them, for guesses */
#define HEAT_TOKENS   64.0f      /* the share of tokens is over about so many */

enum { WANTED = 1, TAKEN = 2, AHEAD = 4 };

struct expert {
    fs_ffn *ffn;
    const fs_tensor *tensors[3];
    uint64_t file_bytes;
    int32_t slot; /* -1: none */
    uint8_t flags;
    float heat;   /* share of tokens */
    float rounds; /* expected, until it is chosen */
};

struct slot {
    uint8_t *data;
    int32_t expert; /* -1: free */
    int32_t next;   /* in a queue */
    uint32_t n_pieces, n_begun, n_done;
    bool loading, queued, urgent;
    bool guessed; /* read for a guess, not wanted so far */
    bool broken, dropped;
};

struct queue {
    int32_t first, last; /* -1: empty */
};

struct reader {
    fs_experts *experts;
    uint8_t *buffer;
    pthread_t id;
};

struct fs_experts {
    const fs_weights *weights;
    const fs_config *config;
    fs_direct *files;
    size_t n_files;
    uint8_t *memory;
    size_t memory_bytes;
    struct expert *experts; /* layer after layer */
    struct slot *slots;
    uint32_t n_experts, n_added, n_layers, n_slots, a_layer;
    struct reader readers[N_READERS];
    int n_readers;

    pthread_mutex_t lock;
    pthread_cond_t work, done; /* for readers; for the caller */
    bool stop;
    struct queue urgent, ahead;
    int n_ahead_busy;

    uint32_t layer;                            /* under way */
    uint32_t *wanted, n_wanted, n_placed;      /* wanted[n_placed ..] have no slot yet */
    uint32_t n_left;                           /* not given back yet */
    uint32_t *taken, n_taken;
    uint32_t *guess, n_guess, n_guess_placed;
    bool failed;
    fs_error failure, last_error;
    uint64_t probe_first, probe_next, probe_n, probe_done, probe_bytes;
    fs_stream_stats stats;
};

/* ---- memory ---- */
size_t fs_experts_bytes(const fs_network_plan *p, uint32_t n_slots)
{
    size_t slots, readers, tables = p->n_experts * sizeof(struct expert) + (size_t)n_slots * sizeof(struct slot) + sizeof(fs_experts);

    if (!fs_mul_size(p->expert_bytes, n_slots, &slots) || !fs_mul_size(p->expert_room, N_READERS, &readers) ||
        !fs_add_size(slots, readers, &slots) || !fs_add_size(slots, tables, &slots))
        return SIZE_MAX;
    return slots;
}

/* ---- queues of slots that have pieces to begin ---- */
static void put(fs_experts *x, int32_t s, bool urgent)
{
    struct queue *q = urgent ? &x->urgent : &x->ahead;

    x->slots[s].next = -1;
    x->slots[s].queued = true;
    x->slots[s].urgent = urgent;
    if (q->last >= 0)
        x->slots[q->last].next = s;
    else
        q->first = s;
    q->last = s;
}

static void unqueue(fs_experts *x, int32_t s)
{
    struct queue *q = x->slots[s].urgent ? &x->urgent : &x->ahead;
    int32_t before = -1, at = q->first;

    if (!x->slots[s].queued)
        return;
    for (; at != s; at = x->slots[at].next)
        before = at;
    if (before >= 0)
        x->slots[before].next = x->slots[s].next;
    else
        q->first = x->slots[s].next;
    if (q->last == s)
        q->last = before;
    x->slots[s].queued = false;
}

/* ---- slots ---- */
static void place(struct expert *e, uint8_t *data)
{
    fs_mat *mats[3] = { &e->ffn->gate.mat, &e->ffn->up.mat, &e->ffn->down.mat };

    for (int i = 0; i < 3; i++) {
        size_t n_bytes = fs_mat_place(mats[i], data);
        data = data ? data + n_bytes : NULL;
    }
}

static void vacate(fs_experts *x, int32_t s)
{
    struct slot *slot = &x->slots[s];

    if (slot->expert >= 0) {
        x->experts[slot->expert].slot = -1;
        place(&x->experts[slot->expert], NULL);
    }
    *slot = (struct slot){ .data = slot->data, .expert = -1, .next = -1 };
}

/* Of a slot that no reader is at: is it done, and how? */
static void settle(fs_experts *x, int32_t s)
{
    struct slot *slot = &x->slots[s];

    if (slot->n_done < slot->n_begun || !slot->loading)
        return;
    if (slot->broken) {
        if (x->experts[slot->expert].flags & WANTED && !x->failed) {
            x->failed = true;
            x->failure = x->last_error;
        }
        vacate(x, s);
    } else if (slot->n_begun == slot->n_pieces) {
        slot->loading = slot->dropped = false;
    } else if (slot->dropped) {
        vacate(x, s);
    } else {
        return;
    }
    pthread_cond_signal(&x->done);
}

static void start(fs_experts *x, int32_t s, uint32_t id, bool urgent)
{
    struct expert *e = &x->experts[id];
    struct slot *slot = &x->slots[s];

    vacate(x, s);
    slot->expert = (int32_t)id;
    slot->loading = true;
    slot->guessed = !urgent;
    for (int i = 0; i < 3; i++)
        slot->n_pieces += fs_pieces(e->tensors[i]);
    e->slot = s;
    place(e, slot->data);
    put(x, s, urgent);
    x->stats.n_guessed += !urgent;
    pthread_cond_broadcast(&x->work);
}

/* Layers until e's next use, as expected. Those of the layer under way that are not wanted have had their turn. */
static float wait_of(const fs_experts *x, uint32_t id)
{
    uint32_t layer = id / x->a_layer, way = (layer + x->n_layers - x->layer) % x->n_layers;

    return (float)(way ? way : x->n_layers) + x->experts[id].rounds * (float)x->n_layers;
}

/* A free slot, or that of the expert with the longest wait; -1: none can be given. A guess takes no other's place, the
 * wanted take a guess's where nothing else is left: the guessed experts there are were not read for the step under way,
 * since nothing is read ahead before the last wanted one has its slot. */
static int32_t find_slot(const fs_experts *x, bool urgent)
{
    int32_t best = -1, guessed = -1;
    float longest = urgent ? 0 : 1; /* a guess is one layer away */

    for (uint32_t s = 0; s < x->n_slots; s++) {
        const struct slot *slot = &x->slots[s];
        float wait;
        if (slot->expert < 0)
            return (int32_t)s;
        if (slot->loading || x->experts[slot->expert].flags & WANTED)
            continue;
        if (x->experts[slot->expert].flags & AHEAD) {
            guessed = (int32_t)s;
            continue;
        }
        wait = wait_of(x, (uint32_t)slot->expert);
        if (wait > longest) {
            longest = wait;
            best = (int32_t)s;
        }
    }
    return best >= 0 || !urgent ? best : guessed;
}

/* Gives slots to what is wanted, then to guesses, as far as there are any. */
static void pump(fs_experts *x)
{
    int32_t s;

    for (; x->n_placed < x->n_wanted; x->n_placed++) {
        if (x->experts[x->wanted[x->n_placed]].slot >= 0 || !x->experts[x->wanted[x->n_placed]].flags) /* has one, or had */
            continue;
        if ((s = find_slot(x, true)) < 0)
            return;
        start(x, s, x->wanted[x->n_placed], true);
    }
    for (; x->n_guess_placed < x->n_guess; x->n_guess_placed++) {
        if (x->experts[x->guess[x->n_guess_placed]].slot >= 0)
            continue;
        if ((s = find_slot(x, false)) < 0)
            return;
        start(x, s, x->guess[x->n_guess_placed], false);
    }
}

/* ---- readers ---- */
static fs_status load_piece(fs_experts *x, const struct expert *e, uint32_t piece, uint8_t *buffer, uint64_t *ret_bytes, fs_error *err)
{
    const fs_mat *mats[3] = { &e->ffn->gate.mat, &e->ffn->up.mat, &e->ffn->down.mat };
    fs_tensor read;
    fs_status rc;
    int i = 0;

    for (; piece >= fs_pieces(e->tensors[i]); i++)
        piece -= fs_pieces(e->tensors[i]);
    rc = fs_piece_read(x->weights, x->files, e->tensors[i], piece, buffer, &read, err);
    *ret_bytes = rc ? 0 : read.n_bytes;
    return rc ? rc : fs_piece_pack(mats[i], piece, e->tensors[i], &read, err);
}

/* Begins a piece of slot s. The lock is held before and after. */
static void read_for_slot(fs_experts *x, int32_t s, uint8_t *buffer)
{
    struct slot *slot = &x->slots[s];
    const struct expert *e = &x->experts[slot->expert];
    uint32_t piece = slot->n_begun++;
    bool ahead = !slot->urgent;
    uint64_t n_bytes;
    fs_error err;
    fs_status rc;

    if (slot->n_begun == slot->n_pieces)
        unqueue(x, s);
    x->n_ahead_busy += ahead;
    pthread_mutex_unlock(&x->lock);
    rc = load_piece(x, e, piece, buffer, &n_bytes, &err);
    pthread_mutex_lock(&x->lock);
    x->n_ahead_busy -= ahead;
    x->stats.bytes_read += n_bytes;
    slot->n_done++;
    if (rc) {
        slot->broken = true;
        x->last_error = err;
        unqueue(x, s);
    }
    settle(x, s);
}

/* Reads a piece for the sake of reading: pieces of one expert after the other, experts in no order, others each time: what was read a moment
 * ago comes faster, from a cache of the disk's or of a host's. */
static void probe(fs_experts *x, uint8_t *buffer)
{
    uint64_t i = x->probe_next++;
    const struct expert *e;
    const fs_tensor *t;
    fs_tensor read = { 0 };

    pthread_mutex_unlock(&x->lock);
    e = &x->experts[((x->probe_first + i / 8) * UINT64_C(0x9e3779b97f4a7c15) >> 32) % x->n_added];
    t = e->tensors[i % 8 % 3];
    if (fs_piece_read(x->weights, x->files, t, (uint32_t)(i % 8 / 3) % fs_pieces(t), buffer, &read, NULL))
        read.n_bytes = 0;
    pthread_mutex_lock(&x->lock);
    x->probe_bytes += read.n_bytes;
    if (++x->probe_done == x->probe_n)
        pthread_cond_signal(&x->done);
}

static void *reader_main(void *ud)
{
    struct reader *r = ud;
    fs_experts *x = r->experts;

    fs_fp_environment();
    pthread_mutex_lock(&x->lock);
    while (!x->stop) {
        if (x->urgent.first >= 0)
            read_for_slot(x, x->urgent.first, r->buffer);
        else if (x->ahead.first >= 0 && x->n_ahead_busy < AHEAD_READERS)
            read_for_slot(x, x->ahead.first, r->buffer);
        else if (x->probe_next < x->probe_n)
            probe(x, r->buffer);
        else
            pthread_cond_wait(&x->work, &x->lock);
    }
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

/* ---- life ---- */
static fs_status open_files(fs_experts *x, fs_error *err)
{
    x->n_files = fs_weights_n_files(x->weights);
    x->files = calloc(x->n_files, sizeof *x->files);
    if (!x->files)
        return fs_fail_memory(err, x->n_files * sizeof *x->files);
    for (size_t i = 0; i < x->n_files; i++) {
        char *path = fs_weights_file_path(x->weights, i);
        fs_status rc = path ? fs_direct_open(&x->files[i], path, err) : fs_fail_memory(err, 1);
        free(path);
        if (rc)
            return rc;
    }
    return FS_OK;
}

/* They leave signals to the threads that were there before. */
static fs_status start_readers(fs_experts *x, size_t room, uint8_t *buffers, fs_error *err)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; x->n_readers < N_READERS && !rc; x->n_readers += !rc) {
        struct reader *r = &x->readers[x->n_readers];
        *r = (struct reader){ .experts = x, .buffer = buffers + (size_t)x->n_readers * room };
        rc = pthread_create(&r->id, NULL, reader_main, r);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? fs_fail_errno(err, rc, "cannot start reader %d of %d", x->n_readers + 1, N_READERS) : FS_OK;
}

fs_status fs_experts_new(const fs_network *net, uint32_t n_slots, fs_experts **ret, fs_error *err)
{
    const fs_network_plan *p = &net->plan;
    uint32_t e = net->config->n_routed_experts;
    fs_experts *x = calloc(1, sizeof *x);
    fs_status rc;

    if (!x)
        return fs_fail_memory(err, sizeof *x);
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->work, NULL);
    pthread_cond_init(&x->done, NULL);
    x->weights = net->weights;
    x->config = net->config;
    x->urgent = x->ahead = (struct queue){ -1, -1 };
    x->n_slots = n_slots;
    x->n_experts = p->n_experts;
    x->a_layer = e;
    x->n_layers = p->n_experts / e;
    x->stats = (fs_stream_stats){ .n_slots = n_slots, .n_experts = p->n_experts, .slot_bytes = p->expert_bytes };
    x->memory_bytes = p->expert_room * N_READERS + p->expert_bytes * n_slots;
    x->memory = fs_alloc_lazy(x->memory_bytes);
    x->experts = calloc(p->n_experts, sizeof *x->experts);
    x->slots = calloc(n_slots, sizeof *x->slots);
    x->wanted = calloc(3 * (size_t)e, sizeof *x->wanted);
    rc = x->memory && x->experts && x->slots && x->wanted ? open_files(x, err) : fs_fail_memory(err, x->memory_bytes);
    if (!rc) {
        x->taken = x->wanted + e;
        x->guess = x->taken + e;
        for (uint32_t s = 0; s < n_slots; s++)
            x->slots[s] = (struct slot){ .data = x->memory + p->expert_room * N_READERS + s * p->expert_bytes, .expert = -1, .next = -1 };
        rc = start_readers(x, p->expert_room, x->memory, err);
    }
    if (rc) {
        fs_experts_free(x);
        return rc;
    }
    *ret = x;
    return FS_OK;
}

void fs_experts_free(fs_experts *x)
{
    if (!x)
        return;
    pthread_mutex_lock(&x->lock);
    x->stop = true;
    pthread_cond_broadcast(&x->work);
    pthread_mutex_unlock(&x->lock);
    for (int i = 0; i < x->n_readers; i++)
        pthread_join(x->readers[i].id, NULL);
    for (size_t i = 0; x->files && i < x->n_files; i++)
        fs_direct_close(&x->files[i]);
    fs_free_lazy(x->memory, x->memory_bytes);
    free(x->files);
    free(x->experts);
    free(x->slots);
    free(x->wanted);
    pthread_cond_destroy(&x->done);
    pthread_cond_destroy(&x->work);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

uint32_t fs_experts_add_layer(fs_experts *x)
{
    assert(x->n_added % x->a_layer == 0 && x->n_added < x->n_experts);
    return x->n_added / x->a_layer;
}

void fs_experts_add(fs_experts *x, fs_ffn *ffn, const fs_tensor *const tensors[3])
{
    struct expert *e = &x->experts[x->n_added++];

    assert(x->n_added <= x->n_experts);
    *e = (struct expert){ .ffn = ffn, .slot = -1, .heat = (float)x->config->num_experts_per_tok / (float)x->a_layer };
    e->rounds = 1 / e->heat - 1;
    for (int i = 0; i < 3; i++) {
        e->tensors[i] = tensors[i];
        e->file_bytes += fs_piece_file_bytes(tensors[i]);
    }
}

/* ---- a step ---- */
static void forget(fs_experts *x)
{
    for (uint32_t i = 0; i < x->n_wanted; i++)
        x->experts[x->wanted[i]].flags = 0;
    for (uint32_t i = 0; i < x->n_guess; i++)
        x->experts[x->guess[i]].flags = 0;
    x->n_wanted = x->n_placed = x->n_left = x->n_taken = x->n_guess = x->n_guess_placed = 0;
}

void fs_experts_begin(fs_experts *x)
{
    pthread_mutex_lock(&x->lock);
    forget(x);
    x->failed = false;
    pthread_mutex_unlock(&x->lock);
}

/* Every expert of the layer, chosen or not. */
static void learn(fs_experts *x, uint32_t layer, const uint32_t *begin, size_t m)
{
    float decay = powf(1 - 1 / HEAT_TOKENS, (float)m);

    for (uint32_t e = 0; e < x->a_layer; e++) {
        struct expert *expert = &x->experts[layer * x->a_layer + e];
        float share = (float)(begin[e + 1] - begin[e]) / (float)m;
        float chosen;
        expert->heat = share + (expert->heat - share) * decay;
        chosen = m == 1 ? expert->heat : 1 - powf(1 - expert->heat, (float)m);
        expert->rounds = 1 / (chosen > 1e-6f ? chosen : 1e-6f) - 1;
    }
}

/* A wanted expert that has a slot: in memory, or on the way. */
static void claim(fs_experts *x, struct expert *e)
{
    struct slot *slot = &x->slots[e->slot];

    if (slot->guessed) {
        x->stats.n_guessed_right++;
        x->stats.bytes_needed += e->file_bytes;
    } else {
        x->stats.n_hits++;
    }
    slot->guessed = false;
    if (!slot->loading)
        return;
    slot->dropped = false;
    unqueue(x, e->slot);
    if (slot->n_begun < slot->n_pieces && !slot->broken) {
        put(x, e->slot, true);
        pthread_cond_broadcast(&x->work);
    }
}

/* A guess of this layer that was wrong: what has not begun is not read. */
static void drop(fs_experts *x, int32_t s)
{
    x->slots[s].dropped = true;
    unqueue(x, s);
    settle(x, s);
}

/* Of a step that has failed: what it had begun to read is of a file as it was then, and must not meet the next one. */
static void drain(fs_experts *x)
{
    for (uint32_t s = 0; s < x->n_slots; s++) {
        if (x->slots[s].loading)
            drop(x, (int32_t)s);
        while (x->slots[s].loading)
            pthread_cond_wait(&x->done, &x->lock);
    }
}

fs_status fs_experts_end(fs_experts *x, fs_error *err)
{
    fs_status rc;

    pthread_mutex_lock(&x->lock);
    if (x->failed)
        drain(x);
    rc = x->failed ? x->failure.code : FS_OK;
    if (rc && err)
        *err = x->failure;
    pthread_mutex_unlock(&x->lock);
    return rc;
}

void fs_experts_want(fs_experts *x, uint32_t layer, const uint32_t *active, uint32_t n, const uint32_t *begin, size_t m)
{
    pthread_mutex_lock(&x->lock);
    forget(x);
    x->layer = layer;
    learn(x, layer, begin, m);
    n = x->failed ? 0 : n;
    x->stats.n_wanted += n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = layer * x->a_layer + active[i];
        struct expert *e = &x->experts[id];
        x->wanted[x->n_wanted++] = id;
        e->flags = WANTED;
        if (e->slot >= 0)
            claim(x, e);
        else
            x->stats.bytes_needed += e->file_bytes;
    }
    x->n_left = n;
    for (uint32_t s = 0; s < x->n_slots; s++)
        if (x->slots[s].loading && !(x->experts[x->slots[s].expert].flags & WANTED))
            drop(x, (int32_t)s);
    pump(x);
    pthread_mutex_unlock(&x->lock);
}

void fs_experts_ahead(fs_experts *x, uint32_t layer, const uint32_t *guess, uint32_t n)
{
    pthread_mutex_lock(&x->lock);
    n = x->failed ? 0 : n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = layer * x->a_layer + guess[i];
        x->guess[x->n_guess++] = id;
        x->experts[id].flags |= AHEAD;
    }
    pump(x);
    pthread_mutex_unlock(&x->lock);
}

uint32_t fs_experts_take(fs_experts *x, bool wait, uint32_t *ret)
{
    uint32_t n = 0;

    pthread_mutex_lock(&x->lock);
    for (uint32_t i = 0; i < x->n_taken; i++)
        x->experts[x->taken[i]].flags = 0;
    x->n_left -= x->n_taken;
    x->n_taken = 0;
    for (;;) {
        double begin;
        pump(x);
        for (uint32_t i = 0; i < x->n_wanted && !x->failed; i++) {
            struct expert *e = &x->experts[x->wanted[i]];
            if (e->flags != WANTED || e->slot < 0 || x->slots[e->slot].loading)
                continue;
            e->flags |= TAKEN;
            x->taken[x->n_taken++] = x->wanted[i];
            ret[n++] = x->wanted[i] - x->layer * x->a_layer;
        }
        if (n || !x->n_left || x->failed || !wait)
            break;
        begin = fs_seconds_now();
        pthread_cond_wait(&x->done, &x->lock);
        x->stats.wait_s += fs_seconds_now() - begin;
    }
    pthread_mutex_unlock(&x->lock);
    return n;
}

/* ---- what it came to ---- */
void fs_experts_stats(fs_experts *x, fs_stream_stats *ret)
{
    pthread_mutex_lock(&x->lock);
    *ret = x->stats;
    pthread_mutex_unlock(&x->lock);
}

uint64_t fs_experts_probe(fs_experts *x, uint64_t n_bytes, double *ret_s)
{
    double begin = fs_seconds_now();

    pthread_mutex_lock(&x->lock);
    x->probe_first = (uint64_t)(begin * 1e6);
    x->probe_next = x->probe_done = x->probe_bytes = 0;
    x->probe_n = (n_bytes >> 20) + 1;
    pthread_cond_broadcast(&x->work);
    while (x->probe_done < x->probe_n)
        pthread_cond_wait(&x->done, &x->lock);
    x->probe_n = x->probe_next = 0;
    n_bytes = x->probe_bytes;
    pthread_mutex_unlock(&x->lock);
    *ret_s = fs_seconds_now() - begin;
    return n_bytes;
}
