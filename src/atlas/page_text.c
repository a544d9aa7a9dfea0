/* The coloured text, the tokens of each expert, and the experts' colours. */
#include <stdlib.h>

#include "atlas/page.h"

#define TOP_TOKENS 10
#define TOP_EXPERTS 128      /* rows at most for one layer */
#define ROUTES_BUDGET 60000u /* expert numbers in the page's data */
#define MIN_TEXT_TOKENS 48u
#define MAX_TEXT_TOKENS 160u
#define TOKEN_BYTES 96u /* of longer tokens, such as rows of spaces, so many are shown */

#define NONE "\xe2\x80\x93" /* shown in place of an expert's number */

/* Eight hues that stay apart for colour-blind eyes (after Okabe & Ito 2008), as RGB. */
static const unsigned hues[8] = {0x0072B2, 0xE69F00, 0x009E73, 0xD55E00,
                                 0xCC79A7, 0x56B4E9, 0xD8C21C, 0x848A90};

void mixt_page_expert_style(mixt_page *page)
{
    static const char *const lines[] = {"solid", "dotted", "dashed", "double"};
    for (int e = 0; e < page->trace->info.experts; e++) {
        unsigned hue = hues[e % 8];
        if (e / 32 % 2 != 0) { /* second half of 64: darker */
            hue = (hue >> 1 & 0x7F7F7F) + (hue >> 3 & 0x1F1F1F);
        }
        mixt_buffer_format(page->out, "[data-e=\"%d\"]{--c:#%06X;--b:#%06X52", e, hue, hue);
        if (e / 8 % 4 != 0) {
            mixt_buffer_format(page->out, ";--s:%s", lines[e / 8 % 4]);
        }
        mixt_buffer_text(page->out, "}\n");
    }
    if (page->trace->has_none) {
        mixt_buffer_text(page->out, "[data-e=\"" NONE "\"]{--c:var(--line);--b:var(--card)}\n");
    }
    bool choices = page->trace->info.experts_per_token > 1;
    for (int i = 0; i < page->layer_count; i++) {
        for (int c = 0; c < MIXT_CHOICE_COUNT; c++) {
            if (choices) {
                mixt_buffer_format(page->out, "#pl%d:checked~#pc%d:checked~.panels>.l%d.c%d,", i, c,
                                   i, c);
            } else if (c == 0) {
                mixt_buffer_format(page->out, "#pl%d:checked~.panels>.l%d,", i, i);
            }
        }
    }
    for (int i = 0; i < page->report->key_layer_count; i++) {
        mixt_buffer_format(page->out, "%s#tl%d:checked~.panels>.l%d", i == 0 ? "" : ",", i, i);
    }
    mixt_buffer_text(page->out, "{display:block}\n");
}

/* The number of an expert, or what stands for none. */
static void expert_number(mixt_page *page, uint16_t expert)
{
    if (expert == MIXT_TRACE_NONE) {
        mixt_buffer_text(page->out, NONE);
    } else {
        mixt_buffer_format(page->out, "%d", expert);
    }
}

/* Title of a token without a script: its experts and weights at the layer shown first. */
static void token_title(mixt_page *page, int layer, uint64_t index)
{
    const uint16_t *experts = mixt_trace_experts(page->trace, layer, index);
    const uint16_t *weights = mixt_trace_weights(page->trace, layer, index);
    for (int c = 0; c < page->trace->chosen[layer]; c++) {
        mixt_buffer_text(page->out, c == 0 ? "expert " : ", ");
        expert_number(page, experts[c]);
        mixt_buffer_format(page->out, " (%.2f)", (double)mixt_trace_weight(weights[c]));
    }
}

static void excerpt(mixt_page *page, int domain, uint64_t begin, uint64_t count)
{
    int layer = page->layers[page->start];
    mixt_buffer_text(page->out, "<h3>");
    mixt_page_domain(page, domain);
    mixt_buffer_text(page->out, "</h3>\n<p class=\"text\" tabindex=\"0\" role=\"group\" "
                                "aria-label=\"Text of ");
    mixt_page_domain(page, domain);
    mixt_buffer_text(page->out, "; arrow keys move from token to token\">");
    for (uint64_t i = begin; i < begin + count; i++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(page->trace, page->trace->tokens[i], &length);
        mixt_buffer_text(page->out, "<span class=\"t\" data-e=\"");
        expert_number(page, mixt_trace_experts(page->trace, layer, i)[0]);
        mixt_buffer_text(page->out, "\" title=\"");
        token_title(page, layer, i);
        mixt_buffer_text(page->out, "\">");
        /* A line feed at the end breaks the line behind the token and its number. */
        bool breaks = length > 0 && length <= TOKEN_BYTES && bytes[length - 1] == '\n';
        mixt_display_bytes(page->out, bytes, length < TOKEN_BYTES ? length - breaks : TOKEN_BYTES,
                           MIXT_DISPLAY_HTML | MIXT_DISPLAY_NEWLINES);
        mixt_display_bytes(page->out, "\n", breaks, MIXT_DISPLAY_HTML);
        mixt_buffer_text(page->out, breaks ? "</span>\n" : "</span>");
    }
    mixt_buffer_text(page->out, "</p>\n");
}

typedef struct excerpts {
    uint64_t *begin; /* [domains] */
    uint64_t *count;
} excerpts;

/* One token's [k] experts (part 0) or weights in percent. */
static void route_of(mixt_page *page, int layer, uint64_t index, int part, const char **comma)
{
    const uint16_t *experts = mixt_trace_experts(page->trace, layer, index);
    const uint16_t *weights = mixt_trace_weights(page->trace, layer, index);
    for (int c = 0; c < page->trace->info.experts_per_token; c++) {
        double percent = 100 * (double)mixt_trace_weight(weights[c]);
        bool sane = percent > -1e6 && percent < 1e6; /* JSON has no NaN */
        mixt_buffer_text(page->out, *comma);
        if (part == 0 && experts[c] == MIXT_TRACE_NONE) {
            mixt_buffer_text(page->out, "\"" NONE "\"");
        } else {
            mixt_buffer_format(page->out, "%d",
                               part == 0 ? experts[c]
                               : sane    ? (int)(percent + 0.5)
                                         : 0);
        }
        *comma = ",";
    }
}

/* Experts and weights of the shown tokens at the shown layers, for the script: numbers, and our own
 * sign for no expert. */
static void routes(mixt_page *page, const excerpts *shown)
{
    mixt_buffer_format(page->out,
                       "<script type=\"application/json\" id=\"routes\">{\"k\":%d,\"start\":%d,"
                       "\"layers\":[",
                       page->trace->info.experts_per_token, page->start);
    for (int i = 0; i < page->layer_count; i++) {
        mixt_buffer_format(page->out, "%s%d", i == 0 ? "" : ",",
                           page->trace->layer_numbers[page->layers[i]]);
    }
    for (int part = 0; part < 2; part++) {
        mixt_buffer_text(page->out, part == 0 ? "],\"experts\":[" : "],\"weights\":[");
        for (int i = 0; i < page->layer_count; i++) {
            const char *comma = "";
            mixt_buffer_text(page->out, i == 0 ? "[" : ",[");
            for (int d = 0; d < page->trace->info.domains; d++) {
                for (uint64_t t = shown->begin[d]; t < shown->begin[d] + shown->count[d]; t++) {
                    route_of(page, page->layers[i], t, part, &comma);
                }
            }
            mixt_buffer_text(page->out, "]");
        }
    }
    mixt_buffer_text(page->out, "]}</script>\n");
}

static void expert_key(mixt_page *page)
{
    mixt_buffer_text(page->out, "<p class=\"key\" aria-label=\"Colours of the experts\">");
    for (int e = 0; e < page->trace->info.experts && e < 64; e++) {
        mixt_buffer_format(page->out, "<span class=\"chip\" data-e=\"%d\">%d</span> ", e, e);
    }
    mixt_buffer_text(page->out,
                     page->trace->info.experts > 64 ? "and so on, in the same colours" : "");
    if (mixt_trace_has_dropped(page->trace)) {
        mixt_buffer_text(page->out,
                         " <span class=\"chip\" data-e=\"" NONE "\">" NONE "</span> no expert");
    }
    mixt_buffer_text(page->out, "</p>\n");
}

void mixt_page_excerpts(mixt_page *page)
{
    int domains = page->trace->info.domains;
    uint64_t each = ROUTES_BUDGET / ((unsigned)page->shown_count * (unsigned)page->layer_count *
                                     (unsigned)page->trace->info.experts_per_token);
    each = each < MIN_TEXT_TOKENS   ? MIN_TEXT_TOKENS
           : each > MAX_TEXT_TOKENS ? MAX_TEXT_TOKENS
                                    : each;
    excerpts shown = {calloc((size_t)domains, sizeof(uint64_t)),
                      calloc((size_t)domains, sizeof(uint64_t))};
    if (shown.begin == NULL || shown.count == NULL) {
        page->out->failed = true;
        free(shown.begin);
        free(shown.count);
        return;
    }
    mixt_buffer_format(
        page->out,
        "<section id=\"text\">\n<h2>Text, token by token</h2>\n<p>An excerpt from a document of "
        "each domain, every token in the colour of its first expert<span class=\"plain\"> at layer "
        "%d"
        "</span>. <span class=\"screen\">Point at a token, tap it, or move with the arrow keys to "
        "see "
        "all its experts and their weights.</span></p>\n<div class=\"switch\">\n<span "
        "class=\"js-only\">",
        page->trace->layer_numbers[page->layers[page->start]]);
    mixt_page_layer_choice(page, "xl", "Layer", page->layers, page->layer_count, page->start);
    mixt_buffer_text(page->out, "</span><input type=\"checkbox\" id=\"numbers\"><label "
                                "for=\"numbers\">expert numbers</label>\n");
    expert_key(page);
    mixt_buffer_text(page->out, "<div class=\"texts\">\n");
    for (int d = 0; d < domains; d++) {
        if (page->shows[d]) {
            mixt_report_excerpt(page->report, d, each, &shown.begin[d], &shown.count[d]);
        }
        if (shown.count[d] != 0) {
            excerpt(page, d, shown.begin[d], shown.count[d]);
        }
    }
    mixt_buffer_text(page->out, "</div></div>\n<div id=\"detail\" aria-live=\"polite\" hidden>"
                                "</div>\n</section>\n");
    routes(page, &shown);
    free(shown.begin);
    free(shown.count);
}

static void top_tokens_of(mixt_page *page, const mixt_top_token *rows)
{
    int experts = page->trace->info.experts;
    int shown = experts < TOP_EXPERTS ? experts : TOP_EXPERTS;
    mixt_buffer_text(page->out, "<table class=\"top\"><thead><tr><th scope=\"col\">Expert</th><th "
                                "scope=\"col\">Tokens and the % of their occurrences</th></tr>"
                                "</thead><tbody>\n");
    for (int e = 0; e < shown; e++) {
        mixt_buffer_format(page->out,
                           "<tr><th scope=\"row\"><span class=\"chip\" data-e=\"%d\">%d</span></th>"
                           "<td>",
                           e, e);
        for (int i = 0; i < TOP_TOKENS && rows[e * TOP_TOKENS + i].token >= 0; i++) {
            const mixt_top_token *top = &rows[e * TOP_TOKENS + i];
            size_t length;
            const uint8_t *bytes = mixt_trace_token_bytes(page->trace, top->token, &length);
            mixt_buffer_format(page->out, "<span class=\"item\" title=\"%llu occurrences\"><code>",
                               (unsigned long long)top->occurrences);
            mixt_display_bytes(page->out, bytes, length < 48 ? length : 48,
                               MIXT_DISPLAY_HTML | MIXT_DISPLAY_VISIBLE);
            mixt_buffer_format(page->out, "</code> %.0f</span> ", 100 * top->share);
        }
        mixt_buffer_text(page->out, "</td></tr>\n");
    }
    mixt_buffer_text(page->out, "</tbody></table>\n");
    if (shown < experts) {
        mixt_buffer_format(page->out, "<p class=\"note\">The first %d of %d experts.</p>\n", shown,
                           experts);
    }
}

mixt_status mixt_page_top_tokens(mixt_page *page, mixt_error *error)
{
    const mixt_report *report = page->report;
    int experts = page->trace->info.experts;
    int middle = report->key_layer_count == 3 ? 1 : 0;
    mixt_status status = MIXT_OK;
    mixt_top_token *rows = calloc((size_t)experts * TOP_TOKENS, sizeof *rows);
    if (rows == NULL) {
        page->out->failed = true;
        return MIXT_OK;
    }
    mixt_buffer_format(page->out,
                       "<section id=\"tokens\">\n<h2>What each expert takes</h2>\n<p>Tokens that "
                       "go to an expert first more often than others do: the part of their "
                       "occurrences, in %%, where chance would give %.*f. Tokens seen fewer than "
                       "%d times stay out; the surest come first. Where experts follow syntax, it "
                       "shows here.</p>\n<div class=\"switch\">\n",
                       experts <= 64 ? 1 : 2, 100.0 / experts, MIXT_TOP_MIN_OCCURRENCES);
    mixt_page_layer_choice(page, "tl", "Layer", report->key_layers, report->key_layer_count,
                           middle);
    mixt_buffer_text(page->out, "<div class=\"panels\">\n");
    for (int i = 0; i < report->key_layer_count && status == MIXT_OK; i++) {
        status = mixt_top_tokens(page->trace, report->key_layers[i], TOP_TOKENS, rows, error);
        mixt_buffer_format(page->out, "<div class=\"panel l%d%s\"><h4>Layer %d, the %s</h4>\n", i,
                           i == middle ? " key" : "",
                           page->trace->layer_numbers[report->key_layers[i]],
                           mixt_report_layer_role(report, report->key_layers[i]));
        top_tokens_of(page, rows);
        mixt_buffer_text(page->out, "</div>\n");
    }
    mixt_buffer_text(page->out, "</div></div>\n</section>\n");
    free(rows);
    return status;
}
