/* Folders of models whose experts are spread over ranks: rank 0 writes them, one tensor after the
 * other, with the experts that the others send; so the files are those of one rank. */
#include <stdlib.h>
#include <string.h>

#include "model/adapters.h"
#include "model/folder_spread.h"

typedef struct bringing {
    const mixt_model *model;
    mixt_ranks *ranks;
    int place, places; /* in the copy of the experts that rank 0 is of */
    float *tensor, *values, *own;
    size_t *send_bytes, *receive_bytes; /* [places] */
} bringing;

/* Values [begin, end) of a parameter of the whole model that the rank at a place gives: its
 * experts; of all else rank 0. */
typedef struct span {
    size_t begin, end;
} span;

static span given(const bringing *b, const mixt_folder_part *part, int place)
{
    const mixt_parameter *p = &b->model->parameters[part->parameter];
    size_t begin = part->piece.offset, end = begin + mixt_layout_piece_values(&part->piece);
    if (!mixt_slot_is_spread(p->slot)) {
        return place == 0 ? (span){begin, end} : (span){begin, begin};
    }
    size_t unit = p->count / (size_t)p->size[0];
    int experts = b->model->options.experts;
    size_t first = unit * (size_t)mixt_experts_first(b->ranks, experts, place);
    size_t last = unit * (size_t)mixt_experts_first(b->ranks, experts, place + 1);
    span both = {first > begin ? first : begin, last < end ? last : end};
    return both.begin < both.end ? both : (span){begin, begin};
}

/* A part comes to rank 0, into `values`. */
static mixt_status bring_part(bringing *b, const mixt_folder_part *part, mixt_error *error)
{
    span mine = given(b, part, b->place);
    const mixt_parameter *p = &b->model->parameters[part->parameter];
    size_t before = mixt_slot_is_spread(p->slot)
                        ? p->count / (size_t)p->size[0] * (size_t)b->model->share.first
                        : 0;
    /* Places have their values in order, and rank 0 the first of them. */
    float *own = b->place == 0 ? b->values + (mine.begin - part->piece.offset) : b->own;
    if (mine.end > mine.begin) {
        mixt_model_values(b->model, part->parameter, mine.begin - before, mine.end - mine.begin,
                          own);
    }
    size_t kept = b->place == 0 ? mine.end - mine.begin : 0;
    for (int place = 0; place < b->places; place++) {
        span theirs = given(b, part, place);
        bool sends = b->place > 0 && place == 0, receives = b->place == 0 && place > 0;
        b->send_bytes[place] = sends ? (mine.end - mine.begin) * sizeof *own : 0;
        b->receive_bytes[place] = receives ? (theirs.end - theirs.begin) * sizeof *own : 0;
    }
    mixt_exchange exchange = {MIXT_GROUP_EXPERT, own, b->send_bytes, b->values + kept,
                              b->receive_bytes};
    return mixt_ranks_exchange(b->ranks, &exchange, error);
}

static mixt_status allocate(bringing *b, const mixt_folder_tensors *list, mixt_error *error)
{
    size_t largest = 0, part = 0;
    for (size_t i = 0; i < list->count; i++) {
        size_t values = mixt_layout_tensor_values(&list->parts[list->first[i]].piece);
        largest = values > largest ? values : largest;
    }
    for (size_t i = 0; i < list->part_count; i++) {
        size_t values = mixt_layout_piece_values(&list->parts[i].piece);
        part = values > part ? values : part;
    }
    bool leads = b->place == 0;
    b->tensor = malloc(((leads ? largest : 0) + 1) * sizeof *b->tensor);
    b->values = malloc(((leads ? part : 0) + 1) * sizeof *b->values);
    b->own = malloc(((leads ? 0 : part) + 1) * sizeof *b->own);
    b->send_bytes = calloc((size_t)b->places, sizeof *b->send_bytes);
    b->receive_bytes = calloc((size_t)b->places, sizeof *b->receive_bytes);
    return b->tensor != NULL && b->values != NULL && b->own != NULL && b->send_bytes != NULL &&
                   b->receive_bytes != NULL
               ? MIXT_OK
               : mixt_fail(error, MIXT_ERROR_MEMORY, "model: no memory");
}

static mixt_status bring_tensor(bringing *b, const mixt_folder_tensors *list, size_t index,
                                mixt_error *error)
{
    const mixt_folder_part *parts = &list->parts[list->first[index]];
    if (b->place == 0) {
        memset(b->tensor, 0, mixt_layout_tensor_values(&parts->piece) * sizeof *b->tensor);
    }
    for (size_t j = 0; j < list->first[index + 1] - list->first[index]; j++) {
        MIXT_TRY(bring_part(b, &parts[j], error));
        if (b->place == 0) {
            mixt_layout_scatter(&parts[j].piece, b->values, b->tensor);
        }
    }
    return MIXT_OK;
}

mixt_status mixt_spread_bring(const mixt_model *model, const mixt_folder_tensors *list,
                              mixt_tensor_sink sink, void *user, mixt_error *error)
{
    bringing b = {.model = model,
                  .ranks = model->ranks,
                  .place = mixt_group_place(model->ranks, MIXT_GROUP_EXPERT),
                  .places = mixt_group_size(model->ranks, MIXT_GROUP_EXPERT)};
    mixt_status status = mixt_ranks_agree(b.ranks, allocate(&b, list, error), error);
    mixt_status written = MIXT_OK;
    bool gives = mixt_group_place(model->ranks, MIXT_GROUP_DATA) == 0;
    for (size_t i = 0; i < list->count && status == MIXT_OK && gives; i++) {
        status = bring_tensor(&b, list, i, error);
        if (status == MIXT_OK && sink != NULL && written == MIXT_OK) {
            written = sink(user, i, b.tensor, error); /* what fails is not to stop the others */
        }
    }
    free(b.tensor);
    free(b.values);
    free(b.own);
    free(b.send_bytes);
    free(b.receive_bytes);
    return status == MIXT_OK ? written : status;
}

mixt_status mixt_spread_layout(const mixt_model *model, mixt_model **whole, mixt_model *written,
                               mixt_error *error)
{
    MIXT_TRY(mixt_model_layout(&model->options, model->family, "model", whole, error));
    if (model->adapters != NULL) {
        MIXT_TRY(mixt_adapters_lay_out(*whole, model->adapters, error));
    }
    return mixt_model_written(*whole, MIXT_FORM_FOLDER, written, error);
}

int mixt_spread_lists(const mixt_model *model)
{
    return model->adapters != NULL ? 2 : 1;
}

/* One of them: sent where rank 0 comes so far, which *begun says. What fails is no reason not to
 * hear of the next. */
static mixt_status serve_list(const mixt_model *model, const mixt_model *written, bool adapters,
                              mixt_status known, int64_t *begun, mixt_error *error)
{
    mixt_folder_tensors list = {0};
    mixt_status status = known;
    if (status == MIXT_OK) {
        status = adapters ? mixt_adapters_list(written, &list, error)
                          : mixt_folder_tensors_list(written, &list, error);
    }
    mixt_status heard = mixt_ranks_await(model->ranks, begun, sizeof *begun, error);
    if (heard == MIXT_OK && *begun != 0) {
        heard = mixt_ranks_agree(model->ranks, status, error);
        if (heard == MIXT_OK) {
            heard = mixt_spread_bring(model, &list, NULL, NULL, error);
        }
    }
    mixt_folder_tensors_free(&list);
    return status == MIXT_OK ? heard : status;
}

mixt_status mixt_spread_serve(const mixt_model *model, mixt_error *error)
{
    mixt_model *whole = NULL, written;
    int64_t begun = 1;
    mixt_status status = mixt_spread_layout(model, &whole, &written, error);
    for (int i = 0; i < mixt_spread_lists(model) && begun != 0; i++) {
        begun = 0;
        status = serve_list(model, &written, i > 0, status, &begun, error);
    }
    mixt_model_free(whole);
    return status;
}
