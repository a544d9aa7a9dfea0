/* What a store did, and what more memory would bring, from its counts and its record of requests.
 * At most about a second: of long records the newest requests alone are simulated. */
#ifndef MIXT_STORE_REPORT_H
#define MIXT_STORE_REPORT_H

#include "store/simulate.h"
#include "store/store.h"

typedef struct mixt_store_facts {
    const mixt_store_statistics *statistics;
    const mixt_policy_shape *shape;
    int class_count;
    const mixt_expert_class *classes;
    const int *class_of; /* [layers] */
    const mixt_record_book *book;
} mixt_store_facts;

/* mixt_store_curve and mixt_store_report of these. */
mixt_status mixt_store_facts_curve(const mixt_store_facts *facts, mixt_store_point **points,
                                   int *count, int *now, mixt_error *error);
mixt_status mixt_store_facts_report(const mixt_store_facts *facts, char **text, mixt_error *error);

/* Bytes of caches and plans, as a pool was made beside them. */
uint64_t mixt_store_facts_other(const mixt_store_statistics *statistics);

/* The same of a store; from any thread. */
mixt_status mixt_expert_store_curve(mixt_expert_store *store, mixt_store_point **points, int *count,
                                    int *now, mixt_error *error);
mixt_status mixt_expert_store_report(mixt_expert_store *store, char **text, mixt_error *error);

#endif
