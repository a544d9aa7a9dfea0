#include "worker.h"

#include <pthread.h>
#include <stdlib.h>

struct serve_worker {
    void (*work)(api_call *call);
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    api_call *first, *last;
    bool stopping;
};

static api_call *take(serve_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (worker->first == NULL && !worker->stopping) {
        pthread_cond_wait(&worker->changed, &worker->lock);
    }
    api_call *call = worker->first;
    if (call != NULL) {
        worker->first = call->next;
        worker->last = worker->first != NULL ? worker->last : NULL;
    }
    pthread_mutex_unlock(&worker->lock);
    return call;
}

static void *run(void *user)
{
    serve_worker *worker = user;
    for (api_call *call = take(worker); call != NULL; call = take(worker)) {
        worker->work(call);
        http_wake(call->request);
    }
    return NULL;
}

serve_worker *worker_create(void (*work)(api_call *call))
{
    serve_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        return NULL;
    }
    worker->work = work;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    if (pthread_create(&worker->thread, NULL, run, worker) != 0) {
        pthread_cond_destroy(&worker->changed);
        pthread_mutex_destroy(&worker->lock);
        free(worker);
        return NULL;
    }
    return worker;
}

void worker_add(serve_worker *worker, api_call *call)
{
    pthread_mutex_lock(&worker->lock);
    call->next = NULL;
    *(worker->last != NULL ? &worker->last->next : &worker->first) = call;
    worker->last = call;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

void worker_free(serve_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}
