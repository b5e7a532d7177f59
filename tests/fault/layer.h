/* SPDX-License-Identifier: MIT
 * An OpenCL layer between the ICD loader and the driver: makes a chosen call fail, counts objects, enqueued
 * commands and calls that block. The loader loads it because OPENCL_LAYERS names it; a test reaches it
 * through `layer()`. */
#ifndef CLMOE_FAULT_LAYER_H
#define CLMOE_FAULT_LAYER_H

#include <stdint.h>

enum layer_object {
    LAYER_CONTEXT = 0,
    LAYER_DEVICE,
    LAYER_QUEUE,
    LAYER_MEM,
    LAYER_PROGRAM,
    LAYER_KERNEL,
    LAYER_EVENT,
    LAYER_OBJECTS
};

struct layer_counts {
    int64_t references[LAYER_OBJECTS]; /* created + retained - released so far */
    uint64_t enqueued;                 /* clEnqueue* calls that reached the driver */
    uint64_t events;                   /* of these, those that were asked for an event */
    uint64_t blocking;                 /* clFinish, clWaitForEvents, blocking reads, writes and maps */
    uint64_t built;                    /* clBuildProgram */
    uint64_t set_args;                 /* clSetKernelArg calls that reached the driver */
    uint64_t binaries;                 /* clCreateProgramWithBinary calls that reached the driver */
    uint64_t calls;                    /* calls since make_fail, of those that can fail */
};

/* How the chosen call fails. */
enum layer_flavour {
    LAYER_RESOURCES = 0, /* the driver is out of something */
    LAYER_REFUSAL,       /* the compiler says no, a binary or an argument is not to its taste */
    LAYER_FLAVOURS
};

struct layer_api {
    /* Makes the n-th call from now on fail, counted from 1; 0: none. Resets `calls`. */
    void (*make_fail)(uint64_t n, enum layer_flavour flavour);
    /* The call that was made to fail, NULL if none yet. */
    const char *(*failed)(void);
    void (*counts)(struct layer_counts *counts);
};

/* Exported by the layer. */
const struct layer_api *clmoe_test_layer(void);

#endif
