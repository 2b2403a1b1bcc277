/* err.c - names, texts and Kafka codes of errors: one table made from err.def. */
#include "lib/base/err.h"
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { ERR_FIRST = 5000 };

struct err_row {
    const char *name, *text;
    int kafka;
    bool retriable;
};

static const struct err_row rows[] = {
#define ERR(name, num, kafka, retriable, text) [(num)-ERR_FIRST] = {#name, text, kafka, retriable},
#include "lib/base/err.def"
#undef ERR
};

#define ERR(name, num, kafka, retriable, text)                                                     \
    static_assert((num) >= ERR_FIRST, "own errors start at 5000");
#include "lib/base/err.def"
#undef ERR

/* Two rows with one number would silently share a slot; the compiler refuses equal cases. */
__attribute__((unused)) static void err_numbers_differ(int n)
{
    switch (n) {
#define ERR(name, num, kafka, retriable, text)                                                     \
    case num:                                                                                      \
        break;
#include "lib/base/err.def"
#undef ERR
    }
}

static const struct err_row *err_row(int rc)
{
    int64_t idx = -(int64_t)rc - ERR_FIRST;
    if (idx < 0 || idx >= (int64_t)(sizeof(rows) / sizeof(rows[0])) || rows[idx].name == NULL)
        return NULL;
    return &rows[idx];
}

const char *err_text(int rc)
{
    if (rc >= 0)
        return "success";
    const struct err_row *row = err_row(rc);
    if (row != NULL)
        return row->text;
    const char *text = strerrordesc_np(rc == INT32_MIN ? -1 : -rc);
    return text != NULL ? text : "unknown error";
}

const char *err_name(int rc)
{
    if (rc >= 0)
        return "OK";
    const struct err_row *row = err_row(rc);
    if (row != NULL)
        return row->name;
    const char *name = strerrorname_np(rc == INT32_MIN ? -1 : -rc);
    return name != NULL ? name : "E_UNKNOWN";
}

int err_kafka_code(int rc)
{
    if (rc >= 0)
        return 0;
    const struct err_row *row = err_row(rc);
    return row != NULL ? row->kafka : -1;
}

bool err_is_retriable(int rc)
{
    const struct err_row *row = err_row(rc);
    return row != NULL && row->retriable;
}
