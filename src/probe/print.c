/* What a probe found, as short tables for a person; everything is in the file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/display.h"
#include "core/error.h"
#include "core/number.h"
#include "formats/json.h"
#include "probe/probe.h"

#define RESULTS_MOST ((size_t)256 << 20) /* bytes of a file of results */
#define SHOWN 10                         /* experts that cost most, and as many that cost least */
#define ROWS_MOST ((size_t)1 << 22)

typedef struct printer {
    const json_t *root;
    mixt_buffer *out;
} printer;

static double at(const json_t *list, size_t i)
{
    const json_t *number = json_array_get(list, i);
    return json_is_number(number) ? json_number_value(number) : (double)NAN;
}

static double value_of(const json_t *row, const char *key)
{
    return at(json_object_get(row, key), 0);
}

/* "0.0433  0.0279 to 0.0588"; "-" where there is none. */
static void put_value(const printer *p, const json_t *value)
{
    if (isnan(at(value, 0))) {
        mixt_buffer_format(p->out, "%9s  %-18s", "-", "");
        return;
    }
    mixt_buffer_format(p->out, "%9.4f  ", at(value, 0));
    char span[48] = "no interval";
    if (!isnan(at(value, 1))) {
        mixt_format(span, sizeof span, "%.4f to %.4f", at(value, 1), at(value, 2));
    }
    mixt_buffer_format(p->out, "%-18s", span);
}

/* The domain, of those with a value, that the change costs most, and by how much. */
static void put_worst(const printer *p, const json_t *row)
{
    const json_t *domains = json_object_get(row, "domains");
    const json_t *names = json_object_get(p->root, "domains");
    size_t worst = 0;
    double most = -INFINITY;
    for (size_t d = 0; d < json_array_size(domains); d++) {
        double effect = at(json_array_get(domains, d), 0);
        if (effect > most) {
            most = effect;
            worst = d;
        }
    }
    const char *name = json_string_value(json_array_get(names, worst));
    if (isfinite(most) && name != NULL) {
        mixt_buffer_format(p->out, "  %.4f ", most);
        mixt_display_name(p->out, name, MIXT_DISPLAY_PLAIN);
    }
    mixt_buffer_text(p->out, "\n");
}

static long long whole(const json_t *row, const char *key)
{
    return (long long)json_integer_value(json_object_get(row, key));
}

static void put_target(const printer *p, const json_t *row)
{
    char text[64];
    const json_t *with = json_object_get(row, "with");
    int length =
        snprintf(text, sizeof text, "%lld:%lld", whole(row, "layer"), whole(row, "expert"));
    if (json_array_size(with) > 0) {
        snprintf(text + length, sizeof text - (size_t)length, " and %zu more",
                 json_array_size(with));
    }
    mixt_buffer_format(p->out, "%-18s", text);
}

static int by_effect_falling(const void *a, const void *b)
{
    double x = value_of(*(const json_t *const *)a, "effect");
    double y = value_of(*(const json_t *const *)b, "effect");
    return (x < y) - (x > y);
}

/* Experts of `list` that cost most, and least. */
static mixt_status put_targets(const printer *p, const char *list, const char *title,
                               mixt_error *error)
{
    const json_t *rows = json_object_get(p->root, list);
    size_t count = json_array_size(rows), known = 0;
    if (count == 0 || count > ROWS_MOST) {
        return MIXT_OK;
    }
    const json_t **order = calloc(count, sizeof *order);
    if (order == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "probe: no memory to print the results");
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(rows, i);
        if (!isnan(value_of(row, "effect"))) {
            order[known++] = row;
        }
    }
    qsort(order, known, sizeof *order, by_effect_falling);
    mixt_buffer_format(p->out, "\n%s (%zu measured)\n%-18s%9s  %-18s  %s\n", title, known,
                       "layer:expert", "nats", "95 % interval", "most in");
    for (size_t i = 0; i < known; i++) {
        if (i == SHOWN && known > (size_t)2 * SHOWN) {
            i = known - SHOWN;
            mixt_buffer_text(p->out, "...\n");
        }
        put_target(p, order[i]);
        put_value(p, json_object_get(order[i], "effect"));
        put_worst(p, order[i]);
    }
    free(order);
    return MIXT_OK;
}

/* Rows of `list` by a number of theirs, `values` [.., NULL] side by side. */
static void put_rows(const printer *p, const char *list, const char *title, const char *key,
                     const char *const *values)
{
    const json_t *rows = json_object_get(p->root, list);
    if (json_array_size(rows) == 0) {
        return;
    }
    mixt_buffer_format(p->out, "\n%s\n%-6s", title, key);
    for (int v = 0; values[v] != NULL; v++) {
        mixt_buffer_format(p->out, "  %-29s", values[v]);
    }
    mixt_buffer_text(p->out, "\n");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        mixt_buffer_format(p->out, "%-6lld", whole(row, key));
        for (int v = 0; values[v] != NULL; v++) {
            mixt_buffer_text(p->out, "  ");
            put_value(p, json_object_get(row, values[v]));
        }
        mixt_buffer_text(p->out, "\n");
    }
}

static void put_super(const printer *p)
{
    const json_t *units = json_object_get(p->root, "units");
    int found = 0;
    if (json_object_get(p->root, "super") == NULL) {
        return;
    }
    mixt_buffer_text(p->out, "\nSuper experts:");
    for (size_t i = 0; i < json_array_size(units); i++) {
        const json_t *row = json_array_get(units, i);
        if (json_is_true(json_object_get(row, "super")) && found++ < 2 * SHOWN) {
            mixt_buffer_format(p->out, "%s %lld:%lld", found > 1 ? "," : "", whole(row, "layer"),
                               whole(row, "expert"));
        }
    }
    mixt_buffer_text(p->out, found == 0          ? " none.\n"
                             : found > 2 * SHOWN ? ", and more in the file.\n"
                                                 : ".\n");
}

mixt_status mixt_probe_print(const char *results, FILE *stream, mixt_error *error)
{
    json_t *json;
    mixt_buffer out = {0};
    MIXT_TRY(mixt_json_read(results, RESULTS_MOST, &json, error));
    const mixt_json_object root = {json, results, "", error};
    const printer p = {json, &out};
    const char *format;
    mixt_status status = mixt_json_string(&root, "format", &format);
    if (status == MIXT_OK && strcmp(format, "mixt-probe") != 0) {
        status = mixt_json_fail(&root, "format", "must be mixt-probe");
    }
    if (status == MIXT_OK) {
        mixt_buffer_format(&out, "Loss of the model as it is, nats a token: ");
        put_value(&p, json_object_get(json_object_get(json, "base"), "loss"));
        mixt_buffer_text(&out, "\n");
        status = put_targets(&p, "mask", "An expert masked: what the loss gains", error);
    }
    if (status == MIXT_OK) {
        status = put_targets(&p, "first", "An expert forced to be the first", error);
    }
    if (status == MIXT_OK) {
        put_rows(&p, "top-k", "Experts a token", "k", (const char *const[]){"effect", NULL});
        put_rows(&p, "lens", "The first expert alone, in one layer", "layer",
                 (const char *const[]){"cosine_layer", "effect", NULL});
        put_super(&p);
        status = out.failed || fwrite(out.data, 1, out.length, stream) != out.length
                     ? mixt_fail(error, out.failed ? MIXT_ERROR_MEMORY : MIXT_ERROR_IO,
                                 "probe: the results could not be printed")
                     : MIXT_OK;
    }
    mixt_buffer_free(&out);
    json_decref(json);
    return status;
}
