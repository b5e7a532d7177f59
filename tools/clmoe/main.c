/* SPDX-License-Identifier: MIT
 * clmoe: mixture-of-experts operations on any OpenCL device, from the command line. */
#include "command.h"

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
    {"route", command_route, "router logits to expert ids and weights"},
    {"moe", command_moe, "one layer of a model from its checkpoint"},
    {"bench", command_bench, "measure operations and layers"},
    {"generate", command_generate, "write text with the demo language model"},
};

static void print_usage(FILE *to) {
    fputs("usage: clmoe COMMAND [options]\n\ncommands:\n", to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\nclmoe COMMAND --help tells more. Files are .npy or FILE.safetensors:TENSOR.\n", to);
}

int main(int argc, char **argv) {
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        print_usage(stdout);
        return EXIT_OK;
    }
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "clmoe: no command \"%s\"; see clmoe --help\n", argv[1]);
    return EXIT_USAGE;
}
