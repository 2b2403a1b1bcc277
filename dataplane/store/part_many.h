/* part_many.h - directories of many partitions made at once.
 *
 * A new partition costs three flushes (partition.metadata, leader-epoch-checkpoint, the directory).
 * One after another, 1,000 partitions take 23 s on a shared two-core machine with ext4; from 16
 * threads the file system's journal carries many of them in one commit: 1 s.
 *
 * Runs on: a thread that may block (control). */
#pragma once
#include "dataplane/store/catalog.h"

struct part_make {
    struct part_create_opts o; /* sync_parent is ignored */
    struct part *part;         /* the new one, or NULL and rc */
    int rc;
};
/* Run catalog_part_create for all of v, then flush the data directories that got one. A failed
 * flush is the rc of every partition in that directory (which stays, and is found by recovery). */
void part_make_many(struct catalog *c, struct part_make *v, uint32_t cnt);
