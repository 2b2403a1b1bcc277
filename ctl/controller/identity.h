/* identity.h - meta.properties of every data directory: which cluster, node and directory it is.
 *
 * First start: a cluster id is drawn (or taken from the configuration), every directory gets its
 * own id. Later starts: the files must agree with each other and with the configuration; a
 * directory of another cluster or node is refused, never adopted.
 *
 * DIR/state/log_dirs remembers them, a line "<directory.id> <path>" each. A directory that stands
 * there and cannot be read, or has no meta.properties (an empty mount point), is missing: it is not
 * made anew. Without the first one, which holds the metadata, nothing starts. Who replaces a lost
 * disk takes its directory out of the configuration for one start.
 * Runs on: sluiced's main thread, before the dataplane starts. Blocks. */
#pragma once
#include "lib/base/err.h"
#include "lib/iface/conf.h"

struct identity {
    struct uuid cluster_id;
    int32_t node_id;
    struct uuid dir_id[CONF_DIRS_MAX]; /* by index in conf.data_dirs */
    bool dir_missing[CONF_DIRS_MAX];   /* an earlier start has seen it: its disk is missing */
    uint32_t dir_cnt;
};
/* Reads or creates. 0, -errno, -E_FOREIGN_DIR or -E_MALFORMED, with a sentence in err[]. */
NODISCARD int identity_load(const struct conf *c, struct identity *ret, char *err, size_t err_cap);

struct identity_file { /* one meta.properties */
    struct uuid cluster_id, dir_id;
    int32_t node_id;
};
/* Java properties as Kafka writes them. 0, or -E_MALFORMED with a sentence in err[]. */
NODISCARD int identity_parse(const char *text, size_t len, struct identity_file *ret, char *err,
                             size_t err_cap);
