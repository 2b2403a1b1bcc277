/* supervise.h - the dataplane's process: started, adopted, watched, ended.
 *
 *     NONE --supervise_start--> RUNNING --its end--> NONE      (told through supervise_poll)
 *     NONE --supervise_adopt--> RUNNING                        one that outlived an earlier sluiced
 *
 * Its stderr goes to DIR/run/dataplane.err, not to a pipe: a pipe would kill it when sluiced dies.
 * sluiced copies the file's new lines to its own stderr and keeps the last ones for messages.
 * Runs on: sluiced's main thread. Blocks: for fork and exec. */
#pragma once
#include "lib/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct supervise;
struct supervise_opts {
    const char *program;   /* sluice-dataplane */
    const char *conf_path; /* passed as --conf: DIR/run/dataplane.conf */
    const char *err_path;  /* DIR/run/dataplane.err */
};
/* How it ended. */
struct supervise_exit {
    bool known; /* false: it was adopted, only its parent could know */
    bool signaled;
    int code; /* exit status, or the signal's number */
    bool was_child;
    double lived_s;
};
NODISCARD int supervise_create(const struct supervise_opts *opts, struct supervise **ret);
/* Does not end the process. */
void supervise_destroy(struct supervise *s);
/* 0, -errno (the program's own start is checked: a missing program is -ENOENT). */
NODISCARD int supervise_start(struct supervise *s);
/* Takes over watching `pid`. 0 or -errno (-ESRCH: gone). */
NODISCARD int supervise_adopt(struct supervise *s, pid_t pid);
bool supervise_is_running(const struct supervise *s);
pid_t supervise_pid(const struct supervise *s); /* 0: none */
/* Readable when the process has ended; -1: none runs. */
int supervise_fd(const struct supervise *s);
/* True once after the process ended. */
bool supervise_poll(struct supervise *s, struct supervise_exit *ret);
void supervise_signal(struct supervise *s, int sig);
/* Copies new lines of its stderr to ours. Call now and then. */
void supervise_forward(struct supervise *s);
/* Its last lines, each ending in \n; "" when there are none. */
const char *supervise_last_lines(struct supervise *s);
/* "exit status 1", "signal 9 (Killed)", "ended". */
void supervise_exit_text(const struct supervise_exit *e, char *out, size_t cap);
/* ../libexec/sluice/sluice-dataplane beside this program, or in the build tree
 * ../dataplane/sluice-dataplane. 0 or -ENOENT with the places looked at in err[]. */
NODISCARD int supervise_find_program(char *path, size_t cap, char *err, size_t err_cap);
