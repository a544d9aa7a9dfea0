/* Models from one form into the other: the tensors to be written are found from the family's table
 * of names and layouts (model/parameters.h), so no family is known here. */
#include "convert/convert.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "core/memory.h"
#include "core/utf8.h"
#include "formats/gguf.h"
#include "model/sensitivity.h"

#define SHARED_BACK 256 /* earlier targets that a part may share its tensor with: of its layer */
#define MIXT_TYPE_AUTO "auto"
#define SLAB_VALUES ((size_t)1 << 20)

mixt_convert_options mixt_convert_options_default(void)
{
    return (mixt_convert_options){.shard_bytes = 0};
}

const char *mixt_convert_type(int index)
{
    return mixt_mix_name(index);
}

static bool is_expert_matrix(const mixt_parameter *p)
{
    return p->slot == MIXT_SLOT_EXPERT_GATE || p->slot == MIXT_SLOT_EXPERT_UP ||
           p->slot == MIXT_SLOT_EXPERT_DOWN;
}

/* The table's first row with a tensor that we write (packed four-bit forms are only read); `whole`:
 * with one for each expert. */
static const mixt_tensor_row *row_to_write(const mixt_conversion *c, const mixt_parameter *p,
                                           bool whole, mixt_layout_piece *piece)
{
    const mixt_family *family = c->model->family;
    const mixt_tensor_row *row = mixt_family_row(family, p->slot, c->form, NULL);
    for (; row != NULL; row = mixt_family_row(family, p->slot, c->form, row)) {
        mixt_layout_piece_get(c->model, p, row, c->form, 0, piece);
        if (!piece->mxfp4 && (!whole || piece->rank < p->rank)) {
            return row;
        }
    }
    return NULL;
}

void mixt_target_importance(const mixt_conversion *c, const mixt_target *target,
                            mixt_importance_place *place)
{
    const mixt_target_part *part = &c->parts[target->first];
    const mixt_parameter *p = &c->model->parameters[part->parameter];
    mixt_layout_piece piece = part->piece;
    bool whole = is_expert_matrix(p) && piece.rank < p->rank;
    if (whole) { /* of one expert: known as a matrix of the stack */
        (void)row_to_write(c, p, false, &piece);
    }
    place->matrices = piece.rank == 3 ? piece.shape[0] : 1;
    place->first =
        whole ? (int64_t)(part->piece.offset / mixt_layout_piece_values(&part->piece)) : 0;
    memcpy(place->name, piece.name, sizeof place->name);
}

static mixt_status add_part(mixt_conversion *c, int parameter, const mixt_layout_piece *piece)
{
    if (!mixt_grow(&c->parts, &c->part_capacity, c->part_count + 1, sizeof *c->parts) ||
        !mixt_grow(&c->targets, &c->target_capacity, c->target_count + 1, sizeof *c->targets)) {
        return mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
    }
    c->parts[c->part_count++] = (mixt_target_part){parameter, *piece};
    return MIXT_OK;
}

/* Parts of one tensor become neighbours; they are few and near each other. */
static void gather_targets(mixt_conversion *c)
{
    for (size_t i = 0; i < c->part_count; i++) {
        size_t back = i < SHARED_BACK ? 0 : i - SHARED_BACK, at = i;
        for (size_t j = i; j-- > back;) {
            if (strcmp(c->parts[j].piece.name, c->parts[i].piece.name) == 0) {
                at = j + 1;
                break;
            }
        }
        if (at < i) {
            mixt_target_part moved = c->parts[i];
            memmove(&c->parts[at + 1], &c->parts[at], (i - at) * sizeof moved);
            c->parts[at] = moved;
        }
    }
    for (size_t i = 0; i < c->part_count; i++) {
        const mixt_layout_piece *piece = &c->parts[i].piece;
        mixt_target *last = c->target_count > 0 ? &c->targets[c->target_count - 1] : NULL;
        if (last != NULL && strcmp(last->piece->name, piece->name) == 0) {
            last->parts++;
        } else {
            c->targets[c->target_count++] =
                (mixt_target){.first = (int)i, .parts = 1, .piece = piece};
        }
    }
}

/* The parameter of a target that is a matrix of experts; NULL: something else. */
static const mixt_parameter *expert_parameter(const mixt_conversion *c, size_t target)
{
    if (target >= c->target_count) {
        return NULL;
    }
    const mixt_parameter *p = &c->model->parameters[c->parts[c->targets[target].first].parameter];
    return is_expert_matrix(p) ? p : NULL;
}

/* Where each expert has tensors of its own, those of one lie side by side, so that one read fetches
 * it (mixt_model_store): [matrices, experts] of a layer become [experts, matrices]. */
static mixt_status place_experts_whole(mixt_conversion *c)
{
    mixt_target *old = malloc((c->target_count + 1) * sizeof *old);
    if (old == NULL) {
        return mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
    }
    memcpy(old, c->targets, c->target_count * sizeof *old);
    for (size_t begin = 0, end; begin < c->target_count; begin = end) {
        const mixt_parameter *first = expert_parameter(c, begin), *next = first;
        size_t experts = 0;
        for (end = begin; first != NULL && next != NULL && next->layer == first->layer;
             next = expert_parameter(c, end)) {
            experts += next == first;
            end++;
        }
        end += first == NULL;
        for (size_t i = begin; experts > 0 && (end - begin) % experts == 0 && i < end; i++) {
            size_t matrices = (end - begin) / experts, at = i - begin;
            c->targets[begin + at % experts * matrices + at / experts] = old[i];
        }
    }
    free(old);
    return MIXT_OK;
}

/* Fills parts and targets from the family's table; types are not set. Refused, by name, where the
 * family has no tensor in this form for a parameter. */
static mixt_status plan_targets(mixt_conversion *c)
{
    for (int i = 0; i < c->model->parameter_count; i++) {
        const mixt_parameter *p = &c->model->parameters[i];
        mixt_layout_piece piece;
        bool whole = c->options->whole_experts && is_expert_matrix(p);
        const mixt_tensor_row *row = row_to_write(c, p, whole, &piece);
        if (row == NULL && whole) {
            return mixt_fail(c->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: a folder of %s has all experts of a layer in one tensor: only "
                             "GGUF files can have each by itself",
                             c->options->output, c->model->family->title);
        }
        if (row == NULL) {
            return mixt_fail(c->error, MIXT_ERROR_UNSUPPORTED,
                             "%s: %s has no tensor for %s in this kind of file", c->options->output,
                             c->model->family->title, p->name);
        }
        int pieces = mixt_layout_piece_count(c->model, p, row, c->form);
        for (int at = 0; at < pieces; at++) {
            mixt_layout_piece_get(c->model, p, row, c->form, at, &piece);
            MIXT_TRY(add_part(c, i, &piece));
        }
    }
    free(c->targets);
    c->targets = calloc(c->part_count + 1, sizeof *c->targets);
    if (c->targets == NULL) {
        return mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
    }
    gather_targets(c);
    return place_experts_whole(c);
}

static void clear_targets(mixt_conversion *c)
{
    free(c->parts);
    free(c->targets);
}

size_t mixt_target_count(const mixt_target *target)
{
    size_t count = 1;
    for (int i = 0; i < target->piece->rank; i++) {
        count *= (size_t)target->piece->shape[i];
    }
    return count;
}

/* Puts values [first, first + count) of a piece, in the parameter's order, where they go. */
static void scatter(const mixt_layout_piece *piece, size_t first, size_t count, const float *from,
                    float *to)
{
    const int64_t *size = piece->count, *stride = piece->stride;
    for (size_t i = 0; i < count;) {
        int64_t at = (int64_t)(first + i);
        assert(at < size[0] * size[1] * size[2] * size[3]);
        int64_t i3 = at % size[3], i2 = at / size[3] % size[2];
        int64_t i1 = at / (size[3] * size[2]) % size[1], i0 = at / (size[3] * size[2] * size[1]);
        float *row = to + piece->from + i0 * stride[0] + i1 * stride[1] + i2 * stride[2];
        for (; i3 < size[3] && i < count; i3++, i++) {
            row[i3 * stride[3]] = from[i];
        }
    }
}

mixt_status mixt_target_values(const mixt_conversion *c, const mixt_target *target, float *values)
{
    float *slab = NULL;
    size_t slab_values = 0;
    for (int i = 0; i < target->parts; i++) {
        const mixt_target_part *part = &c->parts[target->first + i];
        const mixt_parameter *p = &c->model->parameters[part->parameter];
        const mixt_layout_piece *piece = &part->piece;
        assert(target->first + i < (int)c->part_count);
        size_t columns = (size_t)p->size[p->rank - 1];
        size_t count =
            (size_t)(piece->count[0] * piece->count[1] * piece->count[2]) * (size_t)piece->count[3];
        size_t step = SLAB_VALUES / columns * columns;
        step = step == 0 ? columns : step;
        if (step > slab_values) {
            free(slab);
            slab = malloc(step * sizeof *slab);
            slab_values = step;
        }
        if (slab == NULL) {
            return mixt_fail(c->error, MIXT_ERROR_MEMORY, "convert: no memory");
        }
        for (size_t first = 0; first < count; first += step) {
            size_t now = count - first < step ? count - first : step;
            mixt_model_values(c->model, part->parameter, piece->offset + first, now, slab);
            scatter(piece, first, now, slab, values);
        }
    }
    free(slab);
    return MIXT_OK;
}

mixt_status mixt_conversion_advance(mixt_conversion *c, size_t bytes)
{
    c->done += (double)bytes;
    return mixt_go_on(c->progress, c->user, c->done, c->total, c->error);
}

/* The type in which the first of a target's values lie in the source. */
static mixt_type source_type(const mixt_model *model, int parameter)
{
    const mixt_held *held = model->held != NULL ? &model->held[parameter] : NULL;
    return held != NULL && held->matrices != NULL ? held->matrices[0].type : MIXT_TYPE_F32;
}

static void count_fallback(mixt_convert_report *report, const mixt_target *target)
{
    const char *type = mixt_type_info(target->type)->name;
    int i = 0;
    while (i < report->fallback_count && strcmp(report->fallbacks[i].type, type) != 0) {
        i++;
    }
    if (i < MIXT_TYPES_MAX) {
        report->fallback_count = i == report->fallback_count ? i + 1 : report->fallback_count;
        report->fallbacks[i].type = type;
        report->fallbacks[i].tensors++;
        report->fallbacks[i].parameters += mixt_target_count(target);
        report->fallbacks[i].bytes += target->bytes;
    }
}

static void fill_report(const mixt_conversion *c, const mixt_model *source,
                        mixt_convert_report *report)
{
    *report = (mixt_convert_report){.family = c->model->family->name};
    for (size_t i = 0; i < c->target_count; i++) {
        const mixt_target *target = &c->targets[i];
        mixt_type from = source_type(source, c->parts[target->first].parameter);
        report->tensors++;
        report->parameters += mixt_target_count(target);
        report->bytes += target->bytes;
        if (mixt_type_info(from)->elements > 1 && from != target->type) {
            report->requantised += mixt_type_info(target->type)->elements > 1;
        }
        if (target->wanted != target->type) {
            count_fallback(report, target);
        }
    }
    report->bits_per_weight = 8 * (double)report->bytes / (double)report->parameters;
    report->error = c->value_squares > 0 ? sqrt(c->error_squares / c->value_squares) : 0;
    if (c->model->family->universal) {
        mixt_family_nearest(&c->model->options, c->form, report->alone);
    }
}

static mixt_status unknown_type(const mixt_convert_options *options, mixt_error *error)
{
    char names[256] = "";
    size_t length = 0;
    for (int i = 0; mixt_mix_name(i) != NULL && length < sizeof names; i++) {
        length += (size_t)snprintf(names + length, sizeof names - length, " %s", mixt_mix_name(i));
    }
    return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                     "type: '%.40s' is not a type that mixt can write, which are:%s", options->type,
                     names);
}

/* Type "auto": needs a budget and what each matrix costs, and a file whose tensors have types. */
static mixt_status check_automatic(mixt_conversion *c)
{
    const mixt_convert_options *options = c->options;
    const mixt_sensitivity *sensitivity = options->sensitivity;
    const char *why = NULL;
    c->automatic = options->type != NULL && mixt_ascii_equal(options->type, MIXT_TYPE_AUTO);
    if (!c->automatic) {
        why = options->budget > 0 ? "budget: of type auto alone" : NULL;
    } else if (c->form != MIXT_FORM_GGUF) {
        why = "type auto: is for GGUF files alone";
    } else if (options->whole_experts) {
        why = "type auto: not with experts laid out one by one: convert that file once more";
    } else if (options->pure) {
        why = "type auto: excludes pure, which is one type for all";
    } else if (options->budget == 0) {
        why = "type auto: needs a budget";
    } else if (sensitivity == NULL || sensitivity->count != c->model->parameter_count) {
        why = "type auto: needs the sensitivity of this model";
    }
    return why == NULL ? MIXT_OK : mixt_fail(c->error, MIXT_ERROR_ARGUMENT, "%s", why);
}

mixt_status mixt_convert(mixt_context *context, const mixt_model *model,
                         const mixt_convert_options *options, mixt_progress progress, void *user,
                         mixt_error *error)
{
    mixt_conversion c = {
        .context = context,
        .model = model,
        .options = options,
        .form = mixt_gguf_is_name(options->output) ? MIXT_FORM_GGUF : MIXT_FORM_FOLDER,
        .progress = progress,
        .user = user,
        .error = error,
    };
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_convert_options, options, error));
    MIXT_TRY(mixt_model_refuse_spread(model, "converted", error));
    MIXT_TRY(check_automatic(&c));
    if (options->type != NULL && !c.automatic &&
        (c.mix = mixt_mix_by_name(options->type)) == NULL) {
        return unknown_type(options, error);
    }
    mixt_model written;
    MIXT_TRY(mixt_model_written(model, c.form, &written, error));
    c.model = &written;
    if (c.form == MIXT_FORM_FOLDER) {
        MIXT_TRY(mixt_folder_type_check(&c));
    }
    mixt_status status = plan_targets(&c);
    if (status == MIXT_OK) {
        status = mixt_output_begin(&c);
    }
    if (status == MIXT_OK) {
        status = c.form == MIXT_FORM_GGUF ? mixt_convert_to_gguf(&c) : mixt_convert_to_folder(&c);
    }
    if (status == MIXT_OK) {
        status = mixt_output_verify(&c);
    }
    if (status == MIXT_OK) {
        status = mixt_output_publish(&c);
    }
    if (status == MIXT_OK && options->report != NULL) {
        fill_report(&c, model, options->report);
    }
    mixt_output_end(&c);
    clear_targets(&c);
    return status;
}
