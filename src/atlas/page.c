/* The atlas as one self-contained HTML page. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "atlas/interval.h"
#include "atlas/page.h"
#include "atlas/page_encode.h"
#include "core/error.h"
#include "core/files.h"
#include "core/sha256.h"
#include "core/utf8.h"

#define DOMAINS_MOST 64
#define DOMAINS_LEAST 8
#define DOMAIN_CELLS 60000 /* shown domains x experts */

static void append_text(mixt_page *page, const char *text)
{
    mixt_display_text(page->out, text, MIXT_DISPLAY_HTML);
}

void mixt_page_name(mixt_page *page, const char *name)
{
    mixt_display_name(page->out, name, MIXT_DISPLAY_HTML);
}

void mixt_page_domain(mixt_page *page, int domain)
{
    mixt_page_name(page, page->trace->domain_names[domain]);
}

void mixt_page_count(mixt_page *page, uint64_t number)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            mixt_buffer_text(page->out, "\xe2\x80\xaf"); /* U+202F narrow no-break space */
        }
        mixt_buffer_append(page->out, &digits[i], 1);
    }
}

void mixt_page_domain_heads(mixt_page *page)
{
    for (int d = 0; d < page->trace->info.domains; d++) {
        if (page->shows[d]) {
            mixt_buffer_text(page->out, "<th scope=\"col\">");
            mixt_page_domain(page, d);
            mixt_buffer_text(page->out, "</th>");
        }
    }
    mixt_buffer_text(page->out, "</tr></thead><tbody>\n");
}

void mixt_page_layer_choice(mixt_page *page, const char *name, const char *legend)
{
    mixt_buffer_format(page->out, "<span class=\"group\">%s</span>", legend);
    for (int i = 0; i < page->report->key_layer_count; i++) {
        mixt_buffer_format(page->out,
                           "<input type=\"radio\" name=\"%s\" id=\"%s%d\" value=\"%d\"%s><label "
                           "for=\"%s%d\">%d</label>\n",
                           name, name, i, i, i == page->middle ? " checked" : "", name, i,
                           page->trace->layer_numbers[page->report->key_layers[i]]);
    }
}

/* Domains with tokens, as many as the page can bear. */
static mixt_status choose_domains(mixt_page *page, mixt_error *error)
{
    const mixt_trace_info *info = &page->trace->info;
    int room = DOMAIN_CELLS / info->experts;
    int most = room < DOMAINS_LEAST ? DOMAINS_LEAST : room < DOMAINS_MOST ? room : DOMAINS_MOST;
    page->shows = calloc((size_t)info->domains, sizeof *page->shows);
    if (page->shows == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "atlas: no memory for the page");
    }
    for (int d = 0; d < info->domains && page->shown_count < most; d++) {
        page->shows[d] = !mixt_report_is_empty(page->report, d);
        page->shown_count += page->shows[d];
    }
    return MIXT_OK;
}

/* What the page is called; `unnamed` where nothing says it. */
static const char *title_of(const mixt_page *page, const char *unnamed)
{
    const char *given = page->options->title != NULL ? page->options->title : "";
    return given[0] != '\0'                     ? given
           : page->trace->info.model[0] != '\0' ? page->trace->info.model
                                                : unnamed;
}

static void append_file(mixt_page *page, const mixt_page_file *file)
{
    mixt_buffer_append(page->out, file->bytes, file->length);
}

/* The policy lets nothing load and no script run but ours, known by its hash: even a mistake in
 * escaping would stay inert. */
static void page_head(mixt_page *page)
{
    mixt_sha256 hash;
    unsigned char digest[MIXT_SHA256_BYTES];
    mixt_sha256_init(&hash);
    for (const mixt_page_file *file = mixt_page_files + 1; file->name != NULL; file++) {
        mixt_sha256_update(&hash, file->bytes, file->length);
    }
    mixt_sha256_final(&hash, digest);
    mixt_buffer_text(
        page->out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'; script-src 'sha256-");
    mixt_page_base64(page->out, digest, sizeof digest);
    mixt_buffer_text(page->out,
                     "'; img-src data:; base-uri 'none'; form-action 'none'\">\n<meta "
                     "name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta name=\"color-scheme\" content=\"light dark\">\n"
                     "<meta name=\"generator\" content=\"mixt " MIXT_VERSION "\">\n"
                     "<link rel=\"icon\" href=\"data:,\">\n<title>Atlas of ");
    mixt_page_name(page, title_of(page, "a model"));
    mixt_buffer_text(page->out, "</title>\n<style>\n");
    append_file(page, mixt_page_files);
    mixt_page_expert_style(page);
    mixt_buffer_text(page->out, "</style>\n</head>\n<body>\n");
}

/* A clause of the verdict as a sentence of its own. */
static void sentence(mixt_page *page, const char *clause)
{
    char first[2] = {mixt_ascii_upper(clause[0]), '\0'};
    mixt_buffer_text(page->out, "<p>");
    append_text(page, first);
    append_text(page, clause[0] != '\0' ? clause + 1 : "");
    mixt_buffer_text(page->out, ".</p>\n");
}

static void fact(mixt_page *page, const char *name, uint64_t number)
{
    mixt_buffer_format(page->out, "<div><dt>%s</dt><dd>", name);
    mixt_page_count(page, number);
    mixt_buffer_text(page->out, "</dd></div>\n");
}

/* Domains that the trace names without a token of theirs. */
static void empty_domains(mixt_page *page)
{
    const char *lead = "<p class=\"note\">No tokens in this trace of: ";
    int empty = 0;
    for (int d = 0; d < page->trace->info.domains; d++) {
        if (mixt_report_is_empty(page->report, d) && empty++ < DOMAINS_MOST) {
            mixt_buffer_text(page->out, lead);
            mixt_page_domain(page, d);
            lead = ", ";
        }
    }
    if (empty > DOMAINS_MOST) {
        mixt_buffer_format(page->out, " and %d more", empty - DOMAINS_MOST);
    }
    mixt_buffer_text(page->out, empty > 0 ? ".</p>\n" : "");
    if (page->shown_count + empty < page->trace->info.domains) {
        mixt_buffer_format(
            page->out, "<p class=\"note\">Shown are the first %d domains of %d with tokens.</p>\n",
            page->shown_count, page->trace->info.domains - empty);
    }
}

/* The first, middle and last layer's repetition at a glance. */
static void glance(mixt_page *page)
{
    const mixt_report *report = page->report;
    mixt_buffer_text(page->out, "<ul class=\"glance\">\n");
    for (int i = 0; i < report->key_layer_count; i++) {
        int layer = report->key_layers[i];
        const mixt_repetition *row =
            mixt_report_repetition(report, layer, page->trace->info.domains, MIXT_REPEAT_FIRST);
        mixt_buffer_format(page->out,
                           "<li><span>%s layer, %d</span><strong>%.1f<small> %%</small></strong>"
                           "<span>of neighbours share their first expert; random %.1f, unequal use "
                           "%.1f</span></li>\n",
                           i == 0                             ? "First"
                           : i + 1 == report->key_layer_count ? "Last"
                                                              : "Middle",
                           page->trace->layer_numbers[layer], 100 * row->rate.value,
                           100 * row->random, 100 * row->usage);
    }
    mixt_buffer_text(page->out, "</ul>\n");
}

static void page_header(mixt_page *page)
{
    const mixt_trace_info *info = &page->trace->info;
    const mixt_verdict *verdict = &page->report->verdict;
    mixt_buffer_text(page->out, "<header>\n<p class=\"kicker\">Expert atlas</p>\n<h1>");
    mixt_page_name(page, title_of(page, "A model without a name"));
    mixt_buffer_text(page->out, "</h1>\n<dl class=\"facts\">\n");
    fact(page, "Tokens", info->tokens);
    fact(page, "Documents", info->documents);
    uint64_t used = 0;
    for (int d = 0; d < info->domains; d++) {
        used += !mixt_report_is_empty(page->report, d);
    }
    fact(page, "Domains", used);
    fact(page, "Layers with experts", (uint64_t)info->layers);
    mixt_buffer_text(page->out, "<div><dt>Experts a token</dt><dd>");
    int least = mixt_trace_least_chosen(page->trace);
    if (least < info->experts_per_token) {
        mixt_buffer_format(page->out, "%d to ", least);
    }
    mixt_buffer_format(page->out, "%d of %d", info->experts_per_token, info->experts);
    mixt_trace_say_weightless(page->trace, page->out);
    if (info->router_select[0] != '\0') {
        mixt_buffer_text(page->out, " by ");
        mixt_page_name(page, info->router_select);
    }
    mixt_buffer_text(page->out, "</dd></div>\n</dl>\n");
    if (info->held_out[0] != '\0') {
        mixt_buffer_text(page->out, "<p>Mind that ");
        append_text(page, info->held_out);
        mixt_buffer_text(page->out, ".</p>\n");
    }
    mixt_page_words(page);
    if (verdict->information[0] != '\0') {
        sentence(page, verdict->information);
    }
    glance(page);
    mixt_buffer_text(page->out, "<div id=\"verdict\">\n<h2>Beside the papers</h2>\n<p><b>");
    append_text(page, verdict->headline);
    mixt_buffer_text(page->out, ".</b></p>\n");
    sentence(page, verdict->repetition);
    sentence(page, verdict->domains);
    empty_domains(page);
    mixt_buffer_text(
        page->out, "</div>\n<nav aria-label=\"Sections\"><a href=\"#map\">Layers and experts</a> ");
    mixt_buffer_text(page->out,
                     page->second != NULL ? "<a href=\"#agreement\">Beside the other</a> " : "");
    mixt_buffer_text(page->out,
                     "<a href=\"#repetition\">Repetition</a> <a href=\"#domains\">Domains</a> <a "
                     "href=\"#information\">What experts tell</a> ");
    mixt_buffer_text(page->out,
                     page->probe != NULL ? "<a href=\"#experiments\">Experiments</a> " : "");
    mixt_buffer_text(page->out, "<a href=\"#text\">Text</a> <a href=\"#tokens\">Tokens</a> <a "
                                "href=\"#method\">Method</a></nav>\n</header>\n<main>\n");
}

static void hash_row(mixt_page *page, const char *name, const char *hash)
{
    if (hash[0] != '\0') {
        mixt_buffer_format(page->out, "<div><dt>%s</dt><dd><code>", name);
        mixt_page_name(page, hash);
        mixt_buffer_text(page->out, "</code></dd></div>\n");
    }
}

static mixt_status page_footer(mixt_page *page, mixt_error *error)
{
    const mixt_trace_info *info = &page->trace->info;
    mixt_buffer_format(
        page->out,
        "<section id=\"method\">\n<h2>Method</h2>\n"
        "<p><b>Repetition</b> is the measure of table 5 of the Mixtral paper (Jiang et al. 2024, "
        "arXiv 2401.04088): of all pairs of consecutive tokens of a document, those with the same "
        "first choice, and those whose sets of chosen experts have one in common. Uniform random "
        "choice gives 1/E = %.2f %% and 1 \xe2\x88\x92 C(E\xe2\x88\x92k,\xe2\x80\xafk)/C(E,"
        "\xe2\x80\xafk) = %.2f %%. Unequal use alone gives more than that, without any locality: "
        "the dotted level is the chance that two different tokens of the domain, wherever they "
        "stand, agree in the same way.</p>\n"
        "<p><b>Intervals</b> are 95 %% intervals for documents like these. From %d documents of a "
        "domain on, a bootstrap draws whole documents (1 000 draws, ratio of sums), widened for "
        "few "
        "of them; 2 to %d are left out one by one (jackknife, Student\xe2\x80\x99s t). A single "
        "document is cut into %d to %d blocks, as long as its own pairs depend on each other "
        "(Politis and White), and the interval is about it alone; where they do not fit there is "
        "none. Between layers and domains there are many intervals: one in twenty misses by "
        "chance.</p>\n"
        "<p><b>Domains</b> are compared by the total variation distance of their proportions over "
        "all choices from the mean of the domains, beside the distances that random halves of each "
        "domain\xe2\x80\x99s own documents give (200 splits).</p>\n"
        "<p><b>What experts tell</b> is the plug-in mutual information of expert and label, in "
        "bits "
        "or as a part of the expert\xe2\x80\x99s entropy H. Few tokens for each label make it "
        "larger than it is, shuffled labels as much, so it is the excess above them that counts. "
        "Its interval leaves out groups of documents (jackknife). Classes are told from the bytes "
        "of a token by rules, with short lists of English function words and of programming "
        "languages\xe2\x80\x99 keywords.</p>\n",
        100 * mixt_atlas_random_level(info->experts, info->experts_per_token, 0),
        100 * mixt_atlas_random_level(info->experts, info->experts_per_token, 1),
        MIXT_UNITS_MIN_DOCUMENTS, MIXT_UNITS_MIN_DOCUMENTS - 1, MIXT_BLOCKS_LEAST,
        MIXT_BLOCKS_MOST);
    if (page->trace->has_none) {
        mixt_buffer_text(
            page->out,
            "<p><b>Fewer experts.</b> Some tokens here have fewer experts than others, or none: "
            "layers choose different numbers, or choices were dropped. Pairs are those where both "
            "tokens have a first choice, and those where both have an expert; the random level of "
            "sets is then the mean of 1 \xe2\x88\x92 C(E\xe2\x88\x92"
            "a,\xe2\x80\xaf"
            "b)/C(E,"
            "\xe2\x80\xaf"
            "b) over the pairs, whose tokens have a and b experts. All shares are of "
            "the choices that were made.</p>\n");
    }
    mixt_buffer_text(page->out, "<dl class=\"hashes\">\n");
    hash_row(page, "Model", info->model_hash);
    hash_row(page, "Corpus", info->corpus_hash);
    hash_row(page, "Tokenizer", info->tokenizer_hash);
    mixt_buffer_text(page->out, "</dl>\n<p class=\"note\">Made by mixt " MIXT_VERSION
                                ". This page loads nothing from anywhere.</p>\n</section>\n"
                                "</main>\n");
    size_t behind = 64; /* the script in its element, and the page's end */
    for (const mixt_page_file *file = mixt_page_files + 1; file->name != NULL; file++) {
        behind += file->length;
    }
    MIXT_TRY(mixt_page_data_end(page, behind, error));
    mixt_buffer_text(page->out, "<script>");
    for (const mixt_page_file *file = mixt_page_files + 1; file->name != NULL; file++) {
        append_file(page, file);
    }
    mixt_buffer_text(page->out, "</script>\n</body>\n</html>\n");
    return MIXT_OK;
}

static mixt_status write_sections(mixt_page *page, mixt_error *error)
{
    page_head(page);
    page_header(page);
    mixt_page_map(page);
    mixt_page_agreement(page);
    mixt_page_repetition(page);
    mixt_buffer_text(page->out, "<section id=\"domains\">\n<h2>Domains</h2>\n");
    mixt_page_proportions(page);
    mixt_page_distance(page);
    mixt_buffer_text(page->out, "</section>\n");
    mixt_page_information(page);
    mixt_page_experiments(page);
    MIXT_TRY(mixt_page_data_begin(page, error));
    MIXT_TRY(mixt_page_choose_excerpts(page, error));
    mixt_page_excerpts(page);
    MIXT_TRY(mixt_page_top_tokens(page, error));
    return page_footer(page, error);
}

static mixt_status make(mixt_page *page, mixt_error *error)
{
    MIXT_TRY(choose_domains(page, error));
    MIXT_TRY(mixt_page_second(page, error));
    MIXT_TRY(mixt_page_probe_read(page, error));
    return write_sections(page, error);
}

mixt_status mixt_atlas_page_with(const mixt_trace *trace, const mixt_atlas_page_options *options,
                                 const char *path, mixt_error *error)
{
    mixt_report *report;
    mixt_buffer out = {0};
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_atlas_page_options, options, error));
    MIXT_TRY(mixt_report_create(trace, true, &report, error));
    mixt_page page = {.report = report,
                      .trace = trace,
                      .options = options,
                      .out = &out,
                      .middle = report->key_layer_count == 3 ? 1 : 0};
    mixt_status status = make(&page, error);
    if (status == MIXT_OK && out.failed) {
        status = mixt_fail(error, MIXT_ERROR_MEMORY, "%s: no memory for the page", path);
    }
    if (status == MIXT_OK) {
        status = mixt_file_replace(path, out.data, out.length, error);
    }
    mixt_buffer_free(&out);
    mixt_page_second_free(&page);
    mixt_page_probe_free(&page);
    mixt_page_data_free(&page);
    free(page.excerpts);
    free(page.shows);
    mixt_report_free(report);
    return status;
}

mixt_status mixt_atlas_page(const mixt_trace *trace, const char *path, mixt_error *error)
{
    const mixt_atlas_page_options options = {0};
    return mixt_atlas_page_with(trace, &options, path, error);
}
