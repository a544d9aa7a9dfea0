/* core/platform.h with musl: two files exchange their names, which musl itself has no call for. */
#include "core/platform.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

int main(void)
{
    char a[] = "/tmp/mixt-musl-XXXXXX", b[] = "/tmp/mixt-musl-XXXXXX", byte = 0;
    int first = mixt_temporary_open(a), second = mixt_temporary_open(b);
    if (first < 0 || second < 0 || write(first, "a", 1) != 1 || write(second, "b", 1) != 1) {
        return fail("temporary files");
    }
    if (mixt_paths_exchange(a, b) != 0) {
        return fail("exchange");
    }
    int opened = open(a, O_RDONLY);
    if (opened < 0 || read(opened, &byte, 1) != 1 || byte != 'b') {
        return fail("exchanged");
    }
    unlink(a);
    unlink(b);
    unsigned long long seed = 0;
    char *page = mixt_pages_map(1 << 16);
    if (page == NULL || page[5] != 0 || mixt_processors_allowed() < 1 ||
        mixt_memory_installed() == 0 || !mixt_entropy_read(&seed, sizeof seed) || seed == 0) {
        return fail("memory, processors or randomness");
    }
    return 0;
}
