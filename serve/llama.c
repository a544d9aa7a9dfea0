/* llama.cpp's own endpoints. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "chat.h"

/* ---- completion */

typedef struct llama_choice {
    int drawn; /* tokens */
    bool has_new_line;
} llama_choice;

typedef struct llama_request {
    api_request common;
    const char *model;
    const json_t *prompt, *input_prefix;
    int n_probs;
    bool return_tokens, timings, progress, any_schema;
    size_t count; /* of prompts */
    text_buffer *said;
    llama_choice *choices; /* of a stream, so far */
} llama_request;

#define AT(member) offsetof(llama_request, member)

static const field_rule completion_fields[] = {
    {"model", FIELD_TEXT, AT(model), 0, 0, NULL},
    {"prompt", FIELD_VALUE, AT(prompt), 0, 0, NULL},
    {"n_predict", FIELD_LONG, AT(common.max_tokens), -1, INT_MAX, NULL},
    {"max_tokens", FIELD_LONG, AT(common.max_tokens), -1, INT_MAX, NULL},
    {"n_cmpl", FIELD_INT, AT(common.n), 1, 128, NULL},
    {"n", FIELD_INT, AT(common.n), 1, 128, NULL},
    {"n_probs", FIELD_INT, AT(n_probs), 0, 100, NULL},
    {"return_tokens", FIELD_BOOL, AT(return_tokens), 0, 0, NULL},
    {"timings_per_token", FIELD_BOOL, AT(timings), 0, 0, NULL},
    {"t_max_prompt_ms", FIELD_REFUSED, 0, 0, 0, NULL},
    {"post_sampling_probs", FIELD_REFUSED, 0, 0, 0,
     "probabilities are those of the model, before samplers"},
    {"response_fields", FIELD_REFUSED, 0, 0, 0, NULL},
    {"return_progress", FIELD_REFUSED, 0, 0, 0, NULL},
    {"image_data", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {"multimodal_data", FIELD_REFUSED, 0, 0, 0, "the model reads text"},
    {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
};

static void llama_free(void *settings)
{
    llama_request *request = settings;
    prompt_texts_free(request->said, request->count);
    free(request->choices);
    request_free(&request->common);
    free(request);
}

static bool read_prompts(api_call *call, generation_prompt **prompts, size_t *count)
{
    llama_request *request = call->settings;
    const serve_server *server = call->server;
    size_t most = (size_t)server->options->choices;
    if (!encode_prompts(server, request->prompt, most, prompts, count, &call->problem)) {
        return false;
    }
    request->count = *count;
    request->said = calloc(*count + 1, sizeof *request->said);
    if (request->said == NULL) {
        return api_fail(&call->problem, 503, "no_memory", NULL, "out of memory");
    }
    for (size_t i = 0; i < *count; i++) {
        prompt_text(server, &(*prompts)[i], false, &request->said[i]);
    }
    return true;
}

static void write_generation_settings(const api_call *call, text_buffer *out)
{
    const llama_request *request = call->settings;
    const mixt_sampler_options *sampler = &request->common.sampler;
    const mixt_sampling *sampling = &sampler->sampling;
    const generation_order *order = generation_order_of(call->generation);
    text_key(out, "generation_settings");
    text_put(out, "{");
    text_member_integer(out, "seed", request->common.seed);
    text_member_number(out, "temperature", sampling->temperature);
    text_member_number(out, "dynatemp_range", sampler->temperature_range);
    text_member_number(out, "dynatemp_exponent", sampler->temperature_exponent);
    text_member_integer(out, "top_k", sampling->top_k);
    text_member_number(out, "top_p", sampling->top_p);
    text_member_number(out, "min_p", sampling->min_p);
    text_member_number(out, "top_n_sigma", sampler->top_n_sigma);
    text_member_number(out, "xtc_probability", sampler->xtc_probability);
    text_member_number(out, "xtc_threshold", sampler->xtc_threshold);
    text_member_number(out, "typical_p", sampler->typical_p);
    text_member_integer(out, "repeat_last_n", sampling->repeat_last);
    text_member_number(out, "repeat_penalty", sampling->repeat_penalty);
    text_member_number(out, "presence_penalty", sampling->presence_penalty);
    text_member_number(out, "frequency_penalty", sampling->frequency_penalty);
    text_member_number(out, "dry_multiplier", sampler->dry_multiplier);
    text_member_number(out, "dry_base", sampler->dry_base);
    text_member_integer(out, "dry_allowed_length", sampler->dry_allowed_length);
    text_member_integer(out, "dry_penalty_last_n", sampler->dry_last);
    text_member_integer(out, "mirostat", sampler->mirostat);
    text_member_number(out, "mirostat_tau", sampler->mirostat_tau);
    text_member_number(out, "mirostat_eta", sampler->mirostat_eta);
    text_key(out, "stop");
    text_put(out, "[");
    for (size_t i = 0; i < order->stop_count; i++) {
        text_comma(out);
        text_json_string(out, order->stops[i]);
    }
    text_put(out, "]");
    text_member_integer(out, "max_tokens", order->max_tokens);
    text_member_integer(out, "n_predict", order->max_tokens);
    text_member_integer(out, "min_keep", sampler->min_keep);
    text_member_bool(out, "ignore_eos", sampler->ignore_end);
    text_member_bool(out, "stream", order->stream);
    text_member_integer(out, "n_probs", request->n_probs);
    text_put(out, "}");
}

static double milliseconds(int64_t from, int64_t to)
{
    return from > 0 && to > from ? 1e-3 * (double)(to - from) : 0;
}

static void write_timings(const generation_counts *counts, const generation_times *times,
                          text_buffer *out)
{
    double prompt = milliseconds(times->begun, times->first > 0 ? times->first : times->ended);
    double drawn = milliseconds(times->first, times->ended > 0 ? times->ended : generation_now());
    double prompt_n = (double)(counts->prompt_tokens - counts->cached_tokens);
    double drawn_n = (double)counts->drawn_tokens;
    double steps = drawn_n > 1 ? drawn_n - 1 : 0; /* the first is drawn from the prompt's logits */
    text_key(out, "timings");
    text_put(out, "{");
    text_member_number(out, "cache_n", (double)counts->cached_tokens);
    text_member_number(out, "prompt_n", prompt_n);
    text_member_number(out, "prompt_ms", prompt);
    text_member_number(out, "prompt_per_token_ms", prompt_n > 0 ? prompt / prompt_n : 0);
    text_member_number(out, "prompt_per_second", prompt > 0 ? 1000 * prompt_n / prompt : 0);
    text_member_number(out, "predicted_n", drawn_n);
    text_member_number(out, "predicted_ms", drawn);
    text_member_number(out, "predicted_per_token_ms", steps > 0 ? drawn / steps : 0);
    text_member_number(out, "predicted_per_second", drawn > 0 ? 1000 * steps / drawn : 0);
    text_put(out, "}");
}

static void write_probability(const serve_server *server, int32_t id, double logprob,
                              text_buffer *out)
{
    text_comma(out);
    text_put(out, "{");
    text_member_integer(out, "id", id);
    text_key(out, "token");
    write_token(server, id, out);
    text_key(out, "bytes");
    write_token_bytes(server, id, out);
    text_member_number(out, "logprob", logprob);
}

/* "completion_probabilities" of a choice's pieces, or of one piece. */
static void write_probabilities(const api_call *call, const generation_piece *pieces, int choice,
                                bool one, text_buffer *out)
{
    const llama_request *request = call->settings;
    if (request->n_probs <= 0) {
        return;
    }
    text_key(out, "completion_probabilities");
    text_put(out, "[");
    for (; pieces != NULL; pieces = one ? NULL : pieces->next) {
        if (pieces->choice != choice || pieces->kind != PIECE_TOKEN) {
            continue;
        }
        write_probability(call->server, pieces->token, pieces->logprob, out);
        text_key(out, "top_logprobs");
        text_put(out, "[");
        for (int i = 0; i < pieces->top_count && pieces->top_ids[i] >= 0; i++) {
            write_probability(call->server, pieces->top_ids[i], pieces->top_values[i], out);
            text_put(out, "}");
        }
        text_put(out, "]}");
    }
    text_put(out, "]");
}

static const char *stop_type(finish_reason finish)
{
    return finish == FINISH_END      ? "eos"
           : finish == FINISH_STOP   ? "word"
           : finish == FINISH_LENGTH ? "limit"
                                     : "none";
}

/* The members of a last object, behind its content and tokens. */
static void write_last(const api_call *call, const generation_piece *end, int drawn,
                       bool has_new_line, text_buffer *out)
{
    const llama_request *request = call->settings;
    const generation_order *order = generation_order_of(call->generation);
    const text_buffer *said = &request->said[end->choice / order->n];
    generation_counts counts;
    generation_times times;
    generation_describe(call->generation, &counts, &times);
    text_member_integer(out, "id_slot", end->choice);
    text_member_bool(out, "stop", true);
    text_member(out, "model", call_model(call, request->model));
    text_member_integer(out, "tokens_predicted", drawn);
    text_member_integer(out, "tokens_evaluated",
                        (int64_t)order->prompts[end->choice / order->n].count);
    write_generation_settings(call, out);
    text_key(out, "prompt");
    text_json(out, said->bytes != NULL ? said->bytes : "", said->length);
    text_member_bool(out, "has_new_line", has_new_line);
    text_member_bool(out, "truncated", false);
    text_member(out, "stop_type", stop_type(end->finish));
    text_member(out, "stopping_word", end->stop >= 0 ? order->stops[end->stop] : "");
    text_member_integer(out, "tokens_cached", (int64_t)counts.cached_tokens);
    write_timings(&counts, &times, out);
}

static void write_choice(const api_call *call, const generation_piece *pieces, int choice,
                         text_buffer *out)
{
    const llama_request *request = call->settings;
    const generation_piece *end = NULL;
    text_buffer text = {0}, tokens = {0};
    int drawn = 0;
    text_put(&text, "");
    text_put(&tokens, "[");
    for (const generation_piece *piece = pieces; piece != NULL; piece = piece->next) {
        if (piece->choice != choice) {
            continue;
        }
        text_add(&text, piece->text, piece->text_length);
        if (piece->kind == PIECE_TOKEN) {
            text_format(&tokens, drawn > 0 ? ",%d" : "%d", piece->token);
            drawn++;
        }
        end = piece->kind == PIECE_END ? piece : end;
    }
    text_put(&tokens, "]");
    text_put(out, "{");
    text_member_integer(out, "index", choice);
    text_key(out, "content");
    text_json(out, text.bytes != NULL ? text.bytes : "", text.length);
    text_key(out, "tokens");
    text_put(out, request->return_tokens && !tokens.failed ? tokens.bytes : "[]");
    if (end != NULL) {
        write_last(call, end, drawn, text.bytes != NULL && strchr(text.bytes, '\n') != NULL, out);
    }
    write_probabilities(call, pieces, choice, false, out);
    if (request->common.routing) {
        write_routing(call->server, pieces, choice, false, out);
    }
    text_put(out, "}");
    out->failed = out->failed || text.failed || tokens.failed;
    text_free(&text);
    text_free(&tokens);
}

static void llama_whole(api_call *call, const generation_piece *pieces, text_buffer *out)
{
    const generation_order *order = generation_order_of(call->generation);
    int count = (int)order->prompt_count * order->n;
    text_put(out, count > 1 ? "[" : "");
    for (int i = 0; i < count; i++) {
        text_put(out, i > 0 ? "," : "");
        write_choice(call, pieces, i, out);
    }
    text_put(out, count > 1 ? "]" : "");
}

static void llama_piece(api_call *call, const generation_piece *piece, text_buffer *out)
{
    llama_request *request = call->settings;
    const generation_order *order = generation_order_of(call->generation);
    bool last = piece->kind == PIECE_END;
    if (piece->kind == PIECE_PROMPT && !request->common.routing) {
        return;
    }
    llama_choice *choice = &request->choices[piece->choice];
    choice->drawn += piece->kind == PIECE_TOKEN;
    choice->has_new_line |= memchr(piece->text, '\n', piece->text_length) != NULL;
    text_put(out, "data: {");
    text_member_integer(out, "index", piece->choice);
    text_key(out, "content");
    text_json(out, piece->text, piece->text_length);
    text_key(out, "tokens");
    text_put(out, "[");
    if (piece->kind == PIECE_TOKEN) {
        text_format(out, "%d", piece->token);
    }
    text_put(out, "]");
    if (last) {
        write_last(call, piece, choice->drawn, choice->has_new_line, out);
    } else {
        text_member_bool(out, "stop", false);
        text_member_integer(out, "id_slot", piece->choice);
        text_member_integer(out, "tokens_predicted", choice->drawn);
        text_member_integer(out, "tokens_evaluated",
                            (int64_t)order->prompts[piece->choice / order->n].count);
        write_probabilities(call, piece, piece->choice, true, out);
        if (request->timings) {
            generation_counts counts;
            generation_times times;
            generation_describe(call->generation, &counts, &times);
            write_timings(&counts, &times, out);
        }
        if (request->common.routing) {
            write_routing(call->server, piece, piece->choice, true, out);
        }
    }
    text_put(out, "}\n\n");
}

static void llama_end(api_call *call, text_buffer *out)
{
    (void)call; /* a last object ends each choice */
    (void)out;
}

static void llama_failed(api_call *call, const api_problem *problem, text_buffer *out)
{
    (void)call;
    text_put(out, "data: ");
    write_problem(problem, out);
    text_put(out, "\n\n");
}

static const api_format llama_format = {
    .stream_type = "text/event-stream",
    .piece = llama_piece,
    .end = llama_end,
    .whole = llama_whole,
    .failed = llama_failed,
};

static http_progress no_memory(api_call *call)
{
    api_fail(&call->problem, 503, "no_memory", NULL, "out of memory");
    return HTTP_ANSWERED;
}

static http_progress answer_completion(api_call *call, http_reply *reply)
{
    static const field_rule *const tables[] = {completion_fields, request_fields, NULL};
    llama_request *request = calloc(1, sizeof *request);
    generation_prompt *prompts = NULL;
    generation_order order = {0};
    size_t count = 0;
    (void)reply;
    if (request == NULL) {
        return no_memory(call);
    }
    call->settings = request;
    call->settings_free = llama_free;
    request_defaults(&request->common, true);
    if (!fields_read(call->body, tables, request, &call->problem) ||
        !model_is_served(call->server, request->model, &call->problem) || !call_reserve(call)) {
        return HTTP_ANSWERED;
    }
    request->common.top_logprobs = request->n_probs > 0 ? request->n_probs : -1;
    bool good = read_prompts(call, &prompts, &count);
    if (!good) {
        order = (generation_order){.prompts = prompts, .prompt_count = count, .n = 1};
    } else {
        good =
            request_order(call->server, &request->common, prompts, count, &order, &call->problem);
    }
    request->choices = calloc(count * (size_t)request->common.n + 1, sizeof *request->choices);
    if (!good || request->choices == NULL) {
        generation_order_free(&order);
        return good ? no_memory(call) : HTTP_ANSWERED;
    }
    return call_generate(call, &order, &llama_format);
}

/* ---- tokens and texts */

typedef struct text_request {
    const char *content;
    const json_t *tokens, *messages, *tools, *variables;
    bool add_special, no_special, with_pieces, keep_special, generation_prompt;
} text_request;

#define IN_TEXT(member) offsetof(text_request, member)

static bool read_text(api_call *call, const field_rule *rules, text_request *request)
{
    const field_rule *const tables[] = {rules, NULL};
    return fields_read(call->body, tables, request, &call->problem);
}

static void write_ids(const serve_server *server, const int32_t *ids, size_t count, bool pieces,
                      text_buffer *out)
{
    for (size_t i = 0; i < count; i++) {
        text_comma(out);
        if (!pieces) {
            text_format(out, "%d", ids[i]);
            continue;
        }
        size_t length = 0;
        const char *bytes = mixt_tokenizer_bytes_of(server->tokenizer, ids[i], &length);
        text_put(out, "{");
        text_member_integer(out, "id", ids[i]);
        text_key(out, "piece");
        if (bytes != NULL && utf8_valid(bytes, length)) {
            text_json(out, bytes, length);
        } else {
            write_token_bytes(server, ids[i], out);
        }
        text_put(out, "}");
    }
}

static http_progress answer_tokenize(api_call *call, http_reply *reply)
{
    static const field_rule rules[] = {
        {"content", FIELD_TEXT, IN_TEXT(content), 0, 0, NULL},
        {"add_special", FIELD_BOOL, IN_TEXT(add_special), 0, 0, NULL},
        {"parse_special", FIELD_BOOL, IN_TEXT(keep_special), 0, 0, NULL},
        {"with_pieces", FIELD_BOOL, IN_TEXT(with_pieces), 0, 0, NULL},
        {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
    };
    text_request request = {.keep_special = true};
    const mixt_tokenizer *tokenizer = call->server->tokenizer;
    mixt_error error = MIXT_ERROR_INIT;
    int32_t *ids = NULL;
    size_t count = 0;
    if (!read_text(call, rules, &request)) {
        return HTTP_ANSWERED;
    }
    const char *content = request.content != NULL ? request.content : "";
    if (mixt_tokenizer_encode(tokenizer, content, strlen(content), request.keep_special, &ids,
                              &count, &error) != MIXT_OK) {
        api_fail(&call->problem, 400, "invalid_value", "content", "content: %.400s", error.message);
        return HTTP_ANSWERED;
    }
    int32_t first = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_BOS);
    int32_t last = mixt_tokenizer_around(tokenizer, MIXT_SPECIAL_EOS);
    text_put(&reply->body, "{\"tokens\":[");
    if (request.add_special && first >= 0) {
        write_ids(call->server, &first, 1, request.with_pieces, &reply->body);
    }
    write_ids(call->server, ids, count, request.with_pieces, &reply->body);
    if (request.add_special && last >= 0) {
        write_ids(call->server, &last, 1, request.with_pieces, &reply->body);
    }
    text_put(&reply->body, "]}");
    free(ids);
    return HTTP_ANSWERED;
}

static http_progress answer_detokenize(api_call *call, http_reply *reply)
{
    static const field_rule rules[] = {
        {"tokens", FIELD_VALUE, IN_TEXT(tokens), 0, 0, NULL},
        {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
    };
    text_request request = {0};
    text_buffer whole = {0};
    if (!read_text(call, rules, &request)) {
        return HTTP_ANSWERED;
    }
    size_t count = json_array_size(request.tokens), length = 0;
    int32_t *ids = calloc(count + 1, sizeof *ids);
    char *text = NULL;
    mixt_error error = MIXT_ERROR_INIT;
    bool good = ids != NULL && (request.tokens == NULL || json_is_array(request.tokens));
    for (size_t i = 0; good && i < count; i++) {
        json_int_t id = json_integer_value(json_array_get(request.tokens, i));
        good = json_is_integer(json_array_get(request.tokens, i)) && id >= 0 && id <= INT32_MAX;
        ids[i] = (int32_t)id;
    }
    if (!good || mixt_tokenizer_decode(call->server->tokenizer, ids, count, false, &text, &length,
                                       &error) != MIXT_OK) {
        api_fail(&call->problem, 400, "invalid_token", "tokens", "tokens: %.400s",
                 error.message[0] != 0 ? error.message : "an array of token ids is needed");
    } else {
        text_put(&reply->body, "{\"content\":");
        text_json(&reply->body, text, length);
        text_put(&reply->body, "}");
    }
    text_free(&whole);
    free(text);
    free(ids);
    return HTTP_ANSWERED;
}

static http_progress answer_apply_template(api_call *call, http_reply *reply)
{
    static const field_rule rules[] = {
        {"messages", FIELD_VALUE, IN_TEXT(messages), 0, 0, NULL},
        {"tools", FIELD_VALUE, IN_TEXT(tools), 0, 0, NULL},
        {"chat_template_kwargs", FIELD_VALUE, IN_TEXT(variables), 0, 0, NULL},
        {"add_generation_prompt", FIELD_BOOL, IN_TEXT(generation_prompt), 0, 0, NULL},
        {"chat_template", FIELD_REFUSED, 0, 0, 0, "templates are the server's"},
        {NULL, FIELD_IGNORED, 0, 0, 0, NULL},
    };
    text_request request = {.generation_prompt = true};
    if (!read_text(call, rules, &request)) {
        return HTTP_ANSWERED;
    }
    const chat_input input = {.messages = request.messages,
                              .tools = request.tools,
                              .variables = request.variables,
                              .no_generation_prompt = !request.generation_prompt};
    char *text = chat_render(call->server, &input, &call->problem);
    if (text != NULL) {
        text_put(&reply->body, "{");
        text_member(&reply->body, "prompt", text);
        text_put(&reply->body, "}");
    }
    free(text);
    return HTTP_ANSWERED;
}

/* ---- the server */

static http_progress answer_health(api_call *call, http_reply *reply)
{
    int state = atomic_load(&call->server->state);
    if (state != SERVER_READY) {
        call->problem.retry_after = 1;
        api_fail(&call->problem, 503, state == SERVER_LOADING ? "loading" : "draining", NULL, "%s",
                 state == SERVER_LOADING ? "Loading model" : "the server is stopping");
        return HTTP_ANSWERED;
    }
    text_put(&reply->body, "{\"status\":\"ok\"}");
    return HTTP_ANSWERED;
}

static bool is_on(api_call *call, bool on, const char *flag)
{
    return on || api_fail(&call->problem, 501, "not_supported", NULL,
                          "this endpoint is off (mixt serve --%s)", flag);
}

static http_progress answer_metrics(api_call *call, http_reply *reply)
{
    serve_server *server = call->server;
    mixt_engine_statistics engine;
    mixt_store_statistics store;
    if (is_on(call, server->options->metrics, "metrics")) {
        bool stored = mixt_store_describe(server->model, &store);
        generator_describe(server->generator, &engine);
        const metrics_state state = {.connections = http_connections(server->http),
                                     .requests = http_requests(server->http),
                                     .orders = generator_orders(server->generator),
                                     .engine = &engine,
                                     .store = stored ? &store : NULL};
        metrics_write(&server->metrics, &state, &reply->body);
        reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    }
    return HTTP_ANSWERED;
}

/* What a request may change of the routing, and what its record means: layers as the model numbers
 * them, in the order of the record. */
static void write_moe(const serve_server *server, text_buffer *out)
{
    const mixt_model_options *model = &server->info.options;
    int period = model->moe_period > 0 ? model->moe_period : 1;
    text_key(out, "moe");
    text_put(out, "{");
    text_key(out, "layers");
    text_put(out, "[");
    for (int i = 0; i < server->info.moe_layers; i++) {
        text_format(out, i > 0 ? ",%d" : "%d", model->leading_dense_layers + (i + 1) * period - 1);
    }
    text_put(out, "]");
    text_member_integer(out, "experts",
                        model->experts + model->identity_experts + model->zero_experts);
    text_member_integer(out, "identity_experts", model->identity_experts);
    text_member_integer(out, "zero_experts", model->zero_experts);
    text_member_integer(out, "experts_per_token", model->experts_per_token);
    text_member_integer(out, "experts_per_token_max", server_experts_most(server));
    text_member(out, "router_select", mixt_router_select_name(model->router.select));
    text_member(out, "held_out", server->info.held_out);
    text_member(out, "tokenizer_hash", mixt_tokenizer_hash(server->tokenizer));
    text_put(out, "}");
}

static http_progress answer_props(api_call *call, http_reply *reply)
{
    const serve_server *server = call->server;
    const mixt_sampling sampling = mixt_sampling_default();
    mixt_store_statistics store;
    text_buffer *out = &reply->body;
    if (!is_on(call, server->options->props, "props")) {
        return HTTP_ANSWERED;
    }
    text_put(out, "{\"default_generation_settings\":{");
    text_member_integer(out, "n_ctx", (int64_t)generator_context(server->generator));
    text_key(out, "params");
    text_put(out, "{");
    text_member_integer(out, "seed", -1); /* drawn */
    text_member_integer(out, "n_predict", -1);
    text_member_number(out, "temperature", sampling.temperature);
    text_member_integer(out, "top_k", sampling.top_k);
    text_member_number(out, "top_p", sampling.top_p);
    text_member_number(out, "min_p", sampling.min_p);
    text_member_integer(out, "repeat_last_n", sampling.repeat_last);
    text_member_number(out, "repeat_penalty", sampling.repeat_penalty);
    text_put(out, "}}");
    text_member_integer(out, "total_slots", generator_parallel(server->generator));
    text_member(out, "model_alias", server_name(server));
    text_member(out, "model_path", server->options->model_path);
    text_member(out, "chat_template",
                server->options->chat_template != NULL ? server->options->chat_template : "");
    text_key(out, "bos_token");
    text_json(out, server->bos.bytes, server->bos.length);
    text_key(out, "eos_token");
    text_json(out, server->eos.bytes, server->eos.length);
    text_key(out, "modalities");
    text_put(out, "{\"vision\":false,\"audio\":false}");
    text_member(out, "build_info", "mixt " MIXT_VERSION);
    text_member(out, "family", server->info.family);
    text_member_integer(out, "layers", server->info.options.layers);
    text_member_integer(out, "moe_layers", server->info.moe_layers);
    text_member_integer(out, "experts", server->info.options.experts);
    text_member_integer(out, "experts_per_token", server->info.options.experts_per_token);
    text_member(out, "routing", server->info.routing);
    text_member_bool(out, "stored", mixt_store_describe(server->model, &store));
    if (server->info.moe_layers > 0) {
        write_moe(server, out);
    }
    text_put(out, "}");
    return HTTP_ANSWERED;
}

typedef struct slots_writer {
    text_buffer *out;
    const serve_server *server;
    int count;
} slots_writer;

static void write_slot(void *user, const generation_view *view)
{
    slots_writer *writer = user;
    text_comma(writer->out);
    text_put(writer->out, "{");
    text_member_integer(writer->out, "id", writer->count++);
    text_member_integer(writer->out, "id_task", (int64_t)view->number);
    text_member_integer(writer->out, "n_ctx",
                        (int64_t)generator_context(writer->server->generator));
    text_member_bool(writer->out, "is_processing", view->begun);
    text_member_integer(writer->out, "choices",
                        (int64_t)view->order->prompt_count * view->order->n);
    text_member_integer(writer->out, "prompt_tokens", (int64_t)view->counts.prompt_tokens);
    text_member_integer(writer->out, "cached_tokens", (int64_t)view->counts.cached_tokens);
    text_key(writer->out, "next_token");
    text_put(writer->out, "[{");
    text_member_integer(writer->out, "n_decoded", (int64_t)view->counts.drawn_tokens);
    text_member_integer(writer->out, "n_remain",
                        view->order->max_tokens < 0 ? -1
                                                    : view->order->max_tokens * view->order->n *
                                                              (int64_t)view->order->prompt_count -
                                                          (int64_t)view->counts.drawn_tokens);
    text_member_bool(writer->out, "has_next_token", true);
    text_put(writer->out, "}]}");
}

/* What runs and waits, then free places up to --parallel. */
static http_progress answer_slots(api_call *call, http_reply *reply)
{
    slots_writer writer = {.out = &reply->body, .server = call->server};
    if (!is_on(call, call->server->options->slots, "slots")) {
        return HTTP_ANSWERED;
    }
    text_put(&reply->body, "[");
    generator_each(call->server->generator, write_slot, &writer);
    if (strstr(call->request->query, "fail_on_no_slot") != NULL &&
        writer.count >= generator_parallel(call->server->generator)) {
        api_fail(&call->problem, 503, "no_slot", NULL, "no slot is free");
        return HTTP_ANSWERED;
    }
    while (writer.count < generator_parallel(call->server->generator)) {
        text_comma(&reply->body);
        text_format(&reply->body,
                    "{\"id\":%d,\"id_task\":-1,\"n_ctx\":%zu,\"is_processing\":false}",
                    writer.count++, generator_context(call->server->generator));
    }
    text_put(&reply->body, "]");
    return HTTP_ANSWERED;
}

const api_route llama_routes[] = {
    {.method = "GET", .path = "/health", .answer = answer_health, .open = true, .always = true},
    {.method = "GET", .path = "/v1/health", .answer = answer_health, .open = true, .always = true},
    {.method = "GET", .path = "/metrics", .answer = answer_metrics},
    {.method = "GET", .path = "/props", .answer = answer_props},
    {.method = "GET", .path = "/slots", .answer = answer_slots},
    {.method = "POST", .path = "/completion", .answer = answer_completion, .body = true},
    {.method = "POST", .path = "/completions", .answer = answer_completion, .body = true},
    {.method = "POST", .path = "/tokenize", .answer = answer_tokenize, .body = true},
    {.method = "POST", .path = "/detokenize", .answer = answer_detokenize, .body = true},
    {.method = "POST", .path = "/apply-template", .answer = answer_apply_template, .body = true},
    {.method = NULL},
};
