/* SPDX-License-Identifier: MIT
 * PTX, the text that NVIDIA's driver gives as a program's binary and takes back. OpenCL C has no word for
 * some of its directives, so they are put into the text. */
#ifndef CLMOE_DEVICE_PTX_H
#define CLMOE_DEVICE_PTX_H

#include "base/str.h"

/* What inline assembly hides from the compiler of OpenCL C, up to the end of its statement: the instruction
 * is a comment there, with its operands in registers, until ptx_retarget takes this away. */
#define PTX_HIDDEN "//@@ "

/* Appends the text for target sm_90a instead of sm_90, with what was hidden: OpenCL C is compiled for the
 * targets that later chips have in common, and wgmma, tensor maps and tensor copies are not among what these
 * know. False, with nothing appended, if the binary is no PTX for sm_90. */
bool ptx_retarget(const unsigned char *binary, size_t size, struct str *out);

/* Appends the text with ".minnctapersm `groups`" at each kernel of fixed work-group size: the compiler then
 * takes no more registers than let so many work-groups live on a compute unit at once. False, with nothing
 * appended, if the binary is no PTX or has no such kernel. */
bool ptx_set_resident(const unsigned char *binary, size_t size, int groups, struct str *out);

/* The most registers that a work-item of a program has, by the log of a build with PTX_REPORT among its
 * options; 0 if the log does not say. */
#define PTX_REPORT "-cl-nv-verbose"
int ptx_registers(const char *log);

#endif
