/* main.c - sluicectl: the command line of the appliance.
 *
 *     sluicectl [--data DIR] [--json] COMMAND ...
 *
 * Administers over HTTP on DIR/run/admin.sock; reads data as an ordinary Kafka client. */
#include "lib/base/cpu_check.h"
#include "ctl/cli/cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct cmd {
    const char *words;
    cli_cmd_fn *fn;
    const char *args, *help;
} cmds[] = {
#define CMD(words, fn, args, help) {words, fn, args, help},
#include "ctl/cli/cmd.def"
#undef CMD
};
#define CMD_CNT (sizeof(cmds) / sizeof(cmds[0]))

static void help_print(FILE *out)
{
    fprintf(out,
            "sluicectl %s - administers a Sluice appliance\n\n"
            "usage: sluicectl [--data DIR] [--json] COMMAND ...\n\n",
            SLUICE_VERSION);
    for (size_t i = 0; i < CMD_CNT; i++)
        fprintf(out, "  %s%s%s\n        %s\n", cmds[i].words, cmds[i].args[0] ? " " : "",
                cmds[i].args, cmds[i].help);
    fprintf(out,
            "\n"
            "  --data DIR   the appliance's data directory. Default: $SLUICE_DATA, else\n"
            "               ./sluice-data if it exists, else /var/lib/sluice\n"
            "  --json       JSON instead of tables\n\n"
            "Exit code: 0 done, 1 failed, 2 called wrongly; log verify, repair and dump: 1 when\n"
            "something is damaged, 3 when it could not be done.\n");
}

static void usage_print(const struct cmd *cmd, const char *before, const char *indent)
{
    printf("%ssluicectl %s%s%s\n%s%s\n", before, cmd->words, cmd->args[0] != '\0' ? " " : "",
           cmd->args, indent, cmd->help);
}

/* The command that argv starts with and how many words it took; NULL when there is none. */
static const struct cmd *cmd_find(int argc, char **argv, int *ret_words)
{
    char two[64];
    if (argc >= 2) {
        (void)snprintf(two, sizeof(two), "%s %s", argv[0], argv[1]);
        *ret_words = 2;
        for (size_t i = 0; i < CMD_CNT; i++)
            if (strcmp(cmds[i].words, two) == 0)
                return &cmds[i];
    }
    *ret_words = 1;
    for (size_t i = 0; argc >= 1 && i < CMD_CNT; i++)
        if (strcmp(cmds[i].words, argv[0]) == 0)
            return &cmds[i];
    return NULL;
}

int cmd_help(struct cli *c, int argc, char **argv)
{
    int words;
    if (argc == 0) {
        help_print(stdout);
        return EXIT_OK;
    }
    const struct cmd *cmd = cmd_find(argc, argv, &words);
    if (cmd != NULL && words == argc) {
        usage_print(cmd, "usage: ", "");
        return EXIT_OK;
    }
    bool any = false; /* "help topic": every command that begins so */
    for (size_t i = 0; argc == 1 && i < CMD_CNT; i++) {
        size_t n = strlen(argv[0]);
        if (strncmp(cmds[i].words, argv[0], n) == 0 && cmds[i].words[n] == ' ') {
            usage_print(&cmds[i], "", "        ");
            any = true;
        }
    }
    if (any)
        return EXIT_OK;
    fprintf(stderr, "sluicectl: no command '%s'; 'sluicectl help' lists them\n", argv[0]);
    return EXIT_USAGE;
}

int cmd_version(struct cli *c, int argc, char **argv)
{
    if (args_parse(c->cmd, argc, argv, NULL, 0, NULL, 0) < 0)
        return cli_usage(c);
    if (c->json)
        printf("{\"version\": \"%s\"}\n", SLUICE_VERSION);
    else
        printf("sluicectl %s\n", SLUICE_VERSION);
    return EXIT_OK;
}

/* Takes --data and --json out of argv wherever they stand before "--". New argc, or -1 after a
 * message. */
static int globals_take(struct cli *c, int argc, char **argv)
{
    int kept = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            while (i < argc)
                argv[kept++] = argv[i++];
            break;
        }
        if (strcmp(argv[i], "--json") == 0) {
            c->json = true;
        } else if (strncmp(argv[i], "--data=", 7) == 0) {
            c->dir = argv[i] + 7;
            c->dir_by = "--data";
        } else if (strcmp(argv[i], "--data") == 0) {
            if (i + 1 == argc) {
                fprintf(stderr, "sluicectl: --data needs a directory\n");
                return -1;
            }
            c->dir = argv[++i];
            c->dir_by = "--data";
        } else {
            argv[kept++] = argv[i];
        }
    }
    return kept;
}

static void dir_default(struct cli *c)
{
    struct stat st;
    const char *env = getenv("SLUICE_DATA");
    c->dir = "/var/lib/sluice";
    c->dir_by = "the default";
    if (env != NULL && env[0] != '\0') {
        c->dir = env;
        c->dir_by = "SLUICE_DATA";
    } else if (stat("sluice-data", &st) == 0 && S_ISDIR(st.st_mode)) {
        c->dir = "./sluice-data";
        c->dir_by = "found here";
    }
}

int main(int argc, char **argv)
{
    struct cli c = {.cmd = "sluicectl", .cmd_args = "[--data DIR] [--json] COMMAND ..."};
    cpu_check_link();
    dir_default(&c);
    argc = globals_take(&c, argc - 1, ++argv);
    if (argc < 0)
        return EXIT_USAGE;
    if (c.dir[0] == '\0') {
        fprintf(stderr, "sluicectl: --data needs a directory\n");
        return EXIT_USAGE;
    }
    if (argc == 0) {
        help_print(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)
        argv[0] = "help";
    if (strcmp(argv[0], "--version") == 0)
        argv[0] = "version";
    int words;
    const struct cmd *cmd = cmd_find(argc, argv, &words);
    if (cmd == NULL) {
        bool group = false;
        size_t n = strlen(argv[0]);
        for (size_t i = 0; i < CMD_CNT; i++)
            group |= strncmp(cmds[i].words, argv[0], n) == 0 && cmds[i].words[n] == ' ';
        if (group && argc >= 2)
            fprintf(stderr, "sluicectl: no command '%s %s'; 'sluicectl help %s' lists them\n",
                    argv[0], argv[1], argv[0]);
        else if (group)
            fprintf(stderr, "sluicectl: '%s' needs a second word; 'sluicectl help %s' lists them\n",
                    argv[0], argv[0]);
        else
            fprintf(stderr, "sluicectl: no command '%s'; 'sluicectl help' lists them\n", argv[0]);
        return EXIT_USAGE;
    }
    argc -= words;
    argv += words;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            usage_print(cmd, "usage: ", "");
            return EXIT_OK;
        }
    char who[64];
    (void)snprintf(who, sizeof(who), "sluicectl %s", cmd->words);
    c.cmd = who;
    c.cmd_args = cmd->args;
    int code = cmd->fn(&c, argc, argv);
    if (fflush(stdout) != 0) {
        perror("sluicectl: standard output");
        return EXIT_FAILED;
    }
    return code;
}
