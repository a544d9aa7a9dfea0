/* The thread that reads bodies: JSON, templates, tokens and grammars of a long request may take
 * seconds, for which neither the event loop nor the engine can wait. It alone encodes. */
#ifndef MIXT_SERVE_WORKER_H
#define MIXT_SERVE_WORKER_H

#include "server.h"

/* `work` is done for each call in turn, whose request sleeps and is woken behind it. NULL: no
 * memory or no thread. */
serve_worker *worker_create(void (*work)(api_call *call));
void worker_add(serve_worker *worker, api_call *call);
/* Nothing may be left to do. */
void worker_free(serve_worker *worker);

#endif
