/* SPDX-License-Identifier: MIT
 * Programs as binaries of one device. */
#ifndef CLMOE_DEVICE_BINARY_H
#define CLMOE_DEVICE_BINARY_H

#include "clmoe/common.h"

#include <stdbool.h>
#include <stddef.h>

/* The program's binary for the device, to be freed; NULL if it cannot be had. */
unsigned char *binary_of(cl_program program, cl_device_id id, size_t *size);

/* What the compiler said of the program, to be freed; NULL if it cannot be had. */
char *binary_log(cl_program program, cl_device_id id);

/* Makes and builds a program of a binary. False if the driver refuses it; *build_log, where wanted, is then
 * what it says, to be freed, or NULL. */
bool binary_build(cl_context context, cl_device_id id, const char *options, const unsigned char *binary,
                  size_t size, char **build_log, cl_program *program);

#endif
