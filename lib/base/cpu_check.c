/* cpu_check.c - see cpu_check.h. Only async-signal-safe calls before exit: nothing else is set up. */
#include "lib/base/cpu_check.h"
#include <string.h>
#include <unistd.h>

static int cpu_has(const char *feature)
{
    __builtin_cpu_init();
#define FEATURE(name)                                                                              \
    if (strcmp(feature, name) == 0)                                                                \
        return __builtin_cpu_supports(name);
    FEATURE("sse3")
    FEATURE("ssse3")
    FEATURE("sse4.1")
    FEATURE("sse4.2")
    FEATURE("popcnt")
#undef FEATURE
    return 0;
}

void cpu_missing(int (*has)(const char *feature), char *buf, size_t cap)
{
    static const char *const needed[] = {"sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"};
    size_t len = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        size_t n = strlen(needed[i]);
        if (has(needed[i]) || len + n + 2 > cap)
            continue;
        if (len > 0)
            buf[len++] = ' ';
        memcpy(buf + len, needed[i], n + 1);
        len += n;
    }
}

__attribute__((constructor(101))) static void cpu_check(void)
{
    char missing[64];
    cpu_missing(cpu_has, missing, sizeof(missing));
    if (missing[0] == '\0')
        return;
    static const char text[] = "this program needs an x86-64-v2 CPU; this one lacks: ";
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)!write(STDERR_FILENO, missing, strlen(missing));
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(1);
}

void cpu_check_link(void)
{
}
