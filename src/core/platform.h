/* What is not in POSIX: Linux has it, others may have it under another name or not at all. Each
 * function says what a machine without it gets. tests/lint/run.sh keeps the names of such calls
 * inside platform.c; -DMIXT_PORTABLE (make PORTABLE=1) compiles the ways of POSIX alone. */
#ifndef MIXT_CORE_PLATFORM_H
#define MIXT_CORE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>

/* Files. Two paths that are there exchange their names in one move. -1 with errno: ENOSYS where the
 * system cannot, EINVAL where the file system cannot. */
int mixt_paths_exchange(const char *a, const char *b);
/* mkstemp whose descriptor is closed by exec. Without the flag: a moment later. */
int mixt_temporary_open(char *path);
/* Whether reads of a descriptor go past the system's cache from now on, in whole blocks; false
 * where system or file system cannot. */
bool mixt_descriptor_go_direct(int descriptor, bool direct);

/* Memory. Pages of zeros that cost nothing until they are touched; NULL with errno. munmap. */
void *mixt_pages_map(size_t size);
/* Puts pages of zeros, for writing, in place of mapped ones; false with errno. */
bool mixt_pages_replace(void *block, size_t size);
/* Puts a page of zeros, for reading, where a mapped one was lost. For signal handlers. */
bool mixt_page_replace(void *page, size_t size);
/* A wish for large pages, `block` aligned to 2 MiB: speed alone depends on it. */
void mixt_pages_enlarge(void *block, size_t size);
/* Gives pages memory now that would get it when they are first touched; what is in them stays, also
 * where others write meanwhile. False: the system cannot. */
bool mixt_pages_fill(void *block, size_t size);
/* What stands before /proc, where the system shows memory and control groups; NULL where it has no
 * such folder. */
const char *mixt_system_files(void);
/* Paths of the program's file, and of the file that this code is in (the program's own, or a shared
 * library's); false where the system does not tell, or the path is too long. */
bool mixt_program_path(char *path, size_t size);
bool mixt_library_path(char *path, size_t size);
/* Bytes of memory that the machine has; SIZE_MAX where that is unknown. */
size_t mixt_memory_installed(void);

/* Processors that this process may run on, at least 1. Without that figure: those that are on. */
int mixt_processors_allowed(void);

/* Whether a 64-bit ARM has the instructions of FEAT_DotProd and FEAT_I8MM. Without that figure:
 * whether the compiler was told that it has. */
bool mixt_processor_has_dotprod(void);
bool mixt_processor_has_i8mm(void);

/* Whether the system lets this process use the tile registers of AMX: it has to be asked, once. */
bool mixt_processor_permits_tiles(void);

/* Fills `bytes` with randomness of the system's; false where it has none. */
bool mixt_entropy_read(void *bytes, size_t size);

#endif
