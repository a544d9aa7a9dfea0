/* The guarded backend itself: what it must catch is done in processes of their own, which die of
 * it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/context.h"
#include "core/memory.h"
#include "guarded.h"
#include "plan/plan.h"

static mixt_context *context;

static const mixt_backend *backend(void)
{
    return mixt_device_backend(&context->device, sizeof(float));
}

/* Runs `act` in a child, which must die by `signal` with `text` on its stderr. */
static void dies(void (*act)(void), int by, const char *text)
{
    int ends[2], status;
    char said[1000] = "";
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* nobody waits for it longer */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        act();
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t got = 1; got > 0; length += (size_t)(got > 0 ? got : 0)) {
        got = read(ends[0], said + length, sizeof said - 1 - length);
    }
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != by || strstr(said, text) == NULL) {
        fail_msg("status %d, \"%s\" instead of signal %d, \"%s\"", status, said, by, text);
    }
}

/* ------------------------------------------------------------------------------------------ */
/* Memory                                                                                      */

static void memory(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 64, 100, 4096, 5000, 70000, 300000, (size_t)3 << 20};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    unsigned char *blocks[COUNT], *copy = malloc(sizes[COUNT - 1]);
    assert_non_null(copy);
    for (int round = 0; round < 3; round++) { /* the second has what the first gave back */
        for (int i = 0; i < COUNT; i++) {
            blocks[i] = backend()->allocate(sizes[i]);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % MIXT_ALIGNMENT, 0);
            backend()->copy_out(copy, blocks[i], sizes[i]);
            for (size_t j = 0; j < sizes[i]; j++) {
                assert_int_equal(copy[j], 0);
            }
            memset(copy, i + 1, sizes[i]);
            backend()->copy_in(blocks[i], copy, sizes[i]);
        }
        for (int i = 0; i < COUNT; i++) {
            backend()->copy_out(copy, blocks[i], sizes[i]);
            assert_int_equal(copy[0], i + 1);
            assert_int_equal(copy[sizes[i] - 1], i + 1);
            backend()->fill_zero(blocks[i] + sizes[i] / 2, sizes[i] - sizes[i] / 2);
            backend()->copy_out(copy, blocks[i], sizes[i]);
            assert_int_equal(copy[0], sizes[i] == 1 ? 0 : i + 1);
            assert_int_equal(copy[sizes[i] - 1], 0);
            backend()->release(blocks[i], sizes[i]);
        }
    }
    free(copy);
}

static void read_device(void)
{
    const volatile char *block = backend()->allocate(100);
    (void)block[50];
}

static void write_device(void)
{
    volatile char *block = backend()->reserve(100000);
    block[0] = 1;
}

static void read_behind(void)
{
    const volatile char *real = guarded_real(backend()->allocate(4000), 4000);
    (void)real[4000 + 32]; /* in the same line: seen when something is written there */
    (void)real[4000 + 100];
}

static void write_behind(void)
{
    char *block = backend()->allocate(100);
    ((char *)guarded_real(block, 100))[100] = 0;
    backend()->release(block, 100);
}

static void copy_behind(void)
{
    char bytes[200];
    backend()->copy_out(bytes, (char *)backend()->allocate(100) + 50, 51);
}

static void copy_from_host(void)
{
    char bytes[10], more[10] = "host";
    backend()->copy_out(bytes, more, sizeof bytes);
}

static void release_twice(void)
{
    void *block = backend()->allocate(100);
    backend()->release(block, 100);
    backend()->release(block, 100);
}

static void memory_is_watched(void **state)
{
    (void)state;
    dies(read_device, SIGSEGV, "");
    dies(write_device, SIGSEGV, "");
    dies(read_behind, SIGSEGV, "");
    dies(write_behind, SIGABRT, "byte 100 of a block of 100 bytes was written");
    dies(copy_behind, SIGABRT, "copy from the device: 51 bytes from byte 50 of a block of 100");
    dies(copy_from_host, SIGABRT, "is the host's memory");
    dies(release_twice, SIGABRT, "which no block has");
}

/* ------------------------------------------------------------------------------------------ */
/* Operators                                                                                   */

#define TOKENS 3
#define COLUMNS 8
#define BYTES (TOKENS * COLUMNS * sizeof(float))

static float host[TOKENS * COLUMNS];

/* y = x weight^T, all in memory of the device. */
typedef struct product {
    mixt_attributes attributes;
    mixt_shape in[MIXT_SLOTS], out[MIXT_SLOTS];
    mixt_call call;
    mixt_matrix rows;
} product;

static void product_create(product *p)
{
    *p = (product){.call = {.compute = context->device.compute, .tokens = TOKENS, .layer = -1}};
    p->in[LINEAR_X] = mixt_shape_tokens(TOKENS, 1, COLUMNS);
    p->in[LINEAR_WEIGHT] = mixt_shape_static(2, COLUMNS, COLUMNS, 0);
    p->out[LINEAR_Y] = mixt_shape_tokens(TOKENS, 1, COLUMNS);
    p->call.attributes = &p->attributes;
    p->call.in_shape = p->in;
    p->call.out_shape = p->out;
    p->call.in[LINEAR_X] = backend()->allocate(BYTES);
    p->call.in[LINEAR_WEIGHT] = backend()->allocate(COLUMNS * COLUMNS * sizeof(float));
    p->call.out[LINEAR_Y] = backend()->allocate(BYTES);
}

static void product_run(product *p)
{
    backend()->forward[MIXT_OP_linear](&p->call);
}

static void input_on_host(void)
{
    product p;
    product_create(&p);
    p.call.in[LINEAR_X] = host;
    product_run(&p);
}

static void output_on_host(void)
{
    product p;
    product_create(&p);
    p.call.out[LINEAR_Y] = host;
    product_run(&p);
}

static void gradient_on_host(void)
{
    product p;
    product_create(&p);
    p.call.d_out[LINEAR_Y] = backend()->allocate(BYTES);
    p.call.d_in[LINEAR_WEIGHT] = host;
    backend()->backward[MIXT_OP_linear](&p.call);
}

static void input_released(void)
{
    product p;
    product_create(&p);
    backend()->release(p.call.in[LINEAR_X], BYTES);
    product_run(&p);
}

static void input_too_short(void)
{
    product p;
    product_create(&p);
    p.call.in[LINEAR_X] = backend()->allocate(BYTES - 1);
    product_run(&p);
}

static void rows_on_host(void)
{
    product p;
    product_create(&p);
    p.rows = (mixt_matrix){.type = MIXT_TYPE_F32,
                           .n = COLUMNS,
                           .k = COLUMNS,
                           .data = host,
                           .row_bytes = COLUMNS * sizeof(float)};
    p.call.in[LINEAR_WEIGHT] = NULL;
    p.call.matrices[LINEAR_WEIGHT] = &p.rows;
    product_run(&p);
}

static void pack_from_host(void)
{
    mixt_packed *packed;
    backend()->pack(context->device.compute, host, TOKENS, COLUMNS, &packed, NULL);
}

/* y of one expert for TOKENS rows; `store` has its weights. */
static void run_experts(const mixt_store *store, void *workspace)
{
    mixt_attributes attributes = {.activation = MIXT_ACTIVATION_SILU};
    mixt_shape in[MIXT_SLOTS] = {{0}}, out[MIXT_SLOTS] = {{0}};
    static const int32_t offsets[] = {0, TOKENS};
    mixt_call call = {.compute = context->device.compute,
                      .attributes = &attributes,
                      .tokens = TOKENS,
                      .in_shape = in,
                      .out_shape = out,
                      .workspace = workspace};
    in[EXPERTS_ROWS] = mixt_shape_tokens(TOKENS, 1, COLUMNS);
    in[EXPERTS_OFFSETS] = mixt_shape_integers(mixt_shape_static(1, 2, 0, 0));
    call.in[EXPERTS_ROWS] = backend()->allocate(BYTES);
    call.in[EXPERTS_OFFSETS] = backend()->allocate(sizeof offsets);
    backend()->copy_in(call.in[EXPERTS_OFFSETS], offsets, sizeof offsets);
    for (int weight = EXPERTS_W_GATE; weight <= EXPERTS_W_DOWN; weight++) {
        in[weight] = mixt_shape_static(3, 1, COLUMNS, COLUMNS);
        call.stores[weight] = store;
    }
    for (int i = 0; i < EXPERTS_OUTPUTS; i++) {
        out[i] = mixt_shape_tokens(TOKENS, 1, COLUMNS);
        call.out[i] = backend()->allocate(BYTES);
    }
    backend()->forward[MIXT_OP_experts](&call);
}

static bool given;

static int64_t take(void *user, const int32_t *offsets, int32_t *experts, mixt_error *error)
{
    (void)user;
    (void)error;
    experts[0] = 0;
    given = !given && offsets[1] > 0;
    return given;
}

static const mixt_matrix *rows_of(void *user, int matrix, int64_t expert)
{
    (void)matrix;
    return (const mixt_matrix *)user + expert;
}

static float host_weights[COLUMNS * COLUMNS];
static mixt_matrix fetched = {.type = MIXT_TYPE_F32,
                              .n = COLUMNS,
                              .k = COLUMNS,
                              .data = host_weights,
                              .row_bytes = COLUMNS * sizeof(float)};
static const mixt_store store = {.user = &fetched, .take = take, .rows = rows_of};

static void fetched_rows_on_host(void)
{
    run_experts(&store, backend()->allocate(10000));
}

static void workspace_on_host(void)
{
    fetched.data = backend()->allocate(sizeof host_weights);
    run_experts(&store, host);
}

static void workspace_too_short(void)
{
    fetched.data = backend()->allocate(sizeof host_weights);
    run_experts(&store, backend()->allocate(1));
}

static void nothing_wrong(void)
{
    fetched.data = backend()->allocate(sizeof host_weights);
    run_experts(&store, backend()->allocate(10000));
    raise(SIGKILL);
}

static void operators_are_watched(void **state)
{
    (void)state;
    product p;
    product_create(&p);
    product_run(&p);
    dies(input_on_host, SIGABRT, "linear forward: input X: ");
    dies(input_on_host, SIGABRT, "is the host's memory");
    dies(output_on_host, SIGABRT, "linear forward: output Y: ");
    dies(gradient_on_host, SIGABRT, "linear backward: gradient of WEIGHT: ");
    dies(input_released, SIGABRT, "is in no block that is in use");
    dies(input_too_short, SIGABRT, "input X: 96 bytes from byte 0 of a block of 95");
    dies(rows_on_host, SIGABRT, "linear forward: rows of WEIGHT: ");
    dies(fetched_rows_on_host, SIGABRT, "experts forward: rows of W_GATE: ");
    dies(workspace_on_host, SIGABRT, "experts forward: workspace: ");
    dies(workspace_too_short, SIGABRT, "bytes from byte 0 of a block of 1");
    dies(nothing_wrong, SIGKILL, "");
    dies(pack_from_host, SIGABRT, "weights to pack: ");
    backend()->release(p.call.in[LINEAR_X], BYTES);
    backend()->release(p.call.in[LINEAR_WEIGHT], COLUMNS * COLUMNS * sizeof(float));
    backend()->release(p.call.out[LINEAR_Y], BYTES);
}

/* ------------------------------------------------------------------------------------------ */
/* Plans                                                                                       */

#define EXPERTS 2

/* dispatch of TOKENS rows, of which the last has no expert. */
static void unwritten_rows_are_no_numbers(void **state)
{
    (void)state;
    static const int32_t offsets[EXPERTS + 1] = {0, 1, 2}, order[TOKENS] = {1, 0, -1},
                                           place[TOKENS] = {1, 0, -1};
    float x[TOKENS * COLUMNS], rows[TOKENS * COLUMNS];
    mixt_plan *plan;
    mixt_instance *instance;
    mixt_attributes none = {0};
    assert_int_equal(mixt_plan_create("test", TOKENS, sizeof(float), &plan, NULL), MIXT_OK);
    mixt_value_id in[MIXT_SLOTS], out[MIXT_SLOTS];
    mixt_shape choices = mixt_shape_integers(mixt_shape_tokens(TOKENS, 1, 1));
    in[DISPATCH_X] = mixt_plan_input(plan, "x", mixt_shape_tokens(TOKENS, 1, COLUMNS));
    in[DISPATCH_OFFSETS] = mixt_plan_input(
        plan, "offsets", mixt_shape_integers(mixt_shape_static(1, EXPERTS + 1, 0, 0)));
    in[DISPATCH_ORDER] =
        mixt_plan_input(plan, "order", mixt_shape_integers(mixt_shape_tokens(TOKENS, 1, 0)));
    in[DISPATCH_PLACE] = mixt_plan_input(plan, "place", choices);
    mixt_plan_operator(
        plan, &(mixt_operation){.op = MIXT_OP_dispatch, .attributes = &none, .in = in}, out);
    mixt_plan_keep(plan, out[DISPATCH_ROWS]);
    mixt_error error = MIXT_ERROR_INIT;
    if (mixt_plan_finish(plan, &error) != MIXT_OK ||
        mixt_instance_create(plan, &context->device, MIXT_MATMUL_EXACT, &instance, &error) !=
            MIXT_OK) {
        fail_msg("%s", error.message);
    }
    for (int i = 0; i < TOKENS * COLUMNS; i++) {
        x[i] = (float)i;
    }
    mixt_instance_write(instance, in[DISPATCH_X], x, sizeof x);
    mixt_instance_write(instance, in[DISPATCH_OFFSETS], offsets, sizeof offsets);
    mixt_instance_write(instance, in[DISPATCH_ORDER], order, sizeof order);
    mixt_instance_write(instance, in[DISPATCH_PLACE], place, sizeof place);
    assert_int_equal(mixt_instance_run(instance, TOKENS, 0, 1, NULL), MIXT_OK);
    mixt_instance_read(instance, out[DISPATCH_ROWS], 0, rows, sizeof rows);
    const float *view = mixt_instance_view(instance, out[DISPATCH_ROWS]);
    assert_memory_equal(view, rows, sizeof rows);
    for (int i = 0; i < COLUMNS; i++) {
        assert_true(rows[i] == x[COLUMNS + i] && rows[COLUMNS + i] == x[i]);
        assert_true(rows[2 * COLUMNS + i] != rows[2 * COLUMNS + i]);
    }
    mixt_instance_free(instance);
    mixt_plan_free(plan);
}

/* Whoever asks a context gets the guarded backend, in both precisions. */
static void contexts_have_it(void **state)
{
    (void)state;
    for (size_t size = sizeof(float); size <= sizeof(double); size += sizeof(float)) {
        const mixt_backend *own = mixt_device_backend(&context->device, size);
        const mixt_backend *cpu = __real_mixt_backend_cpu(size);
        assert_false(own->host_memory);
        assert_true(own->real_size == size && own != cpu && strstr(own->name, "guarded") != NULL);
        for (int op = 0; op < MIXT_OP_COUNT; op++) {
            assert_true(own->forward[op] != NULL && own->forward[op] != cpu->forward[op]);
            assert_true((own->backward[op] == NULL) == (cpu->backward[op] == NULL));
        }
        assert_true((own->pack == NULL) == (cpu->pack == NULL));
    }
}

int main(void)
{
    mixt_context_options options = {.threads = 1};
    if (mixt_context_create(&options, &context, NULL) != MIXT_OK) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_have_it),
        cmocka_unit_test(memory),
        cmocka_unit_test(memory_is_watched),
        cmocka_unit_test(operators_are_watched),
        cmocka_unit_test(unwritten_rows_are_no_numbers),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mixt_context_free(context);
    return failed;
}
