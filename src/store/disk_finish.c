/* Work on what was read, by threads that do nothing else, so that neither reading nor the caller
 * stands still for it. */
#include <stdlib.h>

#include "store/disk_parts.h"

static void *finish_reads(void *argument)
{
    mixt_disk *disk = argument;
    pthread_mutex_lock(&disk->lock);
    for (;;) {
        mixt_disk_read *read = disk->finishing.first;
        if (read == NULL) {
            if (disk->finished_all) {
                break;
            }
            pthread_cond_wait(&disk->finish_work, &disk->lock);
            continue;
        }
        mixt_disk_pull(&disk->finishing, read);
        pthread_mutex_unlock(&disk->lock);
        read->finish(read);
        pthread_mutex_lock(&disk->lock);
        mixt_disk_done(disk, read);
    }
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

/* As many as can be started; one is enough. */
mixt_status mixt_disk_add_finishers(mixt_disk *disk, int count, mixt_error *error)
{
    disk->finishers = calloc((size_t)count, sizeof *disk->finishers);
    if (disk->finishers == NULL) {
        return mixt_fail(error, MIXT_ERROR_MEMORY, "no memory to read files");
    }
    int number = 0;
    while (disk->finisher_count < count &&
           (number = mixt_disk_thread(&disk->finishers[disk->finisher_count], finish_reads,
                                      disk)) == 0) {
        disk->finisher_count++;
    }
    return disk->finisher_count > 0
               ? MIXT_OK
               : mixt_fail_errno(error, number, "cannot start a thread that finishes reads");
}

void mixt_disk_end_finishers(mixt_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->finished_all = true;
    pthread_cond_broadcast(&disk->finish_work);
    pthread_mutex_unlock(&disk->lock);
    for (int i = 0; i < disk->finisher_count; i++) {
        pthread_join(disk->finishers[i], NULL);
    }
    free(disk->finishers);
}
