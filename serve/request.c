#include "request.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STOPS_MAX = 64,
    BIASES_MAX = 4096,
    BREAKERS_MAX = 64,
    CHANGES_MAX = 4096,
};
static const uint64_t seeds = (uint64_t)1 << 53;
/* Bytes of pieces that one request may leave behind: what it asks for times its tokens. */
static const double pieces_bytes_max = 1024.0 * 1024 * 1024;

#define AT(member) offsetof(api_request, member)
#define SAMPLER(member) offsetof(api_request, sampler.member)
#define SAMPLING(member) offsetof(api_request, sampler.sampling.member)

const field_rule request_fields[] = {
    {"temperature", FIELD_NUMBER, SAMPLING(temperature), 0, 1000, NULL},
    {"top_p", FIELD_NUMBER, SAMPLING(top_p), 0, 1, NULL},
    {"top_k", FIELD_INT, SAMPLING(top_k), -1, INT_MAX, NULL},
    {"min_p", FIELD_NUMBER, SAMPLING(min_p), 0, 1, NULL},
    {"frequency_penalty", FIELD_NUMBER, SAMPLING(frequency_penalty), -2, 2, NULL},
    {"presence_penalty", FIELD_NUMBER, SAMPLING(presence_penalty), -2, 2, NULL},
    {"repeat_penalty", FIELD_NUMBER, SAMPLING(repeat_penalty), 0.01, 100, NULL},
    {"repetition_penalty", FIELD_NUMBER, SAMPLING(repeat_penalty), 0.01, 100, NULL},
    {"repeat_last_n", FIELD_INT, SAMPLING(repeat_last), -1, INT_MAX, NULL},
    {"dynatemp_range", FIELD_NUMBER, SAMPLER(temperature_range), 0, 1000, NULL},
    {"dynatemp_exponent", FIELD_NUMBER, SAMPLER(temperature_exponent), 0, 1000, NULL},
    {"typical_p", FIELD_NUMBER, SAMPLER(typical_p), 0, 1, NULL},
    {"top_n_sigma", FIELD_NUMBER, SAMPLER(top_n_sigma), -1, 1000, NULL},
    {"xtc_probability", FIELD_NUMBER, SAMPLER(xtc_probability), 0, 1, NULL},
    {"xtc_threshold", FIELD_NUMBER, SAMPLER(xtc_threshold), 0, 1, NULL},
    {"dry_multiplier", FIELD_NUMBER, SAMPLER(dry_multiplier), 0, 1000, NULL},
    {"dry_base", FIELD_NUMBER, SAMPLER(dry_base), 0, 1000, NULL},
    {"dry_allowed_length", FIELD_INT, SAMPLER(dry_allowed_length), 0, INT_MAX, NULL},
    {"dry_penalty_last_n", FIELD_INT, SAMPLER(dry_last), -1, INT_MAX, NULL},
    {"dry_sequence_breakers", FIELD_VALUE, AT(dry_breakers), 0, 0, NULL},
    {"mirostat", FIELD_INT, SAMPLER(mirostat), 0, 2, NULL},
    {"mirostat_tau", FIELD_NUMBER, SAMPLER(mirostat_tau), 0, 1000, NULL},
    {"mirostat_eta", FIELD_NUMBER, SAMPLER(mirostat_eta), 0, 1000, NULL},
    {"min_keep", FIELD_INT, SAMPLER(min_keep), 0, INT_MAX, NULL},
    {"samplers", FIELD_VALUE, AT(samplers), 0, 0, NULL},
    {"seed", FIELD_LONG, AT(seed), -1, 9007199254740992.0, NULL},
    {"ignore_eos", FIELD_BOOL, SAMPLER(ignore_end), 0, 0, NULL},
    {"logit_bias", FIELD_VALUE, AT(logit_bias), 0, 0, NULL},
    {"grammar", FIELD_TEXT, AT(grammar), 0, 0, NULL},
    {"json_schema", FIELD_VALUE, AT(json_schema), 0, 0, NULL},
    {"stop", FIELD_VALUE, AT(stop), 0, 0, NULL},
    {"stream", FIELD_BOOL, AT(stream), 0, 0, NULL},
    {"t_max_predict_ms", FIELD_LONG, AT(milliseconds), -1, 1e12, NULL},
    {"routing", FIELD_BOOL, AT(routing), 0, 0, NULL},
    {"experts_per_token", FIELD_VALUE, AT(experts_per_token), 0, 0, NULL},
    {"expert_mask", FIELD_VALUE, AT(expert_mask), 0, 0, NULL},
    {"expert_force", FIELD_VALUE, AT(expert_force), 0, 0, NULL},
    /* Pages of a beginning that was seen are always taken, with the same bits; any place will do.
     */
    {"cache_prompt", FIELD_IGNORED, 0, 0, 0, NULL},
    {"id_slot", FIELD_IGNORED, 0, 0, 0, NULL},
    {"n_keep", FIELD_IGNORED, 0, 0, 0, NULL},    /* contexts are never shifted */
    {"n_discard", FIELD_IGNORED, 0, 0, 0, NULL}, /* likewise */
    {"n_cache_reuse", FIELD_REFUSED, 0, 0, 0, "it would change what is computed"},
    {"n_indent", FIELD_REFUSED, 0, 0, 0, NULL},
    {"grammar_lazy", FIELD_REFUSED, 0, 0, 0, NULL},
    {"grammar_triggers", FIELD_REFUSED, 0, 0, 0, NULL},
    {"preserved_tokens", FIELD_IGNORED, 0, 0, 0, NULL}, /* every token's text is given */
    {"lora", FIELD_REFUSED, 0, 0, 0, "adapters are merged when the model is opened"},
    {"tfs_z", FIELD_REFUSED, 0, 0, 0, NULL},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

void request_defaults(api_request *request, bool local)
{
    *request = (api_request){.sampler = mixt_sampler_options_default()};
    request->seed = -1;
    request->max_tokens = -1;
    request->n = 1;
    request->top_logprobs = -1;
    if (!local) {
        request->sampler.sampling.temperature = 1;
        request->sampler.sampling.top_k = 0;
        request->sampler.sampling.top_p = 1;
        request->sampler.sampling.min_p = 0;
    }
}

void request_free(api_request *request)
{
    free(request->made_grammar);
    free(request->biases);
    free(request->breakers);
}

static bool no_memory(api_problem *problem)
{
    return api_fail(problem, 503, "no_memory", NULL, "out of memory");
}

/* ---- prompts */

static bool check_id(const serve_server *server, int64_t id, const char *param,
                     api_problem *problem)
{
    int rows = server->info.options.vocab_size;
    return (id >= 0 && id < rows) ||
           api_fail(problem, 400, "invalid_token", param,
                    "token %lld is not one of the model's, 0 to %d", (long long)id, rows - 1);
}

static bool too_long(const serve_server *server, size_t tokens, api_problem *problem)
{
    return api_fail(problem, 400, "context_length_exceeded", "prompt",
                    "This model's maximum context length is %zu tokens; the prompt has %s%zu",
                    generator_context(server->generator), tokens == 0 ? "more than " : "",
                    tokens == 0 ? generator_context(server->generator) : tokens);
}

bool prompt_append(generation_prompt *prompt, const int32_t *ids, size_t count,
                   api_problem *problem)
{
    int32_t *grown = realloc(prompt->ids, (prompt->count + count + 1) * sizeof *grown);
    if (grown == NULL) {
        return no_memory(problem);
    }
    prompt->ids = grown;
    if (count > 0) {
        memcpy(grown + prompt->count, ids, count * sizeof *ids);
    }
    prompt->count += count;
    return true;
}

bool encode_prompt(const serve_server *server, const char *text, size_t length, bool begins,
                   generation_prompt *prompt, api_problem *problem)
{
    int32_t *ids = NULL;
    size_t count = 0;
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_tokenizer *tokenizer = server->tokenizer;
    /* No token stands for more bytes than the longest one, so that this text does not fit. */
    if (length / (server->longest_token > 0 ? server->longest_token : 1) >
        generator_context(server->generator)) {
        return too_long(server, 0, problem);
    }
    if (mixt_tokenizer_encode(tokenizer, text, length, true, &ids, &count, &error) != MIXT_OK) {
        return api_fail(problem, error.status == MIXT_ERROR_MEMORY ? 503 : 400, "invalid_prompt",
                        "prompt", "the prompt: %.400s", error.message);
    }
    int32_t first = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
    first = first < 0 && count == 0 ? mixt_tokenizer_separator(tokenizer) : first;
    bool good = true;
    if (begins && first >= 0 && (count == 0 || ids[0] != first)) {
        good = prompt_append(prompt, &first, 1, problem);
    }
    good = good && prompt_append(prompt, ids, count, problem);
    for (size_t i = 0; good && i < count; i++) {
        good = check_id(server, ids[i], "prompt", problem);
    }
    free(ids);
    return good;
}

/* An array of ids and texts. */
static bool encode_array(const serve_server *server, const json_t *array, generation_prompt *prompt,
                         api_problem *problem)
{
    size_t index;
    json_t *value;
    json_array_foreach(array, index, value)
    {
        bool good;
        if (json_is_integer(value)) {
            int32_t id = (int32_t)json_integer_value(value);
            good = check_id(server, json_integer_value(value), "prompt", problem) &&
                   prompt_append(prompt, &id, 1, problem);
        } else if (json_is_string(value)) {
            good = encode_prompt(server, json_string_value(value), json_string_length(value),
                                 index == 0, prompt, problem);
        } else {
            good = api_fail(problem, 400, "invalid_prompt", "prompt",
                            "a prompt is a string, or an array of token ids");
        }
        if (!good) {
            return false;
        }
        if (prompt->count > generator_context(server->generator)) {
            return too_long(server, 0, problem);
        }
    }
    return true;
}

/* Whether an array is one prompt: ids, among which texts may stand. */
static bool is_one(const json_t *given)
{
    size_t numbers = 0, strings = 0, count = json_array_size(given);
    for (size_t i = 0; i < count; i++) {
        numbers += json_is_number(json_array_get(given, i));
        strings += json_is_string(json_array_get(given, i));
    }
    return !json_is_array(given) || (numbers > 0 && numbers + strings == count);
}

const json_t *prompt_at(const json_t *given, size_t i)
{
    const json_t *one = is_one(given) ? given : json_array_get(given, i);
    const json_t *text = json_object_size(one) == 1 ? json_object_get(one, "prompt_string") : NULL;
    return text != NULL ? text : one;
}

bool encode_prompts(const serve_server *server, const json_t *given, size_t most,
                    generation_prompt **prompts, size_t *count, api_problem *problem)
{
    size_t wanted = given == NULL ? 0 : is_one(given) ? 1 : json_array_size(given);
    *prompts = NULL;
    *count = 0;
    if (wanted > most) {
        return api_fail(problem, 400, "invalid_value", "prompt", "more than %zu prompts", most);
    }
    *prompts = calloc(wanted + 1, sizeof **prompts);
    if (*prompts == NULL) {
        return no_memory(problem);
    }
    *count = wanted;
    for (size_t i = 0; i < wanted; i++) {
        const json_t *one = prompt_at(given, i);
        bool good = json_is_string(one)
                        ? encode_prompt(server, json_string_value(one), json_string_length(one),
                                        true, &(*prompts)[i], problem)
                    : json_is_array(one)
                        ? encode_array(server, one, &(*prompts)[i], problem)
                        : api_fail(problem, 400, "invalid_prompt", "prompt",
                                   "a prompt is a string or an array of token ids");
        if (!good) {
            return false;
        }
    }
    return wanted > 0 ||
           api_fail(problem, 400, "invalid_prompt", "prompt",
                    "a prompt is needed: a string, strings, token ids, or arrays of them");
}

/* ---- stop strings, biases, samplers */

bool read_strings(const json_t *value, const char *name, size_t most, char ***strings,
                  size_t *count, api_problem *problem)
{
    bool alone = json_is_string(value);
    size_t wanted = alone ? 1 : json_array_size(value);
    *strings = NULL;
    *count = 0;
    if (value == NULL || wanted == 0) {
        return value == NULL || json_is_array(value) ||
               api_fail(problem, 400, "invalid_type", name,
                        "%s must be a string or an array of strings", name);
    }
    if (wanted > most) {
        return api_fail(problem, 400, "invalid_value", name, "%s: more than %zu strings", name,
                        most);
    }
    *strings = calloc(wanted, sizeof **strings);
    bool good = *strings != NULL || no_memory(problem);
    for (size_t i = 0; good && i < wanted; i++) {
        const json_t *item = alone ? value : json_array_get(value, i);
        if (!json_is_string(item) || json_string_length(item) == 0) {
            good = api_fail(problem, 400, "invalid_type", name,
                            "%s must be a string or an array of strings, none of them empty", name);
            break;
        }
        (*strings)[i] = strdup(json_string_value(item));
        good = (*strings)[i] != NULL || no_memory(problem);
        *count += good;
    }
    for (size_t i = 0; !good && i < *count; i++) {
        free((*strings)[i]);
    }
    if (!good) {
        free(*strings);
        *strings = NULL;
        *count = 0;
    }
    return good;
}

static bool add_bias(const serve_server *server, api_request *request, int64_t id, double bias,
                     api_problem *problem)
{
    if (!check_id(server, id, "logit_bias", problem)) {
        return false;
    }
    if (request->bias_count == BIASES_MAX) {
        return api_fail(problem, 400, "invalid_value", "logit_bias", "more than %d logit biases",
                        BIASES_MAX);
    }
    if (request->bias_count == request->bias_capacity) {
        size_t capacity = request->bias_capacity == 0 ? 64 : 2 * request->bias_capacity;
        mixt_logit_bias *grown = realloc(request->biases, capacity * sizeof *grown);
        if (grown == NULL) {
            return no_memory(problem);
        }
        request->biases = grown;
        request->bias_capacity = capacity;
    }
    request->biases[request->bias_count++] = (mixt_logit_bias){(int32_t)id, (float)bias};
    return true;
}

/* The bias of an id, or of every token of a text. */
static bool read_bias(const serve_server *server, api_request *request, const json_t *what,
                      const json_t *value, api_problem *problem)
{
    double bias = json_is_false(value) ? -INFINITY : json_number_value(value);
    if (!json_is_false(value) && (!json_is_number(value) || fabs(bias) > 1e6)) {
        return api_fail(problem, 400, "invalid_value", "logit_bias",
                        "logit_bias: a bias is a number, or false for never");
    }
    if (json_is_integer(what)) {
        return add_bias(server, request, json_integer_value(what), bias, problem);
    }
    if (!json_is_string(what)) {
        return api_fail(problem, 400, "invalid_type", "logit_bias",
                        "logit_bias: pairs of a token id or a text and a bias");
    }
    generation_prompt tokens = {0};
    bool good = encode_prompt(server, json_string_value(what), json_string_length(what), false,
                              &tokens, problem);
    for (size_t i = 0; good && i < tokens.count; i++) {
        good = add_bias(server, request, tokens.ids[i], bias, problem);
    }
    free(tokens.ids);
    return good;
}

/* OpenAI's {"id": bias} and llama.cpp's [[id or text, bias or false], ...]. */
static bool read_biases(const serve_server *server, api_request *request, api_problem *problem)
{
    const json_t *given = request->logit_bias;
    if (json_is_object(given)) {
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)given, name, value)
        {
            char *end;
            long id = strtol(name, &end, 10);
            bool number = end != name && *end == 0;
            json_t *what = number ? json_integer(id) : json_string(name);
            bool good = what != NULL ? read_bias(server, request, what, value, problem)
                                     : no_memory(problem);
            json_decref(what);
            if (!good) {
                return false;
            }
        }
        return true;
    }
    if (given != NULL && !json_is_array(given)) {
        return api_fail(problem, 400, "invalid_type", "logit_bias",
                        "logit_bias must be an object or an array");
    }
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *pair = json_array_get(given, i);
        if (!json_is_array(pair) || json_array_size(pair) != 2) {
            return api_fail(problem, 400, "invalid_type", "logit_bias",
                            "logit_bias: pairs of a token id or a text and a bias");
        }
        if (!read_bias(server, request, json_array_get(pair, 0), json_array_get(pair, 1),
                       problem)) {
            return false;
        }
    }
    return true;
}

/* Whether biases of false leave a token that can be drawn. */
static bool check_biases(const serve_server *server, const api_request *request,
                         api_problem *problem)
{
    int rows = server->info.options.vocab_size, left = rows;
    if (request->bias_count == 0 || request->max_tokens == 0) {
        return true;
    }
    bool *never = calloc((size_t)rows, sizeof *never);
    if (never == NULL) {
        return no_memory(problem);
    }
    for (size_t i = 0; i < request->bias_count; i++) {
        const mixt_logit_bias *bias = &request->biases[i];
        never[bias->token] = never[bias->token] || bias->bias == -INFINITY;
    }
    int ids = mixt_tokenizer_vocab_size(server->tokenizer);
    for (int32_t id = 0; id < rows; id++) {
        bool ends = id < ids && (mixt_tokenizer_is_end(server->tokenizer, id) ||
                                 id == mixt_tokenizer_separator(server->tokenizer));
        left -= never[id] || (request->sampler.ignore_end && ends);
    }
    free(never);
    return left > 0 || api_fail(problem, 400, "invalid_value", "logit_bias",
                                "logit_bias: false (never)%s leaves no token to be drawn",
                                request->sampler.ignore_end ? " beside ignore_eos" : "");
}

/* llama.cpp's list of names as the library's text. */
static bool read_order(api_request *request, api_problem *problem)
{
    size_t used = 0, index;
    json_t *value;
    if (request->samplers == NULL) {
        return true;
    }
    if (!json_is_array(request->samplers)) {
        return api_fail(problem, 400, "invalid_type", "samplers",
                        "samplers must be an array of names");
    }
    request->order[0] = 0;
    json_array_foreach(request->samplers, index, value)
    {
        const char *name = json_string_value(value);
        if (name == NULL || used + strlen(name) + 2 > sizeof request->order) {
            return api_fail(problem, 400, "invalid_value", "samplers",
                            "samplers must be an array of names of samplers");
        }
        used += (size_t)snprintf(request->order + used, sizeof request->order - used, "%s%s",
                                 index > 0 ? ";" : "", name);
    }
    request->sampler.order = request->order;
    return true;
}

static bool read_breakers(api_request *request, api_problem *problem)
{
    const json_t *given = request->dry_breakers;
    size_t count = json_array_size(given);
    if (given == NULL) {
        return true;
    }
    request->breakers = calloc(count + 1, sizeof *request->breakers);
    if (request->breakers == NULL) {
        return no_memory(problem);
    }
    for (size_t i = 0; json_is_array(given) && count <= BREAKERS_MAX && i < count; i++) {
        request->breakers[i] = json_string_value(json_array_get(given, i));
    }
    for (size_t i = 0; i < count || !json_is_array(given); i++) {
        if (count > BREAKERS_MAX || request->breakers[i] == NULL) {
            return api_fail(problem, 400, "invalid_value", "dry_sequence_breakers",
                            "dry_sequence_breakers must be an array of at most %d strings",
                            BREAKERS_MAX);
        }
    }
    request->sampler.dry_breakers = request->breakers;
    request->sampler.dry_breaker_count = count;
    return true;
}

/* ---- constraints */

bool request_schema(api_request *request, const json_t *schema, const char *name,
                    api_problem *problem)
{
    text_buffer text = {0};
    mixt_error error = MIXT_ERROR_INIT;
    if (request->grammar != NULL || request->made_grammar != NULL) {
        return api_fail(problem, 400, "invalid_value", name,
                        "%s: the text is constrained by another field already", name);
    }
    if (!json_is_object(schema) && !json_is_boolean(schema)) {
        return api_fail(problem, 400, "invalid_type", name, "%s: a schema is an object", name);
    }
    text_json_value(&text, schema);
    mixt_status status = text.failed ? MIXT_ERROR_MEMORY
                                     : mixt_json_schema_grammar(text.bytes, text.length,
                                                                &request->made_grammar, &error);
    text_free(&text);
    return status == MIXT_OK || api_fail(problem, status == MIXT_ERROR_MEMORY ? 503 : 400,
                                         "invalid_schema", name, "%s: %.400s", name, error.message);
}

/* ---- changes of routing */

static bool add_change(generation_order *order, const serve_server *server, routing_change change,
                       const char *name, api_problem *problem)
{
    const mixt_model_options *model = &server->info.options;
    int experts = model->experts + model->identity_experts + model->zero_experts;
    if (server->info.moe_layers == 0) {
        return api_fail(problem, 400, "invalid_value", name, "%s: the model has no experts", name);
    }
    bool count = change.change == MIXT_ROUTING_TOP_K;
    if (change.layer < -1 || change.layer >= model->layers || change.value < (count ? 1 : 0) ||
        change.value > (count ? experts : experts - 1)) {
        return api_fail(problem, 400, "invalid_value", name,
                        "%s: layers are 0 to %d, experts %d to %d", name, model->layers - 1,
                        count ? 1 : 0, count ? experts : experts - 1);
    }
    if (order->change_count == CHANGES_MAX) {
        return api_fail(problem, 400, "invalid_value", name, "more than %d changes of routing",
                        CHANGES_MAX);
    }
    routing_change *grown =
        realloc(order->changes, (order->change_count + 1) * sizeof *order->changes);
    if (grown == NULL) {
        return no_memory(problem);
    }
    order->changes = grown;
    order->changes[order->change_count++] = change;
    return true;
}

static bool small_integer(const json_t *value, int *integer)
{
    json_int_t number = json_integer_value(value);
    *integer = (int)number;
    return json_is_integer(value) && number >= -1 && number <= 1 << 20;
}

/* [[layer, value], ...], layer -1: every layer. */
static bool read_changes(const serve_server *server, const json_t *pairs, const char *name,
                         mixt_routing_change kind, generation_order *order, api_problem *problem)
{
    for (size_t i = 0; pairs != NULL && (i < json_array_size(pairs) || !json_is_array(pairs));
         i++) {
        const json_t *pair = json_array_get(pairs, i);
        routing_change change = {.change = kind};
        if (json_array_size(pair) != 2 || !small_integer(json_array_get(pair, 0), &change.layer) ||
            !small_integer(json_array_get(pair, 1), &change.value)) {
            return api_fail(problem, 400, "invalid_type", name,
                            "%s must be [[layer, number], ...], layer -1 for every layer", name);
        }
        if (!add_change(order, server, change, name, problem)) {
            return false;
        }
    }
    return true;
}

static bool read_routing(const serve_server *server, const api_request *request,
                         generation_order *order, api_problem *problem)
{
    const json_t *top = request->experts_per_token;
    if (json_is_integer(top)) {
        routing_change change = {.change = MIXT_ROUTING_TOP_K, .layer = -1};
        if (!small_integer(top, &change.value) || change.value < 1) {
            return api_fail(problem, 400, "invalid_value", "experts_per_token",
                            "experts_per_token must be 1 or more");
        }
        if (!add_change(order, server, change, "experts_per_token", problem)) {
            return false;
        }
        top = NULL;
    }
    if (request->routing && server->info.moe_layers == 0) {
        return api_fail(problem, 400, "invalid_value", "routing", "the model has no experts");
    }
    order->routes = request->routing;
    return read_changes(server, top, "experts_per_token", MIXT_ROUTING_TOP_K, order, problem) &&
           read_changes(server, request->expert_mask, "expert_mask", MIXT_ROUTING_MASK, order,
                        problem) &&
           read_changes(server, request->expert_force, "expert_force", MIXT_ROUTING_FORCE, order,
                        problem);
}

/* ---- orders */

static bool check_prompts(const generation_prompt *prompts, size_t count, api_problem *problem)
{
    for (size_t i = 0; i < count; i++) {
        if (prompts[i].count == 0) {
            return api_fail(problem, 400, "invalid_prompt", "prompt",
                            "the prompt is empty, and the tokenizer has no token to begin with");
        }
    }
    return true;
}

/* What a request leaves behind in memory is bounded before anything is computed. */
static bool check_size(const serve_server *server, const generation_order *order,
                       api_problem *problem)
{
    double context = (double)generator_context(server->generator);
    double tokens = 0;
    for (size_t i = 0; i < order->prompt_count; i++) {
        double room = context - (double)order->prompts[i].count;
        if (room < (order->max_tokens == 0 ? 0 : 1)) {
            return too_long(server, order->prompts[i].count, problem);
        }
        if (order->max_tokens >= 0 && (double)order->max_tokens < room) {
            room = (double)order->max_tokens;
        }
        bool prompt_too = order->prompt_logprobs || order->routes;
        tokens += order->n * (room + (prompt_too ? (double)order->prompts[i].count : 0));
    }
    double bytes = sizeof(generation_piece) + 16;
    bytes += order->top_logprobs > 0 ? 12.0 * order->top_logprobs : 0;
    bytes += order->routes ? server->info.moe_layers * (8.0 * server_experts_most(server) + 4) : 0;
    return order->stream || bytes * tokens <= pieces_bytes_max ||
           api_fail(problem, 400, "request_too_large", NULL,
                    "the reply could take %lld MiB at once; ask for fewer tokens, choices or "
                    "probabilities, or for a stream",
                    (long long)(bytes * tokens / (1024 * 1024)));
}

static bool make_samplers(const serve_server *server, api_request *request, generation_order *order,
                          api_problem *problem)
{
    size_t count = order->prompt_count * (size_t)order->n;
    mixt_error error = MIXT_ERROR_INIT;
    /* One that can be asked for again: the reply may tell it, and JSON's numbers are doubles. */
    request->seed = request->seed >= 0 ? request->seed : (int64_t)(mixt_random_seed() % seeds);
    const char *grammar = request->made_grammar != NULL ? request->made_grammar : request->grammar;
    order->samplers = calloc(count, sizeof *order->samplers);
    if (order->samplers == NULL) {
        return no_memory(problem);
    }
    request->sampler.grammar = grammar != NULL && grammar[0] != 0 ? grammar : NULL;
    request->sampler.biases = request->biases;
    request->sampler.bias_count = request->bias_count;
    request->sampler.sampling.top_k =
        request->sampler.sampling.top_k < 0 ? 0 : request->sampler.sampling.top_k;
    request->sampler.top_n_sigma =
        request->sampler.top_n_sigma < 0 ? 0 : request->sampler.top_n_sigma;
    if (request->sampler.sampling.repeat_last < 0) {
        request->sampler.sampling.repeat_last = (int)generator_context(server->generator);
    }
    for (size_t i = 0; i < count; i++) {
        const generation_prompt *prompt = &order->prompts[i / (size_t)order->n];
        mixt_sampler **sampler = &order->samplers[i];
        uint64_t seed = (uint64_t)request->seed + i % (size_t)order->n;
        request->sampler.sampling.seed = seed;
        mixt_status status =
            i == 0 ? mixt_sampler_create(server->tokenizer, server->info.options.vocab_size,
                                         &request->sampler, sampler, &error)
                   : mixt_sampler_create_alike(order->samplers[0], seed, sampler, &error);
        for (size_t j = 0; status == MIXT_OK && j < prompt->count; j++) {
            status = mixt_sampler_accept(order->samplers[i], prompt->ids[j], false, &error);
        }
        if (status != MIXT_OK) {
            return api_fail(problem, status == MIXT_ERROR_MEMORY ? 503 : 400, "invalid_value",
                            request->sampler.grammar != NULL ? "grammar" : NULL, "%.450s",
                            error.message);
        }
    }
    return true;
}

bool request_order(const serve_server *server, api_request *request, generation_prompt *prompts,
                   size_t count, generation_order *order, api_problem *problem)
{
    *order = (generation_order){
        .prompts = prompts,
        .prompt_count = count,
        .n = request->n,
        .max_tokens = request->max_tokens,
        .top_logprobs = request->top_logprobs,
        .prompt_logprobs = request->prompt_logprobs,
        .stream = request->stream,
        .stop_at_line = request->stop_at_line,
        .milliseconds = request->milliseconds > 0 ? request->milliseconds : 0,
    };
    if (request->n < 1 || (double)count * request->n > server->options->choices || count == 0) {
        return api_fail(problem, 400, "invalid_value", count == 0 ? "prompt" : "n",
                        count == 0 ? "there is no prompt" : "prompts times n is more than %d",
                        server->options->choices);
    }
    if (!check_prompts(prompts, count, problem)) {
        return false;
    }
    if (request->grammar != NULL && request->json_schema != NULL) {
        return api_fail(problem, 400, "invalid_value", "json_schema",
                        "grammar and json_schema exclude each other");
    }
    return (request->json_schema == NULL ||
            request_schema(request, request->json_schema, "json_schema", problem)) &&
           read_strings(request->stop, "stop", STOPS_MAX, &order->stops, &order->stop_count,
                        problem) &&
           read_biases(server, request, problem) && check_biases(server, request, problem) &&
           read_order(request, problem) && read_breakers(request, problem) &&
           read_routing(server, request, order, problem) && check_size(server, order, problem) &&
           make_samplers(server, request, order, problem);
}

bool request_embedding(const serve_server *server, generation_prompt *prompts, size_t count,
                       generation_order *order, api_problem *problem)
{
    *order = (generation_order){
        .prompts = prompts, .prompt_count = count, .n = 1, .top_logprobs = -1, .embeds = true};
    for (size_t i = 0; i < count; i++) {
        if (prompts[i].count > generator_context(server->generator)) {
            return too_long(server, prompts[i].count, problem);
        }
    }
    return check_prompts(prompts, count, problem);
}

/* ---- what several families write */

void write_token(const serve_server *server, int32_t id, text_buffer *out)
{
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(server->tokenizer, id, &length);
    text_json(out, bytes != NULL ? bytes : "", length);
}

void write_token_bytes(const serve_server *server, int32_t id, text_buffer *out)
{
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(server->tokenizer, id, &length);
    text_put(out, "[");
    for (size_t i = 0; bytes != NULL && i < length; i++) {
        text_format(out, i > 0 ? ",%d" : "%d", (unsigned char)bytes[i]);
    }
    text_put(out, "]");
}

static void write_routed_token(const serve_server *server, const generation_piece *piece,
                               text_buffer *out)
{
    text_comma(out);
    text_put(out, "{");
    text_member_integer(out, "position", (int64_t)piece->position);
    text_member_integer(out, "id", piece->token);
    text_key(out, "token");
    write_token(server, piece->token, out);
    size_t length = 0;
    const char *bytes = mixt_tokenizer_bytes_of(server->tokenizer, piece->token, &length);
    if (bytes != NULL && !utf8_valid(bytes, length)) { /* parts of characters */
        text_key(out, "bytes");
        write_token_bytes(server, piece->token, out);
    }
    text_member_bool(out, "prompt", piece->kind == PIECE_PROMPT);
    text_routes(out, &piece->routes);
    text_put(out, "}");
}

void write_routing(const serve_server *server, const generation_piece *pieces, int choice, bool one,
                   text_buffer *out)
{
    text_key(out, "routing");
    text_put(out, "{");
    text_member_integer(out, "moe_layers", server->info.moe_layers);
    text_member_integer(out, "experts", server->info.options.experts);
    text_key(out, "tokens");
    text_put(out, "[");
    for (; pieces != NULL; pieces = one ? NULL : pieces->next) {
        if (pieces->choice == choice && pieces->kind != PIECE_END) {
            write_routed_token(server, pieces, out);
        }
    }
    text_put(out, "]}");
}

void prompt_text(const serve_server *server, const generation_prompt *prompt, bool special,
                 text_buffer *out)
{
    char *text = NULL;
    size_t length = 0;
    if (mixt_tokenizer_decode(server->tokenizer, prompt->ids, prompt->count, special, &text,
                              &length, NULL) == MIXT_OK) {
        text_add_utf8(out, text, length);
    }
    free(text);
}

void prompt_texts_free(text_buffer *texts, size_t count)
{
    for (size_t i = 0; texts != NULL && i < count; i++) {
        text_free(&texts[i]);
    }
    free(texts);
}
