/* Networks that choose, for each image, which filters to run: what `ftwt.export(model, folder,
 * format="native")` wrote, run without Python.
 *
 * Functions answer null, or one line that says what is wrong; it holds until the same thread calls
 * again. A model serves one thread at a time; several models may run at once.
 */
#ifndef FTWT_H
#define FTWT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ftwt_model ftwt_model;

typedef struct {
    int32_t input[3];       /* channels, height and width of an image */
    int32_t output[3];      /* channels, height and width of an answer; logits are (classes, 1, 1) */
    int64_t dense_macs;     /* of an image, where every filter runs */
    double lowest, highest; /* reductions that `ftwt_at` takes; both 0 where nothing was calibrated */
    /* By channel, of pixels from 0 to 1: the network takes (pixel - mean) / deviation. Null where the
     * exporter was not told. */
    const float *mean, *deviation;
    const char *classes;    /* names, one after the other, each ended by a zero byte; or null */
} ftwt_sizes;

/* Reads a model and makes it ready for `threads` threads. Close what was opened. */
const char *ftwt_open(const char *path, int threads, ftwt_model **model);

/* Says what the model takes and gives. Addresses hold until the model is closed. */
const char *ftwt_shape(const ftwt_model *model, ftwt_sizes *sizes);

/* From now on saves this share of the dense network's MACs, on average over images such as those
 * that the model was calibrated on: gates, or the way to larger settings, open as far as that takes. */
const char *ftwt_at(ftwt_model *model, double reduction);

/* Answers images (count, channels, height, width), `shape`, with (count, channels, height, width) of
 * `ftwt_sizes.output`. `macs`, unless null, gets the multiply-accumulates that each image took. */
const char *ftwt_run(
    ftwt_model *model, const float *images, const int32_t shape[4], float *answers, int64_t *macs
);

/* Gives back all memory; null is nothing. */
void ftwt_close(ftwt_model *model);

#ifdef __cplusplus
}
#endif

#endif
