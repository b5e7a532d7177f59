/* SPDX-License-Identifier: MIT */
#include "binary.h"

#include <stdlib.h>

char *binary_log(cl_program program, cl_device_id id) {
    size_t size = 0;
    if (clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size) != CL_SUCCESS || size == 0)
        return NULL;
    char *const text = calloc(size + 1, 1);
    if (text && clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, size, text, NULL) == CL_SUCCESS)
        return text;
    free(text);
    return NULL;
}

bool binary_build(cl_context context, cl_device_id id, const char *options, const unsigned char *binary,
                  size_t size, char **build_log, cl_program *program) {
    cl_int err, binary_status = CL_SUCCESS;
    if (build_log) *build_log = NULL;
    *program = clCreateProgramWithBinary(context, 1, &id, &size, &binary, &binary_status, &err);
    if (err != CL_SUCCESS) return false;
    if (binary_status == CL_SUCCESS && clBuildProgram(*program, 1, &id, options, NULL, NULL) == CL_SUCCESS)
        return true;
    if (build_log) *build_log = binary_log(*program, id);
    clReleaseProgram(*program);
    *program = NULL;
    return false;
}

/* The index of our device among those of the program: a context may hold several. */
static int device_index(cl_program program, cl_device_id id, cl_uint n) {
    cl_device_id *const ids = calloc(n, sizeof *ids);
    int index = -1;
    if (ids && clGetProgramInfo(program, CL_PROGRAM_DEVICES, n * sizeof *ids, ids, NULL) == CL_SUCCESS)
        for (cl_uint i = 0; i < n && index < 0; i++)
            if (ids[i] == id) index = (int)i;
    free(ids);
    return index;
}

unsigned char *binary_of(cl_program program, cl_device_id id, size_t *size) {
    cl_uint n = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_NUM_DEVICES, sizeof n, &n, NULL) != CL_SUCCESS || n == 0)
        return NULL;
    const int mine = device_index(program, id, n);
    size_t *const sizes = calloc(n, sizeof *sizes);
    unsigned char **const binaries = calloc(n, sizeof *binaries), *binary = NULL;
    if (mine >= 0 && sizes && binaries &&
        clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, n * sizeof *sizes, sizes, NULL) == CL_SUCCESS &&
        sizes[mine]) {
        *size = sizes[mine];
        binary = binaries[mine] = malloc(sizes[mine]); /* the others stay NULL: not wanted */
        if (binary && clGetProgramInfo(program, CL_PROGRAM_BINARIES, n * sizeof *binaries, binaries, NULL) !=
                          CL_SUCCESS) {
            free(binary);
            binary = NULL;
        }
    }
    free(binaries);
    free(sizes);
    return binary;
}
