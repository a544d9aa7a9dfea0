/* Requests that HTTP/1.1 (RFC 9110, 9112) forbids, allows or leaves open, each with the strictest
 * reply that a server may give: one row for each of the 215 things that Http11Probe asks of
 * servers, in requests of our own. */
#ifndef MIXT_TESTS_STRICT_CASES_H
#define MIXT_TESTS_STRICT_CASES_H

#include <stddef.h>

typedef enum strict_end {
    END_CLOSES, /* by the server, which answers nothing that stands behind the request */
    END_STAYS,  /* the connection goes on */
    END_CUT,    /* the request is not whole: the client ends its side */
} strict_end;

typedef struct strict_case {
    const char *group, *name;
    const char *bytes;
    size_t length;
    const char *statuses; /* that will do; 0: closed without a reply */
    strict_end end;
    const char *part;  /* of the reply, with '!' in front: not of it; NULL: anything */
    const char *piece; /* stands `count` times in place of the first '@'; may be NULL */
    int count;
    int replies; /* of status 200 that are to come; 0: one of `statuses` */
} strict_case;

extern const strict_case strict_cases[];
extern const size_t strict_case_count;

#endif
