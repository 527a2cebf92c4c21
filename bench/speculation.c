/* Speculative decoding beside plain decoding, over a suite's problems, as CSV:
 *
 *   speculation COMMIT MODEL SUITE.jsonl PROBLEMS TOKENS THREADS ROUNDS [bf16]   each way of guessing, greedy
 *   speculation steps COMMIT MODEL THREADS [bf16]                                what a step of 1 to 8 rows costs, and the MTP layer's
 *
 * Each round takes a share of the problems and answers them in every way in turn, so that all meet the same neighbours; rates are medians over the
 * rounds, with the least and the greatest, and so are the ratios to plain decoding. Times begin behind the prompt: what the MTP layer reads of it
 * counts. A program that meets an answer other than plain decoding's ends with 1. */
#include "measure.h"

#include "engine/engine.h"
#include "train/suite.h"

#include <stdbool.h>
#include <string.h>

enum { ROUNDS_MAX = 64, DEPTH = 64, STEP_ROWS = 8, STEP_RUNS = 201 };

static const struct way {
    const char *name;
    fs_speculation how;
    int n_draft;
} ways[] = {
    { "plain", FS_SPECULATE_OFF, 0 }, { "lookup", FS_SPECULATE_LOOKUP, 0 }, { "mtp", FS_SPECULATE_MTP, 1 },
    { "mtp", FS_SPECULATE_MTP, 2 },   { "mtp", FS_SPECULATE_MTP, 4 },
};
enum { N_WAYS = sizeof ways / sizeof *ways };

static void die(fs_status rc, const fs_error *err)
{
    if (rc) {
        fprintf(stderr, "speculation: %s\n", err->message);
        exit(1);
    }
}

static fs_model *open_model(const char *path, int threads, const char *precision)
{
    fs_model_options o = { .n_threads = threads, .mtp = true, .precision = precision };
    fs_model *m;
    fs_error err;

    die(fs_model_open(path, &o, &m, &err), &err);
    fs_model_pack_all(m);
    return m;
}

/* ---- answers ---- */

struct answer {
    const fs_model *model;
    int32_t *ids; /* [TOKENS] */
    int n;
};

static bool take(void *ud, int32_t id)
{
    struct answer *a = ud;

    a->ids[a->n++] = id;
    return !fs_model_is_stop(a->model, id);
}

static fs_status ask(void *ud, fs_bytes question, fs_ids *ret, fs_error *err)
{
    return fs_tokenizer_encode(fs_model_tokenizer(ud), question, FS_ENCODE_PLAIN | FS_ENCODE_BOS, ret, err);
}

struct tally {
    long tokens, first, drafted, accepted, same; /* first: drawn from the prompt's logits */
    double rate[ROUNDS_MAX], ratio[ROUNDS_MAX];
};

/* Every rounds-th problem from round on, in one way; what plain decoding said is kept, or compared with. */
static void answer_all(fs_session *s, fs_model *m, const struct way *w, const fs_suite *suite, size_t round, size_t rounds, int tokens,
                       struct answer *plain, struct tally *t)
{
    struct answer got = { .model = m, .ids = allocate((size_t)tokens * sizeof *got.ids) };
    double seconds = 0;
    long before = t->tokens;
    fs_error err;

    die(fs_session_speculate(s, w->how, w->n_draft, &err), &err);
    for (size_t i = round; i < suite->n; i += rounds) {
        struct answer *a = w->how ? &got : &plain[i];
        fs_generation g;
        a->n = 0;
        fs_session_truncate(s, 0);
        die(fs_generate_tokens(s, suite->items[i].ids, suite->items[i].n_ids, NULL, tokens, take, a, &g, &err), &err);
        seconds += g.seconds;
        t->tokens += g.n_tokens;
        t->first++;
        t->drafted += g.n_drafted;
        t->accepted += g.n_accepted;
        t->same += a->n == plain[i].n && memcmp(a->ids, plain[i].ids, (size_t)a->n * sizeof *a->ids) == 0;
    }
    t->rate[round] = (double)(t->tokens - before) / seconds;
    fs_free_aligned(got.ids);
}

static int compare(int argc, char **argv)
{
    int n_problems = atoi(argv[4]), tokens = atoi(argv[5]), threads = atoi(argv[6]), rounds = atoi(argv[7]);
    const char *precision = argc > 8 ? argv[8] : NULL;
    static struct tally tallies[N_WAYS];
    fs_model *m = open_model(argv[2], threads, precision);
    struct answer *plain;
    fs_suite suite = { 0 };
    fs_session *s;
    fs_error err;
    int rc = 0;

    die(fs_suite_read(&suite, ask, m, argv[3], FS_JUDGE_AUTO, (size_t)n_problems, &err), &err);
    die(fs_session_new(m, (int)suite.prompt_max + tokens, &s, &err), &err);
    plain = allocate(suite.n * sizeof *plain);
    for (size_t i = 0; i < suite.n; i++)
        plain[i] = (struct answer){ .model = m, .ids = allocate((size_t)tokens * sizeof *plain[i].ids) };
    for (int r = 0; r < rounds; r++)
        for (size_t w = 0; w < N_WAYS; w++) {
            answer_all(s, m, &ways[w], &suite, (size_t)r, (size_t)rounds, tokens, plain, &tallies[w]);
            tallies[w].ratio[r] = tallies[w].rate[r] / tallies[0].rate[r];
        }
    printf("model,activations,threads,how,draft,problems,same,tokens,drafted,accepted,acceptance,tokens_a_step,tok_s,tok_s_min,tok_s_max,ratio,ratio_min,"
           "ratio_max,rounds,cpu,commit\n");
    for (size_t w = 0; w < N_WAYS; w++) {
        struct tally *t = &tallies[w];
        double rate = median(t->rate, (size_t)rounds), ratio = median(t->ratio, (size_t)rounds); /* sorted, then */
        rc |= t->same != (long)suite.n;
        printf("%s,%s,%d,%s,%d,%zu,%ld,%ld,%ld,%ld,%.4f,%.4f,%.1f,%.1f,%.1f,%.3f,%.3f,%.3f,%d,%s,%s\n", argv[2], fs_model_activations(m), threads, ways[w].name,
               ways[w].n_draft, suite.n, t->same, t->tokens, t->drafted, t->accepted, t->drafted ? (double)t->accepted / (double)t->drafted : 0.0,
               (double)(t->tokens - t->first) / (double)(t->tokens - t->first - t->accepted), rate, t->rate[0], t->rate[rounds - 1], ratio, t->ratio[0],
               t->ratio[rounds - 1], rounds, cpu_name(), argv[1]);
    }
    for (size_t i = 0; i < suite.n; i++)
        fs_free_aligned(plain[i].ids);
    fs_free_aligned(plain);
    fs_session_free(s);
    fs_suite_done(&suite);
    fs_model_close(m);
    return rc;
}

/* ---- steps ---- */

/* Rows of a step, or of the MTP layer with the logits of its last, behind DEPTH tokens; microseconds, the median. */
static double step_us(fs_session *s, fs_model *m, size_t rows, bool mtp, const float *hidden, float *logits)
{
    fs_cache cache;
    int32_t ids[DEPTH + STEP_ROWS];
    double times[STEP_RUNS];
    size_t d = fs_model_hidden_floats(m), v = (size_t)fs_model_vocab_size(m);
    float *last = allocate((d + v) * sizeof *last);
    fs_workspace *ws = NULL;
    fs_error err;

    for (size_t i = 0; i < DEPTH + STEP_ROWS; i++)
        ids[i] = (int32_t)((i * 7919 + 13) % v);
    if (mtp) {
        die(fs_cache_init(&cache, fs_model_network(m), DEPTH + STEP_ROWS, &err), &err);
        die(fs_workspace_new(fs_model_network(m), DEPTH, 1, &ws, &err), &err);
        die(fs_network_mtp_step(fs_model_network(m), ws, &cache, hidden, ids, DEPTH, 0, NULL, NULL, &err), &err);
    } else {
        fs_session_truncate(s, 0);
        die(fs_session_eval(s, ids, DEPTH, 0, NULL, NULL, NULL, &err), &err);
    }
    for (size_t r = 0; r < STEP_RUNS; r++) {
        double start = wall_us();
        if (mtp)
            die(fs_network_mtp_step(fs_model_network(m), ws, &cache, hidden, ids + DEPTH, (uint32_t)rows, 1, last + d, last, &err), &err);
        else
            die(fs_session_eval(s, ids + DEPTH, rows, 0, logits, NULL, NULL, &err), &err);
        times[r] = wall_us() - start;
        if (mtp)
            cache.n_mtp_tokens = DEPTH;
        else
            fs_session_truncate(s, DEPTH);
    }
    if (mtp) {
        fs_workspace_free(ws);
        fs_cache_done(&cache);
    }
    fs_free_aligned(last);
    return median(times, STEP_RUNS);
}

static int steps(int argc, char **argv)
{
    int threads = atoi(argv[4]);
    fs_model *m = open_model(argv[3], threads, argc > 5 ? argv[5] : NULL);
    float *hidden = random_floats(DEPTH * fs_model_hidden_floats(m)), *logits = allocate(STEP_ROWS * (size_t)fs_model_vocab_size(m) * sizeof *logits);
    fs_session *s;
    fs_error err;

    die(fs_session_new(m, DEPTH + STEP_ROWS, &s, &err), &err);
    printf("model,activations,threads,rows,step_us,mtp_us,cpu,commit\n");
    for (size_t rows = 1; rows <= STEP_ROWS; rows++)
        printf("%s,%s,%d,%zu,%.1f,%.1f,%s,%s\n", argv[3], fs_model_activations(m), threads, rows, step_us(s, m, rows, false, hidden, logits),
               step_us(s, m, rows, true, hidden, logits), cpu_name(), argv[2]);
    fs_session_free(s);
    fs_free_aligned(hidden);
    fs_free_aligned(logits);
    fs_model_close(m);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 5 && strcmp(argv[1], "steps") == 0)
        return steps(argc, argv);
    if (argc < 8 || atoi(argv[7]) < 1 || atoi(argv[7]) > ROUNDS_MAX) {
        fprintf(stderr, "speculation COMMIT MODEL SUITE.jsonl PROBLEMS TOKENS THREADS ROUNDS [bf16] | steps COMMIT MODEL THREADS [bf16]\n");
        return 2;
    }
    return compare(argc, argv);
}
