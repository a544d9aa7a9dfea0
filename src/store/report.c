#include "store/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "store/inside.h"

#define LABEL 24    /* columns of what stands before a number */
#define WIDTH 96    /* of sentences */
#define ENOUGH 0.95 /* of the speed with all experts in memory: more memory is not worth it */
#define BOUND 0.1   /* of the time: what steps waited for reads, from where on these bound them */

/* A curve and what it was made from. */
typedef struct report {
    const mixt_store_statistics *s;
    const mixt_store_point *points;
    int count, now;
    mixt_buffer *out;
} report;

/* ------------------------------------------------------------------------------------------ */
/* Numbers                                                                                    */

#define TEXT 32

/* 1,234,567 */
static const char *count_text(double count, char text[TEXT])
{
    char digits[TEXT];
    int length = mixt_format(digits, sizeof digits, "%.0f", count), at = 0;
    for (int i = 0; i < length && at < TEXT - 2; i++) {
        text[at++] = digits[i];
        if (i + 1 < length && (length - 1 - i) % 3 == 0) {
            text[at++] = ',';
        }
    }
    text[at] = '\0';
    return text;
}

static const char *bytes_text(double bytes, char text[TEXT])
{
    mixt_format(text, TEXT, bytes < 1e9 ? "%.1f MB" : "%.2f GB",
                bytes < 1e9 ? bytes / 1e6 : bytes / 1e9);
    return text;
}

static const char *share_text(double share, char text[TEXT])
{
    if (isnan(share)) {
        mixt_format(text, TEXT, "-");
    } else {
        mixt_format(text, TEXT, "%.1f %%", 100 * share);
    }
    return text;
}

static const char *rate_text(double rate, char text[TEXT])
{
    if (isnan(rate)) {
        mixt_format(text, TEXT, "-");
    } else {
        mixt_format(text, TEXT, "%.*f", rate < 10 ? 2 : rate < 100 ? 1 : 0, rate);
    }
    return text;
}

static double share_of(double part, double whole)
{
    return whole > 0 ? part / whole : NAN;
}

/* `label`, a number to the right, and what it is. */
static void put_line(report *r, const char *label, const char *number, const char *note)
{
    mixt_buffer_format(r->out, "  %-*s %10s%s%s\n", LABEL, label, number,
                       note[0] != '\0' ? "  " : "", note);
}

/* Words in lines of at most WIDTH columns. */
static void put_words(report *r, const char *words)
{
    size_t column = 0;
    for (const char *word = words; *word != '\0';) {
        size_t length = strcspn(word, " ");
        if (column > 0 && column + 1 + length > WIDTH) {
            mixt_buffer_text(r->out, "\n");
            column = 0;
        }
        mixt_buffer_text(r->out, column > 0 ? " " : "");
        mixt_buffer_append(r->out, word, length);
        column += length + (column > 0);
        word += length + (word[length] == ' ');
    }
    mixt_buffer_text(r->out, "\n");
}

/* ------------------------------------------------------------------------------------------ */
/* Parts                                                                                      */

static void put_memory(report *r)
{
    const mixt_store_statistics *s = r->s;
    char text[TEXT], other[TEXT], note[120];
    mixt_buffer_text(r->out, "memory\n");
    put_line(r, "limit", bytes_text((double)s->memory, text), "");
    put_line(r, "weights of every token", bytes_text((double)s->resident_bytes, text),
             "attention, routers, shared experts, embeddings");
    put_line(r, "caches and plans", bytes_text((double)mixt_store_facts_other(s), text), "");
    mixt_format(note, sizeof note, "%s of %s experts at a time", count_text((double)s->slots, text),
                count_text((double)s->experts, other));
    put_line(r, "pool", bytes_text((double)s->pool_bytes, text), note);
    put_line(r, "experts in the files", bytes_text((double)s->expert_bytes, text), "");
    put_line(r, "one token works with", bytes_text((double)s->token_bytes, text), "of them");
}

/* A pool that cannot hold one token's experts. */
static void put_warning(report *r)
{
    const mixt_store_statistics *s = r->s;
    char pool[TEXT], token[TEXT], need[TEXT], words[700];
    if (s->pool_bytes >= s->token_bytes || s->slots >= s->experts) {
        return;
    }
    double slot = s->slots > 0 ? (double)s->pool_bytes / (double)s->slots : 0;
    double expert = share_of((double)s->expert_bytes, (double)s->experts);
    double larger = expert > 0 ? fmax(slot / expert, 1) : 1; /* slots hold whole blocks */
    double all =
        (double)(s->resident_bytes + mixt_store_facts_other(s)) + larger * (double)s->token_bytes;
    mixt_format(words, sizeof words,
                "warning: the pool (%s) is smaller than what one token works with (%s). Each token "
                "drives out what the next begins with: under lru nothing would ever be found, and "
                "whatever the policy most experts are read for every token. One token's experts "
                "fit from a limit of %s on.",
                bytes_text((double)s->pool_bytes, pool), bytes_text((double)s->token_bytes, token),
                bytes_text(all, need));
    mixt_buffer_text(r->out, "\n");
    put_words(r, words);
}

static void put_hits(report *r)
{
    const mixt_store_statistics *s = r->s;
    const mixt_store_point *now = &r->points[r->now];
    char text[TEXT], other[TEXT], third[TEXT], note[120];
    mixt_buffer_format(r->out, "\nexperts wanted: %s by %s steps",
                       count_text((double)s->requests, text), count_text((double)s->steps, other));
    mixt_buffer_format(r->out, " of %s tokens\n", count_text((double)s->rows, third));
    mixt_format(note, sizeof note, "were there or on their way; policy: %s", s->policy);
    put_line(r, "hits", share_text(share_of((double)s->hits, (double)s->requests), text), note);
    if (isnan(now->own)) {
        return;
    }
    put_line(r, s->policy, share_text(now->own, text),
             "of these requests, by a pool that reads nothing ahead");
    if (strcmp(s->policy, "lru") != 0) {
        put_line(r, "lru", share_text(now->lru, text), "");
    }
    if (strcmp(s->policy, "lfu") != 0) {
        put_line(r, "lfu", share_text(now->lfu, text), "");
    }
    put_line(r, "optimum", share_text(now->optimum, text),
             "had it known the future: no policy has more");
    put_line(r, "chance", share_text(now->uniform, text),
             "if routers chose all experts alike: slots / experts");
}

static void put_disk(report *r)
{
    const mixt_store_statistics *s = r->s;
    char text[TEXT], other[TEXT], note[160];
    mixt_buffer_format(r->out, "\ndisk, read by %s\n", s->reader != NULL ? s->reader : "nothing");
    mixt_format(note, sizeof note, "%s a token",
                s->rows > 0 ? bytes_text((double)s->bytes_read / (double)s->rows, other) : "0");
    put_line(r, "read", bytes_text((double)s->bytes_read, text), note);
    if (s->disk_seconds > 0) {
        mixt_format(text, sizeof text, "%.2f GB/s", (double)s->bytes_read / s->disk_seconds / 1e9);
        mixt_format(note, sizeof note, "while it read: %.1f s of the %.1f s that steps took",
                    s->disk_seconds, s->seconds);
        put_line(r, "speed", text, note);
        put_line(r, "behind arithmetic",
                 share_text(fmax(1 - s->wait_seconds / s->disk_seconds, 0), text),
                 "of that time; in the rest steps waited");
    }
    mixt_format(note, sizeof note, "of the steps' time, %.1f s", s->wait_seconds);
    put_line(r, "waited for reads", share_text(share_of(s->wait_seconds, s->seconds), text), note);
    double used = share_of((double)s->prefetch_used, (double)s->prefetched);
    mixt_format(note, sizeof note, "experts, %s wanted then; %s in vain; now %s",
                share_text(used, text), bytes_text((double)s->prefetch_bytes_wasted, other),
                s->prefetching ? "on" : "off");
    put_line(r, "read ahead", count_text((double)s->prefetched, text),
             s->prefetched > 0 ? note
             : s->prefetching  ? "experts; now on"
                               : "experts; off: it did not pay, or was not asked for");
    if (!isnan(s->prefetch_recall)) {
        put_line(r, "foreseen", share_text(s->prefetch_recall, text),
                 "of a layer's choices, when its block began");
    }
}

static void put_curve(report *r)
{
    char memory[TEXT], share[TEXT], slots[TEXT], rate[TEXT];
    char hits[5][TEXT];
    bool own = strcmp(r->s->policy, "lru") != 0 && strcmp(r->s->policy, "lfu") != 0;
    mixt_buffer_format(r->out, "\n  %10s %8s %9s %8s %8s", "memory", "experts", "slots", "lru",
                       "lfu");
    if (own) {
        mixt_buffer_format(r->out, " %8s", r->s->policy);
    }
    mixt_buffer_format(r->out, " %8s %8s %9s\n", "optimum", "chance", "tokens/s");
    for (int i = 0; i < r->count; i++) {
        const mixt_store_point *p = &r->points[i];
        bytes_text((double)p->memory, memory);
        share_text(share_of((double)p->slots, (double)r->s->experts), share);
        mixt_buffer_format(r->out, "%s %10s %8s %9s %8s %8s", i == r->now ? ">" : " ", memory,
                           share, count_text((double)p->slots, slots), share_text(p->lru, hits[0]),
                           share_text(p->lfu, hits[1]));
        if (own) {
            mixt_buffer_format(r->out, " %8s", share_text(p->own, hits[2]));
        }
        mixt_buffer_format(r->out, " %8s %8s %9s\n", share_text(p->optimum, hits[3]),
                           share_text(p->uniform, hits[4]), rate_text(p->rate, rate));
    }
}

/* Where steps have more rows than one, what the last column counts. */
static void put_tokens(report *r)
{
    if ((double)r->s->rows > 1.5 * (double)r->s->steps) {
        mixt_buffer_text(r->out, "  tokens/s: those of prompts and those that were generated\n");
    }
}

/* The first point from which on more memory hardly helps. */
static int enough(const report *r)
{
    int point = r->now;
    while (point < r->count - 1 && r->points[point].rate < ENOUGH * r->points[r->count - 1].rate) {
        point++;
    }
    return point;
}

static void put_verdict(report *r)
{
    const mixt_store_statistics *s = r->s;
    const mixt_store_point *now = &r->points[r->now], *all = &r->points[r->count - 1];
    char text[TEXT], rate[TEXT], most[TEXT], words[700];
    if (isnan(now->rate)) {
        return;
    }
    double waited = share_of(s->wait_seconds, s->seconds);
    int point = enough(r);
    mixt_format(words, sizeof words,
                "%s bounds the speed: steps waited %.0f %% of their time for reads. ",
                waited > BOUND ? "The disk" : "Arithmetic, not the disk,", 100 * waited);
    size_t length = strlen(words);
    if (point == r->now) {
        mixt_format(words + length, sizeof words - length,
                    "More memory would hardly help: with every expert in memory it would be %s "
                    "tokens/s, now %s.",
                    rate_text(all->rate, most), rate_text(now->rate, rate));
    } else {
        const mixt_store_point *to = &r->points[point];
        mixt_format(
            words + length, sizeof words - length,
            "More memory would help up to %s%s: there about %s tokens/s with %.1f %% of hits, "
            "now %s",
            bytes_text((double)to->memory, text),
            point == r->count - 1 ? ", where all experts fit" : "", rate_text(to->rate, most),
            100 * to->own, rate_text(now->rate, rate));
        length = strlen(words);
        mixt_format(words + length, sizeof words - length,
                    point == r->count - 1 ? "." : "; with all experts in memory %s.",
                    rate_text(all->rate, most));
    }
    mixt_buffer_text(r->out, "\n");
    put_words(r, words);
}

mixt_status mixt_store_facts_report(const mixt_store_facts *facts, char **text, mixt_error *error)
{
    mixt_store_point *points;
    mixt_buffer out = {0};
    report r = {.s = facts->statistics, .out = &out};
    *text = NULL;
    MIXT_TRY(mixt_store_facts_curve(facts, &points, &r.count, &r.now, error));
    r.points = points;
    put_memory(&r);
    put_warning(&r);
    put_hits(&r);
    put_disk(&r);
    put_curve(&r);
    put_tokens(&r);
    put_verdict(&r);
    mixt_buffer_append(&out, "", 1);
    free(points);
    if (out.failed) {
        mixt_buffer_free(&out);
        return mixt_fail(error, MIXT_ERROR_MEMORY, "report of a store: no memory");
    }
    *text = out.data;
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Of a store                                                                                 */

/* Facts as they are now, while steps go on. */
typedef struct snapshot {
    mixt_store_statistics statistics;
    mixt_expert_class *classes;
    mixt_record_book *book;
    mixt_store_facts facts;
} snapshot;

static void release(snapshot *now)
{
    free(now->classes);
    mixt_record_book_free(now->book);
}

static mixt_status take(mixt_expert_store *store, snapshot *now, mixt_error *error)
{
    const mixt_expert_class *classes;
    *now = (snapshot){.facts = {.shape = mixt_expert_store_shape(store)}};
    mixt_store_facts *facts = &now->facts;
    facts->class_count = mixt_expert_store_classes(store, &classes, &facts->class_of);
    now->classes = calloc((size_t)facts->class_count, sizeof *now->classes);
    if (now->classes == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "report of a store: no memory");
    }
    mixt_expert_store_describe(store, &now->statistics);
    pthread_mutex_lock(&store->facts); /* slots change where caches and plans take their memory */
    memcpy(now->classes, classes, (size_t)facts->class_count * sizeof *classes);
    pthread_mutex_unlock(&store->facts);
    MIXT_TRY(mixt_expert_store_requests(store, &now->book, error));
    facts->statistics = &now->statistics;
    facts->classes = now->classes;
    facts->book = now->book;
    return MIXT_OK;
}

mixt_status mixt_expert_store_curve(mixt_expert_store *store, mixt_store_point **points, int *count,
                                    int *now, mixt_error *error)
{
    snapshot taken;
    *points = NULL;
    mixt_status status = take(store, &taken, error);
    status = status == MIXT_OK ? mixt_store_facts_curve(&taken.facts, points, count, now, error)
                               : status;
    release(&taken);
    return status;
}

mixt_status mixt_expert_store_report(mixt_expert_store *store, char **text, mixt_error *error)
{
    snapshot taken;
    *text = NULL;
    mixt_status status = take(store, &taken, error);
    status = status == MIXT_OK ? mixt_store_facts_report(&taken.facts, text, error) : status;
    release(&taken);
    return status;
}
