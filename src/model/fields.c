/* Rows of keys: values of mixt_model_options by offset, read from and written to either kind of
 * file in one way. */
#include "model/arch.h"

#include <assert.h>

/* What files of this form call the row, or NULL. */
static const char *row_key(const mixt_config_row *row, mixt_form form)
{
    return form == MIXT_FORM_GGUF ? row->gguf : row->key;
}

/* Values of a head, also where head_dim still says "as usual". */
static int head_values(const mixt_model_options *options)
{
    return options->head_dim > 0 || options->heads == 0 ? options->head_dim
                                                        : options->hidden_size / options->heads;
}

double mixt_row_get(const mixt_config_row *row, const mixt_model_options *options)
{
    assert(row->type != MIXT_FIELD_END && row->offset < sizeof *options);
    const void *at = (const char *)options + row->offset;
    switch (row->type) {
    case MIXT_FIELD_NUMBER:
    case MIXT_FIELD_NULL_NUMBER:
    case MIXT_FIELD_TRAINING:
        return *(const double *)at;
    case MIXT_FIELD_BOOL:
        return *(const bool *)at ? 1 : 0;
    case MIXT_FIELD_BY_HEADS:
        return (double)*(const int *)at * options->heads;
    case MIXT_FIELD_LESS_POSITION:
        return (double)*(const int *)at - options->attention.position_dim;
    case MIXT_FIELD_PART_OF_HEAD:
        return *(const int *)at > 0 ? (double)*(const int *)at / head_values(options) : 1;
    case MIXT_FIELD_FROM_ONE:
        return *(const int *)at > 1 ? *(const int *)at : 1;
    case MIXT_FIELD_INTEGER:
    case MIXT_FIELD_LENGTH:
    case MIXT_FIELD_SWITCH:
    case MIXT_FIELD_NULL_INTEGER:
    case MIXT_FIELD_LIST_INTEGER:
    case MIXT_FIELD_END:
    default:
        return *(const int *)at;
    }
}

void mixt_row_set(const mixt_config_row *row, mixt_model_options *options, double value)
{
    assert(row->type != MIXT_FIELD_END && row->offset < sizeof *options);
    void *at = (char *)options + row->offset;
    switch (row->type) {
    case MIXT_FIELD_NUMBER:
    case MIXT_FIELD_NULL_NUMBER:
    case MIXT_FIELD_TRAINING:
        *(double *)at = value;
        break;
    case MIXT_FIELD_BOOL:
        *(bool *)at = value != 0;
        break;
    case MIXT_FIELD_BY_HEADS:
        *(int *)at = options->heads > 0 ? (int)value / options->heads : 0;
        break;
    case MIXT_FIELD_LESS_POSITION:
        *(int *)at = (int)value + (value > 0 ? options->attention.position_dim : 0);
        break;
    case MIXT_FIELD_PART_OF_HEAD:
        *(int *)at = (int)(value * head_values(options));
        break;
    case MIXT_FIELD_INTEGER:
    case MIXT_FIELD_LENGTH:
    case MIXT_FIELD_SWITCH:
    case MIXT_FIELD_NULL_INTEGER:
    case MIXT_FIELD_FROM_ONE:
    case MIXT_FIELD_LIST_INTEGER:
    case MIXT_FIELD_END:
    default:
        *(int *)at = (int)value;
        break;
    }
}

/* Is there a row of the same field with a key in [from, to)? */
static bool named_between(const mixt_config_row *from, const mixt_config_row *to, size_t offset,
                          mixt_form form)
{
    for (const mixt_config_row *row = from; row != to && row->type != MIXT_FIELD_END; row++) {
        if (row->offset == offset && row_key(row, form) != NULL) {
            return true;
        }
    }
    return false;
}

bool mixt_row_written(const mixt_config_row *rows, const mixt_config_row *row, mixt_form form)
{
    return row_key(row, form) != NULL && !named_between(rows, row, row->offset, form);
}

/* The row of a field whose key is there; else the one that gives the fallback. */
static const mixt_config_row *chosen_row(const mixt_config_row *rows, size_t offset,
                                         const mixt_row_source *source, bool *present)
{
    const mixt_config_row *first = NULL, *named = NULL, *required = NULL;
    *present = false;
    for (const mixt_config_row *row = rows; row->type != MIXT_FIELD_END; row++) {
        if (row->offset != offset) {
            continue;
        }
        const char *key = row_key(row, source->form);
        first = first == NULL ? row : first;
        named = named == NULL && key != NULL ? row : named;
        required = key != NULL && row->required ? row : required;
        if (key != NULL && source->has(source->user, key)) {
            *present = true;
            return row;
        }
    }
    *present = required != NULL; /* reading it fails with its name */
    return required != NULL ? required : named != NULL ? named : first;
}

mixt_status mixt_rows_read(const mixt_config_row *rows, const mixt_row_source *source,
                           mixt_model_options *options)
{
    for (const mixt_config_row *row = rows; row->type != MIXT_FIELD_END; row++) {
        bool seen = false, present;
        for (const mixt_config_row *r = rows; r != row && !seen; r++) {
            seen = r->offset == row->offset;
        }
        if (seen) {
            continue;
        }
        const mixt_config_row *chosen = chosen_row(rows, row->offset, source, &present);
        double value = chosen->fallback;
        if (present) {
            const char *key = row_key(chosen, source->form);
            MIXT_TRY(source->read(source->user, chosen, key, &value));
        }
        mixt_row_set(chosen, options, value);
    }
    return MIXT_OK;
}
