/* topic_rules.h - what a topic may be called and configured: Kafka's rules, pure functions.
 * Any thread. Sentences go to err[], always NUL-terminated. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include "lib/iface/conf.h"
#include "lib/meta/config_keys.h"
#include <stdbool.h>

/* Kafka error codes the controller answers with. */
enum {
    KERR_NONE = 0,
    KERR_UNKNOWN_TOPIC = 3,
    KERR_TIMED_OUT = 7,
    KERR_INVALID_TOPIC = 17,
    KERR_UNSUPPORTED_VERSION = 35,
    KERR_TOPIC_EXISTS = 36,
    KERR_INVALID_PARTITIONS = 37,
    KERR_INVALID_RF = 38,
    KERR_INVALID_ASSIGNMENT = 39,
    KERR_INVALID_CONFIG = 40,
    KERR_INVALID_REQUEST = 42,
    KERR_POLICY_VIOLATION = 44,
    KERR_STORAGE = 56,
    KERR_UNKNOWN_TOPIC_ID = 100,
};
/* 0 or KERR_INVALID_TOPIC: 1..249 of [a-zA-Z0-9._-], not "." or "..". */
int16_t topic_name_check(struct span name, char *err, size_t cap);
/* An order in which names are equal that are the same once '.' is read as '_': their metrics would
 * collide. */
int topic_name_order(struct span a, struct span b);
/* 0 or KERR_INVALID_CONFIG. A null value is refused. */
int16_t topic_config_check(struct span key, struct span value, char *err, size_t cap);
/* The same for a key of a group. */
int16_t group_config_check(struct span key, struct span value, char *err, size_t cap);
/* The same for a key of the broker; KERR_INVALID_REQUEST for one that only the file can set. */
int16_t broker_config_check(struct span key, struct span value, char *err, size_t cap);
/* What a topic without an override of k has, in out[cap], and where that comes from. */
enum config_source topic_default(const struct conf *c, const struct meta_image *img,
                                 const struct config_key *k, char *out, size_t cap);
