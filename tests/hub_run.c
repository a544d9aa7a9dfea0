/* Ranks as threads, and as processes. */
#include "hub.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "build_folder.h"
#include "core/files.h"

#define TIMEOUT 30.0
#define LIMIT 120.0
#define PROCESS_TIMEOUT 300.0 /* of processes that wait for what the first one does alone */

void hub_check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, condition);
    _Exit(1);
}

/* ------------------------------------------------------------------------------------------ */
/* Processes that a launcher started                                                          */

static mixt_ranks *launched; /* from the first question to the program's end */
static int runs;

static void leave(void)
{
    if (hub_process() == 0) {
        printf("%d runs of %d processes\n", runs, hub_ranks(1));
    }
    mixt_ranks_close(launched, NULL);
}

/* NULL: this program runs alone. */
static mixt_ranks *find_launched(void)
{
    if (launched == NULL && mixt_ranks_launched() > 1) {
        mixt_error error = MIXT_ERROR_INIT;
        mixt_ranks_options options = mixt_ranks_options_default();
        options.timeout = PROCESS_TIMEOUT;
        if (mixt_ranks_open(&options, &launched, &error) != MIXT_OK) {
            fprintf(stderr, "%s\n", error.message);
            _Exit(1);
        }
        atexit(leave);
    }
    return launched;
}

/* All processes end with one that failed: they would wait for it. */
static void must_go_on(mixt_status status, const mixt_error *error)
{
    if (status != MIXT_OK) {
        fprintf(stderr, "rank %d: %s\n", hub_process(), error->message);
        mixt_ranks_close(launched, error->message);
        _Exit(1);
    }
}

int hub_process(void)
{
    return find_launched() != NULL ? mixt_ranks_rank(launched) : 0;
}

int hub_ranks(int count)
{
    return find_launched() != NULL ? mixt_ranks_count(launched) : count;
}

bool hub_has(int count)
{
    return hub_ranks(count) == count;
}

void hub_only(void)
{
    if (find_launched() != NULL) {
        skip();
    }
}

void hub_gather(void *results, size_t bytes)
{
    if (find_launched() != NULL) {
        mixt_error error = MIXT_ERROR_INIT;
        void *own = malloc(bytes);
        assert_non_null(own);
        memcpy(own, (char *)results + (size_t)hub_process() * bytes, bytes);
        must_go_on(mixt_ranks_gather(launched, MIXT_GROUP_ALL, own, bytes, results, &error),
                   &error);
        free(own);
    }
}

void hub_tell(void *data, size_t bytes)
{
    if (find_launched() != NULL) {
        mixt_error error = MIXT_ERROR_INIT;
        must_go_on(mixt_ranks_broadcast(launched, MIXT_GROUP_ALL, 0, data, bytes, &error), &error);
    }
}

void hub_meet(void)
{
    if (find_launched() != NULL) {
        mixt_error error = MIXT_ERROR_INIT;
        must_go_on(mixt_ranks_barrier(launched, MIXT_GROUP_ALL, &error), &error);
    }
}

void hub_alone(hub_function function, void *user)
{
    mixt_error error = MIXT_ERROR_INIT;
    if (hub_process() == 0 && function(NULL, 0, user, &error) != MIXT_OK) {
        must_go_on(find_launched() != NULL ? error.status : MIXT_OK, &error);
        fail_msg("%s", error.message);
    }
}

static void run_process(hub_function function, void *user)
{
    mixt_error error = MIXT_ERROR_INIT;
    launched->agreed = false; /* what an earlier run refused */
    must_go_on(function(launched, hub_process(), user, &error), &error);
    hub_meet();
    runs++;
}

/* ------------------------------------------------------------------------------------------ */
/* Threads                                                                                    */

typedef struct member_group {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    int running;
} member_group;

typedef struct member {
    pthread_t thread;
    member_group *group;
    hub *hub;
    int rank;
    bool ended;
    double timeout;
    hub_function function;
    void *user;
    mixt_error *error;
} member;

static void *run_member(void *context)
{
    member *m = context;
    char text[MIXT_TRANSPORT_TEXT] = "";
    const mixt_transport *transport = hub_join(m->hub, m->rank, text);
    mixt_ranks *ranks = NULL;
    HUB_CHECK(transport != NULL);
    HUB_CHECK(mixt_ranks_create(transport, m->timeout, &ranks, m->error) == MIXT_OK);
    mixt_status status = m->function(ranks, m->rank, m->user, m->error);
    HUB_CHECK(status == m->error->status);
    mixt_ranks_close(ranks, status == MIXT_OK ? NULL : m->error->message);
    transport->close(transport->user);
    pthread_mutex_lock(&m->group->mutex);
    m->ended = true;
    m->group->running--;
    pthread_cond_signal(&m->group->ended);
    pthread_mutex_unlock(&m->group->mutex);
    return NULL;
}

/* Ends the program where they do not end. */
static void await(member_group *group, const member *members, const hub_options *options)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(options->limit > 0 ? options->limit : LIMIT);
    pthread_mutex_lock(&group->mutex);
    while (group->running > 0) {
        if (pthread_cond_timedwait(&group->ended, &group->mutex, &until) == ETIMEDOUT) {
            for (int rank = 0; rank < options->count; rank++) {
                if (!members[rank].ended) {
                    fprintf(stderr, "rank %d hangs\n", rank);
                }
            }
            _Exit(1);
        }
    }
    pthread_mutex_unlock(&group->mutex);
}

void hub_run_with(const hub_options *options, hub_function function, void *user, mixt_error *errors)
{
    member_group group = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, options->count};
    member *members = calloc((size_t)options->count, sizeof *members);
    hub *made = hub_create(options, NULL);
    assert_non_null(made);
    assert_non_null(members);
    for (int rank = 0; rank < options->count; rank++) {
        errors[rank] = (mixt_error)MIXT_ERROR_INIT;
        members[rank] = (member){.group = &group,
                                 .hub = made,
                                 .rank = rank,
                                 .timeout = options->timeout > 0 ? options->timeout : TIMEOUT,
                                 .function = function,
                                 .user = user,
                                 .error = &errors[rank]};
        assert_int_equal(pthread_create(&members[rank].thread, NULL, run_member, &members[rank]),
                         0);
    }
    await(&group, members, options);
    for (int rank = 0; rank < options->count; rank++) {
        pthread_join(members[rank].thread, NULL);
    }
    hub_free(made);
    free(members);
}

void hub_run(int count, hub_function function, void *user)
{
    mixt_error errors[HUB_RANKS_MAX];
    if (find_launched() != NULL) {
        assert_true(hub_has(count));
        run_process(function, user);
        return;
    }
    hub_run_with(&(hub_options){.count = count}, function, user, errors);
    for (int rank = 0; rank < count; rank++) {
        if (errors[rank].status != MIXT_OK) {
            fail_msg("rank %d: %s", rank, errors[rank].message);
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Processes                                                                                  */

struct hub_processes {
    hub *hub;
    char *folder; /* made here, or NULL */
    char *file;
    int count, running;
    pid_t ids[HUB_RANKS_MAX]; /* 0: it ended */
    int statuses[HUB_RANKS_MAX];
};

static void set_number(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

/* In the child. */
static _Noreturn void become(const hub_processes *p, int rank, char *const arguments[],
                             const char *folder)
{
    char library[BUILT_PATH_MAX], output[BUILT_PATH_MAX + 32];
    if (find_built("tests/hub.so", library)) {
        setenv("MIXT_TRANSPORT", library, 1);
    }
    setenv("HUB_FILE", p->file, 1);
    set_number("HUB_RANK", rank);
    set_number("MIXT_RANKS", p->count);
    if (folder != NULL) {
        snprintf(output, sizeof output, "%s/rank-%d.txt", folder, rank);
        int file = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0) {
            _exit(126);
        }
    }
    execvp(arguments[0], arguments);
    fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
    _exit(127);
}

hub_processes *hub_start(const hub_options *options, char *const arguments[], const char *folder)
{
    hub_processes *p = calloc(1, sizeof *p);
    char own[] = "/tmp/mixt-hub-XXXXXX";
    if (p == NULL || (folder == NULL && mkdtemp(own) == NULL)) {
        free(p);
        return NULL;
    }
    p->folder = folder == NULL ? strdup(own) : NULL;
    p->file = mixt_path_join(folder != NULL ? folder : own, "hub");
    p->hub = p->file != NULL ? hub_create(options, p->file) : NULL;
    p->count = p->running = options->count;
    if (p->hub == NULL) {
        fprintf(stderr, "hub: cannot make its region in %s\n", folder != NULL ? folder : own);
        exit(1);
    }
    fflush(NULL);
    for (int rank = 0; rank < p->count; rank++) {
        p->ids[rank] = fork();
        if (p->ids[rank] == 0) {
            become(p, rank, arguments, folder);
        }
    }
    return p;
}

void hub_signal(hub_processes *p, int rank, int number)
{
    if (p->ids[rank] > 0) {
        kill(p->ids[rank], number);
    }
}

/* Looks after those that ended. */
static void reap(hub_processes *p)
{
    for (int rank = 0; rank < p->count; rank++) {
        int status;
        if (p->ids[rank] > 0 && waitpid(p->ids[rank], &status, WNOHANG) == p->ids[rank]) {
            p->ids[rank] = 0;
            p->running--;
            p->statuses[rank] = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
            hub_bury(p->hub, rank);
        }
    }
}

bool hub_wait(hub_processes *p, double seconds, int *statuses)
{
    bool ended = true;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (p->running > 0) {
        reap(p);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((double)(now.tv_sec - begin.tv_sec) > seconds && p->running > 0) {
            ended = false;
            for (int rank = 0; rank < p->count; rank++) {
                hub_signal(p, rank, SIGKILL);
            }
        }
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    memcpy(statuses, p->statuses, (size_t)p->count * sizeof *statuses);
    hub_free(p->hub);
    unlink(p->file);
    if (p->folder != NULL) {
        rmdir(p->folder);
    }
    free(p->folder);
    free(p->file);
    free(p);
    return ended;
}
