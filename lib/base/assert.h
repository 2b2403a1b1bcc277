/* assert.h - assertions for our own mistakes; the world's mistakes get error codes.
 *
 * ASSERT stays on in release builds (once per batch or call), DASSERT only in debug builds
 * (per packet or record). A failed assertion prints file, line and expression and aborts: the
 * supervisor restarts the process and recovery re-reads what was durable. */
#pragma once
#include <assert.h> /* static_assert */
#include <stdio.h>
#include <stdlib.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

__attribute__((noreturn, cold)) static inline void assert_failed(const char *file, int line,
                                                                 const char *what)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
    abort();
}

#define ASSERT(x) ((void)(likely(x) || (assert_failed(__FILE__, __LINE__, #x), 0)))
#ifdef SLUICE_DEBUG
#define DASSERT(x) ASSERT(x)
#else
#define DASSERT(x) ((void)sizeof(!(x)))
#endif
#define UNREACHABLE() assert_failed(__FILE__, __LINE__, "unreachable")
