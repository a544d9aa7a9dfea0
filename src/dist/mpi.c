/* The transport of MPI: a library of its own, libmixt-mpi.so, since the program needs no MPI to run
 * alone. One thread calls at a time. A rank that ends tells the others why before MPI ends them. A
 * message's tag is its length, so that no receive takes a longer one: Open MPI 4.1 writes all of a
 * long message behind the memory of a shorter receive, before it says that it was truncated. */
#include <mpi.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dist/transport.h"

/* MPI counts in int. */
#ifndef MIXT_MPI_CHUNK
#define MIXT_MPI_CHUNK ((size_t)1 << 30)
#endif
#ifndef MIXT_MPI_WRONG_SECONDS
#define MIXT_MPI_WRONG_SECONDS 0.25 /* after which a wait asks whether something else came */
#endif
/* Waiting: looks without a pause, then looks between which others may have the processor, then
 * sleeps of a twentieth of the time waited, which long transfers bear since a look moves what has
 * come in. The thread that looks beside other work sleeps likewise from the first look on. */
#define LOOKS 200
#define YIELD_SECONDS 2e-3
#define SLEEP_SECONDS 5e-5
#define SLEEP_SECONDS_MAX 1e-3
#define MOVE_BYTES 32768    /* from which a message is worth waking a thread */
#define NOTICE_LOOKS 32     /* after how many of them it looks for a rank's last word */
#define NOTICE_SECONDS 3.0  /* that a rank which ends waits for the others' */
#define FINALIZE_SECONDS 10 /* after which a rank that ends no longer waits for MPI */

/* What was started together: requests, whose rank and bytes are kept for its errors. */
typedef struct piece {
    int rank, bytes;
    bool receive;
} piece;

typedef struct request_list {
    struct request_list *next;
    int count, left;
    int asked, other; /* the receive that was asked about, -1: none, and the bytes that came */
    MPI_Request *requests;
    MPI_Status *statuses; /* of those that a look completed */
    int *done;
    piece *pieces;
} request_list;

typedef struct mpi_user {
    mixt_transport transport;
    MPI_Comm data, notices;
    MPI_Request notice; /* what a rank that ends says, from any of them */
    char heard[MIXT_TRANSPORT_TEXT], said[MIXT_TRANSPORT_TEXT];
    int heard_from;      /* the first of them, -1: none */
    bool *ended;         /* [count]: it said so */
    size_t chunk;        /* bytes of a piece */
    request_list *first; /* under way */
    bool initialised;    /* here, and not by the program that uses the library */
    bool broken;
    /* MPI moves long messages only while it is called: a thread does so where this rank has other
     * work between start and wait. Who holds the mutex calls MPI. */
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_t mover;
    bool has_mover, moving, leaving;
    double began;                     /* what the mover looks at */
    char failed[MIXT_TRANSPORT_TEXT]; /* what the mover met, or "" */
} mpi_user;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void rest(double seconds)
{
    nanosleep(&(struct timespec){0, (long)(1e9 * seconds)}, NULL);
}

static void rest_after(double waited)
{
    double pause = waited / 20;
    rest(pause < SLEEP_SECONDS       ? SLEEP_SECONDS
         : pause > SLEEP_SECONDS_MAX ? SLEEP_SECONDS_MAX
                                     : pause);
}

static void say_failed(int code, const char *what, char *text)
{
    char message[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, message, &length);
    snprintf(text, MIXT_TRANSPORT_TEXT, "%s: %.300s", what, message);
}

/* ------------------------------------------------------------------------------------------ */
/* Last words                                                                                 */

static void listen_on(mpi_user *self)
{
    MPI_Irecv(self->heard, sizeof self->heard, MPI_CHAR, MPI_ANY_SOURCE, 0, self->notices,
              &self->notice);
}

/* Whether a rank said that it ends. The first one's words are kept in `text`. */
static bool hear(mpi_user *self, char *text)
{
    int flag = 0;
    MPI_Status status;
    if (MPI_Test(&self->notice, &flag, &status) != MPI_SUCCESS || !flag) {
        return false;
    }
    self->heard[sizeof self->heard - 1] = 0;
    memcpy(text, self->heard, sizeof self->heard);
    self->ended[status.MPI_SOURCE] = true;
    self->heard_from = self->heard_from < 0 ? status.MPI_SOURCE : self->heard_from;
    listen_on(self);
    return true;
}

/* ------------------------------------------------------------------------------------------ */
/* Starting and waiting                                                                       */

static void free_list(request_list *list)
{
    if (list != NULL) {
        free(list->requests);
        free(list->statuses);
        free(list->done);
        free(list->pieces);
    }
    free(list);
}

static request_list *make_list(size_t count)
{
    request_list *list = calloc(1, sizeof *list);
    if (list != NULL) {
        list->asked = -1;
        list->requests = calloc(count, sizeof *list->requests);
        list->statuses = calloc(count, sizeof *list->statuses);
        list->done = calloc(count, sizeof *list->done);
        list->pieces = calloc(count, sizeof *list->pieces);
    }
    if (list == NULL || list->requests == NULL || list->statuses == NULL || list->done == NULL ||
        list->pieces == NULL) {
        free_list(list);
        return NULL;
    }
    return list;
}

static int start_piece(mpi_user *self, request_list *list, const mixt_message *message, size_t at)
{
    size_t bytes = message->bytes - at < self->chunk ? message->bytes - at : self->chunk;
    int count = (int)bytes, tag = (int)bytes, rank = message->rank;
    MPI_Request *request = &list->requests[list->count];
    char *data = (char *)message->data + at;
    list->pieces[list->count] = (piece){rank, count, message->receive};
    int code = message->receive ? MPI_Irecv(data, count, MPI_BYTE, rank, tag, self->data, request)
                                : MPI_Isend(data, count, MPI_BYTE, rank, tag, self->data, request);
    list->count += code == MPI_SUCCESS;
    list->left = list->count;
    return code;
}

static void *start_all(mpi_user *self, const mixt_message *messages, int count, char *text)
{
    size_t pieces = 0;
    int code = MPI_SUCCESS;
    for (int i = 0; i < count; i++) {
        pieces += (messages[i].bytes + self->chunk - 1) / self->chunk;
    }
    request_list *list = pieces < INT32_MAX ? make_list(pieces + 1) : NULL;
    if (list == NULL) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "mpi: no memory");
        return NULL;
    }
    /* Receives first: what arrives has its place then. */
    for (int receive = 1; receive >= 0; receive--) {
        for (int i = 0; i < count; i++) {
            size_t bytes = messages[i].receive == (receive == 1) ? messages[i].bytes : 0;
            for (size_t at = 0; at < bytes && code == MPI_SUCCESS; at += self->chunk) {
                code = start_piece(self, list, &messages[i], at);
            }
        }
    }
    list->next = self->first; /* its memory is MPI's, also where a later one could not start */
    self->first = list;
    if (code != MPI_SUCCESS) {
        say_failed(code, "mpi: cannot start a message", text);
        return NULL;
    }
    return list;
}

static void *mpi_start(void *user, const mixt_message *messages, int count, char *text)
{
    mpi_user *self = user;
    pthread_mutex_lock(&self->mutex);
    void *list = start_all(self, messages, count, text);
    pthread_mutex_unlock(&self->mutex);
    return list;
}

/* One look; false with a line where it cannot go on. */
static bool look(const mpi_user *self, request_list *list, char *text)
{
    int done = 0;
    int code = MPI_Testsome(list->count, list->requests, &done, list->done, list->statuses);
    list->left -= done != MPI_UNDEFINED ? done : list->left;
    if (code != MPI_SUCCESS) {
        for (int i = 0; code == MPI_ERR_IN_STATUS && i < done; i++) {
            int own = list->statuses[i].MPI_ERROR;
            code = own != MPI_SUCCESS && own != MPI_ERR_PENDING ? own : code;
        }
        say_failed(code, "mpi: a message failed", text);
        return false;
    }
    for (int i = 0, cancelled; list->asked >= 0 && done != MPI_UNDEFINED && i < done; i++) {
        if (list->done[i] == list->asked &&
            MPI_Test_cancelled(&list->statuses[i], &cancelled) == MPI_SUCCESS && cancelled) {
            const piece *p = &list->pieces[list->asked];
            snprintf(text, MIXT_TRANSPORT_TEXT, "rank %d sent %d bytes where rank %d expects %d",
                     p->rank, list->other, self->transport.rank, p->bytes);
            return false;
        }
    }
    return true;
}

/* Receives come first. */
static const piece *find_waited(const request_list *list)
{
    for (int i = 0; i < list->count; i++) {
        if (list->requests[i] != MPI_REQUEST_NULL) {
            return &list->pieces[i];
        }
    }
    return NULL;
}

/* Whether another message has come from the rank that is waited for than it is to send. One that no
 * receive has taken may as well be the next, behind a long one that is under way. But messages of a
 * rank come in their order: what it sent before has come too, and where the receive waits for it
 * still, it was not sent. MPI tells the two apart by ending the receive, which it does only where
 * no message has been found for it; hence once for each, and only after a time. */
static bool is_wrong(const mpi_user *self, request_list *list, char *text)
{
    const piece *p = find_waited(list);
    int flag = 0;
    MPI_Status status;
    if (p == NULL || !p->receive || p - list->pieces == list->asked ||
        MPI_Iprobe(p->rank, MPI_ANY_TAG, self->data, &flag, &status) != MPI_SUCCESS || !flag) {
        return false;
    }
    list->asked = (int)(p - list->pieces);
    list->other = status.MPI_TAG;
    return MPI_Cancel(&list->requests[list->asked]) == MPI_SUCCESS && !look(self, list, text);
}

static mixt_wait wait_for(mpi_user *self, request_list *list, double seconds, int *rank, char *text)
{
    request_list **at = &self->first;
    double started = 0;
    for (int64_t looks = 0;; looks++) {
        if (!look(self, list, text)) {
            *rank = -1;
            return MIXT_WAIT_LOST;
        }
        if (list->left == 0) {
            break;
        }
        if (seconds == 0) { /* somebody only looks */
            return MIXT_WAIT_LATE;
        }
        if (looks % NOTICE_LOOKS == NOTICE_LOOKS - 1 && hear(self, text)) {
            *rank = self->heard_from;
            return MIXT_WAIT_LOST;
        }
        started = looks == LOOKS ? now() : started;
        if (looks <= LOOKS) {
            continue;
        }
        double waited = now() - started;
        bool late = waited > seconds;
        if (late || waited > MIXT_MPI_WRONG_SECONDS) {
            *rank = find_waited(list)->rank;
        }
        if ((late || waited > MIXT_MPI_WRONG_SECONDS) && is_wrong(self, list, text)) {
            return MIXT_WAIT_LOST;
        }
        if (late) {
            return MIXT_WAIT_LATE;
        }
        if (waited > YIELD_SECONDS) {
            rest_after(waited);
        } else {
            sched_yield();
        }
    }
    while (*at != list) {
        at = &(*at)->next;
    }
    *at = list->next;
    free_list(list);
    return MIXT_WAIT_DONE;
}

/* Looks at all that is under way, until it is through or somebody waits for it. */
static void *move_on(void *context)
{
    mpi_user *self = context;
    pthread_mutex_lock(&self->mutex);
    while (!self->leaving) {
        if (!self->moving) {
            pthread_cond_wait(&self->work, &self->mutex);
            continue;
        }
        int left = 0;
        for (request_list *list = self->first; list != NULL && self->failed[0] == 0;
             list = list->next) {
            if (list->left > 0) {
                look(self, list, self->failed);
                left += list->left;
            }
        }
        self->moving = left > 0 && self->failed[0] == 0;
        double waited = now() - self->began;
        pthread_mutex_unlock(&self->mutex);
        rest_after(waited);
        pthread_mutex_lock(&self->mutex);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* Signals are the other threads'. */
static void start_mover(mpi_user *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    self->has_mover = pthread_create(&self->mover, NULL, move_on, self) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void stop_mover(mpi_user *self)
{
    pthread_mutex_lock(&self->mutex);
    self->leaving = true;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->mutex);
    if (self->has_mover) {
        pthread_join(self->mover, NULL);
    }
    self->has_mover = false;
}

static void mpi_move(void *user)
{
    mpi_user *self = user;
    bool is_long = false;
    for (int i = 0; self->first != NULL && i < self->first->count; i++) {
        is_long = is_long || self->first->pieces[i].bytes >= MOVE_BYTES;
    }
    if (!is_long) {
        return;
    }
    if (!self->has_mover) {
        start_mover(self);
    }
    pthread_mutex_lock(&self->mutex);
    self->began = now();
    self->moving = true;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->mutex);
}

static mixt_wait mpi_wait(void *user, void *request, double seconds, int *rank, char *text)
{
    mpi_user *self = user;
    mixt_wait waited = MIXT_WAIT_LOST;
    pthread_mutex_lock(&self->mutex);
    bool moving = self->moving;
    self->moving = false;
    if (self->failed[0] != 0) {
        *rank = -1;
        memcpy(text, self->failed, sizeof self->failed);
    } else {
        waited = wait_for(self, request, seconds, rank, text);
    }
    /* Another one is under way, or somebody only looked. Who waited too long gives up all. */
    bool goes_on = waited == MIXT_WAIT_DONE || (waited == MIXT_WAIT_LATE && seconds == 0);
    if (moving && goes_on && self->first != NULL) {
        self->moving = true;
        pthread_cond_signal(&self->work);
    }
    pthread_mutex_unlock(&self->mutex);
    return waited;
}

/* ------------------------------------------------------------------------------------------ */
/* Ending                                                                                     */

static bool all_ended(const mpi_user *self)
{
    for (int rank = 0; rank < self->transport.count; rank++) {
        if (!self->ended[rank] && rank != self->transport.rank) {
            return false;
        }
    }
    return true;
}

/* Says why, and waits until all others have said that they end too: their lines are written by
 * then, and all leave in order. Else MPI ends them. */
static void mpi_abort(void *user, const char *why)
{
    mpi_user *self = user;
    char text[MIXT_TRANSPORT_TEXT];
    double started = now();
    self->broken = true;
    stop_mover(self);
    /* Their memory may be free by now. */
    for (request_list *list = self->first; list != NULL; list = list->next) {
        for (int i = 0; i < list->count; i++) {
            if (list->pieces[i].receive && list->requests[i] != MPI_REQUEST_NULL) {
                MPI_Cancel(&list->requests[i]);
            }
        }
    }
    snprintf(self->said, sizeof self->said, "%s", why);
    for (int rank = 0; rank < self->transport.count; rank++) {
        MPI_Request request;
        if (rank != self->transport.rank && MPI_Isend(self->said, sizeof self->said, MPI_CHAR, rank,
                                                      0, self->notices, &request) == MPI_SUCCESS) {
            MPI_Request_free(&request);
        }
    }
    while (!all_ended(self) && now() - started < NOTICE_SECONDS) {
        if (!hear(self, text)) {
            rest(SLEEP_SECONDS);
        }
    }
    if (!all_ended(self)) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

static void *end_late(void *unused)
{
    (void)unused;
    sleep(FINALIZE_SECONDS);
    _exit(1);
}

static void mpi_close(void *user)
{
    mpi_user *self = user;
    pthread_t thread;
    stop_mover(self);
    if (self->broken && pthread_create(&thread, NULL, end_late, NULL) == 0) {
        pthread_detach(thread);
    }
    if (self->notice != MPI_REQUEST_NULL) {
        MPI_Cancel(&self->notice);
        MPI_Request_free(&self->notice);
    }
    if (!self->broken) {
        MPI_Comm_free(&self->notices);
        MPI_Comm_free(&self->data);
    }
    if (self->initialised) {
        MPI_Finalize();
    }
    while (self->first != NULL) {
        request_list *next = self->first->next;
        free_list(self->first);
        self->first = next;
    }
    pthread_cond_destroy(&self->work);
    pthread_mutex_destroy(&self->mutex);
    free(self->ended);
    free(self);
}

/* ------------------------------------------------------------------------------------------ */
/* Opening                                                                                    */

static int open_communicators(mpi_user *self)
{
    int *largest_tag, there = 0;
    int code = MPI_Comm_dup(MPI_COMM_WORLD, &self->data);
    code = code == MPI_SUCCESS ? MPI_Comm_dup(MPI_COMM_WORLD, &self->notices) : code;
    if (code == MPI_SUCCESS) {
        MPI_Comm_set_errhandler(self->data, MPI_ERRORS_RETURN);
        MPI_Comm_set_errhandler(self->notices, MPI_ERRORS_RETURN);
        MPI_Comm_rank(self->data, &self->transport.rank);
        MPI_Comm_size(self->data, &self->transport.count);
        code = MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &largest_tag, &there);
        self->chunk = MIXT_MPI_CHUNK;
        if (!there || (size_t)*largest_tag < self->chunk) {
            self->chunk = there ? (size_t)*largest_tag : 32767; /* what all of MPI has */
        }
    }
    return code;
}

static const mixt_transport *give_up(mpi_user *self)
{
    if (self->initialised) {
        MPI_Finalize();
    }
    free(self);
    return NULL;
}

__attribute__((visibility("default"))) const mixt_transport *mixt_transport_open(char *text);

const mixt_transport *mixt_transport_open(char *text)
{
    mpi_user *self = calloc(1, sizeof *self);
    int there = 0, provided = MPI_THREAD_SINGLE, code = MPI_SUCCESS;
    if (self == NULL) {
        snprintf(text, MIXT_TRANSPORT_TEXT, "mpi: no memory");
        return NULL;
    }
    MPI_Initialized(&there);
    if (!there) {
        code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided);
        self->initialised = code == MPI_SUCCESS;
    }
    if (there) {
        MPI_Query_thread(&provided);
    }
    if (code == MPI_SUCCESS && provided < MPI_THREAD_SERIALIZED) {
        snprintf(text, MIXT_TRANSPORT_TEXT,
                 "mpi: threads may not call it in turns (MPI_THREAD_SERIALIZED), as ranks do");
        return give_up(self);
    }
    code = code == MPI_SUCCESS ? open_communicators(self) : code;
    self->ended =
        code == MPI_SUCCESS ? calloc((size_t)self->transport.count, sizeof *self->ended) : NULL;
    if (self->ended == NULL) {
        say_failed(code, "mpi", text);
        return give_up(self);
    }
    self->heard_from = -1;
    self->transport.version = MIXT_TRANSPORT_VERSION;
    self->transport.user = self;
    self->transport.start = mpi_start;
    self->transport.wait = mpi_wait;
    self->transport.abort = mpi_abort;
    self->transport.close = mpi_close;
    self->transport.move = mpi_move;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->work, NULL);
    listen_on(self);
    return &self->transport;
}
