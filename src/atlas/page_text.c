/* The coloured text, the tokens of each expert, and the experts' colours. */
#include <stdlib.h>

#include "atlas/page.h"
#include "atlas/page_encode.h"
#include "atlas/page_search.h"
#include "core/error.h"

#define TOP_TOKENS 10
#define TOP_EXPERTS 128      /* rows at most for one layer */
#define ROUTES_MOST 1500000u /* expert numbers in the page's data */
#define MIN_TEXT_TOKENS 8u
#define MIN_EXCERPT_TOKENS 96u /* before a domain has a further excerpt */
#define MAX_TEXT_TOKENS 160u
#define EXCERPT_STILL 500000u /* bytes of the page for what stands without a script */

#define NONE "\xe2\x80\x93" /* shown in place of an expert's number */

/* Twelve colours: eight hues that stay apart for colour-blind eyes (after Okabe & Ito 2008), and
 * four of them darker under another line. No expert has the colour of another one: those behind the
 * palette are grey and told by their number. */
#define PALETTE 12
static const unsigned palette[PALETTE] = {0x0072B2, 0xE69F00, 0x009E73, 0xD55E00,
                                          0xCC79A7, 0x56B4E9, 0xD8C21C, 0x6B7178,
                                          0x003E62, 0x7F5700, 0x00573F, 0x752F4F};

void mixt_page_expert_style(mixt_page *page)
{
    for (int i = 0; i < PALETTE; i++) {
        mixt_buffer_format(page->out, "[data-e=\"%d\"],[data-p=\"%d\"]{--c:#%06X;--b:#%06X52%s}\n",
                           i, i, palette[i], palette[i], i < 8 ? "" : ";--s:double");
    }
    if (page->trace->has_none) {
        mixt_buffer_text(page->out, "[data-e=\"" NONE "\"]{--c:var(--line);--b:var(--card)}\n");
    }
    bool choices = page->trace->info.experts_per_token > 1;
    for (int i = 0; i < page->report->key_layer_count; i++) {
        for (int c = 0; c < MIXT_CHOICE_COUNT; c++) {
            if (choices) {
                mixt_buffer_format(page->out, "#pl%d:checked~#pc%d:checked~.panels>.l%d.c%d,", i, c,
                                   i, c);
            } else if (c == 0) {
                mixt_buffer_format(page->out, "#pl%d:checked~.panels>.l%d,", i, i);
            }
        }
    }
    page->out->length -= page->out->length > 0; /* the last comma */
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
    int layer = page->report->key_layers[page->middle];
    mixt_buffer_text(page->out, "<h3>");
    mixt_page_domain(page, domain);
    mixt_buffer_text(page->out, "</h3>\n<p class=\"text\">");
    for (uint64_t i = begin; i < begin + count; i++) {
        size_t length;
        const uint8_t *bytes = mixt_trace_token_bytes(page->trace, page->trace->tokens[i], &length);
        mixt_buffer_text(page->out, "<span class=\"t\" data-e=\"");
        expert_number(page, mixt_trace_experts(page->trace, layer, i)[0]);
        mixt_buffer_text(page->out, "\" title=\"");
        token_title(page, layer, i);
        mixt_buffer_text(page->out, "\">");
        /* A line feed at the end breaks the line behind the token and its number. */
        bool breaks = length > 0 && length <= MIXT_PAGE_TOKEN_BYTES && bytes[length - 1] == '\n';
        mixt_display_bytes(page->out, bytes,
                           length < MIXT_PAGE_TOKEN_BYTES ? length - breaks : MIXT_PAGE_TOKEN_BYTES,
                           MIXT_DISPLAY_HTML | MIXT_DISPLAY_NEWLINES);
        mixt_display_bytes(page->out, "\n", breaks, MIXT_DISPLAY_HTML);
        mixt_buffer_text(page->out, breaks ? "</span>\n" : "</span>");
    }
    mixt_buffer_text(page->out, "</p>\n");
}

static void expert_key(mixt_page *page)
{
    mixt_buffer_text(page->out, "<p class=\"key\" aria-label=\"Colours of the experts\">");
    for (int e = 0; e < page->trace->info.experts && e < PALETTE; e++) {
        mixt_buffer_format(page->out, "<span class=\"chip\" data-e=\"%d\">%d</span> ", e, e);
    }
    mixt_buffer_text(page->out, page->trace->info.experts > PALETTE
                                    ? "all others are grey, with their number"
                                    : "");
    if (mixt_trace_has_dropped(page->trace)) {
        mixt_buffer_text(page->out,
                         " <span class=\"chip\" data-e=\"" NONE "\">" NONE "</span> no expert");
    }
    mixt_buffer_text(page->out, "</p>\n");
}

/* Expert numbers that the excerpts may hold: the text that is searched comes first, with up to half
 * of what is left of the page. */
static mixt_status routes_budget(const mixt_page *page, uint64_t *budget, mixt_error *error)
{
    mixt_page_search all;
    size_t used = page->out->length + mixt_page_data_length(page) + EXCERPT_STILL;
    size_t left = used < MIXT_PAGE_BYTES ? MIXT_PAGE_BYTES - used : 0;
    mixt_status status = mixt_page_search_choose(page, SIZE_MAX, &all, error);
    size_t bytes = left - (all.bytes < left / 2 ? all.bytes : left / 2);
    bool wide = page->trace->info.experts > 256 || page->trace->has_none;
    size_t each = wide ? 4 : 3; /* two or three bytes, a weight among them, in base 64 */
    *budget = bytes / each < ROUTES_MOST ? bytes / each : ROUTES_MOST;
    mixt_page_search_free(&all);
    return status;
}

mixt_status mixt_page_choose_excerpts(mixt_page *page, mixt_error *error)
{
    const mixt_trace_info *info = &page->trace->info;
    uint64_t cells = (uint64_t)info->layers * (uint64_t)info->experts_per_token *
                     (page->second != NULL && page->same_text ? 2 : 1);
    uint64_t routes;
    MIXT_TRY(routes_budget(page, &routes, error));
    uint64_t each = routes / (cells * (unsigned)page->shown_count); /* tokens of a domain */
    uint64_t most = each / MIN_EXCERPT_TOKENS;
    most = most < 1 ? 1 : most > MIXT_PAGE_EXCERPTS ? MIXT_PAGE_EXCERPTS : most;
    each /= most;
    each = each < MIN_TEXT_TOKENS   ? MIN_TEXT_TOKENS
           : each > MAX_TEXT_TOKENS ? MAX_TEXT_TOKENS
                                    : each;
    page->excerpts = calloc((size_t)page->shown_count * MIXT_PAGE_EXCERPTS, sizeof *page->excerpts);
    if (page->excerpts == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory for the page");
    }
    for (int d = 0; d < info->domains; d++) {
        uint64_t begin[MIXT_PAGE_EXCERPTS];
        uint64_t count[MIXT_PAGE_EXCERPTS];
        int made = page->shows[d]
                       ? mixt_report_excerpts(page->report, d, each, (int)most, begin, count)
                       : 0;
        for (int i = 0; i < made; i++) {
            page->excerpts[page->excerpt_count++] = (mixt_page_excerpt){d, begin[i], count[i]};
        }
    }
    return MIXT_OK;
}

void mixt_page_excerpts(mixt_page *page)
{
    mixt_buffer_format(
        page->out,
        "<section id=\"text\">\n<h2>Text, token by token</h2>\n<div id=\"reader\" "
        "hidden></div>\n<div "
        "class=\"still\">\n<p>An excerpt from a document of each domain, every token in the colour "
        "of "
        "its first expert at layer %d.</p>\n<div class=\"switch\">\n<input type=\"checkbox\" "
        "id=\"numbers\"%s><label for=\"numbers\">expert numbers</label>\n",
        page->trace->layer_numbers[page->report->key_layers[page->middle]],
        page->trace->info.experts > PALETTE ? " checked" : "");
    expert_key(page);
    mixt_buffer_text(page->out, "<div class=\"texts\">\n");
    for (int i = 0; i < page->excerpt_count; i++) {
        const mixt_page_excerpt *x = &page->excerpts[i];
        if (i == 0 || x[-1].domain != x->domain) {
            excerpt(page, x->domain, x->begin, x->count);
        }
    }
    mixt_buffer_text(page->out, "</div></div>\n</div>\n</section>\n");
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
    int layer = report->key_layers[page->middle];
    mixt_top_token *rows = calloc((size_t)experts * TOP_TOKENS, sizeof *rows);
    if (rows == NULL) {
        page->out->failed = true;
        return MIXT_OK;
    }
    mixt_status status = mixt_top_tokens(page->trace, layer, TOP_TOKENS, rows, error);
    mixt_buffer_format(page->out,
                       "<section id=\"tokens\">\n<h2>What each expert takes</h2>\n<p>Tokens that "
                       "go to an expert first more often than others do: the part of their "
                       "occurrences, in %%, where chance would give %.*f. Tokens seen fewer than "
                       "%d times stay out; the surest come first. Where experts follow syntax, it "
                       "shows here. <span class=\"plain\">This is layer %d.</span></p>\n<div "
                       "id=\"takes\" hidden></div>\n<div class=\"still\">\n",
                       experts <= 64 ? 1 : 2, 100.0 / experts, MIXT_TOP_MIN_OCCURRENCES,
                       page->trace->layer_numbers[layer]);
    if (status == MIXT_OK) {
        top_tokens_of(page, rows);
    }
    mixt_buffer_text(page->out, "</div>\n</section>\n");
    free(rows);
    return status;
}
