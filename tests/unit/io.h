// SPDX-License-Identifier: MIT
//
// Suites of tools/io and what they share: a folder of their own, files made from bytes, npy files made from a
// header.
#ifndef CLMOE_TESTS_UNIT_IO_H
#define CLMOE_TESTS_UNIT_IO_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

Suite *io_array_suite(void);
Suite *io_npy_suite(void);
Suite *io_quantised_suite(void);
Suite *io_json_suite(void);
Suite *io_safetensors_suite(void);
Suite *io_gguf_suite(void);
Suite *io_checkpoint_suite(void);
Suite *io_checkpoint_gguf_suite(void);
Suite *io_config_suite(void);
Suite *io_file_suite(void);

// The folder of this run, without a '/' at its end; made by main() and removed by it with all in it.
const char *test_folder(void);

// "FOLDER/NAME" in one of a few buffers that take turns; valid for the next seven calls.
const char *test_path(const char *name);

// Writes a file of the folder and returns its path.
const char *test_file(const char *name, const void *bytes, size_t size);

// True when the folder holds no temporary of tools/io/output.h.
bool test_no_temporaries(void);

// A copy in a block of exactly `size` bytes, so that a sanitizer sees a read beyond; free() it.
void *test_copy(const void *bytes, size_t size);

// A version 1.0 npy file: the header text as it is, padded to 64 bytes with spaces and a newline, then the
// data. free() it.
void *test_npy(const char *header, const void *data, size_t bytes, size_t *size);

// A safetensors file: length, the header text, then `bytes` of data counting up from 0. free() it.
void *test_safetensors(const char *header, size_t bytes, size_t *size);

// Fails the test unless the error is one clean line that holds `part`.
#define CHECK_ERROR(err, part)                                                                               \
    do {                                                                                                     \
        ck_assert_msg(strstr((err).text, (part)) != NULL, "expected \"%s\" in \"%s\"", (part), (err).text);  \
        ck_assert_msg(strcspn((err).text, "\n\r\t\x1b") == strlen((err).text), "not a line: \"%s\"",         \
                      (err).text);                                                                           \
    } while (0)

#endif
