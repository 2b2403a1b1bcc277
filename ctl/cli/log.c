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
 * ctl/cli -> dataplane/store. */
static bool program_find(char *path, size_t cap)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *dir = dirname(self);
    static const char *const from[] = {"../libexec/sluice/sluice-log",
                                       "../../dataplane/store/sluice-log"};
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
            "%s is in use by process %d: recovery is for a stopped appliance (a running one "
            "recovers by itself when it starts); stop it first",
            dir, (int)pid);
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

int cmd_log_recover(struct cli *c, int argc, char **argv)
{
    bool verbose = false;
    const struct arg_opt opts[] = {{"--verbose", "-v", ARG_FLAG, &verbose, 0, 0, NULL}};
    const char *pos[DIRS_MAX];
    char program[PATH_MAX + 64];
    struct log_dirs dirs = {0};
    int n = args_parse(c->cmd, argc, argv, opts, 1, pos, DIRS_MAX);
    if (n < 1)
        return cli_usage(c);
    for (int i = 0; i < n; i++) {
        int code = dirs_of(c, pos[i], &dirs);
        if (code != EXIT_OK)
            return code;
    }
    if (!program_find(program, sizeof(program)))
        return cli_fail(c, "NOT_INSTALLED",
                        "%s is missing: is this program where it was installed?", program);
    char *args[DIRS_MAX + 5];
    int cnt = 0;
    args[cnt++] = program;
    args[cnt++] = "recover";
    if (verbose)
        args[cnt++] = "-v";
    for (uint32_t i = 0; i < dirs.cnt; i++)
        args[cnt++] = dirs.path[i];
    args[cnt] = NULL;
    if (c->json)
        return run_as_json(c, args);
    (void)fflush(stdout);
    execv(program, args); /* its output and exit code are ours */
    return cli_fail(c, err_name(-errno), "%s: %s", program, strerror(errno));
}
