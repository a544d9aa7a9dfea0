#include "metrics.h"

#include "store.h"

static const double bounds[METRICS_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                               1,     2.5,  5,     10,   30,  60,   300};

void metrics_create(serve_metrics *metrics)
{
    pthread_mutex_init(&metrics->lock, NULL);
}

void metrics_destroy(serve_metrics *metrics)
{
    pthread_mutex_destroy(&metrics->lock);
}

void metrics_request(serve_metrics *metrics, int status)
{
    int hundred = status / 100;
    metrics_add(metrics, &metrics->requests[hundred >= 1 && hundred <= 5 ? hundred : 0], 1);
}

void metrics_add(serve_metrics *metrics, uint64_t *counter, uint64_t value)
{
    pthread_mutex_lock(&metrics->lock);
    *counter += value;
    pthread_mutex_unlock(&metrics->lock);
}

void metrics_first_token(serve_metrics *metrics, double seconds)
{
    int bucket = 0;
    while (bucket < METRICS_BUCKETS && seconds > bounds[bucket]) {
        bucket++;
    }
    pthread_mutex_lock(&metrics->lock);
    metrics->first_token[bucket]++;
    metrics->first_token_sum += seconds;
    pthread_mutex_unlock(&metrics->lock);
}

void metrics_step(serve_metrics *metrics, double seconds)
{
    pthread_mutex_lock(&metrics->lock);
    metrics->steps++;
    metrics->step_seconds += seconds;
    pthread_mutex_unlock(&metrics->lock);
}

void metrics_order(serve_metrics *metrics, const uint64_t tokens[3], double prompt_seconds,
                   double drawn_seconds)
{
    pthread_mutex_lock(&metrics->lock);
    metrics->prompt_tokens += tokens[0];
    metrics->cached_tokens += tokens[1];
    metrics->drawn_tokens += tokens[2];
    metrics->prompt_seconds += prompt_seconds;
    metrics->drawn_seconds += drawn_seconds;
    pthread_mutex_unlock(&metrics->lock);
}

static void write_one(text_buffer *text, const char *name, const char *type, const char *help,
                      double value)
{
    text_format(text, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    text_number(text, value);
    text_put(text, "\n");
}

static void write_first_token(const serve_metrics *metrics, text_buffer *text)
{
    static const char name[] = "mixt_first_token_seconds";
    uint64_t sum = 0;
    text_format(text, "# HELP %s From a request's arrival to its first token.\n", name);
    text_format(text, "# TYPE %s histogram\n", name);
    for (int i = 0; i <= METRICS_BUCKETS; i++) {
        sum += metrics->first_token[i];
        text_format(text, "%s_bucket{le=\"", name);
        if (i < METRICS_BUCKETS) {
            text_number(text, bounds[i]);
        } else {
            text_put(text, "+Inf");
        }
        text_format(text, "\"} %llu\n", (unsigned long long)sum);
    }
    text_format(text, "%s_sum ", name);
    text_number(text, metrics->first_token_sum);
    text_format(text, "\n%s_count %llu\n", name, (unsigned long long)sum);
}

/* llama.cpp's names, for dashboards that know them, then our own. */
static void write_llama(const serve_metrics *metrics, const metrics_state *state, text_buffer *text)
{
    const mixt_engine_statistics *engine = state->engine;
    write_one(text, "llamacpp:prompt_tokens_total", "counter", "Prompt tokens processed.",
              (double)(metrics->prompt_tokens - metrics->cached_tokens));
    write_one(text, "llamacpp:prompt_seconds_total", "counter", "Prompt process time.",
              metrics->prompt_seconds);
    write_one(text, "llamacpp:tokens_predicted_total", "counter", "Generation tokens processed.",
              (double)metrics->drawn_tokens);
    write_one(text, "llamacpp:tokens_predicted_seconds_total", "counter", "Predict process time.",
              metrics->drawn_seconds);
    write_one(text, "llamacpp:n_decode_total", "counter", "Forward passes.",
              (double)metrics->steps);
    write_one(text, "llamacpp:prompt_tokens_seconds", "gauge", "Average prompt throughput.",
              metrics->prompt_seconds > 0
                  ? (double)(metrics->prompt_tokens - metrics->cached_tokens) /
                        metrics->prompt_seconds
                  : 0);
    write_one(text, "llamacpp:predicted_tokens_seconds", "gauge", "Average generation throughput.",
              metrics->drawn_seconds > 0 ? (double)metrics->drawn_tokens / metrics->drawn_seconds
                                         : 0);
    write_one(text, "llamacpp:requests_processing", "gauge", "Sequences that run.",
              engine->running);
    write_one(text, "llamacpp:requests_deferred", "gauge", "Sequences that wait.", engine->waiting);
}

void metrics_write(serve_metrics *metrics, const metrics_state *state, text_buffer *text)
{
    static const char *const kinds[6] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    const mixt_engine_statistics *engine = state->engine;
    pthread_mutex_lock(&metrics->lock);
    write_llama(metrics, state, text);
    text_put(text, "# HELP mixt_requests_total Requests by the status of their reply.\n"
                   "# TYPE mixt_requests_total counter\n");
    for (int i = 0; i < 6; i++) {
        text_format(text, "mixt_requests_total{status=\"%s\"} %llu\n", kinds[i],
                    (unsigned long long)metrics->requests[i]);
    }
    write_one(text, "mixt_requests_refused_busy_total", "counter", "Refused for a full queue.",
              (double)metrics->refused_busy);
    write_one(text, "mixt_requests_cancelled_total", "counter", "Whose client went away.",
              (double)metrics->cancelled);
    write_one(text, "mixt_requests_failed_total", "counter", "That failed at work.",
              (double)metrics->failed);
    write_one(text, "mixt_prompt_tokens_total", "counter", "Tokens of prompts.",
              (double)metrics->prompt_tokens);
    write_one(text, "mixt_cached_tokens_total", "counter", "... that were found in the cache.",
              (double)metrics->cached_tokens);
    write_one(text, "mixt_generated_tokens_total", "counter", "Tokens drawn.",
              (double)metrics->drawn_tokens);
    write_first_token(metrics, text);
    write_one(text, "mixt_steps_total", "counter", "Forward passes.", (double)metrics->steps);
    write_one(text, "mixt_step_seconds_total", "counter", "Time in them.", metrics->step_seconds);
    write_one(text, "mixt_rows_total", "counter", "Rows (tokens) of forward passes.",
              (double)engine->rows);
    write_one(text, "mixt_preemptions_total", "counter", "Sequences that gave their pages up.",
              (double)engine->preemptions);
    write_one(text, "mixt_cache_pages", "gauge", "Pages of the cache.", (double)engine->pages);
    write_one(text, "mixt_cache_pages_used", "gauge", "Pages that sequences hold.",
              (double)engine->pages_used);
    write_one(text, "mixt_cache_pages_kept", "gauge", "Pages kept for later prompts alone.",
              (double)engine->pages_kept);
    write_one(text, "mixt_cache_bytes", "gauge", "Bytes of the cache.",
              (double)engine->cache_bytes);
    write_one(text, "mixt_orders", "gauge", "Generations that wait or run.", state->orders);
    write_one(text, "mixt_connections", "gauge", "Open connections.", state->connections);
    write_one(text, "mixt_requests", "gauge", "Requests being answered.", state->requests);
    if (state->store != NULL) {
        store_metrics(state->store, text);
    }
    pthread_mutex_unlock(&metrics->lock);
}
