/* desc.h - the types of the generated field tables: what a message looks like, as data. Who wants
 * tables generates them for the schemas it needs (schema/gen.py --desc) and includes the result
 * after this: tests drive every message through them, sluice-log prints records. */
#pragma once
#include "lib/wire/wire_gen.h"
#include <assert.h>

enum desc_type {
    DESC_BOOL,
    DESC_INT8,
    DESC_INT16,
    DESC_UINT16,
    DESC_INT32,
    DESC_INT64,
    DESC_FLOAT64,
    DESC_UUID,
    DESC_STRING,
    DESC_BYTES,
    DESC_RECORDS,
    DESC_STRUCT
};
struct desc_field {
    const char *name;
    enum desc_type type;
    int array, pointer; /* pointer: a nullable struct */
    size_t off;
    int lo, hi;           /* versions that have it */
    int null_lo, null_hi; /* versions in which it may be null */
    int tag;              /* -1: not tagged */
    uint32_t max;
    const struct desc *elem; /* of structs */
};
struct desc {
    size_t size;
    uint32_t field_cnt;
    const struct desc_field *fields;
};
struct desc_msg {
    const char *name, *kind;
    int key, lo, hi, flexible;
    const struct desc *desc;
    void (*init)(void *m);
    int (*read)(struct wire_reader *r, int16_t v, struct arena *a, void *m);
    void (*write)(struct wire_writer *w, int16_t v, const void *m);
    size_t (*size)(const void *m, int16_t v);
};

/* All generated array types have this layout. */
struct desc_arr {
    void *v;
    uint32_t cnt;
    bool null;
};
static_assert(sizeof(struct desc_arr) == sizeof(struct wire_i32s), "array layout");
