/* Samplers with the formulas of llama.cpp (src/llama-sampler.cpp), in double. */
#include "sampling/chain.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/random.h"

/* ---- options */

typedef struct stage_name {
    const char *name;
    mixt_stage stage;
} stage_name;

/* llama.cpp's names; those behind the first nine are its other spellings. */
static const stage_name stage_names[] = {
    {"penalties", MIXT_STAGE_PENALTIES},
    {"dry", MIXT_STAGE_DRY},
    {"top_n_sigma", MIXT_STAGE_TOP_N_SIGMA},
    {"top_k", MIXT_STAGE_TOP_K},
    {"typ_p", MIXT_STAGE_TYPICAL},
    {"top_p", MIXT_STAGE_TOP_P},
    {"min_p", MIXT_STAGE_MIN_P},
    {"xtc", MIXT_STAGE_XTC},
    {"temperature", MIXT_STAGE_TEMPERATURE},
    {"top-n-sigma", MIXT_STAGE_TOP_N_SIGMA},
    {"top-k", MIXT_STAGE_TOP_K},
    {"typical-p", MIXT_STAGE_TYPICAL},
    {"typical_p", MIXT_STAGE_TYPICAL},
    {"typical", MIXT_STAGE_TYPICAL},
    {"typ-p", MIXT_STAGE_TYPICAL},
    {"typ", MIXT_STAGE_TYPICAL},
    {"top-p", MIXT_STAGE_TOP_P},
    {"nucleus", MIXT_STAGE_TOP_P},
    {"min-p", MIXT_STAGE_MIN_P},
    {"temp", MIXT_STAGE_TEMPERATURE},
};

static mixt_status read_order(const char *order, mixt_chain *chain, mixt_error *error)
{
    const size_t names = sizeof stage_names / sizeof stage_names[0];
    for (const char *at = order; *at != '\0';) {
        size_t length = strcspn(at, ";");
        size_t i = 0;
        while (i < names && (strlen(stage_names[i].name) != length ||
                             memcmp(stage_names[i].name, at, length) != 0)) {
            i++;
        }
        if (i == names) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                             "samplers: \"%.*s\" is none of penalties, dry, top_n_sigma, top_k, "
                             "typ_p, top_p, min_p, xtc and temperature",
                             (int)(length < 40 ? length : 40), at);
        }
        if (chain->stage_count == MIXT_CHAIN_STAGES_MAX) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "samplers: more than %d",
                             MIXT_CHAIN_STAGES_MAX);
        }
        chain->stages[chain->stage_count++] = stage_names[i].stage;
        at += length + (at[length] == ';');
    }
    return MIXT_OK;
}

typedef struct range {
    const char *name;
    double value, low, high;
} range;

static mixt_status check_ranges(const range *ranges, size_t count, mixt_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const range *r = &ranges[i];
        if (!(r->value >= r->low && r->value <= r->high)) { /* NaN too */
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s %g is not in %g..%g", r->name,
                             r->value, r->low, r->high);
        }
    }
    return MIXT_OK;
}

static mixt_status check(const mixt_sampler_options *o, mixt_error *error)
{
    const mixt_sampling *s = &o->sampling;
    const range ranges[] = {
        {"temperature", s->temperature, 0, 1e6},
        {"top-k", s->top_k, 0, INT32_MAX},
        {"top-p", s->top_p, 0, 1},
        {"min-p", s->min_p, 0, 1},
        {"repeat penalty", s->repeat_penalty, 1e-3, 1e3},
        {"frequency penalty", s->frequency_penalty, -100, 100},
        {"presence penalty", s->presence_penalty, -100, 100},
        {"tokens of the penalties", s->repeat_last, -1, INT32_MAX},
        {"temperature range", o->temperature_range, 0, 1e6},
        {"temperature exponent", o->temperature_exponent, -100, 100},
        {"typical-p", o->typical_p, 0, 1},
        {"top-n-sigma", o->top_n_sigma, -1, 1e6},
        {"xtc probability", o->xtc_probability, 0, 1},
        {"xtc threshold", o->xtc_threshold, 0, 1},
        {"dry multiplier", o->dry_multiplier, 0, 1e6},
        {"dry base", o->dry_base, 1, 1e6},
        {"dry allowed length", o->dry_allowed_length, 0, INT32_MAX},
        {"tokens of dry", o->dry_last, -1, INT32_MAX},
        {"mirostat", o->mirostat, 0, 2},
        {"mirostat tau", o->mirostat_tau, 0, 1e3},
        {"mirostat eta", o->mirostat_eta, 0, 1e3},
        {"candidates to keep", o->min_keep, 0, INT32_MAX},
    };
    return check_ranges(ranges, sizeof ranges / sizeof ranges[0], error);
}

mixt_status mixt_chain_create(const mixt_sampler_options *options, mixt_chain *chain,
                              mixt_error *error)
{
    *chain = (mixt_chain){.options = *options};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_sampling, &options->sampling, error));
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_sampler_options, options, error));
    MIXT_TRY(check(options, error));
    if (options->order != NULL) {
        MIXT_TRY(read_order(options->order, chain, error));
    } else {
        for (int stage = MIXT_STAGE_PENALTIES; stage <= MIXT_STAGE_TEMPERATURE; stage++) {
            chain->stages[chain->stage_count++] = (mixt_stage)stage;
        }
    }
    if (options->mirostat != 0) {
        chain->stages[0] = MIXT_STAGE_TEMPERATURE;
        chain->stages[1] = MIXT_STAGE_MIROSTAT;
        chain->stage_count = 2;
    }
    return MIXT_OK;
}

/* ---- the samplers */

/* Counts each token among the last ones, then applies the penalties once for each. */
static void penalize(const mixt_sampling *s, const mixt_chain_text *text,
                     mixt_candidates *candidates)
{
    size_t last = s->repeat_last < 0 ? text->count : (size_t)s->repeat_last;
    size_t first = text->count > last ? text->count - last : 0;
    if (s->repeat_penalty == 1 && s->frequency_penalty == 0 && s->presence_penalty == 0) {
        return;
    }
    mixt_candidates_settle(candidates);
    for (size_t i = first; i < text->count; i++) {
        int32_t id = text->tokens[i];
        if (id >= 0 && id < text->vocab_size) {
            text->marks[id]++;
        }
    }
    for (int i = 0; i < candidates->count; i++) {
        mixt_candidate *c = &candidates->list[i];
        double count = text->marks[c->id], logit = c->logit;
        if (count > 0) {
            logit = logit <= 0 ? logit * s->repeat_penalty : logit / s->repeat_penalty;
            c->logit = logit - count * s->frequency_penalty - s->presence_penalty;
        }
    }
    for (size_t i = first; i < text->count; i++) {
        int32_t id = text->tokens[i];
        if (id >= 0 && id < text->vocab_size) {
            text->marks[id] = 0;
        }
    }
    candidates->sorted = false;
}

/* What is not within n standard deviations of the logits below the largest is dropped. */
static void keep_n_sigma(double n, mixt_candidates *candidates)
{
    mixt_candidate *list = candidates->list;
    double largest = -INFINITY, sum = 0, squares = 0;
    int kept = 0;
    mixt_candidates_settle(candidates);
    for (int i = 0; i < candidates->count; i++) {
        largest = list[i].logit > largest ? list[i].logit : largest;
        sum += list[i].logit;
    }
    double mean = sum / candidates->count;
    for (int i = 0; i < candidates->count; i++) {
        squares += (list[i].logit - mean) * (list[i].logit - mean);
    }
    double lowest = largest - n * sqrt(squares / candidates->count);
    for (int i = 0; i < candidates->count; i++) {
        if (list[i].logit >= lowest || list[i].logit == largest) {
            list[kept++] = list[i];
        }
    }
    candidates->count = kept;
}

typedef struct distance {
    double distance; /* of a candidate's surprise from the entropy */
    int index;
} distance;

static int compare_distances(const void *a, const void *b)
{
    const distance *x = a, *y = b;
    return x->distance != y->distance ? (x->distance > y->distance) - (x->distance < y->distance)
                                      : (x->index > y->index) - (x->index < y->index);
}

/* Those whose surprise is nearest to the entropy, until their probabilities are more than `p`. */
static bool keep_typical(double p, int min_keep, mixt_candidates *candidates)
{
    int count = candidates->count, kept = 0;
    mixt_candidates_softmax(candidates);
    double entropy = mixt_candidates_entropy(candidates), sum = 0;
    distance *order = calloc((size_t)count, sizeof *order);
    mixt_candidate *chosen = calloc((size_t)count, sizeof *chosen);
    if (order != NULL && chosen != NULL) {
        for (int i = 0; i < count; i++) {
            order[i] = (distance){fabs(-log(candidates->list[i].probability) - entropy), i};
        }
        qsort(order, (size_t)count, sizeof *order, compare_distances);
        while (kept < count && (kept == 0 || kept < min_keep || !(sum > p))) {
            chosen[kept] = candidates->list[order[kept].index];
            sum += chosen[kept].probability;
            kept++;
        }
        memcpy(candidates->list, chosen, (size_t)kept * sizeof *chosen);
        candidates->count = kept;
        candidates->sorted = false;
    }
    bool done = kept > 0;
    free(order);
    free(chosen);
    return done;
}

static void keep_top_p(double top_p, int min_keep, mixt_candidates *candidates)
{
    double sum = 0;
    mixt_candidates_softmax(candidates);
    for (int i = 0; i < candidates->count; i++) {
        sum += candidates->list[i].probability;
        if (sum >= top_p && i + 1 >= min_keep) {
            candidates->count = i + 1;
        }
    }
}

static void keep_min_p(double min_p, int min_keep, mixt_candidates *candidates)
{
    mixt_candidates_settle(candidates);
    mixt_candidates_sort(candidates);
    double lowest = candidates->list[0].logit + log(min_p);
    int kept = 1;
    while (kept < candidates->count &&
           (candidates->list[kept].logit >= lowest || kept < min_keep)) {
        kept++;
    }
    candidates->count = kept;
}

/* Exclude top choices: of those at least as probable as the threshold only the last one stays. */
static void exclude_top(const mixt_sampler_options *o, const mixt_chain_text *text,
                        mixt_candidates *candidates)
{
    const mixt_random_key key = {o->sampling.seed, MIXT_RANDOM_SAMPLE, 1};
    if (candidates->count < 2 || mixt_random_uniform(&key, text->drawn) > o->xtc_probability) {
        return;
    }
    mixt_candidates_softmax(candidates);
    int last = 0;
    while (last + 1 < candidates->count &&
           candidates->list[last + 1].probability >= o->xtc_threshold) {
        last++;
    }
    if (candidates->count - last >= o->min_keep) {
        candidates->count -= last;
        memmove(candidates->list, candidates->list + last,
                (size_t)candidates->count * sizeof *candidates->list);
    }
}

static void heat(const mixt_sampler_options *o, mixt_candidates *candidates)
{
    double temperature = o->sampling.temperature;
    if (temperature == 0) {
        mixt_candidates_best(candidates, 1);
        return;
    }
    if (o->temperature_range > 0 && o->mirostat == 0) {
        if (candidates->count < 2) {
            return;
        }
        double low = fmax(0, temperature - o->temperature_range);
        double high = temperature + o->temperature_range;
        mixt_candidates_softmax(candidates);
        double share = mixt_candidates_entropy(candidates) / log(candidates->count);
        temperature = low + (high - low) * pow(share, o->temperature_exponent);
        if (!(temperature > 0)) {
            mixt_candidates_best(candidates, 1);
            return;
        }
        temperature = fmin(temperature, 1e300);
    }
    candidates->temperature *= temperature;
}

/* Mirostat 1: the exponent of Zipf's law over the best, and so how many of them have the wanted
 * surprise. */
static void keep_by_zipf(const mixt_chain_text *text, mixt_candidates *candidates)
{
    double products = 0, squares = 0;
    mixt_candidates_softmax(candidates);
    for (int i = 0; i < MIXT_MIROSTAT_CANDIDATES - 1 && i + 1 < candidates->count &&
                    candidates->list[i + 1].probability > 0;
         i++) {
        double t = log((i + 2.0) / (i + 1.0));
        products += t * log(candidates->list[i].probability / candidates->list[i + 1].probability);
        squares += t * t;
    }
    double s = products / squares, e = s - 1; /* NaN where only one has any: it stays */
    double k = pow(e * exp2(text->mirostat_mu) / (1 - pow(text->vocab_size, -e)), 1 / s);
    mixt_candidates_best(candidates, k >= candidates->count ? candidates->count
                                     : k > 1                ? (int)k
                                                            : 1);
}

/* Mirostat 2: what surprises more than mu bits is dropped. */
static void keep_unsurprising(const mixt_chain_text *text, mixt_candidates *candidates)
{
    int kept = 0;
    mixt_candidates_softmax(candidates);
    while (kept < candidates->count &&
           -log2(candidates->list[kept].probability) <= text->mirostat_mu) {
        kept++;
    }
    candidates->count = kept > 0 ? kept : 1;
}

/* ---- the chain */

/* False without memory. */
static bool run_stage(const mixt_chain *chain, mixt_stage stage, const mixt_chain_text *text,
                      mixt_candidates *candidates)
{
    const mixt_sampler_options *o = &chain->options;
    switch (stage) {
    case MIXT_STAGE_PENALTIES:
        penalize(&o->sampling, text, candidates);
        return true;
    case MIXT_STAGE_DRY:
        return o->dry_multiplier == 0 || o->dry_last == 0 || mixt_dry_apply(o, text, candidates);
    case MIXT_STAGE_TOP_N_SIGMA:
        if (o->top_n_sigma > 0) {
            keep_n_sigma(o->top_n_sigma, candidates);
        }
        return true;
    case MIXT_STAGE_TOP_K:
        if (o->sampling.top_k > 0) {
            mixt_candidates_best(candidates, o->sampling.top_k);
        }
        return true;
    case MIXT_STAGE_TYPICAL:
        return o->typical_p >= 1 || keep_typical(o->typical_p, o->min_keep, candidates);
    case MIXT_STAGE_TOP_P:
        if (o->sampling.top_p < 1) {
            keep_top_p(o->sampling.top_p, o->min_keep, candidates);
        }
        return true;
    case MIXT_STAGE_MIN_P:
        if (o->sampling.min_p > 0) {
            keep_min_p(o->sampling.min_p, o->min_keep, candidates);
        }
        return true;
    case MIXT_STAGE_XTC:
        if (o->xtc_probability > 0 && o->xtc_threshold <= 0.5) {
            exclude_top(o, text, candidates);
        }
        return true;
    case MIXT_STAGE_TEMPERATURE:
        heat(o, candidates);
        return true;
    case MIXT_STAGE_MIROSTAT:
        (o->mirostat == 1 ? keep_by_zipf : keep_unsurprising)(text, candidates);
        return true;
    }
    assert(0);
    return true;
}

/* Whether from this stage on nothing but the best candidate can be drawn: temperature 0 is to come,
 * and until then nobody leaves it out or changes logits. Spares the sorting of a vocabulary. */
static bool is_greedy(const mixt_chain *chain, int from)
{
    const mixt_sampler_options *o = &chain->options;
    bool reached = false;
    for (int i = from; i < chain->stage_count && !reached; i++) {
        mixt_stage stage = chain->stages[i];
        if (stage == MIXT_STAGE_PENALTIES || stage == MIXT_STAGE_DRY ||
            (stage == MIXT_STAGE_TYPICAL && o->typical_p < 1) ||
            (stage == MIXT_STAGE_XTC && o->xtc_probability > 0)) {
            return false;
        }
        reached = stage == MIXT_STAGE_TEMPERATURE && o->sampling.temperature == 0;
    }
    return reached;
}

bool mixt_chain_run(const mixt_chain *chain, const mixt_chain_text *text,
                    mixt_candidates *candidates)
{
    assert(candidates->count > 0);
    for (int i = 0; i < chain->stage_count; i++) {
        if (is_greedy(chain, i)) {
            mixt_candidates_best(candidates, 1);
        }
        if (candidates->count > 1 && !run_stage(chain, chain->stages[i], text, candidates)) {
            return false;
        }
    }
    mixt_candidates_softmax(candidates);
    return true;
}

int mixt_chain_draw(const mixt_chain *chain, const mixt_chain_text *text,
                    const mixt_candidates *candidates)
{
    const mixt_random_key key = {chain->options.sampling.seed, MIXT_RANDOM_SAMPLE, 0};
    return mixt_candidates_draw(candidates, mixt_random_uniform(&key, text->drawn));
}
