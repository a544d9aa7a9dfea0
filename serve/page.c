#include "page.h"

#include <string.h>

const serve_page_file *serve_page_find(const char *path)
{
    for (const serve_page_file *file = serve_page_files; file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0) {
            return file;
        }
    }
    return NULL;
}
