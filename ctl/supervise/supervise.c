/* supervise.c - see supervise.h */
#include "ctl/supervise/supervise.h"
#include "lib/base/assert.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_BYTES 4096  /* of its stderr, kept for messages */
#define WORDS_ROOM 16384 /* reserved for its stderr before it starts */

struct supervise {
    char program[PATH_MAX], conf_path[PATH_MAX], err_path[PATH_MAX];
    pid_t pid; /* 0: none */
    int pidfd;
    bool child;
    uint64_t start_ns;
    int err_fd; /* of err_path, for reading */
    off_t err_pos;
    char last[LAST_BYTES + 1];
    size_t last_len;
};

int supervise_create(const struct supervise_opts *opts, struct supervise **ret)
{
    struct supervise *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    snprintf(s->program, sizeof(s->program), "%s", opts->program);
    snprintf(s->conf_path, sizeof(s->conf_path), "%s", opts->conf_path);
    snprintf(s->err_path, sizeof(s->err_path), "%s", opts->err_path);
    s->pidfd = -1;
    s->err_fd = open(s->err_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (s->err_fd < 0) {
        int rc = -errno;
        free(s);
        return rc;
    }
    s->err_pos = lseek(s->err_fd, 0, SEEK_END);
    *ret = s;
    return 0;
}
void supervise_destroy(struct supervise *s)
{
    if (s == NULL)
        return;
    if (s->pidfd >= 0)
        close(s->pidfd);
    close(s->err_fd);
    free(s);
}
static int pidfd_open_(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}
/* Only async-signal-safe calls between fork and exec. */
__attribute__((noreturn)) static void child_main(struct supervise *s, int status_fd)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* a Ctrl-C in the terminal is for sluiced, which drains */
    int nul = open("/dev/null", O_RDONLY);
    if (nul >= 0)
        dup2(nul, STDIN_FILENO);
    dup2(s->err_fd, STDOUT_FILENO);
    dup2(s->err_fd, STDERR_FILENO);
    char *argv[] = {s->program, "--conf", s->conf_path, NULL};
    execv(s->program, argv);
    int rc = errno;
    ssize_t ignored = write(status_fd, &rc, sizeof(rc));
    (void)ignored; /* the parent sees the end of the pipe otherwise */
    _exit(127);
}
int supervise_start(struct supervise *s)
{
    int status[2], rc = 0;
    ASSERT(s->pid == 0);
    supervise_forward(s);
    if (ftruncate(s->err_fd, 0) == 0)
        s->err_pos = 0;
    s->last_len = 0;
    /* On a full disk it could not say why it ends. Not every file system can reserve. */
    if (fallocate(s->err_fd, FALLOC_FL_KEEP_SIZE, 0, WORDS_ROOM) < 0 && errno == ENOSPC)
        LOG_ERROR("%s: %s: what the dataplane says may be lost", s->err_path, strerror(errno));
    if (pipe2(status, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid < 0) {
        rc = -errno;
        close(status[0]);
        close(status[1]);
        return rc;
    }
    if (pid == 0)
        child_main(s, status[1]);
    close(status[1]);
    ssize_t n = read(status[0], &rc, sizeof(rc));
    close(status[0]);
    if (n == (ssize_t)sizeof(rc)) {
        (void)waitpid(pid, NULL, 0); /* it has said why it ends */
        return -rc;
    }
    s->pidfd = pidfd_open_(pid);
    if (s->pidfd < 0) {
        rc = -errno;
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return rc;
    }
    s->pid = pid;
    s->child = true;
    s->start_ns = clock_mono_ns();
    return 0;
}
int supervise_adopt(struct supervise *s, pid_t pid)
{
    ASSERT(s->pid == 0);
    int fd = pidfd_open_(pid);
    if (fd < 0)
        return -errno;
    s->pidfd = fd;
    s->pid = pid;
    s->child = false;
    s->start_ns = clock_mono_ns();
    return 0;
}
bool supervise_is_running(const struct supervise *s)
{
    return s->pid != 0;
}
pid_t supervise_pid(const struct supervise *s)
{
    return s->pid;
}
int supervise_fd(const struct supervise *s)
{
    return s->pidfd;
}
bool supervise_poll(struct supervise *s, struct supervise_exit *ret)
{
    if (s->pid == 0)
        return false;
    struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
    if (poll(&p, 1, 0) != 1)
        return false;
    struct supervise_exit e = {.was_child = s->child,
                               .lived_s = (double)(clock_mono_ns() - s->start_ns) / 1e9};
    int status;
    if (s->child && waitpid(s->pid, &status, 0) == s->pid) {
        e.known = true;
        e.signaled = WIFSIGNALED(status);
        e.code = e.signaled ? WTERMSIG(status) : WEXITSTATUS(status);
    }
    close(s->pidfd);
    s->pidfd = -1;
    s->pid = 0;
    supervise_forward(s);
    *ret = e;
    return true;
}
void supervise_signal(struct supervise *s, int sig)
{
    if (s->pid != 0)
        (void)syscall(SYS_pidfd_send_signal, s->pidfd, sig, NULL, 0); /* gone: poll will tell */
}
static void last_add(struct supervise *s, const char *p, size_t n)
{
    if (n > LAST_BYTES) {
        p += n - LAST_BYTES;
        n = LAST_BYTES;
    }
    if (s->last_len + n > LAST_BYTES) {
        size_t drop = s->last_len + n - LAST_BYTES;
        memmove(s->last, s->last + drop, s->last_len - drop);
        s->last_len -= drop;
    }
    memcpy(s->last + s->last_len, p, n);
    s->last_len += n;
}
void supervise_forward(struct supervise *s)
{
    char buf[8192];
    ssize_t n;
    struct stat st;
    if (fstat(s->err_fd, &st) == 0 && st.st_size < s->err_pos)
        s->err_pos = 0; /* the dataplane cut it */
    while ((n = pread(s->err_fd, buf, sizeof(buf), s->err_pos)) > 0) {
        s->err_pos += n;
        last_add(s, buf, (size_t)n);
        for (ssize_t at = 0; at < n;) {
            ssize_t w = write(STDERR_FILENO, buf + at, (size_t)(n - at));
            if (w <= 0)
                break; /* our own stderr is gone: nobody to tell */
            at += w;
        }
    }
    if (s->err_pos > (off_t)LOG_FILE_MAX) {
        log_file_bound(s->err_fd, LOG_FILE_MAX); /* its writer appends: it goes on at the new end */
        s->err_pos = lseek(s->err_fd, 0, SEEK_END);
    }
}
const char *supervise_last_lines(struct supervise *s)
{
    supervise_forward(s);
    s->last[s->last_len] = '\0';
    /* From the first whole line among the last ten. */
    const char *p = s->last + s->last_len;
    uint32_t lines = 0;
    while (p > s->last && lines < 11)
        lines += *--p == '\n';
    if (lines == 11)
        p++;
    return p;
}
void supervise_exit_text(const struct supervise_exit *e, char *out, size_t cap)
{
    if (!e->known)
        snprintf(out, cap, "ended");
    else if (e->signaled)
        snprintf(out, cap, "was ended by signal %d (%s)", e->code, strsignal(e->code));
    else
        snprintf(out, cap, "ended with exit status %d", e->code);
}
int supervise_find_program(char *path, size_t cap, char *err, size_t err_cap)
{
    static const char *const places[] = {"../libexec/sluice/sluice-dataplane",
                                         "../dataplane/sluice-dataplane"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0) {
        snprintf(err, err_cap, "/proc/self/exe: %s", strerror(errno));
        return -errno;
    }
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(path, cap, "%s/%s", self, places[i]);
        if (access(path, X_OK) == 0)
            return 0;
    }
    snprintf(err, err_cap,
             "sluice-dataplane was not found: looked at %s/%s and %s/%s; name it with "
             "--dataplane PATH",
             self, places[0], self, places[1]);
    return -ENOENT;
}
