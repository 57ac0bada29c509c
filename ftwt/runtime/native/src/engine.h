/* What the engine and the kernels of each instruction set share. */
#ifndef FTWT_ENGINE_H
#define FTWT_ENGINE_H

#include "pace.h"
#include "program.h"

enum { MOST_TAPS = 169, MOST_FILTERS = 8, MOST_VECTORS = 6, MOST_LANES = 16 };
/* Outputs whose weights lie together in a gate or linear layer; samples that share them. */
enum { TILE = 64, MOST_GROUP = 16 };
/* What no network needs more of, and whose products have room in 32 or 64 bits. */
enum { MOST_SIDE = 1 << 15, MOST_CHANNELS = 1 << 24 };
enum { MOST_PLANE = 1 << 28, MOST_FLOATS = 1 << 30 };
/* The widest padded row that pooling handles in vectors. */
enum { POOL_ROW = 2048 };
/* Pieces of a plane that may be pooled each for itself. */
enum { MOST_PIECES = 16 };
/* Samples that share what is loaded of weights: where an input is live in all of them. */
enum { SHARING = 4 };

/* How a convolution's inputs are laid out for its kernel, and where its results go.
 *
 * A kernel makes `vectors` vectors of consecutive positions. Tap t of position q is the float at
 * q + shift[t] of an input's plane, so each tap is one unaligned load. Positions that are between
 * rows of the padded plane are made too, and dropped: `valid` says which lanes stay.
 */
enum {
    LAYOUT_PLAIN,
    LAYOUT_PADDED,
    LAYOUT_TAPS,
    LAYOUT_FEW,
    LAYOUT_MASKED,
    LAYOUT_ROLLING,
    LAYOUT_TALL
};

typedef struct {
    int32_t kind, taps;
    int32_t reads;          /* weights of a filter for one input */
    int64_t plane;          /* floats from plane to plane */
    int32_t width, height;  /* of a padded plane (of each phase, with strides) */
    int32_t shift[MOST_TAPS];
    int32_t vectors;
    uint32_t inside[3];     /* null unless it is masked: lanes that each column of taps finds inside */
    uint32_t *valid;        /* for each vector the lanes that stay */
    int32_t *place;         /* for each vector where the first of them goes */
    uint64_t *order;        /* for each vector, with up to eight lanes, those that stay; a byte each */
    int32_t *from;          /* null, or for each float of a plane its place in the input's, or -1 */
} ftwt_layout;

/* The live channels of one sample. */
typedef struct {
    uint8_t *flag;   /* (width) */
    int32_t *list;   /* the channels in order */
    int32_t count;
} ftwt_live;

/* Some filters of one sample, with the inputs of their group. Blocks of one sample that follow each
 * other are a run: each piece of space is done for all of a run before the next piece. */
typedef struct {
    int32_t sample, first, filters, first_input, inputs, group;
    int32_t run, run_blocks; /* its first block, and how many */
} ftwt_block;

/* What one thread owns. */
typedef struct {
    float *plane;  /* a padded plane, then MOST_FILTERS output planes */
    float *vector; /* four vectors over channels */
    float *packed; /* live inputs of one sample, laid out */
} ftwt_scratch;

/* A thread's items of the phase at hand, of which others may take some; in a cache line of its own. */
typedef struct {
    int64_t next, end;
} __attribute__((aligned(64))) ftwt_share;

/* What a step does besides, while the planes that it made are still in a near cache. */
typedef struct {
    const ftwt_step *then; /* null, or the depthwise convolution of its planes, which nobody else reads */
    const ftwt_step *sum;  /* null, or the sum of its planes, which nobody else reads, and others */
    const ftwt_step *gate; /* null, or the next gate to decide, which reads what comes out */
    int32_t taken;         /* this step is done by the one before */
} ftwt_link;

typedef struct {
    const ftwt_step *step;
    const ftwt_layout *layout;
    const ftwt_step *then; /* see ftwt_link; with layout and counts of its own */
    const ftwt_layout *then_layout;
    int64_t *then_executed;
    const ftwt_step *sum; /* see ftwt_link */
    int32_t other;        /* the value that the sum adds */
    const ftwt_step *gate; /* null, or the gate whose pooling is done here */
    int32_t number;
    float threshold;
    int64_t *executed; /* (B) or null */
    float *packed;     /* live inputs of all samples, laid out */
    float *pooled;     /* of a gate: (B, values) */
    float *part;       /* of a gate whose input is pooled in pieces: (pieces, B, C) */
    float *less;       /* of a gate: (B), what a dead channel's zero becomes */
    int32_t group;     /* of a gate: samples of an item */
    ftwt_live *shared; /* of a gate: by SHARING samples, the inputs that are live in all */
    ftwt_live *own;    /* of a gate: by sample, the others that are live */
    ftwt_live *few;    /* of a convolution with few positions: inputs, or groups of inputs */
    ftwt_block *block; /* of a convolution */
    int32_t panel, panels;  /* `panels` of up to `panel` vectors */
    int32_t each;           /* items of a sample, where they are some of its channels */
    int32_t passing;        /* items of a sample's piece, of channels that a sum takes as they are */
    int32_t blocks, pieces; /* each block is done in `pieces` ranges of panels */
    /* Of a tall layout: each sample's rows are done in so many strips, each strip's filters in so
     * many parts. */
    int32_t strips, parts;
    int32_t streams;        /* weights are read once, and come from far */
} ftwt_work;

struct ftwt_plan {
    ftwt_program program;
    const struct ftwt_kernels *kernels;
    ftwt_layout *layout; /* by step */
    ftwt_link *link;     /* by step */
    float *arena;
    float **start;       /* of each value */
    ftwt_live *live;     /* by set, then sample */
    ftwt_scratch *scratch;
    ftwt_share *share; /* by thread */
    ftwt_block *block;
    int32_t *run;          /* where each sample's blocks begin, if they are all in one band */
    ftwt_live *few, *shared;
    float *packed, *pooled, *part, *less;
    int64_t scratch_plane; /* where output planes begin in a scratch */
    int64_t scratch_vector; /* floats of each of the four vectors of a scratch */
    int32_t *counting;     /* 0, 1, 2, ... */
    int64_t packed_sample; /* floats of one sample */
    int64_t weights; /* bytes of all convolutions' */
    int32_t threads;
    ftwt_pace pace;
    /* Its program has the samples from `first` on of `whole` that a call has. */
    int32_t first, whole;
    /* Null, or plans of one thread, each for a part of the samples: of its own this one has the arena
     * alone. */
    struct ftwt_plan **view;
    int32_t views;
    void *memory; /* what was allocated last; each piece begins with the address of the one before */
};

/* A range of items of one phase, for one thread. Items are independent of each other. */
typedef void ftwt_phase(
    struct ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
);

typedef struct ftwt_kernels {
    const char *name;
    int32_t lanes;
    int32_t share; /* inputs of a group, in a layout of few positions */
    int (*supported)(void);
    /* Multiplies and adds in registers alone; returns how many MACs. */
    int64_t (*multiply)(int rounds);
    /* Fills in a convolution's layout; zero on success. */
    int (*arrange)(ftwt_layout *layout, const ftwt_program *program, const ftwt_step *step);
    /* The most filters that a kernel makes at once, of so many vectors each. */
    int32_t filters[MOST_VECTORS + 1];
    int32_t masked_vectors; /* the most that it makes in a masked layout */
    int32_t plane_channels, pack_channels, pool_channels, pass_channels, row_outputs; /* of an item */
    ftwt_phase *gate_pool, *gate_normalize, *gate_decide, *gate_decide_many, *gate_decide_hidden;
    ftwt_phase *pack, *convolve, *convolve_samples, *convolve_strips, *depthwise, *linear, *planes;
    ftwt_phase *pass; /* what a sum takes from its other source alone */
} ftwt_kernels;

extern const ftwt_kernels ftwt_portable, ftwt_avx2, ftwt_avx512;

/* Those of an instruction set, null if this processor has it not. */
const ftwt_kernels *ftwt_kernels_of(const char *set);

static inline float *ftwt_plane(const struct ftwt_plan *plan, int value, int sample, int channel) {
    const ftwt_value *v = &plan->program.value[value];
    int64_t size = (int64_t)v->height * v->width;
    return plan->start[value] + ((int64_t)sample * v->channels + channel) * size;
}

static inline const ftwt_live *ftwt_live_of(const struct ftwt_plan *plan, int set, int sample) {
    return &plan->live[(int64_t)set * plan->program.batch + sample];
}

static inline const ftwt_live *
ftwt_live_in(const struct ftwt_plan *plan, int value, int sample) {
    return ftwt_live_of(plan, plan->program.value[value].set, sample);
}

/* The value whose planes a convolution's phase leaves. */
static inline int ftwt_shown(const ftwt_work *work) {
    return (work->then ? work->then : work->sum ? work->sum : work->step)->output;
}

/* One input for each filter. */
static inline int ftwt_is_depthwise(const ftwt_program *program, const ftwt_step *step) {
    return step->groups > 1 && step->groups == program->value[step->source[0]].channels;
}

/* A logit that is no number lets its filter run, so that the output shows it. */
static inline uint8_t runs(float logit, float threshold) {
    return !(logit <= threshold);
}

static inline void ftwt_count(int64_t *executed, int sample, int64_t macs) {
    if (executed) __atomic_fetch_add(&executed[sample], macs, __ATOMIC_RELAXED);
}

#endif
