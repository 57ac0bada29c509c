#ifndef FTWT_SURENESS_H
#define FTWT_SURENESS_H

#include "file.h"

/* How sure an answer (channels, positions) is, on average over positions: in [0, 1), or NaN. */
double ftwt_sureness(
    const ftwt_signal *signal, const float *answer, int channels, int64_t positions
);
/* The places of the answers that are less sure than that, and how many; -1 if one is NaN. */
int64_t ftwt_unsure(
    const ftwt_signal *signal, double threshold, const float *answers, int64_t samples,
    int channels, int64_t positions, int64_t *unsure
);

#endif
