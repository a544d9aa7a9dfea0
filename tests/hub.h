/* Ranks without MPI: a transport over one region of memory, for threads of this program or for
 * processes that share a file. It can delay messages, reorder those of different pairs, and end a
 * rank in the midst of one. */
#ifndef MIXT_TESTS_HUB_H
#define MIXT_TESTS_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "dist/ranks.h"

enum { HUB_RANKS_MAX = 64 };

typedef struct hub_options {
    int count;            /* of ranks */
    uint64_t seed;        /* of delays and of the order; 0: none */
    int delay;            /* microseconds that a message is late, at most (with a seed) */
    int kill_rank;        /* ends in its kill_message-th message, sent or received, from 1; */
    int64_t kill_message; /* 0: none does. A thread's calls say LOST, a process gets SIGKILL */
    double timeout;       /* of a wait, seconds; 0: 30 */
    double limit;         /* seconds after which all together count as a hang; 0: 120 */
} hub_options;

/* ------------------------------------------------------------------------------------------ */
/* Threads, or the processes that a launcher started                                          */

/* A test program that mpirun started as several processes (mixt_ranks_launched) runs all its tests
 * in each of them alike, and each is one of the ranks of hub_run: the same test, over MPI. What is
 * of other numbers of ranks is left out there, and so are tests that need what only the hub can. */

/* What a rank does. It may use ranks on its own thread alone; returning an error closes them with
 * that line, so that the others end. No cmocka here: HUB_CHECK ends the program. */
typedef mixt_status (*hub_function)(mixt_ranks *ranks, int rank, void *user, mixt_error *error);

/* Runs it on `count` threads; fails the test where one returned an error, and where they hang. In
 * processes, which are as many, each runs its own rank's. */
void hub_run(int count, hub_function function, void *user);
/* One rank without any (ranks NULL); of processes the first. */
void hub_alone(hub_function function, void *user);
/* Behind a run, in processes: what each filled in of results[rank], and what the first one has in
 * `data`, known to all. Threads know it already. */
void hub_gather(void *results, size_t bytes);
void hub_tell(void *data, size_t bytes);
/* Behind it all of them have come here. */
void hub_meet(void);
/* This process, 0 where there is one; their number, `count` where there is one; and whether
 * hub_run can be of so many. */
int hub_process(void);
int hub_ranks(int count);
bool hub_has(int count);
/* Skips the test in processes. */
void hub_only(void);

/* Threads with options; errors[rank] is how each ended (MIXT_OK: well). */
void hub_run_with(const hub_options *options, hub_function function, void *user,
                  mixt_error *errors);

#define HUB_CHECK(condition)                                                                       \
    ((condition) ? (void)0 : hub_check_failed(#condition, __FILE__, __LINE__))
_Noreturn void hub_check_failed(const char *condition, const char *file, int line);

/* ------------------------------------------------------------------------------------------ */
/* Processes: BUILD/tests/hub.so is this transport as the library that MIXT_TRANSPORT names     */

typedef struct hub_processes hub_processes;

/* Starts arguments[0] once for each rank. What they write comes into FOLDER/rank-N.txt, and the
 * region lies in FOLDER. FOLDER NULL: a folder of its own, and they write where we do. */
hub_processes *hub_start(const hub_options *options, char *const arguments[], const char *folder);
/* Sends a signal to one. */
void hub_signal(hub_processes *processes, int rank, int number);
/* Waits at most `seconds` for all of them; statuses[rank]: exit status, or 1000 and the signal's
 * number. False: some were running still, and were killed. Frees. */
bool hub_wait(hub_processes *processes, double seconds, int *statuses);

/* ------------------------------------------------------------------------------------------ */
/* The transport                                                                              */

typedef struct hub hub;

/* A region in memory (path NULL) or in a file, made anew. NULL: it cannot. */
hub *hub_create(const hub_options *options, const char *path);
void hub_free(hub *made);
/* One rank's transport; its close leaves the region there. */
const mixt_transport *hub_join(hub *made, int rank, char text[MIXT_TRANSPORT_TEXT]);
/* Its process ended. */
void hub_bury(hub *made, int rank);

#endif
