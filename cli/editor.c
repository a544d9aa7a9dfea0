/* libedit does the editing; what it reads comes through interrupt_read_byte, so that Ctrl-C is seen
 * at once and nothing that was read ahead is lost. The history's file has one JSON string a line:
 * texts of several lines stay one entry, and two programs that append to it lose nothing of each
 * other. */
#include "editor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <jansson.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "cli.h"
#include "files.h"

enum {
    ENTRIES_MAX = 1000,          /* of the history */
    ENTRY_BYTES_MAX = 64 * 1024, /* longer texts are not kept */
    HISTORY_BYTES_MAX = 4 << 20, /* of its file; beyond, older half of the entries goes */
    CANDIDATES_MAX = 200,        /* that Tab lists */
};

struct editor {
    EditLine *line;
    History *history;
    FILE *out; /* standard error, buffered */
    const char *(*word)(int index, bool *takes_file);
    const char *prompt;
    char *path;        /* of the history's file; NULL: none */
    char *last;        /* entry */
    bool said_problem; /* with that file */
    bool too_long;     /* a paste went beyond what a line may hold */
};

/* ---- the locale */

/* libedit decodes by the locale. C.UTF-8 first: of it nothing but the characters differs from what
 * the rest of the program is used to. */
static bool set_utf8(void)
{
    static const char *const names[] = {"C.UTF-8", "C.utf8", "", "en_US.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (setlocale(LC_CTYPE, names[i]) != NULL && strcmp(nl_langinfo(CODESET), "UTF-8") == 0) {
            return true;
        }
    }
    setlocale(LC_CTYPE, "C");
    return false;
}

bool editor_is_possible(void)
{
    return getenv("TERM") != NULL && isatty(STDIN_FILENO) && terminal_is_one(stderr) && set_utf8();
}

/* ---- characters from the terminal */

static EditLine *at_work; /* for what signals bring about while a line is awaited */
static bool was_typed;    /* there was something in the line that an interrupt ended */
static volatile sig_atomic_t continued, resized;

static void on_continue(int number)
{
    (void)number;
    continued = 1;
}

static void on_resize(int number)
{
    (void)number;
    resized = 1;
}

/* Behind Ctrl-Z and fg the shell's settings of the terminal are in force. */
static void after_signal(void)
{
    if (continued) {
        continued = 0;
        el_set(at_work, EL_PREP_TERM, 0);
        el_set(at_work, EL_PREP_TERM, 1);
        el_set(at_work, EL_REFRESH);
    }
    if (resized) {
        resized = 0;
        el_resize(at_work);
        el_set(at_work, EL_REFRESH);
    }
}

/* A character; what is no UTF-8 becomes U+FFFD. 1, or 0 at the end and -1 where there is none. */
static int read_character(EditLine *line, wchar_t *character)
{
    unsigned char byte, more;
    if (!interrupt_read_byte(&byte, after_signal)) {
        int number = errno;
        const LineInfo *info = el_line(line);
        was_typed = info->lastchar > info->buffer;
        errno = number;
        return errno == 0 ? 0 : -1;
    }
    int length = byte < 0x80   ? 1
                 : byte < 0xc2 ? 0
                 : byte < 0xe0 ? 2
                 : byte < 0xf0 ? 3
                 : byte < 0xf5 ? 4
                               : 0;
    char bytes[5] = {(char)byte};
    for (int i = 1; i < length; i++) {
        if (!interrupt_read_byte(&more, after_signal)) {
            return errno == 0 ? 0 : -1;
        }
        bytes[i] = (char)more;
    }
    mbstate_t state = {0};
    *character = 0xfffd;
    if (length > 0 && mbrtowc(character, bytes, (size_t)length, &state) > (size_t)length) {
        *character = 0xfffd;
    }
    return 1;
}

/* ---- pastes */

typedef struct pasted {
    char *text;
    size_t length, capacity;
    bool bad; /* too long, or no memory */
} pasted;

/* Control characters are left out: what they do at a terminal is no part of a text. */
static void add_pasted(pasted *paste, wchar_t character)
{
    char bytes[MB_LEN_MAX];
    mbstate_t state = {0};
    character = character == L'\r' ? L'\n' : character;
    bool is_text = character >= 0x20 || character == L'\n' || character == L'\t';
    size_t size = is_text && character != 0x7f ? wcrtomb(bytes, character, &state) : 0;
    if (size == 0 || size > MB_LEN_MAX || paste->bad) {
        return;
    }
    paste->bad = paste->length + size > LINE_BYTES_MAX ||
                 !list_grow(&paste->text, &paste->capacity, paste->length + size + 1, 1);
    if (!paste->bad) {
        memcpy(paste->text + paste->length, bytes, size);
        paste->length += size;
        paste->text[paste->length] = 0;
    }
}

/* Takes what the terminal brackets as a paste: its line breaks are characters of the line. */
static unsigned char take_paste(EditLine *line, int key)
{
    static const wchar_t end[] = L"\033[201~";
    editor *own = NULL;
    pasted paste = {0};
    size_t matched = 0;
    wchar_t character;
    (void)key;
    el_get(line, EL_CLIENTDATA, &own);
    while (matched < sizeof end / sizeof *end - 1) {
        if (read_character(line, &character) != 1) {
            free(paste.text);
            return CC_ERROR; /* whoever reads the next key meets the same */
        }
        if (character == end[matched]) {
            matched++;
            continue;
        }
        for (size_t i = 0; i < matched; i++) {
            add_pasted(&paste, end[i]);
        }
        matched = character == end[0];
        if (matched == 0) {
            add_pasted(&paste, character);
        }
    }
    own->too_long = paste.bad;
    bool good = !paste.bad && (paste.length == 0 || el_insertstr(line, paste.text) == 0);
    free(paste.text);
    return good ? CC_REFRESH : CC_REFRESH_BEEP;
}

/* ---- completion */

typedef struct candidates {
    char *names[CANDIDATES_MAX];
    size_t count;
} candidates;

static void add_candidate(candidates *found, const char *prefix, const char *name,
                          const char *behind)
{
    size_t size = strlen(name) + strlen(behind) + 1;
    char *copy = strncmp(name, prefix, strlen(prefix)) == 0 && found->count < CANDIDATES_MAX
                     ? malloc(size)
                     : NULL;
    if (copy != NULL) {
        snprintf(copy, size, "%s%s", name, behind);
        found->names[found->count++] = copy;
    }
}

/* Entries of the folder that `path` is in, as far as they go on as it does; the part of it that
 * they continue. */
static const char *find_files(candidates *found, const char *path)
{
    char folder[4200], entry[4500];
    const char *slash = strrchr(path, '/');
    const char *begin = slash != NULL ? slash + 1 : path;
    const char *home = path[0] == '~' && path[1] == '/' ? getenv("HOME") : NULL;
    size_t skipped = home != NULL ? 1 : 0;
    snprintf(folder, sizeof folder, "%s%.*s", home != NULL ? home : "",
             (int)(begin - path - (ptrdiff_t)skipped), path + skipped);
    DIR *listed = opendir(folder[0] != 0 ? folder : ".");
    for (struct dirent *one; listed != NULL && (one = readdir(listed)) != NULL;) {
        const char *name = one->d_name;
        if ((name[0] == '.' && begin[0] != '.') || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0 || !text_is_utf8(name, strlen(name))) {
            continue;
        }
        snprintf(entry, sizeof entry, "%s%s", folder, name);
        add_candidate(found, begin, name, files_is_folder(entry) ? "/" : "");
    }
    if (listed != NULL) {
        closedir(listed);
    }
    return begin;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Below the line, as shells do. */
static void list_candidates(const editor *own, candidates *found)
{
    qsort(found->names, found->count, sizeof *found->names, compare_names);
    fputc('\n', own->out);
    for (size_t i = 0; i < found->count; i++) {
        say(own->out, "%s", found->names[i]);
        fputs(i + 1 < found->count ? "  " : "\n", own->out);
    }
}

/* Puts in what all of them have behind the part that stands there. */
static unsigned char apply(const editor *own, candidates *found, size_t there)
{
    if (found->count == 0) {
        return CC_REFRESH_BEEP;
    }
    size_t common = strlen(found->names[0]);
    for (size_t i = 1; i < found->count; i++) {
        size_t same = there;
        while (same < common && found->names[i][same] == found->names[0][same]) {
            same++;
        }
        common = same;
    }
    while (common > there && ((unsigned char)found->names[0][common] & 0xc0) == 0x80) {
        common--; /* whole characters alone */
    }
    if (common > there) {
        found->names[0][common] = 0;
        return el_insertstr(own->line, found->names[0] + there) == 0 ? CC_REFRESH : CC_REFRESH_BEEP;
    }
    if (found->count == 1) {
        return CC_REFRESH; /* it stands there */
    }
    list_candidates(own, found);
    return CC_REDISPLAY;
}

/* Tab: commands, files behind those that take one, elsewhere a tab. */
static unsigned char complete(EditLine *line, int key)
{
    char text[4200];
    editor *own = NULL;
    candidates found = {.count = 0};
    (void)key;
    el_get(line, EL_CLIENTDATA, &own);
    const LineInfo *info = el_line(line);
    size_t length = (size_t)(info->cursor - info->buffer);
    if (length == 0 || info->buffer[0] != '/' || length >= sizeof text) {
        return el_insertstr(line, "\t") == 0 ? CC_REFRESH : CC_ERROR;
    }
    memcpy(text, info->buffer, length);
    text[length] = 0;
    char *space = strchr(text, ' ');
    size_t there = length;
    if (space != NULL) {
        *space = 0;
    }
    bool takes_file;
    const char *word;
    for (int i = 0; (word = own->word(i, &takes_file)) != NULL; i++) {
        if (space == NULL) {
            add_candidate(&found, text, word, takes_file ? " " : "");
        } else if (takes_file && strcmp(word, text) == 0) {
            const char *path = space + 1 + strspn(space + 1, " ");
            there = strlen(find_files(&found, path));
        }
    }
    unsigned char result = apply(own, &found, there);
    for (size_t i = 0; i < found.count; i++) {
        free(found.names[i]);
    }
    return result;
}

/* ---- the history */

/* $XDG_STATE_HOME/mixt/history, else below ~/.local/state; NULL where neither is known. */
static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[4200];
    bool own = state != NULL && state[0] == '/'; /* relative ones are to be passed over */
    int used = own ? snprintf(path, sizeof path, "%s/mixt/history", state)
               : home != NULL && home[0] == '/'
                   ? snprintf(path, sizeof path, "%s/.local/state/mixt/history", home)
                   : -1;
    return used > 0 && (size_t)used < sizeof path ? strdup(path) : NULL;
}

static void say_problem(editor *own, const char *what)
{
    if (!own->said_problem) {
        say(stderr, "note: the history %s: %s\n", own->path, what);
    }
    own->said_problem = true;
}

static void enter(editor *own, const char *text)
{
    HistEvent event;
    history(own->history, &event, H_ENTER, text);
    free(own->last);
    own->last = strdup(text);
}

/* A line of the file: a JSON string, else it is passed over. */
static void enter_line(editor *own, const char *line, size_t length)
{
    json_t *text = json_loadb(line, length, JSON_DECODE_ANY, NULL);
    if (json_is_string(text) && json_string_length(text) > 0) {
        enter(own, json_string_value(text));
    }
    json_decref(text);
}

/* Begins of the last lines; `first` is where to begin. */
static size_t last_lines(const char *data, size_t length, size_t lines)
{
    size_t at = length;
    while (at > 0) {
        at--;
        if (data[at] == '\n' && at + 1 < length && --lines == 0) {
            return at + 1;
        }
    }
    return 0;
}

static bool make_folder(const char *path)
{
    char folder[4200];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (files_is_folder(folder)) {
        return true;
    }
    return files_make_folder(folder) && chmod(folder, 0700) == 0;
}

/* Reads what is there, and shortens a file that has become long. */
static void load_history(editor *own)
{
    char what[200];
    char *data = NULL;
    size_t length = 0;
    if (!files_exist(own->path)) {
        return;
    }
    mixt_status status = files_read(own->path, 4 * (size_t)HISTORY_BYTES_MAX, &data, &length, what);
    if (status != MIXT_OK) {
        say_problem(own, what);
        return;
    }
    size_t from = last_lines(data, length, ENTRIES_MAX);
    if (length - from > HISTORY_BYTES_MAX) {
        from = last_lines(data, length, HISTORY_BYTES_MAX / ENTRY_BYTES_MAX / 2);
    }
    for (size_t at = from; at < length;) {
        const char *end = memchr(data + at, '\n', length - at);
        size_t size = end != NULL ? (size_t)(end - data) - at : length - at;
        enter_line(own, data + at, size);
        at += size + 1;
    }
    if (from > 0 && (length > HISTORY_BYTES_MAX || last_lines(data, length, 2 * ENTRIES_MAX) > 0)) {
        mode_t before = umask(0077);
        if (!files_replace(own->path, data + from, length - from)) {
            say_problem(own, strerror(errno));
        }
        umask(before);
    }
    free(data);
}

/* One write, so that entries of programs side by side stay whole. */
static void append_history(editor *own, const char *text)
{
    json_t *string = json_string(text);
    char *line = string != NULL ? json_dumps(string, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    char *whole = line != NULL ? malloc(strlen(line) + 2) : NULL;
    int file = whole != NULL && make_folder(own->path)
                   ? open(own->path,
                          O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)
                   : -1;
    if (file < 0) {
        say_problem(own, strerror(errno));
    } else {
        snprintf(whole, strlen(line) + 2, "%s\n", line);
        size_t length = strlen(whole);
        if (write(file, whole, length) != (ssize_t)length) {
            say_problem(own, strerror(errno));
        }
        close(file);
    }
    free(whole);
    free(line);
    json_decref(string);
}

void editor_remember(editor *own, const char *text)
{
    if (strlen(text) > ENTRY_BYTES_MAX || (own->last != NULL && strcmp(own->last, text) == 0)) {
        return;
    }
    enter(own, text);
    if (own->path != NULL) {
        append_history(own, text);
    }
}

/* ---- lines */

static char *give_prompt(EditLine *line)
{
    editor *own = NULL;
    el_get(line, EL_CLIENTDATA, &own);
    return (char *)(uintptr_t)own->prompt; /* libedit reads it */
}

static FILE *open_error_buffered(void)
{
    int copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    FILE *file = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (file == NULL && copy >= 0) {
        close(copy);
    }
    return file;
}

static void set_up(editor *own)
{
    HistEvent event;
    el_set(own->line, EL_CLIENTDATA, own);
    el_set(own->line, EL_PROMPT, give_prompt);
    el_set(own->line, EL_EDITOR, "emacs");
    el_set(own->line, EL_SIGNAL, 0);
    el_set(own->line, EL_GETCFN, read_character);
    history(own->history, &event, H_SETSIZE, ENTRIES_MAX);
    el_set(own->line, EL_HIST, history, own->history);
    el_wset(own->line, EL_ADDFN, L"mixt-paste", L"takes what the terminal pastes", take_paste);
    el_wset(own->line, EL_ADDFN, L"mixt-complete", L"completes commands and names of files",
            complete);
    el_set(own->line, EL_BIND, "\033[200~", "mixt-paste", NULL);
    el_set(own->line, EL_BIND, "^I", "mixt-complete", NULL);
    el_set(own->line, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(own->line, EL_BIND, "\033[3~", "ed-delete-next-char", NULL);
    el_set(own->line, EL_BIND, "\033[1;5D", "ed-prev-word", NULL);
    el_set(own->line, EL_BIND, "\033[1;5C", "em-next-word", NULL);
    el_source(own->line, NULL); /* ~/.editrc, as in every program that has libedit */
}

editor *editor_create(const editor_options *options)
{
    editor *own = calloc(1, sizeof *own);
    if (own == NULL) {
        return NULL;
    }
    own->word = options->word;
    own->prompt = "";
    own->out = open_error_buffered();
    own->history = history_init();
    own->line = own->out != NULL ? el_init("mixt", stdin, own->out, own->out) : NULL;
    if (own->history == NULL || own->line == NULL) {
        editor_free(own);
        return NULL;
    }
    set_up(own);
    own->path = options->no_history ? NULL : history_path();
    if (own->path != NULL) {
        load_history(own);
    }
    return own;
}

void editor_free(editor *own)
{
    if (own == NULL) {
        return;
    }
    if (own->line != NULL) {
        el_end(own->line);
    }
    if (own->history != NULL) {
        history_end(own->history);
    }
    if (own->out != NULL) {
        fclose(own->out);
    }
    free(own->path);
    free(own->last);
    free(own);
}

static void handle(int number, void (*handler)(int), struct sigaction *before)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, before);
}

/* The line, of whose bytes libedit owns the memory, or NULL: `got` says why. */
static const char *get_line(editor *own, int *got)
{
    struct sigaction before[2];
    handle(SIGCONT, on_continue, &before[0]);
    handle(SIGWINCH, on_resize, &before[1]);
    at_work = own->line;
    el_resize(own->line);
    el_set(own->line, EL_PREP_TERM, 1); /* first: the terminal itself would edit what comes next */
    fputs("\033[?2004h", own->out);     /* pastes are bracketed */
    fflush(own->out);
    const char *text = el_gets(own->line, got);
    fputs("\033[?2004l", own->out);
    fflush(own->out);
    at_work = NULL;
    sigaction(SIGCONT, &before[0], NULL);
    sigaction(SIGWINCH, &before[1], NULL);
    return text;
}

mixt_status editor_read(editor *own, const char *prompt, input_line *line, bool *typed,
                        mixt_error *error)
{
    int got = 0;
    own->prompt = prompt;
    own->too_long = was_typed = false;
    errno = 0;
    const char *text = get_line(own, &got);
    *typed = was_typed;
    line->length = -1;
    if (text == NULL || got <= 0) {
        return MIXT_OK;
    }
    if (own->too_long || got > LINE_BYTES_MAX) {
        return set_error(error, MIXT_ERROR_ARGUMENT, "standard input: a line of more than %d bytes",
                         LINE_BYTES_MAX);
    }
    if (!list_grow(&line->text, &line->capacity, (size_t)got + 1, 1)) {
        return set_memory_error(error);
    }
    memcpy(line->text, text, (size_t)got);
    line->text[got] = 0;
    line->length = got;
    return MIXT_OK;
}
