/* config_keys.c - see config_keys.h. */
#include "lib/meta/config_keys.h"
#include "lib/base/assert.h"
#include <string.h>

static const struct config_key topic_keys[] = {
#define TOPIC_CONFIG(key, type, def, lo, hi, choices, broker, doc, effect)                         \
    {key, broker, CONFIG_##type, def, lo, hi, choices, true, doc},
#include "lib/meta/topic_config.def"
#undef TOPIC_CONFIG
};
static const struct config_key broker_keys[] = {
#define BROKER_CONFIG(key, type, def, lo, hi, dynamic, doc)                                        \
    {key, "", CONFIG_##type, def, lo, hi, "", (dynamic) != 0, doc},
#include "lib/meta/broker_config.def"
#undef BROKER_CONFIG
};
static const struct config_key group_keys[] = {
#define GROUP_CONFIG(key, type, def, lo, hi, broker, doc)                                          \
    {key, broker, CONFIG_##type, def, lo, hi, "", true, doc},
#include "lib/meta/group_config.def"
#undef GROUP_CONFIG
};
#define GROUP_KEYS (sizeof(group_keys) / sizeof(group_keys[0]))
#define TOPIC_KEYS (sizeof(topic_keys) / sizeof(topic_keys[0]))
#define BROKER_KEYS (sizeof(broker_keys) / sizeof(broker_keys[0]))

uint32_t config_topic_cnt(void)
{
    return TOPIC_KEYS;
}

const struct config_key *config_topic_at(uint32_t idx)
{
    ASSERT(idx < TOPIC_KEYS);
    return &topic_keys[idx];
}

const struct config_key *config_topic_find(struct span key)
{
    for (size_t i = 0; i < TOPIC_KEYS; i++)
        if (span_eq_str(key, topic_keys[i].key))
            return &topic_keys[i];
    return NULL;
}

uint32_t config_broker_cnt(void)
{
    return BROKER_KEYS;
}

const struct config_key *config_broker_at(uint32_t idx)
{
    ASSERT(idx < BROKER_KEYS);
    return &broker_keys[idx];
}

const struct config_key *config_broker_find(struct span key)
{
    for (size_t i = 0; i < BROKER_KEYS; i++)
        if (span_eq_str(key, broker_keys[i].key))
            return &broker_keys[i];
    for (size_t i = 0; i < TOPIC_KEYS; i++)
        if (topic_keys[i].broker_key[0] != '\0' && span_eq_str(key, topic_keys[i].broker_key))
            return &topic_keys[i];
    return NULL;
}

uint32_t config_group_cnt(void)
{
    return GROUP_KEYS;
}

const struct config_key *config_group_at(uint32_t idx)
{
    ASSERT(idx < GROUP_KEYS);
    return &group_keys[idx];
}

const struct config_key *config_group_find(struct span key)
{
    for (size_t i = 0; i < GROUP_KEYS; i++)
        if (span_eq_str(key, group_keys[i].key))
            return &group_keys[i];
    return NULL;
}

const struct config_key *config_broker_fallback(const char *broker_key)
{
    static const struct {
        const char *key, *fallback;
    } rows[] = {{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"},
                {"log.retention.ms", "log.retention.hours"},
                {"log.roll.jitter.ms", "log.roll.jitter.hours"},
                {"log.roll.ms", "log.roll.hours"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(broker_key, rows[i].key) == 0)
            return config_broker_find(span_str(rows[i].fallback));
    return NULL;
}

const char *config_of_topic(const struct meta_image *img, const struct meta_topic *t,
                            const char *key, enum config_source *ret)
{
    enum config_source none;
    ret = ret != NULL ? ret : &none;
    *ret = CONFIG_SOURCE_TOPIC;
    const char *value = meta_topic_config(t, key);
    if (value != NULL || img->broker_config_cnt + img->default_config_cnt == 0)
        return value;
    const struct config_key *k = config_topic_find(span_str(key));
    if (k == NULL || k->broker_key[0] == '\0')
        return NULL;
    value = meta_config_find(img->broker_configs, img->broker_config_cnt, k->broker_key);
    *ret = value != NULL ? CONFIG_SOURCE_BROKER : CONFIG_SOURCE_DEFAULT_BROKER;
    return value != NULL
               ? value
               : meta_config_find(img->default_configs, img->default_config_cnt, k->broker_key);
}

static bool configs_equal(const struct meta_config *a, uint32_t a_cnt, const struct meta_config *b,
                          uint32_t b_cnt)
{
    if (a_cnt != b_cnt)
        return false;
    for (uint32_t i = 0; i < a_cnt; i++)
        if (strcmp(a[i].key, b[i].key) != 0 || strcmp(a[i].value, b[i].value) != 0)
            return false;
    return true;
}

bool config_broker_changed(const struct meta_image *a, const struct meta_image *b)
{
    return !configs_equal(a->broker_configs, a->broker_config_cnt, b->broker_configs,
                          b->broker_config_cnt) ||
           !configs_equal(a->default_configs, a->default_config_cnt, b->default_configs,
                          b->default_config_cnt);
}
