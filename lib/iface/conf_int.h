/* conf_int.h - one value of the configuration: text -> field of struct conf, field -> text, by the
 * rules of its row in conf.def. What conf.c (the table, paths, the internal file) is built on.
 * Any thread; pure functions. Errors are -E_CONFIG with a sentence in err[]. */
#pragma once
#include "lib/iface/conf.h"

#define CONF_VALUE_MAX 1100 /* longest value as text: a path */

enum kind {
    K_BOOL,
    K_INT,
    K_SIZE,
    K_DURATION,
    K_TEXT,
    K_PATH,
    K_NAME,
    K_TOPIC,
    K_CPUS,
    K_ADDR,
    K_IP,
    K_CIDR,
    K_UUID,
    K_HEADERS,
    K_FACILITIES,
    K_SEVERITIES,
    K_ZONE,
    K_ENUM_IDLE,
    K_ENUM_COMPRESSION,
    K_ENUM_TRANSPORT,
    K_ENUM_PROTO,
    K_ENUM_REPLICAS,
    K_ENUM_KEY,
    K_ENUM_RULE_COMPRESSION,
};
struct field { /* one place to set, with the rules of its row */
    enum kind kind;
    void *p;
    uint32_t size;
    int64_t min, max;
};

/* Is the value a set of words? */
bool conf_kind_is_set(enum kind kind);
NODISCARD int conf_field_set(const struct field *f, const char *value, char *err, size_t cap);
void conf_field_format(const struct field *f, char *out, size_t cap);
/* What may be written there: "size", "udp, tcp". */
void conf_kind_text(enum kind kind, char *out, size_t cap);
/* A bound of the field's range, in its unit. */
void conf_range_text(const struct field *f, int64_t v, char *out, size_t cap);

/* The sentence; -E_CONFIG. */
__attribute__((format(printf, 3, 4))) int conf_fail(char *err, size_t cap, const char *fmt, ...);
/* A whole number, nothing behind it. 0 or -E_MALFORMED. */
NODISCARD int conf_number_parse(const char *text, int64_t min, int64_t max, int64_t *ret);
/* Integers of 1, 2, 4 or 8 bytes in struct conf. */
int64_t conf_int_load(const void *p, uint32_t size, bool is_signed);
void conf_int_store(void *p, uint32_t size, int64_t v);
