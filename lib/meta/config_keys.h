/* config_keys.h - the configuration keys of topics, groups and the broker, and which value is in
 * force.
 *
 * A topic's value is the first of: its override, the dynamic value of the broker's key that gives
 * the default (this node's, then that of all nodes), what the configuration file says, the key's
 * default. The first two are in the metadata image; the file is the caller's
 * (lib/iface/conf_kafka.h). Functions: any thread; all strings static unless said otherwise. */
#pragma once
#include "lib/base/span.h"
#include "lib/meta/image.h"

/* Kafka's ConfigDef types, by the numbers of DescribeConfigs. */
enum config_type {
    CONFIG_BOOLEAN = 1,
    CONFIG_STRING = 2,
    CONFIG_INT = 3,
    CONFIG_LONG = 5,
    CONFIG_DOUBLE = 6,
    CONFIG_LIST = 7
};
/* Where a value comes from, by the numbers of DescribeConfigs. */
enum config_source {
    CONFIG_SOURCE_TOPIC = 1,
    CONFIG_SOURCE_BROKER = 2,
    CONFIG_SOURCE_DEFAULT_BROKER = 3,
    CONFIG_SOURCE_STATIC = 4,
    CONFIG_SOURCE_DEFAULT = 5,
    CONFIG_SOURCE_LOGGER = 6,
    CONFIG_SOURCE_GROUP = 8
};
struct config_key {
    const char *key;        /* of the topic, of the group, or of the broker */
    const char *broker_key; /* of a topic's or group's key: the broker's that gives its default, or
                               "" */
    enum config_type type;
    const char *def; /* NULL: none, shown as null */
    int64_t lo, hi;
    const char *choices;
    bool dynamic; /* of a broker's key */
    const char *doc;
};
uint32_t config_topic_cnt(void);
const struct config_key *config_topic_at(uint32_t idx);
/* NULL: there is no such key. */
const struct config_key *config_topic_find(struct span key);
/* The broker's own keys. */
uint32_t config_broker_cnt(void);
const struct config_key *config_broker_at(uint32_t idx);
/* A key of the broker: one of its own, or the topic's row whose broker_key it is (dynamic). NULL:
 * there is no such key. */
const struct config_key *config_broker_find(struct span key);
/* The keys of a group. */
uint32_t config_group_cnt(void);
const struct config_key *config_group_at(uint32_t idx);
/* NULL: there is no such key. */
const struct config_key *config_group_find(struct span key);
/* The broker's key whose default holds while this one has no value (log.retention.hours for
 * log.retention.ms): Kafka's default of this one is null. NULL: it has a default of its own. */
const struct config_key *config_broker_fallback(const char *broker_key);
/* The name by which the broker knows the key. */
static inline const char *config_broker_name(const struct config_key *k)
{
    return k->broker_key[0] != '\0' ? k->broker_key : k->key;
}

/* The image's value of a topic's key, and where it comes from (ret may be NULL); NULL: the file and
 * the default decide. Lives as long as the image. */
const char *config_of_topic(const struct meta_image *img, const struct meta_topic *t,
                            const char *key, enum config_source *ret);
/* Differ the dynamic broker configurations of two images? */
bool config_broker_changed(const struct meta_image *a, const struct meta_image *b);
