#include "ctl/cli/cli.h"
#include "lib/base/assert.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLS_MAX 16

struct table {
    uint32_t col_cnt, row_cnt, row_cap;
    bool right[COLS_MAX];
    char *(*row)[COLS_MAX]; /* row 0: heads */
};

static void row_new(struct table *t)
{
    if (t->row_cnt == t->row_cap) {
        t->row_cap = t->row_cap == 0 ? 16 : t->row_cap * 2;
        t->row = realloc(t->row, t->row_cap * sizeof(*t->row));
        ASSERT(t->row != NULL);
    }
    memset(t->row[t->row_cnt++], 0, sizeof(t->row[0]));
}

static char *copy(const char *text, size_t len)
{
    char *s = strndup(text, len);
    ASSERT(s != NULL);
    return s;
}

struct table *table_new(const char *heads)
{
    struct table *t = calloc(1, sizeof(*t));
    ASSERT(t != NULL);
    row_new(t);
    for (const char *p = heads; *p != '\0';) {
        ASSERT(t->col_cnt < COLS_MAX);
        t->right[t->col_cnt] = *p == '>';
        p += *p == '>';
        size_t n = strcspn(p, "|");
        t->row[0][t->col_cnt++] = copy(p, n);
        p += n + (p[n] == '|');
    }
    return t;
}

void table_row(struct table *t, ...)
{
    va_list ap;
    row_new(t);
    va_start(ap, t);
    for (uint32_t i = 0; i < t->col_cnt; i++) {
        const char *cell = va_arg(ap, const char *);
        t->row[t->row_cnt - 1][i] = copy(cell, strlen(cell));
    }
    va_end(ap);
}

void table_print(struct table *t)
{
    size_t width[COLS_MAX] = {0};
    for (uint32_t r = 0; r < t->row_cnt; r++)
        for (uint32_t i = 0; i < t->col_cnt; i++)
            if (strlen(t->row[r][i]) > width[i])
                width[i] = strlen(t->row[r][i]);
    for (uint32_t r = 0; r < t->row_cnt; r++) {
        for (uint32_t i = 0; i < t->col_cnt; i++) {
            size_t pad = width[i] - strlen(t->row[r][i]);
            printf("  %*s", t->right[i] ? (int)pad : 0, "");
            cli_put_text(t->row[r][i], strlen(t->row[r][i]));
            if (!t->right[i] && i + 1 < t->col_cnt)
                printf("%*s", (int)pad, "");
        }
        putchar('\n');
    }
    table_free(t);
}

void table_free(struct table *t)
{
    for (uint32_t r = 0; r < t->row_cnt; r++)
        for (uint32_t i = 0; i < t->col_cnt; i++)
            free(t->row[r][i]);
    free(t->row);
    free(t);
}
