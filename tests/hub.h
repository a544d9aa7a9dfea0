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
/* Threads                                                                                    */

/* What a rank does. It may use ranks on its own thread alone; returning an error closes them with
 * that line, so that the others end. No cmocka here: HUB_CHECK ends the program. */
typedef mixt_status (*hub_function)(mixt_ranks *ranks, int rank, void *user, mixt_error *error);

/* Runs it on `count` threads; fails the test where one returned an error, and where they hang. */
void hub_run(int count, hub_function function, void *user);
/* The same with options; errors[rank] is how each ended (MIXT_OK: well). */
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
