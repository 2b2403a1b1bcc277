/* main.c - sluice-bench: bundled load generators and measurements. bench/README.md has the
 * commands. */
#include "bench/load/bench_load.h"
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct cmd {
    const char *name;
    bench_cmd_fn *fn;
    const char *args, *help;
} cmds[] = {
#define CMD(name, fn, args, help) {name, fn, args, help},
#include "bench/load/cmd.def"
#undef CMD
};
#define CMD_CNT (sizeof(cmds) / sizeof(cmds[0]))

static volatile sig_atomic_t interrupted;
static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}
bool bench_interrupted(void)
{
    return interrupted != 0;
}
void bench_sleep_ms(uint32_t ms)
{
    if (!interrupted)
        (void)poll(NULL, 0, (int)ms); /* a signal ends it early, which is what we want */
}

int bench_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("sluice-bench: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return EXIT_FAILED;
}

static void help_print(FILE *out)
{
    fprintf(out,
            "sluice-bench %s - measures this build of Sluice on this machine\n\n"
            "usage: sluice-bench COMMAND ...\n\n",
            SLUICE_VERSION);
    for (size_t i = 0; i < CMD_CNT; i++)
        fprintf(out, "  %s %s\n          %s\n", cmds[i].name, cmds[i].args, cmds[i].help);
    fprintf(
        out,
        "\n"
        "  --json   one JSON document instead of a table\n\n"
        "Without --bootstrap a command starts the installed sluiced on a temporary directory in\n"
        "$TMPDIR or /var/tmp (put it on the disk to be measured) and removes it afterwards.\n"
        "Exit code: 0 measured (and verified), 1 failed, 2 called wrongly.\n");
}
int bench_usage(const char *name)
{
    for (size_t i = 0; i < CMD_CNT; i++)
        if (strcmp(cmds[i].name, name) == 0)
            fprintf(stderr, "usage: sluice-bench %s %s [--json]\n", name, cmds[i].args);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help_print(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        help_print(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("sluice-bench %s\n", SLUICE_VERSION);
        return EXIT_OK;
    }
    struct sigaction act = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    for (size_t i = 0; i < CMD_CNT; i++) {
        if (strcmp(cmds[i].name, argv[1]) != 0)
            continue;
        for (int k = 2; k < argc; k++)
            if (strcmp(argv[k], "--help") == 0 || strcmp(argv[k], "-h") == 0) {
                printf("usage: sluice-bench %s %s [--json]\n%s\n", cmds[i].name, cmds[i].args,
                       cmds[i].help);
                return EXIT_OK;
            }
        int code = cmds[i].fn(argc - 2, argv + 2);
        if (fflush(stdout) != 0)
            return bench_fail("standard output: write error");
        return code;
    }
    fprintf(stderr, "sluice-bench: no command '%s'; 'sluice-bench help' lists them\n", argv[1]);
    return EXIT_USAGE;
}
