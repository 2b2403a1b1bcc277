/* text_file.h - small files replaced atomically, and directories made to last.
 * Any thread that may block (main threads, the control thread). Errors are -errno. */
#pragma once
#include "lib/base/err.h"
#include <stddef.h>

/* Writes `path`.tmp, flushes, renames over `path`, flushes the directory. */
NODISCARD int text_file_replace(const char *path, const char *text, size_t len);
/* The same without flushes, for files that only live while the appliance runs. */
NODISCARD int text_file_replace_volatile(const char *path, const char *text, size_t len);
/* The file as text with a NUL behind it, malloc'ed. -EFBIG above `max`. */
NODISCARD int text_file_read(const char *path, size_t max, char **ret_text, size_t *ret_len);
/* mkdir -p with 0750; every directory entry made is flushed. */
NODISCARD int text_file_mkdirs(const char *path);
NODISCARD int text_file_sync_dir(const char *path);
