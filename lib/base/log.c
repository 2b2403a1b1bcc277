/* log.c - formats a line on the stack and writes it once. */
#include "lib/base/log.h"
#include "lib/base/clock.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static _Atomic int level_min = LOG_LEVEL_INFO;
static _Atomic int out_fd = -1;

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR"};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_min, (int)level, memory_order_relaxed);
}

void log_set_fd(int fd)
{
    atomic_store_explicit(&out_fd, fd, memory_order_relaxed);
}

/* Whether the site may write now. Counters are relaxed: at the edge of a window two threads may
 * let one line too many through, never lose the count of a suppressed one. */
static bool site_may_write(struct log_site *site, uint64_t now_ms)
{
    uint64_t start = atomic_load_explicit(&site->window_ms, memory_order_relaxed);
    if (start == 0 || now_ms - start >= LOG_WINDOW_MS) {
        if (atomic_compare_exchange_strong_explicit(&site->window_ms, &start, now_ms,
                                                    memory_order_relaxed, memory_order_relaxed))
            atomic_store_explicit(&site->cnt, 0, memory_order_relaxed);
    }
    if (atomic_fetch_add_explicit(&site->cnt, 1, memory_order_relaxed) < LOG_BURST)
        return true;
    atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
    return false;
}

/* "../dataplane/store/journal.c" -> "store/journal" */
static int module_of(const char *file, const char **ret_start)
{
    static const char *const roots[] = {"dataplane/", "lib/"};
    while (strncmp(file, "../", 3) == 0)
        file += 3;
    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
        if (strncmp(file, roots[i], strlen(roots[i])) == 0)
            file += strlen(roots[i]);
    const char *dot = strrchr(file, '.');
    *ret_start = file;
    return dot != NULL ? (int)(dot - file) : (int)strlen(file);
}

static size_t clamp(int written, size_t cap)
{
    if (written < 0)
        return 0;
    return (size_t)written < cap ? (size_t)written : cap - 1;
}

void log_write(struct log_site *site, enum log_level level, const char *file, const char *fmt, ...)
{
    char line[LOG_LINE_MAX + 1];
    const size_t cap = LOG_LINE_MAX;
    if ((int)level < atomic_load_explicit(&level_min, memory_order_relaxed))
        return;
    if (!site_may_write(site, clock_mono_ns() / 1000000 + 1))
        return;

    int64_t wall = clock_wall_ms();
    time_t sec = (time_t)(wall / 1000);
    struct tm tm;
    gmtime_r(&sec, &tm);
    const char *module;
    int module_len = module_of(file, &module);
    size_t len = strftime(line, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    len += clamp(snprintf(line + len, cap - len, ".%03dZ %s %.*s: ", (int)(wall % 1000),
                          level_names[level], module_len, module),
                 cap - len);
    size_t text = len;
    va_list ap;
    va_start(ap, fmt);
    len += clamp(vsnprintf(line + len, cap - len, fmt, ap), cap - len);
    va_end(ap);
    uint32_t lost = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
    if (lost > 0)
        len += clamp(snprintf(line + len, cap - len, " (%u like this were suppressed)", lost),
                     cap - len);
    for (size_t i = text; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';

    int fd = atomic_load_explicit(&out_fd, memory_order_relaxed);
    ssize_t rc = write(fd >= 0 ? fd : STDERR_FILENO, line, len);
    (void)rc; /* nobody is left to tell */
}

void log_file_bound(int fd, uint64_t max)
{
    char kept[LOG_FILE_KEEP];
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size <= max)
        return;
    off_t from = st.st_size > LOG_FILE_KEEP ? st.st_size - LOG_FILE_KEEP : 0;
    ssize_t n = pread(fd, kept, sizeof(kept), from);
    const char *line = n > 0 ? memchr(kept, '\n', (size_t)n) : NULL;
    if (ftruncate(fd, 0) < 0 || line == NULL)
        return;
    ssize_t rc = write(fd, line + 1, (size_t)(n - (line + 1 - kept)));
    (void)rc; /* nobody is left to tell */
}
