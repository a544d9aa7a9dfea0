/* The live record of routing. */
#include "server.h"

static http_progress answer_live(api_call *call, http_reply *reply)
{
    if (call->server->info.moe_layers == 0) {
        api_fail(&call->problem, 400, "invalid_value", NULL, "the model has no experts");
        return HTTP_ANSWERED;
    }
    call->listener = live_listen(call->server->live, call->request);
    if (call->listener == NULL) {
        call->problem.retry_after = 10;
        api_fail(&call->problem, 503, "too_many_listeners", NULL,
                 "too many listen to the live record already");
        return HTTP_ANSWERED;
    }
    reply->content_type = "text/event-stream";
    return HTTP_STREAMS;
}

const api_route routing_routes[] = {
    {.method = "GET", .path = "/v1/routing", .answer = answer_live},
    {.method = NULL},
};
