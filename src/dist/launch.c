/* How a program learns that it is one of several ranks, and finds the library that carries their
 * bytes. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/platform.h"
#include "dist/ranks.h"

#define TIMEOUT 600.0 /* seconds */
#define RANKS_MAX 65536
#define PATH_ROOM 4200
#define LIBRARY "libmixt-mpi.so"

/* Where Debian has libraries below lib/, as the compiler says ("x86_64-linux-gnu"), or "". */
#ifndef MIXT_MULTIARCH
#define MIXT_MULTIARCH ""
#endif

mixt_ranks_options mixt_ranks_options_default(void)
{
    return (mixt_ranks_options){.timeout = TIMEOUT};
}

/* A number of ranks in the environment; 0: there is none. */
static int read_count(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long value = text != NULL ? strtol(text, &end, 10) : 0;
    return value >= 1 && value <= RANKS_MAX && *end == 0 ? (int)value : 0;
}

/* Open MPI says it by a name of its own, MPICH's mpiexec and Slurm's PMI by PMI_SIZE; MIXT_RANKS is
 * for a transport of one's own. */
static int count_of_launcher(void)
{
    int count = read_count("OMPI_COMM_WORLD_SIZE");
    count = count > 0 ? count : read_count("PMI_SIZE");
    return count > 0 ? count : read_count("MIXT_RANKS");
}

/* Slurm's names of a step, which are not there in the script of sbatch. srun offers PMIx to each
 * task or says nothing of MPI; then they do not know of each other. */
static bool is_task_alone(void)
{
    return count_of_launcher() == 0 && getenv("PMIX_RANK") == NULL;
}

int mixt_ranks_launched(void)
{
    int count = count_of_launcher();
    count = count > 0 ? count : read_count("SLURM_STEP_NUM_TASKS");
    return count > 0 ? count : 1;
}

/* ------------------------------------------------------------------------------------------ */
/* The library                                                                                */

/* A file in a folder, named from the folder of `file`. */
static bool is_there(const char *file, const char *folder, char path[PATH_ROOM])
{
    const char *slash = strrchr(file, '/');
    if (slash == NULL) {
        return false;
    }
    int length = snprintf(path, PATH_ROOM, "%.*s/%s%s", (int)(slash - file), file, folder, LIBRARY);
    return length > 0 && length < PATH_ROOM && access(path, R_OK) == 0;
}

/* Beside the program and where it is installed with it, then beside this library. */
static bool find_library(char path[PATH_ROOM])
{
    char file[PATH_ROOM - 256];
    static const char *const folders[] = {"", "../lib/mixt/", "../lib/" MIXT_MULTIARCH "/mixt/"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (mixt_program_path(file, sizeof file) && is_there(file, folders[i], path)) {
            return true;
        }
    }
    return mixt_library_path(file, sizeof file) &&
           (is_there(file, "", path) || is_there(file, "mixt/", path));
}

static mixt_status load(const char *given, int count, const mixt_transport **transport,
                        mixt_error *error)
{
    char path[PATH_ROOM], text[MIXT_TRANSPORT_TEXT] = "";
    mixt_transport_opener opener;
    if (given != NULL) {
        snprintf(path, sizeof path, "%s%s", strchr(given, '/') != NULL ? "" : "./", given);
    } else if (!find_library(path)) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "started as %d ranks, but " LIBRARY " is not there: install "
                         "libopenmpi-dev and run make, or start one process alone",
                         count);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *line = dlerror(); /* names the file itself, or one that it needs */
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED, "%s%s%.400s",
                         strstr(line, path) == line ? "" : path,
                         strstr(line, path) == line ? "" : ": ", line);
    }
    void *address = dlsym(library, MIXT_TRANSPORT_OPEN);
    if (address == NULL) {
        dlclose(library);
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: not a library that carries bytes between ranks: it has no function "
                         "%s",
                         path, MIXT_TRANSPORT_OPEN);
    }
    /* It stays: what MPI leaves behind may run at the program's end. */
    memcpy(&opener, &address, sizeof opener);
    *transport = opener(text);
    if (*transport == NULL) {
        return mixt_fail(error, MIXT_ERROR_IO, "ranks: %s", text);
    }
    /* Nothing of a transport of another version can be called, nor freed. */
    if ((*transport)->version != MIXT_TRANSPORT_VERSION) {
        int version = (*transport)->version;
        *transport = NULL;
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: version %d of a transport, not %d: "
                         "it was built with another mixt",
                         path, version, MIXT_TRANSPORT_VERSION);
    }
    if (count > 1 && (*transport)->count != count) {
        return mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                         "%s: started as %d ranks, but it sees %d: the launcher is another MPI's "
                         "than the library was built with",
                         path, count, (*transport)->count);
    }
    return MIXT_OK;
}

/* ------------------------------------------------------------------------------------------ */
/* Meeting and leaving                                                                        */

/* Other programs would send other messages. */
static mixt_status meet(mixt_ranks *ranks, mixt_error *error)
{
    typedef char version_text[32];
    int count = mixt_ranks_count(ranks);
    version_text own = MIXT_VERSION, *all = calloc((size_t)count, sizeof *all);
    mixt_status status =
        all == NULL ? mixt_fail(error, MIXT_ERROR_MEMORY, "ranks: no memory")
                    : mixt_ranks_gather(ranks, MIXT_GROUP_ALL, own, sizeof own, all, error);
    for (int rank = 0; rank < count && status == MIXT_OK; rank++) {
        if (memcmp(all[rank], own, sizeof own) != 0) {
            status = mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                               "ranks: rank %d runs mixt %.31s, this one " MIXT_VERSION, rank,
                               all[rank]);
        }
    }
    free(all);
    return status;
}

mixt_status mixt_ranks_open(const mixt_ranks_options *options, mixt_ranks **result,
                            mixt_error *error)
{
    const mixt_transport *transport = NULL;
    mixt_ranks *ranks = NULL;
    int count = mixt_ranks_launched();
    double timeout = options->timeout > 0 ? options->timeout : TIMEOUT;
    *result = NULL;
    MIXT_TRY(MIXT_CHECK_RESERVED(mixt_ranks_options, options, error));
    mixt_status status = MIXT_OK;
    if (count > 1 && options->transport == NULL && is_task_alone()) {
        status = mixt_fail(error, MIXT_ERROR_UNSUPPORTED,
                           "srun started %d tasks that do not know of each other: srun --mpi=pmix, "
                           "or mpirun in its place, starts them as ranks; MIXT_RANKS=1 in the "
                           "environment says that each is to run by itself",
                           count);
    } else if (count > 1 || options->transport != NULL) {
        const char *given =
            options->transport != NULL ? options->transport : getenv("MIXT_TRANSPORT");
        status = load(given != NULL && given[0] != 0 ? given : NULL, count, &transport, error);
    }
    if (status == MIXT_OK) {
        status = mixt_ranks_create(transport, timeout, &ranks, error);
    }
    if (status == MIXT_OK) {
        ranks->owns_transport = transport != NULL;
        status = transport != NULL ? meet(ranks, error) : MIXT_OK;
    }
    if (status != MIXT_OK && ranks == NULL && transport != NULL) {
        transport->close(transport->user);
    } else if (status != MIXT_OK) {
        mixt_ranks_close(ranks, error != NULL ? error->message : "failed");
    }
    *result = status == MIXT_OK ? ranks : NULL;
    return status;
}

void mixt_ranks_close(mixt_ranks *ranks, const char *why)
{
    if (ranks == NULL) {
        return;
    }
    const mixt_transport *transport = ranks->transport;
    if (transport != NULL && why != NULL) {
        char text[MIXT_TRANSPORT_TEXT];
        if (ranks->lost.status != MIXT_OK) { /* the first rank's line goes round */
            snprintf(text, sizeof text, "%.399s", ranks->lost.message);
        } else {
            snprintf(text, sizeof text, "rank %d: %.370s", transport->rank, why);
        }
        transport->abort(transport->user, text);
    }
    if (ranks->owns_transport) {
        transport->close(transport->user);
    }
    free(ranks->room);
    free(ranks);
}
