/* Read-only maps of files that survive their file being cut short by somebody else: a page that the
 * file lost reads as zeros, and the map says from then on that it is not intact. This needs a
 * handler of SIGBUS, which every opening makes sure of; faults at other addresses go on to the
 * handler that was there before. */
#ifndef MIXT_CORE_MAP_H
#define MIXT_CORE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "mixt.h"

typedef struct mixt_map mixt_map;

/* Regular files alone; FIFOs, devices and folders are refused without waiting for them. */
mixt_status mixt_map_open(const char *path, mixt_map **map, mixt_error *error);
void mixt_map_close(mixt_map *map);
/* Reads the file into memory of this process, in large pages where there are any, at the addresses
 * that the map has. From then on it is intact, whatever happens to the file. After an error it is
 * not. Before other threads know the map. */
mixt_status mixt_map_load(mixt_map *map, const char *path, mixt_error *error);
const void *mixt_map_data(const mixt_map *map); /* page-aligned; not NULL, even of no bytes */
/* Whether an address lies in the map as the file has it, not in memory, and where in the file. */
bool mixt_map_place(const mixt_map *map, const void *address, uint64_t *offset);
uint64_t mixt_map_size(const mixt_map *map); /* when it was opened */
/* False once a page was lost, or the file became shorter or was written to: one that is cut and
 * written anew has its old size again, and none of its pages faults. */
bool mixt_map_intact(const mixt_map *map);
/* Whether a descriptor is of the mapped file, and that as it was when it was mapped. */
bool mixt_map_same(const mixt_map *map, int descriptor);

#endif
