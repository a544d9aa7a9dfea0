/* Memory that a process may take (core/memory_limit.h), by made-up files of the kernel's and, where
 * control groups may be made, by real ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/files.h"
#include "core/memory_limit.h"
#include "core/platform.h"
#include "sanitized.h"
#include "scratch.h"

#define MIB ((uint64_t)1 << 20)

/* ---- made-up files */

static char *root;

static void put(const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", root, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    mixt_error error = MIXT_ERROR_INIT;
    must(mixt_folder_create(path, &error), &error);
    *slash = '/';
    write_file(path, text, strlen(text));
}

/* An empty tree: a machine of which 8 GiB are free. */
static void begin(void)
{
    static int trees;
    char name[32];
    snprintf(name, sizeof name, "tree%d", trees++);
    free(root);
    root = scratch_path(name);
    put("proc/meminfo", "MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
}

static void put_mib(const char *name, uint64_t mib)
{
    char text[32];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)(mib * MIB));
    put(name, text);
}

static void expect(uint64_t mib, const char *wanted)
{
    const char *limit;
    uint64_t bytes = mixt_memory_available_by(root, &limit);
    assert_string_equal(limit, wanted);
    assert_int_equal(bytes, mib * MIB);
}

#define FREE "the machine"
#define MAX "memory.max of the control group"
#define HIGH "memory.high of the control group"
#define V1 "memory.limit_in_bytes of the control group"
#define V1_ABOVE "hierarchical_memory_limit of the control group"
#define MOUNT "30 23 0:26 / /cg rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"

static void test_machine(void **state)
{
    (void)state;
    begin();
    expect(8192, FREE);
    put("proc/meminfo", "MemAvailable: 99999999999999999999999 kB\n");
    const char *limit;
    assert_int_equal(mixt_memory_available_by(root, &limit), mixt_memory_installed());
    assert_string_equal(limit, "the machine");
    assert_int_equal(mixt_memory_available_by(NULL, &limit), mixt_memory_installed());
}

static void test_version_2(void **state)
{
    (void)state;
    begin();
    put("proc/self/cgroup", "0::/outer/inner\n");
    put("proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n" MOUNT);
    put_mib("cg/outer/memory.max", 4000);
    put_mib("cg/outer/memory.current", 1000);
    put("cg/outer/memory.high", "max\n");
    put("cg/outer/inner/memory.max", "max\n");
    put("cg/outer/inner/memory.high", "max\n");
    put_mib("cg/outer/inner/memory.current", 700);
    expect(3000, MAX);
    /* Page cache of which nothing has to be written counts as free. */
    char text[256];
    snprintf(text, sizeof text,
             "anon 5\ninactive_file %llu\nactive_file %llu\nfile_dirty %llu\nfile_writeback %llu\n",
             (unsigned long long)(300 * MIB), (unsigned long long)(100 * MIB),
             (unsigned long long)(30 * MIB), (unsigned long long)(20 * MIB));
    put("cg/outer/memory.stat", text);
    expect(3350, MAX);
    put_mib("cg/outer/inner/memory.high", 1000);
    expect(300, HIGH);
    put("cg/outer/inner/memory.stat", text);
    expect(650, HIGH);
    put_mib("cg/outer/inner/memory.max", 800);
    expect(450, MAX);
    put_mib("cg/outer/inner/memory.max", 100); /* above it already */
    expect(0, MAX);
}

static void test_version_1(void **state)
{
    (void)state;
    begin();
    put("proc/self/cgroup", "9:name=systemd:/\n5:cpu,memory:/a/b\n4:memory_not:/c\n0::/\n");
    put("proc/self/mountinfo", "31 23 0:28 / /cg rw - tmpfs tmpfs rw\n"
                               "34 31 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu\n"
                               "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,cpu,memory\n"
                               "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n");
    put("cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("cg/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    put_mib("cg/memory/a/b/memory.limit_in_bytes", 3000);
    put_mib("cg/memory/a/b/memory.usage_in_bytes", 1000);
    char text[256];
    snprintf(text, sizeof text,
             "cache 1\ninactive_file 7\nhierarchical_memory_limit %llu\n"
             "total_inactive_file %llu\ntotal_active_file %llu\ntotal_dirty 0\n",
             (unsigned long long)(9000 * MIB), (unsigned long long)(200 * MIB),
             (unsigned long long)(50 * MIB));
    put("cg/memory/a/b/memory.stat", text);
    put("cg/unified/nothing", "");
    expect(2250, V1);
    put_mib("cg/memory/a/memory.limit_in_bytes", 2000);
    expect(2000, V1);
    snprintf(text, sizeof text, "hierarchical_memory_limit %llu\n",
             (unsigned long long)(1500 * MIB));
    put("cg/memory/a/b/memory.stat", text);
    expect(500, V1_ABOVE);
}

/* What a container sees: its group is what is mounted, its path that of outside or of inside. */
static void test_containers(void **state)
{
    (void)state;
    static const char *const mounts[][3] = {
        {"0::/docker/x\n", "30 23 0:26 /docker/x /cg rw - cgroup2 cgroup2 rw\n", "cg"},
        {"0::/docker/x/y\n", "30 23 0:26 /docker/x /cg rw - cgroup2 cgroup2 rw\n", "cg/y"},
        {"0::/docker/xy\n", "30 23 0:26 /docker/x /cg rw - cgroup2 cgroup2 rw\n", "cg"},
        {"0::/\n", "30 23 0:26 /docker/x /cg rw - cgroup2 cgroup2 rw\n", "cg"},
        {"0::/docker/x\n", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n", "cg"},
        {"0::/../other\n", "30 23 0:26 /.. /cg rw - cgroup2 cgroup2 rw\n", "cg"},
        {"0::/../../etc\n", MOUNT, "cg"},
        {"0::/x\n", "30 23 0:26 /other /else rw - cgroup2 cgroup2 rw\n" MOUNT, "cg/x"},
        {"0::/x\n", MOUNT "30 23 0:26 /other /else rw - cgroup2 cgroup2 rw\n", "cg/x"},
        {"0::/a b\\c\n", "30 23 0:26 / /c\\040g rw - cgroup2 cgroup2 rw\n", "c g/a b\\c"},
        {"0::/x", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw", "cg/x"},
    };
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        begin();
        put("proc/self/cgroup", mounts[i][0]);
        put("proc/self/mountinfo", mounts[i][1]);
        char name[128];
        snprintf(name, sizeof name, "%s/memory.max", mounts[i][2]);
        put_mib(name, 100 + i);
        put("etc/memory.max", "5\n");
        expect(100 + i, MAX);
    }
}

/* Files that are none, or say nothing of use. */
static void test_odd_files(void **state)
{
    (void)state;
    static const char *const groups[] = {
        "", "\n", "0", "0:", "0::", "0::x\n", ":::::\n", "0::/x\n"};
    static const char *const tables[] = {"",
                                         "\n",
                                         " - ",
                                         "30 23 0:26 / - cgroup2 cgroup2 rw\n",
                                         "30 23 0:26 / /cg rw cgroup2 x rw\n",
                                         "30 23 0:26 / /cg rw - cgroup2\n",
                                         MOUNT};
    static const char *const numbers[] = {"",      "max",  "-1",  "+5", "99999999999999999999999",
                                          "12abc", " 100", "0x10"};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
            begin();
            put("proc/self/cgroup", groups[i]);
            put("proc/self/mountinfo", tables[k]);
            for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
                put("cg/x/memory.max", numbers[n]);
                put("cg/x/memory.stat", numbers[n]);
                put("cg/memory.high", numbers[n]);
                expect(8192, FREE);
            }
        }
    }
    char *longest = malloc(20000);
    memset(longest, 'y', 20000);
    memcpy(longest, "0::/", 4);
    longest[19999] = '\0';
    begin();
    put("proc/self/cgroup", longest);
    put("proc/self/mountinfo", MOUNT);
    put_mib("cg/memory.max", 7);
    expect(8192, FREE);
    put("proc/self/cgroup", "0::/x\n");
    memcpy(longest, "30 23 0:26 / /", 14);
    memcpy(longest + 19970, " rw - cgroup2 cgroup2 rw", 25);
    put("proc/self/mountinfo", longest);
    expect(8192, FREE);
    free(longest);
}

/* ---- real limits, in a process of their own */

/* What it returns: 0 where it went well. */
static int in_child(int (*function)(const char *name), const char *name)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(function(name));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int limited_data(const char *name)
{
    const char *limit;
    struct rlimit data = {500 * MIB, 500 * MIB}, space = {400 * MIB, 400 * MIB};
    (void)name;
    if (setrlimit(RLIMIT_DATA, &data) != 0 || mixt_memory_limit(&limit) > 500 * MIB ||
        strcmp(limit, "ulimit -d") != 0) {
        return 1;
    }
    if (setrlimit(RLIMIT_AS, &space) != 0 || mixt_memory_limit(&limit) > 400 * MIB ||
        strcmp(limit, "ulimit -v") != 0) {
        return 2;
    }
    return mixt_memory_available(&limit) <= 400 * MIB ? 3 : 0;
}

static void test_resource_limits(void **state)
{
    (void)state;
    const char *limit;
    assert_true(mixt_memory_limit(NULL) <= mixt_memory_available(NULL) + 1024 * MIB);
    assert_true(mixt_memory_limit(&limit) > 0);
    assert_true(strlen(limit) > 0);
    /* but for sanitizers, whose shadow is larger than that, and qemu, which keeps no such limits */
    if (!SANITIZED && getenv("MIXT_EMULATED") == NULL) {
        assert_int_equal(in_child(limited_data, NULL), 0);
    }
}

#define REAL_MIB 300

#if defined(__linux__) && !defined(MIXT_PORTABLE)
static int limited_group(const char *folder)
{
    char path[512];
    const char *limit;
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    FILE *members = fopen(path, "w");
    if (members == NULL || fprintf(members, "%d\n", (int)getpid()) < 0 || fclose(members) != 0) {
        return 0; /* not to be joined here */
    }
    uint64_t bytes = mixt_memory_available(&limit);
    if (bytes > REAL_MIB * MIB || bytes < (REAL_MIB - 50) * MIB ||
        strstr(limit, "of the control group") == NULL) {
        fprintf(stderr, "%llu bytes by %s\n", (unsigned long long)bytes, limit);
        return 1;
    }
    if (SANITIZED) { /* whose shadow does not fit */
        return 0;
    }
    size_t size = 100 * MIB;
    volatile char *block = malloc(size);
    for (size_t i = 0; i < size; i += 1024) {
        block[i] = 1;
    }
    uint64_t less = mixt_memory_available(NULL);
    free((void *)block);
    return less + 90 * MIB > bytes || bytes > less + 110 * MIB ? 2 : 0;
}

static void test_real_groups(void **state)
{
    (void)state;
    static const char *const tops[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
                                          {"/sys/fs/cgroup", "memory.max"}};
    for (size_t i = 0; i < 2; i++) {
        char folder[256], path[512];
        snprintf(folder, sizeof folder, "%s/mixt-test-%d", tops[i][0], (int)getpid());
        snprintf(path, sizeof path, "%s/%s", folder, tops[i][1]);
        if (mkdir(folder, 0755) != 0) {
            continue;
        }
        FILE *limit = fopen(path, "r+");
        bool set = limit != NULL && fprintf(limit, "%d", REAL_MIB << 20) > 0;
        set = limit != NULL && fclose(limit) == 0 && set;
        int failed = set ? in_child(limited_group, folder) : 0;
        assert_int_equal(rmdir(folder), 0);
        assert_int_equal(failed, 0);
    }
}
#endif

static int remove_all(void **state)
{
    free(root);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_odd_files),
        cmocka_unit_test(test_resource_limits),
#if defined(__linux__) && !defined(MIXT_PORTABLE)
        cmocka_unit_test(test_real_groups),
#endif
    };
    return cmocka_run_group_tests_name("memory limit", tests, scratch_make, remove_all);
}
