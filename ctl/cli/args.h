/* args.h - options of a command as a table: "--name value", "--name=value", "-n value", flags.
 * Options and positional words may be mixed; "--" ends the options.
 * Runs on: the only thread. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum arg_kind { ARG_FLAG, ARG_TEXT, ARG_NUM, ARG_LIST };
struct arg_list { /* texts of a repeated option, borrowed from argv */
    const char **text;
    uint32_t cnt;
};
struct arg_opt {
    const char *name;  /* "--partitions" */
    const char *alias; /* "-n", or NULL */
    enum arg_kind kind;
    void *to; /* bool, const char *, uint64_t or struct arg_list; keeps its value when not given */
    uint64_t min, max;
    const char *choices; /* ARG_TEXT: "a|b|c", or NULL for any text */
};
/* Parses argv[0..argc) with `opts`; words that are no options go to pos[0..pos_max). `who` stands
 * before messages on stderr. The count of positional words, or -E_CONFIG after having said what is
 * wrong. Lists are malloc'ed. */
NODISCARD int args_parse(const char *who, int argc, char **argv, const struct arg_opt *opts,
                         uint32_t opt_cnt, const char **pos, uint32_t pos_max);
