/* conf_kafka.h - what the configuration file says, by Kafka's names of the broker's keys.
 * Any thread. */
#pragma once
#include "lib/iface/conf.h"

#define CONF_KAFKA_VALUE_MAX (CONF_DIRS_MAX * CONF_PATH_MAX + 1)

/* The value of a broker's key as text, in out[cap]. False: no key of the file stands for it. */
bool conf_kafka_value(const struct conf *c, const char *key, char *out, size_t cap);
