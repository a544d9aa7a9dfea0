#include "store.h"

#include <math.h>
#include <stdlib.h>

#include "server.h"

enum {
    SURVEY_LEAST = 2000, /* milliseconds that a survey is good for ... */
    SURVEY_PART = 20,    /* ... and at least so many times what it took: 5 % of a core */
};

/* ---- metrics */

static void write_sample(text_buffer *text, const char *name, const char *type, const char *help,
                         double value)
{
    if (isfinite(value)) { /* not known yet: no sample */
        text_format(text,
                    "# HELP mixt_store_%s %s\n# TYPE mixt_store_%s %s\n"
                    "mixt_store_%s ",
                    name, help, name, type, name);
        text_number(text, value);
        text_put(text, "\n");
    }
}

static void write_gauge(text_buffer *text, const char *name, const char *help, double value)
{
    write_sample(text, name, "gauge", help, value);
}

static void write_counter(text_buffer *text, const char *name, const char *help, double value)
{
    write_sample(text, name, "counter", help, value);
}

void store_metrics(const mixt_store_statistics *s, text_buffer *text)
{
    text_format(text,
                "# HELP mixt_store_info How experts are held.\n# TYPE mixt_store_info gauge\n"
                "mixt_store_info{policy=\"%s\",reader=\"%s\"} 1\n",
                s->policy, s->reader);
    write_gauge(text, "memory_bytes", "The limit.", (double)s->memory);
    write_gauge(text, "resident_bytes", "Weights that stay in memory.", (double)s->resident_bytes);
    write_gauge(text, "other_bytes", "Caches and plans.", (double)s->other_bytes);
    write_gauge(text, "pool_bytes", "Slots of experts.", (double)s->pool_bytes);
    write_gauge(text, "expert_bytes", "All experts in the files.", (double)s->expert_bytes);
    write_gauge(text, "token_bytes", "Experts that one token works with.", (double)s->token_bytes);
    write_gauge(text, "experts", "Experts in the files, all layers.", (double)s->experts);
    write_gauge(text, "slots", "Experts that memory holds at a time.", (double)s->slots);
    write_counter(text, "steps_total", "Forward passes.", (double)s->steps);
    write_counter(text, "rows_total", "Rows (tokens) in them.", (double)s->rows);
    write_counter(text, "requests_total", "Experts that layers of steps wanted.",
                  (double)s->requests);
    write_counter(text, "hits_total", "... that were there, or on their way by a prefetch.",
                  (double)s->hits);
    write_counter(text, "read_bytes_total", "Bytes read.", (double)s->bytes_read);
    write_counter(text, "step_seconds_total", "Time of steps.", s->seconds);
    write_counter(text, "disk_seconds_total", "Time in which a read was under way.",
                  s->disk_seconds);
    write_counter(text, "wait_seconds_total", "Time in which a step waited for reads alone.",
                  s->wait_seconds);
    write_counter(text, "prefetched_total", "Experts read before a router had chosen them.",
                  (double)s->prefetched);
    write_counter(text, "prefetch_used_total", "... that were chosen then.",
                  (double)s->prefetch_used);
    write_counter(text, "prefetch_wasted_bytes_total", "Bytes of those that were not.",
                  (double)s->prefetch_bytes_wasted);
    write_gauge(text, "prefetching", "Whether experts are read ahead now.", s->prefetching);
    write_gauge(text, "prefetch_recall", "Of a layer's choices, those that were foreseen.",
                s->prefetch_recall);
}

/* ---- what it does now */

static void write_statistics(const mixt_store_statistics *s, text_buffer *out)
{
    text_member_integer(out, "memory", (int64_t)s->memory);
    text_member_integer(out, "resident_bytes", (int64_t)s->resident_bytes);
    text_member_integer(out, "other_bytes", (int64_t)s->other_bytes);
    text_member_integer(out, "pool_bytes", (int64_t)s->pool_bytes);
    text_member_integer(out, "expert_bytes", (int64_t)s->expert_bytes);
    text_member_integer(out, "token_bytes", (int64_t)s->token_bytes);
    text_member_integer(out, "experts", s->experts);
    text_member_integer(out, "slots", s->slots);
    text_member(out, "policy", s->policy);
    text_member(out, "reader", s->reader);
    text_member_integer(out, "steps", (int64_t)s->steps);
    text_member_integer(out, "rows", (int64_t)s->rows);
    text_member_integer(out, "requests", (int64_t)s->requests);
    text_member_integer(out, "hits", (int64_t)s->hits);
    text_member_integer(out, "bytes_read", (int64_t)s->bytes_read);
    text_member_number(out, "seconds", s->seconds);
    text_member_number(out, "disk_seconds", s->disk_seconds);
    text_member_number(out, "wait_seconds", s->wait_seconds);
    text_member_integer(out, "prefetched", (int64_t)s->prefetched);
    text_member_integer(out, "prefetch_used", (int64_t)s->prefetch_used);
    text_member_integer(out, "prefetch_bytes_wasted", (int64_t)s->prefetch_bytes_wasted);
    text_member_bool(out, "prefetching", s->prefetching);
    text_member_number(out, "prefetch_recall", s->prefetch_recall);
}

static http_progress answer_store(api_call *call, http_reply *reply)
{
    mixt_store_statistics store;
    bool stored = mixt_store_describe(call->server->model, &store);
    text_put(&reply->body, "{");
    text_member_bool(&reply->body, "stored", stored);
    if (stored) {
        write_statistics(&store, &reply->body);
    }
    text_put(&reply->body, "}");
    return HTTP_ANSWERED;
}

/* ---- what is computed from its record */

static mixt_status write_curve(const mixt_model *model, text_buffer *out, mixt_error *error)
{
    mixt_store_point *points = NULL;
    int count, now;
    mixt_status status = mixt_store_curve(model, &points, &count, &now, error);
    if (status != MIXT_OK) {
        return status;
    }
    text_put(out, "{");
    text_member_integer(out, "now", now);
    text_key(out, "points");
    text_put(out, "[");
    for (int i = 0; i < count; i++) {
        const mixt_store_point *point = &points[i];
        text_comma(out);
        text_put(out, "{");
        text_member_integer(out, "slots", point->slots);
        text_member_integer(out, "memory", (int64_t)point->memory);
        text_member_number(out, "lru", point->lru);
        text_member_number(out, "lfu", point->lfu);
        text_member_number(out, "optimum", point->optimum);
        text_member_number(out, "own", point->own);
        text_member_number(out, "uniform", point->uniform);
        text_member_number(out, "rate", point->rate);
        text_put(out, "}");
    }
    text_put(out, "]}");
    free(points);
    return MIXT_OK;
}

static mixt_status write_report(const mixt_model *model, text_buffer *out, mixt_error *error)
{
    char *text = NULL;
    mixt_status status = mixt_store_report(model, &text, error);
    if (status == MIXT_OK) {
        text_put(out, text);
    }
    free(text);
    return status;
}

typedef mixt_status (*survey_writer)(const mixt_model *model, text_buffer *out, mixt_error *error);

/* On the surveyor's thread, which alone sees surveys. `nothing`: the reply where the model is not
 * stored. */
static http_progress answer_survey(api_call *call, store_survey *survey, survey_writer write,
                                   const char *nothing, http_reply *reply)
{
    mixt_store_statistics store;
    mixt_error error = MIXT_ERROR_INIT;
    int64_t begun = http_now();
    if (!mixt_store_describe(call->server->model, &store)) {
        text_put(&reply->body, nothing);
        return HTTP_ANSWERED;
    }
    int64_t good = SURVEY_PART * survey->took;
    if (survey->text.length == 0 || survey->text.failed ||
        begun - survey->made > (good > SURVEY_LEAST ? good : SURVEY_LEAST)) {
        text_free(&survey->text);
        mixt_status status = write(call->server->model, &survey->text, &error);
        survey->made = http_now();
        survey->took = survey->made - begun;
        if (status != MIXT_OK || survey->text.failed) {
            text_free(&survey->text);
            api_fail(&call->problem, 500, "internal_error", NULL, "%s",
                     status != MIXT_OK ? error.message : "no memory");
            return HTTP_ANSWERED;
        }
    }
    text_add(&reply->body, survey->text.bytes, survey->text.length);
    return HTTP_ANSWERED;
}

static http_progress answer_curve(api_call *call, http_reply *reply)
{
    return answer_survey(call, &call->server->curve, write_curve, "{\"points\":[]}", reply);
}

static http_progress answer_report(api_call *call, http_reply *reply)
{
    http_progress progress = answer_survey(
        call, &call->server->report, write_report,
        "The weights are in memory or mapped: no experts are read (mixt serve --memory).\n", reply);
    reply->content_type = "text/plain; charset=utf-8";
    return progress;
}

const api_route store_routes[] = {
    {.method = "GET", .path = "/v1/store", .answer = answer_store},
    {.method = "GET", .path = "/v1/store/curve", .answer = answer_curve, .slow = true},
    {.method = "GET", .path = "/v1/store/report", .answer = answer_report, .slow = true},
    {.method = NULL},
};
