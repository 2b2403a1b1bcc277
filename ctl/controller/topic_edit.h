/* topic_edit.h - AlterConfigs and IncrementalAlterConfigs of one resource: from what a client asks
 * to the records that do it, by Kafka's rules. Pure functions; any thread.
 *
 * Resources are topics, groups, this broker, the default of all brokers (type broker, name ""), and
 * the one logger of this broker. */
#pragma once
#include "lib/base/arena.h"
#include "lib/meta/image.h"
#include "lib/meta/records.h"

enum edit_op { EDIT_SET, EDIT_DELETE, EDIT_APPEND, EDIT_SUBTRACT }; /* Kafka's numbers */
struct topic_edit {
    struct span key;
    int8_t op;
    struct span value; /* p == NULL: null */
};
struct topic_edits {
    int8_t resource_type;
    struct span resource;
    const struct topic_edit *v;
    uint32_t cnt;
    bool replace; /* AlterConfigs: what is not named goes back to its default */
};
/* Checks all, then puts the records of what really changes (none: nothing does). 0 with *ret_topic
 * set (NULL when it is no topic), or a KERR_* with its sentence in err[] and no record put. Values
 * may be in `a`, which must outlive `b`'s next use. */
int16_t topic_edit(const struct meta_image *img, const struct topic_edits *in, struct arena *a,
                   struct meta_batch *b, const struct meta_topic **ret_topic, char *err,
                   size_t cap);
