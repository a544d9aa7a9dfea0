/* What a model says on its own: greedy continuations of documents' beginnings. */
#include <stdlib.h>

#include "corpus/data.h"
#include "probe/probe.h"

void mixt_continuations_free(mixt_continuations *continuations)
{
    free(continuations->domain);
    free(continuations->tokens);
    *continuations = (mixt_continuations){0};
}

/* Documents of each domain that are long enough, up to `count`: [domains * count]. */
static mixt_status find_documents(const mixt_data *data, const mixt_continuation_options *options,
                                  size_t **documents, mixt_continuations *to, mixt_error *error)
{
    const mixt_data_split *split = mixt_data_split_of(data, options->heldout);
    size_t domains = (size_t)mixt_data_domain_count(data), most = domains * (size_t)options->count;
    int *used = calloc(domains + 1, sizeof *used);
    *documents = calloc(most + 1, sizeof **documents);
    to->domain = calloc(most + 1, sizeof *to->domain);
    to->tokens = calloc(most * (size_t)options->length + 1, sizeof *to->tokens);
    to->length = options->length;
    bool good = used != NULL && *documents != NULL && to->domain != NULL && to->tokens != NULL;
    for (size_t d = 0; good && d < split->document_count; d++) {
        int domain = split->documents[d].domain;
        if (split->documents[d].length >= (uint64_t)options->prompt &&
            used[domain] < options->count) {
            used[domain]++;
            to->domain[to->count] = domain;
            (*documents)[to->count++] = d;
        }
    }
    free(used);
    return good ? MIXT_OK : mixt_fail(error, MIXT_ERROR_MEMORY, "continuations: no memory");
}

static int32_t likeliest(const float *logits, int count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* Behind a prompt of options->prompt tokens. */
static mixt_status continue_one(mixt_session *session, const mixt_continuation_options *options,
                                const int32_t *prompt, int vocabulary, int32_t *tokens,
                                mixt_error *error)
{
    mixt_session_truncate(session, 0);
    MIXT_TRY(mixt_session_feed(session, prompt, (size_t)options->prompt, error));
    for (int i = 0; i < options->length; i++) {
        tokens[i] = likeliest(mixt_session_logits(session), vocabulary);
        if (i + 1 < options->length) {
            MIXT_TRY(mixt_session_feed(session, &tokens[i], 1, error));
        }
    }
    return MIXT_OK;
}

mixt_status mixt_continue(mixt_context *context, const mixt_model *model, const mixt_data *data,
                          const mixt_continuation_options *options, mixt_continuations *to,
                          mixt_error *error)
{
    *to = (mixt_continuations){0};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_continuation_options, options, error));
    MIXT_TRY(mixt_data_check_ids(data, model->options.vocab_size, error));
    if (options->count < 1 || options->prompt < 1 || options->length < 1 ||
        options->prompt > model->options.context_length - options->length) {
        return mixt_fail(
            error, MIXT_ERROR_ARGUMENT,
            "continuations: %d of %d tokens behind %d are not possible in a context of "
            "%d",
            options->count, options->length, options->prompt, model->options.context_length);
    }
    const mixt_data_split *split = mixt_data_split_of(data, options->heldout);
    size_t *documents = NULL, length = (size_t)options->prompt;
    int32_t *prompt = calloc(length, sizeof *prompt);
    mixt_session *session = NULL;
    mixt_status status = prompt == NULL
                             ? mixt_fail(error, MIXT_ERROR_MEMORY, "continuations: no memory")
                             : find_documents(data, options, &documents, to, error);
    if (status == MIXT_OK) {
        status =
            mixt_session_create(context, model, options->prompt + options->length, &session, error);
    }
    for (int i = 0; i < to->count && status == MIXT_OK; i++) {
        mixt_data_copy(split, split->documents[documents[i]].start, length, prompt);
        status = continue_one(session, options, prompt, model->options.vocab_size,
                              to->tokens + i * options->length, error);
        if (status == MIXT_OK) {
            status = mixt_go_on(options->progress, options->user, i + 1, to->count, error);
        }
    }
    mixt_session_free(session);
    free(documents);
    free(prompt);
    if (status != MIXT_OK) {
        mixt_continuations_free(to);
    }
    return status;
}
