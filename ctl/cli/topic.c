/* topic.c - topics, by the admin API. Names and configuration are checked by the server alone. */
#include "ctl/cli/cli.h"
#include "lib/base/assert.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int topic_path(char *path, size_t cap, const char *name)
{
    char *escaped = admin_escape(name);
    int n = snprintf(path, cap, "/v1/topics/%s", escaped);
    free(escaped);
    return n < 0 || (size_t)n >= cap ? -E_LIMIT : 0;
}

/* "KEY=VALUE" texts into an object. EXIT_OK, or the exit code after a message. */
static int configs_take(struct cli *c, const struct arg_list *list, json_t *map)
{
    for (uint32_t i = 0; i < list->cnt; i++) {
        const char *text = list->text[i], *eq = strchr(text, '=');
        char key[256];
        if (eq == NULL || eq == text) {
            fprintf(stderr, "%s: --config: '%s' is not KEY=VALUE\n", c->cmd, text);
            return EXIT_USAGE;
        }
        if ((size_t)(eq - text) >= sizeof(key)) {
            fprintf(stderr, "%s: --config: the key of argument %u is too long\n", c->cmd, i + 1);
            return EXIT_USAGE;
        }
        (void)snprintf(key, sizeof(key), "%.*s", (int)(eq - text), text);
        if (json_object_get(map, key) != NULL) {
            fprintf(stderr, "%s: --config: '%s' is given twice\n", c->cmd, key);
            return EXIT_USAGE;
        }
        if (json_object_set_new(map, key, json_string(eq + 1)) < 0)
            return cli_fail(c, "INVALID_CONFIG", "--config: argument %u is not UTF-8", i + 1);
    }
    return EXIT_OK;
}

int cmd_topic_create(struct cli *c, int argc, char **argv)
{
    uint64_t partitions = UINT64_MAX;
    struct arg_list configs = {0};
    const struct arg_opt opts[] = {
        {"--partitions", "-p", ARG_NUM, &partitions, 1, 1000000, NULL},
        {"--config", "-c", ARG_LIST, &configs, 0, 0, NULL},
    };
    const char *name;
    char buf[CLI_TEXT_MAX];
    json_t *body = json_object(), *map = json_object(), *got = NULL;
    int code = EXIT_OK;
    if (args_parse(c->cmd, argc, argv, opts, 2, &name, 1) != 1)
        code = cli_usage(c);
    else if (json_object_set_new(body, "name", json_string(name)) < 0)
        code = cli_fail(c, "INVALID_TOPIC_EXCEPTION", "the topic's name is not UTF-8");
    else
        code = configs_take(c, &configs, map);
    if (partitions != UINT64_MAX)
        json_object_set_new(body, "partitions", json_integer((json_int_t)partitions));
    json_object_set(body, "configs", map);
    if (code == EXIT_OK)
        code = admin_call(c, "POST", "/v1/topics", body, &got);
    if (code == EXIT_OK && c->json)
        cli_print_json(got);
    else if (code == EXIT_OK)
        printf("created topic %s, partitions: %s\n", name,
               cli_num(cli_int(got, "partitions", -1), buf));
    json_decref(got);
    json_decref(map);
    json_decref(body);
    free(configs.text);
    return code;
}

int cmd_topic_list(struct cli *c, int argc, char **argv)
{
    json_t *got, *t;
    size_t i;
    char parts[CLI_TEXT_MAX];
    if (args_parse(c->cmd, argc, argv, NULL, 0, NULL, 0) < 0)
        return cli_usage(c);
    int code = admin_call(c, "GET", "/v1/topics", NULL, &got);
    if (code != EXIT_OK)
        return code;
    if (c->json) {
        cli_print_json(got);
    } else {
        struct table *table = table_new("NAME|>PARTITIONS|ID");
        json_array_foreach(json_object_get(got, "topics"), i, t)
            table_row(table, cli_str(t, "name", "?"), cli_num(cli_int(t, "partitions", -1), parts),
                      cli_str(t, "id", ""));
        table_print(table);
    }
    json_decref(got);
    return EXIT_OK;
}

static void describe_partitions(const json_t *list)
{
    const json_t *p;
    size_t i;
    struct table *t = table_new(
        ">PARTITION|>SHARD|>LOG START|>DURABLE|>NEXT|>SIZE|>UNFLUSHED|>SEGMENTS|>EPOCH|STATE");
    json_array_foreach(list, i, p)
    {
        char part[CLI_TEXT_MAX], shard[CLI_TEXT_MAX], from[CLI_TEXT_MAX], durable[CLI_TEXT_MAX],
            next[CLI_TEXT_MAX], size[CLI_TEXT_MAX], unflushed[CLI_TEXT_MAX], segs[CLI_TEXT_MAX],
            epoch[CLI_TEXT_MAX];
        bool known = cli_int(p, "shard", -1) >= 0;
        table_row(t, cli_num(cli_int(p, "partition", -1), part),
                  known ? cli_num(cli_int(p, "shard", -1), shard) : "?",
                  known ? cli_num(cli_int(p, "log_start", -1), from) : "?",
                  known ? cli_num(cli_int(p, "durable", -1), durable) : "?",
                  known ? cli_num(cli_int(p, "next", -1), next) : "?",
                  known ? cli_bytes(cli_int(p, "size_bytes", 0), size) : "?",
                  known ? cli_bytes(cli_int(p, "unflushed_bytes", 0), unflushed) : "?",
                  known ? cli_num(cli_int(p, "segments", 0), segs) : "?",
                  cli_num(cli_int(p, "leader_epoch", -1), epoch),
                  cli_str(p, "error", known ? "ok" : "no dataplane answers"));
    }
    table_print(t);
}

int cmd_topic_describe(struct cli *c, int argc, char **argv)
{
    const char *name;
    char path[1024];
    json_t *got, *v;
    size_t i;
    if (args_parse(c->cmd, argc, argv, NULL, 0, &name, 1) != 1)
        return cli_usage(c);
    if (topic_path(path, sizeof(path), name) < 0)
        return cli_fail(c, "INVALID_TOPIC_EXCEPTION",
                        "the topic's name is too long (at most 249 characters)");
    int code = admin_call(c, "GET", path, NULL, &got);
    if (code != EXIT_OK)
        return code;
    if (c->json) {
        cli_print_json(got);
        json_decref(got);
        return EXIT_OK;
    }
    json_t *configs = json_object_get(got, "configs"), *parts = json_object_get(got, "partitions");
    printf("topic %s, id %s, %zu partition%s%s\n\n", cli_str(got, "name", name),
           cli_str(got, "id", "?"), json_array_size(parts), json_array_size(parts) == 1 ? "" : "s",
           json_is_true(json_object_get(got, "internal")) ? ", internal" : "");
    describe_partitions(parts);
    struct table *t = table_new("CONFIGURATION|VALUE|SET BY");
    json_array_foreach(configs, i, v)
        table_row(t, cli_str(v, "name", "?"), cli_str(v, "value", ""), cli_str(v, "source", ""));
    putchar('\n');
    table_print(t);
    json_decref(got);
    return EXIT_OK;
}

int cmd_topic_delete(struct cli *c, int argc, char **argv)
{
    const char *name;
    char path[1024];
    json_t *got;
    if (args_parse(c->cmd, argc, argv, NULL, 0, &name, 1) != 1)
        return cli_usage(c);
    if (topic_path(path, sizeof(path), name) < 0)
        return cli_fail(c, "INVALID_TOPIC_EXCEPTION",
                        "the topic's name is too long (at most 249 characters)");
    int code = admin_call(c, "DELETE", path, NULL, &got);
    if (code != EXIT_OK)
        return code;
    if (c->json)
        cli_print_json(got);
    else
        printf("deleted topic %s\n", name);
    json_decref(got);
    return EXIT_OK;
}
