/* Counts of streamed experts. */
#include "cli/stream.h"

fs_stream_stats fs_stream_between(const fs_stream_stats *before, const fs_stream_stats *after)
{
    fs_stream_stats s = *after;

    s.n_wanted -= before->n_wanted;
    s.n_hits -= before->n_hits;
    s.n_guessed -= before->n_guessed;
    s.n_guessed_right -= before->n_guessed_right;
    s.bytes_needed -= before->bytes_needed;
    s.bytes_read -= before->bytes_read;
    s.wait_s -= before->wait_s;
    return s;
}

double fs_stream_hit_rate(const fs_stream_stats *s)
{
    return s->n_wanted ? (double)s->n_hits / (double)s->n_wanted : 0;
}

void fs_stream_print(const fs_model *m, FILE *out)
{
    fs_stream_stats s;

    if (!fs_model_stream_stats(m, &s))
        return;
    fprintf(out, "experts: %u of %u fit in memory (%.1f MiB); %.1f %% of those needed were there; %.1f MiB read, waited %.2f s; %.0f %% of %llu "
            "guesses right\n", s.n_slots, s.n_experts, (double)s.slot_bytes * s.n_slots / 1048576, 100 * fs_stream_hit_rate(&s),
            (double)s.bytes_read / 1048576, s.wait_s, s.n_guessed ? 100.0 * (double)s.n_guessed_right / (double)s.n_guessed : 0.0,
            (unsigned long long)s.n_guessed);
}
