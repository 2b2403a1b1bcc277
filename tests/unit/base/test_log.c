/* Logging. */
#include "lib/base/log.c"
#include "lib/base/clock.h"
#include "tests/support/test.h"
#include <fcntl.h>
#include <pthread.h>

static uint64_t now_ms = 1000;
static uint64_t fake_mono(void *arg)
{
    return __atomic_load_n(&now_ms, __ATOMIC_RELAXED) * 1000000;
}
static int64_t fake_wall(void *arg)
{
    return 1000000000123;
}

static int pipe_fd[2];
static char captured[1 << 20];

static void capture_begin(void)
{
    now_ms += 100000; /* a fresh window for every site */
    clock_set_source(&(struct clock_source){.mono_ns = fake_mono, .wall_ms = fake_wall});
    assert_int_equal(pipe(pipe_fd), 0);
    log_set_fd(pipe_fd[1]);
}
static const char *capture_end(void)
{
    size_t len = 0;
    ssize_t n;
    log_set_fd(-1);
    close(pipe_fd[1]);
    while ((n = read(pipe_fd[0], captured + len, sizeof(captured) - 1 - len)) > 0)
        len += (size_t)n;
    captured[len] = '\0';
    close(pipe_fd[0]);
    clock_set_source(NULL);
    return captured;
}
static int lines_of(const char *s)
{
    int n = 0;
    for (; *s != '\0'; s++)
        n += *s == '\n';
    return n;
}

static void a_line_has_time_level_and_module(void **state)
{
    (void)state;
    capture_begin();
    static struct log_site site;
    log_write(&site, LOG_LEVEL_WARN, "../dataplane/store/journal.c", "disk %s: %d", "a", 5);
    log_write(&site, LOG_LEVEL_ERROR, "../lib/base/log.c", "x");
    log_write(&site, LOG_LEVEL_INFO, "ctl/main.c", "forged\nline\x1b[31m");
    assert_string_equal(capture_end(),
                        "2001-09-09T01:46:40.123Z WARN store/journal: disk a: 5\n"
                        "2001-09-09T01:46:40.123Z ERROR base/log: x\n"
                        "2001-09-09T01:46:40.123Z INFO ctl/main: forged?line?[31m\n");
}

static void the_level_filters(void **state)
{
    (void)state;
    capture_begin();
    LOG_DEBUG("not at start");
    log_set_level(LOG_LEVEL_ERROR);
    LOG_WARN("no");
    LOG_ERROR("yes");
    log_set_level(LOG_LEVEL_DEBUG);
    LOG_DEBUG("yes");
    log_set_level(LOG_LEVEL_INFO);
    assert_int_equal(lines_of(capture_end()), 2);
}

static void say(void)
{
    LOG_INFO("again");
}

static void a_noisy_site_is_limited_and_the_count_told(void **state)
{
    (void)state;
    capture_begin();
    for (int i = 0; i < 25; i++)
        say();
    LOG_INFO("another site is free");
    now_ms += LOG_WINDOW_MS;
    say();
    say();
    const char *out = capture_end();
    assert_int_equal(lines_of(out), LOG_BURST + 3);
    assert_non_null(strstr(out, "again (15 like this were suppressed)\n"));
    assert_null(strstr(strstr(out, "suppressed") + 1, "suppressed"));
}

static void a_long_line_is_cut(void **state)
{
    (void)state;
    capture_begin();
    static char text[5000];
    memset(text, 'x', sizeof(text) - 1);
    LOG_INFO("%s", text);
    const char *out = capture_end();
    assert_int_equal(lines_of(out), 1);
    assert_true(strlen(out) <= LOG_LINE_MAX);
}

static void a_long_file_keeps_its_last_whole_lines_and_goes_on(void **state)
{
    (void)state;
    char path[] = "/tmp/sluice-log-XXXXXX", line[64];
    int tmp = mkstemp(path);
    assert_true(tmp >= 0);
    close(tmp);
    int fd = open(path, O_RDWR | O_APPEND);
    for (int i = 0; i < 4000; i++) {
        int n = snprintf(line, sizeof(line), "this is line %d\n", i);
        assert_int_equal(write(fd, line, (size_t)n), n);
    }
    off_t before = lseek(fd, 0, SEEK_END);
    log_file_bound(fd, (uint64_t)before);
    assert_int_equal(lseek(fd, 0, SEEK_END), before); /* not above it */
    log_file_bound(fd, (uint64_t)before - 1);
    assert_in_range(lseek(fd, 0, SEEK_END), LOG_FILE_KEEP - 64, LOG_FILE_KEEP);
    assert_int_equal(write(fd, "next\n", 5), 5);
    static char text[LOG_FILE_KEEP + 64];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    assert_memory_equal(text, "this is line ", 13);
    assert_non_null(strstr(text, "\nthis is line 3999\nnext\n"));
    close(fd);
    unlink(path);
    int p[2]; /* no file: left alone */
    assert_int_equal(pipe(p), 0);
    log_file_bound(p[1], 0);
    close(p[0]);
    close(p[1]);
}

static void *shout(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        __atomic_fetch_add(&now_ms, 200, __ATOMIC_RELAXED);
        LOG_INFO("thread %s", (const char *)arg);
    }
    return NULL;
}
static void *drain(void *arg)
{
    size_t *len = arg;
    ssize_t n;
    while ((n = read(pipe_fd[0], captured + *len, sizeof(captured) - 1 - *len)) > 0)
        *len += (size_t)n;
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    size_t len = 0;
    pthread_t a, b, r;
    assert_int_equal(pipe(pipe_fd), 0);
    log_set_fd(pipe_fd[1]);
    pthread_create(&r, NULL, drain, &len);
    pthread_create(&a, NULL, shout, "aaaaaaaaaa");
    pthread_create(&b, NULL, shout, "bbbbbbbbbb");
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    log_set_fd(-1);
    close(pipe_fd[1]);
    pthread_join(r, NULL);
    close(pipe_fd[0]);
    captured[len] = '\0';
    assert_true(lines_of(captured) >= LOG_BURST);
    for (char *line = captured, *nl; (nl = strchr(line, '\n')) != NULL; line = nl + 1) {
        *nl = '\0';
        const char *text = strstr(line, ": thread ");
        assert_non_null(text);
        assert_true(strncmp(text + 9, "aaaaaaaaaa", 10) == 0 ||
                    strncmp(text + 9, "bbbbbbbbbb", 10) == 0);
        assert_null(strstr(text + 9, "thread"));
    }
}

TEST_MAIN(TEST(a_line_has_time_level_and_module), TEST(the_level_filters),
          TEST(a_noisy_site_is_limited_and_the_count_told), TEST(a_long_line_is_cut),
          TEST(a_long_file_keeps_its_last_whole_lines_and_goes_on),
          TEST(lines_of_threads_do_not_mix))
