/* store_file.h - whole small files through the file table. Blocking; recovery and housekeeping. */
#pragma once
#include "dataplane/io/file.h"
#include "lib/base/err.h"
#include <stdbool.h>
#include <stdint.h>

/* Read a whole file into malloc'd memory (a NUL is added behind it). -E_LIMIT above len_max. */
NODISCARD int store_file_read(struct file_io *io, const char *path, uint64_t len_max, uint8_t **ret,
                              uint64_t *ret_len);
/* Create or replace the content in place; for files that can be rebuilt. */
NODISCARD int store_file_write(struct file_io *io, const char *path, const void *p, uint64_t len,
                               bool sync);
/* The same, but nothing is written (nor flushed) when the content is right already: a start looks
 * at thousands of such files, most of which nobody touched. */
NODISCARD int store_file_update(struct file_io *io, const char *path, const void *p, uint64_t len,
                                bool sync);
/* Replace atomically: <path>.tmp, fsync, rename, fsync of the directory `dir`. */
NODISCARD int store_file_replace(struct file_io *io, const char *dir, const char *name,
                                 const void *p, uint64_t len);
