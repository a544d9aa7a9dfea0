/* Runs the cells of a study, several at once, each in a child. Children die with the study: they
 * wait for the end of a pipe that it holds, so that a study that was killed leaves nobody behind
 * who would train on in a folder that the next one goes on with. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "study.h"
#include "terminal.h"

enum { LOOK_MILLISECONDS = 250 };

static int alive[2] = {-1, -1}; /* nobody writes into it */

static void *watch_parent(void *user)
{
    char byte;
    ssize_t got;
    (void)user;
    do {
        got = read(alive[0], &byte, 1);
    } while (got < 0 && errno == EINTR);
    _exit(128 + SIGKILL);
}

static void begin_child(const int streams[2])
{
    int nothing = open("/dev/null", O_RDONLY);
    pthread_t watcher;
    setpgid(0, 0); /* Ctrl-C is the study's, which passes it on */
    if (nothing >= 0) {
        dup2(nothing, STDIN_FILENO);
    }
    dup2(streams[0], STDOUT_FILENO);
    dup2(streams[1], STDERR_FILENO);
    if (alive[1] >= 0) {
        close(alive[1]);
        if (pthread_create(&watcher, NULL, watch_parent, NULL) == 0) {
            pthread_detach(watcher);
        }
    }
}

pid_t study_fork(study_child_work work, void *user, const int streams[2])
{
    fflush(stdout);
    fflush(stderr);
    pid_t child = fork();
    if (child == 0) {
        interrupt_end();
        interrupt_clear();
        begin_child(streams);
        int status = work(user);
        fflush(stdout);
        fflush(stderr);
        _exit(status);
    }
    return child;
}

/* ---- what the folder holds */

/* The first line in which two texts differ, as "now" and "before". */
static void first_difference(const char *now, const char *before, char line[2][200])
{
    for (;;) {
        size_t a = strcspn(now, "\n"), b = strcspn(before, "\n");
        if (a != b || memcmp(now, before, a) != 0 || now[a] == 0 || before[b] == 0) {
            snprintf(line[0], 200, "%.*s", (int)(a < 199 ? a : 199), now);
            snprintf(line[1], 200, "%.*s", (int)(b < 199 ? b : 199), before);
            return;
        }
        now += a + 1;
        before += b + 1;
    }
}

/* Is there a run of somebody else? A folder without anything in it is ours, of a study that was
 * killed there. */
static bool holds_run(const char *folder)
{
    static const char *const names[] = {"train.conf", "config.json", "model", "log.jsonl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[400];
        if (files_join(path, sizeof path, folder, names[i]) && files_exist(path)) {
            return true;
        }
    }
    return false;
}

/* A run that began with other settings is not this one: refused by name, or removed. */
static bool settle_run(study *s, study_cell *cell, size_t seed, bool redo)
{
    char folder[300], path[400], what[200], *before = NULL, line[2][200];
    size_t length = 0, had = 0;
    char *now = study_config(s, cell, seed, &length);
    study_run_folder(s, cell, seed, folder);
    snprintf(path, sizeof path, "%s/cell.conf", folder);
    if (now == NULL) {
        return study_no_memory(s);
    }
    bool there = files_exist(path), good = true;
    if (there && files_read(path, 1 << 20, &before, &had, what) != MIXT_OK) {
        good = study_refuse(s, 0, "%s: %s", path, what);
    }
    if (good && there && strcmp(before, now) != 0 && redo) {
        files_remove_inside(folder, "cell.conf"); /* goes last: it says that the folder is ours */
        files_remove(folder);
        there = false;
    } else if (good && there && strcmp(before, now) != 0) {
        first_difference(now, before, line);
        good = study_refuse(s, cell->line,
                            "the cell %s (%s) began with other settings: \"%s\", now \"%s\"; "
                            "use another --out, or --redo to train it anew",
                            cell->name, folder, line[1], line[0]);
    } else if (good && !there && holds_run(folder)) {
        good = study_refuse(s, 0, "%s: is there already and of no study", folder);
    }
    if (good && !there) {
        good = files_make_folder(folder) && files_replace(path, now, length);
        good = good || study_refuse(s, 0, "%s: %s", path, strerror(errno));
    }
    free(before);
    free(now);
    return good;
}

/* ---- children */

typedef struct job {
    study_cell *cell;
    size_t seed;
    pid_t child; /* 0: free */
} job;

typedef struct runner {
    study *s;
    const study_settings *settings;
    job jobs[256];
    int job_count, threads;
    bool stopping;
    double before; /* FLOPs that were done when this process began */
    progress_line progress;
} runner;

typedef struct child_work {
    const study *s;
    const job *job;
    int threads;
} child_work;

static int work_on(void *user)
{
    const child_work *w = user;
    return study_work(w->s, w->job->cell, w->job->seed, w->threads);
}

static study_run *run_of(const job *j)
{
    return &j->cell->runs[j->seed];
}

/* FLOPs of a run; what it has done of them. */
static double cost_of(const study_cell *cell)
{
    return cell->steps * cell->tokens_per_step * cell->training_flops;
}

/* The last part of a run is what its scores and trace take, roughly. */
static double done_of(const study *s, const study_cell *cell, size_t seed)
{
    const double scores = 0.15;
    if (cell->runs[seed].finished || !(cell->steps > 0)) {
        return cost_of(cell);
    }
    double share = (double)study_steps_done(s, cell, seed) / cell->steps;
    return cost_of(cell) * (1 - scores) * (share < 1 ? share : 1);
}

static double total_done(const study *s, double *all, size_t *finished, size_t *runs)
{
    double done = 0;
    *all = 0;
    *finished = *runs = 0;
    for (size_t c = 0; c < s->cell_count; c++) {
        for (size_t k = 0; k < s->seed_count; k++) {
            const study_cell *cell = &s->cells[c];
            bool failed = cell->runs[k].failure != NULL;
            *all += failed ? 0 : cost_of(cell);
            done += failed ? 0 : done_of(s, cell, k);
            *finished += cell->runs[k].finished;
            ++*runs;
        }
    }
    return done;
}

static void draw(runner *r)
{
    double all, elapsed = terminal_seconds() - r->progress.started;
    size_t finished, runs;
    double done = total_done(r->s, &all, &finished, &runs), gained = done - r->before;
    char detail[300], left[24];
    format_seconds(gained > 0 ? elapsed * (all - done) / gained : INFINITY, left);
    int used = snprintf(detail, sizeof detail, "%zu of %zu runs, %s left:", finished, runs, left);
    for (int i = 0; i < r->job_count && used < 250; i++) {
        if (r->jobs[i].child != 0) {
            used +=
                snprintf(detail + used, sizeof detail - (size_t)used, " %.60s-seed%llu",
                         r->jobs[i].cell->name, (unsigned long long)r->s->seeds[r->jobs[i].seed]);
        }
    }
    progress_draw(&r->progress, all > 0 ? done / all : 1, detail);
}

static const char *last_line(study *s, const char *path)
{
    char *text, what[200];
    size_t length;
    if (files_read(path, 1 << 26, &text, &length, what) != MIXT_OK) {
        return NULL;
    }
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ')) {
        text[--length] = 0;
    }
    size_t begin = length;
    while (begin > 0 && text[begin - 1] != '\n' && text[begin - 1] != '\r') {
        begin--;
    }
    size_t size = length - begin < 400 ? length - begin : 400;
    const char *line = size > 0 ? study_keep(s, text + begin, size) : NULL;
    free(text);
    return line;
}

static bool start(runner *r, job *j)
{
    char folder[300], path[400];
    study_run_folder(r->s, j->cell, j->seed, folder);
    snprintf(path, sizeof path, "%s/output.txt", folder);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file < 0) {
        return study_refuse(r->s, 0, "%s: %s", path, strerror(errno));
    }
    child_work w = {r->s, j, r->threads};
    j->child = study_fork(work_on, &w, (int[2]){file, file});
    close(file);
    if (j->child < 0) {
        j->child = 0;
        return study_refuse(r->s, 0, "no process for %s: %s", j->cell->name, strerror(errno));
    }
    return true;
}

/* A child ended: its result, or why there is none. */
static bool settle(runner *r, job *j, int status)
{
    study *s = r->s;
    study_run *run = run_of(j);
    char folder[300], path[400], text[600];
    j->child = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_DONE) {
        return study_read_run(s, j->cell, j->seed);
    }
    if (r->stopping) {
        return true;
    }
    study_run_folder(s, j->cell, j->seed, folder);
    snprintf(path, sizeof path, "%s/output.txt", folder);
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "ended by signal %d; the same command goes on",
                 WTERMSIG(status));
    } else {
        const char *line = last_line(s, path);
        snprintf(text, sizeof text, "%s", line != NULL ? line : "failed without a word");
    }
    run->failure = study_keep(s, text, strlen(text));
    progress_end(&r->progress);
    say(stderr, "%s: %s\n", folder, text);
    return run->failure != NULL;
}

static const study_run *source_run(const study *s, const study_cell *cell, size_t seed)
{
    for (size_t i = 0; cell->source != NULL && i < s->cell_count; i++) {
        if (strcmp(s->cells[i].name, cell->source) == 0) {
            return &s->cells[i].runs[seed];
        }
    }
    return NULL;
}

static bool is_running(const runner *r, const study_cell *cell, size_t seed)
{
    for (int i = 0; i < r->job_count; i++) {
        if (r->jobs[i].child != 0 && r->jobs[i].cell == cell && r->jobs[i].seed == seed) {
            return true;
        }
    }
    return false;
}

/* The next run that can begin, seed by seed; NULL: none now. */
static study_cell *next_run(runner *r, size_t *seed)
{
    study *s = r->s;
    for (size_t k = 0; k < s->seed_count; k++) {
        for (size_t c = 0; c < s->cell_count; c++) {
            study_cell *cell = &s->cells[c];
            study_run *run = &cell->runs[k];
            const study_run *source = source_run(s, cell, k);
            if (run->finished || run->failure != NULL || is_running(r, cell, k)) {
                continue;
            }
            if (source != NULL && source->failure != NULL) {
                run->failure = "the cell that it begins with failed";
                continue;
            }
            if (source == NULL || source->finished) {
                *seed = k;
                return cell;
            }
        }
    }
    return NULL;
}

static int busy(const runner *r)
{
    int count = 0;
    for (int i = 0; i < r->job_count; i++) {
        count += r->jobs[i].child != 0;
    }
    return count;
}

static bool start_what_can(runner *r)
{
    for (int i = 0; i < r->job_count && !r->stopping; i++) {
        if (r->jobs[i].child == 0) {
            r->jobs[i].cell = next_run(r, &r->jobs[i].seed);
            if (r->jobs[i].cell == NULL) {
                return true;
            }
            if (!start(r, &r->jobs[i])) {
                return false;
            }
        }
    }
    return true;
}

static bool collect(runner *r)
{
    bool good = true;
    for (int i = 0; i < r->job_count; i++) {
        int status = STATUS_FAILED << 8; /* also where it is not there to wait for */
        if (r->jobs[i].child != 0 && waitpid(r->jobs[i].child, &status, WNOHANG) != 0) {
            good = settle(r, &r->jobs[i], status) && good;
        }
    }
    return good;
}

/* Each finishes its step, writes a checkpoint and ends. */
static void stop_children(runner *r)
{
    if (!r->stopping) {
        for (int i = 0; i < r->job_count; i++) {
            if (r->jobs[i].child != 0) {
                kill(r->jobs[i].child, SIGINT);
            }
        }
        r->stopping = true;
    }
}

static bool loop(runner *r)
{
    bool good = start_what_can(r);
    while (busy(r) > 0) {
        poll(NULL, 0, LOOK_MILLISECONDS);
        good = collect(r) && good;
        if (interrupt_status() != 0 || !good) {
            stop_children(r);
        }
        good = start_what_can(r) && good;
        draw(r);
    }
    return good;
}

int study_threads(const study_settings *settings)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = settings->machine.threads > 0 ? settings->machine.threads : (int)cores;
    return threads / settings->jobs > 0 ? threads / settings->jobs : 1;
}

static void print_stopped(const study *s, const study_settings *settings)
{
    double all;
    size_t finished, runs;
    total_done(s, &all, &finished, &runs);
    say(stderr, "stopped: %zu of %zu runs are finished. Go on with: ", finished, runs);
    print_shell_word(stderr, program_path);
    fputs(" study ", stderr);
    print_shell_word(stderr, settings->spec);
    fputs(settings->quick ? " --quick --out " : " --out ", stderr);
    print_shell_word(stderr, settings->out);
    fputc('\n', stderr);
}

int study_run_all(study *s, const study_settings *settings)
{
    runner *r = calloc(1, sizeof *r);
    bool good = r != NULL ? true : study_no_memory(s);
    for (size_t c = 0; c < s->cell_count && good; c++) {
        for (size_t k = 0; k < s->seed_count && good; k++) {
            good = settle_run(s, &s->cells[c], k, settings->redo) &&
                   study_read_run(s, &s->cells[c], k);
        }
    }
    if (good && (pipe(alive) != 0 || fcntl(alive[0], F_SETFD, FD_CLOEXEC) != 0 ||
                 fcntl(alive[1], F_SETFD, FD_CLOEXEC) != 0)) {
        s->failed = true;
        good = study_refuse(s, 0, "no pipe: %s", strerror(errno));
    }
    int status = STATUS_DONE;
    if (good) {
        double all;
        size_t finished, runs;
        r->s = s;
        r->settings = settings;
        r->job_count = settings->jobs;
        r->threads = study_threads(settings);
        r->before = total_done(s, &all, &finished, &runs);
        interrupt_begin();
        progress_begin(&r->progress, "study");
        good = loop(r);
        progress_end(&r->progress);
        status = r->stopping && good ? interrupt_status() : STATUS_DONE;
        interrupt_end();
    }
    if (status > 0 && good) {
        print_stopped(s, settings);
    }
    free(r);
    return good ? status : fail_with(s->failed ? STATUS_FAILED : STATUS_REFUSED, "%s", s->message);
}
