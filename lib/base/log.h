/* log.h - logging for start-up, control plane and rare events; never called from @hot code.
 *
 * One line per call on stderr, written with one system call so that lines of threads do not mix:
 *     2026-01-31T12:00:00.123Z WARN store/journal: text (12 like this were suppressed)
 * The module is the source file's path. Each call site may write LOG_BURST lines per LOG_WINDOW_MS;
 * what is above is counted, and the count is added to the site's next line.
 * Runs on: any thread; blocks if stderr does. Lines are cut at LOG_LINE_MAX bytes; control
 * characters in the text are shown as '?', so foreign bytes cannot forge lines. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_NONE };
enum { LOG_BURST = 10, LOG_WINDOW_MS = 1000, LOG_LINE_MAX = 2048 };

struct log_site { /* static per call site */
    _Atomic uint64_t window_ms;
    _Atomic uint32_t cnt, suppressed;
};

/* Least level that is written; INFO at start. */
void log_set_level(enum log_level level);
/* Where lines go (tests, or a supervisor's pipe); -1: stderr. */
void log_set_fd(int fd);

/* When fd (open for reading, and for appending) is a regular file longer than `max`, it is cut to
 * its last whole lines, at most LOG_FILE_KEEP bytes. What others write at that moment may be lost.
 * sluiced bounds the dataplane's stderr at LOG_FILE_MAX; the dataplane itself at twice that, for
 * the time when nobody reads. */
#define LOG_FILE_MAX (UINT64_C(16) << 20)
#define LOG_FILE_KEEP 16384
void log_file_bound(int fd, uint64_t max);

__attribute__((format(printf, 4, 5))) void log_write(struct log_site *site, enum log_level level,
                                                     const char *file, const char *fmt, ...);

#define LOG_AT(level, ...)                                                                         \
    do {                                                                                           \
        static struct log_site log_site_;                                                          \
        log_write(&log_site_, level, __FILE__, __VA_ARGS__);                                       \
    } while (0)
#define LOG_DEBUG(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_INFO(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_WARN(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_ERROR(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
