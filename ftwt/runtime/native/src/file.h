/* The file that a network is kept in; docs/native-format.md describes it.
 *
 * It holds the structs of program.h and of here as they are in memory, little endian, each address as
 * the place in the file (64 bits; 0 is null).
 */
#ifndef FTWT_FILE_H
#define FTWT_FILE_H

#include "program.h"

enum { FILE_VERSION = 2, FILE_CHECKED = 32 };
enum { SIGNAL_MARGIN, SIGNAL_CONFIDENCE, SIGNAL_ENTROPY };

/* How sure an answer is: of logits that are divided by a temperature before. */
typedef struct {
    int32_t kind; /* SIGNAL_... */
    int32_t unused;
    double temperature;
} ftwt_signal;

/* A program for one image. */
typedef struct {
    ftwt_program program;
    const float *thresholds; /* by step; what a gate's logits have to be above */
    int64_t macs;            /* of an image, that were done once for all at export */
} ftwt_setting;

typedef struct {
    char magic[8];
    uint32_t version; /* FILE_VERSION */
    uint32_t program; /* FTWT_FORMAT */
    uint32_t lanes;   /* MOST_LANES and TILE, which weights are laid out by */
    uint32_t tile;
    uint32_t order;    /* 0x01020304 in the writer's order of bytes */
    uint32_t checksum; /* CRC-32, as of zlib, of all bytes from FILE_CHECKED on */
    int64_t size;      /* bytes in all */
    int32_t input[3], output[3];
    int64_t dense_macs;
    int32_t settings;
    int32_t points;  /* reductions that were calibrated, rising */
    int32_t limits; /* thresholds of each: by deciding step of the one setting, or by setting but the last */
    int32_t mirror; /* 1 where every second setting sees images left for right, else 0 */
    double weight; /* share of the later answer where an image went on */
    const ftwt_setting *setting;
    const ftwt_signal *signal; /* of each setting but the last */
    const double *sure;        /* of each setting but the last: what the signal has to reach */
    const double *point;        /* (points, 1 + limits): the reduction, then thresholds */
    const float *scale;        /* mean, then deviation of each channel of pixels from 0 to 1; or null */
    const char *classes;       /* names, each ended by a zero byte; or null */
    int64_t classes_bytes;
} ftwt_file;

/* A file in memory, whose addresses are addresses. */
typedef struct {
    ftwt_file head;
    unsigned char *bytes;
    void *memory; /* what was allocated last; each piece begins with the address of the one before */
} ftwt_contents;

/* Reads and checks a file: nothing in it leads outside of it. Null, or what is wrong. */
const char *ftwt_read(const char *path, ftwt_contents *contents);
void ftwt_forget(ftwt_contents *contents);

/* Whether a step decides a mask. */
static inline int ftwt_decides(const ftwt_step *step) {
    return step->kind == STEP_GATE || step->kind == STEP_TABLE;
}

/* A line for the caller, in memory of this thread. */
const char *ftwt_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
