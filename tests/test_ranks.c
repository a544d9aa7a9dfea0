/* What ranks do together: each collective against a plain reference over threads, late and in other
 * orders; ranks that are late, lost, wrong; processes; the library that carries bytes. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "build_folder.h"
#include "hub.h"
#include "ranks_checks.h"
#include "scratch.h"

static void assert_line(const mixt_error *error, mixt_status status, const char *line)
{
    assert_string_equal(error->message, line);
    assert_int_equal(error->status, status);
}

/* ------------------------------------------------------------------------------------------ */
/* Collectives                                                                                */

typedef struct plan {
    uint64_t seed;
    size_t large;
} plan;

static mixt_status run_checks(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    const plan *p = user;
    (void)rank;
    return check_collectives(ranks, p->seed, p->large, error);
}

/* Layouts 1x1 to 8x1, 4x2, 2x4, 1x8, those of 3 and 6 ranks, and of 35,
 * whose gathers go in rounds. */
static void test_collectives(void **state)
{
    (void)state;
    const int counts[] = {1, 2, 3, 4, 6, 8, 35};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        hub_run(counts[i], run_checks,
                &(plan){7 + i, counts[i] < 5   ? 3000000
                               : counts[i] < 9 ? 300000
                                               : 2000});
    }
}

static void test_late_and_in_another_order(void **state)
{
    (void)state;
    mixt_error errors[HUB_RANKS_MAX];
    for (int i = 0; i < 12; i++) {
        hub_options options = {.count = 2 + i % 3, .seed = 100 + (uint64_t)i, .delay = 200};
        hub_run_with(&options, run_checks, &(plan){1000 + (uint64_t)i, 200000}, errors);
        for (int rank = 0; rank < options.count; rank++) {
            must(errors[rank].status, &errors[rank]);
        }
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Ranks that are late, lost or wrong                                                         */

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Rank 1 comes too late (what the others sent before is there still). They say so, and the same
 * again to all further calls. */
static mixt_status meet_late(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    (void)user;
    if (rank == 1) {
        nanosleep(&(struct timespec){4, 0}, NULL);
    }
    mixt_error first = MIXT_ERROR_INIT;
    double begin = seconds();
    mixt_status status = mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, &first);
    HUB_CHECK(status == (rank == 1 ? MIXT_OK : MIXT_ERROR_IO) && seconds() - begin < 60);
    int64_t value = 1;
    HUB_CHECK(mixt_ranks_largest(ranks, &value, error) == MIXT_ERROR_IO);
    HUB_CHECK(rank == 1 || strcmp(first.message, error->message) == 0);
    return error->status;
}

static void test_timeout(void **state)
{
    (void)state;
    mixt_error errors[3];
    hub_run_with(&(hub_options){.count = 3, .timeout = 2}, meet_late, NULL, errors);
    /* Who ends first by its own clock says so, the others may repeat its line. */
    for (int rank = 0; rank < 3; rank++) {
        if (strcmp(errors[rank].message, "rank 1 let rank 0 wait for 2 seconds") != 0) {
            assert_line(&errors[rank], MIXT_ERROR_IO, "rank 1 let rank 2 wait for 2 seconds");
        }
    }
}

static mixt_status run_until_lost(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    mixt_status status = MIXT_OK;
    double begin = seconds();
    for (int i = 0; i < 1000 && status == MIXT_OK; i++) {
        status = run_checks(ranks, rank, user, error);
    }
    mixt_error again = MIXT_ERROR_INIT;
    HUB_CHECK(status == MIXT_ERROR_IO && seconds() - begin < 60);
    HUB_CHECK(mixt_ranks_barrier(ranks, MIXT_GROUP_DATA, &again) == MIXT_ERROR_IO);
    HUB_CHECK(strcmp(again.message, error->message) == 0);
    HUB_CHECK(mixt_ranks_share(ranks, &rank, sizeof rank, NULL) == MIXT_ERROR_IO);
    return status;
}

/* One ends in the midst of a message: all the others end too, with a line that names it. */
static void test_lost_rank(void **state)
{
    (void)state;
    mixt_error errors[4];
    for (int i = 0; i < 60; i++) {
        hub_options options = {.count = 2 + i % 3,
                               .kill_rank = i % 2,
                               .kill_message = 1 + i * 7,
                               .seed = i % 3 == 0 ? 0 : 5,
                               .delay = 50};
        hub_run_with(&options, run_until_lost, &(plan){(uint64_t)i, 20000}, errors);
        for (int rank = 0; rank < options.count; rank++) {
            char line[100];
            snprintf(line, sizeof line,
                     rank == i % 2 ? "rank %d was ended by the test" : "rank %d was lost", i % 2);
            assert_line(&errors[rank], MIXT_ERROR_IO, line);
        }
    }
}

static mixt_status fail_at_last(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    MIXT_TRY(run_checks(ranks, rank, user, error));
    if (rank == 2) {
        return mixt_fail(error, MIXT_ERROR_FORMAT, "model.gguf: no such tensor");
    }
    return mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, error);
}

static mixt_status leave_early(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    (void)user;
    return rank == 0 ? MIXT_OK : mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, error);
}

/* One goes with an error: the others have its line. One that just goes is missed, too. */
static void test_rank_that_goes(void **state)
{
    (void)state;
    mixt_error errors[4];
    hub_run_with(&(hub_options){.count = 4}, fail_at_last, &(plan){3, 1000}, errors);
    assert_line(&errors[2], MIXT_ERROR_FORMAT, "model.gguf: no such tensor");
    assert_line(&errors[0], MIXT_ERROR_IO, "rank 2: model.gguf: no such tensor");
    assert_line(&errors[3], MIXT_ERROR_IO, "rank 2: model.gguf: no such tensor");
    hub_run_with(&(hub_options){.count = 2}, leave_early, NULL, errors);
    must(errors[0].status, &errors[0]);
    assert_line(&errors[1], MIXT_ERROR_IO, "rank 0 has left");
}

/* Rank 0 sends as many bytes as it likes. */
static mixt_status exchange_wrongly(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    size_t sent = *(const size_t *)user, expected = 100;
    const size_t send_bytes[2] = {0, rank == 0 ? sent : 0};
    const size_t receive_bytes[2] = {rank == 1 ? expected : 0, 0};
    unsigned char *bytes = calloc(sent + expected + 1, 1);
    HUB_CHECK(bytes != NULL);
    memset(bytes + expected, 0xA5, sent + 1);
    mixt_exchange x = {MIXT_GROUP_ALL, bytes, send_bytes, bytes, receive_bytes};
    mixt_status status = mixt_ranks_exchange(ranks, &x, error);
    for (size_t i = 0; i <= sent; i++) {
        HUB_CHECK(bytes[expected + i] == 0xA5);
    }
    if (status == MIXT_OK) {
        status = mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, error);
    }
    free(bytes);
    return status;
}

static void test_wrong_sizes(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 99, 101, 3000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        mixt_error errors[2];
        char line[100];
        size_t size = sizes[i];
        hub_run_with(&(hub_options){.count = 2}, exchange_wrongly, &size, errors);
        snprintf(line, sizeof line, "rank 0 sent %zu bytes where rank 1 expects 100", size);
        assert_line(&errors[1], MIXT_ERROR_IO, line);
        assert_line(&errors[0], MIXT_ERROR_IO, line);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Layouts                                                                                    */

static mixt_status arrange(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    (void)user;
    (void)error;
    mixt_error line = MIXT_ERROR_INIT;
    HUB_CHECK(mixt_ranks_arrange(ranks, 0, 0, 8, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_data(ranks) == 3 && mixt_ranks_expert(ranks) == 2);
    HUB_CHECK(mixt_group_place(ranks, MIXT_GROUP_EXPERT) == rank % 2);
    HUB_CHECK(mixt_group_place(ranks, MIXT_GROUP_DATA) == rank / 2);
    HUB_CHECK(mixt_ranks_arrange(ranks, 0, 0, 0, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_data(ranks) == 6 && mixt_ranks_expert(ranks) == 1);
    HUB_CHECK(mixt_ranks_arrange(ranks, 2, 0, 8, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_data(ranks) == 2 && mixt_ranks_expert(ranks) == 3);
    HUB_CHECK(mixt_experts_first(ranks, 8, 0) == 0 && mixt_experts_first(ranks, 8, 1) == 2);
    HUB_CHECK(mixt_experts_first(ranks, 8, 2) == 5 && mixt_experts_first(ranks, 8, 3) == 8);
    HUB_CHECK(mixt_ranks_arrange(ranks, 4, 0, 8, &line) == MIXT_ERROR_ARGUMENT);
    HUB_CHECK(strstr(line.message, "number of ranks, 6") != NULL);
    line = (mixt_error)MIXT_ERROR_INIT;
    HUB_CHECK(mixt_ranks_arrange(ranks, 1, 6, 4, &line) == MIXT_ERROR_ARGUMENT);
    HUB_CHECK(strstr(line.message, "only 4 experts") != NULL);
    HUB_CHECK(mixt_ranks_data(ranks) == 2 && mixt_ranks_expert(ranks) == 3);
    return MIXT_OK;
}

/* Of 8 experts over 3 ranks one has 2 only. */
static mixt_status divide(mixt_ranks *ranks, int rank, void *user, mixt_error *error)
{
    (void)rank;
    (void)user;
    (void)error;
    mixt_error line = MIXT_ERROR_INIT;
    HUB_CHECK(mixt_ranks_arrange(ranks, 2, 3, 8, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_set_chunks(ranks, 2, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_set_chunks(ranks, 3, &line) == MIXT_ERROR_ARGUMENT);
    HUB_CHECK(strstr(line.message, "exchange_chunks 3: a rank has 2 experts of a layer") != NULL);
    line = (mixt_error)MIXT_ERROR_INIT;
    HUB_CHECK(mixt_ranks_set_chunks(ranks, 17, &line) == MIXT_ERROR_ARGUMENT);
    HUB_CHECK(strstr(line.message, "17 is not in 0..16") != NULL);
    HUB_CHECK(mixt_ranks_arrange(ranks, 6, 1, 8, NULL) == MIXT_OK);
    HUB_CHECK(mixt_ranks_set_chunks(ranks, 1, NULL) == MIXT_OK);
    line = (mixt_error)MIXT_ERROR_INIT;
    HUB_CHECK(mixt_ranks_set_chunks(ranks, 2, &line) == MIXT_ERROR_ARGUMENT);
    HUB_CHECK(strstr(line.message, "no rows travel where expert_parallel is 1") != NULL);
    return MIXT_OK;
}

static void test_layouts(void **state)
{
    (void)state;
    hub_run(6, arrange, NULL);
    hub_run(6, divide, NULL);
}

/* ------------------------------------------------------------------------------------------ */
/* Processes, and the library                                                                 */

static void start_conform(const hub_options *options, int *statuses, const char *rounds)
{
    char program[BUILT_PATH_MAX];
    assert_true(find_built("tests/conform", program));
    char *const arguments[] = {program, "11", (char *)rounds, "300000", NULL};
    hub_processes *processes = hub_start(options, arguments, scratch);
    assert_non_null(processes);
    assert_true(hub_wait(processes, 150, statuses));
}

static char *output_of(int rank)
{
    char name[32];
    size_t length;
    snprintf(name, sizeof name, "rank-%d.txt", rank);
    char *path = scratch_path(name), *text = read_file(path, &length);
    free(path);
    return text;
}

static void test_processes(void **state)
{
    (void)state;
    int statuses[4];
    start_conform(&(hub_options){.count = 4}, statuses, "1");
    for (int rank = 0; rank < 4; rank++) {
        char *text = output_of(rank);
        assert_string_equal(text, rank == 0 ? "4 ranks agree\n" : "");
        assert_int_equal(statuses[rank], 0);
        free(text);
    }
}

/* SIGKILL in the midst of a message: one line from each of the others. */
static void test_killed_process(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        int statuses[3], killed = i % 3;
        hub_options options = {.count = 3, .kill_rank = killed, .kill_message = 1 + 41 * i};
        start_conform(&options, statuses, "1000");
        for (int rank = 0; rank < 3; rank++) {
            char line[100], *text = output_of(rank);
            snprintf(line, sizeof line, "conform: rank %d was lost\n", killed);
            assert_string_equal(text, rank == killed ? "" : line);
            assert_int_equal(statuses[rank], rank == killed ? 1000 + SIGKILL : 2);
            free(text);
        }
    }
}

static void set_launched(const char *count, const char *transport)
{
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("PMI_SIZE");
    unsetenv("PMIX_RANK");
    unsetenv("SLURM_STEP_NUM_TASKS");
    unsetenv("MIXT_TRANSPORT");
    unsetenv("MIXT_RANKS");
    if (count != NULL) {
        setenv("MIXT_RANKS", count, 1);
    }
    if (transport != NULL) {
        setenv("MIXT_TRANSPORT", transport, 1);
    }
}

static void test_launched(void **state)
{
    (void)state;
    set_launched(NULL, NULL);
    assert_int_equal(mixt_ranks_launched(), 1);
    setenv("SLURM_STEP_NUM_TASKS", "1", 1);
    assert_int_equal(mixt_ranks_launched(), 1);
    setenv("SLURM_STEP_NUM_TASKS", "5", 1);
    assert_int_equal(mixt_ranks_launched(), 5); /* which cannot meet: test_tasks_without_mpi */
    setenv("MIXT_RANKS", "1", 1);
    assert_int_equal(mixt_ranks_launched(), 1);
    unsetenv("MIXT_RANKS");
    setenv("PMIX_RANK", "0", 1);
    assert_int_equal(mixt_ranks_launched(), 5);
    setenv("PMI_SIZE", "6", 1);
    assert_int_equal(mixt_ranks_launched(), 6);
    setenv("OMPI_COMM_WORLD_SIZE", "7", 1);
    assert_int_equal(mixt_ranks_launched(), 7);
    const char *const bad[] = {"", "0", "-3", "4x", "99999999999999999999", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        set_launched(bad[i], NULL);
        assert_int_equal(mixt_ranks_launched(), 1);
    }
    set_launched(NULL, NULL);
}

/* srun --mpi=none: so many programs that would all do the same. */
static void test_tasks_without_mpi(void **state)
{
    (void)state;
    mixt_ranks_options options = mixt_ranks_options_default();
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks *ranks = NULL;
    set_launched(NULL, NULL);
    setenv("SLURM_STEP_NUM_TASKS", "5", 1);
    assert_int_equal(mixt_ranks_open(&options, &ranks, &error), MIXT_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "srun started 5 tasks that do not know of each other"));
    assert_null(ranks);
    setenv("MIXT_RANKS", "1", 1); /* as they are meant to be */
    assert_int_equal(mixt_ranks_open(&options, &ranks, &error), MIXT_OK);
    assert_int_equal(mixt_ranks_count(ranks), 1);
    mixt_ranks_close(ranks, NULL);
    set_launched(NULL, NULL);
}

static void refuse_open(const char *transport, const char *part)
{
    mixt_ranks_options options = mixt_ranks_options_default();
    mixt_error error = MIXT_ERROR_INIT;
    mixt_ranks *ranks = NULL;
    set_launched("4", transport);
    assert_int_not_equal(mixt_ranks_open(&options, &ranks, &error), MIXT_OK);
    if (strstr(error.message, part) == NULL) {
        fail_msg("%s: '%s'", part, error.message);
    }
    assert_null(ranks);
    set_launched(NULL, NULL);
}

/* Several ranks and nothing that carries their bytes: never that many programs which clash. */
static void test_library(void **state)
{
    (void)state;
    char hub_library[BUILT_PATH_MAX], program[BUILT_PATH_MAX];
    assert_true(find_built("tests/hub.so", hub_library));
    assert_true(find_built("tests/launch", program));
    char *text = scratch_path("text.so");
    write_file(text, "text", 4);
    refuse_open(NULL, "started as 4 ranks, but libmixt-mpi.so is not there: install "
                      "libopenmpi-dev and run make");
    refuse_open("/nowhere/transport.so", "cannot open shared object file");
    refuse_open("transport.so", "./transport.so: ");
    refuse_open(text, "text.so: ");
    refuse_open(program, "launch: ");
    refuse_open(hub_library, "HUB_FILE and HUB_RANK name no region");
    free(text);
    mixt_ranks_options options = mixt_ranks_options_default();
    mixt_ranks *ranks;
    mixt_error error = MIXT_ERROR_INIT;
    set_launched(NULL, "/nowhere/transport.so"); /* one alone needs none */
    must(mixt_ranks_open(&options, &ranks, &error), &error);
    assert_int_equal(mixt_ranks_count(ranks), 1);
    must(mixt_ranks_barrier(ranks, MIXT_GROUP_ALL, &error), &error);
    mixt_ranks_close(ranks, NULL);
    options.reserved[0] = 1;
    assert_int_equal(mixt_ranks_open(&options, &ranks, &error), MIXT_ERROR_ARGUMENT);
    mixt_ranks_close(NULL, NULL);
    set_launched(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collectives),       cmocka_unit_test(test_late_and_in_another_order),
        cmocka_unit_test(test_timeout),           cmocka_unit_test(test_lost_rank),
        cmocka_unit_test(test_rank_that_goes),    cmocka_unit_test(test_wrong_sizes),
        cmocka_unit_test(test_layouts),           cmocka_unit_test(test_processes),
        cmocka_unit_test(test_killed_process),    cmocka_unit_test(test_launched),
        cmocka_unit_test(test_tasks_without_mpi), cmocka_unit_test(test_library),
    };
    return cmocka_run_group_tests_name("ranks", tests, scratch_make, scratch_remove);
}
