/* mixt without memory: every command on a model of kilobytes, with each of its allocations failing
 * in turn (and with all later ones), and under limits of the address space.
 *
 *   memory [COUNT [TITLE [FIRST [LAST]]]]
 *
 *   COUNT   at most so many allocations and limits of each command (0: all of them)
 *   TITLE   only commands whose title holds this ("": all)
 *   FIRST   the first allocation that fails: other ones between than those of a run before; the
 *           limits are moved by as many pages
 *   LAST    the last one; no limits then
 *
 *   memory at N ARGUMENTS...   mixt with these arguments and its Nth allocation failing, in this
 *                              process: for a debugger, or valgrind with
 *                              --soname-synonyms=somalloc=nouserintercepts
 *
 * The program is linked into this one (ld --wrap=main), and each attempt is a child that counts its
 * allocations. Exit 0 must mean the right output, byte for byte; else it is status 1, one line that
 * says what is missing, what was there before, nothing half written, and a second attempt with
 * memory must give the right output. Prints a table; what is wrong is named with its allocation. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 64, FILES_MAX = 128, PATH_SIZE = 600, SECONDS_MAX = 120 };

/* ---- allocations that fail (glibc's own names: dlsym allocates) */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static struct {
    bool counting;
    bool forever;
    unsigned fail_at;
    unsigned *count; /* shared with the parent */
} memory;

/* Also those of the libraries. */
#define SHOWN __attribute__((visibility("default")))

static bool fails(void)
{
    if (!memory.counting) {
        return false;
    }
    unsigned number = __atomic_add_fetch(memory.count, 1, __ATOMIC_RELAXED);
    bool hit = number == memory.fail_at ||
               (memory.forever && memory.fail_at != 0 && number > memory.fail_at);
    if (hit) {
        errno = ENOMEM;
    }
    return hit;
}

SHOWN void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

SHOWN void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

SHOWN void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

SHOWN void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

SHOWN int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = fails() ? NULL : __libc_memalign(alignment, size);
    return *block != NULL ? 0 : ENOMEM;
}

SHOWN void *mmap(void *address, size_t size, int protection, int flags, int descriptor,
                 off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (real == NULL) {
        bool counting = memory.counting;
        memory.counting = false;
        *(void **)&real = dlsym(RTLD_NEXT, "mmap");
        memory.counting = counting;
    }
    return fails() ? MAP_FAILED : real(address, size, protection, flags, descriptor, offset);
}

/* ---- files */

static char work[64];

static char *at(const char *name)
{
    static char paths[8][PATH_SIZE];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, PATH_SIZE, "%s/%s", work, name);
    return path;
}

__attribute__((noreturn)) static void give_up(const char *what)
{
    fprintf(stderr, "memory: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *read_all(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    struct stat facts;
    if (file == NULL || fstat(fileno(file), &facts) != 0) {
        give_up(path);
    }
    char *text = malloc((size_t)facts.st_size + 1);
    *length = fread(text, 1, (size_t)facts.st_size, file);
    text[*length] = 0;
    fclose(file);
    return text;
}

static void write_all(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(text, 1, length, file) != length || fclose(file) != 0) {
        give_up(path);
    }
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *copy_from, *copy_to;

static int copy_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)place;
    char target[PATH_SIZE];
    snprintf(target, sizeof target, "%s%s", copy_to, path + strlen(copy_from));
    if (kind == FTW_D) {
        return mkdir(target, 0700) == 0 ? 0 : -1;
    }
    size_t length;
    char *text = read_all(path, &length);
    write_all(target, text, length);
    free(text);
    return 0;
}

static void copy_tree(const char *from, const char *to)
{
    copy_from = from;
    copy_to = to;
    if (nftw(from, copy_one, 16, FTW_PHYS) != 0) {
        give_up(from);
    }
}

/* ---- what is in a folder, without what the clock wrote */

typedef struct snapshot {
    int entries; /* folders and what is not compared, too */
    int count;
    struct {
        char name[200];
        char *data;
        size_t length;
    } files[FILES_MAX];
} snapshot;

static snapshot *taking;
static size_t taking_root;

static void mask_times(char *text)
{
    static const char *const keys[] = {"\"seconds\":", "\"warm_end\":", "\"tokens_per_second\":"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (char *found = text; (found = strstr(found, keys[i])) != NULL;) {
            found += strlen(keys[i]);
            size_t length = strcspn(found, ",}\n");
            memset(found, ' ', length);
            char *rest = found + length; /* numbers differ in length too */
            memmove(found, rest, strlen(rest) + 1);
        }
    }
}

static int take_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)place;
    taking->entries++;
    /* Events hold times, manifests the hash of a file that does, the lock a process. */
    if (kind == FTW_F && strstr(path, "tfevents") == NULL && strstr(path, "manifest") == NULL &&
        strstr(path, "/lock") == NULL) {
        if (taking->count == FILES_MAX) {
            give_up("too many files");
        }
        char *data = read_all(path, &taking->files[taking->count].length);
        if (strstr(path, ".json") != NULL) {
            mask_times(data);
            taking->files[taking->count].length = strlen(data);
        }
        taking->files[taking->count].data = data;
        snprintf(taking->files[taking->count++].name, 200, "%s", path + taking_root);
    }
    return 0;
}

static void take(const char *folder, snapshot *s)
{
    for (int i = 0; i < s->count; i++) {
        free(s->files[i].data);
    }
    s->count = s->entries = 0;
    taking = s;
    taking_root = strlen(folder) + 1;
    nftw(folder, take_one, 16, FTW_PHYS);
}

static int find(const snapshot *s, const char *name)
{
    for (int i = 0; i < s->count; i++) {
        if (strcmp(s->files[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool same_file(const snapshot *a, int i, const snapshot *b)
{
    int j = find(b, a->files[i].name);
    return j >= 0 && a->files[i].length == b->files[j].length &&
           memcmp(a->files[i].data, b->files[j].data, a->files[i].length) == 0;
}

/* ---- attempts */

typedef struct sweep_row {
    const char *title;
    const char *before;    /* folder of the work folder that it finds, or NULL: nothing */
    const char *input;     /* file of the work folder, or NULL */
    bool timed;            /* what it prints is times */
    bool limits_only;      /* another library's allocations */
    const char *arguments; /* split at spaces; '~' is the work folder, '+' a space */
} sweep_row;

int __real_main(int argc, char **argv);

static struct {
    const sweep_row *row;
    int argc;
    char *argv[ARGUMENTS_MAX + 1];
    snapshot old, right, now;
    char *output; /* what the right one printed */
    unsigned right_count, refused_count, wrong_count;
} job;

static void split_arguments(const char *text)
{
    static char place[4096];
    size_t used = 0;
    job.argc = 0;
    job.argv[job.argc++] = "mixt";
    while (*text != '\0' && job.argc < ARGUMENTS_MAX) {
        job.argv[job.argc++] = place + used;
        for (; *text != '\0' && *text != ' '; text++) {
            if (*text == '~') {
                used += (size_t)snprintf(place + used, sizeof place - used, "%s", work);
            } else {
                place[used++] = *text == '+' ? ' ' : *text;
            }
        }
        place[used++] = '\0';
        text += *text == ' ';
    }
    job.argv[job.argc] = NULL;
}

typedef struct fault {
    unsigned allocation; /* 0: none */
    bool forever;
    size_t limit; /* bytes of address space; 0: none */
} fault;

__attribute__((noreturn)) static void be_mixt(const fault *f)
{
    const char *in = job.row->input != NULL ? at(job.row->input) : "/dev/null";
    if (chdir(at("now")) != 0 || freopen(in, "r", stdin) == NULL ||
        freopen(at("stdout"), "w", stdout) == NULL || freopen(at("stderr"), "w", stderr) == NULL) {
        _exit(99);
    }
    setvbuf(stderr, NULL, _IONBF, 0);
    alarm(SECONDS_MAX);
    mallopt(M_PERTURB, 165);
    if (f->limit != 0) {
        struct rlimit limit = {f->limit, f->limit};
        setrlimit(RLIMIT_AS, &limit);
    }
    memory.fail_at = f->allocation;
    memory.forever = f->forever;
    memory.counting = f->limit == 0;
    int status = __real_main(job.argc, job.argv);
    memory.counting = false;
    exit(status);
}

/* Runs the command in now/; its exit status, or 1000 + signal. */
static int run(const fault *f)
{
    fflush(stdout);
    *memory.count = 0;
    pid_t child = fork();
    if (child == 0) {
        be_mixt(f);
    }
    int status = 0;
    while (child < 0 || waitpid(child, &status, 0) < 0) {
        if (child < 0 || errno != EINTR) {
            give_up("fork");
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void fresh(void)
{
    remove_tree(at("now"));
    if (job.row->before != NULL) {
        copy_tree(at(job.row->before), at("now"));
    } else if (mkdir(at("now"), 0700) != 0) {
        give_up("now");
    }
}

/* Nothing was made, and nothing changed. */
static bool is_untouched(void)
{
    bool same = job.now.entries == job.old.entries;
    for (int i = 0; i < job.old.count && same; i++) {
        same = same_file(&job.old, i, &job.now);
    }
    return same;
}

/* NULL, or what is wrong with a result that claims to be right. */
static const char *judge_right(void)
{
    static char text[300];
    size_t length;
    char *output = read_all(at("stdout"), &length);
    bool same = job.row->timed || strcmp(output, job.output) == 0;
    free(output);
    if (!same) {
        return "exit 0 and other output";
    }
    take(at("now"), &job.now);
    for (int i = 0; i < job.right.count; i++) {
        if (!same_file(&job.right, i, &job.now)) {
            snprintf(text, sizeof text, "exit 0 and another %s", job.right.files[i].name);
            return text;
        }
    }
    if (job.now.count != job.right.count) {
        return "exit 0 and other files";
    }
    return NULL;
}

/* The same of one that was refused. */
static const char *judge_refused(int status, bool forever)
{
    static char text[1200];
    size_t length;
    char *said = read_all(at("stderr"), &length);
    char *line = strstr(said, "mixt");
    while (line != NULL && line != said && line[-1] != '\n' && line[-1] != '\r' &&
           line[-1] != 'K') { /* behind a line of progress that was wiped */
        line = strstr(line + 1, "mixt");
    }
    bool one = line != NULL && strchr(line, '\n') == said + length - 1;
    bool named = one && (strstr(line, "memory") != NULL || strstr(line, "allocate") != NULL ||
                         strstr(line, "thread") != NULL);
    text[0] = '\0';
    if (status != 1 || !one || !named) {
        snprintf(text, sizeof text, "status %d, %.500s", status, said);
    }
    free(said);
    take(at("now"), &job.now);
    for (int i = 0; i < job.now.count && text[0] == '\0'; i++) {
        /* Half a checkpoint that cannot be removed without memory is what the next start removes.
         */
        bool step = forever && strstr(job.now.files[i].name, "run/step-") != NULL;
        if (strstr(job.now.files[i].name, ".tmp") != NULL && !step) {
            snprintf(text, sizeof text, "left %s", job.now.files[i].name);
        }
    }
    for (int i = 0; i < job.old.count && text[0] == '\0'; i++) {
        if (strstr(job.old.files[i].name, "log.jsonl") == NULL &&
            strstr(job.old.files[i].name, "load.jsonl") == NULL &&
            !same_file(&job.old, i, &job.now)) {
            int right = find(&job.right, job.old.files[i].name);
            if (right >= 0 && !same_file(&job.right, right, &job.now)) {
                snprintf(text, sizeof text, "lost %s", job.old.files[i].name);
            }
        }
    }
    if (text[0] == '\0' && !is_untouched()) { /* else the second attempt is the first right one */
        int second = run(&(fault){0});
        const char *problem = second == 0 ? judge_right() : "refused";
        if (problem != NULL) {
            snprintf(text, sizeof text, "a second attempt with memory: %s", problem);
        }
    }
    return text[0] != '\0' ? text : NULL;
}

static void attempt(const fault *f)
{
    fresh();
    int status = run(f);
    const char *problem =
        status == 0 ? judge_right() : judge_refused(status, f->forever || f->limit != 0);
    if (problem == NULL) {
        *(status == 0 ? &job.right_count : &job.refused_count) += 1;
        return;
    }
    job.wrong_count++;
    if (f->limit != 0) {
        printf("  %s, %zu KiB: %s\n", job.row->title, f->limit >> 10, problem);
    } else {
        printf("  %s, allocation %u%s: %s\n", job.row->title, f->allocation,
               f->forever ? " and later ones" : "", problem);
    }
}

typedef struct sweep_range {
    unsigned most, first, last; /* 0: all of them; to the last one, and limits */
} sweep_range;

/* From what the process has already, in growing steps, to far more than it needs; their number. */
static unsigned sweep_limits(const sweep_row *row, const sweep_range *range)
{
    unsigned limits = 0;
    size_t finest = range->most == 0 ? 100 : range->most / 4 + 1;
    size_t highest = row->limits_only ? (size_t)4 << 30 : (size_t)192 << 20;
    size_t limit = ((size_t)6 << 20) + ((size_t)(range->first - 1) % 256 << 12);
    for (; limit < highest; limit += limit / finest) {
        attempt(&(fault){.limit = limit});
        limits++;
    }
    return limits;
}

/* All of one command's; the number that were wrong. */
static unsigned sweep(const sweep_row *row, const sweep_range *range)
{
    size_t length;
    job.row = row;
    job.right_count = job.refused_count = job.wrong_count = 0;
    split_arguments(row->arguments);
    fresh();
    take(at("now"), &job.old);
    if (run(&(fault){0}) != 0) {
        printf("%s\n", read_all(at("stderr"), &length));
        give_up(row->title);
    }
    unsigned allocations = *memory.count;
    take(at("now"), &job.right);
    free(job.output);
    job.output = read_all(at("stdout"), &length);
    unsigned last = range->last != 0 && range->last < allocations ? range->last : allocations;
    unsigned window = last >= range->first ? last - range->first + 1 : 0;
    unsigned step = range->most == 0 ? 1 : (window + range->most - 1) / range->most;
    unsigned tried = 0;
    for (unsigned n = range->first; n <= last && !row->limits_only; n += step) {
        attempt(&(fault){.allocation = n});
        attempt(&(fault){.allocation = n, .forever = true});
        tried += 2;
    }
    unsigned limits = range->last == 0 ? sweep_limits(row, range) : 0;
    printf("%-18s %11u %11u %7u %8u %8u %6u\n", row->title, allocations, tried, limits,
           job.right_count, job.refused_count, job.wrong_count);
    fflush(stdout);
    return job.wrong_count;
}

/* ---- the commands */

#define SHAPE                                                                                      \
    " --vocab-size 262 --layers 2 --hidden-size 16 --heads 2 --kv-heads 1 --head-dim 8 "           \
    "--ffn-size 32 --experts 4 --window 16 --context-length 128 --batch-size 2 --heldout 0.4 "     \
    "--warmup 1 -t 2"
#define GREEDY " --temp 0 -n 6 -t 2"

static const sweep_row making[] = {
    {.title = "train", .arguments = "train --data ~/text -o run --steps 2" SHAPE},
    {.title = "convert", .before = "start", .arguments = "convert run/model -o model.gguf"},
    {.title = "convert, shards",
     .before = "start",
     .arguments = "convert run/model -o shards --shard-size 0.00003"},
    {.title = "trace",
     .before = "start",
     .arguments = "trace -m run/model --data ~/text -o trace -t 2"},
    {.title = "train, adapters",
     .before = "start",
     .arguments = "train --data ~/text -o adapted --steps 2 --init-from run/model --lora-rank 2 "
                  "--window 16 --batch-size 2 --heldout 0.4 --warmup 1 -t 2"},
    {.title = "train, dense",
     .before = "start",
     .arguments = "train --data ~/text -o dense --steps 2" SHAPE " --experts 0"},
};

static const sweep_row rows[] = {
    {.title = "info", .arguments = "info ~/start/run/model --plan train --tensors --check"},
    {.title = "info gguf", .arguments = "info ~/start/model.gguf --json"},
    {.title = "info --options", .arguments = "info ~/start/run/model --options"},
    {.title = "info shards", .arguments = "info ~/start/shards --check"},
    {.title = "tokenize", .input = "prompt", .arguments = "tokenize -m ~/start/run/model"},
    {.title = "tokenize gguf",
     .input = "prompt",
     .arguments = "tokenize -m ~/start/model.gguf --pieces"},
    {.title = "run", .arguments = "run -m ~/start/run/model -p The+quick -q" GREEDY},
    {.title = "run blas",
     .limits_only = true,
     .arguments = "run -m ~/start/run/model -p The+quick -q --matmul blas" GREEDY},
    {.title = "run gguf",
     .input = "prompt",
     .arguments = "run -m ~/start/model.gguf -p - -q" GREEDY},
    {.title = "run -i", .input = "prompt", .arguments = "run -m ~/start/run/model -i -q" GREEDY},
    {.title = "chat",
     .input = "prompt",
     .arguments = "chat -m ~/start/run/model --template chatml --variables {\"a\":[1,2.5]}" GREEDY},
    {.title = "eval", .arguments = "eval -m ~/start/run/model --data ~/text -t 2 --json"},
    {.title = "eval links",
     .arguments = "eval -m ~/start/run/model --data ~/linked/inner/.. -t 2 --json"},
    {.title = "eval --ppl-file",
     .arguments = "eval -m ~/start/run/model -f ~/text/one/1.txt -c 16 -t 2"},
    {.title = "trace",
     .before = "start",
     .arguments = "trace -m ~/start/run/model --data ~/text -o trace --logits -t 2"},
    {.title = "atlas", .before = "pages", .arguments = "atlas ~/start/trace --html page.html"},
    {.title = "convert gguf",
     .before = "pages",
     .arguments = "convert ~/start/run/model -o page.gguf -t 2"},
    {.title = "convert quantised",
     .arguments =
         "convert ~/start/run/model -o out.gguf --type Q8_0 --data ~/text --save-importance "
         "importance.gguf -c 64 -t 2"},
    {.title = "convert merged",
     .arguments = "convert ~/start/model.gguf --merge ~/start/adapted/model -o out.gguf --type F16 "
                  "-t 2"},
    {.title = "info adapted", .arguments = "info ~/start/adapted/model --json"},
    {.title = "convert folder", .arguments = "convert ~/start/model.gguf -o out -t 2"},
    {.title = "train, new", .arguments = "train --data ~/text -o run --steps 2" SHAPE},
    {.title = "train, resumed",
     .before = "begun",
     .arguments = "train --data ~/text -o run --steps 4" SHAPE},
    {.title = "train, upcycled",
     .arguments = "train --data ~/text -o run --steps 2 --upcycle ~/start/dense --experts 4 "
                  "--upcycle-noise 0.1 --optimizer muon --train experts,router --window 16 "
                  "--batch-size 2 --heldout 0.4 --warmup 1 -t 2"},
    {.title = "train, adapters",
     .arguments =
         "train --data ~/text -o run --steps 2 --init-from ~/start/run/model --lora-rank 2 "
         "--lora-targets up,down --train norms --window 16 --batch-size 2 --heldout 0.4 "
         "--warmup 1 -t 2"},
    {.title = "study",
     .timed = true,
     .arguments = "study ~/small.study --data ~/text --dry-run -t 1"},
    {.title = "bench",
     .timed = true,
     .arguments =
         "bench --no-limits --train --operators -p 8 -n 2 -r 1 --vocab-size 262 --layers 1 "
         "--hidden-size 16 --heads 2 --kv-heads 1 --head-dim 8 --ffn-size 32 --experts 4 "
         "--window 16 -c 32 -b 1 -t 2"},
};

static const char study[] = "vocab-size = 262\nlayers = 1\nhidden-size = 16\nheads = 2\n"
                            "kv-heads = 1\nhead-dim = 8\nffn-size = 16\nexperts = 4\n"
                            "window = 16\nbatch-size = 1\nsteps = 2\nseeds = 1 2\n"
                            "axis.k = one two\nk.one.experts-per-token = 2\n"
                            "baseline = one\nquick.steps = 1\n";

static void make_start(void)
{
    char text[4096] = "";
    mkdir(at("text"), 0700);
    mkdir(at("text/one"), 0700);
    mkdir(at("text/two"), 0700);
    mkdir(at("linked"), 0700);
    mkdir(at("linked/inner"), 0700);
    mkdir(at("pages"), 0700);
    write_all(at("prompt"), "The quick brown fox\n", 20);
    write_all(at("pages/page.html"), "old", 3);
    write_all(at("small.study"), study, sizeof study - 1);
    for (int i = 0; i < 12; i++) {
        char name[40];
        text[0] = '\0';
        for (int j = 0; j < 8; j++) {
            sprintf(text + strlen(text),
                    i % 2 != 0 ? "%d int main(void) { return %d; }\n"
                               : "%d The quick brown fox jumps %d times.\n",
                    j, i);
        }
        snprintf(name, sizeof name, "text/%s/%d.txt", i % 2 != 0 ? "one" : "two", i / 2);
        write_all(at(name), text, strlen(text));
    }
    write_all(at("linked/inner/1.txt"), text, strlen(text));
    if (symlink("1.txt", at("linked/inner/2.txt")) != 0) {
        give_up("link");
    }
    for (size_t i = 0; i < sizeof making / sizeof *making; i++) {
        size_t length;
        job.row = &making[i];
        split_arguments(making[i].arguments);
        fresh();
        if (run(&(fault){0}) != 0) {
            printf("%s\n", read_all(at("stderr"), &length));
            give_up(making[i].title);
        }
        remove_tree(at("start"));
        copy_tree(at("now"), at("start"));
    }
    mkdir(at("begun"), 0700);
    copy_tree(at("start/run"), at("begun/run"));
    remove_tree(at("begun/run/model"));
    size_t length; /* a good file of another model under the name of the next conversion */
    char *old = read_all(at("start/trace"), &length);
    write_all(at("pages/page.gguf"), old, length);
    free(old);
}

int __wrap_main(int argc, char **argv);

int __wrap_main(int argc, char **argv)
{
    static unsigned count;
    if (argc > 3 && strcmp(argv[1], "at") == 0) {
        memory.count = &count;
        memory.fail_at = (unsigned)strtoul(argv[2], NULL, 10);
        memory.counting = true;
        return __real_main(argc - 2, argv + 2);
    }
    unsigned numbers[] = {0, 0, 1, 0}, wrong = 0; /* of the arguments; the second one is a title */
    for (int i = 0; i < 4 && i + 1 < argc; i++) {
        numbers[i] = (unsigned)strtoul(argv[i + 1], NULL, 10);
    }
    sweep_range range = {numbers[0], numbers[2] != 0 ? numbers[2] : 1, numbers[3]};
    memory.count =
        mmap(NULL, sizeof *memory.count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(work, sizeof work, "%s/mixt-memory-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (memory.count == MAP_FAILED || mkdtemp(work) == NULL) {
        give_up("folder");
    }
    make_start();
    printf("%-18s %11s %11s %7s %8s %8s %6s\n", "command", "allocations", "tried", "limits",
           "right", "refused", "wrong");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (argc < 3 || strstr(rows[i].title, argv[2]) != NULL) {
            wrong += sweep(&rows[i], &range);
        }
    }
    remove_tree(work);
    printf("%u wrong\n", wrong);
    return wrong == 0 ? 0 : 1;
}
