#include "ctl/cli/args.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool in_choices(const char *choices, const char *v)
{
    size_t n = strlen(v);
    for (const char *p = choices; p != NULL; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, v, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return true;
    return false;
}

static bool num_parse(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return false;
    *ret = v;
    return true;
}

static int value_set(const char *who, const struct arg_opt *o, const char *v)
{
    struct arg_list *list;
    uint64_t n;
    switch (o->kind) {
    case ARG_FLAG:
        *(bool *)o->to = true;
        return 0;
    case ARG_TEXT:
        if (o->choices != NULL && !in_choices(o->choices, v)) {
            fprintf(stderr, "%s: %s: '%s' is not one of %s\n", who, o->name, v, o->choices);
            return -E_CONFIG;
        }
        *(const char **)o->to = v;
        return 0;
    case ARG_NUM:
        if (!num_parse(v, &n) || n < o->min || n > o->max) {
            fprintf(stderr, "%s: %s: '%s' is not a number from %" PRIu64 " to %" PRIu64 "\n", who,
                    o->name, v, o->min, o->max);
            return -E_CONFIG;
        }
        *(uint64_t *)o->to = n;
        return 0;
    case ARG_LIST:
        list = o->to;
        const char **more = realloc(list->text, (list->cnt + 1) * sizeof(*more));
        if (more == NULL) {
            fprintf(stderr, "%s: out of memory\n", who);
            return -E_CONFIG;
        }
        list->text = more;
        list->text[list->cnt++] = v;
        return 0;
    }
    return -E_CONFIG;
}

/* The option that `word` names; *ret_value is what stands behind '=', or NULL. */
static const struct arg_opt *opt_find(const struct arg_opt *opts, uint32_t cnt, const char *word,
                                      const char **ret_value)
{
    const char *eq = word[1] == '-' ? strchr(word, '=') : NULL;
    size_t len = eq != NULL ? (size_t)(eq - word) : strlen(word);
    *ret_value = eq != NULL ? eq + 1 : NULL;
    for (uint32_t i = 0; i < cnt; i++) {
        if (strlen(opts[i].name) == len && memcmp(opts[i].name, word, len) == 0)
            return &opts[i];
        if (opts[i].alias != NULL && strcmp(opts[i].alias, word) == 0)
            return &opts[i];
    }
    return NULL;
}

int args_parse(const char *who, int argc, char **argv, const struct arg_opt *opts, uint32_t opt_cnt,
               const char **pos, uint32_t pos_max)
{
    uint32_t pos_cnt = 0;
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *value;
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (only_words || word[0] != '-' || word[1] == '\0') {
            if (pos_cnt == pos_max) {
                fprintf(stderr, "%s: unexpected word '%s'\n", who, word);
                return -E_CONFIG;
            }
            pos[pos_cnt++] = word;
            continue;
        }
        const struct arg_opt *o = opt_find(opts, opt_cnt, word, &value);
        if (o == NULL) {
            fprintf(stderr, "%s: unknown option '%s'\n", who, word);
            return -E_CONFIG;
        }
        if (o->kind == ARG_FLAG && value != NULL) {
            fprintf(stderr, "%s: %s takes no value\n", who, o->name);
            return -E_CONFIG;
        }
        if (o->kind != ARG_FLAG && value == NULL) {
            if (i + 1 == argc) {
                fprintf(stderr, "%s: %s needs a value\n", who, o->name);
                return -E_CONFIG;
            }
            value = argv[++i];
        }
        int rc = value_set(who, o, value);
        if (rc < 0)
            return rc;
    }
    return (int)pos_cnt;
}
