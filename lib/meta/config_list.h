/* config_list.h - the overrides of one resource: keys and values, sorted by key, in heap memory of
 * their own. Any thread, one at a time per list. */
#pragma once
#include "lib/base/err.h"
#include "lib/base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct meta_config { /* one key of a resource */
    char *key, *value;
};
void config_list_free(struct meta_config *configs, uint32_t cnt);
/* 0 or -ENOMEM. *ret is NULL for none. */
NODISCARD int config_list_dup(const struct meta_config *from, uint32_t cnt,
                              struct meta_config **ret);
/* Sets, or with a null value removes, one key. 0 or -ENOMEM, and nothing is changed. */
NODISCARD int config_list_set(struct meta_config **configs, uint32_t *cnt, struct span key,
                              struct span value);
/* The value of a key, or NULL. */
const char *meta_config_find(const struct meta_config *configs, uint32_t cnt, const char *key);

/* A copy that ends in NUL; NULL: out of memory. */
char *config_copy(struct span s);
/* The order of names: bytes, then length. */
int config_name_cmp(struct span name, const char *other);
