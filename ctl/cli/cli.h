/* cli.h - what the commands of sluicectl share: where the appliance is, how results are printed.
 *
 * A command prints its result on stdout (a table, or JSON with --json), what went wrong on stderr,
 * and returns the exit code: 0 done, 1 failed, 2 called wrongly.
 * Runs on: the only thread. */
#pragma once
#include "ctl/cli/args.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli {
    const char *dir;    /* the data directory */
    const char *dir_by; /* what chose it, for messages */
    bool json;
    const char *cmd; /* "sluicectl topic create": stands before messages */
    const char *cmd_args;
};
typedef int cli_cmd_fn(struct cli *c, int argc, char **argv);

#define CMD(words, fn, args, help) cli_cmd_fn fn;
#include "ctl/cli/cmd.def"
#undef CMD

/* One sentence on stderr ("sluicectl: ..."; with --json as {"error": {"code", "message"}}).
 * Returns EXIT_FAILED. `code` may be NULL. */
__attribute__((format(printf, 3, 4))) int cli_fail(const struct cli *c, const char *code,
                                                   const char *fmt, ...);
/* Says how the command is called. Returns EXIT_USAGE. */
int cli_usage(const struct cli *c);
/* Pretty JSON and a newline on stdout. */
void cli_print_json(const json_t *j);

/* "Shared" formats: 1.5 MiB; 3 d 4 h; 2026-01-31 12:00:00.123Z. Each returns buf. */
#define CLI_TEXT_MAX 48
const char *cli_bytes(int64_t n, char buf[CLI_TEXT_MAX]);
const char *cli_age(int64_t seconds, char buf[CLI_TEXT_MAX]);
const char *cli_time(int64_t ms, char buf[CLI_TEXT_MAX]);
const char *cli_num(int64_t n, char buf[CLI_TEXT_MAX]); /* 1,234,567 */
/* Bytes of others on a terminal: UTF-8 stays, control characters become \xNN. */
void cli_put_text(const char *p, size_t len);

/* ---- table.c: columns as wide as their widest cell. */
struct table;
/* heads: "NAME|>SIZE": columns separated by '|', '>' aligns right. */
struct table *table_new(const char *heads);
/* As many cells as columns, each a const char *; copied. */
void table_row(struct table *t, ...);
/* Prints indented by two blanks and frees. */
void table_print(struct table *t);
void table_free(struct table *t);

/* ---- JSON members with defaults: foreign documents are never trusted to be complete. */
int64_t cli_int(const json_t *o, const char *name, int64_t def);
double cli_real(const json_t *o, const char *name, double def);
const char *cli_str(const json_t *o, const char *name, const char *def);

/* ---- admin.c: the admin API through libcurl over DIR/run/admin.sock (docs/admin-api.md). */
/* EXIT_OK and the answer's body in *ret (a new reference), or EXIT_FAILED after having said what is
 * wrong. `body` may be NULL. */
NODISCARD int admin_call(struct cli *c, const char *method, const char *path, const json_t *body,
                         json_t **ret);
/* name with everything but [A-Za-z0-9._~-] percent-encoded; malloc'ed. */
char *admin_escape(const char *name);

/* ---- ports.c: DIR/run/ports, lines of "name transport address:port". */
/* Address of the Kafka listener for a client on this machine. 0, or -ENOENT: no such line, or no
 * file. */
NODISCARD int ports_kafka(const char *dir, char *ret, size_t cap);
