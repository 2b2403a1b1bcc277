/* appliance.c - the installed sluiced as a child, on a temporary data directory. */
#include "bench/load/bench_load.h"
#include "lib/base/clock.h"
#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 60000
#define STOP_MS 60000
#define LOG_TAIL 4096

/* Beside this program: P/bin, or in a build folder bench/load -> ctl. */
static bool sluiced_find(char *path, size_t cap)
{
    static const char *const from[] = {"sluiced", "../../ctl/sluiced", "../ctl/sluiced"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *dir = dirname(self);
    for (size_t i = 0; i < 3; i++)
        if ((size_t)snprintf(path, cap, "%s/%s", dir, from[i]) < cap && access(path, X_OK) == 0)
            return true;
    (void)snprintf(path, cap, "%s/sluiced", dir);
    return false;
}

int appliance_create(struct appliance *a)
{
    const char *tmp = getenv("TMPDIR");
    if (tmp == NULL || tmp[0] == '\0')
        tmp = "/var/tmp";
    memset(a, 0, sizeof(*a));
    if ((size_t)snprintf(a->base, sizeof(a->base), "%s/sluice-bench-XXXXXX", tmp) >=
            sizeof(a->base) ||
        mkdtemp(a->base) == NULL) {
        int rc = -errno;
        a->base[0] = '\0';
        return bench_fail("cannot make a temporary directory in %s: %s", tmp, err_text(rc));
    }
    (void)snprintf(a->dir, sizeof(a->dir), "%s/data", a->base);
    return EXIT_OK;
}

/* Last lines of its log, for messages. */
static void log_print(const struct appliance *a)
{
    char path[700], buf[LOG_TAIL + 1];
    (void)snprintf(path, sizeof(path), "%s/sluiced.log", a->base);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t len = lseek(fd, 0, SEEK_END);
    ssize_t n = pread(fd, buf, LOG_TAIL, len > LOG_TAIL ? len - LOG_TAIL : 0);
    (void)close(fd);
    if (n > 0)
        fprintf(stderr, "--- its last messages:\n%.*s---\n", (int)n, buf);
}

static int spawn(struct appliance *a, const char *program, const char *conf)
{
    char log[700];
    (void)snprintf(log, sizeof(log), "%s/sluiced.log", a->base);
    a->pid = fork();
    if (a->pid < 0)
        return bench_fail("fork: %s", err_text(-errno));
    if (a->pid > 0)
        return EXIT_OK;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* if we are killed, it stops in order */
    (void)setpgid(0, 0);                    /* Ctrl-C is for us; we stop it in order */
    int null = open("/dev/null", O_RDONLY);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (null >= 0 && out >= 0 && dup2(null, 0) >= 0 && dup2(out, 1) >= 0 && dup2(out, 2) >= 0)
        execl(program, "sluiced", "--config", conf, "--data", a->dir, (char *)NULL);
    fprintf(stderr, "%s: %s\n", program, err_text(-errno));
    _exit(127);
}

bool appliance_is_alive(struct appliance *a)
{
    int status;
    if (a->pid <= 0)
        return false;
    if (waitpid(a->pid, &status, WNOHANG) != a->pid)
        return true;
    a->pid = 0;
    return false;
}

/* DIR/run/ports is written when the dataplane serves. */
static bool ports_read(struct appliance *a)
{
    char path[700], name[128], transport[16], addr[128];
    bool found = false;
    (void)snprintf(path, sizeof(path), "%s/run/ports", a->dir);
    FILE *f = fopen(path, "re");
    while (f != NULL && !found && fscanf(f, "%127s %15s %127s", name, transport, addr) == 3)
        found = strcmp(name, "kafka") == 0;
    if (f != NULL)
        (void)fclose(f);
    if (found)
        (void)snprintf(a->bootstrap, sizeof(a->bootstrap), "%s", addr);
    return found;
}

int appliance_start(struct appliance *a, const char *yaml)
{
    char program[PATH_MAX + 32], conf[700], ports[700];
    if (!sluiced_find(program, sizeof(program)))
        return bench_fail(
            "%s is missing: run sluice-bench where it was installed ('meson install')", program);
    (void)snprintf(conf, sizeof(conf), "%s/sluice.yaml", a->base);
    (void)snprintf(ports, sizeof(ports), "%s/run/ports", a->dir);
    FILE *f = fopen(conf, "we");
    if (f == NULL || fputs(yaml, f) < 0 || fclose(f) != 0)
        return bench_fail("%s: %s", conf, err_text(-errno));
    (void)unlink(ports); /* of an earlier start */
    uint64_t from = clock_mono_ns();
    int code = spawn(a, program, conf);
    if (code != EXIT_OK)
        return code;
    while (!ports_read(a)) {
        if (!appliance_is_alive(a)) {
            (void)bench_fail("the appliance did not start");
            log_print(a);
            return EXIT_FAILED;
        }
        if (bench_interrupted())
            return bench_fail("interrupted");
        if (clock_mono_ns() - from > START_MS * UINT64_C(1000000)) {
            (void)bench_fail("the appliance did not serve within %d s", START_MS / 1000);
            log_print(a);
            return EXIT_FAILED;
        }
        (void)usleep(2000);
    }
    a->start_ms = (clock_mono_ns() - from) / 1000000;
    return EXIT_OK;
}

int appliance_stop(struct appliance *a)
{
    int status = 0;
    if (a->pid <= 0)
        return bench_fail("the appliance has ended by itself");
    (void)kill(a->pid, SIGTERM);
    for (uint32_t ms = 0; ms < STOP_MS; ms += 5) {
        pid_t got = waitpid(a->pid, &status, WNOHANG);
        if (got == a->pid) {
            a->pid = 0;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return EXIT_OK;
            (void)bench_fail("the appliance did not end in order (%s %d)",
                             WIFSIGNALED(status) ? "signal" : "exit code",
                             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            log_print(a);
            return EXIT_FAILED;
        }
        (void)usleep(5000);
    }
    (void)bench_fail("the appliance did not stop within %d s", STOP_MS / 1000);
    log_print(a);
    return EXIT_FAILED;
}

static void tree_remove(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char sub[PATH_MAX];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (size_t)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) >= sizeof(sub) ||
            lstat(sub, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            tree_remove(sub);
        else
            (void)unlink(sub);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(path);
}

/* The process that holds DIR/run/lock: a dataplane that outlived its sluiced. */
static pid_t dataplane_pid(const struct appliance *a)
{
    char path[700];
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    (void)snprintf(path, sizeof(path), "%s/run/lock", a->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    pid_t pid = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    (void)close(fd);
    return pid;
}

void appliance_remove(struct appliance *a)
{
    if (a->base[0] == '\0')
        return;
    if (a->pid > 0) {
        (void)kill(a->pid, SIGTERM);
        for (int i = 0; i < 400 && appliance_is_alive(a); i++)
            (void)usleep(25000);
        if (a->pid > 0) {
            (void)kill(a->pid, SIGKILL);
            (void)waitpid(a->pid, NULL, 0);
            a->pid = 0;
        }
    }
    pid_t left = dataplane_pid(a);
    for (int i = 0; left > 0 && i < 100; i++) {
        (void)kill(left, SIGKILL);
        (void)usleep(20000);
        left = dataplane_pid(a);
    }
    tree_remove(a->base);
    a->base[0] = '\0';
}

uint64_t appliance_disk_free(const struct appliance *a)
{
    struct statvfs v;
    return statvfs(a->base, &v) < 0 ? UINT64_MAX : (uint64_t)v.f_bavail * v.f_frsize;
}
