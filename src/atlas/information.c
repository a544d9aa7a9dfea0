/* Tokens are sorted by label once; then one walk over them counts experts label by label in a
 * histogram of E cells, so that no table of labels x experts is ever held. Shuffles change which
 * token's experts are read at a place. */
#include "atlas/information.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/interval.h"
#include "atlas/statistics.h"
#include "core/error.h"
#include "core/random.h"

#define GROUPS MIXT_INFORMATION_GROUPS
#define SHUFFLE_SEED 0x73687566 /* fixed: the same trace gives the same level */
#define SHUFFLES_MOST 20
#define SHUFFLES_LEAST 2
#define SHUFFLES_CHOICES ((uint64_t)1 << 28) /* fewer where so many choices would be read */
/* Of them with groups left out, for the interval: so many are enough where a shuffle changes
 * little, and one where so many cannot be read. All are taken of short traces, and of domains, of
 * which a document is much. */
#define LESS_SHUFFLES 4
#define LESS_CHOICES ((uint64_t)1 << 19)
#define ROUNDING 1e-9 /* bits */

#define PRODUCTS 65536 /* n log2 n is looked up below this */
#define POSITIONS 33   /* powers of two up to the tokens of a trace */

/* Tokens in the order of their labels, and of their groups within a label. */
typedef struct sorted_tokens {
    uint32_t *token;
    uint32_t *begin; /* [values + 1] into token, used up to seen + 1 */
    int values;      /* labels that there could be */
    int seen;        /* that there are: others have no place in begin */
} sorted_tokens;

/* What one walk gives: sums of n log2 n over the counts n of (label, expert) and of labels, and by
 * what they change when a group is left out. */
typedef struct sums {
    uint64_t count;
    double joint, label;
    uint64_t count_of[GROUPS];
    double joint_less[GROUPS], label_less[GROUPS];
} sums;

/* The numbers of one walk, or their means over layers. */
typedef struct reading {
    double bits, entropy;
    uint64_t count;
    double less[GROUPS]; /* bits without a group */
} reading;

/* Of one row of the result, as readings come in. */
typedef struct outcome {
    reading seen; /* labels where they are */
    double excess_less[GROUPS];
    double sum, squares; /* of shuffled bits less those seen */
    double highest;
    int reached; /* shuffles with as many bits */
} outcome;

typedef struct measurer {
    const mixt_trace *trace;
    const mixt_units *units;
    int first_layer, layers;
    int first_label, labels; /* labels first_label to labels - 1 */
    int at_layer;            /* whose choices MIXT_LABEL_BEFORE is about */
    int shuffles;
    uint64_t seed;
    uint8_t *class_of; /* [vocab_size] */
    uint8_t *group;    /* [T] */
    bool used[GROUPS]; /* groups with tokens */
    uint32_t *grouped; /* [T] tokens in the order of their groups */
    uint32_t *place;   /* [T] token whose experts stand at each place */
    uint32_t *kept;    /* [T] likewise, each token having moved among those of its id */
    uint64_t movable;  /* tokens that can move so */
    int32_t *pair;     /* [T] number of the pair of labels at hand; -1: none */
    uint32_t *by_pair; /* [T] tokens in the order of these pairs */
    uint32_t *ends;    /* [vocab_size + 1] */
    uint16_t *domain;  /* [documents] label of each */
    sorted_tokens sorted[MIXT_LABEL_ALL];
    uint32_t *row;     /* [T] the same in the order of one label's tokens */
    uint64_t *cells;   /* [2, E] counts of one label, and of a group in it, see CHOICE */
    uint16_t *touched; /* [2, E + 1] experts with counts; one more is written before it is known */
    uint16_t *present; /* [E + 1] experts with counts over all labels */
    int present_count;
    uint64_t *experts;    /* [MIXT_TOLD_COUNT, E] over all labels */
    uint64_t *experts_of; /* [GROUPS, MIXT_TOLD_COUNT, E] */
    double *product;      /* [PRODUCTS] n log2 n */
    sums sums[MIXT_TOLD_COUNT];
    outcome *outcomes; /* [layers + 1, labels, MIXT_TOLD_COUNT] */
} measurer;

const char *mixt_label_name(int label)
{
    static const char *const names[] = {"domain", "class", "token", "previous"};
    assert(label >= 0 && label < MIXT_LABEL_COUNT);
    return names[label];
}

bool mixt_information_exceeds(const mixt_information *row)
{
    return row->shuffles > 0 && row->bits > row->highest + ROUNDING &&
           !(mixt_information_has_interval(row) && row->low <= 0);
}

void mixt_information_classes(const mixt_trace *trace, double *share)
{
    memset(share, 0, MIXT_CLASS_COUNT * sizeof *share);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(trace, trace->tokens[i], &length);
        share[mixt_token_class_of(bytes, length)] += 1;
    }
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        share[c] /= (double)trace->info.tokens;
    }
}

static void release(measurer *m)
{
    free(m->class_of);
    free(m->group);
    free(m->grouped);
    free(m->place);
    free(m->kept);
    free(m->pair);
    free(m->by_pair);
    free(m->ends);
    free(m->domain);
    for (int label = m->first_label; label < m->labels; label++) {
        free(m->sorted[label].token);
        free(m->sorted[label].begin);
    }
    free(m->row);
    free(m->cells);
    free(m->touched);
    free(m->present);
    free(m->experts);
    free(m->experts_of);
    free(m->product);
    free(m->outcomes);
}

static bool allocate(measurer *m)
{
    const mixt_trace_info *info = &m->trace->info;
    size_t tokens = (size_t)info->tokens;
    size_t experts = (size_t)info->experts;
    size_t rows = ((size_t)m->layers + 1) * (size_t)m->labels * MIXT_TOLD_COUNT;
    const int values[] = {info->domains,        MIXT_CLASS_COUNT, m->trace->vocab_size,
                          m->trace->vocab_size, POSITIONS,        (int)tokens,
                          (int)tokens,          info->experts};
    bool complete = true;
    for (int label = m->first_label; label < m->labels; label++) {
        sorted_tokens *sorted = &m->sorted[label];
        sorted->values = values[label];
        sorted->token = calloc(tokens, sizeof *sorted->token);
        sorted->begin = calloc((size_t)values[label] + 1, sizeof *sorted->begin);
        complete = complete && sorted->token != NULL && sorted->begin != NULL;
    }
    m->class_of = calloc((size_t)m->trace->vocab_size, sizeof *m->class_of);
    m->group = calloc(tokens, sizeof *m->group);
    m->grouped = calloc(tokens, sizeof *m->grouped);
    m->place = calloc(tokens, sizeof *m->place);
    if (m->first_label <= MIXT_LABEL_TOKEN_PREVIOUS && m->labels > MIXT_LABEL_COUNT) {
        m->kept = calloc(tokens, sizeof *m->kept);
        m->pair = calloc(tokens, sizeof *m->pair);
        m->by_pair = calloc(tokens, sizeof *m->by_pair);
        m->ends = calloc((size_t)m->trace->vocab_size + 1, sizeof *m->ends);
        complete =
            complete && m->kept != NULL && m->pair != NULL && m->by_pair != NULL && m->ends != NULL;
    }
    m->domain = calloc((size_t)info->documents, sizeof *m->domain);
    m->row = calloc(tokens, sizeof *m->row);
    m->cells = calloc(2 * experts, sizeof *m->cells);
    m->touched = calloc(2 * (experts + 1), sizeof *m->touched);
    m->present = calloc(experts + 1, sizeof *m->present);
    m->experts = calloc(MIXT_TOLD_COUNT * experts, sizeof *m->experts);
    m->experts_of = calloc(GROUPS * MIXT_TOLD_COUNT * experts, sizeof *m->experts_of);
    m->product = calloc(PRODUCTS, sizeof *m->product);
    m->outcomes = calloc(rows, sizeof *m->outcomes);
    return complete && m->class_of != NULL && m->group != NULL && m->grouped != NULL &&
           m->place != NULL && m->domain != NULL && m->row != NULL && m->cells != NULL &&
           m->touched != NULL && m->present != NULL && m->experts != NULL &&
           m->experts_of != NULL && m->product != NULL && m->outcomes != NULL;
}

/* -- Labels and shuffles -------------------------------------------------------------------- */

/* Documents take turns in the groups, domain by domain; the only document of a domain is cut into
 * blocks that do. next [domains] is room. */
static void choose_groups(measurer *m, uint64_t *next)
{
    const mixt_units *units = m->units;
    uint64_t count = 0;
    for (int d = 0; d < units->domains; d++) {
        next[d] = count;
        count += units->documents[d] == 1 ? MIXT_BLOCKS_MOST : units->documents[d];
    }
    for (size_t r = 0; r < units->run_count; r++) {
        const mixt_unit_run *run = &units->runs[r];
        uint64_t blocks = units->documents[run->domain] == 1 ? MIXT_BLOCKS_MOST : 1;
        uint64_t length = run->end - run->begin;
        for (uint64_t i = run->begin; i < run->end; i++) {
            uint64_t block = (i - run->begin) * blocks / length;
            m->group[i] = (uint8_t)((next[run->domain] + block) % GROUPS);
            m->used[m->group[i]] = true;
        }
        next[run->domain]++;
    }
    uint32_t begin[GROUPS + 1] = {0};
    for (uint64_t i = 0; i < m->trace->info.tokens; i++) {
        begin[m->group[i] + 1]++;
    }
    for (int g = 0; g < GROUPS; g++) {
        begin[g + 1] += begin[g];
    }
    for (uint64_t i = 0; i < m->trace->info.tokens; i++) {
        m->grouped[begin[m->group[i]]++] = (uint32_t)i;
    }
}

/* -1: none. */
static int32_t label_of(const measurer *m, int label, uint32_t i)
{
    const mixt_trace *trace = m->trace;
    switch (label) {
    case MIXT_LABEL_DOMAIN:
        return m->domain[trace->document[i]];
    case MIXT_LABEL_CLASS:
        return m->class_of[trace->tokens[i]];
    case MIXT_LABEL_TOKEN:
        return trace->tokens[i];
    case MIXT_LABEL_POSITION: {
        uint64_t place = i - trace->document_start[trace->document[i]];
        int32_t power = 0;
        for (uint64_t n = place + 1; n > 1; n /= 2) {
            power++;
        }
        return power;
    }
    case MIXT_LABEL_TOKEN_DOMAIN:
    case MIXT_LABEL_TOKEN_PREVIOUS:
        return m->pair[i];
    case MIXT_LABEL_BEFORE: {
        uint16_t expert = mixt_trace_experts(trace, m->at_layer, i)[0];
        return expert == MIXT_TRACE_NONE ? -1 : expert;
    }
    default:
        return i > 0 && trace->document[i] == trace->document[i - 1] ? trace->tokens[i - 1] : -1;
    }
}

/* Numbers the pairs (token, `second`) that there are: tokens in the order of the second label,
 * which are sorted already, go stably into the order of their ids. */
static void number_pairs(measurer *m, int second)
{
    const mixt_trace *trace = m->trace;
    const sorted_tokens *sorted = &m->sorted[second];
    uint32_t count = sorted->begin[sorted->seen];
    memset(m->ends, 0, ((size_t)trace->vocab_size + 1) * sizeof *m->ends);
    for (uint64_t i = 0; i < trace->info.tokens; i++) {
        m->pair[i] = -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        m->ends[trace->tokens[sorted->token[i]] + 1]++;
    }
    for (int32_t token = 0; token < trace->vocab_size; token++) {
        m->ends[token + 1] += m->ends[token];
    }
    for (uint32_t i = 0; i < count; i++) {
        m->by_pair[m->ends[trace->tokens[sorted->token[i]]]++] = sorted->token[i];
    }
    int32_t number = -1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t here = m->by_pair[i], before = i > 0 ? m->by_pair[i - 1] : here;
        number += i == 0 || trace->tokens[here] != trace->tokens[before] ||
                  label_of(m, second, here) != label_of(m, second, before);
        m->pair[here] = number;
    }
}

/* Counting sort of the grouped tokens. */
static void sort_by_label(measurer *m, int label)
{
    sorted_tokens *sorted = &m->sorted[label];
    uint32_t *begin = sorted->begin;
    uint32_t tokens = (uint32_t)m->trace->info.tokens;
    memset(begin, 0, ((size_t)sorted->values + 1) * sizeof *begin);
    for (uint32_t i = 0; i < tokens; i++) {
        int32_t value = label_of(m, label, i);
        if (value >= 0) {
            begin[value + 1]++;
        }
    }
    for (int value = 0; value < sorted->values; value++) {
        begin[value + 1] += begin[value];
    }
    for (uint32_t i = 0; i < tokens; i++) {
        int32_t value = label_of(m, label, m->grouped[i]);
        if (value >= 0) {
            sorted->token[begin[value]++] = m->grouped[i];
        }
    }
    int seen = 0; /* each is where its label ends now; those without tokens go */
    for (int value = 0; value < sorted->values; value++) {
        uint32_t end = begin[value];
        if (end > (seen > 0 ? begin[seen - 1] : 0)) {
            begin[seen++] = end;
        }
    }
    memmove(begin + 1, begin, (size_t)seen * sizeof *begin);
    begin[0] = 0;
    sorted->seen = seen;
}

/* Shuffle 0 leaves all where it is. Others move whole rows of experts within their document, which
 * is what moving labels is, and the domains of whole documents. */
static void arrange(measurer *m, int shuffle)
{
    const mixt_random_key key = {m->seed, MIXT_RANDOM_RESAMPLE, (uint32_t)shuffle};
    const mixt_units *units = m->units;
    uint64_t tokens = m->trace->info.tokens;
    for (size_t r = 0; r < units->run_count; r++) {
        uint64_t begin = units->runs[r].begin;
        for (uint64_t i = begin; i < units->runs[r].end; i++) { /* from the inside out */
            uint64_t j = shuffle == 0 ? i : begin + mixt_random_below(&key, i, i - begin + 1);
            m->place[i] = m->place[j];
            m->place[j] = (uint32_t)i;
        }
        uint64_t q = shuffle == 0 ? r : mixt_random_below(&key, tokens + r, r + 1);
        m->domain[r] = m->domain[q];
        m->domain[q] = units->runs[r].domain;
    }
}

/* Rows of experts change places among the tokens of one id of a document: in the order of ids these
 * lie side by side (those of a document that is cut into blocks by blocks). */
static void arrange_kept(measurer *m, int shuffle)
{
    const mixt_random_key key = {m->seed + 1, MIXT_RANDOM_RESAMPLE, (uint32_t)shuffle};
    const mixt_trace *trace = m->trace;
    const uint32_t *order = m->sorted[MIXT_LABEL_TOKEN].token;
    uint64_t tokens = trace->info.tokens, begin = 0;
    m->movable = 0;
    for (uint64_t i = 0; i < tokens; i++) {
        if (i > 0 && (trace->tokens[order[i]] != trace->tokens[order[i - 1]] ||
                      trace->document[order[i]] != trace->document[order[i - 1]])) {
            begin = i;
        }
        m->movable += i > begin ? 1 + (i == begin + 1) : 0;
        uint64_t j = shuffle == 0 ? i : begin + mixt_random_below(&key, i, i - begin + 1);
        m->kept[order[i]] = m->kept[order[j]];
        m->kept[order[j]] = order[i];
    }
}

/* A cell counts all choices of an expert in its low half, and in its high half those that are a
 * token's first; neither is more than the tokens. */
#define CHOICE ((uint64_t)1)
#define FIRST_CHOICE (CHOICE << 32 | CHOICE)

static uint32_t count_in(uint64_t cell, int which)
{
    return (uint32_t)(which == MIXT_TOLD_FIRST ? cell >> 32 : cell);
}

/* -- One walk ------------------------------------------------------------------------------- */

static double product(const measurer *m, uint64_t n)
{
    return n < PRODUCTS ? m->product[n] : (double)n * log2((double)n);
}

/* Adds the choices of rows [count] to cells [E]; returns how many experts were touched. */
static int count_choices(const measurer *m, int layer, const uint32_t *rows, uint32_t count,
                         uint64_t *cells, uint16_t *touched)
{
    size_t k = (size_t)m->trace->info.experts_per_token;
    int chosen = m->trace->chosen[layer];
    const uint16_t *experts = mixt_trace_experts(m->trace, layer, 0);
    int found = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint16_t *row = experts + rows[i] * k;
        uint64_t choice = FIRST_CHOICE;
        for (int c = 0; c < chosen; c++, choice = CHOICE) {
            if (row[c] != MIXT_TRACE_NONE) {
                touched[found] = row[c];
                found += cells[row[c]] == 0;
                cells[row[c]] += choice;
            }
        }
    }
    return found;
}

/* A label's tokens of one group: where they lie in the order of labels. */
typedef struct group_run {
    int group;
    uint32_t begin, count;
} group_run;

/* What the sums of a label lose without a group. total [MIXT_TOLD_COUNT]: the label's choices. */
static void leave_out(measurer *m, int layer, const group_run *run, const uint64_t *total)
{
    size_t experts = (size_t)m->trace->info.experts;
    uint64_t *part = m->cells + experts;
    uint16_t *touched = m->touched + experts + 1;
    int g = run->group;
    int found = count_choices(m, layer, m->row + run->begin, run->count, part, touched);
    for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
        uint64_t *experts_of = m->experts_of + (size_t)(g * MIXT_TOLD_COUNT + which) * experts;
        uint64_t lost = 0;
        double change = 0;
        for (int t = 0; t < found; t++) {
            uint32_t n = count_in(part[touched[t]], which);
            uint32_t all = count_in(m->cells[touched[t]], which);
            change += product(m, all - n) - product(m, all);
            experts_of[touched[t]] += n;
            lost += n;
        }
        m->sums[which].joint_less[g] += change;
        m->sums[which].label_less[g] += product(m, total[which] - lost) - product(m, total[which]);
        m->sums[which].count_of[g] += lost;
    }
    for (int t = 0; t < found; t++) {
        part[touched[t]] = 0;
    }
}

/* Of experts that are there alone: the trace may name many that nobody chose. */
static void forget_experts(measurer *m)
{
    size_t experts = (size_t)m->trace->info.experts;
    for (int i = 0; i < m->present_count; i++) {
        for (size_t which = 0; which < MIXT_TOLD_COUNT; which++) {
            m->experts[which * experts + m->present[i]] = 0;
        }
        for (size_t row = 0; row < (size_t)GROUPS * MIXT_TOLD_COUNT; row++) {
            m->experts_of[row * experts + m->present[i]] = 0;
        }
    }
    m->present_count = 0;
}

/* Fills the sums, and with `less` what leaving out groups changes. */
static void walk(measurer *m, int layer, int label, bool less)
{
    const sorted_tokens *sorted = &m->sorted[label];
    size_t experts = (size_t)m->trace->info.experts;
    memset(m->sums, 0, sizeof m->sums);
    forget_experts(m);
    for (int value = 0; value < sorted->seen; value++) {
        uint32_t from = sorted->begin[value];
        uint32_t to = sorted->begin[value + 1];
        int found = count_choices(m, layer, m->row + from, to - from, m->cells, m->touched);
        uint64_t total[MIXT_TOLD_COUNT] = {0};
        for (int t = 0; t < found; t++) {
            m->present[m->present_count] = m->touched[t];
            m->present_count += m->experts[MIXT_TOLD_ALL * experts + m->touched[t]] == 0;
            for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
                uint32_t n = count_in(m->cells[m->touched[t]], which);
                m->sums[which].joint += product(m, n);
                m->experts[(size_t)which * experts + m->touched[t]] += n;
                total[which] += n;
            }
        }
        for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
            m->sums[which].label += product(m, total[which]);
            m->sums[which].count += total[which];
        }
        for (uint32_t begin = from, end = from; begin < to && less; begin = end) {
            int group = m->group[sorted->token[begin]];
            while (end < to && m->group[sorted->token[end]] == group) {
                end++;
            }
            leave_out(m, layer, &(group_run){group, begin, end - begin}, total);
        }
        for (int t = 0; t < found; t++) {
            m->cells[m->touched[t]] = 0;
        }
    }
}

/* H(expert) + H(label) - H(expert, label), in bits, from the sums of n log2 n. */
static double bits_of(uint64_t count, double joint, double label, double expert)
{
    double n = (double)count;
    return count == 0 ? NAN : fmax(0, log2(n) + (joint - label - expert) / n);
}

static reading read_sums(const measurer *m, int which, bool less)
{
    const sums *all = &m->sums[which];
    size_t experts = (size_t)m->trace->info.experts;
    const uint64_t *counts = m->experts + (size_t)which * experts;
    reading r = {.count = all->count};
    double expert = 0;
    for (int i = 0; i < m->present_count; i++) {
        expert += product(m, counts[m->present[i]]);
    }
    if (all->count == 0) {
        return r;
    }
    r.bits = bits_of(all->count, all->joint, all->label, expert);
    r.entropy = fmax(0, log2((double)all->count) - expert / (double)all->count);
    for (size_t g = 0; g < GROUPS && less; g++) {
        const uint64_t *lost = m->experts_of + (g * MIXT_TOLD_COUNT + (size_t)which) * experts;
        double left = 0;
        for (int i = 0; i < m->present_count; i++) {
            left += product(m, counts[m->present[i]] - lost[m->present[i]]);
        }
        r.less[g] = bits_of(all->count - all->count_of[g], all->joint + all->joint_less[g],
                            all->label + all->label_less[g], left);
    }
    return r;
}

/* -- All walks ------------------------------------------------------------------------------ */

/* What one walk over all layers costs. */
static uint64_t choices_of(const mixt_trace *trace)
{
    return (uint64_t)trace->info.layers * trace->info.tokens *
           ((uint64_t)trace->info.experts_per_token + 1);
}

static outcome *outcome_of(const measurer *m, int layer, int label, int which)
{
    return &m->outcomes[(layer * m->labels + label) * MIXT_TOLD_COUNT + which];
}

/* Shuffled by dealing domains to documents, and so sorted anew each time. */
static bool deals_domains(int label)
{
    return label == MIXT_LABEL_DOMAIN || label == MIXT_LABEL_TOKEN_DOMAIN;
}

static int less_shuffles(const measurer *m, int label)
{
    uint64_t choices = choices_of(m->trace);
    if (deals_domains(label) || choices <= LESS_CHOICES) {
        return m->shuffles;
    }
    int less = choices > SHUFFLES_CHOICES / LESS_SHUFFLES ? 1 : LESS_SHUFFLES;
    return less < m->shuffles ? less : m->shuffles;
}

/* `less`: so many shuffles leave groups out. */
static void take(outcome *to, const reading *from, int shuffle, int less)
{
    if (shuffle == 0) {
        to->seen = *from;
    } else {
        double more = from->bits - to->seen.bits;
        to->sum += more;
        to->squares += more * more;
        to->highest = fmax(to->highest, from->bits);
        to->reached += more >= -ROUNDING;
    }
    for (int g = 0; g < GROUPS && shuffle <= less; g++) {
        to->excess_less[g] += shuffle == 0 ? from->less[g] : -from->less[g] / less;
    }
}

static void add_reading(reading *sum, const reading *part)
{
    sum->bits += part->bits;
    sum->entropy += part->entropy;
    sum->count += part->count;
    for (int g = 0; g < GROUPS; g++) {
        sum->less[g] += part->less[g];
    }
}

static void divide_reading(reading *sum, double by)
{
    sum->bits /= by;
    sum->entropy /= by;
    for (int g = 0; g < GROUPS; g++) {
        sum->less[g] /= by;
    }
}

/* Whose experts are read at each of the label's places. */
static void place_rows(measurer *m, int label)
{
    const sorted_tokens *sorted = &m->sorted[label];
    for (uint32_t i = 0; i < sorted->begin[sorted->seen]; i++) {
        uint32_t token = sorted->token[i];
        m->row[i] = label == MIXT_LABEL_TOKEN_DOMAIN     ? token
                    : label == MIXT_LABEL_TOKEN_PREVIOUS ? m->kept[token]
                                                         : m->place[token];
    }
}

/* One shuffle of one label, all layers and their mean. */
static void measure_label(measurer *m, int label, int shuffle)
{
    int less = less_shuffles(m, label);
    reading mean[MIXT_TOLD_COUNT] = {{0}};
    int layers[MIXT_TOLD_COUNT] = {0}; /* with choices */
    for (int layer = 0; layer < m->layers; layer++) {
        if (label == MIXT_LABEL_BEFORE) {
            if (m->first_layer + layer == 0) {
                continue; /* there is none before it */
            }
            m->at_layer = m->first_layer + layer - 1;
            sort_by_label(m, label);
        }
        if (layer == 0 || label == MIXT_LABEL_BEFORE) {
            place_rows(m, label);
        }
        walk(m, m->first_layer + layer, label, shuffle <= less);
        for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
            reading r = read_sums(m, which, shuffle <= less);
            take(outcome_of(m, layer, label, which), &r, shuffle, less);
            if (r.count != 0) {
                add_reading(&mean[which], &r);
                layers[which]++;
            }
        }
    }
    for (int which = 0; which < MIXT_TOLD_COUNT; which++) {
        if (layers[which] > 0) {
            divide_reading(&mean[which], layers[which]);
        }
        take(outcome_of(m, m->layers, label, which), &mean[which], shuffle, less);
    }
}

/* NULL where the label differs between tokens. */
static const char *why_no_measure(const measurer *m, int label)
{
    if (m->sorted[label].seen > 1 || label == MIXT_LABEL_BEFORE) {
        return NULL;
    }
    switch (label) {
    case MIXT_LABEL_DOMAIN:
        return "all tokens are of one domain";
    case MIXT_LABEL_CLASS:
        return m->trace->vocab_offsets[m->trace->vocab_size] == m->trace->vocab_offsets[0]
                   ? "the trace has no text of its vocabulary"
                   : "all tokens are of one class";
    case MIXT_LABEL_TOKEN:
        return "all tokens are the same";
    case MIXT_LABEL_POSITION:
        return "no document has two tokens";
    case MIXT_LABEL_TOKEN_DOMAIN:
        return "all tokens are the same, of one domain";
    default:
        return m->sorted[label].seen == 0 ? "no document has two tokens"
                                          : "the token before is always the same";
    }
}

/* NULL where shuffles change something. */
static const char *why_no_level(const measurer *m, int label)
{
    const mixt_units *units = m->units;
    bool several = false; /* documents of a domain */
    bool pairs = false;   /* tokens of a document */
    for (int d = 0; d < units->domains; d++) {
        several = several || units->documents[d] > 1;
    }
    for (size_t r = 0; r < units->run_count; r++) {
        pairs = pairs || units->runs[r].end - units->runs[r].begin > 1;
    }
    if (label == MIXT_LABEL_TOKEN_PREVIOUS && m->movable == 0) {
        return "no document has a token twice";
    }
    if (deals_domains(label)) {
        return units->run_count < MIXT_UNITS_MIN_DOCUMENTS || !several
                   ? "there are too few documents to shuffle their domains"
                   : NULL;
    }
    return pairs ? NULL : "no document has two tokens to shuffle";
}

/* The jackknife takes what is quadratic in a statistic twice (Efron & Stein 1981), and information
 * is that alone where experts tell nothing: its variance there is that of the shuffles, which is
 * taken off, or all there is. What the level has of an error of its own, `shuffles` drawn, is
 * added. */
double mixt_information_error(double jackknife, double shuffled, int shuffles)
{
    return sqrt(fmax(jackknife - shuffled, shuffled) + shuffled / shuffles);
}

/* Delete-a-group jackknife of the excess. */
static void fill_interval(const measurer *m, const outcome *o, mixt_information *row)
{
    double mean = 0;
    double square = 0;
    int groups = 0;
    row->low = row->high = NAN;
    for (int g = 0; g < GROUPS; g++) {
        mean += m->used[g] ? o->excess_less[g] : 0;
        groups += m->used[g];
    }
    if (groups < 2) {
        return;
    }
    mean /= groups;
    for (int g = 0; g < GROUPS; g++) {
        double moved = o->excess_less[g] - mean;
        square += m->used[g] ? moved * moved : 0;
    }
    double error = mixt_information_error(square * (groups - 1) / groups, row->spread * row->spread,
                                          row->shuffles);
    double reach = mixt_student_975(groups - 1) * error;
    if (isfinite(reach)) {
        row->low = row->excess - reach;
        row->high = row->excess + reach;
    }
}

static void fill_row(const measurer *m, int layer, int label, int which, mixt_information *row)
{
    const outcome *o = outcome_of(m, layer, label, which);
    *row = (mixt_information){.labels = m->sorted[label].seen, .low = NAN, .high = NAN};
    row->absent = why_no_measure(m, label);
    if (row->absent != NULL) {
        return;
    }
    if (o->seen.count == 0) {
        row->absent = "no token has such a choice";
        return;
    }
    row->bits = o->seen.bits;
    row->entropy = o->seen.entropy;
    row->count = o->seen.count;
    row->absent = why_no_level(m, label);
    if (row->absent != NULL) {
        return;
    }
    double shuffles = m->shuffles;
    double mean = o->sum / shuffles;
    row->shuffles = m->shuffles;
    row->shuffled = row->bits + mean;
    row->spread = sqrt(fmax(0, (o->squares - mean * o->sum) / fmax(1, shuffles - 1)));
    row->highest = o->highest;
    row->excess = -mean;
    fill_interval(m, o, row);
}

/* Of `wanted`, as many as the trace's length allows. */
static int shuffles_for(const mixt_trace *trace, int wanted)
{
    uint64_t most = SHUFFLES_CHOICES / choices_of(trace);
    most = most < SHUFFLES_LEAST ? SHUFFLES_LEAST : most;
    return most > (uint64_t)wanted ? wanted : (int)most;
}

static void measure(measurer *m)
{
    const mixt_trace *trace = m->trace;
    for (int32_t token = 0; token < trace->vocab_size; token++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(trace, token, &length);
        m->class_of[token] = (uint8_t)mixt_token_class_of(bytes, length);
    }
    for (uint64_t n = 1; n < PRODUCTS; n++) {
        m->product[n] = (double)n * log2((double)n);
    }
    for (int shuffle = 0; shuffle <= m->shuffles; shuffle++) {
        arrange(m, shuffle);
        for (int label = m->first_label; label < m->labels; label++) {
            if (label != MIXT_LABEL_BEFORE && (shuffle == 0 || deals_domains(label))) {
                if (label >= MIXT_LABEL_TOKEN_DOMAIN) {
                    number_pairs(m, label == MIXT_LABEL_TOKEN_DOMAIN ? MIXT_LABEL_DOMAIN
                                                                     : MIXT_LABEL_PREVIOUS);
                }
                sort_by_label(m, label);
            }
            if (label == MIXT_LABEL_TOKEN_PREVIOUS) {
                arrange_kept(m, shuffle);
            }
            bool there = why_no_measure(m, label) == NULL;
            if (there && (shuffle == 0 || why_no_level(m, label) == NULL)) {
                measure_label(m, label, shuffle);
            }
        }
    }
}

static void fill_told(const measurer *m, int layer, int label, int which, mixt_told *row)
{
    const outcome *o = outcome_of(m, layer, label, which);
    fill_row(m, layer, label, which, &row->information);
    row->p = row->information.shuffles > 0 ? (1.0 + o->reached) / (1.0 + m->shuffles) : NAN;
    row->movable =
        label == MIXT_LABEL_TOKEN_PREVIOUS ? (double)m->movable / (double)m->trace->info.tokens : 1;
    row->groups = 0;
    for (int g = 0; g < GROUPS; g++) {
        if (m->used[g]) {
            row->less[row->groups++] = o->excess_less[g];
        }
    }
}

mixt_status mixt_information_tell(const mixt_information_plan *plan, mixt_told *rows,
                                  mixt_error *error)
{
    assert(plan->first_layer >= 0 && plan->layers >= 1 &&
           plan->first_layer + plan->layers <= plan->trace->info.layers);
    assert(plan->labels <= MIXT_LABEL_ALL && plan->shuffles >= 1);
    measurer m = {.trace = plan->trace,
                  .units = plan->units,
                  .first_layer = plan->first_layer,
                  .layers = plan->layers,
                  .first_label = plan->first_label,
                  .labels = plan->labels,
                  .shuffles = shuffles_for(plan->trace, plan->shuffles),
                  .seed = plan->seed};
    uint64_t *next = calloc((size_t)plan->units->domains, sizeof *next);
    mixt_status status = MIXT_OK;
    if (next == NULL || !allocate(&m)) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "information: no memory");
    } else {
        choose_groups(&m, next);
        measure(&m);
    }
    int count = (plan->layers + 1) * plan->labels * MIXT_TOLD_COUNT;
    for (int i = 0; status == MIXT_OK && i < count; i++) {
        int label = i / MIXT_TOLD_COUNT % plan->labels;
        if (label >= plan->first_label) {
            fill_told(&m, i / (plan->labels * MIXT_TOLD_COUNT), label, i % MIXT_TOLD_COUNT,
                      &rows[i]);
        }
    }
    free(next);
    release(&m);
    return status;
}

mixt_status mixt_information_measure(const mixt_trace *trace, const mixt_units *units,
                                     int first_layer, int layers, mixt_information *rows,
                                     mixt_error *error)
{
    const mixt_information_plan plan = {.trace = trace,
                                        .units = units,
                                        .first_layer = first_layer,
                                        .layers = layers,
                                        .labels = MIXT_LABEL_COUNT,
                                        .shuffles = SHUFFLES_MOST,
                                        .seed = SHUFFLE_SEED};
    size_t count = ((size_t)layers + 1) * MIXT_LABEL_COUNT * MIXT_TOLD_COUNT;
    mixt_told *told = calloc(count, sizeof *told);
    mixt_status status = told != NULL
                             ? mixt_information_tell(&plan, told, error)
                             : mixt_fail(error, MIXT_ERROR_MEMORY, "information: no memory");
    for (size_t i = 0; i < count && status == MIXT_OK; i++) {
        rows[i] = told[i].information;
    }
    free(told);
    return status;
}

mixt_status mixt_atlas_information(const mixt_trace *trace, int layer, mixt_information *rows,
                                   mixt_error *error)
{
    if (layer < -1 || layer >= trace->info.layers) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "information of layer %d: the trace has %d",
                         layer, trace->info.layers);
    }
    const size_t count = MIXT_LABEL_COUNT * MIXT_TOLD_COUNT;
    int layers = layer < 0 ? trace->info.layers : 1;
    mixt_units *units = mixt_units_create(trace);
    mixt_information *all = calloc(((size_t)layers + 1) * count, sizeof *all);
    mixt_status status = MIXT_OK;
    if (units == NULL || all == NULL) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "information: no memory");
    }
    if (status == MIXT_OK) {
        status = mixt_information_measure(trace, units, layer < 0 ? 0 : layer, layers, all, error);
    }
    if (status == MIXT_OK) {
        memcpy(rows, all + (layer < 0 ? (size_t)layers * count : 0), count * sizeof *rows);
    }
    mixt_units_free(units);
    free(all);
    return status;
}
