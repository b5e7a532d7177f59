/* SPDX-License-Identifier: MIT
 * The description of a model family: options of its expert blocks and names of their tensors, by key. It is
 * an entry of families.json, by model_type in config.json; or of architectures.json, by general.architecture
 * in a GGUF file's metadata, which then stands for config.json below; or a file of the user's in the same
 * form.
 *
 * A key that the entry lacks is looked up in the entry that its key "like" names, and at last in the entry
 * "common". "cases" changes an entry by values of config.json: {"cases": {"topk_method": {"greedy":
 * {"n_group": 1}}}} adds the keys in the innermost object where topk_method is "greedy"; a value that is not
 * listed is an error, an absent key changes nothing.
 *
 * A value is a literal, or "$KEY" for what config.json has under KEY ("a.b" and "a|b" as in config.h), or a
 * list with such among its values, of which the first one that exists counts. Any other list, here or in
 * config.json, holds one value for each layer. null is the same as no value. Names of tensors, from "block"
 * on, are texts, or lists of texts, of which the first that the checkpoint has counts. */
#ifndef CLMOE_TOOLS_DESCRIPTION_H
#define CLMOE_TOOLS_DESCRIPTION_H

#include "io/config.h"

/* X(NAME, "name", "what it is"): all keys but "like" and "cases". What stands in the help of `clmoe moe`. */
#define DESCRIPTION_KEYS(X)                                                                                  \
    X(WITHIN, "within",                                                                                      \
      "the object of config.json that has the \"$\" keys, if it is there (\"text_config\"); not for GGUF")   \
    X(LAYERS, "layers", "how many layers: a number, or a list of that length")                               \
    X(FIRST, "first", "layers below it have no experts")                                                     \
    X(LAST, "last", "nor do layers above it; -1: no such layers")                                            \
    X(STEP, "step", "of the others only those of layer % step == offset have experts")                       \
    X(OFFSET, "offset", "default: step - 1")                                                                 \
    X(ONLY, "only", "a list of the layers that have experts, instead of the four above")                     \
    X(EXCEPT, "except", "a list of layers that have none")                                                   \
    X(KINDS, "kinds",                                                                                        \
      "a list of layers' kinds, \"moe\" or \"sparse\" for experts; or a text, E for experts")                \
    X(HIDDEN, "hidden", "H")                                                                                 \
    X(INTER, "inter", "I (required)")                                                                        \
    X(LATENT, "latent", "Z, the size that the experts work in; default: H")                                  \
    X(EXPERTS, "experts", "E (required)")                                                                    \
    X(TOPK, "topk", "k")                                                                                     \
    X(SCORE, "score", "softmax, sigmoid, sqrt_softplus, sparsemixer or identity")                            \
    X(MIXER_EPS, "mixer_eps", "of sparsemixer; default: 0.01")                                               \
    X(N_GROUP, "n_group", "groups of experts")                                                               \
    X(TOPK_GROUP, "topk_group", "how many of them are kept; default: all")                                   \
    X(GROUP_SCORE, "group_score", "max, top2_sum, or each: no choice of groups")                             \
    X(RENORM, "renorm", "none, sum or clamp; or false or true")                                              \
    X(RENORM_EPS, "renorm_eps", "added to the sum, or its lower limit")                                      \
    X(SCALE, "scale", "factor on the weights")                                                               \
    X(GAMMA_ON_INPUT, "gamma_on_input", "true: weights are on the input of experts, not on their output")    \
    X(ACT, "act", "silu, swish, gelu, gelu_pytorch_tanh, gelu_new, relu or relu2")                           \
    X(ALPHA, "alpha", "of silu: x sigmoid(alpha x)")                                                         \
    X(GATE_MAX, "gate_max", "upper limit of the gate; 0: none")                                              \
    X(UP_MAX, "up_max", "limit of the up rows, of both signs; 0: none")                                      \
    X(UP_ADD, "up_add", "act(gate) * (up + up_add)")                                                         \
    X(GLU, "glu", "rows of gate_up_proj: gate_up, up_gate or interleaved; none: there is only up_proj")      \
    X(W1_ORDER, "w1_order", "enk ([E, 2I, H]) or ekn ([E, H, 2I]), gate and up")                             \
    X(W2_ORDER, "w2_order", "enk ([E, H, I]) or ekn ([E, I, H])")                                            \
    X(SHARED, "shared", "true or a number above 0: there is a shared expert")                                \
    X(BLOCK, "block", "what names of tensors begin with; in all of them {L} is the layer, {E} the expert")   \
    X(ROUTER, "router", "[E, H]")                                                                            \
    X(ROUTER_BIAS, "router_bias", "[E]")                                                                     \
    X(SELECT_BIAS, "select_bias", "[E], for the choice alone (e_score_correction_bias)")                     \
    X(GATE_UP_PROJ, "gate_up_proj", "all experts; or, where the checkpoint has none of it, both of")         \
    X(GATE_PROJ, "gate_proj", "a tensor for each expert, or without {E} one of all")                         \
    X(UP_PROJ, "up_proj", "the same")                                                                        \
    X(DOWN_PROJ, "down_proj", "the same")                                                                    \
    X(GATE_UP_BIAS, "gate_up_proj_bias", "[E, 2I], beside gate_up_proj")                                     \
    X(GATE_BIAS, "gate_proj_bias", "[E, I], beside gate_proj")                                               \
    X(UP_BIAS, "up_proj_bias", "the same")                                                                   \
    X(DOWN_BIAS, "down_proj_bias", "[E, H]")                                                                 \
    X(LATENT_IN, "latent_in", "[Z, H]")                                                                      \
    X(LATENT_OUT, "latent_out", "[H, Z]")                                                                    \
    X(SHARED_GATE, "shared_gate", "[1, H]: the sigmoid of its product with x weighs the shared expert")      \
    X(SHARED_GATE_PROJ, "shared_gate_proj", "the shared expert's, of any width")                             \
    X(SHARED_UP_PROJ, "shared_up_proj", "the same")                                                          \
    X(SHARED_DOWN_PROJ, "shared_down_proj", "the same")

#define X(name, text, meaning) D_##name,
enum description_key { DESCRIPTION_KEYS(X) D_COUNT };
#undef X

struct description {
    const char *name;             /* "mixtral", or the user's file                         */
    const char *file;             /* of literals, for messages                             */
    const char *source;           /* of sizes, for messages: "config.json", "its metadata" */
    cJSON *table, *own;           /* a table of families, and the user's file              */
    struct config whole;          /* config.json, or metadata                              */
    struct config config;         /* the object within it that has the keys; not owned     */
    char *place;                  /* its name                                              */
    int64_t layer;                /* which value of lists counts                           */
    const cJSON *values[D_COUNT]; /* NULL where nothing has the key                        */
};

/* Describes the model of `path`, a config.json or a GGUF file: by `options` (a file) if not NULL, else by its
 * type. `{0}` and a failed one can be closed. */
bool description_open(const char *path, const char *options, int64_t layer, struct description *d,
                      struct io_error *err);
void description_close(struct description *d);

/* The value of a key for the layer. `description_list` leaves a list of them as it is. */
struct config_value description_value(const struct description *d, enum description_key key);
struct config_value description_list(const struct description *d, enum description_key key);

/* Required values of a type, as in config.h. */
bool description_int(const struct description *d, enum description_key key, int64_t min, int64_t max,
                     int64_t *value, struct io_error *err);

/* The same where `*value` keeps what it holds if there is none. */
bool description_int_or(const struct description *d, enum description_key key, int64_t min, int64_t max,
                        int64_t *value, struct io_error *err);
bool description_float_or(const struct description *d, enum description_key key, double min, double max,
                          float *value, struct io_error *err);
bool description_choice_or(const struct description *d, enum description_key key, const char *const *choices,
                           int *value, struct io_error *err);

/* true, false, or a number, where all but 0 is true. */
bool description_flag_or(const struct description *d, enum description_key key, bool *value,
                         struct io_error *err);

/* The i-th alternative of a text such as a tensor's name; NULL behind the last. */
const char *description_text(const struct description *d, enum description_key key, int i);

/* Prints how to write a description. */
void description_help(void);

#endif
