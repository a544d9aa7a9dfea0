/* The page of a study: one HTML file that loads nothing and runs nothing, in the manner of the
 * atlas' page. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study.h"
#include "study_chart.h"
#include "terminal.h"

/* clang-format off */
const char study_page_colors[] =
    ":root{color-scheme:light dark;--paper:#fdfcf9;--ink:#1f2429;--soft:#5b636b;--line:#dcd8ce;--accent:#0a5a8a;--card:#f5f2ea;\n"
    "--c0:#0a5a8a;--c1:#b0431e;--c2:#2e7d32;--c3:#7b3fa0;--c4:#8a5a00;--c5:#00838f;--c6:#ad1457;--c7:#555}\n"
    "@media (prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e3e0d9;--soft:#9aa2a9;--line:#32383d;--accent:#82c3ee;--card:#1c2024;\n"
    "--c0:#82c3ee;--c1:#f0977a;--c2:#86c98a;--c3:#c9a0e6;--c4:#e0b060;--c5:#6fd0d8;--c6:#f08fb4;--c7:#b5b5b5}}\n";

const char study_page_marks[] =
    "svg text{font-variant-numeric:tabular-nums}\n"
    ".x{text-anchor:middle}.y{text-anchor:end}\n"
    ".grid{stroke:var(--line);stroke-width:1}.zero{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}\n"
    ".curve{fill:none;stroke-width:1.7;stroke-linejoin:round}\n"
    ".reach{stroke-width:2}\n";

static const char style[] =
    ":root{--serif:Charter,\"Bitstream Charter\",\"Iowan Old Style\",Palatino,Georgia,serif;--sans:system-ui,\"Segoe UI\",Roboto,\"Noto Sans\",\"Liberation Sans\",Arial,sans-serif}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);font:1.0625rem/1.55 var(--serif);overflow-wrap:break-word}\n"
    "header,main{max-width:72rem;margin:0 auto;padding:0 clamp(1rem,4vw,2.5rem)}\n"
    "header{padding-top:clamp(1.5rem,5vw,4rem)}\n"
    "p{max-width:46rem;margin:.6rem 0}\n"
    "h1{font-size:clamp(1.9rem,6vw,3rem);line-height:1.2;font-weight:600;margin:.1rem 0 1rem;overflow-wrap:anywhere}\n"
    "h2{font-size:1.6rem;line-height:1.2;font-weight:600;margin:0 0 .6rem}\n"
    "section{border-top:1px solid var(--line);margin-top:3rem;padding-top:2rem}\n"
    ".kicker,table,.note,figcaption,.legend,svg text,.facts{font-family:var(--sans)}\n"
    ".kicker{font-size:.8rem;letter-spacing:.09em;text-transform:uppercase;color:var(--soft);margin:0}\n"
    ".lede{font-size:1.35rem;line-height:1.35}\n"
    ".facts{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:0 0 1.6rem}\n"
    ".facts dt{font-size:.78rem;color:var(--soft)}.facts dd{margin:0;font-variant-numeric:tabular-nums}\n"
    ".note{font-size:.85rem;color:var(--soft)}\n"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.5rem 2.5rem}\n"
    "figure{margin:0;min-width:0;break-inside:avoid}\n"
    "figcaption{font-size:.85rem;margin-bottom:.25rem}\n"
    "svg{display:block;width:100%;height:auto;overflow:visible}\n"
    "svg text{font-size:10.5px;fill:var(--soft)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;font-size:.82rem;color:var(--soft);margin:.6rem 0 1.4rem;padding:0;list-style:none}\n"
    ".legend svg{display:inline-block;width:28px;height:10px;margin-right:.4rem;vertical-align:middle}\n"
    ".scroll{overflow-x:auto;margin:.4rem 0 1.2rem}\n"
    "table{border-collapse:collapse;font-size:.82rem;font-variant-numeric:tabular-nums lining-nums}\n"
    "th,td{padding:.22rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\n"
    "thead th{font-weight:500;color:var(--soft);vertical-align:bottom;white-space:normal;min-width:4rem}\n"
    "th:first-child{padding-left:0;text-align:left;min-width:0}tbody th{font-weight:500}td.text{text-align:left;white-space:normal}\n"
    "td span{color:var(--soft)}\n"
    "main>section:last-child{padding-bottom:4rem}\n"
    "@media print{:root{color-scheme:light}body{font-size:10pt}}\n";
/* clang-format on */

void study_page_text(FILE *stream, const char *text)
{
    char *copy = strdup(text != NULL ? text : "");
    if (copy == NULL) {
        return;
    }
    mixt_text_plain(copy);
    for (const char *c = copy; *c != 0; c++) {
        switch (*c) {
        case '&':
            fputs("&amp;", stream);
            break;
        case '<':
            fputs("&lt;", stream);
            break;
        case '>':
            fputs("&gt;", stream);
            break;
        case '"':
            fputs("&quot;", stream);
            break;
        case '\'':
            fputs("&#39;", stream);
            break;
        default:
            fputc(*c, stream);
        }
    }
    free(copy);
}

static void element(FILE *stream, const char *open, const char *text, const char *close)
{
    fputs(open, stream);
    study_page_text(stream, text);
    fputs(close, stream);
}

static void head(const study *s, FILE *stream)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
          "'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<meta name=\"generator\" content=\"mixt " MIXT_VERSION "\">\n"
          "<link rel=\"icon\" href=\"data:,\">\n",
          stream);
    element(stream, "<title>", s->title, "</title>\n<style>\n");
    fputs(study_page_colors, stream);
    fputs(study_page_marks, stream);
    fputs(style, stream);
    fputs("</style>\n</head>\n<body>\n", stream);
}

static void fact(FILE *stream, const char *name, double value)
{
    char count[32];
    format_count((uint64_t)value, count);
    fprintf(stream, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, count);
}

static void top(const study *s, FILE *stream)
{
    double tokens = 0, flops = 0;
    for (size_t c = 0; c < s->cell_count; c++) {
        double run = s->cells[c].steps * s->cells[c].tokens_per_step;
        tokens += run * (double)s->seed_count;
        flops += run * s->cells[c].training_flops * (double)s->seed_count;
    }
    element(stream, "<header>\n<p class=\"kicker\">Study</p>\n<h1>", s->title, "</h1>\n");
    fputs("<dl class=\"facts\">\n", stream);
    fact(stream, "Cells", (double)s->cell_count);
    fact(stream, "Seeds", (double)s->seed_count);
    fact(stream, "Tokens trained on", tokens);
    fprintf(stream, "<div><dt>Training FLOPs</dt><dd>%.3g</dd></div>\n</dl>\n", flops);
    if (s->question != NULL) {
        element(stream, "<p class=\"lede\">", s->question, "</p>\n");
    }
    for (size_t i = 0; i < s->published.count; i++) {
        element(stream, "<p><b>Published.</b> ", s->published.items[i], "</p>\n");
    }
    if (s->source != NULL) {
        element(stream, "<p class=\"note\">Source: ", s->source, "</p>\n");
    }
    fputs(s->quick ? "<p class=\"note\">This is the quick form of the study.</p>\n" : "", stream);
    fputs("</header>\n<main>\n", stream);
}

static void number(FILE *stream, const char *open, double value, int digits)
{
    fputs(open, stream);
    if (isfinite(value)) {
        fprintf(stream, "%.*f", digits, value);
    } else {
        fputs("-", stream);
    }
}

static void count(FILE *stream, double value)
{
    char text[32];
    format_count(isfinite(value) ? (uint64_t)value : 0, text);
    fprintf(stream, "<td>%s", isfinite(value) ? text : "-");
}

static void row(const study *s, const study_cell *cell, FILE *stream)
{
    study_estimate loss = study_mean(s, cell, "loss"), apart = study_difference(s, cell, "loss");
    element(stream, "<tr><th scope=\"row\">", cell->name,
            cell->held_out[0] != 0 ? "*</th>" : "</th>");
    number(stream, "<td>", loss.mean, 4);
    number(stream, " <span>&#177; ", loss.error, 4);
    fputs("</span>", stream);
    number(stream, "<td>", study_mean(s, cell, "bits_per_byte").mean, 4);
    number(stream, "<td>", study_mean(s, cell, "perplexity").mean, 3);
    if (s->baseline != NULL && cell == &s->cells[s->baseline_cell]) {
        fputs("<td>baseline<td>", stream);
    } else {
        number(stream, "<td>", apart.mean, 4);
        number(stream, "<td>", apart.low, 4);
        number(stream, " to ", apart.high, 4);
    }
    number(stream, "<td>", study_mean(s, cell, "routing.load_variation").mean, 3);
    number(stream, "<td>", study_mean(s, cell, "routing.max_violation").mean, 3);
    count(stream, cell->parameters_total);
    count(stream, cell->parameters_active);
    number(stream, "<td>", cell->forward_flops / 1e6, 3);
    number(stream, "<td>", cell->training_flops / 1e6, 3);
    count(stream, cell->steps * cell->tokens_per_step);
    number(stream, "<td>", study_mean(s, cell, "seconds").mean, 1);
    number(stream, "<td>", study_mean(s, cell, "tokens_per_second").mean, 0);
    element(stream, "<td class=\"text\">", cell->published, "</td></tr>\n");
}

static void table(const study *s, FILE *stream)
{
    fputs("<section id=\"table\">\n<h2>The table</h2>\n<div class=\"scroll\"><table>\n<thead><tr>"
          "<th scope=\"col\">cell<th>loss, nats a token<th>bits a byte<th>perplexity<th>apart from "
          "the baseline<th>95 % interval<th>variation of load<th>violation of load<th>parameters"
          "<th>active<th>forward MFLOP a token<th>training MFLOP a token<th>tokens<th>seconds"
          "<th>tokens a second<th>published</tr></thead><tbody>\n",
          stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        row(s, &s->cells[c], stream);
    }
    fputs("</tbody></table></div>\n", stream);
    fprintf(
        stream,
        "<p class=\"note\">Losses are of held-out text, means over %zu seed%s with the standard "
        "error. Differences are taken seed by seed; the interval is Student&#8217;s. Load is "
        "that of the held-out trace, mean of the layers: the standard deviation of the "
        "experts&#8217; shares over their mean, and how much the busiest one is above it. FLOPs "
        "are counted from the plan, without the optimizer; seconds are those of the "
        "machine.</p>\n",
        s->seed_count, plural(s->seed_count));
}

/* What of a name stands above its column; false: it has none. */
static bool measure_title(const char *name, bool domains, char text[400])
{
    const char *prefix = domains ? "domain." : "routing.", *end = domains ? ".bits_per_byte" : "";
    size_t length = strlen(name), first = strlen(prefix), last = strlen(end);
    if (strncmp(name, prefix, first) != 0 || length <= first + last ||
        strcmp(name + length - last, end) != 0 || (!domains && strstr(name, ".layer.") != NULL)) {
        return false;
    }
    snprintf(text, 400, "%.*s", (int)(length - first - last), name + first);
    for (char *c = text; *c != 0 && !domains; c++) {
        *c = *c == '_' ? ' ' : *c; /* so that heads break into lines */
    }
    return true;
}

/* Bits a byte of each domain, or what the routers did. */
static void measures(const study *s, const char *const *names, size_t name_count, bool domains,
                     FILE *stream)
{
    char title[400];
    fprintf(stream,
            "<section id=\"%s\">\n<h2>%s</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th "
            "scope=\"col\">cell",
            domains ? "domains" : "routing",
            domains ? "Bits a byte, by domain" : "What the routers did");
    for (size_t i = 0; i < name_count; i++) {
        if (measure_title(names[i], domains, title)) {
            element(stream, "<th scope=\"col\">", title, "");
        }
    }
    fputs("</tr></thead><tbody>\n", stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        element(stream, "<tr><th scope=\"row\">", s->cells[c].name, "</th>");
        for (size_t i = 0; i < name_count; i++) {
            if (measure_title(names[i], domains, title)) {
                number(stream, "<td>", study_mean(s, &s->cells[c], names[i]).mean, 4);
            }
        }
        fputs("</tr>\n", stream);
    }
    fputs("</tbody></table></div>\n</section>\n", stream);
}

static bool has_name(const char *const *names, size_t name_count, const char *prefix)
{
    for (size_t i = 0; i < name_count; i++) {
        if (strncmp(names[i], prefix, strlen(prefix)) == 0) {
            return true;
        }
    }
    return false;
}

static void options_of(const study *s, FILE *stream)
{
    fputs("<section id=\"options\">\n<h2>The cells</h2>\n<div class=\"scroll\"><table>\n<tbody>\n",
          stream);
    for (size_t c = 0; c < s->cell_count; c++) {
        const study_cell *cell = &s->cells[c];
        element(stream, "<tr><th scope=\"row\">", cell->name, "</th><td class=\"text\">");
        if (cell->held_out[0] != 0) {
            element(stream, "<b>", cell->held_out, "</b>; ");
        }
        for (size_t i = 0; i < cell->options.count; i++) {
            const study_option *option = &cell->options.items[i];
            const char *same = study_value_of(&s->base, option->name);
            if (same == NULL || strcmp(same, option->value) != 0) {
                element(stream, "", option->name, " = ");
                element(stream, "", option->value, "; ");
            }
        }
        fputs("</td></tr>\n", stream);
    }
    fputs("</tbody></table></div>\n<p class=\"note\">In all cells: ", stream);
    for (size_t i = 0; i < s->base.count; i++) {
        element(stream, i > 0 ? "; " : "", s->base.items[i].name, " = ");
        element(stream, "", s->base.items[i].value, "");
    }
    fputs(".</p>\n<p class=\"note\">Made by mixt " MIXT_VERSION
          ". This page loads nothing from anywhere.</p>\n</section>\n</main>\n</body>\n</html>\n",
          stream);
}

void study_write_page(const study *s, FILE *stream)
{
    size_t name_count;
    const char **names = study_names(s, &name_count);
    head(s, stream);
    top(s, stream);
    table(s, stream);
    study_write_figures(s, stream);
    if (names != NULL && has_name(names, name_count, "domain.")) {
        measures(s, names, name_count, true, stream);
    }
    if (names != NULL && has_name(names, name_count, "routing.")) {
        measures(s, names, name_count, false, stream);
    }
    options_of(s, stream);
    free(names);
}
