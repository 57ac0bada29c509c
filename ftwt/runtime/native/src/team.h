/* Threads that run one function together, and the barrier between its parts.
 *
 * Compiled with OpenMP, as without Python, the threads are its own. Compiled without, they are those
 * of the OpenMP runtime that torch has loaded, found by name: a second pool of spinning threads would
 * fight the first for the processors. Without such a runtime, and in a child of a fork, whose pool
 * has lost its threads, one thread does it all.
 */
#ifndef FTWT_TEAM_H
#define FTWT_TEAM_H

#include <stdint.h>

typedef struct {
    int arrived, round;
} ftwt_barrier;

typedef void ftwt_work_of(void *data, int thread, int threads);

/* Runs `work` on up to `threads` threads. */
void ftwt_together(ftwt_work_of *work, void *data, int threads);

/* How many threads work together where so many are asked for. */
int ftwt_team_size(int threads);

/* Waits for all; the last to arrive runs `last` before the others go on. */
void ftwt_meet(ftwt_barrier *barrier, int threads, void (*last)(void *data), void *data);

#endif
