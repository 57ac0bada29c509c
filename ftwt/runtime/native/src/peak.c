/* How fast the processor multiplies where nothing else holds it up: what kernels are measured by. */
#include <time.h>

#include "engine.h"
#include "team.h"

/* About a millisecond each; the best of some, as other programs only take from it. */
enum { ROUNDS = 100000, TRIALS = 20 };

typedef struct {
    const ftwt_kernels *kernels;
    int64_t macs;
} measuring;

static void take_part(void *data, int thread, int threads) {
    (void)thread, (void)threads;
    measuring *all = data;
    const int64_t macs = all->kernels->multiply(ROUNDS);
    __atomic_fetch_add(&all->macs, macs, __ATOMIC_RELAXED);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

double ftwt_peak(const char *set, int threads) {
    const ftwt_kernels *kernels = ftwt_kernels_of(set);
    double best = 0;
    for (int trial = 0; kernels && trial < TRIALS; trial++) {
        measuring all = {.kernels = kernels};
        const double begin = now();
        ftwt_together(take_part, &all, threads);
        const double rate = (double)all.macs / (now() - begin);
        if (rate > best) best = rate;
    }
    return best;
}
