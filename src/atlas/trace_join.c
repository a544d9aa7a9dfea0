/* Several traces of one model become one. */
#include <stdlib.h>
#include <string.h>

#include "atlas/trace.h"
#include "atlas/trace_copy.h"
#include "core/error.h"

typedef struct joining {
    const char *const *paths;
    int count;
    mixt_trace *first;    /* what the others are held against */
    const char **domains; /* [domain_count] of all, in the order in which they come */
    int domain_count;
    int32_t documents; /* written so far */
    bool one_corpus;   /* all have the same */
} joining;

static int find_domain(const joining *j, const char *name)
{
    for (int i = 0; i < j->domain_count; i++) {
        if (strcmp(j->domains[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static mixt_status add_domains(joining *j, const mixt_trace *trace, mixt_error *error)
{
    for (int i = 0; i < trace->info.domains; i++) {
        if (find_domain(j, trace->domain_names[i]) >= 0) {
            continue;
        }
        if (j->domain_count == MIXT_TRACE_MAX_DOMAINS) {
            return mixt_fail(error, MIXT_ERROR_ARGUMENT, "join: more than %d domains in all",
                             MIXT_TRACE_MAX_DOMAINS);
        }
        const char *name = mixt_arena_string(j->first->arena, trace->domain_names[i]);
        if (name == NULL) {
            return mixt_fail(error, MIXT_ERROR_MEMORY, "join: no memory");
        }
        j->domains[j->domain_count++] = name;
    }
    return MIXT_OK;
}

static bool same_vocabulary(const mixt_trace *a, const mixt_trace *b)
{
    size_t offsets = ((size_t)a->vocab_size + 1) * sizeof *a->vocab_offsets;
    return a->vocab_size == b->vocab_size &&
           memcmp(a->vocab_offsets, b->vocab_offsets, offsets) == 0 &&
           memcmp(a->vocab_bytes, b->vocab_bytes, (size_t)a->vocab_offsets[a->vocab_size]) == 0;
}

/* What a trace has in another way than the first; NULL: nothing that matters. */
static const char *difference(const mixt_trace *a, const mixt_trace *b)
{
    size_t numbers = (size_t)a->info.layers * sizeof(int);
    const struct {
        bool same;
        const char *what;
    } parts[] = {
        {strcmp(a->info.model_hash, b->info.model_hash) == 0, "the model's hash"},
        {a->info.model_hash[0] != '\0' || strcmp(a->info.model, b->info.model) == 0,
         "the model's name, without a hash"},
        {strcmp(a->info.tokenizer_hash, b->info.tokenizer_hash) == 0, "the tokenizer's hash"},
        {same_vocabulary(a, b), "the vocabulary"},
        {a->info.experts == b->info.experts &&
             a->info.identity_experts == b->info.identity_experts &&
             a->info.zero_experts == b->info.zero_experts,
         "the number of experts"},
        {a->info.layers == b->info.layers &&
             memcmp(a->layer_numbers, b->layer_numbers, numbers) == 0,
         "the layers"},
        {a->info.layers == b->info.layers &&
             a->info.experts_per_token == b->info.experts_per_token &&
             memcmp(a->chosen, b->chosen, numbers) == 0,
         "the number of choices"},
        {strcmp(a->info.router_select, b->info.router_select) == 0, "router_select"},
        {strcmp(a->info.held_out, b->info.held_out) == 0, "held_out"},
        {(a->logits == NULL) == (b->logits == NULL), "that there are logits"},
        {(a->margins == NULL) == (b->margins == NULL), "that there are margins"},
        {(a->entropies == NULL) == (b->entropies == NULL), "that there are entropies"},
        {(a->predicted == NULL) == (b->predicted == NULL), "that there are predicted tokens"},
        {(a->ahead == NULL) == (b->ahead == NULL), "that there are experts ahead"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].same) {
            return parts[i].what;
        }
    }
    return NULL;
}

/* Opens each once, holds it against the first and takes its domains. */
static mixt_status compare_all(joining *j, mixt_error *error)
{
    mixt_status status = add_domains(j, j->first, error);
    for (int i = 1; i < j->count && status == MIXT_OK; i++) {
        mixt_trace *trace = NULL;
        status = mixt_trace_open(j->paths[i], &trace, error);
        const char *what = status == MIXT_OK ? difference(j->first, trace) : NULL;
        if (what != NULL) {
            status =
                mixt_fail(error, MIXT_ERROR_ARGUMENT, "%s: cannot be joined with %s: differs: %s",
                          j->paths[i], j->paths[0], what);
        }
        if (status == MIXT_OK) {
            j->one_corpus =
                j->one_corpus && strcmp(j->first->info.corpus_hash, trace->info.corpus_hash) == 0;
            status = add_domains(j, trace, error);
        }
        mixt_trace_free(trace);
    }
    return status;
}

static mixt_status append_trace(joining *j, const mixt_trace *trace, mixt_trace_writer *writer,
                                mixt_error *error)
{
    mixt_trace_copier *copier = NULL;
    mixt_status status = mixt_trace_copier_create(trace, &copier, error);
    for (uint64_t d = 0; d < trace->info.documents && status == MIXT_OK; d++) {
        uint64_t begin = trace->document_start[d];
        const mixt_trace_part part = {
            .begin = begin,
            .end = trace->document_start[d + 1],
            .document = j->documents++,
            .domain = find_domain(j, trace->domain_names[trace->domain[begin]])};
        status = mixt_trace_copier_append(copier, &part, writer, error);
    }
    mixt_trace_copier_free(copier);
    return status == MIXT_OK ? mixt_trace_intact(trace, error) : status;
}

static const char *token_bytes(const void *vocabulary, int32_t id, size_t *length)
{
    return (const char *)mixt_trace_token_bytes(vocabulary, id, length);
}

static mixt_status write_all(joining *j, const char *output, mixt_error *error)
{
    const mixt_trace *first = j->first;
    mixt_trace_header header = mixt_trace_header_of(first);
    header.domains = j->domain_count;
    header.domain_names = j->domains;
    header.corpus_hash = j->one_corpus ? first->info.corpus_hash : NULL;
    header.token_bytes = token_bytes;
    header.vocabulary = first;
    mixt_trace_writer *writer = NULL;
    mixt_status status = mixt_trace_writer_create(output, &header, &writer, error);
    if (status == MIXT_OK) {
        status = append_trace(j, first, writer, error);
    }
    for (int i = 1; i < j->count && status == MIXT_OK; i++) {
        mixt_trace *trace = NULL;
        status = mixt_trace_open(j->paths[i], &trace, error);
        if (status == MIXT_OK && difference(first, trace) != NULL) {
            status =
                mixt_fail(error, MIXT_ERROR_IO, "%s: changed while it was joined", j->paths[i]);
        }
        if (status == MIXT_OK) {
            status = append_trace(j, trace, writer, error);
        }
        mixt_trace_free(trace);
    }
    if (status == MIXT_OK) {
        status = mixt_trace_writer_finish(writer, error);
    }
    mixt_trace_writer_free(writer);
    return status;
}

mixt_status mixt_trace_join(const char *const *paths, int count, const char *output,
                            mixt_error *error)
{
    if (count < 2) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT, "join: %d traces, must be 2 or more", count);
    }
    joining j = {.paths = paths, .count = count, .one_corpus = true};
    mixt_status status = mixt_trace_open(paths[0], &j.first, error);
    if (status == MIXT_OK) {
        j.domains = calloc(MIXT_TRACE_MAX_DOMAINS, sizeof *j.domains);
        status = j.domains != NULL ? compare_all(&j, error)
                                   : mixt_fail(error, MIXT_ERROR_MEMORY, "join: no memory");
    }
    if (status == MIXT_OK) {
        status = write_all(&j, output, error);
    }
    free(j.domains);
    mixt_trace_free(j.first);
    return status;
}
