/* fault.c - a small table of armed fault points; a linear search, since only tests pay for it. */
#include "lib/base/fault.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct fault {
    char name[FAULT_NAME_MAX + 1];
    struct fault_when when;
    _Atomic uint32_t passes;
};

static struct fault faults[FAULT_MAX];
static uint32_t fault_cnt;

static struct fault *fault_find(const char *name, size_t len)
{
    for (uint32_t i = 0; i < fault_cnt; i++)
        if (strlen(faults[i].name) == len && memcmp(faults[i].name, name, len) == 0)
            return &faults[i];
    return NULL;
}

static int fault_arm_n(const char *name, size_t len, struct fault_when when)
{
    struct fault *f = fault_find(name, len);
    if (f == NULL) {
        if (fault_cnt == FAULT_MAX || len > FAULT_NAME_MAX)
            return -E_LIMIT;
        f = &faults[fault_cnt++];
        memcpy(f->name, name, len);
        f->name[len] = '\0';
    }
    f->when = when;
    atomic_store(&f->passes, 0);
    return 0;
}

int fault_arm(const char *name, struct fault_when when)
{
    return fault_arm_n(name, strlen(name), when);
}

/* ":number", if there is one. */
static int number_parse(const char **at, uint32_t *ret)
{
    if (**at != ':')
        return 0;
    char *end;
    if ((*at)[1] < '0' || (*at)[1] > '9')
        return -E_MALFORMED;
    unsigned long v = strtoul(*at + 1, &end, 10);
    if (v > UINT32_MAX)
        return -E_MALFORMED;
    *ret = (uint32_t)v;
    *at = end;
    return 0;
}

int fault_arm_text(const char *text)
{
    while (*text != '\0') {
        struct fault_when when = {.skip = 0, .times = FAULT_FOREVER};
        size_t len = strcspn(text, ":,");
        const char *name = text;
        text += len;
        int rc = len == 0 ? -E_MALFORMED : number_parse(&text, &when.skip);
        if (rc == 0)
            rc = number_parse(&text, &when.times);
        if (rc == 0 && *text != ',' && *text != '\0')
            rc = -E_MALFORMED;
        if (rc == 0)
            rc = fault_arm_n(name, len, when);
        if (rc < 0)
            return rc;
        text += *text == ',';
    }
    return 0;
}

void fault_disarm_all(void)
{
    fault_cnt = 0;
}

bool fault_hit(const char *name)
{
    struct fault *f = fault_find(name, strlen(name));
    if (f == NULL)
        return false;
    uint32_t pass = atomic_fetch_add(&f->passes, 1);
    if (pass < f->when.skip)
        return false;
    return f->when.times == FAULT_FOREVER || pass - f->when.skip < f->when.times;
}

uint32_t fault_passes(const char *name)
{
    struct fault *f = fault_find(name, strlen(name));
    return f != NULL ? atomic_load(&f->passes) : 0;
}
