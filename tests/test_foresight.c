/* Reading ahead by the store itself, on a file of made-up experts: which guesses are read, what
 * becomes of those that were wrong, and that an expert's bytes are its own whatever was guessed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "store/store.h"

#define LAYERS 2
#define EXPERTS 8
#define ITEMS (LAYERS * EXPERTS)
#define BYTES ((size_t)40000) /* of a matrix */
#define SLOTS 6

typedef struct bench {
    char *path;
    mixt_expert_store *store;
    const mixt_store *layer[LAYERS];
} bench;

static unsigned char byte_of(int item, int matrix, size_t i)
{
    return (unsigned char)(((size_t)item * 3 + (size_t)matrix + 1) * 37 + (i * 2654435761U >> 15));
}

static void write_experts(const char *path)
{
    unsigned char *all = malloc(ITEMS * 3 * BYTES);
    assert_non_null(all);
    for (size_t i = 0; i < ITEMS * 3 * BYTES; i++) {
        all[i] = byte_of((int)(i / (3 * BYTES)), (int)(i / BYTES % 3), i % BYTES);
    }
    write_file(path, all, ITEMS * 3 * BYTES);
    free(all);
}

static void open_bench(bench *b, mixt_store_prefetch prefetch)
{
    mixt_error error = MIXT_ERROR_INIT;
    b->path = scratch_path("experts");
    write_experts(b->path);
    mixt_disk *disk;
    int file;
    must(mixt_disk_create(&(mixt_disk_options){.reader = MIXT_STORE_READER_THREADS}, &disk, &error),
         &error);
    must(mixt_disk_add(disk, b->path, NULL, &file, &error), &error);
    static mixt_expert_place places[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        for (int m = 0; m < 3; m++) {
            places[i].part[m][0] =
                (mixt_expert_part){file, ((uint64_t)i * 3 + (uint64_t)m) * BYTES, BYTES};
            places[i].part[m][1].file = -1;
        }
    }
    static const int32_t first[LAYERS + 1] = {0, EXPERTS, 2 * EXPERTS};
    static const int chosen[LAYERS] = {2, 2};
    const size_t slot = (3 * BYTES / MIXT_DISK_BLOCK + 2) * MIXT_DISK_BLOCK;
    must(mixt_expert_store_create(
             &(mixt_expert_store_options){.name = "experts",
                                          .shape = {LAYERS, first, NULL, chosen},
                                          .places = places,
                                          .policy = "lru",
                                          .prefetch = prefetch,
                                          .memory = SLOTS * slot,
                                          .disk = disk},
             &b->store, &error),
         &error);
    for (int i = 0; i < LAYERS; i++) {
        b->layer[i] = mixt_expert_store_layer(b->store, i);
    }
}

static void close_bench(bench *b)
{
    mixt_expert_store_free(b->store);
    unlink(b->path);
    free(b->path);
}

/* A layer wants two experts, takes them, and finds their bytes. */
static void use(const bench *b, int layer, int32_t one, int32_t other)
{
    int32_t offsets[EXPERTS + 1] = {0}, taken[EXPERTS];
    for (int e = 0; e < EXPERTS; e++) {
        offsets[e + 1] = offsets[e] + (e == one || e == other);
    }
    mixt_error error = MIXT_ERROR_INIT;
    const mixt_store *face = b->layer[layer];
    mixt_expert_store_ask(face->user, offsets, EXPERTS + 1);
    int seen = 0;
    for (int64_t count; (count = face->take(face->user, offsets, taken, &error)) != 0;) {
        assert_true(count > 0);
        for (int64_t i = 0; i < count; i++, seen++) {
            assert_true(taken[i] == one || taken[i] == other);
            for (int m = 0; m < 3; m++) {
                const unsigned char *data = face->rows(face->user, m, taken[i])->data;
                for (size_t k = 0; k < BYTES; k += 997) {
                    assert_int_equal(data[k], byte_of(layer * EXPERTS + taken[i], m, k));
                }
            }
        }
    }
    assert_int_equal(seen, 2);
}

static mixt_store_statistics statistics_of(const bench *b)
{
    mixt_store_statistics s;
    mixt_expert_store_describe(b->store, &s);
    return s;
}

/* The first of a row's guesses is always right, the second never: as steps go on the first is read
 * and the second is not, but where all are read. Experts change, so that each one is missing. */
static void run_steps(const bench *b, int from, int to)
{
    for (int step = from; step < to; step++) {
        int32_t right = step % 4, wrong = 4 + step % 2, other = 6 + step % 2;
        b->layer[0]->begin(b->layer[0]->user, 1);
        use(b, 0, step % EXPERTS, (step + 3) % EXPERTS);
        mixt_expert_store_foresee(b->layer[1]->user, (int32_t[]){right, wrong}, 2);
        use(b, 1, right, other);
        b->layer[0]->end(b->layer[0]->user);
    }
}

static void wrong_places_are_left_out(void **state)
{
    (void)state;
    bench b;
    open_bench(&b, MIXT_STORE_PREFETCH_MEASURED);
    run_steps(&b, 0, 4); /* the first turn: it has to learn */
    mixt_store_statistics s = statistics_of(&b);
    assert_int_equal(s.prefetch_used, 4);
    assert_in_range(s.prefetched - s.prefetch_used, 1, 4);
    uint64_t wrong = s.prefetched - s.prefetch_used;
    run_steps(&b, 4, 24); /* every way but that of all: 16 steps that read, 4 that do not */
    s = statistics_of(&b);
    assert_int_equal(s.prefetch_used, 4 + 16);
    assert_int_equal(s.prefetched - s.prefetch_used, wrong);
    assert_true(s.prefetch_recall > 0.49 && s.prefetch_recall < 0.51);
    close_bench(&b);
    open_bench(&b, MIXT_STORE_PREFETCH_ALWAYS);
    run_steps(&b, 0, 24);
    s = statistics_of(&b);
    assert_int_equal(s.prefetch_used, 24);
    assert_in_range(s.prefetched - s.prefetch_used, 20, 24);
    close_bench(&b);
}

/* A guess that the later one does not repeat is given up; wanted after all it has its own bytes. */
static void later_guesses_count(void **state)
{
    (void)state;
    bench b;
    open_bench(&b, MIXT_STORE_PREFETCH_ALWAYS);
    for (int step = 0; step < 40; step++) {
        int32_t early = step % EXPERTS, late = (step + 3) % EXPERTS;
        b.layer[0]->begin(b.layer[0]->user, 1);
        mixt_expert_store_foresee_late(b.layer[0]->user, (int32_t[]){(step + 1) % EXPERTS}, 1);
        use(&b, 0, (step + 1) % EXPERTS, (step + 5) % EXPERTS);
        mixt_expert_store_foresee(b.layer[1]->user, (int32_t[]){early, late}, 2);
        mixt_expert_store_foresee_late(b.layer[1]->user, (int32_t[]){late, (step + 6) % EXPERTS},
                                       2);
        use(&b, 1, step % 2 == 0 ? early : late, (step + 6) % EXPERTS);
        b.layer[0]->end(b.layer[0]->user);
    }
    mixt_store_statistics s = statistics_of(&b);
    assert_true(s.prefetched > 40 && s.prefetch_used > 0 && s.prefetch_bytes_wasted > 0);
    assert_true(s.prefetch_recall > 0.5);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_places_are_left_out),
        cmocka_unit_test(later_guesses_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
