/* cpu_check.h - says in a sentence that the CPU is too old for this build, instead of dying of an
 * illegal instruction. cpu_check.c is compiled for plain x86-64 and runs as a constructor of every
 * program that links it, before main. */
#pragma once
#include <stddef.h>

/* The names of what this build needs and `has` denies, separated by spaces, into buf; "" when all is
 * there. Pure, for tests. */
void cpu_missing(int (*has)(const char *feature), char *buf, size_t cap);
/* Refers to the constructor, so that the linker keeps it. */
void cpu_check_link(void);
