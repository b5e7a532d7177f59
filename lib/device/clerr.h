/* SPDX-License-Identifier: MIT
 * Names of OpenCL errors, and their way into the log. */
#ifndef CLMOE_DEVICE_CLERR_H
#define CLMOE_DEVICE_CLERR_H

#include "base/log.h"

/* "CL_INVALID_VALUE"; "CL_UNKNOWN_ERROR" for a number that is not in the standard. */
const char *clerr_name(cl_int err);

/* Logs the call and its error; returns CLMOE_E_OPENCL. */
enum clmoe_status clerr_report(const struct log *log, cl_int err, const char *call);

#endif
