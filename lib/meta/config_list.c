/* config_list.c - see config_list.h. */
#include "lib/meta/config_list.h"
#include <stdlib.h>
#include <string.h>

void config_list_free(struct meta_config *configs, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++) {
        free(configs[i].key);
        free(configs[i].value);
    }
    free(configs);
}

int config_name_cmp(struct span name, const char *other)
{
    size_t len = strlen(other), common = name.len < len ? name.len : len;
    int c = common == 0 ? 0 : memcmp(name.p, other, common);
    if (c != 0)
        return c;
    return (name.len > len) - (name.len < len);
}

/* Where the key is, or where it belongs. */
static uint32_t config_pos(const struct meta_config *configs, uint32_t cnt, struct span key,
                           bool *ret_found)
{
    uint32_t i = 0;
    *ret_found = false;
    for (; i < cnt; i++) {
        int c = config_name_cmp(key, configs[i].key);
        *ret_found = c == 0;
        if (c <= 0)
            break;
    }
    return i;
}

const char *meta_config_find(const struct meta_config *configs, uint32_t cnt, const char *key)
{
    bool found;
    uint32_t i = config_pos(configs, cnt, span_str(key), &found);
    return found ? configs[i].value : NULL;
}

char *config_copy(struct span s)
{
    char *copy = malloc((size_t)s.len + 1);
    if (copy == NULL)
        return NULL;
    if (s.len > 0)
        memcpy(copy, s.p, s.len);
    copy[s.len] = 0;
    return copy;
}

int config_list_dup(const struct meta_config *from, uint32_t cnt, struct meta_config **ret)
{
    *ret = NULL;
    if (cnt == 0)
        return 0;
    struct meta_config *to = calloc(cnt, sizeof(*to));
    if (to == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < cnt; i++) {
        to[i].key = strdup(from[i].key);
        to[i].value = strdup(from[i].value);
        if (to[i].key == NULL || to[i].value == NULL) {
            config_list_free(to, cnt);
            return -ENOMEM;
        }
    }
    *ret = to;
    return 0;
}

int config_list_set(struct meta_config **configs, uint32_t *cnt, struct span key, struct span value)
{
    bool found;
    uint32_t i = config_pos(*configs, *cnt, key, &found);
    if (span_is_null(value)) {
        if (!found)
            return 0;
        free((*configs)[i].key);
        free((*configs)[i].value);
        (*cnt)--;
        memmove(&(*configs)[i], &(*configs)[i + 1], (*cnt - i) * sizeof(**configs));
        return 0;
    }
    char *new_value = config_copy(value);
    if (new_value == NULL)
        return -ENOMEM;
    if (found) {
        free((*configs)[i].value);
        (*configs)[i].value = new_value;
        return 0;
    }
    char *new_key = config_copy(key);
    struct meta_config *list = NULL;
    if (new_key != NULL)
        list = realloc(*configs, (*cnt + 1) * sizeof(*list));
    if (list == NULL) {
        free(new_key);
        free(new_value);
        return -ENOMEM;
    }
    memmove(&list[i + 1], &list[i], (*cnt - i) * sizeof(*list));
    list[i] = (struct meta_config){.key = new_key, .value = new_value};
    *configs = list;
    (*cnt)++;
    return 0;
}
