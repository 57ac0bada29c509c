#ifndef FTWT_SURENESS_H
#define FTWT_SURENESS_H

#include "file.h"

/* How sure an answer (channels, positions) is, on average over positions: in [0, 1), or NaN. */
double ftwt_sureness(
    const ftwt_signal *signal, const float *answer, int channels, int64_t positions
);

#endif
