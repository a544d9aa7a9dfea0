/* Which rows a step computes. Sequences stand in a line in the order in which they came; so many as
 * there are places run side by side, each with pages for what it holds. */
#include "core/arithmetic.h"
#include "infer/engine.h"

/* What a step has left to give out. */
typedef struct budget {
    int64_t rows, logits; /* of prompts */
} budget;

static size_t pages_for(size_t positions)
{
    return (positions + MIXT_ATTENTION_BLOCK - 1) / MIXT_ATTENTION_BLOCK;
}

/* Rows that are still to be computed, those again included whose pages were given up. */
static size_t outstanding(const mixt_sequence *s)
{
    return s->length - s->held;
}

static int64_t free_pages(const mixt_engine *engine)
{
    return mixt_page_pool_size(engine->pool) - mixt_page_pool_used(engine->pool);
}

static void preempt(mixt_sequence *s)
{
    s->engine->count.preemptions++;
    s->admitted = false;
    mixt_sequence_give_back(s, 0);
}

/* Whose pages go next in favour of `s`: of sequences for which nothing is to be done the newest,
 * then the newest of those behind it in the line; NULL: nobody's. */
static mixt_sequence *victim_for(const mixt_sequence *s)
{
    mixt_engine *engine = s->engine;
    mixt_sequence *newest = NULL;
    bool behind = true;
    for (mixt_sequence *v = engine->newest; v != NULL; v = v->previous) {
        behind = behind && v != s;
        if (v == s || v->page_count == 0 || v->served == engine->step) {
            continue;
        }
        if (!mixt_sequence_has_work(v)) {
            return v;
        }
        newest = newest == NULL && behind ? v : newest;
    }
    return newest;
}

/* Takes pages that others have computed, as far as they go. */
static void find_pages(mixt_sequence *s)
{
    mixt_engine *engine = s->engine;
    const size_t block = MIXT_ATTENTION_BLOCK;
    bool all = s->every || s->options.no_sharing;
    size_t most = all ? s->done : s->length - 1; /* whose results are not wanted */
    while (engine->sharing && s->held == s->page_count * block && s->held + block <= most) {
        uint64_t before = s->page_count == 0
                              ? MIXT_PAGE_BEGINNING(s->variant->number)
                              : mixt_page_serial(engine->pool, s->pages[s->page_count - 1]);
        int32_t room[MIXT_ATTENTION_BLOCK], page = -1;
        if (before != 0) {
            page = mixt_page_find(engine->pool, before,
                                  mixt_sequence_page_tokens(s, s->page_count, room));
        }
        if (page < 0) {
            return;
        }
        s->pages[s->page_count++] = page;
        s->held += block;
        if (s->held > s->done) {
            s->found += s->held - s->done;
            engine->count.found_positions += s->held - s->done;
            s->done = s->held;
        }
    }
}

/* Whether all of a sequence has pages or would get some, and those that run beside it one more each
 * (so that it is not the next to give them up again). */
static bool fits(mixt_sequence *s, int64_t beside)
{
    find_pages(s);
    int64_t wanted = (int64_t)(pages_for(s->length) - s->page_count) + beside;
    for (mixt_sequence *idle; wanted > free_pages(s->engine);) {
        idle = victim_for(s);
        if (idle == NULL || mixt_sequence_has_work(idle)) {
            break;
        }
        preempt(idle);
    }
    return beside == 0 || wanted <= free_pages(s->engine);
}

/* A place that nobody needs in this step; false: all do. */
static bool free_place(mixt_engine *engine)
{
    mixt_sequence *idle = NULL;
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        if (s->admitted && !mixt_sequence_has_work(s) &&
            (idle == NULL || s->served < idle->served)) {
            idle = s;
        }
    }
    if (idle != NULL) {
        idle->admitted = false;
    }
    return idle != NULL;
}

/* Lets sequences begin, or begin again, in the order of the line. */
static void admit(mixt_engine *engine)
{
    int places = engine->options.sequences;
    int64_t working = 0;
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        places -= s->admitted;
        working += s->admitted && mixt_sequence_has_work(s);
    }
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        if (s->admitted || !mixt_sequence_has_work(s)) {
            continue;
        }
        if (places == 0 && !free_place(engine)) {
            return;
        }
        places = places == 0 ? 1 : places;
        if (!fits(s, working)) {
            return;
        }
        s->admitted = true;
        places--;
        working++;
    }
}

/* The page that rows behind `held` go into, where it holds some already: nobody else's, and not to
 * be found with what it held. */
static bool own_page(mixt_sequence *s)
{
    mixt_engine *engine = s->engine;
    if (s->held % MIXT_ATTENTION_BLOCK == 0) {
        return true;
    }
    int32_t *page = &s->pages[s->held / MIXT_ATTENTION_BLOCK];
    if (!mixt_page_is_shared(engine->pool, *page)) {
        mixt_page_withdraw(engine->pool, *page);
        return true;
    }
    int32_t copy = mixt_page_take(engine->pool);
    if (copy < 0) {
        return false;
    }
    const mixt_graph *g = engine->many.graph;
    size_t offset = 0;
    for (int i = 0; i < g->cache_count; i++) {
        size_t bytes = g->caches[i].bytes / (size_t)g->options.cache_pages;
        mixt_device_memory_read(&engine->cache, offset + (size_t)*page * bytes, engine->page,
                                bytes);
        mixt_device_memory_write(&engine->cache, offset + (size_t)copy * bytes, engine->page,
                                 bytes);
        offset += g->caches[i].bytes;
    }
    mixt_page_release(engine->pool, *page);
    *page = copy;
    return true;
}

/* Pages for rows up to `end`; false where the sequence had to give up its own instead. */
static bool get_pages(mixt_sequence *s, size_t end)
{
    for (;;) {
        bool own = own_page(s);
        int32_t page = 0;
        while (own && page >= 0 && s->page_count < pages_for(end)) {
            page = mixt_page_take(s->engine->pool);
            if (page >= 0) {
                s->pages[s->page_count++] = page;
            }
        }
        if (own && page >= 0) {
            return true;
        }
        mixt_sequence *victim = victim_for(s);
        preempt(victim != NULL ? victim : s);
        if (victim == NULL) {
            return false;
        }
    }
}

static bool generates(const mixt_sequence *s)
{
    return s->admitted && mixt_sequence_has_work(s) && outstanding(s) == 1;
}

/* A document's first rows stand in one batch where the router decides for them together. */
static bool is_whole(const mixt_sequence *s)
{
    return s->engine->whole_first && s->held == 0;
}

/* How many rows of a prompt come next within the budget. */
static int64_t rows_of_prompt(const mixt_sequence *s, const budget *left)
{
    int64_t most = (int64_t)outstanding(s),
            again = (int64_t)(s->done > s->held ? s->done - s->held : 0);
    if (is_whole(s)) {
        most = mixt_least((int64_t)s->first_feed, s->engine->options.batch_tokens);
        return most <= left->rows && (!s->every || most - again <= left->logits) ? most : 0;
    }
    int64_t rows = mixt_least(most, left->rows);
    if (s->every) {
        return mixt_least(rows, again + left->logits);
    }
    return rows == most && left->logits == 0 ? rows - 1 : rows;
}

static void add_piece(mixt_sequence *s, int64_t count, budget *left)
{
    mixt_engine *engine = s->engine;
    size_t end = s->held + (size_t)count;
    size_t logits = end <= s->done     ? 0
                    : s->every         ? end - (s->held > s->done ? s->held : s->done)
                    : end == s->length ? 1
                                       : 0;
    engine->pieces[engine->piece_count++] =
        (mixt_piece){.sequence = s, .count = count, .logits_count = (int64_t)logits};
    s->served = engine->step;
    left->rows -= count;
    left->logits -= (int64_t)logits;
}

/* Which sequences generate in this step: those that have waited longest, where not all can. How
 * many. */
static int64_t choose_generating(mixt_engine *engine, int64_t most)
{
    int64_t count = 0, chosen = 0;
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        s->chosen = generates(s);
        count += s->chosen;
    }
    if (count <= most) {
        return count;
    }
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        s->chosen = false;
    }
    for (; chosen < most; chosen++) {
        mixt_sequence *next = NULL;
        for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
            if (generates(s) && !s->chosen && (next == NULL || s->served < next->served)) {
                next = s;
            }
        }
        next->chosen = true;
    }
    return chosen;
}

/* The first document that has to begin in one batch comes before all else. */
static void begin_whole(mixt_engine *engine, budget *left)
{
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        if (s->admitted && mixt_sequence_has_work(s) && is_whole(s)) {
            int64_t rows = rows_of_prompt(s, left);
            if (rows > 0 && get_pages(s, (size_t)rows)) {
                add_piece(s, rows, left);
            }
            return;
        }
    }
}

/* Most rows of a step. Where some generate, two batches: they wait at most twice as long for their
 * next token as beside one, and a prompt reads experts half as often. */
static int64_t rows_of_step(mixt_engine *engine)
{
    const mixt_engine_options *o = &engine->options;
    int64_t waiting = 0, most = o->step_tokens;
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        waiting += s->admitted && mixt_sequence_has_work(s) ? (int64_t)outstanding(s) : 0;
        most = generates(s) ? mixt_least(most, 2 * (int64_t)o->batch_tokens) : most;
    }
    return mixt_engine_make_sweep(engine, mixt_least(waiting, most));
}

void mixt_engine_schedule(mixt_engine *engine)
{
    engine->piece_count = 0;
    admit(engine);
    budget left = {rows_of_step(engine), engine->options.logits_rows};
    if (engine->whole_first) {
        begin_whole(engine, &left);
    }
    int64_t most = mixt_least(left.rows, engine->options.batch_tokens);
    int64_t generating = choose_generating(engine, mixt_least(most, left.logits));
    left.rows -= generating;
    left.logits -= generating;
    for (mixt_sequence *s = engine->oldest; s != NULL; s = s->next) {
        if (!s->admitted || !mixt_sequence_has_work(s) || s->served == engine->step) {
            continue;
        }
        if (s->chosen) { /* its row was set aside */
            budget one = {1, 1};
            if (get_pages(s, s->held + 1)) {
                add_piece(s, 1, &one);
            }
            continue;
        }
        find_pages(s);
        int64_t rows = generates(s) ? 0 : rows_of_prompt(s, &left);
        if (rows > 0 && get_pages(s, s->held + (size_t)rows)) {
            add_piece(s, rows, &left);
        }
    }
}
