/* Times attention of single rows over a cache, as a generated token needs it, by the type of the
 * cache: bytes of keys and values in a second, beside those of plain reading. Layers lie one behind
 * the other, so that the caches of the processor hold none of them.
 * Usage: attention [threads [rounds [heads kv_heads head_dim [most keys [type]]]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/cpu/compute.h"
#include "core/memory.h"
#include "ops/attention.h"

#define BYTES ((size_t)1 << 29)
#define PIECE ((size_t)1 << 20)

static unsigned char *memory;
static volatile uint64_t sink;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void read_item(void *context, int64_t item, int thread)
{
    (void)context;
    (void)thread;
    const uint64_t *from = (const uint64_t *)(const void *)(memory + (size_t)item * PIECE);
    uint64_t sum = 0;
    for (size_t i = 0; i < PIECE / 8; i += 8) { /* a word of each line reads it all */
        __builtin_prefetch(from + i + 256, 0, 3);
        sum ^= from[i];
    }
    sink = sum;
}

/* One layer of one token after another through the memory. */
typedef struct layers {
    mixt_call call;
    mixt_attributes attributes;
    mixt_shape in[MIXT_SLOTS], out[MIXT_SLOTS];
    size_t half; /* bytes of keys, and of values */
    int count;
} layers;

static void prepare(layers *l, const mixt_compute *compute, mixt_type type, int64_t positions)
{
    mixt_attributes *a = &l->attributes;
    int64_t heads = a->heads, n = a->head_dim;
    a->cache_type = type;
    a->scale = 0.1;
    l->in[ATTENTION_Q] = l->out[ATTENTION_Y] = mixt_shape_tokens(1, 1, heads * n);
    l->out[ATTENTION_LSE] = mixt_shape_tokens(1, 1, heads);
    l->in[ATTENTION_K] = l->in[ATTENTION_V] =
        mixt_cache_shape(type, positions, (int64_t)a->kv_heads * n);
    int64_t size = type == MIXT_TYPE_F32 ? 4 : 1;
    l->half = (size_t)(positions * l->in[ATTENTION_K].size[1] * size);
    l->count = (int)(BYTES / (2 * l->half));
    int64_t parts = mixt_attention_parts(&l->in[ATTENTION_K], &l->in[ATTENTION_PAGES]);
    size_t room = (size_t)(MIXT_ATTENTION_LIST_REALS + mixt_attention_room(a, parts, 1));
    l->call = (mixt_call){.compute = compute,
                          .attributes = a,
                          .tokens = 1,
                          .in_shape = l->in,
                          .out_shape = l->out,
                          .workspace = mixt_block_allocate((room + 16) * sizeof(float))};
    static float q[1 << 16], y[1 << 16], lse[1 << 10];
    static int32_t first = 0, last;
    last = (int32_t)positions - 1;
    for (int64_t i = 0; i < heads * n; i++) {
        q[i] = (float)(i % 7) - 3;
    }
    l->call.in[ATTENTION_Q] = q;
    l->call.in[ATTENTION_FIRST] = &first;
    l->call.in[ATTENTION_LAST] = &last;
    l->call.out[ATTENTION_Y] = y;
    l->call.out[ATTENTION_LSE] = lse;
}

static double run(layers *l)
{
    double begin = now();
    for (int i = 0; i < l->count; i++) {
        l->call.in[ATTENTION_K] = memory + 2 * l->half * (size_t)i;
        l->call.in[ATTENTION_V] = memory + 2 * l->half * (size_t)i + l->half;
        mixt_attention_forward_f32(&l->call);
    }
    return 2 * (double)l->half * l->count / (now() - begin);
}

static double reading(const mixt_compute *compute)
{
    double begin = now();
    mixt_pool_run(compute->pool, (int64_t)(BYTES / PIECE), read_item, NULL);
    return (double)BYTES / (now() - begin);
}

int main(int argc, char **argv)
{
    static const mixt_type types[] = {MIXT_TYPE_F32, MIXT_TYPE_F16, MIXT_TYPE_BF16, MIXT_TYPE_Q8_0};
    mixt_context_options options = {.threads = argc > 1 ? atoi(argv[1]) : 0};
    int64_t most_keys = argc > 6 ? atoi(argv[6]) : 32768;
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    mixt_compute *compute;
    if (mixt_compute_create(&options, &compute, NULL) != MIXT_OK ||
        (memory = mixt_block_allocate(BYTES)) == NULL) {
        return 1;
    }
    memset(memory, 0, BYTES); /* zeros: numbers of every type */
    printf("best of %d rounds; GB/s of keys and values, share of reading\n", rounds);
    for (int64_t positions = 4096; positions <= most_keys; positions *= positions < 16384 ? 4 : 2) {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            if (argc > 7 && strcmp(argv[7], mixt_type_info(types[t])->name) != 0) {
                continue;
            }
            layers l = {.attributes = {.heads = argc > 3 ? atoi(argv[3]) : 16,
                                       .kv_heads = argc > 4 ? atoi(argv[4]) : 16,
                                       .head_dim = argc > 5 ? atoi(argv[5]) : 128}};
            prepare(&l, compute, types[t], positions);
            double most = 0, read = 0;
            for (int i = 0; i < rounds; i++) {
                double plain = reading(compute), rate = run(&l);
                read = plain > read ? plain : read;
                most = rate > most ? rate : most;
            }
            printf("%6lld keys, %-5s %6.1f GB/s, reading %5.1f: %3.0f %%\n", (long long)positions,
                   mixt_type_info(types[t])->name, most / 1e9, read / 1e9, 100 * most / read);
            fflush(stdout);
        }
    }
    return 0;
}
