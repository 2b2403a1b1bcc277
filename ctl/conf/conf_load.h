/* conf_load.h - configuration from YAML and from --set, with errors that say where.
 *
 * Every mistake is reported, not only the first, one line each:
 *     sluice.yaml:12:5: unknown key 'tpoic' in listeners[0]; did you mean 'topic'?
 * Runs on: sluiced's main thread; blocks on the file. */
#pragma once
#include "lib/base/err.h"
#include "lib/iface/conf.h"
#include <stdbool.h>
#include <stddef.h>

struct conf_load { /* what is being loaded; conf_load_init .. conf_load_fini */
    struct conf conf;
    char *errors; /* lines ending in \n; "" when all is well */
    size_t errors_len, errors_cap;
    uint32_t error_cnt;
    const char *file;       /* NULL: no file */
    struct conf_seen *seen; /* where each path was given */
    uint32_t seen_cnt, seen_cap;
};

/* dev: the values of --dev instead of those a file starts from. */
void conf_load_init(struct conf_load *l, bool dev);
void conf_load_fini(struct conf_load *l);
/* Reads a YAML file. Mistakes go to l->errors. */
void conf_load_file(struct conf_load *l, const char *path);
/* The same from memory; `name` stands for the file in messages and must outlive l. */
void conf_load_text(struct conf_load *l, const char *name, const char *text, size_t len);
/* One "key=value" of --set. */
void conf_load_set(struct conf_load *l, const char *assignment);
/* Derived values and everything that needs more than one key to be wrong. Call last.
 * Relative paths are made absolute with `cwd`. 0, or -E_CONFIG when there was any error. */
NODISCARD int conf_load_finish(struct conf_load *l, const char *cwd);
