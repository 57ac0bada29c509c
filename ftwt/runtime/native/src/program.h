/* A segment of a program, as plain structs: what Python fills in and what the engine reads.
 *
 * A value is B samples of `channels` planes of height x width floats. Of these only the live planes
 * of a sample are written or read; a set says which are live. At the border of a segment values are
 * dense tensors whose dead planes are zero.
 */
#ifndef FTWT_PROGRAM_H
#define FTWT_PROGRAM_H

#include <stdint.h>

enum { PLACE_ARENA, PLACE_INPUT, PLACE_OUTPUT };

typedef struct {
    int32_t channels, height, width;
    int32_t set;    /* its live channels */
    int32_t place;  /* PLACE_... */
    int32_t number; /* which input or output */
    int64_t offset; /* in floats, in the arena */
} ftwt_value;

enum { SET_ALL, SET_GIVEN, SET_MADE, SET_UNION, SET_INTERSECTION, SET_CONCAT, SET_REORDER };

typedef struct {
    int32_t kind; /* SET_... */
    int32_t width;
    int32_t number; /* which mask given or made */
    int32_t before; /* the first step that reads it; sets come in this order */
    int32_t parts;  /* how many */
    int32_t unused;
    const int32_t *part;  /* sets that come before this one */
    const int32_t *index; /* SET_REORDER: part of each channel plus one, 0 for zeros */
} ftwt_set;

enum {
    STEP_GATE,
    STEP_TABLE,
    STEP_CONV,
    STEP_LINEAR,
    STEP_ADD,
    STEP_MULTIPLY,
    STEP_POOL,
    STEP_PICK,
    STEP_CONCAT,
    STEP_ACTIVATE,
    STEP_AFFINE,
    STEP_MASK,
    STEP_FOLLOW
};
enum { ACT_NONE, ACT_RELU, ACT_RELU6, ACT_HARDSWISH, ACT_SILU, ACT_HARDSIGMOID, ACT_SIGMOID };
/* POOL_MEAN_STD leaves two values of each channel: all means, then all standard deviations. */
enum { POOL_NONE, POOL_MAX, POOL_MEAN, POOL_MEAN_STD };
enum { NORM_NONE, NORM_SOFTMAX, NORM_LAYER };

typedef struct {
    int32_t kernel[2], stride[2], padding[2], dilation[2];
} ftwt_window;

typedef struct {
    int32_t kind;       /* STEP_... */
    int32_t output;     /* value; -1 for a gate */
    int32_t made;       /* set of the channels that this step makes */
    int32_t reads;      /* set: a linear layer's or gate's live inputs, a mask's filters; else -1 */
    int32_t fill;       /* zero the planes that are not made */
    int32_t activation; /* ACT_... */
    int32_t pool;       /* POOL_...; of a gate: over all of space */
    int32_t normalize;  /* NORM_... */
    int32_t groups;
    int32_t rank;  /* of a gate's hidden layer, 0 without; rows of a table */
    int32_t sources;
    int32_t row;           /* of a convolution: floats from filter to filter in its weights */
    const int32_t *source; /* values */
    ftwt_window window;    /* of a convolution; stride[] also of a pick */
    ftwt_window pooling;   /* kernel 0: all of space */
    int32_t middle[2];     /* height and width between convolution and pooling */
    const int32_t *index;  /* of a pick: source channel plus one, 0 for zeros */
    /* Convolution: (C_out, C_in / groups, kh, kw). Linear: (C_in, stride). Gate: (values, stride), with
     * as many values as `reads` is wide; of its hidden layer (rank, values stride). Table: logits
     * (rows, C_out). Of linear layers and gates the first 64 outputs of all inputs come first, then
     * the next 64. */
    const float *weight;
    const float *bias;
    const float *rows;   /* gate without a hidden layer: sums over its inputs; affine: scales */
    /* Gate with a hidden layer: (rank, stride). Convolution: null, or 3x3 kernels for Winograd's
     * algorithm, (C_out, 6, C_in / groups, 3), used where it can be. */
    const float *weight2;
    const float *bias2;
} ftwt_step;

typedef struct {
    int32_t batch, values, sets, steps, inputs, outputs, given, made;
    const ftwt_value *value;
    const ftwt_set *set;
    const ftwt_step *step;
    int64_t arena; /* floats for the values of all samples */
} ftwt_program;

typedef struct {
    void *data;
    int64_t count; /* elements */
} ftwt_tensor;

typedef struct ftwt_plan ftwt_plan;

/* Zero is success. */
enum {
    FTWT_OK,
    FTWT_MEMORY,
    FTWT_PROGRAM, /* the program contradicts itself */
    FTWT_TENSOR   /* a tensor has another size than the program says */
};

/* Goes up when a field changes its meaning. */
enum { FTWT_FORMAT = 5 };

/* Name and value of a constant, the size of a struct ("ftwt_step") or the place of a field
 * ("ftwt_step.kind"), one for each number from 0 on; 0 if there is none. */
int ftwt_fact(int number, const char **name, int64_t *value);
/* The instruction sets that this processor has, best first, with a space between them. */
const char *ftwt_sets_known(void);
int ftwt_prepare(const ftwt_program *program, const char *set, int threads, ftwt_plan **plan);
int ftwt_execute(
    ftwt_plan *plan,
    const ftwt_tensor *inputs,
    const ftwt_tensor *outputs,
    const ftwt_tensor *given,
    const ftwt_tensor *made,
    const float *thresholds, /* by step */
    int64_t *executed,       /* (steps, batch), added to; or null */
    int64_t *nanoseconds,    /* by step, or null */
    int threads
);
/* The most that so many threads multiply and add in registers, in MACs a nanosecond; 0 if this
 * processor has no such set. */
double ftwt_peak(const char *set, int threads);
void ftwt_release(ftwt_plan *plan);

#endif
