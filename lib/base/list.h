/* list.h - intrusive doubly linked list with a sentinel head. O(1) everywhere; owns nothing.
 * A node that is not on a list has next == NULL (list_node_init, and after list_del). */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}
static inline void list_node_init(struct list *n)
{
    n->next = n->prev = NULL;
}
static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}
static inline bool list_is_linked(const struct list *n)
{
    return n->next != NULL;
}
static inline void list_insert_between(struct list *n, struct list *prev, struct list *next)
{
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}
static inline void list_add_tail(struct list *head, struct list *n)
{
    list_insert_between(n, head->prev, head);
}
static inline void list_add_head(struct list *head, struct list *n)
{
    list_insert_between(n, head, head->next);
}
static inline void list_del(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = NULL;
}
/* First node removed, or NULL. */
static inline struct list *list_pop_head(struct list *head)
{
    struct list *n = head->next;
    if (n == head)
        return NULL;
    list_del(n);
    return n;
}
/* Move everything from `from` to the tail of `to`; `from` becomes empty. */
static inline void list_splice_tail(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, tmp, head)                                                          \
    for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)
