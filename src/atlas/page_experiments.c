/* Results of `mixt probe` on the page: their section, and their part of the block of JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/page_encode.h"
#include "atlas/page_probe.h"
#include "atlas/token_class.h"
#include "core/half.h"

#define LISTED 10 /* experts in a table */
#define SUPER_LISTED 24

/* -- Numbers for the script ----------------------------------------------------------------- */

/* Little-endian, whatever the machine. */
static void append_float(mixt_buffer *bytes, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const unsigned char four[4] = {(unsigned char)(bits & 255), (unsigned char)(bits >> 8 & 255),
                                   (unsigned char)(bits >> 16 & 255), (unsigned char)(bits >> 24)};
    mixt_buffer_append(bytes, four, sizeof four);
}

/* Half precision: three digits, for what stands beside other numbers. */
static void append_half(mixt_buffer *bytes, float value)
{
    uint16_t half;
    mixt_f32_to_f16(&value, &half, 1);
    const unsigned char two[2] = {(unsigned char)(half & 255), (unsigned char)(half >> 8)};
    mixt_buffer_append(bytes, two, sizeof two);
}

/* A field of numbers, unless none is known. */
static void write_numbers(mixt_buffer *out, const char *key, const float *values, size_t count,
                          bool half)
{
    mixt_buffer bytes = {0};
    bool known = false;
    for (size_t i = 0; i < count; i++) {
        known = known || !isnan(values[i]);
        if (half) {
            append_half(&bytes, values[i]);
        } else {
            append_float(&bytes, values[i]);
        }
    }
    if (known) {
        mixt_page_field(out, key, &bytes);
    }
    out->failed |= bytes.failed;
    mixt_buffer_free(&bytes);
}

/* [L, shown domains, E]. */
static void write_domains(const mixt_page *page, mixt_buffer *out)
{
    const mixt_trace_info *info = &page->trace->info;
    size_t experts = (size_t)info->experts;
    size_t count = (size_t)info->layers * (size_t)page->shown_count * experts;
    float *shown = malloc(count * sizeof *shown);
    float *at = shown;
    for (int row = 0; row < info->layers * info->domains && shown != NULL; row++) {
        if (page->shows[row % info->domains]) {
            memcpy(at, page->probe->domain + (size_t)row * experts, experts * sizeof *at);
            at += experts;
        }
    }
    if (shown != NULL) {
        write_numbers(out, "domain", shown, count, true);
    }
    out->failed |= shown == NULL;
    free(shown);
}

/* Lists as the script reads them: expert + 1 and a thousand times (1 + cosine), a 0 behind each. */
static void write_near(const mixt_page *page, mixt_buffer *out, const char *key,
                       mixt_page_likeness kind)
{
    const mixt_trace_info *info = &page->trace->info;
    size_t cells = (size_t)info->layers * (size_t)info->experts;
    const mixt_page_near *near = page->probe->near + (size_t)kind * cells * MIXT_PAGE_NEAR;
    mixt_buffer bytes = {0};
    bool known = false;
    for (size_t cell = 0; cell < cells; cell++, near += MIXT_PAGE_NEAR) {
        for (int i = 0; i < MIXT_PAGE_NEAR && near[i].expert >= 0; i++) {
            double moved = 1000 * (1 + (double)near[i].cosine) + 0.5;
            mixt_page_varint(&bytes, (uint64_t)near[i].expert + 1);
            mixt_page_varint(&bytes, moved > 0 ? (uint64_t)moved : 0);
            known = true;
        }
        mixt_page_varint(&bytes, 0);
    }
    if (known) {
        mixt_page_field(out, key, &bytes);
    }
    out->failed |= bytes.failed;
    mixt_buffer_free(&bytes);
}

void mixt_page_probe_data(const mixt_page *page, mixt_buffer *out)
{
    static const char *const keys[MIXT_CELL_PARTS] = {
        "mask", "maskLow", "maskHigh", "reap", "reapLow", "reapHigh", "norm", "largest", "super"};
    const struct mixt_page_probe *probe = page->probe;
    if (probe == NULL) {
        return;
    }
    size_t cells = (size_t)page->trace->info.layers * (size_t)page->trace->info.experts;
    mixt_buffer_text(out, ",\"probe\":{\"unit\":\"nats\"");
    for (size_t part = 0; part < MIXT_CELL_PARTS; part++) {
        bool value = part == MIXT_CELL_EFFECT || part == MIXT_CELL_REAP || part == MIXT_CELL_NORM ||
                     part == MIXT_CELL_LARGEST;
        write_numbers(out, keys[part], probe->cell + part * cells, cells, !value);
    }
    write_domains(page, out);
    write_numbers(out, "class", probe->classes, cells * MIXT_CLASS_COUNT, true);
    write_near(page, out, "nearOutputs", MIXT_NEAR_OUTPUTS);
    write_near(page, out, "nearWeights", MIXT_NEAR_WEIGHTS);
    mixt_buffer_text(out, "}");
}

/* -- What stands on the page ---------------------------------------------------------------- */

typedef struct listed {
    int layer, expert;
    double value;
} listed;

static int by_value(const void *a, const void *b)
{
    const listed *x = a;
    const listed *y = b;
    if (x->value != y->value) {
        return x->value < y->value ? 1 : -1;
    }
    return x->layer != y->layer ? x->layer - y->layer : x->expert - y->expert;
}

/* All experts with a number, the largest first; returns how many. */
static int sort_cells(const mixt_page *page, mixt_page_probe_cell part, listed *rows)
{
    int count = 0;
    for (int layer = 0; layer < page->trace->info.layers; layer++) {
        for (int e = 0; e < page->trace->info.experts; e++) {
            double value = (double)mixt_page_probe_of(page, part, layer, e);
            if (!isnan(value)) {
                rows[count++] = (listed){layer, e, value};
            }
        }
    }
    qsort(rows, (size_t)count, sizeof *rows, by_value);
    return count;
}

static void number_cell(mixt_page *page, double value, int decimals)
{
    if (isnan(value)) {
        mixt_buffer_text(page->out, "<td>\xe2\x80\x93</td>");
    } else {
        mixt_buffer_format(page->out, "<td>%.*f</td>", decimals, value);
    }
}

static void table(mixt_page *page, const char *caption, const listed *rows, int count, int step)
{
    mixt_buffer_format(page->out,
                       "<div class=\"scroll\"><table><caption>%s</caption><thead><tr><th "
                       "scope=\"col\">Layer</th><th scope=\"col\">Expert</th><th scope=\"col\">"
                       "Nats a token</th><th scope=\"col\">Low</th><th scope=\"col\">High</th><th "
                       "scope=\"col\">REAP</th><th scope=\"col\">Of the choices</th></tr></thead>"
                       "<tbody>\n",
                       caption);
    for (int i = 0; i < count && i < LISTED; i++, rows += step) {
        const mixt_counts *counts = page->report->counts;
        uint64_t own = 0;
        uint64_t all = 0;
        for (int d = 0; d < counts->domains; d++) {
            own += mixt_counts_of(counts, rows->layer, d, MIXT_CHOICE_ANY)[rows->expert];
            all += mixt_counts_total(counts, rows->layer, d, MIXT_CHOICE_ANY);
        }
        mixt_buffer_format(page->out, "<tr><th scope=\"row\">%d</th><td>%d</td>",
                           page->trace->layer_numbers[rows->layer], rows->expert);
        for (int part = MIXT_CELL_EFFECT; part <= MIXT_CELL_EFFECT_HIGH; part++) {
            number_cell(page,
                        (double)mixt_page_probe_of(page, (mixt_page_probe_cell)part, rows->layer,
                                                   rows->expert),
                        4);
        }
        number_cell(page,
                    (double)mixt_page_probe_of(page, MIXT_CELL_REAP, rows->layer, rows->expert), 2);
        mixt_buffer_format(page->out, "<td>%.2f %%</td></tr>\n",
                           all > 0 ? 100 * (double)own / (double)all : 0);
    }
    mixt_buffer_text(page->out, "</tbody></table></div>\n");
}

static void masking(mixt_page *page, listed *rows)
{
    int count = sort_cells(page, MIXT_CELL_EFFECT, rows);
    if (count == 0) {
        return;
    }
    int better = 0;
    for (int i = 0; i < count; i++) {
        better += rows[i].value < 0;
    }
    mixt_buffer_format(page->out,
                       "<h3>Without one expert</h3>\n<p>An expert is masked: its tokens go to the "
                       "next ones. Of %d experts the median costs %.4f nats a token, the most "
                       "%.4f; without %d of them the loss is lower.</p>\n<div class=\"pair\">\n",
                       count, rows[count / 2].value, rows[0].value, better);
    table(page, "Costs most to lose", rows, count, 1);
    table(page, "Costs least to lose", rows + count - 1, count, -1);
    mixt_buffer_text(page->out, "</div>\n");
}

static void super_experts(mixt_page *page, listed *rows)
{
    int count = sort_cells(page, MIXT_CELL_SUPER, rows);
    int found = 0;
    while (found < count && rows[found].value > 0) {
        found++;
    }
    if (count == 0) {
        return;
    }
    mixt_buffer_text(page->out,
                     "<h3>Super experts</h3>\n<p>Experts with an output far above all others "
                     "(2507.23279): above the 99.5th percentile of all experts and a tenth of the "
                     "largest, in the first three quarters of the layers. ");
    mixt_buffer_text(page->out, found == 0 ? "There is none." : "The map has a ring around them: ");
    for (int i = 0; i < found && i < SUPER_LISTED; i++) {
        size_t cell =
            (size_t)rows[i].layer * (size_t)page->trace->info.experts + (size_t)rows[i].expert;
        mixt_buffer_format(
            page->out, "%slayer %d, expert %d (%.4g", i > 0 ? "; " : "",
            page->trace->layer_numbers[rows[i].layer], rows[i].expert,
            (double)mixt_page_probe_of(page, MIXT_CELL_LARGEST, rows[i].layer, rows[i].expert));
        if (page->probe->token[cell] >= 0) {
            size_t length;
            const uint8_t *bytes =
                mixt_trace_token_bytes(page->trace, page->probe->token[cell], &length);
            mixt_buffer_text(page->out, " at <code>");
            mixt_display_bytes(page->out, bytes, length < 48 ? length : 48,
                               MIXT_DISPLAY_HTML | MIXT_DISPLAY_VISIBLE);
            mixt_buffer_text(page->out, "</code>");
        }
        mixt_buffer_text(page->out, ")");
    }
    if (found > SUPER_LISTED) {
        mixt_buffer_format(page->out, "; and %d more", found - SUPER_LISTED);
    }
    mixt_buffer_text(page->out, found > 0 ? ".</p>\n" : "</p>\n");
}

/* One line with its interval; nothing where no number is known. */
typedef struct figure {
    const char *title, *axis, *dotted_name;
    int count;
    const int *number;
    const double *value, *low, *high, *dotted;
    const char *level_name; /* of a level that is the same everywhere; NULL: none */
    double level;
} figure;

static void draw_figure(mixt_page *page, const figure *f)
{
    double bottom = INFINITY;
    double top = -INFINITY;
    for (int i = 0; i < f->count; i++) {
        const double values[] = {
            f->value[i], f->low != NULL ? f->low[i] : NAN, f->high != NULL ? f->high[i] : NAN,
            f->dotted != NULL ? f->dotted[i] : NAN, f->level_name != NULL ? f->level : NAN};
        for (int v = 0; v < 5 && !isnan(f->value[i]); v++) {
            bottom = fmin(bottom, isnan(values[v]) ? bottom : values[v]);
            top = fmax(top, isnan(values[v]) ? top : values[v]);
        }
    }
    double *levels = calloc((size_t)f->count + 1, sizeof *levels);
    page->out->failed |= levels == NULL;
    if (bottom > top || levels == NULL) {
        free(levels);
        return;
    }
    for (int i = 0; i < f->count; i++) {
        levels[i] = f->level;
    }
    mixt_chart_scale(&bottom, &top);
    mixt_buffer_format(page->out, "<figure><figcaption><b>%s</b></figcaption>\n", f->title);
    mixt_page_chart(page, &(mixt_chart){.title = f->title,
                                        .axis = f->axis,
                                        .unit = "",
                                        .decimals = 3,
                                        .count = f->count,
                                        .number = f->number,
                                        .value = f->value,
                                        .low = f->low,
                                        .high = f->high,
                                        .dashed = f->level_name != NULL ? levels : NULL,
                                        .dashed_name = f->level_name,
                                        .dotted = f->dotted,
                                        .dotted_name = f->dotted_name,
                                        .bottom = bottom,
                                        .top = top});
    mixt_buffer_text(page->out, "</figure>\n");
    free(levels);
}

/* A number of every layer, behind which its interval stands. */
static void draw_lens(mixt_page *page, int part, figure f)
{
    int layers = page->trace->info.layers;
    f.count = layers;
    f.number = page->trace->layer_numbers;
    f.value = page->probe->lens + part * layers;
    f.low = f.value + layers;
    f.high = f.low + layers;
    draw_figure(page, &f);
}

static void figures(mixt_page *page)
{
    const struct mixt_page_probe *probe = page->probe;
    int layers = page->trace->info.layers;
    const double *lens = probe->lens;
    bool shared = false; /* a shared expert makes the layer's output another one */
    for (int layer = 0; layer < layers; layer++) {
        shared = shared || fabs(lens[MIXT_LENS_WHOLE * layers + layer] -
                                lens[MIXT_LENS_ROUTED * layers + layer]) > 1e-6;
    }
    mixt_buffer_text(page->out, "<div class=\"pair\">\n");
    draw_figure(page, &(figure){.title = "Other numbers of experts a token: nats a token more",
                                .axis = "experts a token",
                                .count = probe->curve_count,
                                .number = probe->curve_k,
                                .value = probe->curve,
                                .low = probe->curve + MIXT_PAGE_CURVE_MOST,
                                .high = probe->curve + 2 * MIXT_PAGE_CURVE_MOST,
                                .level_name = "unchanged"});
    draw_lens(page, MIXT_LENS_EFFECT,
              (figure){.title = "The first expert alone in a layer: nats a token more",
                       .level_name = "unchanged"});
    draw_lens(page, MIXT_LENS_ROUTED,
              (figure){.title = "Cosine of the first expert\xe2\x80\x99s output with that "
                                "of all chosen",
                       .dotted = shared ? lens + MIXT_LENS_WHOLE * layers : NULL,
                       .dotted_name = "with the shared expert"});
    draw_lens(page, MIXT_LENS_BETTER,
              (figure){.title = "Other routes drawn at random: share that predicts worse",
                       .level_name = "chance",
                       .level = 0.5});
    mixt_buffer_text(page->out, "</div>\n");
    if (!isnan(probe->better)) {
        mixt_buffer_format(page->out,
                           "<p>Of routes that differ from the router\xe2\x80\x99s in all layers at "
                           "once %.1f %% predict the next token worse.</p>\n",
                           100 * probe->better);
    }
}

void mixt_page_experiments(mixt_page *page)
{
    size_t cells = (size_t)page->trace->info.layers * (size_t)page->trace->info.experts;
    if (page->probe == NULL) {
        return;
    }
    listed *rows = malloc(cells * sizeof *rows);
    if (rows == NULL) {
        page->out->failed = true;
        return;
    }
    mixt_buffer_text(
        page->out, "<section id=\"experiments\">\n<h2>Experiments</h2>\n<p>What <code>mixt "
                   "probe</code> found by changing how this model routes. A change of the loss is "
                   "in nats a token, positive where the model got worse");
    if (!isnan(page->probe->loss)) {
        mixt_buffer_format(page->out, "; unchanged it is %.3f", page->probe->loss);
    }
    mixt_buffer_text(page->out, ". <span class=\"screen\">The map shows each expert\xe2\x80\x99s "
                                "numbers.</span></p>\n");
    if (page->probe->other_model) {
        mixt_buffer_text(page->out, "<p>Mind that it was measured on another file than the trace: "
                                    "the models\xe2\x80\x99 hashes differ.</p>\n");
    }
    masking(page, rows);
    super_experts(page, rows);
    figures(page);
    mixt_buffer_text(page->out, "</section>\n");
    free(rows);
}
