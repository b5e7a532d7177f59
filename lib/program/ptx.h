/* SPDX-License-Identifier: MIT
 * PTX, the text that NVIDIA's driver gives as a program's binary and takes back. OpenCL C has no word for
 * some of its directives, so they are put into the text. */
#ifndef CLMOE_PROGRAM_PTX_H
#define CLMOE_PROGRAM_PTX_H

#include "base/str.h"

/* Appends the text with ".minnctapersm `groups`" at each kernel of fixed work-group size: the compiler then
 * takes no more registers than let so many work-groups live on a compute unit at once. False, with nothing
 * appended, if the binary is no PTX or has no such kernel. */
bool ptx_set_resident(const unsigned char *binary, size_t size, int groups, struct str *out);

#endif
