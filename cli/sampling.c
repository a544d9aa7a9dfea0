/* Options of sampling, by llama.cpp's names. */
#include "sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "shared.h"

enum { GRAMMAR_FILE_MAX = 8 << 20 };

#define AT(member) offsetof(sampler_settings, member)
#define OPTION(member) AT(options.member)
#define SAMPLING(member) AT(options.sampling.member)
#define ABOVE_ZERO 5e-324 /* the least double above 0 */

/* name, kind, offset, low, high, value, help, aliases */
#define ROW(n, k, o, lo, hi, v, h, a)                                                              \
    {                                                                                              \
        .name = n, .kind = OPTION_##k, .offset = o, .low = lo, .high = hi, .value = v, .help = h,  \
        .aliases = a                                                                               \
    }
#define SWITCH(n, l, k, o, v, h, a)                                                                \
    {                                                                                              \
        .name = n, .letter = l, .kind = OPTION_##k, .offset = o, .value = v, .help = h,            \
        .aliases = a                                                                               \
    }

const cli_option options_sampling[] = {
    ROW("temp", NUMBER, SAMPLING(temperature), 0, 1000, "X", "temperature; 0 is greedy",
        "temperature"),
    ROW("top-k", INT, SAMPLING(top_k), 0, 1 << 24, "N", "keep the N best; 0: all", NULL),
    ROW("top-p", NUMBER, SAMPLING(top_p), 0, 1, "X", "keep the best up to this sum; 1: all", NULL),
    ROW("min-p", NUMBER, SAMPLING(min_p), 0, 1, "X", "drop below this share of the best; 0: off",
        NULL),
    ROW("repeat-penalty", NUMBER, SAMPLING(repeat_penalty), ABOVE_ZERO, 1000, "X",
        "penalty on repeated tokens; 1: off", NULL),
    ROW("frequency-penalty", NUMBER, SAMPLING(frequency_penalty), -100, 100, "X",
        "penalty by count; 0: off", NULL),
    ROW("presence-penalty", NUMBER, SAMPLING(presence_penalty), -100, 100, "X",
        "penalty by presence; 0: off", NULL),
    ROW("repeat-last-n", INT, SAMPLING(repeat_last), -1, 1 << 24, "N",
        "tokens that penalties look at; -1: all", NULL),
    ROW("typical", NUMBER, OPTION(typical_p), 0, 1, "X",
        "keep the most typical up to this sum; 1: all", "typical-p"),
    ROW("top-nsigma", NUMBER, OPTION(top_n_sigma), -1, 1e6, "X",
        "keep logits within X deviations of the best; 0: all", "top-n-sigma"),
    ROW("xtc-probability", NUMBER, OPTION(xtc_probability), 0, 1, "X",
        "chance that the best of several likely ones are left out; 0: off", NULL),
    ROW("xtc-threshold", NUMBER, OPTION(xtc_threshold), 0, 1, "X",
        "what counts as likely for it; above 0.5: off", NULL),
    ROW("dry-multiplier", NUMBER, OPTION(dry_multiplier), 0, 1e6, "X",
        "penalty on longer repetitions; 0: off", NULL),
    ROW("dry-base", NUMBER, OPTION(dry_base), 1, 1e6, "X", "it grows by this with each token",
        NULL),
    ROW("dry-allowed-length", INT, OPTION(dry_allowed_length), 0, 1 << 24, "N",
        "tokens that may repeat", NULL),
    ROW("dry-penalty-last-n", INT, OPTION(dry_last), -1, 1 << 24, "N",
        "tokens that it looks at; -1: all, 0: none", NULL),
    {.name = "dry-sequence-breaker",
     .kind = OPTION_LIST,
     .offset = AT(breakers),
     .value = "TEXT",
     .help = "texts over which no repetition goes; none: there are none",
     .fallback = "newline, colon, quote, star"},
    ROW("mirostat", INT, OPTION(mirostat), 0, 2, "N",
        "1 or 2: steer the surprise; the other samplers are off", NULL),
    ROW("mirostat-lr", NUMBER, OPTION(mirostat_eta), 0, 1000, "X", "how fast", NULL),
    ROW("mirostat-ent", NUMBER, OPTION(mirostat_tau), 0, 1000, "X", "to how many bits", NULL),
    ROW("dynatemp-range", NUMBER, OPTION(temperature_range), 0, 1e6, "X",
        "temperature moves by so much with the entropy; 0: off", NULL),
    ROW("dynatemp-exp", NUMBER, OPTION(temperature_exponent), -100, 100, "X",
        "exponent of the entropy", NULL),
    ROW("min-keep", INT, OPTION(min_keep), 0, 1 << 24, "N",
        "tokens that top-p, min-p, typical and xtc leave at least", NULL),
    SWITCH("samplers", 0, TEXT, AT(samplers), "NAMES",
           "samplers in their order, separated by ; (those that are not named are off)", NULL),
    SWITCH("sampler-seq", 0, TEXT, AT(sequence), "LETTERS",
           "the same by letters: e penalties, d dry, s top-nsigma, k top-k, y typical, p top-p, m "
           "min-p, x xtc, t temperature",
           "sampling-seq"),
    SWITCH("logit-bias", 'l', LIST, AT(biases), "ID(+|-)X", "add to a token's logit; -inf: never",
           NULL),
    SWITCH("ignore-eos", 0, FLAG, OPTION(ignore_end), NULL, "never end the text", NULL),
    SWITCH("grammar", 0, TEXT, AT(grammar), "GBNF", "the text is one of this grammar", NULL),
    SWITCH("grammar-file", 0, TEXT, AT(grammar_file), "FILE", "a file with the grammar", NULL),
    SWITCH("json-schema", 'j', TEXT, AT(schema), "JSON",
           "the text is JSON that this schema accepts; {}: any", NULL),
    SWITCH("json-schema-file", 0, TEXT, AT(schema_file), "FILE", "a file with the schema", "-jf"),
    SWITCH("reverse-prompt", 'r', LIST, AT(stops), "TEXT",
           "end where one of these texts would come; it is not shown", "stop"),
    {.name = "seed",
     .letter = 's',
     .kind = OPTION_SEED,
     .offset = SAMPLING(seed),
     .value = "N",
     .help = "seed; -1: another one each time",
     .fallback = "-1"},
    {0},
};

sampler_settings sampler_defaults(void)
{
    sampler_settings settings = {.options = mixt_sampler_options_default()};
    settings.options.sampling.seed = mixt_random_seed();
    return settings;
}

static mixt_status take_letters(const char *letters, draw_options *draws, mixt_error *error)
{
    static const char known[] = "edskypmxt";
    static const char *const names[] = {"penalties", "dry",   "top_n_sigma", "top_k",      "typ_p",
                                        "top_p",     "min_p", "xtc",         "temperature"};
    size_t used = 0;
    for (const char *c = letters; *c != '\0'; c++) {
        const char *place = strchr(known, *c);
        if (place == NULL) {
            return set_error(error, MIXT_ERROR_ARGUMENT, "--sampler-seq: %c is none of %s", *c,
                             known);
        }
        size_t left = sizeof draws->order - used;
        size_t length = (size_t)snprintf(draws->order + used, left, "%s%s", used > 0 ? ";" : "",
                                         names[place - known]);
        if (length >= left) {
            return set_error(error, MIXT_ERROR_ARGUMENT, "--sampler-seq: too many letters");
        }
        used += length;
    }
    draws->options.order = draws->order;
    return MIXT_OK;
}

/* 15043+1.5, 15043-inf */
static mixt_status take_bias(const char *text, mixt_logit_bias *bias, mixt_error *error)
{
    char *sign = NULL, *end = NULL;
    long long token = strtoll(text, &sign, 10);
    bool signed_value = sign != text && (*sign == '+' || *sign == '-') && sign[1] != '+' &&
                        sign[1] != '-' && token >= 0 && token <= INT32_MAX;
    double value = signed_value ? strtod(sign, &end) : NAN;
    if (isnan(value) || *end != '\0' || value == INFINITY) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "--logit-bias: \"%.60s\" is not ID+X or ID-X",
                         text);
    }
    *bias = (mixt_logit_bias){(int32_t)token, (float)value};
    return MIXT_OK;
}

static mixt_status take_lists(const sampler_settings *settings, draw_options *draws,
                              mixt_error *error)
{
    size_t count = settings->biases.count;
    draws->biases = calloc(count + 1, sizeof *draws->biases);
    if (draws->biases == NULL) {
        return set_memory_error(error);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(take_bias(settings->biases.items[i], &draws->biases[i], error));
    }
    draws->options.biases = draws->biases;
    draws->options.bias_count = count;
    if (settings->breakers.count > 0) {
        bool none =
            settings->breakers.count == 1 && strcmp(settings->breakers.items[0], "none") == 0;
        draws->options.dry_breakers = settings->breakers.items;
        draws->options.dry_breaker_count = none ? 0 : settings->breakers.count;
    }
    draws->stops = settings->stops.count > 0 ? &settings->stops : NULL;
    return MIXT_OK;
}

static mixt_status read_file(const char *path, char **text, mixt_error *error)
{
    char what[200];
    size_t length = 0;
    mixt_status status = files_read(path, GRAMMAR_FILE_MAX, text, &length, what);
    if (status != MIXT_OK) {
        return set_error(error, status, "%.250s: %s", path, what);
    }
    return strlen(*text) == length
               ? MIXT_OK
               : set_error(error, MIXT_ERROR_FORMAT, "%.300s: it holds a NUL", path);
}

static mixt_status take_grammar(const sampler_settings *settings, draw_options *draws,
                                mixt_error *error)
{
    int said = (settings->grammar != NULL) + (settings->grammar_file != NULL) +
               (settings->schema != NULL) + (settings->schema_file != NULL);
    if (said > 1) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--grammar, --grammar-file, --json-schema and --json-schema-file exclude "
                         "each other");
    }
    draws->options.grammar = settings->grammar;
    if (settings->grammar_file != NULL) {
        TRY(read_file(settings->grammar_file, &draws->grammar, error));
        draws->options.grammar = draws->grammar;
    }
    if (settings->schema != NULL || settings->schema_file != NULL) {
        char *read = NULL;
        if (settings->schema_file != NULL) {
            TRY(read_file(settings->schema_file, &read, error));
        }
        const char *schema = read != NULL ? read : settings->schema;
        mixt_status status =
            mixt_json_schema_grammar(schema, strlen(schema), &draws->grammar, error);
        free(read);
        draws->options.grammar = draws->grammar;
        return status;
    }
    return MIXT_OK;
}

mixt_status draws_begin(const sampler_settings *settings, draw_options *draws, mixt_error *error)
{
    *draws = (draw_options){.options = settings->options};
    draws->options.order = settings->samplers;
    if (settings->samplers != NULL && settings->sequence != NULL) {
        return set_error(error, MIXT_ERROR_ARGUMENT,
                         "--samplers and --sampler-seq exclude each other");
    }
    if (settings->sequence != NULL) {
        TRY(take_letters(settings->sequence, draws, error));
    }
    TRY(take_lists(settings, draws, error));
    return take_grammar(settings, draws, error);
}

void draws_end(draw_options *draws)
{
    free(draws->grammar);
    free(draws->biases);
    *draws = (draw_options){.stops = NULL};
}
