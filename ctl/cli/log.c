/* log.c - offline work on the log, done by libexec/sluice/sluice-log, which knows the store. */
#include "ctl/cli/cli.h"
#include "lib/iface/conf.h"
#include <fcntl.h>
#include <limits.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIRS_MAX 16
#define ARGS_MAX 24

static bool exists(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    return (size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) < sizeof(path) &&
           stat(path, &st) == 0;
}

/* Process that holds the fcntl lock of `path`, 0: nobody. */
static pid_t lock_holder(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    pid_t pid = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    (void)close(fd);
    return pid;
}

/* sluice-log beside this program's own place: P/bin -> P/libexec/sluice; in a build folder
 * ctl/cli -> dataplane/logtool. */
static bool program_find(char *path, size_t cap)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *dir = dirname(self);
    static const char *const from[] = {"../libexec/sluice/sluice-log",
                                       "../../dataplane/logtool/sluice-log"};
    for (size_t i = 0; i < 2; i++)
        if ((size_t)snprintf(path, cap, "%s/%s", dir, from[i]) < cap && access(path, X_OK) == 0)
            return true;
    (void)snprintf(path, cap, "%s/%s", dir, from[0]);
    return false;
}

struct log_dirs {
    char *path[DIRS_MAX + 1];
    uint32_t cnt;
};
static bool dirs_add(struct cli *c, struct log_dirs *d, const char *path)
{
    for (uint32_t i = 0; i < d->cnt; i++)
        if (strcmp(d->path[i], path) == 0)
            return true;
    if (d->cnt == DIRS_MAX) {
        (void)cli_fail(c, "LIMIT", "more than %d log directories", DIRS_MAX);
        return false;
    }
    d->path[d->cnt++] = strdup(path);
    return true;
}

/* A data directory stands for its log/ and for the further log directories of its configuration;
 * anything with a meta.properties is a log directory itself. */
static int dirs_of(struct cli *c, const char *dir, struct log_dirs *d)
{
    char path[PATH_MAX], err[256] = "";
    struct stat st;
    if (stat(dir, &st) < 0)
        return cli_fail(c, err_name(-errno), "%s: %s", dir, strerror(errno));
    bool is_log = exists(dir, "meta.properties");
    const char *home = is_log ? ".." : ".";
    (void)snprintf(path, sizeof(path), "%s/%s/run", dir, home);
    pid_t pid = lock_holder(path, "lock");
    if (pid == 0)
        pid = lock_holder(dir, is_log ? ".lock" : "log/.lock");
    if (pid != 0)
        return cli_fail(
            c, "IN_USE",
            "%s is in use by process %d: %s is for a stopped appliance (a running one recovers by "
            "itself when it starts); stop it first",
            dir, (int)pid, strrchr(c->cmd, ' ') + 1);
    if (is_log)
        return dirs_add(c, d, dir) ? EXIT_OK : EXIT_FAILED;
    if (!exists(dir, "log"))
        return cli_fail(c, "FOREIGN_DIR",
                        "%s is no data directory: it holds neither log/ nor meta.properties", dir);
    (void)snprintf(path, sizeof(path), "%s/log", dir);
    if (!dirs_add(c, d, path))
        return EXIT_FAILED;
    if (!exists(dir, "run/dataplane.conf"))
        return EXIT_OK;
    struct conf *conf = malloc(sizeof(*conf));
    (void)snprintf(path, sizeof(path), "%s/run/dataplane.conf", dir);
    if (conf == NULL || conf_read(conf, path, err, sizeof(err)) < 0) {
        free(conf);
        fprintf(
            stderr,
            "sluicectl: %s cannot be read (%s): log directories beside %s/log are not known; name "
            "them too if there are any\n",
            path, err, dir);
        return EXIT_OK;
    }
    bool ok = true; /* [0] is log/ itself, perhaps under the name it had when it was written */
    for (uint32_t i = 1; ok && i < conf->data_dir_cnt; i++)
        ok = dirs_add(c, d, conf->data_dirs[i]);
    free(conf);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* {"exit_code": 0, "lines": [...]}; its errors stay on stderr. */
static int run_as_json(struct cli *c, char *const *args)
{
    int fds[2], status = 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return cli_fail(c, err_name(-errno), "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return cli_fail(c, err_name(-errno), "fork: %s", strerror(errno));
    if (pid == 0) {
        if (dup2(fds[1], STDOUT_FILENO) >= 0)
            execv(args[0], args);
        fprintf(stderr, "sluicectl: %s: %s\n", args[0], strerror(errno));
        _exit(EXIT_FAILED);
    }
    (void)close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    json_t *lines = json_array();
    while (f != NULL && (n = getline(&line, &cap, f)) > 0) {
        json_t *text = json_stringn(line, (size_t)n - (line[n - 1] == '\n'));
        json_array_append_new(lines, text != NULL ? text : json_string("(not UTF-8)"));
    }
    free(line);
    if (f != NULL)
        (void)fclose(f);
    if (waitpid(pid, &status, 0) < 0)
        return cli_fail(c, err_name(-errno), "waitpid: %s", strerror(errno));
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;
    json_t *j = json_pack("{s:i,s:o}", "exit_code", code, "lines", lines);
    cli_print_json(j);
    json_decref(j);
    return code;
}

/* Run sluice-log with `args` and the log directories that `pos` stand for. as_is: it makes JSON by
 * itself, or its output is what it is. */
static int log_run(struct cli *c, const char *const *args, int arg_cnt, const char *const *pos,
                   int pos_cnt, bool as_is)
{
    char program[PATH_MAX + 64];
    struct log_dirs dirs = {0};
    for (int i = 0; i < pos_cnt; i++) {
        int code = dirs_of(c, pos[i], &dirs);
        if (code != EXIT_OK)
            return code;
    }
    if (!program_find(program, sizeof(program)))
        return cli_fail(c, "NOT_INSTALLED",
                        "%s is missing: is this program where it was installed?", program);
    char *argv[DIRS_MAX + ARGS_MAX + 2];
    int cnt = 0;
    argv[cnt++] = program;
    for (int i = 0; i < arg_cnt; i++)
        argv[cnt++] = (char *)(uintptr_t)args[i]; /* execv's type; they are not written to */
    for (uint32_t i = 0; i < dirs.cnt; i++)
        argv[cnt++] = dirs.path[i];
    argv[cnt] = NULL;
    if (c->json && !as_is)
        return run_as_json(c, argv);
    (void)fflush(stdout);
    execv(program, argv); /* its output and exit code are ours */
    return cli_fail(c, err_name(-errno), "%s: %s", program, strerror(errno));
}

int cmd_log_recover(struct cli *c, int argc, char **argv)
{
    bool verbose = false;
    const struct arg_opt opts[] = {{"--verbose", "-v", ARG_FLAG, &verbose, 0, 0, NULL}};
    const char *pos[DIRS_MAX], *const args[] = {"recover", "-v"};
    int n = args_parse(c->cmd, argc, argv, opts, 1, pos, DIRS_MAX);
    if (n < 1)
        return cli_usage(c);
    return log_run(c, args, verbose ? 2 : 1, pos, n, false);
}

static int audit(struct cli *c, int argc, char **argv, const char *what)
{
    bool deep = false, dry_run = false;
    const char *topic = NULL, *pos[DIRS_MAX], *args[ARGS_MAX];
    uint64_t jobs = 1;
    char jobs_text[24];
    const struct arg_opt opts[] = {{"--deep", NULL, ARG_FLAG, &deep, 0, 0, NULL},
                                   {"--topic", NULL, ARG_TEXT, &topic, 0, 0, NULL},
                                   {"--jobs", NULL, ARG_NUM, &jobs, 1, 64, NULL},
                                   {"--dry-run", NULL, ARG_FLAG, &dry_run, 0, 0, NULL}};
    bool is_repair = strcmp(what, "repair") == 0;
    int n = args_parse(c->cmd, argc, argv, opts, is_repair ? 4 : 3, pos, DIRS_MAX), cnt = 0;
    if (n < 1)
        return cli_usage(c);
    args[cnt++] = what;
    (void)snprintf(jobs_text, sizeof(jobs_text), "%u", (unsigned)jobs);
    args[cnt++] = "--jobs";
    args[cnt++] = jobs_text;
    if (deep)
        args[cnt++] = "--deep";
    if (dry_run)
        args[cnt++] = "--dry-run";
    if (c->json)
        args[cnt++] = "--json";
    if (topic != NULL) {
        args[cnt++] = "--topic";
        args[cnt++] = topic;
    }
    return log_run(c, args, cnt, pos, n, true);
}

int cmd_log_verify(struct cli *c, int argc, char **argv)
{
    return audit(c, argc, argv, "verify");
}

int cmd_log_repair(struct cli *c, int argc, char **argv)
{
    return audit(c, argc, argv, "repair");
}

/* Reads only, so that a running appliance does not matter. A data directory stands for its log/. */
int cmd_log_dump(struct cli *c, int argc, char **argv)
{
    bool keys = false, values = false;
    const char *topic = NULL, *pos[DIRS_MAX], *args[ARGS_MAX + DIRS_MAX];
    uint64_t offset = UINT64_MAX, count = 0;
    char offset_text[24], count_text[24], paths[DIRS_MAX][PATH_MAX], program[PATH_MAX + 64];
    const struct arg_opt opts[] = {{"--topic", NULL, ARG_TEXT, &topic, 0, 0, NULL},
                                   {"--offset", NULL, ARG_NUM, &offset, 0, INT64_MAX, NULL},
                                   {"--count", NULL, ARG_NUM, &count, 1, UINT64_MAX, NULL},
                                   {"--keys", NULL, ARG_FLAG, &keys, 0, 0, NULL},
                                   {"--values", NULL, ARG_FLAG, &values, 0, 0, NULL}};
    int n = args_parse(c->cmd, argc, argv, opts, 5, pos, DIRS_MAX), cnt = 0;
    if (n < 1)
        return cli_usage(c);
    if (!program_find(program, sizeof(program)))
        return cli_fail(c, "NOT_INSTALLED",
                        "%s is missing: is this program where it was installed?", program);
    args[cnt++] = program;
    args[cnt++] = "dump";
    if (keys)
        args[cnt++] = "--keys";
    if (values)
        args[cnt++] = "--values";
    if (c->json)
        args[cnt++] = "--json";
    if (topic != NULL) {
        args[cnt++] = "--topic";
        args[cnt++] = topic;
    }
    if (offset != UINT64_MAX) {
        (void)snprintf(offset_text, sizeof(offset_text), "%llu", (unsigned long long)offset);
        args[cnt++] = "--offset";
        args[cnt++] = offset_text;
    }
    if (count != 0) {
        (void)snprintf(count_text, sizeof(count_text), "%llu", (unsigned long long)count);
        args[cnt++] = "--count";
        args[cnt++] = count_text;
    }
    for (int i = 0; i < n; i++) {
        bool is_home = topic != NULL && !exists(pos[i], "meta.properties") && exists(pos[i], "log");
        if (snprintf(paths[i], PATH_MAX, is_home ? "%s/log" : "%s", pos[i]) >= PATH_MAX)
            return cli_fail(c, "ENAMETOOLONG", "%s: %s", pos[i], strerror(ENAMETOOLONG));
        args[cnt++] = paths[i];
    }
    args[cnt] = NULL;
    (void)fflush(stdout);
    execv(program, (char *const *)(uintptr_t)args); /* execv's type; they are not written to */
    return cli_fail(c, err_name(-errno), "%s: %s", program, strerror(errno));
}
