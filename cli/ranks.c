#include "ranks.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "terminal.h"

mixt_ranks *program_ranks;

static FILE *said;         /* standard error of a rank that writes nothing */
static bool all_know;      /* of how this rank ends */
static bool called;        /* the others were told what to open */
static mixt_model *shared; /* for which they work, or NULL */
static bool peers;         /* all ranks run the command */

bool ranks_lead(void)
{
    return program_ranks == NULL || mixt_ranks_rank(program_ranks) == 0;
}

void ranks_all_know(void)
{
    all_know = true;
}

/* Standard input, output and error are rank 0's. */
static void be_silent(void)
{
    int error = dup(STDERR_FILENO), nothing = open("/dev/null", O_RDWR);
    said = error >= 0 ? fdopen(error, "w") : NULL;
    for (int i = STDIN_FILENO; i <= STDERR_FILENO && nothing >= 0; i++) {
        dup2(nothing, i);
    }
    if (nothing > STDERR_FILENO) {
        close(nothing);
    }
}

/* Every rank of a launcher that gives each a number in the environment says what keeps it from
 * meeting the others; one does. */
static bool is_first(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i]);
        if (rank != NULL) {
            return strcmp(rank, "0") == 0;
        }
    }
    return true;
}

int ranks_program(int argc, char **argv)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks_options options = mixt_ranks_options_default();
    if (mixt_ranks_open(&options, &program_ranks, &error) != MIXT_OK) {
        return is_first() ? fail_error(&error) : exit_status(error.status);
    }
    int rank = mixt_ranks_rank(program_ranks);
    if (rank > 0) {
        be_silent();
    }
    all_know = command_find(argv[1]) == NULL;
    int status = run_program(argc, argv);
    bool lost = mixt_ranks_lost(program_ranks);
    const char *why =
        status != STATUS_DONE && (lost || !(all_know || mixt_ranks_agreed(program_ranks)))
            ? last_failure()
            : NULL;
    if (why != NULL && said != NULL && !lost) {
        say(said, "mixt: rank %d: %s\n", rank, why);
    }
    if (said != NULL) {
        fclose(said);
    }
    mixt_ranks_close(program_ranks, why);
    program_ranks = NULL;
    return rank > 0 && why == NULL && !peers ? STATUS_DONE : status;
}

bool ranks_agree_on_options(cli_arguments *arguments, bool good)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status status = MIXT_OK;
    if (!good) {
        status = set_error(&error, arguments->failed ? MIXT_ERROR_IO : MIXT_ERROR_ARGUMENT,
                           "%.450s", arguments->message);
    }
    if (mixt_ranks_agree(program_ranks, status, &error) == MIXT_OK) {
        return true;
    }
    if (good) {
        snprintf(arguments->message, sizeof arguments->message, "%s", error.message);
        arguments->failed = !mixt_status_is_refusal(error.status);
    }
    all_know = true;
    return false;
}

/* Rank 0 says that it is there again, however long that takes. */
static mixt_status meet_first(mixt_error *error)
{
    int64_t word = 0;
    return (ranks_lead() ? mixt_ranks_share : mixt_ranks_await)(program_ranks, &word, sizeof word,
                                                                error);
}

int ranks_agree_on_status(int status)
{
    mixt_error error = MIXT_ERROR_INIT;
    mixt_status own = MIXT_OK;
    if (program_ranks == NULL) {
        return status;
    }
    if (status != STATUS_DONE) {
        own = set_error(&error, status == STATUS_REFUSED ? MIXT_ERROR_ARGUMENT : MIXT_ERROR_IO,
                        "%.450s", last_failure());
    }
    mixt_error met = MIXT_ERROR_INIT;
    if (meet_first(&met) != MIXT_OK) {
        return status != STATUS_DONE ? status : fail_error(&met);
    }
    mixt_status all = mixt_ranks_agree(program_ranks, own, &error);
    return all == MIXT_OK || status != STATUS_DONE ? status : fail_error(&error);
}

/* ---- threads */

static int read_count(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long count = text != NULL ? strtol(text, &end, 10) : 0;
    return count > 0 && count < 100000 && (*end == 0 || *end == '(' || *end == ',') ? (int)count
                                                                                    : 0;
}

/* Ranks on this machine, as launchers say it; at worst all of them. */
static int local_ranks(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS",
                                        "SLURM_STEP_TASKS_PER_NODE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (read_count(names[i]) > 0) {
            return read_count(names[i]);
        }
    }
    return mixt_ranks_count(program_ranks);
}

/* A launcher may have bound each rank to cores of its own, which count as they are. */
int ranks_threads(int allowed)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int local = local_ranks();
    int share = cores / local > 1 ? (int)(cores / local) : 1;
    return (long)allowed * local > cores ? share : allowed;
}

/* ---- models whose experts are spread */

typedef enum call_word { CALL_NOTHING, CALL_OPEN } call_word;

/* Rank 0 to those that wait in ranks_work. */
static mixt_status call_others(call_word what, mixt_error *error)
{
    int64_t word = what;
    called = true;
    return mixt_ranks_share(program_ranks, &word, sizeof word, error);
}

void ranks_leave_signals(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

static mixt_status spread(cli_resources *resources, mixt_error *error)
{
    mixt_model_info info;
    mixt_model_describe(resources->model, &info);
    if (info.options.experts == 0) {
        return set_error(error, MIXT_ERROR_UNSUPPORTED,
                         "%.300s: the model has no experts that several ranks could share; start "
                         "one process alone",
                         resources->model_path);
    }
    int ranks = mixt_ranks_count(program_ranks);
    if (ranks > info.options.experts) {
        return set_error(error, MIXT_ERROR_UNSUPPORTED,
                         "%.300s: %d ranks, each of which runs experts of its own, and a layer has "
                         "%d; start at most %d",
                         resources->model_path, ranks, info.options.experts, info.options.experts);
    }
    TRY(mixt_ranks_arrange(program_ranks, 1, ranks, info.options.experts, error));
    return mixt_model_spread(resources->model, program_ranks, error);
}

mixt_status ranks_spread(ranks_opener open, const void *settings, cli_resources *resources,
                         mixt_error *error)
{
    if (ranks_lead()) {
        TRY(call_others(CALL_OPEN, error));
    }
    mixt_status status = open(settings, resources, error);
    if (status == MIXT_OK) {
        status = spread(resources, error);
    }
    status = mixt_ranks_agree(program_ranks, status, error);
    all_know = status != MIXT_OK;
    shared = status == MIXT_OK ? resources->model : NULL;
    return status;
}

int ranks_work(ranks_opener open, const void *settings)
{
    cli_resources resources = {0};
    mixt_error error = MIXT_ERROR_INIT;
    int64_t word = CALL_NOTHING;
    ranks_leave_signals();
    mixt_status status = mixt_ranks_await(program_ranks, &word, sizeof word, &error);
    if (status == MIXT_OK && word == CALL_OPEN) {
        status = ranks_spread(open, settings, &resources, &error);
        if (status == MIXT_OK) {
            status = mixt_model_work(resources.context, resources.model, &error);
        }
    }
    resources_free(&resources);
    return status == MIXT_OK ? STATUS_DONE : fail_error(&error);
}

mixt_status ranks_together(const cli_resources *resources, ranks_deed deed, void *user,
                           mixt_error *error)
{
    if (program_ranks == NULL) {
        return deed(user, error);
    }
    bool spread = mixt_ranks_expert(program_ranks) > 1;
    mixt_status status = MIXT_OK;
    if (ranks_lead()) {
        mixt_error left = MIXT_ERROR_INIT;
        status = deed(user, error);
        if (spread && mixt_model_dismiss(resources->model, &left) != MIXT_OK && status == MIXT_OK) {
            *error = left;
            status = left.status;
        }
    } else if (spread) {
        status = mixt_model_work(resources->context, resources->model, error);
    }
    TRY(meet_first(error));
    return mixt_ranks_agree(program_ranks, status, error);
}

void ranks_dismiss(mixt_model *model)
{
    mixt_error error = MIXT_ERROR_INIT; /* of a rank that is lost: rank 0 has said it */
    if (model == NULL || model != shared) {
        return;
    }
    shared = NULL;
    if (ranks_lead()) {
        (void)mixt_model_dismiss(model, &error);
    }
}

int ranks_refuse(const model_settings *settings, const cli_arguments *arguments)
{
    if (program_ranks == NULL) {
        return STATUS_DONE;
    }
    if (settings->no_mmap) {
        return fail_usage("--no-mmap: a rank maps the files and reads its share of the experts");
    }
    if (options_given(arguments, "memory") != NULL && !store_is_off(&settings->store)) {
        return fail_usage("--memory: experts that are spread over ranks stay mapped");
    }
    return STATUS_DONE;
}

int ranks_run(const cli_command *command, cli_arguments *arguments)
{
    if (command->work == NULL) {
        all_know = true;
        return fail_with(STATUS_REFUSED, "runs as one process; %d ranks were started",
                         mixt_ranks_count(program_ranks));
    }
    peers = command->work == command->run;
    if (!ranks_lead()) {
        return command->work(arguments->settings, arguments);
    }
    int status = command->run(arguments->settings, arguments);
    if (command->work != command->run) {
        mixt_error error = MIXT_ERROR_INIT;
        if (!called) {
            (void)call_others(CALL_NOTHING, &error);
        }
        all_know = true; /* they were dismissed */
    }
    return status;
}
