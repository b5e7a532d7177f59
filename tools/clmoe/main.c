/* SPDX-License-Identifier: MIT
 * clmoe: mixture-of-experts operations on any OpenCL device, from the command line. */
#include "clmoe/common.h"
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"info", command_info, "devices, what they can do, and which kernels would run"},
    {"topk", command_topk, "the k largest of each row of an array"},
    {"scatter", command_scatter, "selected values back into dense rows"},
    {"bench", command_bench, "measure operations and layers"},
    {"tune", command_tune, "find faster kernel parameters for a device"},
    {"route", command_route, "router logits to expert ids and weights"},
    {"moe", command_moe, "the expert block of one layer of a model"},
    {"generate", command_generate, "write text with the demo language model"},
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

static void print_usage(FILE *to) {
    fputs("usage: clmoe COMMAND [options]\n\ncommands:\n", to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\nclmoe COMMAND --help tells more. Files are FILE.npy or FILE.safetensors:TENSOR.\n", to);
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        const int v = clmoe_version();
        printf("clmoe %d.%d.%d\n", v / 10000, v / 100 % 100, v % 100);
        return EXIT_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "clmoe: no command \"%s\"; see clmoe --help\n", argv[1]);
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    const int code = run(argc, argv);
    /* Text that did not reach a full disk or a closed pipe is no success. */
    errno = 0;
    const int flushed = fflush(stdout);
    if (code != EXIT_OK || (flushed == 0 && !ferror(stdout))) return code;
    fprintf(stderr, "clmoe: cannot write to stdout: %s\n",
            errno ? strerror(errno) : "an earlier write failed");
    return EXIT_FAILED;
}
