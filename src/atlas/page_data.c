/* The numbers that the page's script draws, as one block of JSON. Counts and routes are bytes in
 * base 64 (page_encode.h), so that 48 layers of 256 experts fit, and nothing is drawn before it is
 * asked for. The names of its keys are those of src/atlas/page/data.js. What a page must have is
 * written first (mixt_page_data_begin); the excerpts' routes, and then the text that can be
 * searched, get what that leaves of MIXT_PAGE_BYTES. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/page.h"
#include "atlas/page_encode.h"
#include "atlas/page_layer.h"
#include "atlas/page_search.h"
#include "core/error.h"

#define TOP_TOKENS 6 /* of each expert of each layer */

/* Writes one trace. */
typedef struct writer {
    const mixt_page *page;
    const mixt_trace *trace;
    mixt_buffer json;  /* its object so far */
    mixt_buffer bytes; /* of the array that is being made */
    mixt_buffer texts; /* JSON strings of the tokens so far, with commas */
    int32_t *slot;     /* [vocab_size] number of a token's text, or -1 */
    int32_t slots;
} writer;

struct mixt_page_data {
    writer traces[2];
    mixt_buffer rest; /* agreement and results of mixt probe */
};

/* The number of a token's text among `tokens` of the trace. */
static int32_t slot_of(writer *w, int32_t token)
{
    if (w->slot[token] < 0) {
        mixt_buffer_text(&w->texts, w->slots > 0 ? "," : "");
        mixt_page_token_string(&w->texts, w->trace, token);
        w->slot[token] = w->slots++;
    }
    return w->slot[token];
}

/* [L, shown domains, E] choices of one kind. */
static void write_counts(writer *w, const mixt_counts *counts, const char *key, mixt_choice choice)
{
    mixt_page_counts encoder = {.bytes = &w->bytes};
    for (int layer = 0; layer < counts->layers; layer++) {
        for (int d = 0; d < counts->domains; d++) {
            const uint64_t *row = mixt_counts_of(counts, layer, d, choice);
            for (int e = 0; e < counts->experts && w->page->shows[d]; e++) {
                mixt_page_counts_add(&encoder, row[e]);
            }
        }
    }
    mixt_page_counts_end(&encoder);
    mixt_page_field(&w->json, key, &w->bytes);
}

/* Experts chosen together with each of a layer's: number + 1 and 100 * lift of each, a 0 behind. */
static void write_mates(const mixt_page_layer *layer, mixt_buffer *bytes)
{
    mixt_page_mate mates[MIXT_PAGE_MATES];
    for (int e = 0; e < layer->experts; e++) {
        mixt_page_layer_mates(layer, e, mates);
        for (int i = 0; i < MIXT_PAGE_MATES && mates[i].expert >= 0; i++) {
            mixt_page_varint(bytes, (uint64_t)mates[i].expert + 1);
            mixt_page_varint(bytes, (uint64_t)(100 * fmin(mates[i].lift, 1e6) + 0.5));
        }
        mixt_page_varint(bytes, 0);
    }
}

/* Classes [L, MIXT_CLASS_COUNT, E], weights [L, E] in thousandths (signed ones as 0), mates. */
static bool write_layers(writer *w)
{
    mixt_page_layer layer;
    mixt_buffer mates = {0};
    mixt_buffer weights = {0};
    mixt_page_counts classes = {.bytes = &w->bytes};
    bool fine = mixt_page_layer_create(w->trace, &layer);
    for (int number = 0; number < w->trace->info.layers && fine; number++) {
        mixt_page_layer_count(w->trace, number, &layer);
        for (int i = 0; i < MIXT_CLASS_COUNT * layer.experts; i++) {
            mixt_page_counts_add(&classes, layer.class_count[i]);
        }
        for (int e = 0; e < layer.experts; e++) {
            double mean = layer.count[e] > 0 ? layer.weight[e] / (double)layer.count[e] : 0;
            mixt_page_varint(&weights, mean > 0 && mean < 1e9 ? (uint64_t)(1000 * mean + 0.5) : 0);
        }
        write_mates(&layer, &mates);
    }
    mixt_page_counts_end(&classes);
    mixt_page_field(&w->json, "class", &w->bytes);
    mixt_page_field(&w->json, "weight", &weights);
    if (layer.pairs != NULL) {
        mixt_page_field(&w->json, "mates", &mates);
    }
    mixt_page_layer_free(&layer);
    mixt_buffer_free(&mates);
    mixt_buffer_free(&weights);
    return fine;
}

/* Tokens of each expert of each layer: text's number + 1, share in thousandths, occurrences; a 0
 * behind. */
static mixt_status write_top_tokens(writer *w, mixt_error *error)
{
    int experts = w->trace->info.experts;
    mixt_status status = MIXT_OK;
    mixt_top_token *rows = calloc((size_t)experts * TOP_TOKENS, sizeof *rows);
    if (rows == NULL) {
        w->json.failed = true;
        return MIXT_OK;
    }
    for (int layer = 0; layer < w->trace->info.layers && status == MIXT_OK; layer++) {
        status = mixt_top_tokens(w->trace, layer, TOP_TOKENS, rows, error);
        for (int e = 0; e < experts && status == MIXT_OK; e++) {
            const mixt_top_token *row = rows + e * TOP_TOKENS;
            for (int i = 0; i < TOP_TOKENS && row[i].token >= 0; i++) {
                mixt_page_varint(&w->bytes, (uint64_t)slot_of(w, row[i].token) + 1);
                mixt_page_varint(&w->bytes, (uint64_t)(1000 * row[i].share + 0.5));
                mixt_page_varint(&w->bytes, row[i].occurrences);
            }
            mixt_page_varint(&w->bytes, 0);
        }
    }
    free(rows);
    mixt_page_field(&w->json, "top", &w->bytes);
    return status;
}

/* The largest weight of the excerpts: what the byte 255 stands for. */
static double weight_scale(const writer *w)
{
    double most = 0;
    for (int i = 0; i < w->page->excerpt_count; i++) {
        const mixt_page_excerpt *x = &w->page->excerpts[i];
        for (int layer = 0; layer < w->trace->info.layers; layer++) {
            const uint16_t *weights = mixt_trace_weights(w->trace, layer, x->begin);
            for (uint64_t c = 0; c < x->count * (uint64_t)w->trace->info.experts_per_token; c++) {
                double weight = (double)mixt_trace_weight(weights[c]);
                most =
                    weight > most && weight < 65505 ? weight : most; /* neither NaN nor infinite */
            }
        }
    }
    return most;
}

static unsigned char byte_of(double weight, double scale)
{
    double part = scale > 0 ? 255 * weight / scale : 0;
    return (unsigned char)(part > 0 && part <= 255 ? part + 0.5 : part > 255 ? 255 : 0);
}

/* One part of the excerpts' routes, [L, tokens of all excerpts, k]: experts as they are (part 0),
 * or weights as bytes of the scale (part 1); or their margins [L, tokens] (part 2). */
static void write_routes(writer *w, int part, double scale)
{
    static const char *const keys[] = {"routes", "weights", "margins"};
    uint64_t k = (uint64_t)w->trace->info.experts_per_token;
    bool narrow = w->trace->info.experts <= 256 && !w->trace->has_none;
    for (int layer = 0; layer < w->trace->info.layers; layer++) {
        for (int i = 0; i < w->page->excerpt_count; i++) {
            const mixt_page_excerpt *x = &w->page->excerpts[i];
            const uint16_t *experts = mixt_trace_experts(w->trace, layer, x->begin);
            const uint16_t *weights = mixt_trace_weights(w->trace, layer, x->begin);
            for (uint64_t c = 0; c < x->count * k && part < 2; c++) {
                unsigned char bytes[2] = {(unsigned char)(experts[c] & 255),
                                          (unsigned char)(experts[c] >> 8)};
                if (part == 1) {
                    bytes[0] = byte_of((double)mixt_trace_weight(weights[c]), scale);
                }
                mixt_buffer_append(&w->bytes, bytes, part == 1 || narrow ? 1 : 2);
            }
            for (uint64_t t = 0; t < x->count && part == 2; t++) {
                uint16_t half =
                    w->trace->margins[(uint64_t)layer * w->trace->info.tokens + x->begin + t];
                const unsigned char bytes[2] = {(unsigned char)(half & 255),
                                                (unsigned char)(half >> 8)};
                mixt_buffer_append(&w->bytes, bytes, 2);
            }
        }
    }
    mixt_page_field(&w->json, keys[part], &w->bytes);
}

/* {"name":..., ...} of one trace; `routed`: the excerpts are of its text. */
static void write_head(writer *w)
{
    const mixt_trace_info *info = &w->trace->info;
    mixt_buffer_text(&w->json, "{\"name\":");
    mixt_page_name_string(&w->json, info->model);
    mixt_buffer_format(&w->json,
                       ",\"experts\":%d,\"k\":%d,\"tokens\":%llu,\"wide\":%s,\"layers\":[",
                       info->experts, info->experts_per_token, (unsigned long long)info->tokens,
                       info->experts <= 256 && !w->trace->has_none ? "false" : "true");
    for (int layer = 0; layer < info->layers; layer++) {
        mixt_buffer_format(&w->json, "%s%d", layer > 0 ? "," : "", w->trace->layer_numbers[layer]);
    }
    mixt_buffer_text(&w->json, "]");
}

/* What does not depend on which tokens are shown. */
static mixt_status begin_trace(writer *w, const mixt_counts *counts, mixt_error *error)
{
    size_t ids = (size_t)w->trace->vocab_size + 1;
    w->slot = malloc(ids * sizeof *w->slot);
    if (w->slot == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    memset(w->slot, -1, ids * sizeof *w->slot);
    write_head(w);
    write_counts(w, counts, "any", MIXT_CHOICE_ANY);
    write_counts(w, counts, "first", MIXT_CHOICE_FIRST);
    w->json.failed |= !write_layers(w);
    return write_top_tokens(w, error);
}

/* The excerpts' tokens, and where they went. */
static void write_excerpts(writer *w)
{
    for (int i = 0; i < w->page->excerpt_count; i++) {
        const mixt_page_excerpt *x = &w->page->excerpts[i];
        for (uint64_t t = 0; t < x->count; t++) {
            mixt_page_varint(&w->bytes, (uint64_t)slot_of(w, w->trace->tokens[x->begin + t]));
        }
    }
    double scale = weight_scale(w);
    mixt_page_field(&w->json, "text", &w->bytes);
    mixt_buffer_format(&w->json, ",\"scale\":%.6g", scale);
    write_routes(w, 0, scale);
    write_routes(w, 1, scale);
    if (w->trace->margins != NULL) {
        write_routes(w, 2, scale);
    }
}

static void append(mixt_buffer *out, const mixt_buffer *part)
{
    mixt_buffer_append(out, part->data, part->length);
    out->failed |= part->failed;
}

static void end_trace(writer *w, mixt_buffer *out)
{
    append(out, &w->json);
    mixt_buffer_text(out, ",\"words\":[");
    append(out, &w->texts);
    mixt_buffer_text(out, "]}");
    out->failed |= w->bytes.failed;
}

/* The text that can be searched: "order", the words' numbers of its tokens, the most frequent
 * first; "pieces" of documents: domain as listed, document, how many of its first tokens; and
 * "places" in that order of all their tokens. As many as `bytes` hold. */
static mixt_status write_search(writer *w, size_t bytes, mixt_error *error)
{
    mixt_page_search search;
    mixt_status status = mixt_page_search_choose(w->page, bytes, &search, error);
    for (int32_t i = 0; i < search.orders && status == MIXT_OK; i++) {
        mixt_page_varint(&w->bytes, (uint64_t)slot_of(w, search.token[i]));
    }
    mixt_buffer_format(&w->json, ",\"searched\":%llu,\"orders\":%d",
                       (unsigned long long)search.tokens, (int)search.orders);
    mixt_page_field(&w->json, "order", &w->bytes);
    if (status == MIXT_OK) {
        mixt_page_search_write(w->page, &search, true, &w->bytes);
        mixt_page_field(&w->json, "pieces", &w->bytes);
        mixt_page_search_write(w->page, &search, false, &w->bytes);
        mixt_page_field(&w->json, "places", &w->bytes);
    }
    mixt_page_search_free(&search);
    return status;
}

static void write_lists(mixt_page *page)
{
    mixt_buffer *out = page->out;
    const char *comma = "";
    mixt_buffer_format(out, "{\"start\":%d,\"classes\":[", mixt_trace_middle_layer(page->trace));
    for (int c = 0; c < MIXT_CLASS_COUNT; c++) {
        mixt_buffer_format(out, "%s\"%s\"", c > 0 ? "," : "", mixt_token_class_name(c));
    }
    mixt_buffer_text(out, "],\"domains\":[");
    for (int d = 0; d < page->trace->info.domains; d++) {
        if (page->shows[d]) {
            mixt_buffer_text(out, comma);
            mixt_page_name_string(out, page->trace->domain_names[d]);
            comma = ",";
        }
    }
    mixt_buffer_text(out, "],\"excerpts\":["); /* [domain as listed, document, its token, tokens] */
    for (int i = 0, shown = -1, last = -1; i < page->excerpt_count; i++) {
        const mixt_page_excerpt *x = &page->excerpts[i];
        for (int d = last + 1; d <= x->domain; d++) {
            shown += page->shows[d];
        }
        last = x->domain;
        int32_t document = page->trace->document[x->begin];
        mixt_buffer_format(out, "%s[%d,%d,%llu,%llu]", i > 0 ? "," : "", shown, (int)document,
                           (unsigned long long)(x->begin - page->trace->document_start[document]),
                           (unsigned long long)x->count);
    }
    mixt_buffer_text(out, "]");
}

mixt_status mixt_page_data_begin(mixt_page *page, mixt_error *error)
{
    page->data = calloc(1, sizeof *page->data);
    if (page->data == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "page: no memory");
    }
    writer *w = page->data->traces;
    w[0] = (writer){.page = page, .trace = page->trace};
    w[1] = (writer){.page = page, .trace = page->second};
    mixt_page_agreement_data(page, &page->data->rest);
    mixt_page_probe_data(page, &page->data->rest);
    MIXT_TRY(begin_trace(&w[0], page->report->counts, error));
    return page->second == NULL ? MIXT_OK : begin_trace(&w[1], page->second_counts, error);
}

size_t mixt_page_data_length(const mixt_page *page)
{
    const writer *w = page->data->traces;
    return w[0].json.length + w[0].texts.length + w[1].json.length + w[1].texts.length +
           page->data->rest.length;
}

mixt_status mixt_page_data_end(mixt_page *page, size_t behind, mixt_error *error)
{
    mixt_buffer *out = page->out;
    writer *w = page->data->traces;
    mixt_buffer_text(out, "<script type=\"application/json\" id=\"data\">");
    write_lists(page);
    append(out, &page->data->rest);
    mixt_buffer_text(out, ",\"traces\":[");
    write_excerpts(&w[0]);
    if (page->second != NULL && page->same_text) {
        write_excerpts(&w[1]);
    }
    size_t used = out->length + mixt_page_data_length(page) - page->data->rest.length + behind;
    MIXT_TRY(write_search(&w[0], used < MIXT_PAGE_BYTES ? MIXT_PAGE_BYTES - used : 0, error));
    end_trace(&w[0], out);
    if (page->second != NULL) {
        mixt_buffer_text(out, ",");
        end_trace(&w[1], out);
    }
    mixt_buffer_text(out, "]}</script>\n");
    return MIXT_OK;
}

void mixt_page_data_free(mixt_page *page)
{
    for (int i = 0; page->data != NULL && i < 2; i++) {
        mixt_buffer_free(&page->data->traces[i].json);
        mixt_buffer_free(&page->data->traces[i].bytes);
        mixt_buffer_free(&page->data->traces[i].texts);
        free(page->data->traces[i].slot);
    }
    if (page->data != NULL) {
        mixt_buffer_free(&page->data->rest);
    }
    free(page->data);
}
